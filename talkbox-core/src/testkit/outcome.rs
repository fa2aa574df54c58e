//! How a case ends.

use std::{fmt, panic::Location};

use crate::Error;

/// What a case says.
pub type Outcome = Result<Verdict, Failure>;

/// A case that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The backend does it right.
    Pass,
    /// It cannot be asked.
    Skip {
        /// What the backend or the harness does not have.
        capability: &'static str,
    },
}

/// What the backend does wrong, and which line of the kit says so.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    message: String,
    at: String,
}

impl Failure {
    /// A failure that is found here.
    #[track_caller]
    pub fn new(message: impl Into<String>) -> Self {
        let at = Location::caller();
        Self { message: message.into(), at: format!("{}:{}", at.file(), at.line()) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.at)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Error> for Failure {
    #[track_caller]
    fn from(error: Error) -> Self {
        Self::new(format!("{error:?}"))
    }
}

/// Fails the case with this message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::testkit::Failure::new(format!($($message)+)));
        }
    };
}

/// Ends the case as skipped for want of this capability.
macro_rules! skip {
    ($capability:expr) => {
        return Ok($crate::testkit::Verdict::Skip { capability: $capability })
    };
}

pub(super) use {ensure, skip};
