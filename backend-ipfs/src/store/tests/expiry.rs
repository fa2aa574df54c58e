//! Months that are over.

use super::*;

const DAY: u64 = 86_400;

#[tokio::test]
async fn a_month_goes_31_days_after_its_last_envelope_and_takes_what_is_its_own() {
    let clock = clock();
    let store = Store::open(None, Arc::<ManualClock>::clone(&clock), StoreLimits::default()).await.expect("opens");
    let (this, next) = (month_log(), MonthLog::new(mailbox(), Month::of(NOW).next()));
    store.open_log(this.clone()).await.expect("opens");
    store.open_log(next.clone()).await.expect("opens");
    let (log, later) = (&this.definition.address, &next.definition.address);
    let (shared, own) = (writer(), writer());
    let mail = envelope();
    store.append(log, vec![mail.clone()], Arc::clone(&shared), vec![]).await.expect("appends");
    let junk = store.append_values(log, (0..2_500).map(|n| text(n.to_string())).collect(), Arc::clone(&own)).await;
    let junk = junk.expect("appends");
    let kept = store.append_values(later, vec![text("kept")], Arc::clone(&shared)).await.expect("appends");
    let root = Block::of(bytes::Bytes::from_static(b"\xa0"));
    store.put_blocks(Some(log), vec![root.clone()]).await.expect("puts");
    let waiting = signed(log, &own, &[root.cid], &[], 1, text("waits"));
    store.receive(log, vec![waiting.clone()]).await.expect("receives");

    let end = mail.expires_at().plus(31 * DAY);
    assert_eq!(store.expire(end.minus(1)).await.expect("expires"), 0);
    assert_eq!(store.expire(end).await.expect("expires"), 1);
    assert_eq!(store.logs().await.expect("reads").iter().map(|log| log.month).collect::<Vec<_>>(), [next.month]);
    let gone = [junk[0].cid, junk[2_499].cid, waiting.cid, root.cid, own.identity().cid, log.manifest()];
    assert_eq!(store.sizes(gone.to_vec()).await.expect("reads"), [None; 6]);
    let stays = [kept[0].cid, shared.identity().cid, this.definition.access.cid, later.manifest()];
    assert!(store.sizes(stays.to_vec()).await.expect("reads").iter().all(Option::is_some));
    assert!(store.page(mailbox(), 0, 9).await.expect("reads").items.is_empty());
    assert!(store.traverse(log, 1).await.is_err());

    // A reader may open it again; it is empty.
    store.open_log(this.clone()).await.expect("opens");
    assert!(store.set(log).await.expect("reads").as_slice().is_empty());
    assert!(store.missing(log, 9).await.expect("reads").is_empty());
}

#[tokio::test]
async fn a_month_without_mail_waits_for_some() {
    let (store, log) = with_log().await;
    store.append_values(&log, vec![text("no mail")], writer()).await.expect("appends");
    let end = Month::of(NOW).end().plus((90 + 31) * DAY);
    assert_eq!(store.expire(end.minus(1)).await.expect("expires"), 0);
    assert_eq!(store.expire(end).await.expect("expires"), 1);
    assert_eq!(store.expire(end).await.expect("expires"), 0);
}

#[tokio::test]
async fn blocks_that_were_put_go_when_they_are_dropped_and_entries_do_not() {
    let (store, log) = with_log().await;
    let entry = store.append_values(&log, vec![text("stays")], writer()).await.expect("appends")[0].clone();
    let root = Block::of(bytes::Bytes::from_static(b"\xa0"));
    store.put_blocks(Some(&log), vec![root.clone(), entry.clone()]).await.expect("puts");
    store.put_blocks(None, vec![root.clone()]).await.expect("puts");
    store.drop_blocks(Some(&log), vec![root.cid, entry.cid]).await.expect("drops");
    let both = vec![root.cid, entry.cid];
    assert!(store.blocks(both.clone()).await.expect("reads").iter().all(Option::is_some));
    store.drop_blocks(None, both.clone()).await.expect("drops");
    assert_eq!(store.blocks(both).await.expect("reads"), [None, Some(entry.bytes)]);
}
