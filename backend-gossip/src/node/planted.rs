//! Bugs that the simulation plants, to show that it would find them, and how long its disk takes.
//!
//! Without the feature `defects` there are none: each question for one is then the constant `false`.

#[cfg(feature = "defects")]
use std::time::Duration;

/// A bug.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// An event is acknowledged before it is committed.
    AckBeforeCommit,
    /// A commit does not wait for the disk.
    NoSync,
    /// What is on its way to the store counts as known, also where it never gets there.
    DropOnDedupe,
    /// Nodes are never compared.
    NoRepair,
    /// A node that starts begins with nothing.
    WipeOnCrash,
    /// A mailbox is listed in the order of its senders' clocks.
    ClockOrderedCursor,
    /// What was deleted is not remembered.
    ForgottenDeletions,
    /// Signatures are not verified.
    AcceptUnverified,
}

/// What is planted in a node: nothing, but in a simulation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Planted {
    #[cfg(feature = "defects")]
    pub(super) defect: Option<Defect>,
    /// How long the disk takes for a commit.
    #[cfg(feature = "defects")]
    pub(super) commit_time: Duration,
}

impl Planted {
    /// Whether it is this bug.
    #[cfg(feature = "defects")]
    pub(crate) fn is(self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    /// Whether it is this bug.
    #[cfg(not(feature = "defects"))]
    pub(crate) const fn is(self, _: Defect) -> bool {
        false
    }
}
