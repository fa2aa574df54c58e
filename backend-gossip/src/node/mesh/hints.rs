//! Hints on their way to peers: who watches a mailbox at another node is told as well.
//!
//! Nothing of it is stored, and nothing is tried twice: a hint that is lost costs its mailbox some seconds. What a peer
//! brought is not passed on, as with everything else.

use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use tokio::sync::broadcast::{
    self,
    error::{RecvError, TryRecvError},
};

use super::{ask, exchange::Exchange};

/// Hints that wait for the slowest peer. Beyond that it misses the oldest.
const WAITING: usize = 1_024;
/// Hints of one request, as for envelopes.
const TOGETHER: usize = 256;

/// Where the intake leaves hints of clients for the peers.
#[derive(Clone, Debug)]
pub(crate) struct Hints(broadcast::Sender<Utf8Bytes>);

impl Default for Hints {
    fn default() -> Self {
        Self(broadcast::Sender::new(WAITING))
    }
}

impl Hints {
    /// Leaves a hint for all peers.
    pub(crate) fn leave(&self, hint: Utf8Bytes) {
        let _no_peers = self.0.send(hint);
    }
}

/// Passes hints on to one peer until the node stops.
pub(super) async fn run(exchange: Arc<Exchange>) {
    let mut hints = exchange.node.hints.0.subscribe();
    let mut stop = exchange.node.stop.clone();
    loop {
        let first = tokio::select! {
            biased;
            () = stop.asked() => return,
            first = hints.recv() => first,
        };
        let mut together = match first {
            Ok(hint) => vec![hint.to_string()],
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        while together.len() < TOGETHER {
            match hints.try_recv() {
                Ok(hint) => together.push(hint.to_string()),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        // A peer that is away is left to what asks it with patience.
        if exchange.peer.health().fault.is_some() {
            continue;
        }
        let told = async {
            exchange.meet().await?;
            ask::publish(&exchange.node, &exchange.peer, &together).await
        };
        if let Err(error) = told.await {
            tracing::debug!(%error, peer = %exchange.peer.address, "hints were not passed on");
        }
    }
}
