//! The outbox of one peer: what clients brought, in the order of arrival, from where the peer acknowledged last.
//!
//! It is no queue of its own: it is the store, read from that place on. So it needs no memory for a peer that is away, and
//! misses nothing, however long that lasts and however often either node ends.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream::FuturesOrdered};
use talkbox_core::Result;

use super::{
    ask::{self, Fate},
    exchange::Exchange,
    pause::Pauses,
};
use crate::node::{
    addresses::Party,
    store::{ArrivalPage, Arrivals, Portion},
};

/// What goes out in one request: as much as a node takes, so that its receipt covers all.
const PORTION: Portion = Portion { after: 0, events: 256, bytes: 1 << 20 };
/// Portions under way: while one is committed the next is verified, and a third is read.
const AT_ONCE: usize = 2;

/// Pushes until the node stops.
pub(super) async fn run(exchange: Arc<Exchange>) {
    let brought = Arc::clone(exchange.node.store.writer().brought());
    let mut stop = exchange.node.stop.clone();
    let mut pauses = Pauses::default();
    loop {
        // Listened for before the store is read: what comes meanwhile wakes it again.
        let more = brought.more();
        match push(&exchange, &mut pauses).await {
            Ok(()) => {
                tokio::select! {
                    biased;
                    () = stop.asked() => return,
                    () = more => {}
                }
            }
            Err(error) => {
                let pause = exchange.went_wrong(&mut pauses, &error);
                if !exchange.wait(pause).await {
                    return;
                }
            }
        }
    }
}

/// Pushes until nothing is left. Where that fails, what was not acknowledged is pushed again.
async fn push(exchange: &Exchange, pauses: &mut Pauses) -> Result<()> {
    let (node, peer) = (&exchange.node, &exchange.peer);
    let (mut after, mut has_more, mut sent) = (peer.acknowledged(), true, FuturesOrdered::new());
    loop {
        while has_more && sent.len() < AT_ONCE {
            let portion = Portion { after, ..PORTION };
            let page = node.store.arrivals(Arrivals::FromClients, portion, Party::Node, node.now());
            tokio::pin!(page);
            let page = loop {
                tokio::select! {
                    biased;
                    Some(acknowledged) = sent.next() => settle(exchange, pauses, acknowledged?),
                    page = &mut page => break page?,
                }
            };
            (after, has_more) = (page.last, page.more);
            if !page.items.is_empty() {
                exchange.meet().await?;
                sent.push_back(publish(exchange, page));
            }
        }
        match sent.next().await {
            Some(acknowledged) => settle(exchange, pauses, acknowledged?),
            None => break,
        }
    }
    // What others brought is passed over, and need not be looked at again.
    peer.acknowledge(after);
    Ok(())
}

/// Pushes one portion: where it ends, once the peer has all of it.
async fn publish(exchange: &Exchange, page: ArrivalPage) -> Result<i64> {
    let last = page.last;
    let events: Vec<String> = page.items.into_iter().map(|(_, json)| json).collect();
    let fates = ask::publish(&exchange.node, &exchange.peer, &events).await?;
    if fates.contains(&Fate::Later) {
        return Err(ask::nonsense("the peer cannot store anything now"));
    }
    exchange.node.metrics.pushed.add(events.len());
    Ok(last)
}

/// The peer has everything up to this place.
fn settle(exchange: &Exchange, pauses: &mut Pauses, last: i64) {
    exchange.peer.acknowledge(last);
    exchange.node.store.writer().keep_peer(exchange.peer.row());
    exchange.went_well(pauses);
}
