//! What an operator does with a store: back it up, check it, see what has expired. Beside a running node as well as
//! without one.

use std::{
    error::Error as StdError,
    path::{Path, PathBuf},
};

use talkbox_core::{
    Error, ErrorKind, EventId, Result, Timestamp,
    event::Event,
    sqlite::{is_damage, maintenance, storage},
};

use super::{
    hour,
    store::{AFTER_BACKUP, FILE, sound},
};

/// Faults of pages and indexes that a report tells.
const MAX_FAULTS: u32 = 20;
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
    let source = maintenance::open(&store_in(data)?)?;
    let mut events = 0;
    let bytes = maintenance::copy(&source, to, |copy| {
        copy.execute("INSERT OR REPLACE INTO meta VALUES (?1, x'01')", [AFTER_BACKUP])?;
        events = copy.query_row("SELECT count(*) FROM event", [], |row| row.get::<_, i64>(0))?.unsigned_abs();
        Ok(())
    })?;
    Ok(BackedUp { path: to.to_owned(), bytes, events })
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
    let conn = maintenance::open(file)?;
    let mut found = Verified { faults: maintenance::faults(&conn, MAX_FAULTS)?, ..Verified::default() };
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
    maintenance::open(&store_in(data)?)?
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
