//! What one event does to the store, inside the writer's transaction.

use rusqlite::{Connection, OptionalExtension as _, Result, params};
use talkbox_core::{DeleteRequest, EnvelopeId, EventId, MailboxId, PublicKey, Timestamp, anti_entropy::Item};

use super::{
    full::is_let_in,
    heal::{Healed, heal, is_right},
    known::Known,
    row::guarded,
    vanish::{Rest, vanish},
};
use crate::node::{
    admitted::{Admitted, Effect, Origin},
    config::Limits,
    refusal::{Outcome, Reason, Refusal},
};

/// Bytes of a row besides tags and content, with its index entries: what a quota counts for it.
pub(super) const ROW_BYTES: i64 = 300;

/// How long an id is remembered beyond the expiry of what was deleted, in seconds: 30 days. As long as nothing expired is
/// taken nobody could bring it back, but a clock that was ahead forgets too early, and then is set right again.
const REMEMBERED_LONGER: i64 = 30 * 86_400;

/// Why an id is known of which there is no body.
#[derive(Clone, Copy)]
enum Why {
    Deleted = 0,
    /// The policy does not take it. Between nodes it counts as held.
    Refused = 1,
}

/// What became of an event, and what follows from it.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) outcome: Outcome,
    /// The place in the order of arrival, where it was stored, or put right.
    pub(crate) seq: Option<i64>,
    /// The events that went because of it.
    pub(crate) removed: Vec<Item>,
    /// It counts as held from now on, with a body or without.
    pub(crate) counts: bool,
    /// The place of a rotten row that it put right.
    pub(crate) healed: Option<i64>,
    /// What a request to vanish leaves to do.
    pub(super) rest: Option<Rest>,
}

impl Applied {
    const fn without_effect(outcome: Outcome) -> Self {
        Self { outcome, seq: None, removed: Vec::new(), counts: false, healed: None, rest: None }
    }

    fn refused(reason: Reason, text: &'static str) -> Self {
        Self::without_effect(Outcome::Refused(Refusal::new(reason, text)))
    }
}

/// The quotas that the store applies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    mailbox_events: i64,
    mailbox_bytes: i64,
    store_bytes: Option<i64>,
}

impl Quota {
    pub(crate) fn new(limits: &Limits) -> Self {
        let signed = |limit: u64| i64::try_from(limit).unwrap_or(i64::MAX);
        Self {
            mailbox_events: signed(limits.max_mailbox_events),
            mailbox_bytes: signed(limits.max_mailbox_bytes),
            store_bytes: Some(limits.max_store_bytes).filter(|limit| *limit > 0).map(signed),
        }
    }
}

/// Stores an event.
///
/// # Errors
/// Those of SQLite; the transaction is then given up.
pub(crate) fn apply(tx: &Connection, event: &Admitted, quota: &Quota) -> Result<Applied> {
    let known = Known::of(tx, event)?;
    let has_vanished = known.has_vanished && !matches!(event.effect, Effect::Vanish);
    if let Some(place) = known.place
        && !has_vanished
    {
        return again(tx, event, place);
    }
    if known.place.is_none()
        && let Some(bound) = quota.store_bytes
    {
        let bytes = store_bytes(tx)?;
        if bytes > bound && !is_let_in(tx, event, bytes, bound)? {
            return Ok(Applied::refused(Reason::DiskFull, "the store is full"));
        }
    }
    if has_vanished {
        if known.place.is_none() && event.origin == Origin::Peer {
            // Known for what it is from now on, or it would be fetched again and again.
            let facts = &event.facts;
            remember(tx, facts.id.as_bytes(), signed(facts.created_at), signed(event.expires.secs()), Why::Deleted)?;
        }
        return Ok(Applied::refused(Reason::Deleted, "its author, or its mailbox, asked to vanish"));
    }
    match &event.effect {
        Effect::Keep => keep(tx, event, known, quota),
        Effect::Replace => replace(tx, event, known),
        Effect::Delete(request) => delete(tx, event, request),
        Effect::Refuse(refusal) => Ok(Applied::without_effect(Outcome::Refused(refusal.clone()))),
        Effect::Vanish => match vanish(tx, event)? {
            Some((removed, rest)) => Ok(Applied { removed, rest, ..insert(tx, event, number_of(tx, event)?)? }),
            None => Ok(Applied::refused(Reason::Superseded, "a request that is as new has been carried out")),
        },
    }
    .and_then(|applied| remember_refused(tx, event, applied))
}

/// It is here already. Whoever is told so relies on it, so the row is looked at; and a rotten one could get no better help.
fn again(tx: &Connection, event: &Admitted, place: i64) -> Result<Applied> {
    let duplicate = Applied::without_effect(Outcome::Duplicate);
    if is_right(tx, place)? {
        return Ok(duplicate);
    }
    let Healed { wrong, seq } = heal(tx, place, event)?;
    let removed = wrong.into_iter().collect();
    let healed = seq.map(|_| place);
    Ok(Applied { removed, seq, counts: seq.is_some(), healed, ..duplicate })
}

/// What a peer brought and is not taken counts as held, or it would be fetched again and again: what decides is what this
/// node knows and asks for, and the other may know and ask for something else. It may change here as well: when a client
/// brings it, it is looked at anew.
fn remember_refused(tx: &Connection, event: &Admitted, applied: Applied) -> Result<Applied> {
    let Outcome::Refused(refusal) = &applied.outcome else { return Ok(applied) };
    let is_lasting = match refusal.reason() {
        Reason::MailboxFull | Reason::Forbidden => true,
        // The peer takes the newer one, or the deletion, and then does not have this any longer.
        Reason::Superseded | Reason::Deleted => false,
        _ => matches!(event.effect, Effect::Refuse(_)),
    };
    if event.origin == Origin::Client || !is_lasting {
        return Ok(applied);
    }
    let facts = &event.facts;
    remember(tx, facts.id.as_bytes(), signed(facts.created_at), signed(event.expires.secs()), Why::Refused)?;
    Ok(Applied { counts: true, ..applied })
}

fn keep(tx: &Connection, event: &Admitted, known: Known, quota: &Quota) -> Result<Applied> {
    if known.is_gone {
        return Ok(Applied::refused(Reason::Deleted, "the event was deleted"));
    }
    if known.is_unwanted {
        // Decided now: from here on it is known for what it is, whoever brings it.
        let id = event.facts.id.as_bytes();
        remember(tx, id, signed(event.facts.created_at), signed(event.expires.secs()), Why::Deleted)?;
        return Ok(Applied::refused(Reason::Deleted, "its deletion was asked for before it came"));
    }
    let number = match event.facts.mailbox {
        Some(mailbox) => match count(tx, mailbox, counted_bytes(event), quota)? {
            Some(number) => Some(number),
            None => return Ok(Applied::refused(Reason::MailboxFull, "the mailbox is full")),
        },
        None => None,
    };
    insert(tx, event, number)
}

/// Counts an event for its mailbox: the number of the mailbox, or `None` where it has no room.
fn count(tx: &Connection, mailbox: MailboxId, bytes: i64, quota: &Quota) -> Result<Option<i64>> {
    let key = &mailbox.as_bytes()[..];
    let known: Option<(i64, i64, i64)> = tx
        .prepare_cached("SELECT id, events, bytes FROM mailbox WHERE key = ?1")?
        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let (number, events, held) = match known {
        Some(known) => known,
        None => (mailbox_number(tx, mailbox)?, 0, 0),
    };
    if events >= quota.mailbox_events || held.saturating_add(bytes) > quota.mailbox_bytes {
        return Ok(None);
    }
    tx.prepare_cached("UPDATE mailbox SET events = events + 1, bytes = bytes + ?2 WHERE id = ?1")?
        .execute([number, bytes])?;
    Ok(Some(number))
}

fn replace(tx: &Connection, event: &Admitted, known: Known) -> Result<Applied> {
    let facts = &event.facts;
    // What had taken its place may have expired since.
    if known.is_gone {
        return Ok(Applied::refused(Reason::Superseded, "a newer event had taken its place"));
    }
    let older: Option<(i64, [u8; 32], i64, i64)> = tx
        .prepare_cached(
            "SELECT seq, id, created_at, expires FROM event WHERE author = ?1 AND kind = ?2 AND kind >= 10000",
        )?
        .query_row(params![&facts.author.as_bytes()[..], facts.kind], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    let mut removed = Vec::new();
    if let Some((seq, id, created_at, expires)) = older {
        // The newest wins, and of two as new the one of the lower id.
        let wins = (signed(facts.created_at), std::cmp::Reverse(&facts.id.as_bytes()[..]))
            > (created_at, std::cmp::Reverse(&id[..]));
        if !wins {
            return Ok(Applied::refused(Reason::Superseded, "a newer event has taken its place"));
        }
        remove(tx, seq)?;
        remember(tx, &id, created_at, expires, Why::Deleted)?;
        removed.extend(item(created_at, id));
    }
    Ok(Applied { removed, ..insert(tx, event, number_of(tx, event)?)? })
}

/// Forgets that these were refused to a peer. What stands for them between nodes, where they were.
///
/// # Errors
/// Those of SQLite.
pub(super) fn forget_refused(tx: &Connection, ids: &[EventId]) -> Result<Vec<Item>> {
    let mut forget = tx.prepare_cached("DELETE FROM gone WHERE id = ?1 AND why = ?2 RETURNING created_at, id")?;
    let mut forgotten = Vec::new();
    for id in ids {
        let named = params![&id.as_bytes()[..], Why::Refused as u8];
        let gone = forget.query_row(named, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        forgotten.extend(gone.and_then(|(created_at, id)| item(created_at, id)));
    }
    Ok(forgotten)
}

fn delete(tx: &Connection, event: &Admitted, request: &DeleteRequest) -> Result<Applied> {
    let until = signed(event.expires.secs());
    let (mut removed, mut strangers) = (Vec::new(), 0);
    for target in request.ids() {
        let Some(found) = find(tx, target)? else {
            tx.prepare_cached(
                "INSERT INTO deletion VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET until = max(until, excluded.until)",
            )?
            .execute(params![&target.as_bytes()[..], &request.author().as_bytes()[..], until])?;
            continue;
        };
        if !request.covers(found.mailbox, found.author) {
            strangers += 1;
            continue;
        }
        remove(tx, found.seq)?;
        remember(tx, target.as_bytes(), found.created_at, found.expires, Why::Deleted)?;
        removed.extend(item(found.created_at, *target.as_bytes()));
    }
    if strangers == request.ids().len() {
        return Ok(Applied::refused(Reason::Forbidden, "only the recipient or the author may delete a gift wrap"));
    }
    Ok(Applied { removed, ..insert(tx, event, number_of(tx, event)?)? })
}

/// Keeps an id of which there is no body any longer.
fn remember(tx: &Connection, id: &[u8; 32], created_at: i64, until: i64, why: Why) -> Result<()> {
    let until = match why {
        Why::Deleted => until.saturating_add(REMEMBERED_LONGER),
        Why::Refused => until,
    };
    tx.prepare_cached("INSERT OR REPLACE INTO gone VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        &id[..],
        created_at,
        until,
        why as u8
    ])?;
    Ok(())
}

/// What stands for an event in reconciliation.
pub(super) fn item(created_at: i64, id: [u8; 32]) -> Option<Item> {
    Item::new(Timestamp(created_at.unsigned_abs()), EventId::from_bytes(id)).ok()
}

/// A stored gift wrap that somebody asks to delete.
struct Found {
    seq: i64,
    author: PublicKey,
    mailbox: MailboxId,
    created_at: i64,
    expires: i64,
}

fn find(tx: &Connection, target: &EnvelopeId) -> Result<Option<Found>> {
    tx.prepare_cached(
        "SELECT e.seq, e.author, m.key, e.created_at, e.expires
         FROM event e JOIN mailbox m ON m.id = e.mailbox WHERE e.id = ?1 AND e.kind = 1059",
    )?
    .query_row([&target.as_bytes()[..]], |row| {
        Ok(Found {
            seq: row.get(0)?,
            author: PublicKey::from_bytes(row.get(1)?),
            mailbox: MailboxId::from_bytes(row.get(2)?),
            created_at: row.get(3)?,
            expires: row.get(4)?,
        })
    })
    .optional()
}

/// The number of the mailbox that an event names.
fn number_of(tx: &Connection, event: &Admitted) -> Result<Option<i64>> {
    event.facts.mailbox.map(|key| mailbox_number(tx, key)).transpose()
}

fn insert(tx: &Connection, event: &Admitted, mailbox: Option<i64>) -> Result<Applied> {
    let facts = &event.facts;
    tx.prepare_cached(
        "INSERT INTO event (id, author, created_at, kind, mailbox, expires, form, tags, sig, content, origin)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        &facts.id.as_bytes()[..],
        &facts.author.as_bytes()[..],
        signed(facts.created_at),
        facts.kind,
        mailbox,
        signed(event.expires.secs()),
        event.packed.form,
        event.packed.tags,
        guarded(facts.id.as_bytes(), &event.sig),
        event.packed.content,
        event.origin as u8,
    ])?;
    let seq = tx.last_insert_rowid();
    put_tags(tx, seq, event)?;
    Ok(Applied { seq: Some(seq), counts: true, ..Applied::without_effect(Outcome::Stored) })
}

/// Stores what filters find an event by.
pub(super) fn put_tags(tx: &Connection, place: i64, event: &Admitted) -> Result<()> {
    for (letter, value) in &event.facts.letters {
        tx.prepare_cached("INSERT OR IGNORE INTO tag VALUES (?1, ?2, ?3)")?.execute(params![
            letter.to_string(),
            value,
            place
        ])?;
    }
    Ok(())
}

/// Removes what has expired at this time, up to so many rows of each kind. Returns what no longer counts as held.
///
/// # Errors
/// Those of SQLite.
pub(crate) fn expire(tx: &Connection, now: Timestamp, most: u32) -> Result<Vec<Item>> {
    let now = signed(now.secs());
    let expired: Vec<(i64, i64, [u8; 32])> = tx
        .prepare_cached(
            "SELECT seq, created_at, id FROM event INDEXED BY event_expires
             WHERE expires / 3600 <= ?1 / 3600 AND expires <= ?1 LIMIT ?2",
        )?
        .query_map(params![now, most], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_>>()?;
    for (seq, _, _) in &expired {
        remove(tx, *seq)?;
    }
    let mut items: Vec<Item> = expired.into_iter().filter_map(|(_, created_at, id)| item(created_at, id)).collect();
    let mut gone = tx.prepare_cached(
        "DELETE FROM gone WHERE id IN (SELECT id FROM gone WHERE until <= ?1 LIMIT ?2) RETURNING created_at, id",
    )?;
    for row in gone.query_map(params![now, most], |row| Ok((row.get(0)?, row.get(1)?)))? {
        let (created_at, id) = row?;
        items.extend(item(created_at, id));
    }
    tx.prepare_cached(
        "DELETE FROM deletion WHERE (target, author) IN (SELECT target, author FROM deletion WHERE until <= ?1 LIMIT ?2)",
    )?
    .execute(params![now, most])?;
    tx.prepare_cached("DELETE FROM vanished WHERE until <= ?1")?.execute([now])?;
    Ok(items)
}

pub(super) fn remove(tx: &Connection, seq: i64) -> Result<()> {
    tx.prepare_cached("DELETE FROM tag WHERE seq = ?1")?.execute([seq])?;
    let (kind, mailbox, bytes): (u16, Option<i64>, i64) = tx
        .prepare_cached("DELETE FROM event WHERE seq = ?1 RETURNING kind, mailbox, length(tags) + length(content)")?
        .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    if let (talkbox_core::event::kind::GIFT_WRAP, Some(mailbox)) = (kind, mailbox) {
        tx.prepare_cached("UPDATE mailbox SET events = events - 1, bytes = bytes - ?2 WHERE id = ?1")?
            .execute([mailbox, bytes + ROW_BYTES])?;
    }
    Ok(())
}

pub(super) fn counted_bytes(event: &Admitted) -> i64 {
    ROW_BYTES + i64::try_from(event.packed.tags.len() + event.packed.content.len()).unwrap_or(i64::MAX)
}

/// The number under which the rows of a mailbox name it; given when the first comes.
pub(super) fn mailbox_number(tx: &Connection, key: MailboxId) -> Result<i64> {
    let key = &key.as_bytes()[..];
    let known =
        tx.prepare_cached("SELECT id FROM mailbox WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()?;
    match known {
        Some(number) => Ok(number),
        None => tx.prepare_cached("INSERT INTO mailbox (key) VALUES (?1)")?.insert([key]),
    }
}

pub(super) fn store_bytes(tx: &Connection) -> Result<i64> {
    tx.prepare_cached("SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size")?
        .query_row([], |row| row.get(0))
}

/// Times and sizes in the store are signed; what does not fit is later than anything.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
