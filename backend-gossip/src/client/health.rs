//! Which nodes are away: a node that let a caller wait in vain is not asked again for a while, so that it does not cost
//! every call a time-out. One that refuses a connection costs nothing, and is asked each time.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use talkbox_core::{Error, ErrorKind, Result, Retry};
use talkbox_net::BackOff;
use tokio::time::Instant;

use super::node_url::NodeUrl;

/// A failure that took so long is not worth being met at every call.
const SLOW: Duration = Duration::from_secs(1);
/// Most nodes that are remembered as away: those of one's own and what others' records name.
const MAX_AWAY: usize = 512;

/// The nodes that are away.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<HashMap<NodeUrl, Away>>);

#[derive(Debug)]
struct Away {
    back_off: BackOff,
    until: Instant,
    kind: ErrorKind,
}

impl Health {
    /// Whether a node may be asked now.
    ///
    /// # Errors
    /// That of its last failure, while it is left alone; trying again at once does not help.
    pub(super) fn check(&self, node: &NodeUrl) -> Result<()> {
        match self.lock().get(node) {
            Some(away) if away.until > Instant::now() => {
                let error = Error::new(away.kind, "the node did not answer lately, and is left alone for a moment");
                Err(error.retry(Retry::Exhausted).with("node", node))
            }
            _ => Ok(()),
        }
    }

    /// The node answered, whatever it said.
    pub(super) fn answered(&self, node: &NodeUrl) {
        self.lock().remove(node);
    }

    /// Asking the node failed with this, after so long.
    pub(super) fn failed(&self, node: &NodeUrl, error: &Error, took: Duration) {
        let is_away = match error.kind() {
            ErrorKind::Timeout => true,
            ErrorKind::Unreachable => took >= SLOW,
            _ => false,
        };
        if !is_away {
            return;
        }
        let now = Instant::now();
        let mut all = self.lock();
        if all.len() >= MAX_AWAY && !all.contains_key(node) {
            // They are found out again soon enough.
            all.clear();
        }
        let fresh = || Away { back_off: BackOff::new(None), until: now, kind: error.kind() };
        let away = all.entry(node.clone()).or_insert_with(fresh);
        // Those that were asked together failed together: that is one failure.
        if away.until <= now {
            away.back_off.fail();
            away.until = now + away.back_off.pause();
            away.kind = error.kind();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeUrl, Away>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: usize) -> NodeUrl {
        NodeUrl::parse(&format!("https://{number}.example")).expect("a node")
    }

    fn late() -> Error {
        Error::new(ErrorKind::Timeout, "no answer")
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_does_not_answer_is_left_alone_for_longer_each_time() {
        let health = Health::default();
        for most in [2, 3, 6] {
            health.check(&node(1)).expect("may be asked");
            // Many were asking at once.
            (0..10).for_each(|_| health.failed(&node(1), &late(), Duration::from_secs(10)));
            let error = health.check(&node(1)).expect_err("left alone");
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Timeout, false));
            health.check(&node(2)).expect("another node");
            tokio::time::advance(Duration::from_secs(most)).await;
        }
        health.answered(&node(1));
        health.failed(&node(1), &late(), Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(2)).await;
        health.check(&node(1)).expect("after an answer it begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_at_once_costs_nothing() {
        let health = Health::default();
        let refused = Error::new(ErrorKind::Unreachable, "connection refused");
        health.failed(&node(1), &refused, Duration::from_millis(5));
        health.failed(&node(1), &Error::new(ErrorKind::TooLarge, "too much"), Duration::from_secs(9));
        health.check(&node(1)).expect("may be asked");
        health.failed(&node(1), &refused, SLOW);
        assert_eq!(health.check(&node(1)).expect_err("left alone").kind(), ErrorKind::Unreachable);
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_remembered_nodes_is_bounded() {
        let health = Health::default();
        (0..2 * MAX_AWAY).for_each(|number| health.failed(&node(number), &late(), SLOW));
        assert!(health.lock().len() <= MAX_AWAY);
    }
}
