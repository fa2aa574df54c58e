//! The transport half of the wrapper. Its calls go to all holders at once: a holder that hangs or refuses is left out
//! of the answer, as one is whose answer was lost.

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream, stream::BoxStream};

use super::{Fault, FaultyHolders};
use crate::{
    Error, ErrorKind, MailboxId, Result,
    address::Target,
    capability::Descriptor,
    hint::Hint,
    locator::Locator,
    receipt::{Receipt, Refusal},
    record::MailboxRecord,
    transport::{NotifyOptions, PublishOptions, RawRecord, ResolveEvent, ResolveOptions, SubscribeOptions, Transport},
};

#[derive(Debug)]
pub(super) struct FaultyTransport {
    inner: Arc<dyn Transport>,
    faults: FaultyHolders,
    holders: Vec<Locator>,
}

impl FaultyTransport {
    pub(super) fn new(inner: Arc<dyn Transport>, faults: FaultyHolders, holders: Vec<Locator>) -> Self {
        Self { inner, faults, holders }
    }
}

#[async_trait]
impl Transport for FaultyTransport {
    fn descriptor(&self) -> &Descriptor {
        self.inner.descriptor()
    }

    async fn publish(&self, record: &MailboxRecord, options: PublishOptions) -> Result<Receipt> {
        let mut receipt = self.inner.publish(record, options).await?;
        let acks = std::mem::take(&mut receipt.acks);
        for ack in acks {
            match self.faults.at(&ack.holder, async { Ok(()) }).await {
                Ok(()) => receipt.acks.push(ack),
                Err(error) => receipt.refused.push(Refusal::of(ack.holder, &error)),
            }
        }
        receipt.settle()
    }

    fn resolve(&self, target: &Target, options: ResolveOptions) -> BoxStream<'static, Result<ResolveEvent>> {
        let mut told = VecDeque::new();
        for holder in &self.holders {
            let records = self.faults.fault(holder).lies.into_iter();
            let records = records.filter_map(|lie| lie.records(target, self.faults.clock().now()).ok()).flatten();
            told.extend(records.map(|json| Ok(ResolveEvent::Record(RawRecord { json, source: holder.clone() }))));
        }
        let faults = self.faults.clone();
        let answers = self.inner.resolve(target, options).then(move |answer| {
            let faults = faults.clone();
            async move {
                let (ResolveEvent::Record(RawRecord { source, .. }) | ResolveEvent::End { source }) = match &answer {
                    Ok(event) => event,
                    Err(_) => return vec![answer],
                };
                if let Err(error) = faults.at(source, async { Ok(()) }).await {
                    return vec![Err(error)];
                }
                let Ok(ResolveEvent::Record(record)) = answer else { return vec![answer] };
                let Fault { drop, duplicate, .. } = faults.fault(&record.source);
                let times = usize::from(!faults.happens(&record.source, drop));
                let times = times + usize::from(faults.happens(&record.source, duplicate));
                vec![ResolveEvent::Record(record); times].into_iter().map(Ok).collect()
            }
        });
        stream::iter(told).chain(answers.flat_map(stream::iter)).boxed()
    }

    async fn notify(&self, hint: &Hint, options: NotifyOptions) -> Result<()> {
        if self.holders.iter().any(|holder| self.faults.happens(holder, self.faults.fault(holder).drop)) {
            return Ok(());
        }
        let misbehaves = |holder: &Locator| {
            let Fault { hang, refuse, .. } = self.faults.fault(holder);
            hang || refuse.is_some()
        };
        if !self.holders.is_empty() && self.holders.iter().all(misbehaves) {
            return Err(Error::new(ErrorKind::Unreachable, "no holder could be told").op("notify"));
        }
        self.inner.notify(hint, options).await
    }

    fn subscribe(&self, owner: MailboxId, options: SubscribeOptions) -> BoxStream<'static, Result<Hint>> {
        let (faults, holders) = (self.faults.clone(), self.holders.clone());
        let hints = self.inner.subscribe(owner, options).flat_map(move |hint| {
            let twice = holders.iter().any(|holder| faults.happens(holder, faults.fault(holder).duplicate));
            let again = hint.as_ref().ok().filter(|_| twice).cloned();
            stream::iter([Some(hint), again.map(Ok)].into_iter().flatten())
        });
        hints.boxed()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
