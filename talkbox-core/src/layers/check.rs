//! `Check`: refuses what cannot work before it reaches the network, and holds a backend to one answer for each item.

use std::{fmt::Display, sync::Arc};

use async_trait::async_trait;
use futures_util::stream::BoxStream;

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

/// Most ids of one audit: eight times what the wire takes at once, so that a caller may leave the batching to the
/// backend without one call lasting for ever.
pub(super) const MAX_AUDIT: usize = 8 * ListOptions::MAX_IDS;

#[derive(Debug)]
pub(super) struct CheckedMailbox {
    pub(super) inner: Arc<dyn Mailbox>,
}

impl CheckedMailbox {
    /// A holder of another network is never asked: its locator would be read as something that it is not.
    fn of_ours(&self, holder: &Locator) -> Result<()> {
        let descriptor = self.inner.descriptor();
        if descriptor.schemes.contains(&holder.scheme()) {
            return Ok(());
        }
        Err(invalid("this backend does not open locators of this scheme")
            .with("holder", holder)
            .with("backend", &descriptor.name))
    }

    fn all_of_ours(&self, holders: &[Locator]) -> Result<()> {
        holders.iter().try_for_each(|holder| self.of_ours(holder))
    }

    fn small_enough(&self, envelope: &Envelope) -> Result<()> {
        let (bytes, limit) = (envelope.json().len(), self.inner.capabilities().max_envelope_bytes);
        if bytes <= usize::try_from(limit).unwrap_or(usize::MAX) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::TooLarge, "larger than this backend takes").with("bytes", bytes).with("limit", limit))
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Mailbox for CheckedMailbox {
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
        let checks: Vec<Result<()>> = envelopes
            .iter()
            .map(|envelope| self.all_of_ours(&options.at).and_then(|()| self.small_enough(envelope)))
            .collect();
        let passed: Vec<Envelope> =
            envelopes.iter().zip(&checks).filter(|(_, check)| check.is_ok()).map(|(one, _)| one.clone()).collect();
        let answers = if passed.is_empty() { Vec::new() } else { self.inner.put(&passed, options).await };
        merge(checks, answers).into_iter().map(|answer| answer.map_err(|error| error.op("put"))).collect()
    }

    async fn list(&self, owner: MailboxId, holder: &Locator, options: ListOptions) -> Result<Page> {
        let listed = async {
            self.of_ours(holder)?;
            at_most(options.ids.len(), ListOptions::MAX_IDS)?;
            self.inner.list(owner, holder, options).await
        };
        listed.await.map_err(|error| error.op("list"))
    }

    async fn audit(
        &self,
        owner: MailboxId,
        holder: &Locator,
        ids: &[EnvelopeId],
        options: AuditOptions,
    ) -> Result<Vec<Holding>> {
        let audited = async {
            self.of_ours(holder)?;
            at_most(ids.len(), MAX_AUDIT)?;
            if ids.is_empty() {
                return Err(invalid("an audit names at least one envelope"));
            }
            let holdings = self.inner.audit(owner, holder, ids, options).await?;
            // An answer in another order would say of one envelope what is true of another.
            let in_order = holdings.len() == ids.len() && holdings.iter().zip(ids).all(|(one, id)| one.id == *id);
            if in_order { Ok(holdings) } else { Err(broken("an audit has one answer for each id, in order")) }
        };
        audited.await.map_err(|error| error.op("audit"))
    }

    async fn delete(&self, requests: &[DeleteRequest], options: DeleteOptions) -> Vec<Result<Deletion>> {
        let can = self.inner.capabilities().delete;
        let check = || match can {
            true => self.all_of_ours(&options.at),
            false => Err(Error::new(ErrorKind::Unsupported, "this backend does not delete")),
        };
        let checks: Vec<Result<()>> = requests.iter().map(|_| check()).collect();
        let passed = checks.iter().all(Result::is_ok) && !requests.is_empty();
        let answers = if passed { self.inner.delete(requests, options).await } else { Vec::new() };
        merge(checks, answers).into_iter().map(|answer| answer.map_err(|error| error.op("delete"))).collect()
    }

    fn watch(&self, owner: MailboxId, options: WatchOptions) -> Option<BoxStream<'static, Result<WatchEvent>>> {
        if self.inner.capabilities().watch { self.inner.watch(owner, options) } else { None }
    }

    fn reconciler(&self, holder: &Locator) -> Option<Arc<dyn Reconcile>> {
        self.of_ours(holder).ok()?;
        Some(Arc::new(CheckedReconcile { inner: self.inner.reconciler(holder)? }))
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[derive(Debug)]
struct CheckedReconcile {
    inner: Arc<dyn Reconcile>,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Reconcile for CheckedReconcile {
    async fn difference(
        &self,
        owner: MailboxId,
        ours: &[(Timestamp, EnvelopeId)],
        options: ReconcileOptions,
    ) -> Result<Difference> {
        self.inner.difference(owner, ours, options).await.map_err(|error| error.op("reconcile"))
    }
}

#[derive(Debug)]
pub(super) struct CheckedTransport {
    pub(super) inner: Arc<dyn Transport>,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Transport for CheckedTransport {
    fn descriptor(&self) -> &Descriptor {
        self.inner.descriptor()
    }

    async fn publish(&self, record: &MailboxRecord, options: PublishOptions) -> Result<Receipt> {
        self.inner.publish(record, options).await.map_err(|error| error.op("publish"))
    }

    fn resolve(&self, target: &Target, mut options: ResolveOptions) -> BoxStream<'static, Result<ResolveEvent>> {
        // An address may carry hints for several networks: each transport takes its own.
        let schemes = self.inner.descriptor().schemes;
        options.hints.retain(|hint| schemes.contains(&hint.scheme()));
        self.inner.resolve(target, options)
    }

    async fn notify(&self, hint: &Hint, options: NotifyOptions) -> Result<()> {
        let descriptor = self.inner.descriptor();
        if let Some(foreign) = options.at.iter().find(|holder| !descriptor.schemes.contains(&holder.scheme())) {
            return Err(invalid("this backend does not open locators of this scheme")
                .op("notify")
                .with("holder", foreign));
        }
        self.inner.notify(hint, options).await.map_err(|error| error.op("notify"))
    }

    fn subscribe(&self, owner: MailboxId, options: SubscribeOptions) -> BoxStream<'static, Result<Hint>> {
        self.inner.subscribe(owner, options)
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// The answers of those that passed, in the places of all.
fn merge<T>(checks: Vec<Result<()>>, answers: Vec<Result<T>>) -> Vec<Result<T>> {
    let mut answers = answers.into_iter();
    let missing = || Err(broken("the backend gave fewer answers than it was asked for"));
    checks.into_iter().map(|check| check.and_then(|()| answers.next().unwrap_or_else(missing))).collect()
}

fn at_most(given: usize, limit: usize) -> Result<()> {
    if given <= limit {
        return Ok(());
    }
    Err(invalid("too many ids at once").with("given", given).with("limit", limit))
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

fn broken(message: impl Display) -> Error {
    Error::new(ErrorKind::Unexpected, message.to_string())
}
