//! `GET /v1/mailboxes/{id}/watch`: what a mailbox gets, as server-sent events.
//!
//! Each envelope is an event `envelope` whose id is a cursor; it resumes by `Last-Event-ID`, and without one begins with
//! what arrives from now on. `live` says that the backlog is through, with a cursor of its own, so that also who got
//! nothing has a place to resume from. Hints come as `hint`, without an id. A comment now and then shows that the node
//! lives.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Extension, Path, Request, State},
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use talkbox_core::{MailboxId, event::kind};
use tokio::{
    task::JoinHandle,
    time::{Interval, MissedTickBehavior, interval_at},
};

use super::{
    caller,
    envelopes::caller_of,
    query::{self, Query},
};
use crate::node::{
    Shared, Stop,
    addresses::Party,
    cursor::ArrivalCursor,
    filter::Filter,
    live::{Form, Subscription},
    outbox::Outbox,
    refusal::{Reason, Refusal},
    server::Connection,
    store::{Arrivals, Portion},
};

/// Bytes that are handed to the connection at once.
const CHUNK: usize = 65_536;
/// What is read of the backlog at once, as for a subscription over a WebSocket.
const PAGE: Portion = Portion { after: 0, events: 256, bytes: 131_072 };
/// What a watch takes besides what waits for it.
const WATCH_BYTES: usize = 1_024;

pub(super) async fn watch(
    State(node): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    Path(mailbox): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let party = connection.pass.party();
    let mailbox = query::mailbox(&mailbox)?;
    let parts = request.into_parts().0;
    let caller = caller_of(&node, &parts, &[]).await?;
    let rights = caller::may_read(&node, caller, mailbox, party).await?;
    let last = node.store.last(party).await.map_err(|error| Refusal::of_store(&error))?;
    // A page that begins cannot set the header.
    let resumed = match parts.headers.get("last-event-id").and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty()) {
        Some(cursor) => Some(cursor.parse()?),
        None => Query::parse(parts.uri.query())?.after,
    };
    let after = resumed.map_or(Ok(last), |cursor: ArrivalCursor| cursor.within(node.store.epoch(), last))?;
    let claim = node
        .filters
        .claim(party, WATCH_BYTES)
        .map_err(|_| Refusal::new(Reason::RateLimited, "the node has as many watchers as it can; try again later"))?;
    let outbox = Arc::new(Outbox::new(node.config.limits.max_pending_bytes, Arc::clone(&node.pending)));
    let filter = Filter {
        kinds: Some([kind::GIFT_WRAP, kind::HINT].into()),
        mailboxes: Some([mailbox].into()),
        ..Filter::default()
    };
    let form = Form::Stream { epoch: node.store.epoch() };
    let subscription = node.live.add(form, vec![filter], rights, Arc::clone(&outbox), claim);
    let backlog = Backlog { mailbox, after, party };
    let watch = Watch::start(node, subscription, outbox, backlog, connection);
    let body = Body::from_stream(stream::unfold(watch, |mut watch| async move {
        let chunk = watch.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), watch))
    }));
    const HEADERS: [(HeaderName, HeaderValue); 2] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        // A proxy that collects an answer before it passes it on would hold back what is new.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((HEADERS, body).into_response())
}

/// What was stored before.
struct Backlog {
    mailbox: MailboxId,
    after: i64,
    party: Party,
}

impl Backlog {
    /// Sends it, a page when there is room for it, and lets what arrived meanwhile follow.
    async fn send(mut self, node: &Shared, subscription: &Subscription, outbox: &Outbox) -> talkbox_core::Result<()> {
        loop {
            if !outbox.room().await || subscription.is_closed() {
                return Ok(());
            }
            let portion = Portion { after: self.after, ..PAGE };
            let page = node.store.arrivals(Arrivals::Of(self.mailbox), portion, self.party, node.now()).await?;
            let message = |(place, json): &(i64, String)| subscription.message(json, Some(*place)).into();
            let messages: Vec<_> = page.items.iter().map(message).collect();
            outbox.push_all(messages);
            self.after = page.last;
            if !page.more {
                outbox.push(subscription.end_of_stored(page.last));
                subscription.go_live(page.last);
                return Ok(());
            }
        }
    }
}

/// A watch under way. It ends when it is dropped.
struct Watch {
    node: Arc<Shared>,
    subscription: Arc<Subscription>,
    outbox: Arc<Outbox>,
    backlog: JoinHandle<()>,
    beat: Interval,
    stop: Stop,
    /// The node waits for its end before it stops.
    _connection: Connection,
}

impl Watch {
    fn start(
        node: Arc<Shared>,
        subscription: Arc<Subscription>,
        outbox: Arc<Outbox>,
        backlog: Backlog,
        connection: Connection,
    ) -> Self {
        let sending = {
            let (node, subscription, outbox) = (Arc::clone(&node), Arc::clone(&subscription), Arc::clone(&outbox));
            tokio::spawn(async move {
                if let Err(error) = backlog.send(&node, &subscription, &outbox).await {
                    tracing::warn!(%error, "a watch failed");
                    outbox.end();
                }
            })
        };
        let every = Duration::from_secs(node.config.limits.ping_interval.max(1));
        let mut beat = interval_at(tokio::time::Instant::now() + every, every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = node.stop.clone();
        Self { node, subscription, outbox, backlog: sending, beat, stop, _connection: connection }
    }

    /// What is to be sent next; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let (messages, overrun) = self.outbox.take(CHUNK);
            if overrun {
                return None;
            }
            if !messages.is_empty() {
                let mut chunk = Vec::with_capacity(messages.iter().map(|message| message.len()).sum());
                messages.iter().for_each(|message| chunk.extend_from_slice(message.as_bytes()));
                return Some(chunk.into());
            }
            tokio::select! {
                biased;
                () = self.outbox.filled() => {}
                () = self.stop.asked() => return None,
                _ = self.beat.tick() => return Some(Bytes::from_static(b":\n\n")),
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.backlog.abort();
        self.node.live.remove(&self.subscription);
    }
}
