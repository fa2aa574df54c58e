//! Deleting: at once and for ever in the store, then asked of every holder until it confirms.

use tokio::time::{Instant, timeout_at};

use super::Talkbox;
use crate::{
    DeleteOptions, DeleteRequest, Deletion, EnvelopeId, EventId, Locator, MessageId, Result, SecretKey,
    local::PendingDeletion,
};

/// When a holder that has not confirmed is asked again, in seconds.
const ASK_AGAIN: u64 = 6 * 3600;
/// How long holders are asked: many take a deletion and never carry it out, in seconds.
const ASK_FOR: u64 = 7 * 86_400;
/// Requests that one drain takes up.
const BATCH: u32 = 16;

/// What was deleted, and what the holders said so far.
#[derive(Debug, Default)]
pub struct Deleted {
    /// The messages that are gone from the store.
    pub messages: Vec<MessageId>,
    /// The envelopes that are gone from the store, and are asked of the holders.
    pub envelopes: Vec<EnvelopeId>,
    /// What each request came to; a request names up to 100 envelopes.
    pub requests: Vec<Result<Deletion>>,
}

impl Talkbox {
    /// Deletes messages, with every envelope that brought them. They never come back, whoever still holds them.
    ///
    /// # Errors
    /// `Storage`. What holders did is in the answer.
    pub async fn delete(
        &self,
        key: &SecretKey,
        messages: &[MessageId],
        budget: std::time::Duration,
    ) -> Result<Deleted> {
        let end = Instant::now() + budget;
        let gone = self.0.store.delete(key.id(), messages, &[]).await?;
        let mut deleted = Deleted { messages: gone.messages, envelopes: gone.envelopes, requests: Vec::new() };
        for request in self.sign_deletions(key).await? {
            let id = request.event().id();
            let outcome = self.ask(request, self.holders(), Some(key), end).await;
            self.settle_deletion(id, &outcome).await?;
            deleted.requests.push(outcome);
        }
        Ok(deleted)
    }

    /// Signs requests for everything that is deleted here and not yet asked of anyone.
    async fn sign_deletions(&self, key: &SecretKey) -> Result<Vec<DeleteRequest>> {
        let mut requests = Vec::new();
        loop {
            let ids = self.0.store.deletions_to_sign(key.id()).await?;
            if ids.is_empty() {
                return Ok(requests);
            }
            let request = DeleteRequest::sign(key, key.id(), &ids, self.0.clock.now())?;
            self.0.store.add_deletion(&request, &self.holders()).await?;
            requests.push(request);
        }
    }

    /// Asks again where a holder has not confirmed, without the owner's key: the requests are signed.
    pub(super) async fn drain_deletions(&self, end: Instant) -> Result<()> {
        while Instant::now() < end {
            let pending = self.0.store.pending_deletions(BATCH).await?;
            if pending.is_empty() {
                break;
            }
            for PendingDeletion { request, at, made_at } in pending {
                let id = request.event().id();
                if self.0.clock.now() > made_at.plus(ASK_FOR) || at.is_empty() {
                    self.0.store.settle_deletion(id, &Deletion::default(), None).await?;
                    continue;
                }
                let outcome = self.ask(request, at, None, end).await;
                self.settle_deletion(id, &outcome).await?;
            }
        }
        Ok(())
    }

    async fn ask(
        &self,
        request: DeleteRequest,
        at: Vec<Locator>,
        key: Option<&SecretKey>,
        end: Instant,
    ) -> Result<Deletion> {
        let auth = match key {
            Some(key) => self.owner_auth(key),
            None => self.anyone_auth()?,
        };
        let mut outcome = Deletion::default();
        let asking = at.into_iter().map(|holder| {
            let (request, auth) = (request.clone(), std::sync::Arc::clone(&auth));
            async move {
                let mailbox = self.0.routes.to(&holder).await?;
                let options = DeleteOptions::default().auth(Some(auth)).at([holder.clone()]);
                let mut answers = mailbox.delete(std::slice::from_ref(&request), options).await;
                answers.pop().unwrap_or_else(|| Ok(Deletion::default()))
            }
        });
        let mut asking: futures_util::stream::FuturesUnordered<_> = asking.collect();
        let mut failed = None;
        while let Ok(Some(answer)) = timeout_at(end, futures_util::StreamExt::next(&mut asking)).await {
            match answer {
                Ok(answer) => {
                    outcome.holders.extend(answer.holders);
                    outcome.refused.extend(answer.refused);
                }
                Err(error) => {
                    outcome.refused.extend(error.refusals().iter().cloned());
                    failed = Some(error);
                }
            }
        }
        match failed {
            Some(error) if outcome.holders.is_empty() => Err(error),
            _ => Ok(outcome),
        }
    }

    async fn settle_deletion(&self, id: EventId, outcome: &Result<Deletion>) -> Result<()> {
        let nothing = Deletion::default();
        let outcome = outcome.as_ref().unwrap_or(&nothing);
        self.0.store.settle_deletion(id, outcome, Some(self.0.clock.now().plus(ASK_AGAIN))).await
    }
}
