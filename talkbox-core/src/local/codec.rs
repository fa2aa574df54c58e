//! The compact form of an opened message, as it is sealed at rest: reading ten thousand of them back has to be cheap.
//!
//! Version, flags of the optional fields, kind, time, author and mailbox in fixed places; then each optional field
//! and the body with its length before it. The ids are those of the row, and the row is authenticated.

use zeroize::Zeroizing;

use crate::{EnvelopeId, MailboxId, Message, MessageId, MessageKind, PublicKey, clock::Timestamp, event::kind};

const VERSION: u8 = 1;
/// Version, flags, kind, time, author, mailbox.
const FIXED: usize = 1 + 1 + 2 + 8 + 32 + 32;

const UID: u8 = 1;
const SUBJECT: u8 = 2;
const REPLY_TO: u8 = 4;
const MIME: u8 = 8;
const ANSWER_AT: u8 = 16;
const STATUS: u8 = 32;
const MILLIS: u8 = 64;

/// The number of a kind, as in the event.
pub(super) const fn kind_number(kind: MessageKind) -> u16 {
    match kind {
        MessageKind::Text => kind::MESSAGE,
        MessageKind::Control => kind::CONTROL,
        MessageKind::Unsupported(number) => number,
    }
}

/// The kind of a number.
const fn kind_of(number: u16) -> MessageKind {
    match number {
        kind::MESSAGE => MessageKind::Text,
        kind::CONTROL => MessageKind::Control,
        other => MessageKind::Unsupported(other),
    }
}

/// All of the message but the two ids.
pub(super) fn encode(message: &Message) -> Zeroizing<Vec<u8>> {
    let texts = [
        (UID, message.uid.as_deref()),
        (SUBJECT, message.subject.as_deref()),
        (MIME, message.mime.as_deref()),
        (ANSWER_AT, message.answer_at.as_deref()),
        (STATUS, message.status.as_deref()),
    ];
    let present = || texts.iter().filter_map(|(flag, text)| text.map(|text| (*flag, text)));
    let length = FIXED + 38 + present().map(|(_, text)| text.len() + 4).sum::<usize>() + message.body.len();
    // In one piece: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    let reply = if message.reply_to.is_some() { REPLY_TO } else { 0 };
    let millis = if message.millis.is_some() { MILLIS } else { 0 };
    bytes.push(VERSION);
    bytes.push(present().fold(reply | millis, |flags, (flag, _)| flags | flag));
    bytes.extend_from_slice(&kind_number(message.kind).to_le_bytes());
    bytes.extend_from_slice(&message.sent_at.secs().to_le_bytes());
    bytes.extend_from_slice(message.from.as_bytes());
    bytes.extend_from_slice(message.to.as_bytes());
    if let Some(millis) = message.millis {
        bytes.extend_from_slice(&millis.to_le_bytes());
    }
    if let Some(id) = &message.reply_to {
        bytes.extend_from_slice(id.as_bytes());
    }
    for text in present().map(|(_, text)| text).chain([message.body.as_str()]) {
        // An envelope has at most 64 KiB, so no part of it needs more than 32 bits.
        bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// The message again; `None` where this is not what [`encode`] makes.
pub(super) fn decode(id: MessageId, envelope: EnvelopeId, bytes: &[u8]) -> Option<Message> {
    let mut rest = bytes;
    let [version, flags] = take(&mut rest)?;
    if version != VERSION {
        return None;
    }
    let kind = kind_of(u16::from_le_bytes(take(&mut rest)?));
    let sent_at = Timestamp(u64::from_le_bytes(take(&mut rest)?));
    let from = PublicKey::from_bytes(take(&mut rest)?);
    let to = MailboxId::from_bytes(take(&mut rest)?);
    let has = |flag| flags & flag != 0;
    let millis = if has(MILLIS) { Some(u16::from_le_bytes(take(&mut rest)?)) } else { None };
    let reply_to = if has(REPLY_TO) { Some(MessageId::from_bytes(take(&mut rest)?)) } else { None };
    let mut optional = |flag| if has(flag) { text(&mut rest).map(Some) } else { Some(None) };
    let (uid, subject, mime) = (optional(UID)?, optional(SUBJECT)?, optional(MIME)?);
    let (answer_at, status) = (optional(ANSWER_AT)?, optional(STATUS)?);
    let body = text(&mut rest)?;
    let whole = rest.is_empty();
    whole.then_some(Message {
        id,
        envelope,
        kind,
        from,
        to,
        sent_at,
        millis,
        uid,
        subject,
        reply_to,
        mime,
        answer_at,
        status,
        body,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(u32::from_le_bytes(take(rest)?)).ok()?;
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    std::str::from_utf8(taken).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*};

    use super::*;

    fn message() -> impl Strategy<Value = Message> {
        let id = || any::<[u8; 32]>();
        let text = || option::of(".{0,20}");
        let fields = (any::<u16>(), id(), id(), any::<u64>(), option::of(any::<u16>()), option::of(id()));
        let texts = (text(), text(), text(), text(), text(), ".{0,300}");
        (fields, texts).prop_map(|((number, from, to, sent_at, millis, reply_to), texts)| {
            let (uid, subject, mime, answer_at, status, body) = texts;
            Message {
                id: MessageId::from_bytes([1; 32]),
                envelope: EnvelopeId::from_bytes([2; 32]),
                kind: kind_of(number),
                from: PublicKey::from_bytes(from),
                to: MailboxId::from_bytes(to),
                sent_at: Timestamp(sent_at),
                millis,
                uid,
                subject,
                reply_to: reply_to.map(MessageId::from_bytes),
                mime,
                answer_at,
                status,
                body,
            }
        })
    }

    proptest! {
        #[test]
        fn every_message_comes_back(message in message()) {
            prop_assert_eq!(decode(message.id, message.envelope, &encode(&message)), Some(message));
        }

        #[test]
        fn nothing_that_was_cut_is_taken_and_junk_never_panics(message in message(), junk: Vec<u8>) {
            let bytes = encode(&message);
            for length in 0..bytes.len() {
                prop_assert!(decode(message.id, message.envelope, &bytes[..length]).is_none());
            }
            let _ = decode(message.id, message.envelope, &junk);
        }
    }
}
