//! Whether the node lives, and whether it can do its work.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use talkbox_core::anti_entropy::ReconciledSet as _;

use crate::node::{Shared, addresses::Party};

/// `GET /livez`: the process answers.
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the store can be read and written.
pub(super) async fn readyz(State(node): State<Arc<Shared>>) -> Response {
    let read = node.store.last(Party::Node).await;
    let fault = node.store.writer().fault().or_else(|| read.as_ref().err().map(|_| "the store cannot be read"));
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
