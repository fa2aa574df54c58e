//! Whether the node lives, and whether it can do its work.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use talkbox_core::{anti_entropy::ReconciledSet as _, hex};

use crate::node::{Shared, addresses::Party, refusal::Refusal};

/// After so long the node is ready though no peer was reached: then the others are what is missing.
const LATE: Duration = Duration::from_secs(30);

/// `GET /livez`: the process answers.
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// `GET /v1/peers`: who this node is, and how its peers do. Being listed gives no right.
pub(super) async fn peers(State(node): State<Arc<Shared>>) -> Result<Response, Refusal> {
    let last = node.store.writer().brought().last();
    let (events, whole) = {
        let held = node.store.held();
        (held.len(), hex::encode(held.whole().as_bytes()))
    };
    let state = json!({
        "key": node.key.public().to_hex(),
        "epoch": format!("{:016x}", node.store.epoch()),
        "events": events,
        "fingerprint": whole,
        "peers": node.roster.shown(last),
    });
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(([kind], format!("{state}\n")).into_response())
}

/// `GET /readyz`: the store can be read and written, and what peers hold has been compared.
pub(super) async fn readyz(State(node): State<Arc<Shared>>) -> Response {
    let read = node.store.last(Party::Node).await;
    let fault = node.store.writer().fault().or_else(|| read.as_ref().err().map(|_| "the store cannot be read"));
    let is_late = node.started.elapsed() > LATE;
    let fault = fault.or_else(|| (!node.roster.is_compared() && !is_late).then_some("not compared with a peer yet"));
    let status = if fault.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let state = json!({
        "ready": fault.is_none(),
        "fault": fault,
        "events": node.store.held().len(),
        "epoch": format!("{:016x}", node.store.epoch()),
    });
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (status, [kind], format!("{state}\n")).into_response()
}
