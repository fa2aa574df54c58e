//! Exchanging heads with whoever follows the same log.

use std::{
    collections::HashSet,
    sync::{MutexGuard, PoisonError},
};

use bytes::Bytes;
use libp2p::PeerId;
use talkbox_core::{ErrorKind, Result};

use super::{By, Logs, Met};
use crate::{
    node::{heads, streams::Stream},
    orbitdb::{Block, LogAddress},
};

impl Logs {
    /// A peer listens to a topic from now on.
    pub(in crate::node) fn subscribed(&self, peer: PeerId, topic: &str) {
        let Some(log) = topic.parse::<LogAddress>().ok().filter(|log| self.follows(log)) else { return };
        self.exchange_soon(log, peer);
    }

    /// Exchanges heads with everybody who listens, beside whatever else goes on.
    pub(in crate::node) async fn exchange_with_all(&self, log: &LogAddress) {
        for peer in self.0.link.subscribers(log.as_str()).await {
            self.exchange_soon(log.clone(), peer);
        }
    }

    /// Exchanges heads when it is the turn of the peer. Of exchanges that wait there is one for each log.
    fn exchange_soon(&self, log: LogAddress, peer: PeerId) {
        let this = (log, peer);
        if !self.exchanging().insert(this.clone()) {
            return;
        }
        let logs = self.clone();
        tokio::spawn(async move {
            let share = logs.0.exchanges_with_one.wait(peer).await;
            logs.exchange(&this.0, peer).await;
            drop(share);
            logs.exchanging().remove(&this);
        });
    }

    /// Shows a peer our heads, and looks for what its own lead to.
    pub(crate) async fn exchange(&self, log: &LogAddress, peer: PeerId) {
        let exchanged = async {
            let ours = self.heads(log).await?;
            let theirs = heads::exchange(&self.0.link, peer, log, &ours).await?;
            self.shown(log, peer, theirs).await
        };
        match exchanged.await {
            Ok(()) => {}
            // It listens to the log and has not opened it: JavaScript peers do it in this order.
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                tracing::debug!(%peer, "the peer does not exchange heads of this log");
            }
            Err(error) => tracing::debug!(%peer, %error, "heads could not be exchanged"),
        }
    }

    /// A peer opened a stream to exchange heads.
    pub(in crate::node) async fn answer(&self, log: &LogAddress, stream: Stream, peer: PeerId) -> Result<()> {
        let ours = self.heads(log).await?;
        let theirs = heads::answer(stream, peer, &ours).await?;
        self.shown(log, peer, theirs).await
    }

    /// Heads that go over the heads protocol.
    pub(super) async fn heads(&self, log: &LogAddress) -> Result<Vec<Bytes>> {
        let heads = self.heads_to_show(log).await?;
        Ok(heads.into_iter().map(|head| head.bytes).filter(|bytes| bytes.len() <= heads::MAX_HEAD).collect())
    }

    /// A peer showed its heads.
    pub(super) async fn shown(&self, log: &LogAddress, peer: PeerId, theirs: Vec<Bytes>) -> Result<()> {
        // Large ones are told otherwise: the peer listens.
        for head in self.heads_to_show(log).await?.into_iter().filter(|head| head.bytes.len() > heads::MAX_HEAD) {
            self.0.link.publish(log.as_str(), head.bytes).await;
        }
        if !theirs.is_empty() {
            self.take(log, theirs.into_iter().map(Block::of).collect(), peer, By::Hand).await?;
        }
        self.followed(|followed| {
            if let Some(entry) = followed.get_mut(log) {
                entry.met.insert(peer);
            }
        });
        // Nobody may wait.
        let _ = self.0.met.send(Met { log: log.clone(), peer });
        Ok(())
    }

    fn exchanging(&self) -> MutexGuard<'_, HashSet<(LogAddress, PeerId)>> {
        self.0.exchanging.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
