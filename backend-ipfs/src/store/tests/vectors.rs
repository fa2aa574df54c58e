//! The golden vectors: orders, heads and verdicts of the JavaScript library.

use std::{collections::HashSet, sync::LazyLock};

use proptest::{prelude::*, test_runner::TestCaseError};
use serde_json::Value as Json;

use super::*;
use crate::{
    orbitdb::{Definition, link::parse as parse_link, read_definition, value_of},
    store::Refused,
};

static BLOCKS: LazyLock<Json> = LazyLock::new(|| read(include_str!("../../../tests/vectors/orbitdb/blocks.json")));
static MANIFESTS: LazyLock<Json> =
    LazyLock::new(|| read(include_str!("../../../tests/vectors/orbitdb/manifests.json")));
static LOG: LazyLock<Json> = LazyLock::new(|| read(include_str!("../../../tests/vectors/orbitdb/log.json")));
static TIE: LazyLock<Json> = LazyLock::new(|| read(include_str!("../../../tests/vectors/orbitdb/tie.json")));
static MULTI: LazyLock<Json> = LazyLock::new(|| read(include_str!("../../../tests/vectors/orbitdb/multi-heads.json")));
static NEGATIVE: LazyLock<Json> = LazyLock::new(|| read(include_str!("../../../tests/vectors/orbitdb/negative.json")));

fn read(text: &str) -> Json {
    serde_json::from_str(text).expect("JSON")
}

fn list(json: &Json) -> &[Json] {
    json.as_array().expect("a list")
}

fn link(json: &Json) -> Cid {
    parse_link(json.as_str().expect("text")).expect("a link")
}

fn links(json: &Json) -> Vec<Cid> {
    list(json).iter().map(link).collect()
}

fn block(json: &Json) -> Block {
    let digits = json["bytes_hex"].as_str().expect("text");
    let bytes = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("digits"));
    Block::of(bytes.collect::<Vec<_>>().into())
}

fn blocks(json: &Json) -> Vec<Block> {
    list(json).iter().map(block).collect()
}

fn definition(address: &Json) -> Definition {
    let cases = MANIFESTS["cases"].as_object().expect("cases");
    let case = cases.values().find(|case| case["address"] == *address).expect("a log of the vectors");
    read_definition(block(&case["manifest"]).bytes, block(&case["access_controller"]).bytes).expect("reads")
}

async fn with_vector_log(address: &Json) -> (Store, LogAddress) {
    let store = store().await;
    let definition = definition(address);
    let address = definition.address.clone();
    store.open_log(MonthLog { definition, ..month_log() }).await.expect("opens");
    (store, address)
}

#[tokio::test]
async fn heads_and_orders_are_those_of_the_library() {
    let (store, log) = with_vector_log(&LOG["address"]).await;
    for json in list(&LOG["entries"]) {
        store.receive(&log, vec![block(json)]).await.expect("receives");
        fetch(&store, &log, &blocks(&BLOCKS)).await;
        // Both branches of the fork were written where the other was not known yet.
        let label = json["label"].as_str().expect("text");
        let after = if label.starts_with("e4b") { "A joined e4b" } else { label };
        let after = list(&LOG["heads_after"]).iter().find(|heads| heads["after"] == after).expect("heads");
        assert_eq!(heads(&store, &log).await, links(&after["heads"]).into_iter().collect(), "{label}");
    }
    assert_eq!(traversal(&store, &log).await, links(&LOG["iterator_newest_first"]));
    let mut oldest_first = traversal(&store, &log).await;
    oldest_first.reverse();
    assert_eq!(oldest_first, links(&LOG["values_oldest_first_A"]));
}

#[tokio::test]
async fn several_heads_are_those_of_the_library() {
    let (store, log) = with_vector_log(&LOG["address"]).await;
    let mut all = blocks(&BLOCKS);
    all.retain(|block| list(&MULTI["entries"]).iter().all(|entry| link(&entry["cid"]) != block.cid));
    let entries = blocks(&MULTI["entries"]);
    store.receive(&log, entries.clone()).await.expect("receives");
    fetch(&store, &log, &all).await;
    let greatest: Vec<Cid> = store.heads(&log, 9).await.expect("reads").into_iter().map(|head| head.cid).collect();
    assert_eq!(greatest.into_iter().collect::<HashSet<_>>(), links(&MULTI["heads"]).into_iter().collect());
    let mut oldest_first = traversal(&store, &log).await;
    oldest_first.reverse();
    assert_eq!(oldest_first, links(&MULTI["oldest_first"]));
}

#[tokio::test]
async fn equal_clocks_have_one_order_wherever_they_came_first() {
    let mut orders = Vec::new();
    let mut entries = blocks(&TIE["entries"]);
    for _ in 0..2 {
        let (store, log) = with_vector_log(&LOG["address"]).await;
        for entry in &entries {
            store.receive(&log, vec![entry.clone()]).await.expect("receives");
            fetch(&store, &log, &blocks(&BLOCKS)).await;
        }
        assert_eq!(heads(&store, &log).await, links(&TIE["heads_log1"]).into_iter().collect());
        orders.push(traversal(&store, &log).await);
        entries.reverse();
    }
    assert_eq!(orders[0], orders[1]);
}

/// Each case as a head that arrives, with all blocks of the vectors to be fetched.
#[tokio::test]
async fn verdicts_are_those_of_the_library() {
    for case in list(&NEGATIVE["cases"]) {
        let label = case["label"].as_str().expect("text");
        let entry = block(&case["entry"]);
        let decoded = Entry::decode(entry.bytes.clone()).expect("an entry");
        let private = decoded.log == NEGATIVE["log_private"];
        let (store, log) = with_vector_log(&NEGATIVE[if private { "log_private" } else { "log_any" }]).await;
        let received = store.receive(&log, vec![entry.clone()]).await.expect("receives");
        fetch(&store, &log, &blocks(&BLOCKS)).await;
        let accepted = case["verdict"] == "ACCEPTED";
        let joined = traversal(&store, &log).await.contains(&entry.cid);
        assert_eq!(joined, accepted, "{label}: {:?}", received.entries);
        if accepted {
            assert_eq!(heads(&store, &log).await, links(&case["heads_after"]).into_iter().collect(), "{label}");
        }
        // Whatever came, mail that comes later is found.
        let mail = envelope();
        let writer = writer();
        let later = signed(&log, &writer, &[entry.cid], &[], 3, value_of(&mail));
        let received = store.receive(&log, with_identity(&writer, &[later])).await.expect("receives");
        assert_eq!(received.shown.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [mail.id()], "{label}");
    }
}

#[tokio::test]
async fn what_is_not_canonical_is_joined_and_not_forwarded() {
    let entry = block(&list(&NEGATIVE["cases"]).last().expect("cases")["entry"]);
    let (store, log) = with_vector_log(&NEGATIVE["log_any"]).await;
    let mut all = blocks(&BLOCKS);
    all.insert(0, entry.clone());
    let received = store.receive(&log, all).await.expect("receives");
    let taken = of(&received, entry.cid);
    assert_eq!((taken.joined, taken.forward, &taken.refused), (true, false, &None));
    assert_eq!(store.block(entry.cid).await.expect("reads"), Some(entry.bytes));
    let elsewhere = received.entries.iter().filter(|taken| matches!(taken.refused, Some(Refused::Invalid(_))));
    assert!(elsewhere.count() >= 10, "the others of the set are refused one by one");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// All blocks of the log in any order and in portions of any size, some of them twice.
    #[test]
    fn any_order_gives_the_same_log(
        order in Just((0..blocks(&LOG["entries"]).len()).collect::<Vec<_>>()).prop_shuffle(),
        portion in 1..9_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let (store, log) = with_vector_log(&LOG["address"]).await;
            let entries = blocks(&LOG["entries"]);
            for (at, portion) in order.chunks(portion).enumerate() {
                let mut portion: Vec<Block> = portion.iter().map(|at| entries[*at].clone()).collect();
                if at == 2 {
                    portion.extend(list(&LOG["writers"].as_object().expect("writers").values().cloned().collect::<Json>())
                        .iter().filter_map(|cid| blocks(&BLOCKS).into_iter().find(|block| block.cid == link(cid))));
                }
                store.receive(&log, portion.clone()).await.expect("receives");
                store.receive(&log, portion).await.expect("receives");
            }
            fetch(&store, &log, &blocks(&BLOCKS)).await;
            prop_assert_eq!(traversal(&store, &log).await, links(&LOG["iterator_newest_first"]));
            let last = list(&LOG["heads_after"]).last().expect("heads");
            prop_assert_eq!(heads(&store, &log).await, links(&last["heads"]).into_iter().collect());
            let state = &store.logs().await.expect("reads")[0];
            prop_assert_eq!((state.entries, state.waiting, state.heads), (entries.len() as u64, 0, 1));
            Ok::<_, TestCaseError>(())
        })?;
    }
}
