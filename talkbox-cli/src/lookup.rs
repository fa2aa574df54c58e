//! From the first digits of an id to what is meant.

use std::fmt::Display;

use talkbox_core::{
    MailboxId, Result, SecretKey,
    local::{Lookup, OutboxEntry, Store, StoredMessage, WaitingDraft},
};

use crate::{
    exit::{Failure, Outcome},
    keyring::Entry,
    view::short,
};

/// A message, and in whose mailbox it is.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) stored: StoredMessage,
    pub(crate) owner: MailboxId,
    /// The throw-away key, for an answer to what was sent without a mailbox.
    pub(crate) throw_away: Option<SecretKey>,
}

/// The message that is meant: in the mailbox, or else among the answers to what was sent under throw-away keys.
///
/// # Errors
/// `NotFound`; `InvalidInput` where several begin so.
pub(crate) async fn message(store: &Store, mailbox: Option<&Entry>, prefix: &str) -> Outcome<Found> {
    let mut places: Vec<(MailboxId, Option<SecretKey>)> = mailbox.map(|entry| (entry.id, None)).into_iter().collect();
    let conversations = store.conversations().await?;
    places.extend(conversations.into_iter().map(|conversation| (conversation.key.id(), Some(conversation.key))));
    for (owner, throw_away) in places {
        let found = store.find_message(owner, prefix).await?;
        if matches!(found, Lookup::Missing) {
            continue;
        }
        let id = one("message", prefix, Ok(found))?;
        if let Some(stored) = store.message(owner, id).await? {
            return Ok(Found { stored, owner, throw_away });
        }
    }
    Err(missing("message", prefix))
}

/// What waits in the outbox.
#[derive(Debug)]
pub(crate) enum Queued {
    /// A message that is sealed.
    Entry(Box<OutboxEntry>),
    /// One whose mailbox has not been found yet.
    Draft(Box<WaitingDraft>),
}

/// What is meant in the outbox, by its own id or that of its message.
///
/// # Errors
/// As [`message`].
pub(crate) async fn outbox(store: &Store, prefix: &str) -> Outcome<Queued> {
    let id = one("outbox entry", prefix, store.find_outbox(prefix).await)?;
    if let Some(waiting) = store.draft(id).await? {
        return Ok(Queued::Draft(Box::new(waiting)));
    }
    let entry = store.outbox_entry(id).await?;
    entry.map(|entry| Queued::Entry(Box::new(entry))).ok_or_else(|| missing("outbox entry", prefix))
}

fn one<I: Display>(what: &str, prefix: &str, found: Result<Lookup<I>>) -> Outcome<I> {
    match found? {
        Lookup::Found(id) => Ok(id),
        Lookup::Missing => Err(missing(what, prefix)),
        Lookup::Ambiguous(ids) => {
            let ids: Vec<String> = ids.iter().map(short).collect();
            Err(Failure::input(format!("several begin with `{prefix}`: {}", ids.join(", "))).hint("give more digits"))
        }
    }
}

fn missing(what: &str, prefix: &str) -> Failure {
    let list = if what == "message" { "talkbox read" } else { "talkbox outbox" };
    Failure::not_found(format!("there is no {what} `{prefix}` in this store"))
        .hint(format!("`{list}` lists what there is"))
}
