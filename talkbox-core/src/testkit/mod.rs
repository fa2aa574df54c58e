//! The conformance kit: what every backend has to do, as cases that run against any of them. Not semver-stable.
//!
//! In the tests of a backend one line makes each case a test:
//!
//! ```
//! # use talkbox_core::testkit::MemoryHarness;
//! talkbox_core::conformance!(MemoryHarness::new());
//! # fn main() {}
//! ```
//!
//! The same list runs against backends that are open already, as `talkbox conformance` does, with [`run()`]. Every case
//! makes keys of its own and deletes nothing that it did not write, so that it may run on a network in use. A case
//! that needs something that the backend or the [`Harness`] does not have is skipped, and says what it is.

pub mod cases;
pub mod faults;
mod live;
mod memory;
mod outcome;
mod run;
mod scene;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

pub use self::{
    faults::{Fault, Faults, FaultyHolders, Lie},
    live::LiveHarness,
    memory::MemoryHarness,
    outcome::{Failure, Outcome, Verdict},
    run::{Case, CaseReport, CaseResult, case_list, run, run_as_test},
};
use crate::{
    Result,
    backend::Backend,
    clock::{Clock, SystemClock},
    locator::Locator,
};

/// Who opens a backend. Each is a program of its own, with its own configuration and folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Whose mailbox it is.
    Owner,
    /// Who writes to it.
    Sender,
    /// Somebody else.
    Stranger,
}

impl Role {
    /// A name for an instance.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Sender => "sender",
            Self::Stranger => "stranger",
        }
    }
}

/// One network, and what a case may do to it.
///
/// Only [`open`](Self::open) is needed. What else a harness can do makes more cases run instead of being skipped.
#[async_trait]
pub trait Harness: fmt::Debug + Send + Sync {
    /// Opens a backend anew. All that are opened of one harness meet on the same network, and one that is opened in
    /// the same role again finds what the first remembered.
    ///
    /// # Errors
    /// Whatever opening fails with: it fails the case.
    async fn open(&self, role: Role) -> Result<Backend>;

    /// The time of the network.
    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    /// Moves the time of the network forward; whether it can.
    fn advance(&self, _by: Duration) -> bool {
        false
    }

    /// Stops every holder and starts it again with what it stored; whether it can.
    ///
    /// # Errors
    /// Whatever starting fails with: it fails the case.
    async fn restart(&self) -> Result<bool> {
        Ok(false)
    }

    /// What makes holders misbehave, where it can.
    fn faults(&self) -> Option<&dyn Faults> {
        None
    }

    /// How many watches the holders serve just now, where they can be asked.
    fn watchers(&self) -> Option<usize> {
        None
    }

    /// A well-formed locator of this network at which nobody answers.
    fn dead_holder(&self) -> Option<Locator> {
        None
    }
}
