//! Receipts: who stores something, since when and until when; and who would not take it, in their own words.

use crate::{EnvelopeId, Error, ErrorKind, clock::Timestamp, error::Retry, locator::Locator};

/// The outcome of a `put` or a `publish` that somebody took, or is about to.
///
/// Only acks count as stored. What is pending is settled by `audit`, never by another `put`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Who confirmed that they store it.
    pub acks: Vec<Ack>,
    /// Who has it queued, such as a pin that is not pinned yet.
    pub pending: Vec<Locator>,
    /// Who did not take it, and why.
    pub refused: Vec<Refusal>,
}

impl Receipt {
    /// The receipt of holders' answers.
    ///
    /// # Errors
    /// Where nobody has it and nothing is pending: the most telling refusal, with all of them counted. A refusal that
    /// a retry can change comes before one that it cannot.
    pub fn settle(self) -> crate::Result<Self> {
        if !self.acks.is_empty() || !self.pending.is_empty() {
            return Ok(self);
        }
        let telling = self
            .refused
            .iter()
            .min_by_key(|refusal| (refusal.retry == Retry::No, refusal.kind != ErrorKind::RateLimited));
        Err(match telling {
            None => Error::new(ErrorKind::Unreachable, "no holder is known"),
            Some(refusal) => Error::new(refusal.kind, refusal.words.clone())
                .retry(refusal.retry)
                .with("holder", &refusal.holder)
                .with("refused", self.refused.len())
                .refused_by(self.refused),
        })
    }
}

/// A holder's word that it stores something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Who says so.
    pub holder: Locator,
    /// What it says.
    pub level: Level,
    /// Until when it promises to, where it signed that.
    pub until: Option<Timestamp>,
}

/// How something is stored.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Stored just now.
    Stored,
    /// Pinned by a service.
    Pinned,
    /// Was stored there already: as good as stored.
    Duplicate,
}

/// A holder that did not take something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Who.
    pub holder: Locator,
    /// What kind of refusal; also that it could not be reached.
    pub kind: ErrorKind,
    /// Whether to try again.
    pub retry: Retry,
    /// The holder's own words, or what went wrong on the way to it; cut to 256 characters, control characters taken
    /// out.
    pub words: String,
}

impl Refusal {
    /// A holder's answer.
    pub fn new(holder: Locator, kind: ErrorKind, words: &str) -> Self {
        let retry = Error::new(kind, "").retry_advice();
        Self { holder, kind, retry, words: plain(words) }
    }

    /// What went wrong with a holder.
    pub fn of(holder: Locator, error: &Error) -> Self {
        Self { retry: error.retry_advice(), ..Self::new(holder, error.kind(), error.message()) }
    }
}

/// A holder's words, made safe to print.
fn plain(words: &str) -> String {
    words.chars().filter(|symbol| !symbol.is_control()).take(256).collect()
}

/// What one holder says of one envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Which envelope.
    pub id: EnvelopeId,
    /// Whether it is there.
    pub state: HoldingState,
}

/// Whether a holder has an envelope.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldingState {
    /// It has it, until then where it says so.
    Held {
        /// Until when it promises to keep it.
        until: Option<Timestamp>,
    },
    /// It does not have it.
    Absent,
    /// It cannot say, or not to this key.
    Unknown,
}

/// The outcome of a request to delete, holder by holder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deletion {
    /// Who took the request, and whether the envelopes are gone there.
    pub holders: Vec<(Locator, DeletionState)>,
    /// Who did not take it.
    pub refused: Vec<Refusal>,
}

/// How far a deletion got at one holder.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionState {
    /// It took the request; that proves nothing.
    Requested,
    /// It was asked again, and no longer has any of them.
    Confirmed,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(name: &str) -> Locator {
        Locator::new("test", name).expect("a locator")
    }

    #[test]
    fn nobody_has_it_is_an_error_that_says_whether_to_retry() {
        let refused = vec![
            Refusal::new(holder("a"), ErrorKind::Refused, "blocked: \u{1b}[31mno"),
            Refusal::new(holder("b"), ErrorKind::Unreachable, "connection refused"),
        ];
        let error = Receipt { refused, ..Receipt::default() }.settle().expect_err("nobody");
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, true));
        let error = Receipt::default().settle().expect_err("nobody");
        assert_eq!(error.kind(), ErrorKind::Unreachable);
    }

    #[test]
    fn pending_is_no_error_and_no_ack() {
        let receipt = Receipt { pending: vec![holder("pin")], ..Receipt::default() }.settle().expect("on its way");
        assert!(receipt.acks.is_empty());
    }

    #[test]
    fn words_are_safe_to_print() {
        let refusal = Refusal::new(holder("a"), ErrorKind::Refused, &format!("\u{1b}[2J{}", "x".repeat(1000)));
        assert!(!refusal.words.contains('\u{1b}'));
        assert_eq!(refusal.words.chars().count(), 256);
    }
}
