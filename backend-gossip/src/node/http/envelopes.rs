//! Envelopes: published in batches, listed in the order of arrival, fetched by id.

use std::{fmt::Write as _, sync::Arc};

use axum::{
    body::Body,
    extract::{Extension, Path, Request, State},
    http::{HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde_json::json;
use talkbox_core::{EnvelopeId, MailboxId, PublicKey, custody::MAX_RECEIPT_IDS};

use super::{
    body,
    caller::{self, Asked},
    custody,
    query::{self, Query},
    slow_down,
};
use crate::node::{
    Shared,
    addresses::{Party, Spend},
    admitted::Origin,
    cursor::ArrivalCursor,
    gate::Rights,
    intake::{Answer, Batch},
    refusal::{Outcome, Reason, Refusal},
    server::Connection,
    store::{Arrivals, Portion},
};

/// Most events of one request: as many as one receipt names.
pub(crate) const MAX_BATCH: usize = MAX_RECEIPT_IDS;
/// Most bytes of one request: 64 of the largest envelopes, or 256 of 16 KiB.
pub(crate) const MAX_BATCH_BYTES: usize = 4 << 20;
/// Most envelopes of a page.
const MAX_PAGE: usize = 500;
/// Bytes of envelopes after which a page ends, so that a page of the largest ones is bounded too.
const MAX_PAGE_BYTES: usize = 4 << 20;

const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// `POST /v1/envelopes`: takes events, one a line, and says of each what became of it; then a receipt for those that are
/// held.
pub(super) async fn publish(
    State(node): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, held) = request.into_parts();
    let party = connection.pass.party();
    let held = body::read(&node, party, held, MAX_BATCH_BYTES).await?;
    let caller = caller_of(&node, &parts, &held.bytes).await?;
    let text = std::str::from_utf8(&held.bytes).map_err(|_| Refusal::malformed("the body is no text in UTF-8"))?;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.len() > MAX_BATCH {
        return Err(Refusal::new(Reason::TooLarge, format!("more than {MAX_BATCH} events")));
    }
    let peer = caller.and_then(|key| node.roster.of_key(&key));
    let turn = match peer {
        Some(peer) => Some(peer.conduct.turn().await?),
        None => None,
    };
    let origin = if peer.is_some() { Origin::Peer } else { Origin::Client };
    let (batch, tickets) = Batch::new(lines.len());
    for (line, ticket) in lines.iter().zip(tickets) {
        // Peers bring what others were counted for.
        if origin == Origin::Peer || connection.pass.spend(Spend::Event) {
            node.intake.take((*line).to_owned(), origin, ticket).await;
        } else {
            ticket.refuse(slow_down());
        }
    }
    let answers = batch.answers().await;
    drop((held, turn));
    if let Some(peer) = peer {
        peer.conduct.forged(answers.iter().filter(|answer| answer.is_forged()).count());
        peer.pushed();
    }
    Ok(([(header::CONTENT_TYPE, NDJSON)], statuses(&node, &answers)?).into_response())
}

fn statuses(node: &Shared, answers: &[Answer]) -> Result<String, Refusal> {
    // A line has about 110 bytes, and so has a name in the receipt.
    let mut body = String::with_capacity(answers.len() * 220 + 400);
    for answer in answers {
        let id = answer.id.map(|id| id.to_hex());
        let line = match &answer.outcome {
            Outcome::Stored => json!({"id": id, "status": "stored"}),
            Outcome::Duplicate => json!({"id": id, "status": "duplicate"}),
            Outcome::Refused(refusal) => json!({
                "id": id, "status": "refused", "code": refusal.reason().code(), "detail": refusal.text(),
            }),
        };
        let _infallible = writeln!(body, "{line}");
    }
    let held = answers.iter().filter(|answer| !matches!(answer.outcome, Outcome::Refused(_)));
    let held: Vec<_> = held.filter_map(|answer| Some((EnvelopeId::from(answer.id?), answer.until?))).collect();
    if let Some(receipt) = custody::receipt(node, &held)? {
        body.push_str(&receipt);
        body.push('\n');
    }
    Ok(body)
}

/// `GET /v1/mailboxes/{id}/envelopes?after=&limit=`: a page of a mailbox in the order of arrival.
pub(super) async fn list(
    State(node): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    Path(mailbox): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let party = connection.pass.party();
    let mailbox = query::mailbox(&mailbox)?;
    let parts = request.into_parts().0;
    let caller = caller_of(&node, &parts, &[]).await?;
    caller::may_read(&node, caller, mailbox, party).await?;
    page(&node, Arrivals::Of(mailbox), &Query::parse(parts.uri.query())?, party).await
}

/// `GET /v1/log?after=&limit=`: everything in the order of arrival, for peers.
pub(super) async fn log(
    State(node): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Result<Response, Refusal> {
    let parts = request.into_parts().0;
    match caller_of(&node, &parts, &[]).await? {
        Some(key) if node.is_peer(&key) => {}
        Some(_) => return Err(Refusal::new(Reason::Forbidden, "the log is for peers")),
        None => return Err(Refusal::new(Reason::AuthRequired, "the log is for peers")),
    }
    page(&node, Arrivals::All, &Query::parse(parts.uri.query())?, connection.pass.party()).await
}

/// A page as `{"items": […], "next": cursor, "more": bool}`.
async fn page(node: &Shared, of: Arrivals, query: &Query, party: Party) -> Result<Response, Refusal> {
    let events = query.limit.unwrap_or(MAX_PAGE);
    if events == 0 || events > MAX_PAGE {
        return Err(Refusal::malformed(format!("a page has 1 to {MAX_PAGE} envelopes")));
    }
    let after = match &query.after {
        None => 0,
        Some(after) => {
            let last = node.store.last(party).await.map_err(|error| Refusal::of_store(&error))?;
            after.within(node.store.epoch(), last)?
        }
    };
    let portion = Portion { after, events, bytes: MAX_PAGE_BYTES };
    let page = node.store.arrivals(of, portion, party, node.now()).await.map_err(|error| Refusal::of_store(&error))?;
    let bytes: usize = page.items.iter().map(|(_, json)| json.len() + 1).sum();
    let mut text = String::with_capacity(bytes + 100);
    text.push_str("{\"items\":[");
    for (at, (_, json)) in page.items.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(json);
    }
    let next = ArrivalCursor { epoch: node.store.epoch(), place: page.last };
    let _infallible = write!(text, "],\"next\":\"{next}\",\"more\":{}}}", page.more);
    Ok(([(header::CONTENT_TYPE, JSON)], text).into_response())
}

/// `POST /v1/envelopes/get`: those of the named events that the caller may read, one a line.
pub(super) async fn get(
    State(node): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, sent) = request.into_parts();
    let party = connection.pass.party();
    let held = body::read(&node, party, sent, body::IDS_BYTES).await?;
    let caller = caller_of(&node, &parts, &held.bytes).await?;
    let ids = body::ids(&held.bytes)?;
    let rights = match caller {
        _ if !node.config.gate_reads => Rights::Everything,
        Some(key) if node.is_peer(&key) => Rights::Everything,
        Some(key) => Rights::Keys(vec![key]),
        None => return Err(Refusal::new(Reason::AuthRequired, "envelopes are read by those whom they concern")),
    };
    let found = node.store.by_ids(ids, party, node.now()).await.map_err(|error| Refusal::of_store(&error))?;
    let (mut text, mut kept) = (String::new(), None);
    for event in found.into_iter().flatten() {
        if event.is_open_to(&rights) || may_keep(&node, caller, &mut kept, event.mailbox, party).await? {
            text.push_str(&event.json);
            text.push('\n');
        }
    }
    Ok(([(header::CONTENT_TYPE, NDJSON)], Body::from(text)).into_response())
}

/// Whether the caller keeps this mailbox. A request is most often about one, so the last answer is remembered.
async fn may_keep(
    node: &Shared,
    caller: Option<PublicKey>,
    kept: &mut Option<(MailboxId, bool)>,
    mailbox: Option<MailboxId>,
    party: Party,
) -> Result<bool, Refusal> {
    let Some(mailbox) = mailbox else { return Ok(false) };
    if let Some((known, may)) = kept
        && *known == mailbox
    {
        return Ok(*may);
    }
    let may = match caller::may_read(node, caller, mailbox, party).await {
        Ok(_) => true,
        Err(refusal) if refusal.reason() == Reason::Forbidden => false,
        Err(refusal) => return Err(refusal),
    };
    *kept = Some((mailbox, may));
    Ok(may)
}

/// Whose request it is.
pub(super) async fn caller_of(node: &Shared, parts: &Parts, body: &[u8]) -> Result<Option<PublicKey>, Refusal> {
    let asked = Asked { method: &parts.method, uri: &parts.uri, headers: &parts.headers, body };
    let caller = caller::identify(node, asked).await?;
    if let Some(peer) = caller.and_then(|key| node.roster.of_key(&key)) {
        peer.calls();
    }
    Ok(caller)
}
