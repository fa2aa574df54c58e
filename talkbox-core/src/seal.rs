//! Sealing: from a draft to an envelope (NIP-17 rumor, NIP-59 seal and gift wrap, NIP-44 encryption).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nostr::nips::nip44::v2::{self, ConversationKey};
use zeroize::Zeroizing;

use crate::{
    Error, ErrorKind, MailboxId, MessageId, Result,
    clock::Timestamp,
    envelope::{DEFAULT_RETENTION, Envelope, MAX_BACKDATE, MAX_ENVELOPE_BYTES},
    event::{self, Event, Tag, kind, push_string},
    hex,
    keys::SecretKey,
    message::{Message, Written},
    pow, random,
};

/// Most bytes that the body of a message may have: 24 KiB. More waits for attachments.
pub const MAX_BODY_BYTES: usize = 24 * 1024;
/// Nothing is sealed to be kept for less than 30 days, in seconds.
pub const MIN_RETENTION: u64 = 30 * 86_400;

/// A message that is not sealed yet.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Draft {
    /// The text, at most [`MAX_BODY_BYTES`].
    pub body: String,
    /// One line that says what it is about.
    pub subject: Option<String>,
    /// The message that this one answers.
    pub reply_to: Option<MessageId>,
    /// The MIME type of the body; plain text when absent.
    pub mime: Option<String>,
    /// Where an answer is wanted, when not at the sender's own mailbox: a code or an `nprofile`.
    pub answer_at: Option<String>,
}

impl Draft {
    /// A plain text.
    pub fn text(body: impl Into<String>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }
}

/// How to seal.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct SealOptions {
    /// How long holders keep it, in seconds; at least [`MIN_RETENTION`].
    pub retention: u64,
    /// Work that the mailbox asks for (NIP-13), in bits.
    pub work: u8,
    /// Whether the wrap is dated back at random, as NIP-59 wants it. Off only for a holder that refuses such wraps.
    pub backdate: bool,
    /// When the message was written, in milliseconds since 1970; where it is absent, in the second in which it is
    /// sealed, and its place among the messages of that second is left open.
    pub written: Option<u64>,
}

impl Default for SealOptions {
    fn default() -> Self {
        Self { retention: DEFAULT_RETENTION, work: 0, backdate: true, written: None }
    }
}

/// The outcome of sealing: the envelope, and what the sender keeps to audit, delete or wrap again.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// What goes to the holders.
    pub envelope: Envelope,
    /// The one-time key that signed the wrap: holders that gate reads count it as involved.
    pub wrap_key: SecretKey,
    /// The signed and encrypted seal (kind 13), from which [`wrap`] makes a fresh envelope of the same message.
    pub seal: String,
    /// The message as the recipient will see it.
    pub message: Message,
}

/// Seals a draft to a mailbox.
///
/// # Errors
/// `TooLarge` for a body over [`MAX_BODY_BYTES`] or a wrap over [`MAX_ENVELOPE_BYTES`], `InvalidInput` for an empty body, a mailbox id that is
/// no key, or a retention under [`MIN_RETENTION`].
///
/// ```
/// use talkbox_core::{Opener, SealOptions, SecretKey, Timestamp, Draft, seal};
///
/// let (sender, owner) = (SecretKey::generate()?, SecretKey::generate()?);
/// let now = Timestamp(1_790_000_000);
/// let sealed = seal(&Draft::text("hello"), &sender, owner.id(), now, &SealOptions::default())?;
/// let message = Opener::new(owner).open(&sealed.envelope)?;
/// assert_eq!((message.body.as_str(), message.from), ("hello", sender.public()));
/// # Ok::<(), talkbox_core::Error>(())
/// ```
pub fn seal(
    draft: &Draft,
    sender: &SecretKey,
    mailbox: MailboxId,
    now: Timestamp,
    options: &SealOptions,
) -> Result<Sealed> {
    let written = options.written.map_or(Written { at: now, millis: None }, Written::of_millis);
    let rumor = Rumor::message(draft, sender, mailbox, written)?;
    rumor.seal(sender, mailbox, now, options)
}

/// Seals the sender's own copy of a message that [`seal`] made, to the sender's own mailbox (NIP-17): the same rumor,
/// so the same message id. `mailbox` is the one that the original went to.
///
/// # Errors
/// As [`seal`].
pub fn seal_copy(
    draft: &Draft,
    original: &Message,
    sender: &SecretKey,
    mailbox: MailboxId,
    now: Timestamp,
    options: &SealOptions,
) -> Result<Sealed> {
    let uid = original.uid.as_deref().unwrap_or_default();
    let written = Written { at: original.sent_at, millis: original.millis };
    let rumor = Rumor::with_uid(draft, sender, mailbox, written, uid);
    debug_assert_eq!(rumor.message.id, original.id, "the copy is the same message");
    rumor.seal(sender, sender.id(), now, options)
}

/// Wraps a seal in a fresh envelope: another one-time key, another time, another id, the same message.
///
/// # Errors
/// `TooLarge` and `InvalidInput` as [`seal`].
pub fn wrap(seal: &str, mailbox: MailboxId, now: Timestamp, options: &SealOptions) -> Result<(Envelope, SecretKey)> {
    if options.retention < MIN_RETENTION {
        return Err(Error::new(ErrorKind::InvalidInput, "nothing is kept for less than 30 days")
            .with("retention", options.retention));
    }
    let key = SecretKey::generate()?;
    let created_at = if options.backdate { backdated(now)? } else { now };
    let expiration = created_at.plus(options.retention + MAX_BACKDATE);
    let mut tags: Vec<Tag> =
        vec![vec!["p".to_owned(), mailbox.to_hex()], vec!["expiration".to_owned(), expiration.to_string()]];
    let content = encrypt(&key.conversation_key(&mailbox.into())?, seal)?;
    // A wrap that is too large is found out before work is spent on it: the nonce tag adds less than 40 bytes.
    if content.len() + 700 > MAX_ENVELOPE_BYTES {
        return Err(crate::envelope::too_large(content.len() + 700));
    }
    pow::mine(&key.public(), created_at, kind::GIFT_WRAP, &mut tags, &content, options.work)?;
    let wrap = Event::sign(&key, created_at, kind::GIFT_WRAP, tags, content);
    Ok((Envelope::restore(&wrap.to_json())?, key))
}

/// What can be told of a draft before there is a key to seal it to.
pub(crate) fn check_draft(draft: &Draft) -> Result<()> {
    if draft.body.is_empty() {
        return Err(Error::new(ErrorKind::InvalidInput, "the message is empty"));
    }
    if draft.body.len() > MAX_BODY_BYTES {
        return Err(Error::new(ErrorKind::TooLarge, "the message is larger than 24 KiB")
            .with("bytes", draft.body.len())
            .with("limit", MAX_BODY_BYTES));
    }
    Ok(())
}

/// The unsigned event inside (NIP-59): its id is the message's.
struct Rumor {
    json: Zeroizing<String>,
    message: Message,
}

impl Rumor {
    fn message(draft: &Draft, sender: &SecretKey, mailbox: MailboxId, written: Written) -> Result<Self> {
        check_draft(draft)?;
        // 64 random bits keep two equal texts of the same second apart.
        let uid = hex::encode(&random::bytes::<8>()?);
        Ok(Self::with_uid(draft, sender, mailbox, written, &uid))
    }

    fn with_uid(draft: &Draft, sender: &SecretKey, mailbox: MailboxId, written: Written, uid: &str) -> Self {
        let author = sender.public();
        let mut tags: Vec<Tag> = vec![vec!["p".to_owned(), mailbox.to_hex()], vec!["uid".to_owned(), uid.to_owned()]];
        if let Some(subject) = &draft.subject {
            tags.push(vec!["subject".to_owned(), subject.clone()]);
        }
        if let Some(message) = &draft.reply_to {
            tags.push(vec!["e".to_owned(), message.to_hex(), String::new(), "reply".to_owned()]);
        }
        if let Some(mime) = &draft.mime {
            tags.push(vec!["m".to_owned(), mime.clone()]);
        }
        if let Some(address) = &draft.answer_at {
            tags.push(vec!["reply-to".to_owned(), address.clone()]);
        }
        if let Some(millis) = written.millis {
            tags.push(vec!["ms".to_owned(), millis.to_string()]);
        }
        let id = event::id_of(&author, written.at, kind::MESSAGE, &tags, &draft.body);
        let json = Zeroizing::new(rumor_json(&id.to_hex(), &author.to_hex(), written.at, &tags, &draft.body));
        let message = Message::of_draft(id.into(), author, mailbox, written, uid, draft);
        Self { json, message }
    }

    fn seal(self, sender: &SecretKey, to: MailboxId, now: Timestamp, options: &SealOptions) -> Result<Sealed> {
        let content = encrypt(&sender.conversation_key(&to.into())?, &self.json)?;
        let seal = Event::sign(sender, backdated(now)?, kind::SEAL, vec![], content).to_json();
        let (envelope, wrap_key) = wrap(&seal, to, now, options)?;
        let message = Message { envelope: envelope.id(), ..self.message };
        Ok(Sealed { envelope, wrap_key, seal, message })
    }
}

fn rumor_json(id: &str, author: &str, created_at: Timestamp, tags: &[Tag], content: &str) -> String {
    let mut out = String::with_capacity(400 + content.len());
    out.push_str("{\"id\":\"");
    out.push_str(id);
    out.push_str("\",\"pubkey\":\"");
    out.push_str(author);
    out.push_str("\",\"created_at\":");
    out.push_str(&created_at.to_string());
    out.push_str(",\"kind\":14,\"tags\":");
    event::push_tags(&mut out, tags);
    out.push_str(",\"content\":");
    push_string(&mut out, content);
    out.push('}');
    out
}

/// NIP-44 version 2, as base64.
fn encrypt(key: &ConversationKey, plaintext: &str) -> Result<String> {
    let payload = v2::encrypt_to_bytes_with_nonce(key, plaintext.as_bytes(), random::bytes()?)
        .map_err(|error| Error::new(ErrorKind::TooLarge, "cannot be encrypted").source(error))?;
    Ok(STANDARD.encode(payload))
}

/// A random time within the two days before.
fn backdated(now: Timestamp) -> Result<Timestamp> {
    // The bias of the remainder is under 2^-46.
    Ok(now.minus(u64::from_le_bytes(random::bytes()?) % (MAX_BACKDATE + 1)))
}
