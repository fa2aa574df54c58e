//! The one thread that writes: it takes whatever is queued into one transaction, commits, and only then answers.
//!
//! There is no timer. While a commit waits for the disk, the queue fills, and the next commit takes it all: one event
//! alone is committed at once, and under load the cost of the disk is shared.
//!
//! What was stored is passed on to subscribers after the commit and in its order. It would be some 0.3 ms sooner to
//! pass it on while the disk works, but then a subscriber could be given what is refused a moment later (deleted,
//! over a quota, lost with the power), and a cursor could name a place in the order that nothing ever takes.

mod clearing;
mod fault;
mod lanes;
mod mend;

use std::{
    collections::VecDeque,
    ops::ControlFlow,
    sync::{Arc, Mutex, PoisonError, RwLock},
    thread,
    time::Instant,
};

use rusqlite::{Connection, TransactionBehavior};
use talkbox_core::{
    Error, ErrorKind, EventId, Result, Timestamp,
    anti_entropy::{IdSet, Item},
    sqlite::storage,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use self::{fault::Disk, lanes::Lanes};
use super::{
    apply::{Applied, Quota, apply, expire, forget_refused},
    brought::Brought,
    empty::remove_empty,
    heal::look_at_the_disk,
    peers,
    query::last_seq,
    rot::Rot,
    vanish::Rest,
};
use crate::node::{
    admitted::{Admitted, Origin},
    context::Work,
    intake::{RecentIds, Ticket},
    live::{Fresh, Live},
    mesh::PeerRow,
    metrics::Metrics,
    planted::{Defect, Planted},
    refusal::Outcome,
};

/// Rows that one round of the collector removes.
const EXPIRED_AT_ONCE: u32 = 500;

/// Something for the writer to do.
#[derive(Debug)]
enum Op {
    Admit(Arc<Admitted>, Ticket),
    /// Remember a peer, with the next commit.
    Peer(PeerRow),
    /// Remove what has expired; the answer is whether there may be more.
    Expire(Timestamp, oneshot::Sender<bool>),
    /// Put the rotten row at this place right.
    Heal(i64, Arc<Admitted>),
    /// Let these not count as held any longer, where they were refused.
    ForgetRefused(Vec<EventId>),
    /// Make the indexes anew: one of them lacks a row.
    Mend,
    /// Go on with what takes several commits.
    GoOn,
    /// See whether something can be written.
    Probe,
    Stop,
}

/// The way to the writer. What waits has no bound here: each event holds one of the places of the intake.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    queue: mpsc::UnboundedSender<Op>,
    disk: Arc<Mutex<Disk>>,
    brought: Arc<Brought>,
}

/// What the writer keeps.
pub(super) struct Kept {
    pub(super) conn: Connection,
    /// What requests to vanish have left to do.
    pub(super) rests: Vec<Rest>,
    /// The ids that count as held.
    pub(super) held: Arc<RwLock<IdSet>>,
    pub(super) rot: Arc<Rot>,
}

/// Who hears of what is committed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Followers {
    pub(crate) recent: Arc<RecentIds>,
    pub(crate) live: Arc<Live>,
    pub(crate) metrics: Arc<Metrics>,
}

/// What the writer is, as long as it runs.
#[derive(Debug)]
pub(crate) enum Running {
    Thread(thread::JoinHandle<()>),
    Task(JoinHandle<()>),
}

impl Running {
    /// Waits for its end.
    pub(crate) async fn end(self) {
        let _panicked = match self {
            Self::Thread(thread) => tokio::task::spawn_blocking(|| thread.join().is_err()).await,
            Self::Task(task) => task.await.map(|()| false),
        };
    }
}

impl Writer {
    /// Starts the writer on its connection. What it stores goes to subscribers, what it removes leaves the
    /// recent ids, and the ids that count as held follow both.
    ///
    /// # Errors
    /// `Unexpected` where the system gives no thread; `Storage`.
    pub(super) fn start(
        kept: Kept,
        quota: Quota,
        followers: Followers,
        work: Work,
        planted: Planted,
    ) -> Result<(Self, Running)> {
        let Followers { recent, live, metrics } = followers;
        #[expect(
            clippy::disallowed_methods,
            reason = "each event holds one of the places of the intake, and a peer has two portions under way; so whoever \
                      queues never waits, on a thread or in a task"
        )]
        let (queue, ops) = mpsc::unbounded_channel();
        let disk = Arc::default();
        let brought = Arc::new(Brought::after(last_seq(&kept.conn).map_err(storage)?));
        if !kept.rests.is_empty() {
            let _received = queue.send(Op::GoOn);
        }
        let mut desk = Desk {
            conn: kept.conn,
            rests: kept.rests.into(),
            queue: queue.downgrade(),
            empty_after: 0,
            quota,
            recent,
            live,
            metrics,
            held: kept.held,
            rot: kept.rot,
            mended: None,
            disk: Arc::clone(&disk),
            brought: Arc::clone(&brought),
            lanes: Lanes::default(),
            peers: Vec::new(),
            planted,
        };
        // A store can be opened on a disk that takes nothing more, after a crash, which left the files beside it.
        desk.probe();
        let running = match work {
            Work::Inline => Running::Task(tokio::spawn(desk.run_inline(ops))),
            Work::Threads => thread::Builder::new()
                .name("node-writer".to_owned())
                .spawn(move || desk.run(ops))
                .map(Running::Thread)
                .map_err(|error| Error::new(ErrorKind::Unexpected, "no thread for the writer").source(error))?,
        };
        Ok((Self { queue, disk, brought }, running))
    }

    /// Queues an event. The ticket is answered when the event is committed; a writer that has stopped drops it, which
    /// answers too.
    pub(crate) fn admit(&self, event: Arc<Admitted>, ticket: Ticket) {
        let _stopped = self.queue.send(Op::Admit(event, ticket));
    }

    /// Remembers a peer, together with whatever is committed next: to push a portion again is better than to wait for the
    /// disk at every one.
    pub(crate) fn keep_peer(&self, peer: PeerRow) {
        let _stopped = self.queue.send(Op::Peer(peer));
    }

    /// What clients have brought.
    pub(crate) const fn brought(&self) -> &Arc<Brought> {
        &self.brought
    }

    /// Removes what has expired at this time. Whether there may be more.
    pub(crate) async fn expire(&self, now: Timestamp) -> bool {
        let (answer, done) = oneshot::channel();
        self.queue.send(Op::Expire(now, answer)).is_ok() && done.await.unwrap_or(false)
    }

    /// Puts the rotten row at this place right. Whoever asks sees by the places that are known to be rotten what came of it.
    pub(crate) fn heal(&self, place: i64, event: Arc<Admitted>) {
        let _stopped = self.queue.send(Op::Heal(place, event));
    }

    /// Forgets that these were refused to a peer, where they were: the one that is compared with does not have them any
    /// longer.
    pub(crate) fn forget_refused(&self, ids: Vec<EventId>) {
        let _stopped = self.queue.send(Op::ForgetRefused(ids));
    }

    /// Makes the indexes anew.
    pub(crate) fn mend(&self) {
        let _stopped = self.queue.send(Op::Mend);
    }

    /// Why nothing can be stored, if that was so the last time.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner).fault().map(fault::Fault::words)
    }

    /// Sees whether something can be written: where nothing could, and nobody comes who tries.
    pub(crate) fn probe(&self) {
        let _stopped = self.queue.send(Op::Probe);
    }

    /// Ends the writer once everything that is queued is done.
    pub(crate) fn stop(&self) {
        let _stopped = self.queue.send(Op::Stop);
    }
}

/// Where everything that is written passes.
struct Desk {
    conn: Connection,
    quota: Quota,
    recent: Arc<RecentIds>,
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    held: Arc<RwLock<IdSet>>,
    rot: Arc<Rot>,
    /// When the indexes were last made anew.
    mended: Option<Instant>,
    disk: Arc<Mutex<Disk>>,
    brought: Arc<Brought>,
    lanes: Lanes,
    /// What requests to vanish have left to do.
    rests: VecDeque<Rest>,
    /// For what the writer gives itself to do, as long as anybody else can.
    queue: mpsc::WeakUnboundedSender<Op>,
    /// How far empty mailboxes were looked for.
    empty_after: i64,
    /// Peers to remember with the next commit.
    peers: Vec<PeerRow>,
    planted: Planted,
}

impl Desk {
    fn run(mut self, mut ops: mpsc::UnboundedReceiver<Op>) {
        while let Some(op) = ops.blocking_recv()
            && self.take(op, &mut ops).is_continue()
        {}
        self.finish();
    }

    async fn run_inline(mut self, mut ops: mpsc::UnboundedReceiver<Op>) {
        while let Some(op) = ops.recv().await {
            #[cfg(feature = "defects")]
            tokio::time::sleep(self.planted.commit_time).await;
            if self.take(op, &mut ops).is_break() {
                break;
            }
        }
        self.finish();
    }

    /// Takes what came and all that waits behind it, in one commit. Whether to go on.
    fn take(&mut self, first: Op, ops: &mut mpsc::UnboundedReceiver<Op>) -> ControlFlow<()> {
        let mut flow = ControlFlow::Continue(());
        let mut next = Some(first);
        while let Some(op) = next.take() {
            match op {
                Op::Admit(event, ticket) => self.lanes.push(event, ticket),
                // It is done behind all that waits.
                Op::GoOn => {}
                Op::Probe => self.probe(),
                Op::Expire(now, answer) => {
                    let more = self.expire(now);
                    let _gone = answer.send(more);
                }
                Op::Peer(peer) => {
                    self.peers.retain(|known| known.name != peer.name);
                    self.peers.push(peer);
                }
                Op::Heal(place, event) => self.heal(place, event),
                Op::ForgetRefused(ids) => self.forget_refused(&ids),
                Op::Mend => {
                    if let Err(error) = self.mend() {
                        tracing::error!(%error, "the indexes could not be made anew");
                    }
                }
                Op::Stop => flow = ControlFlow::Break(()),
            }
            if !self.lanes.is_full() {
                next = ops.try_recv().ok();
            }
        }
        let batch = self.lanes.take();
        self.store(batch);
        self.go_on();
        flow
    }

    fn finish(&mut self) {
        while !self.lanes.is_empty() {
            let batch = self.lanes.take();
            self.store(batch);
        }
        if !self.peers.is_empty()
            && let Err(error) = self.commit(std::iter::empty())
        {
            tracing::warn!(%error, "what peers have acknowledged could not be kept; it is pushed again");
        }
        // What is in the log moves into the database, so that the next start has nothing to recover.
        if let Err(error) = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::warn!(%error, "the log could not be moved into the database");
        }
    }

    /// Commits a batch, answers it and passes it on. Where that fails, each alone: one that cannot be stored costs only
    /// itself.
    fn store(&mut self, batch: Vec<(Arc<Admitted>, Ticket)>) {
        if batch.is_empty() {
            return;
        }
        // What is brought again may put a row right that is known to be rotten.
        if self.rot.len() > 0
            && let Err(error) = look_at_the_disk(&self.conn)
        {
            tracing::debug!(%error, "memory could not be given back");
        }
        match self.mending(|desk| desk.commit(batch.iter().map(|(event, _)| &**event))) {
            Ok(applied) => {
                self.works();
                let settled = batch.into_iter().zip(applied);
                let fresh: Vec<Fresh> =
                    settled.filter_map(|((event, ticket), applied)| self.settle(event, ticket, applied)).collect();
                let from_clients = fresh.iter().filter(|fresh| fresh.event.origin == Origin::Client);
                if let Some(last) = from_clients.filter_map(|fresh| fresh.seq).max() {
                    self.brought.note(last);
                }
                // After all answers: those who publish wait for them.
                fresh.iter().for_each(|fresh| self.live.pass_on(fresh));
            }
            Err(error) if batch.len() == 1 => {
                let fault = self.fails(&error, 1);
                for (_, ticket) in batch {
                    ticket.refuse(fault.refusal());
                }
            }
            Err(error) => {
                tracing::debug!(%error, events = batch.len(), "a commit failed; each event is tried alone");
                for one in batch {
                    self.store(vec![one]);
                }
            }
        }
    }

    fn forget_refused(&mut self, ids: &[EventId]) {
        let forgotten = self.mending(|desk| {
            let tx = desk.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let forgotten = forget_refused(&tx, ids)?;
            tx.commit().map(|()| forgotten)
        });
        match forgotten {
            Ok(items) => self.forget(&items),
            Err(error) => tracing::debug!(%error, "what was refused could not be forgotten"),
        }
    }

    /// What has gone is neither known for recent nor held any longer.
    fn forget(&self, items: &[Item]) {
        if items.is_empty() {
            return;
        }
        items.iter().for_each(|item| self.recent.forget(&item.id()));
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        for item in items {
            held.remove(item);
        }
    }

    fn commit<'a>(&mut self, events: impl Iterator<Item = &'a Admitted>) -> rusqlite::Result<Vec<Applied>> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let applied = events.map(|event| apply(&tx, event, &self.quota)).collect::<rusqlite::Result<Vec<_>>>()?;
        for peer in &self.peers {
            peers::keep(&tx, peer)?;
        }
        if self.planted.is(Defect::ForgottenDeletions) {
            tx.execute_batch("DELETE FROM gone WHERE why = 0; DELETE FROM deletion")?;
        }
        tx.commit()?;
        self.metrics.commits.add(1);
        self.peers.clear();
        Ok(applied)
    }

    /// Answers for an event. What is left to pass on.
    fn settle(&mut self, event: Arc<Admitted>, ticket: Ticket, applied: Applied) -> Option<Fresh> {
        self.forget(&applied.removed);
        if let Some(rest) = applied.rest {
            self.leave(rest);
        }
        if let Some(place) = applied.healed {
            self.rot.is_right(place);
        }
        if applied.counts
            && let Ok(item) = Item::new(Timestamp(event.facts.created_at), event.facts.id)
        {
            self.held.write().unwrap_or_else(PoisonError::into_inner).insert(item);
        }
        if applied.outcome == Outcome::Stored {
            self.recent.remember(event.facts.id);
        }
        ticket.answer(applied.outcome);
        applied.seq.map(|seq| Fresh { seq: Some(seq), event })
    }

    fn expire(&mut self, now: Timestamp) -> bool {
        self.rot.leaving().forget(Instant::now());
        let removed = self.mending(|desk| {
            let tx = desk.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let removed = expire(&tx, now, EXPIRED_AT_ONCE)?;
            let empty_after = remove_empty(&tx, desk.empty_after)?;
            tx.commit().map(|()| (removed, empty_after))
        });
        match removed {
            Ok((removed, empty_after)) => {
                self.empty_after = empty_after;
                // To remove nothing writes nothing.
                if !removed.is_empty() {
                    self.works();
                }
                self.forget(&removed);
                self.metrics.expired.add(removed.len());
                removed.len() >= EXPIRED_AT_ONCE as usize
            }
            Err(error) => {
                tracing::debug!(%error, "what has expired could not be removed");
                self.fails(&error, 0);
                false
            }
        }
    }
}
