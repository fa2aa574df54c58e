//! How much a store keeps, and what is asked of those who want to bring more.

use std::fmt;

use crate::orbitdb::verdict::Why;

/// Most bytes of an entry. JavaScript peers cannot exchange heads that are larger than the first window of a stream.
pub(crate) const MAX_ENTRY_BYTES: usize = 256 * 1024;
/// Bits of work that an envelope has to show more for every doubling of a log that is full (`docs/formats.md` §8).
const BITS_PER_DOUBLING: u32 = 4;

/// How much a store keeps. The defaults are those of `docs/formats.md` §8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoreLimits {
    /// Entries of a log past which only envelopes that show work are taken.
    pub(crate) log_entries: u64,
    /// Bytes of a log past which only envelopes that show work are taken.
    pub(crate) log_bytes: u64,
    /// Entries of a log that may wait for ancestors: half of a log, so that what hangs on nothing leaves room for what
    /// can be joined.
    pub(crate) waiting_entries: u64,
    /// The bytes of those.
    pub(crate) waiting_bytes: u64,
    /// Bytes of the whole store on disk, past which nothing is taken. Every stranger may write to every log that is
    /// open, and a disk that is full stops more than this store.
    pub(crate) store_bytes: u64,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            log_entries: 200_000,
            log_bytes: 512 * 1024 * 1024,
            waiting_entries: 100_000,
            waiting_bytes: 256 * 1024 * 1024,
            store_bytes: 16 * 1024 * 1024 * 1024,
        }
    }
}

impl StoreLimits {
    /// The work that an envelope has to show to be added to a log of this size; `None` where there is room for anything.
    pub(super) fn work_asked(&self, entries: u64, bytes: u64) -> Option<u8> {
        let doublings = |held: u64, limit: u64| match held / limit.max(1) {
            0 => 0,
            times => times.ilog2() + 1,
        };
        match doublings(entries, self.log_entries).max(doublings(bytes, self.log_bytes)) {
            0 => None,
            times => Some(u8::try_from(BITS_PER_DOUBLING * times).unwrap_or(u8::MAX)),
        }
    }
}

/// Why a block was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is no entry, and no entry names it as its identity.
    NotAnEntry,
    /// It is larger than [`MAX_ENTRY_BYTES`].
    TooLarge,
    /// It is an entry that JavaScript peers refuse, too.
    Invalid(Why),
    /// The log is full: only envelopes with so many bits of work are still taken.
    LogFull(u8),
    /// Too many entries wait for their ancestors already. Those that came last are the first to go.
    WaitingFull,
    /// It names entries that are not joined yet, and too many to wait for. It is taken when they are.
    TooEarly,
    /// The store has no room for anything.
    StoreFull,
    /// The envelope belongs into another log, by its mailbox or its month.
    Elsewhere,
    /// The envelope has expired.
    Expired,
    /// The envelope is dated further into the future than clocks differ.
    Future,
}

impl Refused {
    /// Whether it stays so, whenever and by whomever the block is brought again.
    pub(crate) const fn is_final(&self) -> bool {
        matches!(self, Self::NotAnEntry | Self::TooLarge | Self::Invalid(_))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnEntry => f.write_str("no entry of this log"),
            Self::TooLarge => f.write_str("larger than an entry may be"),
            Self::Invalid(why) => write!(f, "{why}"),
            Self::LogFull(bits) => write!(f, "the log is full: only envelopes with {bits} bits of work are taken"),
            Self::WaitingFull => f.write_str("too many entries wait for their ancestors"),
            Self::TooEarly => f.write_str("names too many entries that are not here yet"),
            Self::StoreFull => f.write_str("the store is full"),
            Self::Elsewhere => f.write_str("the envelope belongs into another log"),
            Self::Expired => f.write_str("the envelope has expired"),
            Self::Future => f.write_str("the envelope is dated into the future"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_asks_four_bits_more_at_each_doubling() {
        let limits = StoreLimits { log_entries: 100, log_bytes: 1_000, ..StoreLimits::default() };
        let asked = [(99, 999), (100, 0), (0, 1_000), (199, 0), (200, 0), (0, 4_000), (800, 0)];
        let asked = asked.map(|(entries, bytes)| limits.work_asked(entries, bytes));
        assert_eq!(asked, [None, Some(4), Some(4), Some(4), Some(8), Some(12), Some(16)]);
    }
}
