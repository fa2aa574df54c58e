//! Finding out what a peer has of a log: by reconciling, where it speaks `/talkbox/sync/1`, else from its heads.

use std::collections::HashSet;

use libp2p::{PeerId, StreamProtocol};
use talkbox_core::{Error, ErrorKind, Result};

use super::{By, Logs, MAX_FETCH, MAX_SESSIONS};
use crate::{
    node::{heads, replica::LogReplica, streams::Stream},
    orbitdb::{Block, Cid, Entry, LogAddress, MonthLog, cid_of_digest},
    sync::{self, Digest},
};

impl Logs {
    /// Fetches all that a peer has more of a log than is here.
    ///
    /// # Errors
    /// `Unsupported` where the peer does not speak `/talkbox/sync/1`; as [`sync::exchange`].
    pub(super) async fn pull(&self, log: &LogAddress, from: PeerId) -> Result<()> {
        let followed = self.followed(|followed| followed.get(log).map(|entry| entry.log.clone()));
        let log = followed.ok_or_else(|| Error::new(ErrorKind::NotFound, "the log is not followed any more"))?;
        let stream = self.0.link.open(from, StreamProtocol::new(sync::SYNC)).await?;
        self.reconcile(&log, from, stream).await.map(drop)
    }

    /// Fetches all that a peer has more of a log than is here, and says which entries of ours it lacks.
    ///
    /// # Errors
    /// `NotFound` where the peer does not keep the mailbox; as [`sync::exchange`].
    pub(crate) async fn reconcile(&self, log: &MonthLog, peer: PeerId, stream: Stream) -> Result<Vec<Digest>> {
        let replica = LogReplica::new(self.clone(), log.clone(), peer);
        let (mut stream, mut sessions) = (stream, 1);
        loop {
            let limits = sync::Limits::default();
            let exchange = sync::exchange(stream, log.mailbox, log.month, false, &replica, limits).await;
            replica.told().await?;
            let exchange = exchange?;
            // A peer may name what it does not give: damaged, or made up.
            if !exchange.more || exchange.came.new == 0 || sessions == MAX_SESSIONS {
                return Ok(exchange.lacking);
            }
            stream = self.0.link.open(peer, StreamProtocol::new(sync::SYNC)).await?;
            sessions += 1;
        }
    }

    /// Fetches what the heads of a peer of another kind lead to, and says which entries of ours they do not lead to.
    /// `None` where the peer does not have the log open.
    ///
    /// # Errors
    /// `NotFound` where it has no block that a head leads to; `Unreachable`, `Timeout`; those of the store.
    pub(crate) async fn read_from_heads(&self, log: &MonthLog, peer: PeerId) -> Result<Option<Vec<Digest>>> {
        let address = &log.definition.address;
        let Some(theirs) = self.heads_of(address, peer).await? else { return Ok(None) };
        let theirs: Vec<Cid> = theirs.into_iter().map(|(cid, _)| cid).collect();
        self.fill_from(address, peer, Vec::new()).await?;
        let ours: Vec<Digest> = {
            let set = self.0.store.set(address).await?;
            set.as_slice().iter().map(|item| *item.id().as_bytes()).collect()
        };
        let led_to = self.led_to(&theirs, &ours.iter().map(cid_of_digest).collect()).await?;
        Ok(Some(ours.into_iter().filter(|digest| !led_to.contains(&cid_of_digest(digest))).collect()))
    }

    /// Whether the heads of a peer lead to these entries.
    ///
    /// # Errors
    /// As [`read_from_heads`](Self::read_from_heads).
    pub(crate) async fn has_heads_over(&self, log: &LogAddress, peer: PeerId, wanted: &[Cid]) -> Result<bool> {
        let Some(theirs) = self.heads_of(log, peer).await? else { return Ok(false) };
        let theirs: Vec<Cid> = theirs.into_iter().map(|(cid, _)| cid).collect();
        let wanted: HashSet<Cid> = wanted.iter().copied().collect();
        Ok(self.led_to(&theirs, &wanted).await?.len() == wanted.len())
    }

    /// Exchanges heads with a peer, and gives its own, with the times of their clocks. What they lead to is fetched beside.
    /// `None` where the peer does not have the log open.
    ///
    /// # Errors
    /// `Unreachable`, `Timeout`; those of the store.
    pub(crate) async fn heads_of(&self, log: &LogAddress, peer: PeerId) -> Result<Option<Vec<(Cid, u64)>>> {
        let ours = self.heads(log).await?;
        let theirs = match heads::exchange(&self.0.link, peer, log, &ours).await {
            Ok(theirs) => theirs,
            Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(None),
            Err(error) => return Err(error),
        };
        let blocks: Vec<Block> = theirs.into_iter().map(Block::of).collect();
        let entries = blocks.iter().filter_map(|block| Entry::decode(block.bytes.clone()).ok());
        let heads = entries.map(|entry| (entry.cid, entry.sort_time())).collect();
        if !blocks.is_empty() {
            self.take(log, blocks, peer, By::Hand).await?;
        }
        Ok(Some(heads))
    }

    /// Those of these entries that some heads lead to.
    async fn led_to(&self, heads: &[Cid], wanted: &HashSet<Cid>) -> Result<HashSet<Cid>> {
        let (mut found, mut known) = (HashSet::new(), HashSet::new());
        let mut next: Vec<Cid> = heads.to_vec();
        while !next.is_empty() && found.len() < wanted.len() {
            next.retain(|cid| known.insert(*cid));
            found.extend(next.iter().filter(|cid| wanted.contains(*cid)));
            let mut below = Vec::new();
            for portion in next.chunks(MAX_FETCH) {
                let blocks = self.0.store.blocks(portion.to_vec()).await?;
                let entries = blocks.into_iter().flatten().filter_map(|bytes| Entry::decode(bytes).ok());
                entries.for_each(|entry| below.extend(entry.next));
            }
            next = below;
        }
        Ok(found)
    }
}
