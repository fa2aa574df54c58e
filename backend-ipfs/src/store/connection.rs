//! The connections of the store: what they have beside the settings of every store.

use std::path::Path;

use rusqlite::Connection;
use talkbox_core::sqlite::{self, Place, Schema, Sql};

use super::{Access, Shared, nat, schema};

/// Pages of the writer, in KiB: the indexes over the links of a log of 200,000 entries are 20 MiB, and what comes falls
/// anywhere in them.
const WRITER_CACHE: i64 = -16_384;
/// Pages of a reader, in KiB: the inner pages of the same indexes.
const READER_CACHE: i64 = -2_048;

impl Schema for Shared {
    type Access<'a> = Access<'a>;

    const THREAD: &'static str = "ipfs-store";
    /// Each of them holds at most a portion of entries.
    const MAX_WAITING: usize = 64;
    /// As many as a small machine has cores. One may be busy with a whole set while the other answers.
    const MAX_READERS: u32 = 2;

    fn open_writer(&self, place: &Place) -> Sql<Connection> {
        let mut db = sqlite::open_writer(place)?;
        db.pragma_update(None, "cache_size", WRITER_CACHE)?;
        schema::refuse_foreign(&db)?;
        sqlite::make_durable(&db, place)?;
        schema::prepare(&mut db)?;
        Ok(db)
    }

    fn open_reader(&self, path: &Path) -> Sql<Connection> {
        let db = sqlite::open_reader(path)?;
        db.pragma_update(None, "cache_size", READER_CACHE)?;
        Ok(db)
    }

    fn access<'a>(&'a self, db: &'a Connection) -> Access<'a> {
        Access { db, now: self.clock.now(), limits: &self.limits }
    }
}

/// What the rows of a store take, in bytes.
pub(super) fn used(db: &Connection) -> Sql<u64> {
    // Not as tables of SQL: those compile each pragma anew at every turn.
    let pragma = |sql| -> rusqlite::Result<i64> { db.prepare_cached(sql)?.query_row([], |row| row.get(0)) };
    let pages = pragma("PRAGMA page_count")? - pragma("PRAGMA freelist_count")?;
    Ok(nat(pages.saturating_mul(pragma("PRAGMA page_size")?)))
}
