//! Going through a log from its heads, newest first: the order of the JavaScript library's iterator.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashSet},
};

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::{
    blocks::{self, unpack},
    int,
    logs::Log,
};
use crate::orbitdb::{Block, Cid, cid_of_digest};
use talkbox_core::sqlite::Sql;

/// An entry on the way, greatest first: by the time of its clock, the id of its clock, and its link. The library leaves
/// entries with the same clock as they came, so that two replicas may differ.
#[derive(PartialEq, Eq)]
pub(super) struct Step {
    time: u64,
    clock: String,
    digest: [u8; 32],
    number: i64,
    next: Vec<u8>,
}

impl Ord for Step {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.time, &self.clock, &self.digest).cmp(&(other.time, &other.clock, &other.digest))
    }
}

impl PartialOrd for Step {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Step {
    /// The link to it.
    pub(super) fn cid(&self) -> Cid {
        cid_of_digest(&self.digest)
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            time: super::nat(row.get(0)?),
            clock: row.get(1)?,
            digest: row.get(2)?,
            number: row.get(3)?,
            next: row.get(4)?,
        })
    }
}

/// A walk: what is to be visited, and what was put there once.
pub(super) struct Walk<'a> {
    db: &'a Connection,
    log: i64,
    ahead: BinaryHeap<Step>,
    seen: HashSet<i64>,
}

impl<'a> Walk<'a> {
    /// From all heads.
    #[cfg(any(test, feature = "bench"))]
    pub(super) fn from_heads(db: &'a Connection, log: &Log) -> Sql<Self> {
        let mut walk = Self { db, log: log.number, ahead: BinaryHeap::new(), seen: HashSet::new() };
        let mut select =
            db.prepare_cached("SELECT time, clock, digest, number, next FROM entries WHERE log = ?1 AND head = 1")?;
        for step in select.query_map([log.number], Step::read)? {
            walk.put(step?);
        }
        Ok(walk)
    }

    /// From these entries, as far as they are joined.
    pub(super) fn from(db: &'a Connection, log: &Log, links: &[Cid]) -> Sql<Self> {
        let mut walk = Self { db, log: log.number, ahead: BinaryHeap::new(), seen: HashSet::new() };
        links.iter().try_for_each(|link| walk.add(link))?;
        Ok(walk)
    }

    fn add(&mut self, link: &Cid) -> Sql<()> {
        let mut select = self.db.prepare_cached(
            "SELECT time, clock, digest, e.number, next FROM blocks b JOIN entries e ON e.number = b.number
             WHERE cid = ?1 AND log = ?2 AND state = 2",
        )?;
        if let Some(step) = select.query_row((link.to_bytes(), self.log), Step::read).optional()? {
            self.put(step);
        }
        Ok(())
    }

    fn put(&mut self, step: Step) {
        if self.seen.insert(step.number) {
            self.ahead.push(step);
        }
    }

    /// The next entry; `None` when all have been visited.
    pub(super) fn next(&mut self) -> Sql<Option<Step>> {
        let Some(step) = self.ahead.pop() else { return Ok(None) };
        for link in unpack(&step.next)? {
            self.add(&link)?;
        }
        Ok(Some(step))
    }
}

/// The first so many entries of a log in the order of the JavaScript library's iterator.
#[cfg(any(test, feature = "bench"))]
pub(super) fn traverse(db: &Connection, log: &Log, limit: usize) -> Sql<Vec<Block>> {
    let mut walk = Walk::from_heads(db, log)?;
    let mut blocks = Vec::new();
    while blocks.len() < limit
        && let Some(step) = walk.next()?
    {
        blocks.push(blocks::by_number(db, step.number)?);
    }
    Ok(blocks)
}

/// Whether an entry is joined.
pub(super) fn is_joined(db: &Connection, log: &Log, cid: &Cid) -> Sql<bool> {
    let mut select = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM blocks b JOIN entries e ON e.number = b.number
                        WHERE b.cid = ?1 AND log = ?2 AND state = 2)",
    )?;
    Ok(select.query_row((cid.to_bytes(), log.number), |row| row.get(0))?)
}

/// A head of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The link to it.
    pub(crate) cid: Cid,
    /// The time of its clock.
    pub(crate) time: u64,
    /// The block.
    pub(crate) bytes: bytes::Bytes,
}

/// The greatest heads of what is joined.
pub(super) fn heads(db: &Connection, log: &Log, limit: usize) -> Sql<Vec<Head>> {
    let mut select = db.prepare_cached(
        "SELECT number, time FROM entries WHERE log = ?1 AND head = 1 ORDER BY time DESC, digest DESC LIMIT ?2",
    )?;
    let rows = select.query_map((log.number, int(limit as u64)), |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.map(|row| {
        let (number, time) = row?;
        let Block { cid, bytes } = blocks::by_number(db, number)?;
        Ok(Head { cid, time: super::nat(time), bytes })
    })
    .collect()
}

/// The newest entries by the time of their clocks, joined or not, without going through the log.
#[cfg(test)]
pub(super) fn newest(db: &Connection, log: &Log, limit: usize) -> Sql<Vec<Block>> {
    let mut select = db.prepare_cached(
        "SELECT number FROM entries WHERE log = ?1 AND state > 0 ORDER BY time DESC, digest DESC LIMIT ?2",
    )?;
    let numbers = select.query_map((log.number, int(limit as u64)), |row| row.get(0))?;
    numbers.map(|number| blocks::by_number(db, number?)).collect()
}
