//! Nodes that are peers: how fast one catches up that was away, and how soon what one was given is at the subscribers of
//! another.

use std::{
    io,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use talkbox_benches::{Bound, Clock, Report, Row, duration};
use tempfile::TempDir;

use crate::{
    delivering::subscribed,
    ingesting::verified,
    load::Frames,
    publishing::percentile,
    servers::{Server, any_port},
    storing::fill,
    supply::Supply,
    websocket::{Socket, is_accepted},
};

const MISSED: usize = 100_000;
/// Events that peers have in common before.
const MEET: usize = 256;
/// Events that are put on one node, 20 a second: 20 s.
const PUT: usize = 400;
const EVERY: Duration = Duration::from_millis(50);
/// Those that are not counted: the first sees that the peers meet.
const WARM: usize = 20;
/// How often is looked how far a node is.
const LOOK: Duration = Duration::from_millis(20);
/// How long a mesh may take to be one.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn claims(supply: &Supply, report: &Report) -> io::Result<()> {
    catching_up(supply, report)?;
    passing_on(supply, report)
}

fn catching_up(supply: &Supply, report: &Report) -> io::Result<()> {
    let (one, other) = (any_port()?, any_port()?);
    let full = node(tempfile::tempdir()?, one, &[other])?;
    let late = node(tempfile::tempdir()?, other, &[one])?;
    // They meet, and then one of them is away.
    fill(supply, &full, MEET)?;
    until(|| Ok(late.events()? == MEET as u64))?;
    let folder = late.end()?;
    fill(supply, &full, MISSED)?;
    let few = supply.take(30_000);
    let limit = verified(&few).by(Clock::Wall);
    let late = node(folder, other, &[one])?;
    let (before, begun) = (full.processor(), Instant::now());
    until(|| Ok(late.events()? >= (MEET + MISSED) as u64))?;
    let took = begun.elapsed() / MISSED as u32;
    let limit = (limit + verified(&few).by(Clock::Wall)) / 2;
    let cpu = |spent: Duration| spent.as_secs_f64() * 1e4 / MISSED as f64;
    let claim = "a node that missed 100,000 catches up";
    report.add([
        Row {
            ours: duration(took),
            theirs: duration(limit),
            ..Row::figure(
                &format!("{claim}: verify limit, both cores"),
                "wall",
                limit.as_secs_f64() / took.as_secs_f64(),
                "×",
                Some(Bound::AtLeast(0.6)),
            )
        },
        Row::figure(&format!("{claim}: its CPU-seconds for 10,000"), "server", cpu(late.processor()), "s", None),
        Row::figure(
            &format!("{claim}: those of the peer that has them"),
            "server",
            cpu(full.processor().saturating_sub(before)),
            "s",
            None,
        ),
    ])
}

fn passing_on(supply: &Supply, report: &Report) -> io::Result<()> {
    let addresses = [any_port()?, any_port()?, any_port()?];
    let nodes = [0, 1, 2].map(|own| {
        let peers: Vec<_> = (0..3).filter(|peer| *peer != own).map(|peer| addresses[peer]).collect();
        node(tempfile::tempdir()?, addresses[own], &peers)
    });
    let [first, _second, third] = nodes;
    let (first, third) = (first?, third?);
    let events = supply.take_for(0, WARM + PUT);
    let frames = Frames::new(&events);
    let mut subscriber = subscribed(supply, &third)?;
    let mut publisher = Socket::connect(first.address())?;
    let mut times = Vec::new();
    for (number, event) in events.iter().enumerate() {
        let begun = Instant::now();
        publisher.send(frames.some(number..number + 1))?;
        if !subscriber.next()?.contains(&event[..71]) {
            return Err(io::Error::other("another event than the next"));
        }
        times.push(begun.elapsed());
        while !is_accepted(publisher.next()?) {}
        thread::sleep(EVERY.saturating_sub(begun.elapsed()));
    }
    let mut times = times.split_off(WARM);
    let row = |times: &mut [Duration], by, part, bound| {
        let figure = percentile(times, part).as_secs_f64() * 1e3;
        Row::figure("put on one node, delivered to a subscriber of another of three, 20/s", by, figure, "ms", bound)
    };
    report.add([
        row(&mut times, "p50", 0.5, None),
        row(&mut times, "p99", 0.99, Some(Bound::AtMost(15.0))),
        row(&mut times, "all", 1.0, None),
    ])
}

fn node(folder: TempDir, own: SocketAddr, peers: &[SocketAddr]) -> io::Result<Server> {
    let peers: Vec<String> = peers.iter().flat_map(|peer| ["--peer".to_owned(), format!("http://{peer}")]).collect();
    let arguments: Vec<&str> = peers.iter().map(String::as_str).collect();
    Server::node_with(folder, own, &arguments)
}

fn until(is_so: impl Fn() -> io::Result<bool>) -> io::Result<()> {
    let begun = Instant::now();
    while !is_so()? {
        if begun.elapsed() > PATIENCE {
            return Err(io::Error::other("the nodes are not alike after two minutes"));
        }
        thread::sleep(LOOK);
    }
    Ok(())
}
