//! Throw-away sender keys: one for each mailbox that somebody without a mailbox writes to.

use rusqlite::{OptionalExtension as _, params};

use super::{
    Access, Store,
    columns::{time_in, time_out},
};
use crate::{
    MailboxId, Result, SecretKey, Timestamp,
    sqlite::{Sql, damaged},
};

/// A conversation under a throw-away key.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// The mailbox that is written to.
    pub recipient: MailboxId,
    /// The key that the sender has there alone; replies come to it.
    pub key: SecretKey,
    /// When it began.
    pub created_at: Timestamp,
}

impl Store {
    /// The key of a conversation: made when it is first asked for, and the same ever after.
    ///
    /// # Errors
    /// `Storage`; `Unexpected` where the operating system has no randomness to give.
    pub async fn conversation_key(&self, recipient: MailboxId) -> Result<SecretKey> {
        let key = SecretKey::generate()?;
        self.write("conversation key", move |access| {
            let tag = access.rest.tag("conversations", recipient.as_bytes());
            let mut select = access.db.prepare_cached("SELECT sealed FROM conversations WHERE recipient = ?1")?;
            let sealed: Option<Vec<u8>> = select.query_row([tag], |row| row.get(0)).optional()?;
            if let Some(sealed) = sealed {
                return Ok(open(access, &tag, &sealed)?.1);
            }
            let plain = zeroize::Zeroizing::new([*recipient.as_bytes(), *key.to_bytes()].concat());
            let sealed = access.rest.seal("conversations", &tag, &plain)?;
            access.db.execute(
                "INSERT INTO conversations (recipient, created_at, sealed) VALUES (?1, ?2, ?3)",
                params![tag, time_in(access.now), sealed],
            )?;
            Ok(key)
        })
        .await
    }

    /// Every conversation, in the order in which they began: as many as one has begun oneself.
    ///
    /// # Errors
    /// `Storage`, also where a row is damaged.
    pub async fn conversations(&self) -> Result<Vec<Conversation>> {
        self.read("conversations", |access| {
            let mut select = access.db.prepare_cached(
                "SELECT recipient, created_at, sealed FROM conversations ORDER BY created_at, recipient",
            )?;
            let mut rows = select.query([])?;
            let mut conversations = Vec::new();
            while let Some(row) = rows.next()? {
                let (recipient, key) = open(access, &row.get(0)?, &row.get::<_, Vec<u8>>(2)?)?;
                conversations.push(Conversation { recipient, key, created_at: time_out(row.get(1)?) });
            }
            Ok(conversations)
        })
        .await
    }

    /// Forgets a conversation and wipes its key: replies to it can no longer be read.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn forget_conversation(&self, recipient: MailboxId) -> Result<()> {
        self.write("forget the conversation", move |access| {
            let tag = access.rest.tag("conversations", recipient.as_bytes());
            access.db.execute("DELETE FROM conversations WHERE recipient = ?1", [tag])?;
            Ok(())
        })
        .await
    }
}

fn open(access: &Access<'_>, tag: &[u8; 16], sealed: &[u8]) -> Sql<(MailboxId, SecretKey)> {
    let plain = access.rest.open("conversations", tag, sealed)?;
    let parts = plain.split_first_chunk::<32>().and_then(|(recipient, key)| {
        let key: &[u8; 32] = key.try_into().ok()?;
        Some((MailboxId::from_bytes(*recipient), SecretKey::from_bytes(key).ok()?))
    });
    Ok(parts.ok_or_else(|| damaged("conversations"))?)
}
