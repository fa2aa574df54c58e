//! What all hosts of one run share, and the nodes among them.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use talkbox_backend_gossip::node::{Defect, Node, NodeConfig, NodeContext};
use talkbox_core::{Clock, SecretKey, Timestamp};
use tempfile::TempDir;

use crate::{
    history::History,
    net::{PORT, Simulated},
    plan::{CLIENTS, Plan},
    rng::{Rng, Seeded},
};

/// When it takes place, in seconds since 1970.
const BEGIN: i64 = 1_800_000_000;
/// Seconds between two comparisons: one round.
pub(crate) const ROUND: u64 = 5;
/// So small that nothing more fits in.
const FULL_AT: u64 = 1;
const MAILBOXES: usize = 3;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    defect: Option<Defect>,
    commit_time: Duration,
    pub(crate) nodes: Vec<Member>,
    pub(crate) liar: Option<SecretKey>,
    pub(crate) mailboxes: Vec<SecretKey>,
    /// Seconds that have passed beside those of the simulation.
    passed: Arc<AtomicI64>,
    /// The latest that the clock of any node has shown.
    latest: AtomicI64,
    pub(crate) healed: AtomicBool,
    /// From whom to whom nothing gets through.
    pub(crate) cuts: Mutex<BTreeSet<(usize, usize)>>,
    pub(crate) clients_busy: AtomicUsize,
    state: Mutex<State>,
    folder: TempDir,
}

/// A node, running or not.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) key: SecretKey,
    skew: Arc<AtomicI64>,
    pub(crate) syncs: AtomicBool,
    pub(crate) full: AtomicBool,
    pub(crate) left: AtomicBool,
    starts: AtomicUsize,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) history: History,
    pub(crate) trace: Vec<String>,
    pub(crate) faults: Vec<String>,
    /// What was sent: when, by whom, to whom, how much. Not shown, but part of what makes two runs alike.
    pub(crate) sent: Vec<String>,
}

impl World {
    pub(crate) fn new(seed: u64, defect: Option<Defect>, plan: &Plan) -> Arc<Self> {
        let member = |number| Member {
            key: Rng::new(seed, "node", number).key(),
            skew: Arc::default(),
            syncs: AtomicBool::new(true),
            full: AtomicBool::default(),
            left: AtomicBool::default(),
            starts: AtomicUsize::default(),
        };
        // In memory where there is such a place: what a power failure leaves is decided in `disk`.
        let memory = std::path::Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        Arc::new(Self {
            seed,
            defect,
            commit_time: Duration::from_millis(plan.commit_time),
            nodes: (0..plan.nodes).map(member).collect(),
            liar: plan.liar.then(|| Rng::new(seed, "liar", 0).key()),
            mailboxes: (0..MAILBOXES).map(|number| Rng::new(seed, "mailbox", number).key()).collect(),
            passed: Arc::default(),
            latest: AtomicI64::new(BEGIN),
            healed: AtomicBool::default(),
            cuts: Mutex::default(),
            clients_busy: AtomicUsize::new(CLIENTS + 1),
            state: Mutex::default(),
            folder: tempfile::Builder::new().prefix("talkbox-simulation-").tempdir_in(place).expect("a folder"),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    /// Notes what somebody did.
    pub(crate) fn note(&self, what: impl AsRef<str>) {
        let at = turmoil::sim_elapsed().unwrap_or_default().as_millis();
        self.state().trace.push(format!("{at:>6} {}", what.as_ref()));
    }

    /// Notes what a host sent.
    pub(crate) fn sent(&self, host: &str, to: SocketAddr, bytes: &[u8]) {
        let at = turmoil::sim_elapsed().unwrap_or_default().as_millis();
        let first =
            String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().chars().take(60).collect::<String>();
        self.state().sent.push(format!("{at:>6} {host} to {to}: {} {first}", bytes.len()));
    }

    /// Notes what must not be.
    pub(crate) fn fault(&self, what: impl Into<String>) {
        let what = what.into();
        self.note(format!("FAULT {what}"));
        self.state().faults.push(what);
    }

    /// The true time.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock(Arc::default()).now()
    }

    pub(crate) fn latest(&self) -> Timestamp {
        Timestamp(self.latest.load(SeqCst).unsigned_abs()).max(self.now())
    }

    fn clock(&self, skew: Arc<AtomicI64>) -> SimulatedClock {
        SimulatedClock { passed: Arc::clone(&self.passed), skew }
    }

    pub(crate) fn pass(&self, secs: i64) {
        self.passed.fetch_add(secs, SeqCst);
        self.look_at_clocks(Duration::ZERO);
    }

    pub(crate) fn skew(&self, node: usize, secs: i64, elapsed: Duration) {
        self.look_at_clocks(elapsed);
        self.nodes[node].skew.store(secs, SeqCst);
        self.look_at_clocks(elapsed);
    }

    fn look_at_clocks(&self, elapsed: Duration) {
        let most = self.nodes.iter().map(|node| node.skew.load(SeqCst)).max().unwrap_or(0).max(0);
        // A minute more: what is skewed goes on until somebody looks again.
        let elapsed = i64::try_from(elapsed.as_secs()).expect("minutes") + 60;
        self.latest.fetch_max(BEGIN + self.passed.load(SeqCst) + most + elapsed, SeqCst);
    }

    pub(crate) fn folder(&self, node: usize) -> PathBuf {
        self.folder.path().join(node.to_string())
    }

    pub(crate) fn lives(&self, node: usize) -> bool {
        !self.nodes[node].left.load(SeqCst)
    }

    /// The name of a node as a host; the number behind the last is the liar's.
    pub(crate) fn name(&self, node: usize) -> String {
        if node < self.nodes.len() { format!("node{node}") } else { "liar".to_owned() }
    }

    pub(crate) fn url(&self, node: usize, path: &str) -> url::Url {
        format!("http://{}:{PORT}{path}", self.name(node)).parse().expect("a URL")
    }

    /// What runs on the host of a node.
    pub(crate) async fn run_node(self: Arc<Self>, number: usize) -> turmoil::Result {
        let network = Simulated { world: Arc::clone(&self), host: self.name(number) };
        let member = &self.nodes[number];
        let start = member.starts.fetch_add(1, SeqCst);
        let mut config = NodeConfig::default();
        config.listen = ([0, 0, 0, 0], PORT).into();
        config.data = Some(self.folder(number));
        config.public_url = Some(format!("ws://{}:{PORT}", self.name(number)));
        let others = (0..self.nodes.len()).filter(|other| *other != number);
        config.peers = others.map(|other| self.peer(other, &self.nodes[other].key)).collect();
        config.peers.extend(self.liar.as_ref().map(|key| self.peer(self.nodes.len(), key)));
        config.sync_interval = ROUND;
        (config.limits.events_per_second, config.limits.requests_per_second) = (0, 0);
        config.limits.max_store_bytes = if member.full.load(SeqCst) { FULL_AT } else { 0 };
        let mut context = NodeContext::default()
            .single_threaded()
            .with_clock(self.clock(Arc::clone(&member.skew)))
            .with_randomness(Seeded::new(Rng::new(self.seed, &format!("start {start} of node"), number)))
            .with_key(member.key.clone())
            .with_listeners(network.clone())
            .with_connector(Arc::new(network))
            .with_commit_time(self.commit_time);
        if let Some(defect) = self.defect {
            context = context.with_defect(defect);
        }
        let node = Node::start(config, context).await?;
        member.syncs.store(node.syncs(), SeqCst);
        self.note(format!("node {number} runs"));
        // It ends by being dropped.
        std::future::pending().await
    }

    fn peer(&self, number: usize, key: &SecretKey) -> String {
        format!("http://{}:{PORT}#{}", self.name(number), key.public().to_hex())
    }
}

#[derive(Debug)]
struct SimulatedClock {
    passed: Arc<AtomicI64>,
    skew: Arc<AtomicI64>,
}

impl Clock for SimulatedClock {
    fn millis(&self) -> u64 {
        let secs = BEGIN + self.passed.load(SeqCst) + self.skew.load(SeqCst);
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        secs.unsigned_abs() * 1_000 + u64::try_from(elapsed.as_millis()).expect("minutes")
    }
}
