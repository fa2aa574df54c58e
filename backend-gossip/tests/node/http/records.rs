//! Records: published, resolved, and what they let a keeper do.

use hyper::Method;
use serde_json::{Value, json};
use talkbox_core::{MailboxRecord, RecordFields, shortcode::Shortcode};

use super::support::{ask, get, publish};
use crate::support::{Client, NOW, event, key, mail as mail_of, node, value, wrap};

#[tokio::test]
async fn a_record_is_resolved_by_its_code_and_lets_keepers_read() {
    let (node, _) = node().await;
    let (owner, keeper, stranger) = (key(), key(), key());
    let code = Shortcode::of(&owner.id());
    let mut fields = RecordFields::new(vec!["gossip:https://node.example".parse().expect("a locator")]);
    fields.keepers = vec![keeper.public()];
    let record = MailboxRecord::sign(&owner, code, fields, NOW).expect("signs").event().clone();
    let put = |json: String| ask(&node, Method::PUT, "/v1/records").body(json).send();
    assert_eq!(put(record.to_json()).await.json()["status"], "stored");
    assert_eq!(put(record.to_json()).await.json()["status"], "duplicate");
    for code in [code.to_string(), code.symbols().to_ascii_lowercase()] {
        let found = get(&node, &format!("/v1/records/{code}")).send().await.json();
        assert_eq!(found["items"], json!([serde_json::from_str::<Value>(&record.to_json()).expect("JSON")]));
    }
    let other = get(&node, &format!("/v1/records/{}", Shortcode::of(&stranger.id()))).send().await.json();
    assert_eq!(other["items"], json!([]));
    assert_eq!(get(&node, "/v1/records/F12TW").send().await.problem(), (400, "malformed".to_owned()));

    let mail = wrap(owner.id());
    publish(&node, &[&mail]).await;
    let path = format!("/v1/mailboxes/{}/envelopes", owner.id().to_hex());
    assert_eq!(get(&node, &path).by(&keeper).send().await.json()["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(get(&node, &path).by(&stranger).send().await.problem().0, 403);
    let fetch = json!({"ids": [mail.id().to_hex()]}).to_string();
    let fetched = async |key| {
        ask(&node, Method::POST, "/v1/envelopes/get").body(fetch.clone()).by(key).send().await.lines().len()
    };
    assert_eq!((fetched(&keeper).await, fetched(&stranger).await), (1, 0));

    // Over a WebSocket as well.
    let mut client = Client::connect_as(&node, &keeper).await;
    assert_eq!(client.ask(json!(["REQ", "a", mail_of(&owner)])).await, json!(["EVENT", "a", value(&mail)]));
    assert_eq!(client.receive().await, json!(["EOSE", "a"]));
    let fresh = wrap(owner.id());
    publish(&node, &[&fresh]).await;
    assert_eq!(client.receive().await, json!(["EVENT", "a", value(&fresh)]), "and what comes later");
    let mut other = Client::connect_as(&node, &stranger).await;
    assert_eq!(other.ask(json!(["REQ", "a", mail_of(&owner)])).await[0], "CLOSED");
    // One who is no keeper any longer.
    let fields = RecordFields::new(vec!["gossip:https://node.example".parse().expect("a locator")]);
    let without = MailboxRecord::sign(&owner, code, fields, NOW.plus(1)).expect("signs").event().clone();
    assert_eq!(put(without.to_json()).await.json()["status"], "stored");
    assert_eq!(client.ask(json!(["REQ", "b", mail_of(&owner)])).await[0], "CLOSED");
}

#[tokio::test]
async fn what_is_no_record_is_refused_as_such() {
    let (node, _) = node().await;
    let owner = key();
    let put = |json: String| ask(&node, Method::PUT, "/v1/records").body(json).send();
    assert_eq!(put(wrap(owner.id()).to_json()).await.problem(), (400, "malformed".to_owned()));
    assert_eq!(put("{}".to_owned()).await.problem(), (400, "malformed".to_owned()));
    let idle = event(&owner, 30787, NOW, &[&["d", Shortcode::of(&owner.id()).symbols()]], "");
    assert_eq!(put(idle.to_json()).await.problem(), (400, "pow".to_owned()));
    let relays = event(&owner, 10050, NOW, &[&["relay", "wss://node.example"]], "");
    assert_eq!(put(relays.to_json()).await.json()["status"], "stored");
    let older = event(&owner, 10050, NOW.minus(1), &[], "");
    assert_eq!(put(older.to_json()).await.problem(), (409, "superseded".to_owned()));
}
