//! The one thread that writes: it takes whatever is queued into one transaction, commits, and only then answers.
//!
//! There is no timer. While a commit waits for the disk, the queue fills, and the next commit takes it all: one event
//! alone is committed at once, and under load the cost of the disk is shared.
//!
//! What was stored is passed on to subscribers after the commit and in its order. It would be some 0.3 ms sooner to
//! pass it on while the disk works, but then a subscriber could be given what is refused a moment later (deleted,
//! over a quota, lost with the power), and a cursor could name a place in the order that nothing ever takes.

use std::{sync::Arc, thread};

use rusqlite::{Connection, TransactionBehavior};
use talkbox_core::{Error, ErrorKind, Result, Timestamp};
use tokio::sync::{mpsc, oneshot};

use super::apply::{Applied, Quota, apply, expire};
use crate::node::{
    admitted::Admitted,
    intake::{RecentIds, Ticket},
    live::Fresh,
    refusal::{Outcome, Prefix, Refusal},
};

/// Events that wait to be stored, each of a client that waits for its answer. Enough for two commits under full load.
const QUEUE: usize = 1_024;
/// Most events of one commit: about 10 ms of work, so that no answer waits long behind others.
const BATCH: usize = 512;
/// Rows that one round of the collector removes.
const EXPIRED_AT_ONCE: u32 = 500;

/// Something for the writer to do.
#[derive(Debug)]
enum Op {
    Admit(Arc<Admitted>, Ticket),
    /// Remove what has expired; the answer is whether there may be more.
    Expire(Timestamp, oneshot::Sender<bool>),
    Stop,
}

/// The way to the writer.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Op>,
}

impl Writer {
    /// Starts the thread on its connection. What it stores goes to `fresh`; what it removes leaves `recent`.
    ///
    /// # Errors
    /// `Unexpected` where the system gives no thread.
    pub(crate) fn start(
        conn: Connection,
        quota: Quota,
        recent: Arc<RecentIds>,
        fresh: mpsc::Sender<Fresh>,
    ) -> Result<(Self, thread::JoinHandle<()>)> {
        let (queue, ops) = mpsc::channel(QUEUE);
        let thread = thread::Builder::new()
            .name("node-writer".to_owned())
            .spawn(move || Thread { conn, quota, recent, fresh }.run(ops))
            .map_err(|error| Error::new(ErrorKind::Unexpected, "no thread for the writer").source(error))?;
        Ok((Self { queue }, thread))
    }

    /// Queues an event; waits where the queue is full. For threads that may block. The ticket is answered when the
    /// event is committed; a writer that has stopped drops it, which answers too.
    pub(crate) fn admit(&self, event: Arc<Admitted>, ticket: Ticket) {
        let _stopped = self.queue.blocking_send(Op::Admit(event, ticket));
    }

    /// Removes what has expired at this time. Whether there may be more.
    pub(crate) async fn expire(&self, now: Timestamp) -> bool {
        let (answer, done) = oneshot::channel();
        self.queue.send(Op::Expire(now, answer)).await.is_ok() && done.await.unwrap_or(false)
    }

    /// Ends the thread once everything that is queued is done.
    pub(crate) async fn stop(&self) {
        let _stopped = self.queue.send(Op::Stop).await;
    }
}

struct Thread {
    conn: Connection,
    quota: Quota,
    recent: Arc<RecentIds>,
    fresh: mpsc::Sender<Fresh>,
}

impl Thread {
    fn run(mut self, mut ops: mpsc::Receiver<Op>) {
        let mut batch = Vec::new();
        let mut stopping = false;
        while !stopping {
            let mut next = ops.blocking_recv();
            stopping = next.is_none();
            while let Some(op) = next.take() {
                match op {
                    Op::Admit(event, ticket) => batch.push((event, ticket)),
                    Op::Expire(now, answer) => {
                        let more = self.expire(now);
                        let _gone = answer.send(more);
                    }
                    Op::Stop => stopping = true,
                }
                if batch.len() < BATCH {
                    next = ops.try_recv().ok();
                }
            }
            self.store(std::mem::take(&mut batch));
        }
        // What is in the log moves into the database, so that the next start has nothing to recover.
        if let Err(error) = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::warn!(%error, "the log could not be moved into the database");
        }
    }

    /// Commits a batch and answers it. Where that fails, each alone: one that cannot be stored costs only itself.
    fn store(&mut self, batch: Vec<(Arc<Admitted>, Ticket)>) {
        if batch.is_empty() {
            return;
        }
        match self.commit(batch.iter().map(|(event, _)| &**event)) {
            Ok(applied) => {
                for ((event, ticket), applied) in batch.into_iter().zip(applied) {
                    self.settle(event, ticket, applied);
                }
            }
            Err(error) if batch.len() == 1 => {
                tracing::error!(%error, "an event could not be stored");
                for (_, ticket) in batch {
                    ticket.answer(&Outcome::Refused(Refusal::new(Prefix::Error, "the store failed; try again later")));
                }
            }
            Err(error) => {
                tracing::warn!(%error, events = batch.len(), "a commit failed; each event is tried alone");
                for one in batch {
                    self.store(vec![one]);
                }
            }
        }
    }

    fn commit<'a>(&mut self, events: impl Iterator<Item = &'a Admitted>) -> rusqlite::Result<Vec<Applied>> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let applied = events.map(|event| apply(&tx, event, &self.quota)).collect::<rusqlite::Result<Vec<_>>>()?;
        tx.commit()?;
        Ok(applied)
    }

    fn settle(&self, event: Arc<Admitted>, ticket: Ticket, applied: Applied) {
        for id in &applied.removed {
            self.recent.forget(id);
        }
        if applied.outcome != Outcome::Stored {
            ticket.answer(&applied.outcome);
            return;
        }
        self.recent.remember(event.facts.id);
        ticket.answer(&applied.outcome);
        if let Some(seq) = applied.seq {
            // Waits where subscribers are being served: then clients wait for the writer. Closed only at the end.
            let _closed = self.fresh.blocking_send(Fresh { seq: Some(seq), event });
        }
    }

    fn expire(&mut self, now: Timestamp) -> bool {
        let removed = self.conn.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|tx| {
            let removed = expire(&tx, now, EXPIRED_AT_ONCE)?;
            tx.commit().map(|()| removed)
        });
        match removed {
            Ok(removed) => {
                removed.iter().for_each(|id| self.recent.forget(id));
                removed.len() >= EXPIRED_AT_ONCE as usize
            }
            Err(error) => {
                tracing::warn!(%error, "what has expired could not be removed");
                false
            }
        }
    }
}
