//! The protocols that come and go.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

/// The protocol that all changing ones are to libp2p. Its stream begins with the name: two bytes of length, then the
/// name. Peers ask for the name itself, and [`super::muxer`] makes it this; one that asked for this would get no more.
pub(super) const NAMED: &str = "/talkbox/named/1";
/// The longest name that is recognised: that of a log has 72 bytes.
pub(super) const MAX_NAME: usize = 256;

/// The changing protocols that are accepted.
#[derive(Default)]
pub(super) struct Names(RwLock<HashSet<Arc<str>>>);

impl Names {
    /// Accepts streams of this name from now on.
    pub(super) fn add(&self, name: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(Arc::from(name));
    }

    /// Accepts no more streams of this name.
    pub(super) fn remove(&self, name: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Whether streams of this name are accepted.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(name)
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.read().unwrap_or_else(PoisonError::into_inner).len();
        f.debug_tuple("Names").field(&count).finish()
    }
}
