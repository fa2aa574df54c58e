//! Watching: the logs of the open months are followed, and what a peer tells is handed out as it comes.
//!
//! There is no task behind it: whoever reads the stream drives it, and dropping it ends everything. What a peer has is
//! numbered as in a listing, and what is handed out is what comes after the last number: so nothing is lost between a
//! listing and a watch, nor between two connections.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use libp2p::PeerId;
use talkbox_core::{Error, ErrorKind, MailboxId, RawEnvelope, Result, WatchEvent, WatchOptions};
use talkbox_net::BackOff;
use tokio::{
    sync::{broadcast, broadcast::error::RecvError},
    time::{Instant, sleep, timeout_at},
};

use super::{
    cursor::Place,
    listing::look,
    network::{Holder, Network},
};
use crate::{
    node::logs::{Arrival, Following, Met},
    orbitdb::LogAddress,
};

/// Envelopes that are read from the store at once.
const PORTION: u32 = 100;
/// How long a peer may take to notice that it is listened to. A peer that does not say so is looked at all the same.
const NOTICE: Duration = Duration::from_secs(2);
/// How often the months are looked at, and what the peer has besides what it told.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// The stream of all holders.
pub(super) fn watch(
    network: &Arc<Network>,
    owner: MailboxId,
    options: &WatchOptions,
    end: &tokio::sync::watch::Receiver<bool>,
) -> BoxStream<'static, Result<WatchEvent>> {
    let one = |holder: &Holder| {
        let after = options.after.iter().find(|(named, _)| {
            // The cursor may name the peer in another spelling.
            network.holder(named).is_ok_and(|named| named.peer() == holder.peer())
        });
        let place = after.and_then(|(_, cursor)| Place::read(cursor, network.epoch).ok());
        let mut ready = VecDeque::new();
        if after.is_some() && place.is_none() {
            // Not a cursor of this store: say that something may be missing, and let the caller list from the start.
            ready.push_back(Ok(WatchEvent::Lagged { holder: holder.locator.clone() }));
        }
        let watch = Watch {
            network: Arc::clone(network),
            holder: holder.clone(),
            owner,
            seq: place.map(|place| place.seq),
            back_off: BackOff::new(options.retry_after),
            was_live: false,
            ready,
            following: HashMap::new(),
            open: None,
        };
        let mut end = end.clone();
        let ended = async move {
            // An error means that the mailbox was dropped, which ends the stream as well.
            let _ = end.wait_for(|closed| *closed).await;
        };
        stream::unfold(watch, Watch::next).take_until(Box::pin(ended)).boxed()
    };
    let holders: Vec<_> = network.holders().iter().map(one).collect();
    if holders.is_empty() {
        let error = Error::new(ErrorKind::Unreachable, "no peer is configured").op("watch");
        return stream::iter([Err(error)]).boxed();
    }
    stream::select_all(holders).boxed()
}

/// One holder.
struct Watch {
    network: Arc<Network>,
    holder: Holder,
    owner: MailboxId,
    /// The last number that was handed out; nothing where it is from now on.
    seq: Option<i64>,
    back_off: BackOff,
    /// Whether it was live before, so that something may be missing between then and now.
    was_live: bool,
    /// What is to be said next.
    ready: VecDeque<Result<WatchEvent>>,
    /// The logs that are followed for it.
    following: HashMap<LogAddress, Following>,
    open: Option<Open>,
}

/// What a connected peer is listened to by.
struct Open {
    arrivals: broadcast::Receiver<Arrival>,
    lost: broadcast::Receiver<PeerId>,
    look_again: Instant,
}

/// What wakes a watch.
enum Wake {
    Arrived,
    Lagged,
    Lost,
    Look,
}

impl Watch {
    async fn next(mut self) -> Option<(Result<WatchEvent>, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((event, self));
            }
            if let Err(error) = self.advance().await {
                self.open = None;
                self.back_off.fail_with(&error);
                self.ready.push_back(Err(self.holder.named(error).op("watch")));
            }
        }
    }

    /// Begins to listen, or takes what comes next.
    async fn advance(&mut self) -> Result<()> {
        let Some(open) = &mut self.open else { return self.listen().await };
        match open.wake(self.owner, &self.holder, &self.network).await? {
            Wake::Arrived => self.hand_out().await,
            Wake::Lagged => {
                self.ready.push_back(Ok(WatchEvent::Lagged { holder: self.holder.locator.clone() }));
                self.catch_up().await
            }
            Wake::Lost => Err(Error::new(ErrorKind::Unreachable, "the connection to the peer was lost")),
            Wake::Look => {
                self.follow(Instant::now()).await?;
                self.catch_up().await
            }
        }
    }

    /// Connects, listens, and hands out what came meanwhile.
    async fn listen(&mut self) -> Result<()> {
        self.back_off.wait().await;
        let (arrivals, lost) = (self.network.peer.logs.arrivals(), self.network.peer.lost());
        self.network.connect(&self.holder).await?;
        // The peer opens the logs that it is asked for, before it hears that they are listened to.
        look(&self.network, self.owner, &self.holder).await?;
        if self.seq.is_none() {
            self.seq = Some(self.network.seen.last(&self.holder.name(), self.owner).await?);
        }
        self.follow(Instant::now() + NOTICE).await?;
        let open = Open { arrivals, lost, look_again: Instant::now() + LOOK_AGAIN };
        self.open = Some(open);
        if std::mem::replace(&mut self.was_live, true) {
            self.ready.push_back(Ok(WatchEvent::Lagged { holder: self.holder.locator.clone() }));
        }
        self.catch_up().await?;
        self.back_off.reset();
        self.ready.push_back(Ok(WatchEvent::Live { holder: self.holder.locator.clone() }));
        Ok(())
    }

    /// Follows the logs of the months that are open, and waits until the peer has noticed.
    async fn follow(&mut self, until: Instant) -> Result<()> {
        let logs = &self.network.peer.logs;
        let mut met = logs.met();
        let mut waiting: HashSet<LogAddress> = HashSet::new();
        let open = logs.open_logs(self.owner);
        self.following.retain(|address, _| open.iter().any(|log| log.definition.address == *address));
        for log in open {
            let address = log.definition.address.clone();
            if !self.following.contains_key(&address) {
                self.following.insert(address.clone(), logs.follow_while(&log).await?);
            }
            waiting.insert(address);
        }
        let peer = self.holder.peer();
        waiting.retain(|log| !logs.has_met(log, peer));
        while !waiting.is_empty() {
            match timeout_at(until, met.recv()).await {
                Ok(Ok(Met { log, peer: who })) if who == peer => drop(waiting.remove(&log)),
                Ok(Ok(_)) => {}
                Ok(Err(_)) => waiting.retain(|log| !logs.has_met(log, peer)),
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Finds out what the peer has, and hands out what is new of that.
    async fn catch_up(&mut self) -> Result<()> {
        look(&self.network, self.owner, &self.holder).await?;
        self.hand_out().await
    }

    /// Hands out what the peer was seen to have since.
    async fn hand_out(&mut self) -> Result<()> {
        let Network { seen, peer, epoch, .. } = &*self.network;
        loop {
            let after = self.seq.unwrap_or_default();
            let rows = seen.after(&self.holder.name(), self.owner, after, PORTION).await?;
            let Some((last, _)) = rows.last().copied() else { return Ok(()) };
            let items = peer.store.get(self.owner, rows.iter().map(|(_, id)| *id).collect()).await?;
            for (id, json) in items {
                let Ok(raw) = RawEnvelope::new(id, json) else { continue };
                let seq = rows.iter().find(|(_, row)| *row == id).map(|(seq, _)| *seq);
                let cursor = seq.map(|seq| Place { epoch: *epoch, seq }.cursor());
                self.ready.push_back(Ok(WatchEvent::Envelope { holder: self.holder.locator.clone(), raw, cursor }));
            }
            self.seq = Some(last);
        }
    }
}

impl Open {
    /// Waits until something happens that concerns the holder, and takes note of it.
    async fn wake(&mut self, owner: MailboxId, holder: &Holder, network: &Network) -> Result<Wake> {
        loop {
            tokio::select! {
                arrived = self.arrivals.recv() => match arrived {
                    Ok(arrival) if arrival.mailbox == owner && arrival.from == holder.peer() => {
                        network.seen.these(&holder.name(), owner, vec![arrival.id]).await?;
                        return Ok(Wake::Arrived);
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return Ok(Wake::Lagged),
                    Err(RecvError::Closed) => return Ok(Wake::Lost),
                },
                lost = self.lost.recv() => match lost {
                    Ok(peer) if peer != holder.peer() => {}
                    Ok(_) | Err(RecvError::Closed) => return Ok(Wake::Lost),
                    // It may be among those that were missed: looking finds out.
                    Err(RecvError::Lagged(_)) => return Ok(Wake::Look),
                },
                () = sleep(self.look_again.saturating_duration_since(Instant::now())) => {
                    self.look_again = Instant::now() + LOOK_AGAIN;
                    return Ok(Wake::Look);
                }
            }
        }
    }
}
