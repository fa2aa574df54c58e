//! A large set that changes all the time, with its fingerprints at hand.

use std::ops::{ControlFlow, Range};

use super::{
    ReconciledSet,
    block::{Block, GROUP, Group},
    fingerprint::{Fingerprint, Sum},
    item::{Bound, Item},
};

/// An ordered set of items whose fingerprints are kept up to date at every change, and never counted anew.
///
/// Two levels of blocks with a sum each. A change costs some 1 µs and a fingerprint of any range half of that; that of the
/// whole set is at hand. An item takes 40 bytes, in a full block 0.3 more, after insertions at random places up to 8.
/// The blocks are counted one level at a time and not by a tree of any depth: made for up to some ten million items.
///
/// ```
/// use talkbox_core::{EventId, Timestamp, anti_entropy::{IdSet, Item, ReconciledSet as _}};
///
/// let item = Item::new(Timestamp(1_700_000_000), EventId::from_bytes([7; 32]))?;
/// let mut set = IdSet::new();
/// let nothing = set.whole();
/// assert!(set.insert(item) && !set.insert(item));
/// assert_eq!((set.len(), set.contains(&item)), (1, true));
/// assert!(set.remove(&item));
/// assert_eq!(set.whole(), nothing);
/// # Ok::<_, talkbox_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct IdSet {
    groups: Vec<Group>,
    len: usize,
    sum: Sum,
}

/// Where an item is, or would come.
#[derive(Clone, Copy)]
struct Place {
    group: usize,
    block: usize,
    at: usize,
}

impl IdSet {
    /// A set without items.
    pub const fn new() -> Self {
        Self { groups: Vec::new(), len: 0, sum: Sum::ZERO }
    }

    /// Adds an item. Whether it was not there.
    pub fn insert(&mut self, item: Item) -> bool {
        match self.place(&item) {
            Some(place) if self.at(place) == Some(&item) => return false,
            Some(place) => self.insert_at(place, item),
            None => self.push(item),
        }
        self.len += 1;
        self.sum = self.sum.plus(Sum::of(&item.id()));
        true
    }

    /// Takes an item out. Whether it was there.
    pub fn remove(&mut self, item: &Item) -> bool {
        let Some(place) = self.place(item).filter(|place| self.at(*place) == Some(item)) else { return false };
        let group = &mut self.groups[place.group];
        group.blocks[place.block].remove(place.at);
        group.went(item);
        group.tidy(place.block);
        self.tidy(place.group);
        self.len -= 1;
        self.sum = self.sum.minus(Sum::of(&item.id()));
        true
    }

    /// Whether an item is there.
    pub fn contains(&self, item: &Item) -> bool {
        self.place(item).is_some_and(|place| self.at(place) == Some(item))
    }

    /// The fingerprint of the whole set, at no cost: who tells it and [`len`](ReconciledSet::len) spares equal sets a
    /// round.
    pub fn whole(&self) -> Fingerprint {
        self.sum.fingerprint(self.len)
    }

    /// All items, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Item> {
        self.groups.iter().flat_map(|group| &group.blocks).flat_map(Block::items)
    }

    /// How many bytes the set has allocated.
    pub fn heap_bytes(&self) -> usize {
        self.groups.capacity() * size_of::<Group>() + self.groups.iter().map(Group::heap_bytes).sum::<usize>()
    }

    /// The place of the first item that is not less. `None` where all are.
    fn place(&self, least: &Item) -> Option<Place> {
        let group = self.groups.partition_point(|group| group.last().is_some_and(|last| last < least));
        let blocks = &self.groups.get(group)?.blocks;
        let block = blocks.partition_point(|block| block.items().last().is_some_and(|last| last < least));
        let at = blocks.get(block)?.rank(least);
        Some(Place { group, block, at })
    }

    fn at(&self, place: Place) -> Option<&Item> {
        self.groups.get(place.group)?.blocks.get(place.block)?.items().get(place.at)
    }

    /// Puts an item behind all others.
    fn push(&mut self, item: Item) {
        // Full blocks and groups stay as they are: items that come in order leave none half empty.
        let Some(group) = self.groups.last_mut().filter(|group| group.takes_more()) else {
            let mut blocks = Vec::with_capacity(GROUP);
            blocks.push(Block::last(item));
            return self.groups.push(Group::new(blocks));
        };
        group.came(&item);
        match group.blocks.last_mut().filter(|block| !block.is_full()) {
            Some(block) => block.insert(block.len(), item),
            None => group.blocks.push(Block::last(item)),
        }
    }

    /// Puts an item before the one at a place.
    fn insert_at(&mut self, Place { group: index, mut block, mut at }: Place, item: Item) {
        let group = &mut self.groups[index];
        group.came(&item);
        // Between two blocks, the one before may have room.
        if at == 0 && block > 0 && !group.blocks[block - 1].is_full() {
            block -= 1;
            at = group.blocks[block].len();
        }
        if !group.blocks[block].is_full() {
            return group.blocks[block].insert(at, item);
        }
        let tail = group.blocks[block].split();
        let half = group.blocks[block].len();
        group.blocks.insert(block + 1, tail);
        match at.checked_sub(half) {
            Some(at) => group.blocks[block + 1].insert(at, item),
            None => group.blocks[block].insert(at, item),
        }
        if group.blocks.len() > GROUP {
            let tail = group.split();
            self.groups.insert(index + 1, tail);
        }
    }

    /// Keeps groups from becoming many and small, as [`Group::tidy`] does with blocks.
    fn tidy(&mut self, at: usize) {
        let Some(blocks) = self.groups.get(at).map(|group| group.blocks.len()) else { return };
        if blocks == 0 {
            self.groups.remove(at);
        } else if blocks < GROUP / 4 {
            let fits = |&first: &usize| match self.groups.get(first..first + 2) {
                Some([one, other]) => one.blocks.len() + other.blocks.len() <= GROUP / 2,
                _ => false,
            };
            if let Some(first) = at.checked_sub(1).filter(fits).or(Some(at).filter(fits)) {
                let next = self.groups.remove(first + 1);
                self.groups[first].append(next);
            }
        }
    }

    /// The sum of the first so many items.
    fn sum_of_first(&self, count: usize) -> Sum {
        if count >= self.len {
            return self.sum;
        }
        let (mut sum, mut left) = (Sum::default(), count);
        for group in &self.groups {
            if left >= group.len() {
                left -= group.len();
                sum = sum.plus(group.sum());
                continue;
            }
            for block in &group.blocks {
                if left < block.len() {
                    return sum.plus(block.sum_of_first(left));
                }
                left -= block.len();
                sum = sum.plus(block.sum());
            }
        }
        sum
    }

    /// The block in which the item with so many before it is, and how many of them are in it.
    fn seek(&self, index: usize) -> Option<Place> {
        let mut at = index;
        for (number, group) in self.groups.iter().enumerate() {
            if at >= group.len() {
                at -= group.len();
                continue;
            }
            for (block, items) in group.blocks.iter().enumerate() {
                if at < items.len() {
                    return Some(Place { group: number, block, at });
                }
                at -= items.len();
            }
        }
        None
    }
}

impl ReconciledSet for IdSet {
    fn len(&self) -> usize {
        self.len
    }

    fn item(&self, index: usize) -> Option<Item> {
        self.at(self.seek(index)?).copied()
    }

    fn lower_bound(&self, bound: &Bound) -> usize {
        let Some(place) = self.place(bound.least()) else { return self.len };
        let groups = self.groups[..place.group].iter().map(Group::len).sum::<usize>();
        let blocks = self.groups[place.group].blocks[..place.block].iter().map(Block::len).sum::<usize>();
        groups + blocks + place.at
    }

    fn fingerprint(&self, range: Range<usize>) -> Fingerprint {
        let (start, end) = (range.start.min(self.len), range.end.min(self.len));
        match end.checked_sub(start) {
            None | Some(0) => Sum::default().fingerprint(0),
            Some(count) => self.sum_of_first(end).minus(self.sum_of_first(start)).fingerprint(count),
        }
    }

    fn visit(&self, range: Range<usize>, see: &mut dyn FnMut(&Item) -> ControlFlow<()>) {
        let Some(place) = self.seek(range.start) else { return };
        let blocks = self.groups[place.group..].iter().flat_map(|group| &group.blocks).skip(place.block);
        let items = blocks.flat_map(Block::items).skip(place.at).take(range.end.saturating_sub(range.start));
        for item in items {
            if see(item).is_break() {
                return;
            }
        }
    }
}

impl Extend<Item> for IdSet {
    /// Adds items. Where they come in order and behind those that are there, nothing is searched and all blocks are full:
    /// from a sorted source, extend an empty set.
    fn extend<I: IntoIterator<Item = Item>>(&mut self, items: I) {
        let mut last = self.groups.last().and_then(Group::last).copied();
        for item in items {
            if last.is_some_and(|last| item <= last) {
                self.insert(item);
            } else {
                self.push(item);
                self.len += 1;
                self.sum = self.sum.plus(Sum::of(&item.id()));
                last = Some(item);
            }
        }
    }
}

impl FromIterator<Item> for IdSet {
    /// From items in any order, which are held twice for a moment; most of the time goes into sorting them. Where they
    /// are sorted, [`extend`](Extend::extend) does without both.
    fn from_iter<I: IntoIterator<Item = Item>>(items: I) -> Self {
        let mut items: Vec<Item> = items.into_iter().collect();
        items.sort_unstable();
        let mut set = Self::new();
        // A second item that is the same is found where it belongs, and not added.
        set.extend(items);
        set
    }
}
