//! Holders that misbehave, and those that do not because of them.

use crate::{
    ErrorKind,
    address::Target,
    keys::SecretKey,
    mailbox::PutOptions,
    shortcode::Shortcode,
    testkit::{
        Fault, Harness, Lie, Outcome, Role, Verdict,
        cases::transport::{publish, record, wait_resolved},
        outcome::{ensure, skip},
        scene::{SOON, accepted, now, scene, soon, takers},
    },
};

/// A holder that cannot be reached is named in the receipt; the others have the envelope.
pub async fn a_dead_holder_costs_only_itself(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let Some(dead) = harness.dead_holder() else { skip!("a place where nobody answers") };
    let good = scene.reader.holders().swap_remove(0);
    let envelope = scene.sealed("to one that lives")?.envelope;
    let at = PutOptions::default().at([dead.clone(), good.clone()]);
    let receipts = scene.put_with(std::slice::from_ref(&envelope), at).await?;
    ensure!(takers(&receipts[0]) == [good.clone()], "{:?} took it", takers(&receipts[0]));
    ensure!(receipts[0].refused.iter().any(|refusal| refusal.holder == dead), "the receipt does not name {dead}");
    scene.wait_listed(&good, &[envelope.id()]).await?;

    let alone = scene.writer.put(std::slice::from_ref(&envelope), PutOptions::default().at([dead.clone()])).await;
    ensure!(alone.len() == 1 && alone[0].is_err(), "nobody answers at {dead}, and the put is `Ok`");
    let answer =
        soon("a listing of nobody to fail", scene.reader.list(scene.mailbox(), &dead, scene.list_options())).await?;
    ensure!(answer.is_err(), "nobody answers at {dead}, and the listing is `Ok`");
    Ok(Verdict::Pass)
}

/// A holder that never answers costs a put its own ack and nothing else.
pub async fn a_hanging_holder_costs_only_itself(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let Some(faults) = harness.faults() else { skip!("faults") };
    let holders = scene.reader.holders();
    let [hanging, good, ..] = &holders[..] else { skip!("several holders") };
    if !faults.set(hanging, Fault::hangs()) {
        skip!("a holder that hangs");
    }
    let envelope = scene.sealed("to one that answers")?.envelope;
    let receipts = soon("a put past a holder that hangs", scene.put(std::slice::from_ref(&envelope))).await??;
    ensure!(takers(&receipts[0]).contains(good), "{good} does not have it");
    ensure!(!takers(&receipts[0]).contains(hanging), "{hanging} hangs, and is said to have it");
    scene.wait_listed(good, &[envelope.id()]).await?;
    let list = scene.reader.list(scene.mailbox(), hanging, scene.list_options());
    // A backend may leave the time limit of a single call to the layer above it.
    if let Ok(answer) = tokio::time::timeout(SOON, list).await {
        let kind = answer.err().map(|error| error.kind());
        ensure!(kind == Some(ErrorKind::Timeout), "a holder that hangs is listed as {kind:?}");
    }
    Ok(Verdict::Pass)
}

/// A refusal keeps the holder's own words; where all refuse, it is an error of that kind.
pub async fn a_refusal_is_told_in_the_holders_words(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let Some(faults) = harness.faults() else { skip!("faults") };
    let words = "blocked: only for members of the chess club";
    let holders = scene.reader.holders();
    for holder in &holders {
        if !faults.set(holder, Fault::refuses(ErrorKind::Refused, words)) {
            skip!("a holder that refuses");
        }
    }
    let envelope = scene.sealed("unwanted")?.envelope;
    let answer = scene.writer.put(std::slice::from_ref(&envelope), PutOptions::default()).await.pop();
    let Some(Err(error)) = answer else {
        return Err(crate::testkit::Failure::new("everybody refuses, and the put is `Ok`"));
    };
    ensure!(error.kind() == ErrorKind::Refused, "everybody refuses, and the error is {error:?}");
    ensure!(error.to_string().contains("chess club"), "the holder's words are lost in `{error}`");

    faults.clear();
    let [refusing, good, ..] = &holders[..] else { return Ok(Verdict::Pass) };
    faults.set(refusing, Fault::refuses(ErrorKind::Refused, words));
    let receipts = scene.put(std::slice::from_ref(&envelope)).await?;
    ensure!(takers(&receipts[0]).contains(good), "{good} does not have it");
    let told =
        receipts[0].refused.iter().any(|refusal| refusal.holder == *refusing && refusal.words.contains("chess club"));
    ensure!(told, "the receipt does not say what {refusing} said");
    Ok(Verdict::Pass)
}

/// Whatever a holder makes up, core takes over the good envelopes and nothing else.
pub async fn lies_do_not_pass(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let Some(faults) = harness.faults() else { skip!("faults") };
    let envelope = scene.sealed("true")?.envelope;
    let holder = scene.put_one(&envelope).await?.swap_remove(0);
    scene.wait_listed(&holder, &[envelope.id()]).await?;
    let mut told = 0;
    for lie in Lie::ENVELOPES {
        if !faults.set(&holder, Fault::lies([lie])) {
            continue;
        }
        told += 1;
        let page = scene.reader.list(scene.mailbox(), &holder, scene.list_options()).await?;
        let left = accepted(&page.items, scene.mailbox(), scene.now());
        ensure!(left == [envelope.clone()], "{lie:?}: core takes over {} of {} items", left.len(), page.items.len());
    }
    if told == 0 {
        skip!("a holder that lies");
    }
    Ok(Verdict::Pass)
}

/// Whatever a source makes up, core finds the right record and no other.
pub async fn forged_records_do_not_pass(harness: &dyn Harness) -> Outcome {
    let (owner, sender) = (harness.open(Role::Owner).await?, harness.open(Role::Sender).await?);
    let (Some(transport), Some(mailbox)) = (owner.transport, &owner.mailbox) else { skip!("both halves") };
    let Some(resolver) = sender.transport else { skip!("a transport") };
    let Some(faults) = harness.faults() else { skip!("faults") };
    let key = SecretKey::generate()?;
    let right = record(&key, Shortcode::of(&key.id()), 1, now(harness))?;
    publish(harness, &*transport, &key, &right).await?;
    let holder = mailbox.holders().swap_remove(0);
    if !faults.set(&holder, Fault::lies(Lie::RECORDS)) {
        skip!("a source that lies");
    }
    wait_resolved(&*resolver, &Target::Code(right.code()), &right).await?;
    wait_resolved(&*resolver, &Target::Mailbox(key.id()), &right).await?;
    Ok(Verdict::Pass)
}
