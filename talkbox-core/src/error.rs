//! The one error type of both traits and of everything in core: a stable kind, the context, and whether to retry.

use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

use crate::receipt::Refusal;

/// The result of everything in core and of both traits.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in a form that a program can match on.
///
/// The kind is stable; texts are not. Outcomes that belong to the domain (a duplicate, a deletion that was only
/// requested) are values and not errors.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The backend does not offer this operation; its [`Capabilities`](crate::Capabilities) say so.
    Unsupported,
    /// The configuration names something that does not exist or cannot be.
    ConfigInvalid,
    /// What the user typed (a code, a key, a phrase) is not well-formed.
    InvalidInput,
    /// Bytes that claim to be an envelope, a record or a hint are malformed.
    InvalidEnvelope,
    /// A signature, an id, a fingerprint or an author is not what it has to be.
    VerificationFailed,
    /// There is no such mailbox, envelope, record or backend.
    NotFound,
    /// The holder knows who asks, and does not serve this key; or it asks for a key and none was given.
    Denied,
    /// The holder will not take it, by its policy and in its own words.
    Refused,
    /// The holder asks to slow down.
    RateLimited,
    /// Larger than the holder, or the format, allows.
    TooLarge,
    /// The secret is wrong, or the store is locked.
    Locked,
    /// Nobody could be reached.
    Unreachable,
    /// No answer within the time allowed.
    Timeout,
    /// The backend was closed.
    Closed,
    /// The local disk failed, or what is on it is damaged.
    Storage,
    /// Anything else: a bug, or an answer that makes no sense.
    Unexpected,
}

impl ErrorKind {
    /// The stable name, as `--json` prints it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unsupported => "unsupported",
            Self::ConfigInvalid => "config-invalid",
            Self::InvalidInput => "invalid-input",
            Self::InvalidEnvelope => "invalid-envelope",
            Self::VerificationFailed => "verification-failed",
            Self::NotFound => "not-found",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::RateLimited => "rate-limited",
            Self::TooLarge => "too-large",
            Self::Locked => "locked",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Storage => "storage",
            Self::Unexpected => "unexpected",
        }
    }

    /// Whether an error of this kind usually goes away by itself.
    const fn default_retry(self) -> Retry {
        match self {
            Self::RateLimited | Self::Unreachable | Self::Timeout => Retry::After(None),
            _ => Retry::No,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether doing the same again can help. All operations are idempotent by id, so it is always safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The answer will not change.
    No,
    /// Worth another try, after this long where the holder said how long.
    After(Option<Duration>),
    /// It was worth another try, and the tries are used up: an outer layer does not multiply them.
    Exhausted,
}

/// The error of both traits and of core.
///
/// `Display` is one line: operation, message, context. The source chain holds the foreign error. No message text,
/// key, plaintext or mailbox id is ever put into one.
///
/// ```
/// use talkbox_core::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Unreachable, "connection refused").op("put").with("relay", "wss://relay.example");
/// assert_eq!(error.to_string(), "put: connection refused (relay: wss://relay.example)");
/// assert!(error.is_retryable());
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    retry: Retry,
    op: Option<&'static str>,
    message: Cow<'static, str>,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    refusals: Vec<Refusal>,
}

impl Error {
    /// An error of this kind; whether to retry follows from the kind until [`retry`](Self::retry) says otherwise.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            retry: kind.default_retry(),
            op: None,
            message: message.into(),
            context: Vec::new(),
            source: None,
            refusals: Vec::new(),
        }))
    }

    /// Adds a pair of context, such as which relay. What an inner layer has said already is not said again.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        let value = value.to_string();
        if self.context(name) != Some(&value) {
            self.0.context.push((name, value));
        }
        self
    }

    /// Names the operation, unless an inner layer has named it.
    #[must_use]
    pub fn op(mut self, op: &'static str) -> Self {
        self.0.op.get_or_insert(op);
        self
    }

    /// Sets the error that this one came from.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds what each holder said, where the error stands for all of them.
    #[must_use]
    pub fn refused_by(mut self, refusals: Vec<Refusal>) -> Self {
        self.0.refusals = refusals;
        self
    }

    /// Says whether to retry.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether to retry.
    pub fn retry_advice(&self) -> Retry {
        self.0.retry
    }

    /// Whether doing the same again can help.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.retry, Retry::After(_))
    }

    /// What each holder said, where the error stands for all of them.
    pub fn refusals(&self) -> &[Refusal] {
        &self.0.refusals
    }

    /// The message alone, without operation and context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The operation that failed, where one was named.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.op
    }

    /// The value of a pair of context.
    pub fn context(&self, name: &str) -> Option<&str> {
        self.0.context.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { op, message, context, .. } = &*self.0;
        if let Some(op) = op {
            write!(f, "{op}: ")?;
        }
        f.write_str(message)?;
        for (at, (name, value)) in context.iter().enumerate() {
            write!(f, "{}{name}: {value}", if at == 0 { " (" } else { ", " })?;
        }
        if context.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, retry, source, .. } = &*self.0;
        write!(f, "{kind}: {self} [retry: {retry:?}]")?;
        if let Some(source) = source {
            write!(f, " caused by: {source}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_operation_is_kept() {
        let error = Error::new(ErrorKind::Timeout, "no answer").op("list").op("read");
        assert_eq!(error.operation(), Some("list"));
    }

    #[test]
    fn every_layer_may_name_the_relay() {
        let error = Error::new(ErrorKind::Timeout, "no answer").with("relay", "a").with("relay", "a").with("tries", 2);
        assert_eq!(error.to_string(), "no answer (relay: a, tries: 2)");
    }

    #[test]
    fn one_word_is_all_that_an_error_costs() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
