//! Deleting: at once and for ever in the store, then asked of every holder until it confirms.

use std::collections::BTreeSet;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, timeout_at};

use super::Talkbox;
use crate::{
    DeleteOptions, DeleteRequest, Deletion, EnvelopeId, EventId, Locator, MessageId, Result, Retry, SecretKey,
    Timestamp, local::PendingDeletion,
};

/// When a holder that took the request and has not confirmed it is asked again, in seconds.
const ASK_AGAIN: u64 = 6 * 3600;
/// How soon one that could not be asked is asked again, in seconds. The pause grows with the age of the request.
const ASK_SOON: u64 = 4;
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
        for (request, at) in self.sign_deletions(key).await? {
            let (id, now) = (request.event().id(), self.0.clock.now());
            let asked = self.ask(request, at, Some(key), end).await;
            self.settle_deletion(id, now, &asked).await?;
            deleted.requests.push(asked.outcome);
        }
        Ok(deleted)
    }

    /// Signs requests for everything that is deleted here and not yet asked of anyone; and says whom to ask.
    async fn sign_deletions(&self, key: &SecretKey) -> Result<Vec<(DeleteRequest, Vec<Locator>)>> {
        let mut requests = Vec::new();
        loop {
            let ids = self.0.store.deletions_to_sign(key.id()).await?;
            if ids.is_empty() {
                return Ok(requests);
            }
            let request = DeleteRequest::sign(key, key.id(), &ids, self.0.clock.now())?;
            let at = self.holders_to_ask(&request).await?;
            self.0.store.add_deletion(&request, &at).await?;
            requests.push((request, at));
        }
    }

    /// Those that are known to have what is deleted, also where this configuration does not name them; and all of one's
    /// own, which may have it.
    async fn holders_to_ask(&self, request: &DeleteRequest) -> Result<Vec<Locator>> {
        let mut holders = self.holders();
        for holder in self.0.store.holders_of(request).await? {
            if !holders.contains(&holder) {
                holders.push(holder);
            }
        }
        Ok(holders)
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
                let asked = self.ask(request, at, None, end).await;
                self.settle_deletion(id, made_at, &asked).await?;
            }
        }
        Ok(())
    }

    async fn ask(&self, request: DeleteRequest, at: Vec<Locator>, key: Option<&SecretKey>, end: Instant) -> Asked {
        let mut answers = Deletion::default();
        let mut failed = None;
        let mut silent: BTreeSet<Locator> = at.iter().cloned().collect();
        let mut asking: FuturesUnordered<_> =
            at.into_iter().map(|holder| self.ask_one(request.clone(), holder, key)).collect();
        while let Ok(Some((holder, answer))) = timeout_at(end, asking.next()).await {
            let refused = match answer {
                Ok(answer) => {
                    answers.holders.extend(answer.holders);
                    answer.refused
                }
                Err(error) => {
                    let refused = error.refusals().to_vec();
                    failed = Some(error);
                    refused
                }
            };
            let answered = answers.holders.iter().any(|(other, _)| *other == holder);
            if answered || refused.iter().any(|refusal| refusal.retry == Retry::No) {
                silent.remove(&holder);
            }
            answers.refused.extend(refused);
        }
        let outcome = match failed {
            Some(error) if answers.holders.is_empty() => Err(error),
            _ => Ok(answers),
        };
        Asked { outcome, all_answered: silent.is_empty() }
    }

    async fn ask_one(
        &self,
        request: DeleteRequest,
        holder: Locator,
        key: Option<&SecretKey>,
    ) -> (Locator, Result<Deletion>) {
        let auth = match key {
            Some(key) => Ok(self.owner_auth(key)),
            None => self.anyone_auth(),
        };
        let mailbox = self.0.routes.to(&holder).await;
        let answer = match (auth, mailbox) {
            (Ok(auth), Ok(mailbox)) => {
                let options = DeleteOptions::default().auth(Some(auth)).at([holder.clone()]);
                let mut answers = mailbox.delete(std::slice::from_ref(&request), options).await;
                answers.pop().unwrap_or_else(|| Ok(Deletion::default()))
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        (holder, answer)
    }

    async fn settle_deletion(&self, id: EventId, made_at: Timestamp, asked: &Asked) -> Result<()> {
        let nothing = Deletion::default();
        let outcome = asked.outcome.as_ref().unwrap_or(&nothing);
        let now = self.0.clock.now();
        let age = now.secs().saturating_sub(made_at.secs());
        let pause = if asked.all_answered { ASK_AGAIN } else { age.clamp(ASK_SOON, ASK_AGAIN) };
        self.0.store.settle_deletion(id, outcome, Some(now.plus(pause))).await
    }
}

/// What holders said to a request.
struct Asked {
    outcome: Result<Deletion>,
    /// Whether each of them did, be it that it refuses.
    all_answered: bool,
}
