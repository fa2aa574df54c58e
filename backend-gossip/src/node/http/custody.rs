//! What the node says that it holds, signed.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::{Extension, Request, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde_json::{json, value::RawValue};
use talkbox_core::{EnvelopeId, Timestamp, custody::CustodyReceipt};

use super::body;
use crate::node::{
    Shared,
    refusal::{Reason, Refusal},
    server::Connection,
};

/// `POST /v1/have`: which of these ids are held, until when, and a receipt for them. Anyone may ask: an id cannot be
/// guessed.
pub(super) async fn have(
    State(node): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Result<Response, Refusal> {
    let party = connection.pass.party();
    let sent = body::read(&node, party, request.into_parts().1, body::IDS_BYTES).await?;
    let ids: Arc<[_]> = body::ids(&sent.bytes)?.into();
    let found = node.store.held_until(Arc::clone(&ids), party, node.now()).await;
    let found = found.map_err(|error| Refusal::of_store(&error))?;
    let items: Vec<_> = ids
        .iter()
        .zip(&found)
        .map(|(id, until)| match until {
            Some(until) => json!({"id": id.to_hex(), "held": true, "until": until.secs()}),
            None => json!({"id": id.to_hex(), "held": false}),
        })
        .collect();
    let held = ids.iter().zip(&found).filter_map(|(id, until)| Some(((*id).into(), (*until)?)));
    let held: Vec<(EnvelopeId, Timestamp)> = held.collect();
    let receipt = receipt(&node, &held)?.and_then(|json| RawValue::from_string(json).ok());
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(([kind], json!({"items": items, "receipt": receipt}).to_string()).into_response())
}

/// A receipt for what is held, each once, with the least of the times; `None` where nothing is.
pub(super) fn receipt(node: &Shared, held: &[(EnvelopeId, Timestamp)]) -> Result<Option<String>, Refusal> {
    let Some(until) = held.iter().map(|(_, until)| *until).min() else { return Ok(None) };
    let ids: BTreeSet<EnvelopeId> = held.iter().map(|(id, _)| *id).collect();
    let ids: Vec<EnvelopeId> = ids.into_iter().collect();
    let receipt = CustodyReceipt::sign(&node.key, &ids, node.now(), until).map_err(|error| {
        tracing::error!(%error, "a receipt could not be signed");
        Refusal::new(Reason::Failed, "no receipt could be signed")
    })?;
    Ok(Some(receipt.event().to_json()))
}
