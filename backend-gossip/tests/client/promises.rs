//! What a node promises counts where it signed it, with the key that it showed first.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use talkbox_core::{
    AuditOptions, DeleteOptions, DeleteRequest, DeletionState, EnvelopeId, HoldingState, Level, SecretKey,
};

use crate::{
    hostile::{Hostile, drip, have, ids_of, lines, named_ids, ok, receipt, stored},
    support::{NOW, ack_of, auth, envelopes, holder, honest, ids, key, mailbox, open, put, soon},
};

#[tokio::test]
async fn an_honest_node_signs_until_when_it_holds_an_envelope() {
    let (_node, url) = honest().await;
    let backend = open(&[&url], 5_000).await;
    let sent = envelopes(key().id(), 300);
    for (envelope, receipt) in sent.iter().zip(put(&backend, &sent).await) {
        let receipt = receipt.expect("stored");
        let ack = ack_of(&receipt, &holder(&url));
        assert_eq!(ack.level, Level::Stored);
        // The least of its batch.
        assert!(ack.until.is_some_and(|until| until > NOW && until <= envelope.expires_at()), "{ack:?}");
    }
    let again = put(&backend, &sent[..1]).await.remove(0).expect("there already");
    let ack = ack_of(&again, &holder(&url));
    assert_eq!((ack.level, ack.until), (Level::Duplicate, Some(sent[0].expires_at())));
}

/// A node that answers a batch with this receipt.
async fn signs(make: impl Fn(&SecretKey, &[EnvelopeId]) -> Option<Value> + Send + Sync + 'static) -> Hostile {
    let key = key();
    let signer = key.clone();
    Hostile::with_key(key, move |asked| {
        (asked.path == "/v1/envelopes").then(|| {
            let ids = ids_of(&asked.body);
            lines(ids.iter().map(stored).chain(make(&signer, &ids)))
        })
    })
    .await
}

#[tokio::test]
async fn a_receipt_that_does_not_hold_promises_nothing_and_the_ack_stays() {
    let until = NOW.plus(86_400);
    let good = signs(move |key, ids| Some(receipt(key, ids, NOW, until))).await;
    let backend = open(&[&good.url()], 5_000).await;
    let sent = envelopes(key().id(), 2);
    let receipts = put(&backend, &sent).await;
    assert_eq!(ack_of(receipts[0].as_ref().expect("stored"), &good.holder()).until, Some(until));

    let bad = [
        signs(|_, _| None).await,
        signs(move |_, ids| Some(receipt(&crate::support::key(), ids, NOW, until))).await,
        signs(move |key, _| Some(receipt(key, &[EnvelopeId::from_bytes([9; 32])], NOW, until))).await,
        signs(|key, ids| Some(receipt(key, ids, NOW.minus(100), NOW))).await,
        signs(move |key, ids| Some(receipt(key, ids, NOW.plus(3_600), until))).await,
        signs(move |key, ids| {
            let mut forged = receipt(key, ids, NOW, until);
            forged["tags"][ids.len() + 1][1] = json!(until.plus(1).secs().to_string());
            Some(forged)
        })
        .await,
        signs(|_, _| Some(json!({ "kind": 1788 }))).await,
        signs(|_, _| Some(json!("a receipt"))).await,
    ];
    for (at, node) in bad.iter().enumerate() {
        let backend = open(&[&node.url()], 5_000).await;
        let receipts = put(&backend, &sent).await;
        let ack = ack_of(receipts[0].as_ref().expect("stored"), &node.holder()).clone();
        assert_eq!((ack.level, ack.until), (Level::Stored, None), "receipt {at}");
    }
}

#[tokio::test]
async fn the_key_that_a_node_showed_first_stays_its_key() {
    let (first, second) = (key(), key());
    let (shown, now_signing) = (first.clone(), second.clone());
    static MOVED: AtomicBool = AtomicBool::new(false);
    let node = Hostile::start(move |asked| {
        let key = if MOVED.load(Ordering::SeqCst) { &now_signing } else { &shown };
        match asked.path.as_str() {
            "/" => Some(ok(&json!({ "self": key.public().to_hex() }))),
            "/v1/envelopes" => {
                let ids = ids_of(&asked.body);
                Some(lines(ids.iter().map(stored).chain([receipt(key, &ids, NOW, NOW.plus(60))])))
            }
            _ => None,
        }
    })
    .await;
    let backend = open(&[&node.url()], 5_000).await;
    let sent = envelopes(key().id(), 3);
    let until = async |at: usize| {
        let receipt = put(&backend, &sent[at..=at]).await.remove(0).expect("stored");
        ack_of(&receipt, &node.holder()).until
    };
    assert_eq!(until(0).await, Some(NOW.plus(60)));
    MOVED.store(true, Ordering::SeqCst);
    assert_eq!(until(1).await, None);
    assert_eq!(node.asked("/").iter().filter(|asked| asked.path == "/").count(), 1, "it is asked once");
    let again = open(&[&node.url()], 5_000).await;
    let receipt = put(&again, &sent[2..]).await.remove(0).expect("stored");
    assert_eq!(ack_of(&receipt, &node.holder()).until, Some(NOW.plus(60)), "a new program trusts what it finds first");
}

#[tokio::test]
async fn a_node_that_does_not_show_its_key_is_asked_for_it_once_and_serves_all_the_same() {
    let hangs = Hostile::start(|asked| (asked.path == "/").then(drip)).await;
    let backend = open(&[&hangs.url()], 300).await;
    for envelope in &envelopes(key().id(), 3) {
        let receipt = put(&backend, std::slice::from_ref(envelope)).await.remove(0).expect("stored");
        assert_eq!(ack_of(&receipt, &hangs.holder()).until, None);
    }
    assert_eq!(hangs.asked("/").iter().filter(|asked| asked.path == "/").count(), 1);
}

#[tokio::test]
async fn an_audit_believes_what_is_signed_alone() {
    let until = NOW.plus(86_400);
    let ids = ids(&envelopes(key().id(), 2));
    let audit = async |node: &Hostile| {
        let backend = open(&[&node.url()], 5_000).await;
        let at = node.holder();
        let audit = mailbox(&backend).audit(key().id(), &at, &ids, AuditOptions::default());
        soon(audit).await.expect("answers").into_iter().map(|holding| holding.state).collect::<Vec<_>>()
    };
    let honest = Hostile::start(|_| None).await;
    assert_eq!(audit(&honest).await, [HoldingState::Held { until: Some(until) }; 2]);

    let says = async |make: fn(&SecretKey, &[EnvelopeId]) -> Value| {
        let key = key();
        let signer = key.clone();
        Hostile::with_key(key, move |asked| {
            (asked.path == "/v1/have").then(|| ok(&make(&signer, &named_ids(&asked.body))))
        })
        .await
    };
    let (held, unknown) = (HoldingState::Held { until: Some(until) }, HoldingState::Unknown);
    let unsigned = says(|_, ids| have(ids, None)).await;
    assert_eq!(audit(&unsigned).await, [unknown; 2]);
    let by_another = says(|_, ids| have(ids, Some(receipt(&crate::support::key(), ids, NOW, NOW.plus(60))))).await;
    assert_eq!(audit(&by_another).await, [unknown; 2]);
    let one_of_two = says(|key, ids| have(ids, Some(receipt(key, &ids[..1], NOW, NOW.plus(86_400))))).await;
    assert_eq!(audit(&one_of_two).await, [held, unknown]);
    let swapped = says(|key, ids| {
        let turned: Vec<_> = ids.iter().rev().copied().collect();
        have(&turned, Some(receipt(key, ids, NOW, NOW.plus(86_400))))
    })
    .await;
    assert_eq!(audit(&swapped).await, [unknown; 2]);
    let too_few = says(|key, ids| have(&ids[..1], Some(receipt(key, ids, NOW, NOW.plus(86_400))))).await;
    assert_eq!(audit(&too_few).await, [held, unknown]);
}

#[tokio::test]
async fn a_deletion_is_confirmed_by_what_the_node_says_afterwards() {
    let (_node, url) = honest().await;
    let keeps = Hostile::start(|_| None).await;
    let backend = open(&[&url, &keeps.url()], 5_000).await;
    let owner = key();
    let sent = envelopes(owner.id(), 1);
    put(&backend, &sent).await.remove(0).expect("stored");
    let request = DeleteRequest::sign(&owner, owner.id(), &ids(&sent), NOW).expect("signs");
    let deleting =
        mailbox(&backend).delete(std::slice::from_ref(&request), DeleteOptions::default().auth(Some(auth(&owner))));
    let deletion = soon(deleting).await.remove(0).expect("taken");
    assert_eq!(
        deletion.holders,
        [(holder(&url), DeletionState::Confirmed), (keeps.holder(), DeletionState::Requested)]
    );
}
