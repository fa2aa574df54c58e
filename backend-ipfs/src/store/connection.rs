//! Opening SQLite: the file and its rights, and the settings that the promises of the store rest on.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};
use talkbox_core::{Error, ErrorKind};

use super::{fault::Sql, nat};

/// How long a connection waits for another: the writer commits every few milliseconds.
const BUSY: Duration = Duration::from_secs(10);
/// More statements than the store has, so that each is compiled once for every connection.
const STATEMENTS: usize = 128;
/// Pages of the writer, in KiB: the indexes over the links of a log of 200,000 entries are 20 MiB, and what comes falls
/// anywhere in them.
const WRITER_CACHE: i64 = -16_384;
/// Pages of a reader, in KiB: the inner pages of the same indexes.
const READER_CACHE: i64 = -2_048;

/// Where a store lives.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In a file.
    File(PathBuf),
    /// In memory, and gone when it is closed.
    Memory,
}

/// The connection that writes. Creates the file, for its owner alone, and the folder that it is in.
pub(super) fn open_writer(place: &Place) -> Sql<Connection> {
    let db = match place {
        Place::File(path) => {
            create(path)?;
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?
        }
        Place::Memory => Connection::open_in_memory()?,
    };
    set_up(&db, WRITER_CACHE)?;
    Ok(db)
}

/// Settings that are written into the file: only once it is known to be ours.
pub(super) fn make_durable(db: &Connection, place: &Place) -> Sql<()> {
    if matches!(place, Place::File(_)) {
        // An entry has 1.5 to 3 KB: pages of 4 KiB would hold one or two and be half empty.
        db.pragma_update(None, "page_size", 8192)?;
        let mode: String = db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if !mode.eq_ignore_ascii_case("wal") {
            return Err(Error::new(ErrorKind::Storage, "the file system has no write-ahead log")
                .with("journal", mode)
                .into());
        }
    }
    // WAL with NORMAL loses acknowledged rows when the power fails; FULL does not.
    db.pragma_update(None, "synchronous", "FULL")?;
    // A log that a long read blew up gives its space back.
    db.pragma_update_and_check(None, "journal_size_limit", 64 * 1024 * 1024, |_| Ok(()))?;
    Ok(())
}

/// A connection that reads.
pub(super) fn open_reader(path: &Path) -> Sql<Connection> {
    // Not opened read-only: the last to leave a write-ahead log has to be able to clean it up.
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    set_up(&db, READER_CACHE)?;
    db.pragma_update(None, "query_only", true)?;
    Ok(db)
}

/// What the rows of a store take, in bytes.
pub(super) fn used(db: &Connection) -> Sql<u64> {
    // Not as tables of SQL: those compile each pragma anew at every turn.
    let pragma = |sql| -> rusqlite::Result<i64> { db.prepare_cached(sql)?.query_row([], |row| row.get(0)) };
    let pages = pragma("PRAGMA page_count")? - pragma("PRAGMA freelist_count")?;
    Ok(nat(pages.saturating_mul(pragma("PRAGMA page_size")?)))
}

fn set_up(db: &Connection, cache: i64) -> Sql<()> {
    db.busy_timeout(BUSY)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    // Without it SQLite compiles some statements anew for each value that is bound to them, in case an index over a part of
    // the rows were of use for that one.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    db.pragma_update(None, "trusted_schema", false)?;
    db.pragma_update(None, "cell_size_check", true)?;
    db.pragma_update(None, "cache_size", cache)?;
    Ok(())
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
