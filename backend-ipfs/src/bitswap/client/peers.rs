//! The peers that can be asked, and what is to be sent to them.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use cid::Cid;
use libp2p::PeerId;

use super::super::wire::{Entry, Message, Wish};

/// How many wants a peer may leave unanswered. With [`KEPT`] it is half of what others keep of one peer.
const WINDOW: usize = 256;
/// How many wants a peer is left with that it has answered: it sends the blocks when it gets them.
const KEPT: usize = 256;
/// How far a peer can rise or fall, in blocks. A new good one is tried soon, and a bad one is not shunned for long.
const MERIT: i32 = 16;
/// How many more unanswered wants outweigh one block of merit.
const WEIGHT: i32 = 8;

/// The peers that are connected and speak the protocol.
#[derive(Default)]
pub(super) struct Peers {
    peers: HashMap<PeerId, Peer>,
    /// Those to whom something is to be sent.
    with_mail: BTreeSet<PeerId>,
}

struct Peer {
    /// How many wants it has not answered.
    open: usize,
    /// What it has answered but not with the block, oldest first.
    kept: VecDeque<Cid>,
    /// Wants that name it and found no room.
    waiting: VecDeque<Cid>,
    /// What is to be sent next, one entry for each block.
    outbox: Vec<(Cid, Wish)>,
    merit: i32,
    wanted: Arc<AtomicBool>,
}

impl Peer {
    /// Has the connections kept as long as anything is wanted.
    fn show(&self) {
        self.wanted.store(self.open > 0 || !self.kept.is_empty(), Ordering::Relaxed);
    }

    fn put(&mut self, cid: Cid, wish: Wish) {
        self.outbox.retain(|(other, _)| *other != cid);
        self.outbox.push((cid, wish));
    }

    fn score(&self) -> i32 {
        self.merit * WEIGHT - i32::try_from(self.open).unwrap_or(i32::MAX)
    }
}

impl Peers {
    pub(super) fn insert(&mut self, peer: PeerId, wanted: Arc<AtomicBool>) {
        let (kept, waiting) = (VecDeque::new(), VecDeque::new());
        self.peers.insert(peer, Peer { open: 0, kept, waiting, outbox: Vec::new(), merit: 0, wanted });
    }

    pub(super) fn remove(&mut self, peer: &PeerId) {
        self.with_mail.remove(peer);
        if let Some(peer) = self.peers.remove(peer) {
            peer.wanted.store(false, Ordering::Relaxed);
        }
    }

    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &PeerId> {
        self.peers.keys()
    }

    pub(super) fn has_room(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.open < WINDOW)
    }

    /// Whether it has sent more lately than it has failed to send.
    pub(super) fn is_proven(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.merit > 0)
    }

    /// The best of these that has room.
    pub(super) fn best<'a>(&self, of: impl Iterator<Item = &'a PeerId>) -> Option<PeerId> {
        of.filter(|peer| self.has_room(peer)).max_by_key(|peer| self.peers.get(*peer).map(Peer::score)).copied()
    }

    pub(super) fn has_served(&mut self, peer: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.merit = (peer.merit + 1).min(MERIT);
        }
    }

    pub(super) fn has_failed(&mut self, peer: &PeerId, by: i32) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.merit = (peer.merit - by).max(-MERIT);
        }
    }

    /// Has a peer asked something that it has not been asked, or that it did answer.
    pub(super) fn ask(&mut self, peer: &PeerId, cid: Cid, wish: Wish) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        known.open += 1;
        known.kept.retain(|kept| *kept != cid);
        known.put(cid, wish);
        known.show();
        self.with_mail.insert(*peer);
    }

    /// Has a peer asked once more what it has not answered.
    pub(super) fn ask_again(&mut self, peer: &PeerId, cid: Cid, wish: Wish) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        known.put(cid, wish);
        self.with_mail.insert(*peer);
    }

    /// A peer has answered a want, or is not waited for any more. It keeps the want; where it keeps too many, the
    /// oldest is returned, to be withdrawn.
    pub(super) fn answered(&mut self, peer: &PeerId, cid: Cid) -> Option<Cid> {
        let peer = self.peers.get_mut(peer)?;
        peer.open = peer.open.saturating_sub(1);
        peer.kept.push_back(cid);
        if peer.kept.len() > KEPT { peer.kept.pop_front() } else { None }
    }

    /// A want is over.
    pub(super) fn forget(&mut self, peer: &PeerId, cid: &Cid, is_open: bool) {
        let Some(peer) = self.peers.get_mut(peer) else { return };
        peer.open = peer.open.saturating_sub(usize::from(is_open));
        peer.kept.retain(|kept| kept != cid);
        peer.show();
    }

    /// Drops what was to be sent about a block, and has the peer forget it if it knows of it.
    pub(super) fn cancel(&mut self, peer: &PeerId, cid: Cid, is_told: bool) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        known.outbox.retain(|(other, _)| *other != cid);
        if is_told {
            known.outbox.push((cid, Wish::Cancel));
            self.with_mail.insert(*peer);
        }
    }

    pub(super) fn wait(&mut self, peer: &PeerId, cid: Cid) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.waiting.push_back(cid);
        }
    }

    pub(super) fn stop_waiting(&mut self, peer: &PeerId, cid: &Cid) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.waiting.retain(|waiting| waiting != cid);
        }
    }

    pub(super) fn next_waiting(&mut self, peer: &PeerId) -> Option<Cid> {
        self.peers.get_mut(peer)?.waiting.pop_front()
    }

    /// All that is to be sent to a peer to whom something can be sent.
    pub(super) fn next_message(&mut self, is_free: impl Fn(&PeerId) -> bool) -> Option<(PeerId, Message)> {
        loop {
            let peer = self.with_mail.iter().find(|peer| is_free(peer)).copied()?;
            self.with_mail.remove(&peer);
            let Some(known) = self.peers.get_mut(&peer) else { continue };
            let outbox = mem::take(&mut known.outbox);
            if outbox.is_empty() {
                continue;
            }
            let entries = outbox.into_iter().map(|(cid, wish)| Entry {
                cid,
                wish,
                // All alike: they are sent in the order of wanting.
                priority: i32::from(wish != Wish::Cancel),
                tell_absent: wish != Wish::Cancel,
            });
            return Some((peer, Message { entries: entries.collect(), ..Message::default() }));
        }
    }
}
