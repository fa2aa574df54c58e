//! Leases: of several processes, one at a time sends an entry.

use std::time::Duration;

use rusqlite::params;

use super::{
    MAX_PAGE,
    entry::{COLUMNS, OutboxEntry, OutboxId, read},
    state::{OPEN, WEDGED},
};
use crate::{
    Result,
    local::{Access, Store, columns::time_in},
    sqlite::Sql,
};

/// Longest lease. One that reaches further into the future is from a clock that was set back, and does not count.
const MAX_LEASE: Duration = Duration::from_secs(3600);

impl Store {
    /// Takes up to `limit` entries that are due, those first that have waited longest, and leases them for this long,
    /// at most an hour: no other claim gets them until then, in this process or another. `settle` gives a lease back.
    /// What was claimed by a process that ended is claimed again once the lease has run out.
    ///
    /// An entry whose row is damaged is wedged, and hides no other.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn claim(&self, limit: u32, lease: Duration) -> Result<Vec<OutboxEntry>> {
        let limit = limit.min(MAX_PAGE);
        let lease = lease.min(MAX_LEASE);
        self.write("claim", move |access| {
            let mut entries = Vec::new();
            for id in due(access, limit)? {
                entries.extend(take(access, &id, lease)?);
            }
            Ok(entries)
        })
        .await
    }

    /// Leases one entry, whether or not it is due; `None` where it is not open, or another process has it.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn claim_one(&self, id: OutboxId, lease: Duration) -> Result<Option<OutboxEntry>> {
        let lease = lease.min(MAX_LEASE);
        self.write("claim", move |access| {
            let mut select = access.db.prepare_cached("SELECT lease FROM outbox WHERE id = ?1 AND state = 0")?;
            let mut rows = select.query([id.as_bytes()])?;
            let free = rows.next()?.map(|row| row.get(0)).transpose()?.is_some_and(|held| !is_leased(access, held));
            if free { take(access, id.as_bytes(), lease) } else { Ok(None) }
        })
        .await
    }

    /// Makes a lease of one's own last longer, at most an hour from now; `false` where it was lost meanwhile.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn extend_lease(&self, id: OutboxId, lease: Duration) -> Result<bool> {
        let lease = lease.min(MAX_LEASE);
        self.write("extend the lease", move |access| {
            let mut update = access
                .db
                .prepare_cached("UPDATE outbox SET lease = ?2 WHERE id = ?1 AND leased_by = ?3 AND state = 0")?;
            let until = time_in(access.now.plus(lease.as_secs()));
            Ok(update.execute(params![id.as_bytes(), until, access.process])? > 0)
        })
        .await
    }
}

/// Whether a lease still counts.
pub(super) fn is_leased(access: &Access<'_>, lease: Option<i64>) -> bool {
    lease.is_some_and(|until| until > time_in(access.now) && until <= time_in(access.now.plus(MAX_LEASE.as_secs())))
}

fn due(access: &Access<'_>, limit: u32) -> Sql<Vec<[u8; 16]>> {
    let mut select = access.db.prepare_cached(
        "SELECT id FROM outbox WHERE state = 0 AND next_try <= ?1 AND (lease IS NULL OR lease <= ?1 OR lease > ?2)
         ORDER BY next_try, seq LIMIT ?3",
    )?;
    let far = time_in(access.now.plus(MAX_LEASE.as_secs()));
    let ids = select.query_map(params![time_in(access.now), far, limit], |row| row.get(0))?;
    Ok(ids.collect::<rusqlite::Result<_>>()?)
}

/// Leases an entry and reads it; `None` where it is damaged.
fn take(access: &Access<'_>, id: &[u8; 16], lease: Duration) -> Sql<Option<OutboxEntry>> {
    let mut update = access.db.prepare_cached(&format!(
        "UPDATE outbox SET lease = ?2, leased_by = ?3, attempts = attempts + 1, next_try = coalesce(next_try, ?4)
         WHERE id = ?1 RETURNING {COLUMNS}"
    ))?;
    let until = access.now.plus(lease.as_secs().max(1));
    let mut rows = update.query(params![id, time_in(until), access.process, time_in(access.now)])?;
    let entry = match rows.next()? {
        Some(row) => read(access, row),
        None => return Ok(None),
    };
    // Run to the end: an update that is left early is not carried out.
    while rows.next()?.is_some() {}
    match entry {
        Ok(entry) => Ok(Some(entry)),
        Err(error) => {
            tracing::warn!(%error, "an entry of the outbox cannot be sent");
            wedge(access, id, error.message())?;
            Ok(None)
        }
    }
}

/// Gives an entry up for this reason.
pub(super) fn wedge(access: &Access<'_>, id: &[u8; 16], reason: &str) -> Sql<()> {
    let mut update = access.db.prepare_cached(
        "UPDATE outbox SET state = ?2, reason = ?3, ended_at = ?4, next_try = NULL, lease = NULL, leased_by = NULL
         WHERE id = ?1 AND state = ?5",
    )?;
    // As long as a holder's own words may be.
    let reason: String = reason.chars().filter(|symbol| !symbol.is_control()).take(256).collect();
    update.execute(params![id, WEDGED, reason, time_in(access.now), OPEN])?;
    Ok(())
}
