//! The answer that is owed for one event.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use talkbox_core::EventId;

use crate::node::{
    outbox::Outbox,
    refusal::{Outcome, Prefix, Refusal},
};

/// Owed to whoever published an event: one OK. It is given even where the event gets lost on the way through the
/// node, then as an error, since a client that waits for it would wait for ever.
#[derive(Debug)]
pub(crate) struct Ticket {
    id: EventId,
    outbox: Arc<Outbox>,
    /// The events of the connection that are not answered yet.
    open: Arc<AtomicUsize>,
    answered: bool,
}

impl Ticket {
    pub(crate) fn new(id: EventId, outbox: Arc<Outbox>, open: Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::AcqRel);
        Self { id, outbox, open, answered: false }
    }

    /// Gives the answer.
    pub(crate) fn answer(mut self, outcome: &Outcome) {
        self.send(outcome);
    }

    /// Refuses the event.
    pub(crate) fn refuse(self, refusal: Refusal) {
        self.answer(&Outcome::Refused(refusal));
    }

    fn send(&mut self, outcome: &Outcome) {
        self.answered = true;
        self.open.fetch_sub(1, Ordering::AcqRel);
        self.outbox.push(ok(&self.id, outcome));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.answered {
            self.send(&Outcome::Refused(Refusal::new(Prefix::Error, "the node is stopping, or failed; try again")));
        }
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
