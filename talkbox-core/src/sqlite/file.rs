//! Opening SQLite: the file and its rights, and the settings that the promises of a store rest on.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use super::Sql;
use crate::{Error, ErrorKind};

/// How long a connection waits for another: a group of writes takes milliseconds, so that whoever waits this long waits
/// for something that hangs.
const BUSY: Duration = Duration::from_secs(10);
/// More statements than a store has, so that each is compiled once for every connection.
const STATEMENTS: usize = 128;

/// Where a store lives.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a file.
    File(PathBuf),
    /// In memory, and gone when it is closed.
    Memory,
}

impl Place {
    /// An error of a store that names its file: a program has several.
    pub(super) fn named(&self, error: Error) -> Error {
        match self {
            Self::File(path) if error.kind() == ErrorKind::Storage && error.context("file").is_none() => {
                error.with("file", path.display())
            }
            _ => error,
        }
    }
}

/// The connection that writes. Creates the file, for its owner alone, and the folders that it is in.
///
/// # Errors
/// `Storage`.
pub fn open_writer(place: &Place) -> Sql<Connection> {
    let db = match place {
        Place::File(path) => {
            create(path)?;
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?
        }
        Place::Memory => Connection::open_in_memory()?,
    };
    set_up(&db)?;
    Ok(db)
}

/// Settings that are written into the file: only once it is known to be ours.
///
/// # Errors
/// `Storage`, also where the file system has no write-ahead log.
pub fn make_durable(db: &Connection, place: &Place) -> Sql<()> {
    if matches!(place, Place::File(_)) {
        // Most envelopes have 1.5 to 3 KB: pages of 4 KiB would hold one each and be half empty. Without effect on a
        // file that has its pages.
        db.pragma_update(None, "page_size", 8192)?;
        write_ahead(db)?;
    }
    // WAL with NORMAL loses acknowledged rows when the power fails; FULL does not.
    db.pragma_update(None, "synchronous", "FULL")?;
    // A log that a long read blew up gives its space back.
    db.pragma_update_and_check(None, "journal_size_limit", 64 * 1024 * 1024, |_| Ok(()))?;
    Ok(())
}

/// A connection that reads.
///
/// # Errors
/// `Storage`.
pub fn open_reader(path: &Path) -> Sql<Connection> {
    // Not opened read-only: the last to leave a write-ahead log has to be able to clean it up.
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    set_up(&db)?;
    db.pragma_update(None, "query_only", true)?;
    Ok(db)
}

/// Reads through the file and says whether its structure holds.
///
/// # Errors
/// `Storage` where it does not.
pub fn quick_check(db: &Connection) -> Sql<()> {
    let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Storage, "the store is damaged").with("sqlite", verdict).into())
}

fn set_up(db: &Connection) -> Sql<()> {
    db.busy_timeout(BUSY)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    // Without it SQLite compiles some statements anew for each value that is bound to them, in case an index over a part of
    // the rows were of use for that one.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    db.pragma_update(None, "trusted_schema", false)?;
    db.pragma_update(None, "cell_size_check", true)?;
    Ok(())
}

/// Turns the write-ahead log on. SQLite does not wait for other processes here, so this does.
fn write_ahead(db: &Connection) -> Sql<()> {
    const PAUSE: Duration = Duration::from_millis(5);
    let mut tries = BUSY.as_millis() / PAUSE.as_millis();
    loop {
        let mode = db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) if mode.eq_ignore_ascii_case("wal") => return Ok(()),
            Ok(mode) => {
                return Err(Error::new(ErrorKind::Storage, "the file system has no write-ahead log")
                    .with("journal", mode)
                    .into());
            }
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && tries > 0 => {
                tries -= 1;
                thread::sleep(PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn create(path: &Path) -> Sql<()> {
    let failed =
        |error: std::io::Error| Error::new(ErrorKind::Storage, "the store cannot be opened for writing").source(error);
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        create_folder(folder).map_err(failed)?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // SQLite gives its log and its shared memory the rights of the file.
        options.mode(0o600);
    }
    options.open(path).map_err(failed)?;
    Ok(())
}

fn create_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(folder)
}
