//! A holder that takes envelopes and confirms them later, as a pinning service does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use talkbox_core::{
    AuditOptions, Backend, BoxStream, Capabilities, DeleteOptions, DeleteRequest, Deletion, Descriptor, Draft,
    Envelope, EnvelopeId, Holding, HoldingState, ListOptions, Locator, Mailbox, MailboxId, Page, PutOptions, Receipt,
    Reconcile, Result, SecretKey, WatchEvent, WatchOptions, async_trait, client::SendRequest, local::OutboxState,
};

use crate::world::{BUDGET, World};

/// Longer than what is pending waits to be looked at again.
const LATER: Duration = Duration::from_secs(700);

/// Holders that say of everything that it is queued.
#[derive(Debug)]
struct Queueing {
    inner: Arc<dyn Mailbox>,
    is_done: Arc<AtomicBool>,
}

#[async_trait]
impl Mailbox for Queueing {
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
        let queued = |mut receipt: Receipt| {
            receipt.pending.extend(receipt.acks.drain(..).map(|ack| ack.holder));
            receipt
        };
        self.inner.put(envelopes, options).await.into_iter().map(|answer| answer.map(queued)).collect()
    }

    async fn list(&self, owner: MailboxId, holder: &Locator, options: ListOptions) -> Result<Page> {
        self.inner.list(owner, holder, options).await
    }

    async fn audit(
        &self,
        owner: MailboxId,
        holder: &Locator,
        ids: &[EnvelopeId],
        options: AuditOptions,
    ) -> Result<Vec<Holding>> {
        if self.is_done.load(Ordering::SeqCst) {
            return self.inner.audit(owner, holder, ids, options).await;
        }
        Ok(ids.iter().map(|id| Holding { id: *id, state: HoldingState::Unknown }).collect())
    }

    async fn delete(&self, requests: &[DeleteRequest], options: DeleteOptions) -> Vec<Result<Deletion>> {
        self.inner.delete(requests, options).await
    }

    fn watch(&self, owner: MailboxId, options: WatchOptions) -> Option<BoxStream<'static, Result<WatchEvent>>> {
        self.inner.watch(owner, options)
    }

    fn reconciler(&self, holder: &Locator) -> Option<Arc<dyn Reconcile>> {
        self.inner.reconciler(holder)
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_queued_is_stored_once_the_holder_says_so_and_not_before() {
    let world = World::new();
    let owner = world.client().await;
    let key = SecretKey::generate().expect("randomness");
    let code = owner.announce(&key).await.expect("announces").record.code();

    let is_done = Arc::new(AtomicBool::new(false));
    let mut backend: Backend = world.network.open("memory");
    let inner = backend.mailbox.take().expect("a mailbox");
    backend.mailbox = Some(Arc::new(Queueing { inner, is_done: Arc::clone(&is_done) }));
    let sender = world.client_of(backend).await;
    let to = sender.resolve(&code.into(), BUDGET).await.expect("resolves");
    let sent = sender.send(SendRequest::new(to, Draft::text("by and by"))).await.expect("is committed");
    let entry = async || sender.store().outbox_entry(sent.outbox).await.expect("reads").expect("is there");

    sender.drain(&[], BUDGET).await.expect("drains");
    assert_eq!((entry().await.state, entry().await.pending.len()), (OutboxState::Queued, 2));
    world.clock.advance(LATER);
    sender.drain(&[], BUDGET).await.expect("drains");
    assert_eq!((entry().await.state, entry().await.pending.len()), (OutboxState::Queued, 2), "nobody has said so");

    is_done.store(true, Ordering::SeqCst);
    world.clock.advance(LATER);
    sender.drain(&[], BUDGET).await.expect("drains");
    assert_eq!((entry().await.state, entry().await.pending.len()), (OutboxState::Stored(2), 0));
}
