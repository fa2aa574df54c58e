//! What one session may take.

use std::time::Duration;

/// Most bytes of a frame: an answer of negentropy, or 4,096 digests. As gossip nodes have it (`docs/formats.md` §9).
pub(crate) const MAX_FRAME: usize = 131_072;
/// Most entries that go one way in one session, and most that are asked for: their digests are 1 MiB. Who lacks more
/// begins another session, which finds what this one brought.
pub(crate) const MAX_ENTRIES: usize = 32_768;
/// Most bytes of blocks that go one way in one session: an eighth of the largest log.
pub(crate) const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Most messages of negentropy in one session. Two logs of the largest size that have nothing in common take some 60.
pub(super) const MAX_ROUNDS: usize = 512;
/// Most blocks of a session that are dropped as junk: some are a fault of the peer's disk, many are a peer to leave.
pub(super) const MAX_JUNK: u64 = 64;

/// How long a peer may take, and how much it may bring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For a frame, or a block: the largest needs 100 KiB a second, an entry 10.
    pub(crate) frame: Duration,
    /// For all of a session. What has come until then is kept.
    pub(crate) session: Duration,
    /// For the peer to store what was given, after the last of it was sent.
    pub(crate) settle: Duration,
    /// Most bytes of blocks one way.
    pub(crate) bytes: u64,
    /// Most blocks one way; an entry may bring its identity.
    pub(crate) blocks: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame: Duration::from_secs(10),
            session: Duration::from_secs(600),
            settle: Duration::from_secs(30),
            bytes: MAX_BYTES,
            blocks: 2 * MAX_ENTRIES as u64,
        }
    }
}
