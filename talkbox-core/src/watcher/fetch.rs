//! Fetches envelopes from one holder by their ids: after a reconciliation, exactly what is missing.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    EnvelopeId, MailboxId, Result,
    auth::Authorizer,
    envelope::RawEnvelope,
    locator::Locator,
    mailbox::{ListOptions, Mailbox},
};

/// Most fetches in a row from which nothing arrives: a holder may name what has just expired, but not for ever.
const MAX_VAIN: usize = 8;

/// A fetch that is under way.
#[derive(Debug)]
pub(crate) struct Fetch {
    mailbox: Arc<dyn Mailbox>,
    holder: Locator,
    owner: MailboxId,
    auth: Option<Arc<dyn Authorizer>>,
    /// What is still to be asked for.
    ids: BTreeSet<EnvelopeId>,
    /// What has been asked for and is not there yet.
    missing: BTreeSet<EnvelopeId>,
    arrived: usize,
    vain: usize,
}

impl Fetch {
    /// Of these envelopes, from this holder.
    pub(crate) fn new(
        mailbox: Arc<dyn Mailbox>,
        holder: Locator,
        owner: MailboxId,
        auth: Option<Arc<dyn Authorizer>>,
        ids: impl IntoIterator<Item = EnvelopeId>,
    ) -> Self {
        let (ids, missing) = (ids.into_iter().collect(), BTreeSet::new());
        Self { mailbox, holder, owner, auth, ids, missing, arrived: 0, vain: 0 }
    }

    /// How many are to be fetched in all.
    pub(crate) fn left(&self) -> usize {
        self.ids.len() + self.missing.len()
    }

    /// How many have arrived.
    pub(crate) const fn arrived(&self) -> usize {
        self.arrived
    }

    /// The next of them, not yet checked: only what was asked for, and each once. `None` when the holder gives no more.
    ///
    /// # Errors
    /// As [`Mailbox::list`].
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<RawEnvelope>>> {
        loop {
            if self.missing.is_empty() {
                if self.ids.is_empty() || self.vain >= MAX_VAIN {
                    return Ok(None);
                }
                self.missing = (0..ListOptions::MAX_IDS).map_while(|_| self.ids.pop_first()).collect();
            }
            let options = ListOptions::default().auth(self.auth.clone()).ids(self.missing.iter().copied());
            let page = self.mailbox.list(self.owner, &self.holder, options).await?;
            let raw: Vec<RawEnvelope> = page.items.into_iter().filter(|raw| self.missing.remove(&raw.id())).collect();
            // A page may be shorter than what was asked for: the rest is asked for again, while something comes.
            if raw.is_empty() || !page.more {
                self.missing.clear();
            }
            if raw.is_empty() {
                self.vain += 1;
                continue;
            }
            self.vain = 0;
            self.arrived += raw.len();
            return Ok(Some(raw));
        }
    }
}
