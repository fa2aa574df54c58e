//! Telling those who listen what is new, and which heads they are shown.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use talkbox_core::Result;

use super::{HEADS, Logs, TOLD, or_nothing};
use crate::orbitdb::{Block, Cid, Entry, LogAddress};

/// Entries of a log that are not told again for a while: it can become known in several ways that they are here.
const REMEMBERED: usize = 128;
/// Entries that are looked at to find heads that can be shown.
const MAX_LOOKED_AT: usize = 256;

impl Logs {
    /// Tells entries that were made here.
    pub(crate) async fn publish(&self, log: &LogAddress, entries: &[Block]) {
        self.told(log, entries.iter().take(TOLD).map(|entry| entry.cid));
        for entry in entries.iter().take(TOLD) {
            self.0.link.publish(log.as_str(), entry.bytes.clone()).await;
        }
        if entries.len() > TOLD
            && let Err(error) = self.tell_heads(log).await
        {
            tracing::warn!(%error, "the heads of a log could not be told");
        }
    }

    /// Tells the heads by gossip, where more came than could be told one by one. A peer that reads for its own user is the
    /// end of the way.
    pub(in crate::node) async fn pass_heads_on(&self, log: &LogAddress) -> Result<()> {
        if self.0.keep.is_node() { self.tell_heads(log).await } else { Ok(()) }
    }

    /// Tells the heads by gossip, as far as they are new: they lead to all the rest.
    async fn tell_heads(&self, log: &LogAddress) -> Result<()> {
        let heads = self.heads_to_show(log).await?;
        self.tell_on(log, heads.into_iter().map(|head| (head.cid, head.bytes)).collect()).await;
        Ok(())
    }

    /// Tells entries on, those left out that were told lately.
    pub(super) async fn tell_on(&self, log: &LogAddress, entries: Vec<(Cid, Bytes)>) {
        let known: HashSet<Cid> = self
            .followed(|followed| followed.get(log).map(|entry| entry.told.iter().copied().collect()))
            .unwrap_or_default();
        let new: Vec<_> = entries.into_iter().filter(|(cid, _)| !known.contains(cid)).collect();
        self.told(log, new.iter().map(|(cid, _)| *cid));
        for (_, bytes) in new {
            self.0.link.publish(log.as_str(), bytes).await;
        }
    }

    /// Takes note that entries were told.
    pub(super) fn told(&self, log: &LogAddress, entries: impl Iterator<Item = Cid>) {
        self.followed(|followed| {
            let Some(entry) = followed.get_mut(log) else { return };
            entry.told.extend(entries);
            let over = entry.told.len().saturating_sub(REMEMBERED);
            entry.told.drain(..over);
        });
    }

    /// The heads that others are shown, at most as many as a new entry names.
    ///
    /// JavaScript peers store an entry in canonical form, whatever form it came in, and look for it under the name of
    /// the other for ever. So a head in another form is not shown, but what it stands on.
    pub(super) async fn heads_to_show(&self, log: &LogAddress) -> Result<Vec<Block>> {
        let heads = or_nothing(self.0.store.heads(log, HEADS).await)?;
        let mut seen: HashSet<Cid> = heads.iter().map(|head| head.cid).collect();
        let mut ahead: VecDeque<Block> =
            heads.into_iter().map(|head| Block { cid: head.cid, bytes: head.bytes }).collect();
        let mut shown = Vec::new();
        while shown.len() < HEADS
            && let Some(block) = ahead.pop_front()
        {
            let Ok(entry) = Entry::decode(block.bytes.clone()) else { continue };
            if entry.canonical {
                shown.push(block);
                continue;
            }
            let below: Vec<Cid> = entry.next.into_iter().filter(|cid| seen.insert(*cid)).take(HEADS).collect();
            if seen.len() < MAX_LOOKED_AT {
                let bytes = self.0.store.blocks(below.clone()).await?;
                let blocks = below.into_iter().zip(bytes).filter_map(|(cid, bytes)| Some(Block { cid, bytes: bytes? }));
                ahead.extend(blocks);
            }
        }
        Ok(shown)
    }
}
