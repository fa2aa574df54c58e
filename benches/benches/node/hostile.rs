//! What a good client notices of hostile ones: it sends an event, waits for the OK and reads the event back, first alone
//! and then beside them. Every address is limited as on a public node; the hostile clients have many.

use std::{
    fs, io,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use serde_json::{Value, json};
use talkbox_benches::{Report, Row};

use crate::{
    publishing::percentile,
    servers::{Server, any_port},
    storing::memory,
    supply::{Supply, key},
    websocket::{Socket, is_accepted, push_frame, upgrade},
};

/// What the good client does: 40 times a second, for 15 s. An address may do 600 at once, and 20 a second.
const TIMES: usize = 600;
const EVERY: Duration = Duration::from_millis(25);
/// Connections that never finish the head of a request, 25 of each address.
const HALF_OPEN: u8 = 40;
const OF_EACH: usize = 25;
/// Between two of their bytes.
const DRIP: Duration = Duration::from_secs(1);
/// Addresses that send forged events, with as many connections; each waits for the answer, and sends so often.
const FORGERS: u8 = 8;
const FORGED_EVERY: Duration = Duration::from_millis(4);
/// Addresses that send requests, and the connections of each; none waits for an answer.
const ASKERS: u8 = 40;
const ASKING: usize = 8;
/// Values of a filter of theirs: nearly as many as one may have.
const VALUES: usize = 990;
/// Between two looks whether more can be sent.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(crate) fn claims(supply: &Supply, report: &Report) -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = folder.path().join("settings.toml");
    // All clients here have addresses of this machine.
    fs::write(&settings, "[limits]\nexempt_loopback = false\n")?;
    let node = Server::node_with(folder, any_port()?, &["--settings", settings.to_str().expect("a plain name")])?;
    let to = node.address();
    let mut alone = good(supply, to, [127, 0, 0, 2])?;
    let (quiet, is_over, answers) = (node.most_memory(), AtomicBool::new(false), AtomicU64::new(0));
    let forged = supply.forge(2_000);
    let filter = json!({"kinds": [10050], "authors": (1..VALUES).map(|_| key().public().to_hex()).collect::<Vec<_>>()});
    let (mut beside, mut cpu) = (Vec::new(), Duration::ZERO);
    thread::scope(|scope| {
        let (is_over, answers) = (&is_over, &answers);
        scope.spawn(move || half_open(to, is_over));
        for forger in 0..FORGERS {
            let forged = &forged;
            let events = forged.iter().cycle().map(|event| format!("[\"EVENT\",{event}]"));
            scope.spawn(move || flooded(to, [127, 0, 2, forger + 1], events, is_over, answers));
        }
        let filter = &filter;
        scope.spawn(move || pipelined(to, filter, is_over, answers));
        // Until all of them are there.
        thread::sleep(DRIP * 3);
        let before = node.processor();
        let measured = good(supply, to, [127, 0, 0, 3]);
        cpu = node.processor().saturating_sub(before);
        is_over.store(true, Ordering::Relaxed);
        beside = measured?;
        Ok::<_, io::Error>(())
    })?;
    let claim = "send and read back beside 1,000 half-open connections, forged events, and requests of 990 values from 320 \
                 connections that wait for no answer: alone";
    for (by, part) in [("p50", 0.5), ("p99", 0.99)] {
        let row = Row::beside(claim, by, percentile(&mut beside, part), percentile(&mut alone, part), 3.0);
        report.add([if by == "p50" { row.unclaimed() } else { row }])?;
    }
    let load = cpu.as_secs_f64() / (EVERY * TIMES as u32).as_secs_f64();
    report.add([
        Row::figure("of the node meanwhile: processors in use", "server", load, "", None),
        Row::figure(
            "messages that it answered the floods with",
            "all",
            answers.load(Ordering::Relaxed) as f64,
            "",
            None,
        ),
        memory("of the node, the most before them", quiet, None),
        memory("of the node, the most beside them", node.most_memory(), None),
    ])
}

/// What each time took: an event sent, acknowledged, asked for and read back.
fn good(supply: &Supply, to: SocketAddr, from: [u8; 4]) -> io::Result<Vec<Duration>> {
    let mut socket = Socket::over(connect_from(from, to)?, to)?;
    socket.authenticate(to, &[&supply.mailboxes[0]])?;
    let mut times = Vec::new();
    for event in supply.take_for(0, TIMES) {
        let begun = Instant::now();
        socket.say(&format!("[\"EVENT\",{event}]"))?;
        let answer = socket.next()?;
        if !is_accepted(answer) {
            return Err(io::Error::other(answer.to_owned()));
        }
        let id = event.get(7..71).expect("begins with its id");
        if socket.subscribe("back", &json!({"ids": [id]}))? != 1 {
            return Err(io::Error::other("what was stored is not there"));
        }
        socket.say(r#"["CLOSE","back"]"#)?;
        times.push(begun.elapsed());
        thread::sleep(EVERY.saturating_sub(begun.elapsed()));
    }
    Ok(times)
}

/// Keeps connections whose request never ends, and opens those anew that the node closes.
fn half_open(to: SocketAddr, is_over: &AtomicBool) {
    let addresses = (1..=HALF_OPEN).flat_map(|last| [[127, 0, 1, last]; OF_EACH]);
    let mut connections: Vec<([u8; 4], Option<TcpStream>)> = addresses.map(|address| (address, None)).collect();
    while !is_over.load(Ordering::Relaxed) {
        for (address, connection) in &mut connections {
            let is_alive = connection.as_mut().is_some_and(|stream| stream.write_all(b"G").is_ok());
            if !is_alive {
                *connection = connect_from(*address, to).ok();
            }
        }
        thread::sleep(DRIP);
    }
}

/// Sends messages at a steady rate, whatever becomes of them. A node that closes the connection gets another.
fn flooded(
    to: SocketAddr,
    from: [u8; 4],
    mut messages: impl Iterator<Item = String>,
    is_over: &AtomicBool,
    answers: &AtomicU64,
) {
    while !is_over.load(Ordering::Relaxed) {
        let Ok(mut socket) = connect_from(from, to).and_then(|stream| Socket::over(stream, to)) else {
            thread::sleep(DRIP);
            continue;
        };
        let flood = messages.by_ref().try_for_each(|message| {
            if is_over.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let mut frame = Vec::with_capacity(message.len() + 14);
            push_frame(&mut frame, &message);
            socket.send(&frame)?;
            socket.next()?;
            answers.fetch_add(1, Ordering::Relaxed);
            thread::sleep(FORGED_EVERY);
            Ok::<_, io::Error>(())
        });
        drop(flood);
    }
}

/// Sends as many requests as the sockets take, and reads what comes.
fn pipelined(to: SocketAddr, filter: &Value, is_over: &AtomicBool, answers: &AtomicU64) {
    let mut requests = Vec::new();
    for number in 0..8 {
        push_frame(&mut requests, &json!(["REQ", format!("s{number}"), filter]).to_string());
    }
    let addresses = (1..=ASKERS).flat_map(|last| [[127, 0, 3, last]; ASKING]);
    // A connection that is opened by hand: what it sends may go out in parts.
    let open = |from| {
        let mut stream = connect_from(from, to)?;
        stream.write_all(upgrade(to).as_bytes())?;
        stream.set_nonblocking(true).map(|()| stream)
    };
    let mut connections: Vec<_> = addresses.map(|from| (from, open(from).ok(), 0)).collect();
    let mut come = vec![0; 65_536];
    while !is_over.load(Ordering::Relaxed) {
        for (from, connection, sent) in &mut connections {
            let Some(stream) = connection else {
                (*connection, *sent) = (open(*from).ok(), 0);
                continue;
            };
            let read = stream.read(&mut come);
            if let Ok(read @ 1..) = read {
                let ends = |word: &[u8]| come[..read].windows(word.len()).filter(|bytes| *bytes == word).count();
                answers.fetch_add((ends(b"\"EOSE\"") + ends(b"\"CLOSED\"")) as u64, Ordering::Relaxed);
            }
            let written = stream.write(&requests[*sent..]);
            let goes_on = |result: &io::Result<usize>| match result {
                Ok(bytes) => *bytes > 0,
                Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            };
            if goes_on(&read) && goes_on(&written) {
                *sent = (*sent + written.unwrap_or_default()) % requests.len();
            } else {
                *connection = None;
            }
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// A connection from another address of this machine.
fn connect_from(from: [u8; 4], to: SocketAddr) -> io::Result<TcpStream> {
    let SocketAddr::V4(to) = to else { return Err(io::ErrorKind::Unsupported.into()) };
    let own = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&own, &SocketAddrV4::new(Ipv4Addr::from(from), 0))?;
    connect(&own, &to)?;
    Ok(own.into())
}
