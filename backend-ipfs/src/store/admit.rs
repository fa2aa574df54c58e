//! Whether an entry is kept: the part of receiving that runs on the writer.

use talkbox_core::{Envelope, sqlite::Sql};

use super::{
    Refused, Taken,
    blocks::{self, pack},
    envelopes, int,
    join::{JOINED, Joining, Seen, UNVERIFIED, WAITING},
    missing,
};
use crate::orbitdb::{Cid, Entry};

/// Most links of an entry that waits. Whenever it is looked at and waits on, what is left of them is written anew: without
/// a bound, entries of thousands of links that all wait for each other would keep the writer busy for minutes. We write 32,
/// and JavaScript peers as many as there are heads.
const MAX_LINKS_WAITING: usize = 512;

/// An entry that was looked at.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) entry: Entry,
    pub(super) verdict: Verdict,
    /// The envelope in it.
    pub(super) mail: Option<Envelope>,
}

impl Checked {
    fn size(&self) -> u64 {
        self.entry.bytes.len() as u64
    }

    /// What has to be joined before it, in the order in which it is looked at.
    fn links(&self) -> Vec<Cid> {
        [self.entry.next.as_slice(), &self.entry.refs].concat()
    }
}

/// What is to be thought of an entry, its ancestors apart.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// Its signature holds.
    Sound,
    /// That cannot be said without its identity.
    NoIdentity,
    /// It is not to be taken.
    Refused(Refused),
}

/// What the mail in an entry is worth.
enum Worth {
    /// The signature of the entry holds: others can get it here.
    Sound,
    /// The entry is kept until that is known.
    Unverified,
    /// The entry is not kept; its mail is.
    Mail,
}

impl Joining<'_> {
    /// Takes an entry: stores it, notes its mail, joins it or lets it wait, and joins those that waited for it.
    pub(super) fn take(&mut self, checked: &Checked) -> Sql<Taken> {
        let cid = checked.entry.cid;
        let sound = matches!(checked.verdict, Verdict::Sound);
        let mut taken =
            Taken { cid, forward: sound && checked.entry.canonical, is_new: false, joined: false, refused: None };
        match (self.seen(&cid)?, &checked.verdict) {
            (Some(Seen { number, state: UNVERIFIED }), Verdict::Sound) => {
                self.verified(number, checked)?;
                taken.is_new = true;
            }
            (Some(Seen { number, state: UNVERIFIED }), Verdict::Refused(why)) => {
                taken.refused = Some(why.clone());
                self.remove(number, checked)?;
            }
            (Some(_), _) => {}
            (None, Verdict::Refused(why)) => {
                taken.refused = Some(why.clone());
                self.note_mail(checked, Worth::Mail)?;
                missing::never(self.access.db, &self.log, &cid)?;
            }
            (None, _) => match self.admit(checked)? {
                Some(why) => {
                    taken.refused = Some(why);
                    missing::put_off(self.access.db, &self.log, &cid, self.access.now)?;
                }
                None => taken.is_new = true,
            },
        }
        taken.joined = self.seen(&cid)?.is_some_and(|seen| seen.state == JOINED);
        Ok(taken)
    }

    /// Stores an entry that is not here, or says why not.
    fn admit(&mut self, checked: &Checked) -> Sql<Option<Refused>> {
        if let Some(why) = self.no_room(checked)? {
            return Ok(Some(why));
        }
        let (entry, size, links) = (&checked.entry, checked.size(), checked.links());
        let (state, waits_for, rest) = match checked.verdict {
            Verdict::Sound => match self.first_unjoined(&links)? {
                Some(at) => (WAITING, Some(links[at]), &links[at + 1..]),
                None => (JOINED, None, &[][..]),
            },
            _ => (UNVERIFIED, Some(entry.identity), entry.refs.as_slice()),
        };
        if state == WAITING && links.len() > MAX_LINKS_WAITING {
            self.note_mail(checked, Worth::Mail)?;
            self.list_missing(&links)?;
            return Ok(Some(Refused::TooEarly));
        }
        let limits = self.access.limits;
        let fits = self.log.waiting < limits.waiting_entries && self.log.waiting_bytes + size <= limits.waiting_bytes;
        if waits_for.is_some() && !fits {
            // Its mail is kept all the same: what waits for nothing must not hide what was sent.
            self.note_mail(checked, Worth::Mail)?;
            return Ok(Some(Refused::WaitingFull));
        }
        let number = blocks::insert(self.access.db, &entry.cid, &entry.bytes)?;
        let mut insert = self.access.db.prepare_cached(
            "INSERT INTO entries (number, log, digest, time, clock, state, head, next, waits_for, rest)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        insert.execute((
            number,
            self.log.number,
            entry.cid.hash().digest(),
            int(entry.sort_time()),
            &entry.clock.id,
            state,
            state == JOINED,
            pack(&entry.next),
            waits_for.map(|cid| cid.to_bytes()),
            waits_for.is_some().then(|| pack(rest)),
        ))?;
        self.known.insert(entry.cid, Some(Seen { number, state }));
        self.changed = true;
        self.log.bytes += size;
        self.log.entries += u64::from(state != UNVERIFIED);
        missing::arrived(self.access.db, &self.log, &entry.cid)?;
        self.note_mail(checked, if state == UNVERIFIED { Worth::Unverified } else { Worth::Sound })?;
        match waits_for {
            Some(cid) => {
                self.log.waiting += 1;
                self.log.waiting_bytes += size;
                self.want(&cid)?;
                if state == UNVERIFIED {
                    self.list_missing(&[cid])?;
                }
                self.list_missing(&links)?;
            }
            None => self.spread(entry.cid, &entry.next)?,
        }
        Ok(None)
    }

    /// Goes on with an entry whose identity has come.
    fn verified(&mut self, number: i64, checked: &Checked) -> Sql<()> {
        let (entry, links) = (&checked.entry, checked.links());
        self.changed = true;
        self.log.entries += 1;
        self.note_mail(checked, Worth::Sound)?;
        match self.first_unjoined(&links)? {
            Some(at) => {
                self.wait(number, &links[at], &links[at + 1..])?;
                self.known.insert(entry.cid, Some(Seen { number, state: WAITING }));
                self.list_missing(&links)
            }
            None => {
                self.join(number, entry.cid, checked.size())?;
                self.spread(entry.cid, &entry.next)
            }
        }
    }

    /// Removes an entry whose identity has come and does not bear it out.
    fn remove(&mut self, number: i64, checked: &Checked) -> Sql<()> {
        let (db, cid) = (self.access.db, checked.entry.cid);
        db.prepare_cached("DELETE FROM entries WHERE number = ?1")?.execute([number])?;
        db.prepare_cached("DELETE FROM blocks WHERE number = ?1")?.execute([number])?;
        self.known.insert(cid, None);
        self.log.bytes = self.log.bytes.saturating_sub(checked.size());
        self.no_longer_waits(checked.size());
        if let Some(mail) = &checked.mail
            && envelopes::is_sound(db, mail.id())? == Some(false)
        {
            // Its mail stays, and now nothing else counts it.
            self.log.bytes += mail.json().len() as u64;
        }
        let mut waits = db.prepare_cached("SELECT EXISTS (SELECT 1 FROM entries WHERE waits_for = ?1)")?;
        if waits.query_row([cid.to_bytes()], |row| row.get(0))? {
            missing::want(db, &self.log, &cid)?;
            missing::never(db, &self.log, &cid)?;
        }
        Ok(())
    }

    /// Why a further entry does not fit in, if it does not.
    fn no_room(&self, checked: &Checked) -> Sql<Option<Refused>> {
        if self.store_full {
            return Ok(Some(Refused::StoreFull));
        }
        let Some(bits) = self.work_asked() else { return Ok(None) };
        let pays = match &checked.mail {
            Some(mail) if mail.work() >= bits && envelopes::fits(mail, &self.log, self.access.now).is_ok() => {
                // Work is done for one entry: the same envelope once more is no more mail.
                envelopes::is_sound(self.access.db, mail.id())? != Some(true)
            }
            _ => false,
        };
        Ok((!pays).then_some(Refused::LogFull(bits)))
    }

    fn work_asked(&self) -> Option<u8> {
        self.access.limits.work_asked(self.log.entries, self.log.bytes)
    }

    /// Notes the mail in an entry. Where the entry itself is not kept, nothing but its JSON takes room in the log.
    fn note_mail(&mut self, checked: &Checked, worth: Worth) -> Sql<()> {
        let Some(mail) = &checked.mail else { return Ok(()) };
        let is_kept = !matches!(worth, Worth::Mail);
        let room = is_kept || (!self.store_full && self.work_asked().is_none());
        if !room || envelopes::fits(mail, &self.log, self.access.now).is_err() {
            return Ok(());
        }
        let sound = matches!(worth, Worth::Sound);
        if let Some(seq) = envelopes::note(self.access.db, &mut self.log, mail, sound, &checked.entry.cid)? {
            self.changed = true;
            if !is_kept {
                self.log.bytes += mail.json().len() as u64;
            }
            self.shown.push((mail.id(), seq));
        }
        Ok(())
    }
}
