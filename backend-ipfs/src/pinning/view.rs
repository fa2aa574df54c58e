//! Pins, asked for from outside: by whoever wants to know how they stand and leaves looking after them to the peer whose
//! pins they are, which may run meanwhile.

use std::{sync::Arc, time::Duration};

use libp2p::Multiaddr;
use talkbox_core::{Error, ErrorKind, OpenContext, Result};
use talkbox_net::Network;

use super::{
    HttpService, Keeper, KeeperParts, Pace, Peers, PinList, PinReport, PinService, PinSettings, Service, connections,
    services,
};
use crate::{
    node::STORE,
    store::{Store, StoreLimits},
};

/// How long a service may take to be connected to.
const CONNECT: Duration = Duration::from_secs(10);

/// How each month of each mailbox stands at each pinning service, by what the peer in this folder knows: `talkbox pin
/// status`.
///
/// # Errors
/// `ConfigInvalid` where no service is named, or one cannot be; `Storage`.
pub async fn pin_status(pins: &[PinSettings], context: &OpenContext) -> Result<Vec<PinReport>> {
    with_keeper(pins, context, async |keeper| keeper.status().await).await
}

/// Whether the token of each pinning service can be read. To look how pins stand needs none, and nothing is pinned without.
///
/// # Errors
/// `ConfigInvalid` with the file and the service; as [`pin_status`] for the services themselves.
pub async fn pin_tokens(pins: &[PinSettings]) -> Result<()> {
    let services = services(pins)?;
    // A file may be on a disk that is asleep or far away.
    let reading = tokio::task::spawn_blocking(move || {
        let read = |service: &Service| service.token.read().map_err(|error| error.with("service", &service.name));
        services.iter().try_for_each(|service| read(service).map(drop))
    });
    reading.await.map_err(|error| Error::new(ErrorKind::Unexpected, "the tokens were not read").source(error))?
}

/// What each pinning service has, in its own words: `talkbox pin ls`.
///
/// # Errors
/// As [`pin_status`]. Why a service does not answer is in the answer.
pub async fn pin_list(pins: &[PinSettings], context: &OpenContext) -> Result<Vec<PinList>> {
    with_keeper(pins, context, async |keeper| Ok(keeper.list().await)).await
}

async fn with_keeper<T>(
    pins: &[PinSettings],
    context: &OpenContext,
    work: impl AsyncFnOnce(&Keeper) -> Result<T>,
) -> Result<T> {
    if pins.is_empty() {
        return Err(Error::new(ErrorKind::ConfigInvalid, "no pinning service is named").with("key", "pins"));
    }
    let http = connections(Arc::new(Network::new(CONNECT, context.proxy.clone())));
    let services = services(pins)?.into_iter().map(|service| {
        let service: Arc<dyn PinService> = Arc::new(HttpService::new(service, http.clone()));
        service
    });
    let services = services.collect();
    // Where no peer was yet, none is made.
    let path = context.data_dir.as_deref().map(|folder| folder.join(STORE)).filter(|path| path.exists());
    let store = Store::open(path.as_deref(), Arc::clone(&context.clock), StoreLimits::default()).await?;
    let keeper = Keeper::open(KeeperParts {
        services,
        shelf: Arc::new(store.clone()),
        peers: Arc::new(Nobody),
        clock: Arc::clone(&context.clock),
        pace: Pace::default(),
        allow_private: context.allow_private,
    });
    let done = match keeper.await {
        Ok(keeper) => work(&keeper).await,
        Err(error) => Err(error),
    };
    store.close().await;
    done
}

/// No peers: nothing is asked to be pinned here.
#[derive(Debug)]
struct Nobody;

impl Peers for Nobody {
    fn addresses(&self) -> Vec<Multiaddr> {
        Vec::new()
    }

    fn dial(&self, _delegates: Vec<Multiaddr>) {}
}
