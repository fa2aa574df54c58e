//! The mail of one mailbox, newest first, along the index by time. A search would read each row twice, once to see whether
//! it matches and once to give it; here it is read once.

use std::collections::VecDeque;

use rusqlite::{Connection, OptionalExtension as _, Result, Rows};
use talkbox_core::{EventId, MailboxId, event::kind::GIFT_WRAP};

use super::{
    apply::signed,
    query::{At, Reader, last_seq, numbers, stored},
    rot::Rot,
};
use crate::node::filter::Filter;

/// Places and times of what is addressed to a mailbox, newest first. The index has all of it.
pub(super) const ALONG: &str = "SELECT e.seq, e.created_at FROM event e INDEXED BY event_mailbox
    WHERE e.mailbox = ?1 AND e.created_at >= ?2 AND e.created_at < ?3 ORDER BY e.created_at DESC";

/// A walk under way.
#[derive(Debug)]
pub(super) struct Walk {
    mailbox: MailboxId,
    since: u64,
    /// All that is not older than this has been passed, or is in `at_hand`.
    before: i64,
    /// How many more may be given.
    left: usize,
    /// The last place in the order of arrival when it began: what comes later is not met.
    last: Option<i64>,
    /// Places of one second, in order.
    at_hand: VecDeque<i64>,
    is_over: bool,
}

impl Walk {
    /// `None` where the filter asks for anything but the mail of one mailbox.
    pub(super) fn along(filter: &Filter, most: usize) -> Option<Self> {
        let Filter { ids: None, authors: None, kinds: Some(kinds), mailboxes: Some(mailboxes), .. } = filter else {
            return None;
        };
        if !kinds.iter().eq([&GIFT_WRAP]) || mailboxes.len() != 1 || !filter.letters.is_empty() {
            return None;
        }
        let limit = filter.limit.and_then(|limit| usize::try_from(limit).ok());
        Some(Self {
            mailbox: *mailboxes.first()?,
            since: filter.since.unwrap_or(0),
            before: filter.until.map_or(i64::MAX, |until| signed(until).saturating_add(1)),
            left: limit.map_or(most, |limit| limit.min(most)),
            last: None,
            at_hand: VecDeque::new(),
            is_over: false,
        })
    }

    /// Where it is over, the last place in the order of arrival that was looked at.
    pub(super) fn end(&self) -> Option<i64> {
        self.last.filter(|_| self.is_over)
    }

    /// Goes on until there are so many bytes, or one event if that is larger.
    ///
    /// # Errors
    /// Those of SQLite.
    pub(super) fn page(&mut self, conn: &Connection, reader: &Reader, bytes: usize, rot: &Rot) -> Result<Vec<String>> {
        let last = match self.last {
            Some(last) => last,
            None => *self.last.insert(last_seq(conn)?),
        };
        let number = numbers(conn, std::iter::once(&self.mailbox))?.pop();
        // What is about to go would all be read for nothing.
        let since =
            rot.leaving().up_to(self.mailbox).map_or(self.since, |hidden| self.since.max(hidden.saturating_add(1)));
        let mut statement = conn.prepare_cached(ALONG)?;
        let mut seconds = Seconds::new(statement.query((number, signed(since), self.before))?, last);
        let (mut page, mut size) = (Vec::new(), 0);
        while self.left > 0 {
            let Some(seq) = self.at_hand.pop_front() else {
                let Some((second, places)) = seconds.next()? else { break };
                self.before = second;
                self.at_hand = self.in_order(conn, places, reader)?;
                continue;
            };
            let event = stored(conn, At::Seq(seq), reader.now, rot)?;
            // All once more, from the row: an entry of the index may be rotten.
            let event = event.filter(|event| {
                event.kind == GIFT_WRAP && event.mailbox == Some(self.mailbox) && event.is_open_to(&reader.rights)
            });
            let Some(event) = event else { continue };
            self.left -= 1;
            size += event.json.len();
            page.push(event.json);
            if size >= bytes {
                return Ok(page);
            }
        }
        self.is_over = true;
        Ok(page)
    }

    /// What came in the same second is given by its ids. Nearly always it is one.
    fn in_order(&self, conn: &Connection, places: Vec<i64>, reader: &Reader) -> Result<VecDeque<i64>> {
        if places.len() < 2 {
            return Ok(places.into());
        }
        let mut id = conn.prepare_cached("SELECT id FROM event WHERE seq = ?1 AND kind = ?2 AND expires > ?3")?;
        let mut ids: Vec<(EventId, i64)> = Vec::new();
        for seq in places {
            let found = id.query_row((seq, GIFT_WRAP, signed(reader.now.secs())), |row| row.get(0)).optional()?;
            ids.extend(found.map(|id| (EventId::from_bytes(id), seq)));
        }
        ids.sort_unstable();
        ids.truncate(self.left);
        Ok(ids.into_iter().map(|(_, seq)| seq).collect())
    }
}

/// Places by the second of their events.
struct Seconds<'a> {
    rows: Rows<'a>,
    /// The first place of the second that is next, and that second.
    ahead: Option<(i64, i64)>,
    last: i64,
}

impl<'a> Seconds<'a> {
    const fn new(rows: Rows<'a>, last: i64) -> Self {
        Self { rows, ahead: None, last }
    }

    /// A second, and the places of its events.
    fn next(&mut self) -> Result<Option<(i64, Vec<i64>)>> {
        let first = match self.ahead.take() {
            Some(first) => Some(first),
            None => self.step()?,
        };
        let Some((seq, second)) = first else { return Ok(None) };
        let mut places = vec![seq];
        while let Some((seq, other)) = self.step()? {
            if other != second {
                self.ahead = Some((seq, other));
                break;
            }
            places.push(seq);
        }
        Ok(Some((second, places)))
    }

    fn step(&mut self) -> Result<Option<(i64, i64)>> {
        while let Some(row) = self.rows.next()? {
            let seq = row.get(0)?;
            if seq <= self.last {
                return Ok(Some((seq, row.get(1)?)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use talkbox_core::PublicKey;

    use super::*;

    #[test]
    fn nothing_is_walked_along_but_the_mail_of_one_mailbox() {
        let mailboxes = |keys: &[u8]| Some(keys.iter().map(|key| MailboxId::from_bytes([*key; 32])).collect());
        let mail = Filter { kinds: Some([GIFT_WRAP].into()), mailboxes: mailboxes(&[1]), ..Filter::default() };
        assert!(Walk::along(&mail, 5).is_some());
        for other in [
            Filter { kinds: None, ..mail.clone() },
            Filter { kinds: Some([GIFT_WRAP, 5].into()), ..mail.clone() },
            Filter { kinds: Some([5].into()), ..mail.clone() },
            Filter { kinds: Some([].into()), ..mail.clone() },
            Filter { mailboxes: None, ..mail.clone() },
            Filter { mailboxes: mailboxes(&[]), ..mail.clone() },
            Filter { mailboxes: mailboxes(&[1, 2]), ..mail.clone() },
            Filter { ids: Some(BTreeSet::new()), ..mail.clone() },
            Filter { authors: Some([PublicKey::from_bytes([1; 32])].into()), ..mail.clone() },
            Filter { letters: vec![('e', BTreeSet::new())], ..mail.clone() },
        ] {
            assert!(Walk::along(&other, 5).is_none(), "{other:?}");
        }
    }
}
