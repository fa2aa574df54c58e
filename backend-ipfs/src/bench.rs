//! What benchmarks need of a node beyond its interface: a log that is written and read directly, with values that are no
//! mail, and of whichever writer.
//!
//! Not a part of the interface: behind the feature `bench`, and without any promise.

use std::{fmt, path::Path, sync::Arc};

use talkbox_core::{Clock as _, Envelope, EnvelopeId, Error, ErrorKind, MailboxId, Result, SystemClock, parallel};
use tokio::sync::broadcast;

use crate::{
    IpfsNode,
    node::{
        STORE,
        logs::{Arrival, Logs},
    },
    orbitdb::{Entry, Month, MonthLog, Value, Writer, link},
    store::{Store, StoreLimits},
};

/// More entries than any log here has.
const ALL: usize = 1 << 20;

/// A key that signs entries, and its identity.
#[derive(Clone)]
pub struct Signer(Arc<Writer>);

impl Signer {
    /// A fresh one.
    ///
    /// # Errors
    /// `Unexpected` without randomness.
    pub fn generate() -> Result<Self> {
        Writer::generate().map(Arc::new).map(Self)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

/// The log of a mailbox for this month.
#[derive(Debug)]
pub struct Log {
    store: Store,
    log: MonthLog,
    /// Of a running node, which tells others.
    logs: Option<Logs>,
}

impl Log {
    /// Opens the store of a node that does not run, in its folder; or one in memory.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn open(folder: Option<&Path>, mailbox: MailboxId) -> Result<Self> {
        let path = folder.map(|folder| folder.join(STORE));
        let store = Store::open(path.as_deref(), Arc::new(SystemClock), StoreLimits::default()).await?;
        let log = MonthLog::new(mailbox, Month::of(SystemClock.now()));
        store.open_log(log.clone()).await?;
        Ok(Self { store, log, logs: None })
    }

    /// The log in a node that runs, which follows it from now on.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn of(node: &IpfsNode, mailbox: MailboxId) -> Result<Self> {
        let (store, logs) = node.parts();
        let log = MonthLog::new(mailbox, Month::of(SystemClock.now()));
        logs.follow(&log).await?;
        logs.open(&log.definition.address).await?;
        Ok(Self { store, log, logs: Some(logs) })
    }

    /// Its name, as JavaScript peers open it.
    pub fn name(&self) -> &str {
        &self.log.definition.name
    }

    /// Its address.
    pub fn address(&self) -> &str {
        self.log.definition.address.as_str()
    }

    /// Appends texts, in one commit.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn append_texts(&self, texts: Vec<String>, signer: &Signer) -> Result<()> {
        let values = texts.into_iter().map(Value::String).collect();
        self.store.append_values(&self.log.definition.address, values, Arc::clone(&signer.0)).await.map(drop)
    }

    /// Appends envelopes in one commit, and tells those who listen, if the log is that of a node that runs.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn append(&self, envelopes: Vec<Envelope>, signer: &Signer) -> Result<()> {
        let address = &self.log.definition.address;
        let appended = self.store.append(address, envelopes, Arc::clone(&signer.0), Vec::new()).await?;
        if let Some(logs) = &self.logs {
            let entries: Vec<_> = appended.into_iter().filter_map(|one| one.entry).collect();
            logs.publish(address, &entries).await;
        }
        Ok(())
    }

    /// What others bring from now on.
    ///
    /// # Errors
    /// `InvalidInput` for a log of no node.
    pub fn arrivals(&self) -> Result<Arrivals> {
        let logs = self.logs.as_ref().ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the log is of no node"))?;
        Ok(Arrivals(logs.arrivals()))
    }

    /// Entries, and those of them that are a part of the log.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn count(&self) -> Result<(u64, u64)> {
        let logs = self.store.logs().await?;
        let state = logs.into_iter().find(|state| state.address == self.log.definition.address);
        Ok(state.map_or((0, 0), |state| (state.entries, state.entries.saturating_sub(state.waiting))))
    }

    /// The links of its heads.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn heads(&self) -> Result<Vec<String>> {
        let heads = self.store.heads(&self.log.definition.address, 16).await?;
        Ok(heads.iter().map(|head| link::to_text(&head.cid)).collect())
    }

    /// Reads all entries in the order in which a JavaScript peer iterates over them. How many.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn read(&self) -> Result<usize> {
        let blocks = self.store.traverse(&self.log.definition.address, ALL).await?;
        parallel::map(&blocks, |block| Entry::decode(block.bytes.clone()).map(drop))
            .into_iter()
            .collect::<Result<()>>()?;
        Ok(blocks.len())
    }

    /// Makes the set of all entries, as for a comparison with another holder. How many.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn set(&self) -> Result<usize> {
        Ok(self.store.set(&self.log.definition.address).await?.as_slice().len())
    }

    /// Closes the store of a node that does not run.
    pub async fn close(self) {
        if self.logs.is_none() {
            self.store.close().await;
        }
    }
}

/// Mail that others bring to a node.
#[derive(Debug)]
pub struct Arrivals(broadcast::Receiver<Arrival>);

impl Arrivals {
    /// Waits for the next.
    ///
    /// # Errors
    /// `Closed` where the node has ended, or mail was missed.
    pub async fn next(&mut self) -> Result<EnvelopeId> {
        let next = self.0.recv().await;
        next.map(|arrival| arrival.id).map_err(|error| Error::new(ErrorKind::Closed, "no more mail").source(error))
    }
}
