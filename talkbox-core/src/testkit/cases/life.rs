//! Coming and going: senders, restarts, closing.

use futures_util::StreamExt as _;

use crate::{
    ErrorKind,
    address::Target,
    deletion::DeleteRequest,
    hint::Hint,
    keys::SecretKey,
    mailbox::{DeleteOptions, PutOptions},
    seal::{Draft, SealOptions, seal},
    shortcode::Shortcode,
    testkit::{
        Harness, Outcome, Role, Verdict,
        cases::transport::record,
        outcome::{ensure, skip},
        scene::{Scene, scene, soon},
    },
    transport::{NotifyOptions, PublishOptions, ResolveOptions},
};

/// The one thing that a mailbox is for.
pub async fn the_sender_goes_away_and_the_owner_reads(harness: &dyn Harness) -> Outcome {
    let sender = harness.open(Role::Sender).await?;
    let Some(writer) = &sender.mailbox else { skip!("a mailbox") };
    let owner = SecretKey::generate()?;
    let now = harness.clock().now();
    let envelope =
        seal(&Draft::text("for later"), &SecretKey::generate()?, owner.id(), now, &SealOptions::default())?.envelope;
    let receipt = match writer.put(std::slice::from_ref(&envelope), PutOptions::default()).await.pop() {
        Some(answer) => answer?,
        None => return Err(crate::testkit::Failure::new("no answer to a put")),
    };
    sender.close().await;
    drop(sender);

    let scene = Scene { owner, ..scene!(harness) };
    for ack in &receipt.acks {
        scene.wait_listed(&ack.holder, &[envelope.id()]).await?;
    }
    Ok(Verdict::Pass)
}

/// What is said to be durable is there after a restart of the holders.
pub async fn what_is_durable_survives_a_restart(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    if !scene.reader.capabilities().durable {
        skip!("durable holders");
    }
    let envelope = scene.sealed("durable")?.envelope;
    let holders = scene.put_one(&envelope).await?;
    let mut cursors = Vec::new();
    for holder in &holders {
        scene.wait_listed(holder, &[envelope.id()]).await?;
        cursors.push(scene.list(holder, None).await?.1);
    }
    if !harness.restart().await? {
        skip!("holders that can be restarted");
    }
    let Some(reader) = harness.open(Role::Owner).await?.mailbox else { skip!("a mailbox") };
    let Some(writer) = harness.open(Role::Sender).await?.mailbox else { skip!("a mailbox") };
    let scene = Scene { reader, writer, ..scene };
    let later = scene.sealed("after the restart")?.envelope;
    let took = scene.put_one(&later).await?;
    for (holder, cursor) in holders.iter().zip(cursors) {
        scene.wait_listed(holder, &[envelope.id()]).await?;
        if took.contains(holder) {
            scene.wait_listed(holder, &[later.id()]).await?;
            let (items, _) = scene.list(holder, cursor).await?;
            ensure!(items.iter().any(|raw| raw.id() == later.id()), "the cursor of {holder} did not survive");
        }
    }
    Ok(Verdict::Pass)
}

/// After `close`, every call says `Closed`; nothing hangs and nothing is stored.
pub async fn closed_is_closed(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let backend = harness.open(Role::Owner).await?;
    backend.close().await;
    backend.close().await;
    let closed = Some(ErrorKind::Closed);
    if let Some(mailbox) = &backend.mailbox {
        let envelope = scene.sealed("too late")?.envelope;
        let holder = scene.reader.holders().swap_remove(0);
        let put = mailbox.put(std::slice::from_ref(&envelope), PutOptions::default());
        let put = soon("a put after close", put).await?.pop().and_then(Result::err).map(|error| error.kind());
        ensure!(put == closed, "put after close: {put:?}");
        let list = mailbox.list(scene.mailbox(), &holder, scene.list_options());
        let list = soon("a list after close", list).await?.err().map(|error| error.kind());
        ensure!(list == closed, "list after close: {list:?}");
        let ids = [envelope.id()];
        let audit = mailbox.audit(scene.mailbox(), &holder, &ids, scene.audit_options());
        let audit = soon("an audit after close", audit).await?.err().map(|error| error.kind());
        ensure!(audit == closed, "audit after close: {audit:?}");
        if mailbox.capabilities().delete {
            let request = DeleteRequest::sign(&scene.owner, scene.mailbox(), &ids, scene.now())?;
            let delete = mailbox.delete(std::slice::from_ref(&request), DeleteOptions::default());
            let delete =
                soon("a delete after close", delete).await?.pop().and_then(Result::err).map(|error| error.kind());
            ensure!(delete == closed, "delete after close: {delete:?}");
        }
        if let Some(mut events) = mailbox.watch(scene.mailbox(), scene.watch_options()) {
            let kind = match soon("a watch after close", events.next()).await? {
                None => closed,
                Some(event) => event.err().map(|error| error.kind()),
            };
            ensure!(kind == closed, "watch after close: {kind:?}");
        }
        ensure!(!scene.ids(&holder).await?.contains(&envelope.id()), "a put after close was stored");
    }
    if let Some(transport) = &backend.transport {
        let key = SecretKey::generate()?;
        let record = record(&key, Shortcode::of(&key.id()), 1, scene.now())?;
        let publish = transport.publish(&record, PublishOptions::default());
        let publish = soon("a publish after close", publish).await?.err().map(|error| error.kind());
        ensure!(publish == closed, "publish after close: {publish:?}");
        let hint = Hint::sign(key.id(), &[], scene.now())?;
        let notify = transport.notify(&hint, NotifyOptions::default());
        let notify = soon("a notify after close", notify).await?.err().map(|error| error.kind());
        ensure!(matches!(notify, Some(ErrorKind::Closed | ErrorKind::Unsupported)), "notify after close: {notify:?}");
        let answers = transport.resolve(&Target::Mailbox(key.id()), ResolveOptions::default()).collect::<Vec<_>>();
        for answer in soon("a resolve after close", answers).await? {
            let kind = answer.err().map(|error| error.kind());
            ensure!(kind == closed, "resolve after close: {kind:?}");
        }
    }
    Ok(Verdict::Pass)
}

/// Closing ends a watch that is open.
pub async fn closing_ends_a_watch(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let Some(mut events) = scene.watch(scene.watch_options()).await? else { skip!("watch") };
    scene.reader.close().await;
    let end = async {
        while let Some(event) = events.next().await {
            if event.is_err_and(|error| error.kind() == ErrorKind::Closed) {
                break;
            }
        }
    };
    soon("a watch to end after close", end).await?;
    Ok(Verdict::Pass)
}
