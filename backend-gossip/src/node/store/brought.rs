//! Tells that clients have brought something more.

use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::{Notify, futures::Notified};

/// The last place that something has which a client brought, and who waits for more.
///
/// It is no `watch` channel: that one wakes those who wait in an order that it takes from randomness of its own, and a
/// simulation that repeats itself needs one that only the seed decides.
#[derive(Debug)]
pub(crate) struct Brought {
    last: AtomicI64,
    more: Notify,
}

impl Brought {
    /// Before anything is brought in this run: the last place that was given at all.
    pub(super) fn after(last: i64) -> Self {
        Self { last: AtomicI64::new(last), more: Notify::new() }
    }

    /// The last place.
    pub(crate) fn last(&self) -> i64 {
        self.last.load(Ordering::Acquire)
    }

    /// Ends when there is more than at this moment, also where it is waited for only later.
    pub(crate) fn more(&self) -> Notified<'_> {
        self.more.notified()
    }

    /// Wakes all who wait, in the order in which they came.
    pub(super) fn note(&self, last: i64) {
        self.last.store(last, Ordering::Release);
        self.more.notify_waiters();
    }
}
