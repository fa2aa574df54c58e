//! Custody receipts: a holder signs that it has envelopes, and until when it will.
//!
//! A receipt is a Nostr event of kind 1788 that is never published: whoever got it can show it. One signature covers all
//! that a request or a commit brought (`docs/formats.md` §7).

use crate::{
    EnvelopeId, Error, ErrorKind, PublicKey, Result,
    clock::Timestamp,
    envelope::MAX_FUTURE,
    event::{Event, kind},
    keys::SecretKey,
};

/// Most envelopes that one receipt names.
pub const MAX_RECEIPT_IDS: usize = 256;

/// A signed statement of a holder.
///
/// ```
/// use talkbox_core::{SecretKey, Timestamp, custody::CustodyReceipt, id::EnvelopeId};
///
/// let node = SecretKey::generate()?;
/// let id = EnvelopeId::from_bytes([7; 32]);
/// let receipt = CustodyReceipt::sign(&node, &[id], Timestamp(1_800_000_000), Timestamp(1_807_776_000))?;
/// let read = CustodyReceipt::parse(&receipt.event().to_json())?;
/// assert!(read.node() == node.public() && read.covers(&id));
/// # Ok::<(), talkbox_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustodyReceipt {
    event: Event,
    ids: Vec<EnvelopeId>,
    stored: Timestamp,
    until: Timestamp,
}

impl CustodyReceipt {
    /// Signs that these are held, from `stored` on and all of them until `until`.
    ///
    /// # Errors
    /// `InvalidInput` for none, or for more than [`MAX_RECEIPT_IDS`].
    pub fn sign(key: &SecretKey, ids: &[EnvelopeId], stored: Timestamp, until: Timestamp) -> Result<Self> {
        if ids.is_empty() || ids.len() > MAX_RECEIPT_IDS {
            return Err(
                Error::new(ErrorKind::InvalidInput, "a receipt names 1 to 256 envelopes").with("given", ids.len())
            );
        }
        let mut tags: Vec<Vec<String>> = ids.iter().map(|id| vec!["e".to_owned(), id.to_hex()]).collect();
        tags.push(vec!["stored".to_owned(), stored.secs().to_string()]);
        tags.push(vec!["until".to_owned(), until.secs().to_string()]);
        let event = Event::sign(key, stored, kind::RECEIPT, tags, String::new());
        Ok(Self { event, ids: ids.to_vec(), stored, until })
    }

    /// Reads a receipt, and verifies its id and signature.
    ///
    /// # Errors
    /// `InvalidEnvelope` where it is none.
    pub fn parse(json: &str) -> Result<Self> {
        Self::from_event(Event::parse(json)?)
    }

    /// Takes a receipt from a checked event.
    ///
    /// # Errors
    /// `InvalidEnvelope` where it is none.
    pub fn from_event(event: Event) -> Result<Self> {
        let malformed = |why: &'static str| Error::new(ErrorKind::InvalidEnvelope, why);
        if event.kind() != kind::RECEIPT {
            return Err(malformed("not a custody receipt"));
        }
        let ids: Vec<EnvelopeId> = event.values("e").map(EnvelopeId::from_hex).collect::<Result<_>>()?;
        if ids.is_empty() || ids.len() > MAX_RECEIPT_IDS {
            return Err(malformed("a receipt names 1 to 256 envelopes"));
        }
        let time = |name| event.value(name).and_then(|secs| secs.parse().ok()).map(Timestamp);
        let (Some(stored), Some(until)) = (time("stored"), time("until")) else {
            return Err(malformed("a receipt says since when and until when"));
        };
        Ok(Self { ids, stored, until, event })
    }

    /// Who signed it.
    pub const fn node(&self) -> PublicKey {
        self.event.author()
    }

    /// The envelopes that it names.
    pub fn ids(&self) -> &[EnvelopeId] {
        &self.ids
    }

    /// Since when they are held, by the clock of the holder.
    pub const fn stored(&self) -> Timestamp {
        self.stored
    }

    /// Until when all of them are held.
    pub const fn until(&self) -> Timestamp {
        self.until
    }

    /// Whether it names this envelope.
    pub fn covers(&self, id: &EnvelopeId) -> bool {
        self.ids.contains(id)
    }

    /// Whether it says at this time that something is held now: it does not end in the past or begin in the future.
    pub fn is_current(&self, now: Timestamp) -> bool {
        self.until > now && self.stored <= now.plus(MAX_FUTURE)
    }

    /// The signed event.
    pub const fn event(&self) -> &Event {
        &self.event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn key() -> SecretKey {
        SecretKey::generate().expect("randomness")
    }

    fn id(byte: u8) -> EnvelopeId {
        EnvelopeId::from_bytes([byte; 32])
    }

    #[test]
    fn it_says_who_what_and_until_when() {
        let node = key();
        let receipt = CustodyReceipt::sign(&node, &[id(1), id(2)], NOW, NOW.plus(60)).expect("signs");
        let read = CustodyReceipt::parse(&receipt.event().to_json()).expect("is one");
        assert_eq!(read, receipt);
        assert_eq!((read.node(), read.stored(), read.until()), (node.public(), NOW, NOW.plus(60)));
        assert!(read.covers(&id(2)) && !read.covers(&id(3)));
        assert!(read.is_current(NOW) && !read.is_current(NOW.plus(60)) && !read.is_current(NOW.minus(901)));
    }

    #[test]
    fn what_is_none_is_refused() {
        assert!(CustodyReceipt::sign(&key(), &[], NOW, NOW).is_err());
        assert!(CustodyReceipt::sign(&key(), &[id(1); 257], NOW, NOW).is_err());
        let tag = |name: &str, value: &str| vec![name.to_owned(), value.to_owned()];
        let (e, stored, until) = (tag("e", &id(1).to_hex()), tag("stored", "1"), tag("until", "2"));
        let sign = |kind, tags: &[&Vec<String>]| {
            let tags = tags.iter().map(|tag| (*tag).clone()).collect();
            CustodyReceipt::from_event(Event::sign(&key(), NOW, kind, tags, String::new()))
        };
        assert!(sign(kind::RECEIPT, &[&e, &stored, &until]).is_ok());
        assert!(sign(1, &[&e, &stored, &until]).is_err());
        assert!(sign(kind::RECEIPT, &[&stored, &until]).is_err());
        assert!(sign(kind::RECEIPT, &[&e, &until]).is_err());
        assert!(sign(kind::RECEIPT, &[&e, &stored]).is_err());
        assert!(sign(kind::RECEIPT, &[&e, &stored, &tag("until", "soon")]).is_err());
        assert!(sign(kind::RECEIPT, &[&tag("e", "00"), &stored, &until]).is_err());
    }
}
