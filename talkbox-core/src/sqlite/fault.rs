//! Errors inside a store: what SQLite says, as the one error type of core.

use rusqlite::ErrorCode;

use crate::{Error, ErrorKind, error::Retry};

/// The result of work on a connection.
pub type Sql<T> = Result<T, Fault>;

/// An [`Error`] that `?` also makes from SQLite's own.
#[derive(Debug)]
pub struct Fault(Error);

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
        Self(storage(error))
    }
}

/// Everything that SQLite reports.
pub fn storage(error: rusqlite::Error) -> Error {
    let (what, retry) = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => ("the disk is full", Retry::No),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            ("another process keeps the store busy", Retry::After(None))
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ("the store is damaged", Retry::No),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => ("the store cannot be written", Retry::No),
        Some(ErrorCode::CannotOpen) => ("the store is not there, or cannot be opened", Retry::No),
        Some(ErrorCode::SystemIoFailure) => ("the disk of the store failed", Retry::No),
        _ => ("SQLite failed", Retry::No),
    };
    Error::new(ErrorKind::Storage, what).retry(retry).source(error)
}

/// Whether SQLite may fail with it because the disk takes nothing.
pub const fn is_of_disk(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::DiskFull
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::CannotOpen
            | ErrorCode::SystemIoFailure
    )
}

/// Whether it is the file that is wrong, and not what is around it.
pub fn is_damage(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let code = source.and_then(|source| source.downcast_ref()).and_then(rusqlite::Error::sqlite_error_code);
    // The last is what SQLite says where tables or columns are missing.
    matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown))
}

/// A row whose bytes cannot be what was written.
pub fn damaged(what: &'static str) -> Error {
    Error::new(ErrorKind::Storage, "a row of the store is damaged").with("row", what)
}
