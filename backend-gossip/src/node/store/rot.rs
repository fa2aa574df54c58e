//! Rows that are not what was stored. Whoever reads one reports its place, and leaves it out; it stays known here until it
//! is put right. What else is on the disk and must not be given to anybody is known here too.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rusqlite::ErrorCode;
use tokio::sync::{Notify, futures::Notified};

use super::{heal::is_index, leaving::Leaving};
use crate::node::metrics::Metrics;

/// Places that are remembered, 8 bytes each. A store with more of them is on a disk that dies. What finds no room is
/// reported again when it is read the next time.
const MOST: usize = 10_000;

/// The rotten places of one store.
#[derive(Debug, Default)]
pub(crate) struct Rot {
    places: Mutex<BTreeSet<i64>>,
    more: Notify,
    damaged: AtomicBool,
    leaving: Leaving,
    metrics: Arc<Metrics>,
}

impl Rot {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..Self::default() }
    }

    /// What is left of those who have vanished.
    pub(super) const fn leaving(&self) -> &Leaving {
        &self.leaving
    }

    /// A row was read that is not what was stored.
    pub(super) fn report(&self, place: i64) {
        let mut places = self.lock();
        if places.len() < MOST && places.insert(place) {
            drop(places);
            tracing::error!(place, "a damaged row is not served; peers are asked for it");
            self.metrics.rotten.add(1);
            self.more.notify_one();
        }
    }

    /// What is at this place is what it should be.
    pub(super) fn is_right(&self, place: i64) {
        if self.lock().remove(&place) {
            tracing::info!(place, "a damaged row has been put right");
            self.metrics.healed.add(1);
        }
    }

    /// Nothing is at this place any longer.
    pub(crate) fn forget(&self, place: i64) {
        self.lock().remove(&place);
    }

    /// Some of the places beyond this one.
    pub(crate) fn beyond(&self, place: i64, most: usize) -> Vec<i64> {
        self.lock().range(place.saturating_add(1)..).take(most).copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn contains(&self, place: i64) -> bool {
        self.lock().contains(&place)
    }

    /// Ends when there is more than before.
    pub(crate) fn more(&self) -> Notified<'_> {
        self.more.notified()
    }

    /// SQLite met pages that make no sense to it. It stays known until the node starts again, and then checks the file. An
    /// index that lacks a row is none of that: it is made anew.
    pub(super) fn note(&self, error: &rusqlite::Error) {
        if is_damage(error) && !is_index(error) && !self.damaged.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the file of the store is damaged");
        }
    }

    /// Whether SQLite found the file damaged.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<i64>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the file is not what SQLite wrote.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}
