//! What a session works on: one log, as the store has it.

use std::{fmt::Debug, sync::Arc};

use talkbox_core::{Result, anti_entropy::ReconciledSet, async_trait};

use super::greeting::Standing;
use crate::orbitdb::{Block, Cid};

/// The SHA-256 of an entry: its link without what is the same in all links.
pub(crate) type Digest = [u8; 32];

/// What became of some blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Entries that were not held before.
    pub(crate) new: u64,
    /// Blocks that are no entries of this log and no identities, or whose signature does not hold.
    pub(crate) junk: u64,
}

/// One log of a node.
#[async_trait]
pub(crate) trait Replica: Debug + Send + Sync {
    /// The block that names the log: the root of what is sent of it.
    fn manifest(&self) -> Cid;

    /// The greatest heads, and how many entries there are.
    async fn standing(&self) -> Result<Standing>;

    /// All entries held, as they are now: the digest of each, at the time of its clock.
    async fn set(&self) -> Result<Arc<dyn ReconciledSet + Send + Sync>>;

    /// These entries, as far as they are held, and the identities of their writers before them.
    async fn bundle(&self, digests: &[Digest]) -> Result<Vec<Block>>;

    /// Takes blocks that somebody sent: verifies them and keeps what is good.
    async fn receive(&self, blocks: Vec<Block>) -> Result<Taken>;
}
