//! One block that is wanted.

use libp2p::PeerId;
use tokio::time::Instant;

use super::{super::wire::Wish, peers::Peers};

/// A block that is wanted.
#[derive(Default)]
pub(super) struct Want {
    /// Those who were named, and those who have been asked.
    pub(super) candidates: Vec<Candidate>,
    /// Whether everybody may be asked who is connected.
    pub(super) of_all: bool,
    /// Whether the owner of the swarm has been told that nobody is left.
    pub(super) is_unsought: bool,
    /// Whether it is in the queue of those who wait for anybody.
    pub(super) is_waiting: bool,
    pub(super) timer: Option<(Instant, u64)>,
}

/// A peer that may have the block.
pub(super) struct Candidate {
    pub(super) peer: PeerId,
    pub(super) state: State,
    /// Whether the want has been sent and not been withdrawn.
    pub(super) is_told: bool,
    /// Whether the want is in the queue of this peer.
    pub(super) is_waiting: bool,
}

/// What is known of a peer, as to one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not asked yet.
    Fresh,
    /// Asked then whether it has the block.
    Have(Instant),
    /// Asked then for the block.
    Block(Instant),
    /// It says that it has it.
    Has,
    /// It says that it does not.
    Lacks,
    /// It has said nothing in time.
    Late,
}

impl State {
    /// What the peer has been asked and has not answered.
    pub(super) fn wish(self) -> Option<Wish> {
        match self {
            Self::Have(_) => Some(Wish::Have),
            Self::Block(_) => Some(Wish::Block),
            _ => None,
        }
    }
}

impl Candidate {
    pub(super) fn new(peer: PeerId) -> Self {
        Self { peer, state: State::Fresh, is_told: false, is_waiting: false }
    }

    pub(super) fn has_been_asked(&self) -> bool {
        self.state != State::Fresh
    }

    pub(super) fn is_askable(&self) -> bool {
        matches!(self.state, State::Fresh | State::Has)
    }

    pub(super) fn block_since(&self) -> Option<Instant> {
        if let State::Block(since) = self.state { Some(since) } else { None }
    }
}

impl Want {
    pub(super) fn candidate(&mut self, peer: &PeerId) -> Option<&mut Candidate> {
        self.candidates.iter_mut().find(|candidate| candidate.peer == *peer)
    }

    pub(super) fn candidate_or_new(&mut self, peer: PeerId) -> &mut Candidate {
        let place = self.candidates.iter().position(|candidate| candidate.peer == peer).unwrap_or_else(|| {
            self.candidates.push(Candidate::new(peer));
            self.candidates.len() - 1
        });
        &mut self.candidates[place]
    }

    pub(super) fn in_state(&self, state: State) -> impl Iterator<Item = &PeerId> {
        self.candidates.iter().filter(move |candidate| candidate.state == state).map(|candidate| &candidate.peer)
    }

    /// Who has not answered, and since when.
    pub(super) fn asked(&self) -> impl Iterator<Item = (PeerId, Instant)> {
        self.candidates.iter().filter_map(|candidate| match candidate.state {
            State::Have(since) | State::Block(since) => Some((candidate.peer, since)),
            _ => None,
        })
    }

    /// Whom to ask next who has not been asked, if there is anybody who has room: those who were named first.
    pub(super) fn best_fresh(&self, peers: &Peers) -> Option<PeerId> {
        peers.best(self.in_state(State::Fresh)).or_else(|| peers.best(self.others(peers)))
    }

    /// Whether there is anybody left, with room or without.
    pub(super) fn may_be_asked(&self, peers: &Peers) -> bool {
        self.candidates.iter().any(Candidate::is_askable) || self.others(peers).next().is_some()
    }

    fn others<'a>(&'a self, peers: &'a Peers) -> impl Iterator<Item = &'a PeerId> {
        let all = self.of_all.then(|| peers.all()).into_iter().flatten();
        all.filter(|peer| self.candidates.iter().all(|candidate| candidate.peer != **peer))
    }
}
