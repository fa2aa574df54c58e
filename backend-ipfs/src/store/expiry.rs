//! Dropping months whole. Nothing is removed from a log before: peers refuse an entry whose ancestors nobody has.

use rusqlite::OptionalExtension as _;
use talkbox_core::{Timestamp, envelope::DEFAULT_RETENTION, sqlite::Sql};

use super::{Access, blocks};
use crate::orbitdb::Month;

/// How long a month is kept after the last envelope in it has expired, in seconds.
const KEPT_AFTER: u64 = 31 * 86_400;
/// Rows that one turn of the writer removes: some 20 ms, so that nobody waits long behind it.
const AT_ONCE: i64 = 1_000;

/// When a month is dropped whose last envelope expires then. One without envelopes is kept as if one of its last second
/// had said nothing of its expiry: mail may still come to it.
fn dropped_at(month: Month, latest: Timestamp) -> Timestamp {
    let latest = if latest == Timestamp::default() { month.end().plus(DEFAULT_RETENTION) } else { latest };
    latest.max(month.end()).plus(KEPT_AFTER)
}

/// Lets go of the months that are over at this time: from then on they are not open.
pub(super) fn mark(access: &Access<'_>, now: Timestamp) -> Sql<usize> {
    let mut select = access.db.prepare_cached("SELECT log, month, latest FROM logs WHERE NOT gone")?;
    let mut rows = select.query([])?;
    let mut over = Vec::new();
    while let Some(row) = rows.next()? {
        let month: String = row.get(1)?;
        let Ok(month) = month.parse() else { continue };
        if dropped_at(month, Timestamp(super::nat(row.get(2)?))) <= now {
            over.push(row.get::<_, i64>(0)?);
        }
    }
    for log in &over {
        access.db.prepare_cached("UPDATE logs SET gone = 1 WHERE log = ?1")?.execute([log])?;
    }
    Ok(over.len())
}

/// Removes a portion of what is gone. Whether there may be more.
pub(super) fn remove_some(access: &Access<'_>) -> Sql<bool> {
    let db = access.db;
    let mut select = db.prepare_cached("SELECT log FROM logs WHERE gone LIMIT 1")?;
    let Some(log) = select.query_row([], |row| row.get::<_, i64>(0)).optional()? else { return Ok(false) };
    let numbers = |sql: &str| -> Sql<Vec<i64>> {
        let mut select = db.prepare_cached(sql)?;
        let rows = select.query_map((log, AT_ONCE), |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    };
    let entries = numbers("SELECT number FROM entries WHERE log = ?1 LIMIT ?2")?;
    for number in &entries {
        db.prepare_cached("DELETE FROM entries WHERE number = ?1")?.execute([number])?;
        db.prepare_cached("DELETE FROM blocks WHERE number = ?1")?.execute([number])?;
    }
    if !entries.is_empty() {
        return Ok(true);
    }
    let mail = numbers("SELECT seq FROM envelopes WHERE log = ?1 LIMIT ?2")?;
    for seq in &mail {
        db.prepare_cached("DELETE FROM envelopes WHERE seq = ?1")?.execute([seq])?;
    }
    let beside = numbers("SELECT block FROM companions WHERE log = ?1 LIMIT ?2")?;
    for block in &beside {
        blocks::leave_beside(db, log, *block)?;
    }
    if !mail.is_empty() || !beside.is_empty() {
        return Ok(true);
    }
    db.prepare_cached("DELETE FROM missing WHERE log = ?1")?.execute([log])?;
    db.prepare_cached("DELETE FROM postponed WHERE log = ?1")?.execute([log])?;
    db.prepare_cached("DELETE FROM logs WHERE log = ?1")?.execute([log])?;
    Ok(true)
}
