//! Answers that go on.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _};
use talkbox_core::ErrorKind;
use talkbox_net::{Bounds, EventLimits, StreamLimits, events, lines};
use tokio::{sync::Notify, time::Instant};

use crate::support::{CHUNKED, LIMITS, Memory, NODE, STREAM, Server, Step, answer, chunk, get, http, http_in, say};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn each_part_is_there_when_it_has_come() {
    let next = Arc::new(Notify::new());
    let told = Arc::clone(&next);
    let server = Server::start(move |_| {
        let wait = Step::Await(Arc::clone(&told));
        vec![say(CHUNKED), wait.clone(), chunk("one"), wait.clone(), chunk("two"), wait, say("0\r\n\r\n")]
    })
    .await;
    let http = http();
    let answer = http.stream(get(server.url("/")), STREAM).await.expect("a head before any body");
    assert_eq!(answer.status.as_u16(), 200);
    let mut chunks = answer.chunks;
    for part in ["one", "two"] {
        next.notify_one();
        assert_eq!(chunks.next().await.expect("a part").expect("whole"), part);
    }
    next.notify_one();
    assert!(chunks.next().await.is_none());
    // What ended as it should is asked again.
    next.notify_one();
    let mut chunks = http.stream(get(server.url("/")), STREAM).await.expect("a stream").chunks;
    assert_eq!(chunks.next().await.expect("a part").expect("whole"), "one");
    assert_eq!(server.seen.accepted(), 1);
}

#[tokio::test(start_paused = true)]
async fn silence_ends_it_and_signs_of_life_do_not() {
    let memory = Memory::new(|_| {
        let beats = (0..20).flat_map(|_| [Step::Pause(8 * SECOND), chunk(":\n")]);
        [say(CHUNKED)].into_iter().chain(beats).chain([Step::Hang]).collect()
    });
    let http = http_in(&memory, Bounds::default());
    let limits = StreamLimits { idle: 10 * SECOND, ..STREAM };
    let mut chunks = http.stream(get(NODE), limits).await.expect("a stream").chunks;
    for _ in 0..20 {
        assert_eq!(chunks.next().await.expect("a part").expect("a beat"), ":\n");
    }
    let last = Instant::now();
    let error = chunks.next().await.expect("its end").expect_err("silence");
    assert_eq!((error.kind(), last.elapsed().as_secs()), (ErrorKind::Timeout, 10));
    assert!(error.to_string().contains("silent for 10 s (node: http://node.example)"), "{error}");
    assert!(chunks.next().await.is_none());
    memory.seen.ended(1).await;
}

#[tokio::test(start_paused = true)]
async fn its_head_has_a_deadline() {
    for steps in [vec![Step::Hang], vec![Step::Drip(b"HTTP/1.1 200 OK\r\n".to_vec(), SECOND)]] {
        let memory = Memory::new(move |_| steps.clone());
        let limits = StreamLimits { head: 5 * SECOND, ..STREAM };
        let start = Instant::now();
        let error = http_in(&memory, Bounds::default()).stream(get(NODE), limits).await.expect_err("too late");
        assert_eq!((error.kind(), start.elapsed().as_secs()), (ErrorKind::Timeout, 5));
        memory.seen.ended(1).await;
    }
}

#[tokio::test]
async fn dropping_it_ends_the_connection() {
    let server = Server::start(|asked| match asked.number {
        0 => vec![say(CHUNKED), chunk("first"), Step::Hang],
        _ => vec![Step::Hang],
    })
    .await;
    let http = http();
    let mut chunks = http.stream(get(server.url("/")), STREAM).await.expect("a stream").chunks;
    chunks.next().await.expect("a part").expect("whole");
    assert_eq!(server.seen.ended_yet(), 0);
    drop(chunks);
    server.seen.ended(1).await;

    // The same is true of a request, and of a stream before its head.
    for number in [2, 3] {
        let asking = async {
            if number == 2 {
                http.request(get(server.url("/")), LIMITS).await.map(drop)
            } else {
                http.stream(get(server.url("/")), STREAM).await.map(drop)
            }
        };
        let heard = async {
            while server.seen.asked().len() < number {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            _ = asking => panic!("nobody answers"),
            () = heard => {}
        }
        server.seen.ended(number).await;
    }
}

#[tokio::test]
async fn it_is_bounded_and_may_break_off() {
    for (steps, kind) in [
        (vec![say(CHUNKED), chunk("12345678"), chunk("9"), Step::Hang], ErrorKind::TooLarge),
        (vec![say(CHUNKED), chunk("12345678"), Step::Close], ErrorKind::Unreachable),
        (vec![say(CHUNKED), chunk("12345678"), say("garbage"), Step::Hang], ErrorKind::Unreachable),
    ] {
        let server = Server::start(move |_| steps.clone()).await;
        let limits = StreamLimits { max_response_bytes: 8, ..STREAM };
        let mut chunks = http().stream(get(server.url("/")), limits).await.expect("a stream").chunks;
        assert_eq!(chunks.next().await.expect("a part").expect("whole"), "12345678");
        assert_eq!(chunks.next().await.expect("its end").expect_err("an error").kind(), kind);
        assert!(chunks.next().await.is_none());
        server.seen.ended(1).await;
    }
    let server = Server::start(|_| vec![answer("123456789")]).await;
    let limits = StreamLimits { max_response_bytes: 8, ..STREAM };
    let error = http().stream(get(server.url("/")), limits).await.expect_err("its length was said");
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

/// A body larger than all buffers: whoever does not read it is not sent it.
#[tokio::test(start_paused = true)]
async fn what_is_not_read_does_not_fill_the_memory() {
    let memory = Memory::new(|_| {
        let parts = (0..1_000).map(|_| chunk(&"x".repeat(10_000)));
        [say(CHUNKED)].into_iter().chain(parts).chain([say("0\r\n\r\n"), Step::Close]).collect()
    });
    let http = http_in(&memory, Bounds::default());
    let chunks = http.stream(get(NODE), STREAM).await.expect("a stream").chunks;
    // As long as it takes: what does not wait for the reader would all be sent by then.
    tokio::time::sleep(3_600 * SECOND).await;
    assert_eq!(memory.seen.ended_yet(), 0);
    let whole: usize =
        chunks.map_ok(|chunk| chunk.len()).try_fold(0, async |sum, length| Ok(sum + length)).await.expect("all");
    assert_eq!(whole, 10_000_000);
}

#[tokio::test]
async fn events_and_lines_come_out_of_it() {
    let server = Server::start(|asked| {
        let parts = if asked.head.starts_with("GET /watch") {
            vec![chunk(": live\n\nid: a.1\nda"), chunk("ta: {}\r"), chunk("\n\r\n")]
        } else {
            vec![chunk("{\"id\":1}\n{\"i"), chunk("d\":2}\n")]
        };
        [say(CHUNKED)].into_iter().chain(parts).chain([say("0\r\n\r\n")]).collect()
    })
    .await;
    let http = http();
    let body = http.stream(get(server.url("/watch")), STREAM).await.expect("a stream").chunks;
    let found: Vec<_> =
        events(body, EventLimits { max_line: 100, max_event: 100 }).try_collect().await.expect("events");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].id.as_str(), found[0].data.as_str()), ("a.1", "{}"));
    let body = http.stream(get(server.url("/get")), STREAM).await.expect("a stream").chunks;
    let found: Vec<_> = lines(body, 100).try_collect().await.expect("lines");
    assert_eq!(found, ["{\"id\":1}", "{\"id\":2}"]);
    assert_eq!(server.seen.accepted(), 1);
}
