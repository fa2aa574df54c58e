//! Why something was not done: a reason that a program reads, and a text for people. Over the WebSocket it is a prefix of
//! NIP-01, over HTTP a code and a status.

use std::{borrow::Cow, fmt};

use talkbox_core::{Error, ErrorKind};

/// The machine-readable part of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It cannot be read, or its signature does not hold.
    Malformed,
    TooLarge,
    /// More work is asked for.
    Pow,
    Expired,
    /// It is dated in the future.
    TooEarly,
    Deleted,
    /// A newer event has taken its place.
    Superseded,
    /// The mailbox has no room.
    MailboxFull,
    /// Too much at once; later it may be taken.
    RateLimited,
    /// The node does not do this for anybody.
    Blocked,
    AuthRequired,
    /// The node does not do this for whoever asks.
    Forbidden,
    /// A cursor of another store, or from before a restore.
    CursorUnknown,
    /// There is no such thing here.
    NotFound,
    /// There is, and this cannot be done with it.
    WrongMethod,
    DiskFull,
    /// The node failed; later it may not.
    Failed,
}

impl Reason {
    /// The prefix by NIP-01.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Malformed
            | Self::TooLarge
            | Self::Expired
            | Self::TooEarly
            | Self::Superseded
            | Self::CursorUnknown => "invalid",
            Self::Pow => "pow",
            Self::RateLimited => "rate-limited",
            Self::Deleted | Self::MailboxFull | Self::Blocked => "blocked",
            Self::AuthRequired => "auth-required",
            Self::Forbidden => "restricted",
            Self::NotFound | Self::WrongMethod | Self::DiskFull | Self::Failed => "error",
        }
    }

    /// The code over HTTP.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::WrongMethod => "wrong-method",
            Self::TooLarge => "too-large",
            Self::Pow => "pow",
            Self::Expired => "expired",
            Self::TooEarly => "too-early",
            Self::Deleted => "deleted",
            Self::Superseded => "superseded",
            Self::MailboxFull | Self::RateLimited => "quota",
            Self::AuthRequired => "auth-required",
            Self::Blocked | Self::Forbidden => "forbidden",
            Self::CursorUnknown => "cursor-unknown",
            Self::NotFound => "not-found",
            Self::DiskFull => "disk-full",
            Self::Failed => "failed",
        }
    }

    /// The status over HTTP, where a whole request ends with it.
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::Malformed | Self::Pow | Self::Expired | Self::TooEarly => 400,
            Self::AuthRequired => 401,
            Self::Blocked | Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::WrongMethod => 405,
            Self::Superseded => 409,
            Self::CursorUnknown | Self::Deleted => 410,
            Self::TooLarge => 413,
            Self::RateLimited => 429,
            Self::MailboxFull | Self::DiskFull => 507,
            Self::Failed => 503,
        }
    }
}

/// A refusal, as it goes into OK, CLOSED, NEG-ERR and NOTICE, and into the answers over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    reason: Reason,
    text: Cow<'static, str>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, text: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, text: text.into() }
    }

    pub(crate) fn malformed(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::Malformed, text)
    }

    /// What a malformed or forged event is refused with: the words of core, without its context.
    pub(crate) fn from_core(error: &Error) -> Self {
        Self::malformed(error.message().to_owned())
    }

    /// What a client is told whom the store fails.
    pub(crate) fn of_store(error: &Error) -> Self {
        if error.kind() == ErrorKind::Timeout {
            // Any client can make that happen: it is no problem of the operator's.
            tracing::debug!(%error, "a query was ended");
            return Self::new(Reason::Failed, "the query took too long");
        }
        tracing::warn!(%error, "a query failed");
        Self::new(Reason::Failed, "the store failed")
    }

    pub(crate) const fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether it is this node that does not take the event, and would not later, while another may.
    pub(crate) const fn is_by_policy(&self) -> bool {
        matches!(self.reason, Reason::Pow | Reason::Blocked | Reason::TooLarge | Reason::Expired)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.prefix(), self.text)
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

impl Outcome {
    /// Whether it was refused for this reason.
    pub(crate) fn is_for(&self, reason: Reason) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.reason() == reason)
    }
}
