//! The store, as bitswap reads it.

use bytes::Bytes;
use cid::Cid;
use talkbox_core::async_trait;

use crate::{bitswap::Blocks, store::Store};

#[async_trait]
impl Blocks for Store {
    async fn get(&self, cids: Vec<Cid>) -> Vec<Option<Bytes>> {
        let count = cids.len();
        self.blocks(cids).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "blocks could not be read");
            vec![None; count]
        })
    }

    async fn sizes(&self, cids: Vec<Cid>) -> Vec<Option<usize>> {
        let count = cids.len();
        Self::sizes(self, cids).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "blocks could not be looked for");
            vec![None; count]
        })
    }
}
