//! The store: SQLite in WAL mode, one thread that writes, a few connections that read.

mod apply;
mod query;
mod row;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rusqlite::{Connection, InterruptHandle};
use talkbox_core::{Error, ErrorKind, EventId, Result, Timestamp};
use tokio::sync::{Semaphore, mpsc};

use self::{
    apply::Quota,
    schema::{Durability, open_reader, open_writer, storage},
};
pub(crate) use self::{query::Key, row::Packed, writer::Writer};
use super::{config::Limits, filter::Filter, gate::Rights, intake::RecentIds, live::Fresh};

/// Connections that read at once. Queries are short and the machine small; more would only wait for its cores.
const READERS: usize = 4;

/// The store of one node.
#[derive(Debug)]
pub(crate) struct Store {
    writer: Writer,
    readers: Readers,
    epoch: u64,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    limits: Limits,
    /// Held, so that no second node opens the same store.
    lock: File,
}

impl Store {
    /// Opens the store in a directory, or a temporary one. Blocks.
    ///
    /// # Errors
    /// `Storage` where the directory cannot be used, is in use, or holds a damaged or newer store.
    pub(crate) fn open(
        directory: Option<&Path>,
        epoch: [u8; 8],
        limits: &Limits,
        recent: Arc<RecentIds>,
        fresh: mpsc::Sender<Fresh>,
    ) -> Result<Self> {
        let place = Place::new(directory)?;
        let lock = lock(place.path())?;
        let path = place.path().join("node.sqlite3");
        let (conn, epoch) = open_writer(&path, place.durability(), epoch)?;
        let readers = (0..READERS).map(|_| open_reader(&path)).collect::<Result<_>>()?;
        let (writer, thread) = Writer::start(conn, Quota::new(limits), recent, fresh)?;
        Ok(Self {
            writer,
            readers: Readers {
                idle: Arc::new(Mutex::new(readers)),
                free: Arc::new(Semaphore::new(READERS)),
                timeout: Duration::from_secs(limits.query_timeout),
                _place: place,
            },
            epoch,
            thread: Mutex::new(Some(thread)),
            limits: limits.clone(),
            lock,
        })
    }

    pub(crate) const fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Random, made with the store: a place in the order of arrival means something only together with it.
    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The keys of what the filters match, newest first, and the last place in the order of arrival that was looked at.
    ///
    /// # Errors
    /// `Storage`, `Timeout`.
    pub(crate) async fn newest(
        &self,
        filters: Arc<[Filter]>,
        rights: Rights,
        now: Timestamp,
    ) -> Result<(Vec<Key>, i64)> {
        let most = self.limits.max_limit;
        self.readers
            .read(move |conn| {
                // One transaction, so that the keys and the last place are of the same moment.
                let tx = conn.unchecked_transaction()?;
                let last = query::last_seq(&tx)?;
                Ok((query::newest(&tx, &filters, &rights, now, most)?, last))
            })
            .await
    }

    /// The events at these places as JSON, as many of them from the first on as fit into so many bytes, but at least
    /// one; and how many places they took. What has gone is left out.
    ///
    /// # Errors
    /// `Storage`, `Timeout`.
    pub(crate) async fn events(
        &self,
        keys: Arc<[Key]>,
        from: usize,
        rights: Rights,
        now: Timestamp,
        bytes: usize,
    ) -> Result<(Vec<String>, usize)> {
        self.readers
            .read(move |conn| {
                let (mut page, mut size, mut taken) = (Vec::new(), 0, 0);
                for key in keys.get(from..).unwrap_or_default() {
                    taken += 1;
                    if let Some(json) = query::event(conn, key.seq, &rights, now)? {
                        size += json.len();
                        page.push(json);
                    }
                    if size >= bytes {
                        break;
                    }
                }
                Ok((page, taken))
            })
            .await
    }

    /// How many events the filters match. `None` where they are more than the node counts.
    ///
    /// # Errors
    /// `Storage`, `Timeout`.
    pub(crate) async fn count(&self, filters: Vec<Filter>, rights: Rights, now: Timestamp) -> Result<Option<usize>> {
        let most = self.limits.max_reconciled;
        self.readers.read(move |conn| query::count(conn, &filters, &rights, now, most)).await
    }

    /// Times and ids of what the filter matches. `None` where they are more than the node reconciles.
    ///
    /// # Errors
    /// `Storage`, `Timeout`.
    pub(crate) async fn set(
        &self,
        filter: Filter,
        rights: Rights,
        now: Timestamp,
    ) -> Result<Option<Vec<(u64, EventId)>>> {
        let most = self.limits.max_reconciled;
        self.readers.read(move |conn| query::set(conn, &filter, &rights, now, most)).await
    }

    /// Ends the writer when all that was queued is committed, and lets another node have the store.
    pub(crate) async fn stop(&self) {
        self.writer.stop().await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _panicked = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the store could not be unlocked");
        }
    }
}

/// Connections that read, each used by one query at a time.
#[derive(Debug)]
struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    free: Arc<Semaphore>,
    timeout: Duration,
    /// A temporary directory goes when nobody reads it any longer.
    _place: Place,
}

impl Readers {
    /// Runs a query on a thread that may block. One that takes too long is interrupted.
    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let closed = || Error::new(ErrorKind::Closed, "the store is closed");
        let permit = Arc::clone(&self.free).acquire_owned().await.map_err(|_| closed())?;
        let conn = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().ok_or_else(closed)?;
        let (interrupt, idle) = (InterruptOnDrop(Some(conn.get_interrupt_handle())), Arc::clone(&self.idle));
        let running = tokio::task::spawn_blocking(move || {
            let result = query(&conn);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
            drop(permit);
            result
        });
        let joined = tokio::time::timeout(self.timeout, running)
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, "the query took too long"))?;
        interrupt.disarm();
        match joined {
            Ok(result) => result.map_err(storage),
            Err(panic) => Err(Error::new(ErrorKind::Unexpected, "a query failed").source(panic)),
        }
    }
}

/// Ends a query that nobody waits for any longer: it ran out of time, or its client has gone.
struct InterruptOnDrop(Option<InterruptHandle>);

impl InterruptOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for InterruptOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.interrupt();
        }
    }
}

/// Where the store is.
#[derive(Debug)]
enum Place {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Place {
    fn new(directory: Option<&Path>) -> Result<Self> {
        let failed = |error: std::io::Error| Error::new(ErrorKind::Storage, "no directory for the store").source(error);
        match directory {
            Some(path) => {
                std::fs::create_dir_all(path).map_err(|error| failed(error).with("path", path.display()))?;
                Ok(Self::Kept(path.to_owned()))
            }
            None => tempfile::Builder::new().prefix("talkbox-node-").tempdir().map(Self::Temporary).map_err(failed),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }

    const fn durability(&self) -> Durability {
        match self {
            Self::Kept(_) => Durability::Full,
            Self::Temporary(_) => Durability::Temporary,
        }
    }
}

fn lock(directory: &Path) -> Result<File> {
    let path = directory.join("lock");
    let failed = |message, error: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(ErrorKind::Storage, message).with("path", path.display()).source(error)
    };
    let file = File::create(&path).map_err(|error| failed("no lock file can be made", error.into()))?;
    file.try_lock().map_err(|error| failed("another node uses this store", error.into()))?;
    Ok(file)
}
