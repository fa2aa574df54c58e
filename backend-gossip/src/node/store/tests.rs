//! The store against a reference in memory, and what it does when the disk does not.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use rusqlite::{Connection, StatementStatus};
use talkbox_core::{
    DeleteRequest, EnvelopeId, MailboxId, PublicKey, SecretKey, Timestamp, event::Event, event::Wire, event::kind,
};

use super::{
    apply::{Quota, apply},
    query::{self, Reader},
    rot::Rot,
    schema::{Durability, index_by_time, open_reader, open_writer},
    search::{Collect, Count, Newest, Search, Set},
    walk::{self, Walk},
    writer::{Followers, Kept, Running, Writer},
};
use crate::node::{
    addresses::Party,
    admitted::{Admitted, Origin},
    config::Limits,
    context::Work,
    filter::Filter,
    gate::Rights,
    intake::{Batch, Ticket},
    outbox::{Outbox, Pending},
    planted::Planted,
    policy::{Terms, Treatment},
    refusal::{Outcome, Reason},
    shares::{Bounds, Shares},
};

const PARTY: Party = Party::Connection(1);

pub(super) const NOW: Timestamp = Timestamp(1_800_000_000);

pub(super) fn open(directory: &tempfile::TempDir) -> Connection {
    let path = directory.path().join("store");
    let conn = open_writer(&path, Durability::Temporary, [1; 8], |_, _| false).expect("opens").0;
    index_by_time(&conn, true).expect("is made");
    conn
}

fn kept(conn: Connection) -> Kept {
    Kept { conn, rests: Vec::new(), held: Arc::default(), rot: Arc::default() }
}

pub(super) fn admitted(event: &Event, mailbox: Option<MailboxId>, expires: Timestamp) -> Admitted {
    let json = event.to_json();
    let terms = Terms { treatment: Treatment::Envelope, mailbox, expires };
    Admitted::new(&Wire::parse(&json).expect("well-formed"), json.clone(), terms, None, Origin::Client)
}

pub(super) fn wrap(bytes: usize) -> Admitted {
    let (author, mailbox) = (SecretKey::generate().expect("randomness"), MailboxId::from_bytes([7; 32]));
    let tags = vec![vec!["p".to_owned(), mailbox.to_hex()]];
    let event = Event::sign(&author, NOW, kind::GIFT_WRAP, tags, "!".repeat(bytes));
    admitted(&event, Some(mailbox), NOW.plus(100))
}

/// A gift wrap by somebody for somebody, at a time.
pub(super) fn wrap_by(author: &SecretKey, mailbox: MailboxId, at: Timestamp) -> Admitted {
    let tags = vec![vec!["p".to_owned(), mailbox.to_hex()]];
    admitted(&Event::sign(author, at, kind::GIFT_WRAP, tags, "!".repeat(900)), Some(mailbox), NOW.plus(100))
}

/// A deletion of these ids.
pub(super) fn deletion(by: &SecretKey, of: MailboxId, ids: &[EnvelopeId]) -> Admitted {
    let request = DeleteRequest::sign(by, of, ids, NOW).expect("signs");
    let json = request.event().to_json();
    let terms = Terms { treatment: Treatment::Deletion, mailbox: Some(of), expires: NOW.plus(100) };
    Admitted::new(&Wire::parse(&json).expect("well-formed"), json.clone(), terms, Some(request), Origin::Client)
}

/// A request to vanish.
pub(super) fn request_to_vanish(by: &SecretKey, at: Timestamp) -> Admitted {
    let event =
        Event::sign(by, at, kind::VANISH, vec![vec!["relay".to_owned(), "ALL_RELAYS".to_owned()]], String::new());
    let json = event.to_json();
    let terms = Terms { treatment: Treatment::Vanish, mailbox: None, expires: NOW.plus(100) };
    Admitted::new(&Wire::parse(&json).expect("well-formed"), json.clone(), terms, None, Origin::Client)
}

/// A whole search that is put aside wherever it can be.
fn search<C: Collect>(conn: &Connection, filters: &Arc<[Filter]>, reader: &Reader, into: C) -> C {
    let mut search = Search::new(Arc::clone(filters), reader.clone(), into);
    while !search.go_on(conn, || true).expect("asks") {}
    search.found().0
}

/// An event of a small world, so that filters often match. Who: one of three keys.
#[derive(Clone, Debug)]
struct Drawn {
    author: usize,
    mailbox: Option<usize>,
    kind: u16,
    age: u64,
    letters: Vec<(char, String)>,
    expired: bool,
}

fn letters() -> impl Strategy<Value = Vec<(char, String)>> {
    proptest::collection::vec((prop_oneof![Just('d'), Just('e'), Just('k')], "[ab]"), 0..3)
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let kind = prop_oneof![4 => Just(1059), 1 => Just(5), 1 => Just(30)];
    (0..3usize, proptest::option::weighted(0.8, 0..3usize), kind, 0..4u64, letters(), proptest::bool::weighted(0.1))
        .prop_map(|(author, mailbox, kind, age, letters, expired)| Drawn {
            author,
            mailbox,
            kind,
            age,
            letters,
            expired,
        })
}

/// A filter of the same world; numbers stand for keys and for the events themselves.
#[derive(Clone, Debug)]
struct Asked {
    ids: Option<Vec<usize>>,
    authors: Option<Vec<usize>>,
    kinds: Option<BTreeSet<u16>>,
    mailboxes: Option<Vec<usize>>,
    letters: Vec<(char, BTreeSet<String>)>,
    since: Option<u64>,
    until: Option<u64>,
    limit: Option<u64>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let some = |most| proptest::option::weighted(0.3, proptest::collection::vec(0..most, 0..3));
    let kinds = proptest::collection::btree_set(prop_oneof![Just(1059u16), Just(5), Just(30), Just(7)], 0..3);
    let values = proptest::collection::btree_set("[abc]", 0..3);
    let letters = prop_oneof![
        2 => Just(vec![]),
        1 => (prop_oneof![Just('d'), Just('e'), Just('k')], values.clone()).prop_map(|one| vec![one]),
        1 => (values.clone(), values).prop_map(|(d, k)| vec![('k', k), ('d', d)]),
    ];
    let time = || proptest::option::weighted(0.3, 0..4u64);
    (
        some(30usize),
        some(3usize),
        proptest::option::weighted(0.4, kinds),
        some(3usize),
        letters,
        time(),
        time(),
        proptest::option::weighted(0.3, 0..6u64),
    )
        .prop_map(|(ids, authors, kinds, mailboxes, letters, since, until, limit)| Asked {
            ids,
            authors,
            kinds,
            mailboxes,
            letters,
            since,
            until,
            limit,
        })
}

fn filter(asked: &Asked, keys: &[PublicKey], events: &[Admitted]) -> Filter {
    Filter {
        ids: asked.ids.as_ref().map(|ids| ids.iter().map(|at| events[at % events.len()].facts.id).collect()),
        authors: asked.authors.as_ref().map(|authors| authors.iter().map(|at| keys[*at]).collect()),
        kinds: asked.kinds.clone(),
        mailboxes: asked.mailboxes.as_ref().map(|boxes| boxes.iter().map(|at| keys[*at].into()).collect()),
        letters: asked.letters.clone(),
        since: asked.since.map(|age| NOW.minus(age).secs()),
        until: asked.until.map(|age| NOW.minus(age).secs()),
        limit: asked.limit,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn sql_and_memory_agree_on_every_filter_and_reader(
        drawn in proptest::collection::vec(drawn(), 1..30),
        asked in proptest::collection::vec(proptest::collection::vec(asked(), 1..3), 40),
        readers in proptest::collection::vec(proptest::option::weighted(0.8, 0..3usize), 40),
    ) {
        let secrets = [(); 3].map(|()| SecretKey::generate().expect("randomness"));
        let keys = secrets.each_ref().map(SecretKey::public);
        let events: Vec<Admitted> = drawn
            .iter()
            .enumerate()
            .map(|(at, one)| {
                let mailbox = one.mailbox.map(|at| MailboxId::from(keys[at]));
                let mut tags: Vec<Vec<String>> = mailbox.iter().map(|key| vec!["p".to_owned(), key.to_hex()]).collect();
                tags.extend(one.letters.iter().map(|(letter, value)| vec![letter.to_string(), value.clone()]));
                let event = Event::sign(&secrets[one.author], NOW.minus(one.age), one.kind, tags, at.to_string());
                admitted(&event, mailbox, if one.expired { NOW } else { NOW.plus(1) })
            })
            .collect();
        let directory = tempfile::tempdir().expect("a directory");
        let conn = open(&directory);
        let quota = Quota::new(&Limits::default());
        let shares = Shares::new(Bounds { total: 1_000, each: 1_000, always: 0 });
        for event in &events {
            prop_assert!(apply(&conn, event, &quota).expect("stores").seq.is_some());
        }
        for (asked, reader) in asked.iter().zip(readers) {
            let rights = reader.map_or(Rights::Everything, |at| Rights::Keys(vec![keys[at]]));
            let filters: Vec<Filter> = asked.iter().map(|asked| filter(asked, &keys, &events)).collect();
            let matching = |filter: &Filter| -> Vec<_> {
                let matches = |event: &&Admitted| {
                    filter.matches(&event.facts) && rights.may_read(&event.facts) && event.expires > NOW
                };
                let mut found: Vec<_> = events
                    .iter()
                    .filter(matches)
                    .map(|event| (std::cmp::Reverse(event.facts.created_at), event.facts.id))
                    .collect();
                found.sort_unstable();
                found
            };
            let limited = |filter: &Filter| {
                let mut found = matching(filter);
                found.truncate(filter.limit.map_or(500, |limit| limit as usize));
                found
            };
            let expected: BTreeSet<_> = filters.iter().flat_map(&limited).collect();
            let reader = Reader { party: PARTY, rights: rights.clone(), now: NOW };
            let filters: Arc<[Filter]> = filters.into();
            let newest = search(&conn, &filters, &reader, Newest::new(500)).keys();
            let found: Vec<_> = newest.iter().map(|key| (std::cmp::Reverse(key.created_at), key.id)).collect();
            prop_assert_eq!(&found, &expected.into_iter().collect::<Vec<_>>(), "{:?}", filters);
            let all: BTreeSet<_> = filters.iter().flat_map(&matching).collect();
            let count = search(&conn, &filters, &reader, Count::new(500));
            prop_assert_eq!(count.number(), Some(all.len()));
            let claim = shares.claim(PARTY, 0).expect("there is room");
            let one = Arc::new([filters[0].clone()]) as Arc<[Filter]>;
            let (set, claim) = search(&conn, &one, &reader, Set::new(500, claim)).items().expect("few");
            drop(claim);
            let set: BTreeSet<_> = set.into_iter().map(|(time, id)| (std::cmp::Reverse(time), id)).collect();
            prop_assert_eq!(set, matching(&filters[0]).into_iter().collect::<BTreeSet<_>>());
            for key in newest {
                let json = query::event(&conn, key.seq, &reader, &Rot::default()).expect("reads").expect("is there");
                let stored = events.iter().find(|event| event.facts.id == key.id).expect("one of them");
                prop_assert_eq!(json.as_str(), stored.json.as_str());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_walk_gives_the_mail_that_a_search_finds(
        mail in proptest::collection::vec((0..2usize, 0..4u64, proptest::bool::weighted(0.1)), 1..30),
        since in proptest::option::of(0..4u64),
        until in proptest::option::of(0..4u64),
        limit in proptest::option::of(0..8u64),
        bytes in 1..4_000usize,
        is_owner in any::<bool>(),
    ) {
        let secrets = [(); 2].map(|()| SecretKey::generate().expect("randomness"));
        let keys = secrets.each_ref().map(SecretKey::public);
        let directory = tempfile::tempdir().expect("a directory");
        let (conn, quota) = (open(&directory), Quota::new(&Limits::default()));
        for (at, (to, age, expired)) in mail.into_iter().enumerate() {
            let tags = vec![vec!["p".to_owned(), keys[to].to_hex()]];
            let event = Event::sign(&secrets[1], NOW.minus(age), kind::GIFT_WRAP, tags, format!("{at:900}"));
            let expires = if expired { NOW } else { NOW.plus(1) };
            prop_assert!(apply(&conn, &admitted(&event, Some(keys[to].into()), expires), &quota).expect("stores").seq.is_some());
        }
        let filter = Filter {
            kinds: Some([kind::GIFT_WRAP].into()),
            mailboxes: Some([keys[0].into()].into()),
            since: since.map(|age| NOW.minus(age).secs()),
            until: until.map(|age| NOW.minus(age).secs()),
            limit,
            ..Filter::default()
        };
        let rights = if is_owner { Rights::Keys(vec![keys[0]]) } else { Rights::Everything };
        let (reader, rot) = (Reader { party: PARTY, rights, now: NOW }, Rot::default());
        let mut walk = Walk::along(&filter, 20).expect("is one for the mail of one mailbox");
        let found = search(&conn, &(Arc::new([filter]) as Arc<[Filter]>), &reader, Newest::new(20)).keys();
        let expected: Vec<String> = found
            .iter()
            .map(|key| query::event(&conn, key.seq, &reader, &rot).expect("reads").expect("is there"))
            .collect();
        let mut walked = Vec::new();
        while walk.end().is_none() {
            let page = walk.page(&conn, &reader, bytes, &rot).expect("reads");
            let size: usize = page.iter().map(String::len).sum();
            prop_assert!(size - page.last().map_or(0, String::len) < bytes, "a page ends when it is full");
            // What comes meanwhile is for those who are live by then.
            apply(&conn, &wrap_by(&secrets[1], keys[0].into(), NOW), &quota).expect("stores");
            walked.extend(page);
        }
        prop_assert_eq!(walked, expected);
    }
}

/// A usual filter is answered in the order of the index of its mailbox, without looking at the rows.
#[test]
fn a_usual_filter_is_answered_from_an_index() {
    let directory = tempfile::tempdir().expect("a directory");
    let conn = open(&directory);
    apply(&conn, &wrap(10), &Quota::new(&Limits::default())).expect("stores");
    let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {}", walk::ALONG)).expect("prepares");
    let plan: Vec<String> =
        statement.query_map((1, 0, 9), |row| row.get(3)).expect("asks").map(|line| line.expect("reads")).collect();
    assert_eq!(plan, ["SEARCH e USING COVERING INDEX event_mailbox (mailbox=? AND created_at>? AND created_at<?)"]);
}

/// It would cost more than to read the row.
#[test]
fn a_statement_is_not_prepared_anew_for_each_value() {
    let directory = tempfile::tempdir().expect("a directory");
    let writer = open(&directory);
    let reader = open_reader(&directory.path().join("store")).expect("opens");
    for conn in [writer, reader] {
        for sql in [query::BY_SEQ, query::BY_ID] {
            let mut statement = conn.prepare(sql).expect("prepares");
            for number in 0..3_i64 {
                assert!(!statement.exists((number, number)).expect("asks"));
            }
            assert_eq!(statement.get_status(StatementStatus::RePrepare), 0, "{sql}");
        }
    }
}

fn join(running: Running) {
    let Running::Thread(thread) = running else { panic!("a thread was asked for") };
    thread.join().expect("the writer ends and does not panic");
}

/// Publishes through a writer and collects the answers.
fn answers(conn: Connection, events: Vec<Admitted>) -> Vec<String> {
    let outbox = Arc::new(Outbox::new(1 << 20, Arc::new(Pending::new(1 << 20))));
    let quota = Quota::new(&Limits::default());
    let (writer, running) =
        Writer::start(kept(conn), quota, Followers::default(), Work::Threads, Planted::default()).expect("starts");
    for event in events {
        let ticket = Ticket::of_session(event.facts.id, Arc::clone(&outbox), Arc::default());
        writer.admit(Arc::new(event), ticket);
    }
    drop(writer);
    join(running);
    outbox.take(1 << 20).0.iter().map(|message| message.as_str().to_owned()).collect()
}

#[test]
fn a_full_disk_refuses_what_does_not_fit_and_keeps_what_was_acknowledged() {
    let directory = tempfile::tempdir().expect("a directory");
    let conn = open(&directory);
    conn.execute_batch("PRAGMA max_page_count = 60").expect("sets");
    let events: Vec<Admitted> = (0..40).map(|_| wrap(8_000)).collect();
    let answers = answers(conn, events);
    let taken = answers.iter().filter(|answer| answer.contains(",true,")).count();
    assert_eq!(answers.len(), 40);
    assert!(taken > 0 && taken < 40, "{taken} taken");
    assert!(answers.iter().all(|answer| answer.contains(",true,") || answer.contains("error: the disk is full")));
    let stored: i64 = open(&directory).query_row("SELECT count(*) FROM event", [], |row| row.get(0)).expect("counts");
    assert_eq!(usize::try_from(stored), Ok(taken));
}

#[test]
fn a_store_that_cannot_be_written_refuses() {
    let directory = tempfile::tempdir().expect("a directory");
    let conn = open(&directory);
    conn.execute_batch("PRAGMA query_only = ON").expect("sets");
    let answers = answers(conn, vec![wrap(10), wrap(10)]);
    assert!(answers.iter().all(|answer| answer.contains("false,\"error: the store cannot be written")), "{answers:?}");
    assert_eq!(answers.len(), 2);
}

/// Starts a writer, gives it an event too many, and has it look whether it can write. Whether there is a fault, before and
/// after that.
fn probed(conn: Connection, events: Vec<Admitted>) -> [Option<&'static str>; 2] {
    let quota = Quota::new(&Limits::default());
    let (writer, running) =
        Writer::start(kept(conn), quota, Followers::default(), Work::Threads, Planted::default()).expect("starts");
    let (batch, tickets) = Batch::new(events.len());
    for (event, ticket) in events.into_iter().zip(tickets) {
        writer.admit(Arc::new(event), ticket);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(batch.answers());
    let before = writer.fault();
    writer.probe();
    writer.stop();
    join(running);
    [before, writer.fault()]
}

#[test]
fn a_fault_is_over_when_something_can_be_written_though_nobody_tries() {
    let (full, broken) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let conn = open(&full);
    conn.execute_batch("PRAGMA max_page_count = 60").expect("sets");
    // It has no place for another event, but for a few bytes.
    assert_eq!(probed(conn, (0..40).map(|_| wrap(8_000)).collect()), [Some("the disk is full"), None]);
    let conn = open(&broken);
    conn.execute_batch("PRAGMA query_only = ON").expect("sets");
    assert_eq!(probed(conn, vec![wrap(10)]), [Some("the store cannot be written"); 2]);
}

#[test]
fn a_disk_that_takes_nothing_is_noticed_before_anybody_writes_and_does_not_seem_well_for_want_of_writing() {
    let directory = tempfile::tempdir().expect("a directory");
    let conn = open(&directory);
    conn.execute_batch("PRAGMA query_only = ON").expect("sets");
    let quota = Quota::new(&Limits::default());
    let (writer, running) =
        Writer::start(kept(conn), quota, Followers::default(), Work::Threads, Planted::default()).expect("starts");
    assert_eq!(writer.fault(), Some("the store cannot be written"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    // There is nothing to remove.
    assert!(!runtime.block_on(writer.expire(NOW)));
    assert_eq!(writer.fault(), Some("the store cannot be written"));
    writer.stop();
    join(running);
}

#[test]
fn places_in_the_order_of_arrival_are_never_given_twice() {
    let directory = tempfile::tempdir().expect("a directory");
    let conn = open(&directory);
    let quota = Quota::new(&Limits::default());
    let store = |event: &Admitted| apply(&conn, event, &quota).expect("stores").seq.expect("is stored");
    let first = store(&wrap(10));
    let second = store(&wrap(10));
    assert_eq!(super::apply::expire(&conn, NOW.plus(100), 10).expect("expires").len(), 2);
    let third = store(&wrap(10));
    assert!(first < second && second < third);
    assert_eq!(query::last_seq(&conn).expect("asks"), third);
    let counted: (i64, i64) = conn
        .query_row("SELECT sum(events), count(*) FROM mailbox", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("counts");
    assert_eq!(counted, (1, 1), "what went is not counted");
}

/// Whoever kept it may bring it when what took its place has expired.
#[test]
fn what_was_replaced_does_not_come_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let (conn, quota, me) =
        (open(&directory), Quota::new(&Limits::default()), SecretKey::generate().expect("randomness"));
    let list = |age: u64, expires: Timestamp| {
        let event = Event::sign(&me, NOW.minus(age), kind::INBOX_RELAYS, Vec::new(), String::new());
        let json = event.to_json();
        let terms = Terms { treatment: Treatment::Replaceable, mailbox: None, expires };
        Admitted::new(&Wire::parse(&json).expect("well-formed"), json.clone(), terms, None, Origin::Peer)
    };
    let outcome = |event: &Admitted| apply(&conn, event, &quota).expect("decides").outcome;
    let (old, new) = (list(9, NOW.plus(1_000_000)), list(5, NOW.plus(1)));
    assert_eq!((outcome(&old), outcome(&new)), (Outcome::Stored, Outcome::Stored));
    assert_eq!(super::apply::expire(&conn, NOW.plus(7_200), 10).expect("expires").len(), 1);
    assert!(outcome(&old).is_for(Reason::Superseded));
    assert_eq!(outcome(&list(0, NOW.plus(1_000_000))), Outcome::Stored, "a newer one is taken");
}

#[test]
fn recent_ids_follow_the_store() {
    let followers = Followers::default();
    let recent = Arc::clone(&followers.recent);
    let directory = tempfile::tempdir().expect("a directory");
    let quota = Quota::new(&Limits::default());
    let (writer, running) =
        Writer::start(kept(open(&directory)), quota, followers, Work::Threads, Planted::default()).expect("starts");
    let event = wrap(10);
    let id = event.facts.id;
    let (batch, mut tickets) = Batch::new(1);
    writer.admit(Arc::new(event), tickets.pop().expect("one"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    assert_eq!(runtime.block_on(batch.answers())[0].outcome, Outcome::Stored);
    assert!(recent.contains(&id));
    assert!(!runtime.block_on(writer.expire(NOW.plus(100))));
    assert!(!recent.contains(&id));
    drop(writer);
    join(running);
}
