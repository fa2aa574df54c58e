//! A node that keeps hundreds of logs.

use std::time::Instant;

use talkbox_core::MailboxId;

use crate::support::{Place, SOON, clock, mail, open, owner, put, wait_listed};

/// Mailboxes, of each of which the logs of four months are open.
const MAILBOXES: usize = 75;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_hundreds_of_logs_catches_up_soon() {
    let clock = clock();
    let mailboxes: Vec<MailboxId> = (0..MAILBOXES).map(|_| owner().id()).collect();
    let first = Place::start(&clock, Some(mailboxes.clone()), Vec::new()).await;
    let writer = open(&[&first], &clock, None).await;
    let mut all = Vec::new();
    for mailbox in &mailboxes {
        let envelopes = mail(*mailbox, &clock, 3);
        put(&*writer, &envelopes, 1).await;
        all.push(envelopes);
    }
    let begun = Instant::now();
    let second = Place::start(&clock, Some(mailboxes.clone()), vec![first.address.clone()]).await;
    let reader = open(&[&second], &clock, None).await;
    for (mailbox, envelopes) in mailboxes.iter().zip(&all) {
        wait_listed(&*reader, *mailbox, &second.locator(), envelopes).await;
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}
