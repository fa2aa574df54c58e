//! `Metrics`: counts what came out of a backend in the end.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, stream::BoxStream};

use super::metrics::{Metrics, Operation};
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
pub(super) struct CountedMailbox {
    pub(super) inner: Arc<dyn Mailbox>,
    pub(super) metrics: Arc<Metrics>,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Mailbox for CountedMailbox {
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
        self.metrics.went_out(envelopes);
        let answers = self.metrics.time(Operation::Put, self.inner.put(envelopes, options)).await;
        for answer in &answers {
            match answer {
                Ok(receipt) => self.metrics.receipt(receipt),
                Err(error) => self.metrics.failed(Operation::Put, error.kind()),
            }
        }
        answers
    }

    async fn list(&self, owner: MailboxId, holder: &Locator, options: ListOptions) -> Result<Page> {
        let page = self.metrics.count(Operation::List, self.inner.list(owner, holder, options)).await?;
        page.items.iter().for_each(|raw| self.metrics.came_in(raw));
        Ok(page)
    }

    async fn audit(
        &self,
        owner: MailboxId,
        holder: &Locator,
        ids: &[EnvelopeId],
        options: AuditOptions,
    ) -> Result<Vec<Holding>> {
        self.metrics.count(Operation::Audit, self.inner.audit(owner, holder, ids, options)).await
    }

    async fn delete(&self, requests: &[DeleteRequest], options: DeleteOptions) -> Vec<Result<Deletion>> {
        let answers = self.metrics.time(Operation::Delete, self.inner.delete(requests, options)).await;
        for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            self.metrics.failed(Operation::Delete, error.kind());
        }
        answers
    }

    fn watch(&self, owner: MailboxId, options: WatchOptions) -> Option<BoxStream<'static, Result<WatchEvent>>> {
        let events = self.inner.watch(owner, options)?;
        self.metrics.called(Operation::Watch);
        let metrics = Arc::clone(&self.metrics);
        let counted = events.inspect(move |event| match event {
            Ok(WatchEvent::Envelope { raw, .. }) => metrics.came_in(raw),
            Ok(WatchEvent::Lagged { .. }) => metrics.lagged(),
            Ok(WatchEvent::Live { .. }) => {}
            Err(error) => metrics.failed(Operation::Watch, error.kind()),
        });
        Some(counted.boxed())
    }

    fn reconciler(&self, holder: &Locator) -> Option<Arc<dyn Reconcile>> {
        let inner = self.inner.reconciler(holder)?;
        Some(Arc::new(CountedReconcile { inner, metrics: Arc::clone(&self.metrics) }))
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[derive(Debug)]
struct CountedReconcile {
    inner: Arc<dyn Reconcile>,
    metrics: Arc<Metrics>,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Reconcile for CountedReconcile {
    async fn difference(
        &self,
        owner: MailboxId,
        ours: &[(Timestamp, EnvelopeId)],
        options: ReconcileOptions,
    ) -> Result<Difference> {
        self.metrics.count(Operation::Reconcile, self.inner.difference(owner, ours, options)).await
    }
}

#[derive(Debug)]
pub(super) struct CountedTransport {
    pub(super) inner: Arc<dyn Transport>,
    pub(super) metrics: Arc<Metrics>,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Transport for CountedTransport {
    fn descriptor(&self) -> &Descriptor {
        self.inner.descriptor()
    }

    async fn publish(&self, record: &MailboxRecord, options: PublishOptions) -> Result<Receipt> {
        let receipt = self.metrics.count(Operation::Publish, self.inner.publish(record, options)).await?;
        self.metrics.receipt(&receipt);
        Ok(receipt)
    }

    fn resolve(&self, target: &Target, options: ResolveOptions) -> BoxStream<'static, Result<ResolveEvent>> {
        self.count_stream(Operation::Resolve, self.inner.resolve(target, options))
    }

    async fn notify(&self, hint: &Hint, options: NotifyOptions) -> Result<()> {
        self.metrics.count(Operation::Notify, self.inner.notify(hint, options)).await
    }

    fn subscribe(&self, owner: MailboxId, options: SubscribeOptions) -> BoxStream<'static, Result<Hint>> {
        self.count_stream(Operation::Subscribe, self.inner.subscribe(owner, options))
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

impl CountedTransport {
    fn count_stream<T: 'static>(
        &self,
        operation: Operation,
        items: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        self.metrics.called(operation);
        let metrics = Arc::clone(&self.metrics);
        let counted = items.inspect(move |item| {
            if let Err(error) = item {
                metrics.failed(operation, error.kind());
            }
        });
        counted.boxed()
    }
}
