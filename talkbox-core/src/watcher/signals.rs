//! What the tasks of one holder know together: its cursor, whether its watch is live, and what somebody wants of it.

use std::sync::Mutex;

use tokio::sync::Notify;

use crate::{locator::Locator, mailbox::Cursor};

/// The state of one holder.
#[derive(Debug)]
pub(super) struct HolderState {
    pub(super) holder: Locator,
    /// The mailbox behind it can be watched.
    pub(super) watched: bool,
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    cursor: Option<Cursor>,
    /// The watch is live.
    live: bool,
    /// The backlog before what is live is through: the cursor of a live envelope covers everything before it.
    caught_up: bool,
    /// The holder fails, and that was said.
    down: bool,
    /// How often something may have been missed. A list that was under way while this grew may have missed it, too.
    gaps: u64,
    wanted: Wanted,
}

/// What somebody wants of a holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Something may be missing: list, now.
    pub(super) list: bool,
    /// Something that was live may be missing: reconcile, now.
    pub(super) reconcile: bool,
    /// A hint came: list soon.
    pub(super) hint: bool,
}

impl HolderState {
    pub(super) fn new(holder: Locator, cursor: Option<Cursor>, watched: bool) -> Self {
        let inner = Mutex::new(Inner { cursor, ..Inner::default() });
        Self { holder, watched, inner, changed: Notify::new() }
    }

    /// The watch went live: a list from now on leaves no gap.
    pub(super) fn went_live(&self) {
        let mut inner = self.lock();
        inner.live = true;
        inner.gaps += 1;
        inner.caught_up = false;
        inner.wanted.list = true;
        drop(inner);
        self.changed.notify_one();
    }

    /// The watch missed something.
    pub(super) fn lagged(&self) {
        let mut inner = self.lock();
        inner.gaps += 1;
        inner.caught_up = false;
        inner.wanted.reconcile = true;
        drop(inner);
        self.changed.notify_one();
    }

    /// The watch was lost. When it is live again it says so.
    pub(super) fn lost(&self) {
        let mut inner = self.lock();
        inner.live = false;
        inner.gaps += 1;
        inner.caught_up = false;
        drop(inner);
        // It is to be polled from now on.
        self.changed.notify_one();
    }

    /// Somebody says that there is something. What is live comes by itself.
    pub(super) fn hinted(&self) {
        let mut inner = self.lock();
        if !inner.live {
            inner.wanted.hint = true;
            drop(inner);
            self.changed.notify_one();
        }
    }

    /// A live envelope came with this cursor; the cursor that may be passed on with it.
    pub(super) fn live_cursor(&self, cursor: Option<Cursor>) -> Option<Cursor> {
        let mut inner = self.lock();
        let cursor = cursor.filter(|_| inner.caught_up)?;
        inner.cursor = Some(cursor.clone());
        Some(cursor)
    }

    pub(super) fn is_live(&self) -> bool {
        self.lock().live
    }

    pub(super) fn cursor(&self) -> Option<Cursor> {
        self.lock().cursor.clone()
    }

    pub(super) fn set_cursor(&self, cursor: Option<Cursor>) {
        self.lock().cursor = cursor;
    }

    /// Takes what is wanted, and begins a pass that covers every gap until now.
    pub(super) fn begin(&self) -> (Wanted, u64) {
        let mut inner = self.lock();
        (std::mem::take(&mut inner.wanted), inner.gaps)
    }

    /// What is wanted now.
    pub(super) fn wanted(&self) -> Wanted {
        self.lock().wanted
    }

    /// A pass that began at this number of gaps went through.
    pub(super) fn passed(&self, gaps: u64) {
        let mut inner = self.lock();
        inner.down = false;
        inner.caught_up = inner.gaps == gaps;
    }

    /// Something failed; whether that is news.
    pub(super) fn failed(&self) -> bool {
        !std::mem::replace(&mut self.lock().down, true)
    }

    /// Waits until somebody may want something.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Nothing panics while it holds the lock; and if it did, every field would still be one that was set.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
