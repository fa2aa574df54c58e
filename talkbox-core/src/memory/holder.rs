//! One holder: envelopes in the order of their arrival, what was deleted, and records.

use std::collections::{BTreeMap, HashMap};

use super::MemoryConfig;
use crate::{
    EnvelopeId, Error, ErrorKind, MailboxId, PublicKey, Result,
    clock::Timestamp,
    deletion::DeleteRequest,
    envelope::{Envelope, MAX_FUTURE, RawEnvelope},
    mailbox::{Cursor, Difference, ListOptions, Page},
    random,
    receipt::{DeletionState, Holding, HoldingState, Level},
    record::MailboxRecord,
};

/// Items of a page where the caller does not say: 100 common envelopes are about 150 KiB.
const PAGE: usize = 100;
/// Most items of a page, as a node allows.
const MAX_PAGE: usize = 500;
/// A page ends before it has more bytes than this, so that 500 of the largest envelopes do not fill the memory.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Most records: far more mailboxes than a test makes.
const MAX_RECORDS: usize = 10_000;
/// How long a deletion waits for an envelope that is not there: longer than any envelope lives, in seconds.
const DELETION_LIFETIME: u64 = 402 * 86_400;

/// A place in the arrival order of one holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// Which numbering; a new one begins where the holder was restored from a backup.
    pub(super) epoch: u64,
    /// The last arrival that was seen.
    pub(super) seq: u64,
}

impl Position {
    pub(super) fn cursor(self) -> Cursor {
        Cursor(format!("{:016x}.{}", self.epoch, self.seq))
    }
}

/// What is known of an id.
enum Entry {
    Live { mailbox: MailboxId, seq: u64 },
    Deleted { mailbox: MailboxId, until: Timestamp },
}

pub(super) struct Holder {
    epoch: u64,
    last: u64,
    entries: HashMap<EnvelopeId, Entry>,
    live: BTreeMap<(MailboxId, u64), Envelope>,
    /// Deletions by who signed them, with the time until which they are kept: they also decide on later arrivals.
    deletions: HashMap<(EnvelopeId, PublicKey), Timestamp>,
    records: BTreeMap<MailboxId, MailboxRecord>,
}

impl Holder {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            epoch: new_epoch()?,
            last: 0,
            entries: HashMap::new(),
            live: BTreeMap::new(),
            deletions: HashMap::new(),
            records: BTreeMap::new(),
        })
    }

    pub(super) fn put(&mut self, envelope: &Envelope, now: Timestamp, config: &MemoryConfig) -> Result<Level> {
        let limit = config.max_envelope_bytes as usize;
        if envelope.json().len() > limit {
            return Err(
                Error::new(ErrorKind::TooLarge, "too-large: larger than this holder takes").with("limit", limit)
            );
        }
        if envelope.is_expired(now) {
            return Err(Error::new(ErrorKind::Refused, "expired: its time is over"));
        }
        if envelope.created_at() > now.plus(MAX_FUTURE) {
            return Err(Error::new(ErrorKind::Refused, "invalid: dated more than 15 minutes ahead"));
        }
        let (id, mailbox) = (envelope.id(), envelope.mailbox());
        match self.entries.get(&id) {
            Some(Entry::Live { .. }) => return Ok(Level::Duplicate),
            Some(Entry::Deleted { .. }) => return Err(deleted()),
            None => {}
        }
        let full = |holder: &Self| holder.entries.len() >= config.max_envelopes as usize;
        if full(self) {
            self.drop_expired(now);
        }
        if full(self) {
            return Err(Error::new(ErrorKind::Refused, "disk-full: this holder takes no more"));
        }
        let by = [envelope.author(), mailbox.into()];
        if by.iter().any(|key| self.deletions.contains_key(&(id, *key))) {
            self.entries.insert(id, Entry::Deleted { mailbox, until: envelope.expires_at() });
            return Err(deleted());
        }
        self.last += 1;
        self.entries.insert(id, Entry::Live { mailbox, seq: self.last });
        self.live.insert((mailbox, self.last), envelope.clone());
        Ok(Level::Stored)
    }

    pub(super) fn list(&self, owner: MailboxId, options: &ListOptions, now: Timestamp) -> Result<Page> {
        if !options.ids.is_empty() {
            return self.list_ids(owner, &options.ids, now);
        }
        let after = options.after.as_ref().map_or(Ok(0), |cursor| self.sequence(cursor))?;
        let limit = match options.limit as usize {
            0 => PAGE,
            limit => limit.min(MAX_PAGE),
        };
        let (items, seq, more) = self.arrived(owner, after, limit, now);
        let next = Some(Position { epoch: self.epoch, seq }.cursor());
        Ok(Page { items: items.into_iter().map(|(_, envelope)| RawEnvelope::from(&envelope)).collect(), next, more })
    }

    fn list_ids(&self, owner: MailboxId, ids: &[EnvelopeId], now: Timestamp) -> Result<Page> {
        if ids.len() > ListOptions::MAX_IDS {
            return Err(Error::new(ErrorKind::InvalidInput, "more ids than one call takes").with("ids", ids.len()));
        }
        let items = ids.iter().filter_map(|id| self.held(owner, id, now)).map(RawEnvelope::from).collect();
        Ok(Page { items, next: None, more: false })
    }

    /// What arrived for a mailbox after a number, at most so many; the number up to which that is all; whether there
    /// is more.
    pub(super) fn arrived(
        &self,
        owner: MailboxId,
        after: u64,
        limit: usize,
        now: Timestamp,
    ) -> (Vec<(u64, Envelope)>, u64, bool) {
        let mut items: Vec<(u64, Envelope)> = Vec::new();
        let mut bytes = 0;
        let valid = self.live.range((owner, after.saturating_add(1))..=(owner, u64::MAX));
        for ((_, seq), envelope) in valid.filter(|(_, envelope)| !envelope.is_expired(now)) {
            bytes += envelope.json().len();
            if items.len() == limit || (bytes > MAX_PAGE_BYTES && !items.is_empty()) {
                let seen = items.last().map_or(after, |(seq, _)| *seq);
                return (items, seen, true);
            }
            items.push((*seq, envelope.clone()));
        }
        (items, self.last, false)
    }

    pub(super) fn audit(&self, owner: MailboxId, id: EnvelopeId, now: Timestamp) -> Holding {
        let state = match self.held(owner, &id, now) {
            Some(envelope) => HoldingState::Held { until: Some(envelope.expires_at()) },
            None => HoldingState::Absent,
        };
        Holding { id, state }
    }

    /// Whether this key signed the envelope.
    pub(super) fn is_author(&self, owner: MailboxId, id: &EnvelopeId, key: PublicKey, now: Timestamp) -> bool {
        self.held(owner, id, now).is_some_and(|envelope| envelope.author() == key)
    }

    pub(super) fn delete(
        &mut self,
        request: &DeleteRequest,
        now: Timestamp,
        config: &MemoryConfig,
    ) -> Result<DeletionState> {
        // A flood of deletions of unknown envelopes is bounded as the envelopes are.
        if self.deletions.len() + request.ids().len() > config.max_envelopes as usize {
            self.drop_expired(now);
        }
        if self.deletions.len() + request.ids().len() > config.max_envelopes as usize {
            return Err(Error::new(ErrorKind::Refused, "disk-full: this holder takes no more deletions"));
        }
        for id in request.ids() {
            self.deletions.insert((*id, request.author()), now.plus(DELETION_LIFETIME));
            let Some(Entry::Live { mailbox, seq }) = self.entries.get(id) else { continue };
            let (mailbox, seq) = (*mailbox, *seq);
            let covered = self.live.get(&(mailbox, seq)).filter(|known| request.covers(mailbox, known.author()));
            if let Some(until) = covered.map(Envelope::expires_at) {
                self.live.remove(&(mailbox, seq));
                self.entries.insert(*id, Entry::Deleted { mailbox, until });
            }
        }
        let gone = request.ids().iter().all(|id| !matches!(self.entries.get(id), Some(Entry::Live { .. })));
        Ok(if gone { DeletionState::Confirmed } else { DeletionState::Requested })
    }

    /// A deleted envelope counts as held: it was accepted once, and is not wanted again.
    pub(super) fn difference(&self, owner: MailboxId, ours: &[(Timestamp, EnvelopeId)], now: Timestamp) -> Difference {
        let known: std::collections::HashSet<&EnvelopeId> = ours.iter().map(|(_, id)| id).collect();
        let theirs = self.live.range((owner, 0)..=(owner, u64::MAX)).map(|(_, envelope)| envelope);
        let theirs = theirs.filter(|envelope| !envelope.is_expired(now)).map(Envelope::id);
        let accepted = |id: &EnvelopeId| match self.entries.get(id) {
            Some(Entry::Live { mailbox, .. } | Entry::Deleted { mailbox, .. }) => *mailbox == owner,
            None => false,
        };
        Difference {
            theirs: theirs.filter(|id| !known.contains(id)).collect(),
            ours: ours.iter().map(|(_, id)| *id).filter(|id| !accepted(id)).collect(),
        }
    }

    pub(super) fn publish(&mut self, record: &MailboxRecord, now: Timestamp) -> Result<Level> {
        let known = self.records.get(&record.mailbox());
        if known == Some(record) {
            return Ok(Level::Duplicate);
        }
        if !record.supersedes(known, now) {
            return Err(Error::new(
                ErrorKind::Refused,
                "invalid: there is a newer record, or this one is not of today",
            ));
        }
        if known.is_none() && self.records.len() >= MAX_RECORDS {
            return Err(Error::new(ErrorKind::Refused, "disk-full: this holder takes no more records"));
        }
        self.records.insert(record.mailbox(), record.clone());
        Ok(Level::Stored)
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &MailboxRecord> {
        self.records.values()
    }

    /// Whether the key may read the mailbox: its owner, or a keeper that the owner's record names.
    pub(super) fn may_read(&self, owner: MailboxId, key: PublicKey) -> bool {
        let keeps = |record: &MailboxRecord| record.fields().keepers.contains(&key);
        key == PublicKey::from(owner) || self.records.get(&owner).is_some_and(keeps)
    }

    /// The end of the arrival order.
    pub(super) const fn position(&self) -> Position {
        Position { epoch: self.epoch, seq: self.last }
    }

    /// The number behind a cursor.
    ///
    /// # Errors
    /// `NotFound` for one that is not of this numbering.
    pub(super) fn sequence(&self, cursor: &Cursor) -> Result<u64> {
        let parts = cursor.0.split_once('.').and_then(|(epoch, seq)| {
            Some(Position { epoch: u64::from_str_radix(epoch, 16).ok()?, seq: seq.parse().ok()? })
        });
        parts
            .filter(|position| position.epoch == self.epoch && position.seq <= self.last)
            .map(|position| position.seq)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "the cursor is not of this holder"))
    }

    /// Loses envelopes, as a holder does whose disk failed.
    pub(super) fn lose(&mut self, ids: &[EnvelopeId]) {
        for id in ids {
            if let Some(Entry::Live { mailbox, seq }) = self.entries.get(id) {
                self.live.remove(&(*mailbox, *seq));
                self.entries.remove(id);
            }
        }
    }

    /// Loses everything.
    pub(super) fn clear(&mut self) -> Result<()> {
        *self = Self::new()?;
        Ok(())
    }

    /// Begins a new numbering of what it has.
    pub(super) fn renumber(&mut self) -> Result<()> {
        self.epoch = new_epoch()?;
        Ok(())
    }

    fn held(&self, owner: MailboxId, id: &EnvelopeId, now: Timestamp) -> Option<&Envelope> {
        match self.entries.get(id) {
            Some(Entry::Live { mailbox, seq }) if *mailbox == owner => {
                self.live.get(&(owner, *seq)).filter(|envelope| !envelope.is_expired(now))
            }
            _ => None,
        }
    }

    fn drop_expired(&mut self, now: Timestamp) {
        self.live.retain(|_, envelope| !envelope.is_expired(now));
        let live = &self.live;
        self.entries.retain(|_, entry| match entry {
            Entry::Live { mailbox, seq } => live.contains_key(&(*mailbox, *seq)),
            Entry::Deleted { until, .. } => *until > now,
        });
        self.deletions.retain(|_, until| *until > now);
    }
}

fn deleted() -> Error {
    Error::new(ErrorKind::Refused, "deleted: its owner or its author deleted it")
}

fn new_epoch() -> Result<u64> {
    random::bytes().map(u64::from_le_bytes)
}
