//! What an operator does with the store of a node: back it up, and check it. Beside a running node as well as without one.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use rusqlite::Connection;
use talkbox_core::{
    Error, ErrorKind, Result,
    sqlite::{is_damage, maintenance, storage},
};

use crate::{
    node::STORE,
    orbitdb::{Block, Cid},
    store,
};

/// Damaged blocks that a report names.
const MAX_NAMED: usize = 100;
/// Faults of pages and indexes that are told.
const MAX_FAULTS: u32 = 20;
/// Where the head of a file of SQLite says whose it is.
const APPLICATION_AT: usize = 68;

/// What was backed up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackedUp {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// How many blocks are in it.
    pub blocks: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// How many blocks were looked at: the entries of logs, and what belongs to them.
    pub blocks: u64,
    /// How many of them are not what their name says.
    pub damaged: u64,
    /// The names of the first hundred of these.
    pub named: Vec<String>,
    /// What SQLite finds wrong with its pages and indexes, and entries without a block.
    pub faults: Vec<String>,
}

impl Verified {
    /// Whether all is well.
    pub const fn is_sound(&self) -> bool {
        self.damaged == 0 && self.faults.is_empty()
    }
}

/// The store in the folder of a peer, where there is one.
pub fn store_in(folder: &Path) -> Option<PathBuf> {
    Some(folder.join(STORE)).filter(|path| path.is_file())
}

/// Whether this file is the store of a peer, by its head.
///
/// # Errors
/// Those of the system.
pub fn is_store(file: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    File::open(file)?.take(APPLICATION_AT as u64 + 4).read_to_end(&mut head)?;
    Ok(head.get(APPLICATION_AT..) == Some(&store::APPLICATION_ID.to_be_bytes()[..]))
}

/// Copies the store in the file `store`, as it is at one moment, into a file that is not there yet. The node goes on
/// meanwhile.
///
/// Put into the folder of a peer as `ipfs.sqlite3`, the copy is a store, with an epoch of its own. The key of the peer is not
/// in it.
///
/// # Errors
/// `InvalidInput` where there is a file of that name; `Storage` where the copy fails: then nothing is left behind.
pub fn backup(store: &Path, to: &Path) -> Result<BackedUp> {
    let source = maintenance::open(store)?;
    let epoch = getrandom::u64()
        .map_err(|_| Error::new(ErrorKind::Unexpected, "the operating system gives no random numbers"))?;
    let mut blocks = 0;
    let bytes = maintenance::copy(&source, to, |copy| {
        store::renew(copy, epoch)?;
        blocks = copy.query_row("SELECT count(*) FROM blocks", [], |row| row.get::<_, i64>(0))?.unsigned_abs();
        Ok(())
    })?;
    Ok(BackedUp { path: to.to_owned(), bytes, blocks })
}

/// Checks the store in this file: every page and index, and of every block whether it is what its name says. One block at a
/// time is in memory. It changes nothing.
///
/// # Errors
/// `NotFound` where there is no such file; `Storage` where it cannot be read for other reasons than that it is damaged.
pub fn verify(store: &Path) -> Result<Verified> {
    if !store.is_file() {
        return Err(Error::new(ErrorKind::NotFound, "there is no such file").with("file", store.display()));
    }
    match maintenance::open(store).and_then(|db| check(&db)) {
        Err(error) if is_damage(&error) => {
            let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Ok(Verified { faults: vec![why], ..Verified::default() })
        }
        checked => checked,
    }
}

fn check(db: &Connection) -> Result<Verified> {
    let mut found = Verified { faults: maintenance::faults(db, MAX_FAULTS)?, ..Verified::default() };
    // In the order in which they lie on the disk.
    let mut blocks = db.prepare("SELECT cid, bytes FROM blocks NOT INDEXED").map_err(storage)?;
    let mut blocks = blocks.query([]).map_err(storage)?;
    loop {
        let row = match blocks.next() {
            Ok(Some(row)) => row,
            Ok(None) => break,
            // What is behind it cannot be reached.
            Err(error) => {
                found.faults.push(error.to_string());
                break;
            }
        };
        found.blocks += 1;
        let name = row.get::<_, Vec<u8>>(0).ok().and_then(|cid| Cid::try_from(cid.as_slice()).ok());
        let bytes = row.get::<_, Vec<u8>>(1).ok();
        if name.zip(bytes).and_then(|(cid, bytes)| Block::checked(cid, bytes.into())).is_none() {
            found.damaged += 1;
            if let Some(cid) = name
                && found.named.len() < MAX_NAMED
            {
                found.named.push(cid.to_string());
            }
        }
    }
    let sql =
        "SELECT count(*) FROM entries WHERE NOT EXISTS (SELECT 1 FROM blocks WHERE blocks.number = entries.number)";
    match db.query_row(sql, [], |row| row.get::<_, i64>(0)) {
        Ok(0) => {}
        Ok(lacking) => found.faults.push(format!("{lacking} entries have no block")),
        Err(error) => found.faults.push(error.to_string()),
    }
    Ok(found)
}
