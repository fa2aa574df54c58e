//! Asking a relay: one question, its answer within bounds, and proving who asks where the relay wants to know.

use std::sync::Arc;

use talkbox_core::{Authorizer, Error, ErrorKind, Result};
use tokio::time::{Instant, timeout_at};

use crate::{
    connection::Connection,
    filter::{Filter, Sent},
    network::{Network, Relay, identity},
    routes::{Budget, Delivery, Lost},
    subscription::{Ended, Subscription},
    verdict::{Refused, wants_key},
    wire::{self, Completeness},
};

/// Most bytes of one answer. A page of the largest envelopes is larger and is asked for again in small ones; ten relays
/// at once still fit into 256 MB.
const MAX_BYTES: usize = 24 * 1024 * 1024;
/// Most events that are asked for at once.
pub(crate) const MAX_LIMIT: usize = 2_000;
/// A whole answer may take so many times as long as one message of it.
pub(crate) const PATIENCE: u32 = 6;

/// Somebody who asks one relay.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) network: Arc<Network>,
    pub(crate) relay: Relay,
    pub(crate) auth: Option<Arc<dyn Authorizer>>,
}

/// What a relay answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The events that match the question.
    pub(crate) events: Vec<Sent>,
    /// What the relay says of them.
    pub(crate) completeness: Completeness,
    /// It sent more than it was asked for, or more bytes than are taken: the rest was not read.
    pub(crate) is_cut: bool,
    /// Whether what is not in it is not there: not so where the relay wants to know who asks and was not told.
    pub(crate) is_conclusive: bool,
}

/// Why there is no answer.
enum Failure {
    Lost(Lost),
    Other(Error),
}

/// How a question ended.
enum Outcome {
    Answer(Answer),
    Closed(String),
}

impl Asker {
    /// Asks, and again where the connection turns out to have ended, or the relay wants to know who asks.
    ///
    /// # Errors
    /// Where the relay cannot be reached, does not answer, or does not serve this key.
    pub(crate) async fn fetch(&self, filter: &Filter) -> Result<Answer> {
        let mut lease = self.connect().await?;
        loop {
            let failure = match self.converse(&lease.connection, filter).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Other(error)) => error,
                // One that was open before may have ended unnoticed.
                Err(Failure::Lost(_)) if !lease.is_fresh => {
                    lease = self.connect().await?;
                    continue;
                }
                Err(Failure::Lost(lost)) => lost.to_error(),
            };
            return Err(failure.with("relay", &self.relay.url));
        }
    }

    /// Opens a subscription that goes on, to what answers any of these questions.
    ///
    /// # Errors
    /// Where the relay cannot be reached.
    pub(crate) async fn subscribe(&self, about: &[Filter], budget: Budget) -> Result<(Arc<Connection>, Subscription)> {
        loop {
            let lease = self.connect().await?;
            // A relay that refuses this key says so when it is asked.
            let _ = self.introduce(&lease.connection).await;
            let filters: Vec<_> = about.iter().map(Filter::to_json).collect();
            let until = Instant::now() + self.network.timeout;
            let hello = |id| wire::req(id, &filters.join(","));
            let opened = lease.connection.subscribe(budget, until, hello, wire::close).await;
            match opened {
                Ok(subscription) => return Ok((lease.connection, subscription)),
                Err(lost) if lease.is_fresh => return Err(lost.to_error().with("relay", &self.relay.url)),
                Err(_) => {}
            }
        }
    }

    /// The connection for whoever asks.
    ///
    /// # Errors
    /// As [`Network::connect`].
    pub(crate) async fn connect(&self) -> Result<crate::pool::Lease> {
        self.network.connect(&self.relay, identity(self.auth.as_ref())).await
    }

    /// Proves who asks, where the relay has asked for it and there is somebody; whether it did.
    ///
    /// # Errors
    /// As [`Connection::prove`].
    pub(crate) async fn introduce(&self, connection: &Connection) -> Result<bool> {
        match &self.auth {
            Some(auth) if connection.is_challenged() => {
                let until = Instant::now() + self.network.timeout;
                connection.prove(&self.relay.holder, &**auth, until).await.map(|()| true)
            }
            _ => Ok(false),
        }
    }

    async fn converse(&self, connection: &Connection, filter: &Filter) -> Result<Answer, Failure> {
        let introduced = self.introduce(connection).await;
        let outcome = self.ask(connection, filter).await?;
        // The challenge may have come after the question, and some relays then answer with less and without a word.
        let may_help = introduced.is_ok() && connection.is_challenged();
        let outcome = match outcome {
            Outcome::Closed(words) if wants_key(&words) || may_help => {
                let Some(auth) = &self.auth else {
                    return Err(Failure::Other(Refused::of(&words).into_error()));
                };
                introduced.map_err(Failure::Other)?;
                let until = Instant::now() + self.network.timeout;
                connection.prove(&self.relay.holder, &**auth, until).await.map_err(Failure::Other)?;
                self.ask(connection, filter).await?
            }
            Outcome::Answer(_) if may_help && self.auth.is_some() => match self.introduce(connection).await {
                Ok(true) => self.ask(connection, filter).await?,
                Ok(false) | Err(_) => outcome,
            },
            outcome => outcome,
        };
        match outcome {
            Outcome::Answer(answer) => Ok(Answer { is_conclusive: !connection.is_challenged(), ..answer }),
            Outcome::Closed(words) => Err(Failure::Other(Refused::of(&words).into_error())),
        }
    }

    async fn ask(&self, connection: &Connection, filter: &Filter) -> Result<Outcome, Failure> {
        let limit = filter.limit.unwrap_or(MAX_LIMIT);
        // Room for the end and a notice beside the events, so that taking them slowly loses nothing.
        let budget = Budget { waiting: limit + 8, events: limit, bytes: MAX_BYTES, notices: false };
        let json = filter.to_json();
        let until = Instant::now() + self.network.timeout * PATIENCE;
        let mut subscription = connection
            .subscribe(budget, self.soon(until), |id| wire::req(id, &json), wire::close)
            .await
            .map_err(Failure::Lost)?;
        let mut answer =
            Answer { events: Vec::new(), completeness: Completeness::Unsaid, is_cut: false, is_conclusive: false };
        let mut deliveries = Vec::new();
        loop {
            match timeout_at(self.soon(until), subscription.next_many(&mut deliveries)).await {
                Ok(Ok(())) => {}
                Ok(Err(Ended::Overrun)) => {
                    answer.is_cut = true;
                    return Ok(Outcome::Answer(answer));
                }
                Ok(Err(Ended::Lost(lost))) => return Err(Failure::Lost(lost)),
                Err(_) => return Err(Failure::Other(Error::new(ErrorKind::Timeout, "the relay does not answer"))),
            }
            for delivery in deliveries.drain(..) {
                match delivery {
                    Delivery::Event(event) if filter.matches(&event.head) => answer.events.push(event),
                    Delivery::Eose(completeness) => {
                        answer.completeness = completeness;
                        return Ok(Outcome::Answer(answer));
                    }
                    Delivery::Closed(words) => return Ok(Outcome::Closed(words)),
                    Delivery::Event(_) | Delivery::Neg(_) | Delivery::NegErr(_) | Delivery::Notice(_) => {}
                }
            }
        }
    }

    /// When the next message has to be there.
    fn soon(&self, until: Instant) -> Instant {
        until.min(Instant::now() + self.network.timeout)
    }
}
