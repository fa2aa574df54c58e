//! dag-cbor: round trips, leniency, bounds.

use std::collections::BTreeMap;

use proptest::{collection, prelude::*};

use super::*;
use crate::orbitdb::cid_of_digest;

fn map<const N: usize>(members: [(&str, Value); N]) -> Value {
    Ipld::Map(members.map(|(key, value)| (key.to_owned(), value)).into())
}

fn any_text() -> impl Strategy<Value = String> {
    any::<String>().prop_filter("read otherwise", |text| !text.starts_with('\u{feff}') && text != PROTOTYPE)
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Ipld::Null),
        any::<bool>().prop_map(Ipld::Bool),
        any::<u64>().prop_map(|number| Ipld::Integer(number.into())),
        any::<u16>().prop_map(|number| Ipld::Integer(number.into())),
        any::<u64>().prop_map(|number| Ipld::Integer(-1 - i128::from(number))),
        any::<f64>()
            .prop_filter("an integer", |number| number.is_finite() && number.fract() != 0.0)
            .prop_map(Ipld::Float),
        any_text().prop_map(Ipld::String),
        collection::vec(any::<u8>(), 0..300).prop_map(Ipld::Bytes),
        any::<[u8; 32]>().prop_map(|digest| Ipld::Link(cid_of_digest(&digest))),
    ];
    leaf.prop_recursive(4, 64, 30, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..30).prop_map(Ipld::List),
            collection::btree_map(any_text(), inner, 0..30).prop_map(Ipld::Map),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_canonical_and_reads_to_itself(value in any_value()) {
        let bytes = encode(&value).expect("encodes");
        prop_assert_eq!(decode(&bytes).expect("dag-cbor"), value.clone());
        prop_assert!(is_canonical(&bytes));
        prop_assert_eq!(serde_ipld_dagcbor::to_vec(&value).expect("encodes"), bytes);
    }

    #[test]
    fn anything_is_read_or_refused(bytes in collection::vec(any::<u8>(), 0..200)) {
        if let Ok(value) = decode(&bytes) {
            let written = encode(&value).expect("what was read can be written");
            prop_assert_eq!(decode(&written).expect("dag-cbor"), value);
            prop_assert_eq!(is_canonical(&bytes), written == bytes);
        }
    }

    #[test]
    fn a_changed_byte_is_read_or_refused(value in any_value(), at: prop::sample::Index, byte: u8) {
        let mut bytes = encode(&value).expect("encodes");
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(value) = decode(&bytes) {
            prop_assert_eq!(decode(&encode(&value).expect("encodes")).expect("dag-cbor"), value);
        }
    }

    #[test]
    fn values_in_a_row_are_told_apart(values in collection::vec(any_value(), 0..5), cut: prop::sample::Index) {
        let written = values.iter().map(|value| encode(value).expect("encodes")).collect::<Vec<_>>();
        let whole = written.concat();
        let read = items(&whole.clone().into()).collect::<Result<Vec<_>>>().expect("dag-cbor");
        prop_assert_eq!(&read, &written);
        if !whole.is_empty() {
            let read = items(&Bytes::from(whole).slice(..cut.index(written.concat().len()))).collect::<Vec<_>>();
            let good = read.iter().map_while(|item| item.as_ref().ok()).count();
            prop_assert!(read.len() <= good + 1, "nothing comes after an error");
            prop_assert!(read.iter().flatten().zip(&written).all(|(read, written)| read == written));
        }
    }
}

/// Each with what the JavaScript library reads, or that it refuses.
#[test]
fn the_reader_is_as_lenient_as_the_javascript_one() {
    let int = |number| Some(Ipld::Integer(number));
    let text = |text: &str| Some(Ipld::String(text.to_owned()));
    let cases: &[(&[u8], Option<Value>)] = &[
        // In their order, out of it, twice.
        (b"\xa2\x61a\x01\x62bb\x02", Some(map([("a", Ipld::Integer(1)), ("bb", Ipld::Integer(2))]))),
        (b"\xa2\x62bb\x02\x61a\x01", Some(map([("a", Ipld::Integer(1)), ("bb", Ipld::Integer(2))]))),
        (b"\xa2\x61a\x01\x61a\x02", None),
        (b"\xa2\x61\xff\x01\x61\xfe\x02", None),
        (b"\xa1\x60\x01", Some(map([("", Ipld::Integer(1))]))),
        (b"\xa1\x68toString\x01", Some(map([("toString", Ipld::Integer(1))]))),
        (b"\xa1\x01\x01", None),
        (b"\xa1\x41a\x01", None),
        // Null, undefined, simple values.
        (b"\xf6", Some(Ipld::Null)),
        (b"\xf7", Some(Ipld::Null)),
        (b"\xe0", None),
        (b"\xf8\x14", None),
        (b"\xf8\xff", None),
        // Integers in the fewest bytes, up to 64 bits.
        (b"\x17", int(23)),
        (b"\x18\x17", None),
        (b"\x18\x18", int(24)),
        (b"\x19\x00\xff", None),
        (b"\x1a\x00\x00\xff\xff", None),
        (b"\x1b\x00\x00\x00\x00\xff\xff\xff\xff", None),
        (b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff", int(u64::MAX.into())),
        (b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff", int(-1 - i128::from(u64::MAX))),
        (b"\x38\x00", None),
        (b"\x1c", None),
        // Lengths likewise.
        (b"\x58\x01a", None),
        (b"\x78\x01a", None),
        (b"\x98\x01\x01", None),
        (b"\xb8\x01\x61a\x01", None),
        // Indefinite lengths.
        (b"\x5f\x41a\xff", None),
        (b"\x7f\x61a\xff", None),
        (b"\x9f\x01\xff", None),
        (b"\xbf\x61a\x01\xff", None),
        (b"\xff", None),
        // Floats of each width; whole ones are integers.
        (b"\xf9\x3c\x00", int(1)),
        (b"\xf9\x3e\x00", Some(Ipld::Float(1.5))),
        (b"\xf9\x00\x01", Some(Ipld::Float(5.960_464_477_539_063e-8))),
        (b"\xf9\x80\x00", int(0)),
        (b"\xf9\xc0\x00", int(-2)),
        (b"\xf9\x7c\x00", None),
        (b"\xf9\x7e\x00", None),
        (b"\xf9\x7c\x01", None),
        (b"\xfa\x3f\xc0\x00\x00", Some(Ipld::Float(1.5))),
        (b"\xfa\x7f\x80\x00\x00", None),
        (b"\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00", int(1)),
        (b"\xfb\x43\x3f\xff\xff\xff\xff\xff\xff", int(MAX_SAFE.into())),
        (b"\xfb\x43\x40\x00\x00\x00\x00\x00\x00", Some(Ipld::Float(9_007_199_254_740_992.0))),
        (b"\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00", None),
        (b"\xfb\x7f\xf8\x00\x00\x00\x00\x00\x00", None),
        // Text that is not UTF-8, or begins with a mark.
        (b"\x62a\xff", text("a\u{fffd}")),
        (b"\x63\xed\xa0\x80", text("\u{fffd}\u{fffd}\u{fffd}")),
        (b"\x64\xf0\x9f\x98a", text("\u{fffd}a")),
        (b"\x64\xef\xbb\xbfa", text("a")),
        (b"\x67\xef\xbb\xbf\xef\xbb\xbfa", text("\u{feff}a")),
        // Tags, and links that are none.
        (b"\xc0\x61a", None),
        (b"\xd8\x2a\x60", None),
        (b"\xd8\x2a\x40", None),
        (b"\xd8\x2a\x45\x01\x01\x55\x00\x00", None),
        (b"\xd8\x2a\x46\x00\x01\x55\x00\x00\x00", None),
        (b"\xd8\x2a\x44\x00\x01\x55\x00", None),
        // Too short, too long.
        (b"", None),
        (b"\x01\x01", None),
        (b"\x61", None),
        (b"\x81", None),
        (b"\xa1\x61a", None),
        // Only ours.
        (b"\xa1\x69__proto__\x01", None),
    ];
    for (bytes, value) in cases {
        assert_eq!(decode(bytes).ok(), *value, "{bytes:x?}");
    }
    let link = Cid::read_bytes(&b"\x01\x55\x00\x00"[..]).expect("an identity of nothing");
    assert_eq!(decode(b"\xd8\x2a\x45\x00\x01\x55\x00\x00").ok(), Some(Ipld::Link(link)));
}

#[test]
fn what_is_read_is_bounded() {
    let nested = |byte: &[u8], depth| [byte.repeat(depth), vec![0x01]].concat();
    for byte in [&b"\x81"[..], b"\xa1\x60"] {
        assert!(decode(&nested(byte, MAX_DEPTH)).is_ok());
        assert!(decode(&nested(byte, MAX_DEPTH + 1)).is_err());
        assert!(decode(&nested(byte, 1_000_000)).is_err());
    }
    for long in [
        &b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..],
        b"\xbb\x00\x1f\xff\xff\xff\xff\xff\xff",
        b"\x5a\xff\xff\xff\xff",
    ] {
        assert!(decode(long).is_err());
    }
    let mut many = [&[0x9a][..], &(MAX_VALUES as u32).to_be_bytes(), &[0x01; MAX_VALUES]].concat();
    assert!(decode(&many).is_err());
    // One value less, and so a length of two bytes, for the list is one itself.
    many.truncate(MAX_VALUES + 4);
    many.splice(..5, [0x99, 0xff, 0xff]);
    assert_eq!(decode(&many).expect("within the bound"), Ipld::List(vec![Ipld::Integer(1); MAX_VALUES - 1]));
    assert!(is_canonical(&many));
}

#[test]
fn what_cannot_be_written_is_refused() {
    let deep = (0..=MAX_DEPTH).fold(Ipld::Null, |value, _| Ipld::Map(BTreeMap::from([(String::new(), value)])));
    let numbers =
        [Ipld::Float(f64::NAN), Ipld::Float(f64::NEG_INFINITY), Ipld::Integer(1 << 64), Ipld::Integer(-(1 << 64) - 1)];
    for value in numbers.into_iter().chain([deep]) {
        assert_eq!(encode(&value).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(encode(&Ipld::Float(-0.0)).expect("encodes"), [0], "a whole number, as JavaScript has it");
}
