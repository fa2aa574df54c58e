//! Nodes that are peers of each other: what one of them took, all have.

use crate::support::{Place, clock, mail, open, owner, put, wait_listed};

/// Three nodes, of which each names those before it.
async fn three(keep: talkbox_core::MailboxId, clock: &talkbox_core::ManualClock) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for _ in 0..3 {
        let peers = places.iter().map(|place| place.address.clone()).collect();
        places.push(Place::start(clock, Some(vec![keep]), peers).await);
    }
    places
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_takes_all_have() {
    let (clock, owner) = (clock(), owner().id());
    let places = three(owner, &clock).await;
    let envelopes = mail(owner, &clock, 40);
    let writer = open(&[&places[1]], &clock, None).await;
    put(&*writer, &envelopes[..1], 1).await;
    put(&*writer, &envelopes[1..], 1).await;
    writer.close().await;
    let reader = open(&[&places[0], &places[2]], &clock, None).await;
    for holder in reader.holders() {
        wait_listed(&*reader, owner, &holder, &envelopes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_down_catches_up() {
    let (clock, owner) = (clock(), owner().id());
    let mut places = three(owner, &clock).await;
    let writer = open(&[&places[0]], &clock, None).await;
    let before = mail(owner, &clock, 3);
    put(&*writer, &before, 1).await;
    let reader = open(&[&places[2]], &clock, None).await;
    let holder = places[2].locator();
    wait_listed(&*reader, owner, &holder, &before).await;

    places[2].stop().await;
    let meanwhile = mail(owner, &clock, 150);
    put(&*writer, &meanwhile, 1).await;
    places[2].start_again().await;
    let reader = open(&[&places[2]], &clock, None).await;
    wait_listed(&*reader, owner, &holder, &before).await;
    wait_listed(&*reader, owner, &holder, &meanwhile).await;

    // And it goes on to hear what is told, although it was the others that it had named.
    let after = mail(owner, &clock, 2);
    put(&*writer, &after, 1).await;
    wait_listed(&*reader, owner, &holder, &after).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_were_apart_agree() {
    let (clock, owner) = (clock(), owner().id());
    let mut one = Place::start(&clock, Some(vec![owner]), Vec::new()).await;
    let mut other = Place::start(&clock, Some(vec![owner]), Vec::new()).await;
    let (ours, theirs) = (mail(owner, &clock, 30), mail(owner, &clock, 30));
    put(&*open(&[&one], &clock, None).await, &ours, 1).await;
    put(&*open(&[&other], &clock, None).await, &theirs, 1).await;

    one.config.peers = vec![other.address.clone()];
    one.start_again().await;
    other.start_again().await;
    let reader = open(&[&one, &other], &clock, None).await;
    for holder in reader.holders() {
        wait_listed(&*reader, owner, &holder, &ours).await;
        wait_listed(&*reader, owner, &holder, &theirs).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_missed_does_not_hold_up_the_rest() {
    let (clock, owner) = (clock(), owner().id());
    // They know nothing of each other.
    let mut places = [
        Place::start(&clock, Some(vec![owner]), Vec::new()).await,
        Place::start(&clock, Some(vec![owner]), Vec::new()).await,
    ];
    let first = mail(owner, &clock, 2);
    let writer = open(&[&places[0], &places[1]], &clock, None).await;
    put(&*writer, &first, 2).await;
    places[1].stop().await;
    let missed = mail(owner, &clock, 3);
    put(&*writer, &missed, 1).await;
    places[1].start_again().await;
    // By somebody else, on top of what the first has.
    let writer = open(&[&places[0], &places[1]], &clock, None).await;
    let last = mail(owner, &clock, 20);
    for envelope in &last {
        put(&*writer, std::slice::from_ref(envelope), 2).await;
    }
    let reader = open(&[&places[0], &places[1]], &clock, None).await;
    let holder = places[1].locator();
    wait_listed(&*reader, owner, &holder, &first).await;
    wait_listed(&*reader, owner, &holder, &last).await;

    // It is repaired by whoever has read the other.
    wait_listed(&*reader, owner, &places[0].locator(), &missed).await;
    let at = talkbox_core::PutOptions::default().at([holder.clone()]);
    for receipt in reader.put(&missed, at).await {
        assert_eq!(receipt.expect("it takes them").acks.len(), 1);
    }
    wait_listed(&*reader, owner, &holder, &missed).await;
}
