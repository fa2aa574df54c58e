//! What is taken though the store is as large as it may be: what makes it smaller. Deletions and requests to vanish are
//! stored themselves, and anyone can sign them with keys that own nothing here.

use rusqlite::{Connection, OptionalExtension as _, Result, params};
use talkbox_core::DeleteRequest;

use super::apply::{ROW_BYTES, counted_bytes};
use crate::node::admitted::{Admitted, Effect};

/// The share of the bound that is kept for deletions of what may come yet, and its least: some hundred of the largest.
const RESERVE: i64 = 16;
const LEAST_RESERVE: i64 = 1 << 20;
/// Bytes of a deletion for each id that it names, besides its row: where filters find it, and what is remembered of the id.
const NAMED_BYTES: i64 = 250;
/// Rows of a key that wants to vanish that are looked at: they outweigh any request.
const LOOKED_AT: i64 = 100;

/// Whether an event is taken into a store that has so many bytes, more than its bound.
///
/// # Errors
/// Those of SQLite.
pub(super) fn is_let_in(tx: &Connection, event: &Admitted, bytes: i64, bound: i64) -> Result<bool> {
    let has_reserve = bytes - bound <= (bound / RESERVE).max(LEAST_RESERVE);
    match &event.effect {
        Effect::Delete(_) | Effect::Vanish if has_reserve => Ok(true),
        Effect::Delete(request) => {
            let named = i64::try_from(request.ids().len()).unwrap_or(i64::MAX);
            Ok(freed(tx, request)? >= counted_bytes(event) + (named - 1) * NAMED_BYTES)
        }
        Effect::Vanish => Ok(owned(tx, event)? >= counted_bytes(event)),
        Effect::Keep | Effect::Replace | Effect::Refuse(_) => Ok(false),
    }
}

/// The bytes that go by a deletion.
fn freed(tx: &Connection, request: &DeleteRequest) -> Result<i64> {
    let mut find = tx.prepare_cached(
        "SELECT length(e.tags) + length(e.content) + ?3 FROM event e JOIN mailbox m ON m.id = e.mailbox
         WHERE e.id = ?1 AND e.kind = 1059 AND ?2 IN (e.author, m.key)",
    )?;
    let (by, mut freed) = (request.author(), 0);
    for id in request.ids() {
        let named = params![&id.as_bytes()[..], &by.as_bytes()[..], ROW_BYTES];
        freed += find.query_row(named, |row| row.get(0)).optional()?.unwrap_or(0);
    }
    Ok(freed)
}

/// The bytes that are surely here of who asks to vanish.
fn owned(tx: &Connection, event: &Admitted) -> Result<i64> {
    tx.prepare_cached(
        "SELECT coalesce((SELECT bytes FROM mailbox WHERE key = ?1), 0) + coalesce(
             (SELECT sum(bytes) FROM (
                 SELECT length(tags) + length(content) + ?2 AS bytes FROM event INDEXED BY event_author
                 WHERE substr(author, 1, 4) = substr(?1, 1, 4) AND author = ?1 AND kind <> 62 LIMIT ?3)), 0)",
    )?
    .query_row(params![&event.facts.author.as_bytes()[..], ROW_BYTES, LOOKED_AT], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use talkbox_core::{EnvelopeId, SecretKey};

    use crate::node::{
        admitted::Admitted,
        config::Limits,
        refusal::{Outcome, Reason},
        store::{
            apply::{Quota, apply, store_bytes},
            tests::{NOW, deletion, open, request_to_vanish, wrap_by},
        },
    };

    #[test]
    fn a_full_store_takes_what_makes_it_smaller_and_not_what_throw_away_keys_ask() {
        let directory = tempfile::tempdir().expect("a directory");
        let conn = open(&directory);
        let bounded = Quota::new(&Limits { max_store_bytes: 1, ..Limits::default() });
        let key = || SecretKey::generate().expect("randomness");
        let (owner, other) = (key(), key());
        let mine = [(); 8].map(|()| wrap_by(&key(), owner.id(), NOW));
        for event in mine.iter().chain([&wrap_by(&key(), other.id(), NOW)]) {
            apply(&conn, event, &Quota::new(&Limits::default())).expect("stores");
        }
        let is_full = |outcome: Outcome| matches!(outcome, Outcome::Refused(why) if why.reason() == Reason::DiskFull);
        let store = |event: Admitted| apply(&conn, &event, &bounded).expect("decides").outcome;
        assert!(is_full(store(wrap_by(&key(), owner.id(), NOW))));
        let mut taken = 0_u32;
        let unknown = |n: u32| {
            let ids = (0..100_u32).map(|at| {
                let mut id = [7; 32];
                id[..4].copy_from_slice(&n.to_le_bytes());
                id[4..8].copy_from_slice(&at.to_le_bytes());
                EnvelopeId::from_bytes(id)
            });
            deletion(&key(), key().id(), &ids.collect::<Vec<_>>())
        };
        while !is_full(store(unknown(taken))) {
            taken += 1;
            assert!(taken < 1_000, "it grows without end");
        }
        assert!(taken > 20, "there is a reserve: {taken}");
        let bytes = store_bytes(&conn).expect("reads");
        assert!(bytes < 2 << 20, "{bytes}");
        assert!(is_full(store(request_to_vanish(&key(), NOW))), "nothing is here of that key");
        let ids: Vec<EnvelopeId> = mine.iter().map(|event| event.facts.id.into()).collect();
        for ids in [&ids[..1], &ids[1..]] {
            assert_eq!(store(deletion(&owner, owner.id(), ids)), Outcome::Stored, "it frees more than it takes");
        }
        assert_eq!(store(request_to_vanish(&other, NOW)), Outcome::Stored);
    }
}
