//! Who waits for what on one connection, and what a relay may send without being asked.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use talkbox_core::{Error, ErrorKind, EventId};
use tokio::sync::{mpsc, oneshot};

use crate::{
    filter::Sent,
    verdict::{Verdict, cut},
    wire::{Completeness, Incoming, SubId},
};

/// What a subscription is told.
#[derive(Debug)]
pub(crate) enum Delivery {
    Event(Sent),
    Eose(Completeness),
    Closed(String),
    Neg(String),
    NegErr(String),
    Notice(String),
}

/// Why a connection is no more.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) kind: ErrorKind,
    pub(crate) words: String,
}

impl Lost {
    pub(crate) fn new(kind: ErrorKind, words: impl Into<String>) -> Self {
        Self { kind, words: words.into() }
    }

    /// As an error.
    pub(crate) fn to_error(&self) -> Error {
        Error::new(self.kind, self.words.clone())
    }
}

/// How much a subscription may get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Deliveries that wait to be taken. When it is full the subscription ends: nothing is lost in silence, and one
    /// slow reader does not hold up the others of the connection.
    pub(crate) waiting: usize,
    /// Events in all.
    pub(crate) events: usize,
    /// Bytes of events in all.
    pub(crate) bytes: usize,
    /// Whether notices are wanted: they name no subscription, and some relays answer with one.
    pub(crate) notices: bool,
}

/// A subscription as the reader of the connection sees it.
#[derive(Debug)]
struct Sub {
    deliveries: mpsc::Sender<Delivery>,
    budget: Budget,
    overrun: Arc<AtomicBool>,
}

/// Who waits for what.
#[derive(Debug)]
pub(crate) struct Routes {
    last: u64,
    answers: HashMap<EventId, Vec<(u64, oneshot::Sender<Verdict>)>>,
    subs: HashMap<SubId, Sub>,
    lost: Option<Lost>,
    /// The answer that had been awaited for longest when the time was up.
    culprit: Option<u64>,
    strays: Strays,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Routed {
    /// It was wanted.
    Taken,
    /// This subscription got more than it may: the relay has to be told to stop.
    Overrun(SubId),
    /// The relay sends too much that nobody asked for.
    Flood,
}

impl Routes {
    pub(crate) fn new() -> Self {
        Self {
            last: 0,
            answers: HashMap::new(),
            subs: HashMap::new(),
            lost: None,
            culprit: None,
            strays: Strays::new(),
        }
    }

    /// Waits for the answer to an event. The number is for [`forget_answer`](Self::forget_answer).
    pub(crate) fn await_answer(&mut self, id: EventId) -> Result<(u64, oneshot::Receiver<Verdict>), Lost> {
        let number = self.number()?;
        let (sender, receiver) = oneshot::channel();
        self.answers.entry(id).or_default().push((number, sender));
        Ok((number, receiver))
    }

    /// Waits no longer.
    pub(crate) fn forget_answer(&mut self, id: EventId, number: u64) {
        if let Some(waiting) = self.answers.get_mut(&id) {
            waiting.retain(|(other, _)| *other != number);
            if waiting.is_empty() {
                self.answers.remove(&id);
            }
        }
    }

    /// Ends everything because an answer did not come. A relay answers in order, so the event that has waited for
    /// longest holds up the others.
    pub(crate) fn end_unanswered(&mut self) {
        if self.lost.is_none() {
            self.culprit = self.answers.values().flatten().map(|(number, _)| *number).min();
        }
        self.end(Lost::new(ErrorKind::Timeout, "the relay does not answer"));
    }

    /// Whether the connection was ended because this answer did not come.
    pub(crate) fn is_culprit(&self, number: u64) -> bool {
        self.culprit == Some(number)
    }

    /// Begins a subscription.
    pub(crate) fn subscribe(
        &mut self,
        budget: Budget,
    ) -> Result<(SubId, mpsc::Receiver<Delivery>, Arc<AtomicBool>), Lost> {
        let id = self.number()?;
        let (deliveries, receiver) = mpsc::channel(budget.waiting);
        let overrun = Arc::new(AtomicBool::new(false));
        self.subs.insert(id, Sub { deliveries, budget, overrun: Arc::clone(&overrun) });
        Ok((id, receiver, overrun))
    }

    /// Ends a subscription; whether there was one.
    pub(crate) fn unsubscribe(&mut self, id: SubId) -> bool {
        self.subs.remove(&id).is_some()
    }

    /// Whether anybody waits for anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.answers.is_empty() && self.subs.is_empty()
    }

    /// Why the connection is no more, if it is.
    pub(crate) fn lost(&self) -> Option<&Lost> {
        self.lost.as_ref()
    }

    /// Ends everything; whoever waits finds out. The first reason stays.
    pub(crate) fn end(&mut self, why: Lost) {
        self.lost.get_or_insert(why);
        self.answers.clear();
        self.subs.clear();
    }

    /// Hands a message to whoever waits for it.
    pub(crate) fn route(&mut self, message: Incoming<'_>, bytes: usize) -> Routed {
        match message {
            Incoming::Ok(id, taken, words) => {
                let Some(waiting) = self.answers.get_mut(&id) else { return self.stray(bytes) };
                // Two who publish the same event get their answers in turn.
                let (_, answer) = waiting.remove(0);
                if waiting.is_empty() {
                    self.answers.remove(&id);
                }
                // Fails where nobody waits any more.
                let _ = answer.send(Verdict::of(taken, &words));
                Routed::Taken
            }
            Incoming::Event(id, raw) => match self.subs.get_mut(&id) {
                None => self.stray(bytes),
                Some(sub) => {
                    let budget = &mut sub.budget;
                    let (Some(events), Some(rest)) = (budget.events.checked_sub(1), budget.bytes.checked_sub(bytes))
                    else {
                        return self.overrun(id);
                    };
                    (budget.events, budget.bytes) = (events, rest);
                    match Sent::read(raw) {
                        Ok(event) => self.deliver(id, Delivery::Event(event), bytes),
                        Err(_) => self.stray(bytes),
                    }
                }
            },
            Incoming::Eose(id, completeness) => self.deliver(id, Delivery::Eose(completeness), bytes),
            Incoming::Closed(id, words) => self.deliver_last(id, Delivery::Closed(cut(&words)), bytes),
            Incoming::NegMsg(id, message) => self.deliver(id, Delivery::Neg(message.into_owned()), bytes),
            Incoming::NegErr(id, words) => self.deliver_last(id, Delivery::NegErr(cut(&words)), bytes),
            Incoming::Notice(words) => {
                for sub in self.subs.values().filter(|sub| sub.budget.notices) {
                    // One that is full gets its end anyway.
                    let _ = sub.deliveries.try_send(Delivery::Notice(cut(&words)));
                }
                self.stray(bytes)
            }
            Incoming::Auth(_) | Incoming::Other => self.stray(bytes),
        }
    }

    /// Counts something that nobody asked for.
    pub(crate) fn stray(&mut self, bytes: usize) -> Routed {
        if self.strays.allow(bytes) { Routed::Taken } else { Routed::Flood }
    }

    fn deliver(&mut self, id: SubId, delivery: Delivery, bytes: usize) -> Routed {
        let Some(sub) = self.subs.get(&id) else { return self.stray(bytes) };
        match sub.deliveries.try_send(delivery) {
            Ok(()) => Routed::Taken,
            Err(mpsc::error::TrySendError::Full(_)) => self.overrun(id),
            Err(mpsc::error::TrySendError::Closed(_)) => self.stray(bytes),
        }
    }

    /// What the relay ended needs no goodbye.
    fn deliver_last(&mut self, id: SubId, delivery: Delivery, bytes: usize) -> Routed {
        let routed = self.deliver(id, delivery, bytes);
        self.subs.remove(&id);
        routed
    }

    fn overrun(&mut self, id: SubId) -> Routed {
        if let Some(sub) = self.subs.remove(&id) {
            sub.overrun.store(true, Ordering::Release);
        }
        Routed::Overrun(id)
    }

    fn number(&mut self) -> Result<u64, Lost> {
        if let Some(lost) = &self.lost {
            return Err(lost.clone());
        }
        self.last += 1;
        Ok(self.last)
    }
}

/// How much a relay may send that nobody asked for: what is still on its way after a CLOSE, notices, garbage. A bucket
/// that refills, since a connection may live for weeks.
#[derive(Debug)]
struct Strays {
    left: u64,
    at: Instant,
}

impl Strays {
    /// A message costs one and one more per KiB: 16 MiB in large ones, 16,384 small ones. More than a page of the
    /// largest envelopes that was cut short.
    const FULL: u64 = 16_384;
    /// What comes back each second.
    const PER_SECOND: u64 = 64;

    fn new() -> Self {
        Self { left: Self::FULL, at: Instant::now() }
    }

    fn allow(&mut self, bytes: usize) -> bool {
        let seconds = self.at.elapsed().as_secs();
        if seconds > 0 {
            self.at = Instant::now();
            self.left = self.left.saturating_add(seconds.saturating_mul(Self::PER_SECOND)).min(Self::FULL);
        }
        let cost = 1 + bytes as u64 / 1024;
        self.left.checked_sub(cost).map(|left| self.left = left).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { waiting: 4, events: 2, bytes: 10_000, notices: false };

    fn event(sub: SubId) -> String {
        let id = "ab".repeat(32);
        format!(
            r#"["EVENT","{sub}",{{"id":"{id}","pubkey":"{id}","created_at":1,"kind":1059,"tags":[],"content":"","sig":"{id}{id}"}}]"#
        )
    }

    fn route(routes: &mut Routes, text: &str) -> Routed {
        routes.route(Incoming::parse(text).expect("a message"), text.len())
    }

    #[test]
    fn more_than_asked_for_ends_the_subscription() {
        let mut routes = Routes::new();
        let (id, mut receiver, overrun) = routes.subscribe(BUDGET).expect("alive");
        assert_eq!(route(&mut routes, &event(id)), Routed::Taken);
        assert_eq!(route(&mut routes, &event(id)), Routed::Taken);
        assert_eq!(route(&mut routes, &event(id)), Routed::Overrun(id));
        assert!(overrun.load(Ordering::Acquire));
        assert!(receiver.try_recv().is_ok() && receiver.try_recv().is_ok() && receiver.try_recv().is_err());
    }

    #[test]
    fn a_reader_that_does_not_read_loses_nothing_in_silence() {
        let mut routes = Routes::new();
        let (id, _receiver, overrun) = routes.subscribe(Budget { waiting: 1, ..BUDGET }).expect("alive");
        assert_eq!(route(&mut routes, &event(id)), Routed::Taken);
        assert_eq!(route(&mut routes, &event(id)), Routed::Overrun(id));
        assert!(overrun.load(Ordering::Acquire));
    }

    #[test]
    fn unasked_for_messages_are_a_flood_in_the_end() {
        let mut routes = Routes::new();
        let notice = r#"["NOTICE","buy now"]"#;
        let taken = (0..Strays::FULL).take_while(|_| route(&mut routes, notice) == Routed::Taken).count();
        assert_eq!(taken as u64, Strays::FULL);
        assert_eq!(route(&mut routes, notice), Routed::Flood);
        assert_eq!(route(&mut routes, &event(99)), Routed::Flood);
    }

    #[test]
    fn answers_come_in_turn_and_the_oldest_holds_up_the_others() {
        let mut routes = Routes::new();
        let id = EventId::from_bytes([0xab; 32]);
        let (first, mut one) = routes.await_answer(id).expect("alive");
        let (second, mut two) = routes.await_answer(id).expect("alive");
        let (third, _) = routes.await_answer(EventId::from_bytes([1; 32])).expect("alive");
        let ok = format!(r#"["OK","{id}",true,""]"#);
        assert_eq!(route(&mut routes, &ok), Routed::Taken);
        assert!(one.try_recv().is_ok() && two.try_recv().is_err());
        routes.end_unanswered();
        assert!(!routes.is_culprit(first) && routes.is_culprit(second) && !routes.is_culprit(third));
        assert!(routes.is_idle());
    }

    #[test]
    fn what_waits_is_told_of_the_end() {
        let mut routes = Routes::new();
        let (_, mut answer) = routes.await_answer(EventId::from_bytes([1; 32])).expect("alive");
        let (_, mut deliveries, overrun) = routes.subscribe(BUDGET).expect("alive");
        routes.end(Lost::new(ErrorKind::Unreachable, "gone"));
        routes.end(Lost::new(ErrorKind::Closed, "later"));
        assert!(answer.try_recv().is_err());
        assert!(matches!(deliveries.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)));
        assert!(!overrun.load(Ordering::Acquire));
        assert_eq!(routes.subscribe(BUDGET).expect_err("gone").words, "gone");
    }
}
