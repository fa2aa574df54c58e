//! The listener and what it serves: the WebSocket and the information document, both on `/`, and the rest over HTTP.
//!
//! The loop is our own and not `axum::serve`, which has no time-out for the head of a request and no say in how many
//! connections there are.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{Extension, State, WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::{body::Incoming, server::conn::http1, service::Service as _};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use super::{
    Shared,
    addresses::Pass,
    half::{Counting, Half},
    http, info,
    listen::{Listen, Stream},
    proxies,
    refusal::{Reason, Refusal},
    session,
};

/// How long to wait where the system gives no connection: most likely it has no file descriptors left.
const AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Most bytes of the head of a request. A WebSocket upgrade has less than 1 KiB.
const MAX_HEAD: usize = 16_384;

/// Bytes that a WebSocket reads at once. Each connection has so much, also an idle one: a large event takes some reads more.
const READ_BUFFER: usize = 8_192;

/// What is alive as long as a connection is, so that stopping can wait for all of them.
pub(crate) type Alive = mpsc::Sender<()>;

/// Takes connections until the node stops.
pub(crate) async fn run(mut listener: Box<dyn Listen>, tls: Option<TlsAcceptor>, node: Arc<Shared>, alive: Alive) {
    let router =
        Router::new().route("/", get(root).options(preflight)).merge(http::router(&node)).with_state(Arc::clone(&node));
    let mut stop = node.stop.clone();
    loop {
        tokio::select! {
            biased;
            () = stop.asked() => return,
            accepted = listener.accept() => match accepted {
                // One connection too many is closed at once: it costs less than to explain.
                Ok((stream, address)) => match admit(&node, address) {
                    Some(pass) => {
                        tracing::debug!(client = %address, "a connection");
                        let (pass, half, alive) = (Arc::new(pass), Arc::default(), alive.clone());
                        let client = address.ip();
                        let connection = Connection { address, client, is_passed_on: false, pass, half, alive };
                        let (router, node, tls) = (router.clone(), Arc::clone(&node), tls.clone());
                        tokio::spawn(async move {
                            match tls {
                                None => serve(stream, router, node, connection).await,
                                Some(tls) => serve_encrypted(&tls, stream, router, node, connection).await,
                            }
                        });
                    }
                    None => tracing::debug!(client = %address, "a connection too many"),
                },
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            },
        }
    }
}

/// Lets a connection in. Those of a trusted proxy are counted for its clients, request by request.
fn admit(node: &Shared, address: SocketAddr) -> Option<Pass> {
    if node.config.trusted_proxies.iter().any(|net| net.contains(address.ip())) {
        return node.addresses.admit_proxy();
    }
    node.addresses.admit(address.ip())
}

/// What a connection holds on to, over HTTP and then as a WebSocket.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    address: SocketAddr,
    /// Whose it is: that of the connection, or what a trusted proxy says.
    pub(crate) client: IpAddr,
    /// Somebody passes the request on, and it is not known for whom.
    is_passed_on: bool,
    pub(crate) pass: Arc<Pass>,
    half: Arc<Half>,
    alive: Alive,
}

impl Connection {
    /// Whether it is one of those that may see how the node does.
    pub(crate) fn is_operators(&self, node: &Shared) -> bool {
        !self.is_passed_on && node.config.metrics_from.iter().any(|net| net.contains(self.client))
    }
}

async fn serve_encrypted(
    tls: &TlsAcceptor,
    stream: Box<dyn Stream>,
    router: Router,
    node: Arc<Shared>,
    connection: Connection,
) {
    let within = Duration::from_secs(node.config.limits.head_timeout);
    match timeout(within, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve(Box::new(stream), router, node, connection).await,
        Ok(Err(error)) => tracing::debug!(%error, client = %connection.address, "no TLS"),
        Err(_) => tracing::debug!(client = %connection.address, "TLS took too long"),
    }
}

async fn serve(stream: Box<dyn Stream>, router: Router, node: Arc<Shared>, connection: Connection) {
    let limits = &node.config.limits;
    let address = connection.address;
    // A client that takes nothing of its answer is not waited for.
    let mut stream = TimeoutStream::new(Counting::new(stream, Arc::clone(&connection.half)));
    stream.set_write_timeout(Some(Duration::from_secs(limits.write_timeout)));
    let router = TowerToHyperService::new(router);
    let asked = Arc::clone(&node);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        let whose = whose(&asked, &connection, request.headers());
        let is_let_in = whose.is_some();
        request.extensions_mut().insert(whose.unwrap_or_else(|| connection.clone()));
        let answer = router.call(request);
        async move {
            if is_let_in {
                answer.await
            } else {
                let why = "too many connections of this address";
                Ok(Refusal::new(Reason::RateLimited, why).into_response())
            }
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(limits.head_timeout))
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Box::pin(stream)), service)
        .with_upgrades();
    let mut stop = node.stop.clone();
    tokio::pin!(served);
    let result = tokio::select! {
        biased;
        result = served.as_mut() => result,
        () = stop.asked() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, client = %address, "a connection broke");
    }
}

/// Whose request it is: the connection's, or a client's of a trusted proxy. `None` where that client has too many.
fn whose(node: &Shared, connection: &Connection, headers: &HeaderMap) -> Option<Connection> {
    let from = connection.address.ip();
    let client = proxies::client(from, headers, &node.config.trusted_proxies);
    if client == from {
        return Some(Connection { is_passed_on: proxies::is_passed_on(headers), ..connection.clone() });
    }
    let pass = Arc::new(node.addresses.admit_client(client)?);
    Some(Connection { pass, client, is_passed_on: false, ..connection.clone() })
}

async fn root(
    State(node): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if let Ok(upgrade) = upgrade {
        let most = node.config.limits.max_message_bytes;
        let upgrade = upgrade.read_buffer_size(READ_BUFFER);
        return upgrade.max_message_size(most).max_frame_size(most).on_upgrade(move |socket| async move {
            let Connection { address, pass, half, alive, .. } = connection;
            half.count(Arc::clone(&node.bodies), pass.party());
            session::run(socket, node, pass, half).await;
            tracing::debug!(client = %address, "a connection has ended");
            drop(alive);
        });
    }
    let asks_for_document = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|accept| accept.to_str().ok())
        .any(|accept| accept.contains("application/nostr+json"));
    if asks_for_document {
        let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/nostr+json"));
        return ([kind], cross_origin(), info::document(&node.config, &node.key.public()).to_string()).into_response();
    }
    "A Talkbox node: a Nostr relay for sealed mailboxes. Connect to it by WebSocket.\n".into_response()
}

/// NIP-11: a page of another origin may ask.
async fn preflight() -> Response {
    (StatusCode::NO_CONTENT, cross_origin()).into_response()
}

fn cross_origin() -> [(header::HeaderName, HeaderValue); 3] {
    [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*")),
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, OPTIONS")),
    ]
}
