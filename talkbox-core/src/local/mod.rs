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
#[cfg(test)]
mod full_disk;
mod holdings;
mod ingest;
mod known;
mod messages;
mod outbox;
mod records;
mod rest;
mod schema;
mod settings;
mod sweep;

use std::{path::Path, sync::Arc};

use rusqlite::Connection;

use self::rest::Rest;
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
use crate::{
    Result,
    clock::Clock,
    random,
    sqlite::{Database, Place, Sql},
};

/// A local store. A clone is the same store.
#[derive(Clone, Debug)]
pub struct Store(Arc<Database<Shared>>);

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
        Self::start(Place::File(path.to_owned()), key, clock).await
    }

    /// A store that is gone when it is closed: for tests and for those who want to leave no trace.
    ///
    /// # Errors
    /// `Storage` where SQLite gives none.
    pub async fn in_memory(key: StoreKey, clock: Arc<dyn Clock>) -> Result<Self> {
        Self::start(Place::Memory, key, clock).await
    }

    async fn start(place: Place, key: StoreKey, clock: Arc<dyn Clock>) -> Result<Self> {
        let process = i64::from_le_bytes(random::bytes()?);
        let shared = Shared { rest: Rest::new(&key), clock, process };
        Ok(Self(Arc::new(Database::open(place, shared).await?)))
    }

    /// Carries out what was handed over, writes the log back into the file and closes it. Calls that come later fail
    /// with `Closed`.
    pub async fn close(&self) {
        self.0.close().await;
    }

    /// Work that writes, committed when this returns.
    async fn write<T, F>(&self, op: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Access<'_>) -> Sql<T> + Send + 'static,
    {
        self.0.write(work).await.map_err(|error| error.op(op))
    }

    /// Work that reads.
    async fn read<T, F>(&self, op: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Access<'_>) -> Sql<T> + Send + 'static,
    {
        self.0.read(work).await.map_err(|error| error.op(op))
    }
}
