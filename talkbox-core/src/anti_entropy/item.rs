//! Items, and the bounds that lie between them.

use crate::{Error, ErrorKind, EventId, Result, Timestamp};

/// An item of a reconciled set: an id and its time. Items are ordered by time, then by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    timestamp: u64,
    id: EventId,
}

impl Item {
    /// An id and its time.
    ///
    /// # Errors
    /// `InvalidInput` for the last time that there is, 2^64 − 1: the protocol uses it for the end of all items.
    pub fn new(timestamp: Timestamp, id: EventId) -> Result<Self> {
        match timestamp.secs() {
            u64::MAX => Err(Error::new(ErrorKind::InvalidInput, "the end of time is the time of no item")),
            timestamp => Ok(Self { timestamp, id }),
        }
    }

    /// The time.
    pub const fn timestamp(&self) -> Timestamp {
        Timestamp(self.timestamp)
    }

    /// The id.
    pub const fn id(&self) -> EventId {
        self.id
    }
}

/// Where a range ends: before the first item that is not less than a time and the first bytes of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The least item that lies behind it. Behind [`Bound::END`] lies none: no item has its time.
    least: Item,
    /// How many bytes of the id are told; the others are zero.
    prefix: u8,
}

impl Bound {
    /// Before all items.
    pub const START: Self = Self::at(Timestamp(0));
    /// Behind all items.
    pub const END: Self = Self::at(Timestamp(u64::MAX));

    /// Before the first item of this time or later. The last time of all is [`Bound::END`].
    pub const fn at(timestamp: Timestamp) -> Self {
        Self { least: Item { timestamp: timestamp.secs(), id: EventId::from_bytes([0; 32]) }, prefix: 0 }
    }

    /// Before the first item of this time whose id starts with these bytes or is greater. `None` for more than 32
    /// bytes.
    pub fn at_prefix(timestamp: Timestamp, prefix: &[u8]) -> Option<Self> {
        let mut id = [0; 32];
        id.get_mut(..prefix.len())?.copy_from_slice(prefix);
        let prefix = u8::try_from(prefix.len()).ok()?;
        Some(Self { least: Item { timestamp: timestamp.secs(), id: EventId::from_bytes(id) }, prefix })
    }

    /// Before this item.
    pub const fn before(item: &Item) -> Self {
        Self { least: *item, prefix: 32 }
    }

    /// The shortest bound that parts an item from the one before it.
    pub fn between(previous: &Item, item: &Item) -> Self {
        if previous.timestamp != item.timestamp {
            return Self::at(item.timestamp());
        }
        let (before, after) = (previous.id.as_bytes(), item.id.as_bytes());
        let shared = before.iter().zip(after).take_while(|(one, other)| one == other).count();
        // Ids of one time differ somewhere; were they equal, the bound would be before both.
        after.get(..=shared).and_then(|prefix| Self::at_prefix(item.timestamp(), prefix)).unwrap_or(Self::before(item))
    }

    /// Whether an item lies before it.
    pub fn is_behind(&self, item: &Item) -> bool {
        *item < self.least
    }

    /// Whether it lies before another.
    pub(super) fn precedes(&self, other: &Self) -> bool {
        self.least < other.least
    }

    /// The least item that lies behind it, were there one.
    pub(super) const fn least(&self) -> &Item {
        &self.least
    }

    /// The time, `u64::MAX` for the end.
    pub(super) const fn timestamp(&self) -> u64 {
        self.least.timestamp
    }

    /// The bytes of an id that are told.
    pub(super) fn prefix(&self) -> &[u8] {
        &self.least.id.as_bytes()[..usize::from(self.prefix)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(timestamp: u64, id: [u8; 32]) -> Item {
        Item::new(Timestamp(timestamp), EventId::from_bytes(id)).expect("an item")
    }

    #[test]
    fn the_end_of_time_is_no_items_time() {
        let id = EventId::from_bytes([1; 32]);
        assert_eq!(Item::new(Timestamp(u64::MAX), id).expect_err("refused").kind(), ErrorKind::InvalidInput);
        assert!(Item::new(Timestamp(u64::MAX - 1), id).is_ok_and(|last| Bound::END.is_behind(&last)));
    }

    #[test]
    fn the_shortest_bound_parts_two_items() {
        let mut close = [7; 32];
        close[2] = 9;
        for (previous, next, prefix) in [
            (item(3, [9; 32]), item(4, [1; 32]), &[][..]),
            (item(4, [1; 32]), item(4, [2; 32]), &[2][..]),
            (item(4, [7; 32]), item(4, close), &[7, 7, 9][..]),
        ] {
            let bound = Bound::between(&previous, &next);
            assert_eq!((bound.timestamp(), bound.prefix()), (4, prefix));
            assert!(bound.is_behind(&previous) && !bound.is_behind(&next));
        }
    }

    #[test]
    fn a_prefix_is_at_most_an_id() {
        assert!(Bound::at_prefix(Timestamp(1), &[1; 32]).is_some());
        assert!(Bound::at_prefix(Timestamp(1), &[1; 33]).is_none());
    }
}
