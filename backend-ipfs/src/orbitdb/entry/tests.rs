//! Entries that are odd, and what the library makes of them.

use std::cmp::Ordering;

use super::*;
use crate::orbitdb::{address::define, verdict::self_valid};

fn log() -> LogAddress {
    define("log", &["*"]).address
}

fn writer() -> Writer {
    Writer::generate().expect("randomness")
}

/// The members of an entry whose value is `1`.
fn members(writer: &Writer) -> BTreeMap<String, Value> {
    let entry = Entry::sign(writer, &log(), &[], &[], 1, Value::Integer(1)).expect("signs");
    match cbor::decode(&entry.bytes) {
        Ok(Value::Map(members)) => members,
        _ => unreachable!("an entry"),
    }
}

fn read(members: BTreeMap<String, Value>) -> Result<Entry> {
    Entry::decode(cbor::encode(&Value::Map(members)).expect("encodes").into())
}

/// The entry with this member changed, and signed again.
fn changed(writer: &Writer, name: &str, value: Value) -> Result<Entry> {
    let mut members = members(writer);
    members.insert(name.to_owned(), value);
    let digest = signed_digest(|name| members.get(name))?;
    members.insert("sig".to_owned(), Value::String(writer.sign(&digest)));
    read(members)
}

fn is_valid(entry: &Entry, writer: &Writer) -> bool {
    self_valid(entry, &log(), &["*".to_owned()], &writer.identity().bytes).is_ok()
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

#[test]
fn odd_clocks_are_valid_and_sort_as_zero() {
    let writer = writer();
    for (time, sorted) in [
        (Value::Integer(0), 0),
        (Value::Integer(7), 7),
        (Value::Integer(1 << 53), 1 << 53),
        (Value::Float(9_007_199_254_740_992.0), 1 << 53),
        (Value::Integer((1 << 53) + 1), 0),
        (Value::Integer(u64::MAX.into()), 0),
        (Value::Integer(-5), 0),
        (Value::Float(1.5), 0),
        (Value::Float(1e300), 0),
        (text("7"), 0),
        (Value::Null, 0),
    ] {
        let clock = named([("id", text("zzzz")), ("time", time.clone())]);
        let entry = changed(&writer, "clock", Value::Map(clock)).expect("an entry");
        assert!(entry.canonical && is_valid(&entry, &writer), "{time:?}");
        assert_eq!((entry.sort_time(), &*entry.clock.id), (sorted, "zzzz"), "{time:?}");
    }
    for clock in [Value::Null, text("clock"), Value::List(vec![]), Value::Map(BTreeMap::new())] {
        let entry = changed(&writer, "clock", clock).expect("an entry");
        assert!(is_valid(&entry, &writer));
        assert_eq!(entry.clock, Clock { id: String::new(), time: Time::Odd });
    }
}

#[test]
fn the_order_is_time_then_clock_then_cid() {
    let entry = |time, id: &str| {
        let clock = named([("id", text(id)), ("time", Value::Integer(time))]);
        changed(&writer(), "clock", Value::Map(clock)).expect("an entry")
    };
    assert_eq!(entry(2, "a").order(&entry(10, "a")), Ordering::Less);
    assert_eq!(entry(2, "b").order(&entry(2, "a")), Ordering::Greater);
    let (one, other) = (entry(2, "a"), entry(2, "a"));
    assert_eq!(one.order(&other), one.cid.cmp(&other.cid));
    assert_eq!(one.order(&one), Ordering::Equal);
}

#[test]
fn what_the_library_can_not_follow_is_no_link() {
    let writer = writer();
    let cid = writer.identity().cid;
    let raw = Cid::new_v1(crate::orbitdb::RAW, *cid.hash());
    for name in ["next", "refs"] {
        for (links, read) in [
            (Value::List(vec![text(&link::to_text(&cid))]), Some(vec![cid])),
            (Value::List(vec![]), Some(vec![])),
            (text(""), Some(vec![])),
            (Value::Bytes(vec![]), Some(vec![])),
            (text(&link::to_text(&cid)), None),
            (Value::Bytes(vec![0]), None),
            (Value::Null, None),
            (Value::Integer(0), None),
            (Value::Map(BTreeMap::new()), None),
            (Value::List(vec![Value::Link(cid)]), None),
            (Value::List(vec![Value::List(vec![text(&link::to_text(&cid))])]), None),
            (Value::List(vec![text(&link::to_text(&raw))]), None),
            (Value::List(vec![text(&cid.to_string())]), None),
        ] {
            let entry = changed(&writer, name, links.clone());
            let found = entry.as_ref().ok().map(|entry| if name == "next" { &entry.next } else { &entry.refs });
            assert_eq!(found, read.as_ref(), "{name} {links:?}");
            assert!(entry.is_err() || is_valid(&entry.expect("an entry"), &writer));
        }
    }
}

#[test]
fn what_the_library_checks_has_to_be_there_and_be_text() {
    let writer = writer();
    for name in ["v", "id", "key", "sig", "next", "refs", "clock", "payload", "identity"] {
        let mut members = members(&writer);
        members.remove(name);
        assert!(read(members.clone()).is_err(), "{name}");
        members.insert(name.to_owned(), Value::Null);
        let may_be_null = ["v", "clock", "payload"].contains(&name);
        assert_eq!(read(members).is_ok(), may_be_null, "{name}");
    }
    for value in [Value::Null, text("two"), Value::List(vec![])] {
        assert!(is_valid(&changed(&writer, "v", value).expect("an entry"), &writer));
    }
    assert!(Entry::decode(Bytes::from_static(b"\x80")).is_err());
}

#[test]
fn what_is_not_signed_is_kept_but_not_handed_on_where_the_library_would_lose_the_block() {
    let writer = writer();
    for (name, canonical) in [("more", true), ("hash", false), ("_payload", false)] {
        let mut members = members(&writer);
        members.insert(name.to_owned(), Value::Null);
        let entry = read(members).expect("an entry");
        assert!(is_valid(&entry, &writer), "{name}");
        assert_eq!(entry.canonical, canonical, "{name}");
    }
    // Signed is what stands in the member that the library has for encrypted payloads.
    let mut members = members(&writer);
    let signed = members.insert("payload".to_owned(), Value::Integer(2)).expect("was there");
    members.insert("_payload".to_owned(), signed);
    let entry = read(members.clone()).expect("an entry");
    assert!(is_valid(&entry, &writer));
    assert_eq!(entry.payload, Value::Integer(2));
    for untrue in [Value::Null, Value::Bool(false), Value::Integer(0), text("")] {
        members.insert("_payload".to_owned(), untrue);
        assert!(!is_valid(&read(members.clone()).expect("an entry"), &writer));
    }
}

#[test]
fn what_is_written_is_what_is_read() {
    let (writer, log) = (writer(), log());
    let links: Vec<Cid> = (0..5).map(|n| super::cid_of(&[n])).collect();
    let entry = Entry::sign(&writer, &log, &links[..2], &links[2..], 9, text("a text")).expect("signs");
    let read = Entry::decode(entry.bytes.clone()).expect("reads");
    assert_eq!(format!("{read:?}"), format!("{entry:?}"));
}

#[test]
fn what_is_written_is_as_deep_and_as_much_as_can_be_read_and_no_more() {
    let (writer, log) = (writer(), log());
    let link = super::cid_of(&[]);
    let fits = |value| {
        let signed = Entry::sign(&writer, &log, &[link], &[link], 1, value);
        signed.map(|entry| Entry::decode(entry.bytes).expect("what was written can be read")).is_ok()
    };
    let deep = |levels| (1..levels).fold(Value::Null, |value, _| Value::List(vec![value]));
    let deepest = (1..100).rev().find(|levels| fits(deep(*levels))).expect("some");
    assert_eq!(deepest, 63, "at the greatest depth, 64, from 2 on");
    let many = |count| Value::List(vec![Value::Null; count]);
    let most = (65_000..65_536).rev().find(|count| fits(many(*count))).expect("some");
    // The entry has 11 others and two links; the payload is a map with three members, of which this is one.
    assert_eq!(most, 65_536 - 11 - 2 - 4);
}

#[test]
fn nothing_is_written_that_is_read_otherwise() {
    let (writer, log) = (writer(), log());
    let sign = |value| Entry::sign(&writer, &log, &[], &[], 1, value);
    let deep = (0..100).fold(Value::Null, |value, _| Value::List(vec![value]));
    for value in [
        text("\u{feff}text"),
        Value::Map(named([("\u{feff}", Value::Null)])),
        Value::Map(named([("__proto__", Value::Null)])),
        Value::Float(f64::NAN),
        Value::Integer(i128::MAX),
        Value::List(vec![Value::Null; 70_000]),
        deep,
    ] {
        assert_eq!(sign(value).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(sign(text("text\u{feff}")).expect("signs").value(), Some(&text("text\u{feff}")));
    assert_eq!(sign(Value::Float(2.0)).expect("signs").value(), Some(&Value::Integer(2)), "a number is a number");
    let late = Entry::sign(&writer, &log, &[], &[], u64::MAX, Value::Null).expect("signs");
    assert_eq!(late.sort_time(), MAX_TIME);
}
