//! The counters of a backend. Never an id, an address or a key.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    ErrorKind, Result,
    envelope::{Envelope, RawEnvelope},
    receipt::Receipt,
};
#[cfg(doc)]
use crate::{Mailbox, Reconcile, Transport};

/// The operations of both traits, as they are named in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`Mailbox::put`].
    Put,
    /// [`Mailbox::list`].
    List,
    /// [`Mailbox::audit`].
    Audit,
    /// [`Mailbox::delete`].
    Delete,
    /// [`Mailbox::watch`]; a call is a watch, an error one that it reported.
    Watch,
    /// [`Reconcile::difference`].
    Reconcile,
    /// [`Transport::publish`].
    Publish,
    /// [`Transport::resolve`]; a call is a resolution, an error a source that failed.
    Resolve,
    /// [`Transport::notify`].
    Notify,
    /// [`Transport::subscribe`]; a call is a subscription, an error one that it reported.
    Subscribe,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Put,
        Self::List,
        Self::Audit,
        Self::Delete,
        Self::Watch,
        Self::Reconcile,
        Self::Publish,
        Self::Resolve,
        Self::Notify,
        Self::Subscribe,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::List => "list",
            Self::Audit => "audit",
            Self::Delete => "delete",
            Self::Watch => "watch",
            Self::Reconcile => "reconcile",
            Self::Publish => "publish",
            Self::Resolve => "resolve",
            Self::Notify => "notify",
            Self::Subscribe => "subscribe",
        }
    }
}

/// Every kind of error; one that is added later counts as the last until it is listed.
const KINDS: [ErrorKind; 16] = [
    ErrorKind::Unsupported,
    ErrorKind::ConfigInvalid,
    ErrorKind::InvalidInput,
    ErrorKind::InvalidEnvelope,
    ErrorKind::VerificationFailed,
    ErrorKind::NotFound,
    ErrorKind::Denied,
    ErrorKind::Refused,
    ErrorKind::RateLimited,
    ErrorKind::TooLarge,
    ErrorKind::Locked,
    ErrorKind::Unreachable,
    ErrorKind::Timeout,
    ErrorKind::Closed,
    ErrorKind::Storage,
    ErrorKind::Unexpected,
];

/// The upper ends of the buckets of time, in seconds; what takes longer than the last is in none.
const BUCKETS: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 30.0];

/// The counters of one backend.
#[derive(Debug, Default)]
pub struct Metrics {
    operations: [Counters; Operation::ALL.len()],
    envelopes_out: AtomicU64,
    bytes_out: AtomicU64,
    envelopes_in: AtomicU64,
    bytes_in: AtomicU64,
    acks: AtomicU64,
    pending: AtomicU64,
    refused: AtomicU64,
    lagged: AtomicU64,
}

#[derive(Debug, Default)]
struct Counters {
    calls: AtomicU64,
    retries: AtomicU64,
    errors: [AtomicU64; KINDS.len()],
    micros: AtomicU64,
    buckets: [AtomicU64; BUCKETS.len()],
}

/// The counters of one backend at one moment.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The counters of every operation, as in [`Operation::ALL`].
    pub operations: Vec<(&'static str, Counts)>,
    /// Envelopes of all `put` calls.
    pub envelopes_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Envelopes that `list` and `watch` gave, not yet checked.
    pub envelopes_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Acks of all receipts.
    pub acks: u64,
    /// Envelopes that a holder has queued, of all receipts.
    pub pending: u64,
    /// Refusals of all receipts.
    pub refused: u64,
    /// How often a watch said that something may be missing.
    pub lagged: u64,
}

/// The counters of one operation at one moment.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Calls, each counted once however often it was tried.
    pub calls: u64,
    /// Further tries.
    pub retries: u64,
    /// Errors that came out, by kind; those that did not happen are left out. An operation with several answers may
    /// have several.
    pub errors: Vec<(&'static str, u64)>,
    /// The time of all calls together, in seconds. A watch and a subscription have none.
    pub seconds: f64,
    /// For each upper end in seconds, how many calls took at most that long.
    pub buckets: Vec<(f64, u64)>,
}

impl Metrics {
    /// What has been counted until now.
    pub fn snapshot(&self) -> Snapshot {
        let operations = Operation::ALL.iter().zip(&self.operations);
        Snapshot {
            operations: operations.map(|(operation, counters)| (operation.as_str(), counters.counts())).collect(),
            envelopes_out: self.envelopes_out.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            envelopes_in: self.envelopes_in.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            acks: self.acks.load(Relaxed),
            pending: self.pending.load(Relaxed),
            refused: self.refused.load(Relaxed),
            lagged: self.lagged.load(Relaxed),
        }
    }

    pub(super) fn retried(&self, operation: Operation) {
        self.counters(operation).retries.fetch_add(1, Relaxed);
    }

    fn counters(&self, operation: Operation) -> &Counters {
        &self.operations[operation as usize]
    }

    pub(super) fn called(&self, operation: Operation) {
        self.counters(operation).calls.fetch_add(1, Relaxed);
    }

    fn took(&self, operation: Operation, time: Duration) {
        let counters = self.counters(operation);
        counters.micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Relaxed);
        if let Some(bucket) = BUCKETS.iter().position(|end| time.as_secs_f64() <= *end) {
            counters.buckets[bucket].fetch_add(1, Relaxed);
        }
    }

    pub(super) fn failed(&self, operation: Operation, kind: ErrorKind) {
        let place = KINDS.iter().position(|known| *known == kind).unwrap_or(KINDS.len() - 1);
        self.counters(operation).errors[place].fetch_add(1, Relaxed);
    }

    pub(super) fn came_in(&self, raw: &RawEnvelope) {
        self.envelopes_in.fetch_add(1, Relaxed);
        self.bytes_in.fetch_add(raw.json().len() as u64, Relaxed);
    }

    pub(super) fn went_out(&self, envelopes: &[Envelope]) {
        let bytes: usize = envelopes.iter().map(|envelope| envelope.json().len()).sum();
        self.envelopes_out.fetch_add(envelopes.len() as u64, Relaxed);
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn lagged(&self) {
        self.lagged.fetch_add(1, Relaxed);
    }

    pub(super) fn receipt(&self, receipt: &Receipt) {
        self.acks.fetch_add(receipt.acks.len() as u64, Relaxed);
        self.pending.fetch_add(receipt.pending.len() as u64, Relaxed);
        self.refused.fetch_add(receipt.refused.len() as u64, Relaxed);
    }

    /// Counts one call, and its error.
    pub(super) async fn count<T>(&self, operation: Operation, call: impl Future<Output = Result<T>>) -> Result<T> {
        let answer = self.time(operation, call).await;
        if let Err(error) = &answer {
            self.failed(operation, error.kind());
        }
        answer
    }

    pub(super) async fn time<T>(&self, operation: Operation, call: impl Future<Output = T>) -> T {
        self.called(operation);
        let start = Instant::now();
        let answer = call.await;
        self.took(operation, start.elapsed());
        answer
    }
}

impl Counters {
    fn counts(&self) -> Counts {
        let errors = KINDS.iter().zip(&self.errors).map(|(kind, count)| (kind.as_str(), count.load(Relaxed)));
        let mut within = 0;
        let buckets = BUCKETS.iter().zip(&self.buckets).map(|(end, count)| {
            within += count.load(Relaxed);
            (*end, within)
        });
        Counts {
            calls: self.calls.load(Relaxed),
            retries: self.retries.load(Relaxed),
            buckets: buckets.collect(),
            errors: errors.filter(|(_, count)| *count > 0).collect(),
            seconds: self.micros.load(Relaxed) as f64 / 1e6,
        }
    }
}
