//! Requests to delete envelopes (NIP-09), signed by the owner or by the one-time key of the wrap.

use crate::{
    EnvelopeId, Error, ErrorKind, MailboxId, PublicKey, Result,
    clock::Timestamp,
    event::{Event, kind},
    keys::SecretKey,
};

/// Most envelopes that one request names.
pub const MAX_DELETIONS: usize = 100;

/// A signed request to delete envelopes of one mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRequest {
    event: Event,
    mailbox: MailboxId,
    ids: Vec<EnvelopeId>,
}

impl DeleteRequest {
    /// Signs a request. It is valid for the envelopes whose mailbox or author the key is.
    ///
    /// # Errors
    /// `InvalidInput` for none, or for more than [`MAX_DELETIONS`].
    pub fn sign(key: &SecretKey, mailbox: MailboxId, ids: &[EnvelopeId], now: Timestamp) -> Result<Self> {
        if ids.is_empty() || ids.len() > MAX_DELETIONS {
            return Err(
                Error::new(ErrorKind::InvalidInput, "a deletion names 1 to 100 envelopes").with("given", ids.len())
            );
        }
        let mut tags: Vec<Vec<String>> = ids.iter().map(|id| vec!["e".to_owned(), id.to_hex()]).collect();
        tags.push(vec!["k".to_owned(), kind::GIFT_WRAP.to_string()]);
        tags.push(vec!["p".to_owned(), mailbox.to_hex()]);
        Ok(Self { event: Event::sign(key, now, kind::DELETION, tags, String::new()), mailbox, ids: ids.to_vec() })
    }

    /// Takes a request from a checked event.
    ///
    /// # Errors
    /// `InvalidEnvelope` where it is no deletion of envelopes of one mailbox.
    pub fn from_event(event: Event) -> Result<Self> {
        let malformed = |why: &'static str| Error::new(ErrorKind::InvalidEnvelope, why);
        if event.kind() != kind::DELETION {
            return Err(malformed("not a deletion"));
        }
        let wraps = kind::GIFT_WRAP.to_string();
        if event.values("k").any(|k| k != wraps) {
            return Err(malformed("deletes something else than envelopes"));
        }
        let ids: Vec<EnvelopeId> = event.values("e").map(EnvelopeId::from_hex).collect::<Result<_>>()?;
        if ids.is_empty() || ids.len() > MAX_DELETIONS {
            return Err(malformed("a deletion names 1 to 100 envelopes"));
        }
        let mailbox = event.value("p").and_then(|hex| MailboxId::from_hex(hex).ok());
        let mailbox = mailbox.unwrap_or_else(|| event.author().into());
        Ok(Self { mailbox, ids, event })
    }

    /// The mailbox whose envelopes it names.
    pub const fn mailbox(&self) -> MailboxId {
        self.mailbox
    }

    /// The envelopes.
    pub fn ids(&self) -> &[EnvelopeId] {
        &self.ids
    }

    /// Who signed it.
    pub const fn author(&self) -> PublicKey {
        self.event.author()
    }

    /// The signed event.
    pub const fn event(&self) -> &Event {
        &self.event
    }

    /// Whether it is valid for an envelope: signed by the owner of its mailbox or by its author.
    pub fn covers(&self, mailbox: MailboxId, author: PublicKey) -> bool {
        let by = self.event.author();
        by == author || by == PublicKey::from(mailbox)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_the_wire() {
        let key = SecretKey::generate().expect("randomness");
        let ids = [EnvelopeId::from_bytes([1; 32]), EnvelopeId::from_bytes([2; 32])];
        let request = DeleteRequest::sign(&key, key.id(), &ids, Timestamp(5)).expect("signs");
        let again = DeleteRequest::from_event(Event::parse(&request.event().to_json()).expect("valid")).expect("reads");
        assert_eq!(again, request);
        assert!(again.covers(key.id(), PublicKey::from_bytes([3; 32])));
        assert!(!again.covers(MailboxId::from_bytes([4; 32]), PublicKey::from_bytes([3; 32])));
    }

    #[test]
    fn the_number_is_bounded() {
        let key = SecretKey::generate().expect("randomness");
        let many = vec![EnvelopeId::from_bytes([1; 32]); 101];
        assert!(DeleteRequest::sign(&key, key.id(), &many, Timestamp(5)).is_err());
        assert!(DeleteRequest::sign(&key, key.id(), &[], Timestamp(5)).is_err());
    }
}
