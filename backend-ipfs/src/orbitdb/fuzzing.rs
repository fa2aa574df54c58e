//! The decoders of OrbitDB, fed with any bytes.

use bytes::Bytes;
use serde_json::Value as Json;
use talkbox_core::{MailboxId, Result};

use super::{
    Block, Cid, Entry, Identity, LogAddress, MAX_TIME, Month, Value, Writer, address, cbor as codec, cid_of, define,
    link as links, read_definition, self_valid, shown, value_of,
};

/// One value of dag-cbor.
pub fn cbor(bytes: &[u8]) -> bool {
    let Ok(value) = codec::decode(bytes) else {
        assert!(!codec::is_canonical(bytes), "what cannot be read is not canonical");
        return false;
    };
    let written = codec::encode(&value).expect("what was read can be written");
    assert_eq!(codec::decode(&written).expect("what was written can be read"), value);
    assert_eq!(codec::is_canonical(bytes), written == bytes);
    assert!(codec::is_canonical(&written));
    true
}

/// Values of dag-cbor that follow each other.
pub fn items(bytes: &[u8]) -> bool {
    let read: Vec<Result<Bytes>> = codec::items(&Bytes::copy_from_slice(bytes)).collect();
    let good: Vec<&Bytes> = read.iter().map_while(|item| item.as_ref().ok()).collect();
    assert!(read.len() <= good.len() + 1, "nothing comes after an error");
    assert!(good.iter().all(|item| !item.is_empty() && codec::decode(item).is_ok()));
    let whole = good.iter().flat_map(|item| item.iter().copied()).collect::<Vec<_>>();
    assert!(bytes.starts_with(&whole), "they are what stood there");
    assert_eq!(whole == bytes, read.len() == good.len(), "all is read, or an error told");
    read.len() == good.len()
}

/// An entry of a log, and what is thought of it.
pub fn entry(bytes: &[u8]) -> bool {
    let Ok(entry) = Entry::decode(Bytes::copy_from_slice(bytes)) else { return false };
    assert_eq!((entry.cid, &entry.bytes[..]), (cid_of(bytes), bytes));
    assert!(!entry.canonical || codec::is_canonical(bytes));
    assert!(entry.sort_time() <= MAX_TIME + 1);
    assert!((entry.next.len() + entry.refs.len()) * links::to_text(&entry.cid).len() <= bytes.len());
    for cid in entry.next.iter().chain(&entry.refs).chain([&entry.identity]) {
        assert_eq!(links::parse(&links::to_text(cid)), Some(*cid));
    }
    assert!(entry.order(&entry).is_eq());
    // Of no log here, and signed by nobody known; but the signature is looked at.
    let _ = entry.is_signed();
    if let Some(envelope) = shown(&entry, mailbox()) {
        assert_eq!(envelope.mailbox(), mailbox());
        let again =
            Entry::sign(&writer(), &log(), &[], &[], 1, value_of(&envelope)).expect("an envelope can be written");
        assert_eq!(shown(&again, mailbox()), Some(envelope));
    }
    true
}

/// The identity of a writer.
pub fn identity(bytes: &[u8]) -> bool {
    let Ok(identity) = Identity::decode(bytes) else { return false };
    assert_eq!(identity.cid, cid_of(bytes));
    let seed = Entry::sign(&writer(), &log(), &[], &[], 1, Value::Null).expect("signs");
    let own = writer().identity().bytes == bytes;
    assert_eq!(self_valid(&seed, &log(), &["*".to_owned()], bytes).is_ok(), own, "an identity of another writer");
    identity.verify().is_ok()
}

/// The two blocks that define a log: the length of the first in two bytes, then both.
pub fn definition(bytes: &[u8]) -> bool {
    let Some((length, blocks)) = bytes.split_first_chunk() else { return false };
    let Some((manifest, access)) = blocks.split_at_checked(u16::from_be_bytes(*length).into()) else { return false };
    let (manifest, access) = (Bytes::copy_from_slice(manifest), Bytes::copy_from_slice(access));
    let Ok(definition) = read_definition(manifest.clone(), access.clone()) else { return false };
    assert_eq!((definition.manifest, definition.access), (Block::of(manifest.clone()), Block::of(access)));
    assert_eq!(definition.address, LogAddress::of(&cid_of(&manifest)));
    assert!(definition.write.iter().all(|id| address::may_write(&definition.write, id)));
    let write: Vec<&str> = definition.write.iter().map(String::as_str).collect();
    let again = define(&definition.name, &write);
    let read = read_definition(again.manifest.bytes, again.access.bytes).expect("what was defined can be read");
    assert_eq!((read.name, read.write), (definition.name, definition.write));
    true
}

/// A link.
pub fn link(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let Some(cid) = links::parse(text) else { return false };
    assert_eq!((links::to_text(&cid).as_str(), Cid::try_from(text).expect("a CID")), (text, cid));
    true
}

/// The address of a log.
pub fn address(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let Ok(address) = text.parse::<LogAddress>() else {
        assert_eq!(LogAddress::of_heads_protocol(&format!("/orbitdb/heads{text}")), None);
        return false;
    };
    assert_eq!((address.as_str(), &LogAddress::of(&address.manifest())), (text, &address));
    assert_eq!(LogAddress::of_heads_protocol(&address.heads_protocol()), Some(address));
    true
}

/// A month.
pub fn month(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let Ok(month) = text.parse::<Month>() else { return false };
    assert_eq!(month.to_string(), text);
    assert!(month.start() < month.end());
    true
}

/// All blocks that the JavaScript library made.
pub(crate) fn blocks() -> Vec<Vec<u8>> {
    let blocks: Json = serde_json::from_str(include_str!("../../tests/vectors/orbitdb/blocks.json")).expect("JSON");
    let digits = blocks.as_array().into_iter().flatten().filter_map(|block| block["bytes_hex"].as_str());
    digits.map(unhex).collect()
}

pub(crate) fn rows() -> Vec<Vec<u8>> {
    blocks().chunks(3).map(<[Vec<u8>]>::concat).collect()
}

pub(crate) fn entries() -> Vec<Vec<u8>> {
    let mail = Entry::sign(&writer(), &log(), &[], &[], 7, value_of(&envelope())).expect("signs");
    let read = |bytes: &Vec<u8>| Entry::decode(bytes.clone().into()).is_ok();
    blocks().into_iter().filter(read).chain([mail.bytes.to_vec()]).collect()
}

pub(crate) fn identities() -> Vec<Vec<u8>> {
    let valid = |bytes: &Vec<u8>| Identity::decode(bytes).is_ok_and(|identity| identity.verify().is_ok());
    blocks().into_iter().filter(valid).chain([writer().identity().bytes.to_vec()]).collect()
}

pub(crate) fn definitions() -> Vec<Vec<u8>> {
    let written = |definition: address::Definition| {
        let (manifest, access) = (definition.manifest.bytes, definition.access.bytes);
        let length = u16::try_from(manifest.len()).expect("short").to_be_bytes();
        [&length, &manifest[..], &access].concat()
    };
    [define("log", &["*"]), define("", &[]), define("talkbox/1/é", &["a", "b", "*"])].map(written).into()
}

pub(crate) fn links() -> Vec<Vec<u8>> {
    blocks().iter().take(4).map(|block| links::to_text(&cid_of(block)).into()).collect()
}

pub(crate) fn addresses() -> Vec<Vec<u8>> {
    blocks().iter().take(4).map(|block| LogAddress::of(&cid_of(block)).as_str().into()).collect()
}

pub(crate) fn months() -> Vec<Vec<u8>> {
    ["1970-01", "2026-11", "2024-02", "9999-12"].map(|text| text.as_bytes().to_vec()).into()
}

/// The mailbox of the mail in the seeds.
fn mailbox() -> MailboxId {
    MailboxId::from_bytes([0x22; 32])
}

fn log() -> LogAddress {
    define("log", &["*"]).address
}

fn writer() -> Writer {
    let key = secp256k1::SecretKey::from_slice(&[7; 32]).expect("a key");
    Writer::of(&key, key)
}

fn envelope() -> talkbox_core::Envelope {
    let key = talkbox_core::SecretKey::from_bytes(&[9; 32]).expect("a key");
    let tags = [["p".to_owned(), mailbox().to_hex()], ["expiration".to_owned(), "1900000000".to_owned()]];
    let (time, tags) = (talkbox_core::Timestamp(1_700_000_000), tags.map(Vec::from).into());
    let event = talkbox_core::event::Event::sign(&key, time, 1059, tags, "AgEC \" é".to_owned());
    talkbox_core::Envelope::parse(&event.to_json()).expect("valid")
}

fn unhex(digits: &str) -> Vec<u8> {
    digits.as_bytes().chunks(2).filter_map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect()
}
