//! What we want of peers.
//!
//! One peer at a time is asked for a block itself, so that a block comes once. Some more are asked at the same time
//! whether they have it, unless the first has proved to be a good one, and the next ones as those answer.

mod peers;
mod want;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    mem,
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    task::Context,
};

use bytes::Bytes;
use cid::Cid;
use futures_util::FutureExt;
use libp2p::PeerId;
use tokio::time::{Instant, Sleep, sleep_until};

use self::{
    peers::Peers,
    want::{Candidate, State, Want},
};
use super::{
    Config, Event,
    wire::{Wish, is_checkable},
};

/// Blocks that are wanted at once. Who wants a whole log has its own list, and wants on as blocks come.
const WANTS: usize = 16_384;
/// How many peers are asked at the same time about a block, those left out that are slow to answer…
const BREADTH: usize = 4;
/// …and once somebody has turned out not to have it.
const GREAT_BREADTH: usize = 16;
/// How many wants are tried again when a peer has room for one; those that cannot use it wait on.
const TRIES: usize = 16;

/// What is wanted, and who is asked for it.
pub(super) struct Client {
    config: Config,
    wants: HashMap<Cid, Want>,
    peers: Peers,
    /// Wants of any peer that found none with room.
    waiting: VecDeque<Cid>,
    /// When to look at a want again; each has one time at most.
    timers: BTreeMap<(Instant, u64), Cid>,
    sleep: Option<Pin<Box<Sleep>>>,
    events: VecDeque<Event>,
    serial: u64,
}

impl Client {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            wants: HashMap::new(),
            peers: Peers::default(),
            waiting: VecDeque::new(),
            timers: BTreeMap::new(),
            sleep: None,
            events: VecDeque::new(),
            serial: 0,
        }
    }

    pub(super) fn want(&mut self, cid: Cid, from: &[PeerId]) -> bool {
        if !is_checkable(&cid) || (self.wants.len() >= WANTS && !self.wants.contains_key(&cid)) {
            return false;
        }
        let want = self.wants.entry(cid).or_default();
        want.of_all |= from.is_empty();
        for candidate in &mut want.candidates {
            if matches!(candidate.state, State::Lacks | State::Late)
                && (from.is_empty() || from.contains(&candidate.peer))
            {
                candidate.state = State::Fresh;
            }
        }
        for peer in from {
            if self.peers.contains(peer) && want.candidate(peer).is_none() {
                want.candidates.push(Candidate::new(*peer));
            }
        }
        want.is_unsought = false;
        self.advance(cid);
        true
    }

    pub(super) fn cancel(&mut self, cid: Cid) {
        self.finish(cid, None);
    }

    /// A peer has come that may be asked.
    pub(super) fn connected(&mut self, peer: PeerId, wanted: Arc<AtomicBool>) {
        self.peers.insert(peer, wanted);
        let of_all: Vec<Cid> = self.wants.iter().filter(|(_, want)| want.of_all).map(|(cid, _)| *cid).collect();
        of_all.into_iter().for_each(|cid| self.advance(cid));
    }

    /// A peer has gone, or does not speak the protocol.
    pub(super) fn gone(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
        let mut left = Vec::new();
        for (cid, want) in &mut self.wants {
            let before = want.candidates.len();
            want.candidates.retain(|candidate| candidate.peer != *peer);
            if want.candidates.len() < before || want.of_all {
                left.push(*cid);
            }
        }
        left.into_iter().for_each(|cid| self.advance(cid));
    }

    /// Asks a peer again for all that it has been asked for, since the question may have been lost.
    pub(super) fn ask_anew(&mut self, peer: &PeerId) {
        for (cid, want) in &mut self.wants {
            let Some(candidate) = want.candidate(peer) else { continue };
            if let Some(wish) = candidate.state.wish() {
                self.peers.ask_again(peer, *cid, wish);
            }
        }
    }

    /// A block has come. What nobody wants any more, or never did, is dropped.
    pub(super) fn block(&mut self, peer: PeerId, cid: Cid, bytes: Bytes) {
        if self.wants.contains_key(&cid) {
            self.peers.has_served(&peer);
            self.events.push_back(Event::Received { peer, cid, bytes });
            self.finish(cid, Some(peer));
        }
    }

    /// A peer says whether it has a block.
    pub(super) fn presence(&mut self, peer: PeerId, cid: Cid, here: bool) {
        let Some(want) = self.wants.get_mut(&cid) else { return };
        let Some(candidate) = want.candidate(&peer).filter(|candidate| candidate.has_been_asked()) else { return };
        match (here, candidate.state) {
            // It is asked for the block itself, which comes.
            (true, State::Block(_)) => return,
            (false, State::Lacks) => return,
            (true, _) => self.settle(cid, &peer, State::Has),
            (false, _) => {
                self.peers.has_failed(&peer, 1);
                self.events.push_back(Event::Absent { cid, peer });
                self.settle(cid, &peer, State::Lacks);
            }
        }
        self.advance(cid);
        self.use_room(&peer);
    }

    /// The next message for a peer for which there may be one.
    pub(super) fn next_message(&mut self, is_free: impl Fn(&PeerId) -> bool) -> Option<(PeerId, Bytes)> {
        let (peer, message) = self.peers.next_message(is_free)?;
        for entry in message.entries.iter().filter(|entry| entry.wish != Wish::Cancel) {
            if let Some(candidate) = self.wants.get_mut(&entry.cid).and_then(|want| want.candidate(&peer)) {
                candidate.is_told = true;
            }
        }
        Some((peer, message.frame()))
    }

    /// The next event, after what has become late.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Event> {
        while self.events.is_empty()
            && let Some((&(due, _), _)) = self.timers.first_key_value()
        {
            if due <= Instant::now() {
                if let Some((_, cid)) = self.timers.pop_first() {
                    self.look_at(cid);
                }
                continue;
            }
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if sleep.deadline() > due || sleep.is_elapsed() {
                sleep.as_mut().reset(due);
            }
            if sleep.poll_unpin(cx).is_pending() {
                break;
            }
        }
        self.events.pop_front()
    }

    /// A want whose time has come: who has not answered has failed it.
    fn look_at(&mut self, cid: Cid) {
        let (now, patience) = (Instant::now(), self.config.patience);
        let Some(want) = self.wants.get_mut(&cid) else { return };
        want.timer = None;
        let late: Vec<PeerId> =
            want.asked().filter(|(_, since)| now - *since >= patience).map(|(peer, _)| peer).collect();
        for peer in &late {
            // As much as four blocks that it does not have: it holds everything up.
            self.peers.has_failed(peer, 4);
            self.settle(cid, peer, State::Late);
        }
        self.advance(cid);
        late.iter().for_each(|peer| self.use_room(peer));
    }

    /// Takes note that a peer has answered, or does not.
    fn settle(&mut self, cid: Cid, peer: &PeerId, state: State) {
        let Some(candidate) = self.wants.get_mut(&cid).and_then(|want| want.candidate(peer)) else { return };
        if candidate.state.wish().is_some() {
            let over = self.peers.answered(peer, cid);
            candidate.state = state;
            if let Some(over) = over {
                self.withdraw(over, peer);
            }
        } else {
            candidate.state = state;
        }
    }

    /// Has a peer forget a want that it has answered, unless it is asked once more.
    fn withdraw(&mut self, cid: Cid, peer: &PeerId) {
        let Some(candidate) = self.wants.get_mut(&cid).and_then(|want| want.candidate(peer)) else { return };
        if candidate.state.wish().is_none() {
            self.peers.cancel(peer, cid, mem::take(&mut candidate.is_told));
        }
    }

    /// Ends a want, and tells those who do not know.
    fn finish(&mut self, cid: Cid, served_by: Option<PeerId>) {
        let Some(want) = self.wants.remove(&cid) else { return };
        if let Some(timer) = want.timer {
            self.timers.remove(&timer);
        }
        let mut with_room = Vec::new();
        if want.is_waiting {
            self.waiting.retain(|waiting| *waiting != cid);
        }
        for candidate in &want.candidates {
            let peer = &candidate.peer;
            if candidate.is_waiting {
                self.peers.stop_waiting(peer, &cid);
            }
            self.peers.forget(peer, &cid, candidate.state.wish().is_some());
            self.peers.cancel(peer, cid, candidate.is_told && served_by != Some(*peer));
            if candidate.state.wish().is_some() {
                with_room.push(*peer);
            }
        }
        with_room.iter().for_each(|peer| self.use_room(peer));
    }

    /// Gives the room that a peer has to wants that wait for it.
    fn use_room(&mut self, peer: &PeerId) {
        while self.peers.has_room(peer)
            && let Some(cid) = self.peers.next_waiting(peer)
        {
            if let Some(candidate) = self.wants.get_mut(&cid).and_then(|want| want.candidate(peer)) {
                candidate.is_waiting = false;
            }
            self.advance(cid);
        }
        for _ in 0..TRIES {
            if !self.peers.has_room(peer) {
                return;
            }
            let Some(cid) = self.waiting.pop_front() else { return };
            if let Some(want) = self.wants.get_mut(&cid) {
                want.is_waiting = false;
                self.advance(cid);
            }
        }
    }

    /// Asks for a want whoever is to be asked next.
    fn advance(&mut self, cid: Cid) {
        let now = Instant::now();
        let slow = self.config.slow;
        let Some(want) = self.wants.get_mut(&cid) else { return };
        let is_slow = |since: Instant| now - since >= slow;

        let sources: Vec<Instant> = want.candidates.iter().filter_map(Candidate::block_since).collect();
        if sources.is_empty() || (sources.len() == 1 && is_slow(sources[0])) {
            let holder = self.peers.best(want.in_state(State::Has));
            // As long as others may say that they have it, nobody is asked for it who may not.
            let chosen = holder.or_else(|| {
                let is_open = sources.is_empty() && want.asked().all(|(_, since)| is_slow(since));
                if is_open { want.best_fresh(&self.peers) } else { None }
            });
            if let Some(peer) = chosen {
                want.candidate_or_new(peer).state = State::Block(now);
                self.peers.ask(&peer, cid, Wish::Block);
            }
        }

        let lacking = want.candidates.iter().any(|candidate| matches!(candidate.state, State::Lacks | State::Late));
        let relied_on = want.candidates.iter().any(|candidate| {
            candidate.block_since().is_some_and(|since| !is_slow(since)) && self.peers.is_proven(&candidate.peer)
        });
        if lacking || !relied_on {
            let breadth = if lacking { GREAT_BREADTH } else { BREADTH };
            while want.asked().filter(|(_, since)| !is_slow(*since)).count() < breadth
                && let Some(peer) = want.best_fresh(&self.peers)
            {
                want.candidate_or_new(peer).state = State::Have(now);
                self.peers.ask(&peer, cid, Wish::Have);
            }
        }

        let due =
            want.asked().map(|(_, since)| if is_slow(since) { since + self.config.patience } else { since + slow });
        let due = due.min();
        if let Some(old) = want.timer.take() {
            self.timers.remove(&old);
        }
        if let Some(due) = due {
            self.serial += 1;
            want.timer = Some((due, self.serial));
            self.timers.insert((due, self.serial), cid);
            want.is_unsought = false;
        } else if want.may_be_asked(&self.peers) {
            // All who could be asked have no room.
            for candidate in want.candidates.iter_mut().filter(|it| it.is_askable() && !it.is_waiting) {
                candidate.is_waiting = true;
                self.peers.wait(&candidate.peer, cid);
            }
            if want.of_all && !want.is_waiting {
                want.is_waiting = true;
                self.waiting.push_back(cid);
            }
        } else if !want.is_unsought {
            want.is_unsought = true;
            self.events.push_back(Event::Unsought { cid });
        }
    }
}
