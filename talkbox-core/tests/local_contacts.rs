//! Contacts, conversations, settings and requests to delete in the local store.

use std::{sync::OnceLock, time::Duration};

use talkbox_core::{
    DeleteRequest, Deletion, DeletionState, ErrorKind, MailboxRecord, PublicKey, RecordFields, Refusal, SecretKey,
    Shortcode, address::to_npub, local::Pin,
};

#[expect(dead_code, reason = "each test program uses a part of it")]
mod local_common;
use local_common::*;

/// Records cost work and codes cost time: one key and its code for all tests.
fn friend() -> &'static (SecretKey, Shortcode) {
    static FRIEND: OnceLock<(SecretKey, Shortcode)> = OnceLock::new();
    FRIEND.get_or_init(|| {
        let key = secret();
        let code = Shortcode::of(&key.id());
        (key, code)
    })
}

fn record(key: &SecretKey, code: Shortcode, at: u64) -> MailboxRecord {
    let fields = RecordFields::new(vec!["nostr:wss://a.example".parse().expect("a locator")]);
    MailboxRecord::sign(key, code, fields, talkbox_core::Timestamp(at)).expect("signs")
}

#[tokio::test]
async fn a_code_means_the_first_key_for_ever() {
    let (store, _) = memory().await;
    let (key, code) = friend();
    let (old, new) = (record(key, *code, NOW.secs() - 10), record(key, *code, NOW.secs()));
    assert_eq!(store.pinned(*code).await.expect("reads"), None);
    assert_eq!(store.pin(&old, *code).await.expect("pins"), Pin::First);
    assert_eq!(store.pin(&new, *code).await.expect("pins"), Pin::Updated);
    assert_eq!(store.pin(&old, *code).await.expect("pins"), Pin::Unchanged);
    assert_eq!(store.pin(&record(key, *code, NOW.secs() + 901), *code).await.expect("pins"), Pin::Unchanged);
    assert_eq!(store.pinned(*code).await.expect("reads"), Some(new.clone()));
    assert_eq!(store.pinned_by_id(key.id()).await.expect("reads"), Some(new.clone()));
    assert_eq!(store.pins().await.expect("reads"), std::slice::from_ref(&new));

    let mallory = secret();
    let error = store.pin(&record(&mallory, *code, NOW.secs()), *code).await.expect_err("a second key");
    assert_eq!(error.kind(), ErrorKind::VerificationFailed);
    assert_eq!(error.context("pinned"), Some(to_npub(&key.id()).as_str()));
    assert_eq!(error.context("offered"), Some(to_npub(&mallory.id()).as_str()));
    assert_eq!(store.pinned(*code).await.expect("reads"), Some(new));
    assert!(store.unpin(*code).await.expect("forgets"));
    assert_eq!(store.pinned_by_id(key.id()).await.expect("reads"), None);
    let future = record(key, *code, NOW.secs() + 901);
    assert_eq!(store.pin(&future, *code).await.expect_err("from the future").kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn failed_candidates_are_remembered_for_a_while() {
    let (store, clock) = memory().await;
    let (_, code) = friend();
    let keys = [PublicKey::from_bytes([1; 32]), PublicKey::from_bytes([2; 32])];
    for key in [keys[1], keys[0], keys[1]] {
        store.remember_failed(*code, key).await.expect("remembers");
    }
    assert_eq!(store.failed_candidates(*code).await.expect("reads"), keys);
    clock.advance(Duration::from_secs(91 * 86_400));
    assert_eq!(store.sweep().await.expect("sweeps").candidates, 2);
    assert!(store.failed_candidates(*code).await.expect("reads").is_empty());
}

#[tokio::test]
async fn candidates_of_a_flood_are_bounded_and_the_newest_stay() {
    let (store, clock) = memory().await;
    let (_, code) = friend();
    let key = |number: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        PublicKey::from_bytes(bytes)
    };
    let all = (0..4_100).map(|number| store.remember_failed(*code, key(number)));
    for done in futures_util::future::join_all(all).await {
        done.expect("remembers");
    }
    clock.advance(Duration::from_secs(1));
    store.remember_failed(*code, key(9_999)).await.expect("remembers");
    let kept = store.failed_candidates(*code).await.expect("reads");
    assert_eq!(kept.len(), 4_096);
    assert!(kept.contains(&key(9_999)));
}

#[tokio::test]
async fn a_conversation_keeps_its_key() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("store.db");
    let (one, other) = (open(&path).await, open(&path).await);
    let (a, b) = (secret().id(), secret().id());
    let (first, second) = tokio::join!(one.conversation_key(a), other.conversation_key(a));
    let (first, second) = (first.expect("a key"), second.expect("a key"));
    assert_eq!(first.public(), second.public());
    assert_ne!(one.conversation_key(b).await.expect("a key").public(), first.public());
    one.close().await;
    let listed = other.conversations().await.expect("reads");
    assert_eq!(listed.len(), 2);
    let found = listed.iter().find(|conversation| conversation.recipient == a).expect("there");
    assert_eq!((found.key.public(), found.created_at), (first.public(), NOW));
    other.forget_conversation(a).await.expect("forgets");
    assert_ne!(other.conversation_key(a).await.expect("a key").public(), first.public());
}

#[tokio::test]
async fn settings_are_kept_clear_and_sealed() {
    let (store, _) = memory().await;
    assert_eq!(store.setting("a").await.expect("reads"), None);
    store.set_setting("a", Some(b"1")).await.expect("sets");
    store.set_setting("a", Some(b"2")).await.expect("sets");
    store.set_secret("a", Some(b"3")).await.expect("sets");
    assert_eq!(store.setting("a").await.expect("reads").as_deref(), Some(&b"2"[..]));
    assert_eq!(store.secret("a").await.expect("reads").expect("there").as_slice(), b"3");
    store.set_setting("a", None).await.expect("removes");
    store.set_secret("a", None).await.expect("removes");
    assert!(store.setting("a").await.expect("reads").is_none() && store.secret("a").await.expect("reads").is_none());
    assert_eq!(store.set_secret("check", None).await.expect_err("its own").kind(), ErrorKind::InvalidInput);
    let large = vec![0; 64 * 1024 + 1];
    assert_eq!(store.set_setting("a", Some(&large)).await.expect_err("large").kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn a_request_to_delete_travels_until_all_have_confirmed() {
    let (store, clock) = memory().await;
    let owner = secret();
    let (one, two) = (sealed("one", &owner), sealed("two", &owner));
    store.ingest(batch(&owner, "a", &[&one, &two])).await.expect("ingests");
    store.delete(owner.id(), &[one.message.id], &[]).await.expect("deletes");
    let wanted = store.deletions_to_sign(owner.id()).await.expect("reads");
    assert_eq!(wanted, [one.envelope.id()]);
    let request = DeleteRequest::sign(&owner, owner.id(), &wanted, NOW).expect("signs");
    store.add_deletion(&request, &[holder("a"), holder("b")]).await.expect("keeps");
    assert!(store.deletions_to_sign(owner.id()).await.expect("reads").is_empty());

    let pending = store.pending_deletions(10).await.expect("reads");
    assert_eq!((&pending[0].request, &pending[0].at[..]), (&request, &[holder("a"), holder("b")][..]));
    let id = request.event().id();
    let next = Some(NOW.plus(60));
    let outcome = Deletion {
        holders: vec![(holder("a"), DeletionState::Confirmed)],
        refused: vec![Refusal::new(holder("b"), ErrorKind::Unreachable, "gone")],
    };
    store.settle_deletion(id, &outcome, next).await.expect("settles");
    assert!(store.holdings(owner.id(), one.envelope.id()).await.expect("reads").is_empty());
    assert!(store.pending_deletions(10).await.expect("reads").is_empty(), "not yet");
    clock.advance(Duration::from_secs(60));
    assert_eq!(store.pending_deletions(10).await.expect("reads")[0].at, [holder("b")]);
    let outcome = |state| Deletion { holders: vec![(holder("b"), state)], refused: Vec::new() };
    store.settle_deletion(id, &outcome(DeletionState::Requested), next).await.expect("settles");
    assert_eq!(store.pending_deletions(10).await.expect("reads").len(), 1, "requested is not confirmed");
    store.settle_deletion(id, &outcome(DeletionState::Confirmed), next).await.expect("settles");
    assert!(store.pending_deletions(10).await.expect("reads").is_empty());
    let unknown = talkbox_core::EventId::from_bytes([1; 32]);
    let error = store.settle_deletion(unknown, &outcome(DeletionState::Confirmed), None).await.expect_err("unknown");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
