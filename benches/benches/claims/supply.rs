//! Envelopes, sealed before anything is measured.

use std::cell::OnceCell;

use talkbox_core::{Clock as _, Draft, Envelope, SealOptions, SecretKey, SystemClock, Timestamp, seal, seal::Sealed};

/// How many make a full mailbox.
pub(crate) const MANY: usize = 10_000;
/// The size of a message, in bytes, unless a claim says another: the one that `dm.mjs bench` takes.
pub(crate) const BODY: usize = 200;

/// One mailbox, one who writes to it, and their envelopes.
pub(crate) struct Supply {
    pub(crate) owner: SecretKey,
    pub(crate) sender: SecretKey,
    pub(crate) now: Timestamp,
    many: OnceCell<Vec<Envelope>>,
}

impl Supply {
    pub(crate) fn new() -> Self {
        Self { owner: key(), sender: key(), now: SystemClock.now(), many: OnceCell::new() }
    }

    /// 10,000 of one sender.
    pub(crate) fn many(&self) -> &[Envelope] {
        self.many.get_or_init(|| self.take(MANY))
    }

    /// So many new ones.
    pub(crate) fn take(&self, count: usize) -> Vec<Envelope> {
        (0..count).map(|_| self.sealed(&self.sender, BODY).envelope).collect()
    }

    /// One message of so many bytes.
    pub(crate) fn sealed(&self, sender: &SecretKey, bytes: usize) -> Sealed {
        let draft = Draft::text("a".repeat(bytes));
        seal(&draft, sender, self.owner.id(), self.now, &SealOptions::default()).expect("seals")
    }
}

/// A new key.
pub(crate) fn key() -> SecretKey {
    SecretKey::generate().expect("randomness")
}
