//! Messages: what is inside an envelope, once it has been opened.

use crate::{EnvelopeId, MailboxId, MessageId, PublicKey, clock::Timestamp, seal::Draft};

/// What kind of thing was sealed.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    /// A message for people (kind 14).
    Text,
    /// A control message between programs (kind 1789), such as "delivered".
    Control,
    /// Something that this version does not know: listed, not shown.
    Unsupported(u16),
}

/// An opened message. Every field comes from the sender and is believed no further than that; [`from`](Self::from) is
/// proved by the seal's signature.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Message {
    /// Its name, the same however often it was wrapped.
    pub id: MessageId,
    /// The envelope that it came in.
    pub envelope: EnvelopeId,
    /// What it is.
    pub kind: MessageKind,
    /// Who sealed it.
    pub from: PublicKey,
    /// The mailbox that it was written to; not the reader's own for a sender's copy.
    pub to: MailboxId,
    /// The time that the sender claims. It may lie in the future: [`sort_time`](Self::sort_time) does not.
    pub sent_at: Timestamp,
    /// The millisecond of that second, where the sender gave it: messages of one second stay in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub millis: Option<u16>,
    /// Keeps equal texts of one second apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// One line that says what it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The message that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<MessageId>,
    /// The MIME type of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime: Option<String>,
    /// Where the sender wants the answer; shown, and used only after confirmation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_at: Option<String>,
    /// For a control message: what it says of [`reply_to`](Self::reply_to), such as `delivered`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The text.
    pub body: String,
}

/// When a message was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) at: Timestamp,
    pub(crate) millis: Option<u16>,
}

impl Written {
    /// A time in milliseconds.
    pub(crate) const fn of_millis(time: u64) -> Self {
        // What is left over is less than 1000.
        Self { at: Timestamp(time / 1000), millis: Some((time % 1000) as u16) }
    }
}

impl Message {
    pub(crate) fn of_draft(
        id: MessageId,
        from: PublicKey,
        to: MailboxId,
        written: Written,
        uid: &str,
        draft: &Draft,
    ) -> Self {
        Self {
            id,
            // Known once the rumor is wrapped.
            envelope: EnvelopeId::from_bytes([0; 32]),
            kind: MessageKind::Text,
            from,
            to,
            sent_at: written.at,
            millis: written.millis,
            uid: Some(uid.to_owned()),
            subject: draft.subject.clone(),
            reply_to: draft.reply_to,
            mime: draft.mime.clone(),
            answer_at: draft.answer_at.clone(),
            status: None,
            body: draft.body.clone(),
        }
    }

    /// Whether it is the owner's own copy of what they sent to somebody else.
    pub fn is_copy_of(&self, owner: MailboxId) -> bool {
        MailboxId::from(self.from) == owner && self.to != owner
    }

    /// The time to sort by: the sender's, but not later than when it was first seen.
    pub fn sort_time(&self, first_seen: Timestamp) -> Timestamp {
        self.sent_at.min(first_seen)
    }

    /// The same in milliseconds.
    pub(crate) fn sort_millis(&self, first_seen: Timestamp) -> u64 {
        let millis = self.millis.filter(|_| self.sent_at <= first_seen).unwrap_or(0);
        self.sort_time(first_seen).secs().saturating_mul(1000).saturating_add(millis.into())
    }
}

impl std::fmt::Debug for Message {
    /// Names and sizes: what was said stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({:?}, {:?}, {} bytes)", self.id, self.kind, self.body.len())
    }
}
