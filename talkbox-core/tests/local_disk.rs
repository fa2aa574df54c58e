//! The file of the local store: whose it is, what stands in it, and what happens when it rots.

use std::{fs, path::Path, sync::Arc};

use rusqlite::Connection;
use talkbox_core::{
    ErrorKind, SecretKey,
    local::{MessageQuery, OutboxQuery, OutboxState, Store, StoreKey},
};

#[expect(dead_code, reason = "each test program uses a part of it")]
mod local_common;
use local_common::*;

/// A store with some mail and an entry, closed.
async fn filled(path: &Path, count: usize) -> (SecretKey, Vec<talkbox_core::Sealed>) {
    let store = open(path).await;
    let owner = secret();
    let mail: Vec<_> = (0..count).map(|number| sealed(&format!("the secret text {number}"), &owner)).collect();
    store.ingest(batch(&owner, "a", &mail.iter().collect::<Vec<_>>())).await.expect("ingests");
    store.enqueue(outgoing(&sealed("an outgoing text", &secret()))).await.expect("enqueues");
    store.close().await;
    (owner, mail)
}

fn sql(path: &Path, statement: &str) -> usize {
    Connection::open(path).expect("opens").execute(statement, []).expect("runs")
}

#[tokio::test]
async fn what_was_stored_is_there_after_reopening() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("deep/er/store.db");
    let (owner, mail) = filled(&path, 3).await;
    let store = open(&path).await;
    assert_eq!(everything(&store, &owner).await.len(), 3);
    assert_eq!(
        store.envelope(owner.id(), mail[0].envelope.id()).await.expect("reads").as_ref(),
        Some(&mail[0].envelope)
    );
    assert_eq!(store.outbox(OutboxQuery::default()).await.expect("reads").items.len(), 1);
    store.close().await;
    store.close().await;
    assert_eq!(store.count(owner.id()).await.expect_err("closed").kind(), ErrorKind::Closed);
    assert_eq!(store.sweep().await.expect_err("closed").kind(), ErrorKind::Closed);
    // One tidy file.
    let names: Vec<_> = fs::read_dir(path.parent().expect("a folder")).expect("lists").collect();
    assert_eq!(names.len(), 1);
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("new/store.db");
    let store = open(&path).await;
    store.set_setting("a", Some(b"b")).await.expect("sets");
    let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().expect("a folder")), 0o700);
    for file in fs::read_dir(path.parent().expect("a folder")).expect("lists") {
        assert_eq!(mode(&file.expect("a file").path()), 0o600);
    }
}

#[tokio::test]
async fn another_key_a_newer_version_and_other_files_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("store.db");
    filled(&path, 1).await;
    let other = Store::open(&path, StoreKey::generate().expect("randomness"), Arc::new(clock())).await;
    assert_eq!(other.expect_err("another key").kind(), ErrorKind::Locked);

    sql(&path, "PRAGMA user_version = 1000");
    let before = fs::read(&path).expect("reads");
    let newer = Store::open(&path, key(), Arc::new(clock())).await.expect_err("newer");
    assert_eq!((newer.kind(), newer.context("schema")), (ErrorKind::Storage, Some("1000")));
    assert_eq!(fs::read(&path).expect("reads"), before, "it was left as it is");

    let junk = dir.path().join("junk");
    fs::write(&junk, "this is a text and no database, and it is longer than the header of one, which has 100 bytes.")
        .expect("writes");
    let error = Store::open(&junk, key(), Arc::new(clock())).await.expect_err("junk");
    assert_eq!(error.kind(), ErrorKind::Storage);
    let folder = Store::open(dir.path(), key(), Arc::new(clock())).await.expect_err("a folder");
    assert_eq!(folder.kind(), ErrorKind::Storage);
}

#[tokio::test]
async fn no_secret_stands_in_clear() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("store.db");
    let store = open(&path).await;
    let (owner, sender) = (secret(), secret());
    let mail = sealed_by(&sender, "the secret text", &owner);
    store.ingest(batch(&owner, "a", &[&mail])).await.expect("ingests");
    let out = sealed_by(&sender, "the outgoing text", &secret());
    store.enqueue(outgoing(&out)).await.expect("enqueues");
    let key = store.conversation_key(out.envelope.mailbox()).await.expect("a key");
    store.set_secret("token", Some(b"the api token")).await.expect("sets");
    let written = || {
        let mut bytes = fs::read(&path).expect("reads");
        bytes.extend(fs::read(path.with_extension("db-wal")).unwrap_or_default());
        bytes
    };
    let stands = |needle: &[u8]| written().windows(needle.len()).any(|window| window == needle);
    assert!(stands(mail.envelope.json().as_bytes()), "an envelope stands in clear");
    let (sender, name) = (sender.public(), sender.public().to_hex());
    let secrets: [&[u8]; 8] = [
        b"the secret text",
        b"the outgoing text",
        b"the api token",
        sender.as_bytes(),
        name.as_bytes(),
        &*out.wrap_key.to_bytes(),
        &*key.to_bytes(),
        out.seal.as_bytes(),
    ];
    assert!(secrets.iter().all(|secret| !stands(secret)));

    store.delete(owner.id(), &[mail.message.id], &[]).await.expect("deletes");
    store.close().await;
    assert!(!stands(mail.envelope.json().as_bytes()) && !stands(&mail.envelope.json().as_bytes()[300..400]));
}

#[tokio::test]
async fn a_rotten_row_hides_no_other() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("store.db");
    let (owner, mail) = filled(&path, 5).await;
    sql(
        &path,
        "UPDATE messages SET sealed = CAST(substr(sealed, 1, 40) || CASE substr(sealed, 41, 1) WHEN x'00' THEN x'01' ELSE x'00' END || substr(sealed, 42) AS BLOB) WHERE seq = 2",
    );
    sql(&path, "UPDATE messages SET sealed = x'' WHERE seq = 3");
    sql(
        &path,
        "UPDATE envelopes SET json = substr(json, 1, length(json) - 9) || CASE substr(json, -9, 1) WHEN '0' THEN '1' ELSE '0' END || substr(json, -8) WHERE seq = 4",
    );
    let store = open(&path).await;
    let page = store.messages(owner.id(), MessageQuery::oldest()).await.expect("reads");
    assert_eq!((page.items.len(), page.damaged.len()), (3, 2));
    assert!(page.damaged.iter().all(|row| row.error.kind() == ErrorKind::Storage));
    let rotten = page.damaged[0].id;
    assert_eq!(store.message(owner.id(), rotten).await.expect_err("rotten").kind(), ErrorKind::Storage);
    let one = store.messages(owner.id(), MessageQuery::oldest().limit(1)).await.expect("reads");
    assert!(one.items.len() + one.damaged.len() == 1 && one.next.is_some());

    let envelopes = store.envelopes(owner.id(), 0, 0).await.expect("reads");
    assert_eq!((envelopes.items.len(), envelopes.damaged.len()), (4, 1));
    let error = store.envelope(owner.id(), mail[3].envelope.id()).await.expect_err("rotten");
    assert_eq!(error.kind(), ErrorKind::Storage);

    // What has rotted is found, forgotten, and comes in again.
    let damage = store.check(owner.id()).await.expect("checks");
    assert_eq!((damage.envelopes.as_slice(), damage.messages.len()), (&[mail[3].envelope.id()][..], 2));
    store.forget(owner.id(), damage).await.expect("forgets");
    let again = store.ingest(batch(&owner, "b", &mail.iter().collect::<Vec<_>>())).await.expect("ingests");
    assert_eq!(again.new.len(), 2);
    assert_eq!(store.check(owner.id()).await.expect("checks"), Default::default());
    assert_eq!(everything(&store, &owner).await.len(), 5);
}

#[tokio::test]
async fn a_rotten_entry_is_wedged_and_the_others_are_sent() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("store.db");
    let store = open(&path).await;
    let mut entries = Vec::new();
    for text in ["one", "two", "three"] {
        entries.push(store.enqueue(outgoing(&sealed(text, &secret()))).await.expect("enqueues"));
    }
    sql(&path, "UPDATE outbox SET sealed = x'00' WHERE seq = 2");
    let page = store.outbox(OutboxQuery::default()).await.expect("reads");
    assert_eq!((page.items.len(), page.damaged[0].id), (2, entries[1]));
    let claimed = store.claim(10, std::time::Duration::from_secs(60)).await.expect("claims");
    assert_eq!(claimed.iter().map(|entry| entry.id).collect::<Vec<_>>(), [entries[0], entries[2]]);
    assert!(matches!(store.cancel(entries[1]).await.expect("cancels"), OutboxState::Cancelled));
}

/// A page that is gone is found by the check that a store gets when it was not checked for a week.
#[tokio::test]
async fn a_broken_structure_is_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("store.db");
    filled(&path, 60).await;
    let mut bytes = fs::read(&path).expect("reads");
    let page = bytes.len() / 2 / 8192 * 8192;
    bytes[page..page + 8192].fill(0xa5);
    fs::write(&path, &bytes).expect("writes");
    let later = talkbox_core::ManualClock::new(NOW.plus(8 * 86_400));
    let error = Store::open(&path, key(), Arc::new(later)).await.expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Storage);
}

/// SQLite notices few flipped bits. What the store returns is either right or not returned.
#[tokio::test]
async fn a_flipped_bit_never_shows_a_wrong_message() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("store.db");
    let (owner, mail) = filled(&path, 60).await;
    let good = fs::read(&path).expect("reads");
    let mut noticed = 0;
    for round in 0..80_usize {
        let mut bytes = good.clone();
        // Spread over the file, behind the header that SQLite checks by itself.
        let at = 100 + round * (bytes.len() - 100) / 80 + round % 7;
        bytes[at] ^= 1 << (round % 8);
        fs::write(&path, &bytes).expect("writes");
        let Ok(store) = Store::open(&path, key(), Arc::new(clock())).await else {
            noticed += 1;
            continue;
        };
        match store.messages(owner.id(), MessageQuery::oldest()).await {
            Ok(page) => {
                noticed += page.damaged.len();
                for stored in page.items {
                    let sent = mail.iter().find(|sealed| sealed.message.id == stored.message.id);
                    let message = talkbox_core::Message {
                        envelope: stored.message.envelope,
                        ..sent.expect("sent").message.clone()
                    };
                    assert_eq!(stored.message, message);
                }
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Storage);
                noticed += 1;
            }
        }
        if let Ok(page) = store.envelopes(owner.id(), 0, 0).await {
            noticed += page.damaged.len();
            assert!(page.items.iter().all(|envelope| mail.iter().any(|sealed| sealed.envelope == *envelope)));
        }
        store.close().await;
    }
    assert!(noticed > 10, "most flips hit something that proves itself: {noticed}");
}
