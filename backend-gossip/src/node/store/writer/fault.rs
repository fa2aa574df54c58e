//! What SQLite can fail with, as the node tells it.

use rusqlite::ErrorCode;

use crate::node::refusal::{Reason, Refusal};

/// Why nothing can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Full,
    ReadOnly,
    Damaged,
    Broken,
}

impl Fault {
    pub(super) fn of(error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => Self::ReadOnly,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged,
            _ => Self::Broken,
        }
    }

    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Full => "the disk is full",
            Self::ReadOnly => "the store cannot be written",
            Self::Damaged => "the store is damaged",
            Self::Broken => "the store failed; try again later",
        }
    }

    pub(super) fn refusal(self) -> Refusal {
        Refusal::new(if self == Self::Full { Reason::DiskFull } else { Reason::Failed }, self.words())
    }
}
