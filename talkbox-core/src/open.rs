//! Opening: from an envelope to a message, with every check of `docs/formats.md` §3.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nostr::nips::nip44::v2::{self, ConversationKey};
use zeroize::Zeroizing;

use crate::{
    Error, ErrorKind, MailboxId, MessageId, PublicKey, Result,
    clock::Timestamp,
    envelope::Envelope,
    event::{self, Wire, kind},
    hex,
    keys::SecretKey,
    message::{Message, MessageKind},
    parallel,
};

/// Conversation keys that are remembered, one per sender: 64 KiB of them. Past that all are forgotten and derived
/// again as they are needed, so that a flood from many senders costs time and no memory.
const MAX_CONVERSATIONS: usize = 2048;

/// Opens the envelopes of one mailbox, and remembers the keys that it shares with known senders, which saves a
/// quarter of the work.
pub struct Opener {
    key: SecretKey,
    mailbox: MailboxId,
    conversations: Mutex<HashMap<PublicKey, Zeroizing<[u8; 32]>>>,
}

impl Opener {
    /// An opener for the mailbox of this key.
    pub fn new(key: SecretKey) -> Self {
        Self { mailbox: key.id(), key, conversations: Mutex::default() }
    }

    /// The mailbox that it opens.
    pub const fn mailbox(&self) -> MailboxId {
        self.mailbox
    }

    /// Opens an envelope, whose own signature was checked when it became one.
    ///
    /// # Errors
    /// `InvalidInput` where it is addressed to another mailbox; `InvalidEnvelope` where what is inside is malformed;
    /// `VerificationFailed` where the seal is not signed, or not by the author of the message, or the message does
    /// not have the id that it claims.
    pub fn open(&self, envelope: &Envelope) -> Result<Message> {
        if envelope.mailbox() != self.mailbox {
            return Err(Error::new(ErrorKind::InvalidInput, "the envelope is addressed to another mailbox"));
        }
        // The author of a wrap is a one-time key: nothing to remember.
        let wrap_key =
            self.key.conversation_key(&envelope.author()).map_err(|error| refuse("the wrap").source(error))?;
        let seal = decrypt(&wrap_key, envelope.content(), "the wrap")?;
        let seal = Wire::parse(&seal)?;
        if seal.kind() != kind::SEAL {
            return Err(refuse("the seal is of another kind"));
        }
        if !seal.tags().is_empty() {
            return Err(refuse("the seal has tags"));
        }
        seal.verify()?;
        let (conversation, known) = self.conversation(&seal.author())?;
        let rumor = decrypt(&conversation, seal.content(), "the seal")?;
        let message = Rumor::parse(&rumor)?.check(&seal.author())?.into_message(envelope)?;
        if !known {
            // Only senders whose seal held: forged ones do not push the others out.
            self.remember(seal.author(), &conversation);
        }
        Ok(message)
    }

    /// Opens many envelopes on all cores, in order. Blocks.
    pub fn open_many(&self, envelopes: &[Envelope]) -> Vec<Result<Message>> {
        parallel::map(envelopes, |envelope| self.open(envelope))
    }

    fn conversation(&self, sender: &PublicKey) -> Result<(ConversationKey, bool)> {
        let known = self.conversations.lock().unwrap_or_else(PoisonError::into_inner).get(sender).cloned();
        match known {
            Some(bytes) => Ok((ConversationKey::new(*bytes), true)),
            None => Ok((self.key.conversation_key(sender)?, false)),
        }
    }

    fn remember(&self, sender: PublicKey, conversation: &ConversationKey) {
        let mut conversations = self.conversations.lock().unwrap_or_else(PoisonError::into_inner);
        if conversations.len() >= MAX_CONVERSATIONS {
            conversations.clear();
        }
        if let Ok(bytes) = conversation.as_bytes().try_into() {
            conversations.insert(sender, Zeroizing::new(bytes));
        }
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener(…)")
    }
}

/// The unsigned event inside a seal. Its id may be absent.
#[derive(serde::Deserialize)]
struct Rumor<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pubkey: Cow<'a, str>,
    created_at: u64,
    kind: u16,
    tags: Vec<Vec<String>>,
    #[serde(borrow)]
    content: Cow<'a, str>,
}

/// A rumor whose author and id have been checked.
struct Checked<'a> {
    rumor: Rumor<'a>,
    id: MessageId,
    author: PublicKey,
}

impl<'a> Rumor<'a> {
    fn parse(json: &'a str) -> Result<Self> {
        let rumor: Self = serde_json::from_str(json).map_err(|_| refuse("the message is malformed"))?;
        if rumor.tags.iter().any(Vec::is_empty) { Err(refuse("a tag of the message is empty")) } else { Ok(rumor) }
    }

    fn check(self, sealed_by: &PublicKey) -> Result<Checked<'a>> {
        let author = hex::decode_lower(&self.pubkey).map(PublicKey::from_bytes);
        let author = author.ok_or_else(|| refuse("the author of the message is malformed"))?;
        if author != *sealed_by {
            return Err(Error::new(ErrorKind::VerificationFailed, "the message was sealed by somebody else"));
        }
        let id = event::id_of(&author, Timestamp(self.created_at), self.kind, &self.tags, &self.content);
        if self.id.as_ref().is_some_and(|claimed| hex::decode_lower(claimed) != Some(*id.as_bytes())) {
            return Err(Error::new(ErrorKind::VerificationFailed, "the message does not have the id that it claims"));
        }
        Ok(Checked { rumor: self, id: id.into(), author })
    }
}

impl Checked<'_> {
    fn into_message(self, envelope: &Envelope) -> Result<Message> {
        let Self { rumor, id, author } = self;
        let value = |name: &str| {
            let tag = rumor.tags.iter().find(|tag| tag[0] == name);
            tag.and_then(|tag| tag.get(1)).map(String::as_str)
        };
        let id_of = |name| value(name).and_then(|hex| MessageId::from_hex(hex).ok());
        Ok(Message {
            id,
            envelope: envelope.id(),
            kind: match rumor.kind {
                kind::MESSAGE => MessageKind::Text,
                kind::CONTROL => MessageKind::Control,
                other => MessageKind::Unsupported(other),
            },
            from: author,
            to: value("p").and_then(|hex| MailboxId::from_hex(hex).ok()).unwrap_or_else(|| envelope.mailbox()),
            sent_at: Timestamp(rumor.created_at),
            millis: value("ms").and_then(|millis| millis.parse().ok()).filter(|millis| *millis < 1000),
            uid: value("uid").map(str::to_owned),
            subject: value("subject").map(str::to_owned),
            reply_to: id_of("e"),
            mime: value("m").map(str::to_owned),
            answer_at: value("reply-to").map(str::to_owned),
            status: value("status").map(str::to_owned),
            body: rumor.content.into_owned(),
        })
    }
}

/// NIP-44 version 2, from base64. The size is bounded by that of the envelope.
fn decrypt(key: &ConversationKey, content: &str, what: &'static str) -> Result<Zeroizing<String>> {
    let payload = STANDARD.decode(content).map_err(|_| refuse(what))?;
    // NIP-44 marks another version by its first byte; the crate's low-level call does not look at it.
    if payload.first() != Some(&2) {
        return Err(refuse(what).with("encryption", "of another version"));
    }
    let plaintext = v2::decrypt_to_bytes(key, &payload).map_err(|_| refuse(what))?;
    String::from_utf8(plaintext).map(Zeroizing::new).map_err(|_| refuse(what))
}

fn refuse(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidEnvelope, format!("cannot be opened: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::Event,
        seal::{Draft, SealOptions, seal, seal_copy, wrap},
    };

    const NOW: Timestamp = Timestamp(1_790_000_000);

    fn pair() -> (SecretKey, SecretKey) {
        (SecretKey::generate().expect("randomness"), SecretKey::generate().expect("randomness"))
    }

    /// A gift wrap around any seal text.
    fn wrapped(seal: &str, owner: &SecretKey) -> Envelope {
        wrap(seal, owner.id(), NOW, &SealOptions::default()).expect("wraps").0
    }

    fn encrypted(from: &SecretKey, to: MailboxId, text: &str) -> String {
        let key = from.conversation_key(&to.into()).expect("a key");
        STANDARD.encode(v2::encrypt_to_bytes_with_nonce(&key, text.as_bytes(), [7; 32]).expect("encrypts"))
    }

    fn sealed(kind: u16, tags: Vec<Vec<String>>, rumor: &str, from: &SecretKey, owner: &SecretKey) -> Envelope {
        let content = encrypted(from, owner.id(), rumor);
        wrapped(&Event::sign(from, NOW, kind, tags, content).to_json(), owner)
    }

    fn rumor(author: &SecretKey, id: Option<&str>, kind: u16) -> String {
        let author = author.public();
        let id = id.map(|id| format!("\"id\":\"{id}\",")).unwrap_or_default();
        format!("{{{id}\"pubkey\":\"{author}\",\"created_at\":1,\"kind\":{kind},\"tags\":[],\"content\":\"hi\"}}")
    }

    #[test]
    fn everything_that_was_sealed_comes_back() {
        let (sender, owner) = pair();
        let draft = Draft {
            body: "é 🦀\n\"quoted\"".to_owned(),
            subject: Some("news".to_owned()),
            reply_to: Some(MessageId::from_bytes([9; 32])),
            mime: Some("text/markdown".to_owned()),
            answer_at: Some("F12TW-YXSDN-W8QCK-54PDT".to_owned()),
        };
        let sealed = seal(&draft, &sender, owner.id(), NOW, &SealOptions::default()).expect("seals");
        let message = Opener::new(owner.clone()).open(&sealed.envelope).expect("opens");
        assert_eq!(message, sealed.message);
        assert_eq!((message.from, message.to, message.sent_at), (sender.public(), owner.id(), NOW));

        let copy = seal_copy(&draft, &message, &sender, owner.id(), NOW, &SealOptions::default()).expect("seals");
        let copied = Opener::new(sender.clone()).open(&copy.envelope).expect("opens");
        assert_eq!((copied.id, copied.to), (message.id, owner.id()));
    }

    #[test]
    fn a_wrap_hides_its_time_and_its_sender() {
        let (sender, owner) = pair();
        let sealed = seal(&Draft::text("x"), &sender, owner.id(), NOW, &SealOptions::default()).expect("seals");
        let envelope = &sealed.envelope;
        assert!(envelope.created_at() <= NOW && envelope.created_at() >= NOW.minus(172_800));
        assert!(!envelope.json().contains(&sender.public().to_hex()));
        assert_eq!(envelope.author(), sealed.wrap_key.public());
        assert!(envelope.expires_at() >= NOW.plus(90 * 86_400));
    }

    #[test]
    fn wrapping_again_keeps_the_message() {
        let (sender, owner) = pair();
        let sealed = seal(&Draft::text("x"), &sender, owner.id(), NOW, &SealOptions::default()).expect("seals");
        let options = SealOptions { work: 6, backdate: false, ..SealOptions::default() };
        let (again, _) = wrap(&sealed.seal, owner.id(), NOW, &options).expect("wraps");
        assert_ne!(again.id(), sealed.envelope.id());
        assert_eq!((again.created_at(), again.work()), (NOW, 6));
        assert_eq!(Opener::new(owner).open(&again).expect("opens").id, sealed.message.id);
    }

    #[test]
    fn every_forgery_is_refused() {
        let (sender, owner) = pair();
        let mallory = SecretKey::generate().expect("randomness");
        let opener = Opener::new(owner.clone());
        let kind_of = |envelope: &Envelope| opener.open(envelope).expect_err("refused").kind();

        let by_another = sealed(kind::SEAL, vec![], &rumor(&sender, None, 14), &mallory, &owner);
        assert_eq!(kind_of(&by_another), ErrorKind::VerificationFailed);
        let other_id = sealed(kind::SEAL, vec![], &rumor(&sender, Some(&"0".repeat(64)), 14), &sender, &owner);
        assert_eq!(kind_of(&other_id), ErrorKind::VerificationFailed);
        let no_seal = sealed(1, vec![], &rumor(&sender, None, 14), &sender, &owner);
        assert_eq!(kind_of(&no_seal), ErrorKind::InvalidEnvelope);
        let tagged = sealed(kind::SEAL, vec![vec!["x".to_owned()]], &rumor(&sender, None, 14), &sender, &owner);
        assert_eq!(kind_of(&tagged), ErrorKind::InvalidEnvelope);

        let content = encrypted(&sender, owner.id(), &rumor(&sender, None, 14));
        let seal = Event::sign(&sender, NOW, kind::SEAL, vec![], content);
        let forged = seal.to_json().replace(&hex::encode(seal.signature()), &"1".repeat(128));
        assert_eq!(kind_of(&wrapped(&forged, &owner)), ErrorKind::VerificationFailed);

        for junk in ["", "{}", "null", "not json"] {
            let envelope = sealed(kind::SEAL, vec![], if junk.is_empty() { " " } else { junk }, &sender, &owner);
            assert_eq!(kind_of(&envelope), ErrorKind::InvalidEnvelope);
        }
        let elsewhere = seal_to_another(&sender);
        assert_eq!(kind_of(&elsewhere), ErrorKind::InvalidInput);
    }

    fn seal_to_another(sender: &SecretKey) -> Envelope {
        let another = SecretKey::generate().expect("randomness").id();
        seal(&Draft::text("x"), sender, another, NOW, &SealOptions::default()).expect("seals").envelope
    }

    #[test]
    fn other_kinds_are_listed_as_unsupported_and_an_absent_id_is_computed() {
        let (sender, owner) = pair();
        let envelope = sealed(kind::SEAL, vec![], &rumor(&sender, None, 15), &sender, &owner);
        let message = Opener::new(owner).open(&envelope).expect("opens");
        assert_eq!(message.kind, MessageKind::Unsupported(15));
    }

    #[test]
    fn the_largest_body_fits_and_one_byte_more_does_not() {
        let (sender, owner) = pair();
        let of = |size| seal(&Draft::text("a".repeat(size)), &sender, owner.id(), NOW, &SealOptions::default());
        assert!(of(24 * 1024).expect("fits").envelope.json().len() < 65_536);
        assert_eq!(of(24 * 1024 + 1).expect_err("too large").kind(), ErrorKind::TooLarge);
        // Escapes cost more than they show: a body under the limit can still make a wrap over it.
        let escapes = Draft::text("\"".repeat(24 * 1024));
        let error = seal(&escapes, &sender, owner.id(), NOW, &SealOptions::default()).expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn nip_17_clients_read_ours_and_we_read_theirs() {
        use nostr::{
            event::FinalizeEvent as _,
            nips::{nip17::PrivateDirectMessageBuilder, nip59::UnwrappedGift},
        };
        let (sender, owner) = pair();
        let theirs = PrivateDirectMessageBuilder::new(owner.keys().public_key(), "from nostr")
            .finalize(sender.keys())
            .expect("wraps");
        let envelope = Envelope::parse(&theirs.as_json()).expect("an envelope");
        let message = Opener::new(owner.clone()).open(&envelope).expect("opens");
        assert_eq!((message.body.as_str(), message.from), ("from nostr", sender.public()));

        let ours =
            seal(&Draft::text("from talkbox"), &sender, owner.id(), NOW, &SealOptions::default()).expect("seals");
        let event = nostr::event::Event::from_json(ours.envelope.json()).expect("an event");
        let gift = UnwrappedGift::from_gift_wrap(owner.keys(), &event).expect("unwraps");
        assert_eq!(
            (gift.rumor.content.as_str(), gift.sender.to_bytes()),
            ("from talkbox", *sender.public().as_bytes())
        );
    }

    /// The vectors of NIP-44, through the very functions that seal and open.
    #[test]
    fn nip_44_vectors_hold() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../tests/vectors/nip44.json")).expect("JSON");
        let text = |vector: &serde_json::Value, name: &str| vector[name].as_str().expect(name).to_owned();
        let key_of = |vector: &serde_json::Value| {
            ConversationKey::new(hex::decode32(&text(vector, "conversation_key")).expect("32 bytes"))
        };
        let list = |path: &str| vectors.pointer(path).and_then(|list| list.as_array()).expect("a list").clone();

        for vector in list("/v2/valid/get_conversation_key") {
            let secret =
                SecretKey::from_bytes(&hex::decode32(&text(&vector, "sec1")).expect("32 bytes")).expect("a key");
            let public = PublicKey::from_hex(&text(&vector, "pub2")).expect("32 bytes");
            let derived = secret.conversation_key(&public).expect("a point");
            assert_eq!(hex::encode(derived.as_bytes()), text(&vector, "conversation_key"));
        }
        for vector in list("/v2/valid/encrypt_decrypt") {
            let (key, plain) = (key_of(&vector), text(&vector, "plaintext"));
            let nonce = hex::decode32(&text(&vector, "nonce")).expect("32 bytes");
            let payload = v2::encrypt_to_bytes_with_nonce(&key, plain.as_bytes(), nonce).expect("encrypts");
            assert_eq!(STANDARD.encode(payload), text(&vector, "ciphertext"));
            assert_eq!(*decrypt(&key, &text(&vector, "ciphertext"), "it").expect("decrypts"), plain);
        }
        for vector in list("/v2/invalid/decrypt") {
            assert!(decrypt(&key_of(&vector), &text(&vector, "ciphertext"), "it").is_err(), "{}", vector["note"]);
        }
        for vector in list("/v2/invalid/get_conversation_key") {
            let secret = SecretKey::from_bytes(&hex::decode32(&text(&vector, "sec1")).expect("32 bytes"));
            let public = PublicKey::from_hex(&text(&vector, "pub2")).expect("32 bytes");
            let derived = secret.and_then(|secret| secret.conversation_key(&public));
            assert!(derived.is_err(), "{}", vector["note"]);
        }
    }
}
