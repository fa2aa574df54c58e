//! The connections of the local store: what they have beside the settings of every store.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _};

use super::{Access, Shared, schema};
use crate::{
    Timestamp,
    sqlite::{self, Place, Sql},
};

impl sqlite::Schema for Shared {
    type Access<'a> = Access<'a>;

    const THREAD: &'static str = "talkbox-store";
    /// Each of them holds at most a few envelopes or a page of them.
    const MAX_WAITING: usize = 256;
    /// They take well under a millisecond each, so that more would only cost memory.
    const MAX_READERS: u32 = 4;

    fn open_writer(&self, place: &Place) -> Sql<Connection> {
        let mut db = sqlite::open_writer(place)?;
        set_up(&db)?;
        schema::refuse_foreign(&db)?;
        sqlite::make_durable(&db, place)?;
        schema::prepare(&mut db, &self.rest)?;
        check_weekly(&db, self.clock.now())?;
        Ok(db)
    }

    fn open_reader(&self, path: &Path) -> Sql<Connection> {
        let db = sqlite::open_reader(path)?;
        set_up(&db)?;
        Ok(db)
    }

    fn access<'a>(&'a self, db: &'a Connection) -> Access<'a> {
        Access { db, rest: &self.rest, now: self.clock.now(), process: self.process }
    }
}

fn set_up(db: &Connection) -> Sql<()> {
    db.pragma_update(None, "foreign_keys", true)?;
    db.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
    Ok(())
}

/// Reads through the file and says whether its structure holds, where that was not done for a week: it takes a
/// second for each few hundred megabytes, which not every command can wait for.
fn check_weekly(db: &Connection, now: Timestamp) -> Sql<()> {
    const CHECKED: &str = "store.checked_at";
    const WEEK: u64 = 7 * 86_400;
    let checked = db.query_row("SELECT value FROM settings WHERE name = ?1", [CHECKED], |row| row.get(0)).optional()?;
    let checked = checked.map_or(0, u64::from_le_bytes);
    // A time ahead of the clock says nothing.
    if (now.minus(WEEK).secs()..=now.secs()).contains(&checked) && checked > 0 {
        return Ok(());
    }
    sqlite::quick_check(db)?;
    let noted = db.execute(
        "INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (CHECKED, now.secs().to_le_bytes()),
    );
    if let Err(error) = noted {
        // On a full disk mail can still be read; the file is then checked again by whoever opens it next.
        tracing::warn!(%error, "the check of the store could not be noted");
    }
    Ok(())
}
