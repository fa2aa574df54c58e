//! Layers: what every backend gets for nothing, and none has to write.
//!
//! From the inside out: `Check` refuses what cannot work before it reaches the network; `Timeout` makes an error of a
//! hang; `Retry` tries again, with a time-out on every try; `Metrics` counts what came out in the end. The order is
//! fixed by [`Stack`], since a time-out around a retry would leave tries running that nobody waits for.

mod backoff;
mod check;
mod counted;
mod metrics;
mod prometheus;
mod retry;
mod timeout;

use std::sync::Arc;

pub(crate) use self::backoff::jittered;
pub use self::{
    backoff::RetryPolicy,
    metrics::{Counts, Metrics, Operation, Snapshot},
    prometheus::prometheus,
    timeout::Timeouts,
};
use self::{
    check::{CheckedMailbox, CheckedTransport},
    counted::{CountedMailbox, CountedTransport},
    retry::{RetriedMailbox, RetriedTransport},
    timeout::{TimedMailbox, TimedTransport},
};
use crate::{mailbox::Mailbox, transport::Transport};

/// All layers in their one order, for the halves of one backend.
#[derive(Clone, Debug, Default)]
pub struct Stack {
    timeouts: Timeouts,
    retry: RetryPolicy,
    metrics: Arc<Metrics>,
}

impl Stack {
    /// With other time-outs.
    #[must_use]
    pub const fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// With another way of trying again.
    #[must_use]
    pub const fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// The same layers for another backend: with counters of its own.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { timeouts: self.timeouts, retry: self.retry, metrics: Arc::default() }
    }

    /// What the layers count.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// A mailbox inside all layers.
    pub fn mailbox(&self, mailbox: Arc<dyn Mailbox>) -> Arc<dyn Mailbox> {
        let checked = Arc::new(CheckedMailbox { inner: mailbox });
        let timed = Arc::new(TimedMailbox { inner: checked, timeouts: self.timeouts });
        let retried = Arc::new(RetriedMailbox { inner: timed, policy: self.retry, metrics: self.metrics() });
        Arc::new(CountedMailbox { inner: retried, metrics: self.metrics() })
    }

    /// A transport inside all layers.
    pub fn transport(&self, transport: Arc<dyn Transport>) -> Arc<dyn Transport> {
        let checked = Arc::new(CheckedTransport { inner: transport });
        let timed = Arc::new(TimedTransport { inner: checked, timeouts: self.timeouts });
        let retried = Arc::new(RetriedTransport { inner: timed, policy: self.retry, metrics: self.metrics() });
        Arc::new(CountedTransport { inner: retried, metrics: self.metrics() })
    }
}
