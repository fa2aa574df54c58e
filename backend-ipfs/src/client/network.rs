//! What both halves share: a peer of our own, the configured holders, and which peer a locator means.

use std::{sync::Arc, time::Duration};

use libp2p::{Multiaddr, PeerId, StreamProtocol};
use talkbox_core::{
    Clock, Descriptor, Error, ErrorKind, Locator, OpenContext, Refusal, Result, SecretKey, async_trait,
    half::{self, Shared},
};

use super::{config::IpfsConfig, seen::Seen};
use crate::{
    node::{
        Peer,
        address::{PeerAddress, SCHEME},
        settings::Settings,
        shares::Shares,
        streams::Stream,
    },
    orbitdb::Writer,
};

/// The kind of this backend.
pub(super) const NAME: &str = "ipfs";
/// The schemes of the locators that it opens.
pub(super) const SCHEMES: &[&str] = &[SCHEME];

/// Envelopes of so many logs are brought to one peer at once: each takes two streams, of which there may be 16.
const BRINGING: usize = 7;

/// An opened backend.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) descriptor: Descriptor,
    pub(super) peer: Peer,
    pub(super) seen: Seen,
    pub(super) clock: Arc<dyn Clock>,
    /// How long a peer may take for one small answer.
    pub(super) timeout: Duration,
    /// Signs the entries that are made here: a key of this run, which says nothing about who runs it.
    pub(super) writer: Arc<Writer>,
    /// Of the store that numbers what holders have.
    pub(super) epoch: u64,
    /// What is brought to one peer at once.
    pub(super) bringing: Shares,
    holders: Vec<Holder>,
}

/// A peer that holds mail, and how it is named by whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) address: PeerAddress,
    /// As the caller spells it, which is how the answer names it.
    pub(super) locator: Locator,
    /// Where else the caller says that it is. It is one holder all the same, and counts once.
    pub(super) others: Vec<(Multiaddr, Locator)>,
}

impl Holder {
    const fn new(address: PeerAddress, locator: Locator) -> Self {
        Self { address, locator, others: Vec::new() }
    }

    pub(super) const fn peer(&self) -> PeerId {
        self.address.peer
    }

    /// Its name in the table of what holders have.
    pub(super) fn name(&self) -> String {
        self.address.peer.to_string()
    }

    /// An error that names it.
    pub(super) fn named(&self, error: Error) -> Error {
        if error.context("holder").is_some() { error } else { error.with("holder", &self.locator) }
    }
}

impl Network {
    /// Starts a peer that listens nowhere and connects to nothing yet.
    ///
    /// # Errors
    /// `ConfigInvalid`, `Storage`.
    pub(super) async fn open(config: &IpfsConfig, context: OpenContext) -> Result<Self> {
        if context.proxy.is_some() {
            // Half of what libp2p does would go past it.
            return Err(Error::new(
                ErrorKind::ConfigInvalid,
                "IPFS cannot be reached by a proxy yet: take another backend",
            )
            .with("backend", context.name));
        }
        let peers = config.peers()?;
        let settings = Settings {
            data: context.data_dir.clone(),
            peers: peers.clone(),
            bootstrap: config.bootstrap()?,
            dht: config.dht,
            dht_protocol: config.dht_protocol.clone(),
            allow_private: context.allow_private,
            pins: config.pins()?,
            ..Settings::default()
        };
        // A key of this run: several programs of one user are several peers.
        let key = SecretKey::generate()?;
        let peer = Peer::start(settings, Some(key), Arc::clone(&context.clock)).await?;
        let holders = peers.into_iter().map(|address| address.locator().map(|locator| Holder::new(address, locator)));
        Ok(Self {
            descriptor: Descriptor::new(NAME, context.name, SCHEMES),
            seen: Seen::open(peer.store.clone()).await?,
            epoch: peer.store.epoch(),
            clock: context.clock,
            timeout: config.timeout(),
            writer: Arc::new(Writer::generate()?),
            holders: holders.collect::<Result<_>>()?,
            bringing: Shares::new(BRINGING),
            peer,
        })
    }

    /// The configured holders, in order.
    pub(super) fn holders(&self) -> &[Holder] {
        &self.holders
    }

    /// The holder that a locator means. One that is not configured comes from somebody's record.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub(super) fn holder(&self, locator: &Locator) -> Result<Holder> {
        Ok(Holder::new(PeerAddress::of(locator)?, locator.clone()))
    }

    /// These holders, each peer once, or all that are configured where none is named; those that are none as refusals.
    pub(super) fn chosen(&self, at: &[Locator]) -> Vec<Result<Holder, Refusal>> {
        if at.is_empty() {
            return self.holders.iter().cloned().map(Ok).collect();
        }
        let mut chosen: Vec<Result<Holder, Refusal>> = Vec::new();
        for locator in at {
            match self.holder(locator) {
                Err(error) => chosen.push(Err(Refusal::of(locator.clone(), &error))),
                Ok(holder) => match chosen.iter_mut().flatten().find(|known| known.peer() == holder.peer()) {
                    Some(known) => known.others.push((holder.address.place, holder.locator)),
                    None => chosen.push(Ok(holder)),
                },
            }
        }
        chosen
    }

    /// Connects to a holder.
    ///
    /// # Errors
    /// `Unreachable`, `Timeout`, `VerificationFailed` where another peer answers there.
    pub(super) async fn connect(&self, holder: &Holder) -> Result<()> {
        let others = holder.others.iter().map(|(place, _)| place);
        let places = std::iter::once(&holder.address.place).chain(others).cloned().collect();
        self.peer.link.connect_at(holder.peer(), places, self.timeout).await
    }

    /// Opens a stream to a connected peer, within the time that a peer may take.
    ///
    /// # Errors
    /// As [`Link::open`](crate::node::link::Link::open).
    pub(super) async fn open_stream(&self, peer: PeerId, protocol: &'static str) -> Result<Stream> {
        self.peer.link.open_within(peer, StreamProtocol::new(protocol), self.timeout).await
    }
}

/// One half of the backend.
pub(super) type Half = half::Half<Network>;

#[async_trait]
impl Shared for Network {
    fn name(&self) -> &str {
        &self.descriptor.name
    }

    /// Where nobody does it, the peer ends with whoever uses it last.
    async fn close(&self) {
        self.peer.close().await;
    }
}
