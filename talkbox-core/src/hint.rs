//! Hints: "look", from a throw-away key. They may be lost, repeated or forged; mail never depends on one.

use crate::{
    Error, ErrorKind, MailboxId, Result,
    clock::Timestamp,
    event::{Event, kind},
    keys::SecretKey,
};

/// Most heads that a hint carries.
pub const MAX_HEADS: usize = 16;
/// How long a hint says anything, in seconds.
const LIFETIME: u64 = 3600;

/// A wake-up for the reader of a mailbox that cannot be watched. It triggers a `list` on holders that are already
/// known, at most one in five seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    event: Event,
    mailbox: MailboxId,
    heads: Vec<String>,
}

impl Hint {
    /// Signs a hint with a key that is thrown away.
    ///
    /// # Errors
    /// `InvalidInput` for more than [`MAX_HEADS`].
    pub fn sign(mailbox: MailboxId, heads: &[String], now: Timestamp) -> Result<Self> {
        if heads.len() > MAX_HEADS {
            return Err(
                Error::new(ErrorKind::InvalidInput, "a hint carries at most 16 heads").with("given", heads.len())
            );
        }
        let mut tags = vec![vec!["p".to_owned(), mailbox.to_hex()]];
        tags.extend(heads.iter().map(|head| vec!["head".to_owned(), head.clone()]));
        tags.push(vec!["expiration".to_owned(), now.plus(LIFETIME).to_string()]);
        let event = Event::sign(&SecretKey::generate()?, now, kind::HINT, tags, String::new());
        Ok(Self { event, mailbox, heads: heads.to_vec() })
    }

    /// Takes a hint from a checked event.
    ///
    /// # Errors
    /// `InvalidEnvelope` where it is none, or says no longer anything.
    pub fn from_event(event: Event, now: Timestamp) -> Result<Self> {
        let malformed = |why: &'static str| Error::new(ErrorKind::InvalidEnvelope, why);
        if event.kind() != kind::HINT {
            return Err(malformed("not a hint"));
        }
        let mailbox = event.value("p").and_then(|hex| MailboxId::from_hex(hex).ok());
        let mailbox = mailbox.ok_or_else(|| malformed("a hint to nobody"))?;
        let until = event.value("expiration").and_then(|until| until.parse().ok()).map(Timestamp);
        if until.is_none_or(|until| until <= now || until > now.plus(2 * LIFETIME)) {
            return Err(malformed("a hint that says no longer anything"));
        }
        let heads = event.values("head").take(MAX_HEADS).map(str::to_owned).collect();
        Ok(Self { event, mailbox, heads })
    }

    /// The mailbox to look at.
    pub const fn mailbox(&self) -> MailboxId {
        self.mailbox
    }

    /// What is new there, in the words of its backend.
    pub fn heads(&self) -> &[String] {
        &self.heads
    }

    /// The signed event.
    pub const fn event(&self) -> &Event {
        &self.event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_runs_out() {
        let mailbox = MailboxId::from_bytes([1; 32]);
        let hint = Hint::sign(mailbox, &["cid".to_owned()], Timestamp(1000)).expect("signs");
        assert_eq!(Hint::from_event(hint.event().clone(), Timestamp(1000)).expect("fresh"), hint);
        assert!(Hint::from_event(hint.event().clone(), Timestamp(1000 + LIFETIME)).is_err());
    }
}
