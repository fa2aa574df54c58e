//! NIP-01 events: the one signed form that everything on the wire has, envelopes included.
//!
//! [`Event`] is a value whose id and signature have been checked. [`Wire`] is the borrowed form that parsing goes
//! through, so that a hot path can check and take over only what it needs.

use std::borrow::Cow;

use secp256k1::{SECP256K1, XOnlyPublicKey, schnorr::Signature};
use sha2::{Digest, Sha256};

use crate::{Error, ErrorKind, PublicKey, Result, clock::Timestamp, hex, id::EventId, keys::SecretKey};

/// Event kinds, in one place. Those of Talkbox's own were not in the NIPs list in November 2026.
pub mod kind {
    /// Deletion request (NIP-09).
    pub const DELETION: u16 = 5;
    /// Seal (NIP-59).
    pub const SEAL: u16 = 13;
    /// Private direct message (NIP-17), as a rumor.
    pub const MESSAGE: u16 = 14;
    /// Gift wrap (NIP-59): an envelope.
    pub const GIFT_WRAP: u16 = 1059;
    /// Request to vanish (NIP-62).
    pub const VANISH: u16 = 62;
    /// Custody receipt of a node; signed, never published.
    pub const RECEIPT: u16 = 1788;
    /// Control message, as a rumor: sealed like a message, and not shown by other clients.
    pub const CONTROL: u16 = 1789;
    /// Relays on which a key reads its direct messages (NIP-17).
    pub const INBOX_RELAYS: u16 = 10050;
    /// Hint: "look", ephemeral.
    pub const HINT: u16 = 21787;
    /// Client authentication on a relay (NIP-42).
    pub const RELAY_AUTH: u16 = 22242;
    /// Client authentication over HTTP (NIP-98).
    pub const HTTP_AUTH: u16 = 27235;
    /// Relay discovery (NIP-66), addressable: how nodes are announced.
    pub const RELAY_DISCOVERY: u16 = 30166;
    /// Mailbox record, addressable.
    pub const RECORD: u16 = 30787;
}

/// A tag: its name and its values.
pub type Tag = Vec<String>;

/// A NIP-01 event whose id and signature have been checked, or that was signed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    id: EventId,
    author: PublicKey,
    created_at: Timestamp,
    kind: u16,
    tags: Vec<Tag>,
    content: String,
    sig: [u8; 64],
}

impl Event {
    /// Signs an event.
    pub fn sign(key: &SecretKey, created_at: Timestamp, kind: u16, tags: Vec<Tag>, content: String) -> Self {
        let author = key.public();
        let id = id_of(&author, created_at, kind, &tags, &content);
        Self { sig: key.sign(id.as_bytes()), id, author, created_at, kind, tags, content }
    }

    /// Parses and checks an event of any kind: form, id and signature.
    ///
    /// The caller bounds the size of the text.
    ///
    /// # Errors
    /// `InvalidEnvelope` where it is malformed, `VerificationFailed` where id or signature do not hold.
    pub fn parse(json: &str) -> Result<Self> {
        let wire = Wire::parse(json)?;
        wire.verify()?;
        Ok(wire.into_event())
    }

    /// Parses an event that was checked before it was stored: the id is computed again, the signature is not.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), less the signature.
    pub fn restore(json: &str) -> Result<Self> {
        let wire = Wire::parse(json)?;
        wire.verify_id()?;
        Ok(wire.into_event())
    }

    /// The hash of everything but the signature.
    pub const fn id(&self) -> EventId {
        self.id
    }

    /// Who signed it.
    pub const fn author(&self) -> PublicKey {
        self.author
    }

    /// The time that it claims.
    pub const fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// Its kind; see [`kind`](mod@kind).
    pub const fn kind(&self) -> u16 {
        self.kind
    }

    /// Its tags, in order.
    pub fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// Its content.
    pub fn content(&self) -> &str {
        &self.content
    }

    /// Its BIP-340 signature.
    pub const fn signature(&self) -> &[u8; 64] {
        &self.sig
    }

    /// The first value of every tag of this name.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.tags
            .iter()
            .filter(move |tag| tag.first().is_some_and(|first| first == name))
            .filter_map(|tag| tag.get(1).map(String::as_str))
    }

    /// The first value of the first tag of this name.
    pub fn value<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.values(name).next()
    }

    pub(crate) fn into_content(self) -> String {
        self.content
    }

    /// The canonical bytes: compact JSON in the order of NIP-01.
    pub fn to_json(&self) -> String {
        let mut out = String::with_capacity(400 + self.content.len());
        write_json(&mut out, &self.id, &self.author, self.created_at, self.kind, &self.tags, &self.content, &self.sig);
        out
    }
}

/// A NIP-01 event as it came from somewhere, borrowed from its text and not yet believed.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Wire<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    pubkey: Cow<'a, str>,
    created_at: u64,
    kind: u16,
    #[serde(borrow)]
    tags: Vec<Vec<Cow<'a, str>>>,
    #[serde(borrow)]
    content: Cow<'a, str>,
    #[serde(borrow)]
    sig: Cow<'a, str>,
    #[serde(skip)]
    decoded: Decoded,
}

#[derive(Clone, Debug)]
struct Decoded {
    id: EventId,
    author: PublicKey,
    sig: [u8; 64],
}

impl Default for Decoded {
    fn default() -> Self {
        Self { id: EventId::from_bytes([0; 32]), author: PublicKey::from_bytes([0; 32]), sig: [0; 64] }
    }
}

impl<'a> Wire<'a> {
    /// Parses the form alone: the seven members, lower-case digits of the right length. Further members are dropped.
    ///
    /// # Errors
    /// `InvalidEnvelope`.
    pub fn parse(json: &'a str) -> Result<Self> {
        let mut wire: Self =
            serde_json::from_str(json).map_err(|error| malformed("not a NIP-01 event").source(error))?;
        wire.decoded = Decoded {
            id: EventId::from_bytes(hex::decode_lower(&wire.id).ok_or_else(|| malformed("the id is not 64 digits"))?),
            author: PublicKey::from_bytes(
                hex::decode_lower(&wire.pubkey).ok_or_else(|| malformed("the public key is not 64 digits"))?,
            ),
            sig: hex::decode_lower(&wire.sig).ok_or_else(|| malformed("the signature is not 128 digits"))?,
        };
        if wire.tags.iter().any(Vec::is_empty) {
            return Err(malformed("a tag is empty"));
        }
        Ok(wire)
    }

    /// Checks id and signature.
    ///
    /// # Errors
    /// `VerificationFailed`.
    pub fn verify(&self) -> Result<()> {
        self.verify_id()?;
        verify_signature(&self.decoded.author, self.decoded.id.as_bytes(), &self.decoded.sig)
    }

    /// Checks the id alone.
    ///
    /// # Errors
    /// `VerificationFailed`.
    pub fn verify_id(&self) -> Result<()> {
        let id = id_of(&self.decoded.author, self.created_at(), self.kind, &self.tags, &self.content);
        if id == self.decoded.id {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::VerificationFailed, "the id is not the hash of the event"))
        }
    }

    /// The id that it claims.
    pub const fn id(&self) -> EventId {
        self.decoded.id
    }

    /// The author that it claims.
    pub const fn author(&self) -> PublicKey {
        self.decoded.author
    }

    /// The time that it claims.
    pub const fn created_at(&self) -> Timestamp {
        Timestamp(self.created_at)
    }

    /// Its kind.
    pub const fn kind(&self) -> u16 {
        self.kind
    }

    /// Its tags; none is empty.
    pub fn tags(&self) -> &[Vec<Cow<'a, str>>] {
        &self.tags
    }

    /// Its content.
    pub fn content(&self) -> &str {
        &self.content
    }

    /// Its signature.
    pub const fn signature(&self) -> &[u8; 64] {
        &self.decoded.sig
    }

    /// The first value of every tag of this name.
    pub fn values<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'b str> {
        self.tags.iter().filter(move |tag| tag[0] == name).filter_map(|tag| tag.get(1).map(AsRef::as_ref))
    }

    /// The canonical bytes.
    pub fn to_json(&self) -> String {
        let mut out = String::with_capacity(400 + self.content.len());
        let Decoded { id, author, sig } = &self.decoded;
        write_json(&mut out, id, author, self.created_at(), self.kind, &self.tags, &self.content, sig);
        out
    }

    /// Takes everything over; the caller has checked it.
    pub(crate) fn into_event(self) -> Event {
        Event {
            id: self.decoded.id,
            author: self.decoded.author,
            created_at: Timestamp(self.created_at),
            kind: self.kind,
            tags: self.tags.into_iter().map(|tag| tag.into_iter().map(Cow::into_owned).collect()).collect(),
            content: self.content.into_owned(),
            sig: self.decoded.sig,
        }
    }
}

/// Checks a BIP-340 signature.
///
/// # Errors
/// `VerificationFailed`, also where the key is no point of the curve.
pub fn verify_signature(author: &PublicKey, digest: &[u8; 32], sig: &[u8; 64]) -> Result<()> {
    let valid = XOnlyPublicKey::from_slice(author.as_bytes())
        .and_then(|key| Signature::from_slice(sig).map(|sig| (key, sig)))
        .and_then(|(key, sig)| SECP256K1.verify_schnorr(&sig, digest, &key));
    valid.map_err(|error| Error::new(ErrorKind::VerificationFailed, "the signature does not hold").source(error))
}

/// The id of an event (NIP-01): the SHA-256 of `[0,pubkey,created_at,kind,tags,content]`.
pub(crate) fn id_of<S: AsRef<str>>(
    author: &PublicKey,
    created_at: Timestamp,
    kind: u16,
    tags: &[Vec<S>],
    content: &str,
) -> EventId {
    EventId::from_bytes(Sha256::digest(id_preimage(author, created_at, kind, tags, content).as_bytes()).into())
}

/// What the id is the hash of.
pub(crate) fn id_preimage<S: AsRef<str>>(
    author: &PublicKey,
    created_at: Timestamp,
    kind: u16,
    tags: &[Vec<S>],
    content: &str,
) -> String {
    let mut out = String::with_capacity(200 + content.len());
    out.push_str("[0,\"");
    hex::push(&mut out, author.as_bytes());
    out.push_str("\",");
    push_number(&mut out, created_at.secs());
    out.push(',');
    push_number(&mut out, kind.into());
    out.push(',');
    push_tags(&mut out, tags);
    out.push(',');
    push_string(&mut out, content);
    out.push(']');
    out
}

#[expect(clippy::too_many_arguments, reason = "the seven members of an event, and where to write them")]
pub(crate) fn write_json<S: AsRef<str>>(
    out: &mut String,
    id: &EventId,
    author: &PublicKey,
    created_at: Timestamp,
    kind: u16,
    tags: &[Vec<S>],
    content: &str,
    sig: &[u8; 64],
) {
    out.push_str("{\"id\":\"");
    hex::push(out, id.as_bytes());
    out.push_str("\",\"pubkey\":\"");
    hex::push(out, author.as_bytes());
    out.push_str("\",\"created_at\":");
    push_number(out, created_at.secs());
    out.push_str(",\"kind\":");
    push_number(out, kind.into());
    out.push_str(",\"tags\":");
    push_tags(out, tags);
    out.push_str(",\"content\":");
    push_string(out, content);
    out.push_str(",\"sig\":\"");
    hex::push(out, sig);
    out.push_str("\"}");
}

fn push_number(out: &mut String, number: u64) {
    out.push_str(&number.to_string());
}

pub(crate) fn push_tags<S: AsRef<str>>(out: &mut String, tags: &[Vec<S>]) {
    out.push('[');
    for (at, tag) in tags.iter().enumerate() {
        out.push_str(if at == 0 { "[" } else { ",[" });
        for (at, value) in tag.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            push_string(out, value.as_ref());
        }
        out.push(']');
    }
    out.push(']');
}

/// Appends a JSON string with the escapes of NIP-01, which are those of `JSON.stringify`: the seven short ones, and
/// `\u00xx` for the other control characters.
pub(crate) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = first_escaped(rest.as_bytes()) {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            8 => out.push_str("\\b"),
            12 => out.push_str("\\f"),
            other => {
                out.push_str("\\u00");
                hex::push(out, &[other]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

/// Where the first byte is that cannot stand for itself in a JSON string.
///
/// By blocks, since a block is looked at as a whole by vector instructions: nearly all that is written is base64, ten
/// thousand bytes and more of it, without one such byte.
fn first_escaped(bytes: &[u8]) -> Option<usize> {
    const BLOCK: usize = 32;
    let is_escaped = |byte: u8| byte < 32 || byte == b'"' || byte == b'\\';
    let is_plain = |block: &&[u8]| !block.iter().fold(false, |found, byte| found | is_escaped(*byte));
    let plain = bytes.chunks_exact(BLOCK).take_while(is_plain).count() * BLOCK;
    bytes[plain..].iter().position(|byte| is_escaped(*byte)).map(|at| plain + at)
}

fn malformed(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidEnvelope, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signed(content: &str, tags: Vec<Tag>) -> Event {
        let key = SecretKey::generate().expect("randomness");
        Event::sign(&key, Timestamp(1_700_000_000), kind::MESSAGE, tags, content.to_owned())
    }

    proptest! {
        #[test]
        fn text_is_escaped_as_serde_json_escapes_it(text in any::<String>()) {
            let mut ours = String::new();
            push_string(&mut ours, &text);
            prop_assert_eq!(ours, serde_json::to_string(&text).expect("a string"));
        }

        #[test]
        fn parsing_anything_never_panics(text in any::<String>()) {
            prop_assert!(Event::parse(&text).is_err());
        }

        #[test]
        fn what_is_signed_parses_to_itself(content in any::<String>(), tag in proptest::collection::vec(any::<String>(), 1..4)) {
            let event = signed(&content, vec![tag]);
            prop_assert_eq!(Event::parse(&event.to_json()).expect("valid"), event);
        }
    }

    #[test]
    fn one_changed_character_is_noticed() {
        let event = signed("hello", vec![]);
        let json = event.to_json().replace("hello", "hallo");
        assert_eq!(Event::parse(&json).unwrap_err().kind(), ErrorKind::VerificationFailed);
    }

    #[test]
    fn a_wrong_signature_is_refused_but_restores() {
        let (one, other) = (signed("a", vec![]), signed("a", vec![]));
        let json = one.to_json().replace(&hex::encode(one.signature()), &hex::encode(other.signature()));
        assert_eq!(Event::parse(&json).unwrap_err().kind(), ErrorKind::VerificationFailed);
        assert_eq!(Event::restore(&json).expect("the id holds").id(), one.id());
    }

    #[test]
    fn upper_case_digits_are_not_nip_01() {
        let event = signed("a", vec![]);
        let json = event.to_json().replace(&event.id().to_hex(), &event.id().to_hex().to_uppercase());
        assert_eq!(Event::parse(&json).unwrap_err().kind(), ErrorKind::InvalidEnvelope);
    }

    #[test]
    fn the_nostr_crate_agrees() {
        let event =
            signed("quote \" back \\ newline \n bell \u{7} é 🦀", vec![vec!["p".to_owned(), "x\ty".to_owned()]]);
        let theirs = nostr::event::Event::from_json(event.to_json()).expect("well-formed");
        theirs.verify().expect("valid");
        assert_eq!(theirs.id.to_bytes(), *event.id().as_bytes());
    }

    #[test]
    fn bip_340_vectors_get_their_verdicts() {
        let vectors = include_str!("../tests/vectors/bip340.csv");
        let mut checked = 0;
        for line in vectors.lines().skip(1) {
            let columns: Vec<&str> = line.split(',').collect();
            let (key, digest) =
                (hex::decode32(columns[2]).expect("a key"), hex::decode32(columns[4]).expect("a digest"));
            let sig = hex::decode(columns[5]).expect("a signature");
            let valid = verify_signature(&PublicKey::from_bytes(key), &digest, &sig).is_ok();
            assert_eq!(valid, columns[6] == "TRUE", "vector {}", columns[0]);
            checked += 1;
        }
        assert_eq!(checked, 15);
    }
}
