//! The logs that a peer follows: what others tell of them is taken in, what is lacked is fetched, and those who listen
//! are told.
//!
//! A log travels in three ways, each of which makes good for the others. A new entry is told at once, by gossip. Whoever
//! begins to listen exchanges heads with those who listen already; so does everybody now and then, because JavaScript
//! peers do so once for each connection and a lost entry would otherwise be noticed with the next one only. And what a
//! head leads to and is not here is fetched: from a peer that speaks `/talkbox/sync/1` all of it in a few round trips,
//! from others block by block.

mod comparing;
mod fill;
mod following;
mod meeting;
mod telling;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use libp2p::{
    PeerId, StreamProtocol,
    gossipsub::{MessageAcceptance, MessageId},
};
use talkbox_core::{Clock, EnvelopeId, Error, ErrorKind, MailboxId, Result};
use tokio::sync::{Semaphore, broadcast};

pub(crate) use self::following::Following;
use super::{
    link::{Link, MAX_FETCH},
    settings::Keep,
    shares::Shares,
};
use crate::{
    orbitdb::{Block, Cid, Entry, LogAddress, Month, MonthLog, open_months, shown},
    pinning::Keeper,
    store::{Received, Store, Taken},
};

/// What arrived and was not taken yet by a slow reader; it lists again where it missed some.
const ARRIVALS: usize = 1_024;
/// Messages that are worked on at once, of all peers and of one: they wait for signatures and the disk.
const HEARD: usize = 64;
const HEARD_OF_ONE: usize = 32;
/// Exchanges with one peer at once: it may have hundreds of logs, or hang.
const EXCHANGES_WITH_ONE: usize = 8;
/// Sessions in which a peer gives what it has: twice as many as the largest log takes.
const MAX_SESSIONS: usize = 16;
/// Heads that are shown and told.
const HEADS: usize = 16;
/// New entries of one delivery that are told one by one; of more the heads are told, when all of them are here.
pub(super) const TOLD: usize = 32;
/// How often heads are shown again to everybody who listens.
pub(super) const AGAIN: Duration = Duration::from_secs(300);

/// An envelope that somebody brought.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) mailbox: MailboxId,
    pub(crate) id: EnvelopeId,
    pub(crate) from: PeerId,
}

/// That a peer has exchanged heads of a log with this one, and so knows that it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Met {
    pub(crate) log: LogAddress,
    pub(crate) peer: PeerId,
}

/// How something was brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// By gossip, which brings it to others by itself.
    Gossip,
    /// In another way: others are told here.
    Hand,
    /// In a session that brings all of it: what is lacked then is fetched, and not before.
    Session,
}

/// The logs that a peer follows.
#[derive(Clone, Debug)]
pub(crate) struct Logs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    link: Link,
    keep: Keep,
    retention: u64,
    clock: Arc<dyn Clock>,
    followed: Mutex<HashMap<LogAddress, Followed>>,
    arrivals: broadcast::Sender<Arrival>,
    met: broadcast::Sender<Met>,
    heard: Arc<Semaphore>,
    heard_of_one: Shares,
    exchanges_with_one: Shares,
    /// Exchanges that wait or go on.
    exchanging: Mutex<HashSet<(LogAddress, PeerId)>>,
    /// Who pins the logs, and is told when one has grown.
    pins: OnceLock<Arc<Keeper>>,
}

#[derive(Debug)]
struct Followed {
    log: MonthLog,
    /// Whether it is followed until it is over, and how many follow it as long as they are there.
    kept: bool,
    readers: usize,
    /// Who has exchanged heads, and so knows that it is listened to.
    met: HashSet<PeerId>,
    /// Whether it is in the store.
    is_open: bool,
    /// From whom is being fetched, and what more has become known to be missing there since.
    filling: HashMap<PeerId, Vec<Cid>>,
    /// Whether everybody is being asked, and whether to ask once more.
    seeking: Option<bool>,
    /// The entries that were told last.
    told: VecDeque<Cid>,
}

impl Followed {
    fn new(log: MonthLog) -> Self {
        let (met, filling, told) = Default::default();
        Self { log, kept: false, readers: 0, met, is_open: false, filling, seeking: None, told }
    }
}

impl Logs {
    pub(super) fn new(store: Store, link: Link, keep: Keep, retention: u64, clock: Arc<dyn Clock>) -> Self {
        let (followed, arrivals, met) =
            (Mutex::default(), broadcast::channel(ARRIVALS).0, broadcast::channel(ARRIVALS).0);
        Self(Arc::new(Inner {
            store,
            link,
            keep,
            retention,
            clock,
            followed,
            arrivals,
            met,
            heard: Arc::new(Semaphore::new(HEARD)),
            heard_of_one: Shares::new(HEARD_OF_ONE),
            exchanges_with_one: Shares::new(EXCHANGES_WITH_ONE),
            exchanging: Mutex::default(),
            pins: OnceLock::new(),
        }))
    }

    /// Has somebody be told when a log has grown.
    pub(super) fn pinned_by(&self, pins: Arc<Keeper>) {
        // There is one at the most: it is set at the start.
        let _ = self.0.pins.set(pins);
    }

    /// A log has grown.
    pub(crate) fn grown(&self) {
        if let Some(pins) = self.0.pins.get() {
            pins.grown();
        }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    /// What others bring, from now on.
    pub(crate) fn arrivals(&self) -> broadcast::Receiver<Arrival> {
        self.0.arrivals.subscribe()
    }

    /// Who exchanges heads, from now on.
    pub(crate) fn met(&self) -> broadcast::Receiver<Met> {
        self.0.met.subscribe()
    }

    /// Whether a peer has exchanged heads of a log since it is followed and the peer connected.
    pub(crate) fn has_met(&self, log: &LogAddress, peer: PeerId) -> bool {
        self.followed(|followed| followed.get(log).is_some_and(|entry| entry.met.contains(&peer)))
    }

    /// How many peers listen here: each counts once for every log.
    pub(crate) fn listeners(&self) -> usize {
        self.followed(|followed| followed.values().map(|entry| entry.met.len()).sum())
    }

    /// A peer does not listen to a log any more.
    pub(super) fn unsubscribed(&self, peer: PeerId, topic: &str) {
        self.followed(|followed| {
            let log = topic.parse::<LogAddress>().ok();
            if let Some(entry) = log.and_then(|log| followed.get_mut(&log)) {
                entry.met.remove(&peer);
            }
        });
    }

    /// A peer has gone, and has to be met anew.
    pub(super) fn lost(&self, peer: PeerId) {
        self.followed(|followed| {
            for entry in followed.values_mut() {
                entry.met.remove(&peer);
            }
        });
    }

    /// The logs in which mail of a mailbox may be now.
    pub(crate) fn open_logs(&self, mailbox: MailboxId) -> Vec<MonthLog> {
        self.open_months().into_iter().map(|month| MonthLog::new(mailbox, month)).collect()
    }

    /// The months of which mail may be there now.
    pub(super) fn open_months(&self) -> Vec<Month> {
        open_months(self.0.clock.now(), self.0.retention)
    }

    /// Whether mail of this month may be there now.
    pub(crate) fn is_open(&self, month: Month) -> bool {
        self.open_months().contains(&month)
    }

    /// How many logs are followed.
    pub(crate) fn count(&self) -> usize {
        self.followed(|followed| followed.len())
    }

    /// Whether a log is followed.
    pub(crate) fn follows(&self, log: &LogAddress) -> bool {
        self.followed(|followed| followed.contains_key(log))
    }

    /// Whether mail for a mailbox is kept here: for others, or because this peer's user reads it.
    pub(crate) fn keeps(&self, log: &MonthLog) -> bool {
        self.0.keep.covers(&log.mailbox) || self.follows(&log.definition.address)
    }

    /// Takes blocks that a peer brought, and tells of what is new.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn take(&self, log: &LogAddress, blocks: Vec<Block>, from: PeerId, by: By) -> Result<Received> {
        let Inner { store, link, .. } = &*self.0;
        let bytes: HashMap<_, _> = blocks.iter().map(|block| (block.cid, block.bytes.clone())).collect();
        self.open(log).await?;
        let received = store.receive(log, blocks).await?;
        link.arrived(bytes.keys().copied().collect()).await;
        if received.entries.iter().any(|entry| entry.is_new) {
            self.grown();
        }
        self.tell(log, &received, from);
        self.tell_known(log, &received, &bytes, from);
        // A peer that reads for its own user is the end of the way.
        if self.0.keep.is_node() {
            // What stands on something that is not here would have JavaScript peers wait for it, and take nothing else
            // meanwhile: it is told when all of it is here.
            let new = received.entries.iter().filter(|entry| entry.is_new && entry.forward && entry.joined);
            let new: Vec<_> = new.filter_map(|entry| Some((entry.cid, bytes.get(&entry.cid)?.clone()))).collect();
            match by {
                By::Gossip => self.told(log, new.into_iter().map(|(cid, _)| cid)),
                By::Hand | By::Session if new.len() <= TOLD => self.tell_on(log, new).await,
                By::Hand | By::Session => {}
            }
        }
        let waits = |entry: &Taken| !entry.is_new && !entry.joined && entry.refused.is_none();
        let told_again = by != By::Session && received.entries.iter().any(waits);
        if told_again {
            // Whoever tells of an entry again may have got since what it waits for.
            store.ask_again(log).await?;
        }
        if told_again || (!received.missing.is_empty() && by != By::Session) {
            self.fill(log, from, received.missing.clone());
        }
        Ok(received)
    }

    /// Sees to it that a log that is followed is in the store.
    pub(crate) async fn open(&self, log: &LogAddress) -> Result<()> {
        let closed = |followed: &mut HashMap<LogAddress, Followed>| {
            followed.get(log).filter(|entry| !entry.is_open).map(|entry| entry.log.clone())
        };
        let Some(definition) = self.followed(closed) else { return Ok(()) };
        self.0.store.open_log(definition).await?;
        self.followed(|followed| {
            if let Some(entry) = followed.get_mut(log) {
                entry.is_open = true;
            }
        });
        Ok(())
    }

    /// Wakes those who wait for mail.
    fn tell(&self, log: &LogAddress, received: &Received, from: PeerId) {
        let Some(mailbox) = self.followed(|followed| followed.get(log).map(|entry| entry.log.mailbox)) else { return };
        self.holds(mailbox, received.shown.iter().map(|(id, _)| *id), from);
    }

    /// Wakes those who wait for mail that was here before, because another program of the user took it: that this peer
    /// has it, too, is news.
    fn tell_known(&self, log: &LogAddress, received: &Received, bytes: &HashMap<Cid, Bytes>, from: PeerId) {
        if self.0.keep.is_node() {
            return;
        }
        let Some(mailbox) = self.followed(|followed| followed.get(log).map(|entry| entry.log.mailbox)) else { return };
        let known = received.entries.iter().filter(|entry| !entry.is_new && entry.refused.is_none()).take(TOLD);
        let known = known.filter_map(|entry| Entry::decode(bytes.get(&entry.cid)?.clone()).ok());
        self.holds(mailbox, known.filter_map(|entry| Some(shown(&entry, mailbox)?.id())), from);
    }

    /// A peer turns out to hold mail: wakes those who wait for it.
    pub(crate) fn holds(&self, mailbox: MailboxId, ids: impl IntoIterator<Item = EnvelopeId>, from: PeerId) {
        for id in ids {
            // Nobody may wait.
            let _ = self.0.arrivals.send(Arrival { mailbox, id, from });
        }
    }

    /// A message of gossip. It is judged when its entry has been looked at; those that are too many at once are let go,
    /// and found by their heads.
    pub(super) fn heard(&self, topic: String, message: MessageId, source: PeerId, data: Bytes) {
        let logs = self.clone();
        let share = self.0.heard_of_one.take(source);
        let room = Arc::clone(&self.0.heard).try_acquire_owned();
        let (Some(share), Ok(room)) = (share, room) else {
            tokio::spawn(async move { logs.0.link.judge(message, source, MessageAcceptance::Ignore).await });
            return;
        };
        tokio::spawn(async move {
            let verdict = logs.hear(&topic, source, data).await;
            logs.0.link.judge(message, source, verdict).await;
            drop((room, share));
        });
    }

    async fn hear(&self, topic: &str, source: PeerId, data: Bytes) -> MessageAcceptance {
        let Some(log) = topic.parse::<LogAddress>().ok().filter(|log| self.follows(log)) else {
            return MessageAcceptance::Ignore;
        };
        let block = Block::of(data);
        let cid = block.cid;
        match self.take(&log, vec![block], source, By::Gossip).await {
            Ok(received) => match received.entries.iter().find(|entry| entry.cid == cid) {
                // A peer that reads for its own user is the end of the way: what it was told it passes on to nobody.
                Some(entry) if entry.forward && entry.joined && self.0.keep.is_node() => MessageAcceptance::Accept,
                Some(entry) if entry.refused.is_none() => MessageAcceptance::Ignore,
                Some(_) | None => MessageAcceptance::Reject,
            },
            Err(error) => {
                tracing::warn!(%error, "an entry could not be taken");
                MessageAcceptance::Ignore
            }
        }
    }

    fn followed<T>(&self, with: impl FnOnce(&mut HashMap<LogAddress, Followed>) -> T) -> T {
        with(&mut self.0.followed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The protocol on which heads of a log are exchanged.
pub(super) fn protocol(log: &LogAddress) -> Result<StreamProtocol> {
    StreamProtocol::try_from_owned(log.heads_protocol())
        .map_err(|error| Error::new(ErrorKind::Unexpected, "a log without a protocol").source(error))
}

/// Of a log that is not in the store there is nothing.
pub(super) fn or_nothing<T: Default>(found: Result<T>) -> Result<T> {
    match found {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(T::default()),
        found => found,
    }
}
