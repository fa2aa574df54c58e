//! A client over HTTP: hyper's, since the tests are about the node.

use std::net::SocketAddr;

use axum::body::{Body, Bytes};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::StreamExt as _;
use hyper::{Method, Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use talkbox_backend_gossip::node::Node;
use talkbox_core::{
    SecretKey,
    event::{Event, kind},
    hex,
};
use tokio::{net::TcpStream, time::timeout};

use crate::support::{NOW, PATIENCE, event};

/// A request in the making.
pub(crate) struct Ask {
    node: SocketAddr,
    method: Method,
    path: String,
    body: Bytes,
    headers: Vec<(String, String)>,
}

pub(crate) fn ask(node: &Node, method: Method, path: &str) -> Ask {
    ask_at(node.addr(), method, path)
}

fn ask_at(node: SocketAddr, method: Method, path: &str) -> Ask {
    Ask { node, method, path: path.to_owned(), body: Bytes::new(), headers: Vec::new() }
}

pub(crate) fn get(node: &Node, path: &str) -> Ask {
    ask(node, Method::GET, path)
}

pub(crate) fn post(node: &Node, path: &str, body: impl Into<Bytes>) -> Ask {
    ask(node, Method::POST, path).body(body)
}

/// Of a node in another process.
pub(crate) fn get_at(node: SocketAddr, path: &str) -> Ask {
    ask_at(node, Method::GET, path)
}

/// As [`get_at`].
pub(crate) fn post_at(node: SocketAddr, path: &str, body: impl Into<Bytes>) -> Ask {
    ask_at(node, Method::POST, path).body(body)
}

/// The header that proves a key for a request, by NIP-98.
pub(crate) fn proof(node: SocketAddr, key: &SecretKey, method: &Method, path: &str, body: &[u8]) -> String {
    let url = format!("http://{node}{path}");
    let payload = hex::encode(&Sha256::digest(body));
    let mut tags: Vec<&[&str]> = vec![];
    let (u, method, payload) = (["u", &url], ["method", method.as_str()], ["payload", &payload]);
    tags.push(&u);
    tags.push(&method);
    if !body.is_empty() {
        tags.push(&payload);
    }
    format!("Nostr {}", STANDARD.encode(event(key, kind::HTTP_AUTH, NOW, &tags, "").to_json()))
}

impl Ask {
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As this key.
    pub(crate) fn by(self, key: &SecretKey) -> Self {
        let proof = proof(self.node, key, &self.method, &self.path, &self.body);
        self.header("authorization", &proof)
    }

    /// Sends it, and gives the answer before its body.
    pub(crate) async fn open(self) -> Response<Incoming> {
        timeout(PATIENCE, self.try_open()).await.expect("in time").expect("answers")
    }

    async fn try_open(self) -> Option<Response<Incoming>> {
        let stream = TcpStream::connect(self.node).await.ok()?;
        let (mut sender, connection) = http1::handshake::<_, Body>(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(self.method).uri(self.path).header("host", "node");
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::from(self.body)).expect("a request");
        sender.send_request(request).await.ok()
    }

    pub(crate) async fn send(self) -> Answer {
        let response = self.open().await;
        timeout(PATIENCE, answer(response)).await.expect("in time").expect("arrives")
    }

    /// Sends it to a node that may not be there, or end meanwhile, or be out of reach.
    pub(crate) async fn try_send(self) -> Option<Answer> {
        let whole = async { answer(self.try_open().await?).await };
        timeout(PATIENCE, whole).await.ok()?
    }
}

async fn answer(response: Response<Incoming>) -> Option<Answer> {
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(Body::new(body), usize::MAX).await.ok()?;
    let body = String::from_utf8(body.to_vec()).expect("text");
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
    Some(Answer { status: parts.status.as_u16(), kind: header("content-type").unwrap_or_default(), body })
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        self.body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The code of a problem.
    pub(crate) fn problem(&self) -> (u16, String) {
        assert_eq!(self.kind, "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        (self.status, problem["code"].as_str().expect("a code").to_owned())
    }
}

/// Events as a body.
pub(crate) fn lines(events: &[&Event]) -> String {
    events.iter().map(|event| format!("{}\n", event.to_json())).collect()
}

/// Publishes, and gives what became of each event.
pub(crate) async fn publish(node: &Node, events: &[&Event]) -> Vec<Value> {
    let answer = post(node, "/v1/envelopes", lines(events)).send().await;
    assert_eq!((answer.status, &*answer.kind), (200, "application/x-ndjson"), "{answer:?}");
    answer.lines()
}

/// Server-sent events.
pub(crate) struct Events {
    body: axum::body::BodyDataStream,
    text: String,
}

impl Events {
    pub(crate) async fn open(ask: Ask) -> Self {
        let response = ask.open().await;
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: Body::new(response.into_body()).into_data_stream(), text: String::new() }
    }

    /// The next one: id, name, data.
    pub(crate) async fn next(&mut self) -> (String, String, String) {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let lines = event.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                    lines.map(str::trim_start).collect::<String>()
                };
                let found = (field("id"), field("event"), field("data"));
                self.text = rest.to_owned();
                if found.1.is_empty() {
                    continue;
                }
                return found;
            }
            let chunk = timeout(PATIENCE, self.body.next()).await.expect("in time").expect("goes on").expect("arrives");
            self.text.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }

    /// Whether it has ended.
    pub(crate) async fn ends(&mut self) -> bool {
        timeout(PATIENCE, async { while let Some(Ok(_)) = self.body.next().await {} }).await.is_ok()
    }
}
