//! A verified event on its way to the store: everything that the writer needs, worked out before it reaches it.

use axum::extract::ws::Utf8Bytes;
use talkbox_core::{DeleteRequest, Timestamp, event::Wire};

use super::{
    filter::Facts,
    policy::{Terms, Treatment},
    refusal::Refusal,
    store::Packed,
};

/// An event that was verified and that the policy takes.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) facts: Facts,
    pub(crate) expires: Timestamp,
    pub(crate) sig: [u8; 64],
    pub(crate) packed: Packed,
    /// Its canonical form, which every subscriber gets a part of its message from.
    pub(crate) json: Utf8Bytes,
    pub(crate) effect: Effect,
    pub(crate) origin: Origin,
}

/// Where an event came from. Only what clients brought is pushed on to peers: the others have it from where it came
/// first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Client = 0,
    Peer = 1,
}

/// What storing it does besides.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Nothing; it counts towards the quota of its mailbox.
    Keep,
    /// It takes the place of an older one of the same author and kind.
    Replace,
    /// It deletes envelopes.
    Delete(Box<DeleteRequest>),
    /// It removes all mail to its author and all that is from it, up to its time.
    Vanish,
    /// It is not stored, and remembered for that: the policy does not take what a peer takes.
    Refuse(Refusal),
}

impl Admitted {
    /// Takes over a verified event.
    pub(crate) fn new(
        event: &Wire<'_>,
        json: String,
        terms: Terms,
        deletion: Option<DeleteRequest>,
        origin: Origin,
    ) -> Self {
        let effect = match (deletion, terms.treatment) {
            (Some(request), _) => Effect::Delete(Box::new(request)),
            (None, Treatment::Replaceable | Treatment::Record) => Effect::Replace,
            (None, Treatment::Vanish) => Effect::Vanish,
            (None, _) => Effect::Keep,
        };
        Self {
            facts: facts(event, terms),
            expires: terms.expires,
            sig: *event.signature(),
            packed: Packed::new(event.tags(), event.content(), terms.mailbox),
            json: json.into(),
            effect,
            origin,
        }
    }
}

impl Admitted {
    /// Takes over a verified event that a peer holds and this node does not take.
    pub(crate) fn refused(event: &Wire<'_>, json: String, expires: Timestamp, refusal: Refusal) -> Self {
        let terms = Terms { treatment: Treatment::Envelope, mailbox: None, expires };
        Self { effect: Effect::Refuse(refusal), ..Self::new(event, json, terms, None, Origin::Peer) }
    }
}

fn facts(event: &Wire<'_>, terms: Terms) -> Facts {
    Facts {
        id: event.id(),
        author: event.author(),
        created_at: event.created_at().secs(),
        kind: event.kind(),
        mailbox: terms.mailbox,
        letters: event.tags().iter().filter_map(|tag| letter(tag)).collect(),
    }
}

/// Name and first value of a tag that filters can ask for, other than `p`.
fn letter<S: AsRef<str>>(tag: &[S]) -> Option<(char, String)> {
    let [name, value, ..] = tag else { return None };
    let mut name = name.as_ref().chars();
    match (name.next(), name.next()) {
        (Some(letter), None) if letter.is_ascii_alphabetic() && letter != 'p' => {
            Some((letter, value.as_ref().to_owned()))
        }
        _ => None,
    }
}
