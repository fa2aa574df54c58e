//! What push and anti-entropy have in common: one peer, asked with patience.

use std::{sync::Arc, time::Duration};

use talkbox_core::{Error, Result};
use tokio::sync::Mutex;

use super::{ask, pause::Pauses, peer::Peer};
use crate::node::Shared;

/// The way to one peer.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) node: Arc<Shared>,
    pub(super) peer: Arc<Peer>,
    /// Whether the peer has shown in this run that it is who it has to be.
    met: Mutex<bool>,
}

impl Exchange {
    pub(super) fn new(node: Arc<Shared>, peer: Arc<Peer>) -> Self {
        Self { node, peer, met: Mutex::new(false) }
    }

    /// Sees that the peer is who it has to be, once.
    ///
    /// # Errors
    /// Those of asking.
    pub(super) async fn meet(&self) -> Result<()> {
        let mut met = self.met.lock().await;
        if !*met {
            ask::introduce(&self.node, &self.peer).await?;
            self.node.store.writer().keep_peer(self.peer.row());
            *met = true;
        }
        Ok(())
    }

    /// The peer answered.
    pub(super) fn went_well(&self, pauses: &mut Pauses) {
        pauses.reset();
        self.peer.answered(self.node.now());
    }

    /// Something went wrong: says so, and how long to wait.
    pub(super) fn went_wrong(&self, pauses: &mut Pauses, error: &Error) -> Duration {
        self.node.metrics.failures.add(1);
        self.peer.failed(error.to_string(), ask::is_stranger(error), self.node.now());
        let dice = self.node.context.random::<1>().map_or(128, |[dice]| dice);
        pauses.fail(dice)
    }

    /// Waits, but no longer than until the peer is back. Whether the node goes on.
    pub(super) async fn wait(&self, pause: Duration) -> bool {
        let mut stop = self.node.stop.clone();
        tokio::select! {
            biased;
            () = stop.asked() => false,
            () = self.peer.back.notified() => true,
            () = tokio::time::sleep(pause) => true,
        }
    }
}
