//! The connections: how many at once, and which are kept for the next question.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use talkbox_core::{Error, ErrorKind, Result};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::sleep,
};

use super::{
    Bounds,
    line::{Ended, Line, spawn},
};
use crate::{connect::Connect, endpoint::Endpoint, reach::Trust};

/// Most unused connections to all endpoints together: some ten nodes of one's own, and what others' records named lately.
const MAX_IDLE: usize = 64;

/// All connections of one client.
pub(super) struct Pool {
    connector: Arc<dyn Connect>,
    bounds: Bounds,
    state: Mutex<State>,
    /// What moves the bytes of each connection.
    tasks: Mutex<JoinSet<()>>,
    closed: watch::Sender<bool>,
}

/// Whom connections lead to. One that was opened for somebody's record is not used for the user's own configuration, nor
/// the other way round: they may have got to different addresses.
pub(super) type Key = (Endpoint, Trust);

/// A `BTreeMap`, since a `HashMap` takes its order from the operating system's randomness.
#[derive(Default)]
struct State {
    places: BTreeMap<Key, Place>,
    /// Of each kept connection, in the order in which they were kept.
    next_number: u64,
}

/// What there is for one endpoint.
struct Place {
    /// Who is at it, or waits to be: it is forgotten after the last one.
    users: usize,
    requests: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    /// Kept connections, the longest unused first.
    idle: VecDeque<Idle>,
}

struct Idle {
    number: u64,
    line: Line,
    /// Ends it after a while.
    _expiry: Ended,
}

/// What somebody wants to do there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use {
    Request,
    Stream,
}

/// The right to use one connection of an endpoint.
pub(super) struct Ticket {
    pool: Arc<Pool>,
    key: Key,
    permit: Option<OwnedSemaphorePermit>,
}

impl Pool {
    pub(super) fn new(connector: Arc<dyn Connect>, bounds: Bounds) -> Self {
        Self { connector, bounds, state: Mutex::default(), tasks: Mutex::default(), closed: watch::channel(false).0 }
    }

    /// Waits for a turn.
    pub(super) async fn enter(self: &Arc<Self>, key: Key, what: Use) -> Result<Ticket> {
        let turns = {
            let mut state = lock(&self.state);
            let place = state.places.entry(key.clone()).or_insert_with(|| Place::new(&self.bounds));
            place.users += 1;
            match what {
                Use::Request => Arc::clone(&place.requests),
                Use::Stream => Arc::clone(&place.streams),
            }
        };
        // From here on it leaves by being dropped, also where whoever waits gives up.
        let mut ticket = Ticket { pool: Arc::clone(self), key, permit: None };
        let permit = turns.acquire_owned().await.map_err(|_| closed(&ticket.key.0))?;
        ticket.permit = Some(permit);
        Ok(ticket)
    }

    /// Does something, until the pool is closed.
    ///
    /// # Errors
    /// `Closed`; those of the work.
    pub(super) async fn run<T>(&self, endpoint: &Endpoint, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut end = self.closed.subscribe();
        tokio::select! {
            biased;
            _ = end.wait_for(|closed| *closed) => Err(closed(endpoint)),
            done = work => done,
        }
    }

    /// The error itself, unless it only comes from the pool's end.
    pub(super) fn explained(&self, endpoint: &Endpoint, error: Error) -> Error {
        if *self.closed.borrow() { closed(endpoint) } else { error }
    }

    /// Ends all connections, and waits until they have ended.
    pub(super) async fn close(&self) {
        self.closed.send_replace(true);
        let places = mem::take(&mut lock(&self.state).places);
        drop(places);
        let mut tasks = mem::take(&mut *lock(&self.tasks));
        tasks.shutdown().await;
    }

    /// A connection that was kept, the one used last first: the others run out.
    fn kept(&self, key: &Key) -> Option<Line> {
        let mut state = lock(&self.state);
        let idle = &mut state.places.get_mut(key)?.idle;
        while let Some(last) = idle.pop_back() {
            // The other side may have ended it meanwhile.
            if last.line.is_ready() {
                return Some(last.line);
            }
        }
        None
    }

    /// Keeps a connection for the next question.
    fn keep(self: &Arc<Self>, key: &Key, line: Line) {
        let mut state = lock(&self.state);
        if *self.closed.borrow() {
            return;
        }
        let number = state.next_number;
        state.next_number += 1;
        let expiry = self.expiry(key.clone(), number);
        let Some(place) = state.places.get_mut(key) else { return };
        place.idle.push_back(Idle { number, line, _expiry: expiry });
        if place.idle.len() > self.bounds.idle {
            place.idle.pop_front();
        }
        if state.places.values().map(|place| place.idle.len()).sum::<usize>() > MAX_IDLE {
            let oldest = |place: &Place| place.idle.front().map_or(u64::MAX, |idle| idle.number);
            let longest_unused = state.places.iter().min_by_key(|(_, place)| oldest(place)).map(|(key, _)| key.clone());
            if let Some(key) = longest_unused {
                state.places.get_mut(&key).and_then(|place| place.idle.pop_front());
                state.forget(&key);
            }
        }
    }

    /// Ends a kept connection after a while.
    fn expiry(self: &Arc<Self>, key: Key, number: u64) -> Ended {
        let (pool, wait) = (Arc::downgrade(self), self.bounds.idle_for);
        let task = tokio::spawn(async move {
            sleep(wait).await;
            if let Some(pool) = Weak::upgrade(&pool) {
                pool.expire(&key, number);
            }
        });
        Ended(task.abort_handle())
    }

    fn expire(&self, key: &Key, number: u64) {
        let mut state = lock(&self.state);
        let Some(place) = state.places.get_mut(key) else { return };
        place.idle.retain(|idle| idle.number != number);
        state.forget(key);
    }
}

impl State {
    /// Forgets a place at which nothing is going on, since others' records can name any number of them.
    fn forget(&mut self, key: &Key) {
        if self.places.get(key).is_some_and(|place| place.users == 0 && place.idle.is_empty()) {
            self.places.remove(key);
        }
    }
}

impl Place {
    fn new(bounds: &Bounds) -> Self {
        Self {
            users: 0,
            requests: Arc::new(Semaphore::new(bounds.requests)),
            streams: Arc::new(Semaphore::new(bounds.streams)),
            idle: VecDeque::new(),
        }
    }
}

impl Ticket {
    /// Whom it is for.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.key.0
    }

    /// The pool that it is of.
    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// A connection that was kept.
    pub(super) fn kept(&self) -> Option<Line> {
        self.pool.kept(&self.key)
    }

    /// A connection of one's own.
    ///
    /// # Errors
    /// As [`Connect::connect`].
    pub(super) async fn fresh(&self) -> Result<Line> {
        let (endpoint, trust) = &self.key;
        let stream = self.pool.connector.connect(endpoint, *trust).await?;
        Line::open(endpoint, stream, |driver| spawn(&mut lock(&self.pool.tasks), driver)).await
    }

    /// Gives a connection back whose answer is whole.
    pub(super) async fn give_back(self, line: Line) {
        if let Some(line) = line.settled().await {
            self.pool.keep(&self.key, line);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = lock(&self.pool.state);
        if let Some(place) = state.places.get_mut(&self.key) {
            place.users = place.users.saturating_sub(1);
            state.forget(&self.key);
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("connector", &self.connector).field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

/// The error of everything that comes after the end.
fn closed(endpoint: &Endpoint) -> Error {
    endpoint.error(ErrorKind::Closed, "the connections were closed")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use talkbox_core::async_trait;

    use super::*;
    use crate::connect::ByteStream;

    /// Reaches nobody.
    #[derive(Debug)]
    struct Nowhere;

    #[async_trait]
    impl Connect for Nowhere {
        async fn connect(&self, endpoint: &Endpoint, _: Trust) -> Result<ByteStream> {
            Err(endpoint.error(ErrorKind::Unreachable, "nobody there"))
        }
    }

    fn key(number: usize) -> Key {
        let url = format!("https://{number}.example").parse().expect("a URL");
        (Endpoint::new("node", &url).expect("an endpoint"), Trust::Foreign)
    }

    #[tokio::test]
    async fn where_nothing_goes_on_is_forgotten() {
        let bounds = Bounds { requests: 1, streams: 1, idle: 1, idle_for: Duration::from_secs(1) };
        let pool = Arc::new(Pool::new(Arc::new(Nowhere), bounds));
        for number in 0..100 {
            let ticket = pool.enter(key(number), Use::Request).await.expect("the first one");
            ticket.fresh().await.expect_err("nobody there");
            assert!(pool.enter(key(number), Use::Request).now_or_never().is_none(), "one at a time");
            assert_eq!(lock(&pool.state).places.len(), 1, "whoever holds a turn is not forgotten");
            drop(ticket);
            assert_eq!(lock(&pool.state).places.len(), 0);
        }
    }
}
