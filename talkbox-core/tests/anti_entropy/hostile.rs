//! Whatever comes is answered or refused, within bounds.

use std::{collections::BTreeSet, num::NonZeroUsize};

use proptest::{collection::vec, prelude::*, sample::Index};
use talkbox_core::{
    ErrorKind,
    anti_entropy::{FrameLimit, IdSet, Initiator, MAX_RANGES, ReconciledSet as _, SortedItems, Window, respond},
};

use crate::support::{NOW, ids, limit, reconcile, within};

/// What a node takes.
const FRAME: usize = 4_096;

fn set(count: u64) -> IdSet {
    (0..count).map(|n| within(1_000, n)).collect()
}

/// Shows a message to everything that takes one.
fn show(message: &[u8], set: &IdSet) {
    let vector: SortedItems = set.iter().copied().collect();
    let window = Window::new(set, talkbox_core::Timestamp(NOW - 700), talkbox_core::Timestamp(NOW - 300));
    let initiator = Initiator::new(limit(FRAME)).most_have(NonZeroUsize::new(50).expect("not zero"));
    let answers = [
        respond(set, message, limit(FRAME)),
        respond(&vector, message, limit(FRAME)),
        respond(&window, message, limit(FRAME)),
    ];
    for answer in &answers {
        match answer {
            Ok(bytes) => assert!(bytes.len() <= FRAME),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unexpected),
        }
    }
    assert_eq!(answers[0].as_ref().ok(), answers[1].as_ref().ok());
    match initiator.step(set, message) {
        Ok(step) => {
            assert!(step.reply.is_none_or(|reply| reply.len() <= FRAME));
            assert!(step.have.len() <= 50 && step.need.len() <= message.len() / 32);
        }
        Err(error) => assert!(matches!(error.kind(), ErrorKind::Unexpected | ErrorKind::Unsupported)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered_or_refused(bytes in vec(any::<u8>(), 0..300), count in 0..400_u64) {
        let set = set(count);
        show(&bytes, &set);
        show(&[&[0x61], &bytes[..]].concat(), &set);
        // Small numbers make more of what is well-formed.
        let small: Vec<u8> = bytes.iter().map(|byte| byte % 4).collect();
        show(&[&[0x61], &small[..]].concat(), &set);
    }

    #[test]
    fn a_damaged_message_is_answered_or_refused(at: Index, bit in 0..8_u32, cut: Index, mine in 0..900_u64) {
        let (set, theirs) = (set(mine), set(600));
        let initiator = Initiator::new(limit(0));
        let first = initiator.start(&theirs);
        let second = respond(&set, &first, limit(0)).expect("answers");
        for mut message in [first, second] {
            show(&message[..cut.index(message.len())], &set);
            let at = at.index(message.len());
            message[at] ^= 1 << bit;
            show(&message, &set);
        }
    }
}

#[test]
fn every_cut_of_a_message_within_a_range_is_refused() {
    let set = set(600);
    let message = Initiator::new(limit(0)).start(&set);
    let whole = (0..=message.len()).filter(|cut| respond(&set, &message[..*cut], limit(0)).is_ok()).count();
    assert_eq!(whole, 17, "after the version, and after each of 16 ranges");
}

/// The most work that 128 KiB can ask for.
#[test]
fn a_message_full_of_ranges_gets_an_answer_of_a_frame() {
    let set = set(100_000);
    let frame = FrameLimit::at_most(60_000).expect("a limit");
    let full = |range: &[u8], first: &[u8]| [&[0x61], first, &range.repeat((131_072 - 10) / range.len())].concat();
    let fingerprint = [&[1, 0, 1][..], &[7; 16]].concat();
    for message in [full(&fingerprint, &[1, 0, 0]), full(&[1, 0, 2, 0], &[1, 0, 0]), full(&[2, 0, 0], &[])] {
        assert!(message.len() <= 131_072);
        assert!(respond(&set, &message, frame).is_ok_and(|answer| answer.len() <= 60_000));
    }
    // Behind a skip to the first item, each range a second on: all of them differ.
    let mut message = vec![0x61];
    let mut second = NOW - 1_000 + 1;
    let mut digits = vec![(second % 128) as u8];
    second /= 128;
    while second > 0 {
        digits.insert(0, (second % 128) as u8 | 0x80);
        second /= 128;
    }
    message.extend(digits);
    message.extend([0, 0]);
    message.extend([&[2, 0, 1][..], &[7; 16]].concat().repeat(1_000));
    let answer = respond(&set, &message, frame).expect("answers");
    assert!((59_000..=60_000).contains(&answer.len()), "{} bytes", answer.len());
    assert!(respond(&set, &[&[0x61], &[1, 0, 0].repeat(MAX_RANGES + 1)[..]].concat(), frame).is_err());
}

#[test]
fn a_peer_without_anything_does_not_get_the_whole_set_at_once() {
    let (set, nothing) = (set(5_000), IdSet::new());
    let first = Initiator::new(limit(0)).start(&set);
    let answer = respond(&nothing, &first, limit(0)).expect("answers");
    assert_eq!(Initiator::new(limit(0)).step(&set, &answer).expect("a step").have.len(), 5_000);

    let some = NonZeroUsize::new(700).expect("not zero");
    for frame in [0, FRAME] {
        let initiator = Initiator::new(limit(frame)).most_have(some);
        let step = initiator.step(&set, &answer).expect("a step");
        assert_eq!(step.have.len(), 700);
        let outcome = reconcile(&set, &nothing, initiator, limit(frame));
        assert_eq!((outcome.have.len(), outcome.need.len()), (5_000, 0));
        assert!(outcome.sent.len() >= 5_000 / 700);
    }
}

#[test]
fn what_is_left_for_the_next_step_is_not_taken_for_needed() {
    let (ours, theirs): (IdSet, IdSet) =
        ((0..2_000).map(|n| within(1_000, n)).collect(), (1_000..3_000).map(|n| within(1_000, n)).collect());
    let [left, right]: [BTreeSet<_>; 2] = [ids(ours.iter()), ids(theirs.iter())];
    for (most, frame) in [(1, 0), (3, FRAME), (40, 0), (5_000, FRAME)] {
        let initiator = Initiator::new(limit(frame)).most_have(NonZeroUsize::new(most).expect("not zero"));
        let outcome = reconcile(&ours, &theirs, initiator, limit(frame));
        assert!(outcome.have.iter().eq(left.difference(&right)) && outcome.need.iter().eq(right.difference(&left)));
    }
    assert_eq!(ours.len(), 2_000);
}
