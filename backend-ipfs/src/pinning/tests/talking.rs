//! What is said to a service, and how its answers are taken: also those that are none.

use std::time::Duration;

use serde_json::json;
use talkbox_core::{Error, ErrorKind, Retry};

use super::server::{Say, Server, TOKEN};
use crate::pinning::{
    PinService as _,
    api::{Pin, RequestId, State},
};

const CID: &str = "bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";

fn pin() -> Pin {
    Pin {
        cid: CID.parse().expect("a CID"),
        name: "talkbox/1/00/2026-11".to_owned(),
        log: "/orbitdb/zdpuAtest".to_owned(),
        origins: vec!["/ip4/1.1.1.1/tcp/4001".parse().expect("an address")],
    }
}

fn id(text: &str) -> RequestId {
    RequestId::parse(text).expect("an id")
}

/// An error, after it was seen that the token is in none of its forms.
fn told(error: Error) -> Error {
    for shown in [format!("{error:?}"), format!("{error:#?}"), error.to_string()] {
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
    error
}

#[tokio::test]
async fn a_pin_is_added_asked_for_replaced_and_deleted() {
    let server = Server::start().await;
    let client = server.client();
    let added = client.add(&pin()).await.expect("added");
    assert_eq!((added.id.as_str(), added.state), ("request-1", State::Queued));
    let asked = server.asked().remove(0);
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/base/psa/pins"));
    assert_eq!(asked.authorization, format!("Bearer {TOKEN}"));
    let expected = json!({
        "cid": CID, "name": "talkbox/1/00/2026-11", "origins": ["/ip4/1.1.1.1/tcp/4001"],
        "meta": { "talkbox": "/orbitdb/zdpuAtest" },
    });
    assert_eq!(asked.body, expected);
    for state in [State::Queued, State::Pinning, State::Pinned, State::Failed] {
        server.set("request-1", state.as_str());
        assert_eq!(client.get(&added.id).await.expect("asked").state, state);
    }
    let replaced = client.replace(&added.id, &pin()).await.expect("replaced");
    assert_eq!(replaced.id.as_str(), "request-2");
    assert_eq!(client.get(&added.id).await.expect_err("gone").kind(), ErrorKind::NotFound);
    client.delete(&replaced.id).await.expect("deleted");
    assert_eq!(told(client.delete(&replaced.id).await.expect_err("gone")).kind(), ErrorKind::NotFound);
    let routes = server.routes();
    assert_eq!(routes.first().map(String::as_str), Some("GET /pins/request-1"));
    assert_eq!(routes.last().map(String::as_str), Some("DELETE /pins/request-2"));
}

#[tokio::test]
async fn an_id_stays_within_its_place() {
    let server = Server::start().await;
    let client = server.client();
    client.get(&id("../../admin?x=1#y")).await.expect_err("unknown");
    assert_eq!(server.routes(), ["GET /pins/..%2F..%2Fadmin%3Fx=1%23y"]);
}

#[tokio::test]
async fn every_page_is_listed_once() {
    let server = Server::start().await;
    let client = server.client();
    for number in 0..250 {
        let mut inside = server.inside();
        inside.begins_as = ["queued", "pinning", "pinned", "failed"][number % 4];
        inside.add(&json!({ "cid": CID }));
    }
    for (page, requests) in [(1000, 3), (100, 3), (99, 3), (10, 25), (1, 100)] {
        server.inside().page = page;
        let listing = client.list(&[]).await.expect("listed");
        assert_eq!(server.asked().len(), requests, "{page}");
        assert_eq!(listing.has_more, page == 1, "{page}");
        assert_eq!(listing.pins.len(), if page == 1 { 100 } else { 250 });
        assert_eq!(listing.pins[0].id.as_str(), "request-250");
    }
    let other = "bafyreibwzifw52ttrkqlikfzext5akxu7lz4xiwjgwzmqcpdzmp3n5vnbe".parse().expect("a CID");
    assert!(client.list(&[other]).await.expect("listed").pins.is_empty());
    assert!(client.list(&[other, pin().cid]).await.expect("listed").has_more);
}

#[tokio::test]
async fn a_listing_that_goes_in_a_circle_ends() {
    let server = Server::start().await;
    let client = server.client();
    let one = server.inside().add(&json!({ "cid": CID }));
    let page = json!({ "count": 1000, "results": [one, 7] }).to_string();
    for _ in 0..2 {
        server.say("200 OK", "", &page);
    }
    let listing = client.list(&[]).await.expect("listed");
    assert_eq!((listing.pins.len(), listing.unreadable, listing.has_more), (1, 2, true));
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let server = Server::start().await;
    let client = server.client();
    let body = json!({ "error": { "reason": "WHY", "details": format!("because of {TOKEN}") } }).to_string();
    for (status, kind, retries) in [
        ("400 Bad Request", ErrorKind::Refused, false),
        ("401 Unauthorized", ErrorKind::Denied, false),
        ("404 Not Found", ErrorKind::NotFound, false),
        ("409 Conflict", ErrorKind::Refused, false),
        ("429 Too Many Requests", ErrorKind::RateLimited, true),
        ("500 Internal Server Error", ErrorKind::Unreachable, true),
        ("503 Service Unavailable", ErrorKind::Unreachable, true),
        ("302 Found", ErrorKind::Unreachable, false),
    ] {
        server.say(status, "retry-after: 7\r\nlocation: http://127.0.0.1:1/\r\n", &body);
        let error = told(client.get(&id("a")).await.expect_err(status));
        assert_eq!((error.kind(), error.is_retryable()), (kind, retries), "{status}");
        assert!(error.to_string().contains("WHY: because of (hidden)"), "{error}");
        assert_eq!(error.context("service"), Some("mock"));
        if retries {
            assert_eq!(error.retry_advice(), Retry::After(Some(Duration::from_secs(7))));
        }
    }
    let routes = server.routes();
    assert!(routes.iter().all(|route| route == "GET /pins/a"), "no redirect is followed: {routes:?}");
}

#[tokio::test]
async fn a_wrong_token_is_denied_and_not_shown() {
    let server = Server::start().await;
    let client = server.client_with("s3cr3t.other", "wrong");
    assert_eq!(told(client.add(&pin()).await.expect_err("denied")).kind(), ErrorKind::Denied);
    assert_eq!(told(client.list(&[]).await.expect_err("denied")).kind(), ErrorKind::Denied);
    let listed = format!("{client:?}");
    assert!(!listed.contains("s3cr3t"), "{listed}");
}

#[tokio::test]
async fn an_endpoint_without_a_service_is_told_as_such() {
    let server = Server::start().await;
    let client = server.client();
    for _ in 0..2 {
        server.say("404 Not Found", "", "<html>");
    }
    assert_eq!(told(client.add(&pin()).await.expect_err("none")).kind(), ErrorKind::Unsupported);
    assert_eq!(told(client.list(&[]).await.expect_err("none")).kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn hostile_answers_are_errors() {
    let server = Server::start().await;
    let client = server.client();
    let other = "bafyreibwzifw52ttrkqlikfzext5akxu7lz4xiwjgwzmqcpdzmp3n5vnbe";
    let another_pin = json!({ "requestid": "a", "status": "pinned", "pin": { "cid": other } }).to_string();
    let deep = "[".repeat(100_000);
    for body in ["", "null", "[]", "7", "{", "{\"requestid\":", &deep, &another_pin] {
        server.say("200 OK", "", body);
        assert_eq!(told(client.add(&pin()).await.expect_err(body)).kind(), ErrorKind::Unexpected);
    }
    let huge = "x".repeat(300 * 1024);
    server.say("200 OK", "", &huge);
    assert_eq!(told(client.get(&id("a")).await.expect_err("huge")).kind(), ErrorKind::TooLarge);
    let endless = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_vec();
    for raw in
        [endless, b"SSH-2.0-x\r\n".to_vec(), b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec(), Vec::new()]
    {
        server.inside().say.push_back(Say::Raw(raw));
        let error = told(client.get(&id("a")).await.expect_err("no answer"));
        assert!(matches!(error.kind(), ErrorKind::TooLarge | ErrorKind::Unreachable), "{error}");
    }
}

#[tokio::test]
async fn a_service_that_says_nothing_is_not_waited_for() {
    let server = Server::start().await;
    let client = server.client().deadline(Duration::from_millis(50));
    server.inside().say.push_back(Say::Nothing);
    let error = told(client.get(&id("a")).await.expect_err("silent"));
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Timeout, true));
}

#[tokio::test]
async fn a_request_is_never_sent_twice_by_itself() {
    let server = Server::start().await;
    let client = server.client();
    client.add(&pin()).await.expect("added");
    server.inside().say.push_back(Say::DoneUnheard);
    assert_eq!(told(client.add(&pin()).await.expect_err("unheard")).kind(), ErrorKind::Unreachable);
    assert_eq!(server.routes(), ["POST /pins", "POST /pins"]);
}
