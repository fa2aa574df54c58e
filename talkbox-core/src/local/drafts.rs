//! Drafts that wait: written to a mailbox that could not be found yet, so that there is no key to seal them to.
//!
//! They are part of the outbox before its first state, under the id of the entry that they become. Nothing is leased:
//! a draft becomes entries at most once, whoever comes first.

use std::time::Duration;

use rusqlite::{Row, params};
use zeroize::Zeroizing;

use super::{
    Access, Store,
    columns::{time_in, time_out},
    outbox::{NewOutbox, OutboxId},
};
use crate::{
    Address, Draft, Error, ErrorKind, Locator, MailboxId, Result, Timestamp,
    sqlite::{Sql, damaged},
};

/// Most drafts that wait at once: more than anybody writes between two networks, and 25 MiB at most.
const MAX_DRAFTS: i64 = 1_000;

/// Something to be sealed and sent once its mailbox has been found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDraft {
    /// Its name, and that of the entry of the outbox that it becomes: [`OutboxId::generate`].
    pub id: OutboxId,
    /// To whom.
    pub to: Address,
    /// What.
    pub draft: Draft,
    /// When it was written, in milliseconds since 1970.
    pub written: u64,
    /// As the owner of this mailbox of one's own; under a throw-away key where there is none.
    pub sender: Option<MailboxId>,
    /// How many distinct holders make it count as stored.
    pub min_acks: Option<u32>,
    /// Where it goes when everybody was asked and nobody knows the mailbox: to a throw-away key, one's own holders.
    pub otherwise: Vec<Locator>,
}

/// A draft that waits, and how far it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingDraft {
    /// What waits.
    pub new: NewDraft,
    /// When it was written.
    pub created_at: Timestamp,
    /// How often its mailbox was looked for since.
    pub attempts: u32,
    /// When that is done next; `None` where it was given up.
    pub next_try: Option<Timestamp>,
    /// Why it was given up.
    pub reason: Option<String>,
}

/// What is sealed of a draft.
#[derive(serde::Serialize, serde::Deserialize)]
struct Sealed {
    to: String,
    draft: Draft,
    written: u64,
    min_acks: Option<u32>,
    otherwise: Vec<Locator>,
}

const COLUMNS: &str = "id, sender, created_at, attempts, next_try, reason, sealed";

impl Store {
    /// Keeps a draft, to be tried at once. It is on the disk when this returns.
    ///
    /// # Errors
    /// `Refused` where a thousand wait already; `Storage`.
    pub async fn add_draft(&self, new: NewDraft) -> Result<()> {
        self.write("keep the draft", move |access| {
            let waiting: i64 = access.db.query_row("SELECT count(*) FROM drafts", [], |row| row.get(0))?;
            if waiting >= MAX_DRAFTS {
                let error = Error::new(ErrorKind::Refused, "too many messages wait for mailboxes that cannot be found");
                return Err(error.with("limit", MAX_DRAFTS).into());
            }
            let sealed = access.rest.seal("drafts", new.id.as_bytes(), &encode(&new)?)?;
            access.db.execute(
                "INSERT INTO drafts (id, sender, created_at, next_try, sealed) VALUES (?1, ?2, ?3, ?3, ?4)",
                params![new.id.as_bytes(), new.sender.as_ref().map(MailboxId::as_bytes), time_in(access.now), sealed],
            )?;
            Ok(())
        })
        .await
    }

    /// Every draft, the oldest first. A damaged row is left out, and logged.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn drafts(&self) -> Result<Vec<WaitingDraft>> {
        self.read("drafts", |access| {
            let mut select =
                access.db.prepare_cached(&format!("SELECT {COLUMNS} FROM drafts ORDER BY created_at, id"))?;
            let mut rows = select.query([])?;
            let mut drafts = Vec::new();
            while let Some(row) = rows.next()? {
                match read(access, row) {
                    Ok(draft) => drafts.push(draft),
                    Err(error) => tracing::warn!(error = ?Error::from(error), "a draft cannot be read"),
                }
            }
            Ok(drafts)
        })
        .await
    }

    /// One draft; `None` where it waits no longer.
    ///
    /// # Errors
    /// `Storage`, also where its row is damaged.
    pub async fn draft(&self, id: OutboxId) -> Result<Option<WaitingDraft>> {
        self.read("draft", move |access| {
            let mut select = access.db.prepare_cached(&format!("SELECT {COLUMNS} FROM drafts WHERE id = ?1"))?;
            let mut rows = select.query([id.as_bytes()])?;
            rows.next()?.map(|row| read(access, row)).transpose()
        })
        .await
    }

    /// The draft that is due and has waited longest, of throw-away keys and of these senders. It is not due again for
    /// this long.
    ///
    /// # Errors
    /// `Storage`; a draft that is damaged is given up.
    pub async fn claim_draft(&self, senders: Vec<MailboxId>, pause: Duration) -> Result<Option<WaitingDraft>> {
        self.write("claim a draft", move |access| {
            while let Some(id) = due(access, &senders)? {
                let mut update = access.db.prepare_cached(&format!(
                    "UPDATE drafts SET attempts = attempts + 1, next_try = ?2 WHERE id = ?1 RETURNING {COLUMNS}"
                ))?;
                let next = access.now.plus(pause.as_secs().max(1));
                let draft = update.query_row(params![id, time_in(next)], |row| Ok(read(access, row)))?;
                match draft {
                    Ok(draft) => return Ok(Some(draft)),
                    Err(error) => {
                        let error = Error::from(error);
                        tracing::warn!(%error, "a draft cannot be sent");
                        give_up(access, &id, error.message())?;
                    }
                }
            }
            Ok(None)
        })
        .await
    }

    /// When a draft is looked at next; it is due until then no more.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn postpone_draft(&self, id: OutboxId, next_try: Timestamp) -> Result<()> {
        self.write("postpone the draft", move |access| {
            let params = params![id.as_bytes(), time_in(next_try)];
            access.db.execute("UPDATE drafts SET next_try = ?2, reason = NULL WHERE id = ?1", params)?;
            Ok(())
        })
        .await
    }

    /// Gives a draft up for this reason; it stays until it is tried again or cancelled.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn give_up_draft(&self, id: OutboxId, reason: &str) -> Result<()> {
        let reason = reason.to_owned();
        self.write("give the draft up", move |access| give_up(access, id.as_bytes(), &reason)).await
    }

    /// Wipes a draft; `false` where it waits no longer.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn cancel_draft(&self, id: OutboxId) -> Result<bool> {
        self.write("cancel the draft", move |access| remove(access, id)).await
    }

    /// Turns a draft into entries of the outbox: both or neither, and once. `false` where it waits no longer, because
    /// another process was first or the sender took it back.
    ///
    /// # Errors
    /// As [`enqueue_all`](Self::enqueue_all).
    pub async fn enqueue_draft(&self, id: OutboxId, entries: Vec<NewOutbox>) -> Result<bool> {
        NewOutbox::check_all(&entries)?;
        self.write("enqueue the draft", move |access| {
            let waited = remove(access, id)?;
            if waited {
                NewOutbox::insert_all(access, &entries)?;
            }
            Ok(waited)
        })
        .await
    }
}

fn due(access: &Access<'_>, senders: &[MailboxId]) -> Sql<Option<[u8; 16]>> {
    let mut select = access
        .db
        .prepare_cached("SELECT id, sender FROM drafts WHERE next_try <= ?1 ORDER BY next_try, created_at, id")?;
    let mut rows = select.query([time_in(access.now)])?;
    while let Some(row) = rows.next()? {
        let sender: Option<[u8; 32]> = row.get(1)?;
        if sender.is_none_or(|sender| senders.contains(&MailboxId::from_bytes(sender))) {
            return Ok(Some(row.get(0)?));
        }
    }
    Ok(None)
}

fn give_up(access: &Access<'_>, id: &[u8; 16], reason: &str) -> Sql<()> {
    access.db.execute("UPDATE drafts SET next_try = NULL, reason = ?2 WHERE id = ?1", params![id, reason])?;
    Ok(())
}

fn remove(access: &Access<'_>, id: OutboxId) -> Sql<bool> {
    Ok(access.db.execute("DELETE FROM drafts WHERE id = ?1", [id.as_bytes()])? > 0)
}

fn encode(new: &NewDraft) -> Result<Zeroizing<Vec<u8>>> {
    let sealed = Sealed {
        to: new.to.to_string(),
        draft: new.draft.clone(),
        written: new.written,
        min_acks: new.min_acks,
        otherwise: new.otherwise.clone(),
    };
    let json = serde_json::to_vec(&sealed)
        .map_err(|error| Error::new(ErrorKind::Unexpected, "the draft cannot be written down").source(error))?;
    Ok(Zeroizing::new(json))
}

fn read(access: &Access<'_>, row: &Row<'_>) -> Sql<WaitingDraft> {
    let id = OutboxId::from_bytes(row.get("id")?);
    let plain = access.rest.open("drafts", id.as_bytes(), &row.get::<_, Vec<u8>>("sealed")?)?;
    let sealed: Sealed = serde_json::from_slice(&plain).map_err(|_| damaged("drafts"))?;
    Ok(WaitingDraft {
        new: NewDraft {
            id,
            to: sealed.to.parse().map_err(|_| damaged("drafts"))?,
            draft: sealed.draft,
            written: sealed.written,
            sender: row.get::<_, Option<_>>("sender")?.map(MailboxId::from_bytes),
            min_acks: sealed.min_acks,
            otherwise: sealed.otherwise,
        },
        created_at: time_out(row.get("created_at")?),
        attempts: row.get("attempts")?,
        next_try: row.get::<_, Option<i64>>("next_try")?.map(time_out),
        reason: row.get("reason")?,
    })
}
