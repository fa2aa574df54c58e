//! An event as a row: binary columns, and back to exactly the JSON that its id is the hash of.
//!
//! Ids and keys are bytes; content that is base64, as that of every gift wrap is, is stored decoded; tags are packed.
//! It saves about 350 of 1,300 bytes. The id is computed again from every row that is read, so that a rotten one is
//! never served. It does not cover the signature, which has a guard of its own: to verify it would take 50 µs a row.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use talkbox_core::{MailboxId, hex};

/// Content is stored as it is.
const VERBATIM: u8 = 0;
/// Content is stored decoded.
const BASE64: u8 = 1;

/// A value of a tag is stored as its text, …
const TEXT: u64 = 0;
/// … as the bytes behind lower-case digits, …
const HEX: u64 = 1;
/// … or is the key of the mailbox, which the row names by number.
const MAILBOX: u64 = 2;

/// Bytes of a signature, …
const SIGNATURE: usize = 64;
/// … and of the guard behind it: a flipped bit is noticed for certain but for one in four thousand million.
const GUARD: usize = 4;

/// A signature as it is stored: with its guard, the first bytes of the hash of id and signature.
pub(super) fn guarded(id: &[u8], sig: &[u8; SIGNATURE]) -> [u8; SIGNATURE + GUARD] {
    let mut stored = [0; SIGNATURE + GUARD];
    stored[..SIGNATURE].copy_from_slice(sig);
    let hash = Sha256::new_with_prefix(id).chain_update(sig).finalize();
    stored[SIGNATURE..].copy_from_slice(&hash[..GUARD]);
    stored
}

/// The columns that hold what filters do not look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) tags: Vec<u8>,
    pub(crate) content: Vec<u8>,
    pub(crate) form: u8,
}

impl Packed {
    pub(crate) fn new<S: AsRef<str>>(tags: &[Vec<S>], content: &str, mailbox: Option<MailboxId>) -> Self {
        let tags = pack_tags(tags, mailbox);
        match STANDARD.decode(content) {
            // What is taken is the one text that encodes these bytes: padding is asked for, and so are zeros behind the last.
            Ok(bytes) if !content.is_empty() => Self { tags, content: bytes, form: BASE64 },
            _ => Self { tags, content: content.as_bytes().to_vec(), form: VERBATIM },
        }
    }
}

/// A row as it was read.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) id: &'a [u8],
    pub(crate) author: &'a [u8],
    pub(crate) created_at: u64,
    pub(crate) kind: u16,
    pub(crate) mailbox: Option<&'a [u8]>,
    pub(crate) tags: &'a [u8],
    pub(crate) content: &'a [u8],
    pub(crate) form: u8,
    /// With its guard.
    pub(crate) sig: &'a [u8],
}

impl<'a> Row<'a> {
    /// Takes the columns id, author, created_at, kind, key of the mailbox, tags, content, form, sig.
    ///
    /// # Errors
    /// Those of SQLite, also for a column of another type than it has.
    pub(crate) fn read(row: &'a rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let blob = |column: usize| -> rusqlite::Result<&'a [u8]> { Ok(row.get_ref(column)?.as_blob()?) };
        Ok(Self {
            id: blob(0)?,
            author: blob(1)?,
            created_at: row.get::<_, i64>(2)?.unsigned_abs(),
            kind: row.get(3)?,
            mailbox: row.get_ref(4)?.as_blob_or_null()?,
            tags: blob(5)?,
            content: blob(6)?,
            form: row.get(7)?,
            sig: blob(8)?,
        })
    }
}

impl Row<'_> {
    /// The event as canonical JSON. `None` for a row that is not what was stored: its id is not its hash, or its signature
    /// not the one that came.
    pub(crate) fn to_json(&self) -> Option<String> {
        let sig: &[u8; SIGNATURE] = self.sig.first_chunk()?;
        if guarded(self.id, sig)[..] != *self.sig {
            return None;
        }
        // Everything but tags and content is about 350 bytes; base64 makes 4 characters of 3 bytes.
        let mut json = String::with_capacity(400 + self.tags.len() * 2 + self.content.len() * 4 / 3);
        json.push_str("{\"id\":\"");
        hex::push(&mut json, self.id);
        json.push_str("\",\"pubkey\":\"");
        hex::push(&mut json, self.author);
        write!(json, "\",\"created_at\":{},\"kind\":{},\"tags\":", self.created_at, self.kind).ok()?;
        let tags_at = json.len();
        self.push_tags(&mut json)?;
        let content_at = json.len() + ",\"content\":".len();
        json.push_str(",\"content\":");
        self.push_content(&mut json)?;
        let (tags, content) = (&json[tags_at..content_at - ",\"content\":".len()], &json[content_at..]);
        if self.hash(tags, content)[..] != *self.id {
            return None;
        }
        json.push_str(",\"sig\":\"");
        hex::push(&mut json, sig);
        json.push_str("\"}");
        Some(json)
    }

    /// The id that the other columns give, whatever stands in that of the id.
    pub(super) fn computed_id(&self) -> Option<[u8; 32]> {
        let (mut tags, mut content) = (String::new(), String::new());
        self.push_tags(&mut tags)?;
        self.push_content(&mut content)?;
        Some(self.hash(&tags, &content))
    }

    /// The id by NIP-01, of members that are already in their JSON form.
    fn hash(&self, tags: &str, content: &str) -> [u8; 32] {
        let mut head = String::with_capacity(100);
        head.push_str("[0,\"");
        hex::push(&mut head, self.author);
        let _infallible = write!(head, "\",{},{},", self.created_at, self.kind);
        Sha256::new_with_prefix(head)
            .chain_update(tags)
            .chain_update(",")
            .chain_update(content)
            .chain_update("]")
            .finalize()
            .into()
    }

    fn push_content(&self, json: &mut String) -> Option<()> {
        match self.form {
            VERBATIM => push_text(json, std::str::from_utf8(self.content).ok()?),
            BASE64 => {
                json.push('"');
                STANDARD.encode_string(self.content, json);
                json.push('"');
            }
            _ => return None,
        }
        Some(())
    }

    fn push_tags(&self, json: &mut String) -> Option<()> {
        let mut packed = self.tags;
        json.push('[');
        for tag in 0..take_number(&mut packed)? {
            json.push_str(if tag == 0 { "[" } else { ",[" });
            for value in 0..take_number(&mut packed)? {
                if value > 0 {
                    json.push(',');
                }
                let head = take_number(&mut packed)?;
                let (bytes, rest) = packed.split_at_checked(usize::try_from(head >> 2).ok()?)?;
                packed = rest;
                match head & 3 {
                    TEXT => push_text(json, std::str::from_utf8(bytes).ok()?),
                    form @ (HEX | MAILBOX) => {
                        json.push('"');
                        hex::push(json, if form == HEX { bytes } else { self.mailbox? });
                        json.push('"');
                    }
                    _ => return None,
                }
            }
            json.push(']');
        }
        json.push(']');
        packed.is_empty().then_some(())
    }
}

fn pack_tags<S: AsRef<str>>(tags: &[Vec<S>], mailbox: Option<MailboxId>) -> Vec<u8> {
    let mailbox = mailbox.map(|key| key.to_hex());
    let mut packed = Vec::with_capacity(64);
    push_number(&mut packed, tags.len() as u64);
    for tag in tags {
        push_number(&mut packed, tag.len() as u64);
        for value in tag {
            let value = value.as_ref();
            if mailbox.as_deref() == Some(value) {
                push_number(&mut packed, MAILBOX);
            } else if let Some(bytes) = unhex(value) {
                push_number(&mut packed, (bytes.len() as u64) << 2 | HEX);
                packed.extend_from_slice(&bytes);
            } else {
                push_number(&mut packed, (value.len() as u64) << 2 | TEXT);
                packed.extend_from_slice(value.as_bytes());
            }
        }
    }
    packed
}

/// The bytes behind lower-case digits, where there are enough of them to be worth it.
fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() < 8 || text.len() % 2 == 1 {
        return None;
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(hex::decode_lower::<1>).map(|[byte]| byte))
        .collect()
}

/// Appends a JSON string. The escapes of `serde_json` are those of NIP-01.
fn push_text(json: &mut String, text: &str) {
    // A string always serialises.
    json.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// Appends a number in groups of seven bits, the lowest first.
fn push_number(packed: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        packed.push((number as u8 & 0x7f) | 0x80);
        number >>= 7;
    }
    packed.push(number as u8);
}

/// Takes a number of at most 28 bits, which is more than any count or length here.
fn take_number(packed: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for group in 0..4 {
        let (byte, rest) = packed.split_first()?;
        *packed = rest;
        number |= u64::from(byte & 0x7f) << (7 * group);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use talkbox_core::{SecretKey, Timestamp, event::Event};

    use super::*;

    fn round_trip(event: &Event, mailbox: Option<MailboxId>, spoil: impl FnOnce(&mut Packed)) -> Option<String> {
        spoilt(event, mailbox, |packed, _| spoil(packed))
    }

    fn spoilt(
        event: &Event,
        mailbox: Option<MailboxId>,
        spoil: impl FnOnce(&mut Packed, &mut [u8; SIGNATURE + GUARD]),
    ) -> Option<String> {
        let mut packed = Packed::new(event.tags(), event.content(), mailbox);
        let mut sig = guarded(event.id().as_bytes(), event.signature());
        spoil(&mut packed, &mut sig);
        Row {
            id: event.id().as_bytes(),
            author: event.author().as_bytes(),
            created_at: event.created_at().secs(),
            kind: event.kind(),
            mailbox: mailbox.as_ref().map(|key| &key.as_bytes()[..]),
            tags: &packed.tags,
            content: &packed.content,
            form: packed.form,
            sig: &sig,
        }
        .to_json()
    }

    fn event(tags: Vec<Vec<String>>, content: &str) -> Event {
        Event::sign(
            &SecretKey::generate().expect("randomness"),
            Timestamp(1_800_000_000),
            1059,
            tags,
            content.to_owned(),
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_event_survives(
            tags in proptest::collection::vec(proptest::collection::vec("[0-9a-f]{0,12}|\\PC{0,8}", 1..4), 0..5),
            content in "[A-Za-z0-9+/]{0,8}={0,2}|\\PC{0,40}",
        ) {
            let mailbox = MailboxId::from_bytes([7; 32]);
            let mut tags = tags;
            tags.push(vec!["p".to_owned(), mailbox.to_hex()]);
            let event = event(tags, &content);
            prop_assert_eq!(round_trip(&event, Some(mailbox), |_| ()), Some(event.to_json()));
        }

        #[test]
        fn any_bytes_in_place_of_tags_are_no_event(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let event = event(vec![vec!["x".to_owned(), "y".to_owned()]], "text");
            let packed = Packed::new(event.tags(), event.content(), None).tags;
            prop_assume!(bytes != packed);
            prop_assert_eq!(round_trip(&event, None, |row| row.tags = bytes), None);
        }
    }

    #[test]
    fn base64_is_stored_decoded() {
        let text = STANDARD.encode([9; 300]);
        let packed = Packed::new::<String>(&[], &text, None);
        assert_eq!((packed.content.len(), packed.form), (300, BASE64));
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let event = event(vec![], &STANDARD.encode([9; 300]));
        assert!(round_trip(&event, None, |row| row.content[100] ^= 4).is_none());
        for at in [0, SIGNATURE - 1, SIGNATURE, SIGNATURE + GUARD - 1] {
            assert!(spoilt(&event, None, |_, sig| sig[at] ^= 1).is_none(), "byte {at} of the signature");
        }
    }
}
