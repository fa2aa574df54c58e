//! A set that is built for one occasion and does not change.

use std::ops::{ControlFlow, Range};

use super::{
    ReconciledSet,
    fingerprint::{Fingerprint, Sum},
    item::{Bound, Item},
};

/// Every so many items, the sum of all before is kept: half a byte an item, and a fingerprint adds at most twice so many.
const MARK: usize = 64;

/// A sorted vector of items with sums in it: what a session that matches some filter is answered from.
///
/// Building it is one sort and one pass. What changes all the time belongs into an [`IdSet`](super::IdSet).
#[derive(Clone, Debug, Default)]
pub struct SortedItems {
    items: Vec<Item>,
    /// The sum of the first `MARK`, of the first two times `MARK`, and so on.
    marks: Vec<Sum>,
}

impl SortedItems {
    /// The items, in order.
    pub fn as_slice(&self) -> &[Item] {
        &self.items
    }

    fn sum_of_first(&self, count: usize) -> Sum {
        let marks = count / MARK;
        let before = marks.checked_sub(1).and_then(|last| self.marks.get(last)).copied().unwrap_or_default();
        let rest = self.items.get(marks * MARK..count).unwrap_or_default();
        before.plus(rest.iter().map(|item| Sum::of(&item.id())).sum())
    }
}

impl From<Vec<Item>> for SortedItems {
    /// From items in any order. One that comes twice is in it once.
    fn from(mut items: Vec<Item>) -> Self {
        items.sort_unstable();
        items.dedup();
        let (full, _) = items.as_chunks::<MARK>();
        let mut sum = Sum::default();
        let mut marks = Vec::with_capacity(full.len());
        for part in full {
            sum = sum.plus(part.iter().map(|item| Sum::of(&item.id())).sum());
            marks.push(sum);
        }
        Self { items, marks }
    }
}

impl FromIterator<Item> for SortedItems {
    fn from_iter<I: IntoIterator<Item = Item>>(items: I) -> Self {
        Self::from(items.into_iter().collect::<Vec<_>>())
    }
}

impl ReconciledSet for SortedItems {
    fn len(&self) -> usize {
        self.items.len()
    }

    fn item(&self, index: usize) -> Option<Item> {
        self.items.get(index).copied()
    }

    fn lower_bound(&self, bound: &Bound) -> usize {
        self.items.partition_point(|item| bound.is_behind(item))
    }

    fn fingerprint(&self, range: Range<usize>) -> Fingerprint {
        let (start, end) = (range.start.min(self.items.len()), range.end.min(self.items.len()));
        match end.checked_sub(start) {
            None | Some(0) => Sum::default().fingerprint(0),
            Some(count) => self.sum_of_first(end).minus(self.sum_of_first(start)).fingerprint(count),
        }
    }

    fn visit(&self, range: Range<usize>, see: &mut dyn FnMut(&Item) -> ControlFlow<()>) {
        let end = range.end.min(self.items.len());
        for item in self.items.get(range.start..end).unwrap_or_default() {
            if see(item).is_break() {
                return;
            }
        }
    }
}
