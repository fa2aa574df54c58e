//! Drafts to mailboxes that cannot be found yet: kept, looked for again, and sealed and sent once there is a key.

use std::time::Duration;

use tokio::time::Instant;

use super::{SendRequest, Talkbox, drain::pause_after, find::Resolved};
use crate::{
    Address, Draft, Error, ErrorKind, Locator, MailboxId, Result, Retry, SecretKey, Target,
    local::{NewDraft, OutboxId, WaitingDraft},
    seal,
};

/// How long the search for one mailbox may hold up the rest of a drain.
const SEARCH: Duration = Duration::from_secs(5);

/// A message that is to be sent to a mailbox that could not be found.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct LaterRequest {
    /// To whom.
    pub to: Address,
    /// What.
    pub draft: Draft,
    /// As the owner of this mailbox, whose key a later [`drain`](Talkbox::drain) has to be given; or as nobody.
    pub from: Option<MailboxId>,
    /// How many distinct holders make it count as stored.
    pub min_acks: Option<u32>,
    /// Where it goes when everybody was asked and nobody knows the mailbox.
    pub(super) otherwise: Vec<Locator>,
}

impl LaterRequest {
    /// To somebody, as nobody.
    pub const fn new(to: Address, draft: Draft) -> Self {
        Self { to, draft, from: None, min_acks: None, otherwise: Vec::new() }
    }

    /// As the owner of a mailbox.
    #[must_use]
    pub const fn from(mut self, mailbox: Option<MailboxId>) -> Self {
        self.from = mailbox;
        self
    }

    /// Counts as stored with so many acks.
    #[must_use]
    pub const fn min_acks(mut self, min_acks: Option<u32>) -> Self {
        self.min_acks = min_acks;
        self
    }
}

impl Talkbox {
    /// Keeps a message for a mailbox that cannot be found now, because nobody can be asked: it is on the disk, sealed
    /// at rest, when this returns. A later [`drain`](Self::drain) looks for the mailbox, and then seals and sends it
    /// under the outbox id that this gives.
    ///
    /// # Errors
    /// As [`seal()`](crate::seal()) for what can be told before there is a key; `Refused` where too many wait;
    /// `Storage`.
    pub async fn send_later(&self, request: LaterRequest) -> Result<OutboxId> {
        let LaterRequest { to, draft, from, min_acks, otherwise } = request;
        seal::check_draft(&draft)?;
        let id = OutboxId::generate()?;
        self.0
            .store
            .add_draft(NewDraft { id, to, draft, written: self.written_now(), sender: from, min_acks, otherwise })
            .await?;
        Ok(id)
    }

    /// Looks for the mailboxes of the drafts that are due, and turns those that are found into entries of the outbox.
    pub(super) async fn seal_drafts(&self, keys: &[SecretKey], end: Instant) -> Result<()> {
        let senders: Vec<MailboxId> = keys.iter().map(SecretKey::id).collect();
        while Instant::now() < end {
            let Some(waiting) = self.0.store.claim_draft(senders.clone(), SEARCH * 2).await? else { return Ok(()) };
            let key = keys.iter().find(|key| Some(key.id()) == waiting.new.sender);
            let budget = SEARCH.min(end.saturating_duration_since(Instant::now()));
            match self.seal_draft(&waiting, key, budget).await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Storage => return Err(error),
                // Another command, with other networks, may reach what this one does not.
                Err(error) if error.retry_advice() == Retry::No && error.kind() != ErrorKind::Unreachable => {
                    self.0.store.give_up_draft(waiting.new.id, error.message()).await?;
                }
                Err(_) => {
                    let next = self.0.clock.now().plus(pause_after(waiting.attempts));
                    self.0.store.postpone_draft(waiting.new.id, next).await?;
                }
            }
        }
        Ok(())
    }

    async fn seal_draft(&self, waiting: &WaitingDraft, key: Option<&SecretKey>, budget: Duration) -> Result<()> {
        let NewDraft { id, to, draft, min_acks, otherwise, written, .. } = waiting.new.clone();
        let found = match (self.resolve(&to, budget).await, to.target()) {
            (Err(error), Target::Mailbox(mailbox))
                if !otherwise.is_empty() && (nobody_knows(&error) || waited_long(&error, waiting.attempts)) =>
            {
                Resolved::at(mailbox, otherwise)
            }
            (found, _) => found?,
        };
        let mut request = SendRequest::new(found, draft).from(key.cloned()).min_acks(min_acks);
        request.written = Some(written);
        let (_, entries) = self.sealed(request, id).await?;
        // Where another process was first, or it was taken back, there is nothing left to do.
        self.0.store.enqueue_draft(id, entries).await.map(drop)
    }
}

/// Searches after which an answer to a key that nobody knows goes where its owner would look, although not everybody
/// could be asked: some may be gone for good. With the pauses between them that is half a minute.
const SEARCHES: u32 = 4;

fn waited_long(error: &Error, attempts: u32) -> bool {
    error.kind() == ErrorKind::NotFound && attempts >= SEARCHES
}

/// Whether everybody that could know a mailbox was asked, and nobody did.
pub(super) fn nobody_knows(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound && error.retry_advice() == Retry::No
}
