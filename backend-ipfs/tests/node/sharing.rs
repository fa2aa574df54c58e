//! Several tasks, and several programs of one user, which share a folder.

use std::sync::Arc;

use futures_util::future::join_all;
use tempfile::TempDir;

use crate::support::{Place, clock, ids, listed, mail, open, owner, put, until_shown, wait_listed, watch};

#[tokio::test(flavor = "multi_thread")]
async fn two_programs_share_a_folder() {
    let (clock, owner) = (clock(), owner().id());
    let place = Place::start(&clock, None, Vec::new()).await;
    let home = TempDir::new().expect("a folder");
    let nodes = [&place];
    let (one, other) = tokio::join!(open(&nodes, &clock, Some(home.path())), open(&nodes, &clock, Some(home.path())));
    let (ours, theirs) = (mail(owner, &clock, 60), mail(owner, &clock, 60));
    let work = |mailbox: Arc<dyn talkbox_core::Mailbox>, envelopes: Vec<talkbox_core::Envelope>, holder| async move {
        for batch in envelopes.chunks(6) {
            put(&*mailbox, batch, 1).await;
            listed(&*mailbox, owner, &holder).await.expect("lists");
        }
    };
    tokio::join!(
        work(Arc::clone(&one), ours.clone(), place.locator()),
        work(Arc::clone(&other), theirs.clone(), place.locator())
    );
    let all = ids(&[ours, theirs].concat());
    for mailbox in [&one, &other] {
        assert_eq!(listed(&**mailbox, owner, &place.locator()).await.expect("lists"), all);
    }
    // One of them ends, and the other goes on.
    one.close().await;
    let more = mail(owner, &clock, 3);
    put(&*other, &more, 1).await;
    wait_listed(&*other, owner, &place.locator(), &more).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_programs_with_one_folder_both_watch() {
    let (clock, owner) = (clock(), owner().id());
    let place = Place::start(&clock, None, Vec::new()).await;
    let home = TempDir::new().expect("a folder");
    let one = open(&[&place], &clock, Some(home.path())).await;
    let other = open(&[&place], &clock, Some(home.path())).await;
    let (mut first, mut second) = (watch(&*one, owner, 1).await, watch(&*other, owner, 1).await);
    let envelopes = mail(owner, &clock, 20);
    let writer = open(&[&place], &clock, None).await;
    for envelope in &envelopes {
        put(&*writer, std::slice::from_ref(envelope), 1).await;
    }
    tokio::join!(until_shown(&mut first, &envelopes), until_shown(&mut second, &envelopes));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_writes_to_oneself_is_watched() {
    let (clock, owner) = (clock(), owner().id());
    let place = Place::start(&clock, None, Vec::new()).await;
    let mailbox = open(&[&place], &clock, None).await;
    let mut events = watch(&*mailbox, owner, 1).await;
    let envelopes = mail(owner, &clock, 3);
    for envelope in &envelopes {
        put(&*mailbox, std::slice::from_ref(envelope), 1).await;
    }
    until_shown(&mut events, &envelopes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_use_one_mailbox() {
    let (clock, owner) = (clock(), owner().id());
    let places = [Place::start(&clock, None, Vec::new()).await, Place::start(&clock, None, Vec::new()).await];
    let mailbox = open(&[&places[0], &places[1]], &clock, None).await;
    let mut events = watch(&*mailbox, owner, 2).await;
    let envelopes = mail(owner, &clock, 64);
    let tasks = envelopes.chunks(2).map(|batch| {
        let (mailbox, batch) = (Arc::clone(&mailbox), batch.to_vec());
        let holder = places[0].locator();
        tokio::spawn(async move {
            put(&*mailbox, &batch, 2).await;
            listed(&*mailbox, owner, &holder).await.expect("lists");
        })
    });
    for task in join_all(tasks).await {
        task.expect("no panic");
    }
    until_shown(&mut events, &envelopes).await;
    for place in &places {
        assert_eq!(listed(&*mailbox, owner, &place.locator()).await.expect("lists"), ids(&envelopes));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_left_with_the_last_watch_of_it() {
    let (clock, owner) = (clock(), owner().id());
    let place = Place::start(&clock, None, Vec::new()).await;
    let mailbox = open(&[&place], &clock, None).await;
    let listeners = || place.node.as_ref().map_or(0, talkbox_backend_ipfs::IpfsNode::listeners);
    let (first, mut second) = (watch(&*mailbox, owner, 1).await, watch(&*mailbox, owner, 1).await);
    assert!(listeners() > 0, "nobody listens");
    drop(first);
    let envelopes = mail(owner, &clock, 1);
    put(&*open(&[&place], &clock, None).await, &envelopes, 1).await;
    until_shown(&mut second, &envelopes).await;
    drop(second);
    let begun = std::time::Instant::now();
    while listeners() > 0 {
        assert!(begun.elapsed() < crate::support::SOON, "somebody goes on to listen");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // And it can be watched anew.
    let mut third = watch(&*mailbox, owner, 1).await;
    let envelopes = mail(owner, &clock, 1);
    put(&*open(&[&place], &clock, None).await, &envelopes, 1).await;
    until_shown(&mut third, &envelopes).await;
}
