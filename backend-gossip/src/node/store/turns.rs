//! Whose turn it is to read. Each party has a line of its own and the lines are served in turn, so that one that asks
//! for much waits behind itself; and it never has more than its share of the readers, so that others find one free.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::node::addresses::Party;

/// The lines of all parties.
#[derive(Debug)]
pub(super) struct Turns<T> {
    state: Mutex<State<T>>,
    /// A party has come to have a turn, or the lines are closed.
    ready: Condvar,
    /// Jobs of one party that run at once.
    at_once: usize,
}

#[derive(Debug)]
struct State<T> {
    lines: HashMap<Party, Line<T>>,
    /// The parties that something waits for and that may have one more reader, each once.
    order: VecDeque<Party>,
    closed: bool,
}

#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<T>,
    running: usize,
}

impl<T> Turns<T> {
    pub(super) fn new(at_once: usize) -> Self {
        let state = State { lines: HashMap::new(), order: VecDeque::new(), closed: false };
        Self { state: Mutex::new(state), ready: Condvar::new(), at_once }
    }

    /// Queues a job; whether it was taken, which ends with [`close`](Self::close). What became stale in the same line
    /// goes, so that a client that asks and leaves again and again piles nothing up.
    pub(super) fn queue(&self, party: Party, job: T, is_stale: impl Fn(&T) -> bool) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.closed {
            return false;
        }
        let line = state.lines.entry(party).or_insert_with(|| Line { waiting: VecDeque::new(), running: 0 });
        let is_in_order = !line.waiting.is_empty() && line.running < self.at_once;
        line.waiting.retain(|other| !is_stale(other));
        line.waiting.push_back(job);
        if !is_in_order && line.running < self.at_once {
            state.order.push_back(party);
        }
        drop(guard);
        self.ready.notify_one();
        true
    }

    /// Waits for a job. Its party has one reader fewer until [`done`](Self::done). `None` once the lines are closed.
    pub(super) fn next(&self) -> Option<(Party, T)> {
        let mut guard = self.lock();
        loop {
            let state = &mut *guard;
            if state.closed {
                return None;
            }
            if let Some(party) = state.order.pop_front() {
                let Some(line) = state.lines.get_mut(&party) else { continue };
                let Some(job) = line.waiting.pop_front() else { continue };
                line.running += 1;
                if !line.waiting.is_empty() && line.running < self.at_once {
                    state.order.push_back(party);
                }
                return Some((party, job));
            }
            guard = self.ready.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A job of this party has ended.
    pub(super) fn done(&self, party: Party) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(line) = state.lines.get_mut(&party) else { return };
        line.running -= 1;
        if line.waiting.is_empty() {
            if line.running == 0 {
                state.lines.remove(&party);
            }
        } else if line.running + 1 == self.at_once {
            state.order.push_back(party);
            self.ready.notify_one();
        }
    }

    /// Drops what waits and takes nothing more.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.lines.values_mut().for_each(|line| line.waiting.clear());
        drop(state);
        self.ready.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: Party = Party::Connection(1);
    const BOB: Party = Party::Connection(2);

    fn queue(turns: &Turns<u32>, party: Party, jobs: &[u32]) {
        assert!(jobs.iter().all(|job| turns.queue(party, *job, |_| false)));
    }

    #[test]
    fn lines_are_served_in_turn() {
        let turns = Turns::new(2);
        queue(&turns, ADA, &[1, 2, 3, 4]);
        queue(&turns, BOB, &[11, 12]);
        let next = || {
            let (party, job) = turns.next().expect("a job");
            turns.done(party);
            job
        };
        assert_eq!([(); 6].map(|()| next()), [1, 11, 2, 12, 3, 4]);
        assert!(turns.lock().lines.is_empty() && turns.lock().order.is_empty());
    }

    #[test]
    fn a_party_has_no_more_than_its_share() {
        let turns = Turns::new(2);
        queue(&turns, ADA, &[1, 2, 3]);
        assert_eq!((turns.next(), turns.next()), (Some((ADA, 1)), Some((ADA, 2))));
        queue(&turns, BOB, &[11]);
        assert_eq!(turns.next(), Some((BOB, 11)), "both of the other's run, and its third waits");
        turns.done(ADA);
        assert_eq!(turns.next(), Some((ADA, 3)));
    }

    #[test]
    fn what_nobody_waits_for_any_longer_makes_room() {
        let turns = Turns::new(1);
        queue(&turns, ADA, &[1, 2]);
        assert!(turns.queue(ADA, 3, |job| *job < 3));
        assert_eq!(turns.next(), Some((ADA, 3)));
        turns.close();
        assert_eq!(turns.next(), None);
        assert!(!turns.queue(ADA, 4, |_| false));
    }
}
