//! One WebSocket connection: one task that reads, answers and sends.
//!
//! Queries run beside it, a few at a time; events go to the pool and come back as OKs. The task stops reading where
//! too much of either is under way, so that a client is slowed down by its own requests and by nothing else. A message is
//! paid for before it is looked into: where its address has asked for more than its rate, it waits, and so does what is
//! behind it in the socket.

mod auth;
mod message;
mod price;
mod queries;
mod reconcile;

use std::{
    collections::{BTreeSet, HashMap},
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use futures_util::{SinkExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use serde_json::json;
use talkbox_core::{MailboxId, PublicKey, hex};
use tokio::{
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout},
};

use self::{
    message::{Most, Request, Unreadable},
    price::{LARGE, price},
    queries::Done,
    reconcile::Reconciliations,
};
use super::{
    FAREWELL, Shared,
    addresses::Pass,
    admitted::Origin,
    filter::Filter,
    gate::{MAX_KEYS, Rights},
    half::Half,
    intake::{Ticket, ok},
    keepers::is_keeper,
    live::Subscription,
    outbox::Outbox,
    refusal::{Outcome, Reason, Refusal},
};

/// Most characters of the name of a subscription (NIP-01).
pub(crate) const MAX_SUBSCRIPTION_NAME: usize = 64;
/// Events of one connection that are on their way. A client that publishes many at once keeps the pool busy with them.
const MAX_OPEN_EVENTS: usize = 256;
/// Queries of one connection that run at once: a client with several subscriptions opens them together.
const MAX_QUERIES: usize = 4;
/// Mailboxes of others in one request for which it is looked up whether the connection keeps them: each is a query.
const MAX_KEPT: usize = 16;
/// Bytes that are handed to the socket before it is flushed.
const CHUNK: usize = 65_536;
/// Messages that make no sense, after which the client is disconnected.
const MAX_STRIKES: u32 = 16;
/// What a client is told that has sent more halves of messages than there is room for.
const HALF: &str = "rate-limited: too many messages have begun and are not whole";
/// What a client is told whose frames cannot be read.
const UNREADABLE: &str = "invalid: the message is too large, or no text in UTF-8";

/// Serves a connection until it ends.
pub(crate) async fn run(socket: WebSocket, node: Arc<Shared>, pass: Arc<Pass>, half: Arc<Half>) {
    match Session::new(node, pass, half) {
        Ok(mut session) => session.run(socket).await,
        Err(error) => tracing::error!(%error, "a connection could not be served"),
    }
}

struct Session {
    node: Arc<Shared>,
    pass: Arc<Pass>,
    half: Arc<Half>,
    outbox: Arc<Outbox>,
    challenge: String,
    keys: Vec<PublicKey>,
    /// The mailboxes of the request at hand that the keys may read as keepers.
    keeps: Vec<MailboxId>,
    subscriptions: HashMap<String, Arc<Subscription>>,
    reconciliations: Reconciliations,
    queries: FuturesUnordered<BoxFuture<'static, Done>>,
    open_events: Arc<AtomicUsize>,
    strikes: u32,
    /// Tells what has the same name at different times apart.
    next: u64,
}

/// A message that waits until its address may send it.
struct Unpaid {
    text: Utf8Bytes,
    until: Instant,
}

/// Waits until a message is paid for, and gives it; for ever where none waits.
async fn paid(unpaid: &mut Option<Unpaid>) -> Option<Utf8Bytes> {
    match unpaid {
        Some(waiting) => sleep_until(waiting.until).await,
        None => pending().await,
    }
    unpaid.take().map(|paid| paid.text)
}

/// Why a connection ends.
enum End {
    /// The client closed it, or it broke.
    Gone,
    /// The node closes it, and says why.
    Closed { code: u16, why: &'static str },
}

impl Session {
    fn new(node: Arc<Shared>, pass: Arc<Pass>, half: Arc<Half>) -> talkbox_core::Result<Self> {
        let challenge = hex::encode(&node.context.random::<16>()?);
        let outbox = Arc::new(Outbox::new(node.config.limits.max_pending_bytes, Arc::clone(&node.pending)));
        outbox.push(json!(["AUTH", challenge]).to_string());
        Ok(Self {
            node,
            pass,
            half,
            outbox,
            challenge,
            keys: Vec::new(),
            keeps: Vec::new(),
            subscriptions: HashMap::new(),
            reconciliations: Reconciliations::default(),
            queries: FuturesUnordered::new(),
            open_events: Arc::default(),
            strikes: 0,
            next: 0,
        })
    }

    async fn run(&mut self, mut socket: WebSocket) {
        let end = self.serve(&mut socket).await;
        for (_, subscription) in self.subscriptions.drain() {
            self.node.live.remove(&subscription);
        }
        if let End::Closed { code, why } = end {
            let notice = Message::text(json!(["NOTICE", why]).to_string());
            let frame = CloseFrame { code, reason: Utf8Bytes::from_static(why) };
            // A client that does not read will not read this either.
            let _unread = timeout(Duration::from_secs(1), async {
                socket.send(notice).await?;
                socket.send(Message::Close(Some(frame))).await
            })
            .await;
        }
    }

    async fn serve(&mut self, socket: &mut WebSocket) -> End {
        let limits = &self.node.config.limits;
        let (idle, write) = (Duration::from_secs(limits.idle_timeout), Duration::from_secs(limits.write_timeout));
        let (every, whole) = (limits.ping_interval.max(1), limits.body_timeout);
        let (every, whole) = (Duration::from_secs(every), Duration::from_secs(whole));
        let mut ping = interval_at(Instant::now() + every, every);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let outbox = Arc::clone(&self.outbox);
        let mut stop = self.node.stop.clone();
        let mut heard = Instant::now();
        let mut unpaid: Option<Unpaid> = None;
        loop {
            let may_read = unpaid.is_none()
                && self.open_events.load(Ordering::Acquire) < MAX_OPEN_EVENTS
                && self.queries.len() < MAX_QUERIES;
            tokio::select! {
                () = outbox.filled() => if let Err(end) = flush(socket, &outbox, write).await { return end },
                Some(done) = self.queries.next() => self.finish(done),
                Some(text) = paid(&mut unpaid) => {
                    // So long nothing was read.
                    heard = Instant::now();
                    self.half.taken();
                    if let Err(end) = self.receive(&text).await {
                        return end;
                    }
                }
                received = socket.next(), if may_read => {
                    heard = Instant::now();
                    let result = match received {
                        Some(Ok(Message::Text(text))) => {
                            let (spend, tokens) = price(&text);
                            let wait = self.pass.owe(spend, tokens);
                            if wait.is_zero() {
                                self.half.taken();
                                self.receive(&text).await
                            } else {
                                // It stays counted as one that is not taken yet.
                                unpaid = Some(Unpaid { text, until: heard + wait });
                                Ok(())
                            }
                        }
                        Some(Ok(Message::Binary(_))) => {
                            self.half.taken();
                            self.strike("invalid: this relay speaks text".to_owned())
                        }
                        // They may come between the parts of a message, which then is not whole.
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                        Some(Ok(Message::Close(_))) => Err(End::Gone),
                        Some(Err(_)) if self.half.is_refused() => Err(End::Closed { code: close_code::AGAIN, why: HALF }),
                        // The client sent what is no message, or the connection broke; in that case nobody hears it.
                        Some(Err(_)) => Err(End::Closed { code: close_code::PROTOCOL, why: UNREADABLE }),
                        None => Err(End::Gone),
                    };
                    if let Err(end) = result {
                        return end;
                    }
                }
                _ = ping.tick() => {
                    // Where the node itself does not read, silence says nothing.
                    if may_read && heard.elapsed() > idle {
                        return End::Closed { code: close_code::POLICY, why: "closed: nothing was heard for long" };
                    }
                    if may_read && self.half.is_late(whole) {
                        return End::Closed { code: close_code::POLICY, why: "closed: the rest of a message did not come" };
                    }
                    // Where nothing is read, only this tells that nobody is there any more.
                    if !matches!(timeout(write, socket.send(Message::Ping(Default::default()))).await, Ok(Ok(()))) {
                        return End::Gone;
                    }
                }
                () = stop.asked() => return self.say_farewell(socket, write).await,
            }
        }
    }

    /// Waits for the answers that are owed, and sends them.
    async fn say_farewell(&mut self, socket: &mut WebSocket, write: Duration) -> End {
        let _late = timeout(FAREWELL, async {
            while flush(socket, &self.outbox, write).await.is_ok()
                && (self.open_events.load(Ordering::Acquire) > 0 || !self.outbox.is_empty())
            {
                self.outbox.filled().await;
            }
        })
        .await;
        End::Closed { code: close_code::AWAY, why: "closed: the node is stopping" }
    }

    async fn receive(&mut self, text: &str) -> Result<(), End> {
        let limits = &self.node.config.limits;
        let most = Most { filters: limits.max_filters, values: limits.max_values };
        let parsed = if text.len() > LARGE {
            // Closed it is never; without a turn it would only be parsed at once.
            let turn = self.node.parsing.acquire().await;
            let parsed = Request::parse(text, most);
            drop(turn);
            // Whatever else waits goes before what this leads to.
            yield_now().await;
            parsed
        } else {
            Request::parse(text, most)
        };
        match parsed {
            Ok(request) => {
                self.act(request).await;
                Ok(())
            }
            Err(Unreadable::Notice(why)) => self.strike(format!("invalid: {why}")),
            Err(Unreadable::Closed { name, why }) => {
                self.closed(&name, &Refusal::malformed(why));
                Ok(())
            }
            Err(Unreadable::Negentropy { name, why }) => {
                self.neg_err(&name, &Refusal::malformed(why));
                Ok(())
            }
        }
    }

    async fn act(&mut self, request: Request<'_>) {
        match request {
            Request::Event { id, json } => {
                let ticket = Ticket::of_session(id, Arc::clone(&self.outbox), Arc::clone(&self.open_events));
                self.node.intake.take(json.to_owned(), Origin::Client, ticket).await;
            }
            Request::Auth { id, json } => {
                let outcome = match self.authenticate(json.to_owned()).await {
                    Ok(()) => Outcome::Stored,
                    Err(refusal) => Outcome::Refused(refusal),
                };
                self.outbox.push(ok(&id, &outcome));
            }
            Request::Req { name, filters } => {
                self.look_up_keepers(&filters).await;
                self.subscribe(name, filters);
            }
            Request::Count { name, filters } => {
                self.look_up_keepers(&filters).await;
                self.count(name, filters);
            }
            Request::Close { name } => {
                if let Some(subscription) = self.subscriptions.remove(&name) {
                    self.node.live.remove(&subscription);
                }
            }
            Request::NegOpen { name, filter, message } => {
                self.look_up_keepers(std::slice::from_ref(&filter)).await;
                self.open_reconciliation(name, filter, message);
            }
            Request::NegMsg { name, message } => self.go_on_reconciling(name, message),
            Request::NegClose { name } => self.reconciliations.close(&name),
        }
    }

    async fn authenticate(&mut self, json: String) -> Result<(), Refusal> {
        let verified = self.node.intake.verify(json).await;
        let event = verified
            .ok_or_else(|| Refusal::new(Reason::Failed, "the node is stopping"))?
            .map_err(|error| Refusal::from_core(&error))?;
        auth::check(&event, &self.challenge, &self.node.url, self.node.now())?;
        if !self.keys.contains(&event.author()) {
            if self.keys.len() >= MAX_KEYS {
                return Err(Refusal::new(Reason::Forbidden, format!("more than {MAX_KEYS} keys on one connection")));
            }
            self.keys.push(event.author());
        }
        Ok(())
    }

    /// Finds out which of the mailboxes that are asked for the keys of this connection may read as keepers. It is looked
    /// up anew each time: a record may name others now.
    async fn look_up_keepers(&mut self, filters: &[Filter]) {
        self.keeps.clear();
        if !self.node.config.gate_reads {
            return;
        }
        let asked = filters.iter().filter_map(|filter| filter.mailboxes.as_ref()).flatten();
        let others: BTreeSet<MailboxId> = asked.filter(|key| !self.keys.contains(&(**key).into())).copied().collect();
        for mailbox in others.into_iter().take(MAX_KEPT) {
            for key in self.keys.clone() {
                // What cannot be read gives no right; that it cannot is told by the query itself.
                if is_keeper(&self.node, key, mailbox, self.pass.party()).await.unwrap_or(false) {
                    self.keeps.push(mailbox);
                    break;
                }
            }
        }
    }

    fn rights(&self) -> Rights {
        if !self.node.config.gate_reads {
            return Rights::Everything;
        }
        Rights::Keys(self.keys.iter().copied().chain(self.keeps.iter().map(|key| (*key).into())).collect())
    }

    /// Tells a client that what it sent makes no sense; one that goes on is disconnected.
    fn strike(&mut self, why: String) -> Result<(), End> {
        self.strikes += 1;
        if self.strikes > MAX_STRIKES {
            return Err(End::Closed { code: close_code::POLICY, why: "closed: too many messages that make no sense" });
        }
        self.outbox.push(json!(["NOTICE", why]).to_string());
        Ok(())
    }

    fn closed(&self, name: &str, refusal: &Refusal) {
        self.outbox.push(json!(["CLOSED", name, refusal.to_string()]).to_string());
    }

    fn neg_err(&self, name: &str, refusal: &Refusal) {
        self.outbox.push(json!(["NEG-ERR", name, refusal.to_string()]).to_string());
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// Sends what waits.
async fn flush(socket: &mut WebSocket, outbox: &Outbox, write: Duration) -> Result<(), End> {
    loop {
        let (messages, overrun) = outbox.take(CHUNK);
        if overrun {
            return Err(End::Closed { code: close_code::AGAIN, why: "closed: too slow to take what was sent" });
        }
        if messages.is_empty() {
            return Ok(());
        }
        let sent = timeout(write, async {
            for message in messages {
                socket.feed(Message::Text(message)).await?;
            }
            socket.flush().await
        })
        .await;
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(End::Gone),
            Err(_) => {
                return Err(End::Closed { code: close_code::AGAIN, why: "closed: too slow to take what was sent" });
            }
        }
    }
}
