//! Set reconciliation with a relay (NIP-77, negentropy v1): what differs, at a cost that follows the difference.
//!
//! Relays that do not speak it answer with a notice, with an error, or not at all; that is found out within seconds and
//! remembered, and the caller lists instead.

use std::{fmt, sync::Arc, time::Duration};

use negentropy::{Id, Negentropy as Engine, NegentropyStorageVector};
use talkbox_core::{
    Difference, EnvelopeId, Error, ErrorKind, MailboxId, Reconcile, ReconcileOptions, Result, Timestamp, async_trait,
    half::closed, hex,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    ask::Asker,
    connection::Connection,
    filter::Filter,
    network::{Network, Relay},
    routes::{Budget, Delivery},
    subscription::{Ended, Subscription},
    verdict::{Refused, wants_key},
    wire,
};

/// Bytes of one message; in hexadecimal it fits into the 128 KiB that relays take.
const FRAME: u64 = 60_000;
/// Messages each way. Each halves or quarters what is unclear many times over: a million envelopes take some ten.
const MAX_ROUNDS: usize = 64;
/// Most envelopes in which we may differ. More than a relay makes up to keep us busy; as many as a listing takes.
const MAX_DIFFERENCE: usize = 200_000;
/// How long a relay may take for its first answer, which is how one that does not speak it is found out.
const PROBE: Duration = Duration::from_secs(3);
/// How long all of it may take.
const WHOLE: Duration = Duration::from_secs(60);

/// Reconciliation with one relay.
pub(crate) struct Negentropy {
    network: Arc<Network>,
    relay: Relay,
    end: watch::Receiver<bool>,
}

impl Negentropy {
    pub(crate) const fn new(network: Arc<Network>, relay: Relay, end: watch::Receiver<bool>) -> Self {
        Self { network, relay, end }
    }

    async fn run(
        &self,
        owner: MailboxId,
        ours: &[(Timestamp, EnvelopeId)],
        options: ReconcileOptions,
    ) -> Result<Difference> {
        let asker = Asker { network: Arc::clone(&self.network), relay: self.relay.clone(), auth: options.auth };
        let connection = asker.connect().await?.connection;
        let introduced = asker.introduce(&connection).await;
        match self.exchange(&connection, owner, ours).await {
            Err(Failure::WantsKey(words)) => {
                let Some(auth) = &asker.auth else { return Err(Refused::of(&words).into_error()) };
                introduced?;
                connection.prove(&self.relay.holder, &**auth, Instant::now() + self.network.timeout).await?;
                match self.exchange(&connection, owner, ours).await {
                    Err(Failure::WantsKey(words)) => Err(Refused::of(&words).into_error()),
                    Err(Failure::Other(error)) => Err(error),
                    Ok(difference) => Ok(difference),
                }
            }
            Err(Failure::Other(error)) => Err(error),
            Ok(difference) => Ok(difference),
        }
    }

    async fn exchange(
        &self,
        connection: &Connection,
        owner: MailboxId,
        ours: &[(Timestamp, EnvelopeId)],
    ) -> Result<Difference, Failure> {
        let end = Instant::now() + WHOLE;
        let (mut engine, first) = start(ours).await?;
        let filter = Filter::envelopes(owner).to_json();
        // One answer at a time; the rest is room for notices.
        let budget = Budget { waiting: 16, events: 0, bytes: 0, notices: true };
        let hello = |id| wire::neg_open(id, &filter, &first);
        let soon = Instant::now() + self.network.timeout;
        let mut session = connection.subscribe(budget, soon, hello, wire::neg_close).await.map_err(lost)?;
        let (mut have, mut need) = (Vec::new(), Vec::new());
        for round in 0..MAX_ROUNDS {
            let patience = if round == 0 { PROBE.min(self.network.timeout) } else { self.network.timeout };
            let message = self.answer(&mut session, round == 0, end.min(Instant::now() + patience)).await?;
            let next = engine.reconcile_with_ids(&message, &mut have, &mut need).map_err(|error| {
                Failure::Other(
                    Error::new(ErrorKind::Refused, "the relay reconciles in a way that makes no sense").source(error),
                )
            })?;
            if have.len() + need.len() > MAX_DIFFERENCE {
                return Err(refused("the relay claims to have more than 200,000 envelopes that are not known here"));
            }
            let Some(next) = next else { return Ok(difference(have, need)) };
            let until = end.min(Instant::now() + self.network.timeout);
            connection.send(wire::neg_msg(session.id(), &next), until).await.map_err(lost)?;
        }
        Err(refused("the relay reconciles without end"))
    }

    /// The relay's next message.
    async fn answer(&self, session: &mut Subscription, is_first: bool, until: Instant) -> Result<Vec<u8>, Failure> {
        loop {
            let delivery = match timeout_at(until, session.next()).await {
                Ok(Ok(delivery)) => delivery,
                Ok(Err(Ended::Lost(why))) => return Err(lost(why)),
                Ok(Err(Ended::Overrun)) => return Err(refused("the relay sends more than it is asked for")),
                Err(_) if is_first => return Err(self.lacks("the relay does not answer to reconciliation")),
                Err(_) => return Err(Failure::Other(Error::new(ErrorKind::Timeout, "the relay does not answer"))),
            };
            match delivery {
                Delivery::Neg(message) => {
                    let digits = message.as_bytes();
                    let bytes = digits.chunks(2).map(|pair| std::str::from_utf8(pair).ok().and_then(hex::decode::<1>));
                    let bytes: Option<Vec<u8>> = bytes.map(|byte| byte.map(|[byte]| byte)).collect();
                    return bytes.ok_or_else(|| refused("the relay reconciles in what is not hexadecimal"));
                }
                Delivery::NegErr(words) | Delivery::Closed(words) if wants_key(&words) => {
                    return Err(Failure::WantsKey(words));
                }
                Delivery::NegErr(words) | Delivery::Closed(words) => {
                    let refused = Refused::of(&words);
                    return Err(match refused.kind {
                        // What has another reason than that it is not known may pass, or depends on who asks.
                        ErrorKind::RateLimited | ErrorKind::Denied => Failure::Other(refused.into_error()),
                        _ if is_first => self.lacks("the relay refuses reconciliation"),
                        _ => Failure::Other(refused.into_error()),
                    });
                }
                // It names no subscription, so only where it is the first thing that comes it is taken for the answer.
                Delivery::Notice(words) if is_first => {
                    let said = words.to_ascii_lowercase();
                    if ["rate", "slow down", "too many"].iter().any(|it| said.contains(it)) {
                        return Err(Failure::Other(Error::new(ErrorKind::RateLimited, words)));
                    }
                    return Err(self.lacks("the relay does not know reconciliation"));
                }
                Delivery::Notice(_) | Delivery::Event(_) | Delivery::Eose(_) => {}
            }
        }
    }

    /// Remembers that this relay does not speak it.
    fn lacks(&self, words: &'static str) -> Failure {
        self.network.pool.learn(&self.relay.url, |habits| habits.lacks_negentropy = true);
        Failure::Other(Error::new(ErrorKind::Unsupported, words))
    }
}

#[async_trait]
impl Reconcile for Negentropy {
    async fn difference(
        &self,
        owner: MailboxId,
        ours: &[(Timestamp, EnvelopeId)],
        options: ReconcileOptions,
    ) -> Result<Difference> {
        let mut end = self.end.clone();
        let outcome = tokio::select! {
            biased;
            outcome = self.run(owner, ours, options) => outcome,
            _ = end.wait_for(|closed| *closed) => Err(closed()),
        };
        outcome.map_err(|error| error.with("relay", &self.relay.url).op("reconcile"))
    }
}

impl fmt::Debug for Negentropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Negentropy").field("relay", &self.relay.url).finish_non_exhaustive()
    }
}

/// Why there is no difference to tell.
enum Failure {
    WantsKey(String),
    Other(Error),
}

/// The engine over what we know, and its first message. Sorting many ids takes a while, so it happens aside.
async fn start(
    ours: &[(Timestamp, EnvelopeId)],
) -> Result<(Engine<'static, NegentropyStorageVector>, Vec<u8>), Failure> {
    let mut ours = ours.to_vec();
    let started = tokio::task::spawn_blocking(move || {
        ours.sort_unstable();
        ours.dedup();
        let mut storage = NegentropyStorageVector::with_capacity(ours.len());
        for (time, id) in ours {
            storage.insert(time.secs(), Id::from_byte_array(*id.as_bytes()))?;
        }
        storage.seal()?;
        let mut engine = Engine::owned(storage, FRAME)?;
        let first = engine.initiate()?;
        Ok::<_, negentropy::Error>((engine, first))
    });
    let unexpected = |error: Box<dyn std::error::Error + Send + Sync>| {
        Failure::Other(Error::new(ErrorKind::Unexpected, "reconciliation cannot begin").source(error))
    };
    match started.await {
        Ok(Ok(started)) => Ok(started),
        Ok(Err(error)) => Err(unexpected(error.into())),
        Err(error) => Err(unexpected(error.into())),
    }
}

fn difference(have: Vec<Id>, need: Vec<Id>) -> Difference {
    let ids = |ids: Vec<Id>| {
        let mut ids: Vec<_> = ids.into_iter().map(|id| EnvelopeId::from_bytes(*id)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    Difference { theirs: ids(need), ours: ids(have) }
}

fn refused(words: &'static str) -> Failure {
    Failure::Other(Error::new(ErrorKind::Refused, words))
}

fn lost(lost: crate::routes::Lost) -> Failure {
    Failure::Other(lost.to_error())
}
