//! Why something was not done, in the words of NIP-01: a prefix that a program reads, and a text for people.

use std::{borrow::Cow, fmt};

/// The machine-readable part of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    Invalid,
    Pow,
    RateLimited,
    Blocked,
    AuthRequired,
    Restricted,
    Error,
}

impl Prefix {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Pow => "pow",
            Self::RateLimited => "rate-limited",
            Self::Blocked => "blocked",
            Self::AuthRequired => "auth-required",
            Self::Restricted => "restricted",
            Self::Error => "error",
        }
    }
}

/// A refusal, as it goes into OK, CLOSED, NEG-ERR and NOTICE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    prefix: Prefix,
    text: Cow<'static, str>,
}

impl Refusal {
    pub(crate) fn new(prefix: Prefix, text: impl Into<Cow<'static, str>>) -> Self {
        Self { prefix, text: text.into() }
    }

    pub(crate) fn invalid(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Prefix::Invalid, text)
    }

    /// What a malformed or forged event is refused with: the words of core, without its context.
    pub(crate) fn from_core(error: &talkbox_core::Error) -> Self {
        Self::invalid(error.message().to_owned())
    }

    #[cfg(test)]
    pub(crate) const fn prefix(&self) -> Prefix {
        self.prefix
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.prefix.as_str(), self.text)
    }
}

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is stored, or was passed on where it is not of a kind that is stored.
    Stored,
    /// It was here before.
    Duplicate,
    /// It was not taken.
    Refused(Refusal),
}
