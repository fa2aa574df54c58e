//! Watching: what arrives, stored and opened as it comes, and the outbox drained all the while.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::task::JoinSet;

use super::Talkbox;
use crate::{
    EnvelopeId, Error, Locator, MailboxId, Opener, Result, SecretKey, Timestamp,
    local::{Store, StoredMessage},
    watcher::{Known, Watcher, WatcherEvent, WatcherOptions},
};

/// How often the outbox is looked at while watching.
const DRAIN_EVERY: Duration = Duration::from_secs(5);
/// How long one drain may take meanwhile: as long as the slowest relay is given.
const DRAIN_FOR: Duration = Duration::from_secs(15);

/// What watching says.
#[non_exhaustive]
#[derive(Debug)]
pub enum ClientEvent {
    /// A message that was not there before.
    Message(Box<StoredMessage>),
    /// Every holder has been asked once: what comes next is new.
    CaughtUp {
        /// Those that could not be asked. They are tried again.
        down: Vec<Locator>,
    },
    /// A holder fails. Said once, until it is well again.
    Down {
        /// Which holder.
        holder: Locator,
        /// What went wrong.
        error: Error,
    },
}

impl Talkbox {
    /// Watches a mailbox at all holders of one's own. The stream ends with the first `Storage` error; dropping it ends
    /// all work.
    pub fn watch(&self, key: &SecretKey) -> BoxStream<'static, Result<ClientEvent>> {
        let (client, key) = (self.clone(), key.clone());
        let watching = stream::once(async move { Watching::start(client, key).await });
        watching
            .flat_map(|started| match started {
                Ok(watching) => watching.events().boxed(),
                Err(error) => stream::iter([Err(error)]).boxed(),
            })
            .boxed()
    }

    async fn keep_draining(self, key: SecretKey) {
        let keys = [key];
        loop {
            if let Err(error) = self.drain(&keys, DRAIN_FOR).await {
                tracing::warn!(%error, "the outbox cannot be drained");
            }
            tokio::time::sleep(DRAIN_EVERY).await;
        }
    }
}

struct Watching {
    client: Talkbox,
    opener: Arc<Opener>,
    watcher: Watcher,
    waiting: VecDeque<ClientEvent>,
    /// Ends with the stream.
    _draining: JoinSet<()>,
}

impl Watching {
    async fn start(client: Talkbox, key: SecretKey) -> Result<Self> {
        let opened = client.backends();
        let mailboxes: Vec<_> = opened.mailboxes.iter().map(|(_, mailbox)| Arc::clone(mailbox)).collect();
        let transports: Vec<_> = opened.transports.iter().map(|(_, transport)| Arc::clone(transport)).collect();
        let options = WatcherOptions {
            auth: Some(client.owner_auth(&key)),
            cursors: client.store().cursors(key.id()).await?,
            ..WatcherOptions::default()
        };
        let known = Arc::new(StoreKnows(client.store().clone()));
        let watcher = Watcher::start(key.id(), &mailboxes, &transports, known, options);
        let mut draining = JoinSet::new();
        draining.spawn(client.clone().keep_draining(key.clone()));
        let opener = Arc::new(Opener::new(key));
        Ok(Self { client, opener, watcher, waiting: VecDeque::new(), _draining: draining })
    }

    fn events(self) -> impl stream::Stream<Item = Result<ClientEvent>> {
        stream::unfold(Some(self), async |watching| {
            let mut watching = watching?;
            match watching.next().await {
                Ok(Some(event)) => Some((Ok(event), Some(watching))),
                Ok(None) => None,
                // A cursor that was passed over must not be stored by a later batch: no event comes after this.
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<Option<ClientEvent>> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(Some(event));
            }
            match self.watcher.next().await {
                None => return Ok(None),
                Some(WatcherEvent::CaughtUp { down }) => return Ok(Some(ClientEvent::CaughtUp { down })),
                Some(WatcherEvent::Down { holder, error }) => return Ok(Some(ClientEvent::Down { holder, error })),
                Some(WatcherEvent::Batch { holder, raw, cursor }) => {
                    let taken = self.client.take_page(&self.opener, &holder, raw, cursor).await?;
                    self.waiting.extend(taken.new.into_iter().map(|message| ClientEvent::Message(Box::new(message))));
                }
            }
        }
    }
}

/// What the watcher asks of the store.
#[derive(Debug)]
struct StoreKnows(Store);

#[async_trait]
impl Known for StoreKnows {
    async fn known(&self, owner: MailboxId, ids: &[EnvelopeId]) -> Result<Vec<bool>> {
        let known = self.0.known(owner, ids).await?;
        Ok(ids.iter().map(|id| known.contains(id)).collect())
    }

    async fn all(&self, owner: MailboxId) -> Result<Vec<(Timestamp, EnvelopeId)>> {
        self.0.known_set(owner).await
    }
}
