//! Storing.

use futures_util::future;

use crate::{
    EnvelopeId, ErrorKind,
    envelope::{Envelope, MAX_ENVELOPE_BYTES, RawEnvelope},
    mailbox::PutOptions,
    seal::{Draft, SealOptions, seal},
    testkit::{
        Harness, Outcome, Verdict,
        outcome::{ensure, skip},
        scene::{accepted, scene, takers, wrapped},
    },
};

/// A backend names itself, its schemes and its holders, and these fit together.
pub async fn describes_itself(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let (descriptor, capabilities) = (scene.reader.descriptor(), scene.reader.capabilities());
    ensure!(!descriptor.backend.is_empty() && !descriptor.name.is_empty(), "the backend has no name");
    ensure!(!descriptor.schemes.is_empty(), "the backend opens no scheme");
    let holders = scene.reader.holders();
    ensure!(!holders.is_empty(), "no holder is configured");
    for holder in &holders {
        ensure!(
            descriptor.schemes.contains(&holder.scheme()),
            "{holder} is of a scheme that the backend does not open"
        );
    }
    let limit = capabilities.max_envelope_bytes as usize;
    ensure!((1..=MAX_ENVELOPE_BYTES).contains(&limit), "an envelope of {limit} bytes cannot be the limit");
    Ok(Verdict::Pass)
}

/// What was put is listed by whoever took it, under its id, and is valid.
pub async fn put_then_list(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let envelope = scene.sealed("hello")?.envelope;
    let holders = scene.put_one(&envelope).await?;
    for holder in &holders {
        scene.wait_listed(holder, &[envelope.id()]).await?;
        let (items, _) = scene.list(holder, None).await?;
        ensure!(accepted(&items, scene.mailbox(), scene.now()) == [envelope.clone()], "{holder} lists something else");
    }
    Ok(Verdict::Pass)
}

/// Putting again is acknowledged, and changes nothing.
pub async fn put_twice_is_stored_once(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let envelope = scene.sealed("once")?.envelope;
    let holders = scene.put_one(&envelope).await?;
    for holder in &holders {
        scene.wait_listed(holder, &[envelope.id()]).await?;
    }
    let again = scene.put(std::slice::from_ref(&envelope)).await?;
    for holder in &holders {
        ensure!(takers(&again[0]).contains(holder), "{holder} does not acknowledge what it has");
        let (items, _) = scene.list(holder, None).await?;
        ensure!(items.len() == 1, "{holder} lists {} items after two puts of one", items.len());
    }
    Ok(Verdict::Pass)
}

/// One answer for each envelope, in order, and a bad one does not take the good ones with it.
pub async fn many_are_answered_in_order(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    // More than fit into one message or one page of most networks.
    let good = scene.envelopes(70)?;
    let long_ago = scene.now().minus(200 * 86_400);
    let expired = seal(&Draft::text("old"), &scene.owner, scene.mailbox(), long_ago, &SealOptions::default())?.envelope;
    let mut all = good.clone();
    all.insert(35, expired);
    let answers = scene.writer.put(&all, PutOptions { auth: scene.auth(&scene.owner), ..PutOptions::default() }).await;
    ensure!(answers.len() == all.len(), "{} answers to {} envelopes", answers.len(), all.len());
    let mut holders = Vec::new();
    for (at, answer) in answers.into_iter().enumerate().filter(|(at, _)| *at != 35) {
        match answer {
            Ok(receipt) => holders.push(takers(&receipt)),
            Err(error) => ensure!(false, "envelope {at} of a batch was not taken: {error}"),
        }
    }
    let ids: Vec<EnvelopeId> = good.iter().map(Envelope::id).collect();
    for holder in holders.iter().flatten().collect::<std::collections::BTreeSet<_>>() {
        let took = |at: &usize| holders[*at].contains(holder);
        let wanted: Vec<EnvelopeId> = (0..ids.len()).filter(took).map(|at| ids[at]).collect();
        scene.wait_listed(holder, &wanted).await?;
    }
    Ok(Verdict::Pass)
}

/// A holder gives back the event that it was given: every tag, every character, the same id and signature.
pub async fn the_same_bytes_come_back(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let odd = "quote \" back \\ slash / line \n tab \t bell \u{7} é 🦀 \u{2028} \u{7f}";
    let tags = vec![
        vec!["alt".to_owned(), odd.to_owned()],
        vec!["x".to_owned()],
        vec!["x".to_owned(), String::new(), "third".to_owned()],
    ];
    let envelope = wrapped(scene.mailbox(), scene.now(), tags, odd.to_owned())?;
    for holder in scene.put_one(&envelope).await? {
        scene.wait_listed(&holder, &[envelope.id()]).await?;
        let (items, _) = scene.list(&holder, None).await?;
        let back = items.iter().find(|raw| raw.id() == envelope.id()).map(Envelope::verify);
        let same = matches!(&back, Some(Ok(back)) if back.json() == envelope.json());
        ensure!(same, "{holder} gives back another event: {back:?}");
    }
    Ok(Verdict::Pass)
}

/// An envelope of exactly the stated size is taken; a larger one is `TooLarge`.
pub async fn the_stated_limit_is_honest(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let limit = scene.reader.capabilities().max_envelope_bytes as usize;
    let empty = wrapped(scene.mailbox(), scene.now(), vec![], String::new())?.json().len();
    ensure!(limit > empty, "no envelope has only {limit} bytes");
    let of = |bytes: usize| wrapped(scene.mailbox(), scene.now(), vec![], "A".repeat(bytes - empty));
    let largest = of(limit)?;
    for holder in scene.put_one(&largest).await? {
        scene.wait_listed(&holder, &[largest.id()]).await?;
    }
    // Larger than this there is no envelope at all.
    if limit < MAX_ENVELOPE_BYTES {
        let answer = scene.writer.put(&[of(limit + 1)?], PutOptions::default()).await.pop();
        let kind = answer.and_then(Result::err).map(|error| error.kind());
        ensure!(kind == Some(ErrorKind::TooLarge), "one byte over the limit is answered with {kind:?}");
    }
    Ok(Verdict::Pass)
}

/// What has expired is refused, or at least never listed.
pub async fn what_has_expired_is_not_listed(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let long_ago = scene.now().minus(200 * 86_400);
    let expired = seal(&Draft::text("old"), &scene.owner, scene.mailbox(), long_ago, &SealOptions::default())?.envelope;
    let fresh = scene.sealed("new")?.envelope;
    // Whatever the answer is.
    scene.writer.put(&[expired], PutOptions::default()).await;
    for holder in scene.put_one(&fresh).await? {
        scene.wait_listed(&holder, &[fresh.id()]).await?;
        ensure!(scene.ids(&holder).await?.len() == 1, "{holder} lists what has expired");
    }
    Ok(Verdict::Pass)
}

/// What expires while a holder has it is no longer listed.
pub async fn what_expires_disappears(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let envelope = scene.sealed("until then")?.envelope;
    let holders = scene.put_one(&envelope).await?;
    for holder in &holders {
        scene.wait_listed(holder, &[envelope.id()]).await?;
    }
    let lifetime = envelope.expires_at().secs() - scene.now().secs();
    if !harness.advance(std::time::Duration::from_secs(lifetime + 1)) {
        skip!("a clock that can be moved");
    }
    for holder in &holders {
        ensure!(scene.ids(holder).await?.is_empty(), "{holder} lists what has expired");
    }
    Ok(Verdict::Pass)
}

/// A put that names holders reaches those and no others.
pub async fn only_named_holders_get_it(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let holders = scene.reader.holders();
    let [named, others @ ..] = &holders[..] else { skip!("a holder") };
    if others.is_empty() {
        skip!("several holders");
    }
    let envelope = scene.sealed("to one")?.envelope;
    let receipts = scene.put_with(std::slice::from_ref(&envelope), PutOptions::default().at([named.clone()])).await?;
    ensure!(takers(&receipts[0]) == [named.clone()], "{:?} took what was put to {named}", takers(&receipts[0]));
    scene.wait_listed(named, &[envelope.id()]).await?;
    for holder in others {
        ensure!(!scene.ids(holder).await?.contains(&envelope.id()), "{holder} has what was put to {named}");
    }
    Ok(Verdict::Pass)
}

/// A mailbox is used by many tasks at once.
pub async fn many_tasks_at_once(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let envelopes = scene.envelopes(16)?;
    let holder = scene.reader.holders().swap_remove(0);
    let puts = future::try_join_all(envelopes.iter().map(|envelope| scene.put_one(envelope)));
    let lists = future::try_join_all((0..8).map(|_| scene.ids(&holder)));
    let (puts, _) = future::try_join(puts, lists).await?;
    for (envelope, holders) in envelopes.iter().zip(puts) {
        for holder in holders {
            scene.wait_listed(&holder, &[envelope.id()]).await?;
        }
    }
    // The same one by several at a time is still one.
    let same = scene.sealed("by many")?.envelope;
    for holders in future::try_join_all((0..8).map(|_| scene.put_one(&same))).await? {
        ensure!(!holders.is_empty(), "one of eight equal puts was taken by nobody");
    }
    let (items, _) = scene.list(&holder, None).await?;
    let copies = items.iter().map(RawEnvelope::id).filter(|id| *id == same.id()).count();
    ensure!(copies <= 1, "{holder} lists {copies} copies of one envelope");
    Ok(Verdict::Pass)
}
