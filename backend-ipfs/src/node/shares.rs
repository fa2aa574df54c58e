//! Work that others give, shared out: whoever gives much of it waits for itself, and the rest do not.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use libp2p::PeerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many are remembered before those are forgotten that have nothing to do.
const REMEMBERED: usize = 512;

/// How much of something each peer, or each of whatever they are told apart by, may have at once.
#[derive(Debug)]
pub(crate) struct Shares<K = PeerId> {
    of_one: usize,
    all: Mutex<HashMap<K, Arc<Semaphore>>>,
}

/// A part of a share, until it is dropped.
pub(crate) type Share = Option<OwnedSemaphorePermit>;

impl<K: Eq + Hash> Shares<K> {
    /// Of which one has so many.
    pub(crate) fn new(of_one: usize) -> Self {
        Self { of_one, all: Mutex::default() }
    }

    /// Waits until less than its share is taken by this one.
    pub(crate) async fn wait(&self, one: K) -> Share {
        // Nobody closes them.
        self.of(one).acquire_owned().await.ok()
    }

    /// A part of the share, if there is one left.
    pub(crate) fn take(&self, one: K) -> Share {
        self.of(one).try_acquire_owned().ok()
    }

    fn of(&self, one: K) -> Arc<Semaphore> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED {
            // Whoever has or waits for a part holds on to it.
            all.retain(|_, share| Arc::strong_count(share) > 1);
        }
        Arc::clone(all.entry(one).or_insert_with(|| Arc::new(Semaphore::new(self.of_one))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_peer_takes_its_share_and_no_more() {
        let shares = Shares::new(2);
        let (greedy, other) = (PeerId::random(), PeerId::random());
        let first = shares.wait(greedy).await;
        let second = shares.take(greedy);
        assert!(first.is_some() && second.is_some() && shares.take(greedy).is_none());
        assert!(shares.take(other).is_some());
        drop(first);
        assert!(shares.wait(greedy).await.is_some());
    }

    #[test]
    fn those_who_are_done_are_forgotten() {
        let shares = Shares::new(1);
        let busy = PeerId::random();
        let held = shares.take(busy);
        (0..3 * REMEMBERED).for_each(|_| drop(shares.take(PeerId::random())));
        assert!(shares.all.lock().expect("not poisoned").len() <= REMEMBERED);
        assert!(held.is_some() && shares.take(busy).is_none());
    }
}
