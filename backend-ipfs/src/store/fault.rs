//! Errors inside the store: what SQLite says, as the one error type of core.

use rusqlite::ErrorCode;
use talkbox_core::{Error, ErrorKind, Retry};

/// The result of work on a connection.
pub(super) type Sql<T> = Result<T, Fault>;

/// An [`Error`] that `?` also makes from SQLite's own.
#[derive(Debug)]
pub(crate) struct Fault(Error);

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        fault.0
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        let (words, retry) = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => ("the disk is full", Retry::No),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                ("another process keeps the store busy", Retry::After(None))
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ("the store is damaged", Retry::No),
            Some(ErrorCode::ReadOnly) => ("the store cannot be opened for writing", Retry::No),
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => ("the store cannot be opened", Retry::No),
            _ => ("the local disk or what is on it failed", Retry::No),
        };
        Self(Error::new(ErrorKind::Storage, words).retry(retry).source(error))
    }
}

/// A row whose bytes cannot be what was written.
pub(super) fn damaged(what: &'static str) -> Fault {
    Error::new(ErrorKind::Storage, "a row of the store is damaged").with("row", what).into()
}
