//! What everybody did, and what has to be true because of it.

use std::collections::{BTreeMap, BTreeSet};

use talkbox_core::{EnvelopeId, Timestamp};

/// What is known of one envelope.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    pub(crate) mailbox: usize,
    pub(crate) json: String,
    pub(crate) expires: Timestamp,
    /// The nodes that acknowledged it with a receipt.
    pub(crate) held_by: BTreeSet<usize>,
    /// Somebody asked to delete it: whether that was heard is open.
    pub(crate) asked_to_delete: bool,
    /// The nodes that acknowledged a deletion.
    pub(crate) deleted_by: BTreeSet<usize>,
}

/// What a reader has seen of one mailbox at one node, page by page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) cursor: Option<String>,
    pub(crate) ids: BTreeSet<EnvelopeId>,
}

#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) mail: BTreeMap<EnvelopeId, Mail>,
    /// In the order in which they were made: what clients choose from.
    pub(crate) order: Vec<EnvelopeId>,
    /// By node and mailbox.
    pub(crate) seen: BTreeMap<(usize, usize), Seen>,
}

/// What has to be the case with an envelope when all is well again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Must {
    BeThere,
    BeGone,
    /// Nobody promised either.
    Either,
}

impl Mail {
    /// `latest` is the latest time that the clock of any node has shown.
    pub(crate) fn must(&self, now: Timestamp, latest: Timestamp, lives: impl Fn(usize) -> bool) -> Must {
        if self.expires <= now || self.deleted_by.iter().any(|node| lives(*node)) {
            Must::BeGone
        } else if self.asked_to_delete || self.expires <= latest || !self.held_by.iter().any(|node| lives(*node)) {
            Must::Either
        } else {
            Must::BeThere
        }
    }
}
