//! How a request ends that is not done: RFC 9457, with a code that programs read.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::node::refusal::{Reason, Refusal};

/// Seconds after which somebody who asked for too much may ask again. Tokens come back by the second.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let reason = self.reason();
        let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let problem = json!({
            "type": format!("urn:talkbox:problem:{}", reason.code()),
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "code": reason.code(),
            "detail": self.text(),
        });
        let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let mut response = (status, [kind], problem.to_string()).into_response();
        let more = match reason {
            Reason::AuthRequired => Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Nostr"))),
            Reason::RateLimited | Reason::Failed => Some((header::RETRY_AFTER, RETRY_AFTER)),
            _ => None,
        };
        response.headers_mut().extend(more.map(|(name, value)| (Some(name), value)));
        response
    }
}
