//! `Retry`: tries again what may go better, within a number of tries and a budget of time.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::{
    backoff::{RetryPolicy, Tries, asked, retry},
    metrics::{Metrics, Operation},
};
use crate::{
    DeleteRequest, EnvelopeId, MailboxId, Result,
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

#[derive(Debug)]
pub(super) struct RetriedMailbox {
    pub(super) inner: Arc<dyn Mailbox>,
    pub(super) policy: RetryPolicy,
    pub(super) metrics: Arc<Metrics>,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Mailbox for RetriedMailbox {
    fn descriptor(&self) -> &Descriptor {
        self.inner.descriptor()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn holders(&self) -> Vec<Locator> {
        self.inner.holders()
    }

    /// Tries again only the envelopes that nobody took and that somebody may take yet. A receipt with one ack is a
    /// success: the outbox fills up the rest.
    async fn put(&self, envelopes: &[Envelope], options: PutOptions) -> Vec<Result<Receipt>> {
        let tries = Tries::new(self.policy, &self.metrics, Operation::Put);
        let put = |left: Vec<Envelope>| {
            let (inner, options) = (Arc::clone(&self.inner), options.clone());
            async move { inner.put(&left, options).await }
        };
        retry_each(tries, envelopes, put).await
    }

    async fn list(&self, owner: MailboxId, holder: &Locator, options: ListOptions) -> Result<Page> {
        retry(self.policy, &self.metrics, Operation::List, || self.inner.list(owner, holder, options.clone())).await
    }

    async fn audit(
        &self,
        owner: MailboxId,
        holder: &Locator,
        ids: &[EnvelopeId],
        options: AuditOptions,
    ) -> Result<Vec<Holding>> {
        let audit = || self.inner.audit(owner, holder, ids, options.clone());
        retry(self.policy, &self.metrics, Operation::Audit, audit).await
    }

    async fn delete(&self, requests: &[DeleteRequest], options: DeleteOptions) -> Vec<Result<Deletion>> {
        let tries = Tries::new(self.policy, &self.metrics, Operation::Delete);
        let delete = |left: Vec<DeleteRequest>| {
            let (inner, options) = (Arc::clone(&self.inner), options.clone());
            async move { inner.delete(&left, options).await }
        };
        retry_each(tries, requests, delete).await
    }

    /// A watch tries lost holders again by itself.
    fn watch(&self, owner: MailboxId, options: WatchOptions) -> Option<BoxStream<'static, Result<WatchEvent>>> {
        self.inner.watch(owner, options)
    }

    fn reconciler(&self, holder: &Locator) -> Option<Arc<dyn Reconcile>> {
        let inner = self.inner.reconciler(holder)?;
        Some(Arc::new(RetriedReconcile { inner, policy: self.policy, metrics: Arc::clone(&self.metrics) }))
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[derive(Debug)]
struct RetriedReconcile {
    inner: Arc<dyn Reconcile>,
    policy: RetryPolicy,
    metrics: Arc<Metrics>,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Reconcile for RetriedReconcile {
    async fn difference(
        &self,
        owner: MailboxId,
        ours: &[(Timestamp, EnvelopeId)],
        options: ReconcileOptions,
    ) -> Result<Difference> {
        let difference = || self.inner.difference(owner, ours, options.clone());
        retry(self.policy, &self.metrics, Operation::Reconcile, difference).await
    }
}

#[derive(Debug)]
pub(super) struct RetriedTransport {
    pub(super) inner: Arc<dyn Transport>,
    pub(super) policy: RetryPolicy,
    pub(super) metrics: Arc<Metrics>,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Transport for RetriedTransport {
    fn descriptor(&self) -> &Descriptor {
        self.inner.descriptor()
    }

    async fn publish(&self, record: &MailboxRecord, options: PublishOptions) -> Result<Receipt> {
        let publish = || self.inner.publish(record, options.clone());
        retry(self.policy, &self.metrics, Operation::Publish, publish).await
    }

    /// A stream cannot be tried again half-way: its sources fail one by one, and who resolves asks again.
    fn resolve(&self, target: &Target, options: ResolveOptions) -> BoxStream<'static, Result<ResolveEvent>> {
        self.inner.resolve(target, options)
    }

    /// A hint may be lost, and one that comes late says nothing: once is enough.
    async fn notify(&self, hint: &Hint, options: NotifyOptions) -> Result<()> {
        self.inner.notify(hint, options).await
    }

    fn subscribe(&self, owner: MailboxId, options: SubscribeOptions) -> BoxStream<'static, Result<Hint>> {
        self.inner.subscribe(owner, options)
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// Tries a call that gives one answer for each item, and again only with the items that may go better.
async fn retry_each<I: Clone, T, F: Future<Output = Vec<Result<T>>>>(
    mut tries: Tries<'_>,
    items: &[I],
    call: impl Fn(Vec<I>) -> F,
) -> Vec<Result<T>> {
    let mut answers: Vec<Option<Result<T>>> = items.iter().map(|_| None).collect();
    let mut left: Vec<usize> = (0..items.len()).collect();
    loop {
        let asked_for: Vec<I> = left.iter().map(|index| items[*index].clone()).collect();
        match tries.attempt(call(asked_for)).await {
            Some(given) => {
                for (index, answer) in left.iter().zip(given) {
                    answers[*index] = Some(answer);
                }
            }
            // What the last complete try said of an item tells more than that this one was cut off.
            None => {
                for index in &left {
                    answers[*index].get_or_insert_with(|| Err(tries.cut_off()));
                }
            }
        }
        left.retain(|index| matches!(&answers[*index], Some(Err(error)) if error.is_retryable()));
        let longest = left.iter().filter_map(|index| answers[*index].as_ref()?.as_ref().err().and_then(asked)).max();
        if left.is_empty() || !tries.again(longest).await {
            break;
        }
    }
    let missing = || Err(tries.cut_off());
    let answers = answers.into_iter().map(|answer| answer.unwrap_or_else(missing));
    answers
        .map(|answer| answer.map_err(|error| if error.is_retryable() { tries.exhausted(error) } else { error }))
        .collect()
}
