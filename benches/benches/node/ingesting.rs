//! What it costs to take events in, durably, beside the work that cannot be left out: to parse them and check id and
//! signature.

use std::{io, num::NonZero, thread, time::Duration};

use talkbox_benches::{Bound, Clock, Pairs, Report, Row, Spent, Stopwatch};
use talkbox_core::event::Event;

use crate::{load, servers::Server, supply::Supply};

/// Events of one run: about 2 s.
const RUN: usize = 30_000;
/// The same for nostr-rs-relay, which takes about as long for it.
const FEW: usize = 3_000;
const PAIRS: usize = 5;

pub(crate) fn claims(supply: &Supply, report: &Report) -> io::Result<()> {
    let events = supply.take(RUN);
    let frames = load::frames(&events);
    let mut generator = Vec::new();
    let http = Pairs::measure(
        PAIRS,
        || {
            let node = Server::node().expect("a node");
            let batches = load::batches(node.address(), &events);
            let (spent, own) = spent(&node, RUN, || load::over_http(node.address(), &batches, RUN));
            generator.push(own);
            spent
        },
        || verified(&events),
    );
    rows(report, "ingest over HTTP, batches of 256, receipts", &http, 0.7)?;
    report.add([beside(&mut generator, "ingest over HTTP: what the load generator costs beside it")])?;
    let over_websockets = |server: &Server, frames: &[load::Frames], events| {
        spent(server, events, || load::over_websockets(server.address(), frames))
    };
    let websockets = Pairs::measure(
        PAIRS,
        || {
            let (spent, own) = over_websockets(&Server::node().expect("a node"), &frames, RUN);
            generator.push(own);
            spent
        },
        || verified(&events),
    );
    rows(report, "ingest over 16 WebSockets, window 64", &websockets, 0.55)?;
    report.add([beside(&mut generator, "ingest over WebSockets: what the load generator costs beside it")])?;
    drop(frames);
    let claim = "ingest over 16 WebSockets, window 64: nostr-rs-relay";
    if Server::relay()?.is_none() {
        return report.skip(claim, Server::why_no_relay());
    }
    let frames = load::frames(&events[..FEW]);
    let relay = Pairs::measure(
        PAIRS,
        || over_websockets(&Server::node().expect("a node"), &frames, FEW).0,
        || over_websockets(&Server::relay().expect("starts").expect("is there"), &frames, FEW).0,
    );
    report.add([
        Row::gain(claim, &relay, Clock::Wall, 1, 8.0),
        Row { by: "server", ..Row::gain(claim, &relay, Clock::Cpu, 1, 8.0) },
    ])
}

/// What the server spends on so many events, for each; and what this process does meanwhile.
fn spent(server: &Server, events: usize, load: impl FnOnce() -> io::Result<()>) -> (Spent, Duration) {
    let events = u32::try_from(events).expect("a few thousand");
    let (before, watch) = (server.processor(), Stopwatch::start());
    load().expect("all are acknowledged");
    let both = watch.stop();
    let cpu = server.processor().saturating_sub(before);
    (Spent { wall: both.wall / events, cpu: cpu / events }, both.cpu / events)
}

/// The work that cannot be left out, on all cores, for each event.
pub(crate) fn verified(events: &[String]) -> Spent {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let all = Spent::on(|| {
        thread::scope(|scope| {
            for part in events.chunks(events.len().div_ceil(cores)) {
                scope.spawn(|| part.iter().for_each(|event| drop(Event::parse(event).expect("valid"))));
            }
        });
    });
    let count = u32::try_from(events.len()).expect("a few thousand");
    Spent { wall: all.wall / count, cpu: all.cpu / count }
}

fn rows(report: &Report, claim: &str, pairs: &Pairs, least: f64) -> io::Result<()> {
    let cpu = pairs.ours(Clock::Cpu);
    report.add([
        Row::gain(&format!("{claim}: verify limit, both cores"), pairs, Clock::Wall, 1, least),
        Row { by: "server", ..Row::cost(&format!("{claim}: verify limit"), pairs, Clock::Cpu, 1, 0.0).unclaimed() },
        Row::figure(
            &format!("{claim}: CPU-seconds of the server for 10,000"),
            "server",
            cpu.as_secs_f64() * 1e4,
            "s",
            Some(Bound::AtMost(1.0)),
        ),
    ])
}

fn beside(generator: &mut Vec<Duration>, claim: &str) -> Row {
    generator.sort_unstable();
    let median = generator[generator.len() / 2];
    generator.clear();
    Row::figure(claim, "CPU", median.as_secs_f64() * 1e4, "s", None)
}
