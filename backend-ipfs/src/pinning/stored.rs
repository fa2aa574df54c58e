//! The store, as pinning sees it.

use talkbox_core::{ErrorKind, Result, async_trait, sqlite::Fault};

use super::shelf::{Contents, KeptLog, Shelf, Work};
use crate::{
    orbitdb::{Block, Cid, LogAddress, MonthLog},
    store::Store,
};

#[async_trait]
impl Shelf for Store {
    async fn logs(&self) -> Result<Vec<KeptLog>> {
        let kept = Self::logs(self).await?.into_iter().map(|log| KeptLog {
            address: log.address.as_str().to_owned(),
            name: MonthLog::new(log.mailbox, log.month).definition.name,
            entries: log.entries,
        });
        Ok(kept.collect())
    }

    async fn contents(&self, log: &str) -> Result<Option<Contents>> {
        let contents = unless_gone(Self::contents(self, &address(log)?).await)?;
        Ok(contents.map(|all| Contents { blocks: all.blocks, last: all.last, entries: all.entries }))
    }

    async fn put_nodes(&self, log: &str, nodes: Vec<Block>) -> Result<()> {
        unless_gone(self.put_blocks(Some(&address(log)?), nodes).await).map(drop)
    }

    async fn drop_nodes(&self, log: &str, nodes: Vec<Cid>) -> Result<()> {
        unless_gone(self.drop_blocks(Some(&address(log)?), nodes).await).map(drop)
    }

    async fn write(&self, work: Work) -> Result<()> {
        self.with(|db| work(db).map_err(Fault::from)).await
    }
}

fn address(log: &str) -> Result<LogAddress> {
    log.parse()
}

/// `None` where the log was dropped meanwhile, and with it all that was kept for it.
fn unless_gone<T>(done: Result<T>) -> Result<Option<T>> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        done => done.map(Some),
    }
}
