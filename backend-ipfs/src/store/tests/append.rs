//! Entries of our own.

use super::*;
use crate::store::Refused;

fn decoded(block: &Block) -> Entry {
    Entry::decode(block.bytes.clone()).expect("an entry")
}

#[tokio::test]
async fn a_batch_is_a_chain_on_the_heads() {
    let (store, log) = with_log().await;
    let writer = writer();
    let values = (0..40).map(|n| text(n.to_string())).collect();
    let first = store.append_values(&log, values, Arc::clone(&writer)).await.expect("appends");
    assert_eq!(first.len(), 40);
    for (at, block) in first.iter().enumerate() {
        let entry = decoded(block);
        assert_eq!(entry.sort_time(), at as u64 + 1);
        assert_eq!(entry.next, at.checked_sub(1).map(|before| first[before].cid).into_iter().collect::<Vec<_>>());
        let refs: Vec<Cid> = first[..at].iter().rev().skip(1).take(16).map(|block| block.cid).collect();
        assert_eq!(entry.refs, refs, "as the library: from the second before on");
    }
    let second = store.append_values(&log, vec![text("next")], writer).await.expect("appends");
    let entry = decoded(&second[0]);
    assert_eq!((&entry.next, entry.sort_time()), (&vec![first[39].cid], 41));
    assert_eq!(entry.refs, first[23..39].iter().rev().map(|block| block.cid).collect::<Vec<_>>());
    assert_eq!(traversal(&store, &log).await.len(), 41);
    assert_eq!(heads(&store, &log).await, HashSet::from([second[0].cid]));
}

#[tokio::test]
async fn heads_are_drawn_together_and_never_more_than_16_at_once() {
    let (store, log) = with_log().await;
    let heads_of_strangers: Vec<Block> = {
        let writer = writer();
        let heads: Vec<Block> = (1..=40).map(|time| signed(&log, &writer, &[], &[], time, text("head"))).collect();
        let received = store.receive(&log, with_identity(&writer, &heads)).await.expect("receives");
        assert!(received.entries.iter().all(|taken| taken.joined && taken.forward && taken.is_new));
        heads
    };
    let ours = store.append_values(&log, vec![text("ours")], writer()).await.expect("appends");
    let entry = decoded(&ours[0]);
    let greatest: Vec<Cid> = heads_of_strangers.iter().rev().take(16).map(|block| block.cid).collect();
    assert_eq!((&entry.next, entry.sort_time()), (&greatest, 41));
    assert!(entry.refs.is_empty());
    assert_eq!(heads(&store, &log).await.len(), 25);
}

#[tokio::test]
async fn mail_is_appended_once_and_where_it_belongs() {
    let (store, log) = with_log().await;
    let (mail, writer) = (envelope(), writer());
    let foreign = {
        let other = SecretKey::generate().expect("randomness");
        seal(&Draft::text("hello"), &other, other.id(), NOW, &SealOptions::default()).expect("seals").envelope
    };
    let old = envelope_at(NOW.minus(60 * 86_400), &SealOptions::default());
    let batch = vec![mail.clone(), foreign, mail.clone(), old];
    let appended = store.append(&log, batch, Arc::clone(&writer), vec![]).await.expect("appends");
    let outcome: Vec<_> = appended.iter().map(|one| (one.entry.is_some(), one.refused.clone())).collect();
    let elsewhere = Some(Refused::Elsewhere);
    assert_eq!(outcome, [(true, None), (false, elsewhere.clone()), (false, None), (false, elsewhere)]);
    let again = store.append(&log, vec![mail.clone()], writer, vec![]).await.expect("appends");
    assert_eq!(again[0].entry, None);
    assert_eq!(store.held(vec![mail.id()]).await.expect("reads"), [Some(mail.expires_at())]);
    assert_eq!(store.page(mailbox(), 0, 10).await.expect("reads").items.len(), 1);
}

/// A sender who has nothing of a log but what a holder said of its heads.
#[tokio::test]
async fn an_entry_on_heads_that_are_not_here_is_kept_and_given_to_others() {
    let (holder, log) = with_log().await;
    let theirs = writer();
    let held = chain(&log, &theirs, 30);
    holder.receive(&log, with_identity(&theirs, &held)).await.expect("receives");
    let told: Vec<(Cid, u64)> =
        holder.heads(&log, 16).await.expect("reads").into_iter().map(|head| (head.cid, head.time)).collect();

    let (sender, _) = with_log().await;
    let mail = envelope();
    let appended = sender.append(&log, vec![mail.clone()], writer(), told).await.expect("appends");
    let block = appended[0].entry.clone().expect("is written");
    assert_eq!((decoded(&block).next, decoded(&block).sort_time()), (vec![held[29].cid], 31));
    assert!(heads(&sender, &log).await.is_empty(), "it is not joined");
    assert_eq!(sender.page(mailbox(), 0, 1).await.expect("reads").items.len(), 1, "and is shown");
    assert_eq!(sender.missing(&log, 9).await.expect("reads"), [held[29].cid]);

    let digest = block.cid.hash().digest().try_into().expect("32 bytes");
    let bundle = sender.bundle(&log, vec![digest, digest]).await.expect("reads");
    assert_eq!(cids(&bundle), [decoded(&block).identity, block.cid]);
    let received = holder.receive(&log, bundle).await.expect("receives");
    assert!(of(&received, block.cid).joined);
    assert_eq!(received.shown.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [mail.id()]);
    assert_eq!(heads(&holder, &log).await, HashSet::from([block.cid]));

    // What the holder told that is known, or is no time, changes nothing.
    let onto = vec![(held[3].cid, u64::MAX), (block.cid, 7)];
    let more = holder.append(&log, vec![envelope()], writer(), onto).await.expect("appends");
    let entry = decoded(more[0].entry.as_ref().expect("is written"));
    assert_eq!((&entry.next, entry.sort_time()), (&vec![block.cid], 32));
}

#[tokio::test]
async fn a_clock_that_was_set_to_its_end_stays_there() {
    let (store, log) = with_log().await;
    let stranger = writer();
    let last = (1 << 53) - 1;
    let poison = signed(&log, &stranger, &[], &[], last, text("the end of time"));
    store.receive(&log, with_identity(&stranger, &[poison])).await.expect("receives");
    let ours = store.append_values(&log, vec![text("a"), text("b")], writer()).await.expect("appends");
    assert_eq!(ours.iter().map(|block| decoded(block).sort_time()).collect::<Vec<_>>(), [last, last]);
    assert_eq!(heads(&store, &log).await, HashSet::from([ours[1].cid]));
    assert_eq!(traversal(&store, &log).await.len(), 3);
}
