//! `Timeout`: a hang is not an error until something makes it one.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    DeleteRequest, EnvelopeId, Error, ErrorKind, MailboxId, Result,
    address::Target,
    capability::{Capabilities, Descriptor},
    clock::Timestamp,
    envelope::Envelope,
    hint::Hint,
    locator::Locator,
    mailbox::{
        AuditOptions, DeleteOptions, Difference, ListOptions, Mailbox, Page, PutOptions, Reconcile, ReconcileOptions,
        WatchEvent, WatchOptions,
    },
    receipt::{Deletion, Holding, Receipt},
    record::MailboxRecord,
    transport::{NotifyOptions, PublishOptions, ResolveEvent, ResolveOptions, SubscribeOptions, Transport},
};

/// How long calls may take. Backends have shorter time-outs inside, holder by holder, which say more; these are what
/// holds when a backend has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// One call.
    pub call: Duration,
    /// What each further item of one call adds: envelopes of a `put`, ids of an audit, requests of a deletion.
    pub item: Duration,
    /// The whole of a `resolve`.
    pub resolve: Duration,
    /// A reconciliation, which goes to and fro.
    pub reconcile: Duration,
    /// Closing.
    pub close: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(30),
            // 64 KiB in this time is 5 Mbit/s.
            item: Duration::from_millis(100),
            resolve: Duration::from_secs(30),
            reconcile: Duration::from_secs(60),
            close: Duration::from_secs(5),
        }
    }
}

impl Timeouts {
    fn of_items(&self, count: usize) -> Duration {
        self.call.saturating_add(self.item.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)))
    }
}

#[derive(Debug)]
pub(super) struct TimedMailbox {
    pub(super) inner: Arc<dyn Mailbox>,
    pub(super) timeouts: Timeouts,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Mailbox for TimedMailbox {
    fn descriptor(&self) -> &Descriptor {
        self.inner.descriptor()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn holders(&self) -> Vec<Locator> {
        self.inner.holders()
    }

    async fn put(&self, envelopes: &[Envelope], options: PutOptions) -> Vec<Result<Receipt>> {
        let allowed = self.timeouts.of_items(envelopes.len());
        let answers = timeout(allowed, self.inner.put(envelopes, options)).await;
        answers.unwrap_or_else(|_| envelopes.iter().map(|_| Err(timed_out("put", allowed))).collect())
    }

    async fn list(&self, owner: MailboxId, holder: &Locator, options: ListOptions) -> Result<Page> {
        within(self.timeouts.call, "list", self.inner.list(owner, holder, options))
            .await
            .map_err(|error| at_holder(error, holder))
    }

    async fn audit(
        &self,
        owner: MailboxId,
        holder: &Locator,
        ids: &[EnvelopeId],
        options: AuditOptions,
    ) -> Result<Vec<Holding>> {
        let allowed = self.timeouts.of_items(ids.len());
        within(allowed, "audit", self.inner.audit(owner, holder, ids, options))
            .await
            .map_err(|error| at_holder(error, holder))
    }

    async fn delete(&self, requests: &[DeleteRequest], options: DeleteOptions) -> Vec<Result<Deletion>> {
        let allowed = self.timeouts.of_items(requests.len());
        let answers = timeout(allowed, self.inner.delete(requests, options)).await;
        answers.unwrap_or_else(|_| requests.iter().map(|_| Err(timed_out("delete", allowed))).collect())
    }

    /// A watch lasts for as long as somebody listens.
    fn watch(&self, owner: MailboxId, options: WatchOptions) -> Option<BoxStream<'static, Result<WatchEvent>>> {
        self.inner.watch(owner, options)
    }

    fn reconciler(&self, holder: &Locator) -> Option<Arc<dyn Reconcile>> {
        let inner = self.inner.reconciler(holder)?;
        Some(Arc::new(TimedReconcile { inner, allowed: self.timeouts.reconcile }))
    }

    async fn close(&self) {
        if timeout(self.timeouts.close, self.inner.close()).await.is_err() {
            tracing::warn!(backend = self.inner.descriptor().name, "the mailbox does not close");
        }
    }
}

#[derive(Debug)]
struct TimedReconcile {
    inner: Arc<dyn Reconcile>,
    allowed: Duration,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Reconcile for TimedReconcile {
    async fn difference(
        &self,
        owner: MailboxId,
        ours: &[(Timestamp, EnvelopeId)],
        options: ReconcileOptions,
    ) -> Result<Difference> {
        within(self.allowed, "reconcile", self.inner.difference(owner, ours, options)).await
    }
}

#[derive(Debug)]
pub(super) struct TimedTransport {
    pub(super) inner: Arc<dyn Transport>,
    pub(super) timeouts: Timeouts,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Transport for TimedTransport {
    fn descriptor(&self) -> &Descriptor {
        self.inner.descriptor()
    }

    async fn publish(&self, record: &MailboxRecord, options: PublishOptions) -> Result<Receipt> {
        within(self.timeouts.call, "publish", self.inner.publish(record, options)).await
    }

    /// When the time runs out, the stream says so and ends; what came before stands.
    fn resolve(&self, target: &Target, options: ResolveOptions) -> BoxStream<'static, Result<ResolveEvent>> {
        let (allowed, deadline) = (self.timeouts.resolve, Instant::now() + self.timeouts.resolve);
        let answers = self.inner.resolve(target, options);
        stream::unfold(Some(answers), move |answers| async move {
            let mut answers = answers?;
            match timeout_at(deadline, answers.next()).await {
                Ok(answer) => Some((answer?, Some(answers))),
                Err(_) => Some((Err(timed_out("resolve", allowed)), None)),
            }
        })
        .boxed()
    }

    async fn notify(&self, hint: &Hint, options: NotifyOptions) -> Result<()> {
        within(self.timeouts.call, "notify", self.inner.notify(hint, options)).await
    }

    fn subscribe(&self, owner: MailboxId, options: SubscribeOptions) -> BoxStream<'static, Result<Hint>> {
        self.inner.subscribe(owner, options)
    }

    async fn close(&self) {
        if timeout(self.timeouts.close, self.inner.close()).await.is_err() {
            tracing::warn!(backend = self.inner.descriptor().name, "the transport does not close");
        }
    }
}

async fn within<T>(allowed: Duration, op: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(allowed, call).await.unwrap_or_else(|_| Err(timed_out(op, allowed)))
}

fn timed_out(op: &'static str, allowed: Duration) -> Error {
    Error::new(ErrorKind::Timeout, "no answer").op(op).with("within", format_args!("{} s", allowed.as_secs_f64()))
}

/// Names the holder, unless something inside did.
fn at_holder(error: Error, holder: &Locator) -> Error {
    if error.context("holder").is_some() { error } else { error.with("holder", holder) }
}
