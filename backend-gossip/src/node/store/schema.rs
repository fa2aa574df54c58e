//! The schema of the store, and how a connection to it is set up.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, config::DbConfig};
use talkbox_core::{Error, ErrorKind, Result, sqlite::storage};

use super::{query::last_seq, row::guarded};

/// The schema that this code reads and writes, in `user_version`.
const VERSION: i64 = MIGRATIONS.len() as i64;
/// How long a connection waits for a lock of another. The writer holds one for a few milliseconds.
const BUSY: Duration = Duration::from_secs(5);
/// Prepared statements that a connection keeps: the writer has about fifteen, a reader a few per shape of filter.
const STATEMENTS: usize = 64;

/// What leads from each version to the next; the first from nothing.
const MIGRATIONS: [&str; 5] = [SCHEMA, MESH, VANISHED, GUARDS, LEAN];

/// Version 1.
///
/// `seq` is the order of arrival; `AUTOINCREMENT` never gives a number twice, so that a cursor stays true when rows
/// go. What is kept only for the few other kinds than gift wraps is in partial indexes and in `tag`.
const SCHEMA: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE mailbox (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    events INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL,
    author BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    mailbox INTEGER REFERENCES mailbox (id),
    expires INTEGER NOT NULL,
    form INTEGER NOT NULL,
    tags BLOB NOT NULL,
    sig BLOB NOT NULL,
    content BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX event_id ON event (id);
CREATE INDEX event_mailbox ON event (mailbox, created_at, id, kind, expires);
CREATE INDEX event_time ON event (created_at, id);
CREATE INDEX event_expires ON event (expires);
CREATE INDEX event_author ON event (substr(author, 1, 8));
CREATE INDEX event_kind ON event (kind, created_at, id) WHERE kind <> 1059;
CREATE UNIQUE INDEX event_replaceable ON event (author, kind) WHERE kind >= 10000;
CREATE TABLE tag (
    letter TEXT NOT NULL,
    value TEXT NOT NULL,
    seq INTEGER NOT NULL REFERENCES event (seq),
    PRIMARY KEY (letter, value, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX tag_seq ON tag (seq);
-- Requests to delete what is not here: they decide when it arrives.
CREATE TABLE deletion (
    target BLOB NOT NULL,
    author BLOB NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (target, author)
) STRICT, WITHOUT ROWID;
CREATE INDEX deletion_until ON deletion (until);
-- What was here and has been deleted, so that it does not come back.
CREATE TABLE deleted (
    id BLOB PRIMARY KEY,
    created_at INTEGER NOT NULL,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX deleted_until ON deleted (until);
";

/// Version 2: ids of which there is no body: of what was deleted, so that it does not come back, and of what was refused to
/// a peer, so that it is not fetched again; the order of arrival within a mailbox, for listing; and where an event came
/// from, since only what clients brought is pushed on to peers; and the peers.
const MESH: &str = "
ALTER TABLE event ADD COLUMN origin INTEGER NOT NULL DEFAULT 0;
CREATE INDEX event_arrival ON event (mailbox);
CREATE TABLE gone (
    id BLOB PRIMARY KEY,
    created_at INTEGER NOT NULL,
    until INTEGER NOT NULL,
    why INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX gone_until ON gone (until);
INSERT INTO gone SELECT id, created_at, until, 0 FROM deleted;
DROP TABLE deleted;
-- How far each peer has acknowledged what was pushed, and the key that it showed first.
CREATE TABLE peer (
    url TEXT PRIMARY KEY,
    key BLOB,
    acknowledged INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Version 3: keys that asked to vanish, and up to which time nothing of theirs is taken.
const VANISHED: &str = "
CREATE TABLE vanished (
    key BLOB PRIMARY KEY,
    before INTEGER NOT NULL,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Version 4: each signature has a guard, which [`migrate`] puts there, since SQLite cannot compute it.
const GUARDS: &str = "";

/// Version 5: less to write for each event. Every index but the one by arrival has its entries in no order of time, so
/// that each event dirties a page of each, and to log and move these pages costs more than to store the event; the
/// smaller an index, the more entries of one commit share a page. So none but the unique one holds more than it is
/// searched by: 10 bytes for the mailbox and time, 8 for the author. Of what expires only the hour is kept, which is all
/// that the collector asks, and puts what came together on few pages. By time alone only those may ask who may read
/// everything; see [`index_by_time`].
const LEAN: &str = "
DROP INDEX event_mailbox;
DROP INDEX event_time;
DROP INDEX event_expires;
DROP INDEX event_author;
CREATE INDEX event_mailbox ON event (mailbox, created_at);
CREATE INDEX event_expires ON event (expires / 3600);
CREATE INDEX event_author ON event (substr(author, 1, 4));
";

/// How much the writer promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// What is acknowledged survives a power failure.
    Full,
    /// The store goes with the node.
    Temporary,
}

/// Opens the writer's connection: makes the schema or checks it. An earlier state of the store that was put back, as a
/// backup or where it was further before, gets the fresh epoch.
///
/// # Errors
/// `Storage` where the file cannot be opened, is damaged, or was written by a newer version.
pub(crate) fn open_writer(
    path: &Path,
    durability: Durability,
    epoch: [u8; 8],
    was_further: impl FnOnce(u64, i64) -> bool,
) -> Result<(Connection, u64)> {
    open_checked(path, durability, epoch, was_further)
        .map_err(|error| error.op("open the store").with("path", path.display()))
}

fn open_checked(
    path: &Path,
    durability: Durability,
    fresh: [u8; 8],
    was_further: impl FnOnce(u64, i64) -> bool,
) -> Result<(Connection, u64)> {
    let mut conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE).map_err(storage)?;
    let version: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(storage)?;
    if version > VERSION {
        return Err(Error::new(ErrorKind::Storage, "the store was written by a newer version of Talkbox")
            .with("found", version)
            .with("known", VERSION));
    }
    // 16,000 pages, 64 MB: a page that many commits change is moved into the database once for all of them. To read so
    // long a log after a failure takes some 0.1 s. The cache of 8 MB holds the pages that events of some days change.
    let synchronous = if durability == Durability::Full { "FULL" } else { "OFF" };
    conn.execute_batch(&format!(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = {synchronous};
         PRAGMA wal_autocheckpoint = 16000;
         PRAGMA cache_size = -8000;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA foreign_keys = ON;"
    ))
    .map_err(storage)?;
    let check: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(storage)?;
    if check != "ok" {
        return Err(Error::new(
            ErrorKind::Storage,
            "the store is damaged: restore it, or move it away to start afresh",
        )
        .with("check", check));
    }
    if version < VERSION {
        migrate(&mut conn, version, fresh).map_err(storage)?;
    }
    let mut epoch = epoch_of(&conn)?;
    let last = last_seq(&conn).map_err(storage)?;
    if is_restored(&conn).map_err(storage)? || was_further(epoch, last) {
        renew(&mut conn, fresh).map_err(storage)?;
        epoch = u64::from_be_bytes(fresh);
        tracing::warn!("the store is an earlier state that was put back: it has a new epoch");
    }
    Ok((conn, epoch))
}

/// Makes the index that whoever may read everything is answered from, or removes it where nobody may.
///
/// # Errors
/// `Storage`.
pub(crate) fn index_by_time(conn: &Connection, is_read_by_all: bool) -> Result<()> {
    let change = if is_read_by_all {
        "CREATE INDEX IF NOT EXISTS event_time ON event (created_at)"
    } else {
        "DROP INDEX IF EXISTS event_time"
    };
    conn.execute_batch(change).map_err(storage)
}

fn epoch_of(conn: &Connection) -> Result<u64> {
    let epoch: Vec<u8> =
        conn.query_row("SELECT value FROM meta WHERE name = 'epoch'", [], |row| row.get(0)).map_err(storage)?;
    let epoch = <[u8; 8]>::try_from(epoch).map_err(|_| Error::new(ErrorKind::Storage, "the store has no epoch"))?;
    Ok(u64::from_be_bytes(epoch))
}

/// Brings the store to this version, all or nothing.
fn migrate(conn: &mut Connection, from: i64, epoch: [u8; 8]) -> rusqlite::Result<()> {
    let tx = conn.transaction()?;
    let done = usize::try_from(from).unwrap_or(0);
    for migration in &MIGRATIONS[done..] {
        tx.execute_batch(migration)?;
    }
    if from < 4 {
        guard_signatures(&tx)?;
    }
    if from == 0 {
        tx.execute("INSERT INTO meta VALUES ('epoch', ?1)", [&epoch[..]])?;
    }
    tx.pragma_update(None, "user_version", VERSION)?;
    tx.commit()
}

fn guard_signatures(tx: &Connection) -> rusqlite::Result<()> {
    let mut rows = tx.prepare("SELECT seq, id, sig FROM event")?;
    let mut put = tx.prepare("UPDATE event SET sig = ?2 WHERE seq = ?1")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let (place, id, sig): (i64, [u8; 32], [u8; 64]) = (row.get(0)?, row.get(1)?, row.get(2)?);
        put.execute((place, &guarded(&id, &sig)[..]))?;
    }
    Ok(())
}

/// What a backup has in `meta`, so that whoever opens it knows that it is one.
pub(crate) const AFTER_BACKUP: &str = "after_backup";

fn is_restored(conn: &Connection) -> rusqlite::Result<bool> {
    conn.prepare("SELECT 1 FROM meta WHERE name = ?1")?.exists([AFTER_BACKUP])
}

/// Gives a store that was put back a new epoch: places in its order of arrival are given anew, so that those that were
/// given after the backup mean nothing. What peers had acknowledged they may have lost meanwhile as well, which comparing
/// finds out.
fn renew(conn: &mut Connection, epoch: [u8; 8]) -> rusqlite::Result<()> {
    let tx = conn.transaction()?;
    tx.execute("UPDATE meta SET value = ?1 WHERE name = 'epoch'", [&epoch[..]])?;
    tx.execute("DELETE FROM meta WHERE name = ?1", [AFTER_BACKUP])?;
    tx.commit()
}

/// Opens a connection that only reads.
///
/// # Errors
/// `Storage`.
pub(crate) fn open_reader(path: &Path) -> Result<Connection> {
    let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(storage)?;
    conn.execute_batch("PRAGMA query_only = ON;").map_err(storage)?;
    Ok(conn)
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(BUSY)?;
    // Without it SQLite prepares some statements anew for each value that is bound to them, in case another plan were better
    // for that one; to read a row by its place or id then costs twice as much.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(conn)
}
