//! `/talkbox/record/1` and `/talkbox/publish/1`.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
};

use futures_util::{
    StreamExt as _,
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    stream::FuturesUnordered,
};
use talkbox_core::{
    Error, ErrorKind, MailboxRecord, ManualClock, RecordFields, Result, SecretKey, Shortcode, Timestamp, async_trait,
};
use tokio::sync::Semaphore;

use super::support::{limits, pipe, short};
use crate::sync::{
    channel::Channel,
    publish::{Publishing, publish},
    record::{Records, look_up, serve},
};

const NOW: Timestamp = Timestamp(1_800_000_000);

/// One key and its code for all tests: each costs 0.2 s.
static OWNER: LazyLock<(SecretKey, Shortcode)> = LazyLock::new(|| {
    let key = SecretKey::generate().expect("randomness");
    let code = Shortcode::of(&key.id());
    (key, code)
});

/// Records in memory, which are kept when the gate has been opened.
#[derive(Debug)]
struct Kept {
    records: Mutex<HashMap<Shortcode, Arc<str>>>,
    gate: Semaphore,
}

impl Kept {
    fn new() -> Self {
        Self { records: Mutex::default(), gate: Semaphore::new(Semaphore::MAX_PERMITS / 2) }
    }
}

#[async_trait]
impl Records for Kept {
    async fn get(&self, code: Shortcode) -> Result<Option<Arc<str>>> {
        Ok(self.records.lock().expect("no panic").get(&code).cloned())
    }

    async fn put(&self, record: MailboxRecord) -> Result<()> {
        let _open = self.gate.acquire().await.expect("is never closed");
        self.records.lock().expect("no panic").insert(record.code(), record.event().to_json().into());
        Ok(())
    }
}

fn fields() -> RecordFields {
    RecordFields::new(vec!["ipfs:/ip4/192.0.2.1/tcp/4001".parse().expect("a locator")])
}

fn record(created_at: Timestamp) -> MailboxRecord {
    MailboxRecord::sign(&OWNER.0, OWNER.1, fields(), created_at).expect("signs")
}

fn publishing() -> Publishing<Kept> {
    Publishing::new(Kept::new(), Arc::new(ManualClock::new(NOW)))
}

async fn put(node: &Publishing<Kept>, record: &MailboxRecord) -> Result<()> {
    let (here, there) = pipe(1_024);
    let (published, served) = tokio::join!(publish(here, record, limits()), node.serve(there, limits()));
    served.expect("serves");
    published
}

async fn ask(node: &Publishing<Kept>, code: Shortcode) -> Result<Option<MailboxRecord>> {
    let (here, there) = pipe(1_024);
    let (found, served) = tokio::join!(look_up(here, code, limits()), serve(there, node.records(), limits()));
    served.expect("serves");
    found
}

fn words(refused: Result<()>) -> String {
    let error: Error = refused.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Refused);
    error.context("words").expect("words").to_owned()
}

#[tokio::test]
async fn a_record_that_is_given_is_found_and_the_newest_stays() {
    let node = publishing();
    assert_eq!(ask(&node, OWNER.1).await.expect("answers"), None);
    let (old, new) = (record(NOW.minus(60)), record(NOW));
    for record in [&old, &new, &new] {
        put(&node, record).await.expect("is kept");
        assert_eq!(ask(&node, OWNER.1).await.expect("answers").as_ref(), Some(record));
    }
    assert_eq!(words(put(&node, &old).await), "a newer record has its place");
    assert_eq!(words(put(&node, &record(NOW.plus(901))).await), "the record is dated ahead");
    assert_eq!(ask(&node, OWNER.1).await.expect("answers"), Some(new));
}

#[tokio::test]
async fn a_record_with_the_code_of_another_is_refused() {
    let node = publishing();
    let thief = SecretKey::generate().expect("randomness");
    let stolen = MailboxRecord::sign(&thief, OWNER.1, fields(), NOW).expect("signs");
    assert_eq!(words(put(&node, &stolen).await), "the d tag is not the shortcode of the key");
    put(&node, &record(NOW)).await.expect("is kept");
    assert_eq!(words(put(&node, &stolen).await), "another key has this code");
}

#[tokio::test]
async fn what_is_no_record_is_refused_in_words() {
    let node = publishing();
    for json in [&b"{}"[..], b"\xff", &[]] {
        let (here, there) = pipe(1_024);
        let giving = async {
            let mut channel = Channel::new(here, limits().frame);
            channel.send(json).await.expect("sends");
            channel.expect(4_096).await.expect("an answer")
        };
        let (answer, served) = tokio::join!(giving, node.serve(there, limits()));
        served.expect("serves");
        assert!(String::from_utf8_lossy(&answer).contains("malformed"));
    }
    let (here, there) = pipe(65_536);
    let mut channel = Channel::new(here, limits().frame);
    channel.send(&[b' '; 16_385]).await.expect("sends");
    assert_eq!(node.serve(there, limits()).await.expect_err("refused").kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn many_at_once_are_checked_in_turn_or_told_to_wait() {
    let node = publishing();
    let gate = &node.records().gate;
    let permits = gate.forget_permits(usize::MAX);
    let record = record(NOW);
    let mut all: FuturesUnordered<_> = (0..40).map(|_| put(&node, &record)).collect();
    // While the first cannot be kept, 31 wait behind it.
    for _ in 0..8 {
        let refused = all.next().await.expect("40").expect_err("too many");
        assert_eq!(refused.kind(), ErrorKind::RateLimited);
    }
    gate.add_permits(permits);
    let kept: Vec<_> = all.collect().await;
    assert_eq!(kept.len(), 32);
    assert!(kept.iter().all(Result::is_ok));
}

#[tokio::test]
async fn symbols_that_are_no_code_are_unknown_and_too_few_time_out() {
    let kept = Kept::new();
    let (mut here, there) = pipe(1_024);
    here.write_all(b"00000000000000000000").await.expect("sends");
    serve(there, &kept, limits()).await.expect("serves");
    let mut answer = Vec::new();
    here.read_to_end(&mut answer).await.expect("reads");
    assert_eq!(answer, [0]);
    let (mut here, there) = pipe(1_024);
    here.write_all(b"0000").await.expect("sends");
    assert_eq!(serve(there, &kept, short()).await.expect_err("waits").kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_peer_that_gives_another_record_is_not_believed() {
    let key = SecretKey::generate().expect("randomness");
    let other = Shortcode::of(&key.id());
    let answers = [
        (record(NOW).event().to_json(), ErrorKind::Unexpected),
        (record(NOW).event().to_json().replace("192.0.2.1", "192.0.2.2"), ErrorKind::VerificationFailed),
        (" ".repeat(16_385), ErrorKind::TooLarge),
    ];
    for (answer, kind) in answers {
        let (here, there) = pipe(65_536);
        let mut channel = Channel::new(there, limits().frame);
        channel.send(answer.as_bytes()).await.expect("answers");
        assert_eq!(look_up(here, other, limits()).await.expect_err("refused").kind(), kind);
    }
}
