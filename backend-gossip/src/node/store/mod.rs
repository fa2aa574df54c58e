//! The store: SQLite in WAL mode, one thread that writes, a few threads that read.

mod apply;
mod arrivals;
mod brought;
mod disk;
mod empty;
mod full;
mod heal;
mod known;
mod leaving;
mod mark;
mod pages;
mod peers;
mod place;
mod query;
mod readers;
mod rot;
mod row;
mod schema;
mod scrub;
mod search;
#[cfg(test)]
mod tests;
mod turns;
mod vanish;
mod walk;
mod writer;

use std::{
    fs::File,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
    time::{Duration, Instant},
};

use self::{
    apply::Quota,
    mark::Mark,
    place::Place,
    query::At,
    readers::Readers,
    schema::{Durability, index_by_time, open_writer},
    search::Search,
    writer::{Kept, Running},
};
pub(crate) use self::{
    arrivals::{ArrivalPage, Arrivals, Portion},
    disk::explained,
    heal::sound,
    query::{MailState, Reader, Stored},
    rot::Rot,
    row::Packed,
    schema::AFTER_BACKUP,
    scrub::Scrubbed,
    search::{Collect, Count, Set, Short},
    writer::{Followers, Writer},
};
use super::{
    addresses::Party,
    config::Limits,
    context::Work,
    filter::Filter,
    mesh::PeerRow,
    planted::{Defect, Planted},
};
use rusqlite::Connection;
use talkbox_core::{
    EventId, MailboxId, Result, Timestamp,
    anti_entropy::{IdSet, SortedItems},
    sqlite::storage,
};

/// How long a search reads before others have their turn, if it can be put aside. Far more than a usual one takes, and
/// still little to wait for.
const SLICE: Duration = Duration::from_millis(20);

/// The file of the store, in its folder.
pub(crate) const FILE: &str = "node.sqlite3";

/// The store of one node.
#[derive(Debug)]
pub(crate) struct Store {
    writer: Writer,
    /// The ids that count as held between nodes: all that is stored, and what was refused to peers.
    held: Arc<RwLock<IdSet>>,
    readers: Arc<Readers>,
    /// What is not what was stored.
    rot: Arc<Rot>,
    epoch: u64,
    mark: Mark,
    running: Mutex<Option<Running>>,
    limits: Limits,
    planted: Planted,
    #[cfg(feature = "defects")]
    syncs: bool,
    /// Held, so that no second node opens the same store.
    lock: File,
}

impl Store {
    /// Opens the store in a directory, or a temporary one. Blocks.
    ///
    /// # Errors
    /// `Storage` where the directory cannot be used, is in use, or holds a damaged or newer store.
    pub(crate) fn open(
        directory: Option<&Path>,
        epoch: [u8; 8],
        limits: &Limits,
        followers: Followers,
        is_read_by_all: bool,
        work: Work,
        planted: Planted,
    ) -> Result<Self> {
        let place = Arc::new(Place::new(directory)?);
        let lock = place.lock()?;
        if planted.is(Defect::WipeOnCrash) {
            for name in ["node.sqlite3", "node.sqlite3-wal"] {
                let _missing = std::fs::remove_file(place.path().join(name));
            }
        }
        let path = place.file()?;
        let durability = if planted.is(Defect::NoSync) { Durability::Temporary } else { place.durability() };
        let mark = Mark::of(place.path(), &path);
        let (conn, epoch) = open_writer(&path, durability, epoch, |epoch, last| mark.is_another(epoch, last))?;
        index_by_time(&conn, is_read_by_all)?;
        note_mark(&mark, epoch, query::last_seq(&conn).map_err(storage)?);
        #[cfg(feature = "defects")]
        let syncs = conn.query_row("PRAGMA synchronous", [], |row| row.get(0)).is_ok_and(|level: i64| level >= 2);
        let rot = Arc::new(Rot::new(Arc::clone(&followers.metrics)));
        let readers = Readers::start(&path, &place, work, Arc::clone(&rot))?;
        let held = Arc::new(RwLock::new(query::held(&conn).map_err(storage)?));
        let rests = vanish::rests(&conn).map_err(storage)?;
        rests.iter().for_each(|rest| rot.leaving().add(rest.key, rest.before));
        let kept = Kept { conn, rests, held: Arc::clone(&held), rot: Arc::clone(&rot) };
        let (writer, running) = Writer::start(kept, Quota::new(limits), followers, work, planted)?;
        Ok(Self {
            writer,
            held,
            readers: Arc::new(readers),
            rot,
            epoch,
            mark,
            running: Mutex::new(Some(running)),
            limits: limits.clone(),
            planted,
            #[cfg(feature = "defects")]
            syncs,
            lock,
        })
    }

    /// The ids that count as held between nodes.
    pub(crate) fn held(&self) -> RwLockReadGuard<'_, IdSet> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ids that count as held, for those who look again and again.
    pub(crate) const fn held_set(&self) -> &Arc<RwLock<IdSet>> {
        &self.held
    }

    /// The ids of a mailbox's gift wraps, for its owner.
    ///
    /// # Errors
    /// `Storage`, `Timeout`, `Closed`.
    pub(crate) async fn mail_of(&self, mailbox: MailboxId, party: Party, now: Timestamp) -> Result<SortedItems> {
        let rot = Arc::clone(&self.rot);
        self.read(party, move |conn| query::mail_of(conn, mailbox, now, &rot)).await
    }

    /// What tells whether the gift wraps of a mailbox are the same as before.
    ///
    /// # Errors
    /// `Storage`, `Timeout`, `Closed`.
    pub(crate) async fn mail_state(&self, mailbox: MailboxId, party: Party) -> Result<MailState> {
        let rotten = self.rot.len();
        self.read(party, move |conn| query::mail_state(conn, mailbox, rotten)).await
    }

    pub(crate) const fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Random, made with the store: a place in the order of arrival means something only together with it.
    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Searches as long as it takes, a slice at a time. What was found, and the last place in the order of arrival that
    /// was looked at.
    ///
    /// # Errors
    /// `Storage`, `Timeout`, `Closed`.
    pub(crate) async fn search<C: Collect>(&self, filters: Arc<[Filter]>, reader: Reader, into: C) -> Result<(C, i64)> {
        let party = reader.party;
        let mut search = Search::new(filters, reader, into);
        // Only what it takes of a reader counts, so that a busy node does not fail those who wait.
        let mut left = Duration::from_secs(self.limits.query_timeout);
        loop {
            let slice = move |conn: &Connection| {
                let begun = Instant::now();
                let is_done = search.go_on(conn, || begun.elapsed() >= SLICE)?;
                Ok((search, is_done, begun.elapsed()))
            };
            let (so_far, is_done, took) = self.readers.read(party, left, slice).await?;
            if is_done {
                return Ok(so_far.found());
            }
            left = left.checked_sub(took).ok_or_else(readers::too_long)?;
            search = so_far;
        }
    }

    /// A page of what arrived, in the order of arrival.
    ///
    /// # Errors
    /// `Storage`, `Timeout`, `Closed`.
    pub(crate) async fn arrivals(
        &self,
        of: Arrivals,
        portion: Portion,
        party: Party,
        now: Timestamp,
    ) -> Result<ArrivalPage> {
        let (planted, rot) = (self.planted, Arc::clone(&self.rot));
        self.read(party, move |conn| arrivals::page(conn, of, portion, now, planted, &rot)).await
    }

    /// Whether a commit waits until the disk has it.
    #[cfg(feature = "defects")]
    pub(crate) const fn syncs(&self) -> bool {
        self.syncs
    }

    /// The last place in the order of arrival that was given.
    ///
    /// # Errors
    /// `Storage`, `Timeout`, `Closed`.
    pub(crate) async fn last(&self, party: Party) -> Result<i64> {
        self.read(party, query::last_seq).await
    }

    /// Until when each of these is held, if it is. Each is read and its id checked: who is told that something is held
    /// relies on it.
    ///
    /// # Errors
    /// `Storage`, `Timeout`, `Closed`.
    pub(crate) async fn held_until(
        &self,
        ids: Arc<[EventId]>,
        party: Party,
        now: Timestamp,
    ) -> Result<Vec<Option<Timestamp>>> {
        let rot = Arc::clone(&self.rot);
        let until = move |conn: &Connection, id: &EventId| {
            query::stored(conn, At::Id(id), now, &rot).map(|found| found.map(|event| event.expires))
        };
        self.read(party, move |conn| ids.iter().map(|id| until(conn, id)).collect()).await
    }

    /// What is stored under these ids from the one at this place on: so many bytes, and at least one id; and how many ids
    /// that took.
    ///
    /// # Errors
    /// `Storage`, `Timeout`, `Closed`.
    pub(crate) async fn named(
        &self,
        ids: Arc<[EventId]>,
        from: usize,
        bytes: usize,
        party: Party,
        now: Timestamp,
    ) -> Result<(Vec<Stored>, usize)> {
        let rot = Arc::clone(&self.rot);
        let part = move |conn: &Connection| {
            let (mut found, mut size, mut taken) = (Vec::new(), 0, 0);
            for id in ids.get(from..).unwrap_or_default() {
                taken += 1;
                if let Some(event) = query::stored(conn, At::Id(id), now, &rot)? {
                    size += event.json.len();
                    found.push(event);
                }
                if size >= bytes {
                    break;
                }
            }
            Ok((found, taken))
        };
        self.read(party, part).await
    }

    /// Those of these ids of which nothing is known: neither stored nor gone.
    ///
    /// # Errors
    /// `Storage`, `Timeout`, `Closed`.
    pub(crate) async fn unknown(&self, ids: Vec<EventId>, party: Party) -> Result<Vec<EventId>> {
        self.read(party, move |conn| peers::unknown(conn, ids)).await
    }

    /// What is stored under these ids and is not about to be pushed to a peer, which has acknowledged up to this place.
    ///
    /// # Errors
    /// `Storage`, `Timeout`, `Closed`.
    pub(crate) async fn pushed(
        &self,
        ids: Vec<EventId>,
        acknowledged: i64,
        party: Party,
        now: Timestamp,
    ) -> Result<Vec<String>> {
        let rot = Arc::clone(&self.rot);
        self.read(party, move |conn| peers::pushed(conn, &ids, acknowledged, now, &rot)).await
    }

    /// What is remembered of peers.
    ///
    /// # Errors
    /// `Storage`, `Timeout`, `Closed`.
    pub(crate) async fn peers(&self) -> Result<Vec<PeerRow>> {
        self.read(Party::Node, peers::all).await
    }

    /// Whether the store has as many bytes in use as it may.
    ///
    /// # Errors
    /// `Storage`, `Timeout`, `Closed`.
    pub(crate) async fn is_full(&self) -> Result<bool> {
        let bound = self.limits.max_store_bytes;
        Ok(bound > 0 && self.bytes().await? > bound)
    }

    /// Bytes of the store that are in use.
    ///
    /// # Errors
    /// `Storage`, `Timeout`, `Closed`.
    pub(crate) async fn bytes(&self) -> Result<u64> {
        self.read(Party::Node, |conn| apply::store_bytes(conn).map(i64::unsigned_abs)).await
    }

    /// The record of a mailbox.
    ///
    /// # Errors
    /// `Storage`, `Timeout`, `Closed`.
    pub(crate) async fn record(&self, mailbox: MailboxId, party: Party, now: Timestamp) -> Result<Option<Stored>> {
        let rot = Arc::clone(&self.rot);
        self.read(party, move |conn| query::record(conn, mailbox, now, &rot)).await
    }

    /// What is known to be rotten.
    pub(crate) const fn rot(&self) -> &Arc<Rot> {
        &self.rot
    }

    /// Those of these places at which something is rotten, each with the ids under which others may have it.
    ///
    /// # Errors
    /// `Storage`, `Timeout`, `Closed`.
    pub(crate) async fn wrecks(&self, places: Vec<i64>) -> Result<Vec<(i64, Vec<EventId>)>> {
        self.read(Party::Node, move |conn| heal::wrecks(conn, &places)).await
    }

    /// Looks for rot in so many rows beyond this place.
    ///
    /// # Errors
    /// `Storage`, `Timeout`, `Closed`.
    pub(crate) async fn scrub(&self, after: i64, most: usize) -> Result<Scrubbed> {
        let rot = Arc::clone(&self.rot);
        self.read(Party::Node, move |conn| scrub::scrub(conn, after, most, &rot)).await
    }

    /// Runs a query of this party's.
    async fn read<T: Send + 'static>(
        &self,
        party: Party,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.readers.read(party, Duration::from_secs(self.limits.query_timeout), query).await
    }

    /// Notes how far the store is, so that it is noticed where an earlier state of it is put back.
    pub(crate) async fn mark(&self) {
        match self.last(Party::Node).await {
            Ok(last) => note_mark(&self.mark, self.epoch, last),
            Err(error) => tracing::debug!(%error, "how far the store is could not be read"),
        }
    }

    /// Ends the writer when all that was queued is committed, and lets another node have the store.
    pub(crate) async fn stop(&self) {
        self.writer.stop();
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running {
            running.end().await;
            self.mark().await;
            self.readers.stop().await;
        }
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the store could not be unlocked");
        }
    }
}

fn note_mark(mark: &Mark, epoch: u64, last: i64) {
    if let Err(error) = mark.set(epoch, last) {
        tracing::warn!(%error, "how far the store is could not be noted");
    }
}
