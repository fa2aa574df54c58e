//! A proxy in front of a node, which does to its answers what the kit's faults say.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{Method, Response, StatusCode, request::Parts},
};
use futures_util::StreamExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use talkbox_core::{
    Clock as _, ErrorKind, Locator, MailboxId, ManualClock, Shortcode, Target, hex,
    testkit::{Fault, Faults, Lie},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

/// Most bytes of a body that is looked at.
const MAX_BODY: usize = 32 << 20;

/// A proxy. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    state: Arc<Shared>,
    task: AbortHandle,
}

/// What its connections share.
#[derive(Debug)]
struct Shared {
    node: OnceLock<SocketAddr>,
    clock: ManualClock,
    fault: Mutex<Fault>,
    /// How often something came by that happens now and then.
    drawn: AtomicU64,
    /// The codes of records that were passed on, and what is made up about each.
    records: Mutex<Vec<(Shortcode, Vec<String>)>>,
    /// One more is held for each open watch.
    watch: Arc<()>,
}

impl Front {
    /// One that serves nobody until it is [put before](Self::stand_before) a node.
    pub(crate) async fn bind(clock: ManualClock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(Shared {
            node: OnceLock::new(),
            clock,
            fault: Mutex::default(),
            drawn: AtomicU64::new(0),
            records: Mutex::default(),
            watch: Arc::default(),
        });
        let router = Router::new().fallback(pass).with_state(Arc::clone(&state));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("never ends") }).abort_handle();
        Self { address, state, task }
    }

    /// Passes everything on to this node.
    pub(crate) fn stand_before(&self, node: SocketAddr) {
        self.state.node.set(node).expect("once");
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The node, as a holder is named.
    pub(crate) fn holder(&self) -> Locator {
        Locator::new("gossip", &self.url()).expect("a locator")
    }

    /// How many watches are open.
    pub(crate) fn watches(&self) -> usize {
        Arc::strong_count(&self.state.watch) - 1
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request: to the node and back, or whatever the fault says.
async fn pass(State(state): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let fault = state.fault();
    if fault.hang {
        return std::future::pending().await;
    }
    if let Some(delay) = fault.delay {
        tokio::time::sleep(delay).await;
    }
    if let Some((kind, words)) = &fault.refuse {
        let (status, code) = problem(*kind).expect("checked when it was set");
        return answer(status, &json!({ "code": code, "detail": words }));
    }
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MAX_BODY).await.expect("the client sends what it announces");
    let path = parts.uri.path().to_owned();
    if path == "/v1/envelopes" && state.happens(fault.drop) {
        return pretended(&body);
    }
    if parts.method == Method::PUT {
        state.note_record(&body);
    }
    let Some(response) = state.ask(&parts, body).await else {
        // While the node is down, nobody answers.
        return Response::builder().status(StatusCode::BAD_GATEWAY).body(Body::empty()).expect("a response");
    };
    let (head, body) = response.into_parts();
    if path.ends_with("/watch") {
        let counted = Arc::clone(&state.watch);
        let chunks = body.into_data_stream().map(move |chunk| {
            let _open = &counted;
            chunk
        });
        return Response::from_parts(head, Body::from_stream(chunks));
    }
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        return Response::builder().status(StatusCode::BAD_GATEWAY).body(Body::empty()).expect("a response");
    };
    let mut changed = Response::new(Body::from(state.change(&fault, &parts, body)));
    *changed.status_mut() = head.status;
    for name in ["content-type", "retry-after"] {
        if let Some(value) = head.headers.get(name) {
            changed.headers_mut().insert(name, value.clone());
        }
    }
    changed
}

impl Shared {
    fn fault(&self) -> Fault {
        self.fault.lock().expect("not poisoned").clone()
    }

    /// Whether something that happens so many of a hundred times happens now: evenly spread, the same in every run.
    fn happens(&self, percent: u8) -> bool {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        let until = |number: u64| number * u64::from(percent) / 100;
        until(drawn + 1) > until(drawn)
    }

    async fn ask(&self, parts: &Parts, body: Bytes) -> Option<Response<Body>> {
        let stream = TcpStream::connect(self.node.get().expect("put before a node")).await.ok()?;
        stream.set_nodelay(true).expect("an option");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let mut request = hyper::Request::new(Body::from(body));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = parts.uri.path_and_query().expect("a path").as_str().parse().expect("a path");
        *request.headers_mut() = parts.headers.clone();
        Some(sender.send_request(request).await.ok()?.map(Body::new))
    }

    /// What comes back in the place of the node's answer.
    fn change(&self, fault: &Fault, parts: &Parts, body: Bytes) -> Bytes {
        let path = parts.uri.path();
        if let Some(code) = path.strip_prefix("/v1/records/") {
            let records = self.records.lock().expect("not poisoned");
            let lies = records.iter().filter(|(known, _)| code.parse().ok() == Some(*known));
            return with_items(&body, |page| {
                let items = page["items"].as_array_mut().expect("items");
                items.splice(0..0, lies.flat_map(|(_, lies)| lies.iter().map(|lie| as_item(lie))));
            });
        }
        let owner = path.strip_prefix("/v1/mailboxes/").and_then(|rest| rest.strip_suffix("/envelopes"));
        if let Some(owner) = owner.and_then(hex::decode32).map(MailboxId::from_bytes) {
            return with_items(&body, |page| self.change_page(fault, owner, page));
        }
        if path == "/v1/envelopes/get" && fault.lies.contains(&Lie::Withhold) { Bytes::new() } else { body }
    }

    fn change_page(&self, fault: &Fault, owner: MailboxId, page: &mut Value) {
        let items = page["items"].as_array_mut().expect("items");
        if fault.lies.contains(&Lie::Withhold) {
            items.clear();
        }
        if fault.reorder {
            items.reverse();
        }
        let twice: Vec<Value> = items.iter().filter(|_| self.happens(fault.duplicate)).cloned().collect();
        items.extend(twice);
        for lie in &fault.lies {
            let told = lie.envelopes(owner, self.clock.now()).expect("randomness");
            items.extend(told.iter().map(|raw| named(&raw.id().to_hex(), raw.json())));
        }
        if fault.lies.contains(&Lie::CursorLoop) {
            page["more"] = json!(true);
        }
    }

    /// Takes note of a record that is passed on.
    fn note_record(&self, body: &[u8]) {
        let event: Value = serde_json::from_slice(body).expect("an event");
        let d = event["tags"].as_array().into_iter().flatten().find(|tag| tag[0] == "d");
        if let Some(code) = d.and_then(|tag| tag[1].as_str()?.parse().ok()) {
            self.records.lock().expect("not poisoned").push((code, Vec::new()));
        }
    }

    /// Makes up what is to be told of the records that were passed on. The work that a record shows takes longer than
    /// the answer to a question may.
    fn make_up_records(&self, lies: &[Lie]) {
        let now = self.clock.now();
        for (code, told) in &mut *self.records.lock().expect("not poisoned") {
            let tell = |lie: Lie| lie.records(&Target::Code(*code), now).expect("randomness");
            *told = std::thread::scope(|scope| {
                let telling: Vec<_> = lies.iter().map(|lie| scope.spawn(|| tell(*lie))).collect();
                telling.into_iter().flat_map(|told| told.join().expect("no panic")).collect()
            });
        }
    }
}

fn with_items(body: &[u8], change: impl FnOnce(&mut Value)) -> Bytes {
    let mut page: Value = serde_json::from_slice(body).expect("the node speaks JSON");
    if page["items"].is_array() {
        change(&mut page);
    }
    page.to_string().into()
}

/// On this wire an event names itself: one that is listed under another id claims it.
fn named(id: &str, json: &str) -> Value {
    let mut item = as_item(json);
    if let Value::Object(event) = &mut item {
        event.insert("id".to_owned(), json!(id));
    }
    item
}

/// What is no JSON can only be told as a text.
fn as_item(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|_| json!(json))
}

/// That all was stored, of which nothing is true.
fn pretended(body: &[u8]) -> Response<Body> {
    let lines = std::str::from_utf8(body).expect("text").lines();
    let event = |line| serde_json::from_str::<Value>(line).expect("an event");
    let status = |line| format!("{}\n", json!({ "id": event(line)["id"], "status": "stored" }));
    Response::new(Body::from(lines.map(status).collect::<String>()))
}

fn answer(status: u16, body: &Value) -> Response<Body> {
    let builder = Response::builder().status(status).header("content-type", "application/problem+json");
    builder.body(Body::from(body.to_string())).expect("a response")
}

/// With what status and code a node says such a thing.
const fn problem(kind: ErrorKind) -> Option<(u16, &'static str)> {
    match kind {
        ErrorKind::Refused => Some((403, "blocked")),
        ErrorKind::Denied => Some((403, "forbidden")),
        ErrorKind::RateLimited => Some((429, "quota")),
        ErrorKind::TooLarge => Some((413, "too-large")),
        _ => None,
    }
}

/// The kit's faults, on the wire of these nodes.
#[derive(Debug)]
pub(crate) struct WireFaults(pub(crate) Vec<Front>);

impl Faults for WireFaults {
    fn set(&self, holder: &Locator, fault: Fault) -> bool {
        let Some(front) = self.0.iter().find(|front| front.holder() == *holder) else { return false };
        let can_be_told = fault.refuse.as_ref().is_none_or(|(kind, _)| problem(*kind).is_some());
        if can_be_told {
            front.state.make_up_records(&fault.lies);
            *front.state.fault.lock().expect("not poisoned") = fault;
        }
        can_be_told
    }

    fn clear(&self) {
        for front in &self.0 {
            *front.state.fault.lock().expect("not poisoned") = Fault::default();
        }
    }
}
