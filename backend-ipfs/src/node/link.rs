//! What tasks ask of the swarm, and wait for.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cid::Cid;
use futures_util::future::join_all;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    gossipsub::{MessageAcceptance, MessageId},
    kad::RecordKey,
};
use talkbox_core::{Error, ErrorKind, Result, half::closed};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    actor::{Command, Fetched},
    address::PeerAddress,
    shares::Shares,
    streams::{self, OpenError, Stream},
};
use crate::orbitdb::Block;

/// Providers that may wait to be looked at: as many as the swarm tells.
const PROVIDERS: usize = 32;
/// How long a stream may take to be opened.
const OPEN: Duration = Duration::from_secs(10);
/// How long a peer may take to introduce itself: a few round trips.
const INTRODUCED: Duration = Duration::from_secs(3);
/// Blocks that are asked for at once.
pub(super) const MAX_FETCH: usize = 256;

/// Streams that are open to one peer at once. A peer resets those beyond 32, and may notice late that one has ended.
const STREAMS_TO_ONE: usize = 16;

/// The way to the swarm. Cheap to clone; the swarm ends when nobody has one.
#[derive(Clone)]
pub(crate) struct Link {
    commands: mpsc::Sender<Command>,
    streams: streams::Control,
    addresses: watch::Receiver<Vec<PeerAddress>>,
    peer: PeerId,
    shares: Arc<Shares>,
}

impl Link {
    pub(super) fn new(
        commands: mpsc::Sender<Command>,
        streams: streams::Control,
        addresses: watch::Receiver<Vec<PeerAddress>>,
        peer: PeerId,
    ) -> Self {
        Self { commands, streams, addresses, peer, shares: Arc::new(Shares::new(STREAMS_TO_ONE)) }
    }

    /// Who this peer is.
    pub(crate) const fn peer(&self) -> PeerId {
        self.peer
    }

    /// Where others reach this peer: first what the user named, then where it listens.
    pub(crate) fn addresses(&self) -> Vec<PeerAddress> {
        self.addresses.borrow().clone()
    }

    /// Waits until it listens somewhere.
    pub(super) async fn listening(&self, places: usize) {
        let mut addresses = self.addresses.clone();
        // An error means that the swarm has ended: then nobody waits any more.
        let _ = addresses.wait_for(|addresses| addresses.len() >= places).await;
    }

    /// Connects to a peer, unless it is connected.
    ///
    /// # Errors
    /// `Unreachable`, `Timeout`, `VerificationFailed` where another peer answers; `Closed`.
    pub(crate) async fn connect(&self, to: &PeerAddress, within: Duration) -> Result<()> {
        self.connect_at(to.peer, vec![to.place.clone()], within).await
    }

    /// Connects to a peer whose addresses the DHT knows.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub(crate) async fn connect_found(&self, peer: PeerId, within: Duration) -> Result<()> {
        self.connect_at(peer, Vec::new(), within).await
    }

    /// Connects to a peer at whichever of these places it answers.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub(crate) async fn connect_at(&self, peer: PeerId, places: Vec<Multiaddr>, within: Duration) -> Result<()> {
        let (done, answer) = oneshot::channel();
        self.ask(Command::Connect { peer, addresses: places, done }).await?;
        match timeout(within, answer).await {
            Ok(answer) => answer.map_err(|_| closed())?,
            Err(_) => Err(Error::new(ErrorKind::Timeout, "the peer does not answer").with("peer", peer)),
        }
    }

    /// Opens a stream to a connected peer, when few enough are open. Whoever waits for a second one while it has one has
    /// to see to it that not all do so.
    ///
    /// # Errors
    /// `Unsupported` where the peer does not speak the protocol, `Unreachable` where it is not connected, `Timeout`.
    pub(crate) async fn open(&self, peer: PeerId, protocol: StreamProtocol) -> Result<Stream> {
        self.open_within(peer, protocol, OPEN).await
    }

    /// The same, in less time.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) async fn open_within(&self, peer: PeerId, protocol: StreamProtocol, within: Duration) -> Result<Stream> {
        let share = self.shares.wait(peer).await;
        let opened = timeout(within, self.streams.open(peer, protocol)).await.unwrap_or(Err(OpenError::Timeout));
        opened.map(|stream| stream.holding(share)).map_err(|error| {
            let kind = match &error {
                OpenError::Unsupported => ErrorKind::Unsupported,
                OpenError::Timeout => ErrorKind::Timeout,
                OpenError::NotConnected | OpenError::Io(_) => ErrorKind::Unreachable,
            };
            Error::new(kind, error.to_string()).with("peer", peer)
        })
    }

    /// Has streams of a protocol come in.
    pub(super) fn accept(&self, protocol: &StreamProtocol) {
        self.streams.accept(protocol);
    }

    /// Has no more of them come in.
    pub(super) fn refuse(&self, protocol: &StreamProtocol) {
        self.streams.refuse(protocol);
    }

    /// How many connections there are.
    ///
    /// # Errors
    /// `Closed` where the swarm has ended.
    pub(crate) async fn connections(&self) -> Result<u32> {
        let (told, answer) = oneshot::channel();
        self.ask(Command::Connections(told)).await?;
        answer.await.map_err(|_| closed())
    }

    pub(super) async fn subscribe(&self, topic: &str) {
        self.tell(Command::Subscribe(topic.to_owned())).await;
    }

    pub(super) async fn unsubscribe(&self, topic: &str) {
        self.tell(Command::Unsubscribe(topic.to_owned())).await;
    }

    /// Who of the connected peers is subscribed to a topic.
    pub(crate) async fn subscribers(&self, topic: &str) -> Vec<PeerId> {
        let (told, answer) = oneshot::channel();
        self.tell(Command::Subscribers(topic.to_owned(), told)).await;
        answer.await.unwrap_or_default()
    }

    /// Tells those who are subscribed.
    pub(super) async fn publish(&self, topic: &str, data: Bytes) {
        self.tell(Command::Publish(topic.to_owned(), data)).await;
    }

    pub(super) async fn judge(&self, message: MessageId, source: PeerId, verdict: MessageAcceptance) {
        self.tell(Command::Judge { message, source, verdict }).await;
    }

    /// Fetches at most [`MAX_FETCH`] blocks: from these peers, or from all that are connected and those that the DHT
    /// knows. What does not come within the time is left out.
    pub(super) async fn fetch(&self, cids: &[Cid], from: &[PeerId], within: Duration) -> Vec<Block> {
        let cids = &cids[..cids.len().min(MAX_FETCH)];
        let (found, mut answers) = mpsc::channel(cids.len().max(1));
        self.tell(Command::Want { cids: cids.to_vec(), from: from.to_vec(), found }).await;
        let (mut blocks, end) = (Vec::with_capacity(cids.len()), Instant::now() + within);
        let mut answered = 0;
        while answered < cids.len() {
            match timeout_at(end, answers.recv()).await {
                Ok(Some(Fetched { cid, bytes: Some(bytes) })) => blocks.extend(Block::checked(cid, bytes)),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
            answered += 1;
        }
        drop(answers);
        if answered < cids.len() {
            let is_there = |cid: &Cid| blocks.iter().any(|block| block.cid == *cid);
            self.tell(Command::Unwant(cids.iter().filter(|cid| !is_there(cid)).copied().collect())).await;
        }
        blocks
    }

    /// Says that blocks are here that others may wait for.
    pub(super) async fn arrived(&self, cids: Vec<Cid>) {
        self.tell(Command::Arrived(cids)).await;
    }

    /// Announces in the DHT that this peer provides a key, until it is told to stop.
    pub(super) async fn provide(&self, key: RecordKey) {
        self.tell(Command::Provide(key)).await;
    }

    pub(super) async fn stop_providing(&self, key: RecordKey) {
        self.tell(Command::StopProviding(key)).await;
    }

    /// Gets into the DHT by these peers, where nobody of it is known yet: connects to them, and waits until one has told
    /// that it is of it. Whether that is so within the time.
    pub(crate) async fn enter_dht(&self, by: &[PeerAddress], within: Duration) -> bool {
        let (told, entered) = oneshot::channel();
        self.tell(Command::Enter(told)).await;
        let connecting = async {
            let connected = join_all(by.iter().map(|to| self.connect(to, within))).await;
            if connected.iter().any(Result::is_ok) {
                // What a peer speaks it tells a moment after it has connected.
                sleep(INTRODUCED).await;
            }
        };
        tokio::select! {
            biased;
            entered = entered => entered.is_ok(),
            () = connecting => false,
            () = sleep(within) => false,
        }
    }

    /// Who provides a key, as they are found; ends when no more are.
    pub(crate) async fn providers(&self, key: RecordKey) -> mpsc::Receiver<PeerId> {
        let (found, providers) = mpsc::channel(PROVIDERS);
        self.tell(Command::Providers(key, found)).await;
        providers
    }

    /// Ends the swarm.
    pub(super) async fn close(&self) {
        let (done, ended) = oneshot::channel();
        self.tell(Command::Close(done)).await;
        // It may have ended before.
        let _ = ended.await;
    }

    async fn ask(&self, command: Command) -> Result<()> {
        self.commands.send(command).await.map_err(|_| closed())
    }

    /// Asks for what does not matter once the swarm has ended.
    async fn tell(&self, command: Command) {
        let _ = self.commands.send(command).await;
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("peer", &self.peer).finish_non_exhaustive()
    }
}
