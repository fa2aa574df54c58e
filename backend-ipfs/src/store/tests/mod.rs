//! The store as others use it.

mod append;
mod bounds;
mod convergence;
mod expiry;
mod files;
mod mail;
mod vectors;
mod waiting;

use std::{collections::HashSet, sync::Arc};

use talkbox_core::{Draft, Envelope, MailboxId, ManualClock, SealOptions, SecretKey, Timestamp, seal};

use super::{Received, Standing, Store, StoreLimits, Taken};
use crate::orbitdb::{Block, Cid, Entry, LogAddress, Month, MonthLog, Value, Writer};

/// In the middle of a month, so that back-dated envelopes belong to the same.
const NOW: Timestamp = Timestamp(1_790_000_000);

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(NOW))
}

async fn store_with(limits: StoreLimits) -> Store {
    Store::open(None, clock(), limits).await.expect("opens")
}

async fn store() -> Store {
    store_with(StoreLimits::default()).await
}

fn mailbox() -> MailboxId {
    SecretKey::from_bytes(&[9; 32]).expect("a key").id()
}

fn month_log() -> MonthLog {
    MonthLog::new(mailbox(), Month::of(NOW))
}

/// A store with the log of this month open.
async fn with_log() -> (Store, LogAddress) {
    let store = store().await;
    store.open_log(month_log()).await.expect("opens");
    (store, month_log().definition.address)
}

fn writer() -> Arc<Writer> {
    Arc::new(Writer::generate().expect("randomness"))
}

fn text(text: impl Into<String>) -> Value {
    Value::String(text.into())
}

fn envelope_at(now: Timestamp, options: &SealOptions) -> Envelope {
    let sender = SecretKey::generate().expect("randomness");
    seal(&Draft::text("hello"), &sender, mailbox(), now, options).expect("seals").envelope
}

/// Sealed so that it says when it was, kept for so many days, with so much work.
fn options(days: u64, work: u8) -> SealOptions {
    let mut options = SealOptions::default();
    options.backdate = false;
    options.retention = days * 86_400;
    options.work = work;
    options
}

fn envelope() -> Envelope {
    envelope_at(NOW, &SealOptions::default())
}

/// A chain of so many entries, oldest first.
fn chain(log: &LogAddress, writer: &Writer, len: u64) -> Vec<Block> {
    let mut links: Vec<Cid> = Vec::new();
    (1..=len)
        .map(|time| {
            let next: Vec<Cid> = links.last().copied().into_iter().collect();
            let refs: Vec<Cid> = links.iter().rev().skip(1).take(16).copied().collect();
            let block = signed(log, writer, &next, &refs, time, text(time.to_string()));
            links.push(block.cid);
            block
        })
        .collect()
}

fn signed(log: &LogAddress, writer: &Writer, next: &[Cid], refs: &[Cid], time: u64, value: Value) -> Block {
    let entry = Entry::sign(writer, log, next, refs, time, value).expect("signs");
    Block { cid: entry.cid, bytes: entry.bytes }
}

fn with_identity(writer: &Writer, entries: &[Block]) -> Vec<Block> {
    std::iter::once(writer.identity()).chain(entries).cloned().collect()
}

fn of(received: &Received, cid: Cid) -> &Taken {
    received.entries.iter().find(|taken| taken.cid == cid).expect("is told of")
}

async fn heads(store: &Store, log: &LogAddress) -> HashSet<Cid> {
    store.heads(log, usize::MAX).await.expect("reads").into_iter().map(|head| head.cid).collect()
}

async fn traversal(store: &Store, log: &LogAddress) -> Vec<Cid> {
    store.traverse(log, usize::MAX).await.expect("reads").into_iter().map(|block| block.cid).collect()
}

fn cids(blocks: &[Block]) -> Vec<Cid> {
    blocks.iter().map(|block| block.cid).collect()
}

/// Fetches what is missing from these blocks until nothing more is, as a node does from its peers.
async fn fetch(store: &Store, log: &LogAddress, from: &[Block]) {
    loop {
        let missing = store.missing(log, 100).await.expect("reads");
        if missing.is_empty() {
            return;
        }
        for cid in missing {
            match from.iter().find(|block| block.cid == cid) {
                Some(block) => {
                    store.receive(log, vec![block.clone()]).await.expect("receives");
                }
                None => store.give_up(log, cid).await.expect("gives up"),
            }
        }
    }
}
