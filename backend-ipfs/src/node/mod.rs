//! A peer: libp2p, the logs that it follows, and what it serves to others.

mod actor;
pub(crate) mod address;
mod blocks;
mod doors;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod heads;
pub(crate) mod key;
mod known;
pub(crate) mod link;
pub(crate) mod logs;
mod pins;
mod ports;
pub(crate) mod reach;
pub(crate) mod rendezvous;
mod replica;
mod serve;
pub(crate) mod settings;
pub(crate) mod shares;
pub(crate) mod streams;
mod swarm;
#[cfg(test)]
mod tests;
mod upkeep;
pub(crate) mod websocket;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use libp2p::PeerId;
use talkbox_core::{Clock, Error, ErrorKind, Result, SecretKey};
use tokio::{
    sync::{broadcast, mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use self::{
    actor::Actor, known::KnownPeers, link::Link, logs::Logs, reach::Reach, serve::Service, settings::Settings,
    upkeep::News,
};
use crate::{
    pinning::Keeper,
    store::{Store, StoreLimits},
    sync::{publish::Publishing, stored::StoredRecords},
};

/// Commands to the swarm that wait: it does each at once.
const COMMANDS: usize = 256;
/// Happenings that wait. What comes while they are all taken is let go, and found by heads.
const HAPPENINGS: usize = 4_096;
/// Lost connections that one who keeps a connection may be behind.
const LOST: usize = 64;
/// Peers of before that are looked for at the start.
const LOOKED_FOR: usize = 16;
/// How long the end may take: the process may be asked to be gone within ten seconds.
const CLOSING: Duration = Duration::from_secs(5);
/// The file of the store, in the folder of the peer.
pub(crate) const STORE: &str = "ipfs.sqlite3";

/// A running peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) link: Link,
    pub(crate) logs: Logs,
    pub(crate) store: Store,
    /// What pins the logs, where a service is configured.
    pub(crate) pins: Option<Arc<Keeper>>,
    lost: broadcast::Sender<PeerId>,
    /// Tells the pinner of the end.
    end: watch::Sender<bool>,
    /// Ended with it.
    tasks: Mutex<JoinSet<()>>,
}

impl Peer {
    /// Starts a peer.
    ///
    /// # Errors
    /// `Storage` for its folder; `ConfigInvalid` where it cannot listen.
    pub(crate) async fn start(settings: Settings, key: Option<SecretKey>, clock: Arc<dyn Clock>) -> Result<Self> {
        let folder = settings.data.as_deref();
        let key = match key {
            Some(key) => key,
            None => key::kept(folder)?,
        };
        let identity = key::identity(&key)?;
        let limits = StoreLimits { store_bytes: settings.max_store, ..StoreLimits::default() };
        let store = Store::open(folder.map(|folder| folder.join(STORE)).as_deref(), Arc::clone(&clock), limits).await?;
        let records = StoredRecords::open(store.clone(), Arc::clone(&clock)).await?;

        let reach = Reach::new(settings.named(), settings.allow_private);
        let built = swarm::build(&identity, &settings, &reach, Arc::new(store.clone()))?;
        let mut swarm = built.swarm;
        for address in &settings.listen {
            let cannot = |why: &dyn std::fmt::Display| {
                Error::new(ErrorKind::ConfigInvalid, format!("the peer cannot listen there: {why}"))
                    .with("listen", address)
            };
            ports::check(address).map_err(|error| cannot(&error).source(error))?;
            swarm.listen_on(address.clone()).map_err(|error| cannot(&error).source(error))?;
        }
        for address in &settings.external {
            swarm.add_external_address(address.clone());
        }
        for peer in &settings.bootstrap {
            if let Some(kad) = swarm.behaviour_mut().kad.as_mut() {
                kad.add_address(&peer.peer, peer.place.clone());
            }
        }
        let peer = *swarm.local_peer_id();
        let (commands, asked) = mpsc::channel(COMMANDS);
        let (happenings, happened) = mpsc::channel(HAPPENINGS);
        let (gone, went) = mpsc::channel(HAPPENINGS);
        let (addresses, shown) = watch::channel(Vec::new());
        let (lost, _) = broadcast::channel(LOST);
        let link = Link::new(commands, built.streams, shown, peer);
        let logs =
            Logs::new(store.clone(), link.clone(), settings.keep.clone(), settings.retention, Arc::clone(&clock));
        let news = Arc::new(News::default());
        let service = Service {
            logs: logs.clone(),
            store: store.clone(),
            publishing: Arc::new(Publishing::new(records.clone(), Arc::clone(&clock))),
            key,
            clock: Arc::clone(&clock),
            news: Arc::clone(&news),
        };

        let mut tasks = JoinSet::new();
        tasks.spawn(Actor::new(swarm, asked, happenings, gone, addresses, reach).run());
        tasks.spawn(service.run(built.inbound));
        let known = KnownPeers::open(store.clone()).await?;
        let before = known.latest(LOOKED_FOR).await?;
        let remembering = settings.keep.is_node().then_some((known, Arc::clone(&clock)));
        let listening = upkeep::listen(logs.clone(), happened, went, lost.clone(), remembering, Arc::clone(&news));
        tasks.spawn(listening);
        if settings.keep.is_node() {
            for to in settings.peers.iter().chain(&settings.bootstrap) {
                tasks.spawn(upkeep::stay_connected(link.clone(), to.clone(), lost.subscribe()));
            }
            tasks.spawn(upkeep::look_for(link.clone(), before));
            tasks.spawn(upkeep::watch_over(store.clone()));
        }
        let keep = settings.keep.clone();
        tasks.spawn(upkeep::keep_logs(logs.clone(), link.clone(), keep, records, Arc::clone(&clock), news));
        let (allow_private, end) = (settings.allow_private, watch::channel(false).0);
        let pins = pins::keeper(&settings.pins, &store, &link, &clock, settings.proxy.clone(), allow_private).await?;
        if let Some(pins) = pins.clone() {
            logs.pinned_by(Arc::clone(&pins));
            let stop = end.subscribe();
            tasks.spawn(async move { pins.run(stop).await });
        }
        let told = settings.external.len();
        let listens = timeout(CLOSING, link.listening(told + settings.listen.len())).await.is_ok();
        // One place of several is enough.
        if !listens && link.addresses().len() <= told {
            let places: Vec<_> = settings.listen.iter().map(ToString::to_string).collect();
            return Err(Error::new(ErrorKind::ConfigInvalid, "the peer cannot listen on any of its addresses")
                .with("listen", places.join(" ")));
        }
        Ok(Self { link, logs, store, pins, lost, end, tasks: Mutex::new(tasks) })
    }

    /// Peers to which the last connection was lost, from now on.
    pub(crate) fn lost(&self) -> broadcast::Receiver<PeerId> {
        self.lost.subscribe()
    }

    /// Ends it: connections are closed, and what was acknowledged is on the disk.
    pub(crate) async fn close(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        self.end.send_replace(true);
        // A swarm that does not end by itself is ended.
        let _ = timeout(CLOSING, self.link.close()).await;
        tasks.abort_all();
        while tasks.join_next().await.is_some() {}
        self.store.close().await;
    }
}
