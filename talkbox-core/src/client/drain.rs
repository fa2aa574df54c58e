//! Draining the outbox: every entry to every place that has not taken it yet, until enough have.

use std::{collections::HashMap, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::{Instant, timeout_at};

use super::Talkbox;
use crate::{
    Envelope, Error, ErrorKind, Locator, PutOptions, Receipt, Refusal, Result, Retry, SealOptions, SecretKey,
    Timestamp,
    envelope::MAX_BACKDATE,
    local::{Attempt, OutboxEntry, OutboxId},
    seal::{MIN_RETENTION, wrap},
};

/// Entries that are sent at once: each is at most 64 KiB, so 4 MiB.
const BATCH: u32 = 64;
/// How long after the first attempt a second one comes, in seconds; it doubles with each. Short, so that the next
/// command of a person who is back on the network finds it due.
const FIRST_PAUSE: u64 = 4;
/// The longest pause, in seconds.
const LAST_PAUSE: u64 = 3600;
/// How long places are tried that were not needed any more, in seconds.
const TOP_UP: u64 = 86_400;
/// Work that is done for a holder that asks for more than the record said: under a minute.
const MAX_HOLDER_WORK: u8 = 22;

/// What a drain did.
#[derive(Clone, Debug, Default)]
pub struct Drained {
    /// The entries that were tried, as they are now.
    pub entries: Vec<OutboxEntry>,
    /// How many of them were not stored before and are now, without one's own copies.
    pub stored: usize,
}

impl Talkbox {
    /// Tries everything in the outbox that is due, each place by itself, within the budget: a place that hangs costs
    /// the others nothing. Deletions that are due are tried, too. Before that, mailboxes are looked for to which drafts
    /// wait: of throw-away keys, and of the mailboxes whose keys are given. Once a day the store is swept.
    ///
    /// # Errors
    /// `Storage`. What networks do is in the entries.
    pub async fn drain(&self, keys: &[SecretKey], budget: Duration) -> Result<Drained> {
        let end = Instant::now() + budget;
        let mut drained = Drained::default();
        self.seal_drafts(keys, end).await?;
        while Instant::now() < end {
            let entries = self.0.store.claim(BATCH, lease(budget)).await?;
            if entries.is_empty() {
                break;
            }
            let not_stored: Vec<OutboxId> =
                entries.iter().filter(|entry| !entry.is_stored()).map(|entry| entry.id).collect();
            let mut tried = Vec::with_capacity(entries.len());
            for id in self.attempt(entries, None, end).await? {
                tried.extend(self.0.store.outbox_entry(id).await?);
            }
            let is_new = |entry: &&OutboxEntry| entry.copy_of.is_none() && not_stored.contains(&entry.id);
            drained.stored += tried.iter().filter(is_new).filter(|entry| entry.is_stored()).count();
            // After the attempts: to look for somebody may take what is left of the time.
            self.follow_records(&tried, end).await?;
            // One that has been sent elsewhere is tried a second time.
            drained.entries.retain(|entry| tried.iter().all(|other| other.id != entry.id));
            drained.entries.extend(tried);
        }
        self.drain_deletions(end).await?;
        self.0.store.sweep_daily().await?;
        Ok(drained)
    }

    /// Tries an entry until it is stored at enough places or never will be, or the time is over.
    ///
    /// # Errors
    /// `NotFound` where there is no such entry; `Storage`.
    pub async fn stored(&self, id: OutboxId, budget: Duration) -> Result<OutboxEntry> {
        let end = Instant::now() + budget;
        loop {
            if let Some(entry) = self.0.store.claim_one(id, lease(budget)).await? {
                let enough = entry.min_acks;
                self.attempt(vec![entry], Some(enough), end).await?;
            }
            let entry = self.0.store.outbox_entry(id).await?;
            let entry = entry.ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no such entry in the outbox"))?;
            let waiting = !entry.is_stored() && !entry.state.is_final() && Instant::now() < end;
            let Some(next) = entry.next_try.filter(|_| waiting) else { return Ok(entry) };
            let pause = Duration::from_secs(next.secs().saturating_sub(self.0.clock.now().secs()).max(1));
            if Instant::now() + pause >= end {
                return Ok(entry);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// One attempt: all entries to all their open places at once. With `enough`, it ends a moment after so many acks.
    async fn attempt(&self, entries: Vec<OutboxEntry>, enough: Option<u32>, end: Instant) -> Result<Vec<OutboxId>> {
        let ids = entries.iter().map(|entry| entry.id).collect();
        self.settle_pending(&entries, end).await?;
        let mut receipts = self.put_all(&entries, enough, end).await?;
        for entry in entries {
            let mut receipt = receipts.remove(&entry.id).unwrap_or_default();
            if let Some(remedy) = Remedy::of(&receipt.refused, &entry) {
                match rewrap(&entry, remedy, self.0.clock.now()).await {
                    Ok(fresh) => receipt = self.put_again(&entry, receipt, remedy, fresh, end).await?,
                    // Then its refusals stand, and the other entries go on.
                    Err(error) => tracing::warn!(%error, "a message cannot be wrapped again"),
                }
            }
            let next_try = self.next_try(&entry, &receipt);
            self.0.store.settle(entry.id, Attempt::new(receipt, next_try)).await?;
        }
        Ok(ids)
    }

    async fn put_all(
        &self,
        entries: &[OutboxEntry],
        enough: Option<u32>,
        end: Instant,
    ) -> Result<HashMap<OutboxId, Receipt>> {
        let mut by_place: HashMap<Locator, Vec<(OutboxId, Envelope)>> = HashMap::new();
        for entry in entries {
            for place in open_places(entry) {
                by_place.entry(place).or_default().push((entry.id, entry.envelope.clone()));
            }
        }
        let mut waiting: HashMap<Locator, Vec<OutboxId>> =
            by_place.iter().map(|(place, items)| (place.clone(), items.iter().map(|(id, _)| *id).collect())).collect();
        let mut puts: FuturesUnordered<_> = by_place.into_iter().map(|(place, items)| self.put(place, items)).collect();
        let mut receipts: HashMap<OutboxId, Receipt> = HashMap::new();
        let mut end = end;
        while let Ok(Some((place, answers))) = timeout_at(end, puts.next()).await {
            waiting.remove(&place);
            for (id, answer) in answers {
                merge(receipts.entry(id).or_default(), &place, answer);
            }
            let acks = receipts.values().map(|receipt| receipt.acks.len()).min().unwrap_or(0);
            let held = entries.iter().map(|entry| entry.acks.len()).min().unwrap_or(0);
            if enough.is_some_and(|enough| acks + held >= enough as usize) {
                end = end.min(Instant::now() + super::REFRESH);
            }
        }
        for (place, ids) in waiting {
            for id in ids {
                // What it said before tells more than that it is silent now.
                let said = entries.iter().find(|entry| entry.id == id).into_iter().flat_map(|entry| &entry.refused);
                let said = said.into_iter().find(|refusal| refusal.holder == place).cloned();
                let silent = || Refusal::new(place.clone(), ErrorKind::Timeout, "no answer yet");
                receipts.entry(id).or_default().refused.push(said.unwrap_or_else(silent));
            }
        }
        Ok(receipts)
    }

    /// All that goes to one place, at once.
    async fn put(
        &self,
        place: Locator,
        items: Vec<(OutboxId, Envelope)>,
    ) -> (Locator, Vec<(OutboxId, Result<Receipt>)>) {
        let (ids, envelopes): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        let refuse = |error: &Error| Error::new(error.kind(), error.message().to_owned()).retry(error.retry_advice());
        let routed = match self.0.routes.to(&place).await {
            Ok(mailbox) => self.anyone_auth().map(|auth| (mailbox, auth)),
            Err(error) => Err(error),
        };
        let answers = match routed {
            Ok((mailbox, auth)) => mailbox.put(&envelopes, PutOptions::default().at([place.clone()]).auth(auth)).await,
            Err(error) => envelopes.iter().map(|_| Err(refuse(&error))).collect(),
        };
        (place, ids.into_iter().zip(answers).collect())
    }

    /// Puts a fresh wrap of the same message to the holders that refused the first for its time or its work.
    async fn put_again(
        &self,
        entry: &OutboxEntry,
        mut receipt: Receipt,
        remedy: Remedy,
        (envelope, wrap_key): (Envelope, SecretKey),
        end: Instant,
    ) -> Result<Receipt> {
        let now = self.0.clock.now();
        let (again, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut receipt.refused).into_iter().partition(|refusal| remedy.helps(refusal));
        receipt.refused = others;
        // Acks are credited to the envelope of the entry: those of the first one come before the second takes its place.
        let soon = Some(now.plus(FIRST_PAUSE));
        self.0.store.settle(entry.id, Attempt::new(std::mem::take(&mut receipt), soon)).await?;
        self.0.store.replace_envelope(entry.id, envelope.clone(), wrap_key).await?;
        let mut puts: FuturesUnordered<_> =
            again.iter().map(|refusal| self.put(refusal.holder.clone(), vec![(entry.id, envelope.clone())])).collect();
        let mut answered = Vec::new();
        while let Ok(Some((place, answers))) = timeout_at(end, puts.next()).await {
            for (_, answer) in answers {
                merge(&mut receipt, &place, answer);
            }
            answered.push(place);
        }
        // With the fresh wrap in the outbox these are worth another try.
        receipt.refused.extend(
            again
                .iter()
                .filter(|refusal| !answered.contains(&refusal.holder))
                .map(|refusal| Refusal::new(refusal.holder.clone(), ErrorKind::Timeout, "no answer yet")),
        );
        Ok(receipt)
    }

    /// When an entry is tried next: not at all once every place has answered for good, or enough have and the others
    /// had their time.
    fn next_try(&self, entry: &OutboxEntry, receipt: &Receipt) -> Option<Timestamp> {
        let now = self.0.clock.now();
        let open = receipt.refused.iter().any(|refusal| refusal.retry != Retry::No);
        let stored = entry.acks.len() + receipt.acks.len() >= entry.min_acks as usize;
        let topped_up = stored && now > entry.created_at.plus(TOP_UP);
        if !open || topped_up {
            return None;
        }
        let pause = pause_after(entry.attempts);
        // The id spreads the entries of one outbox, so that they do not all come back in one second.
        let spread = u64::from(entry.envelope.id().as_bytes()[0]) * pause / 1024;
        Some(now.plus(pause + spread))
    }
}

/// A fresh wrap of the same message. Work can take minutes of computing: not on an async thread.
async fn rewrap(entry: &OutboxEntry, remedy: Remedy, now: Timestamp) -> Result<(Envelope, SecretKey)> {
    let (seal, recipient, options) = (entry.seal.clone(), entry.recipient, remedy.options(entry));
    let wrapping = tokio::task::spawn_blocking(move || wrap(&seal, recipient, now, &options));
    wrapping.await.map_err(|error| Error::new(ErrorKind::Unexpected, "wrapping ended").source(error))?
}

/// How long to wait after so many attempts, in seconds.
pub(super) fn pause_after(attempts: u32) -> u64 {
    FIRST_PAUSE.saturating_mul(1 << attempts.min(16)).min(LAST_PAUSE)
}

/// The places of an entry that neither have it nor will never take it.
fn open_places(entry: &OutboxEntry) -> Vec<Locator> {
    let settled = |place: &Locator| {
        entry.acks.iter().any(|(ack, _)| ack.holder == *place)
            || entry.pending.contains(place)
            || entry.refused.iter().any(|refusal| refusal.holder == *place && refusal.retry == Retry::No)
    };
    entry.locators.iter().filter(|place| !settled(place)).cloned().collect()
}

fn merge(receipt: &mut Receipt, place: &Locator, answer: Result<Receipt>) {
    match answer {
        Ok(answer) => {
            receipt.acks.extend(answer.acks);
            receipt.pending.extend(answer.pending);
            receipt.refused.extend(answer.refused.into_iter().map(for_the_outbox));
        }
        Err(error) => {
            let own = error.refusals().iter().find(|refusal| refusal.holder == *place);
            let refusal = own.cloned().unwrap_or_else(|| Refusal::of(place.clone(), &error));
            receipt.refused.push(for_the_outbox(refusal));
        }
    }
}

/// A refusal as the outbox takes it, which has days: only what the holder itself says of the envelope is final. That
/// this configuration has no way to it, or that a layer has used up its tries, may be otherwise with the next command.
fn for_the_outbox(mut refusal: Refusal) -> Refusal {
    use ErrorKind::{Denied, InvalidEnvelope, Refused, TooLarge};
    let said_by_the_holder = matches!(refusal.kind, Denied | InvalidEnvelope | Refused | TooLarge);
    if matches!(refusal.retry, Retry::Exhausted) || (matches!(refusal.retry, Retry::No) && !said_by_the_holder) {
        refusal.retry = Retry::After(None);
    }
    refusal
}

/// The lease of an attempt: so long that it outlives the budget, so short that a killed process does not hold mail up.
fn lease(budget: Duration) -> Duration {
    budget.min(Duration::from_secs(120)) + Duration::from_secs(15)
}

/// What a fresh wrap can mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// The holder does not take wraps that are dated back.
    Date,
    /// The holder asks for so much work.
    Work(u8),
}

impl Remedy {
    /// What the refusals ask for, unless it has been done already.
    fn of(refusals: &[Refusal], entry: &OutboxEntry) -> Option<Self> {
        let rewrapped = entry.envelope.created_at() >= entry.created_at;
        refusals.iter().find_map(Self::wanted).filter(|remedy| match remedy {
            Self::Date => !rewrapped,
            Self::Work(bits) => *bits > entry.envelope.work() && *bits <= MAX_HOLDER_WORK,
        })
    }

    fn wanted(refusal: &Refusal) -> Option<Self> {
        if refusal.retry != Retry::No {
            return None;
        }
        let words = refusal.words.to_ascii_lowercase();
        if words.starts_with("pow:") {
            // "pow: 20 bits needed", "pow: difficulty 18 is less than 20": the largest number is what is wanted.
            let numbers = words.split(|symbol: char| !symbol.is_ascii_digit()).filter_map(|digits| digits.parse().ok());
            return numbers.max().map(Self::Work);
        }
        let about_time = ["created_at", "timestamp", "too old", "too far", "in the past"];
        about_time.iter().any(|phrase| words.contains(phrase)).then_some(Self::Date)
    }

    fn helps(self, refusal: &Refusal) -> bool {
        match (self, Self::wanted(refusal)) {
            (Self::Work(bits), Some(Self::Work(wanted))) => wanted <= bits,
            (one, other) => Some(one) == other,
        }
    }

    fn options(self, entry: &OutboxEntry) -> SealOptions {
        let lifetime = entry.envelope.expires_at().secs().saturating_sub(entry.envelope.created_at().secs());
        let mut options = SealOptions {
            retention: lifetime.saturating_sub(MAX_BACKDATE).max(MIN_RETENTION),
            work: entry.envelope.work(),
            ..SealOptions::default()
        };
        match self {
            Self::Date => options.backdate = false,
            Self::Work(bits) => options.work = bits,
        }
        options
    }
}
