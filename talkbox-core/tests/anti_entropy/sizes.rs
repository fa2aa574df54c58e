//! What a round takes on the wire and in memory.

use std::collections::BTreeSet;

use talkbox_core::anti_entropy::{FrameLimit, IdSet, Initiator, Item, ReconciledSet as _};

use crate::support::{NOW, id, item, limit, mixed, reconcile, within};

const MONTH: u64 = 2_592_000;

fn month(count: u64) -> IdSet {
    (0..count).map(|n| within(MONTH, n)).collect()
}

#[test]
fn equal_sets_take_one_round_of_700_bytes() {
    for count in [100_000, 1_000_000] {
        let set = month(count);
        let outcome = reconcile(&set, &set, Initiator::new(FrameLimit::NONE), FrameLimit::NONE);
        assert_eq!((outcome.sent.len(), &outcome.received[..]), (1, &[1][..]));
        assert!(outcome.sent[0] + outcome.received[0] <= 700, "{} bytes", outcome.sent[0]);
        assert!(outcome.have.is_empty() && outcome.need.is_empty());
    }
}

/// 1,000 items behind the others, so many seconds apart, half of them on each side.
fn recent(shared: &IdSet, gap: u64) -> [IdSet; 2] {
    let mut sides = [shared.clone(), shared.clone()];
    for n in 0..1_000 {
        assert!(sides[mixed(n) as usize % 2].insert(item(NOW + n * gap, id(1 << 40 | n))));
    }
    sides
}

/// Bytes and rounds of finding all of them.
fn cost([ours, theirs]: &[IdSet; 2], initiator: Initiator, frame: FrameLimit) -> (usize, usize) {
    let outcome = reconcile(ours, theirs, initiator, frame);
    assert_eq!(outcome.have.len() + outcome.need.len(), 1_000);
    (outcome.sent.iter().chain(&outcome.received).sum(), outcome.sent.len())
}

#[test]
fn a_thousand_recent_differences_take_25_bytes_each() {
    for count in [30_000, 100_000, 300_000, 1_000_000] {
        let set = month(count);
        for (gap, frame) in [(0, 0), (1, 60_000), (5, 0), (60, 60_000)] {
            let initiator = Initiator::new(limit(frame)).without_lists();
            let (bytes, rounds) = cost(&recent(&set, gap), initiator, limit(frame));
            assert!(bytes <= 25_000, "{bytes} bytes for 1,000 differences behind {count}, {gap} s apart");
            assert!(rounds <= 4, "{rounds} rounds");
        }
    }
}

#[test]
fn without_lists_no_round_is_added_and_bytes_are_saved() {
    for count in [100_000, 300_000] {
        let sides = recent(&month(count), 5);
        let (listing, rounds) = cost(&sides, Initiator::new(FrameLimit::NONE), FrameLimit::NONE);
        let (sparing, same) = cost(&sides, Initiator::new(FrameLimit::NONE).without_lists(), FrameLimit::NONE);
        assert_eq!(same, rounds);
        assert!(sparing <= listing, "{sparing} bytes in place of {listing}");
        // Where the size of the set makes it the initiator who comes to small ranges first.
        assert!(count == 100_000 || sparing * 3 < listing * 2, "{sparing} bytes in place of {listing}");
    }
}

#[test]
fn a_set_takes_48_bytes_an_item_however_it_came_about() {
    const COUNT: u64 = 200_000;
    let sorted: BTreeSet<Item> = (0..COUNT).map(|n| within(MONTH, n)).collect();
    let mut built = IdSet::new();
    built.extend(sorted);
    assert!(built.heap_bytes() <= 41 * built.len(), "full blocks: {} bytes", built.heap_bytes());

    // As mail comes: dated back by up to two days, a thousand an hour, and expired after two months.
    let mut mail = IdSet::new();
    let mut expiring = std::collections::VecDeque::new();
    for n in 0..4 * COUNT {
        let new = item(NOW + n * 4 - mixed(n) % 172_800, id(n));
        assert!(mail.insert(new));
        expiring.push_back(new);
        if expiring.len() as u64 > COUNT {
            assert!(expiring.pop_front().is_some_and(|old| mail.remove(&old)));
        }
    }
    assert_eq!(mail.len() as u64, COUNT);
    assert!(mail.heap_bytes() <= 48 * mail.len(), "as mail comes: {} bytes", mail.heap_bytes());

    // At random all over.
    let mut random = IdSet::new();
    (0..COUNT).for_each(|n| assert!(random.insert(within(MONTH, n))));
    assert!(random.heap_bytes() <= 48 * random.len(), "at random: {} bytes", random.heap_bytes());

    for item in mail.iter().copied().collect::<Vec<_>>() {
        assert!(mail.remove(&item));
    }
    assert!(mail.heap_bytes() <= 4_096, "an empty set gives its items back: {} bytes", mail.heap_bytes());
}
