//! Who wants to hear of what arrives: subscriptions by mailbox, so that an event is compared only with those that can
//! match, and is handed over without polling.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use axum::extract::ws::Utf8Bytes;
use talkbox_core::{MailboxId, event::kind};

use super::{
    admitted::Admitted, cursor::ArrivalCursor, filter::Filter, gate::Rights, metrics::Metrics, outbox::Outbox,
    shares::Claim,
};

/// An event that has just been stored, with its place in the order of arrival; or one that is only passed on.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) seq: Option<i64>,
    pub(crate) event: Arc<Admitted>,
}

/// One subscription.
pub(crate) struct Subscription {
    number: u64,
    form: Form,
    filters: Arc<[Filter]>,
    rights: Rights,
    outbox: Arc<Outbox>,
    state: Mutex<State>,
    /// On what the filters take.
    _claim: Claim,
}

/// How what it gets is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As messages of a relay, with the name of the subscription as JSON.
    Relay { name: String },
    /// As server-sent events, with cursors of this epoch as ids.
    Stream { epoch: u64 },
}

/// Where a subscription is. Everything that is stored comes first, then `EOSE`, then what arrives; and nothing twice.
enum State {
    /// The stored events are being sent; what arrives meanwhile is held back.
    Catching {
        held: Vec<(Option<i64>, Utf8Bytes)>,
        bytes: usize,
    },
    /// What arrived up to this place has been sent as stored.
    Live {
        after: i64,
    },
    Closed,
}

impl Subscription {
    /// The message that carries an event, which has this place in the order of arrival if it is stored.
    pub(crate) fn message(&self, event: &str, place: Option<i64>) -> String {
        match (&self.form, place) {
            (Form::Relay { name }, _) => {
                // Exactly as much as it takes, so that it need not be moved to become bytes that are shared.
                let mut message = String::with_capacity(event.len() + name.len() + 11);
                message.push_str("[\"EVENT\",");
                message.push_str(name);
                message.push(',');
                message.push_str(event);
                message.push(']');
                message
            }
            (Form::Stream { epoch }, Some(place)) => {
                let cursor = ArrivalCursor { epoch: *epoch, place };
                format!("id: {cursor}\nevent: envelope\ndata: {event}\n\n")
            }
            (Form::Stream { .. }, None) => format!("event: hint\ndata: {event}\n\n"),
        }
    }

    /// The message that says that all that was stored up to this place has been sent.
    pub(crate) fn end_of_stored(&self, place: i64) -> String {
        match &self.form {
            Form::Relay { name } => format!("[\"EOSE\",{name}]"),
            Form::Stream { epoch } => {
                format!("id: {}\nevent: live\ndata:\n\n", ArrivalCursor { epoch: *epoch, place })
            }
        }
    }

    pub(crate) fn filters(&self) -> Arc<[Filter]> {
        Arc::clone(&self.filters)
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(*self.lock(), State::Closed)
    }

    /// All that was stored up to this place has been sent: lets go of what was held back.
    pub(crate) fn go_live(&self, after: i64) {
        let mut state = self.lock();
        if let State::Catching { held, bytes } = std::mem::replace(&mut *state, State::Closed) {
            self.outbox.release(bytes);
            for (_, message) in held.into_iter().filter(|(seq, _)| seq.is_none_or(|seq| seq > after)) {
                self.outbox.push(message);
            }
            *state = State::Live { after };
        }
    }

    pub(crate) fn close(&self) {
        if let State::Catching { bytes, .. } = std::mem::replace(&mut *self.lock(), State::Closed) {
            self.outbox.release(bytes);
        }
    }

    /// Hands an event over, if it is wanted and allowed. Whether it was. What was written for the one before is given again
    /// where both write alike.
    fn offer<'a>(&'a self, fresh: &Fresh, written: &mut Option<(&'a Form, Utf8Bytes)>) -> bool {
        let event = &fresh.event;
        if !self.filters.iter().any(|filter| filter.matches(&event.facts)) || !self.rights.may_read(&event.facts) {
            return false;
        }
        match &mut *self.lock() {
            State::Closed => return false,
            State::Live { after } if fresh.seq.is_some_and(|seq| seq <= *after) => return false,
            State::Live { .. } => self.outbox.push(self.shared(fresh, written)),
            State::Catching { held, bytes } => {
                let message = self.shared(fresh, written);
                if self.outbox.hold(message.len()) {
                    *bytes += message.len();
                    held.push((fresh.seq, message));
                }
            }
        }
        true
    }

    /// The message for an event, which is that of another subscription where that has the same form.
    fn shared<'a>(&'a self, fresh: &Fresh, written: &mut Option<(&'a Form, Utf8Bytes)>) -> Utf8Bytes {
        match written {
            Some((form, message)) if **form == self.form => message.clone(),
            _ => {
                let message = Utf8Bytes::from(self.message(&fresh.event.json, fresh.seq));
                *written = Some((&self.form, message.clone()));
                message
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("number", &self.number).finish_non_exhaustive()
    }
}

/// All subscriptions of a node.
#[derive(Debug, Default)]
pub(crate) struct Live {
    places: RwLock<Places>,
    next: AtomicU64,
    open: AtomicUsize,
    metrics: Arc<Metrics>,
}

/// Where a subscription is found by an event. One with several filters is in several places.
#[derive(Debug, Default)]
struct Places {
    /// Those that name mailboxes.
    by_mailbox: HashMap<MailboxId, Vec<Arc<Subscription>>>,
    /// Those that do not, and can match gift wraps.
    wraps: Vec<Arc<Subscription>>,
    /// Those that do not, and can match other kinds: of these few arrive.
    others: Vec<Arc<Subscription>>,
}

impl Live {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..Self::default() }
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Adds a subscription; what arrives is held back until [`Subscription::go_live`].
    pub(crate) fn add(
        &self,
        form: Form,
        filters: Vec<Filter>,
        rights: Rights,
        outbox: Arc<Outbox>,
        claim: Claim,
    ) -> Arc<Subscription> {
        let subscription = Arc::new(Subscription {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            form,
            filters: filters.into(),
            rights,
            outbox,
            state: Mutex::new(State::Catching { held: Vec::new(), bytes: 0 }),
            _claim: claim,
        });
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        let (mailboxes, wraps, others) = found_by(&subscription.filters);
        for mailbox in mailboxes {
            places.by_mailbox.entry(mailbox).or_default().push(Arc::clone(&subscription));
        }
        if wraps {
            places.wraps.push(Arc::clone(&subscription));
        }
        if others {
            places.others.push(Arc::clone(&subscription));
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        subscription
    }

    /// Removes a subscription; nothing is sent for it after this.
    pub(crate) fn remove(&self, subscription: &Subscription) {
        subscription.close();
        self.open.fetch_sub(1, Ordering::Relaxed);
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        let (mailboxes, wraps, others) = found_by(&subscription.filters);
        let drop_from = |list: &mut Vec<Arc<Subscription>>| list.retain(|other| other.number != subscription.number);
        for mailbox in mailboxes {
            if let Some(list) = places.by_mailbox.get_mut(&mailbox) {
                drop_from(list);
                if list.is_empty() {
                    places.by_mailbox.remove(&mailbox);
                }
            }
        }
        if wraps {
            drop_from(&mut places.wraps);
        }
        if others {
            drop_from(&mut places.others);
        }
    }

    /// Hands an event to all who may see it and want it. It never waits for them.
    pub(crate) fn pass_on(&self, fresh: &Fresh) {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        let facts = &fresh.event.facts;
        let by_mailbox = facts.mailbox.and_then(|key| places.by_mailbox.get(&key));
        let by_kind = if facts.kind == kind::GIFT_WRAP { &places.wraps } else { &places.others };
        // One that is found in two places by its several filters is offered the event once.
        let first: HashSet<u64> = match by_mailbox {
            Some(list) if !by_kind.is_empty() => list.iter().map(|one| one.number).collect(),
            _ => HashSet::new(),
        };
        let others = by_kind.iter().filter(|one| !first.contains(&one.number));
        let mut written = None;
        let all = by_mailbox.into_iter().flatten().chain(others);
        let taken = all.filter(|subscription| subscription.offer(fresh, &mut written)).count();
        self.metrics.delivered.add(taken);
    }
}

/// The places of a subscription: the mailboxes that its filters name, and whether one that names none can match gift
/// wraps, and other kinds.
fn found_by(filters: &[Filter]) -> (HashSet<MailboxId>, bool, bool) {
    let (with, without): (Vec<&Filter>, Vec<&Filter>) = filters.iter().partition(|filter| filter.mailboxes.is_some());
    let mailboxes = with.iter().flat_map(|filter| filter.mailboxes.iter().flatten().copied()).collect();
    let wraps = without.iter().any(|filter| filter.allows_kind(kind::GIFT_WRAP));
    let others = without
        .iter()
        .any(|filter| filter.kinds.as_ref().is_none_or(|kinds| kinds.iter().any(|one| *one != kind::GIFT_WRAP)));
    (mailboxes, wraps, others)
}
