//! What is on the disk still of those who have vanished. The writer removes it little by little; nobody is given it
//! meanwhile.

use std::{
    collections::HashMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use talkbox_core::{MailboxId, PublicKey, event::kind};

use super::query::Stored;

/// How long a key is known beyond the last that was removed: longer than any query runs, since one that began before sees
/// what was there then.
const KNOWN_LONGER: Duration = Duration::from_secs(600);

/// Keys of which something is left, or was until lately.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    /// There are some; nearly always there are none.
    some: AtomicBool,
    keys: RwLock<HashMap<PublicKey, Left>>,
}

#[derive(Clone, Copy, Debug)]
struct Left {
    /// The time of the request.
    before: u64,
    /// When the last went.
    gone: Option<Instant>,
}

impl Leaving {
    pub(super) fn add(&self, key: PublicKey, before: u64) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(key, Left { before, gone: None });
        self.some.store(true, Ordering::Release);
    }

    /// Nothing is left of what this request was about; of a later one there may be.
    pub(super) fn has_gone(&self, key: PublicKey, before: u64, now: Instant) {
        if let Some(left) = self.keys.write().unwrap_or_else(PoisonError::into_inner).get_mut(&key)
            && left.before == before
        {
            left.gone = Some(now);
        }
    }

    /// Forgets those of which nothing was left for long.
    pub(super) fn forget(&self, now: Instant) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|_, left| left.gone.is_none_or(|gone| now.saturating_duration_since(gone) < KNOWN_LONGER));
        self.some.store(!keys.is_empty(), Ordering::Release);
    }

    /// Whether a stored event is one of those.
    pub(super) fn hides(&self, event: &Stored) -> bool {
        let by_author = self.before(&event.author).is_some_and(|before| {
            event.created_at < before || event.created_at == before && event.kind != kind::VANISH
        });
        by_author
            || event.kind == kind::GIFT_WRAP
                && event
                    .mailbox
                    .and_then(|mailbox| self.up_to(mailbox))
                    .is_some_and(|before| event.created_at <= before)
    }

    /// The time up to which the mail of a mailbox is hidden.
    pub(super) fn up_to(&self, mailbox: MailboxId) -> Option<u64> {
        self.before(&mailbox.into())
    }

    fn before(&self, key: &PublicKey) -> Option<u64> {
        if !self.some.load(Ordering::Acquire) {
            return None;
        }
        self.keys.read().unwrap_or_else(PoisonError::into_inner).get(key).map(|left| left.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_outlives_queries_that_began_before_the_end() {
        let (leaving, key, now) = (Leaving::default(), PublicKey::from_bytes([1; 32]), Instant::now());
        let up_to = || leaving.up_to(MailboxId::from_bytes([1; 32]));
        leaving.add(key, 5);
        leaving.forget(now + 2 * KNOWN_LONGER);
        leaving.has_gone(key, 4, now);
        leaving.forget(now + KNOWN_LONGER);
        assert_eq!(up_to(), Some(5), "there is some of the later request");
        leaving.has_gone(key, 5, now);
        leaving.forget(now + KNOWN_LONGER / 2);
        assert_eq!(up_to(), Some(5));
        leaving.forget(now + KNOWN_LONGER);
        assert_eq!(up_to(), None);
    }
}
