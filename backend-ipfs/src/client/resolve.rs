//! Finding records: the configured peers are asked, those that the address itself names, and those that say in the DHT
//! that they keep the mailbox. The DHT is one source among others, and never waited for by them.

use std::{sync::Arc, time::Duration};

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use libp2p::PeerId;
use talkbox_core::{
    Error, ErrorKind, Locator, MailboxRecord, RawRecord, ResolveEvent, ResolveOptions, Result, Shortcode,
    address::Target, half::closed,
};
use tokio::{sync::watch, time::timeout};

use super::network::{Holder, Network, SCHEMES};
use crate::{
    node::rendezvous,
    sync::{self, Limits},
};

/// Places that an address itself may name: more are asked in vain.
const MAX_HINTS: usize = 8;
/// Peers of the DHT that are asked, and how many at once.
const MAX_FOUND: usize = 12;
const AT_ONCE: usize = 4;
/// How long the DHT is looked through.
const LOOK: Duration = Duration::from_secs(20);

/// Everything that is known of a target.
pub(super) fn resolve(
    network: &Arc<Network>,
    target: &Target,
    options: &ResolveOptions,
    mut end: watch::Receiver<bool>,
) -> BoxStream<'static, Result<ResolveEvent>> {
    let hinted = options.hints.iter().filter(|hint| SCHEMES.contains(&hint.scheme())).take(MAX_HINTS);
    let mut holders = network.holders().to_vec();
    for hint in hinted.filter_map(|hint| network.holder(hint).ok()) {
        if !holders.iter().any(|holder| holder.address == hint.address) {
            holders.push(hint);
        }
    }
    let (asked, target) = (Arc::clone(network), *target);
    let answers = stream::once(async move {
        // 64 MiB and 0.2 s, where the code is not given.
        let code = match &target {
            Target::Code(code) => *code,
            Target::Mailbox(mailbox) => {
                let mailbox = *mailbox;
                let computed = tokio::task::spawn_blocking(move || Shortcode::of(&mailbox)).await;
                computed
                    .map_err(|error| Error::new(ErrorKind::Unexpected, "the code was not computed").source(error))?
            }
        };
        let network = Arc::clone(&asked);
        let named = stream::iter(holders).map(move |holder| {
            let network = Arc::clone(&network);
            async move { ask_named(&network, &holder, code).await }
        });
        let named = named.buffer_unordered(AT_ONCE).flat_map(stream::iter);
        let found = stream::once(async move { find(&asked, code).await }).flat_map(stream::iter);
        Ok::<_, Error>(stream::select(named, found))
    });
    let ended = async move {
        // An error means that the transport was dropped, which ends the stream as well.
        let _ = end.wait_for(|closed| *closed).await;
        Err(closed())
    };
    let answers = answers.try_flatten().map_err(|error| error.op("resolve"));
    let answers = answers.map(Some).chain(stream::once(async { None }));
    let ended = stream::once(ended).map(Some);
    // The end of the answers, or of the transport, whichever comes first.
    stream::select(answers, ended)
        .take_while(|next| std::future::ready(next.is_some()))
        .filter_map(std::future::ready)
        .boxed()
}

/// What one named holder says.
async fn ask_named(network: &Network, holder: &Holder, code: Shortcode) -> Vec<Result<ResolveEvent>> {
    let asked = async {
        network.connect(holder).await?;
        ask(network, holder.peer(), code).await
    };
    match asked.await {
        Ok(record) => told(record.as_ref(), &holder.locator),
        Err(error) => vec![Err(holder.named(error))],
    }
}

/// What the peers say that the DHT names. What any of them says is checked as all records are.
async fn find(network: &Network, code: Shortcode) -> Vec<Result<ResolveEvent>> {
    // Any named peer may be of the DHT. It is tried even where none seems to be: somebody may have come since.
    let named: Vec<_> = network.holders().iter().map(|holder| holder.address.clone()).collect();
    if !network.peer.link.enter_dht(&named, network.timeout).await {
        tracing::debug!("nobody who is connected is of the DHT");
    }
    let mut providers = network.peer.link.providers(rendezvous::of_code(&code)).await;
    let mut found = Vec::new();
    let looked = async {
        while let Some(peer) = providers.recv().await {
            found.push(peer);
            if found.len() == MAX_FOUND {
                break;
            }
        }
    };
    // Whoever was found until then is asked.
    let _ = timeout(LOOK, looked).await;
    let asked = stream::iter(found).map(|peer| async move {
        let Ok(source) = Locator::new(SCHEMES[0], &format!("/p2p/{peer}")) else { return Vec::new() };
        let asked = async {
            network.peer.link.connect_found(peer, network.timeout).await?;
            ask(network, peer, code).await
        };
        match asked.await {
            Ok(record) => told(record.as_ref(), &source),
            Err(error) => vec![Err(error.with("holder", &source))],
        }
    });
    asked.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await.into_iter().flatten().collect()
}

async fn ask(network: &Network, peer: PeerId, code: Shortcode) -> Result<Option<MailboxRecord>> {
    let stream = network.open_stream(peer, sync::RECORD).await?;
    let limits = Limits { frame: network.timeout, ..Limits::default() };
    sync::record::look_up(stream, code, limits).await
}

fn told(record: Option<&MailboxRecord>, source: &Locator) -> Vec<Result<ResolveEvent>> {
    let raw = |record: &MailboxRecord| RawRecord { json: record.event().to_json(), source: source.clone() };
    let record = record.map(|record| Ok(ResolveEvent::Record(raw(record))));
    record.into_iter().chain([Ok(ResolveEvent::End { source: source.clone() })]).collect()
}
