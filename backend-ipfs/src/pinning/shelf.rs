//! What pinning needs of the store, and of the network: two small traits, so that all of it runs without either.

use std::{fmt, sync::Arc};

use libp2p::Multiaddr;
use rusqlite::Connection;
use talkbox_core::{Error, ErrorKind, Result, async_trait};
use tokio::sync::oneshot;

use crate::orbitdb::{Block, Cid};

/// A log that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptLog {
    /// Its address.
    pub(crate) address: String,
    /// Its name, by which a service's own pages show its pin.
    pub(crate) name: String,
    /// How many entries there are. None is ever taken out.
    pub(crate) entries: u64,
}

/// All blocks of a log at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// The manifest, the access controller, the identities, and the entries, in any order. Nodes of its roots may be among
    /// them.
    pub(crate) blocks: Vec<Cid>,
    /// The number of the last mail in them.
    pub(crate) last: i64,
    /// How many entries there are, as [`KeptLog`] counts them.
    pub(crate) entries: u64,
}

/// Something to be done on the connection that writes, as one transaction.
pub(crate) type Work = Box<dyn FnOnce(&Connection) -> Result<()> + Send>;

/// What pinning needs of the store.
#[async_trait]
pub(crate) trait Shelf: fmt::Debug + Send + Sync + 'static {
    /// The logs that are kept.
    ///
    /// # Errors
    /// `Storage`, as all others.
    async fn logs(&self) -> Result<Vec<KeptLog>>;

    /// All blocks of a log that are here; `None` where the log is not kept any more.
    async fn contents(&self, log: &str) -> Result<Option<Contents>>;

    /// Keeps nodes, to be served as long as the log is kept.
    async fn put_nodes(&self, log: &str, nodes: Vec<Block>) -> Result<()>;

    /// Drops nodes of a log, which may be gone by now.
    async fn drop_nodes(&self, log: &str, nodes: Vec<Cid>) -> Result<()>;

    /// Does something with the tables of this module.
    async fn write(&self, work: Work) -> Result<()>;
}

/// What pinning needs of the network.
pub(crate) trait Peers: fmt::Debug + Send + Sync + 'static {
    /// Where this node can be reached, with its peer id.
    fn addresses(&self) -> Vec<Multiaddr>;

    /// Sees to it that there is a connection to these, without waiting for it. They are somebody else's words: an address
    /// in them is checked, but what a name resolves to is not.
    fn dial(&self, delegates: Vec<Multiaddr>);
}

/// Does something with the tables of this module, and says what came of it.
pub(super) async fn on_tables<T: Send + 'static>(
    shelf: &Arc<dyn Shelf>,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T> {
    let (reply, answer) = oneshot::channel();
    let work: Work = Box::new(move |db| {
        let done = work(db).map_err(|error| {
            Error::new(ErrorKind::Storage, format!("what is known of the pins cannot be used: {error}")).source(error)
        })?;
        // Nobody waits any more: then nobody needs to know.
        let _ = reply.send(done);
        Ok(())
    });
    shelf.write(work).await?;
    answer.await.map_err(|_| Error::new(ErrorKind::Storage, "the store has ended"))
}
