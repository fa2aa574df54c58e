//! A log of this peer, as a session of `/talkbox/sync/1` works on it: what comes goes the way of everything that comes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use libp2p::PeerId;
use talkbox_core::{
    ErrorKind, Result,
    anti_entropy::{IdSet, ReconciledSet},
    async_trait,
};

use super::logs::{By, Logs, TOLD, or_nothing};
use crate::{
    orbitdb::{Block, Cid, MonthLog},
    sync::{Digest, Replica, Standing, Taken},
};

/// Heads that a peer is told of: those that a new entry would name.
const HEADS: usize = 16;

/// One log, and the peer that the session is with.
#[derive(Clone, Debug)]
pub(super) struct LogReplica {
    logs: Logs,
    log: MonthLog,
    from: PeerId,
    /// Whether so much came that nobody was told of it yet.
    untold: Arc<AtomicBool>,
    /// Whether something came that stands on what did not come before it.
    lacks: Arc<AtomicBool>,
}

impl LogReplica {
    pub(super) fn new(logs: Logs, log: MonthLog, from: PeerId) -> Self {
        Self { logs, log, from, untold: Arc::default(), lacks: Arc::default() }
    }

    /// At the end of a session: tells those who listen of what came, where that was too much to be told piece by piece,
    /// and has fetched what did not come.
    pub(super) async fn told(&self) -> Result<()> {
        if self.lacks.swap(false, Ordering::AcqRel) {
            self.logs.fill(&self.log.definition.address, self.from, Vec::new());
        }
        if self.untold.swap(false, Ordering::AcqRel) {
            self.logs.pass_heads_on(&self.log.definition.address).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Replica for LogReplica {
    fn manifest(&self) -> Cid {
        self.log.definition.manifest.cid
    }

    async fn standing(&self) -> Result<Standing> {
        let log = &self.log.definition.address;
        let heads = or_nothing(self.logs.store().heads(log, HEADS).await)?;
        let entries = or_nothing(self.logs.store().entries(log).await)?;
        Ok(Standing { heads: heads.into_iter().map(|head| (head.cid, head.time)).collect(), entries })
    }

    async fn set(&self) -> Result<Arc<dyn ReconciledSet + Send + Sync>> {
        match self.logs.store().set(&self.log.definition.address).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Arc::new(IdSet::new())),
            Err(error) => Err(error),
            Ok(set) => Ok(set),
        }
    }

    async fn bundle(&self, digests: &[Digest]) -> Result<Vec<Block>> {
        or_nothing(self.logs.store().bundle(&self.log.definition.address, digests.to_vec()).await)
    }

    async fn receive(&self, blocks: Vec<Block>) -> Result<Taken> {
        let received = self.logs.take(&self.log.definition.address, blocks, self.from, By::Session).await?;
        if !received.missing.is_empty() {
            self.lacks.store(true, Ordering::Release);
        }
        let new = received.entries.iter().filter(|entry| entry.is_new).count();
        if new > TOLD {
            self.untold.store(true, Ordering::Release);
        }
        let junk = received.entries.iter().filter(|entry| entry.refused.as_ref().is_some_and(|why| why.is_final()));
        Ok(Taken { new: new as u64, junk: junk.count() as u64 })
    }
}
