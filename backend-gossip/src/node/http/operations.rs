//! Whether the node lives, and whether it can do its work.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Extension, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use talkbox_core::{anti_entropy::ReconciledSet as _, hex};

use crate::node::{
    Shared,
    beside::{self, Standing},
    metrics::{Gauges, page},
    refusal::{Reason, Refusal},
    server::Connection,
};

/// After so long the node is ready though no peer was reached: then the others are what is missing.
const LATE: Duration = Duration::from_secs(30);

/// `GET /metrics`: for Prometheus, from where the operator allows it.
pub(super) async fn metrics(
    State(node): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
) -> Result<Response, Refusal> {
    if !connection.is_operators(&node) {
        return Err(Refusal::new(
            Reason::Forbidden,
            "the metrics are for this machine, or for whom metrics_from names",
        ));
    }
    let last = node.store.writer().brought().last();
    let held = node.store.held().len();
    let beside = beside::standing(node.context.beside()).await;
    let gauges = Gauges {
        held,
        store_bytes: node.store.bytes().await.map_err(|error| Refusal::of_store(&error))?,
        rotten: node.store.rot().len(),
        connections: node.addresses.connections(),
        subscriptions: node.live.len(),
        pending_bytes: node.pending.bytes(),
        kept_sets: node.mail_sets.len(),
        answer_bytes: node.answers.kept(),
        is_ready: fault(&node, &beside).await.is_none(),
        peers: node.roster.gauges(last),
        beside: beside.samples,
    };
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    Ok(([kind], page(&node.metrics, &gauges)).into_response())
}

/// `GET /livez`: the process answers.
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// `GET /v1/peers`: who this node is, and how its peers do; why one is away only for the operator. Being listed gives no
/// right.
pub(super) async fn peers(
    State(node): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
) -> Result<Response, Refusal> {
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
        "peers": node.roster.shown(last, connection.is_operators(&node)),
        "candidates": node.candidates.shown(),
    });
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(([kind], format!("{state}\n")).into_response())
}

/// `GET /readyz`: the store can be read and written, what peers hold has been compared, and what runs beside the node does.
pub(super) async fn readyz(State(node): State<Arc<Shared>>) -> Response {
    let fault = fault(&node, &beside::standing(node.context.beside()).await).await;
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

/// What keeps the node from its work.
async fn fault(node: &Shared, beside: &Standing) -> Option<&'static str> {
    if let Some(fault) = node.store.writer().fault() {
        return Some(fault);
    }
    if node.store.rot().is_damaged() {
        return Some("the store is damaged");
    }
    if let Some(fault) = node.pulse.fault(&node.store).await {
        return Some(fault);
    }
    if let Some(fault) = beside.fault {
        return Some(fault);
    }
    let is_late = node.started.elapsed() > LATE;
    (!node.roster.is_compared() && !is_late).then_some("not compared with a peer yet")
}
