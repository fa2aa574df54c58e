//! The two halves of a backend, as far as opening and closing go: a mailbox and a transport, over connections that both use
//! and that end with the last of them.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{Error, ErrorKind, Result};

/// What both halves use.
#[async_trait]
pub trait Shared: Send + Sync + 'static {
    /// The name that the user gave to the backend.
    fn name(&self) -> &str;

    /// Ends it: the last half was closed.
    async fn close(&self);

    /// The same where the last half was dropped, so that nobody waits for a goodbye. What ends with whoever uses it last
    /// needs nothing.
    fn abandon(&self) {}
}

/// One half of a backend.
pub struct Half<N: Shared> {
    network: Arc<N>,
    /// The halves that are open.
    open: Arc<AtomicUsize>,
    closed: watch::Sender<bool>,
}

/// Two halves that share this: whatever is opened first is closed once, with the second of them.
pub fn halves<N: Shared>(network: N) -> (Half<N>, Half<N>) {
    let (network, open) = (Arc::new(network), Arc::new(AtomicUsize::new(2)));
    let half = || Half { network: Arc::clone(&network), open: Arc::clone(&open), closed: watch::channel(false).0 };
    (half(), half())
}

impl<N: Shared> Half<N> {
    /// What is behind it.
    ///
    /// # Errors
    /// `Closed`.
    pub fn network(&self) -> Result<&Arc<N>> {
        if *self.closed.borrow() { Err(closed()) } else { Ok(&self.network) }
    }

    /// What does not end with it.
    pub fn still(&self) -> &N {
        &self.network
    }

    /// Tells of its end.
    pub fn end(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    /// Does something, until this half is closed.
    ///
    /// # Errors
    /// `Closed`; those of the work.
    pub async fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut end = self.end();
        tokio::select! {
            biased;
            done = work => done,
            _ = end.wait_for(|closed| *closed) => Err(closed()),
        }
    }

    /// Ends it, once.
    pub async fn close(&self) {
        if self.leave() {
            self.network.close().await;
        }
    }

    /// Whether what is shared ends with this.
    fn leave(&self) -> bool {
        !self.closed.send_replace(true) && self.open.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

impl<N: Shared> Drop for Half<N> {
    fn drop(&mut self) {
        if self.leave() {
            self.network.abandon();
        }
    }
}

impl<N: Shared> fmt::Debug for Half<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Half").field("name", &self.network.name()).finish_non_exhaustive()
    }
}

/// The error of everything that comes after the end.
pub fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the backend was closed")
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Ends(Arc<Mutex<Vec<&'static str>>>);

    impl Ends {
        fn told(&self) -> Vec<&'static str> {
            self.0.lock().expect("no panic").clone()
        }
    }

    #[async_trait]
    impl Shared for Ends {
        fn name(&self) -> &str {
            "ends"
        }

        async fn close(&self) {
            self.0.lock().expect("no panic").push("closed");
        }

        fn abandon(&self) {
            self.0.lock().expect("no panic").push("abandoned");
        }
    }

    #[tokio::test]
    async fn what_is_shared_ends_once_and_with_the_last_half() {
        let ends = Ends::default();
        let (one, other) = halves(ends.clone());
        one.close().await;
        one.close().await;
        assert_eq!(one.network().err().map(|error| error.kind()), Some(ErrorKind::Closed));
        assert!(other.network().is_ok() && ends.told().is_empty());
        other.close().await;
        drop((one, other));
        assert_eq!(ends.told(), ["closed"]);
    }

    #[tokio::test]
    async fn what_is_dropped_is_left_without_a_goodbye() {
        let ends = Ends::default();
        let (one, other) = halves(ends.clone());
        one.close().await;
        drop(other);
        assert_eq!(ends.told(), ["abandoned"]);
    }

    #[tokio::test]
    async fn work_goes_on_until_the_half_is_closed() {
        let (half, _other) = halves(Ends::default());
        assert_eq!(half.run(async { Ok(1) }).await.expect("is done"), 1);
        let (hung, ()) = tokio::join!(half.run(pending::<Result<()>>()), half.close());
        assert_eq!(hung.expect_err("never ends by itself").kind(), ErrorKind::Closed);
    }
}
