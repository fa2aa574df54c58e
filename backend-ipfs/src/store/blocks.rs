//! Blocks, and the links to them.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _};

use crate::orbitdb::{Block, Cid};
use talkbox_core::sqlite::{Sql, damaged};

/// The log of blocks that stay whatever becomes of any log.
pub(super) const ALWAYS: i64 = 0;

/// The number of a block, where it is held.
pub(super) fn number_of(db: &Connection, cid: &Cid) -> Sql<Option<i64>> {
    let mut select = db.prepare_cached("SELECT number FROM blocks WHERE cid = ?1")?;
    Ok(select.query_row([cid.to_bytes()], |row| row.get(0)).optional()?)
}

/// Stores a block that is not held. Its number.
pub(super) fn insert(db: &Connection, cid: &Cid, bytes: &[u8]) -> Sql<i64> {
    let mut insert = db.prepare_cached("INSERT INTO blocks (cid, bytes) VALUES (?1, ?2)")?;
    Ok(insert.insert((cid.to_bytes(), bytes))?)
}

/// The bytes of a block.
pub(super) fn get(db: &Connection, cid: &Cid) -> Sql<Option<Bytes>> {
    let mut select = db.prepare_cached("SELECT bytes FROM blocks WHERE cid = ?1")?;
    Ok(select.query_row([cid.to_bytes()], |row| row.get::<_, Vec<u8>>(0)).optional()?.map(Bytes::from))
}

/// A block by its number.
pub(super) fn by_number(db: &Connection, number: i64) -> Sql<Block> {
    let mut select = db.prepare_cached("SELECT cid, bytes FROM blocks WHERE number = ?1")?;
    let (cid, bytes): (Vec<u8>, Vec<u8>) = select.query_row([number], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Block { cid: cid_out(&cid)?, bytes: Bytes::from(bytes) })
}

/// How many bytes a block has, without reading them.
pub(super) fn size(db: &Connection, cid: &Cid) -> Sql<Option<usize>> {
    let mut select = db.prepare_cached("SELECT length(bytes) FROM blocks WHERE cid = ?1")?;
    Ok(select
        .query_row([cid.to_bytes()], |row| row.get(0))
        .optional()?
        .map(|size: i64| usize::try_from(size).unwrap_or(0)))
}

/// Keeps a block as long as a log, or [`ALWAYS`].
pub(super) fn keep_beside(db: &Connection, log: i64, block: &Block) -> Sql<()> {
    let number = match number_of(db, &block.cid)? {
        Some(number) => number,
        None => insert(db, &block.cid, &block.bytes)?,
    };
    let mut insert = db.prepare_cached("INSERT OR IGNORE INTO companions (block, log) VALUES (?1, ?2)")?;
    insert.execute((number, log))?;
    Ok(())
}

/// Lets a log no longer need a block, and removes the block where nothing does.
pub(super) fn leave_beside(db: &Connection, log: i64, number: i64) -> Sql<()> {
    db.prepare_cached("DELETE FROM companions WHERE block = ?1 AND log = ?2")?.execute((number, log))?;
    let mut remove = db.prepare_cached(
        "DELETE FROM blocks WHERE number = ?1
         AND NOT EXISTS (SELECT 1 FROM companions WHERE block = ?1) AND NOT EXISTS (SELECT 1 FROM entries WHERE number = ?1)",
    )?;
    remove.execute([number])?;
    Ok(())
}

/// A link as it was stored.
pub(super) fn cid_out(bytes: &[u8]) -> Sql<Cid> {
    Cid::try_from(bytes).map_err(|_| damaged("blocks").into())
}

/// Links, one after the other.
pub(super) fn pack(links: &[Cid]) -> Vec<u8> {
    links.iter().flat_map(Cid::to_bytes).collect()
}

/// Links that were packed.
pub(super) fn unpack(mut bytes: &[u8]) -> Sql<Vec<Cid>> {
    let mut links = Vec::new();
    while !bytes.is_empty() {
        links.push(Cid::read_bytes(&mut bytes).map_err(|_| damaged("entries"))?);
    }
    Ok(links)
}
