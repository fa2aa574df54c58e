//! Announcing: the signed record that a code resolves to, published wherever senders look.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{REFRESH, Talkbox};
use crate::{
    Address, Error, ErrorKind, Locator, MailboxId, MailboxRecord, PublishOptions, Receipt, RecordFields, Result,
    SecretKey, Shortcode,
    record::{MAX_LOCATORS, sign_inbox_relays},
};

/// The scheme of relays.
const RELAY: &str = "nostr";

/// A record, and who took it.
#[derive(Debug)]
pub struct Announced {
    /// What was published.
    pub record: MailboxRecord,
    /// What each transport said, by name.
    pub receipts: Vec<(String, Result<Receipt>)>,
}

impl Announced {
    /// How many holders took the record.
    pub fn acks(&self) -> usize {
        self.receipts.iter().filter_map(|(_, receipt)| receipt.as_ref().ok()).map(|receipt| receipt.acks.len()).sum()
    }
}

impl Talkbox {
    /// Publishes where a mailbox lives: at all holders of one's own. Nostr clients are told, too (NIP-17).
    ///
    /// # Errors
    /// `ConfigInvalid` where there are no holders. That a transport did not take it is in the answer.
    pub async fn announce(&self, key: &SecretKey) -> Result<Announced> {
        let mut locators = self.holders();
        locators.truncate(MAX_LOCATORS);
        if locators.is_empty() {
            return Err(Error::new(ErrorKind::ConfigInvalid, "there is no place where this mailbox could live"));
        }
        let relays = relays_of(&locators);
        let is_listed = self.note_listed(key.id(), &relays).await?;
        let mut fields = RecordFields::new(locators);
        fields.retention = self.0.settings.retention;
        fields.work = self.0.settings.work;
        let record = self.sign_record(key, fields).await?;
        let now = self.0.clock.now();
        let inbox_relays = is_listed.then(|| sign_inbox_relays(key, &relays, now));
        let options = PublishOptions::default().auth(Some(self.owner_auth(key))).inbox_relays(inbox_relays);
        let publishing = self
            .0
            .opened
            .transports
            .iter()
            .map(async |(name, transport)| (name.clone(), transport.publish(&record, options.clone()).await));
        let receipts = join_all(publishing).await;
        // One's own record is pinned like any other: sending to oneself needs no network.
        self.0.store.pin(&record, record.code()).await?;
        Ok(Announced { record, receipts })
    }

    /// Whether Nostr clients are to be told of these relays. Of none only where they were told of some before: they would go
    /// on sending there. Where they never were, a list that there may be is that of another program with this key.
    async fn note_listed(&self, mailbox: MailboxId, relays: &[String]) -> Result<bool> {
        let (store, name) = (&self.0.store, format!("inbox_relays.{}", mailbox.to_hex()));
        let pinned = store.pinned_by_id(mailbox).await?;
        let named_before = pinned.is_some_and(|record| !relays_of(&record.fields().locators).is_empty());
        if relays.is_empty() && !named_before {
            return Ok(store.setting(&name).await?.is_some());
        }
        // Kept for good: a relay that was away when it was told is told again with the next refresh.
        store.set_setting(&name, Some(b"listed")).await?;
        Ok(true)
    }

    /// Hashing the key and mining the record take up to a second of computing: not on an async thread.
    async fn sign_record(&self, key: &SecretKey, fields: RecordFields) -> Result<MailboxRecord> {
        if self.0.store.pinned_by_id(key.id()).await?.is_some() {
            // Another computer of the owner's may have announced since, and within this second. What nobody can tell is
            // no reason to say nothing.
            match self.resolve(&Address::from(key.id()), REFRESH).await {
                Err(error) if error.kind() == ErrorKind::Storage => return Err(error),
                Err(error) => tracing::debug!(%error, "what was announced before cannot be looked up"),
                Ok(_) => {}
            }
        }
        let (key, clock, pinned) = (key.clone(), Arc::clone(&self.0.clock), self.0.store.pinned_by_id(key.id()).await?);
        let signing = tokio::task::spawn_blocking(move || {
            let code = pinned.as_ref().map_or_else(|| Shortcode::of(&key.id()), MailboxRecord::code);
            // Newer than the one before also where both are of one second.
            let after = pinned.map_or(0, |record| record.created_at().secs() + 1);
            let now = clock.now().max(crate::Timestamp(after));
            MailboxRecord::sign(&key, code, fields, now)
        });
        signing.await.map_err(|error| Error::new(ErrorKind::Unexpected, "signing the record ended").source(error))?
    }
}

fn relays_of(locators: &[Locator]) -> Vec<String> {
    locators.iter().filter(|locator| locator.scheme() == RELAY).map(|locator| locator.rest().to_owned()).collect()
}
