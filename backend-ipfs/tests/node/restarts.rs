//! Nodes that go away and come back, under backends that go on.

use futures_util::StreamExt as _;
use talkbox_core::{
    Locator,
    testkit::{Fault, Faults as _},
};

use crate::{
    front::{Front, WireFaults},
    support::{Place, SOON, clock, mail, open, open_at, owner, put, until_live, until_shown, wait_listed, watch},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_what_came_while_its_node_was_away() {
    let (clock, owner) = (clock(), owner().id());
    let mut watched = Place::start(&clock, Some(vec![owner]), Vec::new()).await;
    let other = Place::start(&clock, Some(vec![owner]), vec![watched.address.clone()]).await;
    let reader = open(&[&watched], &clock, None).await;
    let mut events = watch(&*reader, owner, 1).await;
    for _ in 0..3 {
        watched.stop().await;
        let envelopes = mail(owner, &clock, 5);
        put(&*open(&[&other], &clock, None).await, &envelopes, 1).await;
        watched.start_again().await;
        until_shown(&mut events, &envelopes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_leads_nowhere_does_not_hide_the_one_that_leads_there() {
    let (clock, owner) = (clock(), owner().id());
    let place = Place::start(&clock, None, Vec::new()).await;
    let (_, id) = place.address.split_once("/p2p/").expect("an address of a peer");
    // A record names the same peer at another place, too.
    let wrong = Locator::new("ipfs", &format!("/ip4/127.0.0.1/tcp/1/p2p/{id}")).expect("a locator");
    let mailbox = open_at(Vec::new(), &clock, None).await;
    let envelopes = mail(owner, &clock, 1);
    let at = talkbox_core::PutOptions::default().at([wrong, place.locator()]);
    let receipts = mailbox.put(&envelopes, at).await;
    let receipt = receipts.into_iter().next().expect("one").expect("is taken");
    assert_eq!(receipt.acks.len(), 1, "{receipt:?}");
    wait_listed(&*mailbox, owner, &place.locator(), &envelopes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_falls_silent_is_noticed_by_those_who_wait_for_it() {
    let (clock, owner) = (clock(), owner().id());
    let place = Place::start(&clock, None, Vec::new()).await;
    let front = Front::bind().await;
    front.stand_before(place.socket(), place.node.as_ref().expect("runs").id());
    let faults = WireFaults(vec![front]);
    let peer = faults.0[0].peer();
    let holder = Locator::new("ipfs", &peer).expect("a locator");
    let mailbox = open_at(vec![peer], &clock, None).await;
    let mut events = watch(&*mailbox, owner, 1).await;
    // As if its power had failed: nothing comes, and nothing says that nothing will.
    assert!(faults.set(&holder, Fault::hangs()));
    let lost = async { while !matches!(events.next().await, Some(Err(_))) {} };
    // A ping and its answer.
    tokio::time::timeout(2 * SOON, lost).await.expect("the watch says that the node is gone");
    faults.clear();
    until_live(&mut events, 1).await;
    let envelopes = mail(owner, &clock, 1);
    put(&*open(&[&place], &clock, None).await, &envelopes, 1).await;
    until_shown(&mut events, &envelopes).await;
}
