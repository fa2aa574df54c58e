//! Real messages, changed in the ways in which fuzzers change them.

use std::collections::HashSet;

use proptest::{collection::vec, prelude::*, sample::Index};

use super::{TARGETS, Target};

/// One change.
#[derive(Clone, Debug)]
enum Change {
    /// A bit is another.
    Flip(Index, u8),
    /// A byte is another: those that begin or bound something more often than all.
    Set(Index, u8),
    /// It ends early.
    End(Index),
    /// Some bytes are missing.
    Cut(Index, Index),
    /// Some bytes are new.
    Insert(Index, Vec<u8>),
    /// Some bytes are there once more.
    Repeat(Index, Index),
    /// It goes on as another message does.
    Splice(Index, Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let byte = prop_oneof![
        any::<u8>(),
        prop::sample::select(
            &[0x00, 0x01, 0x17, 0x18, 0x1b, 0x5b, 0x7b, 0x7f, 0x80, 0x9b, 0xbb, 0xd8, 0xf7, 0xfb, 0xff][..]
        ),
    ];
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        4 => (at(), byte.clone()).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => at().prop_map(Change::End),
        1 => (at(), at()).prop_map(|(one, other)| Change::Cut(one, other)),
        1 => (at(), vec(byte, 1..40)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (at(), at()).prop_map(|(one, other)| Change::Repeat(one, other)),
        1 => (at(), at(), at()).prop_map(|(at, seed, from)| Change::Splice(at, seed, from)),
    ]
}

fn make(bytes: &mut Vec<u8>, change: &Change, seeds: &[Vec<u8>]) {
    let place = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
    let range = |one: &Index, other: &Index, bytes: &[u8]| {
        let (one, other) = (place(one, bytes), place(other, bytes));
        one.min(other)..one.max(other)
    };
    match change {
        Change::Flip(at, bit) if !bytes.is_empty() => *at.get_mut(bytes) ^= 1 << bit,
        Change::Set(at, new) if !bytes.is_empty() => *at.get_mut(bytes) = *new,
        Change::Flip(..) | Change::Set(..) => {}
        Change::End(at) => bytes.truncate(place(at, bytes)),
        Change::Cut(one, other) => {
            let range = range(one, other, bytes);
            bytes.drain(range);
        }
        Change::Insert(at, new) => {
            let at = place(at, bytes);
            bytes.splice(at..at, new.iter().copied());
        }
        Change::Repeat(one, other) => bytes.extend_from_within(range(one, other, bytes)),
        Change::Splice(at, seed, from) => {
            let other = &seeds[seed.index(seeds.len())];
            bytes.truncate(place(at, bytes));
            bytes.extend_from_slice(&other[place(from, other)..]);
        }
    }
}

#[test]
fn every_seed_is_taken_and_nothing_is_not() {
    let names: HashSet<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names.len(), TARGETS.len());
    for Target { name, feed, seeds } in TARGETS {
        let seeds = seeds();
        assert!(seeds.len() > 1, "{name}");
        for seed in seeds {
            assert!(feed(&seed), "{name}: {seed:02x?}");
        }
        // No message at all is a message of bitswap, and no items are items.
        assert_eq!(feed(&[]), matches!(name, "message" | "items"), "{name}");
    }
}

/// Feeds one decoder with changed messages. The cases are those that `PROPTEST_CASES` asks for, or the usual 256.
fn feed_changed(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let seeds = (target.seeds)();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        // What failed is told, and becomes a test of its own.
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let changed = runner.run(&(any::<Index>(), vec(change(), 1..8)), |(seed, changes)| {
        let mut bytes = seed.get(&seeds).clone();
        changes.iter().for_each(|change| make(&mut bytes, change, &seeds));
        (target.feed)(&bytes);
        Ok(())
    });
    changed.unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// One test for each, so that they run side by side and say which of them fails.
macro_rules! changed {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            feed_changed(stringify!($name));
        })*

        #[test]
        fn none_is_left_out() {
            assert_eq!(TARGETS.map(|target| target.name), [$(stringify!($name)),*]);
        }
    };
}

changed! {
    cbor items entry identity definition link address month peer_address heads message stream request greeting wanted
    archive publication receipt pin_answer pin_root
}
