//! What the store knows of an event before it is stored, asked for at once: a statement of its own for each of these
//! would cost as much as to store the event.

use rusqlite::{Connection, Result, params};
use talkbox_core::event::kind;

use super::apply::signed;
use crate::node::admitted::Admitted;

/// What is known of an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Where it is stored already.
    pub(super) place: Option<i64>,
    /// It was here, and was deleted.
    pub(super) is_gone: bool,
    /// Its author, or the mailbox that it is for, asked for its deletion before it came.
    pub(super) is_unwanted: bool,
    /// Its author, or the mailbox that it is for, asked after it to vanish.
    pub(super) has_vanished: bool,
}

impl Known {
    /// Looks an event up.
    ///
    /// # Errors
    /// Those of SQLite.
    pub(super) fn of(tx: &Connection, event: &Admitted) -> Result<Self> {
        let facts = &event.facts;
        let mailbox = facts.mailbox.filter(|_| facts.kind == kind::GIFT_WRAP);
        // No `IN`: SQLite would make a table of its own for the two keys.
        tx.prepare_cached(
            "SELECT (SELECT seq FROM event WHERE id = ?1),
                    EXISTS (SELECT 1 FROM gone WHERE id = ?1 AND why = 0),
                    EXISTS (SELECT 1 FROM deletion WHERE target = ?1 AND (+author = ?2 OR +author = ?3)),
                    EXISTS (SELECT 1 FROM vanished WHERE key = ?2 AND before >= ?4)
                    OR EXISTS (SELECT 1 FROM vanished WHERE key = ?3 AND before >= ?4)",
        )?
        .query_row(
            params![
                &facts.id.as_bytes()[..],
                &facts.author.as_bytes()[..],
                mailbox.as_ref().map(|key| &key.as_bytes()[..]),
                signed(facts.created_at)
            ],
            |row| {
                Ok(Self {
                    place: row.get(0)?,
                    is_gone: row.get(1)?,
                    is_unwanted: row.get(2)?,
                    has_vanished: row.get(3)?,
                })
            },
        )
    }
}
