//! Swarms for the tests: those of the behaviour, and raw peers that send whatever they are told.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use cid::{Cid, multihash::Multihash};
use futures_util::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, Transport,
    core::{Endpoint, transport::MemoryTransport, transport::PortUse, upgrade::Version},
    noise,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, SwarmEvent, ToSwarm,
        behaviour::ConnectionEstablished, dial_opts::DialOpts, dial_opts::PeerCondition,
    },
    yamux,
};
use sha2::{Digest, Sha256};
use talkbox_core::async_trait;
use tokio::sync::mpsc;

use super::super::{
    Behaviour, Blocks, Config, Event,
    handler::{Command, Handler, Lane, Report},
    wire::{Entry, Message, Wish},
};

/// A run that takes so long hangs.
const HANGS: Duration = Duration::from_secs(60);

/// Blocks in memory, which count how often they are taken.
#[derive(Default)]
pub(super) struct Memory {
    blocks: Mutex<HashMap<Cid, Bytes>>,
    pub(super) taken: AtomicUsize,
}

impl Memory {
    pub(super) fn put(&self, blocks: impl IntoIterator<Item = (Cid, Bytes)>) {
        self.blocks.lock().unwrap().extend(blocks);
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Blocks for Memory {
    async fn sizes(&self, cids: Vec<Cid>) -> Vec<Option<usize>> {
        let blocks = self.blocks.lock().unwrap();
        cids.iter().map(|cid| blocks.get(cid).map(Bytes::len)).collect()
    }

    async fn get(&self, cids: Vec<Cid>) -> Vec<Option<Bytes>> {
        self.taken.fetch_add(cids.len(), Ordering::SeqCst);
        let blocks = self.blocks.lock().unwrap();
        cids.iter().map(|cid| blocks.get(cid).cloned()).collect()
    }
}

/// A block of this size; those of other numbers are others.
pub(super) fn block(number: u32, size: usize) -> (Cid, Bytes) {
    let mut bytes = vec![0; size.max(4)];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    let hash = Multihash::wrap(0x12, &Sha256::digest(&bytes)).unwrap();
    (Cid::new_v1(0x71, hash), bytes.into())
}

pub(super) fn entry(cid: Cid, wish: Wish) -> Entry {
    Entry { cid, wish, priority: 1, tell_absent: true }
}

pub(super) fn wants(entries: impl IntoIterator<Item = Entry>) -> Message {
    Message { entries: entries.into_iter().collect(), ..Message::default() }
}

/// What a node has seen.
#[derive(Debug)]
pub(super) enum Seen<E> {
    Event(E),
    Connected(PeerId),
    Closed(PeerId),
}

type Call<B> = Box<dyn FnOnce(&mut Swarm<B>) + Send>;

/// A swarm that runs by itself.
pub(super) struct Node<B: NetworkBehaviour> {
    pub(super) peer: PeerId,
    address: Multiaddr,
    calls: mpsc::Sender<Call<B>>,
    seen: mpsc::Receiver<Seen<B::ToSwarm>>,
}

/// A node of the behaviour with the usual times, but for `slow`: the machine may be busy.
pub(super) async fn node(blocks: &Arc<Memory>) -> Node<Behaviour> {
    let config = Config { slow: HANGS, ..Config::default() };
    configured(blocks, config, HANGS).await
}

pub(super) async fn configured(blocks: &Arc<Memory>, config: Config, idle: Duration) -> Node<Behaviour> {
    let blocks = Arc::clone(blocks);
    Node::start(Behaviour::new(blocks, config), idle).await
}

/// A peer that sends what it is told, and reads so many streams at once.
pub(super) async fn raw(streams: usize) -> Node<Raw> {
    let config = Config { streams, ..Config::default() };
    Node::start(Raw { config, to: None, out: VecDeque::new(), frames: VecDeque::new(), is_busy: false }, HANGS).await
}

impl<B> Node<B>
where
    B: NetworkBehaviour<ToSwarm: std::fmt::Debug> + Send,
{
    async fn start(behaviour: B, idle: Duration) -> Self {
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_other_transport(|keys| {
                MemoryTransport::default()
                    .upgrade(Version::V1)
                    .authenticate(noise::Config::new(keys).unwrap())
                    .multiplex(yamux::Config::default())
            })
            .unwrap()
            .with_behaviour(|_| behaviour)
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(idle))
            .build();
        swarm.listen_on("/memory/0".parse().unwrap()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let peer = *swarm.local_peer_id();
        let (calls, mut called) = mpsc::channel::<Call<B>>(64);
        let (to, seen) = mpsc::channel(200_000);
        tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    call = called.recv() => match call {
                        Some(call) => {
                            call(&mut swarm);
                            continue;
                        }
                        None => return,
                    },
                    event = swarm.select_next_some() => event,
                };
                let seen = match event {
                    SwarmEvent::Behaviour(event) => Seen::Event(event),
                    SwarmEvent::ConnectionEstablished { peer_id, .. } => Seen::Connected(peer_id),
                    SwarmEvent::ConnectionClosed { peer_id, .. } => Seen::Closed(peer_id),
                    _ => continue,
                };
                if to.try_send(seen).is_err() {
                    return;
                }
            }
        });
        Self { peer, address, calls, seen }
    }

    /// Does something with the swarm.
    pub(super) async fn call<T: Send + 'static>(&self, call: impl FnOnce(&mut Swarm<B>) -> T + Send + 'static) -> T {
        let (to, from) = tokio::sync::oneshot::channel();
        let call: Call<B> = Box::new(move |swarm| drop(to.send(call(swarm))));
        assert!(self.calls.send(call).await.is_ok(), "the node has ended");
        from.await.unwrap()
    }

    /// Makes one more connection.
    pub(super) async fn connect<C: NetworkBehaviour>(&mut self, other: &Node<C>) {
        let dial = DialOpts::peer_id(other.peer).addresses(vec![other.address.clone()]);
        let dial = dial.condition(PeerCondition::Always).build();
        self.call(|swarm| swarm.dial(dial).unwrap()).await;
        let peer = other.peer;
        self.until(|seen| matches!(seen, Seen::Connected(it) if it == peer).then_some(())).await;
    }

    pub(super) async fn next(&mut self) -> Seen<B::ToSwarm> {
        tokio::time::timeout(HANGS, self.seen.recv()).await.expect("the test hangs").expect("the node has ended")
    }

    /// Skips what has been seen until something is found.
    pub(super) async fn until<T>(&mut self, find: impl Fn(Seen<B::ToSwarm>) -> Option<T>) -> T {
        loop {
            if let Some(found) = find(self.next().await) {
                return found;
            }
        }
    }

    /// The next event of the behaviour.
    pub(super) async fn event(&mut self) -> B::ToSwarm {
        self.until(|seen| if let Seen::Event(event) = seen { Some(event) } else { None }).await
    }

    pub(super) async fn closed(&mut self) -> PeerId {
        self.until(|seen| if let Seen::Closed(peer) = seen { Some(peer) } else { None }).await
    }
}

impl Node<Behaviour> {
    pub(super) async fn want(&self, cids: Vec<Cid>, from: &[PeerId]) {
        let from = from.to_vec();
        self.call(move |swarm| {
            for cid in cids {
                assert!(swarm.behaviour_mut().want(cid, &from));
            }
        })
        .await;
    }

    pub(super) async fn notify_new(&self, cid: Cid) {
        self.call(move |swarm| swarm.behaviour_mut().notify_new(&[cid])).await;
    }

    /// The block that comes next; other events are skipped.
    pub(super) async fn received(&mut self) -> (PeerId, Cid, Bytes) {
        self.until(|seen| match seen {
            Seen::Event(Event::Received { peer, cid, bytes }) => Some((peer, cid, bytes)),
            _ => None,
        })
        .await
    }
}

impl Node<Raw> {
    pub(super) async fn send(&self, message: Message) {
        self.send_frame(message.frame()).await;
    }

    /// Sends bytes as they are.
    pub(super) async fn send_frame(&self, frame: Bytes) {
        self.call(move |swarm| swarm.behaviour_mut().frames.push_back(frame)).await;
    }
}

/// The handler without the behaviour.
pub(super) struct Raw {
    config: Config,
    to: Option<(PeerId, ConnectionId)>,
    out: VecDeque<ToSwarm<Message, Command>>,
    frames: VecDeque<Bytes>,
    is_busy: bool,
}

impl NetworkBehaviour for Raw {
    type ConnectionHandler = Handler;
    type ToSwarm = Message;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::new(self.config, Arc::new(AtomicBool::new(false))))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::new(self.config, Arc::new(AtomicBool::new(false))))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, .. }) = event {
            self.to = Some((peer_id, connection_id));
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, report: Report) {
        match report {
            Report::Received(incoming) => self.out.push_back(ToSwarm::GenerateEvent(incoming.message)),
            Report::Free(_) => self.is_busy = false,
            Report::Speaks(_) => {}
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Message, Command>> {
        if let (false, Some((peer_id, connection))) = (self.is_busy, self.to)
            && let Some(frame) = self.frames.pop_front()
        {
            self.is_busy = true;
            let event = Command::Send { lane: Lane::Wants, frame };
            self.out.push_back(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event });
        }
        self.out.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
