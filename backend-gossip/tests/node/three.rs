//! Three nodes of one mesh, as processes that are killed under load, one by one and all at once.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use talkbox_backend_gossip::node::NodeConfig;
use talkbox_core::{MailboxId, event::Event};
use tokio::task::JoinSet;

use crate::{
    http::support::{get_at, lines, post_at},
    processes::Process,
    support::{PATIENCE, key, wrap},
};

/// Events of one request.
const BATCH: usize = 16;

/// The settings of nodes that know each other. Each has an address of its own, which no connection on its way to
/// somewhere can take while the node is down.
pub(crate) fn settings(number: usize, data: &[tempfile::TempDir]) -> Vec<NodeConfig> {
    let [a, b, ..] = std::process::id().to_be_bytes()[2..] else { unreachable!("two of four bytes") };
    let address = |at: usize| {
        let host = Ipv4Addr::new(127, 100_u8.wrapping_add(a) | 1, b, at as u8 + 1);
        let listener = TcpListener::bind((host, 0)).expect("a port");
        listener.local_addr().expect("an address")
    };
    let addresses: Vec<SocketAddr> = (0..number).map(address).collect();
    let settings = |at: usize| {
        let mut config = NodeConfig::loopback();
        config.listen = addresses[at];
        config.data = Some(data[at].path().to_owned());
        config.sync_interval = 1;
        // The client that publishes is one alone.
        config.limits.events_per_second = 1_000_000;
        let others = addresses.iter().filter(|other| **other != addresses[at]);
        config.peers = others.map(|other| format!("http://{other}")).collect();
        config
    };
    (0..number).map(settings).collect()
}

/// Publishes a batch: the ids that were acknowledged. None where the node is not there.
pub(crate) async fn publish(to: SocketAddr, events: &[Event]) -> Vec<String> {
    let body = lines(&events.iter().collect::<Vec<_>>());
    let Some(answer) = post_at(to, "/v1/envelopes", body).try_send().await else { return Vec::new() };
    let taken = answer.body.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let taken = taken.filter(|line| line["status"] == "stored" || line["status"] == "duplicate");
    taken.filter_map(|line| Some(line["id"].as_str()?.to_owned())).collect()
}

/// What a node says of itself.
pub(crate) async fn state(of: SocketAddr) -> Option<Value> {
    Some(get_at(of, "/v1/peers").try_send().await?.json())
}

/// Waits until all hold the same, at least so many ids.
pub(crate) async fn alike(nodes: &[SocketAddr], least: usize, within: Duration) {
    let mut states = Vec::new();
    let converged = tokio::time::timeout(within, async {
        loop {
            states.clear();
            for node in nodes {
                states.extend(state(*node).await);
            }
            let is_alike = |state: &Value| {
                state["fingerprint"] == states[0]["fingerprint"] && state["events"].as_u64() >= Some(least as u64)
            };
            if states.len() == nodes.len() && states.iter().all(is_alike) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    if converged.await.is_err() {
        panic!("not alike: {states:#?}");
    }
}

/// Those of these ids that a node holds. It has read each, and checked its id.
pub(crate) async fn held(node: SocketAddr, ids: &HashSet<String>) -> HashSet<String> {
    let mut held = HashSet::new();
    for some in ids.iter().collect::<Vec<_>>().chunks(256) {
        let answer = post_at(node, "/v1/have", json!({ "ids": some }).to_string()).send().await.json();
        let items = answer["items"].as_array().expect("items").clone();
        let items = items.into_iter().filter(|item| item["held"] == true);
        held.extend(items.map(|item| item["id"].as_str().expect("an id").to_owned()));
    }
    held
}

/// Publishes to all nodes in turn, without end.
struct Load {
    acknowledged: Arc<Mutex<HashSet<String>>>,
    count: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Load {
    fn start(nodes: &[SocketAddr], owner: MailboxId) -> Self {
        let mut load =
            Self { acknowledged: Arc::default(), count: Arc::default(), over: Arc::default(), clients: JoinSet::new() };
        for client in 0..nodes.len() {
            let (acknowledged, count, over) =
                (Arc::clone(&load.acknowledged), Arc::clone(&load.count), Arc::clone(&load.over));
            let nodes = nodes.to_vec();
            load.clients.spawn(async move {
                for turn in client.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let events: Vec<Event> = (0..BATCH).map(|_| wrap(owner)).collect();
                    let taken = publish(nodes[turn % nodes.len()], &events).await;
                    count.fetch_add(taken.len(), Ordering::Relaxed);
                    if taken.is_empty() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    acknowledged.lock().expect("not poisoned").extend(taken);
                }
            });
        }
        load
    }

    /// Waits for so many more acknowledgements.
    async fn more(&self, events: usize) {
        let wanted = self.count.load(Ordering::Relaxed) + events;
        let enough = async {
            while self.count.load(Ordering::Relaxed) < wanted {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, enough).await.expect("events are acknowledged");
    }

    async fn end(self) -> HashSet<String> {
        self.over.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        std::mem::take(&mut *self.acknowledged.lock().expect("not poisoned"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_that_are_killed_under_load_lose_nothing_and_hold_the_same() {
    let rounds = if std::env::var_os("TALKBOX_FULL").is_some() { 200 } else { 10 };
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a directory")).collect();
    let settings = settings(3, &folders);
    let nodes: Vec<SocketAddr> = settings.iter().map(|config| config.listen).collect();
    let start = |at: usize| {
        let mut process = Process::start(&settings[at]);
        assert_eq!(process.address(), nodes[at]);
        process
    };
    let mut processes: Vec<Option<Process>> = (0..3).map(|at| Some(start(at))).collect();
    let load = Load::start(&nodes, key().id());
    for round in 0..rounds {
        load.more(30 + round * 17 % 100).await;
        let victims = if round % 4 == 3 { 0..3 } else { round % 3..round % 3 + 1 };
        victims.clone().for_each(|at| processes[at] = None);
        if round % 2 == 0 && victims.len() == 1 {
            // The others go on without it, and it has something to catch up with.
            load.more(50).await;
        }
        victims.for_each(|at| processes[at] = Some(start(at)));
    }
    load.more(50).await;
    let acknowledged = load.end().await;
    alike(&nodes, acknowledged.len(), PATIENCE * 3).await;
    for node in &nodes {
        assert_eq!(held(*node, &acknowledged).await, acknowledged);
    }
    assert!(acknowledged.len() > rounds * 30, "there was load: {}", acknowledged.len());
    use std::io::Write as _;
    let _unseen = writeln!(std::io::stderr(), "{rounds} rounds, {} acknowledged, none lost", acknowledged.len());
}
