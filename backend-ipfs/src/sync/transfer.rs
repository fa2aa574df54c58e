//! Blocks on their way: from the store into a CAR, and from a CAR into the store, some at a time, so that neither side
//! ever has more than that in memory.

use std::{
    collections::HashSet,
    mem,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures_util::{
    future::join,
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
};
use talkbox_core::{Error, ErrorKind, Result};
use tokio::sync::mpsc;

use super::{
    car::{CarReader, CarWriter, Section, section_bytes},
    frame::{broken, nonsense, read_frame, within},
    limits::{Limits, MAX_JUNK},
    replica::{Digest, Replica, Taken},
};
use crate::orbitdb::{Block, Cid, DAG_CBOR};

/// How many entries are read from the store at a time: 128 KiB of usual ones, 6 MiB of the largest.
const PORTION: usize = 64;
/// With how many blocks, or bytes of them, the store is called: enough for the cost of a commit to count for little.
const BATCH_BLOCKS: usize = 256;
const BATCH_BYTES: usize = 1024 * 1024;
/// How many batches wait while one is stored. With the one that is being read, three are in memory.
const BATCHES_WAITING: usize = 1;
/// Most bytes of an identity: two keys and two signatures in hexadecimal are 500.
const MAX_IDENTITY: usize = 1024;

/// What one side sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Blocks, identities among them.
    pub(crate) blocks: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Whether all went that had to.
    pub(crate) complete: bool,
}

/// What one side got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Came {
    /// Blocks, identities and junk among them.
    pub(crate) blocks: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Entries that were not held before.
    pub(crate) new: u64,
    /// Blocks that were dropped: with a wrong hash, not asked for, or refused by the store.
    pub(crate) junk: u64,
    /// Entries that were asked for and did not come.
    pub(crate) left: u64,
}

/// A CAR that is being sent.
struct Outgoing<W> {
    car: CarWriter<W>,
    limits: Limits,
    sent: Sent,
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    async fn begin(writer: W, manifest: Cid, limits: Limits) -> Result<Self> {
        let car = within(limits.frame, CarWriter::begin(writer, &[manifest])).await?;
        Ok(Self { car, limits, sent: Sent::default() })
    }

    /// Sends a block. `false` where the session has no more room for it.
    async fn block(&mut self, block: &Block) -> Result<bool> {
        let bytes = self.sent.bytes + section_bytes(block) as u64;
        if bytes > self.limits.bytes || self.sent.blocks >= self.limits.blocks {
            return Ok(false);
        }
        within(self.limits.frame, self.car.block(block)).await?;
        (self.sent.bytes, self.sent.blocks) = (bytes, self.sent.blocks + 1);
        Ok(true)
    }

    async fn finish(self, complete: bool) -> Result<Sent> {
        within(self.limits.frame, self.car.finish()).await?;
        Ok(Sent { complete, ..self.sent })
    }
}

/// Sends entries of a log, and ends the direction.
pub(super) async fn send_entries<W, R>(writer: W, replica: &R, digests: &[Digest], limits: Limits) -> Result<Sent>
where
    W: AsyncWrite + Unpin,
    R: Replica + ?Sized,
{
    let mut car = Outgoing::begin(writer, replica.manifest(), limits).await?;
    // One identity wrote many entries, and goes once.
    let mut gone = HashSet::new();
    for portion in digests.chunks(PORTION) {
        for block in replica.bundle(portion).await? {
            if gone.insert(digest_of(&block)) && !car.block(&block).await? {
                return car.finish(false).await;
            }
        }
    }
    car.finish(true).await
}

/// Sends blocks that are at hand, and ends the direction.
pub(super) async fn send_blocks<W>(writer: W, manifest: Cid, blocks: &[Block], limits: Limits) -> Result<Sent>
where
    W: AsyncWrite + Unpin,
{
    let mut car = Outgoing::begin(writer, manifest, limits).await?;
    for block in blocks {
        if !car.block(block).await? {
            return car.finish(false).await;
        }
    }
    car.finish(true).await
}

/// Ends the direction, where nothing is to be sent.
pub(super) async fn send_nothing<W: AsyncWrite + Unpin>(mut writer: W, limits: Limits) -> Result<Sent> {
    within(limits.frame, async { writer.close().await.map_err(broken) }).await?;
    Ok(Sent { complete: true, ..Sent::default() })
}

/// Waits until a peer that has nothing to send has ended its direction.
pub(super) async fn receive_nothing<T: AsyncRead + Unpin>(mut reader: T, limit: Duration) -> Result<()> {
    match within(limit, read_frame(&mut reader, 0)).await? {
        None => Ok(()),
        Some(_) => Err(nonsense("the peer sends what nobody asked for")),
    }
}

/// Takes in what a peer sends until it ends. Of `asked`, where it is given, nothing else is taken than these entries, and
/// identities beside them.
///
/// While some blocks are verified and stored, the next are read. What was good before an error is kept.
pub(super) async fn receive<T, R>(
    reader: T,
    replica: &R,
    asked: Option<HashSet<Digest>>,
    limits: Limits,
) -> Result<Came>
where
    T: AsyncRead + Unpin,
    R: Replica + ?Sized,
{
    let junk = Junk::default();
    let (batches, waiting) = mpsc::channel(BATCHES_WAITING);
    let mut incoming = Incoming::new(batches, asked, limits, &junk);
    let reading = async {
        let ended = incoming.read(reader, replica.manifest()).await;
        incoming.flush().await;
        // Or the other would wait for more.
        incoming.close();
        ended
    };
    let (ended, stored) = join(reading, store(replica, waiting, &junk)).await;
    // Where storing failed, reading had nowhere to go with more.
    let new = stored?;
    ended?;
    Ok(Came { new, junk: junk.count(), ..incoming.came() })
}

/// Stores what is read, until there is no more.
async fn store<R: Replica + ?Sized>(replica: &R, mut waiting: mpsc::Receiver<Vec<Block>>, all: &Junk) -> Result<u64> {
    let mut stored = 0;
    while let Some(batch) = waiting.recv().await {
        let Taken { new, junk } = replica.receive(batch).await?;
        stored += new;
        all.add(junk)?;
    }
    Ok(stored)
}

/// How much was dropped, by whoever reads and whoever stores.
#[derive(Debug, Default)]
struct Junk(AtomicU64);

impl Junk {
    fn add(&self, junk: u64) -> Result<()> {
        if self.0.fetch_add(junk, Ordering::Relaxed) + junk > MAX_JUNK {
            return Err(Error::new(ErrorKind::VerificationFailed, "the peer sends what is not of this log"));
        }
        Ok(())
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A CAR that is being read.
struct Incoming<'a> {
    /// Where blocks go. `None` once nobody takes them.
    batches: Option<mpsc::Sender<Vec<Block>>>,
    limits: Limits,
    /// What was asked for and has not come.
    asked: Option<HashSet<Digest>>,
    /// How many blocks that were not asked for are still taken: one identity for each entry.
    beside: usize,
    batch: Vec<Block>,
    batch_bytes: usize,
    came: Came,
    junk: &'a Junk,
}

impl<'a> Incoming<'a> {
    fn new(batches: mpsc::Sender<Vec<Block>>, asked: Option<HashSet<Digest>>, limits: Limits, junk: &'a Junk) -> Self {
        let beside = asked.as_ref().map_or(usize::MAX, HashSet::len);
        let came = Came::default();
        Self { batches: Some(batches), limits, asked, beside, batch: Vec::new(), batch_bytes: 0, came, junk }
    }

    async fn read<T: AsyncRead + Unpin>(&mut self, reader: T, manifest: Cid) -> Result<()> {
        let Some(mut car) = within(self.limits.frame, CarReader::open(reader)).await? else { return Ok(()) };
        if car.roots() != [manifest] {
            return Err(nonsense("the peer's archive is of another log"));
        }
        while self.batches.is_some() {
            let Some((section, bytes)) = within(self.limits.frame, car.next()).await? else { break };
            self.came.blocks += 1;
            self.came.bytes += bytes as u64;
            if self.came.blocks > self.limits.blocks || self.came.bytes > self.limits.bytes {
                return Err(Error::new(ErrorKind::TooLarge, "the peer sends more than a session takes"));
            }
            match section {
                Section::Block(block) if self.is_welcome(&block) => self.push(block).await,
                Section::Block(_) | Section::Junk => self.junk.add(1)?,
            }
        }
        Ok(())
    }

    fn is_welcome(&mut self, block: &Block) -> bool {
        let Some(digest) = digest_of(block) else { return false };
        let Some(asked) = &mut self.asked else { return true };
        if asked.remove(&digest) {
            return true;
        }
        // Whether it is one, the store finds out.
        let may_be_identity = is_small(block) && self.beside > 0;
        self.beside -= usize::from(may_be_identity);
        may_be_identity
    }

    async fn push(&mut self, block: Block) {
        self.batch_bytes += block.bytes.len();
        self.batch.push(block);
        if self.batch.len() >= BATCH_BLOCKS || self.batch_bytes >= BATCH_BYTES {
            // An identity goes with the entry behind it: without one, nobody knows what it is for.
            let last = self.batch.pop_if(|last| is_small(last));
            self.flush().await;
            self.batch_bytes = last.as_ref().map_or(0, |last| last.bytes.len());
            self.batch.extend(last);
        }
    }

    async fn flush(&mut self) {
        self.batch_bytes = 0;
        let batch = mem::take(&mut self.batch);
        if !batch.is_empty()
            && let Some(batches) = &self.batches
            && batches.send(batch).await.is_err()
        {
            self.close();
        }
    }

    fn close(&mut self) {
        self.batches = None;
    }

    fn came(self) -> Came {
        Came { left: self.asked.map_or(0, |asked| asked.len() as u64), ..self.came }
    }
}

/// Whether a block may be an identity.
fn is_small(block: &Block) -> bool {
    block.bytes.len() <= MAX_IDENTITY
}

/// What of a link tells the blocks of a log apart. `None` for a block that is of none.
fn digest_of(block: &Block) -> Option<Digest> {
    if block.cid.codec() == DAG_CBOR { block.cid.hash().digest().try_into().ok() } else { None }
}
