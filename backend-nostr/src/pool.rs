//! The connections: one for each relay and identity, opened when first needed and shared by everything that asks the
//! same relay as the same key.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures_util::future::join_all;
use talkbox_core::{Error, ErrorKind, PublicKey, Result, error::Retry, half::closed};
use talkbox_net::Trust;

use crate::{connection::Connection, relay_url::RelayUrl, routes::Lost, socket::Dial};

/// Most connections. Some ten relays under a few identities each, and what others' records name; a socket and its
/// buffers take some 200 KiB.
const MAX_CONNECTIONS: usize = 128;
/// Most relays of which habits are remembered.
const MAX_HABITS: usize = 512;

/// All connections of one opened backend.
pub(crate) struct Pool {
    dial: Arc<dyn Dial>,
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    habits: Mutex<HashMap<RelayUrl, Habits>>,
    closed: AtomicBool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    relay: RelayUrl,
    /// One connection carries one identity; `None` for nobody in particular.
    identity: Option<PublicKey>,
}

#[derive(Default)]
struct Slot {
    live: Mutex<Option<Arc<Connection>>>,
    /// Held while a connection is being opened, so that it happens once.
    opening: tokio::sync::Mutex<()>,
    /// How often opening failed, and why the last time: whoever waited for an attempt takes its failure.
    failures: AtomicU64,
    failure: Mutex<Option<(Lost, Retry)>>,
}

/// What was learned of a relay, for as long as the backend is open.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Habits {
    /// It takes events only from somebody.
    pub(crate) writers_are_known: bool,
    /// It does not speak NIP-77.
    pub(crate) lacks_negentropy: bool,
    /// The most events that it has sent for one question. What is less was not cut short.
    pub(crate) largest_page: usize,
}

/// A connection, and whether it was opened just now: one that was not may have ended unnoticed.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) connection: Arc<Connection>,
    pub(crate) is_fresh: bool,
}

impl Pool {
    /// A pool without connections.
    pub(crate) fn new(dial: Arc<dyn Dial>) -> Self {
        Self { dial, slots: Mutex::default(), habits: Mutex::default(), closed: AtomicBool::new(false) }
    }

    /// The connection to a relay as somebody.
    ///
    /// # Errors
    /// As [`Dial::dial`]; `Closed`.
    pub(crate) async fn connect(&self, relay: &RelayUrl, trust: Trust, identity: Option<PublicKey>) -> Result<Lease> {
        let slot = self.slot(Key { relay: relay.clone(), identity })?;
        if let Some(connection) = slot.alive() {
            return Ok(Lease { connection, is_fresh: false });
        }
        let failures = slot.failures.load(Ordering::Acquire);
        let _opening = slot.opening.lock().await;
        if let Some(connection) = slot.alive() {
            return Ok(Lease { connection, is_fresh: true });
        }
        if slot.failures.load(Ordering::Acquire) != failures
            && let Some((failure, retry)) = &*lock(&slot.failure)
        {
            return Err(failure.to_error().retry(*retry).with("relay", relay));
        }
        match self.dial.dial(relay, trust).await {
            Ok(socket) => {
                let connection = Arc::new(Connection::new(relay.clone(), socket));
                *lock(&slot.live) = Some(Arc::clone(&connection));
                if self.is_closed() {
                    connection.close().await;
                    return Err(closed());
                }
                tracing::debug!(%relay, "connected");
                Ok(Lease { connection, is_fresh: true })
            }
            Err(error) => {
                *lock(&slot.failure) =
                    Some((Lost::new(error.kind(), error.message().to_owned()), error.retry_advice()));
                slot.failures.fetch_add(1, Ordering::AcqRel);
                tracing::debug!(%relay, %error, "not connected");
                Err(error)
            }
        }
    }

    /// What was learned of a relay.
    pub(crate) fn habits(&self, relay: &RelayUrl) -> Habits {
        lock(&self.habits).get(relay).copied().unwrap_or_default()
    }

    /// Learns something of a relay.
    pub(crate) fn learn(&self, relay: &RelayUrl, what: impl FnOnce(&mut Habits)) {
        let mut habits = lock(&self.habits);
        if habits.len() >= MAX_HABITS && !habits.contains_key(relay) {
            // It is learned again soon enough.
            habits.clear();
        }
        what(habits.entry(relay.clone()).or_default());
    }

    /// Whether it was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Closes all connections, and opens no more.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let slots: Vec<_> = lock(&self.slots).drain().map(|(_, slot)| slot).collect();
        let live: Vec<_> = slots.iter().filter_map(|slot| lock(&slot.live).take()).collect();
        join_all(live.iter().map(|connection| connection.close())).await;
    }

    /// The same, without waiting for goodbyes.
    pub(crate) fn abandon(&self) {
        self.closed.store(true, Ordering::Release);
        lock(&self.slots).clear();
    }

    fn slot(&self, key: Key) -> Result<Arc<Slot>> {
        if self.is_closed() {
            return Err(closed());
        }
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(&key) {
            return Ok(Arc::clone(slot));
        }
        if slots.len() >= MAX_CONNECTIONS {
            // One that is being opened has no connection yet, but somebody holds it.
            slots.retain(|_, slot| slot.alive().is_some() || Arc::strong_count(slot) > 1);
        }
        if slots.len() >= MAX_CONNECTIONS {
            let unused = |slot: &Slot| slot.alive().filter(|it| it.is_idle()).map(|it| it.idle_since());
            let oldest = slots
                .iter()
                .filter_map(|(key, slot)| unused(slot).map(|since| (since, key.clone())))
                .min_by_key(|it| it.0);
            let Some((_, oldest)) = oldest else {
                return Err(Error::new(ErrorKind::RateLimited, "too many connections to relays are in use"));
            };
            slots.remove(&oldest);
        }
        Ok(Arc::clone(slots.entry(key).or_default()))
    }
}

impl Slot {
    fn alive(&self) -> Option<Arc<Connection>> {
        let mut live = lock(&self.live);
        if live.as_ref().is_some_and(|connection| !connection.is_alive()) {
            *live = None;
        }
        live.as_ref().map(Arc::clone)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("dial", &self.dial).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, time::Duration};

    use futures_util::{SinkExt as _, sink, stream};
    use talkbox_core::async_trait;
    use tokio_tungstenite::tungstenite;

    use super::*;
    use crate::socket::{Incoming, Outgoing};

    /// Opens sockets on which nothing ever comes, or fails.
    #[derive(Debug, Default)]
    struct Fake {
        dialed: AtomicUsize,
        fails: AtomicBool,
    }

    #[async_trait]
    impl Dial for Fake {
        async fn dial(&self, _: &RelayUrl, _: Trust) -> Result<(Outgoing, Incoming)> {
            self.dialed.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
            if self.fails.load(Ordering::SeqCst) {
                return Err(Error::new(ErrorKind::Unreachable, "nobody there"));
            }
            let never = |error: std::convert::Infallible| -> tungstenite::Error { match error {} };
            Ok((Box::pin(sink::drain().sink_map_err(never)), Box::pin(stream::pending())))
        }
    }

    fn relay(number: usize) -> RelayUrl {
        RelayUrl::parse(&format!("wss://{number}.example")).expect("a relay")
    }

    async fn connect_ten_times(pool: &Pool) -> Vec<Result<Lease>> {
        let (one, other) = (relay(1), PublicKey::from_bytes([7; 32]));
        let identities = [None, Some(other)];
        let connecting = (0..10).map(|at| pool.connect(&one, Trust::Configured, identities[at % 2]));
        join_all(connecting).await
    }

    #[tokio::test(start_paused = true)]
    async fn one_connection_for_each_relay_and_identity() {
        let fake = Arc::new(Fake::default());
        let pool = Pool::new(Arc::<Fake>::clone(&fake));
        let leases: Vec<_> =
            connect_ten_times(&pool).await.into_iter().map(|lease| lease.expect("connected")).collect();
        assert_eq!(fake.dialed.load(Ordering::SeqCst), 2);
        assert!(Arc::ptr_eq(&leases[0].connection, &leases[8].connection));
        assert!(!Arc::ptr_eq(&leases[0].connection, &leases[1].connection));
        let later = pool.connect(&relay(1), Trust::Configured, None).await.expect("connected");
        assert!(leases[0].is_fresh && !later.is_fresh);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waited_for_an_attempt_shares_its_failure() {
        let fake = Arc::new(Fake::default());
        fake.fails.store(true, Ordering::SeqCst);
        let pool = Pool::new(Arc::<Fake>::clone(&fake));
        for failure in connect_ten_times(&pool).await {
            assert_eq!(failure.expect_err("nobody").kind(), ErrorKind::Unreachable);
        }
        assert_eq!(fake.dialed.load(Ordering::SeqCst), 2);
        fake.fails.store(false, Ordering::SeqCst);
        pool.connect(&relay(1), Trust::Configured, None).await.expect("a later one tries again");
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_connections_is_bounded_and_the_idlest_makes_room() {
        let fake = Arc::new(Fake::default());
        let pool = Pool::new(Arc::<Fake>::clone(&fake));
        for number in 0..2 * MAX_CONNECTIONS {
            pool.connect(&relay(number), Trust::Configured, None).await.expect("connected");
            assert!(lock(&pool.slots).len() <= MAX_CONNECTIONS);
        }
        let kept = pool.connect(&relay(2 * MAX_CONNECTIONS - 1), Trust::Configured, None).await.expect("connected");
        assert!(!kept.is_fresh);
    }

    #[tokio::test(start_paused = true)]
    async fn once_closed_it_opens_no_more() {
        let pool = Pool::new(Arc::new(Fake::default()));
        let lease = pool.connect(&relay(1), Trust::Configured, None).await.expect("connected");
        assert!(lease.connection.is_alive());
        pool.close().await;
        assert!(!lease.connection.is_alive());
        let error = pool.connect(&relay(1), Trust::Configured, None).await.expect_err("closed");
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
}
