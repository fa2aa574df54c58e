//! Nodes that are away, or as good as away.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use talkbox_core::{ErrorKind, ListOptions, Retry};

use crate::{
    hostile::{Hostile, drip, status},
    support::{ack_of, auth, envelopes, holder, honest, key, mailbox, open, put, soon},
};

/// Short, so that what is waited for in vain does not take long.
const TIMEOUT_MS: u64 = 300;

#[tokio::test]
async fn a_node_that_drips_costs_its_time_once_and_is_then_left_alone() {
    let (_node, url) = honest().await;
    let slow = Hostile::start(|_| Some(drip())).await;
    let backend = open(&[&slow.url(), &url], TIMEOUT_MS).await;
    let sent = envelopes(key().id(), 4);
    for (at, envelope) in sent.iter().enumerate() {
        let receipt = put(&backend, std::slice::from_ref(envelope)).await.remove(0).expect("the honest one has it");
        ack_of(&receipt, &holder(&url));
        let refusal = &receipt.refused[0];
        assert_eq!((&refusal.holder, refusal.kind), (&slow.holder(), ErrorKind::Timeout));
        let expected = if at == 0 { Retry::After(None) } else { Retry::Exhausted };
        assert_eq!(refusal.retry, expected, "put {at}");
    }
    assert_eq!(slow.asked("/v1/envelopes").len(), 1);
    let owner = key();
    let options = ListOptions::default().auth(Some(auth(&owner)));
    let error = soon(mailbox(&backend).list(owner.id(), &slow.holder(), options)).await.expect_err("left alone");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Timeout, false));
}

#[tokio::test]
async fn after_a_while_it_is_asked_again_and_is_one_of_many_once_more() {
    let hangs = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&hangs);
    let node = Hostile::start(move |_| told.load(Ordering::SeqCst).then(drip)).await;
    let backend = open(&[&node.url()], TIMEOUT_MS).await;
    let sent = envelopes(key().id(), 1);
    let error = put(&backend, &sent).await.remove(0).expect_err("it hangs");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Timeout, true));
    hangs.store(false, Ordering::SeqCst);
    let comes_back = async {
        while put(&backend, &sent).await.remove(0).is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon(comes_back).await;
    assert!(put(&backend, &sent).await.remove(0).is_ok());
}

#[tokio::test]
async fn a_node_that_is_not_there_costs_nothing_and_is_asked_each_time() {
    let (_node, url) = honest().await;
    let away = "http://127.0.0.1:1";
    let backend = open(&[away, &url], 5_000).await;
    for envelope in &envelopes(key().id(), 3) {
        let receipt = put(&backend, std::slice::from_ref(envelope)).await.remove(0).expect("stored");
        ack_of(&receipt, &holder(&url));
        let refusal = &receipt.refused[0];
        assert_eq!((refusal.kind, refusal.retry), (ErrorKind::Unreachable, Retry::After(None)));
    }
}

#[tokio::test]
async fn a_node_that_fails_may_be_tried_again_at_once() {
    let fails = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&fails);
    let node = Hostile::start(move |_| told.load(Ordering::SeqCst).then(|| status(500, "oops"))).await;
    let backend = open(&[&node.url()], 5_000).await;
    let sent = envelopes(key().id(), 2);
    let error = put(&backend, &sent).await.remove(0).expect_err("it fails");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, true));
    fails.store(false, Ordering::SeqCst);
    assert!(put(&backend, &sent).await.into_iter().all(|receipt| receipt.is_ok()));
}

#[tokio::test]
async fn after_the_first_batch_that_finds_nobody_no_other_is_tried() {
    let slow = Hostile::start(|_| Some(drip())).await;
    let backend = open(&[&slow.url()], TIMEOUT_MS).await;
    let sent = envelopes(key().id(), 600);
    for receipt in put(&backend, &sent).await {
        assert_eq!(receipt.expect_err("nobody").kind(), ErrorKind::Timeout);
    }
    assert_eq!(slow.asked("/v1/envelopes").len(), 1);
}
