//! Cursors: where the listing of a mailbox goes on, holder by holder.

use rusqlite::{OptionalExtension as _, params};

use super::{
    Access, Store,
    columns::{holder_in, holder_of, locator_out, owner_in, owner_of},
};
use crate::{Cursor, Error, ErrorKind, Locator, MailboxId, Result, sqlite::Sql};

/// Most bytes of a cursor. It is opaque and comes from a network, so something has to bound it.
const MAX_CURSOR_BYTES: usize = 4096;

impl Store {
    /// Where the listing goes on; `None` to begin at the start.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn cursor(&self, owner: MailboxId, holder: &Locator) -> Result<Option<Cursor>> {
        let holder = holder.clone();
        self.read("cursor", move |access| {
            let (owner, holder) = (owner_of(access.db, owner)?, holder_of(access.db, &holder)?);
            let mut select = access.db.prepare_cached("SELECT cursor FROM cursors WHERE owner = ?1 AND holder = ?2")?;
            Ok(select.query_row(params![owner, holder], |row| row.get(0).map(Cursor)).optional()?)
        })
        .await
    }

    /// Where the listing goes on, for every holder that has a cursor: as a watch wants them.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn cursors(&self, owner: MailboxId) -> Result<Vec<(Locator, Cursor)>> {
        self.read("cursor", move |access| {
            let owner = owner_of(access.db, owner)?;
            let mut select = access.db.prepare_cached(
                "SELECT locator, cursor FROM cursors JOIN holders USING (holder) WHERE owner = ?1 ORDER BY locator",
            )?;
            let mut rows = select.query([owner])?;
            let mut cursors = Vec::new();
            while let Some(row) = rows.next()? {
                cursors.push((locator_out(&row.get::<_, String>(0)?)?, Cursor(row.get(1)?)));
            }
            Ok(cursors)
        })
        .await
    }

    /// Sets a cursor by itself, where there was nothing to commit it with.
    ///
    /// # Errors
    /// `TooLarge` for a cursor over 4 KiB; `Storage`.
    pub async fn set_cursor(&self, owner: MailboxId, holder: &Locator, cursor: &Cursor) -> Result<()> {
        let (holder, cursor) = (holder.clone(), cursor.clone());
        self.write("cursor", move |access| {
            let (owner, holder) = (owner_in(access.db, owner)?, holder_in(access.db, &holder)?);
            set(access, owner, holder, &cursor)
        })
        .await
    }

    /// Begins at the start again, as after another epoch of the holder.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn clear_cursor(&self, owner: MailboxId, holder: &Locator) -> Result<()> {
        let holder = holder.clone();
        self.write("cursor", move |access| {
            let (owner, holder) = (owner_of(access.db, owner)?, holder_of(access.db, &holder)?);
            let mut delete = access.db.prepare_cached("DELETE FROM cursors WHERE owner = ?1 AND holder = ?2")?;
            delete.execute(params![owner, holder])?;
            Ok(())
        })
        .await
    }
}

pub(super) fn set(access: &Access<'_>, owner: i64, holder: i64, cursor: &Cursor) -> Sql<()> {
    if cursor.0.len() > MAX_CURSOR_BYTES {
        return Err(Error::new(ErrorKind::TooLarge, "a cursor has at most 4 KiB").with("bytes", cursor.0.len()).into());
    }
    let mut upsert = access.db.prepare_cached(
        "INSERT INTO cursors (owner, holder, cursor) VALUES (?1, ?2, ?3)
         ON CONFLICT (owner, holder) DO UPDATE SET cursor = excluded.cursor",
    )?;
    upsert.execute(params![owner, holder, cursor.0])?;
    Ok(())
}
