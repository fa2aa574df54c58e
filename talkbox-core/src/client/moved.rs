//! What waits in the outbox follows its recipient, who may live elsewhere by now.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::{REFRESH, Talkbox};
use crate::{Address, ErrorKind, MailboxId, Result, local::OutboxEntry};

/// Recipients that one drain asks the networks about, each for a moment.
const MOST_ASKED: usize = 8;

impl Talkbox {
    /// Sends entries that nobody has taken to the places of their recipients' newest records. The networks are asked for these
    /// where an attempt has failed before.
    ///
    /// # Errors
    /// `Storage`.
    pub(super) async fn follow_records(&self, entries: &mut [OutboxEntry], end: Instant) -> Result<()> {
        let mut asked: BTreeSet<MailboxId> = BTreeSet::new();
        // Copies go to one's own places.
        for entry in entries.iter_mut().filter(|entry| entry.acks.is_empty() && entry.copy_of.is_none()) {
            let is_due = entry.attempts > 0 && asked.len() < MOST_ASKED && Instant::now() < end;
            if is_due && asked.insert(entry.recipient) {
                let budget = REFRESH.min(end.saturating_duration_since(Instant::now()));
                match self.resolve(&Address::from(entry.recipient), budget).await {
                    Err(error) if error.kind() == ErrorKind::Storage => return Err(error),
                    // What is known has to do.
                    _ => {}
                }
            }
            let Some(record) = self.0.store.pinned_by_id(entry.recipient).await? else { continue };
            let places = &record.fields().locators;
            if record.created_at() > entry.created_at && *places != entry.locators {
                self.0.store.redirect(entry.id, places.clone()).await?;
                entry.locators.clone_from(places);
                entry.min_acks = entry.min_acks.min(u32::try_from(places.len()).unwrap_or(u32::MAX));
                tracing::info!(entry = %entry.id, "a queued message follows its recipient to other places");
            }
        }
        Ok(())
    }
}
