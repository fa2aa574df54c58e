//! The transport half: records and hints on relays.

use std::time::Duration;

use futures_util::{
    StreamExt as _,
    future::join_all,
    stream::{self, BoxStream},
};
use talkbox_core::{
    Descriptor, Hint, MailboxId, MailboxRecord, NotifyOptions, PublishOptions, Receipt, ResolveEvent, ResolveOptions,
    Result, SubscribeOptions, Transport, address::Target, async_trait,
};

use crate::{
    deliver::{Parcel, drop_off},
    hints,
    mailbox::bring,
    network::{Half, Relay},
    records,
    relay_url::SCHEME,
};

/// Relays that an address names beside the configured ones: as many as an `nprofile` carries.
const MAX_HINTS: usize = 8;
/// How long a relay may take to refuse a hint. Some never answer to what they do not store.
const HINT_PATIENCE: Duration = Duration::from_secs(2);

/// Records and hints on relays.
#[derive(Debug)]
pub(crate) struct NostrTransport(Half);

impl NostrTransport {
    pub(crate) fn new(half: Half) -> Self {
        Self(half)
    }
}

#[async_trait]
impl Transport for NostrTransport {
    fn descriptor(&self) -> &Descriptor {
        &self.0.still().descriptor
    }

    async fn publish(&self, record: &MailboxRecord, options: PublishOptions) -> Result<Receipt> {
        let publishing = async {
            let network = self.0.network()?;
            let events: Vec<(_, String)> = std::iter::once(record.event())
                .chain(&options.inbox_relays)
                .map(|it| (it.id(), it.to_json()))
                .collect();
            let parcels: Vec<_> = events.iter().map(|(id, json)| Parcel { id: *id, json }).collect();
            let relays = network.chosen(&[]);
            let mut receipts = bring(network, &relays, &parcels, options.auth.as_ref()).await.into_iter();
            let receipt = receipts.next().unwrap_or_default();
            for refusal in receipts.flat_map(|receipt| receipt.refused) {
                tracing::warn!(relay = %refusal.holder, words = %refusal.words, "the list of inbox relays was not taken");
            }
            receipt.settle()
        };
        self.0.run(publishing).await.map_err(|error| error.op("publish"))
    }

    fn resolve(&self, target: &Target, options: ResolveOptions) -> BoxStream<'static, Result<ResolveEvent>> {
        let network = match self.0.network() {
            Ok(network) => network,
            Err(error) => return stream::iter([Err(error.op("resolve"))]).boxed(),
        };
        let mut relays: Vec<Relay> = network.relays().to_vec();
        let hints = options.hints.iter().filter(|hint| hint.scheme() == SCHEME).take(MAX_HINTS);
        for hint in hints.filter_map(|hint| network.relay(hint).ok()) {
            if relays.iter().all(|known| known.url != hint.url) {
                relays.push(hint);
            }
        }
        records::resolve(network, relays, target, self.0.end())
    }

    async fn notify(&self, hint: &Hint, options: NotifyOptions) -> Result<()> {
        let telling = async {
            let network = self.0.network()?;
            let json = hint.event().to_json();
            let parcel = Parcel { id: hint.event().id(), json: &json };
            let patience = HINT_PATIENCE.min(network.timeout);
            let relays = network.chosen(&options.at);
            let told = join_all(relays.iter().map(async |relay| match relay {
                Ok(relay) => drop_off(network, relay, parcel, patience).await,
                Err(refusal) => Err(refusal.clone()),
            }));
            let told = told.await;
            if told.iter().any(Result::is_ok) {
                return Ok(());
            }
            let refused = told.into_iter().filter_map(Result::err).collect();
            Receipt { refused, ..Receipt::default() }.settle().map(drop)
        };
        self.0.run(telling).await.map_err(|error| error.op("notify"))
    }

    fn subscribe(&self, owner: MailboxId, options: SubscribeOptions) -> BoxStream<'static, Result<Hint>> {
        match self.0.network() {
            Ok(network) => hints::subscribe(network, owner, options.auth, self.0.end()),
            Err(error) => stream::iter([Err(error.op("subscribe"))]).boxed(),
        }
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
