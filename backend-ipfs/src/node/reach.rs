//! Which addresses may be dialled.
//!
//! What one's own configuration names may be anywhere. What other peers tell is hostile input: a peer could make every
//! node talk to services inside the node's own network. So such addresses have to be global, unless the configuration
//! allows otherwise, or names the same peer at such an address: then that peer has others of the kind, which it or anybody
//! may know better. Who answers there has to be that peer. A name is judged by what it leads to, where the transports below the resolver are [`Guarded`]. The
//! resolver in between knows nothing of who named an address; [`Marked`] above it says so to them.

use std::{
    collections::HashSet,
    error, fmt,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{FutureExt as _, TryFutureExt as _, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    multiaddr::Protocol,
};

tokio::task_local! {
    /// There while an address of the configuration is dialled.
    static CONFIGURED: ();
}

/// What may be dialled.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    configured: Arc<HashSet<Multiaddr>>,
    /// Peers that the configuration names inside a network, and in which kind of one.
    inside: Arc<HashSet<(PeerId, Inside)>>,
    allow_private: bool,
}

impl Reach {
    /// These addresses wherever they lead, others of the peers that they name in the same kind of network, and others that
    /// are global, or any.
    pub(crate) fn new(configured: impl IntoIterator<Item = Multiaddr>, allow_private: bool) -> Self {
        let configured: Vec<_> = configured.into_iter().collect();
        let inside = configured.iter().filter_map(|address| peer_of(address).zip(Inside::of(address))).collect();
        let configured = configured.into_iter().map(without_peer).collect();
        Self { configured: Arc::new(configured), inside: Arc::new(inside), allow_private }
    }

    /// The transport that resolves names, over one that is [`Guarded`].
    pub(crate) fn mark<T>(&self, inner: T) -> Marked<T> {
        Marked { inner, reach: self.clone() }
    }

    /// The transport that connects.
    pub(crate) fn guard<T>(&self, inner: T) -> Guarded<T> {
        Guarded { inner, reach: self.clone() }
    }

    /// Whether others may be told of this address: it is where they may go, too.
    pub(crate) fn allows(&self, address: &Multiaddr) -> bool {
        self.allow_private || self.is_configured(address) || is_global(address)
    }

    fn is_configured(&self, address: &Multiaddr) -> bool {
        self.configured.contains(&without_peer(address.clone()))
    }

    /// Whether the configuration names the peer of this address at another one of the kind.
    fn is_inside(&self, address: &Multiaddr) -> bool {
        peer_of(address).zip(Inside::of(address)).is_some_and(|one| self.inside.contains(&one))
    }

    fn is_open(&self, address: &Multiaddr) -> bool {
        self.allow_private || CONFIGURED.try_with(|()| ()).is_ok() || is_global(address)
    }
}

/// Where it leads, whoever is there.
fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

/// Who is to be there.
fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// A kind of network that is not the public one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Inside {
    /// This machine.
    Loopback,
    /// A network of one's own, at home or at work. That of a link is none: what configures machines of a cloud is there.
    Private,
}

impl Inside {
    /// Where an address is that begins with its only IP address; `None` for a name, and for what leads on from there.
    fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let ip = match parts.next()? {
            Protocol::Ip4(ip) => IpAddr::V4(ip),
            Protocol::Ip6(ip) => IpAddr::V6(ip).to_canonical(),
            _ => return None,
        };
        let leads_on = parts.any(|part| {
            !matches!(
                part,
                Protocol::Tcp(_)
                    | Protocol::Udp(_)
                    | Protocol::QuicV1
                    | Protocol::Ws(_)
                    | Protocol::Wss(_)
                    | Protocol::Tls
                    | Protocol::P2p(_)
            )
        });
        let is_private = match ip {
            IpAddr::V4(ip) => ip.is_private(),
            IpAddr::V6(ip) => ip.is_unique_local(),
        };
        match ip {
            _ if leads_on => None,
            ip if ip.is_loopback() => Some(Self::Loopback),
            _ => is_private.then_some(Self::Private),
        }
    }
}

/// Whether it leads to one address, and that to the public internet. Transports disagree about which of several counts.
fn is_global(address: &Multiaddr) -> bool {
    let mut all = address.iter().filter_map(|part| match part {
        Protocol::Ip4(address) => Some(IpAddr::V4(address)),
        Protocol::Ip6(address) => Some(IpAddr::V6(address)),
        _ => None,
    });
    let first = all.next();
    all.next().is_none() && first.is_some_and(talkbox_net::is_global)
}

/// A transport that remembers, while it dials, whether the configuration leads to the address.
#[derive(Debug)]
pub(crate) struct Marked<T> {
    inner: T,
    reach: Reach,
}

impl<T> Transport for Marked<T>
where
    T: Transport + Unpin,
    T::Dial: Send + 'static,
{
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = BoxFuture<'static, Result<T::Output, T::Error>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<T::Error>> {
        if !self.reach.is_configured(&address) && !self.reach.is_inside(&address) {
            return Ok(self.inner.dial(address, options)?.boxed());
        }
        // A resolver dials within its future, other transports at once.
        let dialling = CONFIGURED.sync_scope((), || self.inner.dial(address, options))?;
        Ok(CONFIGURED.scope((), dialling).boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

/// A transport that dials only what may be dialled.
#[derive(Debug)]
pub(crate) struct Guarded<T> {
    inner: T,
    reach: Reach,
}

impl<T> Transport for Guarded<T>
where
    T: Transport + Unpin,
    T::Error: 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    type Output = T::Output;
    type Error = Error<T::Error>;
    type ListenerUpgrade = BoxFuture<'static, Result<Self::Output, Self::Error>>;
    type Dial = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, address).map_err(|error| error.map(Error::Below))
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<Self::Error>> {
        if !self.reach.is_open(&address) {
            return Err(TransportError::Other(Error::Closed(address)));
        }
        let dialling = self.inner.dial(address, options).map_err(|error| error.map(Error::Below))?;
        Ok(dialling.map_err(Error::Below).boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let event = Pin::new(&mut self.inner).poll(cx);
        event.map(|event| event.map_upgrade(|upgrade| upgrade.map_err(Error::Below).boxed()).map_err(Error::Below))
    }
}

/// Why something was not dialled.
#[derive(Debug)]
pub(crate) enum Error<E> {
    /// It leads to a private address, and the configuration does not name it.
    Closed(Multiaddr),
    /// The transport failed.
    Below(E),
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(address) => write!(f, "{address} is not configured here, and is not global"),
            Self::Below(error) => error.fmt(f),
        }
    }
}

impl<E: error::Error + 'static> error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Closed(_) => None,
            Self::Below(error) => error.source(),
        }
    }
}

#[cfg(test)]
mod tests;
