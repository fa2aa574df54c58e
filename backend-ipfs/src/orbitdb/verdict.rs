//! What is to be thought of an entry.
//!
//! Three verdicts are kept apart. Whether a reader is *shown* what it holds, which depends on the envelope alone. Whether
//! the entry is *valid by itself*, which is the first half of what makes it a part of the log; the other half, that all
//! before it are valid and held, is for whoever holds them. And whether it may be *handed on*: valid by itself, and
//! [`canonical`](Entry::canonical).

use std::fmt;

use talkbox_core::{
    Envelope, MailboxId,
    event::{Wire, kind},
};

use super::{Entry, Identity, LogAddress, Value, address, cbor};

/// Why an entry is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    /// It is for another log.
    OtherLog,
    /// What it names as its identity is none, or not the block that was found, or its signatures do not hold.
    Identity,
    /// Its identity may not write here.
    NotPermitted,
    /// Its signature does not hold.
    Signature,
}

impl Why {
    /// In words.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::OtherLog => "for another log",
            Self::Identity => "without a valid identity",
            Self::NotPermitted => "not permitted to write here",
            Self::Signature => "not signed by its key",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the entry is valid by itself in this log, as the library checks it, given the block of its identity.
///
/// # Errors
/// Why not.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn self_valid(
    entry: &Entry,
    log: &LogAddress,
    write: &[String],
    identity: &[u8],
) -> std::result::Result<(), Why> {
    let identity = Identity::decode(identity).map_err(|_| Why::Identity)?;
    identity.verify()?;
    self_valid_by(entry, log, write, &identity)
}

/// The same with an identity that [`verify`](Identity::verify) has found valid: one writer has many entries.
///
/// Neither here nor in the library has the key of the entry to be that of the identity. So anybody can write in the name
/// of an identity that they have seen, and a list of writers keeps nobody out: who sent a message is told by the
/// envelope alone.
///
/// # Errors
/// Why not.
pub(crate) fn self_valid_by(
    entry: &Entry,
    log: &LogAddress,
    write: &[String],
    identity: &Identity,
) -> std::result::Result<(), Why> {
    if entry.log != log.as_str() {
        Err(Why::OtherLog)
    } else if entry.identity != identity.cid {
        Err(Why::Identity)
    } else if !address::may_write(write, &identity.id) {
        Err(Why::NotPermitted)
    } else if !entry.is_signed() {
        Err(Why::Signature)
    } else {
        Ok(())
    }
}

/// The envelope that the entry holds, if it is a valid one for this mailbox: whoever wrote the entry, and whatever it
/// stands on.
pub(crate) fn shown(entry: &Entry, mailbox: MailboxId) -> Option<Envelope> {
    let json = event_json(entry.value()?)?;
    Envelope::parse(&json).ok().filter(|envelope| envelope.mailbox() == mailbox)
}

/// The envelope as the value of an entry: its event, as a map.
pub(crate) fn value_of(envelope: &Envelope) -> Value {
    let wire = Wire::parse(envelope.json()).expect("an envelope is an event");
    let text = |text: &str| Value::String(text.to_owned());
    let tags = wire.tags().iter().map(|tag| Value::List(tag.iter().map(|part| text(part)).collect())).collect();
    let members = [
        ("id", text(&wire.id().to_hex())),
        ("pubkey", text(&wire.author().to_hex())),
        ("created_at", Value::Integer(wire.created_at().secs().into())),
        ("kind", Value::Integer(wire.kind().into())),
        ("tags", Value::List(tags)),
        ("content", text(wire.content())),
        ("sig", text(&talkbox_core::hex::encode(wire.signature()))),
    ];
    Value::Map(members.map(|(name, value)| (name.to_owned(), value)).into())
}

/// The members of an event, borrowed from a map.
#[derive(serde::Serialize)]
struct Members<'a> {
    id: &'a str,
    pubkey: &'a str,
    created_at: u64,
    kind: u16,
    tags: Vec<Vec<&'a str>>,
    content: &'a str,
    sig: &'a str,
}

/// The parts of a tag; `None` where it is none.
fn tag(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::List(parts) => parts.iter().map(cbor::as_text).collect(),
        _ => None,
    }
}

/// The JSON of a gift wrap that is a map here; `None` where the map is none. Other members are dropped.
fn event_json(value: &Value) -> Option<String> {
    let Value::Map(map) = value else {
        return None;
    };
    let text = |name| map.get(name).and_then(cbor::as_text);
    let number = |name| match map.get(name) {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    };
    let Some(Value::List(tags)) = map.get("tags") else {
        return None;
    };
    let kind = number("kind")?.try_into().ok().filter(|kind| *kind == kind::GIFT_WRAP)?;
    let members = Members {
        id: text("id")?,
        pubkey: text("pubkey")?,
        created_at: number("created_at")?.try_into().ok()?,
        kind,
        tags: tags.iter().map(tag).collect::<Option<_>>()?,
        content: text("content")?,
        sig: text("sig")?,
    };
    serde_json::to_string(&members).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use talkbox_core::{SecretKey, Timestamp, event::Event};

    use super::*;
    use crate::orbitdb::{Writer, address::define};

    fn mailbox() -> MailboxId {
        MailboxId::from_bytes([0x22; 32])
    }

    fn wrap(kind: u16, tags: &[&[&str]]) -> String {
        let key = SecretKey::generate().expect("randomness");
        let tags = tags.iter().map(|tag| tag.iter().map(|part| (*part).to_owned()).collect()).collect();
        let content = "AgEC \" \\ \n \u{1} é 🦀".to_owned();
        Event::sign(&key, Timestamp(1_700_000_000), kind, tags, content).to_json()
    }

    fn envelope() -> Envelope {
        let mailbox = mailbox().to_hex();
        Envelope::parse(&wrap(1059, &[&["p", &mailbox], &["expiration", "1900000000"], &["more", ""]])).expect("valid")
    }

    fn entry(value: Value) -> Entry {
        let writer = Writer::generate().expect("randomness");
        Entry::sign(&writer, &define("log", &["*"]).address, &[], &[], 1, value).expect("signs")
    }

    fn members(value: Value) -> BTreeMap<String, Value> {
        match value {
            Value::Map(members) => members,
            _ => unreachable!("a map"),
        }
    }

    #[test]
    fn an_envelope_comes_out_as_it_went_in() {
        let envelope = envelope();
        let entry = entry(value_of(&envelope));
        let shown_now = shown(&entry, mailbox()).expect("valid");
        assert_eq!(shown_now.json(), envelope.json());
        assert_eq!(shown_now, envelope);
        assert_eq!(shown(&entry, MailboxId::from_bytes([0x23; 32])), None);
    }

    #[test]
    fn further_members_are_dropped() {
        let envelope = envelope();
        let mut more = members(value_of(&envelope));
        more.insert("more".to_owned(), Value::Bytes(vec![0xff]));
        assert_eq!(shown(&entry(Value::Map(more)), mailbox()), Some(envelope));
    }

    #[test]
    fn only_a_map_that_is_a_valid_gift_wrap_is_shown() {
        let envelope = envelope();
        let text = |text: &str| Value::String(text.to_owned());
        let changed = |name: &str, value: Value| {
            let mut members = members(value_of(&envelope));
            assert!(members.insert(name.to_owned(), value).is_some());
            Value::Map(members)
        };
        let json = envelope.json();
        let mut values = vec![
            Value::Null,
            text(json),
            Value::Bytes(json.as_bytes().to_vec()),
            Value::List(vec![value_of(&envelope)]),
            changed("content", text("other")),
            changed("kind", Value::Integer(1)),
            changed("kind", Value::Integer(1059 + 65_536)),
            changed("created_at", Value::Integer(-1)),
            changed("created_at", Value::Float(1.5)),
            changed("tags", Value::List(vec![text("p")])),
            changed("tags", Value::Map(BTreeMap::new())),
            changed("sig", text(&"0".repeat(128))),
        ];
        for name in ["id", "pubkey", "created_at", "kind", "tags", "content", "sig"] {
            let mut members = members(value_of(&envelope));
            members.remove(name);
            values.push(Value::Map(members));
            values.push(changed(name, Value::Null));
        }
        for value in values {
            assert_eq!(shown(&entry(value.clone()), mailbox()), None, "{value:?}");
        }
    }

    #[test]
    fn a_valid_event_of_another_kind_is_not_shown() {
        let mut members = members(value_of(&envelope()));
        let event = Event::parse(&wrap(14, &[&["p", &mailbox().to_hex()]])).expect("valid");
        for (name, value) in [
            ("id", event.id().to_hex()),
            ("pubkey", event.author().to_hex()),
            ("content", event.content().to_owned()),
            ("sig", talkbox_core::hex::encode(event.signature())),
        ] {
            members.insert(name.to_owned(), Value::String(value));
        }
        members.insert("kind".to_owned(), Value::Integer(14));
        assert_eq!(shown(&entry(Value::Map(members)), mailbox()), None);
    }
}
