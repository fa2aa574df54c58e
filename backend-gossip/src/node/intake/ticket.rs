//! The answer that is owed for one event.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use talkbox_core::{EventId, Timestamp};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::node::{
    admitted::Origin,
    metrics::Metrics,
    outbox::Outbox,
    refusal::{Outcome, Reason, Refusal},
};

/// Owed to whoever published an event. It is given even where the event gets lost on the way through the node, then as
/// an error, since a client that waits for it would wait for ever.
#[derive(Debug)]
pub(crate) struct Ticket {
    to: To,
    /// The id of the event, once it can be read.
    id: Option<EventId>,
    /// Until when the event is kept, if it is.
    until: Option<Timestamp>,
    answered: bool,
    /// Where it is counted what became of the event.
    counted: Option<(Arc<Metrics>, Origin)>,
    /// The event's place among those that are on their way.
    _place: Option<OwnedSemaphorePermit>,
}

/// How the answer reaches them.
#[derive(Debug)]
enum To {
    /// As an OK over a WebSocket; with the number of events of the connection that are not answered yet.
    Session { id: EventId, outbox: Arc<Outbox>, open: Arc<AtomicUsize> },
    /// As the answer at this place of a batch.
    Batch { batch: Arc<Batch>, place: usize },
}

impl Ticket {
    /// To be answered by an OK.
    pub(crate) fn of_session(id: EventId, outbox: Arc<Outbox>, open: Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::AcqRel);
        Self::to(To::Session { id, outbox, open })
    }

    const fn to(to: To) -> Self {
        Self { to, id: None, until: None, answered: false, counted: None, _place: None }
    }

    /// Keeps the event's place until it is answered.
    pub(super) fn with_place(mut self, place: OwnedSemaphorePermit) -> Self {
        self._place = Some(place);
        self
    }

    /// Has the answer counted.
    pub(super) fn counted(mut self, metrics: Arc<Metrics>, origin: Origin) -> Self {
        self.counted = Some((metrics, origin));
        self
    }

    /// Notes which event it is.
    pub(super) fn name(&mut self, id: EventId) {
        self.id = Some(id);
    }

    /// Notes until when the event is kept, if it is.
    pub(super) fn keep_until(&mut self, until: Timestamp) {
        self.until = Some(until);
    }

    /// Gives the answer.
    pub(crate) fn answer(mut self, outcome: Outcome) {
        self.send(outcome);
    }

    /// Refuses the event.
    pub(crate) fn refuse(self, refusal: Refusal) {
        self.answer(Outcome::Refused(refusal));
    }

    fn send(&mut self, outcome: Outcome) {
        self.answered = true;
        if let Some((metrics, origin)) = &self.counted {
            metrics.count(*origin, &outcome);
        }
        match &self.to {
            To::Session { id, outbox, open } => {
                open.fetch_sub(1, Ordering::AcqRel);
                outbox.push(ok(id, &outcome));
            }
            To::Batch { batch, place } => batch.answer(*place, Answer { id: self.id, outcome, until: self.until }),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.answered {
            self.send(Outcome::Refused(Refusal::new(Reason::Failed, "the node is stopping, or failed; try again")));
        }
    }
}

/// What became of one event of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Its id, if it could be read.
    pub(crate) id: Option<EventId>,
    pub(crate) outcome: Outcome,
    /// Until when it is kept, if it is.
    pub(crate) until: Option<Timestamp>,
}

impl Answer {
    /// Whether the event was not what it claimed.
    pub(crate) fn is_forged(&self) -> bool {
        matches!(&self.outcome, Outcome::Refused(refusal) if refusal.reason() == Reason::Malformed)
    }
}

/// The answers to several events that came together; whoever sent them wakes when the last is there.
#[derive(Debug)]
pub(crate) struct Batch {
    answers: Mutex<Answers>,
    complete: Notify,
}

#[derive(Debug)]
struct Answers {
    given: Vec<Option<Answer>>,
    missing: usize,
}

impl Batch {
    /// A batch of so many events, and their tickets in order.
    pub(crate) fn new(events: usize) -> (Arc<Self>, Vec<Ticket>) {
        let answers = Answers { given: vec![None; events], missing: events };
        let batch = Arc::new(Self { answers: Mutex::new(answers), complete: Notify::new() });
        let ticket = |place| Ticket::to(To::Batch { batch: Arc::clone(&batch), place });
        let tickets = (0..events).map(ticket).collect();
        (batch, tickets)
    }

    /// Waits for all answers; they are in order.
    pub(crate) async fn answers(&self) -> Vec<Answer> {
        loop {
            let complete = self.complete.notified();
            let given = {
                let mut answers = self.lock();
                (answers.missing == 0).then(|| std::mem::take(&mut answers.given))
            };
            if let Some(given) = given {
                return given.into_iter().flatten().collect();
            }
            complete.await;
        }
    }

    fn answer(&self, place: usize, answer: Answer) {
        let mut answers = self.lock();
        answers.given[place] = Some(answer);
        answers.missing -= 1;
        if answers.missing == 0 {
            drop(answers);
            self.complete.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The OK message.
pub(crate) fn ok(id: &EventId, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Stored => format!(r#"["OK","{id}",true,""]"#),
        Outcome::Duplicate => format!(r#"["OK","{id}",true,"duplicate: already here"]"#),
        // The texts are ours, of characters that need no escape, but core's may quote what was sent.
        Outcome::Refused(refusal) => {
            format!(r#"["OK","{id}",false,{}]"#, serde_json::Value::String(refusal.to_string()))
        }
    }
}
