//! What entries wait for and that is not here.

use rusqlite::{Connection, OptionalExtension as _};
use talkbox_core::{Timestamp, sqlite::Sql};

use super::{blocks::cid_out, int, logs::Log};
use crate::orbitdb::Cid;

/// The first pause before a block that nobody had is asked for again; each further one is twice as long.
const FIRST_PAUSE: i64 = 60;
/// The longest pause: a peer that has it may be on the network for an hour a day.
const LONGEST_PAUSE: i64 = 3_600;
/// When a block is due that is invalid and stays so.
const NEVER: i64 = i64::MAX;

/// Notes that somebody waits for a block.
pub(super) fn want(db: &Connection, log: &Log, cid: &Cid) -> Sql<()> {
    let mut insert = db.prepare_cached("INSERT OR IGNORE INTO missing (log, cid) VALUES (?1, ?2)")?;
    insert.execute((log.number, cid.to_bytes()))?;
    Ok(())
}

/// Notes that a block is here.
pub(super) fn arrived(db: &Connection, log: &Log, cid: &Cid) -> Sql<()> {
    let mut delete = db.prepare_cached("DELETE FROM missing WHERE log = ?1 AND cid = ?2")?;
    delete.execute((log.number, cid.to_bytes()))?;
    Ok(())
}

/// What is worth asking for now.
pub(super) fn due(db: &Connection, log: &Log, limit: usize, now: Timestamp) -> Sql<Vec<Cid>> {
    let mut select = db.prepare_cached("SELECT cid FROM missing WHERE log = ?1 AND due <= ?2 ORDER BY due LIMIT ?3")?;
    let rows = select.query_map((log.number, int(now.secs()), int(limit as u64)), |row| row.get::<_, Vec<u8>>(0))?;
    rows.map(|cid| cid_out(&cid?)).collect()
}

/// Whether a block was asked for in vain lately, or is known to be invalid.
pub(super) fn is_put_off(db: &Connection, log: &Log, cid: &Cid, now: Timestamp) -> Sql<bool> {
    let mut select = db.prepare_cached("SELECT due > ?3 FROM missing WHERE log = ?1 AND cid = ?2")?;
    let row = (log.number, cid.to_bytes(), int(now.secs()));
    Ok(select.query_row(row, |row| row.get(0)).optional()?.unwrap_or(false))
}

/// Lets a block be asked for only after a while, twice as long every time.
pub(super) fn put_off(db: &Connection, log: &Log, cid: &Cid, now: Timestamp) -> Sql<()> {
    let mut update = db.prepare_cached(
        "UPDATE missing SET due = ?3 + min(?4 << min(tries, 16), ?5), tries = tries + 1
         WHERE log = ?1 AND cid = ?2 AND due < ?6",
    )?;
    update.execute((log.number, cid.to_bytes(), int(now.secs()), FIRST_PAUSE, LONGEST_PAUSE, NEVER))?;
    Ok(())
}

/// Lets blocks be asked for again now, as far as they may be valid: somebody may have them since.
pub(super) fn hurry(db: &Connection, log: &Log) -> Sql<()> {
    let mut update = db.prepare_cached("UPDATE missing SET due = 0 WHERE log = ?1 AND due < ?2")?;
    update.execute((log.number, NEVER))?;
    Ok(())
}

/// Lets a block not be asked for any more: it is known, and what it says is invalid.
pub(super) fn never(db: &Connection, log: &Log, cid: &Cid) -> Sql<()> {
    let mut update = db.prepare_cached("UPDATE missing SET due = ?3 WHERE log = ?1 AND cid = ?2")?;
    update.execute((log.number, cid.to_bytes(), NEVER))?;
    Ok(())
}

/// The same for what is here, except where entries wait for it as their identity.
pub(super) fn never_unless_identity(db: &Connection, log: &Log, cid: &Cid) -> Sql<()> {
    let mut update = db.prepare_cached(
        "UPDATE missing SET due = ?3 WHERE log = ?1 AND cid = ?2
         AND NOT EXISTS (SELECT 1 FROM entries WHERE waits_for = ?2 AND log = ?1 AND state = 0)",
    )?;
    update.execute((log.number, cid.to_bytes(), NEVER))?;
    Ok(())
}

/// Notes that an identity is here, where no entry waits for it any longer.
pub(super) fn settle(db: &Connection, log: &Log, identity: &Cid) -> Sql<()> {
    let mut delete = db.prepare_cached(
        "DELETE FROM missing WHERE log = ?1 AND cid = ?2
         AND NOT EXISTS (SELECT 1 FROM entries WHERE waits_for = ?2 AND log = ?1)",
    )?;
    delete.execute((log.number, identity.to_bytes()))?;
    Ok(())
}
