//! Records and hints.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, future};

use crate::{
    ErrorKind,
    address::Target,
    clock::Timestamp,
    hint::Hint,
    keys::SecretKey,
    record::{MailboxRecord, RecordFields},
    shortcode::Shortcode,
    testkit::{
        Failure, Harness, Outcome, Role, Verdict,
        outcome::{ensure, skip},
        scene::{SOON, auth, now, scene, soon},
    },
    transport::{NotifyOptions, PublishOptions, ResolveEvent, ResolveOptions, SubscribeOptions, Transport},
};

/// The transport half, or the end of the case.
macro_rules! transport {
    ($harness:expr, $role:expr) => {
        match $harness.open($role).await?.transport {
            Some(transport) => transport,
            None => skip!("a transport"),
        }
    };
}

/// What was published is found under its mailbox.
pub async fn a_record_is_found_by_mailbox(harness: &dyn Harness) -> Outcome {
    let (owner, sender) = (transport!(harness, Role::Owner), transport!(harness, Role::Sender));
    let key = SecretKey::generate()?;
    let record = record(&key, Shortcode::of(&key.id()), 1, now(harness))?;
    publish(harness, &*owner, &key, &record).await?;
    wait_resolved(&*sender, &Target::Mailbox(key.id()), &record).await?;
    Ok(Verdict::Pass)
}

/// What was published is found under its shortcode.
pub async fn a_record_is_found_by_code(harness: &dyn Harness) -> Outcome {
    let (owner, sender) = (transport!(harness, Role::Owner), transport!(harness, Role::Sender));
    let key = SecretKey::generate()?;
    let record = record(&key, Shortcode::of(&key.id()), 1, now(harness))?;
    publish(harness, &*owner, &key, &record).await?;
    wait_resolved(&*sender, &Target::Code(record.code()), &record).await?;
    Ok(Verdict::Pass)
}

/// Of two records of one mailbox the newer is found, whichever came first.
pub async fn a_newer_record_wins(harness: &dyn Harness) -> Outcome {
    let (owner, sender) = (transport!(harness, Role::Owner), transport!(harness, Role::Sender));
    let key = SecretKey::generate()?;
    let code = Shortcode::of(&key.id());
    let old = record(&key, code, 1, now(harness).minus(60))?;
    let new = record(&key, code, 2, now(harness))?;
    publish(harness, &*owner, &key, &old).await?;
    publish(harness, &*owner, &key, &new).await?;
    wait_resolved(&*sender, &Target::Mailbox(key.id()), &new).await?;
    // Whatever the answer is.
    let options = PublishOptions::default().auth(auth(harness, &key));
    let _ = owner.publish(&old, options).await;
    wait_resolved(&*sender, &Target::Mailbox(key.id()), &new).await?;
    Ok(Verdict::Pass)
}

/// A record of another key that claims the code does not hide the right one.
pub async fn an_impostor_does_not_win(harness: &dyn Harness) -> Outcome {
    let (owner, sender) = (transport!(harness, Role::Owner), transport!(harness, Role::Sender));
    let (key, impostor) = (SecretKey::generate()?, SecretKey::generate()?);
    let code = Shortcode::of(&key.id());
    let right = record(&key, code, 1, now(harness))?;
    let wrong = record(&impostor, code, 2, now(harness))?;
    publish(harness, &*owner, &key, &right).await?;
    // To refuse it is as right as to take it: whoever resolves finds out.
    let _ = owner.publish(&wrong, PublishOptions::default().auth(auth(harness, &impostor))).await;
    wait_resolved(&*sender, &Target::Code(code), &right).await?;
    Ok(Verdict::Pass)
}

/// What nobody published is an answer that ends, and says that it was one.
pub async fn an_unknown_target_is_an_empty_answer(harness: &dyn Harness) -> Outcome {
    let sender = transport!(harness, Role::Sender);
    let nobody = SecretKey::generate()?.id();
    for target in [Target::Mailbox(nobody), Target::Code(Shortcode::of(&nobody))] {
        let answers = sender.resolve(&target, ResolveOptions::default()).collect::<Vec<_>>();
        let answers = soon("an answer about nobody to end", answers).await?;
        let is_record = |answer: &crate::Result<ResolveEvent>| matches!(answer, Ok(ResolveEvent::Record(_)));
        ensure!(!answers.iter().any(is_record), "somebody has a record of nobody");
        ensure!(answers.iter().any(Result::is_ok), "no source says that it has nothing");
    }
    Ok(Verdict::Pass)
}

/// A hint reaches whoever subscribes, or is lost: mail is there all the same.
pub async fn a_hint_wakes_or_is_not_needed(harness: &dyn Harness) -> Outcome {
    let (reader, writer) = (transport!(harness, Role::Owner), transport!(harness, Role::Sender));
    let scene = scene!(harness);
    let options = SubscribeOptions { auth: scene.auth(&scene.owner) };
    let mut hints = reader.subscribe(scene.mailbox(), options);
    let envelope = scene.sealed("with a hint")?.envelope;
    let holders = scene.put_one(&envelope).await?;
    let start = Instant::now();
    let woken = loop {
        let hint = Hint::sign(scene.mailbox(), &[], now(harness))?;
        match writer.notify(&hint, NotifyOptions::default()).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => break false,
            answer => answer?,
        }
        // Again and again: a subscription may take its time, and a hint may be lost.
        let wait = tokio::time::sleep(Duration::from_millis(200));
        match future::select(hints.next(), Box::pin(wait)).await {
            future::Either::Left((Some(Ok(hint)), _)) => {
                ensure!(hint.mailbox() == scene.mailbox(), "a hint for another mailbox");
                break true;
            }
            future::Either::Left((Some(Err(error)), _)) if error.kind() == ErrorKind::Unsupported => break false,
            future::Either::Left((Some(Err(error)), _)) => return Err(error.into()),
            future::Either::Left((None, _)) => return Err(Failure::new("the subscription ended by itself")),
            future::Either::Right(_) => ensure!(start.elapsed() < SOON, "no hint of many arrives"),
        }
    };
    for holder in &holders {
        scene.wait_listed(holder, &[envelope.id()]).await?;
    }
    if !woken {
        skip!("hints");
    }
    Ok(Verdict::Pass)
}

pub(super) fn record(key: &SecretKey, code: Shortcode, number: u32, at: Timestamp) -> Result<MailboxRecord, Failure> {
    let fields = RecordFields::new(vec![format!("conformance:place-{number}").parse()?]);
    Ok(MailboxRecord::sign(key, code, fields, at)?)
}

pub(super) async fn publish(
    harness: &dyn Harness,
    transport: &dyn Transport,
    key: &SecretKey,
    record: &MailboxRecord,
) -> Result<(), Failure> {
    let receipt = transport.publish(record, PublishOptions::default().auth(auth(harness, key))).await?;
    ensure!(!receipt.acks.is_empty() || !receipt.pending.is_empty(), "`Ok` without anybody who took it");
    Ok(())
}

/// Waits until core, choosing as it does, finds this record.
pub(super) async fn wait_resolved(
    transport: &dyn Transport,
    target: &Target,
    wanted: &MailboxRecord,
) -> Result<(), Failure> {
    let start = Instant::now();
    loop {
        let found = chosen(transport, target).await?;
        if found.as_ref() == Some(wanted) {
            return Ok(());
        }
        ensure!(start.elapsed() < SOON, "{} is resolved", if found.is_some() { "another record" } else { "no record" });
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The newest valid record of the target: what is left once core has looked at the answers.
async fn chosen(transport: &dyn Transport, target: &Target) -> Result<Option<MailboxRecord>, Failure> {
    let answers = transport.resolve(target, ResolveOptions::default()).collect::<Vec<_>>();
    let mut best: Option<MailboxRecord> = None;
    for answer in soon("an answer to end", answers).await?.into_iter().flatten() {
        let ResolveEvent::Record(answer) = answer else { continue };
        let Ok(record) = MailboxRecord::parse(&answer.json) else { continue };
        let ours = match target {
            Target::Mailbox(mailbox) => record.mailbox() == *mailbox,
            // 0.2 s each, so only those that claim the code.
            Target::Code(code) => record.code() == *code && code.matches(&record.mailbox()),
        };
        let end_of_time = Timestamp(u64::MAX);
        if ours && record.supersedes(best.as_ref(), end_of_time) {
            best = Some(record);
        }
    }
    Ok(best)
}
