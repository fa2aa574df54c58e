//! The local store: everything that a mailbox owner and a sender keep on their own disk, in one SQLite file.
//!
//! What it answers is committed and on the disk (write-ahead log, `synchronous = FULL`), so that killing the process
//! or losing power at any instant loses nothing that was acknowledged. Opened messages, keys, drafts and contacts are
//! sealed under the [`StoreKey`]; envelopes, ids, times and states stand in clear. Several processes use one file at
//! once: each has one writer, and leases keep two of them from sending one entry of the outbox at the same time.
//!
//! SQLite has no checksums: a flipped bit is returned as if it had been written. Sealed rows and envelopes prove
//! themselves when they are read; one that does not is reported by itself, as a `Storage` error, and hides no other.
//!
//! A call that was handed over is carried out, also when its future is dropped.

mod codec;
mod columns;
mod connection;
mod conversations;
mod cursors;
mod deletions;
mod drafts;
mod fault;
#[cfg(test)]
mod full_disk;
mod holdings;
mod ingest;
mod known;
mod messages;
mod outbox;
mod readers;
mod records;
mod rest;
mod schema;
mod settings;
mod sweep;
mod writer;

use std::{fmt, path::Path, sync::Arc};

use rusqlite::Connection;
use tokio::sync::watch;

use self::{connection::Place, fault::Sql, readers::Readers, rest::Rest, writer::Writer};
pub use self::{
    conversations::Conversation,
    deletions::{Deleted, PendingDeletion},
    drafts::{NewDraft, WaitingDraft},
    holdings::HeldBy,
    ingest::{Ingest, Ingested, Opened, Rejected},
    known::EnvelopePage,
    messages::{
        Damaged, Kinds, Lookup, MessageCounts, MessageKey, MessagePage, MessageQuery, Order, StoredMessage, Way,
    },
    outbox::{Attempt, NewOutbox, OutboxEntry, OutboxId, OutboxKey, OutboxPage, OutboxQuery, OutboxState},
    records::Pin,
    rest::StoreKey,
    sweep::{Damage, Swept},
};
use crate::{Result, clock::Clock, random};

/// A local store. A clone is the same store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    place: Place,
    writer: Writer,
    /// A store in memory has no other connection than the writer's.
    readers: Option<Readers>,
    ended: watch::Receiver<()>,
}

/// What both kinds of connection need.
struct Shared {
    rest: Rest,
    clock: Arc<dyn Clock>,
    /// Tells the leases of this store from those of other processes.
    process: i64,
}

/// A connection in a transaction, and what work on it needs.
struct Access<'a> {
    db: &'a Connection,
    rest: &'a Rest,
    now: crate::Timestamp,
    process: i64,
}

impl Store {
    /// Opens a store, and creates it where there is none: the file with mode 0600, and the folders above it.
    ///
    /// # Errors
    /// `Locked` where it was sealed with another key; `Storage` where the file cannot be used, is damaged, is
    /// something else, or was written by a newer version, which leaves it as it is.
    pub async fn open(path: &Path, key: StoreKey, clock: Arc<dyn Clock>) -> Result<Self> {
        let readers = Readers::new(path.to_owned());
        Self::start(Place::File(path.to_owned()), Some(readers), key, clock).await
    }

    /// A store that is gone when it is closed: for tests and for those who want to leave no trace.
    ///
    /// # Errors
    /// `Storage` where SQLite gives none.
    pub async fn in_memory(key: StoreKey, clock: Arc<dyn Clock>) -> Result<Self> {
        Self::start(Place::Memory, None, key, clock).await
    }

    async fn start(place: Place, readers: Option<Readers>, key: StoreKey, clock: Arc<dyn Clock>) -> Result<Self> {
        let process = i64::from_le_bytes(random::bytes()?);
        let shared = Arc::new(Shared { rest: Rest::new(&key), clock, process });
        let started = Writer::start(place.clone(), Arc::clone(&shared)).await;
        let (writer, ended) = started.map_err(|error| error.op("open the store"))?;
        Ok(Self(Arc::new(Inner { shared, place, writer, readers, ended })))
    }

    /// Carries out what was handed over, writes the log back into the file and closes it. Calls that come later fail
    /// with `Closed`.
    pub async fn close(&self) {
        // The writer last: only a connection that finds itself alone writes the log back and takes it away.
        if let Some(readers) = &self.0.readers {
            readers.close().await;
        }
        self.0.writer.close().await;
        // It never changes; that it is closed is the news.
        let _ = self.0.ended.clone().changed().await;
    }

    /// Work that writes, committed when this returns.
    async fn write<T, F>(&self, op: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Access<'_>) -> Sql<T> + Send + 'static,
    {
        self.0.writer.call(work).await.map_err(|error| error.op(op))
    }

    /// Work that reads.
    async fn read<T, F>(&self, op: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Access<'_>) -> Sql<T> + Send + 'static,
    {
        match &self.0.readers {
            Some(readers) => readers.call(Arc::clone(&self.0.shared), work).await.map_err(|error| error.op(op)),
            None => self.write(op, work).await,
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("place", &self.0.place).finish_non_exhaustive()
    }
}
