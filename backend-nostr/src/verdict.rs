//! What a relay's answer means. NIP-01 gives refusals a machine-readable prefix; the words after it are the relay's own
//! and are passed on.

use std::borrow::Cow;

use talkbox_core::{Error, ErrorKind, Level, error::Retry};

/// Most characters of a relay's words that are kept; the rest is thrown away when they are read.
const MAX_WORDS: usize = 256;

/// What a relay said to an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It stores it.
    Taken(Level),
    /// It wants to know who asks, first.
    WantsKey(String),
    /// It does not take it.
    Refused(Refused),
}

/// A refusal, in the relay's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) kind: ErrorKind,
    pub(crate) retry: Retry,
    pub(crate) words: String,
}

impl Verdict {
    /// Reads an `OK`. A relay that has the event already is as good as one that stores it, however it says so.
    pub(crate) fn of(taken: bool, words: &str) -> Self {
        let said = words.get(..MAX_WORDS).unwrap_or(words).to_ascii_lowercase();
        let has_it =
            said.starts_with("duplicate") || ["already have", "already exists"].iter().any(|it| said.contains(it));
        if has_it {
            Self::Taken(Level::Duplicate)
        } else if taken {
            Self::Taken(Level::Stored)
        } else if wants_key(words) {
            Self::WantsKey(cut(words))
        } else {
            Self::Refused(Refused::of(words))
        }
    }
}

impl Refused {
    /// Reads the words of a refusal.
    pub(crate) fn of(words: &str) -> Self {
        let kind = kind_of(words);
        // `error:` is the relay's own trouble, and passes.
        let trouble = prefix(words) == "error" && kind == ErrorKind::Refused;
        let retry = if trouble { Retry::After(None) } else { Error::new(kind, "").retry_advice() };
        Self { kind, retry, words: cut(words) }
    }

    /// As an error.
    pub(crate) fn into_error(self) -> Error {
        let words = if self.words.is_empty() { "the relay refused without a word".to_owned() } else { self.words };
        Error::new(self.kind, words).retry(self.retry)
    }
}

/// Whether a relay wants to know who asks, and would answer then.
pub(crate) fn wants_key(words: &str) -> bool {
    prefix(words) == "auth-required"
}

fn kind_of(words: &str) -> ErrorKind {
    match &*prefix(words) {
        "auth-required" | "restricted" => ErrorKind::Denied,
        "rate-limited" => ErrorKind::RateLimited,
        _ if is_about_size(words) => ErrorKind::TooLarge,
        _ => ErrorKind::Refused,
    }
}

/// There is no prefix for it: strfry says `invalid: event too large`, rust-nostr `blocked: event size 70000 exceeds …`.
fn is_about_size(words: &str) -> bool {
    let said = words.get(..MAX_WORDS).unwrap_or(words).to_ascii_lowercase();
    ["too large", "too big", "too long", "event size", "max size", "maximum size"].iter().any(|it| said.contains(it))
}

fn prefix(words: &str) -> Cow<'_, str> {
    let prefix = words.split_once(':').map_or("", |(prefix, _)| prefix).trim();
    if prefix.bytes().any(|byte| byte.is_ascii_uppercase()) {
        prefix.to_ascii_lowercase().into()
    } else {
        prefix.into()
    }
}

/// A relay's words at a length that is fit to be kept.
pub(crate) fn cut(words: &str) -> String {
    words.chars().take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_is_stored_however_it_is_worded() {
        // strfry, nostr-rs-relay, PyPI nostr-relay, others
        for (taken, words) in [
            (true, "duplicate: have this event"),
            (true, "duplicate: "),
            (false, "duplicate: exists"),
            (false, "Duplicate"),
            (false, "blocked: already have this event"),
        ] {
            assert_eq!(Verdict::of(taken, words), Verdict::Taken(Level::Duplicate), "{words}");
        }
        assert_eq!(Verdict::of(true, ""), Verdict::Taken(Level::Stored));
    }

    #[test]
    fn refusals_by_their_prefix() {
        for (words, kind, retries) in [
            ("restricted: not a member", ErrorKind::Denied, false),
            ("rate-limited: slow down", ErrorKind::RateLimited, true),
            ("pow: 28 bits needed", ErrorKind::Refused, false),
            ("blocked: not here", ErrorKind::Refused, false),
            ("invalid: created_at too late", ErrorKind::Refused, false),
            ("invalid: event too large: 70000", ErrorKind::TooLarge, false),
            ("blocked: event size 70000", ErrorKind::TooLarge, false),
            ("error: database is locked", ErrorKind::Refused, true),
            ("no", ErrorKind::Refused, false),
            ("", ErrorKind::Refused, false),
        ] {
            let Verdict::Refused(refused) = Verdict::of(false, words) else { panic!("{words} is a refusal") };
            assert_eq!((refused.kind, refused.into_error().is_retryable()), (kind, retries), "{words}");
        }
        assert!(matches!(Verdict::of(false, "auth-required: who?"), Verdict::WantsKey(_)));
        assert!(matches!(Verdict::of(false, "AUTH-REQUIRED: who?"), Verdict::WantsKey(_)));
    }

    #[test]
    fn words_are_cut_between_characters() {
        assert_eq!(cut(&"é".repeat(1000)).chars().count(), MAX_WORDS);
        assert!(matches!(Verdict::of(false, &"é".repeat(1000)), Verdict::Refused(_)));
    }
}
