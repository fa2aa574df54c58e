//! What waits in the outbox follows its recipient, who may live elsewhere by now.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::{REFRESH, Talkbox};
use crate::{
    Address, ErrorKind, MailboxId, Result,
    local::{OutboxEntry, OutboxState},
};

/// Recipients that one drain asks the networks about.
const MOST_ASKED: usize = 8;
/// Attempts after which it does: a place that was away for a moment is back by then.
const ATTEMPTS: u32 = 2;

impl Talkbox {
    /// Sends entries that nobody has taken to the places of their recipients' records, where these are others. For those
    /// that have been tried more than once the networks are asked for a newer record.
    ///
    /// # Errors
    /// `Storage`.
    pub(super) async fn follow_records(&self, entries: &[OutboxEntry], end: Instant) -> Result<()> {
        let mut asked: BTreeSet<MailboxId> = BTreeSet::new();
        // Copies go to one's own places.
        let waits = |entry: &&OutboxEntry| entry.state == OutboxState::Queued && entry.copy_of.is_none();
        for entry in entries.iter().filter(waits) {
            let may_ask = entry.attempts >= ATTEMPTS && asked.len() < MOST_ASKED && Instant::now() < end;
            if may_ask && asked.insert(entry.recipient) {
                let budget = REFRESH.min(end.saturating_duration_since(Instant::now()));
                match self.resolve(&Address::from(entry.recipient), budget).await {
                    Err(error) if error.kind() == ErrorKind::Storage => return Err(error),
                    // What is known has to do.
                    _ => {}
                }
            }
            let Some(record) = self.0.store.pinned_by_id(entry.recipient).await? else { continue };
            let places = &record.fields().locators;
            if *places != entry.locators {
                self.0.store.redirect(entry.id, places.clone()).await?;
                tracing::info!(entry = %entry.id, "a queued message follows its recipient to other places");
            }
        }
        Ok(())
    }
}
