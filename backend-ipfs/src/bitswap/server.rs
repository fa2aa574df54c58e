//! What peers want of us.
//!
//! Each peer has a ledger of bounded length. Its wants are answered by one task at a time, which looks a batch up in the
//! store and makes one message of it; the next batch is looked up once that message is on its way. What is not here is
//! remembered, and leaves the ledger when it has been sent.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, VecDeque},
    iter, mem,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use cid::Cid;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::PeerId;

use super::{
    Blocks,
    wire::{BLOCK_BYTES, Entry, Message, Wish},
};

/// Wants of one peer, as all implementations have it.
pub(super) const LEDGER: usize = 1_024;
/// Peers that are answered at once: enough to keep the readers of the store busy.
const TASKS: usize = 16;
/// About how much one message carries, unless one block is larger. Each peer that does not read costs as much memory.
const ANSWER_BYTES: usize = 512 * 1024;
/// A block up to this size is sent at once to who asks whether it is here, as Helia and Kubo do.
const INLINE_BYTES: usize = 1_024;

/// What all peers want.
pub(super) struct Server {
    blocks: Arc<dyn Blocks>,
    ledgers: HashMap<PeerId, Ledger>,
    /// The peers whose turn it is to be answered, each once.
    turns: VecDeque<PeerId>,
    tasks: FuturesUnordered<BoxFuture<'static, Done>>,
    serial: u64,
}

/// What one peer wants.
#[derive(Default)]
struct Ledger {
    wants: HashMap<Cid, Want>,
    /// To be answered, greatest priority first.
    queue: BTreeMap<Rank, Cid>,
    /// Not here, in the order of asking.
    missing: BTreeMap<u64, Cid>,
    /// Wants beyond the bound, which are refused.
    refused: Vec<Cid>,
    state: State,
}

type Rank = (Reverse<i32>, u64);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Nothing is to be done.
    #[default]
    Idle,
    /// In the queue of turns.
    Waiting,
    /// A task of this number looks things up, or its message is being sent.
    Busy(u64),
}

struct Want {
    whole: bool,
    tell_absent: bool,
    rank: Rank,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Queue,
    Task,
    Missing,
}

/// One want as a task has it.
struct Ask {
    cid: Cid,
    whole: bool,
    tell_absent: bool,
}

/// What a task has found.
#[derive(Default)]
struct Answer {
    message: Message,
    answered: Vec<Cid>,
    missing: Vec<Cid>,
    /// What did not fit in.
    left: Vec<Cid>,
}

struct Done {
    peer: PeerId,
    task: u64,
    answer: Answer,
    /// The message, if there is anything to say.
    frame: Option<Bytes>,
}

impl Ledger {
    fn take_from_place(&mut self, want: &Want) {
        match want.place {
            Place::Queue => drop(self.queue.remove(&want.rank)),
            Place::Missing => drop(self.missing.remove(&want.rank.1)),
            Place::Task => {}
        }
    }

    fn cancel(&mut self, cid: &Cid) {
        if let Some(want) = self.wants.remove(cid) {
            self.take_from_place(&want);
        }
    }

    fn clear(&mut self) {
        self.wants.clear();
        self.queue.clear();
        self.missing.clear();
    }

    fn add(&mut self, entry: Entry, serial: u64) {
        let old = self.wants.remove(&entry.cid);
        if let Some(old) = &old {
            self.take_from_place(old);
        } else if self.wants.len() >= LEDGER {
            // What is missing has been waiting for somebody else to send it; the oldest of that gives way.
            if let Some((_, oldest)) = self.missing.pop_first() {
                self.wants.remove(&oldest);
            } else {
                if entry.tell_absent && self.refused.len() < LEDGER {
                    self.refused.push(entry.cid);
                }
                return;
            }
        }
        // Who wants the block itself does not take that back by asking whether it is here.
        let whole = entry.wish == Wish::Block || old.is_some_and(|old| old.whole);
        let rank = (Reverse(entry.priority), serial);
        self.wants.insert(entry.cid, Want { whole, tell_absent: entry.tell_absent, rank, place: Place::Queue });
        self.queue.insert(rank, entry.cid);
    }

    fn look_again(&mut self, cid: &Cid) {
        let Some(want) = self.wants.get_mut(cid) else { return };
        // A task may just have missed it.
        if want.place != Place::Queue {
            self.missing.remove(&want.rank.1);
            want.place = Place::Queue;
            self.queue.insert(want.rank, *cid);
        }
    }

    fn take_batch(&mut self) -> Vec<Ask> {
        let mut batch = Vec::with_capacity(self.queue.len());
        while let Some((_, cid)) = self.queue.pop_first() {
            if let Some(want) = self.wants.get_mut(&cid) {
                want.place = Place::Task;
                batch.push(Ask { cid, whole: want.whole, tell_absent: want.tell_absent });
            }
        }
        batch
    }

    /// Takes note of what a task has found, for those wants that have not changed since.
    fn settle(&mut self, answer: &Answer) {
        for cid in &answer.answered {
            if self.wants.get(cid).is_some_and(|want| want.place == Place::Task) {
                self.wants.remove(cid);
            }
        }
        let places = [(&answer.missing, Place::Missing), (&answer.left, Place::Queue)];
        for (cids, place) in places {
            for cid in cids {
                let Some(want) = self.wants.get_mut(cid).filter(|want| want.place == Place::Task) else { continue };
                want.place = place;
                match place {
                    Place::Missing => drop(self.missing.insert(want.rank.1, *cid)),
                    _ => drop(self.queue.insert(want.rank, *cid)),
                }
            }
        }
    }
}

impl Server {
    pub(super) fn new(blocks: Arc<dyn Blocks>) -> Self {
        let (ledgers, turns, tasks) = (HashMap::new(), VecDeque::new(), FuturesUnordered::new());
        Self { blocks, ledgers, turns, tasks, serial: 0 }
    }

    /// Takes the wants of a peer in.
    pub(super) fn wants(&mut self, peer: PeerId, entries: Vec<Entry>, full: bool) {
        if entries.is_empty() && !full {
            return;
        }
        let ledger = self.ledgers.entry(peer).or_default();
        if full {
            ledger.clear();
        }
        for entry in entries {
            self.serial += 1;
            match entry.wish {
                Wish::Cancel => ledger.cancel(&entry.cid),
                Wish::Block | Wish::Have => ledger.add(entry, self.serial),
            }
        }
        self.queue_up(&peer);
    }

    /// Looks again for blocks that have come since.
    pub(super) fn notify_new(&mut self, cids: &[Cid]) {
        let mut peers = Vec::new();
        for (peer, ledger) in self.ledgers.iter_mut().filter(|(_, ledger)| !ledger.wants.is_empty()) {
            cids.iter().for_each(|cid| ledger.look_again(cid));
            peers.push(*peer);
        }
        peers.iter().for_each(|peer| self.queue_up(peer));
    }

    /// The message to a peer is on its way, or lost: it is answered on.
    pub(super) fn sent(&mut self, peer: &PeerId) {
        if let Some(ledger) = self.ledgers.get_mut(peer) {
            ledger.state = State::Idle;
            self.queue_up(peer);
        }
    }

    /// Forgets a peer that is not there any more.
    pub(super) fn gone(&mut self, peer: &PeerId) {
        if self.ledgers.remove(peer).is_some_and(|ledger| ledger.state == State::Waiting) {
            self.turns.retain(|waiting| waiting != peer);
        }
    }

    /// How many wants are remembered of all peers.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.ledgers.values().map(|ledger| ledger.wants.len() + ledger.refused.len()).sum()
    }

    fn queue_up(&mut self, peer: &PeerId) {
        let Some(ledger) = self.ledgers.get_mut(peer) else { return };
        if ledger.state != State::Idle {
            return;
        }
        if !ledger.queue.is_empty() || !ledger.refused.is_empty() {
            ledger.state = State::Waiting;
            self.turns.push_back(*peer);
        } else if ledger.wants.is_empty() {
            self.ledgers.remove(peer);
        }
    }

    /// The next message to a peer. No more are made for it until [`Self::sent`].
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(PeerId, Bytes)> {
        loop {
            while self.tasks.len() < TASKS
                && let Some(peer) = self.turns.pop_front()
            {
                self.start(peer);
            }
            let Poll::Ready(Some(done)) = self.tasks.poll_next_unpin(cx) else { return Poll::Pending };
            let Some(ledger) = self.ledgers.get_mut(&done.peer).filter(|it| it.state == State::Busy(done.task)) else {
                continue;
            };
            ledger.settle(&done.answer);
            match done.frame {
                Some(frame) => return Poll::Ready((done.peer, frame)),
                None => self.sent(&done.peer),
            }
        }
    }

    fn start(&mut self, peer: PeerId) {
        let Some(ledger) = self.ledgers.get_mut(&peer) else { return };
        self.serial += 1;
        let task = self.serial;
        ledger.state = State::Busy(task);
        let (batch, refused) = (ledger.take_batch(), mem::take(&mut ledger.refused));
        let blocks = Arc::clone(&self.blocks);
        let finding = async move {
            let mut answer = answer(&*blocks, batch, refused).await;
            let message = mem::take(&mut answer.message);
            Done { peer, task, answer, frame: (!message.is_empty()).then(|| message.frame()) }
        };
        self.tasks.push(finding.boxed());
    }
}

/// Looks up what is asked and makes the message that answers it, or as much of it as fits.
async fn answer(blocks: &dyn Blocks, asks: Vec<Ask>, refused: Vec<Cid>) -> Answer {
    let mut answer = Answer::default();
    answer.message.presences.extend(refused.into_iter().map(|cid| (cid, false)));
    let sizes = if asks.is_empty() { Vec::new() } else { blocks.sizes(asks.iter().map(|ask| ask.cid).collect()).await };
    let (mut chosen, mut room, mut pending) = (Vec::new(), ANSWER_BYTES, 0);
    for (ask, size) in asks.into_iter().zip(sizes.into_iter().chain(iter::repeat(None))) {
        match size.filter(|size| *size <= BLOCK_BYTES) {
            None => answer.absent(&ask),
            Some(size) if !ask.whole && size > INLINE_BYTES => {
                answer.message.presences.push((ask.cid, true));
                answer.answered.push(ask.cid);
            }
            Some(size) if size <= room || chosen.is_empty() => {
                room = room.saturating_sub(size);
                chosen.push(ask);
            }
            Some(size) => {
                pending += size;
                answer.left.push(ask.cid);
            }
        }
    }
    answer.message.pending = i32::try_from(pending).unwrap_or(i32::MAX);
    let found =
        if chosen.is_empty() { Vec::new() } else { blocks.get(chosen.iter().map(|ask| ask.cid).collect()).await };
    for (ask, block) in chosen.into_iter().zip(found.into_iter().chain(iter::repeat(None))) {
        match block {
            Some(bytes) => {
                answer.message.blocks.push((ask.cid, bytes));
                answer.answered.push(ask.cid);
            }
            // Dropped between the two look-ups.
            None => answer.absent(&ask),
        }
    }
    answer
}

impl Answer {
    fn absent(&mut self, ask: &Ask) {
        if ask.tell_absent {
            self.message.presences.push((ask.cid, false));
        }
        self.missing.push(ask.cid);
    }
}
