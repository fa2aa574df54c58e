//! Appending: one by one on the disk, and many in one commit.

use std::{io, path::Path};

use talkbox_backend_ipfs::bench::{Log, Signer};
use talkbox_benches::{Report, Row, Spent};
use talkbox_core::MailboxId;
use tokio::runtime::Runtime;

use crate::{
    MANY, SOME, faster, median,
    orbitdb::{NOT_THERE, OrbitDb},
    texts,
};

/// Rounds of both in turn, of which the middle one counts.
const ROUNDS: usize = 3;
/// Entries of one commit.
const BATCH: usize = 256;
/// Entries that are appended before it is measured: the compiler of JavaScript needs some to see what matters.
const WARM: usize = 200;

pub(crate) fn claims(report: &Report) -> io::Result<()> {
    let runtime = Runtime::new()?;
    let (mut singly, mut batches, mut on_disk, mut in_memory) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        singly.push(ours(&runtime, SOME, 1)?);
        on_disk.extend(theirs(true)?);
        batches.push(ours(&runtime, MANY, BATCH)?);
        in_memory.extend(theirs(false)?);
    }
    let wall = |all: &[Spent]| median(all.iter().map(|spent| spent.wall).collect());
    let cpu = |all: &[Spent]| median(all.iter().map(|spent| spent.cpu).collect());
    let theirs = |all: &[std::time::Duration]| (!all.is_empty()).then(|| median(all.to_vec()));
    let (some, many) = (SOME as u32, MANY as u32);
    let (alone, together) = ("append one by one, each on the disk", "append 256 in a commit, on the disk");
    report.add([
        faster(&format!("{alone}: JS on disk"), "wall", wall(&singly) / some, theirs(&on_disk), 5.0),
        faster(&format!("{together}: JS in memory"), "wall", wall(&batches) / many, theirs(&in_memory), 20.0),
        faster(alone, "CPU", cpu(&singly) / some, None, 0.0).unclaimed(),
        faster(together, "CPU", cpu(&batches) / many, None, 0.0).unclaimed(),
        Row::figure("appended one by one", "wall", per_second(&singly, SOME), "/s", None),
        Row::figure("appended in commits of 256", "wall", per_second(&batches, MANY), "/s", None),
    ])?;
    if on_disk.is_empty() { report.skip("appending of @orbitdb/core", NOT_THERE) } else { Ok(()) }
}

fn per_second(all: &[Spent], count: usize) -> f64 {
    count as f64 / median(all.iter().map(|spent| spent.wall.as_secs_f64()).collect())
}

/// So many entries in portions, on the disk, with one identity.
fn ours(runtime: &Runtime, count: usize, portion: usize) -> io::Result<Spent> {
    let folder = tempfile::tempdir()?;
    let signer = Signer::generate().map_err(io::Error::other)?;
    let texts = texts(count);
    let log = runtime.block_on(open(folder.path()))?;
    runtime.block_on(log.append_texts(crate::texts(WARM), &signer)).map_err(io::Error::other)?;
    let spent = Spent::on(|| {
        runtime.block_on(async {
            for portion in texts.chunks(portion) {
                log.append_texts(portion.to_vec(), &signer).await.expect("is stored");
            }
        });
    });
    let (entries, joined) = runtime.block_on(log.count()).map_err(io::Error::other)?;
    assert_eq!((entries, joined), ((count + WARM) as u64, (count + WARM) as u64), "all of it is in the log");
    runtime.block_on(log.close());
    Ok(spent)
}

async fn open(folder: &Path) -> io::Result<Log> {
    Log::open(Some(folder), MailboxId::from_bytes([1; 32])).await.map_err(io::Error::other)
}

/// What one entry takes the JavaScript peer.
fn theirs(on_disk: bool) -> io::Result<Option<std::time::Duration>> {
    let folder = tempfile::tempdir()?;
    let Some(mut peer) = OrbitDb::start(on_disk.then(|| folder.path()))? else { return Ok(None) };
    peer.ask("open log")?;
    peer.append(WARM)?;
    let took = peer.append(SOME)? / SOME as u32;
    peer.end()?;
    Ok(Some(took))
}
