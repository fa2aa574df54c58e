//! How far the store was, beside the store: so that it is noticed when an old copy of its file is put in its place.
//!
//! The copy has the same epoch and would give the same places again, to other events: who goes on from a place that it
//! was given before would miss them.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::node::cursor::ArrivalCursor;

/// The file, in the folder of the store.
const FILE: &str = "node.mark";

/// The mark of one store.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
}

impl Mark {
    pub(super) fn of(folder: &Path) -> Self {
        Self { path: folder.join(FILE) }
    }

    /// Whether the store was further at some time than it is now.
    pub(super) fn is_ahead(&self, epoch: u64, last: i64) -> bool {
        let marked = fs::read_to_string(&self.path).ok().and_then(|text| text.trim().parse::<ArrivalCursor>().ok());
        marked.is_some_and(|marked| marked.epoch == epoch && marked.place > last)
    }

    /// Notes how far the store is. Whole or not at all; it need not be on the disk at once, for it may lag.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn set(&self, epoch: u64, last: i64) -> io::Result<()> {
        let draft = self.path.with_extension("new");
        let mut file = fs::File::create(&draft)?;
        writeln!(file, "{}", ArrivalCursor { epoch, place: last })?;
        fs::rename(&draft, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_was_further_is_noticed() {
        let folder = tempfile::tempdir().expect("a directory");
        let mark = Mark::of(folder.path());
        assert!(!mark.is_ahead(7, 0), "there is none");
        mark.set(7, 5).expect("writes");
        assert!(mark.is_ahead(7, 4) && !mark.is_ahead(7, 5) && !mark.is_ahead(8, 4));
        fs::write(folder.path().join(FILE), "nonsense").expect("writes");
        assert!(!mark.is_ahead(7, 4));
    }
}
