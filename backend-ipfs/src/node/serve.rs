//! What others ask of this peer, each on a stream of its own.

use std::sync::{Arc, OnceLock};

use libp2p::StreamProtocol;
use talkbox_core::{Clock, Error, ErrorKind, MailboxId, Result, SecretKey};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};

use super::{
    doors::Origin,
    logs::Logs,
    replica::LogReplica,
    shares::{Share, Shares},
    streams::Inbound,
    upkeep::News,
};
use crate::{
    orbitdb::{LogAddress, Month, MonthLog},
    store::Store,
    sync::{self, Code, Limits, Refusal, publish::Publishing, stored::StoredRecords},
};

/// Sessions of one kind that are served at once. Each may hold some MiB, and the signatures of what it brings take both
/// cores.
const SESSIONS: usize = 64;
/// Those of one network: whoever leaves all of its sessions hanging leaves most to others, whatever peers it says it is.
const SESSIONS_OF_ONE: usize = 16;
/// Logs that are followed for whoever asks: four months of some five thousand mailboxes.
const MAX_FOLLOWED: usize = 20_000;
/// What the name of every heads protocol begins with.
const HEADS: &str = "/orbitdb/heads/";

/// The kinds of sessions, by what their protocols begin with.
const KINDS: [&str; 5] = [sync::SYNC, sync::HAVE, sync::RECORD, sync::PUBLISH, HEADS];

/// Room for sessions of each kind apart: those of one keep no other out.
#[derive(Debug)]
struct Rooms([(Arc<Semaphore>, Shares<Origin>); KINDS.len()]);

impl Rooms {
    fn new() -> Self {
        Self(KINDS.map(|_| (Arc::new(Semaphore::new(SESSIONS)), Shares::new(SESSIONS_OF_ONE))))
    }

    /// Waits for a place, as long as whoever asks waits for an answer. `None` where none is free by then, or where nobody
    /// speaks that.
    async fn enter(&self, protocol: &str, origin: Origin) -> Option<(Share, OwnedSemaphorePermit)> {
        let kind = KINDS.iter().position(|kind| protocol.starts_with(kind))?;
        let (room, shares) = &self.0[kind];
        let waiting = async { Some((shares.wait(origin).await, Arc::clone(room).acquire_owned().await.ok()?)) };
        timeout(Limits::default().frame, waiting).await.ok()?
    }
}

/// What answers need.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) logs: Logs,
    pub(super) store: Store,
    pub(super) publishing: Arc<Publishing<StoredRecords>>,
    pub(super) key: SecretKey,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) news: Arc<News>,
}

/// The protocols that are always spoken.
pub(super) fn protocols() -> Vec<StreamProtocol> {
    [sync::SYNC, sync::HAVE, sync::RECORD, sync::PUBLISH].map(StreamProtocol::new).to_vec()
}

impl Service {
    /// Answers until no more streams come in.
    pub(super) async fn run(self, mut inbound: mpsc::Receiver<Inbound>) {
        let rooms = Arc::new(Rooms::new());
        while let Some(inbound) = inbound.recv().await {
            let (service, rooms) = (self.clone(), Arc::clone(&rooms));
            // Those that wait are bounded by the streams that may have come in.
            tokio::spawn(async move {
                let (peer, protocol) = (inbound.peer, inbound.protocol.clone());
                let Some(place) = rooms.enter(protocol.as_ref(), inbound.origin).await else {
                    tracing::debug!(%peer, %protocol, "a stream is reset: too many wait for an answer");
                    return;
                };
                if let Err(error) = service.answer(inbound).await {
                    tracing::debug!(%peer, %protocol, %error, "a peer could not be answered");
                }
                drop(place);
            });
        }
    }

    async fn answer(&self, inbound: Inbound) -> Result<()> {
        let Inbound { peer, protocol, stream, .. } = inbound;
        let limits = Limits::default();
        match protocol.as_ref() {
            sync::SYNC => {
                let admitted = OnceLock::new();
                let admit = |request: sync::Request| {
                    let (service, admitted) = (self, &admitted);
                    async move {
                        let log = service.admit(request.mailbox, request.month).await?;
                        Ok(admitted.get_or_init(|| LogReplica::new(service.logs.clone(), log, peer)).clone())
                    }
                };
                let served = sync::serve(stream, admit, limits).await;
                if let Some(replica) = admitted.get() {
                    replica.told().await?;
                }
                served.map(drop)
            }
            sync::HAVE => sync::have::serve(stream, &self.store, &self.key, &*self.clock, limits).await,
            sync::RECORD => sync::record::serve(stream, self.publishing.records(), limits).await,
            sync::PUBLISH => {
                self.publishing.serve(stream, limits).await?;
                self.news.published.notify_one();
                Ok(())
            }
            heads if heads.starts_with(HEADS) => {
                let Some(log) = LogAddress::of_heads_protocol(heads).filter(|log| self.logs.follows(log)) else {
                    return Err(Error::new(ErrorKind::NotFound, "the log is not followed any more"));
                };
                self.logs.answer(&log, stream, peer).await
            }
            _ => Err(Error::new(ErrorKind::Unsupported, "this protocol is not spoken here")),
        }
    }

    /// The log that a peer wants to see or to add to, if it is kept here.
    async fn admit(&self, mailbox: MailboxId, month: Month) -> std::result::Result<MonthLog, Refusal> {
        let log = MonthLog::new(mailbox, month);
        if self.logs.follows(&log.definition.address) {
            return Ok(log);
        }
        if !self.logs.keeps(&log) || !self.logs.is_open(month) {
            return Err(Refusal::new(Code::Unknown, "this mailbox is not kept here"));
        }
        if !self.logs.make_room(MAX_FOLLOWED).await {
            return Err(Refusal::new(Code::Busy, "as many mailboxes are kept here as can be"));
        }
        match self.logs.follow(&log).await {
            Ok(()) => Ok(log),
            Err(error) => {
                tracing::warn!(%error, "a log could not be opened");
                Err(Refusal::new(Code::Busy, "the store takes nothing now"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::*;

    fn from(address: &str) -> Origin {
        Origin::of(PeerId::random(), &address.parse().expect("an address"))
    }

    #[tokio::test(start_paused = true)]
    async fn ids_that_are_free_take_no_more_than_the_share_of_their_network() {
        let rooms = Rooms::new();
        let mut held = Vec::new();
        for host in 0..SESSIONS_OF_ONE {
            let place = rooms.enter(sync::HAVE, from(&format!("/ip4/198.51.100.{host}/tcp/1"))).await;
            held.push(place.expect("there is room"));
        }
        assert!(rooms.enter(sync::HAVE, from("/ip4/198.51.100.99/tcp/1")).await.is_none(), "all are another peer");
        assert!(rooms.enter(sync::HAVE, from("/ip4/203.0.113.1/tcp/1")).await.is_some());
        // Behind a proxy everybody has the same address.
        for _ in 0..2 * SESSIONS_OF_ONE {
            held.push(rooms.enter(sync::HAVE, from("/ip4/127.0.0.1/tcp/1/ws")).await.expect("there is room"));
        }
        held.pop();
        assert!(rooms.enter(sync::HAVE, from("/ip4/198.51.100.99/tcp/1")).await.is_none());
        drop(held.swap_remove(0));
        assert!(rooms.enter(sync::HAVE, from("/ip4/198.51.100.99/tcp/1")).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_protocol_keeps_no_other_out() {
        let rooms = Rooms::new();
        let mut held = Vec::new();
        for network in 0..SESSIONS {
            let place = rooms.enter(sync::HAVE, from(&format!("/ip4/203.0.{network}.1/tcp/1"))).await;
            held.push(place.expect("there is room"));
        }
        let other = from("/ip4/192.0.2.1/tcp/1");
        assert!(rooms.enter(sync::HAVE, other).await.is_none());
        for kind in [sync::SYNC, sync::RECORD, sync::PUBLISH, "/orbitdb/heads/orbitdb/zdpuA"] {
            assert!(rooms.enter(kind, other).await.is_some(), "{kind}");
        }
        assert!(rooms.enter("/another/1", other).await.is_none());
    }
}
