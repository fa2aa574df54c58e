//! What the store does when the disk is full. SQLite is told how large the file may get, and then says what it says of a
//! full disk; `tests/local_full.rs` has the system refuse.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{NewOutbox, OutboxId, OutboxQuery, Store, StoreKey};
use crate::{
    Draft, ErrorKind, Locator, MailboxId, ManualClock, SealOptions, SecretKey, Timestamp,
    seal::{Sealed, seal},
};

const NOW: Timestamp = Timestamp(1_790_000_000);

async fn open(path: &std::path::Path) -> Store {
    Store::open(path, StoreKey::from_bytes([7; 32]), Arc::new(ManualClock::new(NOW))).await.expect("opens")
}

/// Lets the file have so many pages more than it has.
async fn leave_room(store: &Store, pages: u32) {
    let limit = store.write("leave room", move |access| {
        let now: u32 = access.db.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        access.db.pragma_update_and_check(None, "max_page_count", now + pages, |_| Ok(()))?;
        Ok(())
    });
    limit.await.expect("sets");
}

fn outgoing(to: MailboxId) -> NewOutbox {
    let sender = SecretKey::generate().expect("randomness");
    let sealed = seal(&Draft::text("x".repeat(2_000)), &sender, to, NOW, &SealOptions::default()).expect("seals");
    let Sealed { envelope, wrap_key, seal, message } = sealed;
    NewOutbox {
        id: OutboxId::generate().expect("randomness"),
        recipient: to,
        message,
        envelope,
        wrap_key,
        seal,
        locators: vec![Locator::new("test", "a").expect("a locator")],
        min_acks: 1,
        copy_of: None,
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("store.db");
    let store = open(&path).await;
    let to = SecretKey::generate().expect("randomness").id();
    let (mut kept, mut refused) = (Vec::new(), Vec::new());
    for room in [0, 1, 2, 5, 9] {
        leave_room(&store, room).await;
        // One by one, then many in one commit: of those, each has its own answer.
        for together in [1, 1, 1, 24] {
            let new: Vec<_> = (0..together).map(|_| outgoing(to)).collect();
            let again = new.clone();
            let answers = join_all(new.into_iter().map(|new| store.enqueue(new))).await;
            for (answer, new) in answers.into_iter().zip(again) {
                match answer {
                    Ok(id) => kept.push(id),
                    Err(error) => {
                        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Storage, false), "{error}");
                        assert!(error.to_string().contains("full"), "{error}");
                        refused.push(new);
                    }
                }
            }
        }
        // What is there can be read.
        let page = store.outbox(OutboxQuery::default()).await.expect("reads");
        assert_eq!((page.items.len(), page.damaged.len()), (kept.len(), 0), "with room for {room}");
    }
    assert!(!kept.is_empty() && refused.len() > 24, "{} were kept, {} refused", kept.len(), refused.len());

    // There is room again, in the same process.
    leave_room(&store, 1_000).await;
    for new in refused.drain(..8) {
        kept.push(store.enqueue(new).await.expect("there is room"));
    }
    store.close().await;
    let store = open(&path).await;
    for id in &kept {
        assert!(store.outbox_entry(*id).await.expect("reads").is_some());
    }
    for new in &refused {
        assert!(
            store.outbox_entry(new.id).await.expect("reads").is_none(),
            "what was refused is not sent all the same"
        );
    }
}
