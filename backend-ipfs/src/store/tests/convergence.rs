//! Several stores that append, are apart, and give each other what they have in any order.

use proptest::{prelude::*, test_runner::TestCaseError};
use talkbox_core::EventId;

use super::*;

const STORES: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Append {
        at: usize,
        count: usize,
    },
    /// Gives some of what one has, from the end or mixed up, to another, without the rest.
    Give {
        from: usize,
        to: usize,
        skip: usize,
        every: usize,
        reverse: bool,
    },
    /// Gives all, as a session of `/talkbox/sync/1` does.
    Sync {
        one: usize,
        other: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..STORES;
    prop_oneof![
        3 => (at.clone(), 1..6_usize).prop_map(|(at, count)| Step::Append { at, count }),
        4 => (at.clone(), at.clone(), 0..4_usize, 1..5_usize, any::<bool>())
            .prop_map(|(from, to, skip, every, reverse)| Step::Give { from, to, skip, every, reverse }),
        1 => (at.clone(), at).prop_map(|(one, other)| Step::Sync { one, other }),
    ]
}

fn digests(set: &[talkbox_core::anti_entropy::Item]) -> Vec<[u8; 32]> {
    set.iter().map(|item| *item.id().as_bytes()).collect()
}

async fn give(from: &Store, to: &Store, log: &LogAddress) {
    let (theirs, ours) = (from.set(log).await.expect("reads"), to.set(log).await.expect("reads"));
    let held: HashSet<EventId> = ours.as_slice().iter().map(talkbox_core::anti_entropy::Item::id).collect();
    let wanted = digests(theirs.as_slice());
    let wanted = wanted.into_iter().filter(|digest| !held.contains(&EventId::from_bytes(*digest))).collect();
    let blocks = from.bundle(log, wanted).await.expect("reads");
    to.receive(log, blocks).await.expect("receives");
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut stores = Vec::new();
    for _ in 0..STORES {
        stores.push(with_log().await.0);
    }
    let log = month_log().definition.address;
    // Two write with one identity, so that clocks are equal in time and id.
    let writers = [writer(), writer()];
    let mut appended = 0;
    for step in steps {
        match step {
            Step::Append { at, count } => {
                let values = (0..count).map(|n| text(format!("{at}.{appended}.{n}"))).collect();
                let writer = Arc::clone(&writers[at % writers.len()]);
                appended += stores[at].append_values(&log, values, writer).await.expect("appends").len();
            }
            Step::Give { from, to, skip, every, reverse } => {
                let set = stores[from].set(&log).await.expect("reads");
                let mut some: Vec<_> = digests(set.as_slice()).into_iter().skip(skip).step_by(every).collect();
                if reverse {
                    some.reverse();
                }
                for digest in some {
                    let mut blocks = stores[from].bundle(&log, vec![digest]).await.expect("reads");
                    if every == 3 {
                        blocks.remove(0);
                    }
                    stores[to].receive(&log, blocks).await.expect("receives");
                }
            }
            Step::Sync { one, other } => give(&stores[one], &stores[other], &log).await,
        }
    }
    // The partition is over: everybody gives everything to everybody.
    for from in &stores {
        for to in &stores {
            give(from, to, &log).await;
        }
    }
    for from in &stores {
        for to in &stores {
            give(from, to, &log).await;
        }
    }
    let (set, joined, order) =
        (stores[0].set(&log).await.expect("reads"), heads(&stores[0], &log).await, traversal(&stores[0], &log).await);
    prop_assert_eq!((set.as_slice().len(), order.len()), (appended, appended));
    for store in &stores[1..] {
        let theirs = store.set(&log).await.expect("reads");
        prop_assert_eq!(theirs.as_slice(), set.as_slice());
        prop_assert_eq!(heads(store, &log).await, joined.clone());
        prop_assert_eq!(traversal(store, &log).await, order.clone());
    }
    let mut by_clock = stores[0].newest(&log, usize::MAX).await.expect("reads");
    let entry = |block: &Block| Entry::decode(block.bytes.clone()).expect("an entry");
    by_clock.sort_by(|one, other| entry(other).order(&entry(one)));
    prop_assert_eq!(cids(&by_clock), order, "the order is that of the clocks");
    for store in &stores {
        let state = &store.logs().await.expect("reads")[0];
        prop_assert_eq!((state.entries, state.waiting), (appended as u64, 0));
        prop_assert!(store.missing(&log, 9).await.expect("reads").is_empty());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_all_agree_in_the_end(steps in prop::collection::vec(step(), 1..14)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        runtime.block_on(run(steps))?;
    }
}
