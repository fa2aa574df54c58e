//! Reconciles with one holder: finds out what it has and we do not know, and fetches exactly that.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::StreamExt;

use super::fetch::Fetch;
use crate::{
    EnvelopeId, ErrorKind, MailboxId, Result,
    auth::Authorizer,
    clock::Timestamp,
    envelope::RawEnvelope,
    locator::Locator,
    mailbox::{Cursor, ListOptions, Mailbox, ReconcileOptions},
    replicas::pages,
};

/// What came of reconciling with one holder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// How many envelopes the holder has that we did not know, as it says; as many as arrived where it was listed.
    pub theirs: usize,
    /// How many of them arrived, not yet checked.
    pub arrived: usize,
    /// What we know of and the holder does not have; empty where it was listed.
    pub ours: Vec<EnvelopeId>,
    /// It was listed from the start, since it cannot reconcile.
    pub listed: bool,
}

/// Finds out in what a holder and we differ, and fetches what we do not know: by its ids, at most 256 at a time, or by
/// listing it from the start where it cannot reconcile. `ours` is all that we know of, deleted and refused ones too.
///
/// `sink` takes what arrives, not yet checked, and in a listing the cursor after it; it says whether to go on. `None`
/// where it said no. What was not asked for is not passed on.
///
/// # Errors
/// As [`Mailbox::list`]. What arrived before it has been taken.
pub async fn reconcile_holder<F: Future<Output = bool> + Send>(
    mailbox: &Arc<dyn Mailbox>,
    holder: &Locator,
    owner: MailboxId,
    ours: &[(Timestamp, EnvelopeId)],
    auth: Option<Arc<dyn Authorizer>>,
    mut sink: impl FnMut(Vec<RawEnvelope>, Option<Cursor>) -> F + Send,
) -> Result<Option<Reconciled>> {
    let difference = match mailbox.reconciler(holder) {
        None => None,
        Some(reconciler) => {
            let options = ReconcileOptions::default().auth(auth.clone());
            match reconciler.difference(owner, ours, options).await {
                Err(error) if error.kind() == ErrorKind::Unsupported => None,
                answer => Some(answer?),
            }
        }
    };
    let Some(difference) = difference else {
        return list_from_start(mailbox, holder, owner, ours, auth, sink).await;
    };
    let mut fetch = Fetch::new(Arc::clone(mailbox), holder.clone(), owner, auth, difference.theirs);
    let theirs = fetch.left();
    while let Some(raw) = fetch.next().await? {
        if !sink(raw, None).await {
            return Ok(None);
        }
    }
    Ok(Some(Reconciled { theirs, arrived: fetch.arrived(), ours: difference.ours, listed: false }))
}

async fn list_from_start<F: Future<Output = bool> + Send>(
    mailbox: &Arc<dyn Mailbox>,
    holder: &Locator,
    owner: MailboxId,
    ours: &[(Timestamp, EnvelopeId)],
    auth: Option<Arc<dyn Authorizer>>,
    mut sink: impl FnMut(Vec<RawEnvelope>, Option<Cursor>) -> F + Send,
) -> Result<Option<Reconciled>> {
    let known: BTreeSet<EnvelopeId> = ours.iter().map(|(_, id)| *id).collect();
    let mut found = Reconciled { listed: true, ..Reconciled::default() };
    let mut listing = pages(Arc::clone(mailbox), owner, holder.clone(), ListOptions::default().auth(auth));
    while let Some(page) = listing.next().await {
        let page = page?;
        let raw: Vec<RawEnvelope> = page.items.into_iter().filter(|raw| !known.contains(&raw.id())).collect();
        found.arrived += raw.len();
        found.theirs += raw.len();
        if (!raw.is_empty() || page.next.is_some()) && !sink(raw, page.next).await {
            return Ok(None);
        }
    }
    Ok(Some(found))
}
