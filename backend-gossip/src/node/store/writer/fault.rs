//! What SQLite can fail with, as the node tells it.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use rusqlite::ErrorCode;

use super::Desk;
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

/// How often it is told that the disk still fails: often enough to be seen, and not with everything that is refused.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Whether the disk takes what is written, and how much was refused since it does not.
#[derive(Debug, Default)]
pub(super) struct Disk {
    fault: Option<Fault>,
    /// Since it was last told of.
    refused: usize,
    /// What was told last, and when. A disk that is nearly full takes what is small and fails in between: that is no news.
    told: Option<(Fault, Instant)>,
    /// This fault was told of, and so its end is.
    is_told: bool,
}

/// What is worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It began to fail, or fails otherwise than before.
    Fails,
    /// It still fails, and refused so many meanwhile.
    StillFails(usize),
    /// It works again, and refused so many before.
    Works(usize),
}

impl Disk {
    /// Why nothing can be written.
    pub(super) const fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// It failed, and so many events were refused.
    pub(super) fn failed(&mut self, fault: Fault, refused: usize, now: Instant) -> Option<News> {
        let before = self.fault.replace(fault);
        self.refused += refused;
        if self.told.is_some_and(|(last, at)| last == fault && now.duration_since(at) < TOLD_EVERY) {
            return None;
        }
        self.told = Some((fault, now));
        self.is_told = true;
        Some(if before == Some(fault) { News::StillFails(self.refused) } else { News::Fails })
    }

    /// It took something.
    pub(super) fn worked(&mut self) -> Option<News> {
        let was_told = std::mem::take(&mut self.is_told);
        self.fault.take().filter(|_| was_told).map(|_| News::Works(std::mem::take(&mut self.refused)))
    }
}

impl Desk {
    /// Something was written.
    pub(super) fn works(&self) {
        if let Some(News::Works(refused)) = self.disk.lock().unwrap_or_else(PoisonError::into_inner).worked() {
            tracing::info!(refused, "the store takes events again");
        }
    }

    /// Something could not be written, because of which so many events are refused. What is wrong.
    pub(super) fn fails(&self, error: &rusqlite::Error, refused: usize) -> Fault {
        self.rot.note(error);
        let fault = Fault::of(error);
        match self.disk.lock().unwrap_or_else(PoisonError::into_inner).failed(fault, refused, Instant::now()) {
            Some(News::Fails) => tracing::error!(%error, "nothing can be stored: {}", fault.words()),
            Some(News::StillFails(refused)) => {
                tracing::error!(%error, refused, "still nothing can be stored: {}", fault.words());
            }
            Some(News::Works(_)) | None => {}
        }
        fault
    }

    /// Writes something that means nothing.
    pub(super) fn probe(&mut self) {
        let written = self.conn.execute(
            "INSERT INTO meta VALUES ('probe', randomblob(8)) ON CONFLICT DO UPDATE SET value = excluded.value",
            [],
        );
        match written {
            Ok(_) => self.works(),
            Err(error) => {
                self.fails(&error, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fails_is_told_of_at_its_change_and_each_minute() {
        let (mut disk, start) = (Disk::default(), Instant::now());
        assert_eq!(disk.worked(), None);
        assert_eq!(disk.failed(Fault::Full, 1, start), Some(News::Fails));
        for _ in 0..999 {
            assert_eq!(disk.failed(Fault::Full, 1, start + TOLD_EVERY / 2), None);
        }
        assert_eq!(disk.failed(Fault::Full, 0, start + TOLD_EVERY), Some(News::StillFails(1_000)));
        assert_eq!(disk.failed(Fault::Full, 1, start + TOLD_EVERY), None);
        assert_eq!(disk.failed(Fault::ReadOnly, 1, start + TOLD_EVERY), Some(News::Fails));
        assert_eq!(disk.fault(), Some(Fault::ReadOnly));
        assert_eq!((disk.worked(), disk.worked()), (Some(News::Works(1_002)), None));
        assert_eq!(disk.fault(), None);
        // It takes what is small, and not what is large.
        for _ in 0..100 {
            assert_eq!((disk.failed(Fault::ReadOnly, 1, start + TOLD_EVERY), disk.worked()), (None, None));
        }
        let later = start + 2 * TOLD_EVERY;
        assert_eq!(
            (disk.failed(Fault::ReadOnly, 1, later), disk.worked()),
            (Some(News::Fails), Some(News::Works(101)))
        );
    }
}
