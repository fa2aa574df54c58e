//! A search for all that some filters match. It goes on value by value and can be put aside between two of them, so that
//! a request of many values does not keep a reader from others.

use std::{collections::HashSet, sync::Arc};

use rusqlite::{Connection, Result, types::Value};
use talkbox_core::EventId;

use super::{
    apply::signed,
    query::{Key, Plan, Reader, last_seq},
};
use crate::node::{
    filter::Filter,
    shares::{Claim, Full},
};

/// Ids that are claimed together: a lock for each would cost as much as to read it.
const CLAIMED_TOGETHER: usize = 64;

/// What becomes of the matches.
pub(crate) trait Collect: Send + 'static {
    /// Begins with a filter. How many of its newest matches are enough; `None` for all.
    fn begin(&mut self, filter: &Filter) -> Option<usize>;
    /// Takes a match. Whether the search goes on.
    fn take(&mut self, key: Key) -> bool;
    /// The filter has no more.
    fn end(&mut self) {}
    /// Nothing older than this is of use any longer.
    fn oldest(&mut self) -> u64 {
        0
    }
}

/// A search under way.
pub(crate) struct Search<C> {
    filters: Arc<[Filter]>,
    reader: Reader,
    /// The last place in the order of arrival when it began. What comes later is not found, however long it takes.
    last: Option<i64>,
    /// The filter that is next.
    filter: usize,
    scan: Option<Scan>,
    found: C,
}

/// What one filter matches.
struct Scan {
    plan: Plan,
    /// The value that is next.
    next: usize,
    met: HashSet<i64>,
}

/// How far a scan came.
enum Came {
    ToTheEnd,
    ToAPause,
    /// The collector wants no more.
    FarEnough,
}

impl<C: Collect> Search<C> {
    pub(crate) fn new(filters: Arc<[Filter]>, reader: Reader, found: C) -> Self {
        Self { filters, reader, last: None, filter: 0, scan: None, found }
    }

    /// Searches on until the pause is due, which is asked between two values. Whether it is done.
    ///
    /// # Errors
    /// Those of SQLite.
    pub(crate) fn go_on(&mut self, conn: &Connection, is_pause: impl Fn() -> bool) -> Result<bool> {
        let last = match self.last {
            Some(last) => last,
            None => *self.last.insert(last_seq(conn)?),
        };
        while let Some(filter) = self.filters.get(self.filter) {
            let scan = match self.scan.take() {
                Some(scan) => Some(scan),
                None => Plan::new(conn, filter, &self.reader, last, self.found.begin(filter))?.map(Scan::new),
            };
            if let Some(mut scan) = scan {
                match scan.go_on(conn, &mut self.found, &is_pause)? {
                    Came::ToTheEnd => {}
                    Came::FarEnough => return Ok(true),
                    Came::ToAPause => {
                        self.scan = Some(scan);
                        return Ok(false);
                    }
                }
            }
            self.found.end();
            self.filter += 1;
        }
        Ok(true)
    }

    /// What was found, and the last place in the order of arrival that was looked at.
    pub(crate) fn found(self) -> (C, i64) {
        (self.found, self.last.unwrap_or(0))
    }
}

impl Scan {
    fn new(plan: Plan) -> Self {
        Self { plan, next: 0, met: HashSet::new() }
    }

    fn go_on(&mut self, conn: &Connection, found: &mut impl Collect, is_pause: impl Fn() -> bool) -> Result<Came> {
        let plan = &self.plan;
        let mut statement = conn.prepare_cached(&plan.sql)?;
        let first = plan.drivers.first().map_or(0, Vec::len);
        // Bound once: to bind all of them for each value of the driver would cost their product.
        for (at, value) in plan.values.iter().enumerate() {
            statement.raw_bind_parameter(first + at + 1, value)?;
        }
        while let Some(driver) = plan.drivers.get(self.next) {
            for (at, value) in driver.iter().enumerate() {
                statement.raw_bind_parameter(at + 1, value)?;
            }
            let (number, since) = plan.since;
            statement.raw_bind_parameter(number, Value::Integer(signed(since.max(found.oldest()))))?;
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next()? {
                let key = Key {
                    seq: row.get(0)?,
                    created_at: row.get::<_, i64>(1)?.unsigned_abs(),
                    id: EventId::from_bytes(row.get(2)?),
                };
                if (!plan.may_repeat || self.met.insert(key.seq)) && !found.take(key) {
                    return Ok(Came::FarEnough);
                }
            }
            self.next += 1;
            if self.next < plan.drivers.len() && is_pause() {
                return Ok(Came::ToAPause);
            }
        }
        Ok(Came::ToTheEnd)
    }
}

/// At most so many of each filter, and fewer where it says so: newest first, each once.
pub(crate) struct Newest {
    most: usize,
    /// What is enough of the filter at hand, its keys, and how old the last of them is once there are enough.
    limit: usize,
    keys: Vec<Key>,
    oldest: u64,
    all: Vec<Key>,
}

impl Newest {
    pub(crate) const fn new(most: usize) -> Self {
        Self { most, limit: 0, keys: Vec::new(), oldest: 0, all: Vec::new() }
    }

    pub(crate) fn keys(mut self) -> Vec<Key> {
        self.all.sort_unstable_by_key(Key::order);
        self.all.dedup();
        self.all
    }

    fn cut(&mut self) {
        self.keys.sort_unstable_by_key(Key::order);
        self.keys.truncate(self.limit);
    }
}

impl Collect for Newest {
    fn begin(&mut self, filter: &Filter) -> Option<usize> {
        let asked = filter.limit.map(|limit| usize::try_from(limit).unwrap_or(self.most));
        self.limit = asked.map_or(self.most, |limit| limit.min(self.most));
        self.oldest = 0;
        Some(self.limit)
    }

    fn take(&mut self, key: Key) -> bool {
        self.keys.push(key);
        true
    }

    fn end(&mut self) {
        self.cut();
        self.all.append(&mut self.keys);
    }

    /// Each value gives up to the limit: without this, a thousand values would give a thousand times as many.
    fn oldest(&mut self) -> u64 {
        if self.keys.len() > self.limit {
            self.cut();
            self.oldest = self.keys.last().map_or(0, |key| key.created_at);
        }
        self.oldest
    }
}

/// How many events there are, up to so many.
pub(crate) struct Count {
    most: usize,
    seen: HashSet<i64>,
}

impl Count {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, seen: HashSet::new() }
    }

    /// `None` for more than so many.
    pub(crate) fn number(&self) -> Option<usize> {
        Some(self.seen.len()).filter(|count| *count <= self.most)
    }
}

impl Collect for Count {
    fn begin(&mut self, _: &Filter) -> Option<usize> {
        None
    }

    fn take(&mut self, key: Key) -> bool {
        self.seen.insert(key.seq);
        self.seen.len() <= self.most
    }
}

/// Times and ids, up to so many and as many as the claim can grow to.
pub(crate) struct Set {
    most: usize,
    items: Vec<(u64, EventId)>,
    claim: Claim,
    short: Option<Short>,
}

/// Why a set is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Short {
    /// It has more than so many.
    TooMany,
    /// There is no room for it.
    NoRoom(Full),
}

impl Set {
    pub(crate) const fn new(most: usize, claim: Claim) -> Self {
        Self { most, items: Vec::new(), claim, short: None }
    }

    /// The items, with the claim on what they take.
    ///
    /// # Errors
    /// Where they are not all.
    pub(crate) fn items(self) -> std::result::Result<(Vec<(u64, EventId)>, Claim), Short> {
        self.short.map_or(Ok((self.items, self.claim)), Err)
    }
}

impl Collect for Set {
    fn begin(&mut self, _: &Filter) -> Option<usize> {
        None
    }

    fn take(&mut self, key: Key) -> bool {
        if self.items.len() >= self.most {
            self.short = Some(Short::TooMany);
        } else if self.items.len().is_multiple_of(CLAIMED_TOGETHER)
            && let Err(full) = self.claim.grow(CLAIMED_TOGETHER)
        {
            self.short = Some(Short::NoRoom(full));
        } else {
            self.items.push((key.created_at, key.id));
        }
        self.short.is_none()
    }
}
