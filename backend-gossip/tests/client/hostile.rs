//! A node by a script: it shows a key, takes everything and signs for it, but for what the script answers in its place.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, Response},
};
use serde_json::{Value, json};
use talkbox_core::{EnvelopeId, Locator, SecretKey, Timestamp, custody::CustodyReceipt};
use tokio::{net::TcpListener, task::AbortHandle};

use crate::support::NOW;

/// What came in.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// With the query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

type Script = dyn Fn(&Asked) -> Option<Response<Body>> + Send + Sync;

/// A node. Dropping it ends it.
pub(crate) struct Hostile {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    key: SecretKey,
    script: Box<Script>,
    asked: Mutex<Vec<Asked>>,
}

impl Hostile {
    /// One that answers as the script says, and where that says nothing as it should.
    pub(crate) async fn start(script: impl Fn(&Asked) -> Option<Response<Body>> + Send + Sync + 'static) -> Self {
        Self::with_key(crate::support::key(), script).await
    }

    pub(crate) async fn with_key(
        key: SecretKey,
        script: impl Fn(&Asked) -> Option<Response<Body>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared { key, script: Box::new(script), asked: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("never ends") }).abort_handle();
        Self { address, shared, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn holder(&self) -> Locator {
        Locator::new("gossip", &self.url()).expect("a locator")
    }

    /// What was asked on this path, in order.
    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        let asked = self.shared.asked.lock().expect("not poisoned");
        asked.iter().filter(|asked| asked.path.starts_with(path)).cloned().collect()
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let asked = Asked {
        path: parts.uri.to_string(),
        headers: parts.headers,
        body: axum::body::to_bytes(body, 8 << 20).await.expect("a body"),
    };
    shared.asked.lock().expect("not poisoned").push(asked.clone());
    (shared.script)(&asked).unwrap_or_else(|| match asked.path.as_str() {
        "/" => ok(&json!({ "self": shared.key.public().to_hex() })),
        "/v1/envelopes" => {
            let ids = ids_of(&asked.body);
            lines(ids.iter().map(stored).chain([receipt(&shared.key, &ids, NOW, NOW.plus(86_400))]))
        }
        "/v1/have" => {
            let ids = named_ids(&asked.body);
            ok(&have(&ids, Some(receipt(&shared.key, &ids, NOW, NOW.plus(86_400)))))
        }
        path if path.starts_with("/v1/records") || path == "/v1/deletions" => {
            let event: Value = serde_json::from_slice(&asked.body).expect("an event");
            ok(&json!({ "id": event["id"], "status": "stored" }))
        }
        _ => status(404, ""),
    })
}

/// The ids of the events of a batch.
pub(crate) fn ids_of(body: &[u8]) -> Vec<EnvelopeId> {
    let lines = std::str::from_utf8(body).expect("text").lines();
    lines.map(|line| id_of(&serde_json::from_str::<Value>(line).expect("an event")["id"])).collect()
}

/// The ids of `{"ids": […]}`.
pub(crate) fn named_ids(body: &[u8]) -> Vec<EnvelopeId> {
    let body: Value = serde_json::from_slice(body).expect("JSON");
    body["ids"].as_array().expect("ids").iter().map(id_of).collect()
}

fn id_of(value: &Value) -> EnvelopeId {
    EnvelopeId::from_hex(value.as_str().expect("an id")).expect("an id")
}

pub(crate) fn stored(id: &EnvelopeId) -> Value {
    json!({ "id": id.to_hex(), "status": "stored" })
}

pub(crate) fn receipt(key: &SecretKey, ids: &[EnvelopeId], stored: Timestamp, until: Timestamp) -> Value {
    let receipt = CustodyReceipt::sign(key, ids, stored, until).expect("signs");
    serde_json::from_str(&receipt.event().to_json()).expect("JSON")
}

/// That all of these are held.
pub(crate) fn have(ids: &[EnvelopeId], receipt: Option<Value>) -> Value {
    let items: Vec<_> = ids.iter().map(|id| json!({ "id": id.to_hex(), "held": true, "until": 1 })).collect();
    json!({ "items": items, "receipt": receipt })
}

pub(crate) fn lines(values: impl IntoIterator<Item = Value>) -> Response<Body> {
    Response::new(Body::from(values.into_iter().map(|value| format!("{value}\n")).collect::<String>()))
}

pub(crate) fn ok(value: &Value) -> Response<Body> {
    Response::new(Body::from(value.to_string()))
}

pub(crate) fn status(status: u16, body: &str) -> Response<Body> {
    Response::builder().status(status).body(Body::from(body.to_owned())).expect("a response")
}

/// A refusal by RFC 9457.
pub(crate) fn problem(number: u16, code: &str) -> Response<Body> {
    status(number, &json!({ "code": code, "detail": "for a reason" }).to_string())
}

/// Server-sent events, of which the last does not end the stream.
pub(crate) fn feed(text: String) -> Response<Body> {
    use futures_util::{StreamExt as _, stream};
    let chunks = stream::iter([Ok::<_, std::convert::Infallible>(text)]).chain(stream::pending());
    let builder = Response::builder().header("content-type", "text/event-stream");
    builder.body(Body::from_stream(chunks)).expect("a response")
}

/// A body that comes byte by byte, and never ends.
pub(crate) fn drip() -> Response<Body> {
    use std::time::Duration;

    use futures_util::stream;
    let bytes = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((Ok::<_, std::convert::Infallible>(" "), ()))
    });
    Response::new(Body::from_stream(bytes))
}
