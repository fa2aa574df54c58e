//! Receiving: what others send is read and verified on all cores, beside the writer, and taken into the log in portions.

use std::collections::{HashMap, HashSet};

use rusqlite::OptionalExtension as _;
use talkbox_core::{EnvelopeId, Error, ErrorKind, MailboxId, Result, parallel, sqlite::Sql};
use tokio::task;

use super::{
    Access, MAX_ENTRY_BYTES, Refused, Store,
    admit::{Checked, Verdict},
    blocks,
    identities::{Identities, Looked},
    int,
    join::{self, Joining},
    logs::Log,
    missing, walk,
};
use crate::orbitdb::{Block, Cid, Entry, LogAddress, Why, self_valid_by, shown};

/// Entries that one turn of the writer takes: some 30 ms.
const PORTION: usize = 512;
/// The bytes of those. One entry always fits.
const PORTION_BYTES: usize = 4 * 1024 * 1024;
/// Entries whose identity has come and that are looked at with it. Those behind them are, when it is asked for again.
const REVIVED: usize = 1_024;
/// Most links that are reported as missing: who fetches them comes back with what they lead to.
pub(super) const MAX_MISSING: usize = 1_024;

/// What became of blocks that were received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// One for every block but those that were used as identities, each once, in no order.
    pub(crate) entries: Vec<Taken>,
    /// Mail that was not known, and its places.
    pub(crate) shown: Vec<(EnvelopeId, i64)>,
    /// What to fetch, so that the entries that came can be joined.
    pub(crate) missing: Vec<Cid>,
    /// Whether the heads are others than before.
    pub(crate) heads_changed: bool,
}

/// What became of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The link to it.
    pub(crate) cid: Cid,
    /// Whether it may be handed on: its signature holds, and JavaScript peers store it as the bytes that it came as. Not
    /// told of what was known before.
    pub(crate) forward: bool,
    /// Whether it was not known, or not verified, before.
    pub(crate) is_new: bool,
    /// Whether it is a part of the log: so are all its ancestors.
    pub(crate) joined: bool,
    /// Why it was not taken.
    pub(crate) refused: Option<Refused>,
}

/// What the store knows of blocks that came.
struct Known {
    mailbox: MailboxId,
    write: Vec<String>,
    /// Those to be looked at.
    fresh: Vec<Block>,
    taken: Vec<Taken>,
    /// Those that are held already, beside entries.
    beside: HashSet<Cid>,
    /// Entries that wait for one of the blocks as their identity.
    revived: Vec<Block>,
    /// Whether something is left to be joined.
    postponed: bool,
}

/// What is read of the blocks.
struct Read {
    entries: Vec<Entry>,
    /// Blocks that are no entries: identities, or nothing.
    others: HashMap<Cid, Block>,
    refused: Vec<Taken>,
}

impl Store {
    pub(super) async fn take_in(&self, log: LogAddress, blocks: Vec<Block>) -> Result<Received> {
        let address = log.clone();
        let known = self.read(move |access| known(access, &address, blocks)).await?;
        let Known { mailbox, write, fresh, taken, beside, revived, postponed } = known;
        if postponed {
            // A process ended amid a long chain.
            self.go_on(&log).await?;
        }
        let Read { entries, others, refused } = off_thread(move || read(fresh, revived)).await?;
        let mut received = Received { entries: taken, ..Received::default() };
        received.entries.extend(refused);

        let named: HashSet<Cid> = entries.iter().map(|entry| entry.identity).collect();
        received.entries.extend(others.keys().filter(|cid| !named.contains(*cid) && !beside.contains(*cid)).map(junk));
        let identities = self.identities(&named, &others).await?;
        let address = log.clone();
        let checked = off_thread(move || check(entries, &identities, &address, &write, mailbox)).await?;

        let arrived: HashSet<Cid> = checked.iter().map(|checked| checked.entry.cid).collect();
        for portion in portions(checked) {
            let used = portion.iter().filter_map(|checked| others.get(&checked.entry.identity).cloned());
            let used: HashMap<Cid, Block> = used.map(|block| (block.cid, block)).collect();
            let address = log.clone();
            let part = self.write(move |access| take(access, &address, &portion, &used)).await?;
            let (part, postponed) = part;
            received.entries.extend(part.entries);
            received.shown.extend(part.shown);
            received.missing.extend(part.missing);
            received.heads_changed |= part.heads_changed;
            if postponed {
                received.heads_changed |= self.go_on(&log).await?;
            }
        }
        self.tell_joined(&log, &mut received.entries).await?;
        let mut told = HashSet::new();
        received.missing.retain(|cid| !arrived.contains(cid) && told.insert(*cid));
        received.missing.truncate(MAX_MISSING);
        let refused = || received.entries.iter().filter_map(|taken| taken.refused.as_ref());
        self.0.health.refused(refused().count(), refused().any(|why| *why == Refused::StoreFull));
        Ok(received)
    }

    /// Joins what is left of a long chain, in further turns of the writer.
    async fn go_on(&self, log: &LogAddress) -> Result<bool> {
        let mut heads_changed = false;
        loop {
            let address = log.clone();
            let turn = move |access: &Access<'_>| {
                let mut joining = Joining::new(access, Log::open(access.db, &address)?)?;
                joining.go_on()?;
                Ok((joining.finish()?, joining.heads_changed))
            };
            let (postponed, changed) = self.write(turn).await?;
            heads_changed |= changed;
            if !postponed {
                return Ok(heads_changed);
            }
        }
    }

    /// Some were joined by what was taken after them.
    async fn tell_joined(&self, log: &LogAddress, entries: &mut [Taken]) -> Result<()> {
        let waiting = entries.iter_mut().filter(|taken| taken.is_new && !taken.joined).collect::<Vec<_>>();
        if waiting.is_empty() {
            return Ok(());
        }
        let cids: Vec<Cid> = waiting.iter().map(|taken| taken.cid).collect();
        let joined = self.in_log(log, move |access, log| {
            cids.iter().map(|cid| walk::is_joined(access.db, log, cid)).collect::<Sql<Vec<_>>>()
        });
        waiting.into_iter().zip(joined.await?).for_each(|(taken, joined)| taken.joined = joined);
        Ok(())
    }

    /// The verdicts on the identities that are named: remembered, or on blocks that came or are held.
    async fn identities(&self, named: &HashSet<Cid>, came: &HashMap<Cid, Block>) -> Result<HashMap<Cid, Looked>> {
        let mut verdicts = HashMap::new();
        let (mut here, mut asked) = (Vec::new(), Vec::new());
        for cid in named {
            match (came.get(cid), self.0.identities.get(cid)) {
                // One that is remembered but neither came nor is held would be missing to all others.
                (Some(_), Some(looked)) => {
                    verdicts.insert(*cid, looked);
                }
                (Some(block), None) => here.push(block.clone()),
                (None, _) => asked.push(*cid),
            }
        }
        if !asked.is_empty() {
            let held = self.read(move |access| {
                asked.into_iter().map(|cid| Ok((cid, blocks::get(access.db, &cid)?))).collect::<Sql<Vec<_>>>()
            });
            for (cid, bytes) in held.await? {
                match (bytes, self.0.identities.get(&cid)) {
                    (Some(_), Some(looked)) => {
                        verdicts.insert(cid, looked);
                    }
                    (Some(bytes), None) => here.push(Block { cid, bytes }),
                    (None, _) => {}
                }
            }
        }
        if !here.is_empty() {
            let store = self.clone();
            let looked = off_thread(move || {
                let Self(inner) = &store;
                parallel::map(&here, |block| (block.cid, look(&inner.identities, block)))
            });
            verdicts.extend(looked.await?);
        }
        Ok(verdicts)
    }
}

fn look(identities: &Identities, block: &Block) -> Looked {
    identities.look(block.cid, &block.bytes)
}

/// Parts what is new from what is known.
fn known(access: &Access<'_>, address: &LogAddress, blocks: Vec<Block>) -> Sql<Known> {
    let log = Log::open(access.db, address)?;
    let mut state = access.db.prepare_cached(
        "SELECT e.state FROM blocks b LEFT JOIN entries e ON e.number = b.number AND e.log = ?2 WHERE b.cid = ?1",
    )?;
    let mut waiting = access.db.prepare_cached(
        "SELECT b.cid, b.bytes FROM entries e JOIN blocks b ON b.number = e.number
         WHERE waits_for = ?1 AND state = 0 AND log = ?2 LIMIT ?3",
    )?;
    let mut known = Known {
        postponed: join::is_postponed(access.db, &log)?,
        mailbox: log.mailbox,
        write: log.write,
        fresh: Vec::new(),
        taken: Vec::new(),
        beside: HashSet::new(),
        revived: Vec::new(),
    };
    let mut came = HashSet::new();
    for block in blocks {
        if !came.insert(block.cid) {
            continue;
        }
        let row = (block.cid.to_bytes(), log.number);
        match state.query_row(row, |row| row.get::<_, Option<i64>>(0)).optional()? {
            Some(Some(state)) if state > 0 => {
                let (cid, joined) = (block.cid, state == 2);
                known.taken.push(Taken { cid, forward: false, is_new: false, joined, refused: None });
                continue;
            }
            Some(None) => {
                known.beside.insert(block.cid);
            }
            _ => {}
        }
        let room = int((REVIVED - known.revived.len().min(REVIVED)) as u64);
        let mut rows = waiting.query((block.cid.to_bytes(), log.number, room))?;
        while let Some(row) = rows.next()? {
            let cid: Vec<u8> = row.get(0)?;
            known.revived.push(Block { cid: blocks::cid_out(&cid)?, bytes: row.get::<_, Vec<u8>>(1)?.into() });
        }
        known.fresh.push(block);
    }
    Ok(known)
}

/// Reads blocks as entries. Each once, also where it came and is waiting, too.
fn read(fresh: Vec<Block>, revived: Vec<Block>) -> Read {
    let came: HashSet<Cid> = fresh.iter().map(|block| block.cid).collect();
    let mut all = fresh;
    all.extend(revived.into_iter().filter(|block| !came.contains(&block.cid)));
    let read = parallel::map(&all, |block| match Entry::decode(block.bytes.clone()) {
        // A link of another codec to the same bytes names no entry.
        Ok(entry) if entry.cid == block.cid => Some(entry),
        _ => None,
    });
    let mut sorted = Read { entries: Vec::new(), others: HashMap::new(), refused: Vec::new() };
    for (block, entry) in all.into_iter().zip(read) {
        if block.bytes.len() > MAX_ENTRY_BYTES {
            sorted.refused.push(refused(block.cid, Refused::TooLarge));
        } else if let Some(entry) = entry {
            sorted.entries.push(entry);
        } else {
            sorted.others.insert(block.cid, block);
        }
    }
    sorted
}

/// Looks at entries, each by itself, and gives them in the order of their clocks: mostly, ancestors come first.
fn check(
    entries: Vec<Entry>,
    identities: &HashMap<Cid, Looked>,
    log: &LogAddress,
    write: &[String],
    mailbox: MailboxId,
) -> Vec<Checked> {
    let verdicts = parallel::map(&entries, |entry| {
        let verdict = match identities.get(&entry.identity) {
            _ if entry.log != log.as_str() => Verdict::Refused(Refused::Invalid(Why::OtherLog)),
            None => Verdict::NoIdentity,
            Some(Err(why)) => Verdict::Refused(Refused::Invalid(*why)),
            Some(Ok(identity)) => match self_valid_by(entry, log, write, identity) {
                Ok(()) => Verdict::Sound,
                Err(why) => Verdict::Refused(Refused::Invalid(why)),
            },
        };
        (verdict, shown(entry, mailbox))
    });
    let mut checked: Vec<Checked> =
        entries.into_iter().zip(verdicts).map(|(entry, (verdict, mail))| Checked { entry, verdict, mail }).collect();
    checked.sort_by_cached_key(|checked| (checked.entry.sort_time(), checked.entry.cid));
    checked
}

/// Takes a portion into the log, in one transaction.
fn take(
    access: &Access<'_>,
    log: &LogAddress,
    portion: &[Checked],
    came: &HashMap<Cid, Block>,
) -> Sql<(Received, bool)> {
    let mut joining = Joining::new(access, Log::open(access.db, log)?)?;
    let mut received = Received::default();
    let mut used = HashSet::new();
    for checked in portion {
        let taken = joining.take(checked)?;
        if taken.is_new && matches!(checked.verdict, Verdict::Sound) {
            used.insert(checked.entry.identity);
        }
        received.entries.push(taken);
    }
    for block in used.iter().filter_map(|identity| came.get(identity)) {
        blocks::keep_beside(access.db, joining.log.number, block)?;
    }
    for identity in came.keys() {
        missing::settle(access.db, &joining.log, identity)?;
    }
    let postponed = joining.finish()?;
    received.shown = joining.shown;
    received.missing = joining.missing;
    received.heads_changed = joining.heads_changed;
    Ok((received, postponed))
}

/// Divides what is taken among turns of the writer.
fn portions(checked: Vec<Checked>) -> Vec<Vec<Checked>> {
    let mut portions: Vec<Vec<Checked>> = Vec::new();
    let mut bytes = 0;
    for checked in checked {
        bytes += checked.entry.bytes.len();
        match portions.last_mut().filter(|last| last.len() < PORTION && bytes <= PORTION_BYTES) {
            Some(last) => last.push(checked),
            None => {
                bytes = checked.entry.bytes.len();
                portions.push(vec![checked]);
            }
        }
    }
    portions
}

const fn refused(cid: Cid, why: Refused) -> Taken {
    Taken { cid, forward: false, is_new: false, joined: false, refused: Some(why) }
}

const fn junk(cid: &Cid) -> Taken {
    refused(*cid, Refused::NotAnEntry)
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    task::spawn_blocking(work)
        .await
        .map_err(|error| Error::new(ErrorKind::Unexpected, "entries could not be looked at").source(error))
}
