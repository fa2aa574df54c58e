//! Where one envelope ended up, member by member.

use std::collections::BTreeSet;

use super::causes::Causes;
use crate::{
    Error, Result,
    locator::Locator,
    receipt::{Receipt, Refusal},
};

/// What became of one envelope that was put to several members.
#[derive(Debug, Default)]
pub struct Placement {
    /// What each member answered.
    pub answers: Vec<Answer>,
    /// The places that nobody opens.
    pub unopened: Vec<Refusal>,
}

/// What one member answered.
#[derive(Debug)]
pub struct Answer {
    /// The name of the member.
    pub member: String,
    /// The places that it was asked for.
    pub places: Vec<Locator>,
    /// What it said.
    pub receipt: Result<Receipt>,
}

impl Placement {
    /// How many distinct holders confirmed that they store it, whichever member they are behind.
    pub fn stored(&self) -> usize {
        self.receipts().flat_map(|receipt| &receipt.acks).map(|ack| &ack.holder).collect::<BTreeSet<_>>().len()
    }

    /// What all members said, as one receipt. It may be empty: see [`settle`](Self::settle).
    pub fn receipt(&self) -> Receipt {
        let mut acked = BTreeSet::new();
        let mut whole = Receipt::default();
        for ack in self.receipts().flat_map(|receipt| &receipt.acks) {
            if acked.insert(ack.holder.clone()) {
                whole.acks.push(ack.clone());
            }
        }
        for pending in self.receipts().flat_map(|receipt| &receipt.pending) {
            if !acked.contains(pending) && !whole.pending.contains(pending) {
                whole.pending.push(pending.clone());
            }
        }
        // A holder that two members ask, and that one of them could not reach, has not refused.
        let taken = |holder: &Locator| acked.contains(holder) || whole.pending.contains(holder);
        whole.refused = self.refused().filter(|refusal| !taken(&refusal.holder)).collect();
        whole
    }

    /// The one receipt of an envelope that somebody stores, or is about to.
    ///
    /// # Errors
    /// Where nobody does: one error that holds every cause ([`Causes`]).
    pub fn settle(self) -> Result<Receipt> {
        let receipt = self.receipt();
        if !receipt.acks.is_empty() || !receipt.pending.is_empty() {
            return Ok(receipt);
        }
        let mut causes: Vec<(String, Error)> = self.unopened.iter().map(cause).collect();
        for answer in self.answers {
            match answer.receipt {
                Err(error) => causes.push((answer.member, error)),
                Ok(receipt) => causes.extend(receipt.refused.iter().map(cause)),
            }
        }
        Err(Causes::into_error("put", causes))
    }

    /// Every place that did not take it. Where a member failed as a whole, each place that it was asked for.
    fn refused(&self) -> impl Iterator<Item = Refusal> {
        let answered = self.answers.iter().flat_map(|answer| match &answer.receipt {
            Ok(receipt) => receipt.refused.clone(),
            Err(error) => answer.places.iter().map(|place| refusal(place, error)).collect(),
        });
        self.unopened.iter().cloned().chain(answered)
    }

    fn receipts(&self) -> impl Iterator<Item = &Receipt> {
        self.answers.iter().filter_map(|answer| answer.receipt.as_ref().ok())
    }
}

/// What a place is told to have said, where its member failed as a whole: the words of the one that the error names
/// are its own.
fn refusal(place: &Locator, error: &Error) -> Refusal {
    match error.context("holder") {
        Some(holder) if holder != place.as_str() => {
            let words = format!("not stored, as elsewhere: {}", error.message());
            Refusal { retry: error.retry_advice(), ..Refusal::new(place.clone(), error.kind(), &words) }
        }
        _ => Refusal::of(place.clone(), error),
    }
}

fn cause(refusal: &Refusal) -> (String, Error) {
    (refusal.holder.to_string(), of_refusal(refusal))
}

/// A refusal as an error.
pub(super) fn of_refusal(refusal: &Refusal) -> Error {
    Error::new(refusal.kind, refusal.words.clone()).retry(refusal.retry)
}
