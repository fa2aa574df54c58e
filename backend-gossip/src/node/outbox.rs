//! What waits to be sent on one connection. It is bounded, and a client that does not take it is disconnected.
//!
//! What a client asked for is read only when there is room for it ([`Outbox::room`]), so that a slow reader of a long
//! answer slows only its own answer. What happens by itself (live events, OKs) never waits, since nobody else may wait
//! for a slow client; where there is no room the connection ends.

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

    /// How many bytes wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
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
    /// What waits elsewhere on behalf of the client, and becomes messages.
    held: usize,
    /// The client was too slow.
    overrun: bool,
}

impl Outbox {
    pub(crate) fn new(limit: usize, node: Arc<Pending>) -> Self {
        Self { queue: Mutex::default(), filled: Notify::new(), drained: Notify::new(), limit, node }
    }

    /// Queues a message that cannot wait. Without room for it, all that waits is dropped and the connection ends.
    pub(crate) fn push(&self, message: impl Into<Utf8Bytes>) {
        self.push_all([message.into()]);
    }

    /// Queues several together, so that whoever sends them is woken once.
    pub(crate) fn push_all(&self, messages: impl IntoIterator<Item = Utf8Bytes>) {
        let mut queue = self.lock();
        for message in messages {
            if queue.overrun {
                break;
            }
            let cost = message.len() + OVERHEAD;
            let total = self.node.bytes.fetch_add(cost, Ordering::Relaxed) + cost;
            queue.bytes += cost;
            queue.messages.push_back(message);
            if self.is_too_much(&queue, total, cost) {
                self.overrun(&mut queue);
            }
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// Waits until less than half of the room is taken, here and on the node; the other half is for what cannot wait.
    /// Whether the connection goes on. Where nothing waits there is always room: the others may be slower.
    pub(crate) async fn room(&self) -> bool {
        loop {
            let room = self.drained.notified();
            tokio::pin!(room);
            // From here on a wake-up is not missed, even one between the look and the wait.
            room.as_mut().enable();
            {
                let queue = self.lock();
                if queue.overrun {
                    return false;
                }
                let is_node_roomy = self.node.bytes.load(Ordering::Relaxed) < self.node.limit / 2;
                if queue.bytes == 0 || is_node_roomy && queue.bytes < self.limit / 2 {
                    return true;
                }
            }
            room.await;
        }
    }

    /// Counts what is held back elsewhere on behalf of the client. Whether there is room; if not, the connection ends.
    pub(crate) fn hold(&self, bytes: usize) -> bool {
        let mut queue = self.lock();
        if queue.overrun {
            return false;
        }
        let total = self.node.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        queue.held += bytes;
        if self.is_too_much(&queue, total, bytes) {
            self.overrun(&mut queue);
            drop(queue);
            self.filled.notify_one();
            return false;
        }
        true
    }

    /// What was held back is so no longer.
    pub(crate) fn release(&self, bytes: usize) {
        let mut queue = self.lock();
        // An overrun gave it back already.
        if !queue.overrun {
            queue.held -= bytes;
            self.node.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// With the last of this cost. A client that takes all it is sent may have one message however full the node is:
    /// those who take nothing must not cost it its connection.
    fn is_too_much(&self, queue: &Queue, total: usize, last: usize) -> bool {
        queue.bytes.max(queue.held) > self.limit || total > self.node.limit && queue.bytes + queue.held > last
    }

    /// Ends the connection, since what it waits for will not come.
    pub(crate) fn end(&self) {
        self.overrun(&mut self.lock());
        self.filled.notify_one();
    }

    fn overrun(&self, queue: &mut Queue) {
        self.clear(queue);
        queue.overrun = true;
        self.drained.notify_waiters();
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

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().messages.is_empty()
    }

    fn clear(&self, queue: &mut Queue) {
        self.node.bytes.fetch_sub(queue.bytes + queue.held, Ordering::Relaxed);
        queue.bytes = 0;
        queue.held = 0;
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
        assert!(outbox.room().await);
        outbox.push("x".repeat(600));
        let waiting = outbox.room();
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        outbox.take(1_000);
        assert!(waiting.await);
    }

    #[tokio::test]
    async fn a_full_node_costs_those_who_take_nothing() {
        let node = Arc::new(Pending::new(1_000));
        let [slow, good, late] = [(); 3].map(|()| Outbox::new(1_000, Arc::clone(&node)));
        slow.push("x".repeat(900));
        assert!(good.room().await, "nothing waits for it");
        good.push("x".repeat(100));
        assert_eq!(good.take(1_000).0.len(), 1);
        late.push("x");
        assert!(late.room().now_or_never().is_none(), "the node has no room for more than one page");
        slow.push("x".repeat(90));
        assert!(slow.take(1_000).1, "it ends");
        assert!(late.room().await);
        drop((slow, late));
        assert_eq!(node.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_held_back_counts_too() {
        let (outbox, node) = outbox(500);
        assert!(outbox.hold(300));
        assert_eq!(node.bytes.load(Ordering::Relaxed), 300);
        outbox.release(300);
        assert_eq!(node.bytes.load(Ordering::Relaxed), 0);
        assert!(outbox.hold(300) && !outbox.hold(300));
        outbox.release(300);
        assert!(outbox.take(1).1 && node.bytes.load(Ordering::Relaxed) == 0);
    }
}
