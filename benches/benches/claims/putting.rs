//! What a backend adds to the bare socket.
//!
//! The relay is a node in a process of its own, with a store that goes with it: processor time is that of the client
//! alone, and in a second figure that of the client and the relay. Both sides run as a task of a runtime as the command has it, one envelope after the other, over sockets of the
//! same settings.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{SinkExt as _, StreamExt as _};
use talkbox_benches::{Clock, Pairs, Report, Row, Spent, Stopwatch};
use talkbox_core::{BackendConfig, Envelope, Mailbox, OpenContext, PutOptions, layers::Stack};
use tokio::{net::TcpStream, runtime::Runtime, sync::Mutex};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use crate::{
    peers::Peer,
    supply::{BODY, Supply},
};

/// Envelopes of one run.
const RUN: u32 = 200;
const PAIRS: usize = 31;
/// The sizes of `backend-nostr/src/socket.rs`.
const READ_BUFFER: usize = 16 * 1024;
const WRITE_BUFFER: usize = 128 * 1024;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) fn claims(supply: &Supply, report: &Report) -> io::Result<()> {
    let runtime = Runtime::new()?;
    let node = Peer::node()?;
    let bare = runtime.block_on(opened(node.url()));
    let layered = Stack::default().mailbox(Arc::clone(&bare));
    let socket = Arc::new(Mutex::new(runtime.block_on(connected(node.url()))));
    for (mailbox, how) in [(&bare, "put"), (&layered, "put through all layers")] {
        let ours = || {
            let (mailbox, envelopes) = (Arc::clone(mailbox), supply.take(RUN as usize));
            runtime.block_on(runtime.spawn(put(mailbox, envelopes))).expect("no panic")
        };
        let theirs = || {
            let (socket, envelopes) = (Arc::clone(&socket), supply.take(RUN as usize));
            runtime.block_on(runtime.spawn(publish(socket, envelopes))).expect("no panic")
        };
        let pairs = Pairs::measure(PAIRS, ours, theirs);
        let whole = Pairs::measure(PAIRS, || with_relay(&node, ours), || with_relay(&node, theirs));
        let claim = format!("{how}, {BODY} B: publish until OK on a bare socket");
        report.add([
            Row::cost(&claim, &pairs, Clock::Cpu, 1, 1.1),
            Row { by: "CPU+relay", ..Row::cost(&claim, &whole, Clock::Cpu, 1, 1.1) },
            Row { by: "p50", ..Row::cost(&claim, &pairs, Clock::Wall, 1, 1.1) },
        ])?;
    }
    runtime.block_on(bare.close());
    node.end();
    Ok(())
}

/// Adds what the relay spends on it; 0 where the system does not say.
fn with_relay(relay: &Peer, run: impl Fn() -> Spent) -> Spent {
    let before = relay.processor();
    let mut spent = run();
    let relays = relay.processor().zip(before).map(|(after, before)| after.saturating_sub(before));
    spent.cpu += relays.unwrap_or_default() / RUN;
    spent
}

async fn opened(url: &str) -> Arc<dyn Mailbox> {
    let mut config = serde_json::Map::new();
    config.insert("relays".to_owned(), serde_json::json!([url]));
    let backend = talkbox_backend_nostr::backend();
    let opened = (backend.open)(BackendConfig::new(config), OpenContext::new("nostr")).await.expect("opens");
    opened.mailbox.expect("a mailbox")
}

async fn connected(url: &str) -> Socket {
    let sizes = WebSocketConfig::default().read_buffer_size(READ_BUFFER).write_buffer_size(WRITE_BUFFER);
    let (socket, _) = connect_async_with_config(url, Some(sizes), true).await.expect("the node is there");
    socket
}

async fn put(mailbox: Arc<dyn Mailbox>, envelopes: Vec<Envelope>) -> Spent {
    let mut run = Run::begin();
    for envelope in &envelopes {
        let each = Instant::now();
        for receipt in mailbox.put(std::slice::from_ref(envelope), PutOptions::default()).await {
            receipt.expect("is stored");
        }
        run.add(each);
    }
    run.end()
}

async fn publish(socket: Arc<Mutex<Socket>>, envelopes: Vec<Envelope>) -> Spent {
    let mut socket = socket.lock().await;
    let mut run = Run::begin();
    for envelope in &envelopes {
        let each = Instant::now();
        let event = format!("[\"EVENT\",{}]", envelope.json());
        socket.send(Message::text(event)).await.expect("is sent");
        let stored = format!("[\"OK\",\"{}\",true", envelope.id());
        while !matches!(socket.next().await, Some(Ok(Message::Text(text))) if text.starts_with(&stored)) {}
        run.add(each);
    }
    run.end()
}

/// Envelopes one after the other.
struct Run {
    all: Stopwatch,
    each: Vec<Duration>,
}

impl Run {
    fn begin() -> Self {
        let each = Vec::with_capacity(RUN as usize);
        Self { all: Stopwatch::start(), each }
    }

    fn add(&mut self, each: Instant) {
        self.each.push(each.elapsed());
    }

    /// For one envelope: the median of the wall times, and its part of the processor time.
    fn end(mut self) -> Spent {
        let all = self.all.stop();
        self.each.sort_unstable();
        Spent { wall: self.each[self.each.len() / 2], cpu: all.cpu / RUN }
    }
}
