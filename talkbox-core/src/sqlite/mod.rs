//! What a store in SQLite rests on, whatever its tables are: one thread that writes, many calls in one commit; connections
//! that read beside it; and the settings by which what was answered is on the disk.
//!
//! For the local store, and for backends that keep a store of their own. Connections of the crate `rusqlite` are a part of
//! this interface, and their version may change with any release of Talkbox.

mod fault;
mod file;
pub mod maintenance;
mod readers;
mod writer;

use std::{fmt, path::Path, sync::Arc};

use rusqlite::Connection;
use tokio::sync::watch;

pub use self::{
    fault::{Fault, Sql, damaged, is_damage, is_of_disk, storage},
    file::{Place, make_durable, open_reader, open_writer, quick_check},
};
use self::{readers::Readers, writer::Writer};
use crate::Result;

/// One kind of store: how its connections are made, and what work on them needs.
pub trait Schema: Send + Sync + 'static {
    /// A connection in a transaction, and what else work on it needs.
    type Access<'a>;

    /// The name of the thread that writes.
    const THREAD: &'static str;
    /// Most calls that wait for the thread at once. Past that callers wait before they hand theirs over.
    const MAX_WAITING: usize;
    /// Most reads at once.
    const MAX_READERS: u32;

    /// The connection that writes, and brings the tables to their newest version.
    ///
    /// # Errors
    /// `Storage` where the file cannot be used, is damaged, is something else, or was written by a newer version.
    fn open_writer(&self, place: &Place) -> Sql<Connection>;

    /// A connection that reads what the other one has prepared.
    ///
    /// # Errors
    /// `Storage`.
    fn open_reader(&self, path: &Path) -> Sql<Connection>;

    /// What a call gets that begins now.
    fn access<'a>(&'a self, db: &'a Connection) -> Self::Access<'a>;
}

/// An open store. What was handed over is carried out, also when the future of the call is dropped.
pub struct Database<S: Schema> {
    schema: Arc<S>,
    place: Place,
    writer: Writer<S>,
    /// A store in memory has no other connection than the writer's.
    readers: Option<Readers<S>>,
    ended: watch::Receiver<()>,
}

impl<S: Schema> Database<S> {
    /// Opens a store, and creates it where there is none: the file with mode 0600, and the folders above it.
    ///
    /// # Errors
    /// Those of [`Schema::open_writer`].
    pub async fn open(place: Place, schema: S) -> Result<Self> {
        let schema = Arc::new(schema);
        let readers = match &place {
            Place::File(path) => Some(Readers::new(path.clone(), Arc::clone(&schema))),
            Place::Memory => None,
        };
        let started = Writer::start(place.clone(), Arc::clone(&schema)).await;
        let (writer, ended) = started.map_err(|error| place.named(error).op("open the store"))?;
        Ok(Self { schema, place, writer, readers, ended })
    }

    /// What the store was opened with.
    pub fn schema(&self) -> &S {
        &self.schema
    }

    /// Work that writes, committed when this returns. Work that fails takes back its own effects, and no other's.
    ///
    /// # Errors
    /// Those of the work; `Storage` where it could not be committed; `Closed`.
    pub async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&S::Access<'_>) -> Sql<T> + Send + 'static,
    {
        self.writer.call(work).await.map_err(|error| self.place.named(error))
    }

    /// Work that reads, and sees one state of the store.
    ///
    /// # Errors
    /// Those of the work; `Closed`.
    pub async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&S::Access<'_>) -> Sql<T> + Send + 'static,
    {
        match &self.readers {
            Some(readers) => readers.call(work).await.map_err(|error| self.place.named(error)),
            None => self.write(work).await,
        }
    }

    /// Carries out what was handed over, writes the log back into the file and closes it. Calls that come later fail
    /// with `Closed`.
    pub async fn close(&self) {
        // The writer last: only a connection that finds itself alone writes the log back and takes it away.
        if let Some(readers) = &self.readers {
            readers.close().await;
        }
        self.writer.close().await;
        // It never changes; that it is closed is the news.
        let _ = self.ended.clone().changed().await;
    }
}

impl<S: Schema> fmt::Debug for Database<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("place", &self.place).finish_non_exhaustive()
    }
}
