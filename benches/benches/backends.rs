//! Every registered backend, the same cases, side by side in one run; and what a backend adds to the bare socket.
//!
//! `cargo bench -p talkbox-benches --bench backends`

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::{SinkExt as _, StreamExt as _};
use talkbox_backend_gossip::{Node, NodeConfig, NodeContext};
use talkbox_backend_ipfs::{IpfsNode, IpfsNodeConfig};
use talkbox_core::{
    Authorizer, Backend, Draft, Envelope, KeyAuthorizer, ListOptions, Mailbox, OpenContext, PutOptions, Registry,
    SealOptions, SecretKey, SystemClock, Timestamp, WatchEvent, WatchOptions, memory, seal,
};
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::Message;

const MANY: usize = 100;

/// Envelopes that are sealed before the measurement: a `put` of a known one is answered without work.
struct Supply {
    owner: SecretKey,
    sender: SecretKey,
    now: Timestamp,
}

impl Supply {
    fn new() -> Self {
        let key = || SecretKey::generate().expect("randomness");
        let now = talkbox_core::Clock::now(&SystemClock);
        Self { owner: key(), sender: key(), now }
    }

    fn take(&self, count: usize) -> Vec<Envelope> {
        let draft = Draft::text("a".repeat(200));
        let seal = || seal(&draft, &self.sender, self.owner.id(), self.now, &SealOptions::default()).expect("seals");
        (0..count).map(|_| seal().envelope).collect()
    }

    fn auth(&self, mailbox: &Arc<dyn Mailbox>) -> Option<Arc<dyn Authorizer>> {
        Some(Arc::new(KeyAuthorizer::for_holders(self.owner.clone(), mailbox.holders(), Arc::new(SystemClock))))
    }
}

/// One opened backend of each kind, over the node that those need that need one.
async fn opened(registry: &Registry, node: &Node, peer: &IpfsNode) -> Vec<(&'static str, Backend)> {
    let mut backends = Vec::new();
    for def in registry.iter() {
        let mut config = serde_json::Map::new();
        if def.name == "nostr" {
            config.insert("relays".to_owned(), serde_json::json!([node.url()]));
        }
        if def.name == "ipfs" {
            config.insert("peers".to_owned(), serde_json::json!([peer.addresses()[0]]));
            config.insert("dht".to_owned(), serde_json::json!("off"));
        }
        let config = talkbox_core::BackendConfig::new(config);
        let mut context = OpenContext::new(def.name);
        context.allow_private = true;
        let backend = (def.open)(config, context).await.expect("opens");
        backends.push((def.name, backend));
    }
    backends
}

async fn put(mailbox: &Arc<dyn Mailbox>, envelopes: &[Envelope]) {
    for receipt in mailbox.put(envelopes, PutOptions::default()).await {
        receipt.expect("is stored");
    }
}

async fn list(mailbox: &Arc<dyn Mailbox>, supply: &Supply) -> usize {
    let holder = mailbox.holders().remove(0);
    let mut options = ListOptions::default().auth(supply.auth(mailbox));
    let mut count = 0;
    loop {
        let page = mailbox.list(supply.owner.id(), &holder, options.clone()).await.expect("is listed");
        count += page.items.len();
        if !page.more {
            return count;
        }
        options.after = page.next;
    }
}

fn backends(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let registry = Registry::new()
        .with(memory::backend())
        .with(talkbox_backend_nostr::backend())
        .with(talkbox_backend_ipfs::backend());
    let node = runtime.block_on(Node::start(NodeConfig::loopback(), NodeContext::default())).expect("a node");
    let peer = runtime.block_on(IpfsNode::start(IpfsNodeConfig::loopback())).expect("a node");
    let backends = runtime.block_on(opened(&registry, &node, &peer));
    for (name, backend) in &backends {
        let mailbox = backend.mailbox.as_ref().expect("a mailbox");
        let supply = Supply::new();
        let mut group = c.benchmark_group(format!("backends/{name}"));
        group.sample_size(10);
        group.bench_function("put", |b| {
            b.to_async(&runtime).iter_batched(
                || supply.take(1),
                async |envelopes| put(mailbox, &envelopes).await,
                criterion::BatchSize::SmallInput,
            );
        });
        group.throughput(Throughput::Elements(MANY as u64));
        group.bench_function("put many", |b| {
            b.to_async(&runtime).iter_batched(
                || supply.take(MANY),
                async |envelopes| put(mailbox, &envelopes).await,
                criterion::BatchSize::SmallInput,
            );
        });
        for count in [1_000, 10_000] {
            let supply = Supply::new();
            runtime.block_on(async {
                for part in supply.take(count).chunks(500) {
                    put(mailbox, part).await;
                }
            });
            group.throughput(Throughput::Elements(count as u64));
            group.bench_function(format!("list {count}"), |b| {
                b.to_async(&runtime).iter(async || assert!(list(mailbox, &supply).await >= count));
            });
        }
        group.finish();
        watch_latency(c, &runtime, name, mailbox);
    }
    bare_socket(c, &runtime, &node);
    runtime.block_on(async {
        for (_, backend) in &backends {
            backend.close().await;
        }
        node.shutdown().await;
        peer.shutdown().await;
    });
}

/// From the start of a `put` until the envelope comes out of a watch.
fn watch_latency(c: &mut Criterion, runtime: &Runtime, name: &str, mailbox: &Arc<dyn Mailbox>) {
    let supply = Supply::new();
    let options = WatchOptions::default().auth(supply.auth(mailbox));
    let mut events = mailbox.watch(supply.owner.id(), options).expect("can be watched");
    runtime.block_on(async { while !matches!(events.next().await, Some(Ok(WatchEvent::Live { .. }))) {} });
    let events = tokio::sync::Mutex::new(events);
    let mut group = c.benchmark_group(format!("backends/{name}"));
    group.sample_size(10);
    group.bench_function("watch latency", |b| {
        b.to_async(runtime).iter_batched(
            || supply.take(1),
            async |envelopes| {
                let mut events = events.lock().await;
                put(mailbox, &envelopes).await;
                loop {
                    if let Some(Ok(WatchEvent::Envelope { raw, .. })) = events.next().await
                        && raw.id() == envelopes[0].id()
                    {
                        break;
                    }
                }
            },
            criterion::BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// Publish until OK over one socket, with nothing in between: what `backends/nostr/put` is compared with.
fn bare_socket(c: &mut Criterion, runtime: &Runtime, node: &Node) {
    let supply = Supply::new();
    let (socket, _) = runtime
        .block_on(tokio_tungstenite::connect_async_with_config(node.url(), None, true))
        .expect("the node is there");
    let socket = tokio::sync::Mutex::new(socket);
    let mut group = c.benchmark_group("backends/bare socket");
    group.sample_size(10);
    group.bench_function("put", |b| {
        b.to_async(runtime).iter_batched(
            || supply.take(1),
            async |envelopes| {
                let mut socket = socket.lock().await;
                let event = format!("[\"EVENT\",{}]", envelopes[0].json());
                socket.send(Message::text(event)).await.expect("is sent");
                while !matches!(socket.next().await, Some(Ok(Message::Text(text))) if text.starts_with("[\"OK\"")) {}
            },
            criterion::BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, backends);
criterion_main!(benches);
