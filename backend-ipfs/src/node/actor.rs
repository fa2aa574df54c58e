//! The task that owns the swarm. It does what it is asked, tells what happens, and decides nothing: what takes longer
//! than a moment is done by tasks beside it, which ask through [`Link`](super::link::Link).

mod dht;
mod words;

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use bytes::Bytes;
use cid::Cid;
use futures_util::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId,
    gossipsub::{self, IdentTopic, MessageAcceptance, PublishError},
    identify,
    kad::{QueryId, RecordKey},
    ping,
    swarm::{
        self, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use talkbox_core::{Error, Result};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval_at},
};

pub(super) use self::words::{Command, Fetched, Happening};
use super::{
    address::PeerAddress,
    reach::Reach,
    swarm::{Behaviour, BehaviourEvent, dial_error},
};
use crate::bitswap;

/// Addresses of one peer that are tried: its transports in both families of addresses, and some that are old.
const MAX_ADDRESSES: usize = 16;
/// Look-ups of providers of blocks at one time: each asks some twenty peers.
const MAX_LOOKUPS: usize = 32;

/// How often the peers of the DHT near this one are looked for anew: what libp2p does by default.
const AROUND: Duration = Duration::from_secs(300);

/// Somebody who waits for a block.
struct Waiting {
    found: mpsc::Sender<Fetched>,
    /// Whether to look for more peers that have it, where those do not that were named.
    anywhere: bool,
}

/// Somebody who waits for a connection.
struct Dialling {
    /// Where the peer is said to be. It may be somebody else who says it, and wrong.
    addresses: Vec<Multiaddr>,
    /// Whether these are being dialled.
    tried: bool,
    done: oneshot::Sender<Result<()>>,
}

/// Who asked the DHT.
enum Lookup {
    Block(Cid, HashSet<PeerId>),
    Key(mpsc::Sender<PeerId>, HashSet<PeerId>),
}

pub(super) struct Actor {
    pub(super) swarm: swarm::Swarm<Behaviour>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) happenings: mpsc::Sender<Happening>,
    /// Peers to which the last connection was lost: apart from the rest, since none may be missed.
    pub(super) gone: mpsc::Sender<PeerId>,
    pub(super) addresses: watch::Sender<Vec<PeerAddress>>,
    pub(super) reach: Reach,
    dialling: HashMap<PeerId, Vec<Dialling>>,
    wanted: HashMap<Cid, Vec<Waiting>>,
    lookups: HashMap<QueryId, Lookup>,
    /// Those who wait until a peer of the DHT is known.
    entering: Vec<oneshot::Sender<()>>,
}

impl Actor {
    pub(super) fn new(
        swarm: swarm::Swarm<Behaviour>,
        commands: mpsc::Receiver<Command>,
        happenings: mpsc::Sender<Happening>,
        gone: mpsc::Sender<PeerId>,
        addresses: watch::Sender<Vec<PeerAddress>>,
        reach: Reach,
    ) -> Self {
        let (dialling, wanted, lookups, entering) = Default::default();
        Self { swarm, commands, happenings, gone, addresses, reach, dialling, wanted, lookups, entering }
    }

    /// Runs until it is asked to end, or nobody is left who could ask.
    pub(super) async fn run(mut self) {
        let mut around = interval_at(Instant::now() + AROUND, AROUND);
        around.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    None => return,
                    Some(Command::Close(done)) => {
                        let peers: Vec<_> = self.swarm.connected_peers().copied().collect();
                        for peer in peers {
                            let _ = self.swarm.disconnect_peer_id(peer);
                        }
                        // Whoever asked may have gone.
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => self.obey(command),
                },
                event = next(&self.gone, &mut self.swarm) => self.tell(event),
                _ = around.tick() => self.look_around(),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let behaviour = self.swarm.behaviour_mut();
        match command {
            Command::Connect { peer, addresses, done } => self.connect(peer, addresses, done),
            Command::Connections(told) => {
                let connections = self.swarm.network_info().connection_counters().num_established();
                // Whoever asked may have gone.
                let _ = told.send(connections);
            }
            Command::Subscribe(topic) => {
                if let Err(error) = behaviour.gossip.subscribe(&IdentTopic::new(topic)) {
                    tracing::warn!(%error, "a log could not be subscribed to");
                }
            }
            Command::Unsubscribe(topic) => drop(behaviour.gossip.unsubscribe(&IdentTopic::new(topic))),
            Command::Subscribers(topic, told) => {
                let topic = IdentTopic::new(topic).hash();
                let peers = behaviour.gossip.all_peers().filter(|(_, topics)| topics.contains(&&topic));
                // Whoever asked may have gone.
                let _ = told.send(peers.map(|(peer, _)| *peer).collect());
            }
            Command::Publish(topic, data) => match behaviour.gossip.publish(IdentTopic::new(topic), data) {
                // Nobody listens: who comes later asks for the heads.
                Ok(_) | Err(PublishError::NoPeersSubscribedToTopic | PublishError::Duplicate) => {}
                Err(error) => tracing::warn!(%error, "an entry could not be told to those who listen"),
            },
            Command::Judge { message, source, verdict } => {
                behaviour.gossip.report_message_validation_result(&message, &source, verdict);
            }
            Command::Want { cids, from, found } => {
                for cid in cids {
                    if behaviour.bitswap.want(cid, &from) {
                        let waiting = Waiting { found: found.clone(), anywhere: from.is_empty() };
                        self.wanted.entry(cid).or_default().push(waiting);
                    } else {
                        // Room for one answer for each.
                        let _ = found.try_send(Fetched { cid, bytes: None });
                    }
                }
            }
            Command::Unwant(cids) => {
                for cid in cids {
                    let waiting = self.wanted.get_mut(&cid);
                    if waiting.is_none_or(|waiting| {
                        waiting.retain(|waiting| !waiting.found.is_closed());
                        waiting.is_empty()
                    }) {
                        self.wanted.remove(&cid);
                        behaviour.bitswap.cancel(cid);
                    }
                }
            }
            Command::Arrived(cids) => behaviour.bitswap.notify_new(&cids),
            Command::Provide(key) => {
                let provided = behaviour.kad.as_mut().map(|kad| kad.start_providing(key));
                if let Some(Err(error)) = provided {
                    tracing::warn!(%error, "a mailbox could not be announced in the DHT");
                }
            }
            Command::StopProviding(key) => {
                if let Some(kad) = behaviour.kad.as_mut() {
                    kad.stop_providing(&key);
                }
            }
            Command::Enter(told) => self.enter(told),
            Command::Providers(key, found) => {
                if let Some(kad) = behaviour.kad.as_mut() {
                    self.lookups.insert(kad.get_providers(key), Lookup::Key(found, HashSet::new()));
                }
            }
            Command::Close(_) => {}
        }
    }

    fn connect(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, done: oneshot::Sender<Result<()>>) {
        if self.swarm.is_connected(&peer) {
            let _ = done.send(Ok(()));
            return;
        }
        let waiting = self.dialling.entry(peer).or_default();
        waiting.push(Dialling { addresses, tried: false, done });
        if waiting.len() == 1 {
            self.dial(peer);
        }
    }

    /// Dials all addresses that those who wait for a peer name.
    fn dial(&mut self, peer: PeerId) {
        let mut addresses: Vec<Multiaddr> = Vec::new();
        for address in self.dialling.get(&peer).into_iter().flatten().flat_map(|waiting| &waiting.addresses) {
            if addresses.len() < MAX_ADDRESSES && !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        let dial = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses)
            .extend_addresses_through_behaviour();
        let dialled = self.swarm.dial(dial.build());
        // One that is being dialled already, elsewhere, is dialled here when that has failed.
        if !matches!(dialled, Err(swarm::DialError::DialPeerConditionFalse(_))) {
            self.dialling.get_mut(&peer).into_iter().flatten().for_each(|waiting| waiting.tried = true);
        }
        if let Err(error) = dialled
            && !matches!(error, swarm::DialError::DialPeerConditionFalse(_))
        {
            self.not_reached(peer, &dial_error(&error));
        }
    }

    /// Answers those who wait for a connection that is there.
    fn reached(&mut self, peer: PeerId) {
        for waiting in self.dialling.remove(&peer).into_iter().flatten() {
            // Whoever waited may have gone.
            let _ = waiting.done.send(Ok(()));
        }
    }

    /// Answers those whose addresses lead nowhere, and tries those of the others.
    fn not_reached(&mut self, peer: PeerId, error: &Error) {
        let waiting = self.dialling.remove(&peer).unwrap_or_default();
        let (tried, untried): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|waiting| waiting.tried);
        for waiting in tried {
            let error = Error::new(error.kind(), error.message().to_owned()).with("peer", peer);
            // Whoever waited may have gone.
            let _ = waiting.done.send(Err(error));
        }
        if !untried.is_empty() {
            self.dialling.insert(peer, untried);
            self.dial(peer);
        }
    }

    fn tell(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.behave(event),
            SwarmEvent::ConnectionEstablished { peer_id, .. } => self.reached(peer_id),
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                // There is room, unless nobody listens any more.
                let _ = self.gone.try_send(peer_id);
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                self.not_reached(peer, &dial_error(&error));
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                // Only such an address is told in the DHT, where a provider without any counts for nothing.
                if self.reach.allows(&address) {
                    self.swarm.add_external_address(address);
                }
                self.show_addresses();
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.swarm.remove_external_address(&address);
                self.show_addresses();
            }
            SwarmEvent::ExternalAddrConfirmed { .. } | SwarmEvent::ExternalAddrExpired { .. } => self.show_addresses(),
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener has a problem"),
            _ => {}
        }
    }

    /// Those that were named first: they are the better ones.
    fn show_addresses(&self) {
        let peer = *self.swarm.local_peer_id();
        let listens = || self.swarm.listeners();
        let named = self.swarm.external_addresses().filter(|external| !listens().any(|own| own == *external));
        let all: Vec<_> = named.chain(listens()).map(|place| PeerAddress { peer, place: place.clone() }).collect();
        self.addresses.send_replace(all);
    }

    fn behave(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(event) => self.gossip(event),
            BehaviourEvent::Bitswap(event) => self.bitswap(event),
            BehaviourEvent::Kad(event) => self.kad(event),
            // A peer that lost its power says nothing: without this, its connection would seem to be there for ever.
            BehaviourEvent::Ping(ping::Event { peer, connection, result: Err(error) })
                if !matches!(error, ping::Failure::Unsupported) =>
            {
                tracing::debug!(%peer, %error, "the peer does not answer any more");
                self.swarm.close_connection(connection);
            }
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => self.introduced(peer_id, info),
            _ => {}
        }
    }

    fn gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                let topic = message.topic.into_string();
                let (source, message_id) = (propagation_source, message_id);
                let told = Happening::Message { topic, message: message_id.clone(), source, data: message.data.into() };
                if self.happenings.try_send(told).is_err() {
                    // There is more than can be looked at. The heads that are exchanged now and then lead to it.
                    let verdict = MessageAcceptance::Ignore;
                    let gossip = &mut self.swarm.behaviour_mut().gossip;
                    gossip.report_message_validation_result(&message_id, &source, verdict);
                }
            }
            gossipsub::Event::Subscribed { peer_id, topic } => {
                self.happens(Happening::Subscribed { peer: peer_id, topic: topic.into_string() });
            }
            gossipsub::Event::Unsubscribed { peer_id, topic } => {
                self.happens(Happening::Unsubscribed { peer: peer_id, topic: topic.into_string() });
            }
            gossipsub::Event::GossipsubNotSupported { .. } | gossipsub::Event::SlowPeer { .. } => {}
        }
    }

    /// Where those who look are behind, they find out at the next exchange of heads.
    fn happens(&self, happening: Happening) {
        if self.happenings.try_send(happening).is_err() {
            tracing::debug!("more happens than is looked at");
        }
    }

    fn bitswap(&mut self, event: bitswap::Event) {
        match event {
            bitswap::Event::Received { cid, bytes, .. } => self.fetched(cid, Some(&bytes)),
            bitswap::Event::Absent { .. } => {}
            bitswap::Event::Unsought { cid } => {
                let Some(waiting) = self.wanted.get_mut(&cid) else { return };
                for one in waiting.extract_if(.., |one| !one.anywhere) {
                    // Room for one answer for each.
                    let _ = one.found.try_send(Fetched { cid, bytes: None });
                }
                if waiting.is_empty() {
                    return self.fetched(cid, None);
                }
                let room = self.lookups.len() < MAX_LOOKUPS;
                match self.swarm.behaviour_mut().kad.as_mut().filter(|_| room) {
                    Some(kad) => {
                        let query = kad.get_providers(RecordKey::new(&cid.hash().to_bytes()));
                        self.lookups.insert(query, Lookup::Block(cid, HashSet::new()));
                    }
                    None => self.fetched(cid, None),
                }
            }
        }
    }

    /// Tells those who wait for a block what became of it.
    fn fetched(&mut self, cid: Cid, bytes: Option<&Bytes>) {
        if bytes.is_none() {
            self.swarm.behaviour_mut().bitswap.cancel(cid);
        }
        for waiting in self.wanted.remove(&cid).into_iter().flatten() {
            // Each has room for one answer for each block that it asked for.
            let _ = waiting.found.try_send(Fetched { cid, bytes: bytes.cloned() });
        }
    }
}

/// What happens next. Nothing does while there is no room to tell that a peer was lost.
async fn next(gone: &mpsc::Sender<PeerId>, swarm: &mut swarm::Swarm<Behaviour>) -> SwarmEvent<BehaviourEvent> {
    drop(gone.reserve().await);
    swarm.select_next_some().await
}
