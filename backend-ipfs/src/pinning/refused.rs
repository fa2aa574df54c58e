//! What a service's refusal means: `{error: {reason, details}}` and the status before it.

use std::time::Duration;

use serde_json::Value;
use talkbox_core::{Error, ErrorKind, Retry};
use talkbox_net::{HeaderMap, StatusCode, header};

use super::{
    api::{MAX_WORDS, plain, read_json},
    token::Token,
};

/// The longest that a service can ask to be left alone, in seconds: more is as good as being away.
const MAX_RETRY_AFTER: u64 = 3600;

/// Reads the answer that a request was refused with.
pub(super) fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8], token: &Token) -> Error {
    let (kind, mut retry, words) = meaning(status.as_u16());
    if matches!(retry, Retry::After(_)) {
        retry = Retry::After(asked_for(headers));
    }
    // The service's own words, where it has any: only they say which limit was passed, or what is wrong with the plan.
    let own = read_json(body, token).and_then(|answer| own_words(answer.get("error")?));
    let words = own.map_or_else(|| words.to_owned(), |own| format!("{words}: {own}"));
    Error::new(kind, words).retry(retry).with("status", status.as_u16())
}

fn meaning(status: u16) -> (ErrorKind, Retry, &'static str) {
    match status {
        400 | 422 => (ErrorKind::Refused, Retry::No, "the pinning service does not understand the request"),
        401 | 403 => (ErrorKind::Denied, Retry::No, "the pinning service does not accept the token"),
        402 | 409 => (ErrorKind::Refused, Retry::No, "the pinning service asks for more funds"),
        404 => (ErrorKind::NotFound, Retry::No, "the pinning service does not have it"),
        405 | 501 => (ErrorKind::Unsupported, Retry::No, "what answers there is no pinning service"),
        413 => (ErrorKind::TooLarge, Retry::No, "the pinning service does not take as much"),
        429 => (ErrorKind::RateLimited, Retry::After(None), "the pinning service asks to slow down"),
        408 | 425 | 500..=999 => (ErrorKind::Unreachable, Retry::After(None), "the pinning service is in trouble"),
        300..=399 => (
            ErrorKind::Unreachable,
            Retry::No,
            "the pinning service leads elsewhere, where no token is taken unasked: correct `endpoint`",
        ),
        400..=499 => (ErrorKind::Refused, Retry::No, "the pinning service refuses it"),
        _ => (ErrorKind::Unexpected, Retry::No, "the pinning service's answer makes no sense"),
    }
}

fn own_words(error: &Value) -> Option<String> {
    let text = |name: &str| error.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let words = match (text("reason"), text("details")) {
        (Some(reason), Some(details)) => format!("{reason}: {details}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        // Pinata and others have a plain text there at times.
        (None, None) => error.as_str()?.to_owned(),
    };
    Some(plain(&words, MAX_WORDS))
}

/// How long it asks to be left alone. A date is passed over: the pause is then our own.
fn asked_for(headers: &HeaderMap) -> Option<Duration> {
    let secs: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(secs.min(MAX_RETRY_AFTER)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, body: &str, after: Option<&'static str>) -> Error {
        let headers = after.map(|after| (header::RETRY_AFTER, after.parse().expect("a value")));
        let token = Token::parse("s3cr3t").expect("a token");
        refused(StatusCode::from_u16(status).expect("one"), &headers.into_iter().collect(), body.as_bytes(), &token)
    }

    #[test]
    fn refusals_by_their_status() {
        for (status, kind, retries) in [
            (302, ErrorKind::Unreachable, false),
            (400, ErrorKind::Refused, false),
            (401, ErrorKind::Denied, false),
            (403, ErrorKind::Denied, false),
            (404, ErrorKind::NotFound, false),
            (409, ErrorKind::Refused, false),
            (413, ErrorKind::TooLarge, false),
            (418, ErrorKind::Refused, false),
            (429, ErrorKind::RateLimited, true),
            (500, ErrorKind::Unreachable, true),
            (503, ErrorKind::Unreachable, true),
        ] {
            for body in ["", "<html>", r#"{"error":7}"#, r#"{"error":{"reason":7}}"#] {
                let error = error(status, body, None);
                assert_eq!((error.kind(), error.is_retryable()), (kind, retries), "{status} {body}");
            }
        }
    }

    #[test]
    fn the_services_own_words_are_passed_on_safe_and_without_the_token() {
        let told = |body: &str| error(400, body, None).to_string();
        assert!(told(r#"{"error":{"reason":"BAD","details":"no s3cr3t\u001b[2J"}}"#).contains("BAD: no (hidden)[2J"));
        assert!(told(r#"{"error":"plain"}"#).contains("request: plain"));
        assert!(told(r#"{"error":{"details":"only"}}"#).contains("only"));
        let long = format!(r#"{{"error":{{"reason":"{}"}}}}"#, "é".repeat(9_000));
        assert!(told(&long).chars().count() < 400);
    }

    #[test]
    fn how_long_to_wait_is_the_services_word_within_bounds() {
        let asked = |status, after| error(status, "", Some(after)).retry_advice();
        assert_eq!(asked(429, "5"), Retry::After(Some(Duration::from_secs(5))));
        assert_eq!(asked(503, "99999999"), Retry::After(Some(Duration::from_secs(3600))));
        assert_eq!(asked(429, "Wed, 21 Oct 2026 07:28:00 GMT"), Retry::After(None));
        assert_eq!(asked(401, "5"), Retry::No);
    }
}
