//! Keepers: keys that the record of a mailbox lets read it, besides its owner.

use talkbox_core::{MailboxId, MailboxRecord, PublicKey, event::Event};

use super::{Shared, addresses::Party, refusal::Refusal};

/// Whether the record of the mailbox, as it is stored now, names this key as a keeper.
///
/// # Errors
/// Where the store cannot be read.
pub(crate) async fn is_keeper(
    node: &Shared,
    key: PublicKey,
    mailbox: MailboxId,
    party: Party,
) -> Result<bool, Refusal> {
    let record = node.store.record(mailbox, party, node.now()).await.map_err(|error| Refusal::of_store(&error))?;
    let record = record.and_then(|stored| Event::restore(&stored.json).ok());
    let record = record.and_then(|event| MailboxRecord::from_event(event).ok());
    Ok(record.is_some_and(|record| record.fields().keepers.contains(&key)))
}
