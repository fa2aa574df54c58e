//! The transport half: records on peers. Hints are not told here: whoever can watch does not need them.

use futures_util::{
    StreamExt as _,
    future::join_all,
    stream::{self, BoxStream},
};
use talkbox_core::{
    Ack, Descriptor, Error, ErrorKind, Hint, Level, MailboxId, MailboxRecord, NotifyOptions, PublishOptions, Receipt,
    Refusal, ResolveEvent, ResolveOptions, Result, SubscribeOptions, Transport, address::Target, async_trait,
};

use super::{
    network::{Half, Holder, Network},
    resolve::resolve,
};
use crate::sync::{self, Limits};

/// Records on peers.
#[derive(Debug)]
pub(super) struct IpfsTransport(Half);

impl IpfsTransport {
    pub(super) fn new(half: Half) -> Self {
        Self(half)
    }
}

#[async_trait]
impl Transport for IpfsTransport {
    fn descriptor(&self) -> &Descriptor {
        &self.0.still().descriptor
    }

    async fn publish(&self, record: &MailboxRecord, _options: PublishOptions) -> Result<Receipt> {
        let publishing = async {
            let network = self.0.network()?;
            let given = join_all(network.holders().iter().map(|holder| give(network, holder, record)));
            let mut receipt = Receipt::default();
            for (holder, given) in network.holders().iter().zip(given.await) {
                let locator = holder.locator.clone();
                match given {
                    Ok(()) => receipt.acks.push(Ack { holder: locator, level: Level::Stored, until: None }),
                    Err(error) => receipt.refused.push(Refusal::of(locator, &error)),
                }
            }
            receipt.settle()
        };
        self.0.run(publishing).await.map_err(|error| error.op("publish"))
    }

    fn resolve(&self, target: &Target, options: ResolveOptions) -> BoxStream<'static, Result<ResolveEvent>> {
        match self.0.network() {
            Ok(network) => resolve(network, target, &options, self.0.end()),
            Err(error) => stream::iter([Err(error.op("resolve"))]).boxed(),
        }
    }

    async fn notify(&self, _hint: &Hint, _options: NotifyOptions) -> Result<()> {
        Err(no_hints().op("notify"))
    }

    fn subscribe(&self, _owner: MailboxId, _options: SubscribeOptions) -> BoxStream<'static, Result<Hint>> {
        stream::iter([Err(no_hints().op("subscribe"))]).boxed()
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

fn no_hints() -> Error {
    Error::new(ErrorKind::Unsupported, "mailboxes on IPFS are watched, and need no hints")
}

async fn give(network: &Network, holder: &Holder, record: &MailboxRecord) -> Result<()> {
    network.connect(holder).await?;
    let stream = network.open_stream(holder.peer(), sync::PUBLISH).await?;
    // The peer computes the code of the key before it answers.
    let limits = Limits { frame: network.timeout, ..Limits::default() };
    sync::publish::publish(stream, record, limits).await
}
