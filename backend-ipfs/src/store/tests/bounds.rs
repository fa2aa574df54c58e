//! What is refused because there is too much of it.

use super::*;
use crate::{
    orbitdb::value_of,
    store::{MAX_ENTRY_BYTES, Refused},
};

async fn with_limits(limits: StoreLimits) -> (Store, LogAddress) {
    let store = store_with(limits).await;
    store.open_log(month_log()).await.expect("opens");
    (store, month_log().definition.address)
}

#[tokio::test]
async fn large_entries_are_carried_up_to_the_bound() {
    let (store, log) = with_log().await;
    let writer = writer();
    let entry = |bytes: usize| signed(&log, &writer, &[], &[], 1, text("x".repeat(bytes)));
    let (large, too_large) = (entry(200_000), entry(MAX_ENTRY_BYTES));
    let received = store.receive(&log, with_identity(&writer, &[large.clone(), too_large.clone()])).await;
    let received = received.expect("receives");
    assert!(of(&received, large.cid).joined && of(&received, large.cid).forward);
    assert_eq!(of(&received, too_large.cid).refused, Some(Refused::TooLarge));
    assert_eq!(store.sizes(vec![large.cid, too_large.cid]).await.expect("reads"), [Some(large.bytes.len()), None]);
}

#[tokio::test]
async fn a_full_log_takes_mail_that_shows_work() {
    let (store, log) = with_limits(StoreLimits { log_entries: 3, ..StoreLimits::default() }).await;
    let writer = writer();
    let chain = chain(&log, &writer, 4);
    let received = store.receive(&log, with_identity(&writer, &chain)).await.expect("receives");
    let refused = received.entries.iter().filter(|taken| taken.refused == Some(Refused::LogFull(4)));
    assert_eq!(refused.map(|taken| taken.cid).collect::<Vec<_>>(), [chain[3].cid]);
    let working = envelope_at(NOW, &options(90, 4));
    let idle = envelope();
    let appended = store.append(&log, vec![idle.clone(), working.clone()], Arc::clone(&writer), vec![]).await;
    let appended = appended.expect("appends");
    assert_eq!(appended[0].refused, Some(Refused::LogFull(4)));
    assert!(appended[1].entry.is_some());
    let paid = signed(&log, &writer, &[], &[], 9, value_of(&working));
    let received = store.receive(&log, vec![paid]).await.expect("receives");
    assert_eq!(received.entries[0].refused, Some(Refused::LogFull(4)), "work is done for one entry");
    assert_eq!(store.held(vec![idle.id(), working.id()]).await.expect("reads")[0], None);
}

#[tokio::test]
async fn what_waits_is_bounded_and_its_mail_is_not_lost() {
    let (store, log) = with_limits(StoreLimits { waiting_entries: 5, ..StoreLimits::default() }).await;
    let writer = writer();
    let chain = chain(&log, &writer, 9);
    let received = store.receive(&log, with_identity(&writer, &chain[1..])).await.expect("receives");
    let refused: HashSet<Cid> =
        received.entries.iter().filter(|taken| taken.refused.is_some()).map(|t| t.cid).collect();
    assert_eq!(refused, cids(&chain[6..]).into_iter().collect(), "those that came last");
    let mail = envelope();
    let late = signed(&log, &writer, &[chain[8].cid], &[], 10, value_of(&mail));
    let received = store.receive(&log, vec![late.clone()]).await.expect("receives");
    assert_eq!(of(&received, late.cid).refused, Some(Refused::WaitingFull));
    assert_eq!(received.shown.len(), 1);
    // What can be joined always has room, and makes some.
    store.receive(&log, vec![chain[0].clone()]).await.expect("receives");
    assert_eq!(heads(&store, &log).await, HashSet::from([chain[5].cid]));
    let received = store.receive(&log, [&chain[6..], std::slice::from_ref(&late)].concat()).await.expect("receives");
    assert!(received.entries.iter().all(|taken| taken.joined));
    assert_eq!(store.held(vec![mail.id()]).await.expect("reads"), [Some(mail.expires_at())]);
}

#[tokio::test]
async fn a_full_store_takes_nothing() {
    let (store, log) = with_limits(StoreLimits { store_bytes: 4_096, ..StoreLimits::default() }).await;
    let writer = writer();
    let chain = chain(&log, &writer, 1);
    let received = store.receive(&log, with_identity(&writer, &chain)).await.expect("receives");
    assert_eq!(of(&received, chain[0].cid).refused, Some(Refused::StoreFull));
    assert_eq!((*store.standing().borrow(), store.refused()), (Standing::Full, 1));
    let appended = store.append(&log, vec![envelope()], writer, vec![]).await.expect("appends");
    assert_eq!(appended[0].refused, Some(Refused::StoreFull));
}

#[tokio::test]
async fn junk_heads_do_not_keep_mail_out() {
    let (store, log) = with_log().await;
    let stranger = writer();
    let junk: Vec<Block> = (0..6_000).map(|n| signed(&log, &stranger, &[], &[], 1 + n, text(n.to_string()))).collect();
    store.receive(&log, with_identity(&stranger, &junk)).await.expect("receives");
    let state = &store.logs().await.expect("reads")[0];
    assert_eq!((state.entries, state.heads), (6_000, 6_000));
    let greatest = store.heads(&log, 3).await.expect("reads");
    assert_eq!(greatest.iter().map(|head| head.time).collect::<Vec<_>>(), [6_000, 5_999, 5_998]);
    let mail = envelope();
    let appended = store.append(&log, vec![mail], writer(), vec![]).await.expect("appends");
    let entry = appended[0].entry.as_ref().expect("is written");
    assert!(entry.bytes.len() < 8_192, "it names 16 of them, and not all");
    assert_eq!(store.page(mailbox(), 0, 9).await.expect("reads").items.len(), 1);
    assert_eq!(heads(&store, &log).await.len(), 6_001 - 16);
    assert_eq!(traversal(&store, &log).await.len(), 6_001);
}

#[tokio::test]
async fn junk_is_named_and_costs_the_rest_nothing() {
    let (store, log) = with_log().await;
    let writer = writer();
    let chain = chain(&log, &writer, 2);
    let other = MonthLog::new(MailboxId::from_bytes([3; 32]), Month::of(NOW)).definition.address;
    let foreign = super::chain(&other, &writer, 1);
    let garbage = Block::of(bytes::Bytes::from_static(b"\xff\xff"));
    let stranger = self::writer();
    let mut blocks = with_identity(&writer, &chain);
    blocks.extend([foreign[0].clone(), garbage.clone(), stranger.identity().clone()]);
    let received = store.receive(&log, blocks).await.expect("receives");
    assert_eq!(received.entries.iter().filter(|taken| taken.joined).count(), 2);
    assert!(matches!(of(&received, foreign[0].cid).refused, Some(Refused::Invalid(_))));
    for junk in [garbage.cid, stranger.identity().cid] {
        assert_eq!(of(&received, junk).refused, Some(Refused::NotAnEntry));
        assert_eq!(store.block(junk).await.expect("reads"), None, "what nobody asked for is not kept");
    }
    let closed = store.receive(&other, foreign).await.expect_err("is not open");
    assert_eq!(closed.kind(), talkbox_core::ErrorKind::NotFound);
}
