//! Writing entries of our own.

use talkbox_core::{Envelope, EnvelopeId, sqlite::Sql};

use super::{
    Access, Refused,
    admit::{Checked, Verdict},
    blocks, envelopes,
    join::Joining,
    logs::Log,
    walk::{self, Walk},
};
use crate::orbitdb::{Block, Cid, Entry, LogAddress, MAX_TIME, Writer, value_of};

/// Most heads that an entry names: a log that was flooded with heads is drawn together in several steps, and no entry
/// becomes larger than peers can take.
const MAX_NEXT: usize = 16;
/// Entries further back that an entry names, as many as the JavaScript library does.
const MAX_REFS: usize = 16;

/// What became of an envelope that was to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    /// Which.
    pub(crate) envelope: EnvelopeId,
    /// The entry that was written; `None` where one was there already, or none was written.
    pub(crate) entry: Option<Block>,
    /// Why none was written.
    pub(crate) refused: Option<Refused>,
}

/// What an entry is to say.
pub(super) enum Say {
    Mail(Envelope),
    #[cfg(any(test, feature = "bench"))]
    Value(crate::orbitdb::Value),
}

/// What comes next in a log.
struct Tip {
    /// The heads, greatest first.
    next: Vec<Cid>,
    /// The entries before, newest first, from the heads on.
    before: Vec<Cid>,
    time: u64,
}

/// Appends to a log: the first entry names the heads that there are, here and at whoever is asked; each further one names
/// the one before it.
///
/// What is returned for each: the entry written, or why none was; neither where the envelope is in the log already.
pub(super) fn append(
    access: &Access<'_>,
    address: &LogAddress,
    says: Vec<Say>,
    writer: &Writer,
    onto: Vec<(Cid, u64)>,
) -> Sql<Vec<Result<Option<Block>, Refused>>> {
    let log = Log::open(access.db, address)?;
    let mut tip = Tip::of(access, &log, onto)?;
    let mut joining = Joining::new(access, log)?;
    let mut done = Vec::with_capacity(says.len());
    for say in says {
        let (value, mail) = match say {
            #[cfg(any(test, feature = "bench"))]
            Say::Value(value) => (value, None),
            Say::Mail(envelope) => {
                if envelopes::is_sound(access.db, envelope.id())? == Some(true) {
                    done.push(Ok(None));
                    continue;
                }
                if let Err(why) = envelopes::fits(&envelope, &joining.log, access.now) {
                    done.push(Err(why));
                    continue;
                }
                (value_of(&envelope), Some(envelope))
            }
        };
        let refs: Vec<Cid> = tip.before.iter().skip(tip.next.len()).take(MAX_REFS).copied().collect();
        let time = tip.time.saturating_add(1).min(MAX_TIME);
        let entry = Entry::sign(writer, address, &tip.next, &refs, time, value)?;
        let block = Block { cid: entry.cid, bytes: entry.bytes.clone() };
        let taken = joining.take(&Checked { entry, verdict: Verdict::Sound, mail })?;
        if let Some(why) = taken.refused {
            done.push(Err(why));
            continue;
        }
        tip.advance(block.cid, time);
        done.push(Ok(Some(block)));
    }
    if done.iter().any(|one| matches!(one, Ok(Some(_)))) {
        blocks::keep_beside(access.db, joining.log.number, writer.identity())?;
    }
    joining.finish()?;
    Ok(done)
}

impl Tip {
    fn of(access: &Access<'_>, log: &Log, onto: Vec<(Cid, u64)>) -> Sql<Self> {
        let mut heads: Vec<(Cid, u64)> =
            walk::heads(access.db, log, MAX_NEXT)?.into_iter().map(|head| (head.cid, head.time)).collect();
        for (cid, time) in onto {
            // What is joined here is a head of ours, or before one.
            if !walk::is_joined(access.db, log, &cid)? && heads.iter().all(|(known, _)| *known != cid) {
                heads.push((cid, time));
            }
        }
        heads.sort_unstable_by(|(one, before), (other, after)| (after, other).cmp(&(before, one)));
        heads.truncate(MAX_NEXT);
        let next: Vec<Cid> = heads.iter().map(|(cid, _)| *cid).collect();
        let mut walk = Walk::from(access.db, log, &next)?;
        let mut before = Vec::with_capacity(next.len() + MAX_REFS);
        while before.len() < next.len() + MAX_REFS
            && let Some(step) = walk.next()?
        {
            before.push(step.cid());
        }
        Ok(Self { time: heads.first().map_or(0, |(_, time)| *time), next, before })
    }

    fn advance(&mut self, cid: Cid, time: u64) {
        self.next = vec![cid];
        self.time = time;
        self.before.insert(0, cid);
        self.before.truncate(1 + MAX_REFS);
    }
}

/// What is told of envelopes that were to be appended.
pub(super) fn told(ids: Vec<EnvelopeId>, done: Vec<Result<Option<Block>, Refused>>) -> Vec<Appended> {
    let tell = |(envelope, done)| match done {
        Ok(entry) => Appended { envelope, entry, refused: None },
        Err(why) => Appended { envelope, entry: None, refused: Some(why) },
    };
    ids.into_iter().zip(done).map(tell).collect()
}
