//! Joining entries: what runs on the writer when something is taken into a log.
//!
//! An entry is joined when its signature holds and all entries that it names, in `next` and in `refs`, are joined: the
//! rule of the JavaScript library, whatever the order in which they come. One that cannot be joined yet waits for the
//! first of its links that is not, and for no other: when that one is joined, the links behind it are looked at. So
//! every link is looked at once and each entry has one place in the index of those that wait, also in a chain of
//! 100,000 that comes newest first. `next` is before `refs`, since in a chain it is joined last.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _};
use talkbox_core::{EnvelopeId, sqlite::Sql};

use super::{
    Access, MAX_MISSING,
    blocks::{cid_out, pack, unpack},
    connection, int,
    logs::Log,
    missing, nat,
};
use crate::orbitdb::Cid;

/// Entries that wait for the same one and are looked at together: their links may be many, and memory is not.
const WOKEN_AT_ONCE: usize = 256;
/// Entries that one turn of the writer joins: some 50 ms. What follows from them is noted, and done in further turns.
const JOINED_AT_ONCE: usize = 2_000;

/// Its identity is not here.
pub(super) const UNVERIFIED: i64 = 0;
/// Its signature holds.
pub(super) const WAITING: i64 = 1;
/// So do those of all its ancestors.
pub(super) const JOINED: i64 = 2;

/// An entry of the log that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) number: i64,
    pub(super) state: i64,
}

/// One transaction that takes entries into a log.
pub(super) struct Joining<'a> {
    pub(super) access: &'a Access<'a>,
    pub(super) log: Log,
    /// What was asked already: most links lead to entries that came together.
    pub(super) known: HashMap<Cid, Option<Seen>>,
    /// Mail that was found, and its places.
    pub(super) shown: Vec<(EnvelopeId, i64)>,
    /// What is worth fetching for the entries that came.
    pub(super) missing: Vec<Cid>,
    pub(super) heads_changed: bool,
    pub(super) changed: bool,
    pub(super) store_full: bool,
    /// How many more may be joined.
    left: usize,
    /// Entries that are joined, while those that wait for them were not looked at.
    postponed: Vec<Cid>,
}

impl<'a> Joining<'a> {
    pub(super) fn new(access: &'a Access<'a>, log: Log) -> Sql<Self> {
        Ok(Self {
            access,
            log,
            known: HashMap::new(),
            shown: Vec::new(),
            missing: Vec::new(),
            heads_changed: false,
            changed: false,
            store_full: connection::used(access.db)? >= access.limits.store_bytes,
            left: JOINED_AT_ONCE,
            postponed: Vec::new(),
        })
    }

    /// Goes on with what was postponed.
    pub(super) fn go_on(&mut self) -> Sql<()> {
        let db = self.access.db;
        let joined: Vec<Vec<u8>> = db
            .prepare_cached("SELECT cid FROM postponed WHERE log = ?1 LIMIT ?2")?
            .query_map((self.log.number, int(WOKEN_AT_ONCE as u64)), |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for cid in joined {
            db.prepare_cached("DELETE FROM postponed WHERE log = ?1 AND cid = ?2")?.execute((self.log.number, &cid))?;
            self.wake(cid_out(&cid)?)?;
        }
        Ok(())
    }

    /// Writes back what the log counts. Whether something was postponed.
    pub(super) fn finish(&mut self) -> Sql<bool> {
        let db = self.access.db;
        for cid in self.postponed.drain(..) {
            let mut insert = db.prepare_cached("INSERT OR IGNORE INTO postponed (log, cid) VALUES (?1, ?2)")?;
            insert.execute((self.log.number, cid.to_bytes()))?;
        }
        if self.changed {
            self.log.version += 1;
            self.log.save(db)?;
        }
        is_postponed(db, &self.log)
    }

    /// Does what follows from an entry being joined.
    pub(super) fn spread(&mut self, cid: Cid, next: &[Cid]) -> Sql<()> {
        self.heads_changed = true;
        next.iter().try_for_each(|named| self.no_longer_head(named))?;
        self.wake(cid)
    }

    /// Looks at all that wait for a joined entry, and at those that wait for them: one after the other, and never one
    /// within the other.
    fn wake(&mut self, first: Cid) -> Sql<()> {
        let mut joined = vec![first];
        while let Some(cid) = joined.pop() {
            if self.left == 0 {
                self.postponed.push(cid);
                continue;
            }
            let woken = self.waiting_for(&cid)?;
            if woken.len() == WOKEN_AT_ONCE {
                joined.push(cid);
            }
            for Waiter { number, cid, next, rest, size } in woken {
                let rest = unpack(&rest)?;
                if let Some(at) = self.first_unjoined(&rest)? {
                    self.wait(number, &rest[at], &rest[at + 1..])?;
                    continue;
                }
                self.join(number, cid, size)?;
                for named in unpack(&next)? {
                    self.no_longer_head(&named)?;
                }
                joined.push(cid);
                self.left = self.left.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// Marks an entry that waited as joined, and as a head: none that names it can have been joined before it.
    pub(super) fn join(&mut self, number: i64, cid: Cid, size: u64) -> Sql<()> {
        let sql = "UPDATE entries SET state = 2, head = 1, waits_for = NULL, rest = NULL WHERE number = ?1";
        self.access.db.prepare_cached(sql)?.execute([number])?;
        self.known.insert(cid, Some(Seen { number, state: JOINED }));
        self.heads_changed = true;
        self.no_longer_waits(size);
        Ok(())
    }

    pub(super) fn wait(&mut self, number: i64, cid: &Cid, rest: &[Cid]) -> Sql<()> {
        self.access
            .db
            .prepare_cached("UPDATE entries SET state = 1, waits_for = ?2, rest = ?3 WHERE number = ?1")?
            .execute((number, cid.to_bytes(), pack(rest)))?;
        self.want(cid)
    }

    pub(super) fn no_longer_waits(&mut self, size: u64) {
        self.changed = true;
        self.log.waiting = self.log.waiting.saturating_sub(1);
        self.log.waiting_bytes = self.log.waiting_bytes.saturating_sub(size);
    }

    fn no_longer_head(&mut self, cid: &Cid) -> Sql<()> {
        if let Some(Seen { number, .. }) = self.seen(cid)? {
            let sql = "UPDATE entries SET head = 0 WHERE number = ?1 AND head = 1";
            self.access.db.prepare_cached(sql)?.execute([number])?;
        }
        Ok(())
    }

    fn waiting_for(&self, cid: &Cid) -> Sql<Vec<Waiter>> {
        let mut select = self.access.db.prepare_cached(
            "SELECT e.number, b.cid, next, rest, length(b.bytes) FROM entries e JOIN blocks b ON b.number = e.number
             WHERE waits_for = ?1 AND state = 1 AND log = ?2 LIMIT ?3",
        )?;
        let limit = int(WOKEN_AT_ONCE as u64);
        let mut rows = select.query((cid.to_bytes(), self.log.number, limit))?;
        let mut waiters = Vec::new();
        while let Some(row) = rows.next()? {
            let cid: Vec<u8> = row.get(1)?;
            let (number, next, rest) = (row.get(0)?, row.get(2)?, row.get(3)?);
            waiters.push(Waiter { number, cid: cid_out(&cid)?, next, rest, size: nat(row.get(4)?) });
        }
        Ok(waiters)
    }

    pub(super) fn first_unjoined(&mut self, links: &[Cid]) -> Sql<Option<usize>> {
        for (at, link) in links.iter().enumerate() {
            if self.seen(link)?.is_none_or(|seen| seen.state != JOINED) {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Notes what an entry waits for, where it is not here.
    pub(super) fn want(&mut self, cid: &Cid) -> Sql<()> {
        match self.seen(cid)? {
            Some(_) => Ok(()),
            None => missing::want(self.access.db, &self.log, cid),
        }
    }

    /// Lists which links lead to what is not here, so that all of it can be fetched at once.
    pub(super) fn list_missing(&mut self, links: &[Cid]) -> Sql<()> {
        for link in links {
            if self.missing.len() >= MAX_MISSING {
                break;
            }
            if self.seen(link)?.is_none() && !missing::is_put_off(self.access.db, &self.log, link, self.access.now)? {
                self.missing.push(*link);
            }
        }
        Ok(())
    }

    pub(super) fn seen(&mut self, cid: &Cid) -> Sql<Option<Seen>> {
        if let Some(seen) = self.known.get(cid) {
            return Ok(*seen);
        }
        let mut select = self.access.db.prepare_cached(
            "SELECT e.number, state FROM blocks b JOIN entries e ON e.number = b.number WHERE cid = ?1 AND log = ?2",
        )?;
        let row = (cid.to_bytes(), self.log.number);
        let seen = select.query_row(row, |row| Ok(Seen { number: row.get(0)?, state: row.get(1)? })).optional()?;
        self.known.insert(*cid, seen);
        Ok(seen)
    }
}

/// Whether something of a log was postponed.
pub(super) fn is_postponed(db: &Connection, log: &Log) -> Sql<bool> {
    let mut select = db.prepare_cached("SELECT EXISTS (SELECT 1 FROM postponed WHERE log = ?1)")?;
    Ok(select.query_row([log.number], |row| row.get(0))?)
}

/// An entry that waits.
struct Waiter {
    number: i64,
    cid: Cid,
    next: Vec<u8>,
    rest: Vec<u8>,
    size: u64,
}
