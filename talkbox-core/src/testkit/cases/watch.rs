//! Watching: what arrives, without a gap.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, future};
use tokio::sync::Notify;

use crate::{
    EnvelopeId,
    envelope::{Envelope, RawEnvelope},
    mailbox::{WatchEvent, WatchOptions},
    testkit::{
        Failure, Harness, Outcome, Verdict,
        outcome::{ensure, skip},
        scene::{SOON, scene, soon, wait_seen},
    },
};

/// What is put after `Live` is shown, and is what was put.
pub async fn a_watch_sees_what_arrives(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let before = scene.sealed("before")?.envelope;
    scene.put_one(&before).await?;
    let Some(mut events) = scene.watch(scene.watch_options()).await? else { skip!("watch") };
    let envelope = scene.sealed("now")?.envelope;
    scene.put_one(&envelope).await?;
    loop {
        match soon("the watch to show what was put", events.next()).await? {
            Some(Ok(WatchEvent::Envelope { holder, raw, .. })) if raw.id() == envelope.id() => {
                ensure!(scene.reader.holders().contains(&holder), "{holder} is not configured");
                ensure!(Envelope::verify(&raw)? == envelope, "{holder} shows another envelope");
                return Ok(Verdict::Pass);
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.into()),
            None => return Err(Failure::new("the watch ended by itself")),
        }
    }
}

/// From a cursor, a watch begins with what arrived after it.
pub async fn a_watch_goes_on_from_a_cursor(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    if !scene.reader.capabilities().watch {
        skip!("watch");
    }
    scene.put(&scene.envelopes(2)?).await?;
    let mut after = Vec::new();
    for holder in scene.reader.holders() {
        let (_, cursor) = scene.list(&holder, None).await?;
        after.extend(cursor.map(|cursor| (holder, cursor)));
    }
    let missed = scene.envelopes(3)?;
    let ids: Vec<EnvelopeId> = missed.iter().map(Envelope::id).collect();
    scene.put(&missed).await?;
    let Some(mut events) = scene.reader.watch(scene.mailbox(), scene.watch_options().after(after)) else {
        return Err(Failure::new("`watch` is said to be there and gives no stream"));
    };
    wait_seen(&mut events, &ids).await?;
    Ok(Verdict::Pass)
}

/// A watch that has said `Live` and a listing that begins after that have everything between them.
pub async fn a_watch_and_a_listing_leave_no_gap(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    if !scene.reader.capabilities().watch {
        skip!("watch");
    }
    let envelopes = scene.envelopes(12)?;
    let wanted: BTreeSet<EnvelopeId> = envelopes.iter().map(Envelope::id).collect();
    // The watch starts somewhere among the first puts, and the last come when everything else is done.
    let listed = Notify::new();
    let puts = async {
        for (at, envelope) in envelopes.iter().enumerate() {
            if at == 9 {
                listed.notified().await;
            }
            scene.put_one(envelope).await?;
        }
        Ok(())
    };
    let reads = async {
        let Some(mut events) = scene.reader.watch(scene.mailbox(), scene.watch_options()) else {
            return Err(Failure::new("`watch` is said to be there and gives no stream"));
        };
        let mut waiting: BTreeSet<_> = scene.reader.holders().into_iter().collect();
        let mut seen = BTreeSet::new();
        while !waiting.is_empty() {
            match soon("every holder to be live", events.next()).await? {
                Some(Ok(WatchEvent::Live { holder })) => {
                    waiting.remove(&holder);
                }
                Some(Ok(WatchEvent::Envelope { raw, .. })) => {
                    seen.insert(raw.id());
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(Failure::new("the watch ended by itself")),
            }
        }
        for holder in scene.reader.holders() {
            seen.extend(scene.ids(&holder).await?);
        }
        listed.notify_one();
        Ok((events, seen))
    };
    let ((), (mut events, seen)) = future::try_join(puts, reads).await?;
    let rest: Vec<EnvelopeId> = wanted.difference(&seen).copied().collect();
    wait_seen(&mut events, &rest).await?;
    Ok(Verdict::Pass)
}

/// A watch of one mailbox shows nothing of another.
pub async fn a_watch_shows_one_mailbox_alone(harness: &dyn Harness) -> Outcome {
    let (one, other) = (scene!(harness), scene!(harness));
    let Some(mut events) = one.watch(one.watch_options()).await? else { skip!("watch") };
    other.put_one(&other.sealed("elsewhere")?.envelope).await?;
    let own = one.sealed("here")?.envelope;
    one.put_one(&own).await?;
    loop {
        match soon("the watch to show what was put", events.next()).await? {
            Some(Ok(WatchEvent::Envelope { raw, .. })) => {
                ensure!(raw.id() == own.id(), "the watch shows the mail of another mailbox");
                return Ok(Verdict::Pass);
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.into()),
            None => return Err(Failure::new("the watch ended by itself")),
        }
    }
}

/// Dropping the stream ends what is behind it.
pub async fn a_watch_ends_when_it_is_dropped(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let Some(before) = harness.watchers() else { skip!("holders that count who watches") };
    let Some(events) = scene.watch(scene.watch_options()).await? else { skip!("watch") };
    ensure!(harness.watchers() > Some(before), "a watch that is live is served by nobody");
    drop(events);
    let start = std::time::Instant::now();
    while harness.watchers() > Some(before) {
        ensure!(start.elapsed() < SOON, "a watch goes on after it was dropped");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    Ok(Verdict::Pass)
}

/// A watch outlives a restart of the holders, and says that something may be missing.
pub async fn a_watch_comes_back_after_a_restart(harness: &dyn Harness) -> Outcome {
    let scene = scene!(harness);
    let options = WatchOptions { retry_after: Some(std::time::Duration::from_millis(50)), ..scene.watch_options() };
    let Some(mut events) = scene.watch(options).await? else { skip!("watch") };
    if !harness.restart().await? {
        skip!("holders that can be restarted");
    }
    let mut waiting: BTreeSet<_> = scene.reader.holders().into_iter().collect();
    let mut lagged = BTreeSet::new();
    while !waiting.is_empty() {
        match soon("every holder to be live again", events.next()).await? {
            Some(Ok(WatchEvent::Lagged { holder })) => {
                lagged.insert(holder);
            }
            Some(Ok(WatchEvent::Live { holder })) => {
                ensure!(
                    lagged.contains(&holder),
                    "{holder} is live again and does not say that something may be missing"
                );
                waiting.remove(&holder);
            }
            // What was lost is reported on the way.
            Some(_) => {}
            None => return Err(Failure::new("the watch ended by itself")),
        }
    }
    let envelope = scene.sealed("after the restart")?.envelope;
    scene.put_one(&envelope).await?;
    wait_seen(&mut events, &[envelope.id()]).await?;
    let (items, _) = scene.list(&scene.reader.holders()[0], None).await?;
    ensure!(items.iter().map(RawEnvelope::id).any(|id| id == envelope.id()), "what the watch shows is not listed");
    Ok(Verdict::Pass)
}
