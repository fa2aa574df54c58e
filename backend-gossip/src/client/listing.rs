//! Listing: pages in the order of arrival, and envelopes by their ids.

use std::collections::HashSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::value::RawValue;
use talkbox_core::{
    Cursor, EnvelopeId, Error, ErrorKind, ListOptions, MailboxId, Page, RawEnvelope, Result, Timestamp,
    envelope::{MAX_ENVELOPE_BYTES, expires_at},
    event::{Wire, kind},
};

use super::{
    ask::{Asker, Proof, Question},
    cursor::Place,
};

/// Most envelopes of a page, as nodes give them.
const MAX_PAGE: usize = 500;
/// Most bytes of a page: nodes end one after 4 MiB of envelopes, with the one that goes beyond.
const MAX_PAGE_BYTES: usize = (4 << 20) + 4 * MAX_ENVELOPE_BYTES;
/// Ids of one question: 4 MiB of the largest envelopes.
const IDS: usize = 64;
/// Questions by id at once: distance matters less, and no more than 16 MiB are held.
const WINDOW: usize = 4;

/// One page.
///
/// # Errors
/// As [`Asker::ask`]; `NotFound` for a cursor that is not one of this node; `Unexpected` where the page is not what was
/// asked for, or leads back.
pub(super) async fn list(asker: &Asker, owner: MailboxId, options: &ListOptions) -> Result<Page> {
    #[derive(serde::Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        items: Vec<&'a RawValue>,
        next: Option<String>,
        more: bool,
    }
    let after = options.after.as_ref().map(place_of).transpose()?;
    let limit = match options.limit {
        0 => MAX_PAGE,
        limit => MAX_PAGE.min(limit as usize),
    };
    let mut path = format!("/v1/mailboxes/{}/envelopes?limit={limit}", owner.to_hex());
    if let Some(after) = after {
        path.push_str("&after=");
        path.push_str(&after.cursor().0);
    }
    let answer = asker.ask(&Question::get(path), Proof::First, MAX_PAGE_BYTES).await?;
    let answer: Answer<'_> = serde_json::from_slice(&answer.body)
        .map_err(|error| asker.nonsense("the node's page makes no sense").source(error))?;
    if answer.items.len() > limit {
        return Err(asker.nonsense("the node gives more than was asked for"));
    }
    let next = answer.next.map(|next| Place::parse(&next).ok_or_else(|| asker.nonsense("the node's cursor is none")));
    let next = next.transpose()?;
    let goes_on = match (answer.more, next) {
        (true, next) => next.is_some_and(|next| next.is_behind(after)),
        (false, next) => next.is_none_or(|next| next.is_not_before(after)),
    };
    if !goes_on {
        return Err(asker.nonsense("the node's listing leads back to where it was"));
    }
    let now = asker.network.clock.now();
    let items = answer.items.iter().filter_map(|item| envelope(item.get(), owner, now)).collect();
    Ok(Page { items, next: next.map(Place::cursor), more: answer.more })
}

/// Those of these envelopes that the node gives.
///
/// # Errors
/// As [`Asker::ask`].
pub(super) async fn fetch(asker: &Asker, owner: MailboxId, ids: &[EnvelopeId]) -> Result<Page> {
    let parts: Vec<_> = ids.chunks(IDS).map(|ids| fetch_some(asker, owner, ids)).collect();
    let parts: Vec<Vec<RawEnvelope>> = stream::iter(parts).buffered(WINDOW).try_collect().await?;
    Ok(Page { items: parts.concat(), next: None, more: false })
}

async fn fetch_some(asker: &Asker, owner: MailboxId, ids: &[EnvelopeId]) -> Result<Vec<RawEnvelope>> {
    let mut wanted: HashSet<EnvelopeId> = ids.iter().copied().collect();
    let hex: Vec<String> = ids.iter().map(EnvelopeId::to_hex).collect();
    let body = serde_json::json!({ "ids": hex }).to_string();
    let question = Question::post("/v1/envelopes/get", "application/json", body);
    let answer = asker.ask(&question, Proof::First, ids.len() * (MAX_ENVELOPE_BYTES + 1)).await?;
    let now = asker.network.clock.now();
    // A line that is no text is none; the others are.
    let lines = answer.body.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let found = lines.filter_map(|line| envelope(line.trim(), owner, now));
    Ok(found.filter(|envelope| wanted.remove(&envelope.id())).collect())
}

/// What a node gave, under the id that it claims, where it looks like an envelope of this mailbox whose time is not
/// over. Whether it holds, core finds out.
pub(super) fn envelope(json: &str, owner: MailboxId, now: Timestamp) -> Option<RawEnvelope> {
    if json.len() > MAX_ENVELOPE_BYTES {
        return None;
    }
    let event = Wire::parse(json).ok()?;
    let is_ours = event.kind() == kind::GIFT_WRAP && event.values("p").any(|key| key == owner.to_hex());
    let expiration = event.values("expiration").next().and_then(|time| time.parse().ok()).map(Timestamp);
    if !is_ours || expires_at(event.created_at(), expiration) <= now {
        return None;
    }
    RawEnvelope::new(event.id().into(), json).ok()
}

/// A cursor that is none of a node's is of another time, when this holder was something else.
fn place_of(cursor: &Cursor) -> Result<Place> {
    let unknown = || Error::new(ErrorKind::NotFound, "the cursor is not one of a node: begin again without one");
    Place::parse(&cursor.0).ok_or_else(unknown)
}
