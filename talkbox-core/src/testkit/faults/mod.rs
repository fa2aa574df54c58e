//! Holders that misbehave, on purpose and repeatably: a wrapper around any backend.
//!
//! A fault is set for one holder at run time. Chance is drawn from a seed, holder by holder, so that the same calls in
//! the same order meet the same faults.

mod holders;
mod lies;
mod mailbox;
mod transport;

use std::{fmt, time::Duration};

pub use self::holders::FaultyHolders;
use crate::{ErrorKind, MailboxId, Result, address::Target, clock::Timestamp, envelope::RawEnvelope, locator::Locator};

/// What makes holders misbehave. [`FaultyHolders`] does, around any backend; a harness of real holders may do it on
/// the wire instead.
pub trait Faults: fmt::Debug + Send + Sync {
    /// Makes a holder misbehave in this way and no other; whether that can be done.
    fn set(&self, holder: &Locator, fault: Fault) -> bool;

    /// Makes all holders behave.
    fn clear(&self);
}

/// How a holder misbehaves. The default is not at all; faults add up.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct Fault {
    /// So many of a hundred times it says that it stored or told, and did not.
    pub drop: u8,
    /// So many of a hundred times what it gives comes twice.
    pub duplicate: u8,
    /// What it gives comes in another order.
    pub reorder: bool,
    /// It takes this long to answer.
    pub delay: Option<Duration>,
    /// It refuses everything, in these words.
    pub refuse: Option<(ErrorKind, String)>,
    /// It never answers.
    pub hang: bool,
    /// What it gives besides what it has.
    pub lies: Vec<Lie>,
}

impl Fault {
    /// Drops so many of a hundred.
    pub fn drops(percent: u8) -> Self {
        Self { drop: percent, ..Self::default() }
    }

    /// Gives so many of a hundred twice.
    pub fn duplicates(percent: u8) -> Self {
        Self { duplicate: percent, ..Self::default() }
    }

    /// Gives all in another order.
    pub fn reorders() -> Self {
        Self { reorder: true, ..Self::default() }
    }

    /// Takes this long.
    pub fn delays(by: Duration) -> Self {
        Self { delay: Some(by), ..Self::default() }
    }

    /// Refuses everything.
    pub fn refuses(kind: ErrorKind, words: &str) -> Self {
        Self { refuse: Some((kind, words.to_owned())), ..Self::default() }
    }

    /// Never answers.
    pub fn hangs() -> Self {
        Self { hang: true, ..Self::default() }
    }

    /// Lies in these ways.
    pub fn lies(lies: impl IntoIterator<Item = Lie>) -> Self {
        Self { lies: lies.into_iter().collect(), ..Self::default() }
    }
}

/// A way to lie.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// An envelope, or a record, whose signature is of something else; the same one twice.
    Forged,
    /// One of which a part was changed on the way.
    Tampered,
    /// A good envelope under another id.
    WrongId,
    /// A good envelope of another mailbox; a good record of another mailbox that claims the code.
    Foreign,
    /// A good envelope whose time is over.
    Expired,
    /// A good envelope from the far future.
    Future,
    /// Something that is no event.
    Garbage,
    /// A page of thousands, whatever the limit.
    HugePage,
    /// A cursor that leads back to where it came from, with more to come for ever.
    CursorLoop,
    /// Nothing is given, and an audit says that everything is held.
    Withhold,
}

impl Lie {
    /// All that can be told in an envelope.
    pub const ENVELOPES: [Self; 7] =
        [Self::Forged, Self::Tampered, Self::WrongId, Self::Foreign, Self::Expired, Self::Future, Self::Garbage];
    /// All that can be told in a record.
    pub const RECORDS: [Self; 4] = [Self::Forged, Self::Tampered, Self::Foreign, Self::Garbage];

    /// The lie, told of a mailbox as envelopes: for a harness that tells it on the wire.
    ///
    /// # Errors
    /// Where the operating system gives no randomness.
    pub fn envelopes(self, owner: MailboxId, now: Timestamp) -> Result<Vec<RawEnvelope>> {
        lies::envelopes(self, owner, now)
    }

    /// The lie, told of a target as the JSON of records. The work that a record has to show takes a moment.
    ///
    /// # Errors
    /// Where the operating system gives no randomness.
    pub fn records(self, target: &Target, now: Timestamp) -> Result<Vec<String>> {
        lies::records(self, target, now)
    }
}
