//! The threads that read, each with a connection of its own. What is asked waits in [`Turns`] and never owns a thread:
//! one is taken only while SQLite runs, whatever the client that asks does meanwhile.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode};
use talkbox_core::{Error, ErrorKind, Result, sqlite::storage};
use tokio::sync::oneshot;

use super::{place::Place, rot::Rot, schema::open_reader, turns::Turns};
use crate::node::{addresses::Party, context::Work};

/// Threads that read. Queries are short and the machine small; more would only wait for its cores.
const READERS: usize = 4;
/// Those of them that one party may have at once: half, so that one that grinds leaves the other half to all others.
const AT_ONCE: usize = READERS / 2;
/// Steps of SQLite's machine between two looks at the time: some 50 µs.
const STEPS: i32 = 1_000;

/// What a thread is given to do.
struct Job {
    run: Box<dyn FnOnce(&Connection) + Send>,
    /// How long it may run.
    within: Duration,
    given_up: Arc<AtomicBool>,
}

/// The readers of one store.
pub(super) struct Readers {
    turns: Arc<Turns<Job>>,
    closing: Arc<AtomicBool>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
    /// Where there are no threads: the one connection, with which whoever asks reads.
    inline: Option<Mutex<Connection>>,
    rot: Arc<Rot>,
}

impl Readers {
    /// Opens the connections and starts the threads.
    ///
    /// # Errors
    /// `Storage` where the store cannot be opened, `Unexpected` where the system gives no thread.
    pub(super) fn start(path: &Path, place: &Arc<Place>, work: Work, rot: Arc<Rot>) -> Result<Self> {
        let (inline, threads) = match work {
            Work::Inline => (Some(Mutex::new(open_reader(path)?)), 0),
            Work::Threads => (None, READERS),
        };
        let readers = Self {
            turns: Arc::new(Turns::new(AT_ONCE)),
            closing: Arc::default(),
            threads: Mutex::default(),
            inline,
            rot,
        };
        for number in 0..threads {
            let thread = Thread {
                conn: open_reader(path)?,
                turns: Arc::clone(&readers.turns),
                closing: Arc::clone(&readers.closing),
                _place: Arc::clone(place),
            };
            let thread = thread::Builder::new()
                .name(format!("node-reader-{number}"))
                .spawn(move || thread.run())
                .map_err(|error| Error::new(ErrorKind::Unexpected, "no thread for a reader").source(error))?;
            readers.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(readers)
    }

    /// Runs a query when it is the party's turn. One that runs for too long, or that nobody waits for any longer, is
    /// ended.
    ///
    /// # Errors
    /// `Timeout`, `Storage`; `Closed` when the node stops.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        party: Party,
        within: Duration,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        if let Some(conn) = &self.inline {
            if self.closing.load(Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Closed, "the store is closed"));
            }
            return query(&conn.lock().unwrap_or_else(PoisonError::into_inner)).map_err(|error| self.failed(error));
        }
        let given_up = Arc::new(AtomicBool::new(false));
        let _waits = GivesUp(Arc::clone(&given_up));
        let (answer, answered) = oneshot::channel();
        let run = Box::new(move |conn: &Connection| {
            let _gone = answer.send(query(conn));
        });
        if !self.turns.queue(party, Job { run, within, given_up }, |job| job.given_up.load(Ordering::Relaxed)) {
            return Err(Error::new(ErrorKind::Closed, "the store is closed"));
        }
        match answered.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Err(too_long()),
            Ok(Err(error)) => Err(self.failed(error)),
            Err(_) if self.closing.load(Ordering::Relaxed) => Err(Error::new(ErrorKind::Closed, "the store is closed")),
            Err(_) => Err(Error::new(ErrorKind::Unexpected, "a query failed")),
        }
    }

    fn failed(&self, error: rusqlite::Error) -> Error {
        self.rot.note(&error);
        storage(error)
    }

    /// Ends what runs, and the threads, and waits until they are gone.
    pub(super) async fn stop(&self) {
        self.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        if !threads.is_empty() {
            let join = || threads.into_iter().filter_map(|thread| thread.join().err()).count();
            let _panicked = tokio::task::spawn_blocking(join).await;
        }
    }

    fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.turns.close();
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readers").finish_non_exhaustive()
    }
}

/// What a query ends with that ran for too long.
pub(super) fn too_long() -> Error {
    Error::new(ErrorKind::Timeout, "the query took too long")
}

/// Tells the thread that nobody waits for the answer any longer.
struct GivesUp(Arc<AtomicBool>);

impl Drop for GivesUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// When the query that runs has to end.
struct Bound {
    end: Instant,
    given_up: Arc<AtomicBool>,
}

struct Thread {
    conn: Connection,
    turns: Arc<Turns<Job>>,
    closing: Arc<AtomicBool>,
    /// A temporary directory goes when nobody reads it any longer.
    _place: Arc<Place>,
}

impl Thread {
    fn run(mut self) {
        // Not by `sqlite3_interrupt`, which is lost where it comes between two statements of one query.
        let bound: Arc<Mutex<Option<Bound>>> = Arc::default();
        let (looked_at, closing) = (Arc::clone(&bound), Arc::clone(&self.closing));
        let is_over = move || {
            let bound = looked_at.lock().unwrap_or_else(PoisonError::into_inner);
            closing.load(Ordering::Relaxed)
                || bound
                    .as_ref()
                    .is_some_and(|Bound { end, given_up }| given_up.load(Ordering::Relaxed) || Instant::now() >= *end)
        };
        if let Err(error) = self.conn.progress_handler(STEPS, Some(is_over)) {
            tracing::error!(%error, "queries could not be bounded: a reader is missing");
            return;
        }
        while let Some((party, job)) = self.turns.next() {
            if !job.given_up.load(Ordering::Relaxed) {
                *bound.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Bound { end: Instant::now() + job.within, given_up: job.given_up });
                // One transaction for all statements of a query, or SQLite locks and unlocks the store for each. Where none
                // can begin, the query itself finds out why.
                let _transaction = self.conn.unchecked_transaction();
                // A fault in one query must not take the reader from all others.
                if catch_unwind(AssertUnwindSafe(|| (job.run)(&self.conn))).is_err() {
                    tracing::error!("a query panicked");
                }
            }
            self.turns.done(party);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::node::store::schema::{Durability, open_writer};

    const LONG: Duration = Duration::from_secs(600);
    const ADA: Party = Party::Connection(1);
    const BOB: Party = Party::Connection(2);
    /// Would run for years.
    const ENDLESS: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";

    fn readers() -> Arc<Readers> {
        let place = Arc::new(Place::new(None).expect("a directory"));
        let path = place.path().join("store");
        let _writer = open_writer(&path, Durability::Temporary, [1; 8], |_, _| false).expect("opens");
        Arc::new(Readers::start(&path, &place, Work::Threads, Arc::default()).expect("starts"))
    }

    fn one(conn: &Connection) -> rusqlite::Result<i64> {
        conn.query_row("SELECT 1", [], |row| row.get(0))
    }

    #[tokio::test]
    async fn one_party_that_grinds_leaves_readers_to_the_others() {
        let readers = readers();
        let (started, starts) = mpsc::sync_channel(READERS * 2);
        let grinding: Vec<_> = (0..READERS * 2)
            .map(|_| {
                let (readers, started) = (Arc::clone(&readers), started.clone());
                tokio::spawn(async move {
                    let query = move |conn: &Connection| {
                        started.send(()).expect("is waited for");
                        conn.query_row(ENDLESS, [], |row| row.get::<_, i64>(0))
                    };
                    readers.read(ADA, LONG, query).await
                })
            })
            .collect();
        let starts = tokio::task::spawn_blocking(move || {
            (0..AT_ONCE).for_each(|_| starts.recv().expect("as many run as may"));
            starts
        });
        let starts = starts.await.expect("they run");
        for _ in 0..3 {
            assert_eq!(readers.read(BOB, LONG, one).await.expect("is answered"), 1);
        }
        assert!(starts.try_recv().is_err(), "no more of the first party run");
        grinding.iter().for_each(tokio::task::JoinHandle::abort);
        for task in grinding {
            assert!(task.await.expect_err("was ended").is_cancelled());
        }
        assert_eq!(readers.read(ADA, LONG, one).await.expect("what nobody waits for has ended"), 1);
    }

    #[tokio::test]
    async fn what_runs_for_too_long_or_panics_costs_only_itself() {
        let readers = readers();
        let endless = |conn: &Connection| conn.query_row(ENDLESS, [], |row| row.get::<_, i64>(0));
        let error = readers.read(ADA, Duration::from_millis(1), endless).await.expect_err("is ended");
        assert_eq!(error.kind(), ErrorKind::Timeout);
        for _ in 0..READERS * 2 {
            let faulty = |_: &Connection| -> rusqlite::Result<i64> { panic!("a fault of the query") };
            assert_eq!(readers.read(ADA, LONG, faulty).await.expect_err("fails").kind(), ErrorKind::Unexpected);
        }
        assert_eq!(readers.read(ADA, LONG, one).await.expect("is answered"), 1);
    }

    /// A session that sends to a slow client does not look at its queries meanwhile.
    #[tokio::test]
    async fn queries_that_nobody_looks_at_own_no_reader() {
        let readers = readers();
        let mut unseen: Vec<_> = (0..READERS * 2)
            .map(|number| {
                let party = Party::Connection(10 + number as u64);
                let mut query = Box::pin(readers.read(party, LONG, one));
                assert!(futures_util::FutureExt::now_or_never(query.as_mut()).is_none_or(|answer| answer.is_ok()));
                query
            })
            .collect();
        for _ in 0..READERS * 4 {
            assert_eq!(readers.read(BOB, LONG, one).await.expect("is answered"), 1);
        }
        unseen.clear();
    }

    #[tokio::test]
    async fn stopping_ends_what_runs() {
        let readers = readers();
        let (started, starts) = oneshot::channel();
        let query = {
            let readers = Arc::clone(&readers);
            tokio::spawn(async move {
                let query = move |conn: &Connection| {
                    started.send(()).expect("is waited for");
                    conn.query_row(ENDLESS, [], |row| row.get::<_, i64>(0))
                };
                readers.read(ADA, LONG, query).await
            })
        };
        starts.await.expect("it runs");
        let stopped = Arc::clone(&readers);
        stopped.stop().await;
        assert!(query.await.expect("ends").is_err());
        assert_eq!(readers.read(ADA, LONG, one).await.expect_err("is closed").kind(), ErrorKind::Closed);
    }
}
