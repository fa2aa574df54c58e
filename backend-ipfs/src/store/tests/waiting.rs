//! Entries whose ancestors or identities come later, or never.

use super::*;
use crate::store::Refused;

#[tokio::test]
async fn a_chain_that_comes_newest_first_is_joined_when_its_end_comes() {
    let (store, log) = with_log().await;
    let writer = writer();
    let chain = chain(&log, &writer, 3_000);
    store.receive(&log, with_identity(&writer, &[])).await.expect("receives");
    for portion in chain[1..].rchunks(700) {
        let received = store.receive(&log, with_identity(&writer, portion)).await.expect("receives");
        assert!(received.entries.iter().all(|taken| !taken.joined && taken.refused.is_none()));
        assert!(!received.heads_changed && received.missing.len() <= 17);
    }
    assert_eq!(store.logs().await.expect("reads")[0].waiting, 2_999);
    assert_eq!(store.missing(&log, 100).await.expect("reads"), [chain[0].cid]);
    let received = store.receive(&log, vec![chain[0].clone()]).await.expect("receives");
    assert!(received.heads_changed && of(&received, chain[0].cid).joined);
    let state = &store.logs().await.expect("reads")[0];
    assert_eq!((state.entries, state.waiting, state.heads), (3_000, 0, 1));
    assert!(store.missing(&log, 100).await.expect("reads").is_empty());
    let order: Vec<Cid> = chain.iter().rev().map(|block| block.cid).collect();
    assert_eq!(traversal(&store, &log).await, order);
}

/// A process that ended between two turns of the writer.
#[tokio::test]
async fn what_was_postponed_is_done_later() {
    let (store, log) = with_log().await;
    let writer = writer();
    let chain = chain(&log, &writer, 9);
    store.receive(&log, with_identity(&writer, &chain)).await.expect("receives");
    let (last, before) = (chain[8].cid.to_bytes(), chain[7].cid.to_bytes());
    let undo = store.with(move |db| {
        let number = "(SELECT number FROM blocks WHERE cid = ?1)";
        let wait = "UPDATE entries SET state = 1, head = 0, waits_for = ?2, rest = x'' WHERE number =";
        db.execute(&format!("{wait} {number}"), (&last, &before))?;
        db.execute(&format!("UPDATE entries SET head = 1 WHERE number = {number}"), [&before])?;
        db.execute("INSERT INTO postponed (log, cid) SELECT log, ?1 FROM logs", [&before])?;
        Ok(db.execute("UPDATE logs SET waiting = 1", [])?)
    });
    undo.await.expect("writes");
    assert_eq!(heads(&store, &log).await, HashSet::from([chain[7].cid]));
    store.receive(&log, vec![]).await.expect("receives");
    assert_eq!(heads(&store, &log).await, HashSet::from([chain[8].cid]));
    assert_eq!(store.logs().await.expect("reads")[0].waiting, 0);
}

#[tokio::test]
async fn an_entry_waits_for_its_identity_and_its_mail_does_not() {
    let (store, log) = with_log().await;
    let (writer, mail) = (writer(), envelope());
    let entry = signed(&log, &writer, &[], &[], 1, crate::orbitdb::value_of(&mail));
    let received = store.receive(&log, vec![entry.clone()]).await.expect("receives");
    let taken = of(&received, entry.cid);
    assert_eq!((taken.forward, taken.joined, taken.is_new, &taken.refused), (false, false, true, &None));
    assert_eq!(received.missing, [writer.identity().cid]);
    assert_eq!(received.shown.len(), 1);
    assert_eq!(store.held(vec![mail.id()]).await.expect("reads"), [None], "it may be gone when the identity comes");
    assert_eq!(store.set(&log).await.expect("reads").as_slice().len(), 0);

    let received = store.receive(&log, vec![writer.identity().clone()]).await.expect("receives");
    let taken = of(&received, entry.cid);
    assert_eq!((taken.forward, taken.joined, taken.is_new), (true, true, true));
    assert!(received.shown.is_empty(), "it was shown before");
    assert_eq!(store.held(vec![mail.id()]).await.expect("reads"), [Some(mail.expires_at())]);
    assert_eq!(store.set(&log).await.expect("reads").as_slice().len(), 1);
    assert!(store.missing(&log, 9).await.expect("reads").is_empty());
    let state = &store.logs().await.expect("reads")[0];
    assert_eq!((state.entries, state.waiting, state.bytes), (1, 0, entry.bytes.len() as u64));
}

/// Another log has the identity already: it is not asked for again.
#[tokio::test]
async fn an_identity_that_came_for_another_log_is_found() {
    let (store, log) = with_log().await;
    let other = MonthLog::new(MailboxId::from_bytes([3; 32]), Month::of(NOW));
    store.open_log(other.clone()).await.expect("opens");
    let writer = writer();
    let (one, two) = (chain(&log, &writer, 1), chain(&other.definition.address, &writer, 1));
    store.receive(&log, one.clone()).await.expect("receives");
    store.receive(&other.definition.address, with_identity(&writer, &two)).await.expect("receives");
    assert!(heads(&store, &log).await.is_empty());
    assert!(store.missing(&log, 9).await.expect("reads").is_empty());
    assert_eq!(heads(&store, &log).await, HashSet::from([one[0].cid]));
}

#[tokio::test]
async fn an_identity_that_does_not_hold_takes_its_entries_with_it() {
    let (store, log) = with_log().await;
    let (good, bad) = (writer(), writer());
    // The identity of one with the block of the other's key: its signatures are for another.
    let text_of = |block: &Block| String::from_utf8_lossy(&block.bytes).into_owned();
    let forged = {
        let from = good.public_key();
        let bytes = good.identity().bytes.to_vec();
        let at = bytes.windows(66).position(|part| part == from.as_bytes()).expect("has the key");
        let mut bytes = bytes;
        bytes[at..at + 66].copy_from_slice(bad.public_key().as_bytes());
        Block::of(bytes.into())
    };
    assert!(text_of(&forged).contains(bad.public_key()));
    let mail = envelope();
    let entry = {
        let honest = signed(&log, &good, &[], &[], 1, crate::orbitdb::value_of(&mail));
        let from = crate::orbitdb::link::to_text(&good.identity().cid);
        let to = crate::orbitdb::link::to_text(&forged.cid);
        let mut bytes = honest.bytes.to_vec();
        let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).expect("names it");
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        Block::of(bytes.into())
    };
    let child = signed(&log, &good, &[entry.cid], &[], 2, text("child"));
    store.receive(&log, with_identity(&good, &[entry.clone(), child.clone()])).await.expect("receives");
    assert_eq!(store.missing(&log, 9).await.expect("reads"), [forged.cid]);
    let received = store.receive(&log, vec![forged.clone()]).await.expect("receives");
    assert!(matches!(of(&received, entry.cid).refused, Some(Refused::Invalid(_))));
    assert_eq!(store.block(entry.cid).await.expect("reads"), None);
    assert_eq!(store.block(forged.cid).await.expect("reads"), None);
    assert!(store.missing(&log, 9).await.expect("reads").is_empty(), "what is invalid is not asked for again");
    assert_eq!(store.page(mailbox(), 0, 9).await.expect("reads").items.len(), 1, "mail is mail, whoever signed");
    assert_eq!(store.held(vec![mail.id()]).await.expect("reads"), [None]);
    let state = &store.logs().await.expect("reads")[0];
    assert_eq!((state.entries, state.waiting), (1, 1), "the child waits for ever");
}

#[tokio::test]
async fn what_nobody_has_is_asked_for_ever_more_seldom() {
    let (store, log) = with_log().await;
    let clock = clock();
    let store = {
        drop(store);
        let store = Store::open(None, Arc::<ManualClock>::clone(&clock), StoreLimits::default()).await.expect("opens");
        store.open_log(month_log()).await.expect("opens");
        store
    };
    let writer = writer();
    let chain = chain(&log, &writer, 3);
    store.receive(&log, with_identity(&writer, &chain[2..])).await.expect("receives");
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let mut paused = 0;
        while store.missing(&log, 9).await.expect("reads").is_empty() {
            clock.advance(std::time::Duration::from_secs(30));
            paused += 30;
        }
        pauses.push(paused);
        store.give_up(&log, chain[1].cid).await.expect("gives up");
    }
    assert_eq!(pauses, [0, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
    // Whenever it comes, it is taken.
    store.receive(&log, chain[..2].to_vec()).await.expect("receives");
    assert_eq!(heads(&store, &log).await, HashSet::from([chain[2].cid]));
}

#[tokio::test]
async fn what_is_here_and_is_no_entry_is_not_asked_for() {
    let (store, log) = with_log().await;
    let (one, two) = (writer(), writer());
    let mine = signed(&log, &one, &[], &[], 1, text("by one"));
    let of_other = MonthLog::new(MailboxId::from_bytes([3; 32]), Month::of(NOW));
    store.open_log(of_other.clone()).await.expect("opens");
    let theirs = super::chain(&of_other.definition.address, &two, 1);
    store.receive(&of_other.definition.address, with_identity(&two, &theirs)).await.expect("receives");
    let odd: Vec<Block> = [log.manifest(), one.identity().cid, theirs[0].cid]
        .into_iter()
        .map(|cid| signed(&log, &one, &[], &[cid], 2, text("names what is no entry here")))
        .collect();
    store.receive(&log, with_identity(&one, &[&[mine], &odd[..]].concat())).await.expect("receives");
    assert!(store.missing(&log, 9).await.expect("reads").is_empty());
    assert!(store.missing(&log, 9).await.expect("reads").is_empty());
    let left = store.with(|db| {
        let sql = "SELECT count(*) FROM missing WHERE due < 9223372036854775807";
        Ok(db.query_row(sql, [], |row| row.get::<_, i64>(0))?)
    });
    assert_eq!(left.await.expect("reads"), 0);
    assert_eq!(store.logs().await.expect("reads").iter().map(|log| log.waiting).sum::<u64>(), 3);
}

/// 500 that all wait for one, and one that waits for all of them; 2,000 are more than are waited for.
#[tokio::test]
async fn many_that_wait_for_one_are_joined_with_it() {
    let (store, log) = with_log().await;
    let writer = writer();
    let root = signed(&log, &writer, &[], &[], 1, text("root"));
    let leaves: Vec<Block> =
        (0..2_000).map(|n| signed(&log, &writer, &[root.cid], &[], 2, text(n.to_string()))).collect();
    let all = signed(&log, &writer, &cids(&leaves), &[], 3, text("all"));
    let some = signed(&log, &writer, &cids(&leaves[..500]), &[], 3, text("some"));
    let received = store.receive(&log, with_identity(&writer, &[all.clone(), some.clone()])).await.expect("receives");
    assert_eq!(of(&received, all.cid).refused, Some(Refused::TooEarly));
    assert!(received.missing.len() > 500, "what it names is fetched all the same");
    store.receive(&log, leaves.clone()).await.expect("receives");
    assert_eq!(store.missing(&log, 9).await.expect("reads"), [root.cid]);
    store.receive(&log, vec![root]).await.expect("receives");
    let state = &store.logs().await.expect("reads")[0];
    assert_eq!((state.entries, state.waiting, state.heads), (2_002, 0, 1_501));
    let received = store.receive(&log, vec![all.clone()]).await.expect("receives");
    assert!(of(&received, all.cid).joined);
    assert_eq!(heads(&store, &log).await, HashSet::from([all.cid, some.cid]));
}

#[tokio::test]
async fn a_badly_signed_ancestor_hides_nothing() {
    let (store, log) = with_log().await;
    let writer = writer();
    let bad = {
        let entry = signed(&log, &writer, &[], &[], 1, text("said"));
        let mut bytes = entry.bytes.to_vec();
        let at = bytes.windows(4).position(|part| part == b"said").expect("says it");
        bytes[at..at + 4].copy_from_slice(b"sad!");
        Block::of(bytes.into())
    };
    let mail: Vec<Envelope> = (0..3).map(|_| envelope()).collect();
    let on_bad = signed(&log, &writer, &[bad.cid], &[], 2, crate::orbitdb::value_of(&mail[0]));
    let on_that = signed(&log, &writer, &[on_bad.cid], &[], 3, crate::orbitdb::value_of(&mail[1]));
    let blocks = with_identity(&writer, &[on_that.clone(), on_bad.clone(), bad.clone()]);
    let received = store.receive(&log, blocks).await.expect("receives");
    assert!(matches!(of(&received, bad.cid).refused, Some(Refused::Invalid(_))));
    assert!(!of(&received, on_bad.cid).joined && of(&received, on_bad.cid).forward);
    let appended = store.append(&log, vec![mail[2].clone()], writer, vec![]).await.expect("appends");
    let ours = appended[0].entry.as_ref().expect("is written");
    assert_eq!(heads(&store, &log).await, HashSet::from([ours.cid]), "we build on what all can join");
    let page = store.page(mailbox(), 0, 9).await.expect("reads");
    assert_eq!(
        page.items.iter().map(|item| item.1).collect::<Vec<_>>(),
        mail.iter().map(Envelope::id).collect::<Vec<_>>()
    );
    assert_eq!(store.set(&log).await.expect("reads").as_slice().len(), 3, "others are given it all the same");
    fetch(&store, &log, &[bad]).await;
    assert!(store.missing(&log, 9).await.expect("reads").is_empty());
}
