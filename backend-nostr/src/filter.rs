//! What is asked of a relay, and the little of an event that has to be read to see whether it is an answer.

use std::{borrow::Cow, fmt, fmt::Write as _, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use talkbox_core::{
    EnvelopeId, Error, ErrorKind, EventId, MailboxId, PublicKey, Result, Timestamp,
    envelope::{self, MAX_ENVELOPE_BYTES},
    event::kind,
    hex,
};

/// A question to a relay (NIP-01).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) kind: u16,
    pub(crate) mailbox: Option<MailboxId>,
    pub(crate) author: Option<PublicKey>,
    pub(crate) code: Option<String>,
    pub(crate) ids: Vec<EnvelopeId>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) limit: Option<usize>,
}

impl Filter {
    /// The envelopes of a mailbox. Relays that gate reads want kind and recipient in every question.
    pub(crate) fn envelopes(owner: MailboxId) -> Self {
        Self { kind: kind::GIFT_WRAP, mailbox: Some(owner), ..Self::default() }
    }

    /// The envelopes that a one-time key signed: what a sender may ask for.
    pub(crate) fn envelopes_by(author: PublicKey) -> Self {
        Self { kind: kind::GIFT_WRAP, author: Some(author), ..Self::default() }
    }

    /// Of these only those with these ids.
    pub(crate) fn ids(self, ids: &[EnvelopeId]) -> Self {
        Self { ids: ids.to_vec(), limit: Some(ids.len()), ..self }
    }

    /// The JSON.
    pub(crate) fn to_json(&self) -> String {
        let mut out = format!("{{\"kinds\":[{}]", self.kind);
        if !self.ids.is_empty() {
            out.push_str(",\"ids\":[");
            for (at, id) in self.ids.iter().enumerate() {
                out.push_str(if at == 0 { "\"" } else { ",\"" });
                hex::push(&mut out, id.as_bytes());
                out.push('"');
            }
            out.push(']');
        }
        if let Some(mailbox) = self.mailbox {
            let _ = write!(out, ",\"#p\":[\"{mailbox}\"]");
        }
        if let Some(author) = self.author {
            let _ = write!(out, ",\"authors\":[\"{author}\"]");
        }
        if let Some(code) = &self.code {
            // A code is upper-case letters and digits: nothing to escape.
            let _ = write!(out, ",\"#d\":[\"{code}\"]");
        }
        for (name, time) in [("since", self.since), ("until", self.until)] {
            if let Some(time) = time {
                let _ = write!(out, ",\"{name}\":{time}");
            }
        }
        if let Some(limit) = self.limit {
            let _ = write!(out, ",\"limit\":{limit}");
        }
        out.push('}');
        out
    }

    /// Whether an event answers the question. Relays are not believed.
    pub(crate) fn matches(&self, head: &Head) -> bool {
        head.kind == self.kind
            && self.mailbox.is_none_or(|mailbox| head.mailbox == Some(mailbox))
            && self.author.is_none_or(|author| head.author == author)
            && self.code.as_ref().is_none_or(|code| head.code.as_ref() == Some(code))
            && (self.ids.is_empty() || self.ids.contains(&head.id.into()))
            && self.since.is_none_or(|since| head.created_at >= since)
            && self.until.is_none_or(|until| head.created_at <= until)
    }
}

/// What an event claims to be, as far as it is read here; nothing of it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) id: EventId,
    pub(crate) author: PublicKey,
    pub(crate) created_at: Timestamp,
    pub(crate) kind: u16,
    /// The first `p`.
    pub(crate) mailbox: Option<MailboxId>,
    /// The first `d`.
    pub(crate) code: Option<String>,
    expiration: Option<Timestamp>,
}

impl Head {
    /// Whether it has expired.
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        envelope::expires_at(self.created_at, self.expiration) <= now
    }
}

/// An event as a relay sent it.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) head: Head,
    pub(crate) json: Arc<str>,
}

impl Sent {
    /// Reads the head of an event.
    ///
    /// # Errors
    /// `TooLarge`, `InvalidEnvelope`.
    pub(crate) fn read(raw: &RawValue) -> Result<Self> {
        let json = raw.get();
        if json.len() > MAX_ENVELOPE_BYTES {
            return Err(Error::new(ErrorKind::TooLarge, "larger than an envelope may be").with("bytes", json.len()));
        }
        let malformed = |why: &'static str| Error::new(ErrorKind::InvalidEnvelope, why);
        let wire: Wire<'_> = serde_json::from_str(json).map_err(|error| malformed("not an event").source(error))?;
        let id = hex::decode_lower(&wire.id).ok_or_else(|| malformed("the id is not 64 digits"))?;
        let author = hex::decode_lower(&wire.pubkey).ok_or_else(|| malformed("the public key is not 64 digits"))?;
        let head = Head {
            id: EventId::from_bytes(id),
            author: PublicKey::from_bytes(author),
            created_at: Timestamp(wire.created_at),
            kind: wire.kind,
            mailbox: wire.tags.mailbox,
            code: wire.tags.code,
            expiration: wire.tags.expiration,
        };
        Ok(Self { head, json: json.into() })
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    pubkey: Cow<'a, str>,
    created_at: u64,
    kind: u16,
    tags: Tags,
}

#[derive(Default)]
struct Tags {
    mailbox: Option<MailboxId>,
    code: Option<String>,
    expiration: Option<Timestamp>,
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Array;
        impl<'de> Visitor<'de> for Array {
            type Value = Tags;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tags")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tags, A::Error> {
                let mut tags = Tags::default();
                while let Some(Tag { name, value }) = items.next_element::<Tag<'de>>()? {
                    match &*name {
                        "p" if tags.mailbox.is_none() => {
                            tags.mailbox = hex::decode_lower(&value).map(MailboxId::from_bytes);
                        }
                        "expiration" if tags.expiration.is_none() => {
                            tags.expiration = value.parse().ok().map(Timestamp)
                        }
                        "d" if tags.code.is_none() => tags.code = Some(value.into_owned()),
                        _ => {}
                    }
                }
                Ok(tags)
            }
        }
        deserializer.deserialize_seq(Array)
    }
}

struct Tag<'a> {
    name: Cow<'a, str>,
    value: Cow<'a, str>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Tag<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
        struct Array;
        impl<'de> Visitor<'de> for Array {
            type Value = Tag<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tag")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tag<'de>, A::Error> {
                let name: Text<'de> = items.next_element()?.ok_or_else(|| de::Error::custom("a tag is empty"))?;
                let value = items.next_element::<Text<'de>>()?.map_or(Cow::Borrowed(""), |value| value.0);
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Tag { name: name.0, value })
            }
        }
        deserializer.deserialize_seq(Array)
    }
}

#[cfg(test)]
mod tests {
    use talkbox_core::{Draft, SealOptions, SecretKey, event::Event, seal};

    use super::*;

    fn read(json: &str) -> Result<Sent> {
        Sent::read(serde_json::from_str(json).expect("JSON"))
    }

    #[test]
    fn an_envelope_answers_the_question_for_its_mailbox_alone() {
        let (sender, owner) = (SecretKey::generate().expect("randomness"), SecretKey::generate().expect("randomness"));
        let now = Timestamp(1_790_000_000);
        let sealed = seal(&Draft::text("hello"), &sender, owner.id(), now, &SealOptions::default()).expect("seals");
        let sent = read(sealed.envelope.json()).expect("an event");
        assert_eq!(sent.head.id, sealed.envelope.id().into());
        assert_eq!(&*sent.json, sealed.envelope.json());
        assert!(!sent.head.is_expired(now));
        assert!(sent.head.is_expired(now.plus(envelope::MAX_RETENTION)));

        let filter = Filter::envelopes(owner.id());
        assert!(filter.matches(&sent.head));
        assert!(filter.clone().ids(&[sealed.envelope.id()]).matches(&sent.head));
        assert!(!filter.clone().ids(&[EnvelopeId::from_bytes([1; 32])]).matches(&sent.head));
        assert!(!Filter { until: Some(sent.head.created_at.minus(1)), ..filter.clone() }.matches(&sent.head));
        assert!(!Filter { since: Some(sent.head.created_at.plus(1)), ..filter.clone() }.matches(&sent.head));
        assert!(!Filter { kind: kind::MESSAGE, ..filter }.matches(&sent.head));
        assert!(!Filter::envelopes(sender.id()).matches(&sent.head));
        assert!(Filter::envelopes_by(sealed.wrap_key.public()).matches(&sent.head));
        assert!(!Filter::envelopes_by(sender.public()).matches(&sent.head));
    }

    #[test]
    fn a_question_is_json() {
        let owner = MailboxId::from_bytes([0xab; 32]);
        let filter =
            Filter { since: Some(Timestamp(5)), ..Filter::envelopes(owner).ids(&[EnvelopeId::from_bytes([1; 32])]) };
        let json: serde_json::Value = serde_json::from_str(&filter.to_json()).expect("JSON");
        let expected = serde_json::json!({
            "kinds": [1059], "ids": ["01".repeat(32)], "#p": ["ab".repeat(32)], "since": 5, "limit": 1
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let key = SecretKey::generate().expect("randomness");
        let event =
            Event::sign(&key, Timestamp(5), 1, vec![vec!["p".to_owned()], vec!["x".to_owned(); 5]], "\"".to_owned());
        assert!(read(&event.to_json()).is_ok());
        for (from, to) in
            [("\"kind\":1", "\"kind\":99999"), ("\"created_at\":5", "\"created_at\":-5"), ("[\"p\"]", "[]")]
        {
            assert!(read(&event.to_json().replace(from, to)).is_err(), "{to}");
        }
        assert_eq!(read(&format!("\"{}\"", "x".repeat(70_000))).expect_err("large").kind(), ErrorKind::TooLarge);
    }
}
