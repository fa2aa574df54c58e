//! Entries of a log.

use std::collections::BTreeMap;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use talkbox_core::{Error, ErrorKind, Result};

use super::{Cid, LogAddress, Value, Writer, cbor, cid_of, link, signature};

/// The version that is written. It is not looked at.
const VERSION: i128 = 2;
/// The latest time that is written, and where a clock that somebody has set so far stays: beyond, JavaScript counts no
/// further, and writes another type.
pub(crate) const MAX_TIME: u64 = cbor::MAX_SAFE;
/// The members that are signed, in the order of their bytes.
const SIGNED: [&str; 6] = ["v", "id", "next", "refs", "clock", "payload"];
/// How deep the payload of an entry is.
const PAYLOAD_DEPTH: usize = 1;
/// How many values an entry has beside its payload and its links: itself, `v`, `id`, `key`, `sig`, `identity`, the two lists
/// of links, and a clock with two members.
const OTHER_VALUES: usize = 11;
/// Members that no writer writes, and that the library leaves out when it stores an entry that came as a head: it
/// then looks for ever for the block that it was named by.
const LEFT_OUT: [&str; 2] = ["_payload", "hash"];

/// The logical clock of an entry, as found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Clock {
    /// By custom the key of the writer; empty where it is no text.
    pub(crate) id: String,
    /// By custom one more than the greatest time of the heads before.
    pub(crate) time: Time,
}

/// The time of a clock. Nobody checks that it is a number, so it may be anything.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Time {
    /// What it should be, though it may be negative or past [`MAX_TIME`].
    Integer(i128),
    /// Broken, or past what JavaScript counts exactly.
    Float(f64),
    /// No number at all.
    Odd,
}

/// An entry, read but not believed: what to think of it is in [`verdict`](super::verdict).
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The hash of the bytes as received.
    pub(crate) cid: Cid,
    /// The bytes as received.
    pub(crate) bytes: Bytes,
    /// The address of the log that it is for.
    pub(crate) log: String,
    /// The key that it is signed with, in digits.
    pub(crate) key: String,
    /// The signature, in digits.
    pub(crate) sig: String,
    /// The heads that it was written on.
    pub(crate) next: Vec<Cid>,
    /// Some entries further back, so that the log can be fetched in fewer rounds.
    pub(crate) refs: Vec<Cid>,
    /// Its place in time.
    pub(crate) clock: Clock,
    /// By custom `{op, key, value}`.
    pub(crate) payload: Value,
    /// The block of the identity of the writer.
    pub(crate) identity: Cid,
    /// Whether a JavaScript peer stores it as the bytes that it came as. It never gets over a head where that is
    /// otherwise, so those are not to be handed on.
    pub(crate) canonical: bool,
    /// The SHA-256 of what is signed.
    pub(super) digest: [u8; 32],
}

impl Entry {
    /// Reads an entry as the library does: any version, clock and payload, further members, keys in any order.
    ///
    /// Id, key, signature and identity have to be text, and the identity a link of dag-cbor. The library turns a list of
    /// one text into text, and takes other CIDs, which no writer writes.
    ///
    /// # Errors
    /// `InvalidEnvelope`.
    pub(crate) fn decode(bytes: Bytes) -> Result<Self> {
        let value = cbor::decode(&bytes)?;
        let is_stored_so = cbor::encode(&value).is_ok_and(|written| written == bytes);
        let Value::Map(mut members) = value else {
            return Err(malformed("not an entry"));
        };
        let digest = signed_digest(|name| match members.get("_payload") {
            // Where payloads are encrypted, the library keeps what is signed in this member, in memory. It also believes
            // one that it has received.
            Some(signed) if name == "payload" && is_true(signed) => Some(signed),
            _ => members.get(name),
        })?;
        let canonical = is_stored_so && !LEFT_OUT.iter().any(|name| members.contains_key(*name));
        let mut text = |name| match members.remove(name) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(malformed("a member that should be text")),
        };
        let (log, key, sig, identity) = (text("id")?, text("key")?, text("sig")?, text("identity")?);
        Ok(Self {
            cid: cid_of(&bytes),
            bytes,
            log,
            key,
            sig,
            next: links(members.get("next"))?,
            refs: links(members.get("refs"))?,
            clock: Clock::of(members.get("clock")),
            payload: members.remove("payload").ok_or_else(|| malformed("no payload"))?,
            identity: link::parse(&identity).ok_or_else(|| malformed("no link to an identity"))?,
            canonical,
            digest,
        })
    }

    /// Writes an entry that says that this value has been added to the log.
    ///
    /// # Errors
    /// `InvalidInput` for a value that JavaScript peers would read as another than it is, such as text that begins with
    /// a byte order mark, or not at all: they would refuse the entry, and with it all that are written on it.
    pub(crate) fn sign(
        writer: &Writer,
        log: &LogAddress,
        next: &[Cid],
        refs: &[Cid],
        time: u64,
        value: Value,
    ) -> Result<Self> {
        let text = |text: &str| Value::String(text.to_owned());
        let texts = |links: &[Cid]| Value::List(links.iter().map(|cid| text(&link::to_text(cid))).collect());
        let clock = Clock { id: writer.public_key().to_owned(), time: Time::Integer(time.min(MAX_TIME).into()) };
        let payload = Value::Map(named([("op", text("ADD")), ("key", Value::Null), ("value", value)]));
        let payload = read_back(&payload, next.len() + refs.len())?;
        let (version, id, key) = (Value::Integer(VERSION), text(log.as_str()), text(writer.public_key()));
        let (next_texts, refs_texts) = (texts(next), texts(refs));
        let clock_map =
            Value::Map(named([("id", text(&clock.id)), ("time", Value::Integer(clock.sort_time().into()))]));
        let signed = [&version, &id, &next_texts, &refs_texts, &clock_map, &payload];
        let digest = digest_of_signed(signed)?;
        let sig = writer.sign(&digest);
        let (sig_text, identity) = (text(&sig), text(&link::to_text(&writer.identity().cid)));
        // In the order of their lengths, and then of their bytes.
        let members = [
            ("v", &version),
            ("id", &id),
            ("key", &key),
            ("sig", &sig_text),
            ("next", &next_texts),
            ("refs", &refs_texts),
            ("clock", &clock_map),
            ("payload", &payload),
            ("identity", &identity),
        ];
        let mut bytes = Vec::new();
        cbor::write_members(&mut bytes, &members, 0)?;
        Ok(Self {
            cid: cid_of(&bytes),
            bytes: bytes.into(),
            log: log.as_str().to_owned(),
            key: writer.public_key().to_owned(),
            sig,
            next: next.to_vec(),
            refs: refs.to_vec(),
            clock,
            payload,
            identity: writer.identity().cid,
            canonical: true,
            digest,
        })
    }

    /// Whether the signature is of the key that is named.
    pub(super) fn is_signed(&self) -> bool {
        signature::holds(&self.sig, &self.key, &self.digest)
    }

    /// The time to sort by: that of the clock where it is an integer from 0 to 2^53, else 0.
    pub(crate) fn sort_time(&self) -> u64 {
        self.clock.sort_time()
    }

    /// The order of entries: time, id of the clock, CID.
    ///
    /// The library leaves entries with the same time and id as they came, so that two replicas may disagree; and among
    /// clocks that are not as they should be, it has no order at all.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn order(&self, other: &Self) -> std::cmp::Ordering {
        (self.sort_time(), &self.clock.id, &self.cid).cmp(&(other.sort_time(), &other.clock.id, &other.cid))
    }

    /// What was added to the log, if the payload is as by custom.
    pub(crate) fn value(&self) -> Option<&Value> {
        match &self.payload {
            Value::Map(payload) => payload.get("value"),
            _ => None,
        }
    }
}

impl Clock {
    fn of(value: Option<&Value>) -> Self {
        let Some(Value::Map(members)) = value else {
            return Self { id: String::new(), time: Time::Odd };
        };
        let id = members.get("id").and_then(cbor::as_text).unwrap_or_default().to_owned();
        let time = match members.get("time") {
            Some(Value::Integer(time)) => Time::Integer(*time),
            Some(Value::Float(time)) => Time::Float(*time),
            _ => Time::Odd,
        };
        Self { id, time }
    }

    /// See [`Entry::sort_time`].
    pub(crate) fn sort_time(&self) -> u64 {
        // What follows on the greatest exact number is the one that JavaScript gets stuck at, and writes as a float.
        const STUCK: u64 = MAX_TIME + 1;
        match self.time {
            Time::Integer(time) => u64::try_from(time).ok().filter(|time| *time <= STUCK).unwrap_or(0),
            Time::Float(time) if time == STUCK as f64 => STUCK,
            Time::Float(_) | Time::Odd => 0,
        }
    }
}

fn named<const N: usize>(members: [(&str, Value); N]) -> BTreeMap<String, Value> {
    members.map(|(name, value)| (name.to_owned(), value)).into()
}

/// The SHA-256 of the six members that are signed, in canonical form whatever form they came in.
fn signed_digest<'a>(member: impl Fn(&'static str) -> Option<&'a Value>) -> Result<[u8; 32]> {
    let mut values = [&Value::Null; SIGNED.len()];
    for (slot, name) in values.iter_mut().zip(SIGNED) {
        *slot = member(name).ok_or_else(|| malformed("a member is missing"))?;
    }
    digest_of_signed(values)
}

/// The same of their values, in the order of [`SIGNED`].
fn digest_of_signed(values: [&Value; SIGNED.len()]) -> Result<[u8; 32]> {
    let mut signed = [("", &Value::Null); SIGNED.len()];
    for (slot, member) in signed.iter_mut().zip(SIGNED.into_iter().zip(values)) {
        *slot = member;
    }
    let mut bytes = Vec::new();
    cbor::write_members(&mut bytes, &signed, 0)?;
    Ok(Sha256::digest(&bytes).into())
}

/// A payload as JavaScript peers read it in an entry with so many links: all else in an entry of ours is read as it is
/// written.
///
/// # Errors
/// `InvalidInput` where they would read another value, or none.
fn read_back(payload: &Value, links: usize) -> Result<Value> {
    let written = cbor::encode_at(payload, PAYLOAD_DEPTH)?;
    let read = cbor::decode_at(&written, PAYLOAD_DEPTH, OTHER_VALUES + links).ok();
    let read = read.filter(|read| cbor::encode_at(read, PAYLOAD_DEPTH).is_ok_and(|again| again == written));
    read.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "JavaScript peers would read another value"))
}

/// What is iterated over as links: a list of them, or what JavaScript finds nothing in.
fn links(value: Option<&Value>) -> Result<Vec<Cid>> {
    let not_links = || malformed("not a list of links");
    match value {
        Some(Value::List(list)) => {
            let link = |value| cbor::as_text(value).and_then(link::parse).ok_or_else(not_links);
            list.iter().map(link).collect()
        }
        Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
        Some(Value::Bytes(bytes)) if bytes.is_empty() => Ok(Vec::new()),
        _ => Err(not_links()),
    }
}

/// Whether JavaScript takes a value for true.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Integer(0) => false,
        Value::String(text) => !text.is_empty(),
        _ => true,
    }
}

fn malformed(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidEnvelope, message)
}

#[cfg(test)]
mod tests;
