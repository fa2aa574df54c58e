//! What a client may not do.

use hyper::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::{ask, get, lines, post, publish};
use crate::support::{key, node, node_with, wrap};

#[tokio::test]
async fn batches_and_bodies_are_bounded() {
    let (node, _) = node().await;
    let many = "{}\n".repeat(257);
    assert_eq!(post(&node, "/v1/envelopes", many).send().await.problem(), (413, "too-large".to_owned()));
    let large = " ".repeat((4 << 20) + 1);
    assert_eq!(post(&node, "/v1/envelopes", large).send().await.problem(), (413, "too-large".to_owned()));
    assert_eq!(
        post(&node, "/v1/envelopes", vec![b'"', 0xff, b'"']).send().await.problem(),
        (400, "malformed".to_owned())
    );
    let empty = post(&node, "/v1/envelopes", "").send().await;
    assert_eq!((empty.status, &*empty.body), (200, ""));
    let ids = json!({"ids": vec!["00".repeat(32); 257]}).to_string();
    assert_eq!(post(&node, "/v1/have", ids).send().await.problem(), (413, "too-large".to_owned()));
    for wrong in [r#"{"ids":["00"]}"#, r#"{"ids":7}"#, "[]", "", r#"{"ids":["ZZ"]}"#] {
        assert_eq!(post(&node, "/v1/have", wrong).send().await.problem(), (400, "malformed".to_owned()), "{wrong}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let answer = post(&node, "/v1/envelopes", deep).send().await;
    assert_eq!(answer.lines()[0]["code"], "malformed");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let (node, _) = node_with(|config| config.limits.body_timeout = 1).await;
    let mut stream = tokio::net::TcpStream::connect(node.addr()).await.expect("connects");
    let head = "POST /v1/envelopes HTTP/1.1\r\nhost: node\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.expect("sends");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("is answered");
    assert_eq!(&answer, b"HTTP/1.1 400");
}

#[tokio::test]
async fn bodies_are_bounded_over_all_clients() {
    let (node, _) = node_with(|config| config.limits.max_body_bytes_total = 40_000).await;
    let many = vec![wrap(key().id()); 200];
    let body = lines(&many.iter().collect::<Vec<_>>());
    assert_eq!(post(&node, "/v1/envelopes", body).send().await.problem(), (429, "quota".to_owned()));
    let small = lines(&[&wrap(key().id())]);
    assert_eq!(post(&node, "/v1/envelopes", small).send().await.lines()[0]["status"], "stored");
}

#[tokio::test]
async fn events_and_requests_are_counted_per_address() {
    let (node, _) = node_with(|config| {
        config.limits.exempt_loopback = false;
        config.limits.events_per_second = 1;
        config.limits.requests_per_second = 3;
        config.limits.burst_seconds = 2;
    })
    .await;
    let mail = [(); 5].map(|()| wrap(key().id()));
    let answer = post(&node, "/v1/envelopes", lines(&mail.each_ref())).send().await.lines();
    assert!(answer[..5].iter().any(|line| line["code"] == "quota"), "{answer:?}");
    assert_eq!(answer[0]["status"], "stored");
    let mut slowed = false;
    for _ in 0..20 {
        slowed |= post(&node, "/v1/have", json!({"ids": []}).to_string()).send().await.status == 429;
    }
    assert!(slowed);
}

#[tokio::test]
async fn metrics_are_for_whom_the_operator_names() {
    let (node, _) = node_with(|config| config.metrics_from = vec!["10.0.0.0/8".parse().expect("a subnet")]).await;
    assert_eq!(get(&node, "/metrics").send().await.problem(), (403, "forbidden".to_owned()));
    let (node, _) = node_with(|config| config.trusted_proxies = vec!["127.0.0.1".parse().expect("a subnet")]).await;
    let outside = get(&node, "/metrics").header("x-forwarded-for", "192.0.2.7").send().await;
    assert_eq!(outside.problem(), (403, "forbidden".to_owned()), "the proxy is of this machine, and its client is not");
    assert_eq!(get(&node, "/metrics").send().await.status, 200);
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let (node, _) = node().await;
    assert_eq!(get(&node, "/v1/nothing").send().await.problem(), (404, "not-found".to_owned()));
    assert_eq!(get(&node, "/v1/envelopes").send().await.problem().0, 405);
    assert_eq!(get(&node, "/v1/mailboxes/xyz/envelopes").send().await.problem(), (400, "malformed".to_owned()));
    let owner = key().id().to_hex();
    for query in ["limit=0", "limit=501", "limit=x", "since=4"] {
        let path = format!("/v1/mailboxes/{owner}/envelopes?{query}");
        assert!(matches!(get(&node, &path).send().await.problem().0, 400 | 401), "{query}");
    }
}

#[tokio::test]
async fn a_node_says_that_it_lives_and_that_it_is_ready() {
    let (node, _) = node().await;
    assert_eq!(get(&node, "/livez").send().await.body, "ok\n");
    let ready = get(&node, "/readyz").send().await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json()["ready"], true);
    assert_eq!(ready.json()["epoch"], format!("{:016x}", node.epoch()));
    publish(&node, &[&wrap(key().id())]).await;
    let metrics = get(&node, "/metrics").send().await;
    assert_eq!(metrics.kind, "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        r#"talkbox_node_events_total{origin="client",outcome="stored"} 1"#,
        "talkbox_node_held 1",
        "talkbox_node_ready 1",
        r#"talkbox_node_http_answers_total{status="2xx"} 1"#,
    ] {
        assert!(metrics.body.lines().any(|found| found == line), "{line}: {}", metrics.body);
    }
    let preflight = ask(&node, Method::OPTIONS, "/v1/envelopes").header("origin", "https://page.example").open().await;
    assert_eq!(preflight.status().as_u16(), 204);
    assert_eq!(preflight.headers()["access-control-allow-origin"], "*");
}
