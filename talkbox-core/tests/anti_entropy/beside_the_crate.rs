//! Every message is that of the `negentropy` crate, byte for byte, and either side can be the crate.

use std::{collections::BTreeSet, fmt};

use negentropy::{Id, Negentropy, NegentropyStorageVector};
use proptest::{collection::vec, prelude::*};
use talkbox_core::{
    EventId,
    anti_entropy::{IdSet, Initiator, Item, ReconciledSet, SortedItems, respond},
};

use crate::support::{Outcome, ids, item, limit, mixed, reconcile, within};

/// Two sides, and how long their messages may be; 0 for no limit.
struct Case {
    ours: Vec<Item>,
    theirs: Vec<Item>,
    our_frame: usize,
    their_frame: usize,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ours, theirs, our_frame, their_frame } = self;
        write!(f, "{} items and {}, frames of {our_frame} and {their_frame}", ours.len(), theirs.len())
    }
}

/// What both hold, what each holds alone; how the times lie, and how close the ids.
fn cases() -> impl Strategy<Value = Case> {
    let frames = || prop_oneof![Just(0), 4_096..4_500_usize, 4_096..20_000_usize];
    let few = || prop_oneof![Just(0), 1..10_u64, 1..600_u64];
    let shared = prop_oneof![Just(0), 1..40_u64, 1..9_000_u64];
    let seconds = prop_oneof![Just(1), 1..50_u64, Just(2_592_000)];
    (shared, [few(), few()], seconds, 0..26_usize, any::<bool>(), any::<u64>(), [frames(), frames()]).prop_map(
        |(shared, alone, seconds, same, newest, salt, [our_frame, their_frame])| {
            let made = |n: u64| {
                let plain = within(seconds, mixed(salt).wrapping_add(n));
                let mut bytes = *plain.id().as_bytes();
                // The more bytes are the same, the longer are the bounds; six are left, so that no id comes twice.
                bytes[..same].fill(0x5a);
                let ahead = if newest && n >= shared { seconds } else { 0 };
                item(plain.timestamp().secs() + ahead, EventId::from_bytes(bytes))
            };
            let numbers = |from: u64, count: u64| (from..from + count).map(made);
            let both: Vec<Item> = numbers(0, shared).collect();
            let with = |more: Vec<Item>| both.iter().copied().chain(more).collect::<BTreeSet<_>>();
            let ours = with(numbers(shared, alone[0]).collect());
            let theirs = with(numbers(shared + alone[0], alone[1]).collect());
            Case { ours: ours.into_iter().collect(), theirs: theirs.into_iter().collect(), our_frame, their_frame }
        },
    )
}

fn stored(items: &[Item]) -> NegentropyStorageVector {
    let mut storage = NegentropyStorageVector::with_capacity(items.len());
    for item in items {
        storage.insert(item.timestamp().secs(), Id::from_byte_array(*item.id().as_bytes())).expect("inserts");
    }
    storage.seal().expect("seals");
    storage
}

fn theirs(ids: Vec<Id>) -> Vec<EventId> {
    ids.into_iter().map(|id| EventId::from_bytes(id.to_bytes())).collect()
}

fn sorted(mut ids: Vec<EventId>) -> Vec<EventId> {
    ids.sort_unstable();
    ids
}

/// Both initiators and both responders, message by message.
fn in_step(case: &Case) -> Outcome {
    let [our_set, their_set] = [&case.ours, &case.theirs].map(|items| items.iter().copied().collect::<IdSet>());
    let [our_storage, their_storage] = [&case.ours, &case.theirs].map(|items| stored(items));
    let initiator = Initiator::new(limit(case.our_frame));
    let mut crates_initiator = Negentropy::borrowed(&our_storage, case.our_frame as u64).expect("an engine");
    let mut crates_responder = Negentropy::borrowed(&their_storage, case.their_frame as u64).expect("an engine");

    let mut outcome = Outcome::default();
    let mut message = Some(initiator.start(&our_set));
    assert_eq!(message, Some(crates_initiator.initiate().expect("starts")));
    while let Some(sent) = message {
        assert!(outcome.sent.len() < 1_000, "it has an end");
        let answer = respond(&their_set, &sent, limit(case.their_frame)).expect("answers");
        assert_eq!(answer, crates_responder.reconcile(&sent).expect("answers"));
        assert!(case.their_frame == 0 || answer.len() <= case.their_frame);
        assert!(case.our_frame == 0 || sent.len() <= case.our_frame);
        let step = initiator.step(&our_set, &answer).expect("a step");
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let reply = crates_initiator.reconcile_with_ids(&answer, &mut have, &mut need).expect("a step");
        assert_eq!(step.reply, reply);
        assert_eq!(step.have, theirs(have));
        // The crate names them in the order of a hash table.
        assert_eq!(sorted(step.need.clone()), sorted(theirs(need)));
        outcome.have.extend(step.have);
        outcome.need.extend(step.need);
        outcome.sent.push(sent.len());
        outcome.received.push(answer.len());
        message = step.reply;
    }
    outcome
}

/// That just the differences were found.
fn check(case: &Case, outcome: &Outcome) {
    let [ours, theirs] = [&case.ours, &case.theirs].map(ids);
    assert!(outcome.have.iter().eq(ours.difference(&theirs)), "what only we hold");
    assert!(outcome.need.iter().eq(theirs.difference(&ours)), "what only they hold");
}

/// Our initiator, the crate's responder.
fn we_ask(case: &Case, set: &impl ReconciledSet, initiator: Initiator) -> Outcome {
    let storage = stored(&case.theirs);
    let mut responder = Negentropy::borrowed(&storage, case.their_frame as u64).expect("an engine");
    let mut outcome = Outcome::default();
    let mut message = Some(initiator.start(set));
    while let Some(sent) = message {
        assert!(outcome.sent.len() < 1_000, "it has an end");
        outcome.sent.push(sent.len());
        let step = initiator.step(set, &responder.reconcile(&sent).expect("answers")).expect("a step");
        outcome.have.extend(step.have);
        outcome.need.extend(step.need);
        message = step.reply;
    }
    outcome
}

/// The crate's initiator, our responder.
fn the_crate_asks(case: &Case, set: &impl ReconciledSet) -> Outcome {
    let storage = stored(&case.ours);
    let mut initiator = Negentropy::borrowed(&storage, case.our_frame as u64).expect("an engine");
    let (mut have, mut need) = (Vec::new(), Vec::new());
    let mut message = Some(initiator.initiate().expect("starts"));
    while let Some(sent) = message {
        let answer = respond(set, &sent, limit(case.their_frame)).expect("answers");
        message = initiator.reconcile_with_ids(&answer, &mut have, &mut need).expect("a step");
    }
    Outcome { have: theirs(have).into_iter().collect(), need: theirs(need).into_iter().collect(), ..Outcome::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_message_is_that_of_the_crate(case in cases()) {
        check(&case, &in_step(&case));
    }

    #[test]
    fn either_side_may_be_the_crate(case in cases()) {
        let initiator = Initiator::new(limit(case.our_frame));
        check(&case, &we_ask(&case, &case.ours.iter().copied().collect::<IdSet>(), initiator));
        let vector = SortedItems::from(case.ours.clone());
        check(&case, &we_ask(&case, &vector, initiator));
        check(&case, &we_ask(&case, &vector, initiator.without_lists()));
        check(&case, &the_crate_asks(&case, &case.theirs.iter().copied().collect::<IdSet>()));
        check(&case, &the_crate_asks(&case, &SortedItems::from(case.theirs.clone())));
    }

    #[test]
    fn both_kinds_of_set_say_the_same(case in cases()) {
        let vectors = [&case.ours, &case.theirs].map(|items| SortedItems::from(items.clone()));
        let sets = [&case.ours, &case.theirs].map(|items| items.iter().copied().collect::<IdSet>());
        let (initiator, frame) = (Initiator::new(limit(case.our_frame)), limit(case.their_frame));
        let [one, other] = [
            reconcile(&vectors[0], &vectors[1], initiator, frame),
            reconcile(&sets[0], &sets[1], initiator, frame),
        ];
        prop_assert_eq!((one.sent, one.received), (other.sent, other.received));
    }

    /// Messages that no honest side would write, but that are well-formed: their answers are the same too.
    #[test]
    fn odd_messages_are_answered_like_the_crate(
        ranges in vec((0..40_u64, vec(any::<u8>(), 0..3), 0..3_u8, 0..4_usize), 0..60),
        count in 0..3_000_u64,
        frame in prop_oneof![Just(0), Just(4_096_usize)],
    ) {
        let items: BTreeSet<Item> = (0..count).map(|n| within(100, n)).collect();
        let items: Vec<Item> = items.into_iter().collect();
        let message = written(&ranges);
        let (set, storage) = (items.iter().copied().collect::<IdSet>(), stored(&items));
        let mut responder = Negentropy::borrowed(&storage, frame as u64).expect("an engine");
        prop_assert_eq!(respond(&set, &message, limit(frame)).expect("answers"), responder.reconcile(&message).expect("answers"));
    }
}

/// A message with these ranges: a step in time, the start of an id, what is told and how many ids.
fn written(ranges: &[(u64, Vec<u8>, u8, usize)]) -> Vec<u8> {
    let mut message = vec![0x61];
    let (mut last, mut before) = (0, crate::support::NOW - 200);
    let mut start: Vec<u8> = Vec::new();
    for (ahead, prefix, mode, count) in ranges {
        // At one time, the ids have to go up.
        if *ahead == 0 && padded(prefix) < padded(&start) {
            continue;
        }
        let time = before + ahead;
        let mut step = time - last + 1;
        let mut digits = vec![(step % 128) as u8];
        step /= 128;
        while step > 0 {
            digits.insert(0, (step % 128) as u8 | 0x80);
            step /= 128;
        }
        message.extend(digits);
        message.push(prefix.len() as u8);
        message.extend(prefix);
        message.push(*mode);
        match mode {
            1 => message.extend([*mode; 16]),
            2 => {
                message.push(*count as u8);
                message.extend(vec![9; 32 * count]);
            }
            _ => {}
        }
        (last, before, start) = (time, time, prefix.clone());
    }
    message
}

fn padded(prefix: &[u8]) -> [u8; 32] {
    let mut id = [0; 32];
    id[..prefix.len()].copy_from_slice(prefix);
    id
}

#[test]
fn other_versions_are_answered_with_ours() {
    let set: IdSet = (0..100).map(|n| within(100, n)).collect();
    for version in [0x60, 0x62, 0x6f] {
        assert_eq!(respond(&set, &[version, 1, 2, 3], limit(0)).expect("answers"), [0x61]);
        let error = Initiator::new(limit(0)).step(&set, &[version]).expect_err("is not understood");
        assert_eq!(error.kind(), talkbox_core::ErrorKind::Unsupported);
    }
    for nonsense in [&[][..], &[0x70], &[0x00, 0x61]] {
        assert!(respond(&set, nonsense, limit(0)).is_err() && Initiator::new(limit(0)).step(&set, nonsense).is_err());
    }
}
