//! The node over HTTP, under `/v1`: what a WebSocket cannot do well. Batches with one receipt, listing by arrival, server-
//! sent events, custody.
//!
//! Every route is bounded: a body has a size and a time, and takes of what the node keeps for all bodies; what is read
//! takes its turn with all other queries; and answers are counted until they are written.

mod answer;
mod body;
mod caller;
mod custody;
mod envelopes;
mod operations;
mod problem;
mod publishing;
mod query;
mod reconcile;
mod sets;
mod watch;

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};

/// Names the store in every answer: whoever remembers another one has to compare anew.
pub(crate) const EPOCH: HeaderName = HeaderName::from_static("talkbox-epoch");

pub(crate) use self::{
    answer::ALWAYS as ANSWERS_ALWAYS,
    envelopes::{MAX_BATCH, MAX_BATCH_BYTES},
    reconcile::MAX_MESSAGE as MAX_RECONCILE,
    sets::MailSets,
};
use super::{
    Shared,
    addresses::Spend,
    refusal::{Reason, Refusal},
    server::Connection,
};

/// All routes.
pub(crate) fn router(node: &Arc<Shared>) -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/envelopes", post(envelopes::publish))
        .route("/v1/envelopes/get", post(envelopes::get))
        .route("/v1/mailboxes/{mailbox}/envelopes", get(envelopes::list))
        .route("/v1/mailboxes/{mailbox}/watch", get(watch::watch))
        .route("/v1/have", post(custody::have))
        .route("/v1/reconcile", post(reconcile::reconcile))
        .route("/v1/log", get(envelopes::log))
        .route("/v1/peers", get(operations::peers))
        .route("/v1/deletions", post(publishing::delete))
        .route("/v1/records", put(publishing::publish_record))
        .route("/v1/records/{code}", get(publishing::resolve))
        .route_layer(middleware::from_fn_with_state(Arc::clone(node), spend))
        .route("/livez", get(operations::livez))
        .route("/readyz", get(operations::readyz))
        .fallback(unknown)
        .layer(middleware::map_response(open_to_pages))
        // For no page: one that is shown on the operator's machine asks from there, too.
        .route("/metrics", get(operations::metrics))
        .layer(middleware::map_response(in_our_words))
}

/// Counts a request against its address. A page of another origin that asks whether it may ask is answered here.
async fn spend(State(node): State<Arc<Shared>>, request: axum::extract::Request, next: Next) -> Response {
    if request.method() == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    // The listener puts it there.
    let Some(pass) = request.extensions().get::<Connection>().map(|connection| Arc::clone(&connection.pass)) else {
        return Refusal::new(Reason::Failed, "a request of no connection").into_response();
    };
    if !pass.spend(Spend::Request) {
        return slow_down().into_response();
    }
    let mut stop = node.stop.clone();
    tokio::select! {
        biased;
        response = next.run(request) => {
            let mut response = answer::count(&node, pass.party(), response).await;
            let epoch = HeaderValue::from_str(&format!("{:016x}", node.store.epoch()));
            response.headers_mut().extend(epoch.ok().map(|epoch| (Some(EPOCH), epoch)));
            node.metrics.answered(response.status().as_u16());
            response
        }
        // What was asked may take its time; a node that stops does not wait for it.
        () = async { stop.asked().await; tokio::time::sleep(super::FAREWELL).await } => {
            Refusal::new(Reason::Failed, "the node is stopping").into_response()
        }
    }
}

/// Pages of any origin may ask: what is private is protected by signatures, not by cookies.
async fn open_to_pages(mut response: Response) -> Response {
    const OPEN: [(HeaderName, HeaderValue); 3] = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type, last-event-id")),
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT, OPTIONS")),
    ];
    for (name, value) in OPEN {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

/// What axum refuses by itself is told in the same form, and nothing is kept by those between.
async fn in_our_words(mut response: Response) -> Response {
    let status = response.status();
    if (status.is_client_error() || status.is_server_error()) && !response.headers().contains_key(header::CONTENT_TYPE)
        || response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| status.is_client_error() && kind == PLAIN)
    {
        let reason = match status {
            StatusCode::METHOD_NOT_ALLOWED => Reason::WrongMethod,
            StatusCode::NOT_FOUND => Reason::NotFound,
            status if status.is_server_error() => Reason::Failed,
            _ => Reason::Malformed,
        };
        let told = Refusal::new(reason, "there is no such request here").into_response();
        let mut headers = std::mem::take(response.headers_mut());
        for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH] {
            headers.remove(name);
        }
        response = told;
        response.headers_mut().extend(headers);
    }
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

const PLAIN: &str = "text/plain; charset=utf-8";

async fn unknown() -> Response {
    Refusal::new(Reason::NotFound, "there is nothing under this path").into_response()
}

fn slow_down() -> Refusal {
    Refusal::new(Reason::RateLimited, "too much at once from this address; slow down")
}
