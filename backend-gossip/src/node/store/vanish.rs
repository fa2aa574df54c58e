//! Requests to vanish (NIP-62): all mail to a key, and all that is from it, goes and does not come back.

use rusqlite::{Connection, Result, params};
use talkbox_core::anti_entropy::Item;

use super::apply::{item, remove, signed};
use crate::node::admitted::Admitted;

/// Removes all mail to the author, and all that is from it, up to the time of the request, and remembers the request.
/// What went, or `None` where a request that is as new has been carried out.
///
/// # Errors
/// Those of SQLite.
pub(super) fn vanish(tx: &Connection, event: &Admitted) -> Result<Option<Vec<Item>>> {
    let key = &event.facts.author.as_bytes()[..];
    let before = signed(event.facts.created_at);
    let is_newer = tx
        .prepare_cached(
            "INSERT INTO vanished VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET before = excluded.before, until = excluded.until
             WHERE excluded.before > before",
        )?
        .execute(params![key, before, signed(event.expires.secs())])?
        == 1;
    if !is_newer {
        return Ok(None);
    }
    let gone: Vec<(i64, i64, [u8; 32])> = tx
        .prepare_cached(
            "SELECT seq, created_at, id FROM event INDEXED BY event_mailbox
             WHERE mailbox = (SELECT id FROM mailbox WHERE key = ?1) AND created_at <= ?2 AND kind = 1059
             UNION
             SELECT seq, created_at, id FROM event INDEXED BY event_author
             WHERE substr(author, 1, 4) = substr(?1, 1, 4) AND author = ?1 AND created_at <= ?2",
        )?
        .query_map(params![key, before], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_>>()?;
    for (seq, _, _) in &gone {
        remove(tx, *seq)?;
    }
    Ok(Some(gone.into_iter().filter_map(|(_, created_at, id)| item(created_at, id)).collect()))
}
