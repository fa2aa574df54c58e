//! A span of time of a set is reconciled as if it were all of it.

use std::ops::ControlFlow;

use proptest::prelude::*;
use talkbox_core::{
    Timestamp,
    anti_entropy::{Bound, FrameLimit, IdSet, Initiator, Item, ReconciledSet, SortedItems, Window, respond},
};

use crate::support::{NOW, id, ids, item, limit, reconcile, within};

fn cut(set: &IdSet, from: u64, to: u64) -> Vec<Item> {
    set.iter().filter(|item| (from..to).contains(&item.timestamp().secs())).copied().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_window_is_what_lies_in_it(count in 0..3_000_u64, from in 0..1_100_u64, span in 0..1_100_u64, at in 0..3_000_usize) {
        let set: IdSet = (0..count).map(|n| within(1_000, n)).collect();
        let (from, to) = (NOW - from, NOW - from + span);
        let (window, alone) = (Window::new(&set, Timestamp(from), Timestamp(to)), SortedItems::from(cut(&set, from, to)));
        prop_assert_eq!((window.len(), window.item(at)), (alone.len(), alone.item(at)));
        let range = at / 2..at;
        prop_assert_eq!(window.fingerprint(range.clone()), alone.fingerprint(range.clone()));
        prop_assert_eq!(window.fingerprint(0..usize::MAX), alone.fingerprint(0..usize::MAX));
        for bound in [Bound::START, Bound::at(Timestamp(NOW - at as u64)), Bound::END] {
            prop_assert_eq!(window.lower_bound(&bound), alone.lower_bound(&bound));
        }
        let seen = |set: &dyn ReconciledSet| {
            let mut seen = Vec::new();
            set.visit(range.clone(), &mut |item| {
                seen.push(*item);
                ControlFlow::Continue(())
            });
            seen
        };
        prop_assert_eq!(seen(&window), seen(&alone));
    }

    #[test]
    fn windows_say_what_sets_of_their_items_say(from in 0..1_000_u64, span in 1..1_000_u64, frame in prop_oneof![Just(0), Just(4_096_usize)]) {
        let [ours, theirs] = [(0, 1_800), (200, 2_000)].map(|(first, end)| (first..end).map(|n| within(1_000, n)).collect::<IdSet>());
        let (from, to) = (NOW - from, NOW - from + span);
        let [left, right] = [&ours, &theirs].map(|set| Window::new(set, Timestamp(from), Timestamp(to)));
        let [left_alone, right_alone] = [&ours, &theirs].map(|set| SortedItems::from(cut(set, from, to)));
        let initiator = Initiator::new(limit(frame));
        let first = initiator.start(&left);
        prop_assert_eq!(&first, &initiator.start(&left_alone));
        prop_assert_eq!(
            respond(&right, &first, limit(frame)).expect("answers"),
            respond(&right_alone, &first, limit(frame)).expect("answers")
        );
        let outcome = reconcile(&left, &right, initiator, limit(frame));
        let [mine, others] = [&left_alone, &right_alone].map(|set| ids(set.as_slice()));
        prop_assert!(outcome.have.iter().eq(mine.difference(&others)) && outcome.need.iter().eq(others.difference(&mine)));
    }
}

#[test]
fn the_first_second_is_in_it_and_the_last_is_not() {
    let set: IdSet = (0..10).map(|n| item(NOW + n, id(n))).collect();
    let window = Window::new(&set, Timestamp(NOW + 2), Timestamp(NOW + 5));
    assert_eq!(window.len(), 3);
    assert_eq!(window.item(0).map(|item| item.timestamp()), Some(Timestamp(NOW + 2)));
    assert_eq!(window.item(3), None);
    for (from, to) in [(5, 5), (7, 3), (20, 30)] {
        assert!(Window::new(&set, Timestamp(NOW + from), Timestamp(NOW + to)).is_empty());
    }
    assert_eq!(Window::new(&set, Timestamp(0), Timestamp(u64::MAX)).len(), 10);
}

#[test]
fn what_differs_outside_is_not_named() {
    let ours: IdSet = (0..1_000).map(|n| item(NOW - 2 * n, id(n))).collect();
    let theirs: IdSet = (5..1_000).filter(|n| *n != 700).map(|n| item(NOW - 2 * n, id(n))).collect();
    let [left, right] = [&ours, &theirs].map(|set| Window::new(set, Timestamp(NOW - 600), Timestamp(NOW - 3)));
    let outcome = reconcile(&left, &right, Initiator::new(FrameLimit::NONE), FrameLimit::NONE);
    assert!(outcome.have.into_iter().eq([id(2), id(3), id(4)].into_iter().collect::<std::collections::BTreeSet<_>>()));
    assert!(outcome.need.is_empty());
}
