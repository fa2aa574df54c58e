//! The way of an event into the node: form, policy, known or not, signature, what its kind asks for, and the writer.
//!
//! All of it runs on the threads of a bounded pool; an event that is here already costs no signature.

mod pool;
mod recent;
mod records;
mod ticket;

use std::sync::{Arc, PoisonError, RwLock};

use talkbox_core::{
    Clock, DeleteRequest, Hint, MailboxRecord, Result, Timestamp,
    anti_entropy::{IdSet, Item},
    envelope::MAX_RETENTION,
    event::{Event, Wire},
};
use tokio::sync::Semaphore;

use self::{pool::Pool, records::Records};
pub(crate) use self::{
    recent::RecentIds,
    ticket::{Answer, Batch, Ticket, ok},
};
use super::{
    admitted::{Admitted, Origin},
    context::Work,
    hour,
    live::{Fresh, Live},
    mesh::Hints,
    metrics::Metrics,
    planted::{Defect, Planted},
    policy::{self, Policy, Treatment},
    refusal::{Outcome, Refusal},
    store::{Followers, Store, Writer},
};

/// Events on their way, from here until they are answered. Enough for two commits, and for the pool to have work while
/// the writer has; at full load 60 ms of work, so that a client that publishes much delays another's answer by no more.
const PLACES: usize = 2_048;

/// Where events come in.
#[derive(Debug)]
pub(crate) struct Intake {
    pool: Pool,
    places: Arc<Semaphore>,
    desk: Arc<Desk>,
}

/// What a job of the pool works with.
#[derive(Debug)]
struct Desk {
    policy: Policy,
    clock: Arc<dyn Clock>,
    recent: Arc<RecentIds>,
    /// The ids that count as held: what a peer brings again costs no signature.
    held: Arc<RwLock<IdSet>>,
    writer: Writer,
    records: Records,
    live: Arc<Live>,
    /// On their way to peers.
    hints: Hints,
    metrics: Arc<Metrics>,
    planted: Planted,
}

impl Intake {
    /// Starts the threads.
    ///
    /// # Errors
    /// `Unexpected` where the system gives no thread.
    pub(crate) fn start(
        policy: Policy,
        clock: Arc<dyn Clock>,
        followers: Followers,
        hints: Hints,
        store: &Store,
        work: Work,
        planted: Planted,
    ) -> Result<Self> {
        let Followers { recent, live, metrics } = followers;
        let (writer, held) = (store.writer().clone(), Arc::clone(store.held_set()));
        let records = Records::start(writer.clone(), work)?;
        Ok(Self {
            pool: Pool::start(work)?,
            places: Arc::new(Semaphore::new(PLACES)),
            desk: Arc::new(Desk { policy, clock, recent, held, writer, records, live, hints, metrics, planted }),
        })
    }

    /// Takes an event in; the ticket is answered when its fate is known. Waits where many are on their way.
    pub(crate) async fn take(&self, json: String, origin: Origin, ticket: Ticket) {
        // Never closed.
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
        let (desk, ticket) = (Arc::clone(&self.desk), ticket.with_place(place));
        self.pool.run(move || desk.take(&json, origin, ticket));
    }

    /// Verifies an event, and works out what its row needs. `None` where it is not what it claims, or is not taken, or the
    /// node is stopping.
    pub(crate) async fn examine(&self, json: String) -> Option<Admitted> {
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        let (answer, examined) = tokio::sync::oneshot::channel();
        let desk = Arc::clone(&self.desk);
        self.pool.run(move || {
            let _gone = answer.send(desk.examine(&json));
            drop(place);
        });
        examined.await.ok()?
    }

    /// Verifies an event that is not to be stored, off the async threads. `None` where the node is stopping.
    pub(crate) async fn verify(&self, json: String) -> Option<Result<Event>> {
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        let (answer, verified) = tokio::sync::oneshot::channel();
        self.pool.run(move || {
            let _gone = answer.send(Event::parse(&json));
            drop(place);
        });
        verified.await.ok()
    }
}

impl Desk {
    fn take(&self, json: &str, origin: Origin, ticket: Ticket) {
        let mut ticket = ticket.counted(Arc::clone(&self.metrics), origin);
        let (admitted, verified) = match self.admit(json, origin, &mut ticket) {
            Ok(admitted) => admitted,
            Err(outcome) => return ticket.answer(outcome),
        };
        match verified {
            Verified::Record(record) => self.records.check(*record, Arc::new(admitted), ticket),
            Verified::Stored => {
                if self.planted.is(Defect::DropOnDedupe) {
                    self.recent.remember(admitted.facts.id);
                }
                let ticket = if self.planted.is(Defect::AckBeforeCommit) { early(ticket) } else { ticket };
                self.writer.admit(Arc::new(admitted), ticket);
            }
            Verified::Hint if self.recent.remember(admitted.facts.id) => {
                ticket.answer(Outcome::Stored);
                if origin == Origin::Client {
                    self.hints.leave(admitted.json.clone());
                }
                self.live.pass_on(&Fresh { seq: None, event: Arc::new(admitted) });
            }
            Verified::Hint => ticket.answer(Outcome::Duplicate),
        }
    }

    /// Verifies an event. What is known already costs no signature: its id says that it was verified once.
    fn admit(
        &self,
        json: &str,
        origin: Origin,
        ticket: &mut Ticket,
    ) -> std::result::Result<(Admitted, Verified), Outcome> {
        let refused = |error: talkbox_core::Error| Outcome::Refused(Refusal::from_core(&error));
        let event = Wire::parse(json).map_err(refused)?;
        ticket.name(event.id());
        let canonical = event.to_json();
        let now = self.clock.now();
        let terms = match self.policy.examine(&event, canonical.len(), now) {
            Ok(terms) => terms,
            Err(refusal) if origin == Origin::Peer && refusal.is_by_policy() => {
                return self.admit_refused(&event, canonical, refusal, now);
            }
            Err(refusal) => return Err(Outcome::Refused(refusal)),
        };
        let is_recent = self.recent.contains(&event.id());
        if !is_recent && origin == Origin::Peer && self.is_held(&event) {
            event.verify_id().map_err(refused)?;
            // Without a receipt: it may count as held and have no body here.
            return Err(Outcome::Duplicate);
        }
        if terms.treatment != Treatment::Hint {
            ticket.keep_until(terms.expires);
        }
        if is_recent {
            // What is claimed to be the id has to be it, or a receipt would name what nobody has.
            event.verify_id().map_err(refused)?;
            return Err(Outcome::Duplicate);
        }
        let mut deletion = None;
        let verified = match terms.treatment {
            Treatment::Envelope if self.planted.is(Defect::AcceptUnverified) => Verified::Stored,
            Treatment::Envelope | Treatment::Replaceable | Treatment::Vanish => {
                event.verify().map_err(refused)?;
                Verified::Stored
            }
            Treatment::Deletion => {
                deletion = Some(Event::parse(json).and_then(DeleteRequest::from_event).map_err(refused)?);
                Verified::Stored
            }
            Treatment::Record => {
                let record = Event::parse(json).and_then(MailboxRecord::from_event).map_err(refused)?;
                Verified::Record(Box::new(record))
            }
            Treatment::Hint => {
                Event::parse(json).and_then(|event| Hint::from_event(event, now)).map_err(refused)?;
                Verified::Hint
            }
        };
        Ok((Admitted::new(&event, canonical, terms, deletion, origin), verified))
    }
}

impl Desk {
    /// What a peer takes and this node does not is remembered, so that it is fetched once only. But for what is forged: under
    /// the id there may be something else, which is taken.
    fn admit_refused(
        &self,
        event: &Wire<'_>,
        canonical: String,
        refusal: Refusal,
        now: Timestamp,
    ) -> std::result::Result<(Admitted, Verified), Outcome> {
        if self.is_held(event) {
            return Err(Outcome::Duplicate);
        }
        event.verify().map_err(|error| Outcome::Refused(Refusal::from_core(&error)))?;
        let expires = policy::expires(event).unwrap_or_else(|| event.created_at().plus(MAX_RETENTION));
        // What has expired counts as held to the end of the hour.
        if expires <= hour(now) {
            return Err(Outcome::Refused(refusal));
        }
        Ok((Admitted::refused(event, canonical, expires, refusal), Verified::Stored))
    }

    fn examine(&self, json: &str) -> Option<Admitted> {
        let event = Wire::parse(json).ok()?;
        let canonical = event.to_json();
        let terms = self.policy.examine(&event, canonical.len(), self.clock.now()).ok()?;
        event.verify().ok()?;
        Some(Admitted::new(&event, canonical, terms, None, Origin::Peer))
    }

    fn is_held(&self, event: &Wire<'_>) -> bool {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        Item::new(event.created_at(), event.id()).is_ok_and(|item| held.contains(&item))
    }
}

/// Answers at once, and gives a ticket that nobody waits for.
fn early(ticket: Ticket) -> Ticket {
    ticket.answer(Outcome::Stored);
    Batch::new(1).1.remove(0)
}

/// What is left to do with a verified event.
enum Verified {
    Stored,
    Record(Box<MailboxRecord>),
    Hint,
}
