//! Both sides of a reconciliation, one message at a time.

use std::{collections::HashSet, num::NonZeroUsize, ops::ControlFlow};

use super::{
    ReconciledSet,
    item::Bound,
    message::{Opened, Payload, Reader, Writer, ids_within, told_id},
};
use crate::{Error, ErrorKind, EventId, Result};

/// Into how many ranges one that differs is split. The protocol leaves it open; everybody takes 16.
const PARTS: usize = 16;
/// A range with fewer items is listed, as everybody does: split once more, it would be ranges of one item.
const LISTED: usize = 2 * PARTS;
/// What of a frame is kept for the end of a message, as the `negentropy` crate does. Once the ranges before it are
/// complete, no more is written than a range that is skipped (44 bytes), the bound and number of a list (53), the id that
/// goes over (32), and the fingerprint of the remainder (19).
const RESERVE: usize = 200;

/// Most bytes of a message that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimit(Option<usize>);

impl FrameLimit {
    /// No limit: an answer may list the whole set. For tests, and for peers that are trusted with that.
    pub const NONE: Self = Self(None);
    /// The least limit: with less, too little of a frame is left beside what is kept for its end.
    pub const LEAST: usize = 4096;

    /// So many bytes. `None` for fewer than [`LEAST`](Self::LEAST).
    pub const fn at_most(bytes: usize) -> Option<Self> {
        if bytes < Self::LEAST { None } else { Some(Self(Some(bytes))) }
    }

    /// How many bytes may be written before the message has to end.
    const fn room(self) -> usize {
        match self.0 {
            Some(bytes) => bytes - RESERVE,
            None => usize::MAX,
        }
    }
}

/// Answers a message, from the set as it is now. Nothing is kept for the next one.
///
/// A message of another version is answered with the version that is spoken here, as the protocol wants it.
///
/// # Errors
/// `Unexpected` for bytes that are no message, with the reason.
pub fn respond<S: ReconciledSet + ?Sized>(set: &S, message: &[u8], frame: FrameLimit) -> Result<Vec<u8>> {
    match Reader::open(message)? {
        Opened::Ranges(reader) => Ok(Turn::new(set, frame, true).read(reader, None)?.finish()),
        Opened::OtherVersion => Ok(Writer::new().finish()),
    }
}

/// The side that starts, and that learns what differs. It keeps settings only; the set is told anew at each step.
#[derive(Clone, Copy, Debug)]
pub struct Initiator {
    frame: FrameLimit,
    most_have: usize,
    lists: bool,
}

/// What a message told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// What to send next. `None` at the end: all that differs has been named.
    pub reply: Option<Vec<u8>>,
    /// Ids that are held here and not by the peer, in the order of their items.
    pub have: Vec<EventId>,
    /// Ids that the peer says it holds and that are not held here in that range, each once a range, in the peer's order.
    pub need: Vec<EventId>,
}

impl Initiator {
    /// An initiator whose messages are at most so long.
    pub const fn new(frame: FrameLimit) -> Self {
        Self { frame, most_have: usize::MAX, lists: true }
    }

    /// Never lists what it holds: of a small range it tells the fingerprint too. The peer answers that with a list of its
    /// own, which is all that an initiator needs; so the same rounds take half the bytes. Only where the peer holds
    /// many times more in such a range does it take a round more.
    ///
    /// Every peer that speaks the protocol answers it. The `negentropy` crate lists, and so does an initiator without
    /// this.
    #[must_use]
    pub const fn without_lists(mut self) -> Self {
        self.lists = false;
        self
    }

    /// Names at most so many ids in `have` at one step, and leaves the others for the next: a peer that holds nothing
    /// otherwise gets the whole set named at once. `need` is bounded by the bytes of the peer's message.
    ///
    /// Where the others are left, the same ids may be named in `need` again by the next step.
    #[must_use]
    pub const fn most_have(mut self, most: NonZeroUsize) -> Self {
        self.most_have = most.get();
        self
    }

    /// The first message: fingerprints of a sixteenth of the set each, or the ids of a small one.
    pub fn start<S: ReconciledSet + ?Sized>(&self, set: &S) -> Vec<u8> {
        let mut turn = Turn::new(set, self.frame, self.lists);
        turn.split(0, set.len(), &Bound::END);
        turn.out.finish()
    }

    /// Takes the peer's message: what it tells, and what to send next.
    ///
    /// A peer that lies can name ids that nobody has, and can go on without end: the caller bounds how often it steps
    /// and how much it fetches.
    ///
    /// # Errors
    /// `Unexpected` for bytes that are no message, `Unsupported` where the peer speaks another version.
    pub fn step<S: ReconciledSet + ?Sized>(&self, set: &S, message: &[u8]) -> Result<Step> {
        let Opened::Ranges(reader) = Reader::open(message)? else {
            return Err(
                Error::new(ErrorKind::Unsupported, "the peer speaks another version of negentropy").op("reconcile")
            );
        };
        let mut found = Found { have: Vec::new(), most_have: self.most_have, need: Vec::new() };
        let out = Turn::new(set, self.frame, self.lists).read(reader, Some(&mut found))?;
        let reply = (!out.is_empty()).then(|| out.finish());
        Ok(Step { reply, have: found.have, need: found.need })
    }
}

/// What an initiator finds.
struct Found {
    have: Vec<EventId>,
    most_have: usize,
    need: Vec<EventId>,
}

/// A message that is read, and the one that is written meanwhile.
struct Turn<'a, S: ?Sized> {
    set: &'a S,
    frame: FrameLimit,
    /// Whether a small range is listed.
    lists: bool,
    out: Writer,
    /// Where the range that is read starts.
    start: Bound,
    /// Whether what lies before that is settled and has not been said to be.
    skipped: bool,
    /// The item up to which the message that is written has spoken: whoever reads it takes the next range to begin there.
    spoken: usize,
}

/// Whether the message that is written takes more.
type Room = ControlFlow<()>;

impl<'a, S: ReconciledSet + ?Sized> Turn<'a, S> {
    fn new(set: &'a S, frame: FrameLimit, lists: bool) -> Self {
        Self { set, frame, lists, out: Writer::new(), start: Bound::START, skipped: false, spoken: 0 }
    }

    /// Reads a message to its end; an initiator gives where to put what it finds.
    fn read(mut self, mut reader: Reader<'_>, mut found: Option<&mut Found>) -> Result<Writer> {
        // Searched for only where a range is looked at: most of what fits into a message can be skips.
        let mut start = Some(0);
        let mut room = Room::Continue(());
        while let Some(told) = reader.range()? {
            // What is read beyond the end of a full message counts for nothing, but has to be well-formed too.
            if room.is_break() {
                continue;
            }
            if let Payload::Skip = told.payload {
                (self.skipped, self.start, start) = (true, told.end, None);
                continue;
            }
            let lower = start.unwrap_or_else(|| self.set.lower_bound(&self.start));
            let upper = self.set.lower_bound(&told.end).max(lower);
            room = match (told.payload, &mut found) {
                (Payload::Fingerprint(theirs), _) if theirs != self.set.fingerprint(lower..upper) => {
                    self.tell_parts(lower, upper, &told.end)
                }
                (Payload::Skip | Payload::Fingerprint(_), _) => {
                    self.skipped = true;
                    Room::Continue(())
                }
                (Payload::Ids(_), None) => self.tell_ids(lower, upper, &told.end),
                (Payload::Ids(theirs), Some(found)) => self.compare(lower, upper, theirs, found),
            };
            (self.start, start) = (told.end, Some(upper));
        }
        Ok(self.out)
    }

    /// The ranges of a range that differs, unless the frame would be too full with them.
    fn tell_parts(&mut self, lower: usize, upper: usize, end: &Bound) -> Room {
        let before = self.out.len();
        self.say_skipped();
        self.split(lower, upper, end);
        if self.out.len() > self.frame.room() {
            return self.stop_at(before);
        }
        self.spoken = upper;
        Room::Continue(())
    }

    /// All ids of a range, for an initiator that told its own: as many as the frame takes.
    fn tell_ids(&mut self, lower: usize, upper: usize, end: &Bound) -> Room {
        let most = ids_within(self.frame.room().saturating_sub(self.out.len()));
        let last = upper.min(lower.saturating_add(most));
        let end = match self.set.item(last) {
            Some(item) if last < upper => Bound::before(&item),
            _ => *end,
        };
        self.say_skipped();
        self.list(lower, last, &end);
        self.spoken = last;
        if self.out.len() > self.frame.room() {
            return self.stop_at(self.out.len());
        }
        Room::Continue(())
    }

    /// What differs between a range and the peer's list of it. It is settled then.
    fn compare(&mut self, lower: usize, upper: usize, theirs: &[[u8; 32]], found: &mut Found) -> Room {
        // Hashed with a key of its own, so that a peer cannot choose ids that collide.
        let mut only_theirs: HashSet<EventId> = theirs.iter().map(told_id).collect();
        let mut full = None;
        let mut index = lower;
        self.set.visit(lower..upper, &mut |item| {
            if !only_theirs.remove(&item.id()) {
                match found.have.len() < found.most_have {
                    true => found.have.push(item.id()),
                    // To the end of the range all the same: what is held here must not be taken for needed.
                    false => full = full.or(Some((index, *item))),
                }
            }
            index += 1;
            ControlFlow::Continue(())
        });
        found.need.extend(theirs.iter().map(told_id).filter(|id| only_theirs.remove(id)));
        self.skipped = true;
        let Some((index, item)) = full else { return Room::Continue(()) };
        self.start = Bound::before(&item);
        self.say_skipped();
        self.spoken = index;
        self.stop_at(self.out.len())
    }

    /// Splits a range, or lists it.
    fn split(&mut self, lower: usize, upper: usize, end: &Bound) {
        let count = upper.saturating_sub(lower);
        if count < LISTED {
            return match self.lists || count == 0 {
                true => self.list(lower, upper, end),
                false => self.out.fingerprint(end, self.set.fingerprint(lower..upper)),
            };
        }
        // The first few have one more.
        let (each, more) = (count / PARTS, count % PARTS);
        let mut first = lower;
        for part in 0..PARTS {
            let next = first + each + usize::from(part < more);
            let bound = match (next.checked_sub(1).and_then(|last| self.set.item(last)), self.set.item(next)) {
                (Some(last), Some(item)) if next < upper => Bound::between(&last, &item),
                _ => *end,
            };
            self.out.fingerprint(&bound, self.set.fingerprint(first..next));
            first = next;
        }
    }

    fn list(&mut self, lower: usize, upper: usize, end: &Bound) {
        self.out.ids(end, upper.saturating_sub(lower));
        let out = &mut self.out;
        self.set.visit(lower..upper, &mut |item| {
            out.id(item);
            ControlFlow::Continue(())
        });
    }

    /// Says that all before the range that is read is settled, where it is and something comes after it.
    fn say_skipped(&mut self) {
        if std::mem::take(&mut self.skipped) {
            self.out.skip(&self.start);
        }
    }

    /// Ends a full message where it was so long: with a fingerprint of all that it has not spoken of, which the peer finds
    /// to differ and asks about.
    fn stop_at(&mut self, len: usize) -> Room {
        self.out.end_at(len, self.set.fingerprint(self.spoken..self.set.len()));
        Room::Break(())
    }
}
