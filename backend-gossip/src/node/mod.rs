//! The node: a Nostr relay made for sealed mailboxes, on axum and SQLite.
//!
//! It takes gift wraps, their deletions, records, relay lists and hints, and nothing else. What it acknowledges is on
//! the disk. Gift wraps and hints are served only to the mailbox that they are addressed to and to their author. The
//! NIPs it keeps to are in its information document; what bounds its clients is in [`Limits`].
//!
//! ```text
//! socket → session → intake: policy, known id?, signature → writer: group commit → OK
//!             ↑                                                        └→ live → outboxes of subscribers
//!             └ queries ← readers (SQLite snapshots)
//! ```
//!
//! What is on its way is bounded: an event holds a place from the session until it is answered, and outboxes have a limit.

mod addresses;
mod admitted;
mod beside;
mod checked;
mod config;
mod context;
mod cursor;
mod filter;
mod gate;
mod half;
mod health;
mod http;
mod identity;
mod info;
mod intake;
mod keepers;
mod listen;
mod live;
pub mod maintenance;
mod mesh;
mod metrics;
mod outbox;
mod own_url;
mod planted;
mod policy;
mod private;
mod proxies;
mod pulse;
mod refusal;
mod scrub;
mod server;
mod session;
mod shares;
mod store;
mod survey;
mod tls;

use std::{fmt, net::SocketAddr, path::Path, sync::Arc, thread::available_parallelism, time::Duration};

use talkbox_core::{Clock, Error, ErrorKind, PublicKey, Result, SecretKey, Timestamp};
use talkbox_net::Http;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use self::{
    addresses::Addresses,
    context::Work,
    http::MailSets,
    intake::{Intake, RecentIds},
    live::Live,
    mesh::{Candidates, Hints, PeerAddress, Roster},
    metrics::Metrics,
    outbox::Pending,
    own_url::OwnUrl,
    policy::Policy,
    pulse::Pulse,
    shares::{Bounds, Shares},
    store::{Followers, Store},
    tls::Certificate,
};
pub use self::{
    beside::{Beside, Sample, SampleKind, Standing},
    config::{Limits, NodeConfig},
    context::{NodeContext, OsRandomness, Randomness},
    health::health,
    listen::{Bind, Listen, Stream, Tcp},
    planted::Defect,
    proxies::Subnet,
    survey::{CandidateState, NodeState, PeerState, survey},
    tls::TlsFiles,
};

/// How often is looked for what has expired.
const COLLECT_EVERY: Duration = Duration::from_secs(60);
/// How often is tried whether the disk takes something again that did not. A full one is cleared by hand, and whoever did
/// it looks at `/readyz`.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// How long stopping may take: the answers that are owed, the last commit, the end of the log.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of filters that each party has in any case: some subscriptions to a mailbox. With a party for each of 4,096
/// connections it is 16 MiB.
const FILTERS_ALWAYS: usize = 4_096;
/// Ids that each party may reconcile in any case: a small mailbox. With as many parties it is 40 MiB.
const RECONCILED_ALWAYS: usize = 256;

/// Bytes of bodies that each party may send in any case: an envelope of the largest size. With a party for each of 4,096
/// connections it is 256 MiB.
const BODIES_ALWAYS: usize = 65_536;
/// How long what is under way may take when the node stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// A running node. [`shutdown`](Self::shutdown) stops it and waits until all is on the disk; to drop it stops it too,
/// but port and store are free only a moment later.
pub struct Node {
    shared: Arc<Shared>,
    address: SocketAddr,
    stopping: watch::Sender<bool>,
    /// Ends when no connection is left.
    gone: mpsc::Receiver<()>,
    /// The listener, and what runs beside it.
    tasks: [JoinHandle<()>; 3],
    /// What keeps the node and its peers alike.
    mesh: JoinSet<()>,
}

/// What the parts of a node share.
#[derive(Debug)]
struct Shared {
    config: NodeConfig,
    context: NodeContext,
    clock: Arc<dyn Clock>,
    /// What an AUTH event has to name.
    url: OwnUrl,
    /// Signs receipts.
    key: SecretKey,
    store: Store,
    intake: Intake,
    live: Arc<Live>,
    addresses: Arc<Addresses>,
    pending: Arc<Pending>,
    /// The bytes of open filters.
    filters: Arc<Shares>,
    roster: Roster,
    hints: Hints,
    candidates: Candidates,
    metrics: Arc<Metrics>,
    /// What peers are asked with.
    http: Http,
    /// The ids in open reconciliations.
    reconciled: Arc<Shares>,
    /// The bytes of bodies that are being taken in.
    bodies: Arc<Shares>,
    /// The bytes of answers over HTTP that wait to be written.
    answers: Arc<Shares>,
    /// Sets of ids that are kept for reconciliations over HTTP.
    mail_sets: MailSets,
    /// Turns to parse a large message of a WebSocket. The threads that parse are also those that answer, so that all
    /// who send much together have no more than half of them.
    parsing: Semaphore,
    pulse: Pulse,
    stop: Stop,
    started: Instant,
}

/// Tells that the node is asked to stop.
#[derive(Clone, Debug)]
struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Returns when the node is asked to stop, or has gone.
    async fn asked(&mut self) {
        let _gone = self.0.wait_for(|stopping| *stopping).await;
    }
}

impl Shared {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether this is the key of a peer.
    fn is_peer(&self, key: &PublicKey) -> bool {
        self.roster.of_key(key).is_some()
    }
}

impl Node {
    /// Opens the store and starts to listen.
    ///
    /// # Errors
    /// `ConfigInvalid` for a setting that cannot work, an address that cannot be listened on or a URL that is none;
    /// `Storage` where the store cannot be opened, is in use, damaged, or of a newer version; with the context `disk`
    /// where its disk is full or read-only.
    pub async fn start(config: NodeConfig, context: NodeContext) -> Result<Self> {
        checked::check(&config)?;
        let peers = mesh::addresses(&config.peers)?;
        let candidates = Candidates::new(&config)?;
        let certificate = config.tls.clone().map(Certificate::read).transpose()?;
        let acceptor = certificate.as_ref().map(Certificate::acceptor).transpose()?;
        let listener = context.listeners().bind(config.listen).await.map_err(|error| {
            Error::new(ErrorKind::ConfigInvalid, "cannot listen there").with("listen", config.listen).source(error)
        })?;
        let address = listener
            .address()
            .map_err(|error| Error::new(ErrorKind::Unexpected, "the listener has no address").source(error))?;
        let url = OwnUrl::new(&config, address)?;
        let key = match context.key() {
            Some(key) => key,
            None => identity::key(config.data.as_deref()).map_err(|error| of_disk(error, config.data.as_deref()))?,
        };
        let epoch = context.random()?;
        let (clock, recent) = (context.clock(), Arc::new(RecentIds::default()));
        let metrics = Arc::<Metrics>::default();
        let (live, work, planted) = (Arc::new(Live::new(Arc::clone(&metrics))), context.work(), context.planted());
        let store = {
            let (data, limits) = (config.data.clone(), config.limits.clone());
            let (recent, live, metrics) = (Arc::clone(&recent), Arc::clone(&live), Arc::clone(&metrics));
            let followers = Followers { recent, live, metrics };
            let is_read_by_all = !config.gate_reads;
            let open = move || {
                Store::open(data.as_deref(), epoch, &limits, followers, is_read_by_all, work, planted)
                    .map_err(|error| of_disk(error, data.as_deref()))
            };
            match work {
                Work::Inline => open()?,
                // To open a large store takes seconds: it is checked.
                Work::Threads => tokio::task::spawn_blocking(open).await.map_err(|panic| {
                    Error::new(ErrorKind::Unexpected, "the store could not be opened").source(panic)
                })??,
            }
        };
        let (stopping, stop) = watch::channel(false);
        let hints = Hints::default();
        let policy = Policy::new(&config.limits, relays(&url, &peers));
        let followers = Followers { recent, live: Arc::clone(&live), metrics: Arc::clone(&metrics) };
        let intake = Intake::start(policy, Arc::clone(&clock), followers, hints.clone(), &store, work, planted)?;
        let shared = Arc::new(Shared {
            addresses: Addresses::new(&config.limits),
            pending: Arc::new(Pending::new(config.limits.max_pending_total)),
            filters: Shares::new(Bounds {
                total: config.limits.max_filter_bytes_total,
                each: config.limits.max_filter_bytes,
                always: FILTERS_ALWAYS,
            }),
            reconciled: Shares::new(Bounds {
                total: config.limits.max_reconciled_total,
                each: config.limits.max_reconciled_total / 2,
                always: RECONCILED_ALWAYS,
            }),
            bodies: Shares::new(Bounds {
                total: config.limits.max_body_bytes_total,
                each: config.limits.max_body_bytes_total / 4,
                always: BODIES_ALWAYS,
            }),
            answers: Shares::new(Bounds {
                total: config.limits.max_answer_bytes_total,
                each: config.limits.max_answer_bytes_total / 4,
                always: http::ANSWERS_ALWAYS,
            }),
            roster: Roster::new(peers, store.peers().await?),
            hints,
            candidates,
            metrics,
            http: Http::new("peer", context.connector(), talkbox_net::Bounds::default()),
            live,
            mail_sets: MailSets::default(),
            parsing: Semaphore::new(available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))),
            pulse: Pulse::default(),
            stop: Stop(stop),
            started: Instant::now(),
            config,
            context,
            clock,
            url,
            key,
            store,
            intake,
        });
        if shared.config.public_url.is_none() && !address.ip().is_loopback() {
            tracing::warn!(
                "the node has no public URL: mail can be brought from anywhere, and read from this machine alone. Set the \
                 URL under which clients reach it (public_url)"
            );
        }
        let (alive, gone) = mpsc::channel(1);
        let tasks = [
            tokio::spawn(server::run(listener, acceptor, Arc::clone(&shared), alive)),
            tokio::spawn(collect(Arc::clone(&shared))),
            tokio::spawn(scrub::run(Arc::clone(&shared))),
        ];
        let mesh = mesh::start(&shared);
        if let Some(certificate) = certificate {
            tokio::spawn(certificate.follow(shared.stop.clone()));
        }
        match &shared.config.data {
            Some(data) => tracing::info!(%address, data = %data.display(), "the node listens"),
            None => tracing::info!(%address, "the node listens; its store is temporary"),
        }
        Ok(Self { shared, address, stopping, gone, tasks, mesh })
    }

    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The URL to connect to from this machine, such as `ws://127.0.0.1:7447`.
    pub fn url(&self) -> String {
        let scheme = if self.shared.config.tls.is_some() { "wss" } else { "ws" };
        format!("{scheme}://{}", self.address)
    }

    /// The key of the node: what its receipts are signed with.
    pub fn key(&self) -> PublicKey {
        self.shared.key.public()
    }

    /// The epoch of the store: random, made with it. A place in the order of arrival means something only together
    /// with it.
    pub fn epoch(&self) -> u64 {
        self.shared.store.epoch()
    }

    /// Whether a commit waits until the disk has it: what a simulated power failure leaves depends on it.
    #[cfg(feature = "defects")]
    #[doc(hidden)]
    pub fn syncs(&self) -> bool {
        self.shared.store.syncs()
    }

    /// Stops: takes nothing more, answers what was taken, commits, closes. Within 10 s.
    pub async fn shutdown(mut self) {
        self.stopping.send_replace(true);
        let stopped = tokio::time::timeout(STOP_WITHIN, async {
            let _panicked = (&mut self.tasks[0]).await;
            self.shared.http.close().await;
            while self.mesh.join_next().await.is_some() {}
            // Nothing is ever sent: it ends when the last connection has gone.
            let _none = self.gone.recv().await;
            self.shared.store.stop().await;
        })
        .await;
        match stopped {
            Ok(()) => tracing::info!("the node has stopped"),
            Err(_) => tracing::warn!("the node was stopped before it was done"),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stopping.send_replace(true);
        self.tasks[1..].iter().for_each(JoinHandle::abort);
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Why the folder of the node cannot be used, in words of its disk where that is the reason.
fn of_disk(error: Error, data: Option<&Path>) -> Error {
    match data {
        Some(data) => store::explained(error, data),
        None => error,
    }
}

/// The names that the node has as a relay, and those of the nodes that hold the same.
fn relays(own: &OwnUrl, peers: &[PeerAddress]) -> Vec<OwnUrl> {
    std::iter::once(own.clone()).chain(peers.iter().map(|peer| OwnUrl::of_peer(peer.url()))).collect()
}

/// The key of the node whose folder this is, made where there is none yet: for what else its operator runs under it.
///
/// # Errors
/// `Storage` where it cannot be read or made, or is open to others.
pub fn key_of(folder: &Path) -> Result<SecretKey> {
    identity::key(Some(folder))
}

/// The hour that a time is in. Nodes remove what has expired by the hour, so that the sets of two nodes that hold the same
/// and whose clocks are some seconds apart are equal all but some seconds of it. What has expired is given to nobody
/// meanwhile but to a peer that lacks it, as one that was restored, which counts it as held and keeps no body.
pub(crate) const fn hour(time: Timestamp) -> Timestamp {
    Timestamp(time.secs() - time.secs() % 3_600)
}

/// Removes what has expired, now and then; and looks whether a disk that failed does so still.
async fn collect(node: Arc<Shared>) {
    let mut rounds = tokio::time::interval(COLLECT_EVERY);
    let mut probes = tokio::time::interval(PROBE_EVERY);
    let mut stop = node.stop.clone();
    loop {
        tokio::select! {
            biased;
            _ = rounds.tick() => {
                while node.store.writer().expire(hour(node.now())).await {}
                node.store.mark().await;
            }
            _ = probes.tick() => if node.store.writer().fault().is_some() {
                node.store.writer().probe();
            },
            () = stop.asked() => return,
        }
    }
}
