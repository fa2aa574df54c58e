//! What a power failure leaves of a store, and a disk that fails.

use std::{fs, io, path::Path};

use rusqlite::Connection;

const DATABASE: &str = "node.sqlite3";
const LOG: &str = "node.sqlite3-wal";

/// The files of a store at the moment at which the power fails.
#[derive(Debug)]
pub(crate) struct Frozen(Vec<(&'static str, Option<Vec<u8>>)>);

impl Frozen {
    /// A node that syncs has everything of its log on the disk. Of one that does not, the log is gone: the worst case.
    pub(crate) fn take(folder: &Path, syncs: bool) -> Self {
        let read = |name: &'static str| (name, fs::read(folder.join(name)).ok());
        let log = if syncs { read(LOG) } else { (LOG, None) };
        Self(vec![read(DATABASE), log, ("node.sqlite3-shm", None)])
    }

    /// Puts the files back: a node that is dropped, and not killed, tidies up.
    pub(crate) fn restore(self, folder: &Path) -> io::Result<()> {
        for (name, bytes) in self.0 {
            match bytes {
                Some(bytes) => fs::write(folder.join(name), bytes)?,
                None => match fs::remove_file(folder.join(name)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                },
            }
        }
        Ok(())
    }
}

/// Lets no event be stored from now on, or again. The node sees what SQLite says where the disk fails.
pub(crate) fn fail(folder: &Path, fails: bool) -> rusqlite::Result<()> {
    if !folder.join(DATABASE).exists() {
        return Ok(());
    }
    let change = if fails {
        "CREATE TRIGGER IF NOT EXISTS failing BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
    } else {
        "DROP TRIGGER IF EXISTS failing"
    };
    let conn = Connection::open(folder.join(DATABASE))?;
    // A node that was killed while it made its store has no tables yet.
    let has_events = conn.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'event'")?.exists([])?;
    if has_events { conn.execute_batch(change) } else { Ok(()) }
}
