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

impl Message {
    pub(crate) fn of_draft(
        id: MessageId,
        from: PublicKey,
        to: MailboxId,
        sent_at: Timestamp,
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
            sent_at,
            uid: Some(uid.to_owned()),
            subject: draft.subject.clone(),
            reply_to: draft.reply_to,
            mime: draft.mime.clone(),
            answer_at: draft.answer_at.clone(),
            status: None,
            body: draft.body.clone(),
        }
    }

    /// The time to sort by: the sender's, but not later than when it was first seen.
    pub fn sort_time(&self, first_seen: Timestamp) -> Timestamp {
        self.sent_at.min(first_seen)
    }
}

impl std::fmt::Debug for Message {
    /// Names and sizes: what was said stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({:?}, {:?}, {} bytes)", self.id, self.kind, self.body.len())
    }
}
