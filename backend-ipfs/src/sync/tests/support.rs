//! A log in memory, and streams that lead nowhere.

use std::{
    collections::BTreeMap,
    future::{Ready, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use talkbox_core::{
    EventId, MailboxId, Result, Timestamp,
    anti_entropy::{IdSet, Item, ReconciledSet},
    async_trait,
};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use crate::{
    orbitdb::{Block, Cid, Month},
    sync::{Digest, Limits, Refusal, Replica, Request, Standing, Taken},
};

/// What blocks of the log begin with: a byte string, so that they are dag-cbor of a kind.
const TAG: u8 = 0x58;
/// What identities begin with.
const IDENTITY: u8 = 0x59;

pub(in crate::sync) type Pipe = Compat<tokio::io::DuplexStream>;

/// Two ends of a stream that holds so many bytes on their way.
pub(in crate::sync) fn pipe(bytes: usize) -> (Pipe, Pipe) {
    let (one, other) = tokio::io::duplex(bytes);
    (one.compat(), other.compat())
}

/// Limits that a test does not wait for.
pub(super) fn limits() -> Limits {
    Limits { frame: Duration::from_secs(60), session: Duration::from_secs(300), ..Limits::default() }
}

/// Limits of a test that waits for their end: long enough for what an honest side does before it.
pub(super) fn short() -> Limits {
    Limits { frame: Duration::from_millis(400), ..limits() }
}

pub(super) fn mailbox() -> MailboxId {
    MailboxId::from_bytes([5; 32])
}

pub(super) fn month() -> Month {
    "2026-11".parse().expect("a month")
}

/// An entry of so many bytes, told apart by its number.
pub(super) fn entry(number: u64, length: usize) -> Block {
    block(TAG, number, length)
}

/// The identity of the writer of an entry: one for ten entries.
pub(super) fn identity(number: u64) -> Block {
    block(IDENTITY, number / 10, 200)
}

fn block(tag: u8, number: u64, length: usize) -> Block {
    let mut bytes = vec![tag; length.max(16)];
    bytes[1..9].copy_from_slice(&number.to_be_bytes());
    Block::of(Bytes::from(bytes))
}

fn number_of(block: &Block) -> u64 {
    u64::from_be_bytes(block.bytes[1..9].try_into().expect("eight bytes"))
}

pub(super) fn digest(block: &Block) -> Digest {
    block.cid.hash().digest().try_into().expect("a hash")
}

/// A log that keeps what it is given.
#[derive(Debug, Default, Clone)]
pub(super) struct Log(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    entries: Mutex<BTreeMap<Digest, (u64, Block)>>,
    /// The most blocks, and bytes of them, that it was called with.
    most_blocks: AtomicUsize,
    most_bytes: AtomicUsize,
    /// The most entries that were asked of it at once.
    most_bundled: AtomicUsize,
    identities: AtomicUsize,
}

impl Log {
    pub(super) fn of(entries: impl IntoIterator<Item = Block>) -> Self {
        let log = Self::default();
        entries.into_iter().for_each(|entry| {
            log.insert(entry);
        });
        log
    }

    fn insert(&self, block: Block) -> bool {
        let number = number_of(&block);
        self.0.entries.lock().expect("no panic").insert(digest(&block), (number, block)).is_none()
    }

    pub(super) fn digests(&self) -> Vec<Digest> {
        self.0.entries.lock().expect("no panic").keys().copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.0.entries.lock().expect("no panic").len()
    }

    pub(super) fn identities(&self) -> usize {
        self.0.identities.load(Ordering::SeqCst)
    }

    /// The most blocks and bytes that came at once, and the most entries that were asked for at once.
    pub(super) fn most(&self) -> (usize, usize, usize) {
        let load = |number: &AtomicUsize| number.load(Ordering::SeqCst);
        (load(&self.0.most_blocks), load(&self.0.most_bytes), load(&self.0.most_bundled))
    }

    /// What a server does with a request: always this log.
    pub(super) fn admit(self, request: Request) -> Ready<Result<Self, Refusal>> {
        assert_eq!((request.mailbox, request.month), (mailbox(), month()));
        ready(Ok(self))
    }
}

pub(super) fn manifest() -> Cid {
    Block::of(Bytes::from_static(b"\x43log")).cid
}

#[async_trait]
impl Replica for Log {
    fn manifest(&self) -> Cid {
        manifest()
    }

    async fn standing(&self) -> Result<Standing> {
        let entries = self.0.entries.lock().expect("no panic");
        let mut heads: Vec<_> = entries.values().map(|(time, block)| (block.cid, *time)).collect();
        heads.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        heads.truncate(3);
        Ok(Standing { heads, entries: entries.len() as u64 })
    }

    async fn set(&self) -> Result<Arc<dyn ReconciledSet + Send + Sync>> {
        let entries = self.0.entries.lock().expect("no panic");
        let item =
            |(digest, (time, _)): (&Digest, &(u64, Block))| Item::new(Timestamp(*time), EventId::from_bytes(*digest));
        let set: IdSet = entries.iter().map(item).collect::<Result<_>>()?;
        Ok(Arc::new(set))
    }

    async fn bundle(&self, digests: &[Digest]) -> Result<Vec<Block>> {
        self.0.most_bundled.fetch_max(digests.len(), Ordering::SeqCst);
        let entries = self.0.entries.lock().expect("no panic");
        let mut blocks: Vec<Block> = Vec::new();
        for (number, entry) in digests.iter().filter_map(|digest| entries.get(digest)) {
            let identity = identity(*number);
            if !blocks.contains(&identity) {
                blocks.push(identity);
            }
            blocks.push(entry.clone());
        }
        Ok(blocks)
    }

    async fn receive(&self, blocks: Vec<Block>) -> Result<Taken> {
        // As a store does, that works elsewhere.
        tokio::task::yield_now().await;
        let bytes = blocks.iter().map(|block| block.bytes.len()).sum();
        self.0.most_blocks.fetch_max(blocks.len(), Ordering::SeqCst);
        self.0.most_bytes.fetch_max(bytes, Ordering::SeqCst);
        let mut taken = Taken::default();
        let named: Vec<Block> =
            blocks.iter().filter(|block| block.bytes[0] == TAG).map(|entry| identity(number_of(entry))).collect();
        for block in blocks {
            match block.bytes.first() {
                Some(&TAG) => taken.new += u64::from(self.insert(block)),
                // It belongs to an entry that comes with it.
                Some(&IDENTITY) if named.contains(&block) => {
                    self.0.identities.fetch_add(1, Ordering::SeqCst);
                }
                _ => taken.junk += 1,
            }
        }
        Ok(taken)
    }
}
