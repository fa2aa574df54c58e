//! Bringing events to relays: each event its own answer within its own time, many at once, one bad one alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use talkbox_core::{Authorizer, Error, ErrorKind, EventId, Level, Refusal, error::Retry};
use tokio::time::{Instant, timeout_at};

use crate::{
    connection::Unanswered,
    network::{Network, Relay},
    pool::Lease,
    routes::Lost,
    verdict::{Refused, Verdict},
    wire,
};

/// Events on their way to one relay at once: 4 MiB of the largest, and enough of the small ones that distance does not
/// matter.
const WINDOW: usize = 64;
/// After so many connections lost in a row, each with one event on it, the relay is left alone.
const MAX_LOST: u32 = 3;

/// An event, as it goes out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parcel<'a> {
    pub(crate) id: EventId,
    pub(crate) json: &'a str,
}

/// One answer for each event, in order.
pub(crate) async fn deliver(
    network: &Network,
    relay: &Relay,
    parcels: &[Parcel<'_>],
    auth: Option<&Arc<dyn Authorizer>>,
) -> Vec<Result<Level, Refusal>> {
    let run = Run {
        network,
        relay,
        auth,
        is_one_of_many: parcels.len() > 1,
        alone: tokio::sync::Mutex::new(()),
        given_up: AtomicBool::new(false),
        lost_alone: AtomicU32::new(0),
    };
    let refusal = |refused: Refused| Refusal {
        retry: refused.retry,
        ..Refusal::new(relay.holder.clone(), refused.kind, &refused.words)
    };
    if let [parcel] = parcels {
        return vec![run.bring(*parcel).await.map_err(refusal)];
    }
    let answers: Vec<_> = parcels.iter().map(|parcel| run.bring(*parcel)).collect();
    let answers: Vec<_> = stream::iter(answers).buffered(WINDOW).collect().await;
    answers.into_iter().map(|answer| answer.map_err(refusal)).collect()
}

/// Some events for one relay.
struct Run<'a> {
    network: &'a Network,
    relay: &'a Relay,
    auth: Option<&'a Arc<dyn Authorizer>>,
    is_one_of_many: bool,
    /// After a connection was lost, events go one by one, so that the one that costs the connection costs only itself.
    alone: tokio::sync::Mutex<()>,
    /// The relay cannot be reached or has stopped answering: what has not been sent yet is not.
    given_up: AtomicBool,
    lost_alone: AtomicU32,
}

impl Run<'_> {
    async fn bring(&self, parcel: Parcel<'_>) -> Result<Level, Refused> {
        let until = Instant::now() + self.network.timeout;
        // Where others wait behind it, half of the time is kept for them.
        let patience = if self.is_one_of_many { self.network.timeout / 2 } else { self.network.timeout };
        match self.attempt(parcel, Instant::now() + patience).await {
            Err(Failure::Lost(_)) if Instant::now() < until => {}
            other => return self.settle(other),
        }
        let alone = timeout_at(until, self.alone.lock()).await;
        let Ok(_alone) = alone else { return self.settle(Err(Failure::Unanswered)) };
        let outcome = self.attempt(parcel, until).await;
        match &outcome {
            Err(Failure::Lost(_)) => {
                if self.lost_alone.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_LOST {
                    self.given_up.store(true, Ordering::Relaxed);
                }
            }
            Err(Failure::Unanswered) => self.given_up.store(true, Ordering::Relaxed),
            _ => self.lost_alone.store(0, Ordering::Relaxed),
        }
        self.settle(outcome)
    }

    /// One try, with one more as somebody where the relay wants that.
    async fn attempt(&self, parcel: Parcel<'_>, until: Instant) -> Result<Level, Failure> {
        if self.given_up.load(Ordering::Relaxed) {
            return Err(Failure::Unanswered);
        }
        let known = self.auth.filter(|_| self.network.pool.habits(&self.relay.url).writers_are_known);
        match self.attempt_as(known, parcel, until).await? {
            Verdict::Taken(level) => Ok(level),
            Verdict::Refused(refused) => Err(Failure::Refused(refused)),
            Verdict::WantsKey(words) => {
                self.network.pool.learn(&self.relay.url, |habits| habits.writers_are_known = true);
                let Some(auth) = self.auth.filter(|_| known.is_none()) else {
                    return Err(Failure::Refused(Refused::of(&words)));
                };
                match self.attempt_as(Some(auth), parcel, until).await? {
                    Verdict::Taken(level) => Ok(level),
                    Verdict::WantsKey(words) => Err(Failure::Refused(Refused::of(&words))),
                    Verdict::Refused(refused) => Err(Failure::Refused(refused)),
                }
            }
        }
    }

    /// One try as somebody. Some relays send their challenge at once, and some only with the refusal.
    async fn attempt_as(
        &self,
        auth: Option<&Arc<dyn Authorizer>>,
        parcel: Parcel<'_>,
        until: Instant,
    ) -> Result<Verdict, Failure> {
        // Whether it was proved, or is to be, who asks.
        let mut has_proved = false;
        loop {
            let connecting = self.network.connect(self.relay, auth.map(|auth| auth.public()));
            let Lease { connection, is_fresh } = match timeout_at(until, connecting).await {
                Ok(Ok(lease)) => lease,
                Ok(Err(error)) => {
                    self.given_up.store(true, Ordering::Relaxed);
                    return Err(Failure::Refused(refused(&error)));
                }
                Err(_) => return Err(Failure::Unanswered),
            };
            if let Some(auth) = auth.filter(|_| has_proved || connection.is_challenged()) {
                has_proved = true;
                let proved = connection.prove(&self.relay.holder, &**auth, until).await;
                proved.map_err(|error| Failure::Refused(refused(&error)))?;
            }
            match connection.publish(parcel.id, wire::event(parcel.json), until).await {
                Ok(Verdict::WantsKey(_)) if auth.is_some() && !has_proved => has_proved = true,
                Ok(verdict) => return Ok(verdict),
                Err(Unanswered::Timeout) => return Err(Failure::Unanswered),
                // One that was open before may have ended unnoticed: that says nothing about this event.
                Err(Unanswered::Lost(_)) if !is_fresh && Instant::now() < until => {}
                Err(Unanswered::Lost(lost)) => return Err(Failure::Lost(lost)),
            }
        }
    }

    fn settle(&self, outcome: Result<Level, Failure>) -> Result<Level, Refused> {
        outcome.map_err(|failure| match failure {
            Failure::Refused(refused) => refused,
            Failure::Lost(lost) => refused(&lost.to_error()),
            Failure::Unanswered => refused(&Error::new(ErrorKind::Timeout, "the relay does not answer")),
        })
    }
}

/// Why an event was not taken.
enum Failure {
    Refused(Refused),
    Lost(Lost),
    Unanswered,
}

fn refused(error: &Error) -> Refused {
    Refused { kind: error.kind(), retry: error.retry_advice(), words: error.message().to_owned() }
}

/// Sends an event of which nothing is kept, so that some relays do not answer: that it was sent is enough.
///
/// # Errors
/// Where it could not be sent, or the relay refuses it within `patience`.
pub(crate) async fn drop_off(
    network: &Network,
    relay: &Relay,
    parcel: Parcel<'_>,
    patience: Duration,
) -> Result<(), Refusal> {
    let refusal = |error: Error| Refusal::of(relay.holder.clone(), &error);
    let connection = network.connect(relay, None).await.map_err(refusal)?.connection;
    let answered = connection.await_verdict(parcel.id, wire::event(parcel.json), Instant::now() + patience).await;
    match answered {
        Ok(None | Some(Verdict::Taken(_))) => Ok(()),
        Ok(Some(Verdict::WantsKey(words))) => Err(refusal(Refused::of(&words).into_error())),
        Ok(Some(Verdict::Refused(refused))) => Err(refusal(refused.into_error())),
        Err(lost) => Err(refusal(lost.to_error().retry(Retry::After(None)))),
    }
}
