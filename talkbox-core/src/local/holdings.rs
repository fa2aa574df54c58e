//! Which holder has which envelope: since when, last seen when, and until when it promised to keep it.

use rusqlite::params;

use super::{
    Access, Store,
    columns::{holder_in, locator_out, owner_of, time_in, time_out},
    known::{MAX_IDS, restore, too_many},
};
use crate::{Envelope, EnvelopeId, Holding, HoldingState, Locator, MailboxId, Result, Timestamp, sqlite::Sql};

/// A holder that has an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBy {
    /// Who.
    pub holder: Locator,
    /// When it was first known to have it.
    pub since: Timestamp,
    /// When it was last seen to have it.
    pub last_seen: Timestamp,
    /// Until when it promised to keep it, where it did.
    pub until: Option<Timestamp>,
}

impl Store {
    /// Who has an envelope of one's own mailbox, in the order of the locators.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn holdings(&self, owner: MailboxId, id: EnvelopeId) -> Result<Vec<HeldBy>> {
        self.read("holdings", move |access| {
            let Some(owner) = owner_of(access.db, owner)? else { return Ok(Vec::new()) };
            let mut select = access.db.prepare_cached(
                "SELECT locator, since, last_seen, holdings.until
                 FROM envelopes JOIN holdings ON envelope = seq JOIN holders USING (holder)
                 WHERE owner = ?1 AND id = ?2 ORDER BY locator",
            )?;
            let mut rows = select.query(params![owner, id.as_bytes()])?;
            let mut held = Vec::new();
            while let Some(row) = rows.next()? {
                held.push(HeldBy {
                    holder: locator_out(&row.get::<_, String>(0)?)?,
                    since: time_out(row.get(1)?),
                    last_seen: time_out(row.get(2)?),
                    until: row.get::<_, Option<i64>>(3)?.map(time_out),
                });
            }
            Ok(held)
        })
        .await
    }

    /// Records what a holder said when it was asked: what it has is held by it, what it does not have no longer is.
    /// What it cannot say, and what is not known here, changes nothing.
    ///
    /// # Errors
    /// `InvalidInput` for more than 10,000 answers; `Storage`.
    pub async fn audited(&self, owner: MailboxId, holder: &Locator, answers: &[Holding]) -> Result<()> {
        if answers.len() > MAX_IDS {
            return Err(too_many(answers.len()).op("audited"));
        }
        let (holder, answers) = (holder.clone(), answers.to_vec());
        self.write("audited", move |access| {
            let Some(owner) = owner_of(access.db, owner)? else { return Ok(()) };
            let holder = holder_in(access.db, &holder)?;
            let mut select = access.db.prepare_cached("SELECT seq FROM envelopes WHERE owner = ?1 AND id = ?2")?;
            for answer in answers {
                let mut rows = select.query(params![owner, answer.id.as_bytes()])?;
                let Some(row) = rows.next()? else { continue };
                let seq = row.get(0)?;
                match answer.state {
                    HoldingState::Held { until } => saw(access, seq, holder, until)?,
                    HoldingState::Absent => lost(access, seq, holder)?,
                    HoldingState::Unknown => {}
                }
            }
            Ok(())
        })
        .await
    }
}

impl Store {
    /// Those of these envelopes, as far as their bodies are kept and they have not expired, that the holder was seen to
    /// have.
    ///
    /// # Errors
    /// `Storage`, also where the bytes of one are damaged.
    pub(crate) async fn seen_at(
        &self,
        owner: MailboxId,
        holder: &Locator,
        ids: &[EnvelopeId],
    ) -> Result<Vec<Envelope>> {
        let (holder, ids) = (holder.to_string(), ids.to_vec());
        self.read("seen at", move |access| {
            let Some(owner) = owner_of(access.db, owner)? else { return Ok(Vec::new()) };
            let mut select = access.db.prepare_cached(
                "SELECT json, sum FROM envelopes
                 WHERE owner = ?1 AND id = ?2 AND json IS NOT NULL AND envelopes.until > ?4 AND EXISTS (
                     SELECT 1 FROM holdings JOIN holders USING (holder) WHERE envelope = seq AND locator = ?3)",
            )?;
            let mut seen = Vec::new();
            for id in ids {
                let mut rows = select.query(params![owner, id.as_bytes(), holder, time_in(access.now)])?;
                if let Some(row) = rows.next()? {
                    seen.push(restore(id, row.get_ref(0), row.get_ref(1))?);
                }
            }
            Ok(seen)
        })
        .await
    }

    /// Forgets that the holder was seen to have these.
    ///
    /// # Errors
    /// `Storage`.
    pub(crate) async fn unsee(&self, owner: MailboxId, holder: &Locator, ids: &[EnvelopeId]) -> Result<()> {
        let absent = |id: &EnvelopeId| Holding { id: *id, state: HoldingState::Absent };
        self.audited(owner, holder, &ids.iter().map(absent).collect::<Vec<_>>()).await
    }
}

/// A holder was seen to have an envelope. A promise stays until there is another.
pub(super) fn saw(access: &Access<'_>, seq: i64, holder: i64, until: Option<Timestamp>) -> Sql<()> {
    let mut upsert = access.db.prepare_cached(
        "INSERT INTO holdings (envelope, holder, since, last_seen, until) VALUES (?1, ?2, ?3, ?3, ?4)
         ON CONFLICT (envelope, holder) DO UPDATE SET
             last_seen = max(last_seen, excluded.last_seen), until = coalesce(excluded.until, until)",
    )?;
    upsert.execute(params![seq, holder, time_in(access.now), until.map(time_in)])?;
    Ok(())
}

fn lost(access: &Access<'_>, seq: i64, holder: i64) -> Sql<()> {
    let mut delete = access.db.prepare_cached("DELETE FROM holdings WHERE envelope = ?1 AND holder = ?2")?;
    delete.execute([seq, holder])?;
    Ok(())
}
