//! What 100,000 events take, on the disk and in memory.

use std::{fs, io};

use talkbox_benches::{Bound, Report, Row};

use crate::{
    load,
    servers::{Server, any_port},
    supply::Supply,
};

const EVENTS: usize = 100_000;
/// Signed and sent at once, so that the load generator has not all of them in memory.
const PART: usize = 50_000;
const MEBIBYTE: f64 = 1_048_576.0;

pub(crate) fn claims(supply: &Supply, report: &Report) -> io::Result<()> {
    let node = Server::node()?;
    fill(supply, &node, EVENTS)?;
    let (after, most) = (node.memory(), node.most_memory());
    let folder = node.end()?;
    let bytes = fs::metadata(folder.path().join("node/node.sqlite3"))?.len();
    let node = Server::node_with(folder, any_port()?, &[])?;
    let started = node.memory();
    report.add([
        Row::figure(
            "disk: bytes of an event of 1,317, indexes included, after a checkpoint",
            "size",
            bytes as f64 / EVENTS as f64,
            "B",
            Some(Bound::AtMost(1_350.0)),
        ),
        memory("with 100,000 stored, after taking them in", after, Some(60.0)),
        memory("with 100,000 stored, the most meanwhile", most, None),
        memory("with 100,000 stored, started with them", started, Some(60.0)),
    ])
}

/// A figure of memory, in MiB.
pub(crate) fn memory(when: &str, bytes: u64, most: Option<f64>) -> Row {
    Row::figure(&format!("memory {when}"), "RSS", bytes as f64 / MEBIBYTE, "MiB", most.map(Bound::AtMost))
}

/// Brings so many events to a node.
pub(crate) fn fill(supply: &Supply, node: &Server, events: usize) -> io::Result<()> {
    for from in (0..events).step_by(PART) {
        let part = supply.take(PART.min(events - from));
        load::over_http(node.address(), &load::batches(node.address(), &part), part.len())?;
    }
    Ok(())
}
