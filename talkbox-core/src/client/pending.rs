//! What holders have queued and not confirmed yet, such as a pin: it is settled by asking them, never by sending again.

use std::collections::HashMap;

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::{Instant, timeout_at};

use super::Talkbox;
use crate::{
    EnvelopeId, Locator, MailboxId, Result,
    local::{OutboxEntry, OutboxId},
    mailbox::AuditOptions,
};

impl Talkbox {
    /// Asks holders that have entries pending whether they hold them by now.
    ///
    /// # Errors
    /// `Storage`. A holder that cannot be asked is asked again with the next attempt.
    pub(super) async fn settle_pending(&self, entries: &[OutboxEntry], end: Instant) -> Result<()> {
        let mut waiting: HashMap<(Locator, MailboxId), Vec<(OutboxId, EnvelopeId)>> = HashMap::new();
        for entry in entries {
            for holder in &entry.pending {
                let asked = waiting.entry((holder.clone(), entry.recipient)).or_default();
                asked.push((entry.id, entry.envelope.id()));
            }
        }
        let mut audits: FuturesUnordered<_> = waiting
            .into_iter()
            .map(|((holder, owner), asked)| async move {
                let ids: Vec<EnvelopeId> = asked.iter().map(|(_, id)| *id).collect();
                let mailbox = self.0.routes.to(&holder).await?;
                let options = AuditOptions::default().auth(Some(self.anyone_auth()?));
                let holdings = mailbox.audit(owner, &holder, &ids, options).await?;
                Ok::<_, crate::Error>((holder, asked, holdings))
            })
            .collect();
        while let Ok(Some(audited)) = timeout_at(end, audits.next()).await {
            match audited {
                Ok((holder, asked, holdings)) => {
                    for ((entry, _), holding) in asked.into_iter().zip(holdings) {
                        self.0.store.settle_audit(entry, &holder, holding.state).await?;
                    }
                }
                Err(error) => tracing::debug!(%error, "a holder could not be asked for what it has pending"),
            }
        }
        Ok(())
    }
}
