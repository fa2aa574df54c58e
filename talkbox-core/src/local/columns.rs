//! What rows are made of: times, ids, and the small numbers that stand for mailboxes and holders.

use rusqlite::{Connection, OptionalExtension as _};

use crate::{
    ErrorKind, Locator, MailboxId, Timestamp,
    sqlite::{Sql, damaged},
};

/// A time as SQLite stores it. One that does not fit, 292 thousand million years from now, stays at the end.
pub(super) fn time_in(time: Timestamp) -> i64 {
    i64::try_from(time.secs()).unwrap_or(i64::MAX)
}

/// A time in milliseconds as SQLite stores it.
pub(super) fn millis_in(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

/// A time as it was stored.
pub(super) fn time_out(time: i64) -> Timestamp {
    Timestamp(u64::try_from(time).unwrap_or(0))
}

/// The number of a mailbox, given to it now where it has none.
pub(super) fn owner_in(db: &Connection, mailbox: MailboxId) -> Sql<i64> {
    if let Some(owner) = owner_of(db, mailbox)? {
        return Ok(owner);
    }
    let mut insert = db.prepare_cached("INSERT INTO mailboxes (mailbox) VALUES (?1)")?;
    Ok(insert.insert([mailbox.as_bytes()])?)
}

/// The number of a mailbox, where it has one.
pub(super) fn owner_of(db: &Connection, mailbox: MailboxId) -> Sql<Option<i64>> {
    let mut select = db.prepare_cached("SELECT owner FROM mailboxes WHERE mailbox = ?1")?;
    Ok(select.query_row([mailbox.as_bytes()], |row| row.get(0)).optional()?)
}

/// The number of a holder, given to it now where it has none.
pub(super) fn holder_in(db: &Connection, holder: &Locator) -> Sql<i64> {
    if let Some(number) = holder_of(db, holder)? {
        return Ok(number);
    }
    let mut insert = db.prepare_cached("INSERT INTO holders (locator) VALUES (?1)")?;
    Ok(insert.insert([holder.as_str()])?)
}

/// The number of a holder, where it has one.
pub(super) fn holder_of(db: &Connection, holder: &Locator) -> Sql<Option<i64>> {
    let mut select = db.prepare_cached("SELECT holder FROM holders WHERE locator = ?1")?;
    Ok(select.query_row([holder.as_str()], |row| row.get(0)).optional()?)
}

/// A locator as it was stored.
pub(super) fn locator_out(text: &str) -> Sql<Locator> {
    text.parse().map_err(|_| damaged("holders").into())
}

/// Every kind of error, so that one can be read back.
const KINDS: [ErrorKind; 16] = [
    ErrorKind::Unsupported,
    ErrorKind::ConfigInvalid,
    ErrorKind::InvalidInput,
    ErrorKind::InvalidEnvelope,
    ErrorKind::VerificationFailed,
    ErrorKind::NotFound,
    ErrorKind::Denied,
    ErrorKind::Refused,
    ErrorKind::RateLimited,
    ErrorKind::TooLarge,
    ErrorKind::Locked,
    ErrorKind::Unreachable,
    ErrorKind::Timeout,
    ErrorKind::Closed,
    ErrorKind::Storage,
    ErrorKind::Unexpected,
];

/// A kind of error as it was stored. One that this version does not know is `Unexpected`.
pub(super) fn kind_out(name: &str) -> ErrorKind {
    KINDS.into_iter().find(|kind| kind.as_str() == name).unwrap_or(ErrorKind::Unexpected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back() {
        for kind in KINDS {
            assert_eq!(kind_out(kind.as_str()), kind);
        }
        assert_eq!(kind_out("of a later version"), ErrorKind::Unexpected);
    }

    #[test]
    fn the_end_of_time_is_stored() {
        assert_eq!(time_out(time_in(Timestamp(u64::MAX))), Timestamp(i64::MAX as u64));
        assert_eq!(time_out(-1), Timestamp(0));
    }
}
