//! The ids that were taken lately: what comes again is answered without verifying it again.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use talkbox_core::EventId;

/// Ids of one generation. Two are kept: 32,768 to 65,536 ids, the arrivals of a few seconds at full load, in 4 MB.
const GENERATION: usize = 32_768;

/// A bounded set of ids that are stored now, or were passed on where they are not stored. It may forget any of them;
/// what is deleted or expires leaves it.
#[derive(Debug, Default)]
pub(crate) struct RecentIds(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashSet<EventId>,
    old: HashSet<EventId>,
}

impl RecentIds {
    pub(crate) fn contains(&self, id: &EventId) -> bool {
        let ids = self.lock();
        ids.young.contains(id) || ids.old.contains(id)
    }

    /// Adds an id. Whether it was new.
    pub(crate) fn remember(&self, id: EventId) -> bool {
        let mut ids = self.lock();
        if ids.young.len() >= GENERATION {
            ids.old = std::mem::take(&mut ids.young);
        }
        let old = ids.old.contains(&id);
        ids.young.insert(id) && !old
    }

    pub(crate) fn forget(&self, id: &EventId) {
        let mut ids = self.lock();
        ids.young.remove(id);
        ids.old.remove(id);
    }

    /// Forgets all.
    pub(crate) fn clear(&self) {
        *self.lock() = Generations::default();
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_remembers_the_latest() {
        let ids = RecentIds::default();
        let id = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            EventId::from_bytes(bytes)
        };
        for number in 0..GENERATION * 3 {
            assert!(ids.remember(id(number)));
        }
        assert!(!ids.contains(&id(0)) && ids.contains(&id(GENERATION * 3 - 1)));
        assert!(!ids.remember(id(GENERATION * 3 - 1)));
        ids.forget(&id(GENERATION * 3 - 1));
        assert!(!ids.contains(&id(GENERATION * 3 - 1)));
        let ids = ids.lock();
        assert!(ids.young.len() + ids.old.len() <= GENERATION * 2);
    }
}
