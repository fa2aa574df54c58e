//! Opening a log that is there, and reading all of it.

use std::{io, time::Duration};

use talkbox_backend_ipfs::bench::{Log, Signer};
use talkbox_benches::{Bound, Report, Row, Spent};
use talkbox_core::MailboxId;
use tokio::runtime::Runtime;

use crate::{
    MANY, faster, median, mib,
    nodes::Node,
    orbitdb::{NOT_THERE, OrbitDb},
    texts,
};

const ROUNDS: usize = 3;
/// Entries of a long log.
const LONG: usize = 100_000;
/// Entries of a commit while logs are made.
const BATCH: usize = 1_000;

pub(crate) fn claims(report: &Report) -> io::Result<()> {
    let (ours, theirs) = (ours()?, theirs()?);
    report.add([
        faster("reopen and read 10,000 entries, each: JS on disk", "wall", ours.wall / MANY as u32, theirs, 20.0),
        faster("the same", "CPU", ours.cpu / MANY as u32, None, 0.0).unclaimed(),
    ])?;
    if theirs.is_none() {
        report.skip("reading of @orbitdb/core", NOT_THERE)?;
    }
    long(report)
}

fn ours() -> io::Result<Spent> {
    let (folder, runtime) = (tempfile::tempdir()?, Runtime::new()?);
    let mailbox = MailboxId::from_bytes([2; 32]);
    fill(&runtime, folder.path(), mailbox, MANY)?;
    let read = || {
        Spent::on(|| {
            runtime.block_on(async {
                let log = Log::open(Some(folder.path()), mailbox).await.expect("opens");
                assert_eq!(log.read().await.expect("reads"), MANY);
                log
            })
        })
    };
    let mut all: Vec<Spent> = (0..ROUNDS).map(|_| read()).collect();
    all.sort_by_key(|spent| spent.wall);
    Ok(all[ROUNDS / 2])
}

/// A log of so many entries of one writer, in a folder.
pub(crate) fn fill(
    runtime: &Runtime,
    folder: &std::path::Path,
    mailbox: MailboxId,
    count: usize,
) -> io::Result<(String, Vec<String>)> {
    runtime
        .block_on(async {
            let signer = Signer::generate()?;
            let log = Log::open(Some(folder), mailbox).await?;
            for portion in texts(count).chunks(BATCH) {
                log.append_texts(portion.to_vec(), &signer).await?;
            }
            let told = (log.address().to_owned(), log.heads().await?);
            log.close().await;
            Ok(told)
        })
        .map_err(|error: talkbox_core::Error| io::Error::other(error))
}

/// Each entry, from before the log is opened.
fn theirs() -> io::Result<Option<Duration>> {
    let folder = tempfile::tempdir()?;
    let Some(mut peer) = OrbitDb::start(Some(folder.path()))? else { return Ok(None) };
    let address = peer.ask("open log")?["log"].as_str().unwrap_or_default().to_owned();
    // As many as ours: what it keeps of the last 1,000 in memory would help it with a short log.
    peer.append(MANY)?;
    peer.end()?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let Some(mut peer) = OrbitDb::start(Some(folder.path()))? else { return Ok(None) };
        let opened = peer.time(&format!("open {address}"))?;
        rounds.push((opened + peer.time("count")?) / MANY as u32);
        peer.end()?;
    }
    Ok(Some(median(rounds)))
}

/// A long log: a node opens it, and keeps little of it in memory.
fn long(report: &Report) -> io::Result<()> {
    let (folder, runtime) = (tempfile::tempdir()?, Runtime::new()?);
    let mailbox = MailboxId::from_bytes([3; 32]);
    fill(&runtime, folder.path(), mailbox, LONG)?;
    let mut started = Vec::new();
    let mut memory = 0;
    for _ in 0..ROUNDS {
        let node = Node::start(Some(folder.path()), mailbox, 0, &[])?;
        assert_eq!(node.joined, LONG as u64);
        started.push(node.started.as_secs_f64());
        memory = memory.max(node.rss());
        node.end()?;
    }
    let mut set = Vec::new();
    for _ in 0..ROUNDS {
        let spent = Spent::on(|| {
            runtime.block_on(async {
                let log = Log::open(Some(folder.path()), mailbox).await.expect("opens");
                assert_eq!(log.set().await.expect("a set"), LONG);
                log
            })
        });
        set.push(spent.wall.as_secs_f64());
    }
    report.add([
        Row::figure("a node starts with a log of 100,000", "wall", median(started), "s", Some(Bound::AtMost(1.0))),
        Row::figure("its memory then", "RSS", mib(memory), "MiB", Some(Bound::AtMost(60.0))),
        Row::figure("a log of 100,000 is opened and its set made", "wall", median(set), "s", Some(Bound::AtMost(1.0))),
    ])
}
