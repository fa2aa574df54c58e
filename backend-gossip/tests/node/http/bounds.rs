//! What a client may not do.

use std::collections::BTreeSet;

use hyper::Method;
use serde_json::json;
use talkbox_backend_gossip::node::Node;
use talkbox_core::{SecretKey, event::Event};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::support::{ask, get, lines, post, proof, publish};
use crate::support::{NOW, PATIENCE, deletion, ids, key, node, node_with, wrap, wrap_by};

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

/// A proxy on this machine that nobody named makes the whole world look like this machine.
#[tokio::test]
async fn what_somebody_passes_on_is_not_of_this_machine() {
    for trusted in [vec![], vec!["127.0.0.1".parse().expect("a subnet")]] {
        let (node, _) = node_with(|config| config.trusted_proxies = trusted.clone()).await;
        for (name, value) in [
            ("x-forwarded-for", "unknown"),
            ("x-forwarded-for", "127.0.0.1"),
            ("forwarded", "for=192.0.2.7"),
            ("x-real-ip", "::1"),
        ] {
            let passed = get(&node, "/metrics").header(name, value).send().await;
            assert_eq!(passed.problem(), (403, "forbidden".to_owned()), "{name}: {value}");
        }
        let metrics = get(&node, "/metrics").header("origin", "https://page.example").open().await;
        assert_eq!(metrics.status().as_u16(), 200);
        assert!(!metrics.headers().contains_key("access-control-allow-origin"), "no page may read it");
    }
}

#[tokio::test]
async fn pages_read_what_is_wrong_too() {
    let (node, _) = node().await;
    for (path, status) in [("/v1/nothing", 404), ("/nothing", 404), ("/v1/envelopes", 405), ("/livez", 200)] {
        let answer = get(&node, path).open().await;
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.headers()["access-control-allow-origin"], "*", "{path}");
        assert_eq!(answer.headers()["cache-control"], "no-store", "{path}");
    }
    assert_eq!(get(&node, "/v1/envelopes").open().await.headers()["allow"], "POST");
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let (node, _) = node().await;
    assert_eq!(get(&node, "/v1/nothing").send().await.problem(), (404, "not-found".to_owned()));
    assert_eq!(get(&node, "/v1/envelopes").send().await.problem(), (405, "wrong-method".to_owned()));
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

/// Mail of some megabytes, more than the kernel holds for a connection.
async fn crowd(node: &Node, owner: &SecretKey, envelopes: usize) -> Vec<Event> {
    let tags = || vec![vec!["p".to_owned(), owner.id().to_hex()]];
    let content = "x".repeat(60_000);
    let large = || Event::sign(&key(), NOW, talkbox_core::event::kind::GIFT_WRAP, tags(), content.clone());
    let mail: Vec<Event> = (0..envelopes).map(|_| large()).collect();
    for some in mail.chunks(32) {
        assert!(publish(node, &some.iter().collect::<Vec<_>>()).await.iter().all(|line| line["status"] != "refused"));
    }
    mail
}

/// Asks, and reads nothing.
async fn ask_narrowly(node: &Node, owner: &SecretKey, path: &str, body: &str) -> TcpStream {
    let method = if body.is_empty() { Method::GET } else { Method::POST };
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("sets");
    let mut stream = socket.connect(node.addr()).await.expect("connects");
    let (proof, length) = (proof(node.addr(), owner, &method, path, body.as_bytes()), body.len());
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: node\r\nauthorization: {proof}\r\ncontent-length: {length}\r\n");
    stream.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes()).await.expect("sends");
    stream
}

/// The value of a gauge.
async fn gauge(node: &Node, name: &str) -> usize {
    let page = get(node, "/metrics").send().await.body;
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("talkbox_node_{name} ")));
    line.expect("the gauge").parse().expect("a number")
}

#[tokio::test]
async fn a_long_answer_is_read_from_the_store_as_it_is_taken() {
    let (node, _) = node().await;
    let owner = key();
    let mail = crowd(&node, &owner, 256).await;
    let all = json!({"ids": ids(&mail.iter().collect::<Vec<_>>())}).to_string();
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(ask_narrowly(&node, &owner, "/v1/envelopes/get", &all).await);
        let page = format!("/v1/mailboxes/{}/envelopes", owner.id().to_hex());
        waiting.push(ask_narrowly(&node, &owner, &page, "").await);
    }
    let mut first = waiting.remove(0);
    let mut taken = vec![0; 1];
    for stream in waiting.iter_mut().chain([&mut first]) {
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut taken)).await.expect("in time").expect("begins");
    }
    let kept = gauge(&node, "answer_bytes").await;
    assert!(kept > 0 && kept < 16 * 300_000, "16 answers of 15 MB, of which {kept} bytes are kept");
    // What goes before it is read is not in the answer any more.
    let last = deletion(&owner, owner.id(), &[&mail[255]]);
    assert_eq!(publish(&node, &[&last]).await[0]["status"], "stored");
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, first.read_to_end(&mut rest)).await.expect("in time").expect("arrives");
    let rest = String::from_utf8(rest).expect("text");
    assert!(rest.contains(&mail[254].id().to_hex()) && !rest.contains(&mail[255].id().to_hex()));
    drop((first, waiting));
    // Whole pages join again to what they are parts of.
    let (mut found, mut after) = (BTreeSet::new(), String::new());
    loop {
        let path = format!("/v1/mailboxes/{}/envelopes{after}", owner.id().to_hex());
        let page = get(&node, &path).by(&owner).send().await.json();
        let items = page["items"].as_array().expect("items");
        found.extend(items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()));
        if page["more"] == false {
            break;
        }
        after = format!("?after={}", page["next"].as_str().expect("a cursor"));
    }
    assert!(found == ids(&mail[..255].iter().collect::<Vec<_>>()).into_iter().collect(), "{} of 255", found.len());
}

#[tokio::test]
async fn answers_that_nobody_takes_are_bounded_for_each_address() {
    let (node, _) = node_with(|config| {
        config.limits.exempt_loopback = false;
        config.limits.events_per_second = 0;
        config.limits.requests_per_second = 0;
        config.limits.max_answer_bytes_total = 4 << 20;
    })
    .await;
    let owner = key();
    let mail = crowd(&node, &owner, 256).await;
    let all = json!({"ids": ids(&mail.iter().collect::<Vec<_>>())}).to_string();
    let (mut waiting, mut refused) = (Vec::new(), 0);
    for _ in 0..24 {
        let mut stream = ask_narrowly(&node, &owner, "/v1/envelopes/get", &all).await;
        let mut status = [0; 12];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut status)).await.expect("in time").expect("begins");
        refused += usize::from(&status == b"HTTP/1.1 429");
        waiting.push(stream);
    }
    assert!((1..24).contains(&refused), "a quarter of 4 MiB is room for some: {refused} refused");
    drop(waiting);
}

/// Reconciles nothing with all that a mailbox has: the ids that the node names.
async fn named(node: &Node, owner: &SecretKey) -> BTreeSet<String> {
    let mut mine = negentropy::NegentropyStorageVector::new();
    mine.seal().expect("seals");
    let mut engine = negentropy::Negentropy::owned(mine, 0).expect("an engine");
    let (mut have, mut need) = (Vec::new(), Vec::new());
    let mut message = Some(engine.initiate().expect("starts"));
    while let Some(sent) = message {
        let response = post(node, "/v1/reconcile", sent).by(owner).open().await;
        assert_eq!(response.status().as_u16(), 200);
        let body = axum::body::Body::new(response.into_body());
        let answer = axum::body::to_bytes(body, 131_072).await.expect("arrives");
        message = engine.reconcile_with_ids(&answer, &mut have, &mut need).expect("reconciles");
    }
    need.iter().map(|id| talkbox_core::hex::encode(&id.to_bytes())).collect()
}

#[tokio::test]
async fn a_large_mailbox_is_read_once_for_the_messages_of_a_reconciliation() {
    let (node, _) = node().await;
    let (owner, author) = (key(), key());
    let mail: Vec<Event> = (0..1_280).map(|n| wrap_by(&author, owner.id(), NOW.minus(n), &[])).collect();
    for some in mail.chunks(256) {
        publish(&node, &some.iter().collect::<Vec<_>>()).await;
    }
    let all: BTreeSet<String> = ids(&mail.iter().collect::<Vec<_>>()).into_iter().collect();
    for _ in 0..2 {
        assert!(named(&node, &owner).await == all);
        assert_eq!(gauge(&node, "kept_sets").await, 1);
    }
    // What comes and what goes is in the next one.
    let late = wrap(owner.id());
    publish(&node, &[&late, &deletion(&owner, owner.id(), &[&mail[7]])]).await;
    let mut now = all;
    now.remove(&mail[7].id().to_hex());
    now.insert(late.id().to_hex());
    assert!(named(&node, &owner).await == now);
    assert_eq!(gauge(&node, "kept_sets").await, 1, "in the place of the one before");
    let small = key();
    publish(&node, &[&wrap(small.id())]).await;
    assert_eq!(named(&node, &small).await.len(), 1);
    assert_eq!(gauge(&node, "kept_sets").await, 1, "a small one is read again");
}
