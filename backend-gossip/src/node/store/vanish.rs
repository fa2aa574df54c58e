//! Requests to vanish (NIP-62): all mail to a key, and all that is from it, goes and does not come back.
//!
//! A request is decided with the first portion of what goes, and acknowledged then. The rest is hidden ([`Leaving`]) and
//! goes portion by portion, so that others are served in between. A node that starts again goes on where there is a rest.
//!
//! [`Leaving`]: super::leaving::Leaving

use rusqlite::{Connection, OptionalExtension as _, Result, params};
use talkbox_core::{PublicKey, anti_entropy::Item};

use super::apply::{item, remove, signed};
use crate::node::admitted::Admitted;

/// Rows that go at once: some 30 ms.
pub(super) const PORTION: usize = 500;

/// A request of which something may be left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) key: PublicKey,
    /// The time of the request.
    pub(super) before: u64,
    /// No mail is left that is older than this.
    from: i64,
}

/// Remembers the request, and removes a first portion of all mail to the author and all that is from it, up to the time
/// of the request. What went, and what may be left; or `None` where a newer request has been carried out, or of two as new
/// the one of the lower id.
///
/// # Errors
/// Those of SQLite.
pub(super) fn vanish(tx: &Connection, event: &Admitted) -> Result<Option<(Vec<Item>, Option<Rest>)>> {
    let (key, before) = (event.facts.author, event.facts.created_at);
    let is_newer = tx
        .prepare_cached(
            "INSERT INTO vanished VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET before = excluded.before, until = excluded.until
             WHERE excluded.before > before",
        )?
        .execute(params![&key.as_bytes()[..], signed(before), signed(event.expires.secs())])?
        == 1;
    if is_newer { go_on(tx, Rest { key, before, from: 0 }).map(Some) } else { as_new(tx, event) }
}

/// Of two requests of one time all nodes keep the same.
fn as_new(tx: &Connection, event: &Admitted) -> Result<Option<(Vec<Item>, Option<Rest>)>> {
    let (key, at) = (&event.facts.author.as_bytes()[..], signed(event.facts.created_at));
    let other: Option<(i64, [u8; 32])> = tx
        .prepare_cached(
            "SELECT seq, id FROM event INDEXED BY event_author
             WHERE substr(author, 1, 4) = substr(?1, 1, 4) AND author = ?1 AND kind = 62 AND created_at = ?2
             AND EXISTS (SELECT 1 FROM vanished WHERE key = ?1 AND before = ?2)",
        )?
        .query_row(params![key, at], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((seq, id)) = other.filter(|(_, id)| event.facts.id.as_bytes() < id) else { return Ok(None) };
    remove(tx, seq)?;
    Ok(Some((item(at, id).into_iter().collect(), None)))
}

/// Removes a portion of the rest. What went, and what may be left then.
///
/// # Errors
/// Those of SQLite.
pub(super) fn go_on(tx: &Connection, rest: Rest) -> Result<(Vec<Item>, Option<Rest>)> {
    let key = &rest.key.as_bytes()[..];
    let (before, most) = (signed(rest.before), signed(PORTION as u64));
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    // In the order of time, so that what stays in between is not looked at again by the next portion.
    let mut gone: Vec<(i64, i64, [u8; 32])> = tx
        .prepare_cached(
            "SELECT seq, created_at, id FROM event INDEXED BY event_mailbox
             WHERE mailbox = (SELECT id FROM mailbox WHERE key = ?1) AND created_at BETWEEN ?2 AND ?3 AND kind = 1059
             ORDER BY created_at LIMIT ?4",
        )?
        .query_map(params![key, rest.from, before, most], row)?
        .collect::<Result<_>>()?;
    let from = if gone.len() == PORTION { gone[PORTION - 1].1 } else { i64::MAX };
    for (seq, _, _) in &gone {
        remove(tx, *seq)?;
    }
    if gone.len() < PORTION {
        let most = signed((PORTION - gone.len()) as u64);
        let by_author: Vec<(i64, i64, [u8; 32])> = tx
            .prepare_cached(
                "SELECT seq, created_at, id FROM event INDEXED BY event_author
                 WHERE substr(author, 1, 4) = substr(?1, 1, 4) AND author = ?1 AND created_at <= ?2
                 AND (kind <> 62 OR created_at < ?2) LIMIT ?3",
            )?
            .query_map(params![key, before, most], row)?
            .collect::<Result<_>>()?;
        for (seq, _, _) in &by_author {
            remove(tx, *seq)?;
        }
        gone.extend(by_author);
    }
    let left = (gone.len() == PORTION).then_some(Rest { from, ..rest });
    Ok((gone.into_iter().filter_map(|(_, created_at, id)| item(created_at, id)).collect(), left))
}

/// The requests of which something is left.
///
/// # Errors
/// Those of SQLite.
pub(super) fn rests(conn: &Connection) -> Result<Vec<Rest>> {
    let mut statement = conn.prepare(
        "SELECT v.key, v.before FROM vanished v
         WHERE EXISTS (SELECT 1 FROM event e INDEXED BY event_mailbox
             WHERE e.mailbox = (SELECT id FROM mailbox WHERE key = v.key) AND e.created_at <= v.before AND e.kind = 1059)
         OR EXISTS (SELECT 1 FROM event e INDEXED BY event_author
             WHERE substr(e.author, 1, 4) = substr(v.key, 1, 4) AND e.author = v.key AND e.created_at <= v.before
             AND (e.kind <> 62 OR e.created_at < v.before))",
    )?;
    let rest = |row: &rusqlite::Row<'_>| {
        let before: i64 = row.get(1)?;
        Ok(Rest { key: PublicKey::from_bytes(row.get(0)?), before: before.unsigned_abs(), from: 0 })
    };
    statement.query_map([], rest)?.collect()
}

#[cfg(test)]
mod tests {
    use talkbox_core::SecretKey;

    use super::*;
    use crate::node::{
        config::Limits,
        refusal::{Outcome, Reason},
        store::{
            apply::{Quota, apply},
            tests::{NOW, open, request_to_vanish, wrap_by},
        },
    };

    #[test]
    fn a_large_mailbox_goes_in_portions_and_what_is_left_is_found_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let conn = open(&directory);
        let quota = Quota::new(&Limits::default());
        let (owner, other) = (SecretKey::generate().expect("randomness"), SecretKey::generate().expect("randomness"));
        conn.execute_batch("BEGIN").expect("begins");
        let mail: Vec<_> = (0..1_200).map(|n| wrap_by(&other, owner.id(), NOW.minus(n))).collect();
        let sent: Vec<_> = (0..300).map(|n| wrap_by(&owner, other.id(), NOW.minus(n))).collect();
        let late = wrap_by(&other, owner.id(), NOW.plus(20));
        for event in mail.iter().chain(&sent).chain([&late]) {
            assert_eq!(apply(&conn, event, &quota).expect("stores").outcome, Outcome::Stored);
        }
        conn.execute_batch("COMMIT").expect("commits");
        assert_eq!(rests(&conn).expect("looks"), []);
        let decided = apply(&conn, &request_to_vanish(&owner, NOW.plus(10)), &quota).expect("stores");
        assert_eq!((decided.outcome, decided.removed.len()), (Outcome::Stored, PORTION));
        let mut rest = decided.rest;
        assert!(rest.is_some());
        let left = rests(&conn).expect("looks");
        assert_eq!(left.len(), 1, "a node that starts again finds it");
        for event in [&mail[0], &mail[1_199], &sent[0]] {
            let refused = apply(&conn, event, &quota).expect("decides").outcome;
            assert!(matches!(refused, Outcome::Refused(why) if why.reason() == Reason::Deleted), "here or not");
        }
        // One portion from the start, as after a restart, and the others from where it stopped.
        rest = go_on(&conn, left.into_iter().next().expect("one")).expect("goes on").1.or(rest);
        let mut portions = 2;
        while let Some(some) = rest {
            rest = go_on(&conn, some).expect("goes on").1;
            portions += 1;
        }
        assert_eq!(portions, 4);
        assert_eq!(rests(&conn).expect("looks"), []);
        let kinds: Vec<i64> = conn
            .prepare("SELECT kind FROM event ORDER BY kind")
            .and_then(|mut all| all.query_map([], |row| row.get(0))?.collect())
            .expect("reads");
        assert_eq!(kinds, [62, 1059], "the request, and what is dated after it");
    }
}
