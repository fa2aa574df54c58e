//! Putting back: what a holder had and has no longer, though it has not expired and nobody deleted it here.
//!
//! A node may have been put back to an old backup, with nobody beside it who has what came later. A relay that drops what
//! it does not want to keep is given it once more and not again.

use super::{Talkbox, sync::Source};
use crate::{EnvelopeId, PutOptions, Receipt, Result};

/// Envelopes that are put at once: 64 KiB each at most.
const TOGETHER: usize = 64;

impl Talkbox {
    /// Puts back those of these that the holder was seen to have. It is tried again at the next sync where nobody takes
    /// them.
    ///
    /// # Errors
    /// `Storage`.
    pub(super) async fn put_back(&self, source: &Source, absent: &[EnvelopeId]) -> Result<()> {
        let owner = source.opener.mailbox();
        for ids in absent.chunks(TOGETHER) {
            let lost = self.0.store.seen_at(owner, &source.holder, ids).await?;
            if lost.is_empty() {
                continue;
            }
            let answers = source.mailbox.put(&lost, PutOptions::default().auth(self.anyone_auth()?)).await;
            let taken = |answer: &Result<Receipt>| answer.as_ref().is_ok_and(|receipt| !receipt.acks.is_empty());
            let taken: Vec<EnvelopeId> = lost
                .iter()
                .zip(&answers)
                .filter(|(_, answer)| taken(answer))
                .map(|(envelope, _)| envelope.id())
                .collect();
            tracing::info!(holder = %source.holder, lost = lost.len(), taken = taken.len(), "a holder has lost mail");
            self.0.store.unsee(owner, &source.holder, &taken).await?;
        }
        Ok(())
    }
}
