//! What waits for a commit, in two lanes: usual events; and those that take as long as many of them, of which each commit
//! takes a little, so that whoever sends them delays the others by no more.
//!
//! An event of the slow lane is stored behind usual ones that came after it. It decides the same: what is deleted before it
//! comes, and what is deleted when it has come, is deleted.

use std::{collections::VecDeque, sync::Arc};

use super::super::vanish::PORTION;
use crate::node::{
    admitted::{Admitted, Effect},
    intake::Ticket,
};

/// Most usual events of one commit: some 30 ms of work, so that no answer waits long behind others. With half as many, a
/// quarter more is written for each, since fewer of them share a page.
const BATCH: usize = 1_024;
/// Most that one commit takes of the slow lane, in usual events; one of them in any case.
const SLOW: usize = 512;

type Waiting = (Arc<Admitted>, Ticket);

/// Both lanes.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    usual: Vec<Waiting>,
    slow: VecDeque<Waiting>,
}

impl Lanes {
    pub(super) fn push(&mut self, event: Arc<Admitted>, ticket: Ticket) {
        if weight(&event) > 1 {
            self.slow.push_back((event, ticket));
        } else {
            self.usual.push((event, ticket));
        }
    }

    /// Whether the next commit has enough to do.
    pub(super) const fn is_full(&self) -> bool {
        self.usual.len() >= BATCH
    }

    pub(super) fn is_empty(&self) -> bool {
        self.usual.is_empty() && self.slow.is_empty()
    }

    /// What is committed next.
    pub(super) fn take(&mut self) -> Vec<Waiting> {
        let mut batch = std::mem::take(&mut self.usual);
        let mut taken = 0;
        while let Some((event, _)) = self.slow.front()
            && (taken == 0 || taken + weight(event) <= SLOW)
        {
            taken += weight(event);
            batch.extend(self.slow.pop_front());
        }
        batch
    }
}

/// What an event takes, in usual ones: each id that a deletion names has rows of its own.
fn weight(event: &Admitted) -> usize {
    match &event.effect {
        Effect::Keep | Effect::Replace | Effect::Refuse(_) => 1,
        Effect::Delete(request) => request.ids().len(),
        Effect::Vanish => PORTION,
    }
}

#[cfg(test)]
mod tests {
    use talkbox_core::{EnvelopeId, SecretKey};

    use super::*;
    use crate::node::{
        intake::Batch,
        store::tests::{NOW, deletion, request_to_vanish, wrap},
    };

    #[test]
    fn a_commit_takes_all_that_is_usual_and_a_little_of_what_is_not() {
        let mut lanes = Lanes::default();
        let key = SecretKey::generate().expect("randomness");
        let push = |lanes: &mut Lanes, event| lanes.push(Arc::new(event), Batch::new(1).1.remove(0));
        for n in 0..20_u8 {
            let ids = (0..100).map(|at| EnvelopeId::from_bytes([[n, at]; 16].concat().try_into().expect("32")));
            push(&mut lanes, deletion(&key, key.id(), &ids.collect::<Vec<_>>()));
        }
        push(&mut lanes, request_to_vanish(&key, NOW));
        push(&mut lanes, wrap(10));
        push(&mut lanes, deletion(&key, key.id(), &[EnvelopeId::from_bytes([9; 32])]));
        let ids = |batch: Vec<Waiting>| batch.iter().map(|(event, _)| weight(event)).collect::<Vec<_>>();
        assert_eq!(ids(lanes.take()), [1, 1, 100, 100, 100, 100, 100], "the last that came is stored first");
        let rest: Vec<_> = (0..5).map(|_| ids(lanes.take())).collect();
        assert_eq!(rest[3], [PORTION], "one of any size is taken");
        assert!(lanes.is_empty() && rest[4].is_empty());
    }
}
