//! Fetching what the entries of a log lead to and is not here.
//!
//! Whoever told of an entry is asked for what it stands on, each peer by a task of its own: one that has announced what
//! it does not give keeps nobody else waiting. What is missing after that is asked of everybody.

use std::{collections::HashSet, time::Duration};

use libp2p::PeerId;
use talkbox_core::{Error, ErrorKind, Result};

use super::{Logs, MAX_FETCH};
use crate::{
    orbitdb::{Block, Cid, LogAddress},
    store::Received,
};

/// How long peers may take to send blocks.
const FETCH: Duration = Duration::from_secs(30);
/// More missing blocks than this are fetched as a set where the peer can do that: one by one is quicker for a few.
const FEW: usize = 4;
/// Rounds in which blocks are fetched after one head: a chain of a full log, of which each round brings at least one.
const MAX_ROUNDS: usize = 200_000;
/// Links that are remembered while a peer is asked for others: what one round of blocks leads to at the most, and some.
const MAX_AHEAD: usize = 16_384;

impl Logs {
    /// Fetches these and what they lead to, beside whatever else goes on: once at a time for each peer.
    pub(crate) fn fill(&self, log: &LogAddress, from: PeerId, wanted: Vec<Cid>) {
        let begins = self.followed(|followed| {
            let entry = followed.get_mut(log)?;
            match entry.filling.get_mut(&from) {
                Some(more) => {
                    let room = MAX_AHEAD.saturating_sub(more.len());
                    more.extend(wanted.into_iter().take(room));
                    None
                }
                None => {
                    entry.filling.insert(from, Vec::new());
                    Some(wanted)
                }
            }
        });
        let Some(mut wanted) = begins else { return };
        let (logs, log) = (self.clone(), log.clone());
        tokio::spawn(async move {
            loop {
                if let Err(error) = logs.fill_from(&log, from, wanted).await {
                    tracing::debug!(%error, peer = %from, "what a log lacks could not be fetched");
                }
                let more = logs.followed(|followed| {
                    let more = std::mem::take(followed.get_mut(&log)?.filling.get_mut(&from)?);
                    if more.is_empty() {
                        followed.get_mut(&log)?.filling.remove(&from);
                        return None;
                    }
                    Some(more)
                });
                let Some(more) = more else { break };
                wanted = more;
            }
            logs.seek(&log, from);
        });
    }

    /// Fetches from a peer what it has of these, and of whatever else is missing, and what that leads to.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn fill_from(&self, log: &LogAddress, from: PeerId, wanted: Vec<Cid>) -> Result<()> {
        let store = &self.0.store;
        // What it does not have it is asked for once.
        let (mut asked, mut ahead, mut by_set, mut grew) = (HashSet::new(), wanted, true, false);
        for round in 0..MAX_ROUNDS {
            ahead.extend(store.missing(log, MAX_FETCH).await?);
            let mut portion = Vec::new();
            while portion.len() < MAX_FETCH
                && let Some(cid) = ahead.pop()
            {
                if asked.insert(cid) {
                    portion.push(cid);
                }
            }
            if portion.is_empty() {
                break;
            }
            if by_set && (round > 0 || portion.len() > FEW) {
                by_set = false;
                match self.pull(log, from).await {
                    Ok(()) => {
                        asked.clear();
                        continue;
                    }
                    Err(error) => tracing::debug!(%error, peer = %from, "a log is fetched block by block"),
                }
            }
            let blocks = self.0.link.fetch(&portion, &[from], FETCH).await;
            if blocks.is_empty() && ahead.is_empty() {
                break;
            }
            for block in &blocks {
                asked.remove(&block.cid);
            }
            let received = self.fetched(log, blocks, from).await?;
            grew |= received.heads_changed;
            ahead.extend(received.missing);
            ahead.truncate(MAX_AHEAD);
        }
        if grew {
            self.pass_heads_on(log).await?;
        }
        Ok(())
    }

    /// Asks everybody for what nobody had before, beside whatever else goes on.
    pub(in crate::node) fn seek_again(&self, log: &LogAddress) {
        self.seek(log, self.0.link.peer());
    }

    /// Asks everybody for what is missing, beside whatever else goes on.
    fn seek(&self, log: &LogAddress, led_by: PeerId) {
        let begins = self.followed(|followed| {
            let Some(entry) = followed.get_mut(log) else { return false };
            let is_first = entry.seeking.is_none();
            entry.seeking = Some(!is_first);
            is_first
        });
        if !begins {
            return;
        }
        let (logs, log) = (self.clone(), log.clone());
        tokio::spawn(async move {
            loop {
                if let Err(error) = logs.seek_all(&log, led_by).await {
                    tracing::debug!(%error, "what a log lacks could not be found");
                }
                let again = logs.followed(|followed| {
                    let Some(entry) = followed.get_mut(&log) else { return false };
                    let again = entry.seeking == Some(true);
                    entry.seeking = again.then_some(false);
                    again
                });
                if !again {
                    return;
                }
            }
        });
    }

    /// Fetches what is missing from whoever has it.
    ///
    /// # Errors
    /// `NotFound` where nobody has it; those of the store.
    pub(crate) async fn seek_all(&self, log: &LogAddress, led_by: PeerId) -> Result<()> {
        let store = &self.0.store;
        let mut ahead = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let mut missing = store.missing(log, MAX_FETCH).await?;
            let known: HashSet<Cid> = missing.iter().copied().collect();
            let room = MAX_FETCH - missing.len();
            missing.extend(std::mem::take(&mut ahead).into_iter().filter(|cid| !known.contains(cid)).take(room));
            if missing.is_empty() {
                return Ok(());
            }
            let blocks = self.0.link.fetch(&missing, &[], FETCH).await;
            // What nobody has now is asked for again after a while, and stands in the way of nothing else.
            let here: HashSet<Cid> = blocks.iter().map(|block| block.cid).collect();
            for cid in missing.iter().filter(|cid| !here.contains(cid)) {
                store.give_up(log, *cid).await?;
            }
            if blocks.is_empty() {
                let gone = Error::new(ErrorKind::NotFound, "nobody has blocks that a log leads to");
                return Err(gone.with("blocks", missing.len()));
            }
            let received = self.fetched(log, blocks, led_by).await?;
            ahead = received.missing;
            if received.heads_changed {
                self.pass_heads_on(log).await?;
            }
        }
        Ok(())
    }

    /// Takes blocks that were asked for.
    async fn fetched(&self, log: &LogAddress, blocks: Vec<Block>, from: PeerId) -> Result<Received> {
        let arrived = blocks.iter().map(|block| block.cid).collect();
        let received = self.0.store.receive(log, blocks).await?;
        self.0.link.arrived(arrived).await;
        if received.entries.iter().any(|entry| entry.is_new) {
            self.grown();
        }
        self.tell(log, &received, from);
        Ok(received)
    }
}
