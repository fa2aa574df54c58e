//! The logs of a store, and what they count.

use rusqlite::{Connection, OptionalExtension as _, Row};
use talkbox_core::{
    Error, ErrorKind, MailboxId, Retry, Timestamp,
    sqlite::{Sql, damaged},
};

use super::{blocks::keep_beside, int, nat};
use crate::orbitdb::{LogAddress, Month, MonthLog};

/// What a store has of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogState {
    /// Whose mail it has.
    pub(crate) mailbox: MailboxId,
    /// Of which month.
    pub(crate) month: Month,
    /// Its name on the network.
    pub(crate) address: LogAddress,
    /// Entries whose signature holds, joined or waiting.
    pub(crate) entries: u64,
    /// What the blocks of its entries have in bytes.
    pub(crate) bytes: u64,
    /// Heads of what is joined.
    pub(crate) heads: u64,
    /// Entries that wait for an ancestor or for their identity.
    pub(crate) waiting: u64,
}

/// A log while a transaction works on it.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub(super) number: i64,
    pub(super) mailbox: MailboxId,
    pub(super) month: Month,
    /// Who may write.
    pub(super) write: Vec<String>,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) waiting: u64,
    pub(super) waiting_bytes: u64,
    pub(super) version: u64,
    pub(super) latest: Timestamp,
}

impl Log {
    const COLUMNS: &str = "log, mailbox, month, write, entries, bytes, waiting, waiting_bytes, version, latest";

    /// The log of an address.
    ///
    /// # Errors
    /// `NotFound` where it is not open.
    pub(super) fn open(db: &Connection, address: &LogAddress) -> Sql<Self> {
        let sql = format!("SELECT {} FROM logs WHERE address = ?1 AND NOT gone", Self::COLUMNS);
        let mut select = db.prepare_cached(&sql)?;
        match select.query_row([address.as_str()], |row| Ok(Self::read(row))).optional()? {
            Some(log) => log,
            None => Err(Error::new(ErrorKind::NotFound, "this log is not open here").into()),
        }
    }

    fn read(row: &Row<'_>) -> Sql<Self> {
        let (month, write): (String, String) = (row.get(2)?, row.get(3)?);
        Ok(Self {
            number: row.get(0)?,
            mailbox: MailboxId::from_bytes(row.get(1)?),
            month: month.parse().map_err(|_| damaged("logs"))?,
            write: serde_json::from_str(&write).map_err(|_| damaged("logs"))?,
            entries: nat(row.get(4)?),
            bytes: nat(row.get(5)?),
            waiting: nat(row.get(6)?),
            waiting_bytes: nat(row.get(7)?),
            version: nat(row.get(8)?),
            latest: Timestamp(nat(row.get(9)?)),
        })
    }

    /// Writes back what it counts.
    pub(super) fn save(&self, db: &Connection) -> Sql<()> {
        let mut update = db.prepare_cached(
            "UPDATE logs SET entries = ?2, bytes = ?3, waiting = ?4, waiting_bytes = ?5, version = ?6, latest = ?7
             WHERE log = ?1",
        )?;
        update.execute((
            self.number,
            int(self.entries),
            int(self.bytes),
            int(self.waiting),
            int(self.waiting_bytes),
            int(self.version),
            int(self.latest.secs()),
        ))?;
        Ok(())
    }
}

/// Opens a log. Nothing changes where it is open.
///
/// # Errors
/// `Refused`, worth another try, while what was there before is still being removed.
pub(super) fn open(db: &Connection, log: &MonthLog) -> Sql<()> {
    let address = log.definition.address.as_str();
    let mut select = db.prepare_cached("SELECT gone FROM logs WHERE address = ?1")?;
    match select.query_row([address], |row| row.get(0)).optional()? {
        Some(false) => return Ok(()),
        Some(true) => {
            return Err(Error::new(ErrorKind::Refused, "this month is being removed").retry(Retry::After(None)).into());
        }
        None => {}
    }
    let write = serde_json::Value::from(log.definition.write.as_slice()).to_string();
    let mut insert = db.prepare_cached("INSERT INTO logs (address, mailbox, month, write) VALUES (?1, ?2, ?3, ?4)")?;
    let number = insert.insert((address, log.mailbox.as_bytes(), log.month.to_string(), write))?;
    keep_beside(db, number, &log.definition.manifest)?;
    keep_beside(db, number, &log.definition.access)
}

/// All logs that are open, by mailbox and month.
pub(super) fn all(db: &Connection) -> Sql<Vec<LogState>> {
    let sql = format!(
        "SELECT {}, address, (SELECT count(*) FROM entries e WHERE e.log = logs.log AND head = 1) FROM logs WHERE NOT gone
         ORDER BY mailbox, month",
        Log::COLUMNS
    );
    let mut select = db.prepare_cached(&sql)?;
    let mut rows = select.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let log = Log::read(row)?;
        let address: String = row.get(10)?;
        all.push(LogState {
            mailbox: log.mailbox,
            month: log.month,
            address: address.parse().map_err(|_| damaged("logs"))?,
            entries: log.entries,
            bytes: log.bytes,
            heads: nat(row.get(11)?),
            waiting: log.waiting,
        });
    }
    Ok(all)
}
