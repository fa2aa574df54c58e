//! Two peers in one process, where a test needs more than what a node shows to others.

use std::{sync::Arc, time::Duration};

use libp2p::{PeerId, StreamProtocol};
use talkbox_core::{Clock, Draft, Envelope, ManualClock, SealOptions, SecretKey, SystemClock, seal};
use tokio::{
    sync::{broadcast, mpsc},
    time::{sleep, timeout},
};

use super::{
    Peer,
    actor::Happening,
    known::KnownPeers,
    logs::By,
    settings::{Dht, Keep, Settings},
    upkeep,
};
use crate::{
    orbitdb::{Month, MonthLog, Writer, digest_of},
    sync,
};

/// How long something may take that happens at once.
const SOON: Duration = Duration::from_secs(30);

async fn peer(keep: Keep, clock: &ManualClock) -> Peer {
    let listen = match keep.is_node() {
        true => vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")],
        false => Vec::new(),
    };
    let settings = Settings { listen, keep, dht: Dht::Off, allow_private: true, ..Settings::default() };
    Peer::start(settings, None, Arc::new(clock.clone())).await.expect("starts")
}

fn mail(clock: &ManualClock, count: usize) -> (MonthLog, Vec<Envelope>) {
    let (owner, sender) = (SecretKey::generate().expect("randomness"), SecretKey::generate().expect("randomness"));
    let mut options = SealOptions::default();
    options.backdate = false;
    let one = |number| {
        let draft = Draft::text(format!("message {number}"));
        seal(&draft, &sender, owner.id(), clock.now(), &options).expect("seals").envelope
    };
    (MonthLog::new(owner.id(), Month::of(clock.now())), (0..count).map(one).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_names_what_it_does_not_give_ends_no_listing() {
    let clock = ManualClock::new(SystemClock.now());
    let (node, reader) = (peer(Keep::Anyone, &clock).await, peer(Keep::Nothing, &clock).await);
    let (log, envelopes) = mail(&clock, 5);
    let address = &log.definition.address;
    node.logs.follow(&log).await.expect("follows");
    node.logs.open(address).await.expect("opens");
    let writer = Arc::new(Writer::generate().expect("randomness"));
    let made = node.store.append(address, envelopes, writer, Vec::new()).await.expect("appends");
    let lost = made[2].entry.as_ref().expect("is new").cid.to_bytes();
    // A disk that has rotten.
    let rot = move |db: &rusqlite::Connection| Ok(db.execute("DELETE FROM blocks WHERE cid = ?1", [lost])?);
    assert_eq!(node.store.with(rot).await.expect("writes"), 1);

    let to = node.link.addresses().swap_remove(0);
    reader.link.connect(&to, Duration::from_secs(10)).await.expect("connects");
    reader.store.open_log(log.clone()).await.expect("opens");
    let stream = reader.link.open(to.peer, StreamProtocol::new(sync::SYNC)).await.expect("opens");
    let reconciled = timeout(Duration::from_secs(20), reader.logs.reconcile(&log, to.peer, stream));
    reconciled.await.expect("it ends").expect("the rest comes");
    assert_eq!(reader.store.entries(address).await.expect("counts"), 4);
    reader.close().await;
    node.close().await;
}

/// Also where it is named at an address to which nobody else may lead.
#[tokio::test(flavor = "multi_thread")]
async fn a_named_peer_that_is_of_the_dht_leads_into_it() {
    let clock = ManualClock::new(SystemClock.now());
    let start = async |settings: Settings| Peer::start(settings, None, Arc::new(clock.clone())).await.expect("starts");
    let listen = || vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")];
    let gate = start(Settings { listen: listen(), keep: Keep::Anyone, dht: Dht::Server, ..Settings::default() }).await;
    let named = gate.link.addresses();
    let reader = start(Settings { peers: named.clone(), ..Settings::default() }).await;
    assert!(reader.link.enter_dht(&named, SOON).await);
    let deaf = start(Settings { listen: listen(), keep: Keep::Anyone, dht: Dht::Off, ..Settings::default() }).await;
    let named = deaf.link.addresses();
    let reader = start(Settings { peers: named.clone(), ..Settings::default() }).await;
    assert!(!reader.link.enter_dht(&named, SOON).await);
}

/// Waits until something is so.
async fn until<F: Future<Output = bool>>(mut is_so: impl FnMut() -> F) {
    let waiting = async {
        while !is_so().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), waiting).await.expect("it becomes so");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_had_is_asked_for_again_when_it_is_told_of_again() {
    let clock = ManualClock::new(SystemClock.now());
    let (node, reader) = (peer(Keep::Anyone, &clock).await, peer(Keep::Nothing, &clock).await);
    let elsewhere = peer(Keep::Nothing, &clock).await;
    let (log, envelopes) = mail(&clock, 3);
    let address = &log.definition.address;
    elsewhere.store.open_log(log.clone()).await.expect("opens");
    let writer = Arc::new(Writer::generate().expect("randomness"));
    let made = elsewhere.store.append(address, envelopes, writer, Vec::new()).await.expect("appends");
    let digests = made.iter().filter_map(|one| Some(digest_of(&one.entry.as_ref()?.cid))).collect();
    let blocks = elsewhere.store.bundle(address, digests).await.expect("reads");
    let [identity, rest @ .., head] = &blocks[..] else { panic!("three entries and who signed them") };

    node.logs.follow(&log).await.expect("follows");
    let to = node.link.addresses().swap_remove(0);
    reader.link.connect(&to, Duration::from_secs(10)).await.expect("connects");
    reader.logs.follow(&log).await.expect("follows");
    until(async || node.link.subscribers(address.as_str()).await.contains(&reader.link.peer())).await;
    // The node has the head alone, and it is told, as JavaScript peers do; the reader finds that there is no more.
    let (own, given) = (elsewhere.link.peer(), vec![identity.clone(), head.clone()]);
    node.logs.take(address, given, own, By::Session).await.expect("takes");
    node.link.publish(address.as_str(), head.bytes.clone()).await;
    until(async || reader.store.entries(address).await.is_ok_and(|count| count == 1)).await;
    until(async || reader.store.missing(address, 8).await.is_ok_and(|missing| missing.is_empty())).await;

    // The node gets the rest, and the head is told again.
    let mut given = vec![identity.clone()];
    given.extend_from_slice(rest);
    node.store.receive(address, given).await.expect("takes");
    node.link.publish(address.as_str(), head.bytes.clone()).await;
    until(async || reader.store.entries(address).await.is_ok_and(|count| count == 3)).await;
    for peer in [node, reader, elsewhere] {
        peer.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_introduces_itself_again_and_again_is_written_down_once_and_hides_no_loss() {
    const PUSHES: u32 = 1_000;
    let clock = ManualClock::new(SystemClock.now());
    let node = peer(Keep::Anyone, &clock).await;
    let changes = async || {
        let count = |db: &rusqlite::Connection| Ok(db.query_row("SELECT total_changes()", [], |row| row.get(0))?);
        node.store.with::<i64, _>(count).await.expect("counts")
    };
    let known = KnownPeers::open(node.store.clone()).await.expect("opens");
    let (happenings, happened) = mpsc::channel(PUSHES as usize);
    let stranger = PeerId::random();
    for port in 1..=PUSHES {
        let places = vec![format!("/ip4/192.0.2.1/tcp/{port}").parse().expect("an address")];
        let protocols = vec![StreamProtocol::new(sync::SYNC)];
        happenings.try_send(Happening::Introduced { peer: stranger, places, protocols }).expect("there is room");
    }
    drop(happenings);
    let ((gone, went), (lost, mut told)) = (mpsc::channel(1), broadcast::channel(1));
    let other = PeerId::random();
    gone.try_send(other).expect("is listened to");
    let before = changes().await;
    let remembering = Some((known.clone(), Arc::new(clock.clone()) as Arc<dyn Clock>));
    upkeep::listen(node.logs.clone(), happened, went, lost, remembering, Arc::default()).await;
    assert_eq!(told.try_recv().expect("is told"), other);
    let written = changes().await - before;
    assert!(written < 20, "{written} changes for one peer");
    let places: Vec<_> = known.latest(9).await.expect("reads").iter().map(|known| known.place.to_string()).collect();
    assert_eq!(places, [format!("/ip4/192.0.2.1/tcp/{PUSHES}")]);
    node.close().await;
}
