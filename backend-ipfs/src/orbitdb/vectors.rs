//! Every block and verdict of the golden vectors, which the JavaScript library made.

use std::{collections::HashMap, sync::LazyLock};

use bytes::Bytes;
use secp256k1::SecretKey;
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::{
    Block, Cid, Entry, Identity, LogAddress, MAX_TIME, Value, Why, Writer,
    address::{define, read_definition},
    cbor, link,
    verdict::self_valid,
};

static BLOCKS: LazyLock<Json> = LazyLock::new(|| read(include_str!("../../tests/vectors/orbitdb/blocks.json")));
static IDENTITIES: LazyLock<Json> = LazyLock::new(|| read(include_str!("../../tests/vectors/orbitdb/identities.json")));
static MANIFESTS: LazyLock<Json> = LazyLock::new(|| read(include_str!("../../tests/vectors/orbitdb/manifests.json")));
static LOG: LazyLock<Json> = LazyLock::new(|| read(include_str!("../../tests/vectors/orbitdb/log.json")));
static TIE: LazyLock<Json> = LazyLock::new(|| read(include_str!("../../tests/vectors/orbitdb/tie.json")));
static MULTI: LazyLock<Json> = LazyLock::new(|| read(include_str!("../../tests/vectors/orbitdb/multi-heads.json")));
static NEGATIVE: LazyLock<Json> = LazyLock::new(|| read(include_str!("../../tests/vectors/orbitdb/negative.json")));
static WIRE: LazyLock<Json> = LazyLock::new(|| read(include_str!("../../tests/vectors/orbitdb/sync-wire.json")));

fn read(text: &str) -> Json {
    serde_json::from_str(text).expect("JSON")
}

fn text(json: &Json) -> &str {
    json.as_str().expect("text")
}

fn list(json: &Json) -> &[Json] {
    json.as_array().expect("a list")
}

fn unhex(digits: &str) -> Vec<u8> {
    let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("two digits");
    (0..digits.len()).step_by(2).map(pair).collect()
}

/// Bytes and CID of a block in a vector, which have to belong together.
fn block(json: &Json) -> Block {
    let bytes = Bytes::from(unhex(text(&json["bytes_hex"])));
    let cid = link::parse(text(&json["cid"])).expect("a link");
    assert_eq!(Cid::try_from(text(&json["cid_base32"])).expect("a CID"), cid);
    assert_eq!(link::to_text(&cid), text(&json["cid"]));
    assert_eq!(Block::of(bytes.clone()).cid, cid);
    Block::checked(cid, bytes).expect("the CID of these bytes")
}

fn entry(json: &Json) -> Entry {
    let Block { cid, bytes } = block(json);
    let entry = Entry::decode(bytes).expect("an entry");
    assert_eq!(entry.cid, cid);
    entry
}

/// A value as the vectors write it in JSON.
fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Value::Integer(number.into()),
            None => Value::Float(number.as_f64().expect("a number")),
        },
        Json::String(text) => Value::String(text.clone()),
        Json::Array(list) => Value::List(list.iter().map(value).collect()),
        Json::Object(map) => match map.get("/bytes_hex") {
            Some(digits) => Value::Bytes(unhex(text(digits))),
            None => Value::Map(map.iter().map(|(key, json)| (key.clone(), value(json))).collect()),
        },
    }
}

fn key(json: &Json) -> SecretKey {
    SecretKey::from_slice(&unhex(text(json))).expect("a key")
}

/// The writers of the vectors, by the key that signs.
fn writers() -> HashMap<String, Writer> {
    let writer = |json: &Json| {
        let writer = Writer::of(&key(&json["root_private_key_hex"]), key(&json["signing_private_key_hex"]));
        (writer.public_key().to_owned(), writer)
    };
    list(&IDENTITIES["identities"]).iter().map(writer).collect()
}

/// All blocks of the vectors, by CID.
fn blocks() -> HashMap<Cid, Bytes> {
    list(&BLOCKS).iter().map(block).map(|block| (block.cid, block.bytes)).collect()
}

fn access(address: &LogAddress) -> Vec<String> {
    let cases = MANIFESTS["cases"].as_object().expect("cases");
    let case = cases.values().find(|case| case["address"] == address.as_str()).expect("a log of the vectors");
    read_definition(block(&case["manifest"]).bytes, block(&case["access_controller"]).bytes).expect("reads").write
}

fn address(json: &Json) -> LogAddress {
    text(json).parse().expect("an address")
}

#[test]
fn every_block_reads_to_its_value_and_is_written_to_its_bytes() {
    assert_eq!(list(&BLOCKS).len(), 74);
    for json in list(&BLOCKS) {
        let Block { cid, bytes } = block(json);
        let read = cbor::decode(&bytes).expect("dag-cbor");
        assert_eq!(read, value(&json["decoded_json"]), "{cid}");
        let written = cbor::encode(&read).expect("encodes");
        // All but the one that is in the set for that.
        let last = list(&NEGATIVE["cases"]).last().expect("cases");
        assert_eq!(written == bytes, json["cid"] != last["entry"]["cid"], "{cid}");
        assert_eq!(serde_ipld_dagcbor::to_vec(&read).expect("encodes"), written, "{cid}");
    }
}

#[test]
fn identities_are_made_and_verified_byte_by_byte() {
    for json in list(&IDENTITIES["identities"]) {
        let golden = block(&json["block"]);
        let writer = Writer::of(&key(&json["root_private_key_hex"]), key(&json["signing_private_key_hex"]));
        assert_eq!(*writer.identity(), golden, "{}", json["keystore_id"]);
        let identity = Identity::decode(&golden.bytes).expect("an identity");
        assert_eq!((identity.cid, identity.verify()), (golden.cid, Ok(())));
        assert_eq!(identity.id, text(&json["root_public_key_hex"]));
        assert_eq!(identity.public_key, text(&json["signing_public_key_hex"]));
    }
}

#[test]
fn logs_are_defined_byte_by_byte() {
    let cases = MANIFESTS["cases"].as_object().expect("cases");
    assert_eq!(cases.len(), 4);
    for (case, json) in cases {
        let (manifest, access) = (block(&json["manifest"]), block(&json["access_controller"]));
        let write = list(&json["access_controller"]["decoded_json"]["write"]).iter().map(text).collect::<Vec<_>>();
        let read = read_definition(manifest.bytes.clone(), access.bytes.clone()).expect("a definition");
        assert_eq!(read.address, address(&json["address"]), "{case}");
        assert_eq!(read.address.manifest(), manifest.cid);
        assert_eq!(read.address.heads_protocol(), text(&json["heads_protocol"]));
        assert_eq!(
            (&*read.name, &read.write),
            (text(&json["name"]), &write.iter().map(|id| (*id).to_owned()).collect())
        );
        if case != "with_meta" {
            assert_eq!(define(text(&json["name"]), &write), read, "{case}");
        }
        let other = cases.values().find(|other| other["access_controller"] != json["access_controller"]);
        let other = block(&other.expect("another")["access_controller"]);
        assert!(read_definition(manifest.bytes, other.bytes).is_err());
        assert!(read_definition(access.bytes.clone(), access.bytes).is_err());
    }
}

#[test]
fn entries_are_read_verified_and_signed_again_byte_by_byte() {
    let (blocks, writers) = (blocks(), writers());
    let vectors = [&LOG["entries"], &TIE["entries"], &MULTI["entries"]].map(list).concat();
    assert_eq!(vectors.len(), 31 + 2 + 3);
    for json in &vectors {
        let entry = entry(json);
        let log = address(&json["decoded_json"]["id"]);
        assert_eq!(entry.log, log.as_str());
        assert_eq!(entry.sig, text(&json["sig_hex"]));
        assert!(entry.canonical);
        assert_eq!(self_valid(&entry, &log, &access(&log), &blocks[&entry.identity]), Ok(()), "{}", json["label"]);

        let (writer, value) = (&writers[&entry.key], entry.value().expect("by custom").clone());
        let again = Entry::sign(writer, &log, &entry.next, &entry.refs, entry.sort_time(), value);
        let again = again.expect("signs");
        assert_eq!(again.bytes, entry.bytes, "{}", json["label"]);
        let fields = |entry: &Entry| {
            let Entry { cid, next, refs, clock, payload, identity, canonical, .. } = entry.clone();
            (cid, next, refs, clock, payload, identity, canonical)
        };
        assert_eq!(fields(&again), fields(&entry));
        assert_eq!(self_valid(&again, &log, &access(&log), &blocks[&entry.identity]), Ok(()));
    }
}

/// The CIDs of the entries, the greatest first.
fn newest_first(json: &Json) -> Vec<String> {
    let mut entries = list(json).iter().map(entry).collect::<Vec<_>>();
    entries.sort_by(|one, other| other.order(one));
    entries.iter().map(|entry| link::to_text(&entry.cid)).collect()
}

fn cids(json: &Json) -> Vec<&str> {
    list(json).iter().map(text).collect()
}

#[test]
fn entries_are_ordered_as_the_library_orders_them() {
    assert_eq!(newest_first(&LOG["entries"]), cids(&LOG["iterator_newest_first"]));
    let oldest_first = |json| newest_first(json).into_iter().rev().collect::<Vec<_>>();
    assert_eq!(oldest_first(&LOG["entries"]), cids(&LOG["values_oldest_first_A"]));
    assert_eq!(oldest_first(&MULTI["entries"]), cids(&MULTI["oldest_first"]));

    // Where it has no order, ours is that of the CIDs, whoever got what first.
    let tied = newest_first(&TIE["entries"]);
    assert!([&TIE["order_in_log1"], &TIE["order_in_log2"]].map(cids).iter().any(|order| *order == tied));
    let entries = list(&TIE["entries"]).iter().map(entry).collect::<Vec<_>>();
    assert_eq!(entries[0].order(&entries[1]), entries[0].cid.cmp(&entries[1].cid));
    assert_ne!(cids(&TIE["order_in_log1"]), cids(&TIE["order_in_log2"]), "there, two logs disagree");
}

#[test]
fn each_entry_gets_the_verdict_of_the_library() {
    let blocks = blocks();
    // What is wrong with these is what stands before them.
    let by_ancestors = [
        "next points at an unavailable block",
        "refs points at an unavailable block",
        "valid head over a badly signed ancestor",
    ];
    let mut refused = Vec::new();
    for json in list(&NEGATIVE["cases"]) {
        let (label, entry) = (text(&json["label"]), entry(&json["entry"]));
        let log = match label {
            "other log id, validly signed" => address(&NEGATIVE["log_any"]),
            _ => entry.log.parse().expect("an address"),
        };
        let accepted = json["verdict"] == "ACCEPTED" || by_ancestors.contains(&label);
        let verdict = match blocks.get(&entry.identity) {
            Some(identity) => self_valid(&entry, &log, &access(&log), identity),
            // Of the block that is nowhere.
            None => Err(Why::Identity),
        };
        assert_eq!(verdict.is_ok(), accepted, "{label}: {verdict:?}");
        assert_eq!(entry.canonical, label != "non-canonical map key order", "{label}");
        refused.extend(verdict.err().map(|why| (label, why)));
    }
    assert_eq!(
        refused,
        [
            ("bad signature (bit flip)", Why::Signature),
            ("payload changed, old signature", Why::Signature),
            ("clock changed, old signature", Why::Signature),
            ("other log id, validly signed", Why::OtherLog),
            ("key=A but signed by B", Why::Signature),
            ("non-permitted writer: AC write [A]; entry by B", Why::NotPermitted),
            ("identity points at a block that is no identity", Why::Identity),
            ("identity block missing", Why::Identity),
            ("identity with wrong signatures.id", Why::Identity),
            ("identity with wrong signatures.publicKey", Why::Identity),
            ("identity of unknown type", Why::Identity),
            ("high-S signature", Why::Signature),
            ("upper-case hex signature", Why::Signature),
        ]
    );
}

#[test]
fn a_clock_that_was_set_to_the_end_is_read_and_stays_there() {
    let cases = list(&NEGATIVE["cases"]);
    let last = cases.iter().find(|case| text(&case["label"]).starts_with("clock.time = 2^53-1")).expect("the case");
    assert_eq!(entry(&last["entry"]).sort_time(), MAX_TIME);
}

#[test]
fn the_signed_bytes_are_those_of_the_library() {
    for json in list(&LOG["entries"]).iter().chain(list(&NEGATIVE["cases"]).iter().map(|case| &case["entry"])) {
        let signed = unhex(text(&json["signed_bytes_hex"]));
        let digest: [u8; 32] = Sha256::digest(&signed).into();
        assert_eq!(digest.to_vec(), unhex(text(&json["signed_sha256_hex"])));
        assert_eq!(entry(json).digest, digest, "{}", json["label"]);
        assert!(cbor::is_canonical(&signed));
    }
}

#[test]
fn what_was_recorded_of_an_exchange_are_entries_one_after_another() {
    let mut stream = Vec::new();
    let heads = list(&WIRE["trace"]).iter().filter_map(|event| event["bytes_hex"].as_str()).map(unhex);
    let heads = heads.map(Bytes::from).collect::<Vec<_>>();
    for head in &heads {
        assert!(Entry::decode(head.clone()).expect("an entry").canonical);
        stream.extend_from_slice(head);
    }
    assert_eq!(heads.len(), 3, "two as heads, one by gossip");
    let items = cbor::items(&stream.into()).collect::<Result<Vec<_>, _>>().expect("entries");
    assert_eq!(items, heads);
}
