//! The task of one holder: lists or reconciles it whenever that is due.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use tokio::time::{Instant, sleep_until, timeout};

use super::{BATCH, Incoming, LONGEST_ASKED, PAGE, Shared, reconcile::reconcile_holder, signals::HolderState};
use crate::{
    ErrorKind, Result, Retry,
    layers::jittered,
    mailbox::{Cursor, ListOptions, Mailbox, Page},
    replicas::pages,
};

/// One holder, with what it takes to list it.
#[derive(Debug)]
pub(super) struct HolderTask {
    state: Arc<HolderState>,
    mailbox: Arc<dyn Mailbox>,
    shared: Shared,
    failures: u32,
    /// When the last pass began, and the last one that a hint asked for.
    last_pass: Instant,
    last_hint: Option<Instant>,
}

/// When a holder is to be listed though nobody wants it: while its watch is live, and while it is not.
#[derive(Clone, Copy, Debug)]
struct Due {
    live: Instant,
    not_live: Instant,
}

/// Nobody listens any more.
#[derive(Debug)]
struct Gone;

impl HolderTask {
    pub(super) fn new(state: Arc<HolderState>, mailbox: Arc<dyn Mailbox>, shared: Shared) -> Self {
        Self { state, mailbox, shared, failures: 0, last_pass: Instant::now(), last_hint: None }
    }

    /// Runs until nobody listens, or the backend was closed.
    pub(super) async fn run(mut self) {
        let mut first = true;
        self.wait_for_live().await;
        loop {
            self.last_pass = Instant::now();
            let (wanted, gaps) = self.state.begin();
            let passed = match wanted.reconcile && !first {
                true => self.reconcile().await,
                false => self.list(self.state.cursor()).await,
            };
            let passed = match passed {
                Ok(passed) => passed,
                Err(Gone) => return,
            };
            let closed = matches!(&passed, Err(error) if error.kind() == ErrorKind::Closed);
            let due = match passed {
                Ok(()) => {
                    self.failures = 0;
                    self.state.passed(gaps);
                    self.interval()
                }
                Err(error) => {
                    self.failures = self.failures.saturating_add(1);
                    let at = Instant::now() + self.pause(error.retry_advice());
                    let due = Due { live: at, not_live: at };
                    let holder = self.state.holder.clone();
                    if self.state.failed() && self.send(Incoming::Down { holder, error }).await.is_err() {
                        return;
                    }
                    due
                }
            };
            if first {
                first = false;
                let (holder, well) = (self.state.holder.clone(), self.failures == 0);
                if self.send(Incoming::FirstPass { holder, well }).await.is_err() {
                    return;
                }
            }
            if closed {
                return;
            }
            self.wait(due).await;
        }
    }

    /// Gives the watch time to go live, so that the first list leaves no gap and needs no second one.
    async fn wait_for_live(&self) {
        if !self.state.watched {
            return;
        }
        let live = async {
            while !self.state.is_live() {
                self.state.changed().await;
            }
        };
        // Too late is no loss: going live asks for another list.
        let _late = timeout(self.shared.options.patience, live).await;
    }

    /// Waits until the holder is due, or something is wanted of it before that.
    async fn wait(&mut self, due: Due) {
        loop {
            let (wanted, live, now) = (self.state.wanted(), self.state.is_live(), Instant::now());
            let failing = self.failures > 0;
            let due = if live { due.live } else { due.not_live };
            let mut until = due;
            // A holder that fails is not asked more often because somebody wants it to be, unless its watch is back.
            if (wanted.list || wanted.reconcile) && (!failing || live) {
                until = until.min(self.last_pass + self.shared.options.pass_gap);
            }
            if wanted.hint && !failing {
                let earliest = self.last_hint.map_or(now, |last| last + self.shared.options.hint_gap);
                if earliest <= now {
                    self.last_hint = Some(now);
                    return;
                }
                until = until.min(earliest);
            }
            if until <= now {
                return;
            }
            tokio::select! {
                () = sleep_until(until) => {}
                () = self.state.changed() => {}
            }
        }
    }

    /// When a holder that is well is listed again.
    fn interval(&self) -> Due {
        let options = &self.shared.options;
        let now = Instant::now();
        Due { live: now + jittered(options.relist, 0.2), not_live: now + jittered(options.poll, 0.2) }
    }

    /// How long until a holder that fails is tried again; the longest where its answer will not change soon.
    fn pause(&self, advice: Retry) -> Duration {
        let options = &self.shared.options;
        let doubled = options.pause.saturating_mul(1 << (self.failures - 1).min(16));
        let pause = match advice {
            Retry::No => options.longest_pause,
            Retry::After(Some(asked)) => doubled.min(options.longest_pause).max(asked.min(LONGEST_ASKED)),
            Retry::After(None) | Retry::Exhausted => doubled.min(options.longest_pause),
        };
        jittered(pause, 0.2)
    }

    async fn list(&self, after: Option<Cursor>) -> Result<Result<()>, Gone> {
        let options = ListOptions::default().auth(self.shared.options.auth.clone()).after(after).limit(PAGE);
        let (mailbox, holder) = (Arc::clone(&self.mailbox), self.state.holder.clone());
        let mut listing = pages(mailbox, self.shared.owner, holder, options);
        while let Some(page) = listing.next().await {
            match page {
                Ok(page) => self.pass_on(page).await?,
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(()))
    }

    /// Finds what is missing by set reconciliation where the holder speaks it, else by listing.
    async fn reconcile(&self) -> Result<Result<()>, Gone> {
        if self.mailbox.reconciler(&self.state.holder).is_none() {
            return self.list(self.state.cursor()).await;
        }
        let ours = match self.shared.known.all(self.shared.owner).await {
            Ok(ours) => ours,
            Err(error) => {
                tracing::warn!(%error, "the store cannot say what is known: listing instead");
                return self.list(self.state.cursor()).await;
            }
        };
        let out = self.shared.out.clone();
        let holder = self.state.holder.clone();
        let auth = self.shared.options.auth.clone();
        let found = reconcile_holder(&self.mailbox, &holder, self.shared.owner, &ours, auth, |raw, cursor| {
            let (out, holder) = (out.clone(), holder.clone());
            async move { send_batches(&out, &holder, raw, cursor).await.is_ok() }
        });
        match found.await {
            Ok(None) => Err(Gone),
            // A holder that does not give what it names is asked in the plain way for all that it has.
            Ok(Some(found)) if found.arrived < found.theirs => self.list(None).await,
            Ok(Some(_)) => Ok(Ok(())),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn pass_on(&self, page: Page) -> Result<(), Gone> {
        let cursor = page.next.clone();
        send_batches(&self.shared.out, &self.state.holder, page.items, page.next).await?;
        if cursor.is_some() {
            self.state.set_cursor(cursor);
        }
        Ok(())
    }

    async fn send(&self, incoming: Incoming) -> Result<(), Gone> {
        self.shared.out.send(incoming).await.map_err(|_| Gone)
    }
}

/// Passes on what a holder sent in batches of a bounded size; the cursor goes with the last of them.
async fn send_batches(
    out: &tokio::sync::mpsc::Sender<Incoming>,
    holder: &crate::Locator,
    mut raw: Vec<crate::RawEnvelope>,
    cursor: Option<Cursor>,
) -> Result<(), Gone> {
    while raw.len() > BATCH {
        let rest = raw.split_off(BATCH);
        let batch = std::mem::replace(&mut raw, rest);
        let incoming = Incoming::Raw { holder: holder.clone(), raw: batch, cursor: None };
        out.send(incoming).await.map_err(|_| Gone)?;
    }
    if raw.is_empty() && cursor.is_none() {
        return Ok(());
    }
    out.send(Incoming::Raw { holder: holder.clone(), raw, cursor }).await.map_err(|_| Gone)
}
