//! The listener and what it serves: the WebSocket and the information document, both on `/`.
//!
//! The loop is our own and not `axum::serve`, which has no time-out for the head of a request and no say in how many
//! connections there are.

use std::{net::SocketAddr, sync::Arc, time::Duration};

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
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::{Shared, addresses::Pass, info, session};

/// How long to wait where the system gives no connection: most likely it has no file descriptors left.
const AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Most bytes of the head of a request. A WebSocket upgrade has less than 1 KiB.
const MAX_HEAD: usize = 16_384;

/// What is alive as long as a connection is, so that stopping can wait for all of them.
pub(crate) type Alive = mpsc::Sender<()>;

/// Takes connections until the node stops.
pub(crate) async fn run(listener: TcpListener, node: Arc<Shared>, alive: Alive) {
    let router = Router::new().route("/", get(root).options(preflight)).with_state(Arc::clone(&node));
    let mut stop = node.stop.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                // One connection too many is closed at once: it costs less than to explain.
                Ok((stream, address)) => match node.addresses.admit(address.ip()) {
                    Some(pass) => {
                        tracing::debug!(client = %address, "a connection");
                        let connection = Connection { address, pass: Arc::new(pass), alive: alive.clone() };
                        tokio::spawn(serve(stream, address, router.clone(), Arc::clone(&node), connection));
                    }
                    None => tracing::debug!(client = %address, "a connection too many"),
                },
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            },
            () = stop.asked() => return,
        }
    }
}

/// What a connection holds on to, over HTTP and then as a WebSocket.
#[derive(Clone, Debug)]
struct Connection {
    address: SocketAddr,
    pass: Arc<Pass>,
    alive: Alive,
}

async fn serve(stream: TcpStream, address: SocketAddr, router: Router, node: Arc<Shared>, connection: Connection) {
    // An answer of a few bytes must not wait for the acknowledgement of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let router = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        router.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(node.config.limits.head_timeout))
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut stop = node.stop.clone();
    tokio::pin!(served);
    let result = tokio::select! {
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

async fn root(
    State(node): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if let Ok(upgrade) = upgrade {
        let most = node.config.limits.max_message_bytes;
        return upgrade.max_message_size(most).max_frame_size(most).on_upgrade(move |socket| async move {
            let Connection { address, pass, alive } = connection;
            session::run(socket, node, pass).await;
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
        return ([kind], cross_origin(), info::document(&node.config).to_string()).into_response();
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
