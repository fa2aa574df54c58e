//! Sweeping out what has had its time, and looking for what has rotted.

use rusqlite::{params, params_from_iter};

use super::{
    Access, Store,
    columns::{owner_of, time_in},
    messages::{Kinds, MessageKey, MessageQuery},
};
use crate::{
    EnvelopeId, MailboxId, MessageId, Result,
    sqlite::{Sql, quick_check},
};

/// Most rows that one transaction sweeps, so that nobody waits long for the writer.
const MAX_ROWS: i64 = 1_000;
/// How long a wrap key is kept once enough holders have the envelope, in seconds.
const WRAP_KEY: u64 = 7 * 86_400;
/// How long a key is remembered not to be that of a code, in seconds.
const FAILED_CANDIDATE: u64 = 90 * 86_400;
/// Most rejected envelopes that are remembered for a mailbox: 20 MB of them. Past that the oldest are forgotten, and
/// fetched and rejected again, so that a flood costs time and not the disk.
const MAX_REJECTED: i64 = 100_000;

/// The setting that says when all of it was swept last.
const SWEPT_AT: &str = "swept_at";
const DAY: u64 = 86_400;

/// What was swept out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Bodies of expired envelopes, and what was known of those that hold no message.
    pub envelopes: usize,
    /// Tombstones that nothing can come back from.
    pub tombstones: usize,
    /// Requests to delete, all of whose envelopes have expired.
    pub deletions: usize,
    /// Wrap keys.
    pub wrap_keys: usize,
    /// Entries of the outbox that nobody holds any more.
    pub outbox: usize,
    /// Keys that were remembered not to be those of a code.
    pub candidates: usize,
}

/// What has rotted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Envelopes whose bytes are not what they were.
    pub envelopes: Vec<EnvelopeId>,
    /// Messages that can no longer be read.
    pub messages: Vec<MessageId>,
}

impl Store {
    /// Drops what has had its time: bodies of expired envelopes, ids that no holder may serve any more, tombstones,
    /// wrap keys 7 days after their entry was stored, entries that nobody holds. Opened messages stay until their
    /// owner deletes them.
    ///
    /// # Errors
    /// `Storage`. What was swept before it stays swept.
    pub async fn sweep(&self) -> Result<Swept> {
        let mut swept = Swept::default();
        for (sql, count) in STEPS {
            loop {
                let rows = self.write("sweep", move |access| step(access, sql)).await?;
                *count(&mut swept) += rows;
                if rows < MAX_ROWS as usize {
                    break;
                }
            }
        }
        Ok(swept)
    }

    /// [`sweep`](Self::sweep), where the last one was a day ago or more; `None` where it was not.
    ///
    /// # Errors
    /// As [`sweep`](Self::sweep).
    pub async fn sweep_daily(&self) -> Result<Option<Swept>> {
        let now = self.0.schema().clock.now();
        let last = self.setting(SWEPT_AT).await?.and_then(|last| String::from_utf8(last).ok()?.parse().ok());
        // A time to come is of a clock that was set back.
        if last.is_some_and(|last: u64| (last..last.saturating_add(DAY)).contains(&now.secs())) {
            return Ok(None);
        }
        // Said before it is done, so that of several processes one does it.
        self.set_setting(SWEPT_AT, Some(now.to_string().as_bytes())).await?;
        self.sweep().await.map(Some)
    }

    /// Reads everything of a mailbox once and says what has rotted; SQLite itself would not notice.
    ///
    /// # Errors
    /// `Storage` where the structure of the file is damaged.
    pub async fn check(&self, owner: MailboxId) -> Result<Damage> {
        self.read("check", |access| quick_check(access.db)).await?;
        let mut damage = Damage::default();
        let mut after = 0;
        loop {
            let page = self.envelopes(owner, after, 0).await?;
            damage.envelopes.extend(page.damaged.into_iter().map(|row| row.id));
            let Some(next) = page.next else { break };
            after = next;
        }
        let mut after: Option<MessageKey> = None;
        loop {
            let page = self.messages(owner, MessageQuery::oldest().kinds(Kinds::ALL).after(after)).await?;
            damage.messages.extend(page.damaged.into_iter().map(|row| row.id));
            after = page.next;
            if after.is_none() {
                return Ok(damage);
            }
        }
    }

    /// Forgets what has rotted and every cursor of the mailbox, so that it is fetched again from whoever holds it.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn forget(&self, owner: MailboxId, damage: Damage) -> Result<()> {
        self.write("forget", move |access| {
            let Some(owner) = owner_of(access.db, owner)? else { return Ok(()) };
            let db = access.db;
            for id in damage.messages {
                let params = params![owner, id.as_bytes()];
                db.execute("DELETE FROM messages WHERE owner = ?1 AND id = ?2", params)?;
                db.execute("DELETE FROM envelopes WHERE owner = ?1 AND message = ?2 AND state = 0", params)?;
            }
            for id in damage.envelopes {
                db.execute("DELETE FROM envelopes WHERE owner = ?1 AND id = ?2", params![owner, id.as_bytes()])?;
            }
            db.execute("DELETE FROM cursors WHERE owner = ?1", [owner])?;
            Ok(())
        })
        .await
    }
}

fn step(access: &Access<'_>, sql: &str) -> Sql<usize> {
    let ago = |secs| time_in(access.now.minus(secs));
    let now = time_in(access.now);
    let mut statement = access.db.prepare_cached(sql)?;
    let values = [now, ago(WRAP_KEY), ago(FAILED_CANDIDATE), MAX_ROWS, MAX_REJECTED];
    // A statement has the parameters up to the last that it names.
    let wanted = statement.parameter_count();
    Ok(statement.execute(params_from_iter(values.iter().take(wanted)))?)
}

/// Which number of [`Swept`] a step adds to.
type Count = fn(&mut Swept) -> &mut usize;

/// Each takes the time, the time 7 days ago, that of 90 days ago, how many rows, and how many rejected ids stay.
const STEPS: [(&str, Count); 8] = [
    (
        "DELETE FROM envelopes WHERE seq IN (SELECT seq FROM envelopes WHERE until <= ?1 AND state <> 0 LIMIT ?4)",
        |swept| &mut swept.envelopes,
    ),
    // The id of an opened one stays with its message, so that its holders can still be asked to delete it.
    (
        "UPDATE envelopes SET json = NULL, sum = NULL WHERE seq IN (
             SELECT seq FROM envelopes WHERE until <= ?1 AND json IS NOT NULL LIMIT ?4)",
        |swept| &mut swept.envelopes,
    ),
    (
        "DELETE FROM envelopes WHERE seq IN (
             SELECT seq FROM (SELECT seq, row_number() OVER (PARTITION BY owner ORDER BY seq DESC) AS place
                              FROM envelopes WHERE state = 2) WHERE place > ?5 LIMIT ?4)",
        |swept| &mut swept.envelopes,
    ),
    (
        "DELETE FROM tombstones WHERE (owner, message) IN (
             SELECT owner, message FROM tombstones WHERE until <= ?1 LIMIT ?4)",
        |swept| &mut swept.tombstones,
    ),
    (
        "DELETE FROM deletions WHERE id IN (
             SELECT id FROM deletions WHERE NOT EXISTS (SELECT 1 FROM envelopes WHERE request = deletions.id)
             AND made_at <= ?2 LIMIT ?4)",
        |swept| &mut swept.deletions,
    ),
    (
        "DELETE FROM wrap_keys WHERE envelope IN (
             SELECT wrap_keys.envelope FROM wrap_keys JOIN outbox ON outbox.id = wrap_keys.outbox
             WHERE stored_at <= ?2 OR (state = 3 AND ended_at <= ?2) LIMIT ?4)",
        |swept| &mut swept.wrap_keys,
    ),
    (
        "DELETE FROM outbox WHERE seq IN (
             SELECT seq FROM outbox WHERE until <= ?1 AND (state IN (1, 3) OR state = 0 AND acks >= min_acks) LIMIT ?4)",
        |swept| &mut swept.outbox,
    ),
    (
        "DELETE FROM failed_candidates WHERE (code, key) IN (
             SELECT code, key FROM failed_candidates WHERE failed_at <= ?3 LIMIT ?4)",
        |swept| &mut swept.candidates,
    ),
];
