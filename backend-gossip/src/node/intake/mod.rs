//! The way of an event into the node: form, policy, known or not, signature, what its kind asks for, and the writer.
//!
//! All of it runs on the threads of a bounded pool; an event that is here already costs no signature.

mod pool;
mod recent;
mod records;
mod ticket;

use std::sync::Arc;

use talkbox_core::{
    Clock, DeleteRequest, Hint, MailboxRecord, Result,
    event::{Event, Wire},
};
use tokio::sync::mpsc;

use self::{pool::Pool, records::Records};
pub(crate) use self::{
    recent::RecentIds,
    ticket::{Ticket, ok},
};
use super::{
    admitted::Admitted,
    live::Fresh,
    policy::{Policy, Treatment},
    refusal::{Outcome, Refusal},
    store::Writer,
};

/// Where events come in.
#[derive(Debug)]
pub(crate) struct Intake {
    pool: Pool,
    desk: Arc<Desk>,
}

/// What a job of the pool works with.
#[derive(Debug)]
struct Desk {
    policy: Policy,
    clock: Arc<dyn Clock>,
    recent: Arc<RecentIds>,
    writer: Writer,
    records: Records,
    fresh: mpsc::Sender<Fresh>,
}

impl Intake {
    /// Starts the threads.
    ///
    /// # Errors
    /// `Unexpected` where the system gives no thread.
    pub(crate) fn start(
        policy: Policy,
        clock: Arc<dyn Clock>,
        recent: Arc<RecentIds>,
        writer: Writer,
        fresh: mpsc::Sender<Fresh>,
    ) -> Result<Self> {
        let records = Records::start(writer.clone())?;
        Ok(Self { pool: Pool::start()?, desk: Arc::new(Desk { policy, clock, recent, writer, records, fresh }) })
    }

    /// Takes an event in; the ticket is answered when its fate is known. Waits where many are being verified.
    pub(crate) async fn take(&self, json: String, ticket: Ticket) {
        let desk = Arc::clone(&self.desk);
        self.pool.run(move || desk.take(&json, ticket)).await;
    }

    /// Verifies an event that is not to be stored, off the async threads. `None` where the node is stopping.
    pub(crate) async fn verify(&self, json: String) -> Option<Result<Event>> {
        let (answer, verified) = tokio::sync::oneshot::channel();
        self.pool
            .run(move || {
                let _gone = answer.send(Event::parse(&json));
            })
            .await;
        verified.await.ok()
    }
}

impl Desk {
    fn take(&self, json: &str, ticket: Ticket) {
        if let Err(refusal) = self.try_take(json, ticket) {
            let (ticket, refusal) = *refusal;
            ticket.answer(&refusal);
        }
    }

    /// Either passes the ticket on or gives it back with its answer.
    fn try_take(&self, json: &str, ticket: Ticket) -> std::result::Result<(), Box<(Ticket, Outcome)>> {
        let (admitted, treatment) = match self.admit(json) {
            Ok(admitted) => admitted,
            Err(outcome) => return Err(Box::new((ticket, outcome))),
        };
        match treatment {
            Verified::Record(record) => self.records.check(*record, Arc::new(admitted), ticket),
            Verified::Stored => self.writer.admit(Arc::new(admitted), ticket),
            Verified::Hint if self.recent.remember(admitted.facts.id) => {
                // Waits where subscribers are being served. Closed only where the node stops.
                let _closed = self.fresh.blocking_send(Fresh { seq: None, event: Arc::new(admitted) });
                ticket.answer(&Outcome::Stored);
            }
            Verified::Hint => ticket.answer(&Outcome::Duplicate),
        }
        Ok(())
    }

    fn admit(&self, json: &str) -> std::result::Result<(Admitted, Verified), Outcome> {
        let refused = |error: talkbox_core::Error| Outcome::Refused(Refusal::from_core(&error));
        let event = Wire::parse(json).map_err(refused)?;
        let canonical = event.to_json();
        let now = self.clock.now();
        let terms = self.policy.examine(&event, canonical.len(), now).map_err(Outcome::Refused)?;
        if self.recent.contains(&event.id()) {
            return Err(Outcome::Duplicate);
        }
        let mut deletion = None;
        let verified = match terms.treatment {
            Treatment::Envelope | Treatment::Replaceable => {
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
        Ok((Admitted::new(&event, canonical, terms, deletion), verified))
    }
}

/// What is left to do with a verified event.
enum Verified {
    Stored,
    Record(Box<MailboxRecord>),
    Hint,
}
