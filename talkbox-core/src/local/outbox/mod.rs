//! The outbox: what is to be sent, durable before `send` returns, and what the holders said of it.
//!
//! An entry is *open* until it was delivered, wedged or cancelled. An open entry is *due* when its next try has come
//! and nobody holds a lease on it; to [`claim`](Store::claim) it is to take the lease.

mod claim;
mod entry;
mod settle;
mod state;

use rusqlite::params;
use zeroize::Zeroizing;

use self::entry::{COLUMNS, read};
pub use self::{
    entry::{OutboxEntry, OutboxId, OutboxKey, OutboxPage, OutboxQuery},
    settle::Attempt,
    state::OutboxState,
};
use super::{
    Access, Damaged, Lookup, Store, codec,
    columns::{time_in, time_out},
    known::sum_of,
    messages::prefix_range,
};
use crate::{Envelope, Error, ErrorKind, Locator, MailboxId, Message, Result, SecretKey, Timestamp, sqlite::Sql};

/// Most entries of one page or claim.
const MAX_PAGE: u32 = 256;
/// Most places that an entry is sent to: those of a record, and as many of one's own.
const MAX_LOCATORS: usize = 32;
/// Most candidates that an ambiguous prefix names.
const MAX_CANDIDATES: u32 = 8;

/// Something to be sent.
#[derive(Clone, Debug)]
pub struct NewOutbox {
    /// Its name, new for each: [`OutboxId::generate`].
    pub id: OutboxId,
    /// The mailbox that the envelope is addressed to.
    pub recipient: MailboxId,
    /// The message inside.
    pub message: Message,
    /// The envelope.
    pub envelope: Envelope,
    /// The one-time key that signed the envelope.
    pub wrap_key: SecretKey,
    /// The signed and encrypted seal, to wrap it again.
    pub seal: String,
    /// Where to put it, in order of preference.
    pub locators: Vec<Locator>,
    /// How many distinct holders make it count as stored.
    pub min_acks: u32,
    /// For the sender's own copy: the entry that it is a copy of.
    pub copy_of: Option<OutboxId>,
}

impl Store {
    /// Puts something into the outbox, to be sent at once. It is on the disk when this returns.
    ///
    /// # Errors
    /// `InvalidInput` where the envelope is for another mailbox, there are no places or too many, or no acks are
    /// asked for; `Storage`.
    pub async fn enqueue(&self, new: NewOutbox) -> Result<OutboxId> {
        let id = new.id;
        self.enqueue_all(vec![new]).await.map(|()| id)
    }

    /// As [`enqueue`](Self::enqueue), for things that belong together, such as the sender's copy: all of them or none.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue), and `InvalidInput` for more than 256.
    pub async fn enqueue_all(&self, new: Vec<NewOutbox>) -> Result<()> {
        NewOutbox::check_all(&new)?;
        self.write("enqueue", move |access| NewOutbox::insert_all(access, &new)).await
    }

    /// Entries, the newest first.
    ///
    /// # Errors
    /// `Storage`. A row that is damaged is reported in the page.
    pub async fn outbox(&self, query: OutboxQuery) -> Result<OutboxPage> {
        self.read("read the outbox", move |access| page(access, &query)).await
    }

    /// One entry.
    ///
    /// # Errors
    /// `Storage` where its row is damaged.
    pub async fn outbox_entry(&self, id: OutboxId) -> Result<Option<OutboxEntry>> {
        self.read("read the outbox", move |access| {
            let mut select = access.db.prepare_cached(&format!("SELECT {COLUMNS} FROM outbox WHERE id = ?1"))?;
            let mut rows = select.query([id.as_bytes()])?;
            Ok(rows.next()?.map(|row| read(access, row)).transpose()?)
        })
        .await
    }

    /// The entry or draft whose id, or whose message's id, begins with these hexadecimal digits, at least four of them.
    ///
    /// # Errors
    /// `InvalidInput` for fewer digits, or for others; `Storage`.
    pub async fn find_outbox(&self, prefix: &str) -> Result<Lookup<OutboxId>> {
        let (low, high) = prefix_range(prefix)?;
        // An entry's id is shorter than a message's; more digits than it has find nothing.
        let own = (prefix.len() <= 32).then(|| (low[..16].to_vec(), high[..16].to_vec()));
        let (own_low, own_high) = own.unwrap_or_default();
        self.read("find the entry", move |access| {
            let mut select = access.db.prepare_cached(
                "SELECT id FROM outbox WHERE id BETWEEN ?1 AND ?2 OR message BETWEEN ?3 AND ?4
                 UNION ALL SELECT id FROM drafts WHERE id BETWEEN ?1 AND ?2 LIMIT ?5",
            )?;
            let found = select.query_map(params![own_low, own_high, low, high, MAX_CANDIDATES], |row| row.get(0))?;
            let found: Vec<_> = found.map(|id| Ok(OutboxId::from_bytes(id?))).collect::<Sql<_>>()?;
            Ok(Lookup::of(found))
        })
        .await
    }

    /// When the next entry is due, or the next draft of a throw-away key; `None` where nothing waits. A lease that runs
    /// out makes its entry due.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn next_due(&self) -> Result<Option<Timestamp>> {
        self.read("next due", |access| {
            let mut select = access.db.prepare_cached(
                "SELECT min(due) FROM (
                     SELECT min(max(next_try, coalesce(lease, 0))) AS due FROM outbox
                     WHERE state = 0 AND next_try IS NOT NULL
                     UNION ALL SELECT min(next_try) FROM drafts WHERE next_try IS NOT NULL AND sender IS NULL)",
            )?;
            Ok(select.query_row([], |row| row.get::<_, Option<i64>>(0))?.map(time_out))
        })
        .await
    }
}

impl NewOutbox {
    pub(super) fn check_all(all: &[Self]) -> Result<()> {
        if all.len() > MAX_PAGE as usize {
            return Err(Error::new(ErrorKind::InvalidInput, "too many at once").with("given", all.len()).op("enqueue"));
        }
        all.iter().try_for_each(check).map_err(|error| error.op("enqueue"))
    }

    pub(super) fn insert_all(access: &Access<'_>, all: &[Self]) -> Sql<()> {
        all.iter().try_for_each(|new| insert(access, new))
    }
}

fn check(new: &NewOutbox) -> Result<()> {
    let wrong = |why: &'static str| Err(Error::new(ErrorKind::InvalidInput, why));
    if new.envelope.mailbox() != new.recipient {
        return wrong("the envelope is addressed to another mailbox");
    }
    if new.envelope.author() != new.wrap_key.public() {
        return wrong("the envelope was signed by another key");
    }
    if new.locators.is_empty() || new.locators.len() > MAX_LOCATORS {
        return wrong("an entry names 1 to 32 places");
    }
    if new.min_acks == 0 {
        return wrong("at least one holder has to confirm");
    }
    Ok(())
}

fn insert(access: &Access<'_>, new: &NewOutbox) -> Sql<()> {
    let sealed = access.rest.seal("outbox", new.id.as_bytes(), &draft(&new.message, &new.seal))?;
    let mut insert = access.db.prepare_cached(
        "INSERT INTO outbox (id, recipient, message, copy_of, created_at, until, envelope, json, sum, locators,
             min_acks, next_try, sealed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?5, ?12)",
    )?;
    let locators: Vec<&str> = new.locators.iter().map(Locator::as_str).collect();
    insert.execute(params![
        new.id.as_bytes(),
        new.recipient.as_bytes(),
        new.message.id.as_bytes(),
        new.copy_of.as_ref().map(OutboxId::as_bytes),
        time_in(access.now),
        time_in(new.envelope.expires_at()),
        new.envelope.id().as_bytes(),
        new.envelope.json(),
        sum_of(new.envelope.json()),
        // Locators hold no white space.
        locators.join(" "),
        new.min_acks,
        sealed,
    ])?;
    keep_key(access, new.id, &new.envelope, &new.wrap_key)
}

/// Keeps the one-time key of an envelope.
fn keep_key(access: &Access<'_>, id: OutboxId, envelope: &Envelope, key: &SecretKey) -> Sql<()> {
    let sealed = access.rest.seal("wrap_keys", envelope.id().as_bytes(), &*key.to_bytes())?;
    let mut insert =
        access.db.prepare_cached("INSERT OR REPLACE INTO wrap_keys (envelope, outbox, sealed) VALUES (?1, ?2, ?3)")?;
    insert.execute(params![envelope.id().as_bytes(), id.as_bytes(), sealed])?;
    Ok(())
}

/// What is sealed of an entry: the message with its length before it, then the seal, which names the sender.
fn draft(message: &Message, seal: &str) -> Zeroizing<Vec<u8>> {
    let message = codec::encode(message);
    let mut bytes = Zeroizing::new(Vec::with_capacity(4 + message.len() + seal.len()));
    // A message fits an envelope, which has at most 64 KiB.
    bytes.extend_from_slice(&(message.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&message);
    bytes.extend_from_slice(seal.as_bytes());
    bytes
}

fn page(access: &Access<'_>, query: &OutboxQuery) -> Sql<OutboxPage> {
    let limit = if query.limit == 0 { MAX_PAGE } else { query.limit.min(MAX_PAGE) };
    let mut select = access.db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM outbox WHERE seq < ?1 AND (?2 IS NULL OR message = ?2) AND (?3 IS NULL OR recipient = ?3)
             AND (NOT ?4 OR state = 0 AND acks < min_acks) AND (NOT ?5 OR copy_of IS NULL)
         ORDER BY seq DESC LIMIT ?6"
    ))?;
    let mut rows = select.query(params![
        query.after.map_or(i64::MAX, |key| key.0),
        query.message.as_ref().map(crate::MessageId::as_bytes),
        query.recipient.as_ref().map(MailboxId::as_bytes),
        query.unsettled,
        query.originals,
        limit,
    ])?;
    let mut page = OutboxPage::default();
    let mut count = 0;
    let mut last = None;
    while let Some(row) = rows.next()? {
        count += 1;
        last = Some(OutboxKey(row.get("seq")?));
        match read(access, row) {
            Ok(entry) => page.items.push(entry),
            Err(error) => {
                page.damaged.push(Damaged { id: OutboxId::from_bytes(row.get("id").unwrap_or_default()), error });
            }
        }
    }
    page.next = last.filter(|_| count == limit);
    Ok(page)
}
