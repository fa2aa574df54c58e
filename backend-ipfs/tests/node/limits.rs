//! What a node refuses, and in which words.

use talkbox_core::{ErrorKind, PutOptions};

use crate::support::{Place, clock, listed, mail, open, owner, put};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_keeps_the_mailboxes_that_it_was_told_to_keep_and_says_so_to_others() {
    let (clock, kept, other) = (clock(), owner().id(), owner().id());
    let place = Place::start(&clock, Some(vec![kept]), Vec::new()).await;
    let mailbox = open(&[&place], &clock, None).await;
    put(&*mailbox, &mail(kept, &clock, 2), 1).await;
    let error = mailbox.put(&mail(other, &clock, 1), PutOptions::default()).await.remove(0).expect_err("is refused");
    assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Refused), "{error:?}");
    assert!(error.to_string().contains("does not keep"), "{error}");
    assert!(listed(&*mailbox, other, &place.locator()).await.expect("is empty").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_node_refuses_and_still_gives() {
    let (clock, owner) = (clock(), owner().id());
    let mut place = Place::start(&clock, None, Vec::new()).await;
    let mailbox = open(&[&place], &clock, None).await;
    let envelopes = mail(owner, &clock, 10);
    put(&*mailbox, &envelopes, 1).await;
    // A store that has more already than it may.
    place.config.max_store = 1;
    place.start_again().await;
    let mailbox = open(&[&place], &clock, None).await;
    let refused = mailbox.put(&mail(owner, &clock, 1), PutOptions::default()).await.remove(0);
    let error = refused.expect_err("there is no room");
    // A retry, not a refusal for good: mail waits for the room that an expiry makes.
    assert_eq!(error.kind(), ErrorKind::RateLimited, "{error:?}");
    assert!(error.is_retryable(), "{error:?}");
    let held = listed(&*mailbox, owner, &place.locator()).await.expect("lists");
    assert_eq!(held, crate::support::ids(&envelopes));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_how_it_does() {
    let (clock, owner) = (clock(), owner().id());
    let mut place = Place::start(&clock, Some(vec![owner]), Vec::new()).await;
    let mailbox = open(&[&place], &clock, None).await;
    put(&*mailbox, &mail(owner, &clock, 10), 1).await;
    let state = place.node.as_ref().expect("it runs").state().await;
    assert_eq!((state.fault, state.entries, state.waiting, state.is_full), (None, 10, 0, false), "{state:?}");
    assert!(state.connections > 0 && state.logs > 0 && state.bytes > 0, "{state:?}");
    place.config.max_store = 1;
    place.start_again().await;
    let node = place.node.take().expect("it runs");
    let full = node.state().await;
    assert_eq!(full.fault, Some("the store of the peer on IPFS is full"));
    assert_eq!((full.entries, full.is_full, full.refused), (10, true, 0), "{full:?}");
    let mailbox = open(&[&place], &clock, None).await;
    mailbox.put(&mail(owner, &clock, 3), PutOptions::default()).await.remove(0).expect_err("there is no room");
    assert!(node.state().await.refused > 0);
    node.clone().shutdown().await;
    assert_eq!(node.state().await.fault, Some("the peer on IPFS does not run"));
}
