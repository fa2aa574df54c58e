//! Syncing: what holders have and the store has not, checked, opened and stored, page by page.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::stream::{self, BoxStream, FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, timeout_at};

use super::Talkbox;
use crate::{
    Authorizer, Cursor, Envelope, EnvelopeId, Error, ErrorKind, ListOptions, Locator, Mailbox, Message, MessageId,
    Opener, RawEnvelope, ReconcileOptions, Result, SecretKey,
    local::{Ingest, Ingested, Opened, Rejected},
    watcher::Fetch,
};

/// Pages of one holder in one sync: a holder that never comes to an end costs so many and no more.
const MAX_PAGES: usize = 10_000;

/// How long what one holder brought waits for the others, so that it can be put in order with what they bring.
const TOGETHER: Duration = Duration::from_millis(300);

/// What a sync, or a part of one, brought.
#[derive(Debug, Default)]
pub struct Synced {
    /// The messages that are new, the oldest first.
    pub new: Vec<MessageId>,
    /// How many each holder brought, or why it failed; what it brought before that is kept.
    pub holders: Vec<(Locator, Result<usize>)>,
}

/// What an import brought.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Messages that were not there before.
    pub new: usize,
    /// Envelopes that were there before, or that the owner had deleted.
    pub known: usize,
    /// Envelopes of other mailboxes.
    pub foreign: usize,
}

/// One holder of one mailbox, and who asks.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) mailbox: Arc<dyn Mailbox>,
    pub(super) holder: Locator,
    pub(super) opener: Arc<Opener>,
    pub(super) auth: Arc<dyn Authorizer>,
}

impl Talkbox {
    /// Fetches what is new from all holders at once into the store, and opens it. Replies to throw-away keys are
    /// fetched with [`sync_conversations`](Self::sync_conversations).
    ///
    /// # Errors
    /// `Storage`. What holders did is in the answer.
    pub async fn sync(&self, key: &SecretKey, budget: Duration) -> Result<Synced> {
        collect(self.syncing(key, budget)).await
    }

    /// As [`sync`](Self::sync), in parts, as the holders are through: who waits for what is new need not wait for the
    /// slowest. Dropping the stream ends all work.
    pub fn syncing(&self, key: &SecretKey, budget: Duration) -> BoxStream<'static, Synced> {
        let opener = Arc::new(Opener::new(key.clone()));
        let auth = self.owner_auth(key);
        let mailboxes = self.0.opened.mailboxes.iter();
        let sources = mailboxes
            .flat_map(|(_, mailbox)| mailbox.holders().into_iter().map(move |holder| (Arc::clone(mailbox), holder)))
            .map(|(mailbox, holder)| Source { mailbox, holder, opener: Arc::clone(&opener), auth: Arc::clone(&auth) });
        self.sync_all(sources.collect(), Instant::now() + budget)
    }

    pub(super) fn sync_all(&self, sources: Vec<Source>, end: Instant) -> BoxStream<'static, Synced> {
        let found = Found::default();
        let all = sources.into_iter().map(|source| self.clone().sync_one(source, found.clone(), end));
        let all = all.collect::<FuturesUnordered<_>>();
        stream::unfold((all, found), async |(mut all, found)| {
            let mut holders = vec![all.next().await?];
            // Holders that are about as fast each bring a part of what is new: together it is in order.
            let soon = Instant::now() + TOGETHER;
            while let Ok(Some(next)) = timeout_at(soon, all.next()).await {
                holders.push(next);
            }
            Some((Synced { new: found.take(), holders }, (all, found)))
        })
        .boxed()
    }

    async fn sync_one(self, source: Source, found: Found, end: Instant) -> (Locator, Result<usize>) {
        let mut brought = Brought { count: 0, found };
        let outcome = match timeout_at(end, self.catch_up(&source, &mut brought)).await {
            Ok(Ok(())) => Ok(brought.count),
            Ok(Err(error)) => Err(error.op("sync")),
            Err(_) => {
                Err(Error::new(ErrorKind::Timeout, "no answer in time").op("sync").with("holder", &source.holder))
            }
        };
        (source.holder, outcome)
    }

    /// By set reconciliation where the holder has it, else by its listing from where it was left.
    async fn catch_up(&self, source: &Source, brought: &mut Brought) -> Result<()> {
        match self.reconcile(source, brought).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => self.list(source, brought).await,
            done => done,
        }
    }

    /// Fetches what the holder has and the store does not know of, and puts back what it had and has no longer.
    ///
    /// # Errors
    /// `Unsupported` where the holder does not reconcile, or does not give what it says it has.
    pub(super) async fn reconcile(&self, source: &Source, brought: &mut Brought) -> Result<()> {
        let unsupported = |why: &'static str| Error::new(ErrorKind::Unsupported, why).with("holder", &source.holder);
        let reconciler =
            source.mailbox.reconciler(&source.holder).ok_or_else(|| unsupported("the holder does not reconcile"))?;
        let owner = source.opener.mailbox();
        let ours = self.0.store.known_set(owner).await?;
        let options = ReconcileOptions::default().auth(Some(Arc::clone(&source.auth)));
        let difference = reconciler.difference(owner, &ours, options).await?;
        let (mailbox, holder) = (Arc::clone(&source.mailbox), source.holder.clone());
        let mut fetch = Fetch::new(mailbox, holder, owner, Some(Arc::clone(&source.auth)), difference.theirs);
        let theirs = fetch.left();
        while let Some(raw) = fetch.next().await? {
            brought.add(&self.take_page(&source.opener, &source.holder, raw, None).await?);
        }
        // A relay that gates reads answers some queries with nothing: that is no success.
        if fetch.arrived() < theirs {
            return Err(unsupported("the holder does not give what it says it has"));
        }
        self.put_back(source, &difference.ours).await
    }

    /// Walks the holder's listing from the stored cursor to its end.
    pub(super) async fn list(&self, source: &Source, brought: &mut Brought) -> Result<()> {
        let owner = source.opener.mailbox();
        let mut after = self.0.store.cursor(owner, &source.holder).await?;
        for _ in 0..MAX_PAGES {
            let options = ListOptions::default().auth(Some(Arc::clone(&source.auth))).after(after.clone());
            let page = match source.mailbox.list(owner, &source.holder, options).await {
                // Another epoch, such as a restored backup: from the start.
                Err(error) if error.kind() == ErrorKind::NotFound && after.is_some() => {
                    self.0.store.clear_cursor(owner, &source.holder).await?;
                    after = None;
                    continue;
                }
                page => page?,
            };
            brought.add(&self.take_page(&source.opener, &source.holder, page.items, page.next.clone()).await?);
            if !page.more {
                return Ok(());
            }
            if page.next.is_none() || page.next == after {
                return Err(Error::new(ErrorKind::Unexpected, "the holder's listing goes round in a circle")
                    .with("holder", &source.holder));
            }
            after = page.next;
        }
        Err(Error::new(ErrorKind::TooLarge, "the holder's listing does not end").with("holder", &source.holder))
    }

    /// Checks, opens and stores what a holder gave. The cursor is committed together with what it covers.
    pub(super) async fn take_page(
        &self,
        opener: &Arc<Opener>,
        holder: &Locator,
        raw: Vec<RawEnvelope>,
        cursor: Option<Cursor>,
    ) -> Result<Ingested> {
        let owner = opener.mailbox();
        let mut batch = Ingest::new(owner, holder.clone());
        batch.cursor = cursor;
        let ids: Vec<EnvelopeId> = raw.iter().map(RawEnvelope::id).collect();
        let known = self.0.store.known(owner, &ids).await?;
        let (seen, fresh): (Vec<_>, Vec<_>) = raw.into_iter().partition(|raw| known.contains(&raw.id()));
        batch.seen = seen.iter().map(RawEnvelope::id).collect();
        let now = self.0.clock.now();
        for envelope in checked(fresh).await? {
            match envelope {
                Ok(envelope) if envelope.mailbox() != owner => {
                    tracing::debug!(%holder, "the holder sent an envelope of another mailbox");
                }
                Ok(envelope) if envelope.is_expired(now) => batch.rejected.push(Rejected {
                    id: envelope.id(),
                    created_at: envelope.created_at(),
                    until: envelope.expires_at(),
                    kind: ErrorKind::NotFound,
                }),
                Ok(envelope) => batch.opened.push((envelope, Opened::Unreadable(ErrorKind::Unexpected))),
                Err(error) => tracing::debug!(%holder, %error, "the holder sent a bad envelope"),
            }
        }
        open_all(opener, &mut batch).await?;
        self.0.store.ingest(batch).await
    }

    /// Takes envelopes that the owner exported, or got in another way, into the store.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn import(&self, key: &SecretKey, envelopes: Vec<Envelope>) -> Result<Imported> {
        let opener = Arc::new(Opener::new(key.clone()));
        let total = envelopes.len();
        let own: Vec<Envelope> =
            envelopes.into_iter().filter(|envelope| envelope.mailbox() == opener.mailbox()).collect();
        let mut imported = Imported { foreign: total - own.len(), ..Imported::default() };
        for part in own.chunks(ListOptions::MAX_IDS) {
            let mut batch = Ingest::new(opener.mailbox(), Locator::new("file", "import")?);
            batch.keep_expired = true;
            let unopened = || Opened::Unreadable(ErrorKind::Unexpected);
            batch.opened = part.iter().map(|envelope| (envelope.clone(), unopened())).collect();
            open_all(&opener, &mut batch).await?;
            let new = self.0.store.ingest(batch).await?.new.len();
            imported.new += new;
            imported.known += part.len() - new;
        }
        Ok(imported)
    }
}

/// What one holder brought so far.
pub(super) struct Brought {
    count: usize,
    found: Found,
}

impl Brought {
    fn add(&mut self, ingested: &Ingested) {
        self.count += ingested.new.len();
        let places = ingested.new.iter().map(|stored| (stored.sort_millis(), stored.message.id));
        self.found.0.lock().unwrap_or_else(PoisonError::into_inner).extend(places);
    }
}

/// The new messages of all holders that nobody has been told of yet, each with its time in milliseconds.
#[derive(Clone, Default)]
struct Found(Arc<Mutex<Vec<(u64, MessageId)>>>);

impl Found {
    fn take(&self) -> Vec<MessageId> {
        let mut found = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        // Messages of one millisecond stay in the order in which they came.
        found.sort_by_key(|(time, _)| *time);
        found.into_iter().map(|(_, id)| id).collect()
    }
}

pub(super) async fn collect(mut syncing: BoxStream<'static, Synced>) -> Result<Synced> {
    let mut synced = Synced::default();
    while let Some(Synced { new, holders }) = syncing.next().await {
        synced.new.extend(new);
        for (holder, outcome) in holders {
            match outcome {
                Err(error) if error.kind() == ErrorKind::Storage => return Err(error),
                outcome => synced.holders.push((holder, outcome)),
            }
        }
    }
    Ok(synced)
}

/// Curve arithmetic on all cores, off the async threads.
async fn checked(raw: Vec<RawEnvelope>) -> Result<Vec<Result<Envelope>>> {
    if raw.is_empty() {
        return Ok(Vec::new());
    }
    let checking = tokio::task::spawn_blocking(move || Envelope::verify_many(&raw));
    checking.await.map_err(|error| Error::new(ErrorKind::Unexpected, "checking envelopes ended").source(error))
}

async fn open_all(opener: &Arc<Opener>, batch: &mut Ingest) -> Result<()> {
    if batch.opened.is_empty() {
        return Ok(());
    }
    let (opener, opened) = (Arc::clone(opener), std::mem::take(&mut batch.opened));
    let opening = tokio::task::spawn_blocking(move || {
        let envelopes: Vec<Envelope> = opened.into_iter().map(|(envelope, _)| envelope).collect();
        let messages = opener.open_many(&envelopes);
        let outcome = |message: Result<Message>| match message {
            Ok(message) => Opened::Message(message),
            Err(error) => Opened::Unreadable(error.kind()),
        };
        envelopes.into_iter().zip(messages.into_iter().map(outcome)).collect()
    });
    batch.opened =
        opening.await.map_err(|error| Error::new(ErrorKind::Unexpected, "opening envelopes ended").source(error))?;
    Ok(())
}
