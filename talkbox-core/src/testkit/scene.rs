//! What the cases have in common: a fresh mailbox, somebody who writes to it, and its owner who reads.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::BoxStream};

use super::{Failure, Harness, Role, outcome::ensure};
use crate::{
    EnvelopeId, MailboxId, Result,
    auth::{Authorizer, KeyAuthorizer},
    clock::{Clock, Timestamp},
    envelope::{Envelope, MAX_FUTURE, RawEnvelope},
    event::{Event, Tag, kind},
    keys::SecretKey,
    locator::Locator,
    mailbox::{AuditOptions, Cursor, DeleteOptions, ListOptions, Mailbox, PutOptions, WatchEvent, WatchOptions},
    receipt::Receipt,
    seal::{Draft, SealOptions, Sealed, seal},
};

/// How long a network may take to show what it has acknowledged.
pub(super) const SOON: Duration = Duration::from_secs(10);
/// How long between two looks at a network that does not show it yet.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Most pages of a listing: a case puts a few dozen envelopes, so that a listing of more does not end.
const MAX_PAGES: usize = 200;

/// The events of a watch.
pub(super) type Events = BoxStream<'static, Result<WatchEvent>>;

/// One mailbox that nobody has used before, and two who open the network.
pub(super) struct Scene<'a> {
    pub(super) harness: &'a dyn Harness,
    pub(super) owner: SecretKey,
    pub(super) reader: Arc<dyn Mailbox>,
    pub(super) writer: Arc<dyn Mailbox>,
}

/// The mailbox half, or the end of the case.
macro_rules! scene {
    ($harness:expr) => {
        match $crate::testkit::scene::Scene::new($harness).await? {
            Some(scene) => scene,
            None => $crate::testkit::outcome::skip!("a mailbox"),
        }
    };
}

pub(super) use scene;

impl<'a> Scene<'a> {
    /// Opens both; `None` where the backend has no mailbox half.
    pub(super) async fn new(harness: &'a dyn Harness) -> Result<Option<Self>, Failure> {
        let (reader, writer) = (harness.open(Role::Owner).await?, harness.open(Role::Sender).await?);
        let (Some(reader), Some(writer)) = (reader.mailbox, writer.mailbox) else { return Ok(None) };
        Ok(Some(Self { harness, owner: SecretKey::generate()?, reader, writer }))
    }

    pub(super) fn now(&self) -> Timestamp {
        self.harness.clock().now()
    }

    pub(super) fn mailbox(&self) -> MailboxId {
        self.owner.id()
    }

    /// Whose key answers the holders that want to know.
    pub(super) fn auth(&self, key: &SecretKey) -> Option<Arc<dyn Authorizer>> {
        auth(self.harness, key)
    }

    pub(super) fn sealed(&self, text: &str) -> Result<Sealed, Failure> {
        sealed_at(&self.owner, text, self.now())
    }

    /// So many envelopes to the mailbox.
    pub(super) fn envelopes(&self, count: usize) -> Result<Vec<Envelope>, Failure> {
        (0..count).map(|number| Ok(self.sealed(&format!("message {number}"))?.envelope)).collect()
    }

    /// Puts envelopes, each of which somebody has to take.
    pub(super) async fn put(&self, envelopes: &[Envelope]) -> Result<Vec<Receipt>, Failure> {
        self.put_with(envelopes, PutOptions::default()).await
    }

    pub(super) async fn put_with(&self, envelopes: &[Envelope], options: PutOptions) -> Result<Vec<Receipt>, Failure> {
        let options = PutOptions { auth: self.auth(&SecretKey::generate()?), ..options };
        let answers = self.writer.put(envelopes, options).await;
        ensure!(answers.len() == envelopes.len(), "{} answers to {} envelopes", answers.len(), envelopes.len());
        let receipts = answers.into_iter().collect::<Result<Vec<_>>>()?;
        for receipt in &receipts {
            ensure!(!receipt.acks.is_empty() || !receipt.pending.is_empty(), "`Ok` without anybody who took it");
        }
        Ok(receipts)
    }

    /// Puts one envelope, and says who took it.
    pub(super) async fn put_one(&self, envelope: &Envelope) -> Result<Vec<Locator>, Failure> {
        let receipts = self.put(std::slice::from_ref(envelope)).await?;
        Ok(receipts.iter().flat_map(takers).collect())
    }

    pub(super) fn list_options(&self) -> ListOptions {
        ListOptions::default().auth(self.auth(&self.owner))
    }

    pub(super) fn audit_options(&self) -> AuditOptions {
        AuditOptions::default().auth(self.auth(&self.owner))
    }

    pub(super) fn watch_options(&self) -> WatchOptions {
        WatchOptions::default().auth(self.auth(&self.owner))
    }

    pub(super) fn delete_options(&self, key: &SecretKey) -> DeleteOptions {
        DeleteOptions::default().auth(self.auth(key))
    }

    /// Everything that a holder has for the mailbox, from a cursor to the end; and where it ends.
    pub(super) async fn list(
        &self,
        holder: &Locator,
        after: Option<Cursor>,
    ) -> Result<(Vec<RawEnvelope>, Option<Cursor>), Failure> {
        list_to_the_end(&*self.reader, self.mailbox(), holder, self.list_options().after(after)).await
    }

    /// The ids that a holder has for the mailbox.
    pub(super) async fn ids(&self, holder: &Locator) -> Result<BTreeSet<EnvelopeId>, Failure> {
        Ok(self.list(holder, None).await?.0.iter().map(RawEnvelope::id).collect())
    }

    /// Waits until a holder lists all of these.
    pub(super) async fn wait_listed(&self, holder: &Locator, wanted: &[EnvelopeId]) -> Result<(), Failure> {
        let start = Instant::now();
        loop {
            let ids = self.ids(holder).await?;
            let missing = wanted.iter().filter(|id| !ids.contains(id)).count();
            if missing == 0 {
                return Ok(());
            }
            ensure!(start.elapsed() < SOON, "{missing} of {} are not listed by {holder}", wanted.len());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Starts a watch and waits until every holder is live. `None` where the backend has no watch.
    pub(super) async fn watch(&self, options: WatchOptions) -> Result<Option<Events>, Failure> {
        if !self.reader.capabilities().watch {
            ensure!(self.reader.watch(self.mailbox(), options).is_none(), "`watch` gives a stream and is said not to");
            return Ok(None);
        }
        let Some(mut events) = self.reader.watch(self.mailbox(), options) else {
            return Err(Failure::new("`watch` is said to be there and gives no stream"));
        };
        self.wait_live(&mut events).await?;
        Ok(Some(events))
    }

    /// Waits until every configured holder has said that it is live.
    pub(super) async fn wait_live(&self, events: &mut Events) -> Result<(), Failure> {
        let mut waiting: BTreeSet<Locator> = self.reader.holders().into_iter().collect();
        while !waiting.is_empty() {
            match soon("every holder to be live", events.next()).await? {
                Some(Ok(WatchEvent::Live { holder })) => {
                    waiting.remove(&holder);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(Failure::new("the watch ended by itself")),
            }
        }
        Ok(())
    }
}

/// Waits until a watch has shown all of these ids.
pub(super) async fn wait_seen(events: &mut Events, wanted: &[EnvelopeId]) -> Result<(), Failure> {
    let mut missing: BTreeSet<EnvelopeId> = wanted.iter().copied().collect();
    while !missing.is_empty() {
        match soon("the watch to show what was put", events.next()).await? {
            Some(Ok(WatchEvent::Envelope { raw, .. })) => {
                missing.remove(&raw.id());
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.into()),
            None => return Err(Failure::new("the watch ended by itself")),
        }
    }
    Ok(())
}

pub(super) async fn list_to_the_end(
    mailbox: &dyn Mailbox,
    owner: MailboxId,
    holder: &Locator,
    options: ListOptions,
) -> Result<(Vec<RawEnvelope>, Option<Cursor>), Failure> {
    let (mut items, mut after) = (Vec::new(), options.after.clone());
    for _ in 0..MAX_PAGES {
        let page = mailbox.list(owner, holder, options.clone().after(after.clone())).await?;
        items.extend(page.items);
        after = page.next.or(after);
        if !page.more {
            return Ok((items, after));
        }
        ensure!(after.is_some(), "there is more, and no cursor that leads there");
    }
    Err(Failure::new(format!("the listing does not end after {MAX_PAGES} pages")))
}

/// What is left of what a holder gave once core has looked at it: what the client takes over.
pub(super) fn accepted(items: &[RawEnvelope], owner: MailboxId, now: Timestamp) -> Vec<Envelope> {
    let valid = items.iter().filter_map(|raw| Envelope::verify(raw).ok());
    let ours = valid.filter(|envelope| envelope.mailbox() == owner && !envelope.is_expired(now));
    ours.filter(|envelope| envelope.created_at() <= now.plus(MAX_FUTURE)).collect()
}

/// Who took it, or has it queued.
pub(super) fn takers(receipt: &Receipt) -> Vec<Locator> {
    receipt.acks.iter().map(|ack| ack.holder.clone()).chain(receipt.pending.iter().cloned()).collect()
}

pub(super) fn auth(harness: &dyn Harness, key: &SecretKey) -> Option<Arc<dyn Authorizer>> {
    Some(Arc::new(KeyAuthorizer::for_anyone(key.clone(), harness.clock())))
}

/// An envelope as a sender makes it, at this time.
pub(super) fn sealed_at(owner: &SecretKey, text: &str, now: Timestamp) -> Result<Sealed, Failure> {
    Ok(seal(&Draft::text(text), &SecretKey::generate()?, owner.id(), now, &SealOptions::default())?)
}

/// A gift wrap with these tags and this content, which nobody can open: holders cannot tell.
pub(super) fn wrapped(owner: MailboxId, now: Timestamp, tags: Vec<Tag>, content: String) -> Result<Envelope, Failure> {
    let mut all =
        vec![vec!["p".to_owned(), owner.to_hex()], vec!["expiration".to_owned(), now.plus(40 * 86_400).to_string()]];
    all.extend(tags);
    let event = Event::sign(&SecretKey::generate()?, now, kind::GIFT_WRAP, all, content);
    Ok(Envelope::parse(&event.to_json())?)
}

/// Waits, but not for ever.
pub(super) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> Result<T, Failure> {
    let limit = SOON;
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_| Failure::new(format!("waited {} s for {what}", limit.as_secs())))
}

/// The time, for what is signed outside of a scene.
pub(super) fn now(harness: &dyn Harness) -> Timestamp {
    let clock: Arc<dyn Clock> = harness.clock();
    clock.now()
}
