//! What a node's refusal means: a code that programs read, and words that are the node's own and are passed on.

use std::{borrow::Cow, time::Duration};

use talkbox_core::{Error, ErrorKind, Locator, Refusal, Retry};
use talkbox_net::{HeaderMap, StatusCode, header};

/// Most characters of a node's words that are kept.
const MAX_WORDS: usize = 256;
/// The longest that a node can ask to be left alone, in seconds: more is as good as being away.
const MAX_RETRY_AFTER: u64 = 3600;

/// A refusal, in the node's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) kind: ErrorKind,
    pub(super) retry: Retry,
    pub(super) words: String,
}

/// A problem (RFC 9457), as far as it is read here.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Problem<'a> {
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    detail: Option<Cow<'a, str>>,
}

impl Refused {
    /// Reads a code, and the words after it. The words begin with the code, as those of relays begin with their prefix:
    /// what a sender can mend (more work, another date) is read from either in the same way.
    pub(super) fn of(code: &str, detail: &str) -> Self {
        let kind = kind_of(code).unwrap_or(ErrorKind::Refused);
        // Trouble of the node's own passes.
        let retry = match code {
            "disk-full" | "failed" => Retry::After(None),
            _ => Error::new(kind, "").retry_advice(),
        };
        Self { kind, retry, words: words(code, detail) }
    }

    /// Reads the answer that a whole request was refused with.
    pub(super) fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let problem: Problem<'_> = serde_json::from_slice(body).unwrap_or_default();
        let detail = problem.detail.as_deref().unwrap_or_default();
        let mut refused = match problem.code.as_deref() {
            Some(code) => Self::of(code, detail),
            // A proxy before the node, or something else in its place.
            None => Self::of_status(status),
        };
        let asked = headers.get(header::RETRY_AFTER).and_then(|secs| secs.to_str().ok()?.trim().parse().ok());
        if let (Retry::After(_), Some(secs)) = (refused.retry, asked) {
            refused.retry = Retry::After(Some(Duration::from_secs(MAX_RETRY_AFTER.min(secs))));
        }
        refused
    }

    fn of_status(status: StatusCode) -> Self {
        let (kind, retry, words) = match status.as_u16() {
            401 | 403 | 407 => (ErrorKind::Denied, Retry::No, "whoever answers for the node does not let this through"),
            404 | 405 | 501 => (ErrorKind::Unsupported, Retry::No, "what answers there is no Talkbox node"),
            413 => (ErrorKind::TooLarge, Retry::No, "whoever answers for the node does not take as much at once"),
            429 => (ErrorKind::RateLimited, Retry::After(None), "whoever answers for the node asks to slow down"),
            300..=399 => (ErrorKind::Unreachable, Retry::No, "the node leads elsewhere, where nobody goes unasked"),
            500..=999 => {
                (ErrorKind::Unreachable, Retry::After(None), "the node cannot be reached behind what answers for it")
            }
            _ => (ErrorKind::Unexpected, Retry::No, "the node's answer makes no sense"),
        };
        Self { kind, retry, words: format!("{words} (HTTP {})", status.as_u16()) }
    }

    /// What the failure of a request is as a refusal.
    pub(super) fn by(error: &Error) -> Self {
        Self { kind: error.kind(), retry: error.retry_advice(), words: error.message().to_owned() }
    }

    /// As an error.
    pub(super) fn into_error(self) -> Error {
        Error::new(self.kind, self.words).retry(self.retry)
    }

    /// As a refusal of this holder.
    pub(super) fn at(self, holder: &Locator) -> Refusal {
        Refusal { retry: self.retry, ..Refusal::new(holder.clone(), self.kind, &self.words) }
    }
}

/// What a code means, where it is known.
fn kind_of(code: &str) -> Option<ErrorKind> {
    Some(match code {
        "auth-required" | "forbidden" => ErrorKind::Denied,
        "quota" => ErrorKind::RateLimited,
        "too-large" => ErrorKind::TooLarge,
        "cursor-unknown" => ErrorKind::NotFound,
        // A route that an older node does not have. Not `NotFound`, which would mean a cursor.
        "not-found" | "wrong-method" => ErrorKind::Unsupported,
        "malformed" | "pow" | "expired" | "too-early" | "deleted" | "superseded" | "disk-full" | "failed" => {
            ErrorKind::Refused
        }
        _ => return None,
    })
}

/// A node's words, at a length that is fit to be kept, and safe to print.
fn words(code: &str, detail: &str) -> String {
    let text = if detail.is_empty() { Cow::Borrowed(code) } else { Cow::Owned(format!("{code}: {detail}")) };
    text.chars().filter(|symbol| !symbol.is_control()).take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_by_their_code() {
        for (code, kind, retries) in [
            ("malformed", ErrorKind::Refused, false),
            ("pow", ErrorKind::Refused, false),
            ("expired", ErrorKind::Refused, false),
            ("too-early", ErrorKind::Refused, false),
            ("deleted", ErrorKind::Refused, false),
            ("superseded", ErrorKind::Refused, false),
            ("too-large", ErrorKind::TooLarge, false),
            ("quota", ErrorKind::RateLimited, true),
            ("disk-full", ErrorKind::Refused, true),
            ("failed", ErrorKind::Refused, true),
            ("auth-required", ErrorKind::Denied, false),
            ("forbidden", ErrorKind::Denied, false),
            ("cursor-unknown", ErrorKind::NotFound, false),
            ("not-found", ErrorKind::Unsupported, false),
            ("something new", ErrorKind::Refused, false),
        ] {
            let refused = Refused::of(code, "why");
            assert_eq!(refused.words, format!("{code}: why"));
            assert_eq!((refused.kind, refused.into_error().is_retryable()), (kind, retries), "{code}");
        }
        assert_eq!(Refused::of("pow", "").words, "pow");
    }

    #[test]
    fn a_whole_answer_is_read_by_its_problem_and_else_by_its_status() {
        let read = |status: u16, body: &str| {
            let refused =
                Refused::of_answer(StatusCode::from_u16(status).expect("one"), &HeaderMap::new(), body.as_bytes());
            (refused.kind, refused.retry != Retry::No)
        };
        assert_eq!(read(400, r#"{"code":"pow","detail":"12 bits"}"#), (ErrorKind::Refused, false));
        assert_eq!(read(410, r#"{"code":"cursor-unknown"}"#), (ErrorKind::NotFound, false));
        for (status, kind, retries) in [
            (302, ErrorKind::Unreachable, false),
            (401, ErrorKind::Denied, false),
            (404, ErrorKind::Unsupported, false),
            (413, ErrorKind::TooLarge, false),
            (429, ErrorKind::RateLimited, true),
            (418, ErrorKind::Unexpected, false),
            (500, ErrorKind::Unreachable, true),
            (502, ErrorKind::Unreachable, true),
        ] {
            assert_eq!(read(status, "<html>"), (kind, retries), "{status}");
            assert_eq!(read(status, r#"{"code":7}"#), (kind, retries), "{status}");
        }
    }

    #[test]
    fn how_long_to_wait_is_the_nodes_word_within_bounds() {
        let asked = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, value.parse().expect("a value"))]);
            let body = br#"{"code":"quota","detail":"slow down"}"#;
            Refused::of_answer(StatusCode::TOO_MANY_REQUESTS, &headers, body).retry
        };
        assert_eq!(asked("5"), Retry::After(Some(Duration::from_secs(5))));
        assert_eq!(asked("99999999"), Retry::After(Some(Duration::from_secs(MAX_RETRY_AFTER))));
        assert_eq!(asked("soon"), Retry::After(None));
    }

    #[test]
    fn words_are_cut_and_safe_to_print() {
        let refused = Refused::of("pow", &format!("\u{1b}[2J{}", "é".repeat(1000)));
        assert!(!refused.words.contains('\u{1b}'));
        assert_eq!(refused.words.chars().count(), MAX_WORDS);
    }
}
