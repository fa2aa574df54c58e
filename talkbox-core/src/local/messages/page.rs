//! One page of messages, by keyset: it costs the same wherever in the mailbox it is.

use rusqlite::{Row, params};

use super::{COLUMNS, Damaged, MessageKey, MessagePage, MessageQuery, Order, read};
use crate::{
    MailboxId, MessageId,
    local::{Access, columns::time_in, fault::Sql},
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
    let start = match query.order {
        Order::NewestFirst => MessageKey { time: i64::MAX, seq: i64::MAX },
        Order::OldestFirst => MessageKey { time: i64::MIN, seq: i64::MIN },
    };
    let after = query.after.unwrap_or(start);
    let since = query.since.map_or(i64::MIN, time_in);
    let mut select = access.db.prepare_cached(&sql(query))?;
    let mut rows = select.query(params![
        number,
        after.time,
        after.seq,
        since,
        to_open,
        query.kinds.text,
        query.kinds.control,
        query.kinds.unsupported,
        query.requests,
    ])?;
    let mut page = MessagePage::default();
    let mut opened = 0;
    let mut last = after;
    while let Some(row) = rows.next()? {
        opened += 1;
        last = key(row)?;
        match read(access, owner, row) {
            Ok(message) if query.from.is_none_or(|from| message.message.from == from) => page.items.push(message),
            Ok(_) => {}
            Err(error) => {
                page.damaged.push(Damaged { id: MessageId::from_bytes(row.get(0).unwrap_or_default()), error })
            }
        }
        if page.items.len() + page.damaged.len() >= limit as usize {
            page.next = Some(last);
            return Ok(page);
        }
    }
    page.next = (opened == to_open).then_some(last);
    Ok(page)
}

/// The statement of a query: few of them, each compiled once for every connection.
fn sql(query: &MessageQuery) -> String {
    let (comparison, direction) = match query.order {
        Order::NewestFirst => ("<", "DESC"),
        Order::OldestFirst => (">", "ASC"),
    };
    let unread = if query.unread { "AND read_at IS NULL" } else { "" };
    format!(
        "SELECT {COLUMNS}, sort_time, seq FROM messages JOIN mailboxes USING (owner)
         WHERE owner = ?1 AND (sort_time, seq) {comparison} (?2, ?3) AND sort_time >= ?4 {unread}
             AND CASE kind WHEN 14 THEN ?6 WHEN 1789 THEN ?7 ELSE ?8 END
             AND (?9 IS NULL OR (work < work_floor) = ?9)
         ORDER BY sort_time {direction}, seq {direction} LIMIT ?5"
    )
}

fn key(row: &Row<'_>) -> Sql<MessageKey> {
    Ok(MessageKey { time: row.get(7)?, seq: row.get(8)? })
}
