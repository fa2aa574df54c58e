//! Holders that take a message only in another wrap: one that is not dated back, or with more work.

use std::sync::{Arc, Mutex};

use futures_util::stream::BoxStream;
use talkbox_core::{
    Ack, AuditOptions, Capabilities, DeleteOptions, DeleteRequest, Deletion, Descriptor, Draft, Envelope, EnvelopeId,
    ErrorKind, Holding, Level, ListOptions, Locator, Mailbox, MailboxId, Page, PutOptions, Receipt, Reconcile, Refusal,
    Result, SecretKey, Timestamp, WatchEvent, WatchOptions, async_trait,
    client::{SendRequest, Talkbox},
    local::{OutboxEntry, OutboxState},
};

use crate::world::{BUDGET, NOW, World};

/// Why an envelope is not taken, in the words of relays.
type Rule = fn(&Envelope) -> Option<&'static str>;

/// The in-memory mailbox behind holders with a rule.
#[derive(Debug)]
struct Picky {
    inner: Arc<dyn Mailbox>,
    rule: Rule,
    offered: Mutex<Vec<EnvelopeId>>,
}

#[async_trait]
impl Mailbox for Picky {
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
        let mut answers = Vec::new();
        for envelope in envelopes {
            self.offered.lock().expect("not poisoned").push(envelope.id());
            let mut receipt = Receipt::default();
            for holder in &options.at {
                match (self.rule)(envelope) {
                    Some(words) => {
                        receipt.refused.push(Refusal::new(holder.clone(), ErrorKind::Refused, words));
                    }
                    None => receipt.acks.push(Ack { holder: holder.clone(), level: Level::Stored, until: None }),
                }
            }
            answers.push(receipt.settle());
        }
        answers
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
        self.inner.audit(owner, holder, ids, options).await
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

async fn picky(world: &World, rule: Rule) -> (Talkbox, Arc<Picky>) {
    let mut backend = world.network.open("memory");
    let inner = backend.mailbox.take().expect("a mailbox");
    let picky = Arc::new(Picky { inner, rule, offered: Mutex::default() });
    backend.mailbox = Some(Arc::clone(&picky) as _);
    (world.client_of(backend).await, picky)
}

async fn sent(world: &World, sender: &Talkbox, texts: &[&str]) -> Vec<OutboxEntry> {
    let owner = world.client().await;
    let key = SecretKey::generate().expect("randomness");
    let code = owner.announce(&key).await.expect("announces").record.code();
    let to = sender.resolve(&code.into(), BUDGET).await.expect("resolves");
    let mut ids = Vec::new();
    for text in texts {
        let request = SendRequest::new(to.clone(), Draft::text(*text));
        ids.push(sender.send(request).await.expect("is committed").outbox);
    }
    sender.drain(&[], BUDGET).await.expect("drains");
    let mut entries = Vec::new();
    for id in ids {
        entries.push(sender.store().outbox_entry(id).await.expect("reads").expect("is there"));
    }
    entries
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_refuses_back_dated_wraps_gets_one_of_now() {
    let world = World::new();
    let rule: Rule = |envelope| (envelope.created_at() < NOW).then_some("invalid: created_at too far in the past");
    let (sender, picky) = picky(&world, rule).await;
    let entry = &sent(&world, &sender, &["dated"]).await[0];
    assert_eq!(entry.state, OutboxState::Stored(2));
    assert_eq!((entry.envelope.created_at(), entry.refused.len()), (NOW, 0));
    assert!(entry.acks.iter().all(|(_, envelope)| *envelope == entry.envelope.id()), "acks name what was taken");
    assert_eq!(entry.wrap_keys.len(), 2, "the first wrap may still be audited");
    let offered = picky.offered.lock().expect("not poisoned").clone();
    // Both holders were offered the first, and the second.
    assert_eq!((offered.len(), offered.iter().filter(|id| **id == entry.envelope.id()).count()), (4, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_asks_for_work_gets_it() {
    let world = World::new();
    let rule: Rule = |envelope| (envelope.work() < 8).then_some("pow: difficulty 0 is less than 8");
    let (sender, _) = picky(&world, rule).await;
    let entry = &sent(&world, &sender, &["worked"]).await[0];
    assert_eq!(entry.state, OutboxState::Stored(2));
    assert!(entry.envelope.work() >= 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_works_without_end_or_twice_for_the_same() {
    let world = World::new();
    for (rule, offers) in [
        // More work than is done for a holder: not tried.
        ((|_| Some("pow: 60 bits needed")) as Rule, 2),
        // A fresh wrap did not help: not tried again.
        ((|_| Some("invalid: created_at too far in the past")) as Rule, 4),
    ] {
        let (sender, picky) = picky(&world, rule).await;
        let entry = &sent(&world, &sender, &["refused"]).await[0];
        assert!(matches!(entry.state, OutboxState::Wedged(_)), "{:?}", entry.state);
        assert_eq!(picky.offered.lock().expect("not poisoned").len(), offers);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_that_needs_another_wrap_does_not_hold_up_the_others() {
    let world = World::new();
    // By the first digit of the id, so that about half of a batch is refused at first.
    let rule: Rule = |envelope| {
        let picked = envelope.id().as_bytes()[0] < 128 && envelope.created_at() < NOW;
        picked.then_some("invalid: event too old")
    };
    let (sender, _) = picky(&world, rule).await;
    let entries = sent(&world, &sender, &["1", "2", "3", "4", "5", "6", "7", "8"]).await;
    assert!(entries.iter().all(|entry| entry.state == OutboxState::Stored(2)));
    assert!(entries.iter().all(|entry| entry.envelope.created_at() <= Timestamp(NOW.secs())));
}
