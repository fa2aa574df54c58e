//! Deletions and records: one event a request. It goes the way of all events; what is checked here is that it is of the
//! kind that the route is for.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::{Extension, Path, Request, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use talkbox_core::{
    event::{Wire, kind},
    record::MAX_RECORD_BYTES,
    shortcode::Shortcode,
};

use super::{body, slow_down};
use crate::node::{
    Shared,
    addresses::Spend,
    admitted::Origin,
    filter::Filter,
    gate::Rights,
    intake::Batch,
    refusal::{Outcome, Reason, Refusal},
    server::Connection,
    store::Reader,
};

/// Records of one code that are given. More than one is a forgery of 90 bits, or several of one key that has moved on.
const MAX_RECORDS: usize = 16;
/// Bytes of them.
const MAX_RECORDS_BYTES: usize = MAX_RECORDS * MAX_RECORD_BYTES;

/// `POST /v1/deletions`: a kind 5, signed by the recipient or the author of what it names.
pub(super) async fn delete(
    State(node): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Result<Response, Refusal> {
    take(&node, &connection, request, &[kind::DELETION]).await
}

/// `PUT /v1/records`: a record, or the list of relays of NIP-17.
pub(super) async fn publish_record(
    State(node): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Result<Response, Refusal> {
    take(&node, &connection, request, &[kind::RECORD, kind::INBOX_RELAYS]).await
}

async fn take(node: &Shared, connection: &Connection, request: Request, kinds: &[u16]) -> Result<Response, Refusal> {
    let party = connection.pass.party();
    let sent = body::read(node, party, request.into_parts().1, MAX_RECORD_BYTES).await?;
    let text = std::str::from_utf8(&sent.bytes).map_err(|_| Refusal::malformed("the body is no text in UTF-8"))?;
    let of = Wire::parse(text).map_err(|error| Refusal::from_core(&error))?.kind();
    if !kinds.contains(&of) {
        return Err(Refusal::malformed("an event of another kind than this is for"));
    }
    if !connection.pass.spend(Spend::Event) {
        return Err(slow_down());
    }
    let (batch, tickets) = Batch::new(1);
    for ticket in tickets {
        node.intake.take(text.to_owned(), Origin::Client, ticket).await;
    }
    let answer = batch.answers().await.pop().ok_or_else(|| Refusal::new(Reason::Failed, "no answer"))?;
    let status = match answer.outcome {
        Outcome::Stored => "stored",
        Outcome::Duplicate => "duplicate",
        Outcome::Refused(refusal) => return Err(refusal),
    };
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(([kind], json!({"id": answer.id.map(|id| id.to_hex()), "status": status}).to_string()).into_response())
}

/// `GET /v1/records/{code}`: the records that claim a code, for the client to verify and choose from.
pub(super) async fn resolve(
    State(node): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    Path(code): Path<String>,
) -> Result<Response, Refusal> {
    let code: Shortcode = code.parse().map_err(|_| Refusal::malformed("that is no shortcode"))?;
    let filter = Filter {
        kinds: Some(BTreeSet::from([kind::RECORD])),
        letters: vec![('d', BTreeSet::from([code.symbols().to_owned()]))],
        ..Filter::default()
    };
    let party = connection.pass.party();
    let reader = Reader { party, rights: Rights::Keys(Vec::new()), now: node.now() };
    let found = node.store.newest(Arc::new([filter]), reader, MAX_RECORDS).await;
    let found = found.map_err(|error| Refusal::of_store(&error))?;
    let (_, page) = node.store.page(found, MAX_RECORDS_BYTES).await.map_err(|error| Refusal::of_store(&error))?;
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(([kind], format!("{{\"items\":[{}]}}", page.join(","))).into_response())
}
