//! Envelopes: published in batches, listed in the order of arrival, fetched by id.

use std::{fmt::Write as _, sync::Arc};

use axum::{
    extract::{Extension, Path, Request, State},
    http::{HeaderValue, request::Parts},
    response::Response,
};
use serde_json::json;
use talkbox_core::{EnvelopeId, EventId, MailboxId, PublicKey, custody::MAX_RECEIPT_IDS};

use super::{
    answer::{self, InParts, Part},
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
    hour,
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

/// What is said of an event: a line of about 110 bytes, and a name in the receipt of as many.
const STATUS_BYTES: usize = 220;

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
    // Before anything is stored of which nobody could be told.
    let room = answer::reserve(&node, party, lines.len() * STATUS_BYTES)?;
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
    Ok(answer::reserved(NDJSON, statuses(&node, &answers)?, room))
}

fn statuses(node: &Shared, answers: &[Answer]) -> Result<String, Refusal> {
    let mut body = String::with_capacity(answers.len() * STATUS_BYTES + 400);
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
    page(node, Arrivals::Of(mailbox), &Query::parse(parts.uri.query())?, party).await
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
    page(node, Arrivals::All, &Query::parse(parts.uri.query())?, connection.pass.party()).await
}

/// A page as `{"items": […], "next": cursor, "more": bool}`.
async fn page(node: Arc<Shared>, of: Arrivals, query: &Query, party: Party) -> Result<Response, Refusal> {
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
    let left = Portion { after, events, bytes: MAX_PAGE_BYTES };
    let page = Page { node: Arc::clone(&node), of, left, party, before: "{\"items\":[" };
    answer::in_parts(&node, party, JSON, page).await
}

/// A page under way.
struct Page {
    node: Arc<Shared>,
    of: Arrivals,
    /// Where it goes on, and how much more it may have.
    left: Portion,
    party: Party,
    /// What stands before the next item.
    before: &'static str,
}

impl InParts for Page {
    async fn next(&mut self, bytes: usize) -> Result<Part, Refusal> {
        let (store, now) = (&self.node.store, self.node.now());
        let portion = Portion { bytes: self.left.bytes.min(bytes), ..self.left };
        let found = store.arrivals(self.of, portion, self.party, now).await;
        let found = found.map_err(|error| Refusal::of_store(&error))?;
        let size: usize = found.items.iter().map(|(_, json)| json.len()).sum();
        let mut text = String::with_capacity(size + found.items.len() + 100);
        for (_, json) in &found.items {
            text.push_str(std::mem::replace(&mut self.before, ","));
            text.push_str(json);
        }
        self.left.after = found.last;
        self.left.events -= found.items.len();
        self.left.bytes = self.left.bytes.saturating_sub(size);
        let is_last = !found.more || self.left.events == 0 || self.left.bytes == 0;
        if is_last {
            if self.before != "," {
                text.push_str(self.before);
            }
            let next = ArrivalCursor { epoch: store.epoch(), place: found.last };
            let _infallible = write!(text, "],\"next\":\"{next}\",\"more\":{}}}", found.more);
        }
        Ok(Part { text, is_last })
    }
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
    let ids = body::ids(&held.bytes)?.into();
    drop(held);
    // A peer compares what counts as held, which is so to the end of the hour.
    let is_peer = caller.is_some_and(|key| node.is_peer(&key));
    let rights = match caller {
        _ if is_peer || !node.config.gate_reads => Rights::Everything,
        Some(key) => Rights::Keys(vec![key]),
        None => return Err(Refusal::new(Reason::AuthRequired, "envelopes are read by those whom they concern")),
    };
    let named = Named { node: Arc::clone(&node), ids, from: 0, rights, caller, is_peer, kept: None, party };
    answer::in_parts(&node, party, NDJSON, named).await
}

/// The named events, under way.
struct Named {
    node: Arc<Shared>,
    ids: Arc<[EventId]>,
    /// The id that is next.
    from: usize,
    rights: Rights,
    caller: Option<PublicKey>,
    is_peer: bool,
    /// A mailbox, and whether the caller keeps it.
    kept: Option<(MailboxId, bool)>,
    party: Party,
}

impl InParts for Named {
    async fn next(&mut self, bytes: usize) -> Result<Part, Refusal> {
        let node = &self.node;
        let now = if self.is_peer { hour(node.now()) } else { node.now() };
        let found = node.store.named(Arc::clone(&self.ids), self.from, bytes, self.party, now).await;
        let (found, taken) = found.map_err(|error| Refusal::of_store(&error))?;
        let mut text = String::with_capacity(found.iter().map(|event| event.json.len() + 1).sum());
        for event in found {
            if event.is_open_to(&self.rights)
                || may_keep(node, self.caller, &mut self.kept, event.mailbox, self.party).await?
            {
                text.push_str(&event.json);
                text.push('\n');
            }
        }
        self.from += taken;
        Ok(Part { text, is_last: self.from >= self.ids.len() })
    }
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
