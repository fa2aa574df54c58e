//! Mailbox records: what a shortcode resolves to. Signed by the mailbox key, and worth some work to forge in bulk.

use crate::{
    Error, ErrorKind, MailboxId, PublicKey, Result,
    clock::Timestamp,
    envelope::{DEFAULT_RETENTION, MAX_ENVELOPE_BYTES, MAX_FUTURE},
    event::{Event, Tag, kind},
    keys::SecretKey,
    locator::Locator,
    pow,
    seal::MIN_RETENTION,
    shortcode::Shortcode,
};

/// Work that a record has to show, in bits (NIP-13): well under a second for its owner.
pub const RECORD_WORK: u8 = 20;
/// Most bytes of a record.
pub const MAX_RECORD_BYTES: usize = 16_384;
/// Most locators of a record.
pub const MAX_LOCATORS: usize = 8;
/// Most keepers of a record.
pub const MAX_KEEPERS: usize = 4;

/// What an owner says of a mailbox: where it lives, and what it asks of senders.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFields {
    /// Where envelopes go, in order of preference: 1 to [`MAX_LOCATORS`].
    pub locators: Vec<Locator>,
    /// Keys that holders serve as if they were the owner for list, reconcile and audit, never for deletion.
    pub keepers: Vec<PublicKey>,
    /// Work that the owner asks of envelopes, in bits.
    pub work: u8,
    /// Most bytes of an envelope.
    pub max_bytes: u32,
    /// How long envelopes should be kept, in seconds.
    pub retention: u64,
    /// Where the owner moved to; shown, never followed unasked.
    pub moved: Option<PublicKey>,
}

impl RecordFields {
    /// The usual: no keepers, no work, the largest envelopes, 90 days.
    pub const fn new(locators: Vec<Locator>) -> Self {
        Self {
            locators,
            keepers: Vec::new(),
            work: 0,
            max_bytes: MAX_ENVELOPE_BYTES as u32,
            retention: DEFAULT_RETENTION,
            moved: None,
        }
    }
}

/// A record whose form, signature and work have been checked. That its key is the one that a shortcode means is
/// checked by whoever resolves, since it costs 0.2 s: [`Shortcode::matches`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxRecord {
    event: Event,
    code: Shortcode,
    fields: RecordFields,
}

impl MailboxRecord {
    /// Signs a record, with [`RECORD_WORK`]. `code` is the shortcode of the key.
    ///
    /// # Errors
    /// `InvalidInput` where there are no locators or too many, or too many keepers.
    pub fn sign(key: &SecretKey, code: Shortcode, fields: RecordFields, now: Timestamp) -> Result<Self> {
        check(&fields)?;
        let mut tags: Vec<Tag> = vec![tag("d", code.symbols()), tag("v", "1")];
        tags.extend(fields.locators.iter().map(|locator| tag("locator", locator.as_str())));
        tags.extend(fields.keepers.iter().map(|keeper| tag("keeper", crate::address::to_npub(&(*keeper).into()))));
        tags.push(tag("pow", fields.work.to_string()));
        tags.push(tag("max", fields.max_bytes.to_string()));
        tags.push(tag("retention", fields.retention.to_string()));
        tags.extend(fields.moved.map(|key| tag("moved", crate::address::to_npub(&key.into()))));
        pow::mine(&key.public(), now, kind::RECORD, &mut tags, "", RECORD_WORK)?;
        Ok(Self { event: Event::sign(key, now, kind::RECORD, tags, String::new()), code, fields })
    }

    /// Checks a record that somebody sent: size, form, signature, work.
    ///
    /// # Errors
    /// `TooLarge`, `InvalidEnvelope`, `VerificationFailed`.
    pub fn parse(json: &str) -> Result<Self> {
        if json.len() > MAX_RECORD_BYTES {
            return Err(Error::new(ErrorKind::TooLarge, "larger than a record may be").with("bytes", json.len()));
        }
        Self::from_event(Event::parse(json)?)
    }

    /// Takes a record from a checked event.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn from_event(event: Event) -> Result<Self> {
        let malformed = |why: &'static str| Error::new(ErrorKind::InvalidEnvelope, why);
        if event.kind() != kind::RECORD {
            return Err(malformed("not a mailbox record"));
        }
        if pow::bits_of(&event.id(), event.tags()) < RECORD_WORK {
            return Err(Error::new(ErrorKind::VerificationFailed, "the record shows less than 20 bits of work"));
        }
        if event.value("v") != Some("1") {
            return Err(malformed("a record of another version"));
        }
        let code = event.value("d").and_then(|symbols| Shortcode::parse(symbols).ok());
        let code = code.filter(|code| event.value("d") == Some(code.symbols()));
        let code = code.ok_or_else(|| malformed("the record has no shortcode"))?;
        let key = |npub: &str| crate::address::from_npub(npub).map(PublicKey::from);
        let fields = RecordFields {
            // A locator that this version cannot read does not hide the others.
            locators: event.values("locator").filter_map(|locator| locator.parse().ok()).take(MAX_LOCATORS).collect(),
            keepers: event.values("keeper").filter_map(|npub| key(npub).ok()).take(MAX_KEEPERS).collect(),
            work: number(&event, "pow").map_or(0, |bits| u8::try_from(bits).unwrap_or(u8::MAX)),
            max_bytes: number(&event, "max")
                .and_then(|max| u32::try_from(max).ok())
                .unwrap_or(MAX_ENVELOPE_BYTES as u32)
                .min(MAX_ENVELOPE_BYTES as u32),
            retention: number(&event, "retention")
                .unwrap_or(DEFAULT_RETENTION)
                .clamp(MIN_RETENTION, DEFAULT_RETENTION * 4),
            moved: event.value("moved").and_then(|npub| key(npub).ok()),
        };
        check(&fields).map_err(|_| malformed("the record names no place"))?;
        Ok(Self { event, code, fields })
    }

    /// The mailbox that it is of.
    pub fn mailbox(&self) -> MailboxId {
        self.event.author().into()
    }

    /// The shortcode that it claims to be of.
    pub const fn code(&self) -> Shortcode {
        self.code
    }

    /// What it says.
    pub const fn fields(&self) -> &RecordFields {
        &self.fields
    }

    /// When it was signed, as it claims.
    pub const fn created_at(&self) -> Timestamp {
        self.event.created_at()
    }

    /// The work that it shows, in bits.
    pub fn work(&self) -> u8 {
        pow::bits_of(&self.event.id(), self.event.tags())
    }

    /// The signed event.
    pub const fn event(&self) -> &Event {
        &self.event
    }

    /// Whether it may take the place of another of the same mailbox: newer, or as new and of the lower id; and not
    /// from the future.
    pub fn supersedes(&self, other: Option<&Self>, now: Timestamp) -> bool {
        let order = |record: &Self| (record.created_at(), std::cmp::Reverse(record.event.id()));
        self.created_at() <= now.plus(MAX_FUTURE) && other.is_none_or(|other| order(self) > order(other))
    }
}

/// Signs the list of relays on which a mailbox reads its direct messages (NIP-17, kind 10050), so that any Nostr
/// client can write to it.
pub fn sign_inbox_relays(key: &SecretKey, relays: &[String], now: Timestamp) -> Event {
    let tags = relays.iter().map(|relay| tag("relay", relay)).collect();
    Event::sign(key, now, kind::INBOX_RELAYS, tags, String::new())
}

fn check(fields: &RecordFields) -> Result<()> {
    let wrong = |why: &'static str| Err(Error::new(ErrorKind::InvalidInput, why));
    match fields {
        RecordFields { locators, .. } if locators.is_empty() => wrong("a mailbox needs at least one place to live"),
        RecordFields { locators, .. } if locators.len() > MAX_LOCATORS => wrong("a record names at most eight places"),
        RecordFields { keepers, .. } if keepers.len() > MAX_KEEPERS => wrong("a record names at most four keepers"),
        _ => Ok(()),
    }
}

fn number(event: &Event, name: &str) -> Option<u64> {
    event.value(name).and_then(|value| value.parse().ok())
}

fn tag(name: &str, value: impl Into<String>) -> Tag {
    vec![name.to_owned(), value.into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> RecordFields {
        RecordFields {
            keepers: vec![SecretKey::generate().expect("randomness").public()],
            work: 12,
            moved: Some(SecretKey::generate().expect("randomness").public()),
            ..RecordFields::new(vec!["nostr:wss://a.example".parse().expect("a locator")])
        }
    }

    #[test]
    fn a_record_survives_the_wire_and_a_tampered_one_does_not() {
        let key = SecretKey::generate().expect("randomness");
        let record = MailboxRecord::sign(&key, Shortcode::of(&key.id()), fields(), Timestamp(100)).expect("signs");
        assert!(record.work() >= RECORD_WORK);
        let json = record.event().to_json();
        assert_eq!(MailboxRecord::parse(&json).expect("valid"), record);
        let tampered = json.replace("a.example", "b.example");
        assert_eq!(MailboxRecord::parse(&tampered).expect_err("tampered").kind(), ErrorKind::VerificationFailed);
    }

    #[test]
    fn a_record_without_work_is_refused() {
        let key = SecretKey::generate().expect("randomness");
        let code = Shortcode::of(&key.id());
        let tags = vec![tag("d", code.symbols()), tag("v", "1"), tag("locator", "nostr:wss://a.example")];
        let event = Event::sign(&key, Timestamp(1), kind::RECORD, tags, String::new());
        assert_eq!(MailboxRecord::from_event(event).expect_err("no work").kind(), ErrorKind::VerificationFailed);
    }

    #[test]
    fn the_newest_wins_and_the_future_does_not() {
        let key = SecretKey::generate().expect("randomness");
        let code = Shortcode::of(&key.id());
        let at = |time| MailboxRecord::sign(&key, code, fields(), Timestamp(time)).expect("signs");
        let (old, new) = (at(100), at(200));
        let now = Timestamp(150);
        assert!(new.supersedes(Some(&old), now) && !old.supersedes(Some(&new), now));
        assert!(old.supersedes(None, now) && !old.supersedes(Some(&old), now));
        assert!(!at(150 + MAX_FUTURE + 1).supersedes(None, now));
    }
}
