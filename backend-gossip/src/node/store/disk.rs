//! Why a store cannot be opened where it is the disk that takes nothing: SQLite says of that no more than that something
//! failed, and it needs some room beside the file even to read it.

use std::{
    error::Error as StdError,
    io::{self, Write as _},
    path::Path,
};

use talkbox_core::{Error, ErrorKind, sqlite::is_of_disk};

/// What is tried to be written: more than the index of the log, which takes 32 KiB, and the head of the log.
static ROOM: [u8; 65_536] = [0; 65_536];

/// The error that says what is wrong with the disk of this folder, where that is why something there failed; else the
/// error as it is. Blocks.
pub(crate) fn explained(error: Error, folder: &Path) -> Error {
    let is_of_disk = StdError::source(&error).is_some_and(|source| {
        source.is::<io::Error>()
            || source.downcast_ref().and_then(rusqlite::Error::sqlite_error_code).is_some_and(is_of_disk)
    });
    match is_of_disk.then(|| fault(folder)).flatten() {
        Some(words) => Error::new(ErrorKind::Storage, words).with("disk", folder.display()).source(error),
        None => error,
    }
}

/// What keeps the disk from taking a little more, if that is so and it is one of the usual reasons.
fn fault(folder: &Path) -> Option<&'static str> {
    let there = folder.ancestors().find(|folder| folder.is_dir())?;
    let written =
        tempfile::tempfile_in(there).and_then(|mut file| file.write_all(&ROOM).and_then(|()| file.sync_all()));
    match written.err()?.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Some("the disk is full, and without some room beside it the store cannot be opened")
        }
        io::ErrorKind::ReadOnlyFilesystem => Some("the disk is read-only"),
        io::ErrorKind::PermissionDenied => Some("its folder cannot be written by this user"),
        _ => None,
    }
}
