//! Deleting: by whom it is valid, and what is claimed of it.

use crate::{
    EnvelopeId, Result,
    deletion::DeleteRequest,
    keys::SecretKey,
    locator::Locator,
    mailbox::PutOptions,
    receipt::{Deletion, DeletionState},
    testkit::{
        Failure, Harness, Outcome, Verdict,
        outcome::{ensure, skip},
        scene::{Scene, scene, wrapped},
    },
};

/// The owner deletes one of two: where that is confirmed, it is gone, and the other is not.
pub async fn an_owner_deletes(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    if !scene.reader.capabilities().delete {
        skip!("deletion");
    }
    let envelopes = scene.envelopes(2)?;
    let ids = [envelopes[0].id(), envelopes[1].id()];
    scene.put(&envelopes).await?;
    for holder in scene.reader.holders() {
        scene.wait_listed(&holder, &ids).await?;
    }
    let deletion = delete(&scene, &scene.owner, &ids[..1]).await??;
    confirmed_is_gone(&scene, &deletion, ids[0]).await?;
    for holder in scene.reader.holders() {
        ensure!(scene.ids(&holder).await?.contains(&ids[1]), "{holder} deleted what was not named");
    }
    Ok(Verdict::Pass)
}

/// So does the author, with the one-time key of the wrap.
pub async fn an_author_deletes(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    if !scene.writer.capabilities().delete {
        skip!("deletion");
    }
    let sealed = scene.sealed("taken back")?;
    let id = sealed.envelope.id();
    for holder in scene.put_one(&sealed.envelope).await? {
        scene.wait_listed(&holder, &[id]).await?;
    }
    let deletion = delete(&scene, &sealed.wrap_key, &[id]).await??;
    confirmed_is_gone(&scene, &deletion, id).await?;
    Ok(Verdict::Pass)
}

/// What was deleted does not come back when it is put again.
pub async fn what_was_deleted_stays_away(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    if !scene.reader.capabilities().delete {
        skip!("deletion");
    }
    let envelope = scene.sealed("gone for good")?.envelope;
    for holder in scene.put_one(&envelope).await? {
        scene.wait_listed(&holder, &[envelope.id()]).await?;
    }
    let deletion = delete(&scene, &scene.owner, &[envelope.id()]).await??;
    let gone: Vec<Locator> = confirmed(&deletion).cloned().collect();
    if gone.is_empty() {
        skip!("a holder that confirms deletion");
    }
    // Whatever the answer is. Another one afterwards shows that this one has had its time to arrive.
    scene.writer.put(std::slice::from_ref(&envelope), PutOptions::default().at(gone.clone())).await;
    let other = wrapped(scene.mailbox(), scene.now(), vec![], "after it".to_owned())?;
    scene.put_with(std::slice::from_ref(&other), PutOptions::default().at(gone.clone())).await?;
    for holder in gone {
        scene.wait_listed(&holder, &[other.id()]).await?;
        ensure!(!scene.ids(&holder).await?.contains(&envelope.id()), "{holder} took back what was deleted");
    }
    Ok(Verdict::Pass)
}

/// Nobody else's request deletes anything, and it is not confirmed.
pub async fn a_stranger_deletes_nothing(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    if !scene.reader.capabilities().delete {
        skip!("deletion");
    }
    let envelope = scene.sealed("not yours")?.envelope;
    let holders = scene.put_one(&envelope).await?;
    for holder in &holders {
        scene.wait_listed(holder, &[envelope.id()]).await?;
    }
    let stranger = SecretKey::generate()?;
    // To refuse it is as right as to take it and do nothing.
    if let Ok(deletion) = delete(&scene, &stranger, &[envelope.id()]).await? {
        let claimed = confirmed(&deletion).find(|holder| holders.contains(holder));
        ensure!(claimed.is_none(), "a stranger's deletion is confirmed by {claimed:?}");
    }
    for holder in &holders {
        ensure!(scene.ids(holder).await?.contains(&envelope.id()), "{holder} deletes what a stranger asks for");
    }
    Ok(Verdict::Pass)
}

async fn delete(scene: &Scene<'_>, key: &SecretKey, ids: &[EnvelopeId]) -> Result<Result<Deletion>, Failure> {
    let request = DeleteRequest::sign(key, scene.mailbox(), ids, scene.now())?;
    let mut answers = scene.reader.delete(&[request], scene.delete_options(key)).await;
    ensure!(answers.len() == 1, "{} answers to one request", answers.len());
    Ok(answers.swap_remove(0))
}

fn confirmed(deletion: &Deletion) -> impl Iterator<Item = &Locator> {
    deletion.holders.iter().filter(|(_, state)| *state == DeletionState::Confirmed).map(|(holder, _)| holder)
}

async fn confirmed_is_gone(scene: &Scene<'_>, deletion: &Deletion, id: EnvelopeId) -> Result<(), Failure> {
    ensure!(!deletion.holders.is_empty(), "`Ok` without a holder that took the request");
    for holder in confirmed(deletion) {
        ensure!(!scene.ids(holder).await?.contains(&id), "{holder} lists what it confirmed to be deleted");
    }
    Ok(())
}
