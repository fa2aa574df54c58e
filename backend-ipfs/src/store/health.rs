//! Whether a store does its work: what went wrong with it last, and what it has refused. Whoever runs it learns of each
//! change once, however many calls fail meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};

use talkbox_core::{
    Error, ErrorKind, Result,
    sqlite::{Sql, is_damage},
};
use tokio::sync::watch;

use super::{Access, Store, connection, nat};

/// The name of the bytes that are written to see whether anything can be.
const TRIAL: &str = "trial";
/// So many: more than the next entry takes, so that what goes on does not stop with it.
const TRIAL_BYTES: i32 = 512 * 1024;

/// How a store does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It takes what comes.
    #[default]
    Well,
    /// It has as many bytes as it may have.
    Full,
    /// What was to be written was not: the disk is full, or fails.
    Failing,
    /// What is in it makes no sense. It does not get better by itself.
    Damaged,
}

/// What a store has in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Logs that are open.
    pub(crate) logs: u64,
    /// Their entries whose signature holds.
    pub(crate) entries: u64,
    /// Entries that wait for an ancestor or for their identity.
    pub(crate) waiting: u64,
    /// Bytes of the file that are in use.
    pub(crate) bytes: u64,
    /// Whether these are as many as it may have.
    pub(crate) is_full: bool,
}

/// What is known of a store without asking it.
#[derive(Debug, Default)]
pub(super) struct Health {
    standing: watch::Sender<Standing>,
    refused: AtomicU64,
}

impl Health {
    /// Work was done, which wrote something or nothing.
    pub(super) fn done<T>(&self, done: &Result<(T, bool)>) {
        match done {
            Ok((_, true)) => self.turn(|standing| standing == Standing::Failing, Standing::Well),
            Ok((_, false)) => {}
            Err(error) => self.failed(error),
        }
    }

    /// Work failed. What it was asked for may be wrong, and not the store.
    pub(super) fn failed(&self, error: &Error) {
        if error.kind() != ErrorKind::Storage || error.is_retryable() {
            return;
        }
        if is_damage(error) || error.context("row").is_some() {
            self.turn(|_| true, Standing::Damaged);
        } else {
            self.turn(|standing| standing != Standing::Damaged, Standing::Failing);
        }
    }

    /// Entries of others were refused, some of them for want of room in the store or none.
    pub(super) fn refused(&self, entries: usize, for_want_of_room: bool) {
        self.refused.fetch_add(entries as u64, Ordering::Relaxed);
        if for_want_of_room {
            self.turn(|standing| standing == Standing::Well, Standing::Full);
        }
    }

    fn turn(&self, from: impl FnOnce(Standing) -> bool, to: Standing) {
        self.standing.send_if_modified(|standing| {
            let turns = *standing != to && from(*standing);
            if turns {
                *standing = to;
            }
            turns
        });
    }
}

impl Store {
    /// How it does, and each change of that.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.0.health.standing.subscribe()
    }

    /// Entries of others that were refused since it was opened.
    pub(crate) fn refused(&self) -> u64 {
        self.0.health.refused.load(Ordering::Relaxed)
    }

    /// What it has in all.
    ///
    /// # Errors
    /// `Storage`.
    pub(crate) async fn census(&self) -> Result<Census> {
        let census = self.read(census).await?;
        let (from, to) =
            if census.is_full { (Standing::Well, Standing::Full) } else { (Standing::Full, Standing::Well) };
        self.0.health.turn(|standing| standing == from, to);
        Ok(census)
    }

    /// Looks whether it does its work again, where it did not: whoever makes room does not come and write something.
    ///
    /// # Errors
    /// `Storage` where it does not.
    pub(crate) async fn look_again(&self) -> Result<()> {
        let standing = *self.0.health.standing.borrow();
        match standing {
            Standing::Well | Standing::Damaged => Ok(()),
            Standing::Full => self.census().await.map(drop),
            Standing::Failing => {
                // In two transactions: what comes and goes in one is never written.
                self.write(|access| {
                    let sql = "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, zeroblob(?2))";
                    Ok(access.db.execute(sql, (TRIAL, TRIAL_BYTES)).map(drop)?)
                })
                .await?;
                self.write(|access| Ok(access.db.execute("DELETE FROM meta WHERE name = ?1", [TRIAL]).map(drop)?)).await
            }
        }
    }
}

fn census(access: &Access<'_>) -> Sql<Census> {
    let bytes = connection::used(access.db)?;
    let sql = "SELECT count(*), coalesce(sum(entries), 0), coalesce(sum(waiting), 0) FROM logs WHERE NOT gone";
    Ok(access.db.query_row(sql, [], |row| {
        Ok(Census {
            logs: nat(row.get(0)?),
            entries: nat(row.get(1)?),
            waiting: nat(row.get(2)?),
            bytes,
            is_full: bytes >= access.limits.store_bytes,
        })
    })?)
}
