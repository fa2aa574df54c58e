//! A log as a set of entries that two holders compare, and what one gives the other.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use rusqlite::Connection;
use talkbox_core::{
    EventId, Timestamp,
    anti_entropy::{Item, SortedItems},
    sqlite::{Sql, damaged},
};

use super::{blocks, logs::Log, nat};
use crate::orbitdb::{Block, Entry, cid_of_digest};

/// Sets that are kept for the next round of a session: those of the largest logs have 8 MB each.
const MAX_SETS: usize = 4;

/// The entries of a log whose signature holds, joined or waiting: each by the time of its clock, 0 where that is no time,
/// and the SHA-256 of its block.
pub(crate) type EntrySet = Arc<SortedItems>;

/// The sets that were made last.
#[derive(Debug, Default)]
pub(super) struct Sets(Mutex<Vec<Made>>);

#[derive(Debug)]
struct Made {
    log: i64,
    version: u64,
    set: EntrySet,
}

impl Sets {
    /// The set of a log as it is now.
    pub(super) fn of(&self, db: &Connection, log: &Log) -> Sql<EntrySet> {
        let known = |sets: &mut Vec<Made>| {
            let at = sets.iter().position(|made| made.log == log.number && made.version == log.version)?;
            let made = sets.remove(at);
            let set = Arc::clone(&made.set);
            sets.push(made);
            Some(set)
        };
        if let Some(set) = known(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(set);
        }
        let set = EntrySet::new(read(db, log)?.into());
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sets.retain(|made| made.log != log.number);
        if sets.len() >= MAX_SETS {
            sets.remove(0);
        }
        sets.push(Made { log: log.number, version: log.version, set: Arc::clone(&set) });
        Ok(set)
    }
}

fn read(db: &Connection, log: &Log) -> Sql<Vec<Item>> {
    let mut select =
        db.prepare_cached("SELECT time, digest FROM entries WHERE log = ?1 AND state > 0 ORDER BY time, digest")?;
    let mut rows = select.query([log.number])?;
    let mut items = Vec::with_capacity(usize::try_from(log.entries).unwrap_or(0));
    while let Some(row) = rows.next()? {
        items.push(Item::new(Timestamp(nat(row.get(0)?)), EventId::from_bytes(row.get(1)?))?);
    }
    Ok(items)
}

/// The entries with these digests, as far as they are in the set of the log, each behind the identity of its writer. No
/// block is there twice.
pub(super) fn bundle(db: &Connection, log: &Log, digests: &[[u8; 32]]) -> Sql<Vec<Block>> {
    let mut select = db.prepare_cached(
        "SELECT b.bytes FROM blocks b JOIN entries e ON e.number = b.number WHERE b.cid = ?1 AND log = ?2 AND state > 0",
    )?;
    let (mut bundle, mut within) = (Vec::new(), HashSet::new());
    for digest in digests {
        let cid = cid_of_digest(digest);
        let mut rows = select.query((cid.to_bytes(), log.number))?;
        let Some(row) = rows.next()? else { continue };
        if !within.insert(cid) {
            continue;
        }
        let bytes = Bytes::from(row.get::<_, Vec<u8>>(0)?);
        let identity = Entry::decode(bytes.clone()).map_err(|_| damaged("blocks"))?.identity;
        if within.insert(identity)
            && let Some(bytes) = blocks::get(db, &identity)?
        {
            bundle.push(Block { cid: identity, bytes });
        }
        bundle.push(Block { cid, bytes });
    }
    Ok(bundle)
}
