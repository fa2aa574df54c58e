//! The states of an entry: `queued → sending → stored(n) → delivered | wedged(reason) | cancelled`.

use std::fmt;

/// As stored: it is still to be sent, or its holders are still to be asked.
pub(super) const OPEN: i64 = 0;
/// As stored: the recipient confirmed it.
pub(super) const DELIVERED: i64 = 1;
/// As stored: trying again does not help.
pub(super) const WEDGED: i64 = 2;
/// As stored: the sender took it back.
pub(super) const CANCELLED: i64 = 3;

/// How far an entry got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxState {
    /// Nobody has it yet.
    Queued,
    /// Nobody has it yet, and a process is at it.
    Sending,
    /// So many distinct holders confirmed that they store it. Whether that is enough, the entry says.
    Stored(u32),
    /// The recipient confirmed it.
    Delivered,
    /// Trying again does not help; in the words of whoever refused it.
    Wedged(String),
    /// The sender took it back.
    Cancelled,
}

impl OutboxState {
    /// The name of `docs/formats.md` §10: an entry that is being sent is still queued.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Queued | Self::Sending => "queued",
            Self::Stored(_) => "stored",
            Self::Delivered => "delivered",
            Self::Wedged(_) => "wedged",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will be done, unless it is asked for.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Delivered | Self::Wedged(_) | Self::Cancelled)
    }

    /// Out of the columns of a row.
    pub(super) fn of(state: i64, acks: u32, reason: Option<String>, leased: bool) -> Option<Self> {
        Some(match (state, acks) {
            (OPEN, 0) if leased => Self::Sending,
            (OPEN, 0) => Self::Queued,
            (OPEN, acks) => Self::Stored(acks),
            (DELIVERED, _) => Self::Delivered,
            (WEDGED, _) => Self::Wedged(reason.unwrap_or_default()),
            (CANCELLED, _) => Self::Cancelled,
            _ => return None,
        })
    }
}

impl fmt::Display for OutboxState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
