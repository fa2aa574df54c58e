//! One peer: who it is, how far it has acknowledged what we pushed, and how it does.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use talkbox_core::{PublicKey, Timestamp};
use tokio::{sync::Notify, time::Instant};

use super::{address::PeerAddress, conduct::Conduct};

/// How long after a portion the next one is expected: a node that pushes sends one after the other, and the peer needs
/// some ten milliseconds for each.
const PUSHES_WITHIN: Duration = Duration::from_millis(500);
/// How long a peer may not know this node before that is a warning, in seconds. Nodes that start together know each other
/// after some seconds, and an operator who adds one may do so a while later at the other.
const STRANGE_FOR: u64 = 300;
/// Between two times that a peer which shows another epoch is compared for that, and it is said.
const TURNS: Duration = Duration::from_secs(60);

/// What is kept of a peer on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerRow {
    /// Its URL.
    pub(crate) name: String,
    /// The key that it showed first, where none was configured.
    pub(crate) key: Option<PublicKey>,
    /// The last place in our order of arrival that it has acknowledged.
    pub(crate) acknowledged: i64,
}

/// A peer of the operator's list.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(super) address: PeerAddress,
    state: Mutex<State>,
    /// It may have missed something: its store is another, or it was away.
    pub(super) suspect: Notify,
    /// What it may bring.
    pub(crate) conduct: Conduct,
    /// It was away and has asked us something.
    pub(super) back: Notify,
}

#[derive(Clone, Debug)]
struct State {
    key: Option<PublicKey>,
    acknowledged: i64,
    epoch: Option<String>,
    /// When it last showed another epoch than before.
    turned: Option<Instant>,
    /// When it last pushed something to us.
    pushed: Option<Instant>,
    health: Health,
    /// Since when something is wrong, and how loudly that was said.
    away: Option<(Timestamp, Said)>,
}

/// What stands in the log of a peer that is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    Quietly,
    Loudly,
}

/// How a peer does, as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// Why it was not reached the last time.
    pub(crate) fault: Option<String>,
    /// It is this node itself, which the operator has put into the list.
    pub(crate) is_self: bool,
    /// When it last answered.
    pub(crate) seen: Option<Timestamp>,
    /// When all that both hold was last compared.
    pub(crate) compared: Option<Timestamp>,
    /// What it held and we did not, at that time.
    pub(crate) missing_here: usize,
    /// What we held and it did not.
    pub(crate) missing_there: usize,
}

impl Peer {
    pub(super) fn new(address: PeerAddress, row: Option<PeerRow>) -> Self {
        let pinned = row.as_ref().and_then(|row| row.key);
        let state = State {
            key: address.key().or(pinned),
            acknowledged: row.map_or(0, |row| row.acknowledged),
            epoch: None,
            turned: None,
            pushed: None,
            health: Health::default(),
            away: None,
        };
        let (suspect, back) = (Notify::new(), Notify::new());
        Self { address, state: Mutex::new(state), suspect, back, conduct: Conduct::default() }
    }

    pub(super) fn key(&self) -> Option<PublicKey> {
        self.lock().key
    }

    /// It asks us something. If it was away it is there again, and what waits for it need not wait longer.
    pub(crate) fn calls(&self) {
        if self.lock().health.fault.is_some() {
            self.back.notify_waiters();
            self.suspect.notify_one();
        }
    }

    /// It pushes something to us.
    pub(crate) fn pushed(&self) {
        self.lock().pushed = Some(Instant::now());
    }

    /// How long to wait where it is pushing: most of what it has and we do not comes by itself.
    pub(super) fn pushes(&self) -> Option<Duration> {
        let since = self.lock().pushed?.elapsed();
        PUSHES_WITHIN.checked_sub(since).filter(|rest| !rest.is_zero())
    }

    pub(super) fn acknowledged(&self) -> i64 {
        self.lock().acknowledged
    }

    pub(super) fn acknowledge(&self, place: i64) {
        let mut state = self.lock();
        state.acknowledged = state.acknowledged.max(place);
    }

    /// What is to be kept.
    pub(super) fn row(&self) -> PeerRow {
        let state = self.lock();
        PeerRow { name: self.address.name().to_owned(), key: state.key, acknowledged: state.acknowledged }
    }

    /// Learns the key that the peer shows. Whether it is the one that it has to have.
    pub(super) fn meet(&self, shown: PublicKey) -> bool {
        *self.lock().key.get_or_insert(shown) == shown
    }

    /// It turned out to be this node.
    pub(super) fn is_this_node(&self) {
        self.lock().health.is_self = true;
    }

    /// It answered.
    pub(super) fn answered(&self, now: Timestamp) {
        let mut state = self.lock();
        (state.health.seen, state.health.is_self) = (Some(now), false);
        state.away = None;
        let was_away = state.health.fault.take().is_some();
        drop(state);
        if was_away {
            tracing::info!(peer = %self.address, "a peer is back");
            self.suspect.notify_one();
        }
    }

    /// Its store is this one. Where it was another before, the peer lost what came after some backup.
    pub(super) fn shows_epoch(&self, epoch: &str) {
        let mut state = self.lock();
        if state.epoch.as_deref() == Some(epoch) {
            return;
        }
        let before = state.epoch.replace(epoch.to_owned());
        // One that shows another each time is broken, or lies: it is compared when its turn comes.
        let is_soon = state.turned.is_some_and(|turned| turned.elapsed() < TURNS);
        if before.is_some() && !is_soon {
            state.turned = Some(Instant::now());
            drop(state);
            tracing::warn!(peer = %self.address, "a peer has another store than before: it is compared anew");
            self.suspect.notify_one();
        }
    }

    /// It could not be asked, or answered nonsense; or it does not know this node, which is usual at first. What was said
    /// of it.
    pub(super) fn failed(&self, why: String, is_stranger: bool, now: Timestamp) -> Said {
        let mut state = self.lock();
        let (since, before) = state.away.unwrap_or((now, Said::Nothing));
        let is_quiet = is_stranger && now.secs().saturating_sub(since.secs()) < STRANGE_FOR;
        let due = if is_quiet { Said::Quietly } else { Said::Loudly };
        let said = match (before, due) {
            (Said::Nothing, _) | (Said::Quietly, Said::Loudly) => due,
            _ => Said::Nothing,
        };
        state.away = Some((since, if said == Said::Nothing { before } else { said }));
        state.health.fault = Some(why.clone());
        let is_self = state.health.is_self;
        drop(state);
        match said {
            Said::Nothing => {}
            Said::Quietly => tracing::info!(peer = %self.address, "{why}; asked again until then"),
            Said::Loudly if is_self => tracing::warn!(
                peer = %self.address,
                "{why}: take it out of the list of peers, or remove that copy, so that it gets a key of its own"
            ),
            Said::Loudly => tracing::warn!(peer = %self.address, fault = %why, "a peer is away"),
        }
        said
    }

    /// All that both hold was compared.
    pub(super) fn compared(&self, now: Timestamp, missing_here: usize, missing_there: usize) {
        let health = &mut self.lock().health;
        (health.compared, health.missing_here, health.missing_there) = (Some(now), missing_here, missing_there);
    }

    pub(crate) fn health(&self) -> Health {
        self.lock().health.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_peer_that_shows_another_store_is_compared_at_once_and_one_that_does_so_all_the_time_is_not() {
        let peer = Peer::new("https://node.example".parse().expect("a peer"), None);
        let is_suspect = || peer.suspect.notified().now_or_never().is_some();
        peer.shows_epoch("0");
        assert!(!is_suspect(), "it is the first that is seen");
        peer.shows_epoch("1");
        assert!(is_suspect());
        for epoch in 2..50 {
            peer.shows_epoch(&epoch.to_string());
            assert!(!is_suspect());
        }
    }

    #[test]
    fn a_peer_that_does_not_know_this_node_yet_is_no_warning() {
        let peer = Peer::new("https://node.example".parse().expect("a peer"), None);
        let failed = |is_stranger, at| peer.failed("why".to_owned(), is_stranger, Timestamp(at));
        assert_eq!((failed(true, 1_000), failed(true, 1_299)), (Said::Quietly, Said::Nothing));
        assert_eq!((failed(true, 1_300), failed(true, 1_301)), (Said::Loudly, Said::Nothing), "it lasts");
        peer.answered(Timestamp(1_400));
        assert_eq!((failed(true, 1_500), failed(false, 1_501)), (Said::Quietly, Said::Loudly));
        peer.answered(Timestamp(1_600));
        assert_eq!((failed(false, 1_700), failed(true, 1_701)), (Said::Loudly, Said::Nothing));
    }
}
