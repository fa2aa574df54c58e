//! What was asked of each service, kept on disk: a request that is forgotten is paid for, and never ended.
//!
//! Of each log and service there are at most two pins. The one that is *held* is known to be pinned, and stays until the
//! one that is *wanted* is pinned, too: so mail that is stored there does not hang on whether a later root can be fetched.
//! What is held no longer is *left* to be deleted.

use rusqlite::{Connection, OptionalExtension as _, Row, RowIndex, params, types::Type};
use talkbox_core::Timestamp;

use super::api::{RequestId, State};
use crate::orbitdb::Cid;

/// Most rows that are read at once: eight services, a hundred mailboxes, and six months of each are half of it.
const MAX_ROWS: i64 = 10_000;
/// Most requests that are deleted in one round: the others are next.
const MAX_LEFT: i64 = 64;

/// The tables of this module; they are made when they are not there.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS pins (
        service TEXT NOT NULL,
        log TEXT NOT NULL,
        -- 1: known to be pinned; 0: asked for.
        held INTEGER NOT NULL,
        root BLOB NOT NULL,
        -- Absent until the service has taken it.
        request TEXT,
        status TEXT NOT NULL,
        -- What the service says of it, or what went wrong.
        details TEXT,
        -- The number of the last mail below the root, and how many entries there are.
        covered INTEGER NOT NULL,
        entries INTEGER NOT NULL,
        -- How often it was asked for, when last, and when it is looked at next.
        attempts INTEGER NOT NULL,
        tried_at INTEGER NOT NULL,
        due_at INTEGER NOT NULL,
        PRIMARY KEY (service, log, held)
    ) STRICT, WITHOUT ROWID;
    -- Requests that are to be deleted.
    CREATE TABLE IF NOT EXISTS pins_left (
        service TEXT NOT NULL,
        request TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        due_at INTEGER NOT NULL,
        PRIMARY KEY (service, request)
    ) STRICT, WITHOUT ROWID;
    -- The nodes above the blocks of a log. Different roots may have nodes in common.
    CREATE TABLE IF NOT EXISTS pins_nodes (
        root BLOB NOT NULL,
        node BLOB NOT NULL,
        log TEXT NOT NULL,
        PRIMARY KEY (root, node)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS pins_nodes_of_log ON pins_nodes (log);
";

/// One pin, as far as it is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PinRow {
    /// The root.
    pub(crate) root: Cid,
    /// The request, once the service has taken one. While another root is to take its place, it is that of the former.
    pub(crate) id: Option<RequestId>,
    /// How far it is.
    pub(crate) state: State,
    /// What the service says of it, or what went wrong.
    pub(crate) details: Option<String>,
    /// The number of the last mail below the root.
    pub(crate) covered: i64,
    /// How many entries there are below the root.
    pub(crate) entries: u64,
    /// How often it was asked for.
    pub(crate) attempts: u32,
    /// When it was asked for last.
    pub(crate) tried_at: Timestamp,
    /// When it is looked at next.
    pub(crate) due_at: Timestamp,
}

impl PinRow {
    /// Whether it was given up, or not even taken. Before the first answer it is neither.
    pub(super) const fn is_failed(&self) -> bool {
        (matches!(self.state, State::Failed) || self.id.is_none()) && self.details.is_some()
    }
}

/// The pins of one log at one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogPins {
    /// Known to be pinned.
    pub(crate) held: Option<PinRow>,
    /// Asked for, or about to be.
    pub(crate) wanted: Option<PinRow>,
}

/// A request that is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// The request.
    pub(crate) id: RequestId,
    /// How often that was tried.
    pub(crate) attempts: u32,
    /// When it is tried next.
    pub(crate) due_at: Timestamp,
}

/// Makes the tables.
pub(super) fn prepare(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(TABLES)
}

/// The pins of one service, log by log.
pub(super) fn of_service(db: &Connection, service: &str) -> rusqlite::Result<Vec<(String, LogPins)>> {
    let mut query = db.prepare_cached("SELECT * FROM pins WHERE service = ?1 ORDER BY log, held LIMIT ?2")?;
    let rows = query.query_map(params![service, MAX_ROWS], |row| {
        Ok((row.get::<_, String>("log")?, row.get::<_, bool>("held")?, read(row)?))
    })?;
    let mut logs: Vec<(String, LogPins)> = Vec::new();
    for row in rows {
        let (log, held, pin) = row?;
        if logs.last().is_none_or(|(last, _)| *last != log) {
            logs.push((log, LogPins::default()));
        }
        if let Some((_, pins)) = logs.last_mut() {
            *(if held { &mut pins.held } else { &mut pins.wanted }) = Some(pin);
        }
    }
    Ok(logs)
}

/// The pins of one log at one service.
pub(super) fn of_log(db: &Connection, service: &str, log: &str) -> rusqlite::Result<LogPins> {
    let mut query = db.prepare_cached("SELECT * FROM pins WHERE service = ?1 AND log = ?2 AND held = ?3")?;
    let held = query.query_row(params![service, log, true], read).optional()?;
    let wanted = query.query_row(params![service, log, false], read).optional()?;
    Ok(LogPins { held, wanted })
}

/// Keeps the pins of one log as they are now. Requests that were there and are no longer are left to be deleted.
pub(super) fn keep(db: &Connection, service: &str, log: &str, pins: &LogPins, now: Timestamp) -> rusqlite::Result<()> {
    let before = of_log(db, service, log)?;
    for (held, row) in [(true, &pins.held), (false, &pins.wanted)] {
        match row {
            Some(row) => write(db, service, log, held, row)?,
            None => {
                let sql = "DELETE FROM pins WHERE service = ?1 AND log = ?2 AND held = ?3";
                db.prepare_cached(sql)?.execute(params![service, log, held])?;
            }
        }
    }
    let stays =
        |id: &RequestId| [&pins.held, &pins.wanted].into_iter().flatten().any(|row| row.id.as_ref() == Some(id));
    for id in [before.held, before.wanted].into_iter().flatten().filter_map(|row| row.id) {
        if !stays(&id) {
            leave(db, service, &Left { id, attempts: 0, due_at: now })?;
        }
    }
    Ok(())
}

/// Remembers, or remembers anew, that a request is to be deleted.
pub(super) fn leave(db: &Connection, service: &str, left: &Left) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO pins_left (service, request, attempts, due_at) VALUES (?1, ?2, ?3, ?4)";
    let due = number(left.due_at.secs());
    db.prepare_cached(sql)?.execute(params![service, left.id.as_str(), left.attempts, due])?;
    Ok(())
}

/// Requests of a service that are to be deleted, those first that are due first.
pub(super) fn left(db: &Connection, service: &str) -> rusqlite::Result<Vec<Left>> {
    let sql = "SELECT request, attempts, due_at FROM pins_left WHERE service = ?1 ORDER BY due_at LIMIT ?2";
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map(params![service, MAX_LEFT], |row| {
        Ok(Left { id: id(row, 0)?.ok_or_else(damaged)?, attempts: row.get(1)?, due_at: time(row, 2)? })
    })?;
    rows.collect()
}

/// Forgets a request that was deleted.
pub(super) fn forget_left(db: &Connection, service: &str, id: &RequestId) -> rusqlite::Result<()> {
    let sql = "DELETE FROM pins_left WHERE service = ?1 AND request = ?2";
    db.prepare_cached(sql)?.execute(params![service, id.as_str()]).map(drop)
}

/// Remembers which nodes a root has.
pub(super) fn keep_nodes(db: &Connection, log: &str, root: &Cid, nodes: &[Cid]) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached("INSERT OR IGNORE INTO pins_nodes (root, node, log) VALUES (?1, ?2, ?3)")?;
    for node in nodes {
        insert.execute(params![root.to_bytes(), node.to_bytes(), log])?;
    }
    Ok(())
}

/// Nodes of a log that are of no root but those that nobody is asked to pin any more.
pub(super) fn stale_nodes(db: &Connection, log: &str) -> rusqlite::Result<Vec<Cid>> {
    let sql = "SELECT DISTINCT node FROM pins_nodes WHERE log = ?1 AND node NOT IN
        (SELECT node FROM pins_nodes WHERE log = ?1 AND root IN (SELECT root FROM pins WHERE log = ?1))";
    db.prepare_cached(sql)?.query_map([log], |row| cid(row, 0))?.collect()
}

/// Forgets the roots of a log that nobody is asked to pin any more.
pub(super) fn forget_stale(db: &Connection, log: &str) -> rusqlite::Result<()> {
    let sql = "DELETE FROM pins_nodes WHERE log = ?1 AND root NOT IN (SELECT root FROM pins WHERE log = ?1)";
    db.prepare_cached(sql)?.execute([log]).map(drop)
}

/// Every node of a log's roots: they are no blocks of the log itself.
pub(super) fn nodes(db: &Connection, log: &str) -> rusqlite::Result<Vec<Cid>> {
    let mut query = db.prepare_cached("SELECT DISTINCT node FROM pins_nodes WHERE log = ?1")?;
    query.query_map([log], |row| cid(row, 0))?.collect()
}

fn write(db: &Connection, service: &str, log: &str, held: bool, row: &PinRow) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO pins
        (service, log, held, root, request, status, details, covered, entries, attempts, tried_at, due_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    db.prepare_cached(sql)?.execute(params![
        service,
        log,
        held,
        row.root.to_bytes(),
        row.id.as_ref().map(RequestId::as_str),
        row.state.as_str(),
        row.details,
        row.covered,
        number(row.entries),
        row.attempts,
        number(row.tried_at.secs()),
        number(row.due_at.secs()),
    ])?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<PinRow> {
    let status = row.get_ref("status")?.as_str()?;
    Ok(PinRow {
        root: cid(row, "root")?,
        id: id(row, "request")?,
        state: State::parse(status).ok_or_else(damaged)?,
        details: row.get("details")?,
        covered: row.get("covered")?,
        entries: u64::try_from(row.get::<_, i64>("entries")?).unwrap_or(0),
        attempts: row.get("attempts")?,
        tried_at: time(row, "tried_at")?,
        due_at: time(row, "due_at")?,
    })
}

fn cid(row: &Row<'_>, at: impl RowIndex) -> rusqlite::Result<Cid> {
    Cid::try_from(row.get_ref(at)?.as_blob()?).map_err(|_| damaged())
}

fn id(row: &Row<'_>, at: impl RowIndex) -> rusqlite::Result<Option<RequestId>> {
    let Some(text) = row.get_ref(at)?.as_str_or_null()? else { return Ok(None) };
    RequestId::parse(text).map(Some).ok_or_else(damaged)
}

fn time(row: &Row<'_>, at: impl RowIndex) -> rusqlite::Result<Timestamp> {
    Ok(Timestamp(u64::try_from(row.get::<_, i64>(at)?).unwrap_or(0)))
}

/// Numbers of SQLite have 63 bits; what has more is as good as the largest.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn damaged() -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, "the row of a pin is damaged".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "/orbitdb/zdpuAtest";

    fn db() -> Connection {
        let db = Connection::open_in_memory().expect("opens");
        prepare(&db).expect("prepares");
        prepare(&db).expect("again");
        db
    }

    fn root(byte: u8) -> Cid {
        crate::orbitdb::cid_of_digest(&[byte; 32])
    }

    fn row(byte: u8, id: Option<&str>) -> PinRow {
        PinRow {
            root: root(byte),
            id: id.map(|id| RequestId::parse(id).expect("an id")),
            state: State::Pinning,
            details: Some("words".to_owned()),
            covered: 7,
            entries: 3,
            attempts: 2,
            tried_at: Timestamp(10),
            due_at: Timestamp(u64::MAX),
        }
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let db = db();
        let pins = LogPins { held: Some(row(1, Some("a"))), wanted: Some(row(2, None)) };
        keep(&db, "one", LOG, &pins, Timestamp(5)).expect("keeps");
        let mut read = of_log(&db, "one", LOG).expect("reads");
        // Times are kept with 63 bits.
        read.held.iter_mut().chain(&mut read.wanted).for_each(|row| row.due_at = Timestamp(u64::MAX));
        assert_eq!(read, pins);
        assert_eq!(of_log(&db, "two", LOG).expect("reads"), LogPins::default());
        keep(&db, "one", "/orbitdb/zdpuAother", &LogPins { held: None, wanted: Some(row(3, None)) }, Timestamp(5))
            .expect("keeps");
        let logs: Vec<_> = of_service(&db, "one").expect("reads");
        assert_eq!(logs.iter().map(|(log, _)| log.as_str()).collect::<Vec<_>>(), ["/orbitdb/zdpuAother", LOG]);
        assert!(logs[1].1.held.is_some() && logs[0].1.held.is_none());
    }

    #[test]
    fn a_request_that_is_no_longer_named_is_left_to_be_deleted() {
        let db = db();
        let keep = |held: Option<&str>, wanted: Option<&str>| {
            let pins = LogPins { held: held.map(|id| row(1, Some(id))), wanted: wanted.map(|id| row(2, Some(id))) };
            keep(&db, "one", LOG, &pins, Timestamp(5)).expect("keeps");
            left(&db, "one").expect("reads").into_iter().map(|left| left.id.to_string()).collect::<Vec<_>>()
        };
        assert!(keep(None, Some("a")).is_empty());
        assert!(keep(Some("a"), Some("b")).is_empty());
        assert_eq!(keep(Some("b"), None), ["a"]);
        assert_eq!(keep(None, None), ["a", "b"]);
        assert!(left(&db, "two").expect("reads").is_empty());
        let first = left(&db, "one").expect("reads").remove(0);
        leave(&db, "one", &Left { attempts: 1, due_at: Timestamp(9), ..first.clone() }).expect("anew");
        assert_eq!(left(&db, "one").expect("reads").iter().map(|left| left.due_at.secs()).collect::<Vec<_>>(), [5, 9]);
        forget_left(&db, "one", &first.id).expect("forgets");
        assert_eq!(left(&db, "one").expect("reads").len(), 1);
    }

    #[test]
    fn nodes_go_with_their_last_root() {
        let db = db();
        keep_nodes(&db, LOG, &root(1), &[root(1), root(8), root(9)]).expect("keeps");
        keep_nodes(&db, LOG, &root(2), &[root(2), root(9)]).expect("keeps");
        keep_nodes(&db, "/orbitdb/zdpuAother", &root(3), &[root(3)]).expect("keeps");
        keep(&db, "one", LOG, &LogPins { held: Some(row(1, Some("a"))), wanted: Some(row(2, None)) }, Timestamp(5))
            .expect("keeps");
        assert!(stale_nodes(&db, LOG).expect("reads").is_empty());
        forget_stale(&db, LOG).expect("forgets none");
        assert_eq!(nodes(&db, LOG).expect("reads").len(), 4);
        keep(&db, "one", LOG, &LogPins { held: Some(row(2, Some("b"))), wanted: None }, Timestamp(5)).expect("keeps");
        assert_eq!(stale_nodes(&db, LOG).expect("reads"), [root(1), root(8)]);
        forget_stale(&db, LOG).expect("forgets one");
        assert_eq!(nodes(&db, LOG).expect("reads"), [root(2), root(9)]);
        assert_eq!(nodes(&db, "/orbitdb/zdpuAother").expect("reads"), [root(3)]);
    }

    #[test]
    fn a_damaged_row_is_an_error() {
        for (column, value) in [("root", "x'00'"), ("status", "'done'"), ("request", "'..'")] {
            let db = db();
            keep(&db, "one", LOG, &LogPins { held: Some(row(1, Some("a"))), wanted: None }, Timestamp(5))
                .expect("keeps");
            db.execute_batch(&format!("UPDATE pins SET {column} = {value}")).expect("damages");
            assert!(of_log(&db, "one", LOG).is_err() && of_service(&db, "one").is_err(), "{column}");
        }
    }
}
