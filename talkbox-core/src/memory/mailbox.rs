//! The mailbox half: every call asks the holders in turn, as if they were far away.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream, stream::BoxStream};

use super::{MemoryNetwork, half::Half, watch};
use crate::{
    EnvelopeId, Error, ErrorKind, MailboxId, Result,
    capability::{Capabilities, Descriptor},
    clock::Timestamp,
    deletion::DeleteRequest,
    envelope::Envelope,
    locator::Locator,
    mailbox::{
        AuditOptions, DeleteOptions, Difference, ListOptions, Mailbox, Page, PutOptions, Reconcile, ReconcileOptions,
        WatchEvent, WatchOptions,
    },
    receipt::{Ack, Deletion, DeletionState, Holding, HoldingState, Level, Receipt, Refusal},
};

/// Envelopes in memory.
#[derive(Debug)]
pub(super) struct MemoryMailbox(Arc<Half>);

impl MemoryMailbox {
    pub(super) fn new(network: MemoryNetwork, descriptor: Descriptor, holders: Vec<Locator>) -> Self {
        Self(Arc::new(Half::new(network, descriptor, holders)))
    }

    fn put_one(&self, envelope: &Envelope, at: &[Locator]) -> Result<Receipt> {
        let mut receipt = Receipt::default();
        for holder in at {
            match self.put_at(envelope, holder) {
                Ok(level) => receipt.acks.push(Ack { holder: holder.clone(), level, until: None }),
                Err(error) => receipt.refused.push(Refusal::of(holder.clone(), &error)),
            }
        }
        receipt.settle()
    }

    fn put_at(&self, envelope: &Envelope, holder: &Locator) -> Result<Level> {
        let network = &self.0.network;
        let level = network.lock(holder)?.put(envelope, network.now(), network.config())?;
        if level == Level::Stored {
            network.arrived(holder)?;
        }
        Ok(level)
    }

    fn delete_one(&self, request: &DeleteRequest, at: &[Locator]) -> Result<Deletion> {
        let mut deletion = Deletion::default();
        for holder in at {
            match self.delete_at(request, holder) {
                Ok(state) => deletion.holders.push((holder.clone(), state)),
                Err(error) => deletion.refused.push(Refusal::of(holder.clone(), &error)),
            }
        }
        // The answer where nobody took it is that of a `put`.
        if deletion.holders.is_empty() {
            Receipt { refused: deletion.refused.clone(), ..Receipt::default() }.settle()?;
        }
        Ok(deletion)
    }

    fn delete_at(&self, request: &DeleteRequest, holder: &Locator) -> Result<DeletionState> {
        let network = &self.0.network;
        network.lock(holder)?.delete(request, network.now(), network.config())
    }
}

#[async_trait]
impl Mailbox for MemoryMailbox {
    fn descriptor(&self) -> &Descriptor {
        &self.0.descriptor
    }

    fn capabilities(&self) -> Capabilities {
        self.0.network.capabilities()
    }

    fn holders(&self) -> Vec<Locator> {
        self.0.holders.clone()
    }

    async fn put(&self, envelopes: &[Envelope], options: PutOptions) -> Vec<Result<Receipt>> {
        let at = self.0.at(&options.at);
        let one = |envelope| self.0.check_open().and_then(|()| self.put_one(envelope, at));
        envelopes.iter().map(|envelope| one(envelope).map_err(|error| error.op("put"))).collect()
    }

    async fn list(&self, owner: MailboxId, holder: &Locator, options: ListOptions) -> Result<Page> {
        let Half { network, .. } = &*self.0;
        self.0.check_open()?;
        network.admit(owner, holder, options.auth.as_ref()).await?;
        let page = network.lock(holder)?.list(owner, &options, network.now());
        page.map_err(|error| error.op("list").with("holder", holder))
    }

    async fn audit(
        &self,
        owner: MailboxId,
        holder: &Locator,
        ids: &[EnvelopeId],
        options: AuditOptions,
    ) -> Result<Vec<Holding>> {
        let Half { network, .. } = &*self.0;
        self.0.check_open()?;
        let asker = network.asker(holder, options.auth.as_ref()).await?;
        if network.config().gated && asker.is_none() {
            return Err(Error::new(ErrorKind::Denied, "auth-required: who asks?").op("audit").with("holder", holder));
        }
        let (state, now) = (network.lock(holder)?, network.now());
        // An author may ask for its own envelopes; of others it learns nothing.
        let may = |id: &EnvelopeId| {
            asker.is_none_or(|key| state.may_read(owner, key) || state.is_author(owner, id, key, now))
        };
        let holding = |id: &EnvelopeId| {
            if may(id) { state.audit(owner, *id, now) } else { Holding { id: *id, state: HoldingState::Unknown } }
        };
        Ok(ids.iter().map(holding).collect())
    }

    async fn delete(&self, requests: &[DeleteRequest], options: DeleteOptions) -> Vec<Result<Deletion>> {
        let at = self.0.at(&options.at);
        let one = |request| self.0.check_open().and_then(|()| self.delete_one(request, at));
        requests.iter().map(|request| one(request).map_err(|error| error.op("delete"))).collect()
    }

    fn watch(&self, owner: MailboxId, options: WatchOptions) -> Option<BoxStream<'static, Result<WatchEvent>>> {
        if let Err(closed) = self.0.check_open() {
            return Some(stream::iter([Err(closed.op("watch"))]).boxed());
        }
        let each = self.0.holders.iter().map(|holder| watch::holder(&self.0.network, holder, owner, &options));
        Some(stream::select_all(each).take_until(Box::pin(self.0.closed())).boxed())
    }

    fn reconciler(&self, holder: &Locator) -> Option<Arc<dyn Reconcile>> {
        let known = self.0.network.holders().contains(holder);
        known.then(|| Arc::new(MemoryReconciler { half: Arc::clone(&self.0), holder: holder.clone() }) as _)
    }

    async fn close(&self) {
        self.0.close();
    }
}

/// Compares with one holder, by looking.
#[derive(Debug)]
struct MemoryReconciler {
    half: Arc<Half>,
    holder: Locator,
}

#[async_trait]
impl Reconcile for MemoryReconciler {
    async fn difference(
        &self,
        owner: MailboxId,
        ours: &[(Timestamp, EnvelopeId)],
        options: ReconcileOptions,
    ) -> Result<Difference> {
        let Half { network, .. } = &*self.half;
        self.half.check_open()?;
        network.admit(owner, &self.holder, options.auth.as_ref()).await?;
        Ok(network.lock(&self.holder)?.difference(owner, ours, network.now()))
    }
}
