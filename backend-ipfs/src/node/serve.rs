//! What others ask of this peer, each on a stream of its own.

use std::sync::{Arc, OnceLock};

use libp2p::StreamProtocol;
use talkbox_core::{Clock, Error, ErrorKind, MailboxId, Result, SecretKey};
use tokio::sync::{Semaphore, mpsc};

use super::{logs::Logs, replica::LogReplica, shares::Shares, streams::Inbound, upkeep::News};
use crate::{
    orbitdb::{LogAddress, Month, MonthLog},
    store::Store,
    sync::{self, Code, Limits, Refusal, publish::Publishing, stored::StoredRecords},
};

/// Sessions that are served at once. Each may hold some MiB, and the signatures of what it brings take both cores.
const SESSIONS: usize = 64;
/// Sessions of one peer that are served at once: a peer that leaves all of its sessions hanging leaves most to others.
const SESSIONS_OF_ONE: usize = 16;
/// Logs that are followed for whoever asks: four months of some five thousand mailboxes.
const MAX_FOLLOWED: usize = 20_000;
/// What the name of every heads protocol begins with.
const HEADS: &str = "/orbitdb/heads/";

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
        let (room, shares) = (Arc::new(Semaphore::new(SESSIONS)), Arc::new(Shares::new(SESSIONS_OF_ONE)));
        while let Some(inbound) = inbound.recv().await {
            let (service, room, shares) = (self.clone(), Arc::clone(&room), Arc::clone(&shares));
            // Those that wait are bounded by the streams that may have come in.
            tokio::spawn(async move {
                let (peer, protocol) = (inbound.peer, inbound.protocol.clone());
                let share = shares.wait(peer).await;
                let Ok(place) = room.acquire_owned().await else { return };
                if let Err(error) = service.answer(inbound).await {
                    tracing::debug!(%peer, %protocol, %error, "a peer could not be answered");
                }
                drop((place, share));
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
