//! `IdSet` and `SortedItems` do what a `BTreeSet` does, with fingerprints that are counted anew each time.

use std::{collections::BTreeSet, ops::ControlFlow};

use proptest::{collection::vec, prelude::*};
use sha2::{Digest as _, Sha256};
use talkbox_core::{
    EventId, Timestamp,
    anti_entropy::{Bound, IdSet, Item, ReconciledSet, SortedItems},
};

use crate::support::{NOW, id, item, mixed, within};

/// A change of many items, so that blocks and groups of blocks fill, split, empty and join.
#[derive(Clone, Debug)]
enum Change {
    /// Items of random times before now.
    Scatter { seconds: u64, count: u64, salt: u64 },
    /// Items in order, from a time on.
    Append { from: u64, count: u64, salt: u64 },
    /// Items of one time, whose ids differ in the last bytes only.
    Close { time: u64, count: u64 },
    /// Takes out the first items, as expiry does.
    Expire { count: usize },
    /// Takes out all of a part but every so manieth.
    Thin { from: u16, count: usize, keep: usize },
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let many = 1..6_000_u64;
    let change = prop_oneof![
        (prop_oneof![Just(10), Just(100_000)], many.clone(), any::<u64>())
            .prop_map(|(seconds, count, salt)| Change::Scatter { seconds, count, salt }),
        (0..40_000_u64, many.clone(), any::<u64>()).prop_map(|(from, count, salt)| Change::Append {
            from: NOW - 20_000 + from,
            count,
            salt
        }),
        (0..5_u64, many).prop_map(|(time, count)| Change::Close { time: NOW - time, count }),
        (1..9_000_usize).prop_map(|count| Change::Expire { count }),
        (any::<u16>(), 1..9_000_usize, 2..700_usize).prop_map(|(from, count, keep)| Change::Thin { from, count, keep }),
    ];
    vec(change, 1..14)
}

fn close(time: u64, number: u64) -> Item {
    let mut bytes = [0xab; 32];
    bytes[28..].copy_from_slice(&(mixed(number) as u32).to_be_bytes());
    item(time, EventId::from_bytes(bytes))
}

impl Change {
    fn make(&self, set: &mut IdSet, model: &mut BTreeSet<Item>) {
        let mut add = |item| assert_eq!(set.insert(item), model.insert(item));
        match *self {
            Self::Scatter { seconds, count, salt } => {
                (0..count).for_each(|n| add(within(seconds, mixed(salt).wrapping_add(n))));
            }
            Self::Append { from, count, salt } => {
                (0..count).for_each(|n| add(item(from + n / 3, id(salt.wrapping_add(n)))));
            }
            Self::Close { time, count } => (0..count).for_each(|n| add(close(time, n))),
            Self::Expire { count } => {
                for item in model.iter().take(count).copied().collect::<Vec<_>>() {
                    assert!(set.remove(&item) && model.remove(&item) && !set.remove(&item));
                }
            }
            Self::Thin { from, count, keep } => {
                let from = usize::from(from) * model.len() / 65_536;
                let part: Vec<Item> = model.iter().skip(from).take(count).copied().collect();
                for (_, item) in part.iter().enumerate().filter(|(at, _)| at % keep != 0) {
                    assert!(set.remove(item) && model.remove(item));
                }
            }
        }
    }
}

/// A fingerprint as the protocol defines it, byte by byte.
fn counted(items: &[Item]) -> [u8; 16] {
    let mut sum = [0_u8; 32];
    for item in items {
        let mut carry = 0;
        for (byte, more) in sum.iter_mut().zip(item.id().as_bytes()) {
            let total = u16::from(*byte) + u16::from(*more) + carry;
            (*byte, carry) = (total as u8, total >> 8);
        }
    }
    let mut digits = vec![(items.len() % 128) as u8];
    let mut rest = items.len() / 128;
    while rest > 0 {
        digits.insert(0, (rest % 128) as u8 | 0x80);
        rest /= 128;
    }
    let hash = Sha256::new().chain_update(sum).chain_update(digits).finalize();
    <[u8; 32]>::from(hash)[..16].try_into().expect("half of it")
}

/// That a set holds just these items, by everything that can be asked of it.
fn check(set: &impl ReconciledSet, items: &[Item], salt: u64) {
    assert_eq!((set.len(), set.is_empty()), (items.len(), items.is_empty()));
    let mut seen = Vec::new();
    set.visit(0..usize::MAX, &mut |item| {
        seen.push(*item);
        ControlFlow::Continue(())
    });
    assert!(seen == items, "the items are visited in order");
    assert_eq!(set.fingerprint(0..items.len()).as_bytes(), &counted(items));
    assert_eq!(set.item(items.len()), None);
    for n in 0..12 {
        let at = |n: u64| mixed(salt.wrapping_add(n)) as usize % (items.len() + 1);
        let (start, end) = (at(n).min(at(!n)), at(n).max(at(!n)));
        assert_eq!(set.fingerprint(start..end).as_bytes(), &counted(&items[start..end]));
        assert_eq!(set.fingerprint(start..usize::MAX).as_bytes(), &counted(&items[start..]));
        assert_eq!(set.item(start).as_ref(), items.get(start));
        let mut part = Vec::new();
        set.visit(start..end, &mut |item| {
            part.push(*item);
            if part.len() < 500 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        assert_eq!(part, items[start..end].iter().take(500).copied().collect::<Vec<_>>());
        let Some(there) = items.get(start) else { continue };
        assert_eq!(set.lower_bound(&Bound::before(there)), start);
        let time = there.timestamp();
        let first = items.partition_point(|item| item.timestamp() < time);
        assert_eq!(set.lower_bound(&Bound::at(time)), first);
        let id = there.id();
        let bound = Bound::at_prefix(time, &id.as_bytes()[..(n as usize * 3) % 33]).expect("no longer than an id");
        assert_eq!(set.lower_bound(&bound), items.partition_point(|item| bound.is_behind(item)));
    }
    assert_eq!((set.lower_bound(&Bound::START), set.lower_bound(&Bound::END)), (0, items.len()));
    #[expect(clippy::reversed_empty_ranges, reason = "it is what is tried")]
    let backwards = set.fingerprint(5..3);
    assert_eq!(backwards.as_bytes(), &counted(&[]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_set_does_what_its_model_does(changes in changes(), salt: u64) {
        let (mut set, mut model) = (IdSet::new(), BTreeSet::new());
        for change in changes {
            change.make(&mut set, &mut model);
            let items: Vec<Item> = model.iter().copied().collect();
            prop_assert_eq!(*set.whole().as_bytes(), counted(&items));
            for n in 0..8 {
                let some = within(100_000, mixed(salt).wrapping_add(n));
                prop_assert_eq!(set.contains(&some), model.contains(&some));
            }
            prop_assert!(items.iter().step_by(97).all(|item| set.contains(item)));
            check(&set, &items, salt);
            prop_assert!(set.iter().eq(model.iter()));
            prop_assert!(set.heap_bytes() <= 120 * items.len() + 65_536, "thinned sets are given back");
        }
        let items: Vec<Item> = model.iter().copied().collect();
        check(&SortedItems::from(items.clone()), &items, salt);
    }

    #[test]
    fn the_order_of_building_does_not_matter(seconds in 1..50_000_u64, count in 0..3_000_u64, salt: u64) {
        let made = (0..count).map(|n| within(seconds, mixed(salt).wrapping_add(n % 2_500)));
        let model: BTreeSet<Item> = made.clone().collect();
        let items: Vec<Item> = model.iter().copied().collect();
        check(&made.clone().collect::<IdSet>(), &items, salt);
        check(&made.clone().collect::<SortedItems>(), &items, salt);
        let mut extended: IdSet = items.iter().step_by(2).copied().collect();
        extended.extend(made);
        check(&extended, &items, salt);
    }
}

#[test]
fn the_last_time_is_the_end() {
    let last = item(u64::MAX - 1, id(1));
    let set: IdSet = [last].into_iter().collect();
    assert_eq!((set.lower_bound(&Bound::at(Timestamp(u64::MAX - 1))), set.lower_bound(&Bound::END)), (0, 1));
}
