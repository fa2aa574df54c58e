//! The mailbox half: envelopes on nodes.

use std::sync::Arc;

use futures_util::{
    StreamExt as _,
    future::join_all,
    stream::{self, BoxStream},
};
use talkbox_core::{
    Ack, AuditOptions, Authorizer, Capabilities, DeleteOptions, DeleteRequest, Deletion, Descriptor, Envelope,
    EnvelopeId, Error, Holding, ListOptions, Locator, Mailbox, MailboxId, Page, PutOptions, Receipt, Reconcile,
    Refusal, Result, WatchEvent, WatchOptions, async_trait,
};

use super::{
    ask::Asker,
    custody::audit,
    deletion::delete,
    deliver::{Parcel, Taken, deliver},
    listing::{fetch, list},
    network::{Half, Network},
    reconcile::AntiEntropy,
    watch,
};

/// Envelopes on nodes.
#[derive(Debug)]
pub(super) struct GossipMailbox(Half);

impl GossipMailbox {
    pub(super) fn new(half: Half) -> Self {
        Self(half)
    }

    fn asker(&self, holder: &Locator, auth: Option<Arc<dyn Authorizer>>) -> Result<Asker> {
        let network = self.0.network()?;
        Ok(Asker { node: network.node(holder)?, network: Arc::clone(network), auth })
    }
}

#[async_trait]
impl Mailbox for GossipMailbox {
    fn descriptor(&self) -> &Descriptor {
        &self.0.still().descriptor
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::FULL
    }

    fn holders(&self) -> Vec<Locator> {
        self.0.still().nodes().iter().map(|node| node.holder.clone()).collect()
    }

    async fn put(&self, envelopes: &[Envelope], options: PutOptions) -> Vec<Result<Receipt>> {
        let put = async {
            let askers = askers(self.0.network()?, &options.at, options.auth.as_ref());
            let parcels: Vec<_> = envelopes.iter().map(|it| Parcel { id: it.id().into(), json: it.json() }).collect();
            Ok(bring(&askers, &parcels).await)
        };
        match self.0.run(put).await {
            Ok(receipts) => {
                receipts.into_iter().map(|receipt| receipt.settle().map_err(|error| error.op("put"))).collect()
            }
            Err(error) => each(envelopes.len(), &error, "put"),
        }
    }

    async fn list(&self, owner: MailboxId, holder: &Locator, options: ListOptions) -> Result<Page> {
        let asker = self.asker(holder, options.auth.clone()).map_err(|error| error.op("list"))?;
        let listing = async {
            if options.ids.is_empty() {
                list(&asker, owner, &options).await
            } else {
                fetch(&asker, owner, &options.ids).await
            }
        };
        self.0.run(listing).await.map_err(|error| asker.named(error).op("list"))
    }

    async fn audit(
        &self,
        _owner: MailboxId,
        holder: &Locator,
        ids: &[EnvelopeId],
        options: AuditOptions,
    ) -> Result<Vec<Holding>> {
        let asker = self.asker(holder, options.auth).map_err(|error| error.op("audit"))?;
        self.0.run(audit(&asker, ids)).await.map_err(|error| asker.named(error).op("audit"))
    }

    async fn delete(&self, requests: &[DeleteRequest], options: DeleteOptions) -> Vec<Result<Deletion>> {
        let deleting = async {
            let askers = askers(self.0.network()?, &options.at, options.auth.as_ref());
            Ok(delete(&askers, requests).await)
        };
        match self.0.run(deleting).await {
            Ok(deletions) => {
                deletions.into_iter().map(|deletion| deletion.map_err(|error| error.op("delete"))).collect()
            }
            Err(error) => each(requests.len(), &error, "delete"),
        }
    }

    fn watch(&self, owner: MailboxId, options: WatchOptions) -> Option<BoxStream<'static, Result<WatchEvent>>> {
        Some(match self.0.network() {
            Ok(network) => watch::watch(network, owner, &options, &self.0.end()),
            Err(error) => stream::iter([Err(error.op("watch"))]).boxed(),
        })
    }

    fn reconciler(&self, holder: &Locator) -> Option<Arc<dyn Reconcile>> {
        let network = self.0.network().ok()?;
        let node = network.node(holder).ok()?;
        Some(Arc::new(AntiEntropy::new(Arc::clone(network), node, self.0.end())))
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

/// Who asks each of these nodes, or all that are configured where none is named.
pub(super) fn askers(
    network: &Arc<Network>,
    at: &[Locator],
    auth: Option<&Arc<dyn Authorizer>>,
) -> Vec<Result<Asker, Refusal>> {
    let asker = |node| Asker { network: Arc::clone(network), node, auth: auth.cloned() };
    network.chosen(at).into_iter().map(|node| node.map(asker)).collect()
}

/// A receipt for each event, of all nodes.
pub(super) async fn bring(nodes: &[Result<Asker, Refusal>], parcels: &[Parcel<'_>]) -> Vec<Receipt> {
    let mut receipts = vec![Receipt::default(); parcels.len()];
    let answers = join_all(nodes.iter().map(|node| async move {
        match node {
            Ok(asker) => {
                let ack =
                    |taken: Taken| Ack { holder: asker.node.holder.clone(), level: taken.level, until: taken.until };
                deliver(asker, parcels).await.into_iter().map(|answer| answer.map(ack)).collect()
            }
            Err(refusal) => vec![Err(refusal.clone()); parcels.len()],
        }
    }));
    for answers in answers.await {
        for (receipt, answer) in receipts.iter_mut().zip(answers) {
            match answer {
                Ok(ack) => receipt.acks.push(ack),
                Err(refusal) => receipt.refused.push(refusal),
            }
        }
    }
    receipts
}

/// The same error for each of many.
fn each<T>(number: usize, error: &Error, op: &'static str) -> Vec<Result<T>> {
    let again = || Error::new(error.kind(), error.message().to_owned()).retry(error.retry_advice()).op(op);
    (0..number).map(|_| Err(again())).collect()
}
