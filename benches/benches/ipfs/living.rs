//! New mail, while everybody is there.

use std::{
    io,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use talkbox_backend_ipfs::{
    IpfsNode,
    bench::{Arrivals, Log, Signer},
};
use talkbox_benches::{Bound, Report, Row};
use talkbox_core::{
    Backend, BackendConfig, Clock as _, Draft, Envelope, MailboxId, OpenContext, PutOptions, SealOptions, SecretKey,
    SystemClock, WatchEvent, WatchOptions, seal,
};
use tempfile::TempDir;
use tokio::{runtime::Runtime, time::timeout};

use crate::{
    nodes::config,
    orbitdb::{NOT_THERE, OrbitDb},
};

/// Messages that are measured, after some that are not.
const MESSAGES: usize = 300;
const WARM: usize = 30;
/// Between two: nothing of the last one is left to be done.
const APART: Duration = Duration::from_millis(15);
/// How long one may take until it is taken for lost.
const LOST: Duration = Duration::from_secs(10);

/// Two nodes of ours that are connected, each with the log.
struct Two {
    sender: IpfsNode,
    receiver: IpfsNode,
    from: Log,
    to: Log,
    _folders: [TempDir; 2],
}

pub(crate) fn claims(report: &Report) -> io::Result<()> {
    let runtime = Runtime::new()?;
    let owner = SecretKey::generate().map_err(io::Error::other)?;
    let mail = sealed(&owner, MESSAGES + WARM)?;
    let two = runtime.block_on(Two::start(owner.id())).map_err(io::Error::other)?;
    let signer = Signer::generate().map_err(io::Error::other)?;
    let mut arrivals = two.to.arrivals().map_err(io::Error::other)?;
    // Until both have met and gossip flows.
    let first = sealed(&owner, 1)?;
    runtime.block_on(async {
        two.from.append(first, &signer).await.expect("is stored");
        timeout(LOST, arrivals.next()).await.map_err(io::Error::other)?.map_err(io::Error::other)
    })?;
    let times = times(&runtime, &mail, &mut arrivals, |envelope| {
        runtime.block_on(two.from.append(vec![envelope.clone()], &signer)).map_err(io::Error::other)
    })?;
    report.add(rows("a message from node to node, until it is stored", &times, Some(10.0)))?;
    javascript(report, &runtime, &owner, &two)?;
    runtime.block_on(async {
        two.sender.shutdown().await;
        two.receiver.shutdown().await;
    });
    through_a_node(report, &runtime, &owner)
}

impl Two {
    async fn start(mailbox: MailboxId) -> talkbox_core::Result<Self> {
        let folders = std::array::from_fn(|_| tempfile::tempdir().expect("a folder"));
        let [one, other] = folders.each_ref().map(|folder| Some(folder.path().to_owned()));
        let receiver = IpfsNode::start(config(mailbox, one)).await?;
        let mut settings = config(mailbox, other);
        settings.peers = receiver.addresses();
        let sender = IpfsNode::start(settings).await?;
        let (from, to) = (Log::of(&sender, mailbox).await?, Log::of(&receiver, mailbox).await?);
        Ok(Self { sender, receiver, from, to, _folders: folders })
    }
}

fn sealed(owner: &SecretKey, count: usize) -> io::Result<Vec<Envelope>> {
    let (sender, draft) = (SecretKey::generate().map_err(io::Error::other)?, Draft::text("a".repeat(100)));
    let options = SealOptions::default();
    let one = || seal(&draft, &sender, owner.id(), SystemClock.now(), &options).map(|sealed| sealed.envelope);
    // Those of the current month: a backdated one may belong into the log of the last.
    let month = talkbox_core::Clock::now(&SystemClock).secs() / 86_400;
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let envelope = one().map_err(io::Error::other)?;
        if envelope.created_at().secs() / 86_400 == month {
            all.push(envelope);
        }
    }
    Ok(all)
}

/// From before each is sent until the receiver has stored it.
fn times(
    runtime: &Runtime,
    mail: &[Envelope],
    arrivals: &mut Arrivals,
    mut send: impl FnMut(&Envelope) -> io::Result<()>,
) -> io::Result<Vec<f64>> {
    let mut times = Vec::with_capacity(mail.len());
    for envelope in mail {
        let started = Instant::now();
        send(envelope)?;
        runtime.block_on(async {
            let arrived = async {
                while arrivals.next().await.map_err(io::Error::other)? != envelope.id() {}
                Ok(())
            };
            timeout(LOST, arrived).await.unwrap_or_else(|_| Err(io::Error::other("a message was lost")))
        })?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
        sleep(APART);
    }
    times.drain(..WARM.min(times.len()));
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn rows(claim: &str, times: &[f64], most: Option<f64>) -> [Row; 2] {
    let at = |part: f64| times[((times.len() as f64 * part) as usize).min(times.len() - 1)];
    [
        Row::figure(&format!("{claim}: p50"), "wall", at(0.5), "ms", None),
        Row::figure(&format!("{claim}: p99"), "wall", at(0.99), "ms", most.map(Bound::AtMost)),
    ]
}

/// From a JavaScript peer to a node of ours.
fn javascript(report: &Report, runtime: &Runtime, owner: &SecretKey, two: &Two) -> io::Result<()> {
    let Some(mut peer) = OrbitDb::start(None)? else {
        return report.skip("a message from @orbitdb/core to a node", NOT_THERE);
    };
    peer.ask(&format!("open {}", two.to.name()))?;
    peer.ask(&format!("connect {}", two.receiver.addresses().swap_remove(0)))?;
    let mut arrivals = two.to.arrivals().map_err(io::Error::other)?;
    // Until gossip flows.
    let started = Instant::now();
    for envelope in sealed(owner, 50)? {
        peer.ask(&format!("addjson {}", envelope.json()))?;
        let came = runtime.block_on(async { timeout(Duration::from_millis(500), arrivals.next()).await });
        if came.is_ok() && started.elapsed() > Duration::from_secs(3) {
            break;
        }
        sleep(Duration::from_millis(100));
    }
    let mut arrivals = two.to.arrivals().map_err(io::Error::other)?;
    let mail = sealed(owner, MESSAGES + WARM)?;
    let times =
        times(runtime, &mail, &mut arrivals, |envelope| peer.ask(&format!("addjson {}", envelope.json())).map(drop))?;
    report.add(rows("a message from @orbitdb/core to a node, until it is stored", &times, Some(40.0)))?;
    peer.end()
}

/// From one backend to another, over a node that both know.
fn through_a_node(report: &Report, runtime: &Runtime, owner: &SecretKey) -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let times = runtime.block_on(async {
        let node = IpfsNode::start(config(owner.id(), Some(folder.path().to_owned()))).await?;
        let (writer, reader) = (open("writer", &node).await?, open("reader", &node).await?);
        let (put, watched) = (writer.mailbox.clone().expect("a mailbox"), reader.mailbox.clone().expect("a mailbox"));
        let mut events = watched.watch(owner.id(), WatchOptions::default()).expect("can be watched");
        while !matches!(events.next().await, Some(Ok(WatchEvent::Live { .. }))) {}
        let mut times = Vec::new();
        for envelope in sealed(owner, MESSAGES + WARM).expect("seals") {
            let started = Instant::now();
            for receipt in put.put(std::slice::from_ref(&envelope), PutOptions::default()).await {
                receipt?;
            }
            let acknowledged = started.elapsed();
            while !matches!(events.next().await, Some(Ok(WatchEvent::Envelope { raw, .. })) if raw.id() == envelope.id()) {}
            times.push((acknowledged.as_secs_f64() * 1e3, started.elapsed().as_secs_f64() * 1e3));
            tokio::time::sleep(APART).await;
        }
        writer.close().await;
        reader.close().await;
        node.shutdown().await;
        Ok::<_, talkbox_core::Error>(times)
    });
    let times = times.map_err(io::Error::other)?;
    let sorted = |which: fn(&(f64, f64)) -> f64| {
        let mut all: Vec<f64> = times.iter().skip(WARM).map(which).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    report.add(rows("put over one node, until its receipt", &sorted(|times| times.0), None))?;
    report.add(rows("put over one node, until another who watches has it", &sorted(|times| times.1), None))
}

async fn open(name: &str, node: &IpfsNode) -> talkbox_core::Result<Backend> {
    let table = serde_json::json!({ "peers": [node.addresses().swap_remove(0)], "dht": "off" });
    let serde_json::Value::Object(table) = table else { unreachable!("an object") };
    let mut context = OpenContext::new(name);
    context.clock = Arc::new(SystemClock);
    context.allow_private = true;
    (talkbox_backend_ipfs::backend().open)(BackendConfig::new(table), context).await
}
