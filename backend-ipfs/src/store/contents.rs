//! All that a log consists of at one moment, for those who keep it whole; and when mail came into it.

use rusqlite::OptionalExtension as _;
use talkbox_core::{
    EnvelopeId,
    sqlite::{Sql, damaged},
};

use super::{Access, blocks::cid_out, logs::Log};
use crate::orbitdb::{Cid, LogAddress};

/// All blocks of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogContents {
    /// Its entries, also those that wait, and the blocks beside them: manifest, access controller, identities, and what
    /// else was put for it. In the order in which they came.
    pub(crate) blocks: Vec<Cid>,
    /// How many entries have a signature that holds.
    pub(crate) entries: u64,
    /// The number of the last mail in it, 0 without any.
    pub(crate) last: i64,
}

/// All blocks of a log.
pub(super) fn of_log(access: &Access<'_>, log: &Log) -> Sql<LogContents> {
    let mut last = access.db.prepare_cached("SELECT coalesce(max(seq), 0) FROM envelopes WHERE log = ?1")?;
    let last = last.query_row([log.number], |row| row.get(0))?;
    let mut select = access.db.prepare_cached(
        "SELECT cid FROM blocks WHERE number IN
         (SELECT number FROM entries WHERE log = ?1 UNION SELECT block FROM companions WHERE log = ?1) ORDER BY number",
    )?;
    let mut rows = select.query([log.number])?;
    let mut blocks = Vec::new();
    while let Some(row) = rows.next()? {
        blocks.push(cid_out(row.get_ref(0)?.as_blob().map_err(|_| damaged("blocks"))?)?);
    }
    Ok(LogContents { blocks, entries: log.entries, last })
}

/// In which log each of these is, and its number there; `None` for one that is not here.
pub(super) fn places(access: &Access<'_>, ids: &[EnvelopeId]) -> Sql<Vec<Option<(LogAddress, i64)>>> {
    let mut select = access
        .db
        .prepare_cached("SELECT address, seq FROM envelopes JOIN logs USING (log) WHERE id = ?1 AND NOT gone")?;
    let place = |id: &EnvelopeId| {
        let found = select.query_row([id.as_bytes()], |row| Ok((row.get::<_, String>(0)?, row.get(1)?))).optional()?;
        found.map(|(address, seq)| Ok((address.parse().map_err(|_| damaged("logs"))?, seq))).transpose()
    };
    ids.iter().map(place).collect()
}
