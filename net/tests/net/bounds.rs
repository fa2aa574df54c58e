//! What an answer may be.

use std::time::Duration;

use talkbox_core::{Error, ErrorKind};
use talkbox_net::{Bounds, Limits, Method, Request, Trust, header};
use tokio::time::Instant;

use crate::support::{CHUNKED, LIMITS, Memory, NODE, Server, Step, answer, chunk, get, http, http_in, say};

/// Asks a server once that always answers so.
async fn asked(steps: Vec<Step>) -> Result<talkbox_net::Response, Error> {
    let server = Server::start(move |_| steps.clone()).await;
    let answer = http().request(get(server.url("/")), LIMITS).await;
    assert_eq!(server.seen.asked().len(), 1, "nothing that began is asked for again");
    if let Err(error) = &answer {
        assert_eq!(error.context("node"), Some(format!("http://{}", server.address).as_str()));
        server.seen.ended(1).await;
    }
    answer
}

#[tokio::test]
async fn a_body_is_bounded_whether_its_length_is_said_or_not() {
    let (fits, more) = ("x".repeat(1_000), "x".repeat(1_001));
    let in_chunks = |parts: &[&str]| {
        let chunks = parts.iter().map(|part| chunk(part));
        [say(CHUNKED)].into_iter().chain(chunks).chain([say("0\r\n\r\n")]).collect::<Vec<_>>()
    };
    let until_the_end = |body: &str| vec![say(format!("HTTP/1.1 200 OK\r\n\r\n{body}")), Step::Close];
    for steps in [vec![answer(&fits)], in_chunks(&[&fits]), in_chunks(&[&fits[..1], &fits[1..]]), until_the_end(&fits)]
    {
        assert_eq!(asked(steps).await.expect("it fits").body, fits);
    }
    // The one that says its length never sends the body, and need not.
    let said = vec![say("HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n"), Step::Hang];
    let huge = vec![say(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", u64::MAX / 2)), Step::Hang];
    for steps in [said, huge, in_chunks(&[&more]), in_chunks(&[&fits, "x"]), until_the_end(&more)] {
        let error = asked(steps).await.expect_err("too large");
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::TooLarge, false), "{error}");
        assert!(error.message().contains("1000 bytes"), "{error}");
    }
}

#[tokio::test]
async fn what_breaks_off_is_no_answer() {
    for steps in [
        vec![Step::Close],
        vec![say("HTTP/1.1 2"), Step::Close],
        vec![say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n"), Step::Close],
        vec![say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"), Step::Close],
        vec![say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhalf"), Step::Close],
        vec![say(CHUNKED), Step::Close],
        vec![say(CHUNKED), chunk("half"), Step::Close],
        vec![say(CHUNKED), say("5\r\nhalf"), Step::Close],
        vec![say(CHUNKED), chunk("all"), say("0\r\n"), Step::Close],
        vec![say("HTTP/1.1 100 Continue\r\n\r\n"), Step::Close],
    ] {
        let error = asked(steps).await.expect_err("half an answer");
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, true), "{error}");
    }
}

#[tokio::test]
async fn what_is_not_http_is_no_answer() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.9\r\n",
        "220 mail.example ESMTP\r\n",
        "<html></html>",
        "\0\0\0\0\0\0",
        "HTTP/3.7 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nna me: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nz\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    ] {
        let error = asked(vec![say(garbage), Step::Hang]).await.expect_err(garbage);
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{garbage:?}: {error}");
    }
}

#[tokio::test]
async fn heads_are_bounded() {
    let many = |number: usize| "x: y\r\n".repeat(number);
    let fits = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", many(99));
    assert_eq!(asked(vec![say(fits)]).await.expect("it fits").headers.len(), 100);
    for head in [
        format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", many(100)),
        format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(128 * 1024)),
        format!("HTTP/1.1 200 {}", "y".repeat(128 * 1024)),
        format!("HTTP/1.1 200 OK\r\n{}", many(1_000_000)),
    ] {
        let error = asked(vec![say(&head), Step::Hang]).await.expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    }
    let trailers = format!("0\r\n{}", many(100_000));
    asked(vec![say(CHUNKED), say(trailers), Step::Hang]).await.expect_err("trailers are bounded, too");
}

/// However it is spun out: after ten seconds it is over.
#[tokio::test(start_paused = true)]
async fn no_answer_takes_longer_than_its_deadline() {
    let second = Duration::from_secs(1);
    for steps in [
        vec![Step::Hang],
        vec![Step::Drip(b"HTTP/1.1 200 OK\r\n".to_vec(), second)],
        vec![say("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"), Step::Drip(vec![b'x'; 100], second)],
        vec![say(CHUNKED), Step::Drip(b"1\r\nx\r\n".repeat(100), second)],
        vec![say(CHUNKED), say("0\r\n"), Step::Drip(b"x: y\r\n".repeat(100), second)],
        vec![Step::Drip(b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100), Duration::from_millis(1))],
    ] {
        let memory = Memory::new(move |_| steps.clone());
        let http = http_in(&memory, Bounds::default());
        let start = Instant::now();
        let limits = Limits { deadline: 10 * second, ..LIMITS };
        let error = http.request(get(NODE), limits).await.expect_err("too late");
        assert!(start.elapsed() <= 10 * second + Duration::from_millis(1), "{:?}", start.elapsed());
        assert!(matches!(error.kind(), ErrorKind::Timeout), "{error}");
        memory.seen.ended(1).await;
    }
}

#[tokio::test]
async fn an_answer_is_what_was_answered() {
    let elsewhere = Server::start(|_| vec![answer("never asked")]).await;
    let target = elsewhere.url("/").to_string();
    let server = Server::start(move |asked| {
        let status = ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"][asked.number];
        let headers = "set-cookie: a=b\r\ncontent-encoding: gzip\r\ncontent-length: 8";
        vec![say(format!("HTTP/1.1 {status}\r\nlocation: {target}\r\n{headers}\r\n\r\nnot gzip"))]
    })
    .await;
    let http = http();
    for status in [301, 302, 303, 307, 308] {
        let answer = http.request(get(server.url("/")), LIMITS).await.expect("an answer");
        assert_eq!((answer.status.as_u16(), &*answer.body), (status, &b"not gzip"[..]));
        assert_eq!(answer.headers[header::LOCATION], elsewhere.url("/").as_str());
    }
    assert_eq!(elsewhere.seen.accepted(), 0);
    assert!(server.seen.asked().iter().all(|asked| !asked.head.contains("cookie")));
}

#[tokio::test]
async fn a_request_says_what_it_was_told_and_nothing_else() {
    let server = Server::start(|_| vec![answer("")]).await;
    let http = http();
    let url = server.url("/v1/envelopes?after=a%20b&limit=3#fragment");
    let post = Request::post(url.clone(), Trust::Configured, "two\nlines")
        .header(header::CONTENT_TYPE, "application/x-ndjson".parse().expect("a value"))
        .header(header::HOST, "elsewhere.example".parse().expect("a value"));
    http.request(post, LIMITS).await.expect("an answer");
    http.request(get(server.url("")), LIMITS).await.expect("an answer");
    let asked = server.seen.asked();
    let host = server.address;
    assert_eq!(
        asked[0].head,
        format!(
            "POST /v1/envelopes?after=a%20b&limit=3 HTTP/1.1\r\ncontent-type: application/x-ndjson\r\nhost: {host}\r\n\
             content-length: 9\r\n\r\n"
        )
    );
    assert_eq!(asked[0].body, b"two\nlines");
    assert_eq!(asked[1].head, format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
    // A proxy or a server log may be read by others, but not a log of ours.
    let shown = format!("{:?}", get(url));
    assert_eq!(shown, format!("GET http://{host}"));
}

#[tokio::test]
async fn answers_without_a_body_end_with_their_head() {
    let server = Server::start(|asked| match asked.number {
        0 => vec![say("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")],
        1 => vec![say("HTTP/1.1 204 No Content\r\n\r\n")],
        2 => vec![say("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n")],
        _ => vec![answer("done")],
    })
    .await;
    let http = http();
    let ask = async |method: Method| {
        let request = Request::new(method, server.url("/"), Trust::Configured);
        http.request(request, LIMITS).await.expect("an answer").body
    };
    assert_eq!(ask(Method::HEAD).await, "");
    assert_eq!(ask(Method::DELETE).await, "");
    assert_eq!(ask(Method::GET).await, "");
    assert_eq!(ask(Method::GET).await, "done");
    assert_eq!(server.seen.accepted(), 1);
}

#[tokio::test]
async fn errors_name_the_origin_and_no_more() {
    let server =
        Server::start(|_| vec![say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nanswer-secret"), Step::Close]).await;
    let request = Request::post(server.url("/path-secret?query-secret"), Trust::Configured, "body-secret");
    let error = http().request(request, Limits { max_response_bytes: 1, ..LIMITS }).await.expect_err("too large");
    let shown = format!("{error} {error:?}");
    assert!(shown.contains(&format!("(node: http://{})", server.address)), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
    for bad in ["ftp://node.example", "ws://node.example", "http://user-secret@node.example"] {
        let error = http().request(get(bad), LIMITS).await.expect_err(bad);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
