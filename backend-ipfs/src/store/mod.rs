//! What a node keeps: the entries of the logs that are open, which of them are joined, and the mail in them.
//!
//! One SQLite file. All that writes runs on one thread, many calls in one commit; what is returned is on disk. Nothing is
//! loaded when a log is opened, and memory does not grow with its length.

mod admit;
mod append;
mod blocks;
mod connection;
mod contents;
mod envelopes;
mod expiry;
mod health;
mod identities;
mod intake;
mod join;
mod limits;
mod logs;
mod missing;
mod schema;
mod sets;
#[cfg(test)]
mod tests;
mod walk;

use std::{collections::HashSet, fmt, path::Path, sync::Arc};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _};
use talkbox_core::{
    Clock, Envelope, EnvelopeId, MailboxId, Result, Timestamp,
    sqlite::{Database, Place, Sql},
};

#[cfg(test)]
pub(crate) use self::envelopes::Page;
pub(crate) use self::{
    append::Appended,
    contents::LogContents,
    health::Standing,
    intake::{Received, Taken},
    limits::{MAX_ENTRY_BYTES, Refused, StoreLimits},
    logs::LogState,
    schema::{APPLICATION_ID, renew},
    sets::EntrySet,
    walk::Head,
};
use self::{append::Say, health::Health, identities::Identities, intake::MAX_MISSING, logs::Log, sets::Sets};
use crate::orbitdb::{Block, Cid, LogAddress, MonthLog, Writer};

/// The logs of a node. A clone costs a counter.
#[derive(Clone)]
pub(crate) struct Store(Arc<Inner>);

struct Inner {
    database: Database<Shared>,
    identities: Identities,
    sets: Arc<Sets>,
    health: Health,
    epoch: u64,
}

/// What both kinds of connection need.
struct Shared {
    clock: Arc<dyn Clock>,
    limits: StoreLimits,
}

/// A connection in a transaction, and what work on it needs.
struct Access<'a> {
    db: &'a Connection,
    now: Timestamp,
    limits: &'a StoreLimits,
}

impl Store {
    /// Opens a store, and creates it where there is none: the file with mode 0600, and the folders above it. Without a
    /// path it is in memory, and gone when it is closed.
    ///
    /// # Errors
    /// `Storage` where the file cannot be used, is damaged, is something else, or was written by a newer version.
    pub(crate) async fn open(path: Option<&Path>, clock: Arc<dyn Clock>, limits: StoreLimits) -> Result<Self> {
        let place = path.map_or(Place::Memory, |path| Place::File(path.to_owned()));
        let database = Database::open(place, Shared { clock, limits }).await?;
        let epoch = database.read(|access| meta(access.db, schema::EPOCH)).await?;
        let epoch = epoch.and_then(|value| value.try_into().ok()).map_or(0, u64::from_le_bytes);
        let inner = Inner {
            database,
            identities: Identities::default(),
            sets: Arc::default(),
            health: Health::default(),
            epoch,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Carries out what was handed over and closes the file. Calls that come later fail with `Closed`.
    pub(crate) async fn close(&self) {
        self.0.database.close().await;
    }

    /// The bytes behind a link, if they are here.
    #[cfg(test)]
    pub(crate) async fn block(&self, cid: Cid) -> Result<Option<Bytes>> {
        self.read(move |access| blocks::get(access.db, &cid)).await
    }

    /// The same for some links, in their order. All of them are in memory together: ask for few.
    pub(crate) async fn blocks(&self, cids: Vec<Cid>) -> Result<Vec<Option<Bytes>>> {
        self.read(move |access| cids.iter().map(|cid| blocks::get(access.db, cid)).collect()).await
    }

    /// How many bytes are behind each link that is here.
    pub(crate) async fn sizes(&self, cids: Vec<Cid>) -> Result<Vec<Option<usize>>> {
        self.read(move |access| cids.iter().map(|cid| blocks::size(access.db, cid)).collect()).await
    }

    /// Keeps blocks that are no entries: as long as this log, or always.
    ///
    /// # Errors
    /// `NotFound` where the log is not open.
    pub(crate) async fn put_blocks(&self, log: Option<&LogAddress>, blocks: Vec<Block>) -> Result<()> {
        let log = log.cloned();
        let put = move |access: &Access<'_>| {
            let log = companion_of(access, log.as_ref())?;
            blocks.iter().try_for_each(|block| blocks::keep_beside(access.db, log, block))
        };
        self.write(put).await
    }

    /// Lets go of blocks that were put for this log, or for always.
    ///
    /// # Errors
    /// `NotFound` where the log is not open.
    pub(crate) async fn drop_blocks(&self, log: Option<&LogAddress>, cids: Vec<Cid>) -> Result<()> {
        let log = log.cloned();
        let drop = move |access: &Access<'_>| {
            let log = companion_of(access, log.as_ref())?;
            for cid in &cids {
                if let Some(number) = blocks::number_of(access.db, cid)? {
                    blocks::leave_beside(access.db, log, number)?;
                }
            }
            Ok(())
        };
        self.write(drop).await
    }

    /// Opens a log, with the two blocks that define it. Nothing changes where it is open.
    ///
    /// # Errors
    /// `Refused`, worth another try, while what was there before is still being removed.
    pub(crate) async fn open_log(&self, log: MonthLog) -> Result<()> {
        self.write(move |access| logs::open(access.db, &log)).await
    }

    /// All logs that are open, by mailbox and month.
    pub(crate) async fn logs(&self) -> Result<Vec<LogState>> {
        self.read(|access| logs::all(access.db)).await
    }

    /// Appends envelopes that are not in the log yet: the first entry names the greatest heads of ours and of `onto`, each
    /// further one the one before it. On disk when it returns, all or nothing.
    ///
    /// `onto` are heads that a holder told, with the times of their clocks; they need not be here. An entry on one that is
    /// not waits until it comes, and is given to others all the same.
    ///
    /// # Errors
    /// `NotFound` where the log is not open; `Storage`.
    pub(crate) async fn append(
        &self,
        log: &LogAddress,
        envelopes: Vec<Envelope>,
        writer: Arc<Writer>,
        onto: Vec<(Cid, u64)>,
    ) -> Result<Vec<Appended>> {
        let ids = envelopes.iter().map(Envelope::id).collect();
        let says = envelopes.into_iter().map(Say::Mail).collect();
        let log = log.clone();
        let done = self.write(move |access| append::append(access, &log, says, &writer, onto)).await?;
        Ok(append::told(ids, done))
    }

    /// The same for values that are no mail. The entries that were written.
    ///
    /// # Errors
    /// As [`append`](Self::append); `InvalidInput` for a value that JavaScript peers could not read.
    #[cfg(any(test, feature = "bench"))]
    pub(crate) async fn append_values(
        &self,
        log: &LogAddress,
        values: Vec<crate::orbitdb::Value>,
        writer: Arc<Writer>,
    ) -> Result<Vec<Block>> {
        let says = values.into_iter().map(Say::Value).collect();
        let log = log.clone();
        let done = self.write(move |access| append::append(access, &log, says, &writer, Vec::new())).await?;
        Ok(done.into_iter().filter_map(|one| one.ok().flatten()).collect())
    }

    /// Takes blocks that others sent for a log, in any order: entries, and the identities of their writers. Identities
    /// belong into the same call as the first entry that names them; alone they are junk, except where one waits for them.
    /// Also the way for a single entry of gossip. What was taken is on disk when it returns.
    ///
    /// # Errors
    /// `NotFound` where the log is not open; `Storage`. Of a block that is refused, [`Taken`] says why.
    pub(crate) async fn receive(&self, log: &LogAddress, blocks: Vec<Block>) -> Result<Received> {
        self.take_in(log.clone(), blocks).await
    }

    /// What entries of a log wait for, that is not here and is worth asking for now.
    ///
    /// # Errors
    /// `NotFound` where the log is not open.
    pub(crate) async fn missing(&self, log: &LogAddress, limit: usize) -> Result<Vec<Cid>> {
        let address = log.clone();
        let find = move |access: &Access<'_>| {
            let log = Log::open(access.db, &address)?;
            let mut held = Vec::new();
            let mut missing = Vec::new();
            for cid in missing::due(access.db, &log, limit.min(MAX_MISSING), access.now)? {
                match blocks::get(access.db, &cid)? {
                    Some(bytes) => held.push(Block { cid, bytes }),
                    None => missing.push(cid),
                }
            }
            Ok((held, missing))
        };
        let (held, missing) = self.read(find).await?;
        if !held.is_empty() {
            // An identity that came for another log; or what is no entry of this log, though one names it as that.
            let cids: Vec<Cid> = held.iter().map(|block| block.cid).collect();
            self.take_in(log.clone(), held).await?;
            let address = log.clone();
            let settle = move |access: &Access<'_>| {
                let log = Log::open(access.db, &address)?;
                cids.iter().try_for_each(|cid| missing::never_unless_identity(access.db, &log, cid))
            };
            self.write(settle).await?;
        }
        Ok(missing)
    }

    /// Lets a block that nobody had not be asked for during a while, which becomes longer every time. What waits for it
    /// goes on waiting.
    ///
    /// # Errors
    /// `NotFound` where the log is not open.
    pub(crate) async fn give_up(&self, log: &LogAddress, cid: Cid) -> Result<()> {
        let address = log.clone();
        let put_off = move |access: &Access<'_>| {
            let log = Log::open(access.db, &address)?;
            missing::put_off(access.db, &log, &cid, access.now)
        };
        self.write(put_off).await
    }

    /// Lets all blocks be asked for again that nobody had: a peer may have got them since.
    ///
    /// # Errors
    /// `NotFound` where the log is not open.
    pub(crate) async fn ask_again(&self, log: &LogAddress) -> Result<()> {
        let address = log.clone();
        self.write(move |access| missing::hurry(access.db, &Log::open(access.db, &address)?)).await
    }

    /// The greatest heads of what is joined, greatest first.
    ///
    /// # Errors
    /// `NotFound` where the log is not open.
    pub(crate) async fn heads(&self, log: &LogAddress, limit: usize) -> Result<Vec<Head>> {
        self.in_log(log, move |access, log| walk::heads(access.db, log, limit)).await
    }

    /// How many entries are in [`set`](Self::set), without making it.
    ///
    /// # Errors
    /// `NotFound` where the log is not open.
    pub(crate) async fn entries(&self, log: &LogAddress) -> Result<u64> {
        self.in_log(log, |_, log| Ok(log.entries)).await
    }

    /// All entries whose signature holds, joined or waiting, to be compared with those of another holder.
    ///
    /// # Errors
    /// `NotFound` where the log is not open.
    pub(crate) async fn set(&self, log: &LogAddress) -> Result<EntrySet> {
        let sets = Arc::clone(&self.0.sets);
        self.in_log(log, move |access, log| sets.of(access.db, log)).await
    }

    /// The entries with these SHA-256, as far as they are in the set, each behind the identity of its writer; no block
    /// twice. All of them are in memory together: ask for few.
    ///
    /// # Errors
    /// `NotFound` where the log is not open.
    pub(crate) async fn bundle(&self, log: &LogAddress, digests: Vec<[u8; 32]>) -> Result<Vec<Block>> {
        self.in_log(log, move |access, log| sets::bundle(access.db, log, &digests)).await
    }

    /// The first so many entries of a log in the order of the JavaScript library's iterator: from the heads, newest first.
    ///
    /// # Errors
    /// `NotFound` where the log is not open.
    #[cfg(any(test, feature = "bench"))]
    pub(crate) async fn traverse(&self, log: &LogAddress, limit: usize) -> Result<Vec<Block>> {
        self.in_log(log, move |access, log| walk::traverse(access.db, log, limit)).await
    }

    /// The newest entries by the time of their clocks, joined or not.
    ///
    /// # Errors
    /// `NotFound` where the log is not open.
    #[cfg(test)]
    pub(crate) async fn newest(&self, log: &LogAddress, limit: usize) -> Result<Vec<Block>> {
        self.in_log(log, move |access, log| walk::newest(access.db, log, limit)).await
    }

    /// The entries that brought these envelopes to a log, as far as they did and their signatures hold.
    ///
    /// # Errors
    /// `NotFound` where the log is not open.
    pub(crate) async fn entries_with(&self, log: &LogAddress, ids: Vec<EnvelopeId>) -> Result<Vec<Cid>> {
        self.in_log(log, move |access, log| envelopes::entries_with(access.db, log, &ids)).await
    }

    /// The mail of a log that came with other entries than these, in the order in which it was found.
    ///
    /// # Errors
    /// `NotFound` where the log is not open.
    pub(crate) async fn shown_but(&self, log: &LogAddress, lacking: Vec<[u8; 32]>) -> Result<Vec<EnvelopeId>> {
        let lacking: HashSet<[u8; 32]> = lacking.into_iter().collect();
        self.in_log(log, move |access, log| envelopes::shown_but(access.db, log, &lacking)).await
    }

    /// Until when each of these envelopes is held, as far as others can get it here and it has not expired.
    pub(crate) async fn held(&self, ids: Vec<EnvelopeId>) -> Result<Vec<Option<Timestamp>>> {
        self.read(move |access| envelopes::held(access.db, &ids, access.now)).await
    }

    /// The mail of a mailbox that was found after a place, in the order in which it was found, less what has expired.
    #[cfg(test)]
    pub(crate) async fn page(&self, mailbox: MailboxId, after: i64, limit: usize) -> Result<envelopes::Page> {
        self.read(move |access| envelopes::page(access.db, mailbox, after, limit, access.now)).await
    }

    /// Those envelopes of a mailbox that are asked for, in the order asked, as far as they are here and have not expired.
    pub(crate) async fn get(&self, mailbox: MailboxId, ids: Vec<EnvelopeId>) -> Result<Vec<(EnvelopeId, Arc<str>)>> {
        self.read(move |access| envelopes::get(access.db, mailbox, &ids, access.now)).await
    }

    /// All blocks of a log, entries and others.
    ///
    /// # Errors
    /// `NotFound` where the log is not open.
    pub(crate) async fn contents(&self, log: &LogAddress) -> Result<LogContents> {
        self.in_log(log, contents::of_log).await
    }

    /// In which log each envelope is, and the number under which it was found; `None` for one that is not here.
    pub(crate) async fn places(&self, ids: Vec<EnvelopeId>) -> Result<Vec<Option<(LogAddress, i64)>>> {
        self.read(move |access| contents::places(access, &ids)).await
    }

    /// A random number that tells this store from any other, also from one that takes its place.
    pub(crate) fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// Runs work of another module on its own tables, on the writer and in a transaction, which is taken back where the
    /// work fails. The names of such tables begin with that of their module.
    pub(crate) async fn with<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Sql<T> + Send + 'static,
    {
        self.write(move |access| work(access.db)).await
    }

    /// Drops the months that are over at this time, 31 days after the last envelope in them has expired: entries, blocks
    /// and mail. How many.
    pub(crate) async fn expire(&self, now: Timestamp) -> Result<usize> {
        let dropped = self.write(move |access| expiry::mark(access, now)).await?;
        while self.write(expiry::remove_some).await? {}
        Ok(dropped)
    }

    /// Work that writes, committed when this returns.
    async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Access<'_>) -> Sql<T> + Send + 'static,
    {
        let work = move |access: &Access<'_>| {
            let before = access.db.total_changes();
            let done = work(access)?;
            Ok((done, access.db.total_changes() > before))
        };
        let done = self.0.database.write(work).await;
        self.0.health.done(&done);
        done.map(|(done, _)| done)
    }

    /// Work that reads.
    async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Access<'_>) -> Sql<T> + Send + 'static,
    {
        self.0.database.read(work).await.inspect_err(|error| self.0.health.failed(error))
    }

    /// Work that reads a log.
    async fn in_log<T, F>(&self, log: &LogAddress, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Access<'_>, &Log) -> Sql<T> + Send + 'static,
    {
        let address = log.clone();
        self.read(move |access| work(access, &Log::open(access.db, &address)?)).await
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("database", &self.0.database).finish_non_exhaustive()
    }
}

fn companion_of(access: &Access<'_>, log: Option<&LogAddress>) -> Sql<i64> {
    log.map_or(Ok(blocks::ALWAYS), |log| Ok(Log::open(access.db, log)?.number))
}

fn meta(db: &Connection, name: &str) -> Sql<Option<Vec<u8>>> {
    let mut select = db.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
    Ok(select.query_row([name], |row| row.get(0)).optional()?)
}

/// A number as SQLite stores it. One that does not fit stays at the end.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number as it was stored; none of ours is negative.
fn nat(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
