//! The transport half: records and hints on nodes.

use futures_util::{
    StreamExt as _,
    future::join_all,
    stream::{self, BoxStream},
};
use talkbox_core::{
    Ack, Descriptor, Hint, MailboxId, MailboxRecord, NotifyOptions, PublishOptions, Receipt, ResolveEvent,
    ResolveOptions, Result, SubscribeOptions, Target, Transport, async_trait,
};

use super::{
    deliver::Parcel,
    hints,
    mailbox::{askers, bring},
    network::{Half, RemoteNode},
    node_url::SCHEME,
    records,
    refused::Refused,
};

/// Nodes that an address names beside the configured ones: as many as an `nprofile` carries.
const MAX_HINTS: usize = 8;

/// Records and hints on nodes.
#[derive(Debug)]
pub(super) struct GossipTransport(Half);

impl GossipTransport {
    pub(super) fn new(half: Half) -> Self {
        Self(half)
    }
}

#[async_trait]
impl Transport for GossipTransport {
    fn descriptor(&self) -> &Descriptor {
        &self.0.still().descriptor
    }

    async fn publish(&self, record: &MailboxRecord, options: PublishOptions) -> Result<Receipt> {
        let publishing = async {
            let askers = askers(self.0.network()?, &[], options.auth.as_ref());
            let relays = options.inbox_relays.as_ref();
            let answers = join_all(askers.iter().flatten().map(async |asker| {
                let record = records::publish(asker, record.event()).await;
                if let (Some(relays), Ok(_)) = (relays, &record)
                    && let Err(error) = records::publish(asker, relays).await
                {
                    tracing::warn!(node = %asker.node.url, %error, "the list of inbox relays was not taken");
                }
                (&asker.node.holder, record)
            }));
            let mut receipt = Receipt::default();
            for (holder, answer) in answers.await {
                match answer {
                    Ok(taken) => {
                        receipt.acks.push(Ack { holder: holder.clone(), level: taken.level, until: taken.until });
                    }
                    Err(error) => receipt.refused.push(Refused::by(&error).at(holder)),
                }
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
        let mut nodes: Vec<RemoteNode> = network.nodes().to_vec();
        let hints = options.hints.iter().filter(|hint| hint.scheme() == SCHEME).take(MAX_HINTS);
        for hint in hints.filter_map(|hint| network.node(hint).ok()) {
            if nodes.iter().all(|known| known.url != hint.url) {
                nodes.push(hint);
            }
        }
        records::resolve(network, nodes, target, self.0.end())
    }

    async fn notify(&self, hint: &Hint, options: NotifyOptions) -> Result<()> {
        let telling = async {
            let askers = askers(self.0.network()?, &options.at, None);
            let json = hint.event().to_json();
            let receipts = bring(&askers, &[Parcel { id: hint.event().id(), json: &json }]).await;
            receipts.into_iter().next().unwrap_or_default().settle().map(drop)
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
