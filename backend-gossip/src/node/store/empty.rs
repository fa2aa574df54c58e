//! Mailboxes of which nothing is left. They are looked for a few at a time, since no index has them: one would have to be
//! written with every event.

use rusqlite::{Connection, OptionalExtension as _, Result};

/// Mailboxes that one round looks at: some milliseconds. A round a minute goes through ten million in a day.
const LOOKED_AT: i64 = 8_192;

/// Removes the empty ones among the next mailboxes beyond this number. Where the next round goes on.
///
/// The last of all stays in any case: a number is never given twice, by which a reader could take one mailbox for another.
///
/// # Errors
/// Those of SQLite.
pub(super) fn remove_empty(tx: &Connection, after: i64) -> Result<i64> {
    let end: Option<i64> = tx
        .prepare_cached("SELECT id FROM mailbox WHERE id > ?1 ORDER BY id LIMIT 1 OFFSET ?2")?
        .query_row((after, LOOKED_AT - 1), |row| row.get(0))
        .optional()?;
    tx.prepare_cached(
        "DELETE FROM mailbox WHERE id > ?1 AND id <= ?2 AND events = 0 AND id < (SELECT max(id) FROM mailbox)
         AND NOT EXISTS (SELECT 1 FROM event WHERE event.mailbox = mailbox.id)",
    )?
    .execute((after, end.unwrap_or(i64::MAX)))?;
    Ok(end.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use talkbox_core::{MailboxId, SecretKey};

    use super::*;
    use crate::node::{
        config::Limits,
        store::{
            apply::{Quota, apply, expire},
            tests::{NOW, deletion, open, wrap_by},
        },
    };

    #[test]
    fn a_mailbox_goes_with_the_last_that_names_it_and_its_number_is_not_given_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let conn = open(&directory);
        let (key, quota) = (SecretKey::generate().expect("randomness"), Quota::new(&Limits::default()));
        let mailbox = |n| MailboxId::from_bytes([n; 32]);
        for n in 1..=3 {
            apply(&conn, &wrap_by(&key, mailbox(n), NOW.plus(n.into())), &quota).expect("stores");
        }
        // Of this one nothing is left but a deletion that names it.
        let last = wrap_by(&key, mailbox(4), NOW);
        apply(&conn, &last, &quota).expect("stores");
        apply(&conn, &deletion(&key, mailbox(4), &[last.facts.id.into()]), &quota).expect("stores");
        let count = || conn.query_row("SELECT count(*) FROM mailbox", [], |row| row.get::<_, i64>(0)).expect("counts");
        assert_eq!((remove_empty(&conn, 0).expect("looks"), count()), (0, 4), "all are of use");
        expire(&conn, NOW.plus(100), 10).expect("expires");
        assert_eq!((remove_empty(&conn, 0).expect("looks"), count()), (0, 1), "but for the last");
        apply(&conn, &wrap_by(&key, mailbox(5), NOW.plus(9)), &quota).expect("stores");
        let number: i64 = conn.query_row("SELECT max(id) FROM mailbox", [], |row| row.get(0)).expect("reads");
        assert_eq!(number, 5);
    }
}
