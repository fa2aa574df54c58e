//! One half of an opened backend: what mailbox and transport have in common.

use tokio::sync::watch;

use super::MemoryNetwork;
use crate::{Error, ErrorKind, Result, capability::Descriptor, locator::Locator};

/// One half of an opened backend: open until it is closed.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) network: MemoryNetwork,
    pub(super) descriptor: Descriptor,
    pub(super) holders: Vec<Locator>,
    closed: watch::Sender<bool>,
}

impl Half {
    pub(super) fn new(network: MemoryNetwork, descriptor: Descriptor, holders: Vec<Locator>) -> Self {
        Self { network, descriptor, holders, closed: watch::Sender::new(false) }
    }

    /// # Errors
    /// `Closed` once it is.
    pub(super) fn check_open(&self) -> Result<()> {
        if *self.closed.borrow() { Err(Error::new(ErrorKind::Closed, "the backend was closed")) } else { Ok(()) }
    }

    /// Ends when it is closed.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut closed = self.closed.subscribe();
        async move {
            // That the sender is gone says that the backend was dropped, which closes nothing that still runs.
            if closed.wait_for(|closed| *closed).await.is_err() {
                std::future::pending().await
            }
        }
    }

    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// The holders that a call is for.
    pub(super) fn at<'a>(&'a self, at: &'a [Locator]) -> &'a [Locator] {
        if at.is_empty() { &self.holders } else { at }
    }
}
