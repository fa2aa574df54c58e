//! Which envelopes are known, in whatever state, and their bodies.

use std::collections::HashSet;

use rusqlite::{params, types::ValueRef};
use sha2::{Digest as _, Sha256};

use super::{
    Access, Store,
    columns::{owner_of, time_in, time_out},
    messages::Damaged,
};
use crate::{
    Envelope, EnvelopeId, Error, ErrorKind, MailboxId, Result, Timestamp,
    sqlite::{Sql, damaged},
};

/// It was opened, and its message is kept.
pub(super) const OPENED: i64 = 0;
/// It could not be opened; its body is kept, for a version that can.
pub(super) const UNREADABLE: i64 = 1;
/// It was refused; there is no body.
pub(super) const REJECTED: i64 = 2;
/// The owner deleted it; there is no body.
pub(super) const DELETED: i64 = 3;

/// Most ids of one question, which bounds how long it holds a connection.
pub(super) const MAX_IDS: usize = 10_000;
/// Most envelopes of one page: at 64 KiB each, 16 MiB at worst.
const MAX_PAGE: u32 = 256;

/// Some of the envelopes of a mailbox, in the order of arrival.
#[derive(Debug, Default)]
pub struct EnvelopePage {
    /// The envelopes.
    pub items: Vec<Envelope>,
    /// Those whose bytes are damaged.
    pub damaged: Vec<Damaged<EnvelopeId>>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<u64>,
}

impl Store {
    /// Which of these envelopes are known: held, unreadable, rejected or deleted. They need not be fetched again.
    ///
    /// # Errors
    /// `InvalidInput` for more than 10,000 ids; `Storage`.
    pub async fn known(&self, owner: MailboxId, ids: &[EnvelopeId]) -> Result<HashSet<EnvelopeId>> {
        if ids.len() > MAX_IDS {
            return Err(too_many(ids.len()).op("known"));
        }
        let ids = ids.to_vec();
        self.read("known", move |access| {
            let Some(owner) = owner_of(access.db, owner)? else { return Ok(HashSet::new()) };
            let mut known = HashSet::with_capacity(ids.len());
            let mut select = access.db.prepare_cached("SELECT 1 FROM envelopes WHERE owner = ?1 AND id = ?2")?;
            for id in ids {
                if select.exists(params![owner, id.as_bytes()])? {
                    known.insert(id);
                }
            }
            Ok(known)
        })
        .await
    }

    /// Everything that a reconciliation compares, sorted by time and id: also what was deleted, rejected or
    /// unreadable, but not what has expired. 40 bytes for each.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn known_set(&self, owner: MailboxId) -> Result<Vec<(Timestamp, EnvelopeId)>> {
        self.read("known", move |access| {
            let Some(owner) = owner_of(access.db, owner)? else { return Ok(Vec::new()) };
            let mut select = access.db.prepare_cached(
                "SELECT created_at, id FROM envelopes WHERE owner = ?1 AND until > ?2 ORDER BY created_at, id",
            )?;
            let rows = select.query_map(params![owner, time_in(access.now)], |row| {
                Ok((time_out(row.get(0)?), EnvelopeId::from_bytes(row.get(1)?)))
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// The envelope of this id, where its body is still kept. The id is computed again.
    ///
    /// # Errors
    /// `Storage` where its bytes are damaged.
    pub async fn envelope(&self, owner: MailboxId, id: EnvelopeId) -> Result<Option<Envelope>> {
        self.read("read the envelope", move |access| {
            let Some(owner) = owner_of(access.db, owner)? else { return Ok(None) };
            let mut select = access
                .db
                .prepare_cached("SELECT json, sum FROM envelopes WHERE owner = ?1 AND id = ?2 AND json IS NOT NULL")?;
            let mut rows = select.query(params![owner, id.as_bytes()])?;
            Ok(rows.next()?.map(|row| restore(id, row.get_ref(0), row.get_ref(1))).transpose()?)
        })
        .await
    }

    /// A page of the envelopes whose bodies are kept, in the order of arrival; `after` is [`EnvelopePage::next`], and
    /// 0 at first. `limit` is at most 256; 0 means that.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn envelopes(&self, owner: MailboxId, after: u64, limit: u32) -> Result<EnvelopePage> {
        self.page(
            owner,
            "SELECT seq, id, json, sum FROM envelopes
            WHERE owner = ?1 AND seq > ?2 AND json IS NOT NULL ORDER BY seq LIMIT ?3",
            after,
            limit,
        )
        .await
    }

    /// As [`envelopes`](Self::envelopes), only those that could not be opened.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn unreadable(&self, owner: MailboxId, after: u64, limit: u32) -> Result<EnvelopePage> {
        self.page(
            owner,
            "SELECT seq, id, json, sum FROM envelopes
            WHERE owner = ?1 AND seq > ?2 AND json IS NOT NULL AND state = 1 ORDER BY seq LIMIT ?3",
            after,
            limit,
        )
        .await
    }

    async fn page(&self, owner: MailboxId, sql: &'static str, after: u64, limit: u32) -> Result<EnvelopePage> {
        let limit = if limit == 0 { MAX_PAGE } else { limit.min(MAX_PAGE) };
        self.read("read the envelopes", move |access| {
            let Some(owner) = owner_of(access.db, owner)? else { return Ok(EnvelopePage::default()) };
            envelope_page(access, sql, owner, after, limit)
        })
        .await
    }
}

fn envelope_page(access: &Access<'_>, sql: &str, owner: i64, after: u64, limit: u32) -> Sql<EnvelopePage> {
    let mut page = EnvelopePage::default();
    let mut select = access.db.prepare_cached(sql)?;
    let mut rows = select.query(params![owner, i64::try_from(after).unwrap_or(i64::MAX), limit])?;
    let mut read = 0;
    let mut last = after;
    while let Some(row) = rows.next()? {
        read += 1;
        last = row.get::<_, i64>(0)?.unsigned_abs();
        let id = EnvelopeId::from_bytes(row.get(1).unwrap_or_default());
        match restore(id, row.get_ref(2), row.get_ref(3)) {
            Ok(envelope) => page.items.push(envelope),
            Err(error) => page.damaged.push(Damaged { id, error }),
        }
    }
    page.next = (read == limit).then_some(last);
    Ok(page)
}

/// An envelope out of the two columns of its body.
pub(super) fn restore(
    id: EnvelopeId,
    json: rusqlite::Result<ValueRef<'_>>,
    sum: rusqlite::Result<ValueRef<'_>>,
) -> Result<Envelope> {
    // As bytes: rotten text need not be UTF-8.
    let body = json.ok().and_then(|json| std::str::from_utf8(json.as_bytes().ok()?).ok());
    let sum = sum.ok().and_then(|sum| sum.as_blob().ok());
    let whole = body.filter(|body| sum == Some(&sum_of(body)));
    match whole.map(Envelope::restore) {
        Some(Ok(envelope)) if envelope.id() == id => Ok(envelope),
        _ => Err(damaged("envelopes").with("envelope", id)),
    }
}

/// Tells a body from one that has rotted. The id alone does not: it leaves the signature out.
pub(super) fn sum_of(json: &str) -> [u8; 8] {
    let mut sum = [0; 8];
    sum.copy_from_slice(&Sha256::digest(json)[..8]);
    sum
}

pub(super) fn too_many(given: usize) -> Error {
    Error::new(ErrorKind::InvalidInput, "too many at once").with("given", given).with("limit", MAX_IDS)
}
