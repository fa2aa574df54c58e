//! Reconciling: what a holder and we differ in.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    EnvelopeId, ErrorKind, Result,
    clock::Timestamp,
    envelope::Envelope,
    locator::Locator,
    mailbox::{Difference, Reconcile, ReconcileOptions},
    testkit::{
        Harness, Outcome, Verdict,
        outcome::{ensure, skip},
        scene::{Scene, scene, sealed_at},
    },
};

/// What the holder has and we do not, and what we have and it does not.
pub async fn reconciling_finds_both_differences(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let envelopes = scene.envelopes(6)?;
    let ids: Vec<EnvelopeId> = envelopes.iter().map(Envelope::id).collect();
    scene.put(&envelopes).await?;
    let ours_alone = sealed_at(&scene.owner, "never put", scene.now())?.envelope;
    let known: Vec<&Envelope> = envelopes[2..].iter().chain([&ours_alone]).collect();
    let mut asked = false;
    for (holder, reconciler) in reconcilers(&scene) {
        scene.wait_listed(&holder, &ids).await?;
        let difference = match difference(&scene, &*reconciler, &known).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => continue,
            answer => answer?,
        };
        asked = true;
        let theirs: BTreeSet<EnvelopeId> = difference.theirs.into_iter().collect();
        ensure!(theirs == ids[..2].iter().copied().collect(), "{holder}: {} of two are found", theirs.len());
        ensure!(difference.ours == [ours_alone.id()], "{holder}: what only we have is not found");
    }
    if !asked {
        skip!("reconciliation");
    }
    Ok(Verdict::Pass)
}

/// Where both have the same there is no difference.
pub async fn reconciling_equal_sets_finds_nothing(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let envelopes = scene.envelopes(4)?;
    let ids: Vec<EnvelopeId> = envelopes.iter().map(Envelope::id).collect();
    let mut asked = false;
    for (holder, reconciler) in reconcilers(&scene) {
        match difference(&scene, &*reconciler, &[]).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => continue,
            answer => ensure!(answer? == Difference::default(), "{holder}: two empty sets differ"),
        }
        asked = true;
    }
    if !asked {
        skip!("reconciliation");
    }
    scene.put(&envelopes).await?;
    for (holder, reconciler) in reconcilers(&scene) {
        scene.wait_listed(&holder, &ids).await?;
        let known: Vec<&Envelope> = envelopes.iter().collect();
        match difference(&scene, &*reconciler, &known).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => {}
            answer => ensure!(answer? == Difference::default(), "{holder}: two equal sets differ"),
        }
    }
    Ok(Verdict::Pass)
}

fn reconcilers(scene: &Scene<'_>) -> Vec<(Locator, Arc<dyn Reconcile>)> {
    let holders = scene.reader.holders().into_iter();
    holders.filter_map(|holder| scene.reader.reconciler(&holder).map(|reconciler| (holder, reconciler))).collect()
}

async fn difference(scene: &Scene<'_>, reconciler: &dyn Reconcile, known: &[&Envelope]) -> Result<Difference> {
    let ours: Vec<(Timestamp, EnvelopeId)> =
        known.iter().map(|envelope| (envelope.created_at(), envelope.id())).collect();
    let options = ReconcileOptions::default().auth(scene.auth(&scene.owner));
    reconciler.difference(scene.mailbox(), &ours, options).await
}
