//! What it costs to read a mailbox, as its owner, beside PostgreSQL that gives the same rows to anybody.

use std::{io, time::Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use talkbox_benches::{Bound, Clock, Pairs, Report, Row, Spent};
use talkbox_core::{
    Clock as _, SecretKey, SystemClock,
    event::{Event, kind},
};
use tokio::runtime::Runtime;

use crate::{
    http::Http,
    load,
    postgres::Postgres,
    publishing::percentile,
    servers::Server,
    supply::{MAILBOXES, Supply},
    websocket::Socket,
};

/// In the store: 100 for each mailbox.
const STORED: usize = 100_000;
const EACH: usize = STORED / MAILBOXES;
/// Mailboxes that are read in turn, on connections of which each proves some of the keys: more rows than what a reader
/// keeps in memory.
const READ: usize = 64;
const KEYS: usize = 8;
/// How often, in one run: 32,000 events.
const TIMES: usize = 5;
const PAIRS: usize = 5;
/// Events of a run.
const RUN: u32 = (READ * EACH * TIMES) as u32;

pub(crate) fn claims(supply: &Supply, report: &Report) -> io::Result<()> {
    let runtime = Runtime::new()?;
    let events = supply.take(STORED);
    let node = Server::node()?;
    load::over_http(node.address(), &load::batches(node.address(), &events), STORED)?;
    let owners = &supply.mailboxes[..READ];
    let mut sockets = owners
        .chunks(KEYS)
        .map(|keys| Socket::connect_as(node.address(), &keys.iter().collect::<Vec<_>>()))
        .collect::<io::Result<Vec<_>>>()?;
    let mut times = Vec::new();
    let mut ours = || {
        on(&node, || {
            for _ in 0..TIMES {
                for (keys, socket) in owners.chunks(KEYS).zip(&mut sockets) {
                    for key in keys {
                        let begun = Instant::now();
                        assert_eq!(query(socket, key).expect("answers"), EACH);
                        times.push(begun.elapsed());
                    }
                }
            }
        })
    };
    let claim = "query of one mailbox, 100 events: CPU-seconds of the server for 10,000 events";
    let postgres = runtime.block_on(Postgres::start())?;
    let pairs = match &postgres {
        None => {
            report.skip(claim, Postgres::why_none())?;
            Pairs::measure(PAIRS, &mut ours, Spent::default)
        }
        Some(postgres) => {
            runtime.block_on(postgres.fill(&events))?;
            let theirs = || {
                on(&postgres.server, || {
                    for key in (0..TIMES).flat_map(|_| owners) {
                        let found = runtime.block_on(postgres.query(key.id().as_bytes())).expect("answers");
                        assert_eq!(found, EACH);
                    }
                })
            };
            Pairs::measure(PAIRS, &mut ours, theirs)
        }
    };
    let cpu = |spent: std::time::Duration| spent.as_secs_f64() * 1e4 / f64::from(RUN);
    let mut row = Row::figure(claim, "server", cpu(pairs.ours(Clock::Cpu)), "s", Some(Bound::AtMost(0.06)));
    if postgres.is_some() {
        row.theirs = format!("{:.3} s", cpu(pairs.theirs(Clock::Cpu)));
    }
    let latency = |times: &mut [std::time::Duration], by, part| {
        let figure = percentile(times, part).as_secs_f64() * 1e3;
        Row::figure("query of one mailbox, 100 events", by, figure, "ms", None)
    };
    let mut http = Http::connect(node.address())?;
    let listing = Pairs::measure(
        PAIRS,
        || {
            on(&node, || {
                for key in (0..TIMES).flat_map(|_| owners) {
                    let listed = list(&mut http, &node, key).expect("answers");
                    assert_eq!(listed, EACH);
                }
            })
        },
        Spent::default,
    );
    report.add([
        row,
        latency(&mut times, "p50", 0.5),
        latency(&mut times, "p99", 0.99),
        Row::figure(
            "the same over HTTP, each page signed for: CPU-seconds for 10,000 events",
            "server",
            cpu(listing.ours(Clock::Cpu)),
            "s",
            None,
        ),
    ])
}

/// The newest 500 of a mailbox.
pub(crate) fn query(socket: &mut Socket, owner: &SecretKey) -> io::Result<usize> {
    let found = socket.subscribe("q", &json!({"kinds": [1059], "#p": [owner.id().to_hex()], "limit": 500}))?;
    socket.say(r#"["CLOSE","q"]"#)?;
    Ok(found)
}

/// A page of a mailbox in the order of arrival.
fn list(http: &mut Http, node: &Server, owner: &SecretKey) -> io::Result<usize> {
    let (path, to) = (format!("/v1/mailboxes/{}/envelopes?limit=500", owner.id().to_hex()), node.address());
    let tags = [["u", &format!("http://{to}{path}")], ["method", "GET"]];
    let tags = tags.iter().map(|tag| tag.iter().map(|&word| word.to_owned()).collect()).collect();
    let event = Event::sign(owner, SystemClock.now(), kind::HTTP_AUTH, tags, String::new());
    let proof = STANDARD.encode(event.to_json());
    let request = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nAuthorization: Nostr {proof}\r\n\r\n");
    Ok(http.ask(request.as_bytes())?.matches("\"sig\":").count())
}

/// What the server spends on this.
fn on(server: &Server, work: impl FnOnce()) -> Spent {
    let (before, begun) = (server.processor(), Instant::now());
    work();
    Spent { wall: begun.elapsed(), cpu: server.processor().saturating_sub(before) }
}
