//! The inbox: opened messages, in the order of their time.

mod page;
mod query;

use rusqlite::{OptionalExtension as _, Row, params};

use self::page::page;
pub use self::query::{Kinds, MessageKey, MessagePage, MessageQuery, Order, Way};
use super::{
    Access, Store, codec,
    columns::{owner_in, owner_of, time_in, time_out},
    ingest::row_id_of,
    known::{MAX_IDS, too_many},
};
use crate::{
    EnvelopeId, Error, ErrorKind, MailboxId, Message, MessageId, Result, Timestamp, hex,
    sqlite::{Sql, damaged},
};

/// Fewest digits of a prefix that a message is looked up by. Fewer would soon mean several.
const MIN_PREFIX: usize = 4;
/// Most candidates that an ambiguous prefix names: enough to see what is meant.
const MAX_CANDIDATES: u32 = 8;

/// A message, and what its owner's store knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// The message.
    pub message: Message,
    /// When it first arrived here.
    pub first_seen: Timestamp,
    /// When its owner read it.
    pub read_at: Option<Timestamp>,
    /// The work that its envelope shows (NIP-13), in bits; of several envelopes the most.
    pub work: u8,
    /// Whether that is less than the mailbox asks for: see [`Store::set_work_floor`].
    pub requests: bool,
}

impl StoredMessage {
    /// The time to sort by: the sender's, but not later than when it was first seen.
    pub fn sort_time(&self) -> Timestamp {
        self.message.sort_time(self.first_seen)
    }

    /// The same in milliseconds.
    pub(crate) fn sort_millis(&self) -> u64 {
        self.message.sort_millis(self.first_seen)
    }
}

/// A row that cannot be read. It hides no other.
#[derive(Debug)]
pub struct Damaged<I> {
    /// Which.
    pub id: I,
    /// What is wrong, of kind `Storage`.
    pub error: Error,
}

/// What a prefix of an id means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup<I> {
    /// Exactly one.
    Found(I),
    /// None.
    Missing,
    /// Several: at most eight of them, in order.
    Ambiguous(Vec<I>),
}

/// How many messages a mailbox has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounts {
    /// Of every kind.
    pub total: u64,
    /// For people, and not read.
    pub unread: u64,
    /// For people, not read, and below the work floor.
    pub requests: u64,
}

impl Store {
    /// A page of messages.
    ///
    /// # Errors
    /// `Storage` where the store fails. A row that is damaged is reported in the page.
    pub async fn messages(&self, owner: MailboxId, query: MessageQuery) -> Result<MessagePage> {
        self.read("read the messages", move |access| match owner_of(access.db, owner)? {
            Some(number) => page(access, owner, number, &query),
            None => Ok(MessagePage::default()),
        })
        .await
    }

    /// One message.
    ///
    /// # Errors
    /// `Storage` where its row is damaged.
    pub async fn message(&self, owner: MailboxId, id: MessageId) -> Result<Option<StoredMessage>> {
        self.read("read the message", move |access| {
            let mut select = access.db.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM messages JOIN mailboxes USING (owner) WHERE mailbox = ?1 AND id = ?2"
            ))?;
            let mut rows = select.query(params![owner.as_bytes(), id.as_bytes()])?;
            Ok(rows.next()?.map(|row| read(access, owner, row)).transpose()?)
        })
        .await
    }

    /// The message whose id begins with these hexadecimal digits, at least four of them.
    ///
    /// # Errors
    /// `InvalidInput` for fewer digits, or for others; `Storage`.
    pub async fn find_message(&self, owner: MailboxId, prefix: &str) -> Result<Lookup<MessageId>> {
        let (low, high) = prefix_range(prefix)?;
        self.read("find the message", move |access| {
            let owner = owner_of(access.db, owner)?;
            let mut select = access.db.prepare_cached(
                "SELECT id FROM messages WHERE owner = ?1 AND id BETWEEN ?2 AND ?3 ORDER BY id LIMIT ?4",
            )?;
            let found = select.query_map(params![owner, low, high, MAX_CANDIDATES], |row| row.get(0))?;
            let found: Vec<_> = found.map(|id| Ok(MessageId::from_bytes(id?))).collect::<Sql<_>>()?;
            Ok(Lookup::of(found))
        })
        .await
    }

    /// Marks messages as read now, and says how many were not before.
    ///
    /// # Errors
    /// `InvalidInput` for more than 10,000; `Storage`.
    pub async fn mark_read(&self, owner: MailboxId, ids: &[MessageId]) -> Result<usize> {
        self.mark(owner, ids, "UPDATE messages SET read_at = ?3 WHERE owner = ?1 AND id = ?2 AND read_at IS NULL").await
    }

    /// Marks messages as not read, and says how many were before.
    ///
    /// # Errors
    /// As [`mark_read`](Self::mark_read).
    pub async fn mark_unread(&self, owner: MailboxId, ids: &[MessageId]) -> Result<usize> {
        self.mark(
            owner,
            ids,
            "UPDATE messages SET read_at = NULL WHERE owner = ?1 AND id = ?2 AND read_at IS NOT NULL AND ?3 NOT NULL",
        )
        .await
    }

    async fn mark(&self, owner: MailboxId, ids: &[MessageId], sql: &'static str) -> Result<usize> {
        if ids.len() > MAX_IDS {
            return Err(too_many(ids.len()).op("mark"));
        }
        let ids = ids.to_vec();
        self.write("mark", move |access| {
            let owner = owner_of(access.db, owner)?;
            let mut update = access.db.prepare_cached(sql)?;
            let mut changed = 0;
            for id in ids {
                changed += update.execute(params![owner, id.as_bytes(), time_in(access.now)])?;
            }
            Ok(changed)
        })
        .await
    }

    /// How many messages there are; the owner's own copies do not count.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn count(&self, owner: MailboxId) -> Result<MessageCounts> {
        self.read("count the messages", move |access| {
            let Some(owner) = owner_of(access.db, owner)? else { return Ok(MessageCounts::default()) };
            let mut total = access.db.prepare_cached("SELECT count(*) FROM messages WHERE owner = ?1 AND NOT sent")?;
            let mut unread = access.db.prepare_cached(
                "SELECT count(*), count(*) FILTER (WHERE work < work_floor)
                 FROM messages JOIN mailboxes USING (owner) WHERE owner = ?1 AND read_at IS NULL AND kind <> 1789",
            )?;
            let count = |row: &Row<'_>, at| row.get::<_, i64>(at).map(i64::unsigned_abs);
            let total = total.query_row([owner], |row| count(row, 0))?;
            let (unread, requests) = unread.query_row([owner], |row| Ok((count(row, 0)?, count(row, 1)?)))?;
            Ok(MessageCounts { total, unread, requests })
        })
        .await
    }

    /// Sets the work, in bits, below which mail counts as a request: what the owner's record asks for. 0 at first.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn set_work_floor(&self, owner: MailboxId, bits: u8) -> Result<()> {
        let known = self.read("work floor", move |access| {
            let mut select = access.db.prepare_cached("SELECT work_floor FROM mailboxes WHERE mailbox = ?1")?;
            Ok(select.query_row([owner.as_bytes()], |row| row.get::<_, u8>(0)).optional()?)
        });
        // Said with every command, and changed once in a year.
        if known.await?.unwrap_or(0) == bits {
            return Ok(());
        }
        self.write("work floor", move |access| {
            let owner = owner_in(access.db, owner)?;
            access.db.execute("UPDATE mailboxes SET work_floor = ?2 WHERE owner = ?1", params![owner, bits])?;
            Ok(())
        })
        .await
    }

    /// The envelopes that brought a message, as far as they are known.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn envelopes_of(&self, owner: MailboxId, message: MessageId) -> Result<Vec<EnvelopeId>> {
        self.read("envelopes of the message", move |access| {
            let owner = owner_of(access.db, owner)?;
            let mut select = access.db.prepare_cached(
                "SELECT id FROM envelopes WHERE owner = ?1 AND message = ?2 AND message IS NOT NULL ORDER BY id",
            )?;
            let ids = select.query_map(params![owner, message.as_bytes()], |row| row.get(0))?;
            ids.map(|id| Ok(EnvelopeId::from_bytes(id?))).collect()
        })
        .await
    }

    /// When a mailbox was last seen to receive something; `None` for one that never did.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn last_arrival(&self, owner: MailboxId) -> Result<Option<Timestamp>> {
        self.read("last arrival", move |access| {
            let owner = owner_of(access.db, owner)?;
            let mut select = access
                .db
                .prepare_cached("SELECT first_seen FROM messages WHERE owner = ?1 ORDER BY seq DESC LIMIT 1")?;
            Ok(select.query_row([owner], |row| row.get(0).map(time_out)).optional()?)
        })
        .await
    }
}

impl<I> Lookup<I> {
    /// What these candidates mean.
    pub(super) fn of(mut found: Vec<I>) -> Self {
        match found.len() {
            0 => Self::Missing,
            1 => found.pop().map_or(Self::Missing, Self::Found),
            _ => Self::Ambiguous(found),
        }
    }
}

/// What [`read`] wants of a row.
const COLUMNS: &str = "id, envelope, sealed, first_seen, read_at, work, work < work_floor";

/// A message out of its row.
fn read(access: &Access<'_>, owner: MailboxId, row: &Row<'_>) -> Result<StoredMessage> {
    let id = row.get(0).map_err(|_| damaged("messages"))?;
    open(access, owner, MessageId::from_bytes(id), row)
        .map_err(|_| damaged("messages").with("message", MessageId::from_bytes(id)))
}

fn open(access: &Access<'_>, owner: MailboxId, id: MessageId, row: &Row<'_>) -> Sql<StoredMessage> {
    let envelope = EnvelopeId::from_bytes(row.get(1)?);
    let sealed = row.get_ref(2)?.as_blob().map_err(|_| damaged("messages"))?;
    let plain = access.rest.open("messages", &row_id_of(owner, id.as_bytes()), sealed)?;
    Ok(StoredMessage {
        message: codec::decode(id, envelope, &plain).ok_or_else(|| damaged("messages"))?,
        first_seen: time_out(row.get(3)?),
        read_at: row.get::<_, Option<i64>>(4)?.map(time_out),
        work: row.get(5)?,
        requests: row.get(6)?,
    })
}

/// The least and the greatest id that begin with these digits.
pub(super) fn prefix_range(prefix: &str) -> Result<([u8; 32], [u8; 32])> {
    let invalid = || Error::new(ErrorKind::InvalidInput, "an id is looked up by 4 to 64 of its hexadecimal digits");
    if !(MIN_PREFIX..=64).contains(&prefix.len()) || !prefix.is_ascii() {
        return Err(invalid());
    }
    let low = hex::decode32(&format!("{prefix:0<64}")).ok_or_else(invalid)?;
    let high = hex::decode32(&format!("{prefix:f<64}")).ok_or_else(invalid)?;
    Ok((low, high))
}
