//! The mailbox half: envelopes in logs, on peers.

use std::sync::Arc;

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use talkbox_core::{
    AuditOptions, Capabilities, DeleteOptions, DeleteRequest, Deletion, Descriptor, Envelope, EnvelopeId, Error,
    ErrorKind, Holding, ListOptions, Locator, Mailbox, MailboxId, Page, PutOptions, Receipt, Reconcile, Result,
    WatchEvent, WatchOptions, async_trait,
};

use super::{
    deliver::deliver,
    holdings::audit,
    listing::{fetch, list},
    network::Half,
    pins, watch,
};

/// Envelopes in logs, on peers.
#[derive(Debug)]
pub(super) struct IpfsMailbox(Half);

impl IpfsMailbox {
    pub(super) fn new(half: Half) -> Self {
        Self(half)
    }
}

#[async_trait]
impl Mailbox for IpfsMailbox {
    fn descriptor(&self) -> &Descriptor {
        &self.0.still().descriptor
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::FULL;
        // A log forgets nothing before its month is dropped: what is above an entry names it.
        capabilities.delete = false;
        capabilities
    }

    fn holders(&self) -> Vec<Locator> {
        self.0.still().holders().iter().map(|holder| holder.locator.clone()).collect()
    }

    async fn put(&self, envelopes: &[Envelope], options: PutOptions) -> Vec<Result<Receipt>> {
        match self.0.run(async { Ok(deliver(self.0.network()?, envelopes, &options.at).await) }).await {
            Ok(receipts) => {
                receipts.into_iter().map(|receipt| receipt.settle().map_err(|error| error.op("put"))).collect()
            }
            Err(error) => each(envelopes.len(), &error, "put"),
        }
    }

    async fn list(&self, owner: MailboxId, holder: &Locator, options: ListOptions) -> Result<Page> {
        let listing = async {
            let network = self.0.network()?;
            let holder = network.holder(holder)?;
            let listed = if options.ids.is_empty() {
                list(network, owner, &holder, options.after.as_ref(), options.limit).await
            } else {
                fetch(network, owner, &holder, &options.ids).await
            };
            listed.map_err(|error| holder.named(error))
        };
        self.0.run(listing).await.map_err(|error| error.op("list"))
    }

    async fn audit(
        &self,
        _owner: MailboxId,
        holder: &Locator,
        ids: &[EnvelopeId],
        _options: AuditOptions,
    ) -> Result<Vec<Holding>> {
        let auditing = async {
            let network = self.0.network()?;
            if let Some(service) = pins::service(holder) {
                let states = pins::held(network, service, ids).await?;
                return Ok(ids.iter().zip(states).map(|(id, state)| Holding { id: *id, state }).collect());
            }
            let holder = network.holder(holder)?;
            audit(network, &holder, ids).await.map_err(|error| holder.named(error))
        };
        self.0.run(auditing).await.map_err(|error| error.op("audit"))
    }

    async fn delete(&self, requests: &[DeleteRequest], _options: DeleteOptions) -> Vec<Result<Deletion>> {
        let error = Error::new(ErrorKind::Unsupported, "a log forgets nothing before its month is over");
        each(requests.len(), &error, "delete")
    }

    fn watch(&self, owner: MailboxId, options: WatchOptions) -> Option<BoxStream<'static, Result<WatchEvent>>> {
        Some(match self.0.network() {
            Ok(network) => watch::watch(network, owner, &options, &self.0.end()),
            Err(error) => stream::iter([Err(error.op("watch"))]).boxed(),
        })
    }

    fn reconciler(&self, _holder: &Locator) -> Option<Arc<dyn Reconcile>> {
        // Every listing reconciles, by entries and not by envelopes.
        None
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

/// The same error for each of many.
fn each<T>(number: usize, error: &Error, op: &'static str) -> Vec<Result<T>> {
    let again = || Error::new(error.kind(), error.message().to_owned()).retry(error.retry_advice()).op(op);
    (0..number).map(|_| Err(again())).collect()
}
