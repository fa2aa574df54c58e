//! What the mesh asks of the store.

use rusqlite::{Connection, OptionalExtension as _, Result, params};
use talkbox_core::{EventId, PublicKey, Timestamp};

use super::{
    query::{At, stored},
    rot::Rot,
};
use crate::node::mesh::PeerRow;

/// Those of which nothing is known.
pub(super) fn unknown(conn: &Connection, mut ids: Vec<EventId>) -> Result<Vec<EventId>> {
    let mut known = conn.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM event WHERE id = ?1) OR EXISTS (SELECT 1 FROM gone WHERE id = ?1)",
    )?;
    let mut failed = Ok(());
    ids.retain(|id| match known.query_row([&id.as_bytes()[..]], |row| row.get::<_, bool>(0)) {
        Ok(is_known) => !is_known,
        Err(error) => {
            failed = Err(error);
            false
        }
    });
    failed.map(|()| ids)
}

/// What is stored under these ids and was pushed before, or is not pushed at all.
pub(super) fn pushed(
    conn: &Connection,
    ids: &[EventId],
    acknowledged: i64,
    now: Timestamp,
    rot: &Rot,
) -> Result<Vec<String>> {
    let mut waits = conn.prepare_cached("SELECT origin = 0 AND seq > ?2 FROM event WHERE id = ?1")?;
    let mut found = Vec::new();
    for id in ids {
        let waits: Option<bool> =
            waits.query_row(params![&id.as_bytes()[..], acknowledged], |row| row.get(0)).optional()?;
        if waits == Some(false) {
            found.extend(stored(conn, At::Id(id), now, rot)?.map(|event| event.json));
        }
    }
    Ok(found)
}

/// What is remembered of peers.
pub(super) fn all(conn: &Connection) -> Result<Vec<PeerRow>> {
    let mut statement = conn.prepare_cached("SELECT url, key, acknowledged FROM peer")?;
    let rows = statement.query_map([], |row| {
        Ok(PeerRow {
            name: row.get(0)?,
            key: row.get::<_, Option<[u8; 32]>>(1)?.map(PublicKey::from_bytes),
            acknowledged: row.get(2)?,
        })
    })?;
    rows.collect()
}

/// Remembers a peer.
pub(super) fn keep(tx: &Connection, peer: &PeerRow) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO peer VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET key = excluded.key, acknowledged = excluded.acknowledged",
    )?
    .execute(params![peer.name, peer.key.as_ref().map(|key| &key.as_bytes()[..]), peer.acknowledged])?;
    Ok(())
}
