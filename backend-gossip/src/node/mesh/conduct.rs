//! What a peer may bring at once, and how much that is not what it claims. A peer is not counted as clients are, since it
//! brings what others were counted for; so this is what keeps one that floods from costing anybody but itself.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::node::refusal::{Reason, Refusal};

/// Batches of one peer that are taken in at once: while one is committed the next is verified. More would take the places
/// of clients.
const BATCHES: usize = 2;
/// Events of one minute that need not be what they claim. A peer verifies what it passes on, so that each is a fault.
const FORGED: usize = 64;
const MINUTE: Duration = Duration::from_secs(60);

/// The conduct of one peer.
#[derive(Debug)]
pub(crate) struct Conduct {
    batches: Arc<Semaphore>,
    forged: Mutex<Forged>,
}

#[derive(Debug)]
struct Forged {
    since: Instant,
    events: usize,
}

impl Default for Conduct {
    fn default() -> Self {
        Self {
            batches: Arc::new(Semaphore::new(BATCHES)),
            forged: Mutex::new(Forged { since: Instant::now(), events: 0 }),
        }
    }
}

impl Conduct {
    /// Waits for the peer's turn to bring a batch; it lasts until the permit is dropped.
    ///
    /// # Errors
    /// `RateLimited` for a peer that has brought too much that is not what it claims.
    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let refused =
            || Refusal::new(Reason::RateLimited, "this peer brings events that are not what they claim; slow down");
        // Never closed.
        let turn = Arc::clone(&self.batches).acquire_owned().await.map_err(|_| refused())?;
        // After the wait: meanwhile others of its batches have shown what they are.
        if self.forged(0) > FORGED { Err(refused()) } else { Ok(turn) }
    }

    /// Counts events that were not what they claim. How many there were within the minute.
    pub(crate) fn forged(&self, events: usize) -> usize {
        let mut forged = self.forged.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.duration_since(forged.since) >= MINUTE {
            *forged = Forged { since: now, events: 0 };
        }
        forged.events = forged.events.saturating_add(events);
        forged.events
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_forges_waits_for_the_minute_to_end() {
        let conduct = Conduct::default();
        conduct.forged(FORGED);
        assert!(conduct.turn().await.is_ok());
        conduct.forged(1);
        assert_eq!(conduct.turn().await.expect_err("refused").reason(), Reason::RateLimited);
        tokio::time::advance(MINUTE).await;
        assert!(conduct.turn().await.is_ok());
    }

    #[tokio::test]
    async fn only_some_batches_are_taken_at_once() {
        let conduct = Conduct::default();
        let turns = [conduct.turn().await.expect("one"), conduct.turn().await.expect("two")];
        assert!(conduct.turn().now_or_never().is_none());
        drop(turns);
        assert!(conduct.turn().now_or_never().is_some());
    }
}
