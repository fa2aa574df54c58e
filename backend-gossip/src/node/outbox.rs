//! What waits to be sent on one connection. It is bounded, and a client that does not take it is disconnected.
//!
//! There are two ways in. What a client asked for waits for room ([`Outbox::send`]), so that a slow reader of a long
//! answer slows only its own answer. What happens by itself (live events, OKs) never waits ([`Outbox::push`]), since
//! nobody else may wait for a slow client; where there is no room the connection ends.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::extract::ws::Utf8Bytes;
use tokio::sync::Notify;

/// What a message costs besides its bytes.
const OVERHEAD: usize = 64;

/// The bytes that wait on all connections of a node.
#[derive(Debug)]
pub(crate) struct Pending {
    bytes: AtomicUsize,
    limit: usize,
}

impl Pending {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), limit }
    }
}

/// The messages that wait on one connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    /// Something waits, or the connection has to end.
    filled: Notify,
    /// There may be room again.
    drained: Notify,
    limit: usize,
    node: Arc<Pending>,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Utf8Bytes>,
    bytes: usize,
    /// The client was too slow.
    overrun: bool,
}

impl Outbox {
    pub(crate) fn new(limit: usize, node: Arc<Pending>) -> Self {
        Self { queue: Mutex::default(), filled: Notify::new(), drained: Notify::new(), limit, node }
    }

    /// Queues a message that cannot wait. Without room for it, all that waits is dropped and the connection ends.
    pub(crate) fn push(&self, message: impl Into<Utf8Bytes>) {
        let message = message.into();
        let cost = message.len() + OVERHEAD;
        let mut queue = self.lock();
        if queue.overrun {
            return;
        }
        let total = self.node.bytes.fetch_add(cost, Ordering::Relaxed) + cost;
        queue.bytes += cost;
        if queue.bytes > self.limit || total > self.node.limit {
            self.clear(&mut queue);
            queue.overrun = true;
            self.drained.notify_waiters();
        } else {
            queue.messages.push_back(message);
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// Queues a message when less than half of the room is taken; the other half is for what cannot wait.
    pub(crate) async fn send(&self, message: impl Into<Utf8Bytes>) {
        loop {
            let room = self.drained.notified();
            tokio::pin!(room);
            // From here on a wake-up is not missed, even one between the look and the wait.
            room.as_mut().enable();
            let has_room = {
                let queue = self.lock();
                queue.overrun || queue.bytes < self.limit / 2
            };
            if has_room {
                return self.push(message);
            }
            room.await;
        }
    }

    /// Ends the connection as if it were too slow: for what waits elsewhere on its behalf.
    pub(crate) fn overrun(&self) {
        let mut queue = self.lock();
        self.clear(&mut queue);
        queue.overrun = true;
        drop(queue);
        self.drained.notify_waiters();
        self.filled.notify_one();
    }

    /// Waits until something is there to be sent, or the connection has to end.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Takes messages of about so many bytes, and says whether the client was too slow.
    pub(crate) fn take(&self, bytes: usize) -> (Vec<Utf8Bytes>, bool) {
        let mut queue = self.lock();
        let (mut taken, mut size) = (Vec::new(), 0);
        while size < bytes
            && let Some(message) = queue.messages.pop_front()
        {
            size += message.len();
            taken.push(message);
        }
        let cost = size + taken.len() * OVERHEAD;
        queue.bytes -= cost;
        self.node.bytes.fetch_sub(cost, Ordering::Relaxed);
        if queue.bytes < self.limit / 2 {
            self.drained.notify_waiters();
        }
        if !queue.messages.is_empty() {
            self.filled.notify_one();
        }
        (taken, queue.overrun)
    }

    /// Most bytes that may wait.
    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().messages.is_empty()
    }

    fn clear(&self, queue: &mut Queue) {
        self.node.bytes.fetch_sub(queue.bytes, Ordering::Relaxed);
        queue.bytes = 0;
        queue.messages = VecDeque::new();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut queue = std::mem::take(self.queue.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.clear(&mut queue);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn outbox(limit: usize) -> (Outbox, Arc<Pending>) {
        let node = Arc::new(Pending::new(10_000));
        (Outbox::new(limit, Arc::clone(&node)), node)
    }

    #[test]
    fn what_does_not_fit_ends_the_connection_and_frees_the_memory() {
        let (outbox, node) = outbox(500);
        outbox.push("x".repeat(200));
        assert_eq!(outbox.take(1).0.len(), 1);
        outbox.push("x".repeat(200));
        outbox.push("x".repeat(200));
        outbox.push("x".repeat(200));
        let (messages, overrun) = outbox.take(1_000);
        assert!(messages.is_empty() && overrun);
        assert_eq!(node.bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn an_answer_waits_for_room() {
        let (outbox, _) = outbox(1_000);
        outbox.send("x".repeat(600)).await;
        let waiting = outbox.send("y".to_owned());
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        outbox.take(1_000);
        waiting.await;
        assert_eq!(outbox.take(1_000).0.len(), 1);
    }
}
