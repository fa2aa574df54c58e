//! The transport half: records at the holders, and hints to whoever subscribes just now.

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use tokio::sync::broadcast::error::RecvError;

use super::{MemoryNetwork, half::Half};
use crate::{
    Error, ErrorKind, MailboxId, Result,
    address::Target,
    capability::Descriptor,
    hint::Hint,
    locator::Locator,
    receipt::{Ack, Level, Receipt, Refusal},
    record::MailboxRecord,
    transport::{NotifyOptions, PublishOptions, RawRecord, ResolveEvent, ResolveOptions, SubscribeOptions, Transport},
};

/// Most records that one holder gives for one target: so many may claim a code that is not theirs.
const MAX_ANSWERS: usize = 64;

/// Records and hints in memory.
#[derive(Debug)]
pub(super) struct MemoryTransport(Half);

impl MemoryTransport {
    pub(super) fn new(network: MemoryNetwork, descriptor: Descriptor, holders: Vec<Locator>) -> Self {
        Self(Half::new(network, descriptor, holders))
    }

    fn publish_at(&self, record: &MailboxRecord, holder: &Locator) -> Result<Level> {
        self.0.network.lock(holder)?.publish(record, self.0.network.now())
    }

    fn resolve_at(&self, target: &Target, holder: &Locator) -> Vec<Result<ResolveEvent>> {
        let state = match self.0.check_open().and_then(|()| self.0.network.lock(holder)) {
            Ok(state) => state,
            Err(error) => return vec![Err(error.op("resolve"))],
        };
        let wanted = |record: &&MailboxRecord| match target {
            Target::Code(code) => record.code() == *code,
            Target::Mailbox(mailbox) => record.mailbox() == *mailbox,
        };
        let raw = |record: &MailboxRecord| RawRecord { json: record.event().to_json(), source: holder.clone() };
        let records = state.records().filter(wanted).take(MAX_ANSWERS);
        let records = records.map(|record| ResolveEvent::Record(raw(record)));
        records.chain([ResolveEvent::End { source: holder.clone() }]).map(Ok).collect()
    }
}

#[async_trait]
impl Transport for MemoryTransport {
    fn descriptor(&self) -> &Descriptor {
        &self.0.descriptor
    }

    async fn publish(&self, record: &MailboxRecord, _options: PublishOptions) -> Result<Receipt> {
        self.0.check_open().map_err(|error| error.op("publish"))?;
        let mut receipt = Receipt::default();
        for holder in &self.0.holders {
            match self.publish_at(record, holder) {
                Ok(level) => receipt.acks.push(Ack { holder: holder.clone(), level, until: None }),
                Err(error) => receipt.refused.push(Refusal::of(holder.clone(), &error)),
            }
        }
        receipt.settle().map_err(|error| error.op("publish"))
    }

    fn resolve(&self, target: &Target, options: ResolveOptions) -> BoxStream<'static, Result<ResolveEvent>> {
        let own =
            |hint: &&Locator| self.0.descriptor.schemes.contains(&hint.scheme()) && !self.0.holders.contains(hint);
        let sources = self.0.holders.iter().chain(options.hints.iter().filter(own));
        let answers: Vec<_> = sources.flat_map(|holder| self.resolve_at(target, holder)).collect();
        stream::iter(answers).boxed()
    }

    async fn notify(&self, hint: &Hint, options: NotifyOptions) -> Result<()> {
        self.0.check_open().map_err(|error| error.op("notify"))?;
        let mut told = false;
        for holder in self.0.at(&options.at) {
            if let Ok(hints) = self.0.network.hints(holder) {
                // That nobody listens is no failure of the holder.
                let _ = hints.send(hint.clone());
                told = true;
            }
        }
        if told { Ok(()) } else { Err(Error::new(ErrorKind::Unreachable, "no holder is known").op("notify")) }
    }

    fn subscribe(&self, owner: MailboxId, _options: SubscribeOptions) -> BoxStream<'static, Result<Hint>> {
        if let Err(closed) = self.0.check_open() {
            return stream::iter([Err(closed.op("subscribe"))]).boxed();
        }
        let each = self.0.holders.iter().map(|holder| match self.0.network.hints(holder) {
            Ok(hints) => stream::unfold(hints.subscribe(), |mut hints| async move {
                loop {
                    match hints.recv().await {
                        Ok(hint) => return Some((Ok(hint), hints)),
                        // Hints may be lost.
                        Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return None,
                    }
                }
            })
            .boxed(),
            Err(error) => stream::iter([Err(error.op("subscribe"))]).boxed(),
        });
        let wanted = move |hint: &Result<Hint>| {
            let wanted = hint.as_ref().map_or(true, |hint| hint.mailbox() == owner);
            async move { wanted }
        };
        stream::select_all(each).filter(wanted).take_until(Box::pin(self.0.closed())).boxed()
    }

    async fn close(&self) {
        self.0.close();
    }
}
