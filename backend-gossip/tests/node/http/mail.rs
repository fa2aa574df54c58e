//! Envelopes: in batches, by arrival, by id, and deleted.

use serde_json::{Value, json};
use talkbox_core::{EnvelopeId, custody::CustodyReceipt, event::kind, hex};

use super::support::{get, lines, post, publish};
use crate::support::{NOW, deletion, event, key, node, node_with, wrap, wrap_by};

fn path(of: &talkbox_core::SecretKey) -> String {
    format!("/v1/mailboxes/{}/envelopes", of.id().to_hex())
}

#[tokio::test]
async fn a_batch_is_answered_one_by_one_and_with_one_receipt() {
    let (node, _) = node().await;
    let to = key().id();
    let (first, second) = (wrap(to), wrap(to));
    let statuses = publish(&node, &[&first]).await;
    assert_eq!(statuses[0], json!({"id": first.id().to_hex(), "status": "stored"}));

    let signature = hex::encode(second.signature());
    let forged = second.to_json().replace(&signature, &format!("00{}", &signature[2..]));
    let body = format!("{}nonsense\n\n{}\n{}", lines(&[&first]), second.to_json(), forged);
    let answer = post(&node, "/v1/envelopes", body).send().await.lines();
    assert_eq!(answer[0]["status"], "duplicate");
    assert_eq!(
        (&answer[1]["id"], &answer[1]["status"], &answer[1]["code"]),
        (&Value::Null, &json!("refused"), &json!("malformed"))
    );
    assert_eq!(answer[2]["status"], "stored");
    assert!(answer[3]["status"] == "duplicate" || answer[3]["code"] == "malformed", "{answer:?}");
    let receipt = CustodyReceipt::parse(&answer[4].to_string()).expect("a receipt");
    assert_eq!(receipt.node(), node.key());
    assert_eq!((receipt.stored(), receipt.until()), (NOW, NOW.plus(90 * 86_400)));
    for held in [&first, &second] {
        assert!(receipt.covers(&EnvelopeId::from(held.id())));
    }
}

#[tokio::test]
async fn what_is_refused_says_why_in_a_word() {
    let (node, _) = node_with(|config| config.limits.min_work = 4).await;
    let (owner, author) = (key(), key());
    let bits = |event: &talkbox_core::event::Event| event.id().as_bytes()[0].leading_zeros();
    let expired = event(&author, kind::GIFT_WRAP, NOW, &[&["p", &owner.id().to_hex()], &["expiration", "1"]], "");
    let early = wrap_by(&author, owner.id(), NOW.plus(3_600), &[]);
    let idle = wrap(owner.id());
    let foreign = event(&author, 1, NOW, &[], "");
    let answers = publish(&node, &[&expired, &early, &idle, &foreign]).await;
    let codes: Vec<_> = answers.iter().map(|answer| answer["code"].as_str().unwrap_or_default()).collect();
    assert_eq!(codes, ["expired", "too-early", "pow", "forbidden"], "{answers:?} {}", bits(&idle));
    assert_eq!(answers.len(), 4, "there is no receipt for nothing");
}

#[tokio::test]
async fn a_mailbox_is_listed_in_the_order_of_arrival() {
    let (node, _) = node().await;
    let (owner, other) = (key(), key());
    let author = key();
    // The times go back while the events arrive.
    let mail: Vec<_> = (0..5).map(|at| wrap_by(&author, owner.id(), NOW.minus(at), &[])).collect();
    for event in &mail {
        publish(&node, &[&wrap(other.id()), event]).await;
    }
    let mut listed = Vec::new();
    let mut after = String::new();
    loop {
        let page = get(&node, &format!("{}?limit=2{after}", path(&owner))).by(&owner).send().await.json();
        listed.extend(page["items"].as_array().expect("items").iter().map(|item| item["id"].clone()));
        after = format!("&after={}", page["next"].as_str().expect("a cursor"));
        if page["more"] == false {
            break;
        }
    }
    let sent: Vec<_> = mail.iter().map(|event| json!(event.id().to_hex())).collect();
    assert_eq!(listed, sent);

    let late = wrap(owner.id());
    publish(&node, &[&late]).await;
    let page = get(&node, &format!("{}?limit=2{after}", path(&owner))).by(&owner).send().await.json();
    assert_eq!(page["items"], json!([serde_json::from_str::<Value>(&late.to_json()).expect("JSON")]));
    let empty = get(&node, &path(&key())).by(&key()).send().await;
    assert_eq!(empty.problem(), (403, "forbidden".to_owned()));
    let nobody = key();
    let empty = get(&node, &path(&nobody)).by(&nobody).send().await.json();
    assert_eq!((empty["items"].clone(), empty["more"].clone()), (json!([]), json!(false)));
    assert!(empty["next"].is_string(), "also from here one goes on");
}

#[tokio::test]
async fn a_cursor_of_another_store_is_unknown() {
    let (node, _) = node().await;
    let owner = key();
    publish(&node, &[&wrap(owner.id())]).await;
    let epoch = node.epoch();
    for (cursor, status, code) in [
        (format!("{epoch:016x}.1"), 200, ""),
        (format!("{epoch:016x}.2"), 410, "cursor-unknown"),
        (format!("{:016x}.1", epoch ^ 1), 410, "cursor-unknown"),
        ("1".to_owned(), 400, "malformed"),
    ] {
        for route in ["envelopes", "watch"] {
            let path = format!("/v1/mailboxes/{}/{route}?after={cursor}", owner.id().to_hex());
            if status == 200 {
                assert_eq!(get(&node, &path).by(&owner).open().await.status().as_u16(), 200, "{cursor}");
            } else {
                assert_eq!(get(&node, &path).by(&owner).send().await.problem(), (status, code.to_owned()), "{cursor}");
            }
        }
    }
}

#[tokio::test]
async fn a_mailbox_is_read_by_its_owner_alone() {
    let (node, _) = node().await;
    let (owner, stranger) = (key(), key());
    publish(&node, &[&wrap(owner.id())]).await;
    for route in ["envelopes", "watch"] {
        let path = format!("/v1/mailboxes/{}/{route}", owner.id().to_hex());
        assert_eq!(get(&node, &path).send().await.problem(), (401, "auth-required".to_owned()));
        assert_eq!(get(&node, &path).by(&stranger).send().await.problem(), (403, "forbidden".to_owned()));
        let proof = super::support::proof(node.addr(), &owner, &hyper::Method::GET, "/v1/other", b"");
        let replayed = get(&node, &path).header("authorization", &proof).send().await;
        assert_eq!(replayed.problem(), (401, "auth-required".to_owned()));
        let garbage = get(&node, &path).header("authorization", "Nostr e30=").send().await;
        assert_eq!(garbage.problem(), (401, "auth-required".to_owned()));
    }
    let (open, _) = node_with(|config| config.gate_reads = false).await;
    publish(&open, &[&wrap(owner.id())]).await;
    assert_eq!(get(&open, &path(&owner)).send().await.json()["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn envelopes_are_fetched_by_those_whom_they_concern() {
    let (node, _) = node().await;
    let (owner, author, stranger) = (key(), key(), key());
    let (mine, other) = (wrap_by(&author, owner.id(), NOW, &[]), wrap(owner.id()));
    publish(&node, &[&mine, &other]).await;
    let body = json!({"ids": [other.id().to_hex(), "00".repeat(32), mine.id().to_hex()]}).to_string();
    let fetched = async |key| {
        let answer = post(&node, "/v1/envelopes/get", body.clone()).by(key).send().await;
        answer.lines().iter().map(|event| event["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(fetched(&owner).await, [json!(other.id().to_hex()), json!(mine.id().to_hex())]);
    assert_eq!(fetched(&author).await, [json!(mine.id().to_hex())]);
    assert!(fetched(&stranger).await.is_empty());
    let unnamed = post(&node, "/v1/envelopes/get", body.clone()).send().await;
    assert_eq!(unnamed.problem(), (401, "auth-required".to_owned()));
}

#[tokio::test]
async fn what_is_deleted_does_not_come_back() {
    let (node, _) = node().await;
    let (owner, stranger) = (key(), key());
    let mail = wrap(owner.id());
    publish(&node, &[&mail]).await;
    let delete = |by| post(&node, "/v1/deletions", deletion(by, owner.id(), &[&mail]).to_json()).send();
    assert_eq!(delete(&stranger).await.problem(), (403, "forbidden".to_owned()));
    assert_eq!(delete(&owner).await.json()["status"], "stored");
    let page = get(&node, &path(&owner)).by(&owner).send().await.json();
    assert_eq!(page["items"], json!([]));
    assert_eq!(publish(&node, &[&mail]).await[0]["code"], "deleted");
    let wrong = post(&node, "/v1/deletions", mail.to_json()).send().await;
    assert_eq!(wrong.problem(), (400, "malformed".to_owned()));
}
