//! The events of one mailbox on one node, as server-sent events: what both a watch and a subscription read.

use std::time::Duration;

use axum::body::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use talkbox_core::{Error, ErrorKind, MailboxId, Result, envelope::MAX_ENVELOPE_BYTES};
use talkbox_net::{Chunks, EventLimits, HeaderName, HeaderValue, ServerEvent, StreamLimits, events, header};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    ask::{Asker, LEAST_ANSWER, Question},
    cursor::Place,
    refused::Refused,
};

/// How long a node may be silent: it shows every 30 s that it lives, and one such comment may be lost on the way.
const SILENCE: Duration = Duration::from_secs(75);
/// How many times the time for an answer the next part of a backlog may take: the node reads it from its disk.
const PATIENCE: u32 = 3;
/// What stands on a line before the data.
const FIELD: usize = 64;
const LIMITS: EventLimits = EventLimits { max_line: MAX_ENVELOPE_BYTES + FIELD, max_event: MAX_ENVELOPE_BYTES + FIELD };
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What a node tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// An envelope, and where a listing goes on after it.
    Envelope { json: String, at: Option<Place> },
    /// All that was stored has been told, up to here.
    Live { at: Option<Place> },
    /// A hint.
    Hint { json: String },
    /// Something of a later version.
    Other,
}

/// A feed that is open. Dropping it ends the connection.
pub(super) struct Feed {
    events: BoxStream<'static, Result<ServerEvent>>,
    /// How long the next event may take until the backlog is through.
    patience: Option<Duration>,
}

impl Asker {
    /// Opens the feed of a mailbox, from a place or from now on.
    ///
    /// # Errors
    /// As [`ask`](Self::ask); `NotFound` where the node does not know the place.
    pub(super) async fn feed(&self, owner: MailboxId, after: Option<Place>) -> Result<Feed> {
        let mut question = Question::get(format!("/v1/mailboxes/{}/watch", owner.to_hex()))
            .header(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(after) = after {
            let value = HeaderValue::from_str(&after.cursor().0)
                .map_err(|error| Error::new(ErrorKind::Unexpected, "the cursor cannot be sent").source(error))?;
            question = question.header(LAST_EVENT_ID, value);
        }
        let request = self.request(&question, true).await?;
        let limits = StreamLimits { head: self.network.timeout, idle: SILENCE, max_response_bytes: u64::MAX };
        // Whoever watches has a pause of its own between tries, so that it asks also where others leave the node alone.
        let before = Instant::now();
        let opened = self.network.http.stream(request, limits).await;
        self.judge(opened.as_ref().err(), before.elapsed());
        let opened = opened?;
        if !opened.status.is_success() {
            let body = beginning(opened.chunks, self.network.timeout).await;
            return Err(self.named(Refused::of_answer(opened.status, &opened.headers, &body).into_error()));
        }
        let kind = opened.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if !kind.starts_with(b"text/event-stream") {
            return Err(self.nonsense("the node answers a watch with something else"));
        }
        let patience = self.network.timeout.saturating_mul(PATIENCE);
        Ok(Feed { events: events(opened.chunks, LIMITS).boxed(), patience: Some(patience) })
    }
}

impl Feed {
    /// What the node tells next.
    ///
    /// # Errors
    /// Those of the way; `Timeout` where the backlog does not come; `Unreachable` at the end of the feed.
    pub(super) async fn next(&mut self) -> Result<Told> {
        let next = self.events.next();
        let event = match self.patience {
            None => next.await,
            Some(patience) => timeout(patience, next)
                .await
                .map_err(|_| Error::new(ErrorKind::Timeout, "the node does not tell what it has stored"))?,
        };
        let event = event.ok_or_else(|| Error::new(ErrorKind::Unreachable, "the node ended the watch"))??;
        let at = Place::parse(&event.id);
        Ok(match &*event.event {
            "envelope" => Told::Envelope { json: event.data, at },
            "live" => {
                self.patience = None;
                Told::Live { at }
            }
            "hint" => Told::Hint { json: event.data },
            _ => Told::Other,
        })
    }
}

/// The beginning of a body, such as a problem; as much as comes in time.
async fn beginning(mut chunks: Chunks, within: Duration) -> Vec<u8> {
    let until = Instant::now() + within;
    let mut body = Vec::new();
    while let Ok(Some(Ok(chunk))) = timeout_at(until, chunks.next()).await {
        let chunk: Bytes = chunk;
        body.extend_from_slice(&chunk[..chunk.len().min(LEAST_ANSWER - body.len())]);
        if body.len() >= LEAST_ANSWER {
            break;
        }
    }
    body
}
