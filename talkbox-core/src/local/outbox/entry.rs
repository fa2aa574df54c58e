//! An entry of the outbox, out of its row.

use std::{fmt, str::FromStr};

use rusqlite::Row;

use super::{
    Damaged,
    claim::is_leased,
    settle::{ACK, PENDING, REFUSED, level_out, retry_out},
    state::OutboxState,
};
use crate::{
    Ack, Envelope, EnvelopeId, Error, ErrorKind, Locator, MailboxId, Message, MessageId, Refusal, Result, SecretKey,
    Timestamp, hex,
    local::{
        Access, codec,
        columns::{kind_out, locator_out, time_out},
        known,
    },
    random,
    sqlite::{Sql, damaged},
};

/// The name of an entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutboxId([u8; 16]);

impl OutboxId {
    /// A new one.
    ///
    /// # Errors
    /// `Unexpected` where the operating system has no randomness to give.
    pub fn generate() -> Result<Self> {
        random::bytes().map(Self)
    }

    pub(in crate::local) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(in crate::local) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for OutboxId {
    /// 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for OutboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutboxId({self})")
    }
}

impl FromStr for OutboxId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::new(ErrorKind::InvalidInput, "the id of an entry is 32 hexadecimal digits");
        hex::decode(text).map(Self).ok_or_else(wrong)
    }
}

/// Something that is sent, and how far it got.
#[derive(Clone, Debug)]
pub struct OutboxEntry {
    /// Its name.
    pub id: OutboxId,
    /// The mailbox that it goes to.
    pub recipient: MailboxId,
    /// The message inside; [`Message::from`] is who sent it.
    pub message: Message,
    /// The envelope as it is sent now.
    pub envelope: Envelope,
    /// The one-time keys of the envelope and of those whose place it took, by envelope; empty once they were wiped.
    pub wrap_keys: Vec<(EnvelopeId, SecretKey)>,
    /// The seal, to wrap it again.
    pub seal: String,
    /// Where to put it.
    pub locators: Vec<Locator>,
    /// How many distinct holders make it count as stored.
    pub min_acks: u32,
    /// For the sender's own copy: the entry that it is a copy of.
    pub copy_of: Option<OutboxId>,
    /// How far it got.
    pub state: OutboxState,
    /// Who confirmed that they store it, over all attempts, and which envelope.
    pub acks: Vec<(Ack, EnvelopeId)>,
    /// Who has it on its way.
    pub pending: Vec<Locator>,
    /// Who did not take it, in their own words.
    pub refused: Vec<Refusal>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was put into the outbox.
    pub created_at: Timestamp,
    /// When it will be tried next; `None` where it will not be.
    pub next_try: Option<Timestamp>,
    /// When enough holders had confirmed it.
    pub stored_at: Option<Timestamp>,
}

impl OutboxEntry {
    /// Whether enough holders have confirmed it.
    pub fn is_stored(&self) -> bool {
        self.acks.len() >= self.min_acks as usize
    }

    /// The one-time key of the envelope as it is sent now, unless it was wiped.
    pub fn wrap_key(&self) -> Option<&SecretKey> {
        self.wrap_keys.iter().find(|(id, _)| *id == self.envelope.id()).map(|(_, key)| key)
    }
}

/// Which entries.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct OutboxQuery {
    /// Only those that are to be sent and do not have enough acks.
    pub unsettled: bool,
    /// Without the sender's own copies.
    pub originals: bool,
    /// Only those of this message.
    pub message: Option<MessageId>,
    /// Only those to this mailbox.
    pub recipient: Option<MailboxId>,
    /// Goes on after this, with the same query: [`OutboxPage::next`].
    pub after: Option<OutboxKey>,
    /// At most so many; 0 for 256, which is also the most.
    pub limit: u32,
}

/// A place in the order of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutboxKey(pub(super) i64);

/// Some of the entries.
#[derive(Debug, Default)]
pub struct OutboxPage {
    /// The entries.
    pub items: Vec<OutboxEntry>,
    /// Rows that cannot be read.
    pub damaged: Vec<Damaged<OutboxId>>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<OutboxKey>,
}

/// What [`read`] wants of a row.
pub(super) const COLUMNS: &str = "seq, id, recipient, message, copy_of, created_at, envelope, json, sum, locators, min_acks, \
    acks, attempts, state, reason, next_try, lease, stored_at, sealed";

/// An entry out of its row.
pub(super) fn read(access: &Access<'_>, row: &Row<'_>) -> Result<OutboxEntry> {
    let id = OutboxId(row.get("id").map_err(|_| damaged("outbox"))?);
    open(access, id, row).map_err(|fault| {
        tracing::debug!(error = ?Error::from(fault), "a row of the outbox cannot be read");
        damaged("outbox").with("entry", id)
    })
}

fn open(access: &Access<'_>, id: OutboxId, row: &Row<'_>) -> Sql<OutboxEntry> {
    let envelope_id = EnvelopeId::from_bytes(row.get("envelope")?);
    let sealed: Vec<u8> = row.get("sealed")?;
    let (message, seal) = draft(access, id, MessageId::from_bytes(row.get("message")?), envelope_id, &sealed)?;
    let leased = is_leased(access, row.get("lease")?);
    let state = OutboxState::of(row.get("state")?, row.get("acks")?, row.get("reason")?, leased);
    let mut entry = OutboxEntry {
        id,
        recipient: MailboxId::from_bytes(row.get("recipient")?),
        message,
        envelope: known::restore(envelope_id, row.get_ref("json"), row.get_ref("sum"))?,
        wrap_keys: wrap_keys(access, id)?,
        seal,
        locators: row.get::<_, String>("locators")?.split(' ').map(locator_out).collect::<Sql<_>>()?,
        min_acks: row.get("min_acks")?,
        copy_of: row.get::<_, Option<_>>("copy_of")?.map(OutboxId),
        state: state.ok_or_else(|| damaged("outbox"))?,
        acks: Vec::new(),
        pending: Vec::new(),
        refused: Vec::new(),
        attempts: row.get("attempts")?,
        created_at: time_out(row.get("created_at")?),
        next_try: row.get::<_, Option<i64>>("next_try")?.map(time_out),
        stored_at: row.get::<_, Option<i64>>("stored_at")?.map(time_out),
    };
    answers(access, &mut entry)?;
    Ok(entry)
}

fn draft(
    access: &Access<'_>,
    id: OutboxId,
    message: MessageId,
    envelope: EnvelopeId,
    sealed: &[u8],
) -> Result<(Message, String)> {
    let plain = access.rest.open("outbox", id.as_bytes(), sealed)?;
    let parts = plain.split_first_chunk().and_then(|(length, rest)| {
        let (encoded, seal) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        Some((codec::decode(message, envelope, encoded)?, std::str::from_utf8(seal).ok()?.to_owned()))
    });
    parts.ok_or_else(|| damaged("outbox"))
}

fn wrap_keys(access: &Access<'_>, id: OutboxId) -> Sql<Vec<(EnvelopeId, SecretKey)>> {
    let mut select = access.db.prepare_cached("SELECT envelope, sealed FROM wrap_keys WHERE outbox = ?1")?;
    let mut rows = select.query([id.as_bytes()])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        let envelope: [u8; 32] = row.get(0)?;
        let plain = access.rest.open("wrap_keys", &envelope, &row.get::<_, Vec<u8>>(1)?)?;
        let bytes: &[u8; 32] = plain.as_slice().try_into().map_err(|_| damaged("wrap_keys"))?;
        keys.push((EnvelopeId::from_bytes(envelope), SecretKey::from_bytes(bytes)?));
    }
    Ok(keys)
}

/// What the holders said, in the order of their locators.
fn answers(access: &Access<'_>, entry: &mut OutboxEntry) -> Sql<()> {
    let mut select = access.db.prepare_cached(
        "SELECT locator, answer, envelope, level, until, kind, retry, words
         FROM answers JOIN holders USING (holder) WHERE outbox = ?1 ORDER BY locator",
    )?;
    let mut rows = select.query([entry.id.as_bytes()])?;
    while let Some(row) = rows.next()? {
        let holder = locator_out(&row.get::<_, String>("locator")?)?;
        match row.get::<_, i64>("answer")? {
            ACK => {
                let until = row.get::<_, Option<i64>>("until")?.map(time_out);
                let ack = Ack { holder, level: level_out(row.get("level")?), until };
                entry.acks.push((ack, EnvelopeId::from_bytes(row.get("envelope")?)));
            }
            PENDING => entry.pending.push(holder),
            REFUSED => entry.refused.push(Refusal {
                holder,
                kind: kind_out(&row.get::<_, String>("kind")?),
                retry: retry_out(row.get("retry")?),
                words: row.get("words")?,
            }),
            _ => return Err(damaged("answers").into()),
        }
    }
    Ok(())
}
