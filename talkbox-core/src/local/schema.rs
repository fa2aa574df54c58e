//! The tables, and the steps that lead from each older version of them to the newest.

use rusqlite::{Connection, TransactionBehavior};

use super::rest::Rest;
use crate::{Error, ErrorKind, sqlite::Sql};

/// Marks the file as a Talkbox store ("TBOX"), so that no other database is taken for one.
const APPLICATION_ID: i64 = 0x5442_4f58;

/// Step *n* leads from version *n* to version *n* + 1. A step that was released is never changed.
const STEPS: &[&str] = &[include_str!("schema_1.sql"), include_str!("schema_2.sql")];

/// The row that tells the right store key from a wrong one.
const CHECK: (&str, &[u8]) = ("check", b"talkbox store");

/// Brings the tables to the newest version, in one transaction.
///
/// # Errors
/// As [`refuse_foreign`]; `Locked` where the store was sealed with another key.
pub(super) fn prepare(db: &mut Connection, rest: &Rest) -> Sql<()> {
    refuse_foreign(db)?;
    if version(db)? < STEPS.len() {
        migrate(db, rest)?;
    }
    check_key(db, rest)
}

/// Whether this may be opened at all; writes nothing.
///
/// # Errors
/// `Storage` for a database of something else or of a newer version.
pub(super) fn refuse_foreign(db: &Connection) -> Sql<()> {
    // All of one moment: another process may be making the store right now.
    let moment = db.unchecked_transaction()?;
    let application: i64 = moment.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let tables: i64 = moment.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let version = version(&moment)?;
    drop(moment);
    if application != APPLICATION_ID && tables > 0 {
        return Err(Error::new(ErrorKind::Storage, "the file is a database of something else").into());
    }
    if version > STEPS.len() {
        return Err(Error::new(ErrorKind::Storage, "the store was written by a newer version of Talkbox")
            .with("schema", version)
            .with("known", STEPS.len())
            .into());
    }
    Ok(())
}

fn version(db: &Connection) -> Sql<usize> {
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

fn migrate(db: &mut Connection, rest: &Rest) -> Sql<()> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Asked again: another process may have done it while this one waited for its turn.
    let from = version(&transaction)?;
    for step in STEPS.iter().skip(from) {
        transaction.execute_batch(step)?;
    }
    if from == 0 {
        let sealed = rest.seal("secrets", CHECK.0.as_bytes(), CHECK.1)?;
        transaction.execute("INSERT INTO secrets (name, sealed) VALUES (?1, ?2)", (CHECK.0, sealed))?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", STEPS.len() as i64)?;
    Ok(transaction.commit()?)
}

fn check_key(db: &Connection, rest: &Rest) -> Sql<()> {
    let sealed: Vec<u8> = db.query_row("SELECT sealed FROM secrets WHERE name = ?1", [CHECK.0], |row| row.get(0))?;
    match rest.open("secrets", CHECK.0.as_bytes(), &sealed) {
        Ok(plain) if *plain == CHECK.1 => Ok(()),
        _ => Err(Error::new(ErrorKind::Locked, "the store is sealed with another key").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::StoreKey;

    fn rest() -> Rest {
        Rest::new(&StoreKey::from_bytes([7; 32]))
    }

    #[test]
    fn an_empty_database_becomes_a_store_and_stays_one() {
        let mut db = Connection::open_in_memory().expect("opens");
        prepare(&mut db, &rest()).expect("from version 0");
        prepare(&mut db, &rest()).expect("again");
        assert_eq!(version(&db).expect("reads"), STEPS.len());
    }

    #[test]
    fn a_newer_store_and_a_foreign_database_are_left_alone() {
        let mut db = Connection::open_in_memory().expect("opens");
        prepare(&mut db, &rest()).expect("prepares");
        db.pragma_update(None, "user_version", STEPS.len() as i64 + 1).expect("sets");
        let error = crate::Error::from(prepare(&mut db, &rest()).expect_err("newer"));
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert_eq!(error.context("known"), Some(STEPS.len().to_string().as_str()));

        let mut foreign = Connection::open_in_memory().expect("opens");
        foreign.execute_batch("CREATE TABLE recipes (name TEXT)").expect("creates");
        assert!(prepare(&mut foreign, &rest()).is_err());
        let tables: i64 = foreign.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).expect("reads");
        assert_eq!(tables, 1);
    }

    #[test]
    fn a_step_that_fails_leaves_nothing_behind() {
        let mut db = Connection::open_in_memory().expect("opens");
        db.pragma_update(None, "application_id", APPLICATION_ID).expect("sets");
        // A table that the first step wants to create, too.
        db.execute_batch("CREATE TABLE answers (x)").expect("creates");
        assert!(prepare(&mut db, &rest()).is_err());
        let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).expect("reads");
        assert_eq!((tables, version(&db).expect("reads")), (1, 0));
    }

    #[test]
    fn a_store_of_the_first_version_is_brought_to_the_newest() {
        let mut db = Connection::open_in_memory().expect("opens");
        let rest = rest();
        db.execute_batch(STEPS[0]).expect("as version 1 was made");
        let sealed = rest.seal("secrets", CHECK.0.as_bytes(), CHECK.1).expect("seals");
        db.execute("INSERT INTO secrets (name, sealed) VALUES (?1, ?2)", (CHECK.0, sealed)).expect("inserts");
        db.execute_batch(
            "PRAGMA user_version = 1; PRAGMA application_id = 0x54424f58;
             INSERT INTO mailboxes (owner, mailbox) VALUES (1, x'01');
             INSERT INTO messages (owner, id, envelope, sort_time, first_seen, kind, work, sealed)
             VALUES (1, x'02', x'03', 1790000000, 1790000000, 14, 0, x'04');",
        )
        .expect("fills");
        prepare(&mut db, &rest).expect("migrates");
        let time: i64 = db.query_row("SELECT sort_time FROM messages", [], |row| row.get(0)).expect("reads");
        assert_eq!((version(&db).expect("reads"), time), (STEPS.len(), 1_790_000_000_000));
    }

    #[test]
    fn another_key_is_noticed_at_once() {
        let mut db = Connection::open_in_memory().expect("opens");
        prepare(&mut db, &rest()).expect("prepares");
        let other = Rest::new(&StoreKey::from_bytes([8; 32]));
        let error = crate::Error::from(prepare(&mut db, &other).expect_err("another key"));
        assert_eq!(error.kind(), ErrorKind::Locked);
    }
}
