//! The outbox of one peer: what clients brought, in the order of arrival, from where the peer acknowledged last.
//!
//! It is no queue of its own: it is the store, read from that place on. So it needs no memory for a peer that is away, and
//! misses nothing, however long that lasts and however often either node ends.

use std::sync::Arc;

use talkbox_core::Result;

use super::{
    ask::{self, Fate},
    exchange::Exchange,
    pause::Pauses,
};
use crate::node::{
    addresses::Party,
    store::{Arrivals, Portion},
};

/// What goes out at once: as much as a node takes in one request, so that its receipt covers all.
const PORTION: Portion = Portion { after: 0, events: 256, bytes: 1 << 20 };

/// Pushes until the node stops.
pub(super) async fn run(exchange: Arc<Exchange>) {
    let brought = Arc::clone(exchange.node.store.writer().brought());
    let mut stop = exchange.node.stop.clone();
    let mut pauses = Pauses::default();
    loop {
        // Listened for before the store is read: what comes meanwhile wakes it again.
        let more = brought.more();
        match push(&exchange).await {
            Ok(Pushed::All) => {
                tokio::select! {
                    biased;
                    () = stop.asked() => return,
                    () = more => {}
                }
            }
            Ok(Pushed::Some) => exchange.went_well(&mut pauses),
            Ok(Pushed::Nothing) => {}
            Err(error) => {
                let pause = exchange.went_wrong(&mut pauses, &error);
                if !exchange.wait(pause).await {
                    return;
                }
            }
        }
    }
}

enum Pushed {
    /// Nothing is left.
    All,
    /// The peer has acknowledged a portion.
    Some,
    /// A portion had nothing for the peer.
    Nothing,
}

/// Pushes one portion.
async fn push(exchange: &Exchange) -> Result<Pushed> {
    let (node, peer) = (&exchange.node, &exchange.peer);
    let portion = Portion { after: peer.acknowledged(), ..PORTION };
    let page = node.store.arrivals(Arrivals::FromClients, portion, Party::Node, node.now()).await?;
    if page.items.is_empty() {
        // What others brought is passed over, and need not be looked at again.
        peer.acknowledge(page.last);
        return Ok(if page.more { Pushed::Nothing } else { Pushed::All });
    }
    exchange.meet().await?;
    let events: Vec<String> = page.items.into_iter().map(|(_, json)| json).collect();
    let fates = ask::publish(node, peer, &events).await?;
    if fates.contains(&Fate::Later) {
        return Err(ask::nonsense("the peer cannot store anything now"));
    }
    node.metrics.pushed.add(events.len());
    peer.acknowledge(page.last);
    node.store.writer().keep_peer(peer.row());
    Ok(Pushed::Some)
}
