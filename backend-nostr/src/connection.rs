//! One connection to one relay under one identity: who sends, who waits, and when it has to end.
//!
//! Whoever asks writes to the socket itself, and one task reads and hands out what comes: an exchange costs one hop
//! more than on a bare socket. A second task sends what nobody waits for (CLOSE, pings), so that the reader never
//! writes: two sides that both wait for the other to read would wait for ever.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use talkbox_core::{AuthRequest, Authorizer, Error, ErrorKind, EventId, Locator, Result};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    relay_url::RelayUrl,
    routes::{Budget, Delivery, Lost, Routed, Routes},
    socket::{Incoming, Outgoing},
    verdict::{Refused, Verdict},
    wire::{self, SubId},
};

/// Messages that nobody waits for. When it is full they are dropped: a CLOSE that is not sent costs strays.
const ASIDES: usize = 64;
/// How often the connection is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// After so long a silence the relay is pinged. Proxies commonly cut what is silent for 60 s.
const PING_AFTER: Duration = Duration::from_secs(30);
/// After so long a silence, two pings included, the relay is gone.
const DEAD_AFTER: Duration = Duration::from_secs(75);
/// A connection that nobody uses is closed after so long.
const IDLE_AFTER: Duration = Duration::from_secs(120);
/// How long a farewell or an aside may take.
const ASIDE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a relay that wants to know who asks may take to send its challenge. It comes before the refusal or with it.
const CHALLENGE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection. Dropping it closes the socket.
pub(crate) struct Connection {
    relay: RelayUrl,
    shared: Arc<Shared>,
    tasks: [AbortHandle; 2],
    /// The challenge that was answered. Locked while one is being answered, so that it happens once.
    proving: tokio::sync::Mutex<Option<Arc<str>>>,
}

/// What the tasks and the subscriptions share with the connection.
struct Shared {
    outgoing: tokio::sync::Mutex<Outgoing>,
    routes: Mutex<Routes>,
    asides: mpsc::Sender<String>,
    challenge: watch::Sender<Option<Arc<str>>>,
    /// Whether the latest challenge was answered.
    is_proven: AtomicBool,
    born: Instant,
    /// When it was last used and when something last came, in milliseconds after `born`.
    used: AtomicU64,
    heard: AtomicU64,
}

/// Why an event has no answer.
#[derive(Clone, Debug)]
pub(crate) enum Unanswered {
    /// The relay did not answer this one, in the time that it had. The connection was ended: one relay that is known
    /// holds up everything on a connection on which it got an event that is too large.
    Timeout,
    /// The connection ended meanwhile, for another reason: worth another try.
    Lost(Lost),
}

impl Connection {
    /// Takes over a socket.
    pub(crate) fn new(relay: RelayUrl, (outgoing, incoming): (Outgoing, Incoming)) -> Self {
        let (asides, queue) = mpsc::channel(ASIDES);
        let shared = Arc::new(Shared {
            outgoing: tokio::sync::Mutex::new(outgoing),
            routes: Mutex::new(Routes::new()),
            asides,
            challenge: watch::channel(None).0,
            is_proven: AtomicBool::new(false),
            born: Instant::now(),
            used: AtomicU64::new(0),
            heard: AtomicU64::new(0),
        });
        let tasks = [
            tokio::spawn(read(Arc::clone(&shared), incoming)).abort_handle(),
            tokio::spawn(tend(Arc::clone(&shared), queue)).abort_handle(),
        ];
        Self { relay, shared, tasks, proving: tokio::sync::Mutex::default() }
    }

    /// Whether it can be used.
    pub(crate) fn is_alive(&self) -> bool {
        self.shared.routes().lost().is_none()
    }

    /// Whether nobody waits for anything on it.
    pub(crate) fn is_idle(&self) -> bool {
        self.shared.routes().is_idle()
    }

    /// When it was last used, in milliseconds of its own time.
    pub(crate) fn idle_since(&self) -> Instant {
        self.shared.born + Duration::from_millis(self.shared.used.load(Ordering::Relaxed))
    }

    /// Sends an event and waits for the answer.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub(crate) async fn publish(&self, id: EventId, message: String, until: Instant) -> Result<Verdict, Unanswered> {
        let (number, answer) = self.shared.use_routes().await_answer(id).map_err(Unanswered::Lost)?;
        let mut waiting = Waiting { shared: &self.shared, id, number, answered: false };
        let exchange = async {
            self.shared.send(message).await?;
            answer.await.map_err(|_| self.shared.lost())
        };
        match timeout_at(until, exchange).await {
            Ok(Ok(verdict)) => {
                waiting.answered = true;
                return Ok(verdict);
            }
            Ok(Err(_)) => {}
            Err(_) => self.shared.routes().end_unanswered(),
        }
        let routes = self.shared.routes();
        let is_culprit = routes.is_culprit(number);
        drop(routes);
        Err(if is_culprit { Unanswered::Timeout } else { Unanswered::Lost(self.shared.lost()) })
    }

    /// Sends an event to which the answer may never come: `None` where it has not by then, which harms nothing.
    ///
    /// # Errors
    /// Where it could not be sent.
    pub(crate) async fn await_verdict(
        &self,
        id: EventId,
        message: String,
        until: Instant,
    ) -> Result<Option<Verdict>, Lost> {
        let (number, answer) = self.shared.use_routes().await_answer(id)?;
        let _waiting = Waiting { shared: &self.shared, id, number, answered: false };
        self.send(message, until).await?;
        match timeout_at(until, answer).await {
            Ok(answer) => answer.map(Some).map_err(|_| self.shared.lost()),
            Err(_) => Ok(None),
        }
    }

    /// Sends a message that has no answer.
    ///
    /// # Errors
    /// Where the connection is lost, or the relay does not read.
    pub(crate) async fn send(&self, message: String, until: Instant) -> Result<(), Lost> {
        self.shared.touch();
        timeout_at(until, self.shared.send(message)).await.unwrap_or_else(|_| {
            self.shared.end(Lost::new(ErrorKind::Timeout, "the relay does not read"));
            Err(self.shared.lost())
        })
    }

    /// Opens a subscription: `hello` is what begins it, `goodbye` what ends it when it is dropped.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(crate) async fn subscribe(
        &self,
        budget: Budget,
        until: Instant,
        hello: impl FnOnce(SubId) -> String,
        goodbye: fn(SubId) -> String,
    ) -> Result<Subscription, Lost> {
        let (id, deliveries, overrun) = self.shared.use_routes().subscribe(budget)?;
        let subscription = Subscription { id, deliveries, overrun, shared: Arc::clone(&self.shared), goodbye };
        self.send(hello(id), until).await?;
        Ok(subscription)
    }

    /// Whether the relay has sent a challenge that was not answered.
    pub(crate) fn is_challenged(&self) -> bool {
        self.shared.challenge.borrow().is_some() && !self.shared.is_proven.load(Ordering::Acquire)
    }

    /// Proves to the relay who asks (NIP-42).
    ///
    /// # Errors
    /// `Denied` where the authorizer does not answer this relay, the relay sends no challenge or does not accept the
    /// answer; where the connection is lost.
    pub(crate) async fn prove(&self, holder: &Locator, auth: &dyn Authorizer, until: Instant) -> Result<()> {
        let mut proven = self.proving.lock().await;
        let mut challenges = self.shared.challenge.subscribe();
        let wait = until.min(Instant::now() + CHALLENGE_TIMEOUT);
        let challenge = match timeout_at(wait, challenges.wait_for(Option::is_some)).await {
            Ok(Ok(challenge)) => challenge.clone(),
            _ => None,
        };
        let denied = |words: &'static str| Error::new(ErrorKind::Denied, words).with("relay", &self.relay);
        let challenge = challenge.ok_or_else(|| denied("the relay wants to know who asks, and sends no challenge"))?;
        if proven.as_ref() == Some(&challenge) {
            return Ok(());
        }
        let request = AuthRequest::Relay { holder, url: self.relay.as_str(), challenge: &challenge };
        let event = auth.authorize(request).await?;
        match self.publish(event.id(), wire::auth(&event.to_json()), until).await {
            Ok(Verdict::Taken(_)) => {
                self.shared
                    .is_proven
                    .store(self.shared.challenge.borrow().as_ref() == Some(&challenge), Ordering::Release);
                *proven = Some(challenge);
                Ok(())
            }
            Ok(Verdict::WantsKey(words) | Verdict::Refused(Refused { words, .. })) => {
                Err(Error::new(ErrorKind::Denied, words).with("relay", &self.relay))
            }
            Err(Unanswered::Timeout) => {
                Err(Error::new(ErrorKind::Timeout, "the relay does not answer").with("relay", &self.relay))
            }
            Err(Unanswered::Lost(lost)) => Err(lost.to_error().with("relay", &self.relay)),
        }
    }

    /// Says goodbye and ends.
    pub(crate) async fn close(&self) {
        self.shared.end(Lost::new(ErrorKind::Closed, "the backend was closed"));
        let farewell = async { self.shared.outgoing.lock().await.send(Message::Close(None)).await };
        // A relay that does not read does not get it.
        let _ = timeout(ASIDE_TIMEOUT, farewell).await;
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.end(Lost::new(ErrorKind::Closed, "the connection is no longer needed"));
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("relay", &self.relay).finish_non_exhaustive()
    }
}

/// Forgets an answer that nobody waits for any more.
struct Waiting<'a> {
    shared: &'a Shared,
    id: EventId,
    number: u64,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.shared.routes().forget_answer(self.id, self.number);
        }
    }
}

/// A subscription. Dropping it tells the relay to stop.
pub(crate) struct Subscription {
    id: SubId,
    deliveries: mpsc::Receiver<Delivery>,
    overrun: Arc<AtomicBool>,
    shared: Arc<Shared>,
    goodbye: fn(SubId) -> String,
}

/// Why a subscription gets nothing more.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// The relay sent more than it was asked for, or faster than it could be taken.
    Overrun,
    /// The connection ended.
    Lost(Lost),
}

impl Subscription {
    /// Its number.
    pub(crate) const fn id(&self) -> SubId {
        self.id
    }

    /// What comes next.
    ///
    /// # Errors
    /// Where nothing comes any more.
    pub(crate) async fn next(&mut self) -> Result<Delivery, Ended> {
        self.deliveries.recv().await.ok_or_else(|| self.ended())
    }

    /// All that has come, once something has.
    ///
    /// # Errors
    /// Where nothing comes any more.
    pub(crate) async fn next_many(&mut self, into: &mut Vec<Delivery>) -> Result<(), Ended> {
        // As many as the reader hands out before it lets others run.
        const AT_ONCE: usize = 128;
        if self.deliveries.recv_many(into, AT_ONCE).await == 0 { Err(self.ended()) } else { Ok(()) }
    }

    fn ended(&self) -> Ended {
        if self.overrun.load(Ordering::Acquire) { Ended::Overrun } else { Ended::Lost(self.shared.lost()) }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.shared.routes().unsubscribe(self.id) {
            self.shared.aside((self.goodbye)(self.id));
        }
    }
}

impl Shared {
    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn use_routes(&self) -> MutexGuard<'_, Routes> {
        self.touch();
        self.routes()
    }

    fn touch(&self) {
        self.used.store(self.millis(), Ordering::Relaxed);
    }

    fn millis(&self) -> u64 {
        // Wraps after half a billion years.
        self.born.elapsed().as_millis() as u64
    }

    fn end(&self, why: Lost) {
        self.routes().end(why);
    }

    fn lost(&self) -> Lost {
        let ended_by_relay = || Lost::new(ErrorKind::Unreachable, "the relay ended the subscription");
        self.routes().lost().cloned().unwrap_or_else(ended_by_relay)
    }

    async fn send(&self, message: String) -> Result<(), Lost> {
        let sent = self.outgoing.lock().await.send(Message::text(message)).await;
        sent.map_err(|error| {
            self.end(Lost::new(ErrorKind::Unreachable, format!("the connection is lost: {error}")));
            self.lost()
        })
    }

    fn aside(&self, message: String) {
        // See `ASIDES`.
        let _ = self.asides.try_send(message);
    }

    /// Takes what the relay says; `Some` where the connection has to end for it.
    fn take(&self, text: &str) -> Option<Lost> {
        let routed = match wire::Incoming::parse(text) {
            Ok(wire::Incoming::Auth(challenge)) => {
                self.is_proven.store(false, Ordering::Release);
                self.challenge.send_replace(Some((&*challenge).into()));
                self.routes().stray(text.len())
            }
            Ok(message) => {
                if let wire::Incoming::Notice(words) = &message {
                    tracing::debug!(words = %crate::verdict::cut(words).escape_debug(), "notice of a relay");
                }
                self.routes().route(message, text.len())
            }
            Err(_) => self.routes().stray(text.len()),
        };
        self.heed(routed)
    }

    fn heed(&self, routed: Routed) -> Option<Lost> {
        match routed {
            Routed::Taken => None,
            Routed::Overrun(id) => {
                self.aside(wire::close(id));
                None
            }
            Routed::Flood => Some(Lost::new(ErrorKind::Refused, "the relay sends too much that nobody asked for")),
        }
    }
}

/// Reads until the end.
async fn read(shared: Arc<Shared>, mut incoming: Incoming) {
    let why = loop {
        // One buffer of the socket can hold hundreds of messages: let those who wait for them run.
        tokio::task::coop::consume_budget().await;
        let message = incoming.next().await;
        shared.heard.store(shared.millis(), Ordering::Relaxed);
        let end = match message {
            Some(Ok(Message::Text(text))) => shared.take(text.as_str()),
            Some(Ok(Message::Binary(bytes))) => {
                let routed = shared.routes().stray(bytes.len());
                shared.heed(routed)
            }
            Some(Ok(Message::Close(frame))) => {
                let words = frame.map(|frame| format!(" ({} {})", frame.code, crate::verdict::cut(&frame.reason)));
                Some(Lost::new(
                    ErrorKind::Unreachable,
                    format!("the relay closed the connection{}", words.unwrap_or_default()),
                ))
            }
            Some(Ok(_)) => None,
            Some(Err(error)) => Some(Lost::new(ErrorKind::Unreachable, format!("the connection is lost: {error}"))),
            None => Some(Lost::new(ErrorKind::Unreachable, "the relay closed the connection")),
        };
        if let Some(why) = end {
            break why;
        }
    };
    shared.end(why);
}

/// Sends what nobody waits for, pings, and notices the end of a relay that has gone without a word.
async fn tend(shared: Arc<Shared>, mut asides: mpsc::Receiver<String>) {
    loop {
        tokio::select! {
            aside = asides.recv() => {
                let Some(aside) = aside else { return };
                if timeout(ASIDE_TIMEOUT, shared.send(aside)).await.is_err() {
                    tracing::debug!("a relay does not read");
                }
            }
            () = sleep(LOOK_EVERY) => {
                let now = shared.millis();
                let since = |then: &AtomicU64| Duration::from_millis(now.saturating_sub(then.load(Ordering::Relaxed)));
                let silent = since(&shared.heard);
                if silent >= DEAD_AFTER {
                    shared.end(Lost::new(ErrorKind::Unreachable, "the relay went silent"));
                } else if since(&shared.used) >= IDLE_AFTER && shared.routes().is_idle() {
                    shared.end(Lost::new(ErrorKind::Unreachable, "closed after long disuse"));
                } else if silent >= PING_AFTER {
                    let ping = async { shared.outgoing.lock().await.send(Message::Ping(Vec::new().into())).await };
                    // What fails here shows as silence.
                    let _ = timeout(ASIDE_TIMEOUT, ping).await;
                }
            }
        }
        if shared.routes().lost().is_some() {
            return;
        }
    }
}
