//! What many subscribers of one mailbox wait for what arrives, and how many deliveries a second there are at most.

use std::{
    io,
    sync::{Barrier, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use talkbox_benches::{Bound, Report, Row};

use crate::{
    load::Frames,
    publishing::percentile,
    servers::Server,
    supply::Supply,
    websocket::{Socket, is_accepted},
};

const SUBSCRIBERS: usize = 100;
/// 20 a second.
const EVERY: Duration = Duration::from_millis(50);
/// At that rate: 10 s, and 20,000 deliveries.
const SLOWLY: usize = 200;
/// Events of a burst.
const BURST: usize = 100;
const BURSTS: usize = 15;
/// A thread that reads needs little of a stack.
const STACK: usize = 256 * 1024;

pub(crate) fn claims(supply: &Supply, report: &Report) -> io::Result<()> {
    let node = Server::node()?;
    let mut times = Vec::new();
    deliver(supply, &node, &[1; SLOWLY], EVERY, |each| times.extend_from_slice(each))?;
    let row = |by, times: &mut [Duration], part, most| {
        let figure = percentile(times, part).as_secs_f64() * 1e3;
        Row::figure("live delivery to 100 subscribers, 20/s", by, figure, "ms", Some(Bound::AtMost(most)))
    };
    report.add([row("p50", &mut times, 0.5, 3.0), row("p99", &mut times, 0.99, 10.0)])?;
    let mut bursts = Vec::new();
    let before = node.processor();
    deliver(supply, &node, &[BURST; BURSTS], Duration::from_millis(200), |each| {
        bursts.push(each.iter().max().copied().unwrap_or_default());
    })?;
    let cpu = node.processor().saturating_sub(before).as_secs_f64() * 1e4 / (BURST * BURSTS * SUBSCRIBERS) as f64;
    let all = percentile(&mut bursts, 0.5);
    let each = (BURST * SUBSCRIBERS) as f64 / all.as_secs_f64();
    let claim = "burst of 100 events to 100 subscribers, from the first sent to the last delivered";
    report.add([
        Row {
            ours: talkbox_benches::duration(all),
            ..Row::figure(claim, "wall", each, "/s", Some(Bound::AtLeast(100_000.0)))
        },
        Row::figure("burst: CPU-seconds of the server for 10,000 deliveries", "server", cpu, "s", None),
    ])
}

/// Sends portions of events, one every so often, and gives for each portion when each subscriber had each of its events,
/// counted from the sending. The events of one portion come in any order, but none comes before an earlier portion.
fn deliver(
    supply: &Supply,
    node: &Server,
    portions: &[usize],
    every: Duration,
    mut took: impl FnMut(&[Duration]),
) -> io::Result<()> {
    let events: usize = portions.iter().sum();
    let events = supply.take_for(0, events);
    let frames = Frames::new(&events);
    let ready = Barrier::new(SUBSCRIBERS + 1);
    let seen = Mutex::new(Vec::new());
    let mut sent = Vec::with_capacity(events.len());
    thread::scope(|scope| {
        for _ in 0..SUBSCRIBERS {
            let (events, ready, seen) = (&events, &ready, &seen);
            let subscriber = move || -> io::Result<()> {
                let mut socket = subscribed(supply, node)?;
                ready.wait();
                let mut own = Vec::with_capacity(events.len());
                for _ in events {
                    let is_event = socket.next()?.starts_with("[\"EVENT\"");
                    own.push(Instant::now());
                    if !is_event {
                        return Err(io::Error::other("something else than an event"));
                    }
                }
                seen.lock().expect("no panic").push(own);
                Ok(())
            };
            thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, move || subscriber().expect("all is delivered"))?;
        }
        let mut socket = Socket::connect(node.address())?;
        ready.wait();
        let mut from = 0;
        for (number, portion) in portions.iter().enumerate() {
            let begun = Instant::now();
            socket.send(frames.some(from..from + portion))?;
            sent.resize(sent.len() + portion, begun);
            let mut accepted = 0;
            while accepted < *portion {
                accepted += usize::from(is_accepted(socket.next()?));
            }
            from += portion;
            if number + 1 < portions.len() {
                thread::sleep(every.saturating_sub(begun.elapsed()));
            }
        }
        Ok::<_, io::Error>(())
    })?;
    let (seen, mut from) = (seen.into_inner().expect("no panic"), 0);
    for portion in portions {
        let of = |own: &Vec<Instant>| (from..from + portion).map(|at| own[at] - sent[at]).collect::<Vec<_>>();
        took(&seen.iter().flat_map(of).collect::<Vec<_>>());
        from += portion;
    }
    Ok(())
}

/// The owner of the first mailbox, who has nothing of it yet and hears of what comes.
pub(crate) fn subscribed(supply: &Supply, node: &Server) -> io::Result<Socket> {
    let owner = &supply.mailboxes[0];
    let mut socket = Socket::connect_as(node.address(), &[owner])?;
    socket.subscribe("all", &json!({"kinds": [1059], "#p": [owner.id().to_hex()], "limit": 0}))?;
    Ok(socket)
}
