//! What a node asks of a peer, and how it reads the answers. Every answer is bounded, and none is believed.

use std::time::Duration;

use axum::http::HeaderValue;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use talkbox_core::{
    Error, ErrorKind, EventId, PublicKey, Result,
    event::{Event, kind},
    hex,
};
use talkbox_net::{Limits, Method, Request, Response, Trust, header};
use url::Url;

use super::peer::Peer;
use crate::node::{
    Shared,
    http::{EPOCH, MAX_BATCH_BYTES, MAX_RECONCILE},
};

/// How long a peer may take for an answer. A batch is verified in some ten milliseconds; records of a batch take 0.2 s
/// each, and more than thirty are refused.
const DEADLINE: Duration = Duration::from_secs(30);
/// Most bytes of a document or of the statuses of a batch, with its receipt.
const MAX_ANSWER: usize = 256 << 10;

/// What a peer's refusal means that does not know this node. Where it knows the URL of this node and not its key, that
/// passes as soon as it has asked for the key.
const STRANGER: &str = "the peer does not know this node: its operator has to name this node with --peer";

/// Whether it is that.
pub(super) fn is_stranger(error: &Error) -> bool {
    error.message() == STRANGER
}

/// What became of an event at a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The peer has it, or knows why it does not.
    Settled,
    /// The peer could not take it now.
    Later,
}

/// Asks the peer who it is, and checks that it is who it has to be.
///
/// # Errors
/// `Unreachable`, `Timeout`; `Denied` where its key is another.
pub(super) async fn introduce(node: &Shared, peer: &Peer) -> Result<PublicKey> {
    let key = key_of(node, peer.address.route("/")?, Trust::Configured).await?;
    if key == node.key.public() {
        peer.is_this_node();
        return Err(Error::new(
            ErrorKind::ConfigInvalid,
            "the peer has the key of this node: it is this node itself, or has a copy of its node.key",
        ));
    }
    if !peer.meet(key) {
        return Err(Error::new(
            ErrorKind::Denied,
            "the peer has another key than before: if that is right, name it in the list of peers as URL#npub",
        ));
    }
    Ok(key)
}

/// The key that a node shows in its information document (NIP-11).
///
/// # Errors
/// `Unreachable`, `Timeout`; `Refused` where it shows none.
pub(super) async fn key_of(node: &Shared, url: Url, trust: Trust) -> Result<PublicKey> {
    let accept = HeaderValue::from_static("application/nostr+json");
    let request = Request::get(url, trust).header(header::ACCEPT, accept);
    let answer = node.http.request(request, limits(MAX_ANSWER)).await?;
    serde_json::from_slice::<Value>(&answer.body)
        .ok()
        .and_then(|document| hex::decode_lower(document.get("self")?.as_str()?))
        .map(PublicKey::from_bytes)
        .ok_or_else(|| nonsense("the node does not say which key it has"))
}

/// A document that the operator's configuration leads to.
///
/// # Errors
/// Those of asking.
pub(super) async fn document(node: &Shared, url: Url) -> Result<Vec<u8>> {
    let answer = node.http.request(Request::get(url, Trust::Configured), limits(MAX_ANSWER)).await?;
    if answer.status.is_success() {
        return Ok(answer.body.to_vec());
    }
    Err(nonsense("there is no such document").with("status", answer.status.as_u16()))
}

/// Gives events to the peer; what became of each.
///
/// # Errors
/// Those of asking.
pub(super) async fn publish(node: &Shared, peer: &Peer, events: &[String]) -> Result<Vec<Fate>> {
    let mut body = String::with_capacity(events.iter().map(|event| event.len() + 1).sum());
    for event in events {
        body.push_str(event);
        body.push('\n');
    }
    let answer = ask(node, peer, "/v1/envelopes", body.into_bytes(), MAX_ANSWER).await?;
    let text = std::str::from_utf8(&answer.body).map_err(|_| nonsense("the peer answers with what is no text"))?;
    let fates: Vec<Fate> = text.lines().take(events.len()).filter_map(fate).collect();
    if fates.len() == events.len() { Ok(fates) } else { Err(nonsense("the peer does not answer for every event")) }
}

fn fate(line: &str) -> Option<Fate> {
    #[derive(serde::Deserialize)]
    struct Status<'a> {
        status: &'a str,
        #[serde(borrow)]
        code: Option<&'a str>,
    }
    let status: Status<'_> = serde_json::from_str(line).ok()?;
    match (status.status, status.code) {
        ("stored" | "duplicate", _) => Some(Fate::Settled),
        // What is too early there comes in its time by anti-entropy, and so does what was one record too many.
        ("refused", Some("failed" | "disk-full" | "auth-required")) => Some(Fate::Later),
        ("refused", _) => Some(Fate::Settled),
        _ => None,
    }
}

/// Gives a message of a reconciliation to the peer; its answer.
///
/// # Errors
/// Those of asking.
pub(super) async fn reconcile(node: &Shared, peer: &Peer, message: Vec<u8>) -> Result<Vec<u8>> {
    let answer = ask(node, peer, "/v1/reconcile?set=whole", message, MAX_RECONCILE).await?;
    Ok(answer.body.to_vec())
}

/// Asks for events by id. What comes is what the peer says; nothing of it has been checked.
///
/// # Errors
/// Those of asking.
pub(super) async fn fetch(node: &Shared, peer: &Peer, ids: &[EventId]) -> Result<Vec<String>> {
    let ids: Vec<String> = ids.iter().map(|id| id.to_hex()).collect();
    let body = serde_json::json!({ "ids": ids }).to_string();
    // As large as all of them can be: 16 MiB, in the memory of one peer at a time.
    let most = ids.len() * (talkbox_core::envelope::MAX_ENVELOPE_BYTES + 1);
    let answer = ask(node, peer, "/v1/envelopes/get", body.into_bytes(), most.max(MAX_BATCH_BYTES)).await?;
    let text = std::str::from_utf8(&answer.body).map_err(|_| nonsense("the peer answers with what is no text"))?;
    Ok(text.lines().take(ids.len()).map(ToOwned::to_owned).collect())
}

async fn ask(node: &Shared, peer: &Peer, route: &str, body: Vec<u8>, most: usize) -> Result<Response> {
    let url = peer.address.route(route)?;
    let proof = prove(node, &url, &body)?;
    let request = Request::new(Method::POST, url, Trust::Configured).header(header::AUTHORIZATION, proof).body(body);
    let answer = node.http.request(request, limits(most)).await?;
    if let Some(epoch) = answer.headers.get(EPOCH).and_then(|epoch| epoch.to_str().ok()) {
        peer.shows_epoch(epoch);
    }
    if answer.status.is_success() {
        return Ok(answer);
    }
    let (kind, why) = match answer.status.as_u16() {
        401 => {
            (ErrorKind::Denied, "the peer takes no proof for this URL: its public URL is another, or a clock is wrong")
        }
        403 => (ErrorKind::Denied, STRANGER),
        429 => (ErrorKind::RateLimited, "the peer is asked too often"),
        _ => (ErrorKind::Refused, "the peer refuses"),
    };
    Err(Error::new(kind, why).with("status", answer.status.as_u16()))
}

/// Says who asks (NIP-98).
fn prove(node: &Shared, url: &Url, body: &[u8]) -> Result<HeaderValue> {
    let tag = |name: &str, value: &str| vec![name.to_owned(), value.to_owned()];
    let digest = hex::encode(&Sha256::digest(body));
    let tags = vec![tag("u", url.as_str()), tag("method", "POST"), tag("payload", &digest)];
    let event = Event::sign(&node.key, node.now(), kind::HTTP_AUTH, tags, String::new());
    HeaderValue::from_str(&format!("Nostr {}", STANDARD.encode(event.to_json())))
        .map_err(|error| Error::new(ErrorKind::Unexpected, "no header").source(error))
}

const fn limits(most: usize) -> Limits {
    Limits { max_response_bytes: most, deadline: DEADLINE }
}

pub(super) fn nonsense(why: &'static str) -> Error {
    Error::new(ErrorKind::Refused, why)
}
