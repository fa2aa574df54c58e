//! Anti-entropy: how two who hold nearly the same set of ids find out where they differ, in bytes and work that follow
//! the difference and not the set. Pure: no connection, no clock, no thread.
//!
//! It speaks negentropy, protocol version 1 (`0x61`), as NIP-77 relays and the `negentropy` crate do, byte for byte.
//! Each side orders its items by time and id, and tells the fingerprint of ranges of them. A range with another
//! fingerprint is split in 16, and one with fewer than 32 items is listed.
//!
//! - [`IdSet`] keeps a large set and its fingerprints up to date, item by item; [`SortedItems`] is one that is built for
//!   an occasion; [`Window`] shows a span of time of either. The engine takes any [`ReconciledSet`].
//! - [`respond`] answers a message. [`Initiator`] starts, and learns the differences.
//!
//! Neither side remembers anything between two messages: a message speaks of the set as it is at that moment. So a set
//! may change between messages, a lock is held for one message only, and whoever answers keeps nothing of whoever asks.
//! What changes meanwhile may be named twice or not at all; the next reconciliation finds it.
//!
//! # Hostile messages
//! Any bytes give an error or an answer. A message is read to its end and refused where a bound lies before the one
//! before it, a number is longer than it has to be, the message ends within a range, or it has more than [`MAX_RANGES`]
//! of them.
//!
//! A range costs a search and two sums of the set, and one that differs 32 more while the answer has room; each is
//! logarithmic but for a scan of one level of blocks. Whoever answers does not look at the ids that are listed. An
//! initiator does: lists cost it at most one pass over its set a message. The ids that a message may carry are bounded
//! by its own bytes, which the caller bounds when it reads them, and an answer by its [`FrameLimit`].
//!
//! ```
//! use talkbox_core::{EventId, Timestamp, anti_entropy::{FrameLimit, IdSet, Initiator, Item, respond}};
//!
//! let item = |n: u8| Item::new(Timestamp(1_700_000_000 + u64::from(n)), EventId::from_bytes([n; 32]));
//! let ours: IdSet = (0..100).map(item).collect::<Result<_, _>>()?;
//! let theirs: IdSet = (1..101).map(item).collect::<Result<_, _>>()?;
//!
//! let initiator = Initiator::new(FrameLimit::NONE);
//! let (mut have, mut need) = (Vec::new(), Vec::new());
//! let mut message = Some(initiator.start(&ours));
//! while let Some(sent) = message {
//!     let answer = respond(&theirs, &sent, FrameLimit::NONE)?;
//!     let step = initiator.step(&ours, &answer)?;
//!     have.extend(step.have);
//!     need.extend(step.need);
//!     message = step.reply;
//! }
//! assert_eq!((have, need), (vec![EventId::from_bytes([0; 32])], vec![EventId::from_bytes([100; 32])]));
//! # Ok::<_, talkbox_core::Error>(())
//! ```

mod block;
mod engine;
mod fingerprint;
mod item;
mod message;
mod set;
mod sorted;
mod window;

use std::ops::{ControlFlow, Range};

pub use self::{
    engine::{FrameLimit, Initiator, Step, respond},
    fingerprint::{Fingerprint, Sum},
    item::{Bound, Item},
    message::MAX_RANGES,
    set::IdSet,
    sorted::SortedItems,
    window::Window,
};

/// What can be reconciled: items in the order of time and id, each once, by their index.
///
/// A range that goes beyond the end stops there, and one that ends before it starts is empty: no implementation panics.
pub trait ReconciledSet {
    /// How many items.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The item with so many before it.
    fn item(&self, index: usize) -> Option<Item>;

    /// How many items lie before this bound.
    fn lower_bound(&self, bound: &Bound) -> usize;

    /// The fingerprint of a range. It is asked for 16 ranges of every range that differs, so it should not cost a pass
    /// over the range.
    fn fingerprint(&self, range: Range<usize>) -> Fingerprint;

    /// Shows the items of a range, in order, until there is a break.
    fn visit(&self, range: Range<usize>, see: &mut dyn FnMut(&Item) -> ControlFlow<()>);
}
