//! A log that is there already goes to somebody who has nothing of it.

use std::{io, time::Duration};

use talkbox_backend_ipfs::{
    IpfsNode,
    bench::{Log, Signer},
};
use talkbox_benches::{Bound, Report, Row, duration};
use talkbox_core::MailboxId;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{
    MANY, SOME, faster, mib,
    nodes::{Caught, Node, config},
    orbitdb::{NOT_THERE, OrbitDb},
    reopening::fill,
    texts,
};

const ROUNDS: usize = 3;

/// A log on the disk, and the node that has it.
struct Source {
    runtime: Runtime,
    node: Option<IpfsNode>,
    mailbox: MailboxId,
    address: String,
    heads: Vec<String>,
    _folder: TempDir,
}

impl Source {
    /// With so many entries of one writer.
    fn of_one(byte: u8, count: usize) -> io::Result<Self> {
        let (folder, runtime, mailbox) = (tempfile::tempdir()?, Runtime::new()?, MailboxId::from_bytes([byte; 32]));
        let (address, heads) = fill(&runtime, folder.path(), mailbox, count)?;
        Self::start(folder, runtime, mailbox, address, heads)
    }

    /// With so many entries, each of a writer of its own.
    fn of_many(byte: u8, count: usize) -> io::Result<Self> {
        let (folder, runtime, mailbox) = (tempfile::tempdir()?, Runtime::new()?, MailboxId::from_bytes([byte; 32]));
        let told = runtime.block_on(async {
            let log = Log::open(Some(folder.path()), mailbox).await?;
            for text in texts(count) {
                log.append_texts(vec![text], &Signer::generate()?).await?;
            }
            let told = (log.address().to_owned(), log.heads().await?);
            log.close().await;
            Ok::<_, talkbox_core::Error>(told)
        });
        let (address, heads) = told.map_err(io::Error::other)?;
        Self::start(folder, runtime, mailbox, address, heads)
    }

    fn start(
        folder: TempDir,
        runtime: Runtime,
        mailbox: MailboxId,
        address: String,
        heads: Vec<String>,
    ) -> io::Result<Self> {
        let started = IpfsNode::start(config(mailbox, Some(folder.path().to_owned())));
        let node = Some(runtime.block_on(started).map_err(io::Error::other)?);
        Ok(Self { runtime, node, mailbox, address, heads, _folder: folder })
    }

    fn place(&self) -> String {
        self.node.as_ref().map(|node| node.addresses().swap_remove(0)).unwrap_or_default()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            self.runtime.block_on(node.shutdown());
        }
    }
}

pub(crate) fn claims(report: &Report) -> io::Result<()> {
    let source = Source::of_one(5, MANY)?;
    let ours = middle(|| self::ours(source.mailbox, MANY, &source.place()))?;
    drop(source);
    let source = Source::of_one(6, SOME)?;
    // Beside the memory of theirs, which has as many.
    let small = middle(|| self::ours(source.mailbox, SOME, &source.place()))?;
    let theirs = match OrbitDb::start(None)? {
        Some(peer) => Some(theirs(&source, peer)?),
        None => None,
    };
    drop(source);
    let (many, some) = (MANY as u32, SOME as u32);
    let claim = "an existing log of 10,000 replicated, each entry, at the receiver";
    let their = |what: fn(&Caught) -> Duration| theirs.as_ref().map(|caught| what(caught) / some);
    report.add([
        faster(&format!("{claim}: JS"), "CPU", ours.cpu / many, their(|it| it.cpu), 20.0),
        faster(claim, "wall", ours.wall / many, their(|it| it.wall), 0.0).unclaimed(),
        Row::figure("entries replicated", "wall", f64::from(many) / ours.wall.as_secs_f64(), "/s", None),
    ])?;
    match theirs {
        Some(theirs) => report.add([
            memory("the most memory of the receiver of 2,000: JS", small.peak, theirs.peak),
            Row::figure("the same of 10,000", "RSS", mib(ours.peak), "MiB", None),
        ])?,
        None => report.skip("receiving of @orbitdb/core", NOT_THERE)?,
    }
    let source = Source::of_many(7, SOME)?;
    let strangers = middle(|| self::ours(source.mailbox, SOME, &source.place()))?;
    drop(source);
    report.add([
        faster("the same with an identity for each entry, 2,000", "CPU", strangers.cpu / some, None, 0.0).unclaimed(),
        faster("the same", "wall", strangers.wall / some, None, 0.0).unclaimed(),
    ])?;
    from_javascript(report)
}

fn memory(claim: &str, ours: u64, theirs: u64) -> Row {
    Row {
        claim: claim.to_owned(),
        by: "RSS",
        ours: format!("{:.0} MiB", mib(ours)),
        theirs: format!("{:.0} MiB", mib(theirs)),
        figure: ours as f64 / theirs as f64,
        unit: "×",
        bound: Some(Bound::AtMost(0.25)),
    }
}

fn middle(mut round: impl FnMut() -> io::Result<Caught>) -> io::Result<Caught> {
    let mut all = (0..ROUNDS).map(|_| round()).collect::<io::Result<Vec<_>>>()?;
    all.sort_by_key(|caught| caught.cpu);
    Ok(all[ROUNDS / 2])
}

/// A fresh node, its store on the disk, fetches all.
fn ours(mailbox: MailboxId, count: usize, from: &str) -> io::Result<Caught> {
    let folder = tempfile::tempdir()?;
    let mut node = Node::start(Some(folder.path()), mailbox, count, &[from.to_owned()])?;
    let caught = node.caught_up()?;
    node.end()?;
    Ok(caught)
}

/// The JavaScript peer fetches all from our node, into memory.
fn theirs(source: &Source, mut peer: OrbitDb) -> io::Result<Caught> {
    peer.ask(&format!("connect {}", source.place()))?;
    let before = peer.usage()?;
    let opened = peer.time(&format!("open {}", source.address))?;
    let wall = opened + peer.time(&format!("until {}", source.heads.join(" ")))?;
    let after = peer.usage()?;
    peer.end()?;
    Ok(Caught { wall, cpu: after.cpu.saturating_sub(before.cpu), peak: after.rss })
}

/// What is in a log of the JavaScript peer comes to a node of ours.
fn from_javascript(report: &Report) -> io::Result<()> {
    let (mailbox, folder) = (MailboxId::from_bytes([8; 32]), tempfile::tempdir()?);
    let Some(mut peer) = OrbitDb::start(None)? else {
        return report.skip("a log of @orbitdb/core replicated to a node", NOT_THERE);
    };
    let runtime = Runtime::new()?;
    let named = runtime.block_on(Log::open(None, mailbox)).map_err(io::Error::other)?;
    let opened = peer.ask(&format!("open {}", named.name()))?;
    assert_eq!(opened["log"].as_str(), Some(named.address()), "both compute the same address");
    peer.append(SOME)?;
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let before = peer.usage()?;
        let data = folder.path().join(round.to_string());
        let mut node = Node::start(Some(&data), mailbox, SOME, &[peer.address.clone()])?;
        let caught = node.caught_up()?;
        node.end()?;
        rounds.push((caught, peer.usage()?.cpu.saturating_sub(before.cpu)));
    }
    rounds.sort_by_key(|(caught, _)| caught.wall);
    let (ours, theirs) = rounds[ROUNDS / 2];
    let count = SOME as u32;
    let cells = |by, ours: Duration, theirs: String| Row {
        claim: "2,000 entries of a JS peer, each: the node, and the JS that serves it".to_owned(),
        by,
        ours: duration(ours / count),
        theirs,
        figure: f64::from(count) / ours.as_secs_f64(),
        unit: "/s",
        bound: None,
    };
    report.add([cells("wall", ours.wall, "–".to_owned()), cells("CPU", ours.cpu, duration(theirs / count))])?;
    peer.end()
}
