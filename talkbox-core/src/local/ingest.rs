//! What a holder gave, committed as one: envelopes, messages, who holds what, and the cursor that covers it.

use rusqlite::{OptionalExtension as _, params};

use super::{
    Access, Store, codec,
    columns::{holder_in, millis_in, owner_in, time_in},
    deletions::TOMBSTONE,
    holdings,
    known::{DELETED, MAX_IDS, OPENED, REJECTED, UNREADABLE, sum_of, too_many},
    messages::StoredMessage,
};
use crate::{
    Cursor, Envelope, EnvelopeId, Error, ErrorKind, Locator, MailboxId, Message, Result, Timestamp,
    envelope::MAX_FUTURE, sqlite::Sql,
};

/// What one holder gave for one mailbox.
#[derive(Clone, Debug)]
pub struct Ingest {
    /// The mailbox.
    pub owner: MailboxId,
    /// The holder.
    pub holder: Locator,
    /// Envelopes that were not known, each with what came of opening it.
    pub opened: Vec<(Envelope, Opened)>,
    /// Envelopes that were not taken. They are remembered, so that they are not fetched again.
    pub rejected: Vec<Rejected>,
    /// Envelopes that were known before, and that the holder still has.
    pub seen: Vec<EnvelopeId>,
    /// Where a listing goes on once this is stored.
    pub cursor: Option<Cursor>,
    /// Takes envelopes that have expired, too: for importing what one exported oneself.
    pub keep_expired: bool,
}

impl Ingest {
    /// Nothing yet.
    pub const fn new(owner: MailboxId, holder: Locator) -> Self {
        Self {
            owner,
            holder,
            opened: Vec::new(),
            rejected: Vec::new(),
            seen: Vec::new(),
            cursor: None,
            keep_expired: false,
        }
    }
}

/// What came of opening an envelope.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every envelope holds a message: a box would be one more allocation"
)]
#[derive(Clone, Debug)]
pub enum Opened {
    /// A message.
    Message(Message),
    /// Its signature holds, and it cannot be opened: by this version, or at all. Its body is kept.
    Unreadable(ErrorKind),
}

/// An envelope that was not taken.
///
/// Only one whose signature was checked may be named here. A holder that sends garbage under the id of a good
/// envelope would otherwise keep that one away for ever.
#[derive(Clone, Copy, Debug)]
pub struct Rejected {
    /// Its id.
    pub id: EnvelopeId,
    /// The time that it claims.
    pub created_at: Timestamp,
    /// Until when it is remembered: its expiry.
    pub until: Timestamp,
    /// Why.
    pub kind: ErrorKind,
}

/// What came of an [`Ingest`].
#[derive(Clone, Debug, Default)]
pub struct Ingested {
    /// The messages that were not there before, in the order of the batch.
    pub new: Vec<StoredMessage>,
    /// Envelopes that brought nothing new: known ones, and further ones of known messages.
    pub duplicates: u32,
    /// Envelopes of messages that the owner had deleted. They stay away.
    pub deleted: u32,
    /// Envelopes that had expired. They were not taken.
    pub expired: u32,
    /// Envelopes dated further ahead than anybody's clock may be. They were not taken, and are when their time has come.
    pub ahead: u32,
}

impl Store {
    /// Stores what a holder gave, in one transaction. The same batch may come again, in any order and in any parts.
    ///
    /// # Errors
    /// `InvalidInput` for more than 10,000 items or an envelope of another mailbox; `Storage`. Then nothing was kept.
    pub async fn ingest(&self, batch: Ingest) -> Result<Ingested> {
        check(&batch).map_err(|error| error.op("ingest"))?;
        self.write("ingest", move |access| ingest(access, batch)).await
    }
}

fn check(batch: &Ingest) -> Result<()> {
    let items = batch.opened.len() + batch.rejected.len() + batch.seen.len();
    if items > MAX_IDS {
        return Err(too_many(items));
    }
    for (envelope, opened) in &batch.opened {
        if envelope.mailbox() != batch.owner {
            return Err(Error::new(ErrorKind::InvalidInput, "the envelope is addressed to another mailbox"));
        }
        if matches!(opened, Opened::Message(message) if message.envelope != envelope.id()) {
            return Err(Error::new(ErrorKind::InvalidInput, "the message came in another envelope"));
        }
    }
    Ok(())
}

fn ingest(access: &Access<'_>, batch: Ingest) -> Sql<Ingested> {
    let mailbox = Mailbox::open(access, batch.owner)?;
    let holder = holder_in(access.db, &batch.holder)?;
    let mut done = Ingested::default();
    for (envelope, opened) in batch.opened {
        if envelope.is_expired(access.now) && !batch.keep_expired {
            done.expired += 1;
            continue;
        }
        // Good holders refuse these; others must not be a way around the longest time that anything is kept for.
        if envelope.created_at() > access.now.plus(MAX_FUTURE) && !batch.keep_expired {
            done.ahead += 1;
            continue;
        }
        let seq = mailbox.take(&envelope, opened, &mut done)?;
        holdings::saw(access, seq, holder, None)?;
    }
    for rejected in batch.rejected {
        let seq = mailbox.reject(&rejected)?;
        holdings::saw(access, seq, holder, None)?;
    }
    for id in batch.seen {
        if let Some((seq, _)) = mailbox.envelope(id)? {
            holdings::saw(access, seq, holder, None)?;
        }
    }
    if let Some(cursor) = batch.cursor {
        super::cursors::set(access, mailbox.owner, holder, &cursor)?;
    }
    Ok(done)
}

/// One mailbox inside of a transaction.
struct Mailbox<'a> {
    access: &'a Access<'a>,
    id: MailboxId,
    owner: i64,
    work_floor: i64,
}

impl<'a> Mailbox<'a> {
    fn open(access: &'a Access<'a>, id: MailboxId) -> Sql<Self> {
        let owner = owner_in(access.db, id)?;
        let mut select = access.db.prepare_cached("SELECT work_floor FROM mailboxes WHERE owner = ?1")?;
        let work_floor = select.query_row([owner], |row| row.get(0))?;
        Ok(Self { access, id, owner, work_floor })
    }

    /// Where an envelope is, and in which state.
    fn envelope(&self, id: EnvelopeId) -> Sql<Option<(i64, i64)>> {
        let mut select =
            self.access.db.prepare_cached("SELECT seq, state FROM envelopes WHERE owner = ?1 AND id = ?2")?;
        Ok(select.query_row(params![self.owner, id.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
    }

    /// Takes an envelope over, and says where it is. What can be shown wins over what cannot, and what was deleted
    /// over everything, so that the order of arrival does not matter.
    fn take(&self, envelope: &Envelope, opened: Opened, done: &mut Ingested) -> Sql<i64> {
        let before = self.envelope(envelope.id())?;
        if let Some((seq, DELETED)) = before {
            done.deleted += 1;
            return Ok(seq);
        }
        let message = match opened {
            Opened::Message(message) => message,
            Opened::Unreadable(kind) => {
                if let Some((seq, OPENED | UNREADABLE)) = before {
                    done.duplicates += 1;
                    return Ok(seq);
                }
                return self.put(envelope, UNREADABLE, Some(kind), None);
            }
        };
        if let Some((seq, OPENED)) = before {
            done.duplicates += 1;
            return Ok(seq);
        }
        if self.is_deleted(&message)? {
            done.deleted += 1;
            return self.put(envelope, DELETED, None, Some(&message));
        }
        let seq = self.put(envelope, OPENED, None, Some(&message))?;
        match self.add(envelope, message)? {
            Some(message) => done.new.push(message),
            None => done.duplicates += 1,
        }
        Ok(seq)
    }

    fn is_deleted(&self, message: &Message) -> Sql<bool> {
        let mut select = self.access.db.prepare_cached("SELECT 1 FROM tombstones WHERE owner = ?1 AND message = ?2")?;
        Ok(select.exists(params![self.owner, message.id.as_bytes()])?)
    }

    fn put(&self, envelope: &Envelope, state: i64, problem: Option<ErrorKind>, of: Option<&Message>) -> Sql<i64> {
        let mut upsert = self.access.db.prepare_cached(
            "INSERT INTO envelopes (owner, id, created_at, until, first_seen, state, problem, message, json, sum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (owner, id) DO UPDATE SET
                 until = excluded.until, state = excluded.state, problem = excluded.problem,
                 message = excluded.message, json = excluded.json, sum = excluded.sum
             RETURNING seq",
        )?;
        Ok(upsert.query_row(
            params![
                self.owner,
                envelope.id().as_bytes(),
                time_in(envelope.created_at()),
                time_in(envelope.expires_at()),
                time_in(self.access.now),
                state,
                problem.map(ErrorKind::as_str),
                of.map(|message| message.id.as_bytes()),
                (state != DELETED).then(|| envelope.json()),
                (state != DELETED).then(|| sum_of(envelope.json())),
            ],
            |row| row.get(0),
        )?)
    }

    /// Adds a message; `None` where it came in another envelope before. Then the row names the lesser of the two
    /// envelopes and the greater work, so that the order of arrival does not matter.
    fn add(&self, envelope: &Envelope, message: Message) -> Sql<Option<StoredMessage>> {
        let Access { db, rest, now, .. } = self.access;
        let mut known = db.prepare_cached(
            "UPDATE messages SET envelope = min(envelope, ?3), work = max(work, ?4) WHERE owner = ?1 AND id = ?2",
        )?;
        let work = i64::from(envelope.work());
        if known.execute(params![self.owner, message.id.as_bytes(), envelope.id().as_bytes(), work])? > 0 {
            return Ok(None);
        }
        let sealed = rest.seal("messages", &row_id(self.id, &message), &codec::encode(&message))?;
        let sent = message.is_copy_of(self.id);
        let read_at = sent.then_some(*now);
        let mut insert = db.prepare_cached(
            "INSERT INTO messages (owner, id, envelope, sort_time, first_seen, kind, work, sealed, sent, read_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        insert.execute(params![
            self.owner,
            message.id.as_bytes(),
            envelope.id().as_bytes(),
            millis_in(message.sort_millis(*now)),
            time_in(*now),
            codec::kind_number(message.kind),
            work,
            sealed,
            sent,
            read_at.map(time_in),
        ])?;
        Ok(Some(StoredMessage {
            requests: work < self.work_floor,
            work: envelope.work(),
            first_seen: *now,
            read_at,
            message,
        }))
    }

    fn reject(&self, rejected: &Rejected) -> Sql<i64> {
        let mut insert = self.access.db.prepare_cached(
            "INSERT INTO envelopes (owner, id, created_at, until, first_seen, state, problem)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (owner, id) DO UPDATE SET seq = seq RETURNING seq",
        )?;
        // Nothing is remembered for longer than a tombstone, whatever time it claims.
        let until = rejected.until.min(self.access.now.plus(TOMBSTONE));
        Ok(insert.query_row(
            params![
                self.owner,
                rejected.id.as_bytes(),
                time_in(rejected.created_at),
                time_in(until),
                time_in(self.access.now),
                REJECTED,
                rejected.kind.as_str(),
            ],
            |row| row.get(0),
        )?)
    }
}

/// What the sealed row of a message is bound to.
pub(super) fn row_id(owner: MailboxId, message: &Message) -> [u8; 64] {
    row_id_of(owner, message.id.as_bytes())
}

/// As [`row_id`], from the parts.
pub(super) fn row_id_of(owner: MailboxId, message: &[u8; 32]) -> [u8; 64] {
    let mut id = [0; 64];
    id[..32].copy_from_slice(owner.as_bytes());
    id[32..].copy_from_slice(message);
    id
}
