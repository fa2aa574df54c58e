//! A client that speaks to a node over a real WebSocket, and events to publish.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use talkbox_backend_gossip::node::{Node, NodeConfig, NodeContext};
use talkbox_core::{
    DeleteRequest, EnvelopeId, MailboxId, ManualClock, SecretKey, Timestamp,
    event::{Event, kind},
};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, client_async, connect_async_with_config, tungstenite::Message,
};

/// The time at which the tests take place.
pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000);
/// Longer than anything takes here; only a test that fails waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn key() -> SecretKey {
    SecretKey::generate().expect("randomness")
}

/// A node at [`NOW`], and its clock.
pub(crate) async fn node() -> (Node, ManualClock) {
    node_with(|_| ()).await
}

pub(crate) async fn node_with(change: impl FnOnce(&mut NodeConfig)) -> (Node, ManualClock) {
    node_at(NOW, change).await
}

pub(crate) async fn node_at(now: Timestamp, change: impl FnOnce(&mut NodeConfig)) -> (Node, ManualClock) {
    let clock = ManualClock::new(now);
    let mut config = NodeConfig::loopback();
    change(&mut config);
    let node = Node::start(config, NodeContext::default().with_clock(clock.clone())).await.expect("the node starts");
    (node, clock)
}

/// A gift wrap: sealed content means nothing to a node, so that any base64 will do.
pub(crate) fn wrap(to: MailboxId) -> Event {
    wrap_by(&key(), to, NOW, &[])
}

pub(crate) fn wrap_by(author: &SecretKey, to: MailboxId, at: Timestamp, more: &[&[&str]]) -> Event {
    let mut tags = vec![vec!["p".to_owned(), to.to_hex()]];
    tags.extend(more.iter().map(|tag| tag.iter().map(|value| (*value).to_owned()).collect()));
    Event::sign(author, at, kind::GIFT_WRAP, tags, "A+/0".repeat(100))
}

pub(crate) fn event(author: &SecretKey, kind: u16, at: Timestamp, tags: &[&[&str]], content: &str) -> Event {
    let tags = tags.iter().map(|tag| tag.iter().map(|value| (*value).to_owned()).collect()).collect();
    Event::sign(author, at, kind, tags, content.to_owned())
}

pub(crate) fn deletion(by: &SecretKey, of: MailboxId, events: &[&Event]) -> Event {
    let ids: Vec<EnvelopeId> = events.iter().map(|event| event.id().into()).collect();
    DeleteRequest::sign(by, of, &ids, NOW).expect("signs").event().clone()
}

/// A connection to a node.
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    challenge: String,
    relay: String,
}

impl Client {
    pub(crate) async fn connect(node: &Node) -> Self {
        Self::connect_to(&node.url()).await
    }

    pub(crate) async fn connect_to(url: &str) -> Self {
        Self::try_connect_to(url).await.expect("connects")
    }

    /// `None` where nobody listens any more.
    pub(crate) async fn try_connect_to(url: &str) -> Option<Self> {
        let (socket, _) = connect_async_with_config(url, None, true).await.ok()?;
        Some(Self::greeted(socket, url).await)
    }

    /// Connects and proves a key; the system holds next to nothing of what comes and is not read.
    pub(crate) async fn connect_narrowly(node: &Node, key: &SecretKey) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("sets");
        let stream = MaybeTlsStream::Plain(socket.connect(node.addr()).await.expect("connects"));
        let (socket, _) = client_async(node.url(), stream).await.expect("shakes hands");
        let mut client = Self::greeted(socket, &node.url()).await;
        client.prove(key, NOW).await;
        client
    }

    async fn greeted(socket: WebSocketStream<MaybeTlsStream<TcpStream>>, url: &str) -> Self {
        let mut client = Self { socket, challenge: String::new(), relay: url.to_owned() };
        let hello = client.receive().await;
        assert_eq!(hello[0], "AUTH");
        client.challenge = hello[1].as_str().expect("a challenge").to_owned();
        client
    }

    /// Connects and proves a key.
    pub(crate) async fn connect_as(node: &Node, key: &SecretKey) -> Self {
        Self::connect_at(node, key, NOW).await
    }

    /// As [`connect_as`](Self::connect_as), at another time.
    pub(crate) async fn connect_at(node: &Node, key: &SecretKey, now: Timestamp) -> Self {
        let mut client = Self::connect(node).await;
        client.prove(key, now).await;
        client
    }

    async fn prove(&mut self, key: &SecretKey, now: Timestamp) {
        let event = self.auth_event(key, now);
        assert_eq!(self.ask(json!(["AUTH", value(&event)])).await[2], true);
    }

    pub(crate) fn auth_event(&self, key: &SecretKey, now: Timestamp) -> Event {
        let tags: &[&[&str]] = &[&["relay", &self.relay], &["challenge", &self.challenge]];
        event(key, kind::RELAY_AUTH, now, tags, "")
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.send_raw(Message::text(message.to_string())).await;
    }

    pub(crate) async fn send_raw(&mut self, message: Message) {
        self.socket.send(message).await.expect("sends");
    }

    /// Sends unless the connection has ended.
    pub(crate) async fn try_send(&mut self, message: &Value) -> bool {
        self.socket.send(Message::text(message.to_string())).await.is_ok()
    }

    /// The next message, or nothing where the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("an answer in time");
            match message {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).expect("JSON")),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    pub(crate) async fn receive(&mut self) -> Value {
        self.next().await.expect("a message and not the end")
    }

    pub(crate) async fn ask(&mut self, message: Value) -> Value {
        self.send(message).await;
        self.receive().await
    }

    /// Publishes an event: whether it was taken, and in which words.
    pub(crate) async fn publish(&mut self, event: &Event) -> (bool, String) {
        let answer = self.ask(json!(["EVENT", value(event)])).await;
        assert_eq!((&answer[0], &answer[1]), (&json!("OK"), &json!(event.id().to_hex())), "{answer}");
        (answer[2].as_bool().expect("a flag"), answer[3].as_str().expect("a text").to_owned())
    }

    pub(crate) async fn accepted(&mut self, event: &Event) {
        assert_eq!(self.publish(event).await, (true, String::new()));
    }

    /// The ids of what is stored for a filter, in the order in which they came; or the words of a refusal.
    pub(crate) async fn query(&mut self, filters: &[Value]) -> Result<Vec<String>, String> {
        let mut request = vec![json!("REQ"), json!("query")];
        request.extend_from_slice(filters);
        self.send(Value::Array(request)).await;
        let mut ids = Vec::new();
        loop {
            let answer = self.receive().await;
            assert_eq!(answer[1], "query", "{answer}");
            match answer[0].as_str() {
                Some("EVENT") => ids.push(checked(&answer[2]).id().to_hex()),
                Some("EOSE") => break,
                Some("CLOSED") => return Err(answer[2].as_str().expect("a reason").to_owned()),
                _ => panic!("unexpected: {answer}"),
            }
        }
        self.send(json!(["CLOSE", "query"])).await;
        Ok(ids)
    }

    pub(crate) async fn stored(&mut self, filter: Value) -> Vec<String> {
        self.query(&[filter]).await.expect("not refused")
    }
}

pub(crate) fn value(event: &Event) -> Value {
    serde_json::from_str(&event.to_json()).expect("JSON")
}

/// An event as the node sent it: valid in every respect.
pub(crate) fn checked(event: &Value) -> Event {
    Event::parse(&event.to_string()).expect("a valid event")
}

pub(crate) fn ids(events: &[&Event]) -> Vec<String> {
    events.iter().map(|event| event.id().to_hex()).collect()
}

/// A filter for the mail of a mailbox.
pub(crate) fn mail(of: &SecretKey) -> Value {
    json!({"kinds": [1059], "#p": [of.id().to_hex()]})
}
