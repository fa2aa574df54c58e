//! Sets that change between two messages: nothing is kept from one to the next, so nothing goes wrong.

use std::{collections::BTreeMap, num::NonZeroUsize};

use proptest::prelude::*;
use talkbox_core::anti_entropy::{IdSet, Initiator, Item, ReconciledSet as _, respond};

use crate::support::{limit, mixed, within};

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// What is found is copied at once, and more comes and goes on both sides meanwhile.
    #[test]
    fn two_nodes_that_go_on_living_come_to_agree(
        shared in 0..4_000_u64,
        alone in 0..800_u64,
        seconds in prop_oneof![Just(1_u64), Just(100_000)],
        frame in prop_oneof![Just(0), Just(4_096_usize)],
        most in 1..2_000_usize,
        salt: u64,
    ) {
        let made = |n: u64| within(seconds, mixed(salt).wrapping_add(n));
        let known: BTreeMap<_, Item> = (0..20_000).map(|n| (made(n).id(), made(n))).collect();
        let mut ours: IdSet = (0..shared + alone).map(made).collect();
        let mut theirs: IdSet = (0..shared).chain(shared + alone..shared + 2 * alone).map(made).collect();
        let initiator = Initiator::new(limit(frame)).most_have(NonZeroUsize::new(most).expect("not zero"));
        // A minute of life, then silence.
        for turn in 0..3_000 {
            let mut message = Some(initiator.start(&ours));
            let mut rounds = 0;
            while let Some(sent) = message {
                rounds += 1;
                prop_assert!(rounds < 3_000, "it has an end");
                let answer = respond(&theirs, &sent, limit(frame)).expect("answers");
                if turn == 0 && rounds < 20 {
                    theirs.insert(made(10_000 + rounds));
                    ours.remove(&made(rounds * 3));
                    ours.insert(made(11_000 + rounds));
                }
                let step = initiator.step(&ours, &answer).expect("a step");
                for id in step.have {
                    theirs.insert(known[&id]);
                }
                for id in step.need {
                    ours.insert(known[&id]);
                }
                message = step.reply;
            }
            if ours.whole() == theirs.whole() {
                break;
            }
            prop_assert!(turn < 2, "two quiet rounds are enough");
        }
        prop_assert!(ours.iter().eq(theirs.iter()));
        prop_assert_eq!(ours.len(), theirs.len());
    }
}
