//! Set reconciliation with a client (NIP-77): the ids that its filter matches and it may read, in a vector that is
//! built for the session.

use std::{collections::HashMap, time::Duration};

use talkbox_core::{
    EventId, Timestamp,
    anti_entropy::{FrameLimit, Item, SortedItems, respond},
};
use tokio::time::Instant;

use crate::node::{
    refusal::{Reason, Refusal},
    shares::Claim,
};

/// Most bytes of a message: in hexadecimal it is twice that, and still fits into what clients take.
const FRAME: FrameLimit = FrameLimit::at_most(60_000).expect("more than the least");
/// Messages of one reconciliation. A million ids that differ in ten thousand places take 4.
const MAX_ROUNDS: u32 = 64;
/// A session that is silent for so long is given up.
const MAX_SILENCE: Duration = Duration::from_secs(60);

/// One session: what this side has.
pub(crate) struct Reconciliation {
    set: SortedItems,
    rounds: u32,
    last: Instant,
    /// On the room for the ids.
    _claim: Claim,
}

impl Reconciliation {
    /// Builds a session over these items. Blocks for about 0.1 µs an item.
    ///
    /// # Errors
    /// Where the ids make no set.
    pub(crate) fn new(items: Vec<(u64, EventId)>, claim: Claim) -> Result<Self, Refusal> {
        let item = |(time, id)| Item::new(Timestamp(time), id);
        match items.into_iter().map(item).collect() {
            Ok(set) => Ok(Self { set, rounds: 0, last: Instant::now(), _claim: claim }),
            Err(error) => {
                tracing::error!(%error, "a set could not be built");
                Err(Refusal::new(Reason::Failed, "the set could not be built"))
            }
        }
    }

    /// Answers a message. Blocks for some microseconds, for the longest that a client may send for a few milliseconds.
    ///
    /// # Errors
    /// Where the message makes no sense, or it is one too many.
    pub(crate) fn answer(&mut self, message: &[u8]) -> Result<Vec<u8>, Refusal> {
        self.rounds += 1;
        self.last = Instant::now();
        if self.rounds > MAX_ROUNDS {
            return Err(Refusal::new(Reason::Blocked, "too many rounds"));
        }
        respond(&self.set, message, FRAME)
            .map_err(|error| Refusal::malformed(format!("not a negentropy message: {}", error.message())))
    }
}

/// The sessions of one connection. One whose message is being answered is not in it.
#[derive(Default)]
pub(crate) struct Reconciliations {
    open: HashMap<String, State>,
}

enum State {
    Waiting(Box<Reconciliation>),
    /// An answer is being worked out; the number tells it from a later session of the same name.
    Busy(u64),
}

impl Reconciliations {
    /// Makes a place for a session that is being built or is to answer. What had the name is given up.
    ///
    /// # Errors
    /// Where the connection has too many.
    pub(crate) fn begin(&mut self, name: &str, number: u64, most: usize) -> Result<(), Refusal> {
        let now = Instant::now();
        self.open
            .retain(|_, state| !matches!(state, State::Waiting(one) if now.duration_since(one.last) > MAX_SILENCE));
        self.open.remove(name);
        if self.open.len() >= most {
            return Err(Refusal::new(Reason::Blocked, format!("more than {most} reconciliations at once")));
        }
        self.open.insert(name.to_owned(), State::Busy(number));
        Ok(())
    }

    /// Takes a session out to answer a message.
    pub(crate) fn take(&mut self, name: &str, number: u64) -> Option<Box<Reconciliation>> {
        match self.open.insert(name.to_owned(), State::Busy(number)) {
            Some(State::Waiting(session)) => Some(session),
            _ => {
                self.open.remove(name);
                None
            }
        }
    }

    /// Puts a session back after its answer, unless it was closed meanwhile. Whether it was put back.
    pub(crate) fn put_back(&mut self, name: &str, number: u64, session: Option<Box<Reconciliation>>) -> bool {
        if !matches!(self.open.get(name), Some(State::Busy(busy)) if *busy == number) {
            return false;
        }
        match session {
            Some(session) => self.open.insert(name.to_owned(), State::Waiting(session)),
            None => self.open.remove(name),
        };
        true
    }

    pub(crate) fn close(&mut self, name: &str) {
        self.open.remove(name);
    }
}
