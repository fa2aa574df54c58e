//! Sending: sealed, committed to the outbox, and then the outbox's business.

use std::sync::atomic::Ordering;

use super::{LaterRequest, Talkbox, drafts::nobody_knows, find::Resolved};
use crate::{
    Address, Draft, EnvelopeId, Error, ErrorKind, Locator, MailboxId, Message, MessageId, Result, SealOptions, Sealed,
    SecretKey,
    local::{NewOutbox, OutboxId},
    seal::{seal, seal_copy},
};

/// What to send, to whom, as whom.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct SendRequest {
    /// To whom.
    pub to: Resolved,
    /// What.
    pub draft: Draft,
    /// As whom: the key of one's own mailbox, or nobody, which takes a throw-away key for each conversation.
    pub from: Option<SecretKey>,
    /// How many distinct holders make it count as stored.
    pub min_acks: Option<u32>,
    /// When it was written, in milliseconds since 1970, where that was before now.
    pub(super) written: Option<u64>,
}

impl SendRequest {
    /// To somebody, as nobody.
    pub const fn new(to: Resolved, draft: Draft) -> Self {
        Self { to, draft, from: None, min_acks: None, written: None }
    }

    /// As the owner of a mailbox.
    #[must_use]
    pub fn from(mut self, key: Option<SecretKey>) -> Self {
        self.from = key;
        self
    }

    /// Counts as stored with so many acks.
    #[must_use]
    pub const fn min_acks(mut self, min_acks: Option<u32>) -> Self {
        self.min_acks = min_acks;
        self
    }
}

/// Something that is in the outbox.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The message.
    pub message: MessageId,
    /// The envelope that it is in for now.
    pub envelope: EnvelopeId,
    /// Its entry in the outbox, to ask how far it got.
    pub outbox: OutboxId,
    /// How many distinct holders make it count as stored.
    pub min_acks: u32,
}

/// How far an answer got.
#[derive(Clone, Debug)]
pub enum Replied {
    /// It is sealed, and in the outbox.
    Sent(Sent),
    /// It waits under this id until the mailbox of whom it is for can be looked for.
    Waits(OutboxId),
}

impl Talkbox {
    /// Seals a message and puts it into the outbox. It is on the disk when this returns, and is sent by the next
    /// [`drain`](Self::drain).
    ///
    /// # Errors
    /// As [`seal()`](crate::seal()); `InvalidInput` where the recipient has no place, or more acks are asked for than
    /// it has; `Refused` where the recipient asks for more work than this program does; `Storage`.
    pub async fn send(&self, request: SendRequest) -> Result<Sent> {
        let (sent, entries) = self.sealed(request, OutboxId::generate()?).await?;
        self.0.store.enqueue_all(entries).await?;
        Ok(sent)
    }

    /// Seals a message, and the sender's own copy of it, into entries of the outbox.
    pub(super) async fn sealed(&self, request: SendRequest, outbox: OutboxId) -> Result<(Sent, Vec<NewOutbox>)> {
        let SendRequest { to, draft, from, min_acks, written } = request;
        let min_acks = self.min_acks(min_acks, &to.locators)?;
        let sender = match &from {
            Some(key) => key.clone(),
            None => self.0.store.conversation_key(to.mailbox).await?,
        };
        let written = Some(written.unwrap_or_else(|| self.written_now()));
        let options = SealOptions { written, ..to.seal_options() };
        let sealed = self.seal(&draft, &sender, to.mailbox, options).await?;
        if let Some(record) = &to.record
            && sealed.envelope.json().len() > record.fields().max_bytes as usize
        {
            return Err(Error::new(ErrorKind::TooLarge, "larger than the recipient takes")
                .with("bytes", sealed.envelope.json().len())
                .with("limit", record.fields().max_bytes));
        }
        let mut entries = vec![entry(outbox, &sealed, to.mailbox, to.locators, min_acks, None)];
        if let (Some(key), own) = (&from, self.holders())
            && !own.is_empty()
        {
            let copy =
                seal_copy(&draft, &sealed.message, key, to.mailbox, self.0.clock.now(), &SealOptions::default())?;
            entries.push(entry(OutboxId::generate()?, &copy, key.id(), own, 1, Some(outbox)));
        }
        Ok((Sent { message: sealed.message.id, envelope: sealed.envelope.id(), outbox, min_acks }, entries))
    }

    /// Answers a message, where its sender reads: at the sender's own mailbox, or where that key has none, here. Where
    /// not everybody that could know the sender's mailbox can be asked, the answer waits until they can.
    ///
    /// # Errors
    /// As [`send`](Self::send), [`send_later`](Self::send_later) and [`resolve`](Self::resolve).
    pub async fn reply(&self, key: &SecretKey, to: &Message, draft: Draft, min_acks: Option<u32>) -> Result<Replied> {
        let sender = MailboxId::from(to.from);
        let draft = Draft { reply_to: Some(to.id), ..draft };
        let resolved = match self.resolve(&Address::from(sender), super::REFRESH).await {
            Ok(resolved) => resolved,
            // A throw-away key: its owner polls the holders of the mailbox that it wrote to.
            Err(error) if nobody_knows(&error) => Resolved::at(sender, self.holders()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unreachable) => {
                let mut later = LaterRequest::new(Address::from(sender), draft).from(Some(key.id())).min_acks(min_acks);
                later.otherwise = self.holders();
                return self.send_later(later).await.map(Replied::Waits);
            }
            Err(error) => return Err(error),
        };
        let request = SendRequest::new(resolved, draft).from(Some(key.clone())).min_acks(min_acks);
        self.send(request).await.map(Replied::Sent)
    }

    /// The time for a message that is written now: two of one millisecond stay in order.
    pub(super) fn written_now(&self) -> u64 {
        let now = self.0.clock.millis();
        let next = |last: u64| now.max(last.saturating_add(1));
        let last = self.0.last_written.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        last.map_or(now, next)
    }

    /// Work can take minutes of computing: not on an async thread.
    async fn seal(&self, draft: &Draft, sender: &SecretKey, to: MailboxId, options: SealOptions) -> Result<Sealed> {
        let now = self.0.clock.now();
        if options.work == 0 {
            return seal(draft, sender, to, now, &options);
        }
        let (draft, sender) = (draft.clone(), sender.clone());
        let sealing = tokio::task::spawn_blocking(move || seal(&draft, &sender, to, now, &options));
        sealing.await.map_err(|error| Error::new(ErrorKind::Unexpected, "sealing ended").source(error))?
    }

    /// How many acks count: as many as are asked for, which have to be possible; else two where there are two.
    fn min_acks(&self, asked: Option<u32>, locators: &[Locator]) -> Result<u32> {
        let places = u32::try_from(locators.len()).unwrap_or(u32::MAX);
        match asked {
            _ if places == 0 => Err(Error::new(ErrorKind::InvalidInput, "the recipient has no place to put this")),
            Some(asked) if asked > places || asked == 0 => {
                Err(Error::new(ErrorKind::InvalidInput, "so many acks are not possible")
                    .with("asked", asked)
                    .with("places", places))
            }
            Some(asked) => Ok(asked),
            None => {
                let acks = self.0.routes.min_acks(locators.len());
                Ok(u32::try_from(acks).unwrap_or(u32::MAX).clamp(1, places))
            }
        }
    }
}

fn entry(
    id: OutboxId,
    sealed: &Sealed,
    recipient: MailboxId,
    locators: Vec<Locator>,
    min_acks: u32,
    copy_of: Option<OutboxId>,
) -> NewOutbox {
    NewOutbox {
        id,
        recipient,
        message: sealed.message.clone(),
        envelope: sealed.envelope.clone(),
        wrap_key: sealed.wrap_key.clone(),
        seal: sealed.seal.clone(),
        locators,
        min_acks,
        copy_of,
    }
}
