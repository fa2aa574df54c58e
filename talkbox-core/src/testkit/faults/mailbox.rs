//! The mailbox half of the wrapper.

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use futures_util::{StreamExt as _, future, stream, stream::BoxStream};

use super::{Fault, FaultyHolders, Lie};
use crate::{
    EnvelopeId, Error, ErrorKind, MailboxId, Result,
    capability::{Capabilities, Descriptor},
    clock::Timestamp,
    deletion::DeleteRequest,
    envelope::{Envelope, RawEnvelope},
    locator::Locator,
    mailbox::{
        AuditOptions, DeleteOptions, Difference, ListOptions, Mailbox, Page, PutOptions, Reconcile, ReconcileOptions,
        WatchEvent, WatchOptions,
    },
    receipt::{Ack, Deletion, DeletionState, Holding, HoldingState, Level, Receipt, Refusal},
};

#[derive(Debug)]
pub(super) struct FaultyMailbox {
    inner: Arc<dyn Mailbox>,
    faults: FaultyHolders,
}

impl FaultyMailbox {
    pub(super) fn new(inner: Arc<dyn Mailbox>, faults: FaultyHolders) -> Self {
        Self { inner, faults }
    }

    fn at(&self, at: &[Locator]) -> Vec<Locator> {
        if at.is_empty() { self.inner.holders() } else { at.to_vec() }
    }

    /// What one holder answers to a batch.
    async fn put_at(&self, envelopes: &[Envelope], holder: &Locator, options: &PutOptions) -> Vec<Result<Receipt>> {
        let Fault { drop, duplicate, .. } = self.faults.fault(holder);
        let dropped: Vec<bool> = envelopes.iter().map(|_| self.faults.happens(holder, drop)).collect();
        let kept: Vec<Envelope> = envelopes
            .iter()
            .zip(&dropped)
            .filter(|(_, dropped)| !**dropped)
            .map(|(envelope, _)| envelope.clone())
            .collect();
        let options = PutOptions { at: vec![holder.clone()], ..options.clone() };
        let work = async {
            if self.faults.happens(holder, duplicate) {
                self.inner.put(&kept, options.clone()).await;
            }
            Ok(self.inner.put(&kept, options).await)
        };
        match self.faults.at(holder, work).await {
            Ok(answers) => {
                let mut answers = answers.into_iter();
                let said = || Receipt { acks: vec![ack(holder)], ..Receipt::default() };
                let none = || Err(Error::new(ErrorKind::Unexpected, "an answer is missing"));
                dropped
                    .iter()
                    .map(|dropped| if *dropped { Ok(said()) } else { answers.next().unwrap_or_else(none) })
                    .collect()
            }
            Err(error) => envelopes.iter().map(|_| Err(again(&error))).collect(),
        }
    }

    fn distort(
        &self,
        page: &mut Page,
        owner: MailboxId,
        holder: &Locator,
        after: Option<&crate::Cursor>,
    ) -> Result<()> {
        let Fault { duplicate, reorder, lies, .. } = self.faults.fault(holder);
        let twice: Vec<RawEnvelope> =
            page.items.iter().filter(|_| self.faults.happens(holder, duplicate)).cloned().collect();
        page.items.extend(twice);
        for lie in lies {
            match lie {
                Lie::Withhold => page.items.clear(),
                Lie::CursorLoop => {
                    page.more = true;
                    page.next = after.cloned().or_else(|| page.next.clone());
                }
                lie => page.items.extend(lie.envelopes(owner, self.faults.clock().now())?),
            }
        }
        if reorder {
            self.faults.shuffle(holder, &mut page.items);
        }
        Ok(())
    }
}

#[async_trait]
impl Mailbox for FaultyMailbox {
    fn descriptor(&self) -> &Descriptor {
        self.inner.descriptor()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn holders(&self) -> Vec<Locator> {
        self.inner.holders()
    }

    async fn put(&self, envelopes: &[Envelope], options: PutOptions) -> Vec<Result<Receipt>> {
        let at = self.at(&options.at);
        let asked = at.iter().map(|holder| self.put_at(envelopes, holder, &options));
        let mut answers = future::join_all(asked).await.into_iter().map(Vec::into_iter).collect::<Vec<_>>();
        let settle = |_| {
            let mut receipt = Receipt::default();
            let mut closed = None;
            for (holder, answer) in at.iter().zip(&mut answers) {
                match answer.next() {
                    Some(Ok(one)) => {
                        receipt.acks.extend(one.acks);
                        receipt.pending.extend(one.pending);
                        receipt.refused.extend(one.refused);
                    }
                    Some(Err(error)) if error.kind() == ErrorKind::Closed => closed = Some(error),
                    Some(Err(error)) => receipt.refused.push(Refusal::of(holder.clone(), &error)),
                    None => {}
                }
            }
            closed.map_or_else(|| receipt.settle(), Err)
        };
        envelopes.iter().map(settle).collect()
    }

    async fn list(&self, owner: MailboxId, holder: &Locator, options: ListOptions) -> Result<Page> {
        let after = options.after.clone();
        let mut page = self.faults.at(holder, self.inner.list(owner, holder, options)).await?;
        self.distort(&mut page, owner, holder, after.as_ref())?;
        Ok(page)
    }

    async fn audit(
        &self,
        owner: MailboxId,
        holder: &Locator,
        ids: &[EnvelopeId],
        options: AuditOptions,
    ) -> Result<Vec<Holding>> {
        let mut holdings = self.faults.at(holder, self.inner.audit(owner, holder, ids, options)).await?;
        if self.faults.fault(holder).lies.contains(&Lie::Withhold) {
            holdings.iter_mut().for_each(|holding| holding.state = HoldingState::Held { until: None });
        }
        Ok(holdings)
    }

    async fn delete(&self, requests: &[DeleteRequest], options: DeleteOptions) -> Vec<Result<Deletion>> {
        let at = self.at(&options.at);
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            let mut deletion = Deletion::default();
            let mut closed = None;
            for holder in &at {
                if self.faults.happens(holder, self.faults.fault(holder).drop) {
                    deletion.holders.push((holder.clone(), DeletionState::Requested));
                    continue;
                }
                let options = DeleteOptions { at: vec![holder.clone()], ..options.clone() };
                let work = async {
                    let mut answers = self.inner.delete(std::slice::from_ref(request), options).await;
                    answers.pop().unwrap_or_else(|| Err(Error::new(ErrorKind::Unexpected, "an answer is missing")))
                };
                match self.faults.at(holder, work).await {
                    Ok(one) => {
                        deletion.holders.extend(one.holders);
                        deletion.refused.extend(one.refused);
                    }
                    Err(error) if error.kind() == ErrorKind::Closed => closed = Some(error),
                    Err(error) => deletion.refused.push(Refusal::of(holder.clone(), &error)),
                }
            }
            answers.push(match closed {
                Some(error) => Err(error),
                None if deletion.holders.is_empty() => {
                    let nobody = Receipt { refused: deletion.refused, ..Receipt::default() };
                    nobody.settle().map(|_| Deletion::default())
                }
                None => Ok(deletion),
            });
        }
        answers
    }

    fn watch(&self, owner: MailboxId, options: WatchOptions) -> Option<BoxStream<'static, Result<WatchEvent>>> {
        let inner = self.inner.watch(owner, options)?;
        let state = Watched {
            faults: self.faults.clone(),
            owner,
            inner: Some(inner),
            interruptions: self.faults.interruptions(),
            seen: self.faults.interruptions().borrow().clone(),
            ready: VecDeque::new(),
            held_back: None,
        };
        Some(stream::unfold(state, Watched::next).boxed())
    }

    fn reconciler(&self, holder: &Locator) -> Option<Arc<dyn Reconcile>> {
        let inner = self.inner.reconciler(holder)?;
        Some(Arc::new(FaultyReconciler { inner, holder: holder.clone(), faults: self.faults.clone() }))
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

fn ack(holder: &Locator) -> Ack {
    Ack { holder: holder.clone(), level: Level::Stored, until: None }
}

fn again(error: &Error) -> Error {
    Error::new(error.kind(), error.message().to_owned()).retry(error.retry_advice())
}

#[derive(Debug)]
struct FaultyReconciler {
    inner: Arc<dyn Reconcile>,
    holder: Locator,
    faults: FaultyHolders,
}

#[async_trait]
impl Reconcile for FaultyReconciler {
    async fn difference(
        &self,
        owner: MailboxId,
        ours: &[(Timestamp, EnvelopeId)],
        options: ReconcileOptions,
    ) -> Result<Difference> {
        let mut difference = self.faults.at(&self.holder, self.inner.difference(owner, ours, options)).await?;
        if self.faults.fault(&self.holder).lies.contains(&Lie::Withhold) {
            difference = Difference::default();
        }
        Ok(difference)
    }
}

/// A watch, with the faults of its holders.
struct Watched {
    faults: FaultyHolders,
    owner: MailboxId,
    inner: Option<BoxStream<'static, Result<WatchEvent>>>,
    interruptions: tokio::sync::watch::Receiver<std::collections::BTreeMap<Locator, u64>>,
    seen: std::collections::BTreeMap<Locator, u64>,
    ready: VecDeque<Result<WatchEvent>>,
    /// For another order: what comes after the next one.
    held_back: Option<Result<WatchEvent>>,
}

impl Watched {
    async fn next(mut self) -> Option<(Result<WatchEvent>, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((event, self));
            }
            let inner = self.inner.as_mut()?;
            tokio::select! {
                event = inner.next() => match event {
                    Some(Ok(WatchEvent::Envelope { holder, raw, cursor })) => {
                        self.envelope(holder, raw, cursor).await;
                    }
                    Some(event) => self.ready.push_back(event),
                    None => {
                        self.ready.extend(self.held_back.take());
                        self.inner = None;
                    }
                },
                // The sender lives as long as `faults`.
                Ok(()) = self.interruptions.changed() => self.interrupted(),
            }
        }
    }

    async fn envelope(&mut self, holder: Locator, raw: RawEnvelope, cursor: Option<crate::Cursor>) {
        let Fault { drop, duplicate, reorder, delay, refuse, hang, lies } = self.faults.fault(&holder);
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        let now = self.faults.clock().now();
        for raw in lies.iter().filter_map(|lie| lie.envelopes(self.owner, now).ok()).flatten() {
            self.ready.push_back(Ok(WatchEvent::Envelope { holder: holder.clone(), raw, cursor: None }));
        }
        if hang || refuse.is_some() || lies.contains(&Lie::Withhold) || self.faults.happens(&holder, drop) {
            return;
        }
        if self.faults.happens(&holder, duplicate) {
            let (holder, raw, cursor) = (holder.clone(), raw.clone(), cursor.clone());
            self.ready.push_back(Ok(WatchEvent::Envelope { holder, raw, cursor }));
        }
        // A cursor given out of order would skip what is still held back.
        let cursor = if reorder { None } else { cursor };
        let event = Ok(WatchEvent::Envelope { holder: holder.clone(), raw, cursor });
        if reorder && self.held_back.is_none() && self.faults.happens(&holder, 50) {
            self.held_back = Some(event);
        } else {
            self.ready.push_back(event);
            self.ready.extend(self.held_back.take());
        }
    }

    fn interrupted(&mut self) {
        let counts = self.interruptions.borrow_and_update().clone();
        let broken = counts.iter().filter(|(holder, count)| self.seen.get(holder) != Some(count));
        for holder in broken.map(|(holder, _)| holder.clone()) {
            let gone = Error::new(ErrorKind::Unreachable, "the connection was lost").op("watch");
            self.ready.push_back(Err(gone.with("holder", &holder)));
            self.ready.push_back(Ok(WatchEvent::Lagged { holder: holder.clone() }));
            self.ready.push_back(Ok(WatchEvent::Live { holder }));
        }
        self.seen = counts;
    }
}
