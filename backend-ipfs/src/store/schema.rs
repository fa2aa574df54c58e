//! The tables, and the steps that lead from each older version of them to the newest.

use rusqlite::{Connection, TransactionBehavior};
use talkbox_core::{Error, ErrorKind, sqlite::Sql};

/// Marks the file as a store of OrbitDB logs ("TBIP"), so that no other database is taken for one.
pub(crate) const APPLICATION_ID: i32 = 0x5442_4950;

/// Step *n* leads from version *n* to version *n* + 1. A step that was released is never changed.
const STEPS: &[&str] = &[include_str!("schema_1.sql")];

/// The name of the random number that tells this store from any other.
pub(super) const EPOCH: &str = "epoch";

/// Whether this may be opened at all; writes nothing.
///
/// # Errors
/// `Storage` for a database of something else or of a newer version.
pub(super) fn refuse_foreign(db: &Connection) -> Sql<()> {
    let application: i32 = db.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION_ID && tables > 0 {
        return Err(Error::new(ErrorKind::Storage, "the file is a database of something else").into());
    }
    let version = version(db)?;
    if version > STEPS.len() {
        return Err(Error::new(ErrorKind::Storage, "the store was written by a newer version of Talkbox")
            .with("schema", version)
            .with("known", STEPS.len())
            .into());
    }
    Ok(())
}

/// Brings the tables to the newest version, in one transaction.
pub(super) fn prepare(db: &mut Connection) -> Sql<()> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let from = version(&transaction)?;
    for step in STEPS.iter().skip(from) {
        transaction.execute_batch(step)?;
    }
    if from == 0 {
        let epoch = getrandom::u64()
            .map_err(|_| Error::new(ErrorKind::Unexpected, "the operating system gives no random numbers"))?;
        transaction.execute("INSERT INTO meta (name, value) VALUES (?1, ?2)", (EPOCH, epoch.to_le_bytes()))?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", STEPS.len() as i64)?;
    Ok(transaction.commit()?)
}

/// Makes another store of one that was copied: what was said of the first need not hold of it.
pub(crate) fn renew(db: &Connection, epoch: u64) -> rusqlite::Result<()> {
    db.execute("UPDATE meta SET value = ?2 WHERE name = ?1", (EPOCH, epoch.to_le_bytes())).map(drop)
}

fn version(db: &Connection) -> Sql<usize> {
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_store_and_a_foreign_database_are_left_alone() {
        let mut db = Connection::open_in_memory().expect("opens");
        prepare(&mut db).expect("prepares");
        prepare(&mut db).expect("again");
        refuse_foreign(&db).expect("is ours");
        db.pragma_update(None, "user_version", STEPS.len() as i64 + 1).expect("sets");
        assert_eq!(Error::from(refuse_foreign(&db).expect_err("newer")).kind(), ErrorKind::Storage);
        let foreign = Connection::open_in_memory().expect("opens");
        foreign.execute_batch("CREATE TABLE recipes (name TEXT) STRICT").expect("creates");
        assert!(refuse_foreign(&foreign).is_err());
    }
}
