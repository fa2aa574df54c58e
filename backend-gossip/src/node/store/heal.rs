//! Puts a rotten row right, and at the end of the order of arrival: whoever read on while it was left out has passed its old
//! place. Those who had it before are told of it a second time and know it by its id.

use rusqlite::{Connection, OptionalExtension as _, Result, ffi, params};
use talkbox_core::{EventId, MailboxId, anti_entropy::Item, event::Wire};

use super::{
    apply::{ROW_BYTES, item, mailbox_number, put_tags, signed},
    known::Known,
    row::{Row, guarded},
};
use crate::node::{admitted::Admitted, policy};

/// The row at a place, from the table and not from an index.
const ROW: &str = "
    SELECT e.id, e.author, e.created_at, e.kind, m.key, e.tags, e.content, e.form, e.sig, e.expires
    FROM event e NOT INDEXED LEFT JOIN mailbox m ON m.id = e.mailbox WHERE e.seq = ?1";

/// What became of a place that was to be put right.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Healed {
    /// What stood for the row between nodes, where that was wrong too.
    pub(super) wrong: Option<Item>,
    /// Where the event is from now on. `None` where it has gone, or has come anew: nothing is at either place then.
    pub(super) seq: Option<i64>,
}

/// Whether the row at this place is what was stored: its id is its hash, and signature and expiry are as they came.
///
/// # Errors
/// Those of SQLite.
pub(super) fn is_right(conn: &Connection, place: i64) -> Result<bool> {
    let mut statement = conn.prepare_cached(ROW)?;
    let mut rows = statement.query([place])?;
    Ok(rows.next()?.and_then(sound).is_some())
}

/// The event in a row, with its expiry behind the columns that [`Row::read`] takes, where all of it is as it was stored.
pub(crate) fn sound(row: &rusqlite::Row<'_>) -> Option<String> {
    let json = Row::read(row).ok()?.to_json()?;
    let expires = policy::expires(&Wire::parse(&json).ok()?).map(|expires| signed(expires.secs()));
    (expires == row.get(9).ok()).then_some(json)
}

/// Puts the event into the row at its place.
///
/// # Errors
/// Those of SQLite; the transaction is then given up. [`is_index`] tells whether it may succeed once the indexes are made
/// anew.
pub(super) fn heal(tx: &Connection, place: i64, event: &Admitted) -> Result<Healed> {
    let facts = &event.facts;
    let id = &facts.id.as_bytes()[..];
    let before: Option<(Vec<u8>, i64, Option<i64>)> = tx
        .prepare_cached("SELECT id, created_at, mailbox FROM event NOT INDEXED WHERE seq = ?1")?
        .query_row([place], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    // Deleted or expired meanwhile: it does not come back.
    let Some((was, at, from)) = before else { return Ok(Healed::default()) };
    let wrong = <[u8; 32]>::try_from(&was[..]).ok().filter(|_| (at, &was[..]) != (signed(facts.created_at), id));
    let wrong = wrong.and_then(|was| item(at, was));
    let known = Known::of(tx, event)?;
    let comes_anew = "SELECT 1 FROM event WHERE id = ?1 AND seq <> ?2";
    // It was not known by its id any longer, and has gone or come anew under it: what is left here is a wreck.
    if known.is_gone || known.has_vanished || tx.prepare_cached(comes_anew)?.exists(params![id, place])? {
        tx.prepare_cached("DELETE FROM tag WHERE seq = ?1")?.execute([place])?;
        tx.prepare_cached("DELETE FROM event WHERE seq = ?1")?.execute([place])?;
        recount(tx, from.into_iter())?;
        return Ok(Healed { wrong, seq: None });
    }
    let mailbox = facts.mailbox.map(|key| mailbox_number(tx, key)).transpose()?;
    let seq = next_place(tx)?;
    tx.prepare_cached("DELETE FROM tag WHERE seq = ?1")?.execute([place])?;
    tx.prepare_cached(
        "UPDATE event SET seq = ?12, id = ?2, author = ?3, created_at = ?4, kind = ?5, mailbox = ?6, expires = ?7, form = ?8,
             tags = ?9, sig = ?10, content = ?11 WHERE seq = ?1",
    )?
    .execute(params![
        place,
        id,
        &facts.author.as_bytes()[..],
        signed(facts.created_at),
        facts.kind,
        mailbox,
        signed(event.expires.secs()),
        event.packed.form,
        event.packed.tags,
        guarded(id, &event.sig),
        event.packed.content,
        seq,
    ])?;
    put_tags(tx, seq, event)?;
    if from != mailbox {
        recount(tx, from.into_iter().chain(mailbox))?;
    }
    if let Some(key) = facts.mailbox
        && !is_right(tx, seq)?
    {
        name_mailbox(tx, mailbox, key)?;
    }
    Ok(Healed { wrong, seq: Some(seq) })
}

/// The place in the order of arrival that an event would get that came now. It is given to nobody else.
fn next_place(tx: &Connection) -> Result<i64> {
    tx.prepare_cached("UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'event' RETURNING seq")?
        .query_row([], |row| row.get(0))
}

/// The key of the mailbox is what is rotten.
fn name_mailbox(tx: &Connection, number: Option<i64>, key: MailboxId) -> Result<()> {
    tx.prepare_cached("UPDATE mailbox SET key = ?2 WHERE id = ?1")?.execute(params![number, &key.as_bytes()[..]])?;
    Ok(())
}

/// Counts anew what is in these mailboxes, by which their quotas go.
fn recount(tx: &Connection, numbers: impl Iterator<Item = i64>) -> Result<()> {
    let mut statement = tx.prepare_cached(
        "UPDATE mailbox SET (events, bytes) = (
             SELECT count(*), coalesce(sum(length(tags) + length(content) + ?2), 0)
             FROM event WHERE mailbox = ?1 AND kind = 1059
         ) WHERE id = ?1",
    )?;
    for number in numbers {
        statement.execute([number, ROW_BYTES])?;
    }
    Ok(())
}

/// Ids under which the events of these places may be known to others: the one in the row, the one that the row gives, and
/// the one in the index, of which one at least is right unless more than one place is rotten. A place is left out where
/// there is nothing any longer, or nothing is wrong.
///
/// # Errors
/// Those of SQLite.
pub(super) fn wrecks(conn: &Connection, places: &[i64]) -> Result<Vec<(i64, Vec<EventId>)>> {
    look_at_the_disk(conn)?;
    let mut wrecks = Vec::new();
    for place in places {
        let is_there = conn.prepare_cached("SELECT 1 FROM event NOT INDEXED WHERE seq = ?1")?.exists([place])?;
        if is_there && !is_right(conn, *place).unwrap_or(false) {
            // Where SQLite cannot read the row, there is the index.
            wrecks.push((*place, claimed(conn, *place).unwrap_or_default()));
        }
    }
    if wrecks.is_empty() {
        return Ok(wrecks);
    }
    // From its first entry to its last, since it is not ordered by place: 0.1 s for a million.
    let mut index = conn.prepare_cached("SELECT seq, id FROM event INDEXED BY event_id")?;
    let mut rows = index.query([])?;
    while let Some(row) = rows.next()? {
        let place: i64 = row.get(0)?;
        if let Ok(at) = wrecks.binary_search_by_key(&place, |(place, _)| *place) {
            let id = EventId::from_bytes(row.get(1)?);
            if !wrecks[at].1.contains(&id) {
                wrecks[at].1.push(id);
            }
        }
    }
    Ok(wrecks)
}

/// Drops what a connection has in memory of the file: where a page on the disk is not what was written, it may still have
/// what was, find nothing wrong with it, and have nothing to write.
///
/// # Errors
/// Those of SQLite.
pub(super) fn look_at_the_disk(conn: &Connection) -> Result<()> {
    conn.execute_batch("PRAGMA shrink_memory")
}

/// The ids that a row itself names.
fn claimed(conn: &Connection, place: i64) -> Result<Vec<EventId>> {
    let mut statement = conn.prepare_cached(ROW)?;
    let mut rows = statement.query([place])?;
    let Some(row) = rows.next()? else { return Ok(Vec::new()) };
    let row = Row::read(row)?;
    let mut ids: Vec<[u8; 32]> = row.id.try_into().ok().into_iter().chain(row.computed_id()).collect();
    ids.dedup();
    Ok(ids.into_iter().map(EventId::from_bytes).collect())
}

/// Whether a row could not be changed because an index does not have it: either of the two is rotten.
pub(super) fn is_index(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(error, _) if error.extended_code == ffi::SQLITE_CORRUPT_INDEX)
}

#[cfg(test)]
mod tests {
    use talkbox_core::SecretKey;

    use super::*;
    use crate::node::{
        config::Limits,
        store::{
            apply::{Quota, apply},
            tests::{NOW, deletion, open, wrap_by},
        },
    };

    /// The id in the row is another, also in the index: nobody knows any longer what is there.
    fn wreck(conn: &Connection, place: i64) -> Option<Item> {
        conn.execute("UPDATE event SET id = ?2 WHERE seq = ?1", (place, [9_u8; 32])).expect("is spoilt");
        item(signed(NOW.secs()), [9; 32])
    }

    fn rows(conn: &Connection) -> i64 {
        conn.query_row("SELECT count(*) FROM event WHERE kind = 1059", [], |row| row.get(0)).expect("is counted")
    }

    /// A peer that is met before the row is put right brings the event as one that is new.
    #[test]
    fn a_wreck_whose_event_came_anew_goes_and_counts_no_longer_as_held() {
        let directory = tempfile::tempdir().expect("a directory");
        let (conn, quota) = (open(&directory), Quota::new(&Limits::default()));
        let author = SecretKey::generate().expect("randomness");
        let event = wrap_by(&author, MailboxId::from_bytes([7; 32]), NOW);
        let place = apply(&conn, &event, &quota).expect("is stored").seq.expect("has a place");
        let wrong = wreck(&conn, place);
        let anew = apply(&conn, &event, &quota).expect("is stored").seq.expect("has a place");
        assert_ne!(anew, place);
        assert!(wrong.is_some());
        assert_eq!(heal(&conn, place, &event).expect("is healed"), Healed { wrong, seq: None });
        let left: i64 = conn.query_row("SELECT seq FROM event", [], |row| row.get(0)).expect("is one");
        assert_eq!(left, anew);
    }

    #[test]
    fn a_wreck_whose_event_was_deleted_goes_and_counts_no_longer_as_held() {
        let directory = tempfile::tempdir().expect("a directory");
        let (conn, quota) = (open(&directory), Quota::new(&Limits::default()));
        let (author, mailbox) = (SecretKey::generate().expect("randomness"), MailboxId::from_bytes([7; 32]));
        let event = wrap_by(&author, mailbox, NOW);
        let place = apply(&conn, &event, &quota).expect("is stored").seq.expect("has a place");
        let wrong = wreck(&conn, place);
        let id = talkbox_core::EnvelopeId::from(event.facts.id);
        apply(&conn, &deletion(&author, mailbox, &[id]), &quota).expect("is stored");
        // It decides when the event comes, and is known as one that has gone from then on.
        apply(&conn, &event, &quota).expect("is answered");
        assert_eq!(heal(&conn, place, &event).expect("is healed"), Healed { wrong, seq: None });
        assert_eq!(rows(&conn), 0);
    }
}
