//! Items by numbers, and two sides that talk until the end.

use std::collections::BTreeSet;

use talkbox_core::{
    EventId, Timestamp,
    anti_entropy::{FrameLimit, Initiator, Item, ReconciledSet, respond},
};

/// A time at which sets of these tests are.
pub(crate) const NOW: u64 = 1_800_000_000;

/// Numbers that look random, and are the same in every run.
pub(crate) fn mixed(number: u64) -> u64 {
    let mut it = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    it ^ (it >> 31)
}

/// The id with this number, all of whose bytes look random.
pub(crate) fn id(number: u64) -> EventId {
    let mut bytes = [0; 32];
    for (part, at) in bytes.chunks_exact_mut(8).zip(0..) {
        part.copy_from_slice(&mixed(number.wrapping_mul(4).wrapping_add(at)).to_be_bytes());
    }
    EventId::from_bytes(bytes)
}

pub(crate) fn item(time: u64, id: EventId) -> Item {
    Item::new(Timestamp(time), id).expect("an item")
}

/// An item with this number, within so many seconds before now.
pub(crate) fn within(seconds: u64, number: u64) -> Item {
    item(NOW - mixed(!number) % seconds, id(number))
}

pub(crate) fn limit(bytes: usize) -> FrameLimit {
    if bytes == 0 { FrameLimit::NONE } else { FrameLimit::at_most(bytes).expect("no less than the least") }
}

/// What a reconciliation came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) have: BTreeSet<EventId>,
    pub(crate) need: BTreeSet<EventId>,
    /// Bytes of each message of the initiator.
    pub(crate) sent: Vec<usize>,
    /// Bytes of each answer.
    pub(crate) received: Vec<usize>,
}

/// Reconciles two sets to the end.
pub(crate) fn reconcile<A, B>(ours: &A, theirs: &B, initiator: Initiator, frame: FrameLimit) -> Outcome
where
    A: ReconciledSet + ?Sized,
    B: ReconciledSet + ?Sized,
{
    let mut outcome = Outcome::default();
    let mut message = Some(initiator.start(ours));
    while let Some(sent) = message {
        assert!(outcome.sent.len() < 3_000, "it has an end");
        let answer = respond(theirs, &sent, frame).expect("answers");
        outcome.sent.push(sent.len());
        outcome.received.push(answer.len());
        let step = initiator.step(ours, &answer).expect("a step");
        outcome.have.extend(step.have);
        outcome.need.extend(step.need);
        message = step.reply;
    }
    outcome
}

/// The ids of some items.
pub(crate) fn ids<'a>(items: impl IntoIterator<Item = &'a Item>) -> BTreeSet<EventId> {
    items.into_iter().map(Item::id).collect()
}
