//! What an [`IdSet`](super::IdSet) is made of: blocks of items, and groups of blocks, each with its sum.

use super::{fingerprint::Sum, item::Item};

/// Most items of a block. An insertion moves half of them (5 KB, some 100 ns), a sum scans at most half; what a block
/// takes besides its items (80 bytes) is a third of a byte an item.
pub(super) const BLOCK: usize = 256;
/// Most blocks of a group. A million items are 61 full groups, so that a sum scans about as many groups as blocks.
pub(super) const GROUP: usize = 64;
/// By how many items the room of a block grows and shrinks: a `Vec` would double it, and half of it would lie empty.
const STEP: usize = 32;

/// Some neighbouring items, in order. Never empty.
#[derive(Clone, Debug)]
pub(super) struct Block {
    sum: Sum,
    items: Vec<Item>,
}

impl Block {
    /// A block at the end of the set, which will be filled.
    pub(super) fn last(item: Item) -> Self {
        let mut items = Vec::with_capacity(BLOCK);
        items.push(item);
        Self { sum: Sum::of(&item.id()), items }
    }

    pub(super) const fn sum(&self) -> Sum {
        self.sum
    }

    pub(super) fn items(&self) -> &[Item] {
        &self.items
    }

    pub(super) const fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) const fn is_full(&self) -> bool {
        self.items.len() >= BLOCK
    }

    /// How many items are less than this one.
    pub(super) fn rank(&self, least: &Item) -> usize {
        self.items.partition_point(|item| item < least)
    }

    /// The sum of the first so many items, from whichever end is nearer.
    pub(super) fn sum_of_first(&self, count: usize) -> Sum {
        let (first, rest) = self.items.split_at(count.min(self.items.len()));
        if first.len() <= rest.len() { sum(first) } else { self.sum.minus(sum(rest)) }
    }

    pub(super) fn insert(&mut self, at: usize, item: Item) {
        if self.items.len() == self.items.capacity() {
            self.items.reserve_exact(STEP);
        }
        self.items.insert(at, item);
        self.sum = self.sum.plus(Sum::of(&item.id()));
    }

    pub(super) fn remove(&mut self, at: usize) {
        let item = self.items.remove(at);
        self.sum = self.sum.minus(Sum::of(&item.id()));
        if self.items.capacity() >= self.items.len() + 2 * STEP {
            self.items.shrink_to(self.items.len() + STEP / 2);
        }
    }

    /// Takes the second half away.
    pub(super) fn split(&mut self) -> Self {
        let items = self.items.split_off(self.items.len() / 2);
        self.items.shrink_to_fit();
        let tail = Self { sum: sum(&items), items };
        self.sum = self.sum.minus(tail.sum);
        tail
    }

    /// Takes in the one behind it.
    fn append(&mut self, mut next: Self) {
        self.items.reserve_exact(next.items.len());
        self.items.append(&mut next.items);
        self.sum = self.sum.plus(next.sum);
    }

    const fn heap_bytes(&self) -> usize {
        self.items.capacity() * size_of::<Item>()
    }
}

fn sum(items: &[Item]) -> Sum {
    items.iter().map(|item| Sum::of(&item.id())).sum()
}

/// Some neighbouring blocks. Never empty.
#[derive(Clone, Debug)]
pub(super) struct Group {
    sum: Sum,
    len: usize,
    pub(super) blocks: Vec<Block>,
}

impl Group {
    pub(super) fn new(blocks: Vec<Block>) -> Self {
        let len = blocks.iter().map(Block::len).sum();
        let sum = blocks.iter().map(Block::sum).sum();
        Self { sum, len, blocks }
    }

    pub(super) const fn sum(&self) -> Sum {
        self.sum
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether an item can be put behind its last without a split.
    pub(super) fn takes_more(&self) -> bool {
        self.blocks.len() < GROUP || self.blocks.last().is_some_and(|block| !block.is_full())
    }

    pub(super) fn last(&self) -> Option<&Item> {
        self.blocks.last()?.items().last()
    }

    /// Notes that an item came into one of the blocks.
    pub(super) fn came(&mut self, item: &Item) {
        self.len += 1;
        self.sum = self.sum.plus(Sum::of(&item.id()));
    }

    /// Notes that an item went from one of the blocks.
    pub(super) fn went(&mut self, item: &Item) {
        self.len -= 1;
        self.sum = self.sum.minus(Sum::of(&item.id()));
    }

    /// Takes the second half of the blocks away.
    pub(super) fn split(&mut self) -> Self {
        let tail = Self::new(self.blocks.split_off(self.blocks.len() / 2));
        self.blocks.shrink_to_fit();
        self.len -= tail.len;
        self.sum = self.sum.minus(tail.sum);
        tail
    }

    /// Keeps blocks from becoming many and small after a removal: drops an empty one, and joins one that is less than a
    /// quarter full with a neighbour where both together fill no more than half. So neither the next insertion nor the
    /// next removal undoes it.
    pub(super) fn tidy(&mut self, at: usize) {
        let Some(len) = self.blocks.get(at).map(Block::len) else { return };
        if len == 0 {
            self.blocks.remove(at);
        } else if len < BLOCK / 4 {
            let fits = |&first: &usize| match self.blocks.get(first..first + 2) {
                Some([one, other]) => one.len() + other.len() <= BLOCK / 2,
                _ => false,
            };
            if let Some(first) = at.checked_sub(1).filter(fits).or(Some(at).filter(fits)) {
                let next = self.blocks.remove(first + 1);
                self.blocks[first].append(next);
            }
        }
    }

    /// Takes in the one behind it.
    pub(super) fn append(&mut self, mut next: Self) {
        self.blocks.append(&mut next.blocks);
        self.len += next.len;
        self.sum = self.sum.plus(next.sum);
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>() + self.blocks.iter().map(Block::heap_bytes).sum::<usize>()
    }
}
