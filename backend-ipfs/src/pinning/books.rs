//! The ledger of one service, and the nodes of roots in the store, as one thing that is always in order.

use std::{collections::BTreeSet, sync::Arc};

use talkbox_core::{Result, Timestamp};
use tokio::sync::Mutex;

use super::{
    api::RequestId,
    ledger::{self, Left, LogPins},
    root::Root,
    shelf::{Shelf, on_tables},
};
use crate::orbitdb::Cid;

/// The books of one service.
#[derive(Clone, Debug)]
pub(super) struct Books {
    service: String,
    shelf: Arc<dyn Shelf>,
    /// Held while nodes of roots come or go: what one service's round drops, another's may just have put.
    nodes: Arc<Mutex<()>>,
}

impl Books {
    /// The books of this service. All services share the lock.
    pub(super) fn new(service: &str, shelf: Arc<dyn Shelf>, nodes: Arc<Mutex<()>>) -> Self {
        Self { service: service.to_owned(), shelf, nodes }
    }

    /// The pins of all logs.
    pub(super) async fn all(&self) -> Result<Vec<(String, LogPins)>> {
        let service = self.service.clone();
        on_tables(&self.shelf, move |db| ledger::of_service(db, &service)).await
    }

    /// Keeps the pins of a log. Requests that are no longer among them are left to be deleted.
    pub(super) async fn keep(&self, log: &str, pins: &LogPins, now: Timestamp) -> Result<()> {
        let (service, log, pins) = (self.service.clone(), log.to_owned(), pins.clone());
        on_tables(&self.shelf, move |db| ledger::keep(db, &service, &log, &pins, now)).await
    }

    /// Keeps the pins of a log, and the nodes of the root that is wanted. The pins come first: by them a sweep knows that
    /// the nodes are needed.
    pub(super) async fn keep_with_nodes(&self, log: &str, pins: &LogPins, root: Root, now: Timestamp) -> Result<()> {
        let _alone = self.nodes.lock().await;
        self.keep(log, pins, now).await?;
        let nodes: Vec<_> = root.nodes.iter().map(|node| node.cid).collect();
        let address = log.to_owned();
        on_tables(&self.shelf, move |db| ledger::keep_nodes(db, &address, &root.cid, &nodes)).await?;
        self.shelf.put_nodes(log, root.nodes).await
    }

    /// The nodes of all roots of a log.
    pub(super) async fn nodes(&self, log: &str) -> Result<BTreeSet<Cid>> {
        let log = log.to_owned();
        let nodes = on_tables(&self.shelf, move |db| ledger::nodes(db, &log)).await?;
        Ok(nodes.into_iter().collect())
    }

    /// Drops the nodes of roots that nobody is asked to pin any more. They are forgotten last: a node that is not known as
    /// one would be taken for a block of the log.
    pub(super) async fn sweep(&self, log: &str) -> Result<()> {
        let _alone = self.nodes.lock().await;
        let address = log.to_owned();
        let nodes = on_tables(&self.shelf, move |db| ledger::stale_nodes(db, &address)).await?;
        if nodes.is_empty() {
            return Ok(());
        }
        self.shelf.drop_nodes(log, nodes).await?;
        let address = log.to_owned();
        on_tables(&self.shelf, move |db| ledger::forget_stale(db, &address)).await
    }

    /// Requests that are to be deleted.
    pub(super) async fn left(&self) -> Result<Vec<Left>> {
        let service = self.service.clone();
        on_tables(&self.shelf, move |db| ledger::left(db, &service)).await
    }

    /// Remembers anew that a request is to be deleted.
    pub(super) async fn leave(&self, left: Left) -> Result<()> {
        let service = self.service.clone();
        on_tables(&self.shelf, move |db| ledger::leave(db, &service, &left)).await
    }

    /// Forgets a request that was deleted.
    pub(super) async fn forget(&self, id: RequestId) -> Result<()> {
        let service = self.service.clone();
        on_tables(&self.shelf, move |db| ledger::forget_left(db, &service, &id)).await
    }
}
