//! Connections that read, each used by one call at a time, on the threads that the runtime keeps for blocking work.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::Connection;
use tokio::{sync::Semaphore, task};

use super::{Schema, Sql, writer::stopped};
use crate::{Error, ErrorKind, Result};

/// The readers of one store. They are opened as they are needed.
pub(super) struct Readers<S> {
    path: PathBuf,
    schema: Arc<S>,
    free: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl<S: Schema> Readers<S> {
    pub(super) fn new(path: PathBuf, schema: Arc<S>) -> Self {
        Self { path, schema, free: Arc::new(Semaphore::new(S::MAX_READERS as usize)), idle: Arc::default() }
    }

    /// Runs a read as one transaction, so that it sees one state of the store.
    pub(super) async fn call<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&S::Access<'_>) -> Sql<T> + Send + 'static,
    {
        let permit = Arc::clone(&self.free).acquire_owned().await.map_err(|_| stopped())?;
        let (path, schema, idle) = (self.path.clone(), Arc::clone(&self.schema), Arc::clone(&self.idle));
        let read = task::spawn_blocking(move || {
            // Held here, since the work goes on when nobody waits for it any more.
            let _permit = permit;
            let taken = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let db = taken.map_or_else(|| schema.open_reader(&path), Ok)?;
            let result = read(&db, &*schema, work);
            if db.is_autocommit() {
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(db);
            }
            result
        });
        read.await
            .map_err(|error| Error::new(ErrorKind::Unexpected, "a read of the store was cut short").source(error))?
            .map_err(Error::from)
    }

    /// Waits for the reads under way and closes the connections.
    pub(super) async fn close(&self) {
        // Fails where it was closed already.
        if let Ok(_all) = self.free.acquire_many(S::MAX_READERS).await {
            self.free.close();
        }
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        if let Err(error) = task::spawn_blocking(move || drop(idle)).await {
            tracing::debug!(%error, "the readers of the store did not close tidily");
        }
    }
}

fn read<S: Schema, T>(db: &Connection, schema: &S, work: impl FnOnce(&S::Access<'_>) -> Sql<T>) -> Sql<T> {
    let transaction = db.unchecked_transaction()?;
    let result = work(&schema.access(db));
    transaction.finish()?;
    result
}
