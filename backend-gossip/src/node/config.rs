//! What an operator sets, with defaults that fit a small public node.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use super::{proxies::Subnet, tls::TlsFiles};

/// The settings of a node. Every field has a default, and an unknown one is refused.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct NodeConfig {
    /// Where to listen. Port 0 lets the operating system choose.
    pub listen: SocketAddr,
    /// The directory of the store, made if it is missing. `None`: a temporary one that goes with the node.
    pub data: Option<PathBuf>,
    /// The URL under which clients reach the node, such as `wss://node.example`. It is what an AUTH event has to name,
    /// so a public node behind a proxy must set it. `None`: the address that it listens on.
    pub public_url: Option<String>,
    /// Other URLs under which it is reached, such as `ws://inside:7447` in a private network: who reaches it there proves a
    /// key for such a one.
    pub other_urls: Vec<String>,
    /// The certificate by which the node speaks TLS itself. `None`: a proxy does, or nobody.
    pub tls: Option<TlsFiles>,
    /// Proxies that are believed who their clients are, by `X-Forwarded-For`.
    pub trusted_proxies: Vec<Subnet>,
    /// Who may read `/metrics`. By default only this machine.
    pub metrics_from: Vec<Subnet>,
    /// The nodes that hold the same as this one: `https://node.example`, or with their key `https://node.example#npub1…`.
    /// They may read everything. Where no key is given, the one that a peer shows first is kept.
    pub peers: Vec<String>,
    /// Lists of nodes: URLs of documents of the form of `GET /v1/peers`, such as that of any node. Whom they name is shown
    /// as a candidate, and gets no right by it.
    pub registries: Vec<String>,
    /// Relays (`wss://…`) on which the node announces its public URL (NIP-66), and where it looks for candidates.
    pub announce: Vec<String>,
    /// Seconds between two looks for candidates.
    pub discover_interval: u64,
    /// Whether candidates may have private addresses, and no TLS: for a network of one's own.
    pub candidates_anywhere: bool,
    /// Seconds between two comparisons with peers.
    pub sync_interval: u64,
    /// Seconds between two portions of the check for rot. Each is as large as it takes for all to be checked in a week.
    pub scrub_interval: u64,
    /// Whether gift wraps and hints are served only to the mailbox that they are addressed to and to their author.
    pub gate_reads: bool,
    /// The name that the node shows.
    pub name: String,
    /// What bounds each client.
    pub limits: Limits,
}

impl NodeConfig {
    /// A node for this machine alone: a free port of the loopback address, a temporary store.
    pub fn loopback() -> Self {
        Self::default()
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            data: None,
            public_url: None,
            other_urls: Vec::new(),
            tls: None,
            trusted_proxies: Vec::new(),
            metrics_from: Subnet::loopback().to_vec(),
            peers: Vec::new(),
            registries: Vec::new(),
            announce: Vec::new(),
            discover_interval: 3_600,
            candidates_anywhere: false,
            sync_interval: 10,
            scrub_interval: 60,
            gate_reads: true,
            name: "Talkbox node".to_owned(),
            limits: Limits::default(),
        }
    }
}

/// What bounds each client, so that none can starve the process or another client.
///
/// The reference is strfry's default configuration; where a number differs, its comment says why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// Most bytes of a WebSocket message. 128 KiB hold the largest event twice over and a reconciliation message of
    /// 60,000 bytes in hexadecimal; the rest is for what is around them.
    pub max_message_bytes: usize,
    /// Open subscriptions of a connection. A client reads a handful of mailboxes; strfry's 200 would multiply what
    /// each event is compared with.
    pub max_subscriptions: usize,
    /// Filters of one request.
    pub max_filters: usize,
    /// Values in all lists of all filters of one request: ids, keys, kinds, tags. Each is a look into an index, so that
    /// this is what bounds the work of a request: a thousand are some 10 ms. Clients fetch a hundred ids at a time.
    pub max_values: usize,
    /// Bytes of filters that one address may keep open, in subscriptions and in what waits for an answer. A
    /// subscription to a mailbox is less than 1 KiB; the largest has 130 KiB.
    pub max_filter_bytes: usize,
    /// Bytes of filters that all may keep open, beyond the 4 KiB that each has in any case.
    pub max_filter_bytes_total: usize,
    /// Most stored events that one filter gives, and the number where a filter names none.
    pub max_limit: usize,
    /// Open reconciliations of a connection.
    pub max_reconciliations: usize,
    /// Most ids that one reconciliation covers: 40 bytes each.
    pub max_reconciled: usize,
    /// Most ids in all open reconciliations of the node, beyond 256 for each address: 80 MB. One address has half.
    pub max_reconciled_total: usize,
    /// Bytes that may wait for a slow client before it is disconnected. 4 MiB are 64 of the largest events.
    pub max_pending_bytes: usize,
    /// Bytes that may wait for all clients together; stored events take half of them at most. Beyond it each client has
    /// the one message that it is being sent.
    pub max_pending_total: usize,
    /// Connections in all. Those of one network (a /24 of IPv4, a /48 of IPv6) are half of them at most, but for what is
    /// exempt.
    pub max_connections: usize,
    /// Connections of one address (for IPv6, of one /64).
    pub max_connections_per_address: usize,
    /// Events that one address may publish per second, on average. 0: any number.
    pub events_per_second: u32,
    /// Requests other than events that one address may make per second, on average; over a WebSocket a large one counts
    /// several times. 0: any number.
    pub requests_per_second: u32,
    /// How many seconds' worth may come at once. An outbox that was offline empties itself in one go.
    pub burst_seconds: u32,
    /// Whether the loopback address is exempt from what is counted per address. Behind a proxy on the same machine
    /// every client has that address, so that the proxy has to count.
    pub exempt_loopback: bool,
    /// Work that a gift wrap has to show, in bits (NIP-13).
    pub min_work: u8,
    /// Most stored gift wraps of one mailbox.
    pub max_mailbox_events: u64,
    /// Most stored bytes of one mailbox.
    pub max_mailbox_bytes: u64,
    /// Most bytes of the whole store; above it only deletions are taken, and a sixteenth beyond it only those that free as
    /// much as they take. 0: as much as the disk has.
    pub max_store_bytes: u64,
    /// Seconds for the head of an HTTP request.
    pub head_timeout: u64,
    /// Seconds for the body of an HTTP request: 4 MiB over a slow line. So long a message over a WebSocket may take, too;
    /// it is looked at with each ping.
    pub body_timeout: u64,
    /// Bytes of bodies, and of WebSocket messages that are not whole yet, that are taken in at once, beyond 64 KiB for each
    /// address; one address has a quarter.
    pub max_body_bytes_total: usize,
    /// Bytes of answers over HTTP that wait to be written, beyond one envelope of the largest size for each address; one
    /// address has a quarter. Long answers are read from the store as they are written.
    pub max_answer_bytes_total: usize,
    /// Seconds between pings.
    pub ping_interval: u64,
    /// Seconds without any frame from the client after which it is gone.
    pub idle_timeout: u64,
    /// Seconds in which a client has to take 64 KiB.
    pub write_timeout: u64,
    /// Seconds that a query may run, without its waiting for others.
    pub query_timeout: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: 131_072 + 1_024,
            max_subscriptions: 32,
            max_filters: 10,
            max_values: 1_000,
            max_filter_bytes: 2 << 20,
            max_filter_bytes_total: 64 << 20,
            max_limit: 500,
            max_reconciliations: 4,
            max_reconciled: 1_000_000,
            max_reconciled_total: 2_000_000,
            max_pending_bytes: 4 << 20,
            max_pending_total: 256 << 20,
            max_connections: 4_096,
            max_connections_per_address: 32,
            events_per_second: 20,
            requests_per_second: 20,
            burst_seconds: 30,
            exempt_loopback: true,
            min_work: 0,
            max_mailbox_events: 100_000,
            max_mailbox_bytes: 256 << 20,
            max_store_bytes: 0,
            head_timeout: 5,
            body_timeout: 30,
            max_body_bytes_total: 64 << 20,
            max_answer_bytes_total: 64 << 20,
            ping_interval: 30,
            idle_timeout: 120,
            write_timeout: 30,
            query_timeout: 10,
        }
    }
}
