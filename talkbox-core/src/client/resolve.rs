//! Resolving: from a code to the one record that it means, out of whatever the networks say.
//!
//! A network's answer never decides which key a code means. Signature and work are checked first, since they are
//! cheap; then, two at a time and best first, whether the key hashes to the code, since that costs 0.2 s each.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};

use crate::{
    Error, ErrorKind, Locator, MailboxId, MailboxRecord, PublicKey, RawRecord, ResolveEvent, ResolveOptions, Result,
    Shortcode, Timestamp, Transport,
    address::Target,
    event::{Event, kind},
};

/// Records that one resolution looks at: an attacker who makes more pays 2^20 hashes for each.
const MAX_CANDIDATES: usize = 1024;
/// After the first answer, how long others may take to give a newer one.
const SETTLE: Duration = Duration::from_millis(700);
/// Keys that are checked against the code at once: each takes 64 MiB and a core.
const CHECKS_AT_ONCE: usize = 2;

/// What the networks said of a target.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The record that the target means.
    pub(super) record: Option<MailboxRecord>,
    /// Where the key reads its direct messages (NIP-17), for a target that is a key without a record.
    pub(super) inbox_relays: Vec<Locator>,
    /// Keys that do not hash to the code: not worth another look.
    pub(super) failed: Vec<PublicKey>,
    /// Other keys that do hash to the code, which should not exist.
    pub(super) rivals: Vec<PublicKey>,
    /// Sources that failed.
    pub(super) errors: Vec<Error>,
    /// How many sources have given all that they have.
    pub(super) ended: usize,
    /// Whether all sources have answered or given up in time.
    pub(super) in_time: bool,
}

/// What is known before the networks are asked.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The key that is pinned for the target.
    pub(super) pinned: Option<PublicKey>,
    /// Keys that were found not to hash to the code.
    pub(super) failed: BTreeSet<PublicKey>,
}

/// Asks all transports at once, and chooses.
pub(super) async fn resolve(
    transports: &[(String, Arc<dyn Transport>)],
    target: &Target,
    options: &ResolveOptions,
    known: &Known,
    now: Timestamp,
    budget: Duration,
) -> Found {
    let end = Instant::now() + budget;
    let mut answers = stream::select_all(
        transports.iter().map(|(_, transport)| transport.resolve(target, options.clone())).collect::<Vec<_>>(),
    );
    let mut candidates = Candidates::new(target, known, now);
    let mut settled = end;
    loop {
        match timeout_at(settled, answers.next()).await {
            Ok(Some(Ok(ResolveEvent::Record(raw)))) => {
                if candidates.take(&raw) {
                    settled = settled.min(Instant::now() + SETTLE);
                }
            }
            Ok(Some(Ok(ResolveEvent::End { .. }))) => candidates.found.ended += 1,
            Ok(Some(Err(error))) => candidates.found.errors.push(error),
            // All sources have answered.
            Ok(None) => {
                candidates.found.in_time = true;
                candidates.check(end).await;
                return candidates.finish();
            }
            // Those that answered so far may be enough.
            Err(_) => {
                candidates.check(end).await;
                if candidates.meant.is_some() || Instant::now() >= end {
                    return candidates.finish();
                }
                settled = end;
            }
        }
    }
}

struct Candidates<'a> {
    target: &'a Target,
    known: &'a Known,
    now: Timestamp,
    /// The newest record of each key, and who gave it.
    by_key: HashMap<PublicKey, (MailboxRecord, BTreeSet<Locator>)>,
    /// The key that the target means.
    meant: Option<PublicKey>,
    found: Found,
}

impl<'a> Candidates<'a> {
    fn new(target: &'a Target, known: &'a Known, now: Timestamp) -> Self {
        let meant = match target {
            Target::Mailbox(id) => Some(PublicKey::from(*id)),
            Target::Code(_) => known.pinned,
        };
        Self { target, known, now, by_key: HashMap::new(), meant, found: Found::default() }
    }

    /// Takes an answer over, if it is a candidate.
    fn take(&mut self, raw: &RawRecord) -> bool {
        let Ok(event) = Event::parse(&raw.json) else { return false };
        if event.kind() == kind::INBOX_RELAYS {
            return self.take_inbox_relays(&event);
        }
        let Ok(record) = MailboxRecord::from_event(event) else { return false };
        let key = record.event().author();
        let wanted = match self.target {
            Target::Code(code) => record.code() == *code && !self.known.failed.contains(&key),
            Target::Mailbox(id) => record.mailbox() == *id,
        };
        if !wanted || !record.supersedes(None, self.now) {
            return false;
        }
        if let Some((held, sources)) = self.by_key.get_mut(&key) {
            sources.insert(raw.source.clone());
            if record.supersedes(Some(held), self.now) {
                *held = record;
            }
        } else if self.by_key.len() < MAX_CANDIDATES {
            self.by_key.insert(key, (record, BTreeSet::from([raw.source.clone()])));
        }
        true
    }

    fn take_inbox_relays(&mut self, event: &Event) -> bool {
        let Target::Mailbox(id) = self.target else { return false };
        if MailboxId::from(event.author()) != *id {
            return false;
        }
        // NIP-17 asks for one to three; a record holds eight.
        let relays = event.values("relay").filter_map(|url| Locator::new("nostr", url).ok()).take(8);
        self.found.inbox_relays.extend(relays);
        self.found.inbox_relays.sort();
        self.found.inbox_relays.dedup();
        true
    }

    /// Finds out which keys hash to the code, best first.
    async fn check(&mut self, end: Instant) {
        let code = match self.target {
            Target::Code(code) => *code,
            // The key is given; what is checked is that its record claims the right code.
            Target::Mailbox(_) => {
                let Some((record, _)) = self.meant.and_then(|key| self.by_key.get(&key)) else { return };
                record.code()
            }
        };
        let unchecked = self.unchecked();
        let checks = unchecked.into_iter().map(|key| async move {
            let check = tokio::task::spawn_blocking(move || code.matches(&key.into()));
            (key, check.await.unwrap_or(false))
        });
        let mut checks = stream::iter(checks).buffered(CHECKS_AT_ONCE);
        while let Ok(Some((key, matches))) = timeout_at(end, checks.next()).await {
            match (matches, self.meant) {
                (false, _) => {
                    self.found.failed.push(key);
                    self.by_key.remove(&key);
                }
                (true, Some(meant)) if meant != key => self.found.rivals.push(key),
                (true, _) => {
                    self.meant = Some(key);
                    // Without a pin the first key that fits is the answer: a second one would cost 2^90 to make.
                    if self.known.pinned.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// The keys worth a check, in the order of the work that their records show, then the number of sources, then id.
    fn unchecked(&self) -> Vec<PublicKey> {
        let trusted = |key: &PublicKey| matches!(self.target, Target::Code(_)) && self.known.pinned == Some(*key);
        let ordered: BTreeMap<_, _> = self
            .by_key
            .iter()
            .filter(|(key, _)| !trusted(key))
            .map(|(key, (record, sources))| {
                let order = (u8::MAX - record.work(), usize::MAX - sources.len(), record.event().id());
                (order, *key)
            })
            .collect();
        ordered.into_values().collect()
    }

    fn finish(mut self) -> Found {
        self.found.record = self.meant.and_then(|key| self.by_key.remove(&key)).map(|(record, _)| record);
        self.found
    }
}

impl Found {
    /// Refuses a code that two keys fit: one of them was made to.
    pub(super) fn refuse_rivals(&self, code: Shortcode, pinned: Option<PublicKey>) -> Result<()> {
        match (self.rivals.first(), pinned) {
            (Some(rival), Some(pinned)) => Err(Error::new(
                ErrorKind::VerificationFailed,
                "a second key fits this code: somebody made it on purpose. Ask the owner for the full key",
            )
            .with("code", code)
            .with("pinned", crate::address::to_npub(&pinned.into()))
            .with("other", crate::address::to_npub(&(*rival).into()))),
            _ => Ok(()),
        }
    }
}
