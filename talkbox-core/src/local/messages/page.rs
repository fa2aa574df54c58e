//! One page of messages, by keyset: it costs the same wherever in the mailbox it is.

use rusqlite::params;

use super::{COLUMNS, Damaged, MessageKey, MessagePage, MessageQuery, Order, read};
use crate::{
    MailboxId, MessageId,
    local::{Access, columns::millis_in},
    sqlite::Sql,
};

/// Messages of one page by default: a screen of them, at a cost of about a millisecond.
const DEFAULT_LIMIT: u32 = 256;
/// Most messages of one page: 24 MiB at worst.
const MAX_LIMIT: u32 = 1_000;
/// Most messages that one page opens to find those of one sender: a few tens of milliseconds.
const MAX_OPENED: u32 = 8_192;

pub(super) fn page(access: &Access<'_>, owner: MailboxId, number: i64, query: &MessageQuery) -> Sql<MessagePage> {
    let limit = if query.limit == 0 { DEFAULT_LIMIT } else { query.limit.min(MAX_LIMIT) };
    // A sender is found only by opening; everything else SQLite selects itself.
    let to_open = if query.from.is_some() { MAX_OPENED } else { limit };
    let mut reading = Reading { access, owner, number, query, limit, to_open, page: MessagePage::default() };
    // In two parts, since SQLite does not use an index for `(sort_time, seq) < (?, ?)` beyond the time: with many
    // messages of one time, every page would pass over all before it.
    if let Some(after) = query.after {
        reading.part(Part::SameTime, after)?;
        reading.part(Part::Beyond, after)?;
    } else {
        let start = match query.order {
            Order::NewestFirst => i64::MAX,
            Order::OldestFirst => i64::MIN,
        };
        reading.part(Part::Beyond, MessageKey { time: start, seq: start })?;
    }
    Ok(reading.page)
}

/// What comes after a place.
#[derive(Clone, Copy)]
enum Part {
    /// The rest of its time.
    SameTime,
    /// The other times.
    Beyond,
}

/// A page that is being read.
struct Reading<'a> {
    access: &'a Access<'a>,
    owner: MailboxId,
    number: i64,
    query: &'a MessageQuery,
    limit: u32,
    /// How many messages may still be opened.
    to_open: u32,
    page: MessagePage,
}

impl Reading<'_> {
    /// Reads on, until the page is full or the part is at its end.
    fn part(&mut self, part: Part, after: MessageKey) -> Sql<()> {
        if self.page.next.is_some() {
            return Ok(());
        }
        let query = self.query;
        let mut select = self.access.db.prepare_cached(&sql(query, part))?;
        let mut rows = select.query(params![
            self.number,
            after.time,
            after.seq,
            query.since.map_or(i64::MIN, |since| millis_in(since.secs().saturating_mul(1000))),
            self.to_open,
            query.kinds.text,
            query.kinds.control,
            query.kinds.unsupported,
            query.requests,
            query.way.sent(),
        ])?;
        while let Some(row) = rows.next()? {
            self.to_open -= 1;
            match read(self.access, self.owner, row) {
                Ok(stored) if query.from.is_none_or(|from| stored.message.from == from) => self.page.items.push(stored),
                Ok(_) => {}
                Err(error) => {
                    let id = MessageId::from_bytes(row.get(0).unwrap_or_default());
                    self.page.damaged.push(Damaged { id, error });
                }
            }
            if self.to_open == 0 || self.page.items.len() + self.page.damaged.len() >= self.limit as usize {
                self.page.next = Some(MessageKey { time: row.get(7)?, seq: row.get(8)? });
                break;
            }
        }
        Ok(())
    }
}

/// The statement of a part: few of them, each compiled once for every connection.
fn sql(query: &MessageQuery, part: Part) -> String {
    let (comparison, direction) = match query.order {
        Order::NewestFirst => ("<", "DESC"),
        Order::OldestFirst => (">", "ASC"),
    };
    let place = match part {
        Part::SameTime => format!("sort_time = ?2 AND seq {comparison} ?3"),
        // The first page has no place before it; so it has to take the last time, too.
        Part::Beyond if query.after.is_none() => format!("sort_time {comparison}= ?2 AND ?3 NOT NULL"),
        Part::Beyond => format!("sort_time {comparison} ?2 AND ?3 NOT NULL"),
    };
    let unread = if query.unread { "AND read_at IS NULL" } else { "" };
    format!(
        "SELECT {COLUMNS}, sort_time, seq FROM messages JOIN mailboxes USING (owner)
         WHERE owner = ?1 AND {place} AND sort_time >= ?4 {unread}
             AND CASE kind WHEN 14 THEN ?6 WHEN 1789 THEN ?7 ELSE ?8 END
             AND (?9 IS NULL OR (work < work_floor) = ?9)
             AND (?10 IS NULL OR sent = ?10)
         ORDER BY sort_time {direction}, seq {direction} LIMIT ?5"
    )
}
