//! Auditing: what a holder says that it has.

use crate::{
    ErrorKind,
    mailbox::AuditOptions,
    receipt::HoldingState,
    testkit::{
        Harness, Outcome, Verdict,
        outcome::ensure,
        scene::{scene, sealed_at},
    },
};

/// Held is held, absent is absent, each id is answered, in order.
pub async fn an_audit_says_what_is_held(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let (held, other) = (scene.sealed("held")?.envelope, scene.sealed("held too")?.envelope);
    let absent = sealed_at(&scene.owner, "never put", scene.now())?.envelope;
    let asked = [held.id(), absent.id(), other.id()];
    let receipts = scene.put(&[held.clone(), other.clone()]).await?;
    for holder in receipts[0].acks.iter().map(|ack| &ack.holder) {
        scene.wait_listed(holder, &[held.id(), other.id()]).await?;
        let states = scene.reader.audit(scene.mailbox(), holder, &asked, scene.audit_options()).await?;
        let named: Vec<_> = states.iter().map(|holding| holding.id).collect();
        ensure!(named == asked, "{holder} does not answer each id in order");
        let is_held = |at: usize| matches!(states[at].state, HoldingState::Held { .. });
        ensure!(is_held(0) && is_held(2), "{holder} does not say that it has what it lists");
        ensure!(states[1].state == HoldingState::Absent, "{holder} says {:?} of what it never got", states[1].state);
    }
    Ok(Verdict::Pass)
}

/// A sender who kept the key of the wrap is told that it is held, or nothing; never that it is not.
pub async fn an_author_may_audit(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let sealed = scene.sealed("audited by its author")?;
    let receipts = scene.put(std::slice::from_ref(&sealed.envelope)).await?;
    for holder in receipts[0].acks.iter().map(|ack| &ack.holder) {
        scene.wait_listed(holder, &[sealed.envelope.id()]).await?;
        let options = AuditOptions::default().auth(scene.auth(&sealed.wrap_key));
        match scene.writer.audit(scene.mailbox(), holder, &[sealed.envelope.id()], options).await {
            Ok(states) => {
                let absent = states.iter().any(|holding| holding.state == HoldingState::Absent);
                ensure!(states.len() == 1 && !absent, "{holder} tells the author that it does not have what it lists");
            }
            Err(error) => ensure!(error.kind() == ErrorKind::Denied, "the author's audit ends with {error:?}"),
        }
    }
    Ok(Verdict::Pass)
}
