//! What a peer does by itself: it follows the logs of the months that are open, stays connected to the peers that it was
//! told of, shows its heads again, lets go what has expired, and announces itself in the DHT.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use libp2p::{Multiaddr, PeerId, kad::RecordKey};
use talkbox_core::{Clock, MailboxId, Result};
use talkbox_net::BackOff;
use tokio::{
    sync::{
        Notify,
        broadcast::{self, error::RecvError},
        mpsc,
    },
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use super::{
    actor::Happening,
    address::PeerAddress,
    known::{self, KnownPeers},
    link::Link,
    logs::{AGAIN, Logs},
    rendezvous,
    settings::Keep,
};
use crate::{
    store::{Standing, Store},
    sync::{self, stored::StoredRecords},
};

/// How often it is looked what has expired, and which mailboxes are kept.
const HOURLY: Duration = Duration::from_secs(3_600);
/// How often it is looked whether a month begins: its logs are open some minutes before anybody may write to them.
const MONTHS: Duration = Duration::from_secs(60);
/// How often it is written down who was met, at most.
const REMEMBER: Duration = Duration::from_secs(60);
/// How long a connection to a peer may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How often it is looked whether a store does its work again. Whoever makes room on a disk waits to see it.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Keys that are announced in the DHT, two for each mailbox: each takes a look-up twice a day.
const MAX_ANNOUNCED: usize = 20_000;

/// What there is to announce in the DHT, or whom to.
#[derive(Debug, Default)]
pub(super) struct News {
    /// A record was published here.
    pub(super) published: Notify,
    /// More peers of the DHT are known.
    reached: Notify,
}

/// Hands what happens to whom it is for, until the swarm ends.
pub(super) async fn listen(
    logs: Logs,
    mut happenings: mpsc::Receiver<Happening>,
    mut gone: mpsc::Receiver<PeerId>,
    lost: broadcast::Sender<PeerId>,
    remembering: Option<(KnownPeers, Arc<dyn Clock>)>,
    news: Arc<News>,
) {
    // Whoever introduces itself ever anew costs no write each time.
    let (mut met, mut writing) = (HashMap::new(), Instant::now());
    loop {
        let happening = tokio::select! {
            biased;
            Some(peer) = gone.recv() => {
                logs.lost(peer);
                // Nobody may keep a connection.
                let _ = lost.send(peer);
                continue;
            }
            () = sleep_until(writing), if !met.is_empty() => {
                remember(remembering.as_ref(), &mut met).await;
                writing = Instant::now() + REMEMBER;
                continue;
            }
            happening = happenings.recv() => happening,
        };
        match happening {
            None => break,
            Some(Happening::Message { topic, message, source, data }) => logs.heard(topic, message, source, data),
            Some(Happening::Subscribed { peer, topic }) => logs.subscribed(peer, &topic),
            Some(Happening::Unsubscribed { peer, topic }) => logs.unsubscribed(peer, &topic),
            Some(Happening::Reached) => news.reached.notify_one(),
            Some(Happening::Introduced { peer, places, protocols }) => {
                // Whoever speaks this is a node, and not a reader that is gone in a minute: those listen nowhere.
                let is_node = protocols.iter().any(|protocol| *protocol == sync::SYNC) && !places.is_empty();
                let has_room = met.len() < known::MOST || met.contains_key(&peer);
                if remembering.is_some() && is_node && has_room {
                    met.insert(peer, places);
                }
            }
        }
    }
    remember(remembering.as_ref(), &mut met).await;
}

/// Writes down who was met, and where they say they are.
async fn remember(known: Option<&(KnownPeers, Arc<dyn Clock>)>, met: &mut HashMap<PeerId, Vec<Multiaddr>>) {
    if let Some((known, clock)) = known.filter(|_| !met.is_empty())
        && let Err(error) = known.met(met.drain(), clock.now()).await
    {
        tracing::warn!(%error, "peers could not be remembered");
    }
}

/// Follows the logs of all mailboxes that are kept, month by month, and shows their heads now and then.
pub(super) async fn keep_logs(
    logs: Logs,
    link: Link,
    keep: Keep,
    records: StoredRecords,
    clock: Arc<dyn Clock>,
    news: Arc<News>,
) {
    let [mut hourly, mut monthly, mut again] = [HOURLY, MONTHS, AGAIN].map(interval);
    for ticking in [&mut hourly, &mut monthly, &mut again] {
        ticking.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let (mut mailboxes, mut announced, mut open) = (HashSet::new(), HashSet::new(), Vec::new());
    loop {
        let done = tokio::select! {
            _ = monthly.tick() => {
                if logs.open_months() != open {
                    hourly.reset_immediately();
                }
                Ok(())
            }
            _ = hourly.tick() => async {
                open = logs.open_months();
                mailboxes = turn(&logs, &keep, &*clock).await?;
                announce(&link, &mailboxes, &records, &mut announced).await
            }.await,
            () = news.published.notified() => announce(&link, &mailboxes, &records, &mut announced).await,
            () = news.reached.notified() => {
                announced.clear();
                announce(&link, &mailboxes, &records, &mut announced).await
            }
            _ = again.tick() => {
                for log in logs.all() {
                    logs.exchange_with_all(&log.definition.address).await;
                    logs.seek_again(&log.definition.address);
                }
                Ok(())
            }
        };
        if let Err(error) = done {
            tracing::warn!(%error, "the logs could not be looked after");
        }
    }
}

/// Opens what begins, closes what is over, drops what has expired; says which mailboxes are kept.
async fn turn(logs: &Logs, keep: &Keep, clock: &dyn Clock) -> Result<HashSet<MailboxId>> {
    logs.store().expire(clock.now()).await?;
    let stored = logs.store().logs().await?;
    let known: HashSet<_> = stored.iter().map(|log| &log.address).collect();
    let mut mailboxes: HashSet<MailboxId> = stored.iter().map(|log| log.mailbox).filter(|it| keep.covers(it)).collect();
    if let Keep::These(named) = keep {
        mailboxes.extend(named);
    }
    for log in logs.all() {
        if !logs.is_open(log.month) {
            logs.unfollow(&log.definition.address).await;
        }
    }
    for log in mailboxes.iter().flat_map(|mailbox| logs.open_logs(*mailbox)) {
        logs.follow(&log).await?;
        // A log that the operator named is there for whoever asks for its manifest, also before its first entry.
        if matches!(keep, Keep::These(_)) || known.contains(&log.definition.address) {
            logs.open(&log.definition.address).await?;
        }
    }
    Ok(mailboxes)
}

/// Announces in the DHT what is kept here, and no longer what is not.
async fn announce(
    link: &Link,
    mailboxes: &HashSet<MailboxId>,
    records: &StoredRecords,
    announced: &mut HashSet<RecordKey>,
) -> Result<()> {
    let codes = records.codes(MAX_ANNOUNCED / 2).await?;
    let keys = mailboxes.iter().map(rendezvous::of_mailbox).chain(codes.iter().map(rendezvous::of_code));
    let keys: HashSet<RecordKey> = keys.take(MAX_ANNOUNCED).collect();
    for gone in announced.difference(&keys) {
        link.stop_providing(gone.clone()).await;
    }
    for new in keys.difference(announced) {
        link.provide(new.clone()).await;
    }
    *announced = keys;
    Ok(())
}

/// Tells the operator when the store stops to do its work and when it does it again, each once; and looks for the latter.
pub(super) async fn watch_over(store: Store) {
    let mut standing = store.standing();
    // One that is full already says so before anybody brings something.
    if let Err(error) = store.census().await {
        tracing::debug!(%error, "the store of the peer on IPFS cannot be counted");
    }
    let mut told = Standing::Well;
    loop {
        let now = *standing.borrow_and_update();
        if now != told {
            tell(now);
            told = now;
        }
        if now == Standing::Well {
            if standing.changed().await.is_err() {
                return;
            }
        } else {
            sleep(LOOK_AGAIN).await;
            if let Err(error) = store.look_again().await {
                tracing::debug!(%error, "the store of the peer on IPFS does not do its work yet");
            }
        }
    }
}

fn tell(standing: Standing) {
    match standing {
        Standing::Well => tracing::info!("the store of the peer on IPFS takes mail again"),
        Standing::Full => tracing::warn!(
            "the store of the peer on IPFS is full: it takes nothing more, and gives what it has. Let it have more \
             (max_store of [ipfs] in the settings of the node) and start the node again, or wait: a month is dropped 31 \
             days after its last mail has expired"
        ),
        Standing::Failing => tracing::warn!(
            "the store of the peer on IPFS cannot be written: nothing that is brought is kept. See that its disk has room \
             and can be written; it goes on by itself then"
        ),
        Standing::Damaged => tracing::warn!(
            "the store of the peer on IPFS is damaged. Stop the node, move ipfs/ipfs.sqlite3 in its folder away, and start \
             it again: other peers fill a new one, or a backup takes its place"
        ),
    }
}

/// Looks for peers of before, once: those that are there are connected to.
pub(super) async fn look_for(link: Link, peers: Vec<PeerAddress>) {
    for peer in peers {
        if let Err(error) = link.connect(&peer, CONNECT).await {
            tracing::debug!(%error, "a peer of before is away");
        }
    }
}

/// Stays connected to a peer that was named.
pub(super) async fn stay_connected(link: Link, to: PeerAddress, mut lost: broadcast::Receiver<PeerId>) {
    let mut back_off = BackOff::new(None);
    loop {
        back_off.wait().await;
        match link.connect(&to, CONNECT).await {
            Ok(()) => {
                back_off.reset();
                loop {
                    match lost.recv().await {
                        Ok(peer) if peer != to.peer => {}
                        // It may have been among those that were missed.
                        Ok(_) | Err(RecvError::Lagged(_)) => break,
                        Err(RecvError::Closed) => return,
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a peer is away");
                back_off.fail_with(&error);
            }
        }
    }
}
