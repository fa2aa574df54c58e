//! How far the store was, and which file it is, beside the store: so that it is noticed when an old copy of the file, or of
//! the whole folder, is put in its place.
//!
//! The copy has the same epoch and would give the same places again, to other events: who goes on from a place that it
//! was given before would miss them. What cannot be noticed is a disk that is put back as a whole; to remove the mark then
//! does the same.

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
    store: PathBuf,
}

impl Mark {
    /// The mark of the store in this folder.
    pub(super) fn of(folder: &Path, store: &Path) -> Self {
        Self { path: folder.join(FILE), store: store.to_owned() }
    }

    /// Whether this may be an earlier state of a store that was further at some time; or another file, as a copy is.
    pub(super) fn is_another(&self, epoch: u64, last: i64) -> bool {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let mut words = text.split_whitespace();
        let marked: Option<ArrivalCursor> = words.next().and_then(|cursor| cursor.parse().ok());
        let Some(marked) = marked else { return last > 0 };
        let file = words.next().and_then(|number| number.parse().ok());
        marked.epoch == epoch && (marked.place > last || file.is_some_and(|file| Some(file) != self.file()))
    }

    /// The number by which the file system knows the store. A copy gets another.
    #[cfg(unix)]
    fn file(&self) -> Option<u64> {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata(&self.store).ok().map(|store| store.ino())
    }

    #[cfg(not(unix))]
    fn file(&self) -> Option<u64> {
        None
    }

    /// Notes how far the store is. Whole or not at all; it need not be on the disk at once, for it may lag.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn set(&self, epoch: u64, last: i64) -> io::Result<()> {
        let draft = self.path.with_extension("new");
        let mut file = fs::File::create(&draft)?;
        write!(file, "{}", ArrivalCursor { epoch, place: last })?;
        match self.file() {
            Some(number) => writeln!(file, " {number}")?,
            None => writeln!(file)?,
        }
        fs::rename(&draft, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_was_further_is_noticed() {
        let folder = tempfile::tempdir().expect("a directory");
        let store = folder.path().join("store");
        fs::write(&store, "1").expect("writes");
        let mark = Mark::of(folder.path(), &store);
        assert!(!mark.is_another(7, 0), "it begins");
        assert!(mark.is_another(7, 1), "the mark has been removed");
        mark.set(7, 5).expect("writes");
        assert!(mark.is_another(7, 4) && !mark.is_another(7, 5) && !mark.is_another(8, 4));
        fs::write(folder.path().join(FILE), "nonsense").expect("writes");
        assert!(mark.is_another(7, 4));
    }

    #[cfg(unix)]
    #[test]
    fn a_copy_is_noticed_with_all_that_lies_beside_it() {
        let folder = tempfile::tempdir().expect("a directory");
        let [store, copy] = ["store", "copy"].map(|name| folder.path().join(name));
        fs::write(&store, "1").expect("writes");
        let mark = Mark::of(folder.path(), &store);
        mark.set(7, 5).expect("writes");
        fs::copy(&store, &copy).expect("copies");
        fs::rename(&copy, &store).expect("is put in its place");
        assert!(mark.is_another(7, 5));
        mark.set(7, 5).expect("writes");
        assert!(!mark.is_another(7, 5));
    }

    /// As earlier versions wrote it.
    #[test]
    fn a_mark_without_a_file_is_read() {
        let folder = tempfile::tempdir().expect("a directory");
        let mark = Mark::of(folder.path(), &folder.path().join("store"));
        fs::write(folder.path().join(FILE), "0000000000000007.5\n").expect("writes");
        assert!(mark.is_another(7, 4) && !mark.is_another(7, 5));
    }
}
