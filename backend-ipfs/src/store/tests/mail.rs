//! Envelopes in entries.

use super::*;
use crate::orbitdb::value_of;

/// An entry for each envelope, by one writer, none on another.
async fn receive(store: &Store, log: &LogAddress, mail: &[Envelope]) -> Received {
    let writer = writer();
    let entries: Vec<Block> =
        mail.iter().zip(1..).map(|(mail, time)| signed(log, &writer, &[], &[], time, value_of(mail))).collect();
    store.receive(log, with_identity(&writer, &entries)).await.expect("receives")
}

#[tokio::test]
async fn an_envelope_in_several_entries_is_shown_once() {
    let (store, log) = with_log().await;
    let mail = envelope();
    let first = receive(&store, &log, &[mail.clone(), mail.clone()]).await;
    assert_eq!(first.shown.len(), 1);
    assert!(receive(&store, &log, std::slice::from_ref(&mail)).await.shown.is_empty());
    assert_eq!(heads(&store, &log).await.len(), 3);
    let page = store.page(mailbox(), 0, 9).await.expect("reads");
    assert_eq!(page.items, [(first.shown[0].1, mail.id(), mail.shared_json())]);
    assert!(!page.more);
}

#[tokio::test]
async fn an_envelope_has_one_home_and_one_time() {
    let (store, log) = with_log().await;
    let (usual, short) = (options(90, 0), options(30, 0));
    let mail = [
        envelope_at(NOW.minus(60 * 86_400), &usual),
        envelope_at(NOW.plus(901), &usual),
        envelope_at(NOW.plus(900), &usual),
    ];
    let received = receive(&store, &log, &mail).await;
    assert!(received.entries.iter().all(|taken| taken.joined), "the entries are entries all the same");
    assert_eq!(received.shown.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [mail[2].id()]);
    let before = MonthLog::new(mailbox(), Month::of(NOW.minus(60 * 86_400)));
    store.open_log(before.clone()).await.expect("opens");
    let expired = envelope_at(NOW.minus(60 * 86_400), &short);
    assert!(expired.is_expired(NOW));
    let received = receive(&store, &before.definition.address, &[expired, mail[0].clone()]).await;
    assert_eq!(received.shown.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [mail[0].id()]);
}

#[tokio::test]
async fn what_expires_is_given_no_more() {
    let clock = clock();
    let store = Store::open(None, Arc::<ManualClock>::clone(&clock), StoreLimits::default()).await.expect("opens");
    store.open_log(month_log()).await.expect("opens");
    let log = month_log().definition.address;
    let (short, long) = (envelope_at(NOW, &options(30, 0)), envelope_at(NOW, &options(90, 0)));
    let ids = vec![short.id(), long.id()];
    receive(&store, &log, &[short.clone(), long.clone()]).await;
    assert_eq!(store.get(mailbox(), ids.clone()).await.expect("reads").len(), 2);
    clock.set(short.expires_at());
    assert_eq!(store.held(ids.clone()).await.expect("reads"), [None, Some(long.expires_at())]);
    assert_eq!(store.get(mailbox(), ids).await.expect("reads"), [(long.id(), long.shared_json())]);
    let page = store.page(mailbox(), 0, 9).await.expect("reads");
    assert_eq!(page.items.iter().map(|item| item.1).collect::<Vec<_>>(), [long.id()]);
}

#[tokio::test]
async fn pages_follow_each_other_and_mailboxes_are_apart() {
    let (store, log) = with_log().await;
    let mail: Vec<Envelope> = (0..7).map(|_| envelope()).collect();
    receive(&store, &log, &mail).await;
    let (mut after, mut found) = (0, Vec::new());
    loop {
        let page = store.page(mailbox(), after, 3).await.expect("reads");
        found.extend(page.items.iter().map(|item| item.1));
        after = page.items.last().expect("some").0;
        if !page.more {
            break;
        }
        assert_eq!(page.items.len(), 3);
    }
    assert_eq!(found.into_iter().collect::<HashSet<_>>(), mail.iter().map(Envelope::id).collect());
    let other = MailboxId::from_bytes([1; 32]);
    assert_eq!(store.page(other, 0, 9).await.expect("reads"), super::super::Page::default());
    assert!(store.get(other, vec![mail[0].id()]).await.expect("reads").is_empty());
}
