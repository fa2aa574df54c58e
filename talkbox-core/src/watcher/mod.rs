//! The watcher: joins watch, hints, poll and a periodic list of many holders into one stream, without a gap and
//! without what is known already.
//!
//! For every holder one task lists it from its stored cursor, then whenever something may be missing: the watch said
//! so, went live or was lost; a hint came; it has been long. What is live comes in between. A holder's cursor is passed
//! on only together with what it covers: that of a live envelope not before the backlog is through.
//!
//! All of it goes through one bounded channel, in order. What the consumer knows is dropped at its end, when everything
//! before has been taken: a holder that sends rubbish under an id cannot hide what another one sends under it.

mod feed;
mod fetch;
mod hints;
mod holder;
mod reconcile;
mod signals;

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::stream::{self, Stream};
use tokio::{sync::mpsc, task::JoinSet};

pub(crate) use self::fetch::Fetch;
pub use self::reconcile::{Reconciled, reconcile_holder};
use self::{feed::Feed, holder::HolderTask, signals::HolderState};
use crate::{
    EnvelopeId, Error, MailboxId, Result,
    auth::Authorizer,
    clock::Timestamp,
    envelope::RawEnvelope,
    locator::Locator,
    mailbox::{Cursor, Mailbox},
    transport::Transport,
};

/// Batches that wait to be taken. One has at most a page, so that a holder that sends nothing but the largest
/// envelopes costs 8 × 128 × 64 KiB = 64 MiB at worst.
const QUEUE: usize = 8;
/// Most envelopes of one batch.
const BATCH: usize = 128;
/// Envelopes of one page that are asked for: what holders commonly give at once.
const PAGE: u32 = 500;
/// The longest that a holder is left alone because it asked for it.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// What the consumer knows: stored, deleted or refused.
#[async_trait]
pub trait Known: fmt::Debug + Send + Sync + 'static {
    /// For each of these ids, in order, whether it is known.
    ///
    /// # Errors
    /// Of the store. What cannot be looked up is passed on.
    async fn known(&self, owner: MailboxId, ids: &[EnvelopeId]) -> Result<Vec<bool>>;

    /// Every id that is known of a mailbox, with the time of its envelope, to reconcile with.
    ///
    /// # Errors
    /// Of the store. The holder is listed instead.
    async fn all(&self, owner: MailboxId) -> Result<Vec<(Timestamp, EnvelopeId)>>;
}

/// What the watcher says.
#[non_exhaustive]
#[derive(Debug)]
pub enum WatcherEvent {
    /// Envelopes of one holder that were not known, not yet checked, and where its listing goes on after them.
    ///
    /// The consumer checks and stores them and the cursor in one transaction before it takes the next event. Where
    /// that fails it drops the watcher, and starts another one from the cursors that it stored.
    Batch {
        /// Which holder.
        holder: Locator,
        /// What it sent. May be empty, for the cursor's sake.
        raw: Vec<RawEnvelope>,
        /// Its cursor, to be stored along.
        cursor: Option<Cursor>,
    },
    /// Every holder has been listed once, or has failed: what was there at the start has been passed on.
    CaughtUp {
        /// Those that failed. They are tried again.
        down: Vec<Locator>,
    },
    /// A holder fails. Said once, until it is well again.
    Down {
        /// Which holder.
        holder: Locator,
        /// What went wrong.
        error: Error,
    },
}

/// How to watch.
#[derive(Clone, Debug)]
pub struct WatcherOptions {
    /// Who asks: the mailbox or keeper key.
    pub auth: Option<Arc<dyn Authorizer>>,
    /// Where to begin, holder by holder; from the start where a holder is not named.
    pub cursors: Vec<(Locator, Cursor)>,
    /// How often a holder that cannot be watched is listed; a fifth more or less, so that readers do not come together.
    pub poll: Duration,
    /// How often a holder is listed while its watch is live.
    pub relist: Duration,
    /// The least time between two lists that hints ask for.
    pub hint_gap: Duration,
    /// The least time between two passes over one holder, however often its watch says that something is missing.
    pub pass_gap: Duration,
    /// How long the first list waits for the watch to be live, so that one list is enough.
    pub patience: Duration,
    /// How long before a holder that failed is tried again, at first; it doubles up to `longest_pause`.
    pub pause: Duration,
    /// The longest time before a holder that failed is tried again.
    pub longest_pause: Duration,
}

impl Default for WatcherOptions {
    fn default() -> Self {
        Self {
            auth: None,
            cursors: Vec::new(),
            poll: Duration::from_secs(30),
            relist: Duration::from_secs(15 * 60),
            hint_gap: Duration::from_secs(5),
            pass_gap: Duration::from_secs(1),
            patience: Duration::from_secs(2),
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
        }
    }
}

/// Watches one mailbox at many holders. Dropping it ends all its work.
#[derive(Debug)]
pub struct Watcher {
    owner: MailboxId,
    known: Arc<dyn Known>,
    incoming: mpsc::Receiver<Incoming>,
    /// Taken from the channel and not yet returned, so that [`next`](Self::next) may be dropped half-way.
    current: Option<Incoming>,
    waiting: VecDeque<WatcherEvent>,
    first_passes: usize,
    down: Vec<Locator>,
    tasks: JoinSet<()>,
}

/// What tasks tell the consumer's end.
#[derive(Debug)]
enum Incoming {
    Raw {
        holder: Locator,
        raw: Vec<RawEnvelope>,
        cursor: Option<Cursor>,
    },
    Down {
        holder: Locator,
        error: Error,
    },
    /// The first list of a holder is through.
    FirstPass {
        holder: Locator,
        well: bool,
    },
}

/// What every task has.
#[derive(Clone, Debug)]
struct Shared {
    owner: MailboxId,
    options: Arc<WatcherOptions>,
    known: Arc<dyn Known>,
    out: mpsc::Sender<Incoming>,
}

impl Watcher {
    /// Starts to watch a mailbox at all holders of these mailboxes, woken by these transports.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(
        owner: MailboxId,
        mailboxes: &[Arc<dyn Mailbox>],
        transports: &[Arc<dyn Transport>],
        known: Arc<dyn Known>,
        options: WatcherOptions,
    ) -> Self {
        let (out, incoming) = mpsc::channel(QUEUE);
        let shared = Shared { owner, options: Arc::new(options), known: Arc::clone(&known), out };
        let mut tasks = JoinSet::new();
        let mut all: Vec<Arc<HolderState>> = Vec::new();
        for mailbox in mailboxes {
            let watched = mailbox.capabilities().watch;
            let mut states = Vec::new();
            for holder in mailbox.holders() {
                // A holder behind two mailboxes is listed through the first.
                if all.iter().any(|state| state.holder == holder) {
                    continue;
                }
                let cursor = shared.options.cursors.iter().find(|(other, _)| *other == holder);
                let state = Arc::new(HolderState::new(holder, cursor.map(|(_, cursor)| cursor.clone()), watched));
                tasks.spawn(HolderTask::new(Arc::clone(&state), Arc::clone(mailbox), shared.clone()).run());
                states.push(Arc::clone(&state));
                all.push(state);
            }
            if watched && !states.is_empty() {
                tasks.spawn(Feed::new(Arc::clone(mailbox), states, shared.clone()).run());
            }
        }
        for transport in transports {
            tasks.spawn(hints::follow(Arc::clone(transport), all.clone(), owner, Arc::clone(&shared.options)));
        }
        let mut waiting = VecDeque::new();
        if all.is_empty() {
            waiting.push_back(WatcherEvent::CaughtUp { down: Vec::new() });
        }
        Self { owner, known, incoming, current: None, waiting, first_passes: all.len(), down: Vec::new(), tasks }
    }

    /// The next event; `None` when all backends were closed. It may be dropped half-way: nothing is lost.
    pub async fn next(&mut self) -> Option<WatcherEvent> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.current.is_none() {
                self.current = Some(self.incoming.recv().await?);
            }
            let flags = match &self.current {
                Some(Incoming::Raw { raw, .. }) if !raw.is_empty() => {
                    let ids: Vec<EnvelopeId> = raw.iter().map(RawEnvelope::id).collect();
                    self.look_up(&ids).await
                }
                _ => Vec::new(),
            };
            // No waiting from here on.
            if let Some(incoming) = self.current.take() {
                self.take(incoming, &flags);
            }
        }
    }

    /// The events as a stream.
    pub fn into_stream(self) -> impl Stream<Item = WatcherEvent> {
        stream::unfold(self, async |mut watcher| {
            let event = watcher.next().await?;
            Some((event, watcher))
        })
    }

    /// Whether each id is known. Where the store cannot say, none is: the consumer's store is asked again.
    async fn look_up(&self, ids: &[EnvelopeId]) -> Vec<bool> {
        match self.known.known(self.owner, ids).await {
            Ok(flags) => flags,
            Err(error) => {
                tracing::warn!(%error, "the store cannot say what is known");
                Vec::new()
            }
        }
    }

    fn take(&mut self, incoming: Incoming, known: &[bool]) {
        match incoming {
            Incoming::Raw { holder, raw, cursor } => {
                let raw: Vec<RawEnvelope> = raw
                    .into_iter()
                    .enumerate()
                    .filter(|(at, _)| !known.get(*at).copied().unwrap_or(false))
                    .map(|(_, raw)| raw)
                    .collect();
                // A page that was known in whole says nothing but its cursor.
                if !raw.is_empty() || cursor.is_some() {
                    self.waiting.push_back(WatcherEvent::Batch { holder, raw, cursor });
                }
            }
            Incoming::Down { holder, error } => self.waiting.push_back(WatcherEvent::Down { holder, error }),
            Incoming::FirstPass { holder, well } => {
                if !well {
                    self.down.push(holder);
                }
                self.first_passes = self.first_passes.saturating_sub(1);
                if self.first_passes == 0 {
                    let down = std::mem::take(&mut self.down);
                    self.waiting.push_back(WatcherEvent::CaughtUp { down });
                }
            }
        }
    }

    /// Ends all work, and waits until it has ended.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
    }
}
