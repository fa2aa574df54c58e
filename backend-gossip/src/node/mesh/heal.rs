//! Puts rotten rows right: what was in them is asked of the peers, by id.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use talkbox_core::{EventId, Result};

use super::{ask, exchange::Exchange};
use crate::node::{Shared, http::MAX_BATCH};

/// Places that are looked at together: of each, three ids may be asked for.
const TOGETHER: usize = MAX_BATCH / 3;
/// The first pause after which is asked again for what no peer had, …
const FIRST: Duration = Duration::from_millis(500);
/// … and the longest: what nobody has is asked for until it expires, by one small request to each peer.
const LAST: Duration = Duration::from_secs(600);

/// Heals until the node stops.
pub(super) async fn run(node: Arc<Shared>, peers: Vec<Arc<Exchange>>) {
    let rot = Arc::clone(node.store.rot());
    let mut stop = node.stop.clone();
    let mut pause = FIRST;
    loop {
        // Listened for before the places are looked at: what is found meanwhile wakes it again.
        let more = rot.more();
        if rot.len() > 0
            && let Err(error) = round(&node, &peers).await
        {
            tracing::debug!(%error, "rotten rows could not be looked at");
        }
        let again = if rot.len() > 0 { pause } else { Duration::MAX };
        tokio::select! {
            biased;
            () = stop.asked() => return,
            () = more => pause = FIRST,
            () = tokio::time::sleep(again) => pause = LAST.min(pause * 2),
        }
    }
}

/// Looks at every place that is known to be rotten, and asks one peer after the other for what was there.
async fn round(node: &Shared, peers: &[Arc<Exchange>]) -> Result<()> {
    let rot = node.store.rot();
    let mut places = rot.beyond(0, TOGETHER);
    while let Some(last) = places.last().copied() {
        let wrecks = node.store.wrecks(places.clone()).await?;
        for place in places.iter().filter(|place| wrecks.iter().all(|(wreck, _)| wreck != *place)) {
            rot.forget(*place);
        }
        let mut wanted: BTreeMap<EventId, i64> =
            wrecks.into_iter().flat_map(|(place, ids)| ids.into_iter().map(move |id| (id, place))).collect();
        for peer in peers {
            if wanted.is_empty() {
                break;
            }
            if let Err(error) = ask_for(peer, &mut wanted).await {
                tracing::debug!(peer = %peer.peer.address, %error, "a peer could not be asked for damaged events");
            }
        }
        places = rot.beyond(last, TOGETHER);
    }
    Ok(())
}

/// Asks a peer. What it brings is verified, and counts only where it was asked for.
async fn ask_for(exchange: &Exchange, wanted: &mut BTreeMap<EventId, i64>) -> Result<()> {
    let node = &exchange.node;
    exchange.meet().await?;
    let ids: Vec<EventId> = wanted.keys().copied().collect();
    for ids in ids.chunks(MAX_BATCH) {
        let events = ask::fetch(node, &exchange.peer, ids).await?;
        node.metrics.fetched.add(events.len());
        for event in events {
            let Some(event) = node.intake.examine(event).await else { continue };
            if let Some(place) = wanted.remove(&event.facts.id) {
                wanted.retain(|_, other| *other != place);
                node.store.writer().heal(place, Arc::new(event));
            }
        }
    }
    Ok(())
}
