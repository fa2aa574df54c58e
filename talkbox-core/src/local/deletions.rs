//! Deleting: tombstones at once, and signed requests that travel to the holders.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension as _, params};

use super::{
    Access, Store,
    columns::{holder_in, locator_out, owner_in, owner_of, time_in, time_out},
    known::{DELETED, MAX_IDS, too_many},
};
use crate::{
    DeleteRequest, Deletion, DeletionState, EnvelopeId, Error, ErrorKind, EventId, Locator, MailboxId, MessageId,
    Result, Timestamp,
    deletion::MAX_DELETIONS,
    event::Event,
    sqlite::{Sql, damaged},
};

/// How long a tombstone of a message stays, in seconds: longer than the 400 days after which no envelope that exists
/// now is valid any more.
pub(super) const TOMBSTONE: u64 = 402 * 86_400;
/// Most requests of one page.
const MAX_PAGE: u32 = 256;

const WANTED: i64 = 0;
const REQUESTED: i64 = 1;
const CONFIRMED: i64 = 2;

/// What was deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// The messages that are gone.
    pub messages: Vec<MessageId>,
    /// The envelopes that are gone: all that had brought them. Holders still have them.
    pub envelopes: Vec<EnvelopeId>,
}

/// A request that some holders have not confirmed.
#[derive(Clone, Debug)]
pub struct PendingDeletion {
    /// The request.
    pub request: DeleteRequest,
    /// The holders to ask, or to ask again.
    pub at: Vec<Locator>,
    /// When it was signed.
    pub made_at: Timestamp,
}

impl Store {
    /// Deletes messages and envelopes, each with all that belongs to it: text, bodies, further envelopes. They never
    /// come back, whoever still holds them. Ids that are not known are passed over.
    ///
    /// The holders are asked next: [`deletions_to_sign`](Self::deletions_to_sign) says for which envelopes.
    ///
    /// # Errors
    /// `InvalidInput` for more than 10,000; `Storage`.
    pub async fn delete(&self, owner: MailboxId, messages: &[MessageId], envelopes: &[EnvelopeId]) -> Result<Deleted> {
        if messages.len() + envelopes.len() > MAX_IDS {
            return Err(too_many(messages.len() + envelopes.len()).op("delete"));
        }
        let (messages, envelopes) = (messages.to_vec(), envelopes.to_vec());
        self.write("delete", move |access| {
            let Some(owner) = owner_of(access.db, owner)? else { return Ok(Deleted::default()) };
            let mut deleted = Deleted::default();
            for id in envelopes {
                match message_of(access, owner, id)? {
                    Some(Some(message)) => delete_message(access, owner, message, &mut deleted)?,
                    Some(None) => delete_envelope(access, owner, id, &mut deleted)?,
                    None => {}
                }
            }
            for id in messages {
                delete_message(access, owner, id, &mut deleted)?;
            }
            Ok(deleted)
        })
        .await
    }

    /// Deleted envelopes that no signed request names yet, at most as many as one request may name. Also those of
    /// deleted messages that arrived later in another envelope.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn deletions_to_sign(&self, owner: MailboxId) -> Result<Vec<EnvelopeId>> {
        self.read("deletions to sign", move |access| {
            let owner = owner_of(access.db, owner)?;
            let mut select = access.db.prepare_cached(
                "SELECT id FROM envelopes WHERE owner = ?1 AND state = 3 AND request IS NULL ORDER BY seq LIMIT ?2",
            )?;
            let ids = select.query_map(params![owner, MAX_DELETIONS as i64], |row| row.get(0))?;
            ids.map(|id| Ok(EnvelopeId::from_bytes(id?))).collect()
        })
        .await
    }

    /// Keeps a signed request until these holders have confirmed it, and those that it was kept for before. It is on the
    /// disk when this returns.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn add_deletion(&self, request: &DeleteRequest, at: &[Locator]) -> Result<()> {
        let (request, at) = (request.clone(), at.to_vec());
        self.write("keep the deletion", move |access| {
            let owner = owner_in(access.db, request.mailbox())?;
            let id = request.event().id();
            access.db.execute(
                "INSERT OR IGNORE INTO deletions (id, owner, json, made_at, next_try) VALUES (?1, ?2, ?3, ?4, ?4)",
                params![id.as_bytes(), owner, request.event().to_json(), time_in(access.now)],
            )?;
            for envelope in request.ids() {
                access.db.execute(
                    "UPDATE envelopes SET request = ?3 WHERE owner = ?1 AND id = ?2 AND state = 3",
                    params![owner, envelope.as_bytes(), id.as_bytes()],
                )?;
            }
            for holder in at {
                access.db.execute(
                    "INSERT OR IGNORE INTO deletion_holders (request, holder, state) VALUES (?1, ?2, ?3)",
                    params![id.as_bytes(), holder_in(access.db, &holder)?, WANTED],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Holders that have deleted envelopes of a request, as far as is known.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn holders_of(&self, request: &DeleteRequest) -> Result<Vec<Locator>> {
        let (owner, ids) = (request.mailbox(), request.ids().to_vec());
        self.read("holders of the deleted", move |access| {
            let Some(owner) = owner_of(access.db, owner)? else { return Ok(Vec::new()) };
            let mut select = access.db.prepare_cached(
                "SELECT locator FROM envelopes JOIN holdings ON envelope = seq JOIN holders USING (holder)
                 WHERE owner = ?1 AND id = ?2",
            )?;
            let mut holders = BTreeSet::new();
            for id in ids {
                let locators = select.query_map(params![owner, id.as_bytes()], |row| row.get::<_, String>(0))?;
                for locator in locators {
                    holders.insert(locator_out(&locator?)?);
                }
            }
            Ok(holders.into_iter().collect())
        })
        .await
    }

    /// Requests that are due, and the holders that have not confirmed them. `limit` is at most 256.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn pending_deletions(&self, limit: u32) -> Result<Vec<PendingDeletion>> {
        self.read("pending deletions", move |access| {
            let mut select = access.db.prepare_cached(
                "SELECT id, json, made_at FROM deletions WHERE next_try <= ?1 ORDER BY next_try, id LIMIT ?2",
            )?;
            let mut rows = select.query(params![time_in(access.now), limit.min(MAX_PAGE)])?;
            let mut pending = Vec::new();
            while let Some(row) = rows.next()? {
                let id = EventId::from_bytes(row.get(0)?);
                match request_of(id, &row.get::<_, String>(1)?) {
                    Ok(request) => pending.push(PendingDeletion {
                        at: unconfirmed(access, id)?,
                        made_at: time_out(row.get(2)?),
                        request,
                    }),
                    Err(error) => tracing::warn!(%error, "a request to delete cannot be read"),
                }
            }
            Ok(pending)
        })
        .await
    }

    /// How many requests are still asked of holders.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn count_deletions(&self) -> Result<u64> {
        self.read("count the deletions", move |access| {
            let mut select = access.db.prepare_cached("SELECT count(*) FROM deletions WHERE next_try NOT NULL")?;
            Ok(select.query_row([], |row| row.get::<_, i64>(0))?.unsigned_abs())
        })
        .await
    }

    /// Records what holders said to a request. It is tried again at `next_try`, until all have confirmed it; with
    /// `None` never.
    ///
    /// # Errors
    /// `NotFound`; `Storage`.
    pub async fn settle_deletion(&self, id: EventId, outcome: &Deletion, next_try: Option<Timestamp>) -> Result<()> {
        let outcome = outcome.clone();
        self.write("settle the deletion", move |access| {
            let known = access.db.query_row("SELECT 1 FROM deletions WHERE id = ?1", [id.as_bytes()], |_| Ok(()));
            known.optional()?.ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no such request to delete"))?;
            for (holder, state) in &outcome.holders {
                let state = match state {
                    DeletionState::Requested => REQUESTED,
                    DeletionState::Confirmed => CONFIRMED,
                };
                answered(access, id, holder, state, None)?;
                if state == CONFIRMED {
                    no_longer_held(access, id, holder)?;
                }
            }
            for refusal in &outcome.refused {
                answered(access, id, &refusal.holder, WANTED, Some(&refusal.words))?;
            }
            let done = unconfirmed(access, id)?.is_empty();
            let next = next_try.filter(|_| !done).map(time_in);
            access.db.execute("UPDATE deletions SET next_try = ?2 WHERE id = ?1", params![id.as_bytes(), next])?;
            Ok(())
        })
        .await
    }
}

/// The message of an envelope that is there, where it has one.
fn message_of(access: &Access<'_>, owner: i64, id: EnvelopeId) -> Sql<Option<Option<MessageId>>> {
    let mut select = access.db.prepare_cached("SELECT message FROM envelopes WHERE owner = ?1 AND id = ?2")?;
    let message =
        select.query_row(params![owner, id.as_bytes()], |row| row.get::<_, Option<[u8; 32]>>(0)).optional()?;
    Ok(message.map(|message| message.map(MessageId::from_bytes)))
}

fn delete_message(access: &Access<'_>, owner: i64, id: MessageId, deleted: &mut Deleted) -> Sql<()> {
    let Access { db, now, .. } = access;
    let mut delete = db.prepare_cached("DELETE FROM messages WHERE owner = ?1 AND id = ?2")?;
    let there = delete.execute(params![owner, id.as_bytes()])? > 0;
    let mut bury = db.prepare_cached(
        "UPDATE envelopes SET state = ?3, json = NULL, sum = NULL, problem = NULL
         WHERE owner = ?1 AND message = ?2 AND state <> ?3 RETURNING id",
    )?;
    let buried = bury.query_map(params![owner, id.as_bytes(), DELETED], |row| row.get(0))?;
    let buried: Vec<_> = buried.map(|id| Ok(EnvelopeId::from_bytes(id?))).collect::<Sql<_>>()?;
    if there || !buried.is_empty() {
        let mut insert = db.prepare_cached(
            "INSERT INTO tombstones (owner, message, until) VALUES (?1, ?2, ?3)
             ON CONFLICT (owner, message) DO UPDATE SET until = max(until, excluded.until)",
        )?;
        insert.execute(params![owner, id.as_bytes(), time_in(now.plus(TOMBSTONE))])?;
        deleted.messages.push(id);
    }
    deleted.envelopes.extend(buried);
    Ok(())
}

/// Deletes an envelope that holds no message that is known.
fn delete_envelope(access: &Access<'_>, owner: i64, id: EnvelopeId, deleted: &mut Deleted) -> Sql<()> {
    let mut bury = access.db.prepare_cached(
        "UPDATE envelopes SET state = ?3, json = NULL, sum = NULL, problem = NULL WHERE owner = ?1 AND id = ?2 AND state <> ?3",
    )?;
    if bury.execute(params![owner, id.as_bytes(), DELETED])? > 0 {
        deleted.envelopes.push(id);
    }
    Ok(())
}

fn request_of(id: EventId, json: &str) -> Result<DeleteRequest> {
    // With its signature, which the id does not cover: it is about to be sent.
    let event = Event::parse(json)?;
    if event.id() == id { DeleteRequest::from_event(event) } else { Err(damaged("deletions")) }
}

fn unconfirmed(access: &Access<'_>, id: EventId) -> Sql<Vec<Locator>> {
    let mut select = access.db.prepare_cached(
        "SELECT locator FROM deletion_holders JOIN holders USING (holder)
         WHERE request = ?1 AND state <> 2 ORDER BY locator",
    )?;
    let locators = select.query_map([id.as_bytes()], |row| row.get::<_, String>(0))?;
    locators.map(|locator| locator_out(&locator?)).collect()
}

fn answered(access: &Access<'_>, id: EventId, holder: &Locator, state: i64, words: Option<&str>) -> Sql<()> {
    // What was confirmed stays so, and what was requested is not taken back by a refusal.
    let mut upsert = access.db.prepare_cached(
        "INSERT INTO deletion_holders (request, holder, state, words) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (request, holder) DO UPDATE SET state = max(state, excluded.state), words = excluded.words",
    )?;
    upsert.execute(params![id.as_bytes(), holder_in(access.db, holder)?, state, words])?;
    Ok(())
}

fn no_longer_held(access: &Access<'_>, id: EventId, holder: &Locator) -> Sql<()> {
    let mut delete = access.db.prepare_cached(
        "DELETE FROM holdings WHERE holder = ?2 AND envelope IN (SELECT seq FROM envelopes WHERE request = ?1)",
    )?;
    delete.execute(params![id.as_bytes(), holder_in(access.db, holder)?])?;
    Ok(())
}
