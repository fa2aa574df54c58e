//! What each peer was seen to have, numbered in the order in which it was noticed: the order of its listing.

use rusqlite::params;
use talkbox_core::{EnvelopeId, MailboxId, Result};

use crate::{orbitdb::LogAddress, store::Store, sync::Digest};

/// The table, beside those of the store.
#[derive(Clone, Debug)]
pub(super) struct Seen(Store);

impl Seen {
    /// Makes the table where it is not there.
    ///
    /// # Errors
    /// `Storage`.
    pub(super) async fn open(store: Store) -> Result<Self> {
        store
            .with(|connection| {
                Ok(connection.execute_batch(
                    "CREATE TABLE IF NOT EXISTS seen (
                         seq INTEGER PRIMARY KEY AUTOINCREMENT,
                         peer TEXT NOT NULL,
                         mailbox BLOB NOT NULL,
                         envelope BLOB NOT NULL,
                         UNIQUE (envelope, peer)
                     ) STRICT;
                     CREATE INDEX IF NOT EXISTS seen_by_mailbox ON seen (peer, mailbox, seq);
                     -- When a month is dropped, nobody has its mail any more.
                     CREATE TRIGGER IF NOT EXISTS seen_until_dropped AFTER DELETE ON envelopes
                     BEGIN DELETE FROM seen WHERE envelope = OLD.id; END;",
                )?)
            })
            .await?;
        Ok(Self(store))
    }

    /// A peer has all envelopes of a log that are here, but for those of these entries.
    ///
    /// # Errors
    /// `Storage`.
    pub(super) async fn all_but(
        &self,
        peer: &str,
        mailbox: MailboxId,
        log: &LogAddress,
        lacking: &[Digest],
    ) -> Result<()> {
        let shown = self.0.shown_but(log, lacking.to_vec()).await?;
        self.these(peer, mailbox, shown).await
    }

    /// A peer has these envelopes.
    ///
    /// # Errors
    /// `Storage`.
    pub(super) async fn these(&self, peer: &str, mailbox: MailboxId, ids: Vec<EnvelopeId>) -> Result<()> {
        let peer = peer.to_owned();
        self.0
            .with(move |connection| {
                let mut insert = connection
                    .prepare_cached("INSERT OR IGNORE INTO seen (peer, mailbox, envelope) VALUES (?1, ?2, ?3)")?;
                for id in ids {
                    insert.execute(params![peer, mailbox.as_bytes().as_slice(), id.as_bytes().as_slice()])?;
                }
                Ok(())
            })
            .await
    }

    /// What a peer was seen to have after a number, at most so many and one more, which says that there is more.
    ///
    /// # Errors
    /// `Storage`.
    pub(super) async fn after(
        &self,
        peer: &str,
        mailbox: MailboxId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, EnvelopeId)>> {
        let peer = peer.to_owned();
        self.0
            .with(move |connection| {
                let mut query = connection.prepare_cached(
                    "SELECT seq, envelope FROM seen WHERE peer = ?1 AND mailbox = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4",
                )?;
                let rows = query
                    .query_map(params![peer, mailbox.as_bytes().as_slice(), after, i64::from(limit) + 1], |row| {
                        Ok((row.get(0)?, EnvelopeId::from_bytes(row.get(1)?)))
                    })?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    /// The last number that a peer has in a mailbox; 0 where it has nothing.
    ///
    /// # Errors
    /// `Storage`.
    pub(super) async fn last(&self, peer: &str, mailbox: MailboxId) -> Result<i64> {
        let peer = peer.to_owned();
        self.0
            .with(move |connection| {
                let mut query =
                    connection.prepare_cached("SELECT max(seq) FROM seen WHERE peer = ?1 AND mailbox = ?2")?;
                let last = query.query_row(params![peer, mailbox.as_bytes().as_slice()], |row| row.get(0));
                Ok(last.map(Option::unwrap_or_default)?)
            })
            .await
    }

    /// Which of these a peer was seen to have.
    ///
    /// # Errors
    /// `Storage`.
    pub(super) async fn among(&self, peer: &str, ids: Vec<EnvelopeId>) -> Result<Vec<EnvelopeId>> {
        let peer = peer.to_owned();
        self.0
            .with(move |connection| {
                let mut query = connection.prepare_cached("SELECT 1 FROM seen WHERE peer = ?1 AND envelope = ?2")?;
                let mut found = Vec::new();
                for id in ids {
                    if query.exists(params![peer, id.as_bytes().as_slice()])? {
                        found.push(id);
                    }
                }
                Ok(found)
            })
            .await
    }
}
