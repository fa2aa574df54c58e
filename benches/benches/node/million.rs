//! A store of a million events: its memory, and how soon the newest of a mailbox come.

use std::{fs, io, time::Instant};

use talkbox_benches::{Bound, Report, Row};

use crate::{
    publishing::percentile,
    querying::query,
    servers::{Server, any_port},
    storing::{fill, memory},
    supply::Supply,
    websocket::Socket,
};

const EVENTS: usize = 1_000_000;
/// Queries, one for each of so many mailboxes: what a reader remembers does not help.
const QUERIES: usize = 500;
/// Keys that one connection proves.
const KEYS: usize = 8;

pub(crate) fn claims(supply: &Supply, report: &Report) -> io::Result<()> {
    let node = Server::node()?;
    fill(supply, &node, EVENTS)?;
    let after = node.memory();
    let mut times = Vec::new();
    for keys in supply.mailboxes[..QUERIES].chunks(KEYS) {
        let mut socket = Socket::connect_as(node.address(), &keys.iter().collect::<Vec<_>>())?;
        for key in keys {
            let begun = Instant::now();
            if query(&mut socket, key)? != 500 {
                return Err(io::Error::other("fewer than 500"));
            }
            times.push(begun.elapsed());
        }
    }
    let row = |times: &mut [std::time::Duration], by, part, bound| {
        let figure = percentile(times, part).as_secs_f64() * 1e3;
        Row::figure("the newest 500 of a mailbox, in a store of 1,000,000", by, figure, "ms", bound)
    };
    let queried = node.memory();
    let folder = node.end()?;
    let bytes = fs::metadata(folder.path().join("node/node.sqlite3"))?.len();
    let begun = Instant::now();
    let node = Server::node_with(folder, any_port()?, &[])?;
    let starting = begun.elapsed().as_secs_f64();
    report.add([
        memory("with 1,000,000 stored, after taking them in", after, Some(150.0)),
        memory("with 1,000,000 stored, after 500 queries", queried, Some(150.0)),
        memory("with 1,000,000 stored, started with them", node.memory(), Some(150.0)),
        Row::figure("time to start with 1,000,000 stored", "wall", starting, "s", None),
        Row::figure("disk: bytes of an event, of 1,000,000", "size", bytes as f64 / EVENTS as f64, "B", None),
        row(&mut times, "p50", 0.5, None),
        row(&mut times, "p99", 0.99, Some(Bound::AtMost(10.0))),
    ])
}
