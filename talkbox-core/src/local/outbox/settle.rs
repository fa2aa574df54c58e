//! What came of an attempt, and what else becomes of an entry.

use std::time::Duration;

use rusqlite::{OptionalExtension as _, params};

use super::{
    claim::wedge,
    entry::OutboxId,
    keep_key,
    state::{CANCELLED, DELIVERED, OPEN, OutboxState, WEDGED},
};
use crate::{
    Ack, Envelope, Error, ErrorKind, HoldingState, Level, Locator, Receipt, Refusal, Result, Retry, SecretKey,
    Timestamp,
    local::{
        Access, Store,
        columns::{holder_in, holder_of, time_in},
        known::sum_of,
    },
    sqlite::{Sql, damaged},
};

pub(super) const ACK: i64 = 0;
pub(super) const PENDING: i64 = 1;
pub(super) const REFUSED: i64 = 2;

/// When an entry that is on its way somewhere is looked at again, where the caller does not say, in seconds.
const RECHECK: u64 = 600;

/// What came of one attempt to send an entry.
#[derive(Clone, Debug, Default)]
pub struct Attempt {
    /// Who confirmed that they store it. Acks of earlier attempts stay.
    pub acks: Vec<Ack>,
    /// Who has it on its way.
    pub pending: Vec<Locator>,
    /// Who did not take it.
    pub refused: Vec<Refusal>,
    /// When to try next, also to reach more holders than are needed; `None` for never.
    pub next_try: Option<Timestamp>,
}

impl Attempt {
    /// From what the holders said.
    pub fn new(receipt: Receipt, next_try: Option<Timestamp>) -> Self {
        let Receipt { acks, pending, refused } = receipt;
        Self { acks, pending, refused, next_try }
    }
}

impl Store {
    /// Records an attempt and gives the lease back. Also a process that has lost its lease may settle: what holders
    /// confirmed stays true.
    ///
    /// An attempt that nobody took, with nothing pending and no next try, wedges the entry in the words of the most
    /// telling refusal; what is only pending is looked at again after 10 minutes, if no time is given. So nothing is
    /// ever forgotten.
    ///
    /// # Errors
    /// `NotFound` where there is no such entry; `Storage`.
    pub async fn settle(&self, id: OutboxId, attempt: Attempt) -> Result<OutboxState> {
        self.write("settle", move |access| {
            let row = Row::find(access, id)?;
            for ack in &attempt.acks {
                row.ack(access, ack)?;
            }
            for holder in &attempt.pending {
                row.pending(access, holder)?;
            }
            for refusal in &attempt.refused {
                row.refused(access, refusal)?;
            }
            release(access, id)?;
            row.go_on(access, &attempt)?;
            row.state(access)
        })
        .await
    }

    /// Records what a holder said when it was asked whether it has an entry's envelope: a pending one becomes an ack,
    /// one that was lost no longer counts and makes the entry due.
    ///
    /// # Errors
    /// `NotFound` where there is no such entry; `Storage`.
    pub async fn settle_audit(&self, id: OutboxId, holder: &Locator, answer: HoldingState) -> Result<OutboxState> {
        let holder = holder.clone();
        self.write("settle", move |access| {
            let row = Row::find(access, id)?;
            match answer {
                HoldingState::Held { until } => row.ack(access, &Ack { holder, level: Level::Duplicate, until })?,
                HoldingState::Absent => row.lost(access, &holder)?,
                HoldingState::Unknown => {}
            }
            row.count(access)?;
            row.state(access)
        })
        .await
    }

    /// Puts a fresh envelope of the same message in the place of the one that some holder did not take, and makes the
    /// entry due. Settle the attempt first: acks count for the envelope that was sent.
    ///
    /// # Errors
    /// `InvalidInput` for an envelope of another mailbox, or where the entry is no longer open; `NotFound`; `Storage`.
    pub async fn replace_envelope(&self, id: OutboxId, envelope: Envelope, wrap_key: SecretKey) -> Result<()> {
        self.write("replace the envelope", move |access| {
            let row = Row::find(access, id)?;
            if row.state != OPEN || row.recipient != *envelope.mailbox().as_bytes() {
                let why = "the envelope does not belong to an open entry of its mailbox";
                return Err(Error::new(ErrorKind::InvalidInput, why).with("entry", id).into());
            }
            access.db.execute(
                "UPDATE outbox SET envelope = ?2, json = ?3, sum = ?6, until = ?4, next_try = ?5 WHERE id = ?1",
                params![
                    id.as_bytes(),
                    envelope.id().as_bytes(),
                    envelope.json(),
                    time_in(envelope.expires_at()),
                    time_in(access.now),
                    sum_of(envelope.json()),
                ],
            )?;
            keep_key(access, id, &envelope, &wrap_key)
        })
        .await
    }

    /// Sends an entry to further or other places, at once. No more of them are asked for than there are.
    ///
    /// # Errors
    /// `InvalidInput` for none or too many; `NotFound`; `Storage`.
    pub async fn redirect(&self, id: OutboxId, locators: Vec<Locator>) -> Result<OutboxState> {
        if locators.is_empty() || locators.len() > super::MAX_LOCATORS {
            return Err(Error::new(ErrorKind::InvalidInput, "an entry names 1 to 32 places").op("redirect"));
        }
        self.write("redirect", move |access| {
            let row = Row::find(access, id)?;
            let locators: Vec<&str> = locators.iter().map(Locator::as_str).collect();
            access.db.execute(
                "UPDATE outbox SET locators = ?2, next_try = CASE state WHEN 0 THEN ?3 END, min_acks = min(min_acks, ?4)
                 WHERE id = ?1",
                params![id.as_bytes(), locators.join(" "), time_in(access.now), locators.len() as i64],
            )?;
            row.state(access)
        })
        .await
    }

    /// Takes an entry back: it is not sent any more. Holders that have it keep it until they are asked to delete it,
    /// which the wrap key can do for another 7 days.
    ///
    /// # Errors
    /// `NotFound`; `Storage`. An entry that was delivered stays so.
    pub async fn cancel(&self, id: OutboxId) -> Result<OutboxState> {
        self.end(id, CANCELLED, "state IN (0, 2)").await
    }

    /// The recipient has it. Its wrap keys are wiped.
    ///
    /// # Errors
    /// `NotFound`; `Storage`.
    pub async fn delivered(&self, id: OutboxId) -> Result<OutboxState> {
        self.end(id, DELIVERED, "TRUE").await
    }

    async fn end(&self, id: OutboxId, state: i64, from: &'static str) -> Result<OutboxState> {
        self.write("end", move |access| {
            let row = Row::find(access, id)?;
            let changed = access.db.execute(
                &format!(
                    "UPDATE outbox SET state = ?2, ended_at = ?3, reason = NULL, next_try = NULL, lease = NULL,
                         leased_by = NULL WHERE id = ?1 AND {from}"
                ),
                params![id.as_bytes(), state, time_in(access.now)],
            )?;
            // What nobody has, nobody needs to be asked about.
            let needed = state == CANCELLED && row.acks(access)? > 0;
            if changed > 0 && !needed {
                wipe_keys(access, id)?;
            }
            row.state(access)
        })
        .await
    }

    /// Gives an entry up: trying again does not help, for this reason. The text is cut to 256 characters.
    ///
    /// # Errors
    /// `NotFound`; `Storage`. An entry that is no longer open stays as it is.
    pub async fn wedge(&self, id: OutboxId, reason: &str) -> Result<OutboxState> {
        let reason = reason.to_owned();
        self.write("wedge", move |access| {
            let row = Row::find(access, id)?;
            wedge(access, id.as_bytes(), &reason)?;
            row.state(access)
        })
        .await
    }

    /// Makes an open entry due now.
    ///
    /// # Errors
    /// `NotFound`; `Storage`.
    pub async fn hasten(&self, id: OutboxId) -> Result<OutboxState> {
        self.write("hasten", move |access| {
            let row = Row::find(access, id)?;
            access.db.execute(
                "UPDATE outbox SET next_try = ?3 WHERE id = ?1 AND state = ?2",
                params![id.as_bytes(), OPEN, time_in(access.now)],
            )?;
            row.state(access)
        })
        .await
    }

    /// Makes an entry due now, also one that was wedged; also holders that refused it for good are asked once more. One
    /// that was delivered or cancelled stays so.
    ///
    /// # Errors
    /// `NotFound`; `Storage`.
    pub async fn retry(&self, id: OutboxId) -> Result<OutboxState> {
        self.write("retry", move |access| {
            let row = Row::find(access, id)?;
            access.db.execute(
                "DELETE FROM answers WHERE outbox = ?1 AND answer = ?2 AND EXISTS (
                     SELECT 1 FROM outbox WHERE id = ?1 AND state IN (?3, ?4))",
                params![id.as_bytes(), REFUSED, OPEN, WEDGED],
            )?;
            access.db.execute(
                "UPDATE outbox SET state = ?2, reason = NULL, ended_at = NULL, next_try = ?3
                 WHERE id = ?1 AND state IN (?2, ?4)",
                params![id.as_bytes(), OPEN, time_in(access.now), WEDGED],
            )?;
            row.state(access)
        })
        .await
    }

    /// Gives a lease back without an attempt, as when a process ends before it came to it. The entry is due again
    /// `after` from now.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn release(&self, id: OutboxId, after: Duration) -> Result<()> {
        self.write("release", move |access| {
            access.db.execute(
                "UPDATE outbox SET next_try = ?2 WHERE id = ?1 AND leased_by = ?3 AND state = 0",
                params![id.as_bytes(), time_in(access.now.plus(after.as_secs())), access.process],
            )?;
            release(access, id)
        })
        .await
    }
}

/// The lease of this process, if it is still its own.
fn release(access: &Access<'_>, id: OutboxId) -> Sql<()> {
    let mut update = access
        .db
        .prepare_cached("UPDATE outbox SET lease = NULL, leased_by = NULL WHERE id = ?1 AND leased_by = ?2")?;
    update.execute(params![id.as_bytes(), access.process])?;
    Ok(())
}

/// Wipes the wrap keys of an entry; `secure_delete` overwrites where they were.
fn wipe_keys(access: &Access<'_>, id: OutboxId) -> Sql<()> {
    access.db.execute("DELETE FROM wrap_keys WHERE outbox = ?1", [id.as_bytes()])?;
    Ok(())
}

/// An entry inside of a transaction, as it was found.
struct Row {
    id: OutboxId,
    recipient: [u8; 32],
    envelope: [u8; 32],
    state: i64,
}

impl Row {
    fn find(access: &Access<'_>, id: OutboxId) -> Sql<Self> {
        let mut select = access.db.prepare_cached("SELECT recipient, envelope, state FROM outbox WHERE id = ?1")?;
        let found = select.query_row([id.as_bytes()], |row| {
            Ok(Self { id, recipient: row.get(0)?, envelope: row.get(1)?, state: row.get(2)? })
        });
        let missing = || Error::new(ErrorKind::NotFound, "the outbox has no such entry").with("entry", id);
        Ok(found.optional()?.ok_or_else(missing)?)
    }

    /// An ack takes the place of whatever this holder said before.
    fn ack(&self, access: &Access<'_>, ack: &Ack) -> Sql<()> {
        let mut upsert = access.db.prepare_cached(
            "INSERT OR REPLACE INTO answers (outbox, holder, answer, at, envelope, level, until)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        upsert.execute(params![
            self.id.as_bytes(),
            holder_in(access.db, &ack.holder)?,
            ACK,
            time_in(access.now),
            self.envelope,
            level_in(ack.level),
            ack.until.map(time_in),
        ])?;
        Ok(())
    }

    /// Whatever else a holder says takes no ack back: only an audit does.
    fn pending(&self, access: &Access<'_>, holder: &Locator) -> Sql<()> {
        let mut upsert = access.db.prepare_cached(
            "INSERT INTO answers (outbox, holder, answer, at, envelope) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (outbox, holder) DO UPDATE SET
                 answer = excluded.answer, at = excluded.at, envelope = excluded.envelope
             WHERE answer <> 0",
        )?;
        let holder = holder_in(access.db, holder)?;
        upsert.execute(params![self.id.as_bytes(), holder, PENDING, time_in(access.now), self.envelope])?;
        Ok(())
    }

    fn refused(&self, access: &Access<'_>, refusal: &Refusal) -> Sql<()> {
        let mut upsert = access.db.prepare_cached(
            "INSERT INTO answers (outbox, holder, answer, at, envelope, kind, retry, words)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (outbox, holder) DO UPDATE SET
                 answer = excluded.answer, at = excluded.at, envelope = excluded.envelope, kind = excluded.kind,
                 retry = excluded.retry, words = excluded.words
             WHERE answer <> 0",
        )?;
        upsert.execute(params![
            self.id.as_bytes(),
            holder_in(access.db, &refusal.holder)?,
            REFUSED,
            time_in(access.now),
            self.envelope,
            refusal.kind.as_str(),
            retry_in(refusal.retry),
            refusal.words,
        ])?;
        Ok(())
    }

    /// A holder no longer has it: it does not count, and it is time to send it again.
    fn lost(&self, access: &Access<'_>, holder: &Locator) -> Sql<()> {
        let holder = holder_of(access.db, holder)?;
        let lost = access
            .db
            .execute("DELETE FROM answers WHERE outbox = ?1 AND holder = ?2", params![self.id.as_bytes(), holder])?;
        if lost > 0 {
            access.db.execute(
                "UPDATE outbox SET next_try = ?2 WHERE id = ?1 AND state = 0",
                params![self.id.as_bytes(), time_in(access.now)],
            )?;
        }
        Ok(())
    }

    /// Counts the acks anew, and notes when they became enough.
    fn count(&self, access: &Access<'_>) -> Sql<()> {
        let mut update = access.db.prepare_cached(
            "UPDATE outbox SET acks = ?2, stored_at = CASE WHEN ?2 >= min_acks THEN coalesce(stored_at, ?3) END
             WHERE id = ?1",
        )?;
        update.execute(params![self.id.as_bytes(), self.acks(access)?, time_in(access.now)])?;
        Ok(())
    }

    /// Whether a holder has it queued: also one that said so in an attempt before.
    fn is_pending(&self, access: &Access<'_>) -> Sql<bool> {
        let mut exists = access.db.prepare_cached("SELECT 1 FROM answers WHERE outbox = ?1 AND answer = ?2")?;
        Ok(exists.exists(params![self.id.as_bytes(), PENDING])?)
    }

    fn acks(&self, access: &Access<'_>) -> Sql<u32> {
        let mut count = access.db.prepare_cached("SELECT count(*) FROM answers WHERE outbox = ?1 AND answer = 0")?;
        Ok(count.query_row([self.id.as_bytes()], |row| row.get(0))?)
    }

    /// Sets when to try next, or gives up.
    fn go_on(&self, access: &Access<'_>, attempt: &Attempt) -> Sql<()> {
        self.count(access)?;
        let next = match attempt.next_try {
            None if self.is_pending(access)? => Some(access.now.plus(RECHECK)),
            next => next,
        };
        if next.is_none() && self.acks(access)? == 0 {
            let reason = Receipt { refused: attempt.refused.clone(), ..Receipt::default() }.settle();
            let reason = reason.err().map_or_else(String::new, |error| error.message().to_owned());
            return wedge(access, self.id.as_bytes(), &reason);
        }
        let mut update = access.db.prepare_cached("UPDATE outbox SET next_try = ?2 WHERE id = ?1 AND state = 0")?;
        update.execute(params![self.id.as_bytes(), next.map(time_in)])?;
        Ok(())
    }

    fn state(&self, access: &Access<'_>) -> Sql<OutboxState> {
        let mut select = access.db.prepare_cached("SELECT state, acks, reason, lease FROM outbox WHERE id = ?1")?;
        let state = select.query_row([self.id.as_bytes()], |row| {
            let leased = super::claim::is_leased(access, row.get(3)?);
            Ok(OutboxState::of(row.get(0)?, row.get(1)?, row.get(2)?, leased))
        })?;
        Ok(state.ok_or_else(|| damaged("outbox"))?)
    }
}

const fn level_in(level: Level) -> i64 {
    match level {
        Level::Stored => 0,
        Level::Pinned => 1,
        Level::Duplicate => 2,
    }
}

/// A level as it was stored. What is not known here is stored all the same.
pub(super) const fn level_out(level: i64) -> Level {
    match level {
        1 => Level::Pinned,
        2 => Level::Duplicate,
        _ => Level::Stored,
    }
}

/// Seconds to wait; −1 without a number, −2 for used up, nothing for never.
fn retry_in(retry: Retry) -> Option<i64> {
    match retry {
        Retry::No => None,
        Retry::After(None) => Some(-1),
        Retry::After(Some(wait)) => Some(i64::try_from(wait.as_secs()).unwrap_or(i64::MAX)),
        Retry::Exhausted => Some(-2),
    }
}

/// As [`retry_in`] stored it.
pub(super) fn retry_out(retry: Option<i64>) -> Retry {
    match retry {
        None => Retry::No,
        Some(-2) => Retry::Exhausted,
        Some(wait) => Retry::After(u64::try_from(wait).ok().map(Duration::from_secs)),
    }
}
