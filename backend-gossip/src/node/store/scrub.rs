//! Looks for rot in rows that nobody asks for, a few at a time: the whole of each row, its signature, and whether every
//! index has it.

use rusqlite::{Connection, Result};
use talkbox_core::event::Event;

use super::{
    apply::signed,
    heal::sound,
    query::last_seq,
    rot::{Rot, is_damage},
};

/// What a portion came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scrubbed {
    /// Rows that were looked at.
    pub(crate) rows: usize,
    /// The last place of them; `None` at the end of the store.
    pub(crate) last: Option<i64>,
    /// An index lacks one of them.
    pub(crate) indexes_differ: bool,
}

/// Looks at so many rows beyond this place, and reports the rotten ones.
///
/// # Errors
/// Those of SQLite.
pub(super) fn scrub(conn: &Connection, after: i64, most: usize, rot: &Rot) -> Result<Scrubbed> {
    let mut found = Scrubbed::default();
    let mut statement = conn.prepare_cached(&statement(conn)?)?;
    let mut rows = statement.query((after, signed(most as u64)))?;
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => break,
            // The places behind it cannot be reached one by one: on after as many as there could have been.
            Err(error) if is_damage(&error) => {
                rot.note(&error);
                let beyond = found.last.unwrap_or(after).saturating_add(signed(most as u64));
                found.last = (beyond < last_seq(conn)?).then_some(beyond);
                return Ok(found);
            }
            Err(error) => return Err(error),
        };
        let place = row.get(10)?;
        if sound(row).is_none_or(|json| Event::parse(&json).is_err()) {
            rot.report(place);
        } else if !row.get::<_, bool>(11)? {
            found.indexes_differ = true;
        }
        found.rows += 1;
        found.last = Some(place);
    }
    if found.rows < most {
        found.last = None;
    }
    Ok(found)
}

/// With a column for whether every index has the row where it belongs. Which indexes there are is asked of the schema; one
/// by an expression or for some rows alone is left out.
fn statement(conn: &Connection) -> Result<String> {
    let mut has =
        "EXISTS (SELECT 1 FROM mailbox i INDEXED BY sqlite_autoindex_mailbox_1 WHERE i.key = m.key AND i.id = e.mailbox) = (e.mailbox NOTNULL)".to_owned();
    let mut indexes = conn.prepare_cached(
        "SELECT l.name, group_concat('i.' || c.name || ' IS e.' || c.name, ' AND ')
         FROM pragma_index_list('event') l, pragma_index_info(l.name) c WHERE NOT l.partial
         GROUP BY l.name HAVING count(c.name) = count(*)",
    )?;
    let mut rows = indexes.query([])?;
    while let Some(row) = rows.next()? {
        let (name, same): (String, String) = (row.get(0)?, row.get(1)?);
        has.push_str(&format!(" AND EXISTS (SELECT 1 FROM event i INDEXED BY {name} WHERE {same} AND i.seq = e.seq)"));
    }
    // In the order of the table itself: what stands in the row is compared with what stands in the indexes.
    Ok(format!(
        "SELECT e.id, e.author, e.created_at, e.kind, m.key, e.tags, e.content, e.form, e.sig, e.expires, e.seq, {has}
         FROM event e NOT INDEXED LEFT JOIN mailbox m ON m.id = e.mailbox
         WHERE e.seq > ?1 ORDER BY e.seq LIMIT ?2"
    ))
}
