//! What the tests have in common: opening the backend, keys, envelopes.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use talkbox_backend_gossip::{Node, NodeConfig, NodeContext};
use talkbox_core::{
    Ack, Authorizer, Backend, BackendConfig, Clock, Draft, Envelope, EnvelopeId, KeyAuthorizer, Locator, Mailbox,
    MailboxId, ManualClock, OpenContext, PutOptions, Receipt, Registry, Result, SealOptions, SecretKey, Timestamp,
    Transport,
    client::{Settings, Talkbox},
    config::Opened,
    local::{Store, StoreKey},
    seal,
};

/// The time of the tests.
pub(crate) const NOW: Timestamp = Timestamp(1_790_000_000);

/// The backend over these nodes, with a clock that stands still and this time-out.
pub(crate) async fn open(nodes: &[&str], timeout_ms: u64) -> Backend {
    open_with(nodes, timeout_ms, false).await
}

pub(crate) async fn open_with(nodes: &[&str], timeout_ms: u64, allow_private: bool) -> Backend {
    let mut context = OpenContext::new("gossip");
    context.clock = Arc::new(ManualClock::new(NOW));
    context.allow_private = allow_private;
    let serde_json::Value::Object(table) = json!({ "nodes": nodes, "timeout_ms": timeout_ms }) else { unreachable!() };
    (talkbox_backend_gossip::backend().open)(BackendConfig::new(table), context).await.expect("opens")
}

/// A client with a store of its own and this node.
pub(crate) async fn client(node: &str) -> Talkbox {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW));
    let key = StoreKey::generate().expect("randomness");
    let store = Store::in_memory(key, Arc::clone(&clock)).await.expect("a store");
    let mut opened = Opened::default();
    opened.mailboxes.extend(open(&[node], 5_000).await.mailbox.map(|mailbox| ("gossip".to_owned(), mailbox)));
    Talkbox::new(store, opened, Registry::new(), clock, Settings::default())
}

/// An honest node, and how a client names it.
pub(crate) async fn honest() -> (Node, String) {
    let context = NodeContext::default().with_clock(ManualClock::new(NOW));
    let node = Node::start(NodeConfig::loopback(), context).await.expect("starts");
    let url = format!("http://{}", node.addr());
    (node, url)
}

pub(crate) fn mailbox(backend: &Backend) -> &dyn Mailbox {
    &**backend.mailbox.as_ref().expect("both halves")
}

pub(crate) fn transport(backend: &Backend) -> &dyn Transport {
    &**backend.transport.as_ref().expect("both halves")
}

pub(crate) fn holder(url: &str) -> Locator {
    Locator::new("gossip", url).expect("a locator")
}

pub(crate) fn key() -> SecretKey {
    SecretKey::generate().expect("randomness")
}

/// So many envelopes.
pub(crate) fn envelopes(to: MailboxId, number: usize) -> Vec<Envelope> {
    let sealed = |at| seal(&Draft::text(format!("message {at}")), &key(), to, NOW, &SealOptions::default());
    (0..number).map(|at| sealed(at).expect("seals").envelope).collect()
}

pub(crate) fn ids(envelopes: &[Envelope]) -> Vec<EnvelopeId> {
    envelopes.iter().map(Envelope::id).collect()
}

/// Answers for a key.
pub(crate) fn auth(key: &SecretKey) -> Arc<dyn Authorizer> {
    Arc::new(KeyAuthorizer::for_anyone(key.clone(), Arc::new(ManualClock::new(NOW))))
}

/// Puts, and waits for the answers.
pub(crate) async fn put(backend: &Backend, envelopes: &[Envelope]) -> Vec<Result<Receipt>> {
    soon(mailbox(backend).put(envelopes, PutOptions::default())).await
}

/// The one ack of a holder.
pub(crate) fn ack_of<'a>(receipt: &'a Receipt, at: &Locator) -> &'a Ack {
    receipt.acks.iter().find(|ack| ack.holder == *at).unwrap_or_else(|| panic!("no ack of {at}: {receipt:?}"))
}

/// Waits for something, at most so long that a test which waits in vain still ends.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it happens in time")
}
