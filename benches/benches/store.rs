//! What the local store costs: taking messages in, and reading them back beside opening them anew.
//!
//! `cargo bench -p talkbox-benches --bench store`

use std::{path::Path, sync::Arc};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use talkbox_core::{
    Draft, Envelope, ManualClock, Opener, SealOptions, SecretKey, Timestamp,
    local::{Ingest, MessageQuery, Opened, Store, StoreKey},
    seal,
};
use tokio::runtime::Runtime;

const NOW: Timestamp = Timestamp(1_790_000_000);
const MANY: usize = 10_000;
const PAGE: usize = 256;

fn sealed(owner: &SecretKey) -> Vec<Envelope> {
    let sender = SecretKey::generate().expect("randomness");
    let draft = Draft::text("a".repeat(200));
    let seal = || seal(&draft, &sender, owner.id(), NOW, &SealOptions::default()).expect("seals").envelope;
    (0..MANY).map(|_| seal()).collect()
}

async fn store_at(folder: &Path) -> Store {
    let key = StoreKey::generate().expect("randomness");
    Store::open(&folder.join("store.sqlite"), key, Arc::new(ManualClock::new(NOW))).await.expect("a store")
}

async fn take_in(store: &Store, owner: &SecretKey, opened: &[(Envelope, Opened)]) {
    for part in opened.chunks(PAGE) {
        let mut batch = Ingest::new(owner.id(), "nostr:wss://relay.example".parse().expect("a locator"));
        batch.opened = part.to_vec();
        store.ingest(batch).await.expect("is stored");
    }
}

async fn read_all(store: &Store, owner: &SecretKey) -> usize {
    let mut query = MessageQuery::oldest().limit(PAGE as u32);
    let mut count = 0;
    loop {
        let page = store.messages(owner.id(), query.clone()).await.expect("reads");
        count += page.items.len();
        match page.next {
            Some(next) => query = query.after(Some(next)),
            None => return count,
        }
    }
}

fn store(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let owner = SecretKey::generate().expect("randomness");
    let envelopes = sealed(&owner);
    let opener = Opener::new(owner.clone());
    let opened: Vec<(Envelope, Opened)> = envelopes
        .iter()
        .map(|envelope| (envelope.clone(), Opened::Message(opener.open(envelope).expect("opens"))))
        .collect();
    let mut group = c.benchmark_group("store");
    group.sample_size(10).throughput(Throughput::Elements(MANY as u64));
    group.bench_function("take in 10,000, in pages, on disk", |b| {
        b.to_async(&runtime).iter_batched(
            || tempfile::tempdir().expect("a folder"),
            async |folder| {
                let store = store_at(folder.path()).await;
                take_in(&store, &owner, &opened).await;
                store.close().await;
                folder
            },
            BatchSize::PerIteration,
        );
    });
    let folder = tempfile::tempdir().expect("a folder");
    let filled = runtime.block_on(async {
        let store = store_at(folder.path()).await;
        take_in(&store, &owner, &opened).await;
        store
    });
    group.bench_function("read 10,000 back", |b| {
        b.to_async(&runtime).iter(async || assert_eq!(read_all(&filled, &owner).await, MANY));
    });
    group.bench_function("open 10,000 anew, one thread", |b| {
        b.iter(|| {
            let opener = Opener::new(owner.clone());
            for envelope in &envelopes {
                opener.open(envelope).expect("opens");
            }
        });
    });
    group.finish();
    runtime.block_on(filled.close());
}

criterion_group!(benches, store);
criterion_main!(benches);
