//! Conversations under throw-away keys: a sender without a mailbox finds the replies where it wrote to.

use std::{sync::Arc, time::Duration};

use futures_util::stream::BoxStream;
use tokio::time::Instant;

use super::{
    Talkbox,
    sync::{Source, Synced, collect},
};
use crate::{Authorizer, KeyAuthorizer, Opener, Result};

impl Talkbox {
    /// Fetches the replies to every throw-away key, from the holders of the mailbox that it was made for.
    ///
    /// # Errors
    /// `Storage`. What holders did is in the answer.
    pub async fn sync_conversations(&self, budget: Duration) -> Result<Synced> {
        collect(self.syncing_conversations(budget).await?).await
    }

    /// As [`sync_conversations`](Self::sync_conversations), in parts, as the holders are through.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn syncing_conversations(&self, budget: Duration) -> Result<BoxStream<'static, Synced>> {
        let end = Instant::now() + budget;
        let mut sources = Vec::new();
        for conversation in self.0.store.conversations().await? {
            let Some(record) = self.0.store.pinned_by_id(conversation.recipient).await? else { continue };
            let holders = record.fields().locators.clone();
            let opener = Arc::new(Opener::new(conversation.key.clone()));
            let clock = Arc::clone(&self.0.clock);
            // The key is of this conversation alone, and answers only its holders: it gives away nothing else.
            let auth: Arc<dyn Authorizer> =
                Arc::new(KeyAuthorizer::for_holders(conversation.key, holders.clone(), clock));
            for holder in holders {
                match self.0.routes.to(&holder).await {
                    Ok(mailbox) => {
                        sources.push(Source { mailbox, holder, opener: Arc::clone(&opener), auth: Arc::clone(&auth) })
                    }
                    Err(error) => tracing::debug!(%error, "a holder of a conversation cannot be reached"),
                }
            }
        }
        Ok(self.sync_all(sources, end))
    }
}
