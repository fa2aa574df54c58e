//! A span of time of a set, as a set.

use std::ops::{ControlFlow, Range};

use super::{
    ReconciledSet,
    fingerprint::Fingerprint,
    item::{Bound, Item},
};
use crate::Timestamp;

/// The items of a set from one time on and before another, such as those of the last hour.
///
/// Both sides have to show the same span: they tell it one another beside the messages. It costs two searches to make,
/// and nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a, S: ?Sized> {
    set: &'a S,
    /// The index of its first item in the set.
    first: usize,
    /// The index behind its last.
    end: usize,
}

impl<'a, S: ReconciledSet + ?Sized> Window<'a, S> {
    /// The items with `from` ≤ time < `to`. Empty where `to` is no later than `from`.
    pub fn new(set: &'a S, from: Timestamp, to: Timestamp) -> Self {
        let first = set.lower_bound(&Bound::at(from));
        let end = set.lower_bound(&Bound::at(to)).max(first);
        Self { set, first, end }
    }

    /// A range of it, as one of the set.
    fn within(&self, range: &Range<usize>) -> Range<usize> {
        let index = |index: usize| self.first.saturating_add(index).min(self.end);
        index(range.start)..index(range.end)
    }
}

impl<S: ReconciledSet + ?Sized> ReconciledSet for Window<'_, S> {
    fn len(&self) -> usize {
        self.end - self.first
    }

    fn item(&self, index: usize) -> Option<Item> {
        self.first.checked_add(index).filter(|index| *index < self.end).and_then(|index| self.set.item(index))
    }

    fn lower_bound(&self, bound: &Bound) -> usize {
        self.set.lower_bound(bound).clamp(self.first, self.end) - self.first
    }

    fn fingerprint(&self, range: Range<usize>) -> Fingerprint {
        self.set.fingerprint(self.within(&range))
    }

    fn visit(&self, range: Range<usize>, see: &mut dyn FnMut(&Item) -> ControlFlow<()>) {
        self.set.visit(self.within(&range), see);
    }
}
