//! The pinner of a peer: what pinning needs of the network, and its beginning.

use std::{sync::Arc, time::Duration};

use libp2p::{Multiaddr, multiaddr::Protocol};
use talkbox_core::{Clock, Proxy, Result};
use talkbox_net::Network;

use super::{address::PeerAddress, link::Link};
use crate::{
    pinning::{HttpService, Keeper, KeeperParts, Pace, Peers, PinService, Service, connections},
    store::Store,
};

/// How long a service, or a peer that it names, may take to be connected to.
const CONNECT: Duration = Duration::from_secs(10);

/// The pinner for these services; `None` without any.
///
/// # Errors
/// `Storage`.
pub(super) async fn keeper(
    services: &[Service],
    store: &Store,
    link: &Link,
    clock: &Arc<dyn Clock>,
    proxy: Option<Proxy>,
    allow_private: bool,
) -> Result<Option<Arc<Keeper>>> {
    if services.is_empty() {
        return Ok(None);
    }
    let http = connections(Arc::new(Network::new(CONNECT, proxy)));
    let services = services.iter().cloned().map(|service| {
        let service: Arc<dyn PinService> = Arc::new(HttpService::new(service, http.clone()));
        service
    });
    let keeper = Keeper::open(KeeperParts {
        services: services.collect(),
        shelf: Arc::new(store.clone()),
        peers: Arc::new(Dialler(link.clone())),
        clock: Arc::clone(clock),
        pace: Pace::default(),
        allow_private,
    });
    keeper.await.map(Arc::new).map(Some)
}

/// The swarm, as pinning needs it.
#[derive(Debug)]
struct Dialler(Link);

impl Peers for Dialler {
    fn addresses(&self) -> Vec<Multiaddr> {
        self.0.addresses().into_iter().map(|address| address.place.with(Protocol::P2p(address.peer))).collect()
    }

    fn dial(&self, delegates: Vec<Multiaddr>) {
        for delegate in delegates.iter().filter_map(|delegate| delegate.to_string().parse::<PeerAddress>().ok()) {
            let link = self.0.clone();
            tokio::spawn(async move {
                // What its name resolves to is checked on the way.
                if let Err(error) = link.connect(&delegate, CONNECT).await {
                    tracing::debug!(%error, "a peer of a pinning service is away");
                }
            });
        }
    }
}
