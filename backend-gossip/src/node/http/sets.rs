//! The mail of large mailboxes as sets, kept between the messages of a reconciliation. A client sends some in a row, and to
//! read 40,000 ids from the store for each would take most of the time. A set is used as long as nothing has come or gone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use talkbox_core::{
    MailboxId,
    anti_entropy::{ReconciledSet as _, SortedItems},
};
use tokio::time::Instant;

use crate::node::{Shared, addresses::Party, refusal::Refusal, shares::Claim, store::MailState};

/// Ids of a set that is kept: to read fewer takes less than a millisecond.
const LEAST: usize = 1_000;
/// How long a set is kept: a client sends the next message at once. What expires meanwhile is in it still.
const KEPT: Duration = Duration::from_secs(30);
/// Sets that are kept; their ids are claimed besides, as those of reconciliations over WebSockets.
const MOST: usize = 256;

/// The sets that are kept.
#[derive(Debug, Default)]
pub(crate) struct MailSets(Mutex<HashMap<MailboxId, Kept>>);

#[derive(Debug)]
struct Kept {
    set: Arc<SortedItems>,
    /// What the mailbox was when it was read.
    state: MailState,
    since: Instant,
    _claim: Claim,
}

impl MailSets {
    /// How many are kept.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn find(&self, mailbox: &MailboxId, state: &MailState) -> Option<Arc<SortedItems>> {
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sets.retain(|_, kept| kept.since.elapsed() < KEPT);
        sets.get(mailbox).filter(|kept| kept.state == *state).map(|kept| Arc::clone(&kept.set))
    }

    fn keep(&self, mailbox: MailboxId, kept: Kept) {
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sets.len() < MOST || sets.contains_key(&mailbox) {
            sets.insert(mailbox, kept);
        }
    }
}

/// The ids of a mailbox's mail.
///
/// # Errors
/// Where the store cannot be read.
pub(super) async fn mail_of(node: &Shared, mailbox: MailboxId, party: Party) -> Result<Arc<SortedItems>, Refusal> {
    // Before the set is read: what comes in between makes it one of an earlier state, which is not used again.
    let state = node.store.mail_state(mailbox, party).await.map_err(|error| Refusal::of_store(&error))?;
    if let Some(set) = node.mail_sets.find(&mailbox, &state) {
        return Ok(set);
    }
    let set = node.store.mail_of(mailbox, party, node.now()).await.map_err(|error| Refusal::of_store(&error))?;
    let set = Arc::new(set);
    if set.len() >= LEAST
        && let Ok(claim) = node.reconciled.claim(party, set.len())
    {
        node.mail_sets.keep(mailbox, Kept { set: Arc::clone(&set), state, since: Instant::now(), _claim: claim });
    }
    Ok(set)
}
