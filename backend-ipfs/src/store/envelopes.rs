//! Mail, as it was found in the entries of the logs.
//!
//! An envelope has one home, the log of its mailbox and of the month of its `created_at`; in any other it is not mail. Nor
//! is it where it has expired, or is dated more than 15 minutes into the future, when its entry arrives. Its JSON is kept
//! beside the entry: reading mail then costs no decoding, and mail whose entry was refused is there all the same.

use std::{collections::HashSet, sync::Arc};

use rusqlite::{Connection, OptionalExtension as _};
use talkbox_core::{
    Envelope, EnvelopeId, MailboxId, Timestamp,
    envelope::{MAX_ENVELOPE_BYTES, MAX_FUTURE},
    sqlite::Sql,
};

use super::{Refused, int, logs::Log, nat};
use crate::orbitdb::{Cid, Month, cid_of_digest};

/// Most bytes of JSON in a page, so that a page of the largest envelopes stays small; one envelope always fits.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
const _: () = assert!(PAGE_BYTES >= MAX_ENVELOPE_BYTES);

/// Some mail of a mailbox, in the order in which it was found.
#[cfg(test)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// The place of each, its id, and its canonical JSON.
    pub(crate) items: Vec<(i64, EnvelopeId, Arc<str>)>,
    /// Whether there is more behind.
    pub(crate) more: bool,
}

/// Why an envelope is no mail in this log, if it is none.
pub(super) fn fits(envelope: &Envelope, log: &Log, now: Timestamp) -> Result<(), Refused> {
    if envelope.mailbox() != log.mailbox || Month::of(envelope.created_at()) != log.month {
        return Err(Refused::Elsewhere);
    }
    if envelope.is_expired(now) {
        return Err(Refused::Expired);
    }
    if envelope.created_at() > now.plus(MAX_FUTURE) {
        return Err(Refused::Future);
    }
    Ok(())
}

/// Whether an entry brought it whose signature holds; `None` where it was not found in any.
pub(super) fn is_sound(db: &Connection, id: EnvelopeId) -> Sql<Option<bool>> {
    let mut select = db.prepare_cached("SELECT sound FROM envelopes WHERE id = ?1")?;
    Ok(select.query_row([id.as_bytes()], |row| row.get(0)).optional()?)
}

/// Notes an envelope that an entry brought. Its place, where it is new.
pub(super) fn note(db: &Connection, log: &mut Log, envelope: &Envelope, sound: bool, entry: &Cid) -> Sql<Option<i64>> {
    let digest = entry.hash().digest();
    if let Some(was_sound) = is_sound(db, envelope.id())? {
        if sound && !was_sound {
            let mut update = db.prepare_cached("UPDATE envelopes SET sound = 1, digest = ?2 WHERE id = ?1")?;
            update.execute((envelope.id().as_bytes(), digest))?;
        }
        return Ok(None);
    }
    log.latest = log.latest.max(envelope.expires_at());
    let mut insert = db.prepare_cached(
        "INSERT INTO envelopes (id, log, mailbox, expires, sound, digest, json) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let id = envelope.id();
    let expires = int(envelope.expires_at().secs());
    let row = (id.as_bytes(), log.number, log.mailbox.as_bytes(), expires, sound, digest, envelope.json());
    Ok(Some(insert.insert(row)?))
}

/// The entries that brought these envelopes to a log, as far as their signatures hold.
pub(super) fn entries_with(db: &Connection, log: &Log, ids: &[EnvelopeId]) -> Sql<Vec<Cid>> {
    let mut select = db.prepare_cached("SELECT digest FROM envelopes WHERE id = ?1 AND log = ?2 AND sound")?;
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        let digest = select.query_row((id.as_bytes(), log.number), |row| row.get(0)).optional()?;
        found.extend(digest.map(|digest| cid_of_digest(&digest)));
    }
    Ok(found)
}

/// The mail of a log that came with other entries than these.
pub(super) fn shown_but(db: &Connection, log: &Log, lacking: &HashSet<[u8; 32]>) -> Sql<Vec<EnvelopeId>> {
    let mut select = db.prepare_cached("SELECT id, digest FROM envelopes WHERE log = ?1 ORDER BY seq")?;
    let mut rows = select.query([log.number])?;
    let mut shown = Vec::new();
    while let Some(row) = rows.next()? {
        if !lacking.contains(&row.get::<_, [u8; 32]>(1)?) {
            shown.push(EnvelopeId::from_bytes(row.get(0)?));
        }
    }
    Ok(shown)
}

/// Until when each is held, as far as it has not expired and others can get it here.
pub(super) fn held(db: &Connection, ids: &[EnvelopeId], now: Timestamp) -> Sql<Vec<Option<Timestamp>>> {
    let mut select = db.prepare_cached(
        "SELECT expires FROM envelopes e JOIN logs USING (log)
         WHERE e.id = ?1 AND expires > ?2 AND sound AND NOT gone",
    )?;
    ids.iter()
        .map(|id| {
            let expires = select.query_row((id.as_bytes(), int(now.secs())), |row| row.get(0)).optional()?;
            Ok(expires.map(|expires| Timestamp(nat(expires))))
        })
        .collect()
}

/// The mail of a mailbox that was found after a place.
#[cfg(test)]
pub(super) fn page(db: &Connection, mailbox: MailboxId, after: i64, limit: usize, now: Timestamp) -> Sql<Page> {
    let mut select = db.prepare_cached(
        "SELECT seq, e.id, json FROM envelopes e JOIN logs USING (log)
         WHERE e.mailbox = ?1 AND seq > ?2 AND expires > ?3 AND NOT gone ORDER BY seq",
    )?;
    let mut rows = select.query((mailbox.as_bytes(), after, int(now.secs())))?;
    let (mut page, mut bytes) = (Page::default(), 0);
    while let Some(row) = rows.next()? {
        let json = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
        bytes += json.len();
        if page.items.len() >= limit || bytes > PAGE_BYTES {
            page.more = true;
            break;
        }
        page.items.push((row.get(0)?, EnvelopeId::from_bytes(row.get(1)?), json.into()));
    }
    Ok(page)
}

/// Those of a mailbox that are asked for, in the order asked, as far as they are here and have not expired.
pub(super) fn get(
    db: &Connection,
    mailbox: MailboxId,
    ids: &[EnvelopeId],
    now: Timestamp,
) -> Sql<Vec<(EnvelopeId, Arc<str>)>> {
    let mut select = db.prepare_cached(
        "SELECT json FROM envelopes e JOIN logs USING (log)
         WHERE e.id = ?1 AND e.mailbox = ?2 AND expires > ?3 AND NOT gone",
    )?;
    let mut found = Vec::new();
    for id in ids {
        let row = (id.as_bytes(), mailbox.as_bytes(), int(now.secs()));
        if let Some(json) = select.query_row(row, |row| row.get::<_, Arc<str>>(0)).optional()? {
            found.push((*id, json));
        }
    }
    Ok(found)
}
