//! One connection to one relay under one identity: who sends, who waits, and when it has to end.
//!
//! Whoever asks writes to the socket itself, and one task reads: an exchange costs one hop more than on a bare socket.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use talkbox_core::{AuthRequest, Authorizer, Error, ErrorKind, EventId, Locator, Result};
use tokio::{
    task::AbortHandle,
    time::{Instant, timeout_at},
};

use crate::{
    line::Line,
    relay_url::RelayUrl,
    routes::{Budget, Lost},
    socket::{Incoming, Outgoing},
    subscription::Subscription,
    verdict::{Refused, Verdict},
    wire::{self, SubId},
};

/// How long a relay that wants to know who asks may take to send its challenge. It comes before the refusal or with it.
const CHALLENGE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection. Dropping it closes the socket.
pub(crate) struct Connection {
    relay: RelayUrl,
    line: Arc<Line>,
    tasks: [AbortHandle; 2],
    /// The challenge that was answered. Locked while one is being answered, so that it happens once.
    proving: tokio::sync::Mutex<Option<Arc<str>>>,
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
    pub(crate) fn new(relay: RelayUrl, socket: (Outgoing, Incoming)) -> Self {
        let (line, tasks) = Line::open(socket);
        Self { relay, line, tasks, proving: tokio::sync::Mutex::default() }
    }

    /// Whether it can be used.
    pub(crate) fn is_alive(&self) -> bool {
        self.line.routes().lost().is_none()
    }

    /// Whether nobody waits for anything on it.
    pub(crate) fn is_idle(&self) -> bool {
        self.line.routes().is_idle()
    }

    /// When it was last used, in milliseconds of its own time.
    pub(crate) fn idle_since(&self) -> Instant {
        self.line.last_used()
    }

    /// Sends an event and waits for the answer.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub(crate) async fn publish(&self, id: EventId, message: String, until: Instant) -> Result<Verdict, Unanswered> {
        let (number, answer) = self.line.use_routes().await_answer(id).map_err(Unanswered::Lost)?;
        let mut waiting = Waiting { line: &self.line, id, number, answered: false };
        let exchange = async {
            self.line.send(message).await?;
            answer.await.map_err(|_| self.line.lost())
        };
        match timeout_at(until, exchange).await {
            Ok(Ok(verdict)) => {
                waiting.answered = true;
                return Ok(verdict);
            }
            Ok(Err(_)) => {}
            Err(_) => self.line.routes().end_unanswered(),
        }
        let routes = self.line.routes();
        let is_culprit = routes.is_culprit(number);
        drop(routes);
        Err(if is_culprit { Unanswered::Timeout } else { Unanswered::Lost(self.line.lost()) })
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
        let (number, answer) = self.line.use_routes().await_answer(id)?;
        let _waiting = Waiting { line: &self.line, id, number, answered: false };
        self.send(message, until).await?;
        match timeout_at(until, answer).await {
            Ok(answer) => answer.map(Some).map_err(|_| self.line.lost()),
            Err(_) => Ok(None),
        }
    }

    /// Sends a message that has no answer.
    ///
    /// # Errors
    /// Where the connection is lost, or the relay does not read.
    pub(crate) async fn send(&self, message: String, until: Instant) -> Result<(), Lost> {
        self.line.touch();
        timeout_at(until, self.line.send(message)).await.unwrap_or_else(|_| {
            self.line.end(Lost::new(ErrorKind::Timeout, "the relay does not read"));
            Err(self.line.lost())
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
        let subscription = Subscription::begin(&self.line, budget, goodbye)?;
        self.send(hello(subscription.id()), until).await?;
        Ok(subscription)
    }

    /// Whether the relay has sent a challenge that was not answered.
    pub(crate) fn is_challenged(&self) -> bool {
        self.line.challenge.borrow().is_some() && !self.line.is_proven.load(Ordering::Acquire)
    }

    /// Proves to the relay who asks (NIP-42).
    ///
    /// # Errors
    /// `Denied` where the authorizer does not answer this relay, the relay sends no challenge or does not accept the
    /// answer; where the connection is lost.
    pub(crate) async fn prove(&self, holder: &Locator, auth: &dyn Authorizer, until: Instant) -> Result<()> {
        let mut proven = self.proving.lock().await;
        let mut challenges = self.line.challenge.subscribe();
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
                self.line.is_proven.store(self.line.challenge.borrow().as_ref() == Some(&challenge), Ordering::Release);
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
        self.line.end(Lost::new(ErrorKind::Closed, "the backend was closed"));
        self.line.say_goodbye().await;
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.line.end(Lost::new(ErrorKind::Closed, "the connection is no longer needed"));
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
    line: &'a Line,
    id: EventId,
    number: u64,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.line.routes().forget_answer(self.id, self.number);
        }
    }
}
