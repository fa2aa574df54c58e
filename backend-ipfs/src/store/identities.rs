//! Identities that were looked at: two signatures each, and one writer has many entries.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::orbitdb::{Cid, Identity, Why};

/// Most identities of a generation. Two generations are kept: some 1 MB.
const GENERATION: usize = 1_024;

/// The verdict on an identity.
pub(super) type Looked = Result<Arc<Identity>, Why>;

/// The verdicts on the blocks that were last taken for identities.
#[derive(Debug, Default)]
pub(super) struct Identities(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Cid, Looked>,
    old: HashMap<Cid, Looked>,
}

impl Identities {
    /// The verdict on a block, if it was looked at lately.
    pub(super) fn get(&self, cid: &Cid) -> Option<Looked> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(looked) = known.young.get(cid) {
            return Some(looked.clone());
        }
        let looked = known.old.remove(cid)?;
        known.keep(*cid, looked.clone());
        Some(looked)
    }

    /// Looks at a block, and remembers the verdict.
    pub(super) fn look(&self, cid: Cid, bytes: &[u8]) -> Looked {
        let looked = Identity::decode(bytes)
            .map_err(|_| Why::Identity)
            .and_then(|identity| identity.verify().map(|()| Arc::new(identity)));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keep(cid, looked.clone());
        looked
    }
}

impl Generations {
    fn keep(&mut self, cid: Cid, looked: Looked) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(cid, looked);
    }
}
