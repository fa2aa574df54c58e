//! Pinned records: trust on first use, and an error for a second key under the same code.

use rusqlite::{OptionalExtension as _, params};

use super::{Access, Store, columns::time_in};
use crate::{
    Error, ErrorKind, MailboxId, MailboxRecord, PublicKey, Result, Shortcode,
    address::to_npub,
    event::Event,
    sqlite::{Sql, damaged},
};

/// Most records that are pinned: one for each mailbox that one has ever written to.
const MAX_PINS: i64 = 10_000;
/// Most failed candidates that are remembered for a code. At 0.2 s for each, a flood of more takes a quarter of an
/// hour of computing; past that the oldest are checked again.
const MAX_FAILED: i64 = 4_096;

/// What became of a record that was to be pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// The code was not known: it now means this key, for ever.
    First,
    /// It took the place of an older one of the same mailbox.
    Updated,
    /// The pinned one is as new or newer.
    Unchanged,
}

impl Store {
    /// Pins a record under a code, on first use for ever. The caller has checked that the code is that of the key,
    /// which costs 0.2 s.
    ///
    /// # Errors
    /// `VerificationFailed` where the code is pinned to another key, with both in the context as `pinned` and
    /// `offered`; `InvalidInput` where the record is of another code, or from the future; `Storage`.
    pub async fn pin(&self, record: &MailboxRecord, code: Shortcode) -> Result<Pin> {
        let record = record.clone();
        self.write("pin", move |access| pin(access, &record, code)).await
    }

    /// The record that is pinned under a code.
    ///
    /// # Errors
    /// `Storage`, also where its row is damaged.
    pub async fn pinned(&self, code: Shortcode) -> Result<Option<MailboxRecord>> {
        self.read("pinned record", move |access| {
            let tag = code_tag(access, code);
            let mut select = access.db.prepare_cached("SELECT code, sealed FROM pins WHERE code = ?1")?;
            let row = select.query_row([tag], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            Ok(row.map(|(tag, sealed)| open(access, tag, sealed)).transpose()?)
        })
        .await
    }

    /// The record that is pinned for a mailbox.
    ///
    /// # Errors
    /// As [`pinned`](Self::pinned).
    pub async fn pinned_by_id(&self, mailbox: MailboxId) -> Result<Option<MailboxRecord>> {
        self.read("pinned record", move |access| {
            let tag = mailbox_tag(access, mailbox);
            let mut select = access.db.prepare_cached("SELECT code, sealed FROM pins WHERE mailbox = ?1")?;
            let row = select.query_row([tag], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            Ok(row.map(|(tag, sealed)| open(access, tag, sealed)).transpose()?)
        })
        .await
    }

    /// Every pinned record, those first that were pinned first; at most 10,000. A damaged row is left out, and logged.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn pins(&self) -> Result<Vec<MailboxRecord>> {
        self.read("pinned records", |access| {
            let mut select = access.db.prepare_cached("SELECT code, sealed FROM pins ORDER BY pinned_at, code")?;
            let mut rows = select.query([])?;
            let mut records = Vec::new();
            while let Some(row) = rows.next()? {
                match open(access, row.get(0)?, row.get(1)?) {
                    Ok(record) => records.push(record),
                    Err(error) => tracing::warn!(%error, "a pinned record cannot be read"),
                }
            }
            Ok(records)
        })
        .await
    }

    /// Forgets what a code means, after its owner said so by another way: the next use pins anew.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn unpin(&self, code: Shortcode) -> Result<bool> {
        self.write("unpin", move |access| {
            Ok(access.db.execute("DELETE FROM pins WHERE code = ?1", [code_tag(access, code)])? > 0)
        })
        .await
    }

    /// Keys that were found not to be those of a code, so that they need not be computed again.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn failed_candidates(&self, code: Shortcode) -> Result<Vec<PublicKey>> {
        self.read("failed candidates", move |access| {
            let mut select =
                access.db.prepare_cached("SELECT key FROM failed_candidates WHERE code = ?1 ORDER BY key")?;
            let keys = select.query_map([code_tag(access, code)], |row| row.get(0))?;
            keys.map(|key| Ok(PublicKey::from_bytes(key?))).collect()
        })
        .await
    }

    /// Remembers that a key is not that of a code. The newest 4,096 of a code are kept, and each for 90 days.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn remember_failed(&self, code: Shortcode, key: PublicKey) -> Result<()> {
        self.write("remember the candidate", move |access| {
            let tag = code_tag(access, code);
            access.db.execute(
                "INSERT OR REPLACE INTO failed_candidates (code, key, failed_at) VALUES (?1, ?2, ?3)",
                params![tag, key.as_bytes(), time_in(access.now)],
            )?;
            let kept: i64 =
                access
                    .db
                    .query_row("SELECT count(*) FROM failed_candidates WHERE code = ?1", [tag], |row| row.get(0))?;
            // The one just remembered is never among the oldest, unless the clock was set back.
            access.db.execute(
                "DELETE FROM failed_candidates WHERE code = ?1 AND key IN (
                     SELECT key FROM failed_candidates WHERE code = ?1 ORDER BY failed_at LIMIT max(0, ?2))",
                params![tag, kept - MAX_FAILED],
            )?;
            Ok(())
        })
        .await
    }
}

fn pin(access: &Access<'_>, record: &MailboxRecord, code: Shortcode) -> Sql<Pin> {
    if record.code() != code {
        return Err(Error::new(ErrorKind::InvalidInput, "the record is of another code").into());
    }
    let tag = code_tag(access, code);
    let mut select = access.db.prepare_cached("SELECT sealed FROM pins WHERE code = ?1")?;
    let known = select.query_row([tag], |row| row.get(0)).optional()?;
    let known = known.map(|sealed| open(access, tag, sealed)).transpose()?;
    if let Some(known) = known.as_ref().filter(|known| known.mailbox() != record.mailbox()) {
        return Err(Error::new(ErrorKind::VerificationFailed, "the code is pinned to another key")
            .with("pinned", to_npub(&known.mailbox()))
            .with("offered", to_npub(&record.mailbox()))
            .into());
    }
    if !record.supersedes(known.as_ref(), access.now) {
        return match known {
            Some(_) => Ok(Pin::Unchanged),
            None => Err(Error::new(ErrorKind::InvalidInput, "the record is dated in the future").into()),
        };
    }
    let sealed = access.rest.seal("pins", &tag, record.event().to_json().as_bytes())?;
    if known.is_some() {
        access.db.execute("UPDATE pins SET sealed = ?2 WHERE code = ?1", params![tag, sealed])?;
        return Ok(Pin::Updated);
    }
    let pins: i64 = access.db.query_row("SELECT count(*) FROM pins", [], |row| row.get(0))?;
    if pins >= MAX_PINS {
        return Err(Error::new(ErrorKind::Storage, "there are too many pinned records").with("limit", MAX_PINS).into());
    }
    access.db.execute(
        "INSERT INTO pins (code, mailbox, pinned_at, sealed) VALUES (?1, ?2, ?3, ?4)",
        params![tag, mailbox_tag(access, record.mailbox()), time_in(access.now), sealed],
    )?;
    Ok(Pin::First)
}

fn code_tag(access: &Access<'_>, code: Shortcode) -> [u8; 16] {
    access.rest.tag("pins", code.symbols().as_bytes())
}

fn mailbox_tag(access: &Access<'_>, mailbox: MailboxId) -> [u8; 16] {
    access.rest.tag("pins", mailbox.as_bytes())
}

fn open(access: &Access<'_>, tag: [u8; 16], sealed: Vec<u8>) -> Result<MailboxRecord> {
    let plain = access.rest.open("pins", &tag, &sealed)?;
    let json = std::str::from_utf8(&plain).map_err(|_| damaged("pins"))?;
    // The signature was checked before it was pinned.
    MailboxRecord::from_event(Event::restore(json)?)
}
