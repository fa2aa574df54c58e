//! What the store has in the order in which it arrived: the mail of one mailbox, or everything. A page says where the
//! next one goes on, also where it is empty.

use rusqlite::{Connection, Result, types::Value};
use talkbox_core::{MailboxId, Timestamp, event::kind::GIFT_WRAP};

use super::{
    query::{At, Stored, last_seq, numbers, stored},
    rot::Rot,
};
use crate::node::planted::{Defect, Planted};

/// Rows that a page of what clients brought passes over at most: some ten milliseconds.
const MOST_PASSED_OVER: i64 = 20_000;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrivals {
    /// The gift wraps of a mailbox.
    Of(MailboxId),
    /// Everything.
    All,
    /// What clients brought, and not peers.
    FromClients,
}

/// How much of it at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portion {
    /// Only what came after this place.
    pub(crate) after: i64,
    pub(crate) events: usize,
    /// Bytes of JSON after which a page ends.
    pub(crate) bytes: usize,
}

/// A page of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ArrivalPage {
    /// Events as JSON, each with its place.
    pub(crate) items: Vec<(i64, String)>,
    /// The last place that was looked at: where the next page begins.
    pub(crate) last: i64,
    /// Whether there was more at that time.
    pub(crate) more: bool,
}

/// Reads a page.
///
/// # Errors
/// Those of SQLite.
pub(super) fn page(
    conn: &Connection,
    of: Arrivals,
    portion: Portion,
    now: Timestamp,
    planted: Planted,
    rot: &Rot,
) -> Result<ArrivalPage> {
    // Read first: what is committed in between is beyond it and belongs to the next page.
    let end = last_seq(conn)?;
    // What is passed over is bounded too, so that one page does not walk the whole store.
    let within = if matches!(of, Arrivals::FromClients) { end.min(portion.after + MOST_PASSED_OVER) } else { end };
    let (sql, first) = match of {
        Arrivals::All => ("SELECT seq FROM event WHERE ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq", Value::Integer(1)),
        Arrivals::FromClients => {
            ("SELECT seq FROM event WHERE origin = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq", Value::Integer(0))
        }
        Arrivals::Of(mailbox) => {
            let Some(number) = numbers(conn, std::iter::once(&mailbox))?.pop() else {
                return Ok(ArrivalPage { last: end.max(portion.after), ..ArrivalPage::default() });
            };
            let sql = "SELECT seq FROM event INDEXED BY event_arrival
                       WHERE mailbox = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq";
            (sql, Value::Integer(number))
        }
    };
    let mut sql = sql.to_owned();
    if planted.is(Defect::ClockOrderedCursor) && matches!(of, Arrivals::Of(_)) {
        sql = sql.replace("ORDER BY seq", "ORDER BY created_at");
    }
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query((first, portion.after, within))?;
    let (mut page, mut bytes) = (ArrivalPage { last: portion.after, ..ArrivalPage::default() }, 0);
    while let Some(row) = rows.next()? {
        if page.items.len() >= portion.events || bytes >= portion.bytes {
            page.more = true;
            return Ok(page);
        }
        let seq: i64 = row.get(0)?;
        page.last = seq;
        // The mailbox once more, from the row: an entry of the index may be rotten.
        let wanted = |event: &Stored| match of {
            Arrivals::Of(mailbox) => event.kind == GIFT_WRAP && event.mailbox == Some(mailbox),
            Arrivals::All | Arrivals::FromClients => true,
        };
        if let Some(event) = stored(conn, At::Seq(seq), now, rot)?.filter(wanted) {
            bytes += event.json.len();
            page.items.push((seq, event.json));
        }
    }
    page.last = within.max(portion.after);
    page.more = within < end;
    Ok(page)
}
