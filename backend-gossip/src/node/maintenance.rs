//! What an operator does with a store: back it up, check it, see what has expired. Beside a running node as well as
//! without one.

use std::{
    error::Error as StdError,
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, backup::Backup};
use talkbox_core::{Error, ErrorKind, EventId, Result, Timestamp, event::Event};
use url::Url;

use super::{
    hour, private,
    store::{AFTER_BACKUP, FILE, is_of_disk, sound, storage},
};

/// Pages that a backup copies before the node may write again: 4 MiB, a few milliseconds.
const PAGES: std::ffi::c_int = 1_024;
/// The pause between two of these steps.
const PAUSE: Duration = Duration::from_millis(5);
/// Damaged events that a report names.
const MAX_NAMED: usize = 100;

/// What was backed up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackedUp {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// How many events are in it.
    pub events: u64,
}

/// Copies the store in this folder, as it is at one moment, into a file. The node goes on meanwhile.
///
/// Put into a folder as `node.sqlite3`, the file is a store. A node that opens it gives it a new epoch, so that clients
/// and peers notice that the order of arrival is another. The key of the node is not in it.
///
/// # Errors
/// `InvalidInput` where the file is there already, `NotFound` where there is no store; `Storage` where the copy fails: then nothing is left
/// behind.
pub fn backup(data: &Path, to: &Path) -> Result<BackedUp> {
    let source = open(&store_in(data)?)?;
    // Reserves the name, so that nothing is overwritten.
    private::options().create_new(true).open(to).map_err(|error| {
        let (kind, why) = match error.kind() {
            std::io::ErrorKind::AlreadyExists => (ErrorKind::InvalidInput, "there is a file of that name already"),
            _ => (ErrorKind::Storage, "the file of the backup cannot be made"),
        };
        Error::new(kind, why).with("path", to.display()).source(error)
    })?;
    let copied = copy(&source, to);
    if copied.is_err() {
        let _nothing_to_remove = std::fs::remove_file(to);
    }
    copied
}

fn copy(source: &Connection, to: &Path) -> Result<BackedUp> {
    let mut target = Connection::open(to).map_err(storage)?;
    Backup::new(source, &mut target)
        .and_then(|backup| backup.run_to_completion(PAGES, PAUSE, None))
        .map_err(storage)?;
    let events = target
        .execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;")
        .and_then(|()| target.execute("INSERT OR REPLACE INTO meta VALUES (?1, x'01')", [AFTER_BACKUP]))
        .and_then(|_| target.query_row("SELECT count(*) FROM event", [], |row| row.get::<_, i64>(0)))
        .map_err(storage)?;
    let check: String = target.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(storage)?;
    if check != "ok" {
        return Err(Error::new(ErrorKind::Storage, "the store is damaged: `talkbox node verify` says where")
            .with("check", check));
    }
    target.close().map_err(|(_, error)| storage(error))?;
    let unread = |error| Error::new(ErrorKind::Storage, "the backup cannot be read").source(error);
    let file = File::open(to).map_err(unread)?;
    file.sync_all().map_err(unread)?;
    Ok(BackedUp { path: to.to_owned(), bytes: file.metadata().map_err(unread)?.len(), events: events.unsigned_abs() })
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// How many events were looked at.
    pub events: u64,
    /// How many of them are not what was stored: their id is not their hash, their signature does not hold, or their expiry
    /// is another.
    pub damaged: u64,
    /// The first hundred of these.
    pub named: Vec<EventId>,
    /// What SQLite finds wrong with its pages and indexes.
    pub faults: Vec<String>,
}

impl Verified {
    /// Whether all is well.
    pub const fn is_sound(&self) -> bool {
        self.damaged == 0 && self.faults.is_empty()
    }
}

/// Checks the store in this folder: every page and index, and of every event the id and the signature. It takes about
/// 60 µs an event. It changes nothing: what is damaged a running node fetches from its peers, and indexes it makes anew.
///
/// # Errors
/// `NotFound` where there is no store; `Storage` where it cannot be read for other reasons than that it is damaged.
pub fn verify(data: &Path) -> Result<Verified> {
    verify_file(&store_in(data)?)
}

/// As [`verify`], of the file of a store, such as a backup.
///
/// # Errors
/// As those.
pub fn verify_file(file: &Path) -> Result<Verified> {
    if !file.is_file() {
        return Err(Error::new(ErrorKind::NotFound, "there is no such file").with("file", file.display()));
    }
    match check(file) {
        Err(error) if is_damage(&error) => {
            let why = StdError::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Ok(Verified { faults: vec![why], ..Verified::default() })
        }
        checked => checked,
    }
}

fn check(file: &Path) -> Result<Verified> {
    let conn = open(file)?;
    let mut found = Verified::default();
    let mut check = conn.prepare("PRAGMA integrity_check(20)").map_err(storage)?;
    let faults = check.query_map([], |row| row.get::<_, String>(0)).map_err(storage)?;
    found.faults = faults.collect::<rusqlite::Result<_>>().map_err(storage)?;
    found.faults.retain(|fault| fault != "ok");
    let mut rows = conn
        .prepare(
            "SELECT e.id, e.author, e.created_at, e.kind, m.key, e.tags, e.content, e.form, e.sig, e.expires
             FROM event e NOT INDEXED LEFT JOIN mailbox m ON m.id = e.mailbox",
        )
        .map_err(storage)?;
    let mut rows = rows.query([]).map_err(storage)?;
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => break,
            // What is behind it cannot be reached.
            Err(error) => {
                found.faults.push(error.to_string());
                break;
            }
        };
        found.events += 1;
        if sound(row).is_none_or(|json| Event::parse(&json).is_err()) {
            found.damaged += 1;
            if found.named.len() < MAX_NAMED
                && let Ok(id) = row.get(0)
            {
                found.named.push(EventId::from_bytes(id));
            }
        }
    }
    Ok(found)
}

/// What has expired and is still on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collectable {
    /// How many events.
    pub events: u64,
    /// How many bytes their rows have.
    pub bytes: u64,
}

/// What the node would remove from the store in this folder at this time. A running node does that every minute.
///
/// # Errors
/// `NotFound` where there is no store; `Storage` where it cannot be read.
pub fn collectable(data: &Path, now: Timestamp) -> Result<Collectable> {
    let until = i64::try_from(hour(now).secs()).unwrap_or(i64::MAX);
    open(&store_in(data)?)?
        .query_row(
            "SELECT count(*), coalesce(sum(length(tags) + length(content) + 150), 0) FROM event
             WHERE expires / 3600 <= ?1 / 3600 AND expires <= ?1",
            [until],
            |row| {
                Ok(Collectable {
                    events: row.get::<_, i64>(0)?.unsigned_abs(),
                    bytes: row.get::<_, i64>(1)?.unsigned_abs(),
                })
            },
        )
        .map_err(storage)
}

/// The store in this folder.
///
/// # Errors
/// `NotFound` where there is none.
fn store_in(data: &Path) -> Result<PathBuf> {
    let path = data.join(FILE);
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::new(ErrorKind::NotFound, "there is no store of a node in this folder").with("folder", data.display()))
}

/// Opens a store to read it, also one that is where nothing can be written.
fn open(path: &Path) -> Result<Connection> {
    // Not read-only: the log of a node that was killed has to be read, too.
    match opened(path, OpenFlags::SQLITE_OPEN_READ_WRITE) {
        Err(error) if error.sqlite_error_code().is_some_and(is_of_disk) => open_as_it_is(path, error),
        other => other.map_err(|error| storage(error).with("path", path.display())),
    }
}

/// Opens a store beside which SQLite can make no files, because of which it failed before. It does without where no log
/// has to be read.
fn open_as_it_is(path: &Path, before: rusqlite::Error) -> Result<Connection> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let log = PathBuf::from(log);
    if log.metadata().is_ok_and(|log| log.len() > 0) {
        return Err(Error::new(
            ErrorKind::Storage,
            "the disk takes nothing, and what the node wrote last is in a log that is read only where something can be \
             written: copy the folder to another disk, and name that",
        )
        .with("log", log.display())
        .source(before));
    }
    let whole = std::path::absolute(path).ok().and_then(|path| Url::from_file_path(path).ok());
    let Some(mut url) = whole else { return Err(storage(before).with("path", path.display())) };
    url.set_query(Some("immutable=1"));
    opened(Path::new(url.as_str()), OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)
        .map_err(|error| storage(error).with("path", path.display()))
}

fn opened(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF;")?;
    // The files beside it are looked for only when something is read.
    conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(conn)
}

/// Whether it is the store that is wrong, and not what is around it.
fn is_damage(error: &Error) -> bool {
    let code =
        StdError::source(error).and_then(|source| source.downcast_ref()).and_then(rusqlite::Error::sqlite_error_code);
    // The last is what SQLite says where tables or columns are missing.
    matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown))
}
