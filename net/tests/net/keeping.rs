//! Connections that are kept, and those that wait.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::join_all};
use talkbox_core::ErrorKind;
use talkbox_net::{Bounds, Http, Limits, Request, Trust};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::Notify,
    task::yield_now,
    time::Instant,
};

use crate::support::{
    Asked, CHUNKED, LIMITS, Memory, NODE, STREAM, Server, Step, answer, chunk, get, http, http_in, say,
};

const SECOND: Duration = Duration::from_secs(1);

fn bounds(change: impl FnOnce(&mut Bounds)) -> Bounds {
    let mut bounds = Bounds::default();
    change(&mut bounds);
    bounds
}

async fn ask_at_once(http: &Http, number: usize) {
    for answer in join_all((0..number).map(|_| http.request(get(NODE), LIMITS))).await {
        answer.expect("an answer");
    }
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_question() {
    let server = Server::start(|asked| match asked.number % 3 {
        0 => vec![answer("one")],
        1 => vec![say(CHUNKED), chunk("o"), chunk("ne"), say("0\r\n\r\n")],
        _ => vec![say("HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\none")],
    })
    .await;
    let http = http();
    for _ in 0..30 {
        assert_eq!(http.request(get(server.url("/")), LIMITS).await.expect("an answer").body, "one");
    }
    assert_eq!(server.seen.accepted(), 1);
    // What a record named may have led elsewhere.
    let foreign = Request::get(server.url("/"), Trust::ForeignAnywhere);
    for _ in 0..2 {
        http.request(foreign.clone(), LIMITS).await.expect("an answer");
    }
    assert_eq!(server.seen.accepted(), 2);
}

#[tokio::test]
async fn a_connection_that_ended_meanwhile_costs_nothing() {
    let end = Arc::new(Notify::new());
    let told = Arc::clone(&end);
    let server = Server::start(move |asked| match asked.number {
        0 => vec![say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"), Step::Close],
        1 => vec![answer(""), Step::Await(Arc::clone(&told)), Step::Close],
        _ => vec![answer("")],
    })
    .await;
    let http = http();
    http.request(get(server.url("/")), LIMITS).await.expect("the last answer of this connection");
    http.request(get(server.url("/")), LIMITS).await.expect("on another one");
    end.notify_one();
    server.seen.ended(2).await;
    http.request(get(server.url("/")), LIMITS).await.expect("on a third one");
    assert_eq!((server.seen.accepted(), server.seen.asked().len()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn of_the_kept_connections_one_that_has_ended_is_passed_over() {
    let end = Arc::new(Notify::new());
    let told = Arc::clone(&end);
    let memory = Memory::new(move |asked| match asked.number {
        // It is kept last, and would be the first to be used.
        1 => vec![Step::Pause(2 * SECOND), answer(""), Step::Await(Arc::clone(&told)), Step::Close],
        _ => vec![Step::Pause(SECOND), answer("")],
    });
    let http = http_in(&memory, Bounds::default());
    ask_at_once(&http, 2).await;
    end.notify_one();
    memory.seen.ended(1).await;
    ask_at_once(&http, 1).await;
    assert_eq!(memory.seen.asked().iter().map(|asked| asked.connection).collect::<Vec<_>>(), [0, 1, 0]);
}

/// It ends just when the request comes: the request was written, and nobody knows whether it was read.
#[tokio::test]
async fn what_a_kept_connection_did_not_answer_is_asked_once_more() {
    let server = Server::start(|asked| match asked.number {
        1 => vec![Step::Close],
        _ => vec![answer("there")],
    })
    .await;
    let http = http();
    let post = Request::post(server.url("/"), Trust::Configured, "the same");
    for _ in 0..2 {
        assert_eq!(http.request(post.clone(), LIMITS).await.expect("an answer").body, "there");
    }
    let asked = server.seen.asked();
    assert_eq!(asked.iter().map(|asked| asked.connection).collect::<Vec<_>>(), [0, 0, 1]);
    assert!(asked.iter().all(|asked| asked.body == b"the same"));

    // Once, and not for ever.
    let server = Server::start(|asked| if asked.number == 0 { vec![answer("")] } else { vec![Step::Close] }).await;
    http.request(get(server.url("/")), LIMITS).await.expect("an answer");
    let error = http.request(get(server.url("/")), LIMITS).await.expect_err("it always ends");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, true));
    assert_eq!((server.seen.accepted(), server.seen.asked().len()), (2, 3));
}

#[tokio::test]
async fn what_a_kept_connection_began_to_answer_is_not_asked_again() {
    let half_answers = ["H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", "garbage\r\n\r\n"];
    for half in half_answers {
        let server = Server::start(move |asked| match asked.number {
            1 => vec![say(half), Step::Close],
            _ => vec![answer("")],
        })
        .await;
        let http = http();
        http.request(get(server.url("/")), LIMITS).await.expect("an answer");
        let error = http.request(get(server.url("/")), LIMITS).await.expect_err("half an answer");
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert_eq!((server.seen.accepted(), server.seen.asked().len()), (1, 2));
    }
}

/// Bytes that nobody asked for must not become the answer to the next question.
#[tokio::test]
async fn what_comes_unasked_answers_nothing() {
    let server = Server::start(|asked| match asked.number {
        0 => {
            vec![say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged")]
        }
        _ => vec![answer("true")],
    })
    .await;
    let http = http();
    http.request(get(server.url("/")), LIMITS).await.expect("an answer");
    assert_eq!(http.request(get(server.url("/")), LIMITS).await.expect("an answer").body, "true");
    assert_eq!(server.seen.accepted(), 2);
}

/// Whoever has answered without reading all of the request is of no more use, but the answer is. The rest of the request
/// is not sent after it.
#[tokio::test]
async fn an_answer_that_comes_early_is_an_answer() {
    // More than all buffers between the two.
    const SIZE: usize = 32 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let http = http();
    for _ in 0..2 {
        let serving = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            stream.read_u8().await.expect("a request");
            let head = "HTTP/1.1 413 Too Large\r\ncontent-length: 8\r\n\r\ntoo much";
            stream.write_all(head.as_bytes()).await.expect("is read");
            stream
        };
        let big = Request::post(url.parse().expect("a URL"), Trust::Configured, vec![b'x'; SIZE]);
        let (answer, mut stream) = tokio::join!(http.request(big, LIMITS), serving);
        let answer = answer.expect("an answer");
        assert_eq!((answer.status.as_u16(), &*answer.body), (413, &b"too much"[..]));
        let (mut rest, mut buffer) = (0, vec![0; 64 * 1024]);
        // A connection that is cut may end with an error.
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            rest += read;
        }
        assert!(rest < SIZE, "it was cut");
    }
}

#[tokio::test(start_paused = true)]
async fn so_many_ask_at_once_and_the_others_wait() {
    let memory = Memory::new(|_| vec![Step::Pause(SECOND), answer("")]);
    let http = http_in(&memory, bounds(|bounds| bounds.requests = 2));
    let start = Instant::now();
    ask_at_once(&http, 6).await;
    assert_eq!(start.elapsed().as_secs(), 3);
    assert_eq!((memory.seen.most_at_once(), memory.seen.accepted()), (2, 2));
    // Another endpoint has turns of its own.
    let start = Instant::now();
    let others = (0..4).map(|number| http.request(get(format!("http://{number}.example")), LIMITS));
    join_all(others).await.into_iter().for_each(|answer| drop(answer.expect("an answer")));
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn waiting_counts_and_whoever_gives_up_leaves_no_gap() {
    let memory = Memory::new(|_| vec![Step::Pause(10 * SECOND), answer("")]);
    let http = http_in(&memory, bounds(|bounds| bounds.requests = 1));
    let first = tokio::spawn({
        let http = http.clone();
        async move { http.request(get(NODE), LIMITS).await }
    });
    while memory.seen.asked().is_empty() {
        yield_now().await;
    }
    let limits = Limits { deadline: SECOND, ..LIMITS };
    let error = http.request(get(NODE), limits).await.expect_err("too late");
    assert_eq!((error.kind(), memory.seen.asked().len()), (ErrorKind::Timeout, 1));
    assert!(http.request(get(NODE), LIMITS).now_or_never().is_none(), "it waits, and is dropped");
    first.await.expect("no panic").expect("an answer");
    http.request(get(NODE), LIMITS).await.expect("an answer");
    assert_eq!((memory.seen.accepted(), memory.seen.asked().len()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn streams_do_not_keep_requests_waiting() {
    let endless = |asked: &Asked| asked.head.contains("/watch");
    let memory =
        Memory::new(move |asked| if endless(asked) { vec![say(CHUNKED), Step::Hang] } else { vec![answer("")] });
    let few = bounds(|bounds| (bounds.requests, bounds.streams) = (1, 2));
    let http = http_in(&memory, few);
    let watch = || http.stream(get("http://node.example/watch"), STREAM);
    let (one, _two) = (watch().await.expect("a stream"), watch().await.expect("a stream"));
    http.request(get(NODE), LIMITS).await.expect("an answer");
    let late = watch().await.expect_err("no third one");
    assert_eq!(late.kind(), ErrorKind::Timeout);
    drop(one);
    watch().await.expect("one has ended");
}

#[tokio::test(start_paused = true)]
async fn unused_connections_end_after_a_while() {
    let memory = Memory::new(|_| vec![answer("")]);
    let http = http_in(&memory, bounds(|bounds| bounds.idle_for = 10 * SECOND));
    let start = Instant::now();
    http.request(get(NODE), LIMITS).await.expect("an answer");
    tokio::time::sleep(9 * SECOND).await;
    http.request(get(NODE), LIMITS).await.expect("an answer");
    assert_eq!(memory.seen.accepted(), 1);
    memory.seen.ended(1).await;
    assert_eq!(start.elapsed().as_secs(), 19);
    http.request(get(NODE), LIMITS).await.expect("an answer");
    assert_eq!(memory.seen.accepted(), 2);
}

#[tokio::test(start_paused = true)]
async fn few_unused_connections_are_kept() {
    let memory = Memory::new(|_| vec![Step::Pause(SECOND), answer("")]);
    let http = http_in(&memory, bounds(|bounds| (bounds.idle, bounds.idle_for) = (2, 3_600 * SECOND)));
    ask_at_once(&http, 5).await;
    memory.seen.ended(3).await;
    ask_at_once(&http, 2).await;
    assert_eq!((memory.seen.accepted(), memory.seen.ended_yet()), (5, 3));
    // To all endpoints together as well: the one that was unused for the longest ends.
    for number in 0..100 {
        http.request(get(format!("http://{number}.example")), LIMITS).await.expect("an answer");
    }
    memory.seen.ended(3 + 2 + 100 - 64).await;
    http.request(get("http://99.example"), LIMITS).await.expect("an answer");
    http.request(get("http://36.example"), LIMITS).await.expect("an answer");
    assert_eq!(memory.seen.accepted(), 105, "these two were kept");
    http.request(get(NODE), LIMITS).await.expect("an answer");
    assert_eq!(memory.seen.accepted(), 106, "and this one was not");
}

#[tokio::test]
async fn closing_ends_all() {
    let server = Server::start(|asked| match asked.number {
        0 => vec![answer("")],
        1 => vec![say(CHUNKED), chunk("first"), Step::Hang],
        _ => vec![Step::Hang],
    })
    .await;
    let http = http();
    http.request(get(server.url("/")), LIMITS).await.expect("an answer");
    let mut stream = http.stream(get(server.url("/")), STREAM).await.expect("a stream").chunks;
    stream.next().await.expect("a chunk").expect("the first");
    let running = tokio::spawn({
        let (http, url) = (http.clone(), server.url("/"));
        async move { http.request(get(url), LIMITS).await }
    });
    while server.seen.asked().len() < 3 {
        yield_now().await;
    }
    http.close().await;
    assert_eq!(running.await.expect("no panic").expect_err("ended").kind(), ErrorKind::Closed);
    let rest = stream.next().await.expect("its end");
    assert_eq!(rest.expect_err("ended").kind(), ErrorKind::Closed);
    assert_eq!(http.request(get(server.url("/")), LIMITS).await.expect_err("too late").kind(), ErrorKind::Closed);
    assert_eq!(http.stream(get(server.url("/")), STREAM).await.expect_err("too late").kind(), ErrorKind::Closed);
    server.seen.ended(2).await;
    http.close().await;
}

#[tokio::test]
async fn the_last_clone_takes_the_connections_with_it() {
    let server = Server::start(|_| vec![answer("")]).await;
    let http = http();
    let other = http.clone();
    http.request(get(server.url("/")), LIMITS).await.expect("an answer");
    drop(http);
    other.request(get(server.url("/")), LIMITS).await.expect("an answer");
    assert_eq!((server.seen.accepted(), server.seen.ended_yet()), (1, 0));
    drop(other);
    server.seen.ended(1).await;
}
