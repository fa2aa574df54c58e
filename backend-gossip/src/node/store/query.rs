//! Filters in SQL. First the keys of all that matches, in order and from indexes; then the rows, a page at a time, so
//! that no transaction is held while a client takes its time, and what is deleted in between is not sent.

use std::fmt::Write as _;

use rusqlite::{Connection, OptionalExtension as _, Result, types::Value};
use talkbox_core::{
    EventId, MailboxId, PublicKey, Timestamp,
    anti_entropy::{IdSet, SortedItems},
    event::kind,
};

use super::{
    apply::{item, signed},
    rot::{Rot, is_damage},
    row::Row,
};
use crate::node::{
    addresses::Party,
    filter::Filter,
    gate::{PRIVATE, Rights},
};

/// Where an event is: its place in the order of arrival, and what it is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) seq: i64,
    pub(crate) created_at: u64,
    pub(crate) id: EventId,
}

impl Key {
    /// Newest first, and of two as new the lower id.
    pub(super) fn order(&self) -> (std::cmp::Reverse<u64>, EventId) {
        (std::cmp::Reverse(self.created_at), self.id)
    }
}

/// Who asks, and when.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    /// Whose turn is taken for it.
    pub(crate) party: Party,
    pub(crate) rights: Rights,
    pub(crate) now: Timestamp,
}

/// The last place in the order of arrival that has been given.
pub(super) fn last_seq(conn: &Connection) -> Result<i64> {
    let last = conn
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'event'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(last.unwrap_or(0))
}

/// Where a row is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum At<'a> {
    Seq(i64),
    Id(&'a EventId),
}

/// A stored event whose id has been checked.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) kind: u16,
    pub(crate) author: PublicKey,
    pub(crate) created_at: u64,
    pub(crate) mailbox: Option<MailboxId>,
    pub(crate) expires: Timestamp,
    pub(crate) json: String,
}

impl Stored {
    /// Whether it may go to somebody with these rights.
    pub(crate) fn is_open_to(&self, rights: &Rights) -> bool {
        !PRIVATE.contains(&self.kind) || rights.is_involved(self.author, self.mailbox)
    }
}

macro_rules! row_where {
    ($condition:literal) => {
        concat!(
            "SELECT e.id, e.author, e.created_at, e.kind, m.key, e.tags, e.content, e.form, e.sig, e.expires, e.seq ",
            "FROM event e LEFT JOIN mailbox m ON m.id = e.mailbox WHERE ",
            $condition
        )
    };
}

/// A row by its place in the order of arrival, …
pub(super) const BY_SEQ: &str = row_where!("e.seq = ?1 AND e.expires > ?2");
/// … and by its id.
pub(super) const BY_ID: &str = row_where!("e.id = ?1 AND e.expires > ?2");

/// The event at this place, unless it has gone or expired, or is about to go. One that is not what was stored is reported
/// and left out.
pub(super) fn stored(conn: &Connection, at: At<'_>, now: Timestamp, rot: &Rot) -> Result<Option<Stored>> {
    match read(conn, at, now) {
        Ok(Ok(event)) => Ok(event.filter(|event| !rot.leaving().hides(event))),
        Ok(Err(place)) => {
            rot.report(place);
            Ok(None)
        }
        // It must not hide its neighbours.
        Err(error) if is_damage(&error) => {
            rot.note(&error);
            if let At::Seq(place) = at {
                rot.report(place);
            }
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// An event, or the place of one that is rotten.
type Found = std::result::Result<Option<Stored>, i64>;

fn read(conn: &Connection, at: At<'_>, now: Timestamp) -> Result<Found> {
    let now = signed(now.secs());
    let mut statement;
    let mut rows = match at {
        At::Seq(seq) => {
            statement = conn.prepare_cached(BY_SEQ)?;
            statement.query((seq, now))?
        }
        At::Id(id) => {
            statement = conn.prepare_cached(BY_ID)?;
            statement.query((&id.as_bytes()[..], now))?
        }
    };
    let Some(row) = rows.next()? else { return Ok(Ok(None)) };
    let place = row.get(10)?;
    // A column of another type than it has is rotten too.
    let Ok(read) = Row::read(row) else { return Ok(Err(place)) };
    let key = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).ok();
    let (Some(json), Some(author)) = (read.to_json(), key(read.author)) else { return Ok(Err(place)) };
    Ok(Ok(Some(Stored {
        kind: read.kind,
        author: PublicKey::from_bytes(author),
        created_at: read.created_at,
        mailbox: read.mailbox.and_then(key).map(MailboxId::from_bytes),
        expires: Timestamp(row.get::<_, i64>(9)?.unsigned_abs()),
        json,
    })))
}

/// All ids that count as held between nodes.
pub(super) fn held(conn: &Connection) -> Result<IdSet> {
    let mut items = Vec::new();
    // In the order of the table, which has been read when the store was opened; to sort them takes a tenth of that.
    for sql in ["SELECT created_at, id FROM event NOT INDEXED", "SELECT created_at, id FROM gone WHERE why = 1"] {
        let mut statement = conn.prepare(sql)?;
        for read in statement.query_map([], |row| Ok(item(row.get(0)?, row.get(1)?)))? {
            items.extend(read?);
        }
    }
    Ok(items.into_iter().collect::<IdSet>())
}

/// The ids of the gift wraps of a mailbox, but for those that are known to be rotten: who has them may bring them.
pub(super) fn mail_of(conn: &Connection, mailbox: MailboxId, now: Timestamp, rot: &Rot) -> Result<SortedItems> {
    let Some(number) = numbers(conn, std::iter::once(&mailbox))?.pop() else { return Ok(SortedItems::default()) };
    let mut statement = conn.prepare_cached(
        "SELECT created_at, id, seq FROM event INDEXED BY event_mailbox
         WHERE mailbox = ?1 AND kind = ?2 AND expires > ?3 AND created_at > ?4",
    )?;
    let hidden = rot.leaving().up_to(mailbox).map_or(-1, signed);
    let items = statement.query_map((number, kind::GIFT_WRAP, signed(now.secs()), hidden), |row| {
        Ok(if rot.contains(row.get(2)?) { None } else { item(row.get(0)?, row.get(1)?) })
    })?;
    items.filter_map(Result::transpose).collect()
}

/// How much mail a mailbox has, how large it is, and where the last of it stands: nothing comes or goes without one of
/// them changing. And how many rows are known to be rotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MailState {
    mailbox: Option<(i64, i64, Option<i64>)>,
    rotten: usize,
}

/// The state of a mailbox.
pub(super) fn mail_state(conn: &Connection, mailbox: MailboxId, rotten: usize) -> Result<MailState> {
    let mailbox = conn
        .prepare_cached(
            "SELECT events, bytes, (SELECT max(seq) FROM event INDEXED BY event_arrival WHERE mailbox = m.id)
             FROM mailbox m WHERE key = ?1",
        )?
        .query_row([&mailbox.as_bytes()[..]], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    Ok(MailState { mailbox, rotten })
}

/// The record of a mailbox.
pub(super) fn record(conn: &Connection, mailbox: MailboxId, now: Timestamp, rot: &Rot) -> Result<Option<Stored>> {
    let seq: Option<i64> = conn
        .prepare_cached("SELECT seq FROM event WHERE author = ?1 AND kind = ?2 AND kind >= 10000")?
        .query_row((&mailbox.as_bytes()[..], kind::RECORD), |row| row.get(0))
        .optional()?;
    seq.map_or(Ok(None), |seq| stored(conn, At::Seq(seq), now, rot))
}

/// The event at this place as JSON, unless it has gone, or the rights or the time forbid it.
pub(super) fn event(conn: &Connection, seq: i64, reader: &Reader, rot: &Rot) -> Result<Option<String>> {
    let found = stored(conn, At::Seq(seq), reader.now, rot)?;
    Ok(found.filter(|event| event.is_open_to(&reader.rights)).map(|event| event.json))
}

/// One statement, run once for each value of the condition that finds the fewest rows.
pub(super) struct Plan {
    pub(super) sql: String,
    /// What the statement starts from: its first values.
    pub(super) drivers: Vec<Vec<Value>>,
    /// The other values, the same each time.
    pub(super) values: Vec<Value>,
    /// The number of the value that says how old a match may be, and this value.
    pub(super) since: (usize, u64),
    /// An event with two tags of one name can be met twice.
    pub(super) may_repeat: bool,
}

impl Plan {
    /// `None` where nothing can match. With a limit, each run gives the newest so many.
    pub(super) fn new(
        conn: &Connection,
        filter: &Filter,
        reader: &Reader,
        last: i64,
        limit: Option<usize>,
    ) -> Result<Option<Self>> {
        let mailboxes = match &filter.mailboxes {
            None => None,
            Some(keys) => Some(numbers(conn, keys.iter())?),
        };
        let since = filter.since.unwrap_or(0);
        if i64::try_from(since).is_err() {
            return Ok(None);
        }
        let (from, drivers, by) = driver(filter, mailboxes.as_deref());
        let first = drivers.first().map_or(0, Vec::len);
        let mut sql = Sql { text: format!("SELECT e.seq, e.created_at, e.id FROM {from}"), values: Vec::new(), first };
        sql.condition("e.created_at >=", [Value::Integer(signed(since))]);
        let since = (first + sql.values.len(), since);
        sql.condition("e.expires >", [Value::Integer(signed(reader.now.secs()))]);
        // The plus keeps SQLite from walking the table by it.
        sql.condition("+e.seq <=", [Value::Integer(last)]);
        if let Some(until) = filter.until {
            sql.condition("e.created_at <=", [Value::Integer(signed(until))]);
        }
        if let Some(kinds) = filter.kinds.as_ref().filter(|_| by != By::Kind) {
            sql.one_of("e.kind", kinds.iter().map(|kind| Value::Integer((*kind).into())));
        }
        if let Some(authors) = filter.authors.as_ref().filter(|_| by != By::Author) {
            sql.one_of("e.author", authors.iter().map(|key| Value::Blob(key.as_bytes().to_vec())));
        }
        if let Some(numbers) = mailboxes.filter(|_| by != By::Mailbox) {
            sql.one_of("e.mailbox", numbers.into_iter().map(Value::Integer));
        }
        for (letter, values) in filter.letters.iter().filter(|(letter, _)| by != By::Tag(*letter)) {
            let _infallible =
                write!(sql.text, " AND EXISTS (SELECT 1 FROM tag x WHERE x.letter = '{letter}' AND x.seq = e.seq");
            sql.one_of("x.value", values.iter().map(|value| Value::Text(value.clone())));
            sql.text.push(')');
        }
        if let Rights::Keys(keys) = &reader.rights
            && PRIVATE.iter().any(|kind| filter.allows_kind(*kind))
            && !reader.rights.owns_mailboxes(filter)
        {
            let own: Vec<MailboxId> = keys.iter().copied().map(MailboxId::from).collect();
            let own = numbers(conn, own.iter())?;
            sql.text.push_str(" AND (1");
            sql.none_of("e.kind", PRIVATE.into_iter().map(|kind| Value::Integer(kind.into())));
            sql.text.push_str(" OR (1");
            sql.one_of("e.mailbox", own.into_iter().map(Value::Integer));
            sql.text.push_str(") OR (1");
            sql.one_of("e.author", keys.iter().map(|key| Value::Blob(key.as_bytes().to_vec())));
            sql.text.push_str("))");
        }
        if let Some(limit) = limit {
            let _infallible = write!(sql.text, " ORDER BY e.created_at DESC, e.id LIMIT {limit}");
        }
        Ok(Some(Self { sql: sql.text, drivers, values: sql.values, since, may_repeat: matches!(by, By::Tag(_)) }))
    }
}

/// A statement in the making.
struct Sql {
    text: String,
    values: Vec<Value>,
    /// Values that come before, of the driver.
    first: usize,
}

impl Sql {
    fn condition<const N: usize>(&mut self, left: &str, right: [Value; N]) {
        for value in right {
            self.values.push(value);
            let _infallible = write!(self.text, " AND {left} ?{}", self.first + self.values.len());
        }
    }

    fn one_of(&mut self, column: &str, values: impl Iterator<Item = Value>) {
        self.list(column, "IN", values);
    }

    fn none_of(&mut self, column: &str, values: impl Iterator<Item = Value>) {
        self.list(column, "NOT IN", values);
    }

    fn list(&mut self, column: &str, how: &str, values: impl Iterator<Item = Value>) {
        let from = self.values.len();
        self.values.extend(values);
        let places: Vec<String> = (from..self.values.len()).map(|at| format!("?{}", self.first + at + 1)).collect();
        let _infallible = write!(self.text, " AND {column} {how} ({})", places.join(","));
    }
}

/// What a statement starts from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Id,
    Mailbox,
    Tag(char),
    Author,
    Kind,
    Time,
}

/// The condition that finds the fewest rows by an index: the FROM clause that begins with it, its values one by one,
/// and which it is.
fn driver(filter: &Filter, mailboxes: Option<&[i64]>) -> (String, Vec<Vec<Value>>, By) {
    if let Some(ids) = &filter.ids {
        let ids = ids.iter().map(|id| vec![Value::Blob(id.as_bytes().to_vec())]).collect();
        return ("event e INDEXED BY event_id WHERE e.id = ?1".to_owned(), ids, By::Id);
    }
    if let Some(mailboxes) = mailboxes {
        let numbers = mailboxes.iter().map(|number| vec![Value::Integer(*number)]).collect();
        return ("event e INDEXED BY event_mailbox WHERE e.mailbox = ?1".to_owned(), numbers, By::Mailbox);
    }
    // `k` says which kind a deletion deletes: it is the same for all of them.
    if let Some((letter, values)) = filter.letters.iter().find(|(letter, _)| *letter != 'k') {
        let from = format!("tag t JOIN event e ON e.seq = t.seq WHERE t.letter = '{letter}' AND t.value = ?1");
        return (from, values.iter().map(|value| vec![Value::Text(value.clone())]).collect(), By::Tag(*letter));
    }
    if let Some(authors) = &filter.authors {
        let keys = authors
            .iter()
            .map(|key| vec![Value::Blob(key.as_bytes()[..4].to_vec()), Value::Blob(key.as_bytes().to_vec())])
            .collect();
        let from = "event e INDEXED BY event_author WHERE substr(e.author, 1, 4) = ?1 AND e.author = ?2";
        return (from.to_owned(), keys, By::Author);
    }
    if let Some(kinds) = filter.kinds.as_ref().filter(|kinds| !kinds.contains(&kind::GIFT_WRAP)) {
        let kinds = kinds.iter().map(|kind| vec![Value::Integer((*kind).into())]).collect();
        return ("event e INDEXED BY event_kind WHERE e.kind = ?1 AND e.kind <> 1059".to_owned(), kinds, By::Kind);
    }
    // By `event_time`, where it is.
    ("event e WHERE 1".to_owned(), vec![Vec::new()], By::Time)
}

/// The numbers of those mailboxes that the store knows.
pub(super) fn numbers<'a>(conn: &Connection, keys: impl Iterator<Item = &'a MailboxId>) -> Result<Vec<i64>> {
    let mut statement = conn.prepare_cached("SELECT id FROM mailbox WHERE key = ?1")?;
    let mut numbers = Vec::new();
    for key in keys {
        numbers.extend(statement.query_row([&key.as_bytes()[..]], |row| row.get::<_, i64>(0)).optional()?);
    }
    Ok(numbers)
}
