//! Several processes on one store, and processes that are killed at any instant. The children are this same program,
//! started again.

use std::{
    collections::HashSet,
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use talkbox_core::{
    EnvelopeId, SecretKey,
    local::{OutboxId, OutboxQuery, Store},
};

#[expect(dead_code, reason = "each test program uses a part of it")]
mod local_common;
use local_common::*;

const ROLE: &str = "TALKBOX_TEST_ROLE";
const STORE: &str = "TALKBOX_TEST_STORE";
const OWNER: [u8; 32] = [9; 32];
/// Entries that each child of the race puts in.
const EACH: usize = 12;

fn owner() -> SecretKey {
    SecretKey::from_bytes(&OWNER).expect("a key")
}

fn start(role: &str, store: &Path) -> Child {
    Command::new(env::current_exe().expect("this program"))
        .args(["child", "--exact", "--nocapture", "--test-threads", "1"])
        .env(ROLE, role)
        .env(STORE, store)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts")
}

/// What a child says: lines with a letter and an id, between those of the test harness.
fn said(line: &str) -> Option<(char, &str)> {
    let (what, id) = line.split_once(' ')?;
    // A line that was cut short by the kill has fewer digits.
    let digits = match what {
        "E" => 64,
        "O" | "C" => 32,
        _ => return None,
    };
    let whole = id.len() == digits && id.bytes().all(|digit| digit.is_ascii_hexdigit());
    whole.then(|| (what.chars().next().unwrap_or_default(), id))
}

fn say(what: char, id: &dyn std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    // On a line of its own: the test harness leaves the one that it is on unfinished.
    writeln!(out, "\n{what} {id}").and_then(|()| out.flush()).expect("the parent listens");
}

/// Not a test by itself: what the children do.
#[test]
fn child() {
    let (Ok(role), Ok(path)) = (env::var(ROLE), env::var(STORE)) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    runtime.block_on(async {
        let store = open(Path::new(&path)).await;
        match role.as_str() {
            "write" => write_for_ever(store).await,
            "race" => race(store).await,
            other => unreachable!("there is no role {other}"),
        }
    });
}

/// Ingests and enqueues at once, so that groups are committed, and says what was acknowledged.
async fn write_for_ever(store: Store) {
    let ingesting = {
        let store = store.clone();
        async move {
            loop {
                let one = sealed("arrived", &owner());
                let two = sealed("arrived, too", &owner());
                store.ingest(batch(&owner(), "a", &[&one, &two])).await.expect("ingests");
                say('E', &one.envelope.id());
                say('E', &two.envelope.id());
            }
        }
    };
    let enqueuing = async move {
        loop {
            let new: Vec<_> = (0..3).map(|_| outgoing(&sealed("sent", &owner()))).collect();
            let ids: Vec<_> = new.iter().map(|new| new.id).collect();
            let acknowledged = new.into_iter().map(|new| store.enqueue(new));
            for id in futures_util::future::join_all(acknowledged).await {
                id.expect("enqueues");
            }
            ids.iter().for_each(|id| say('O', id));
        }
    };
    let (_, _): ((), ()) = tokio::join!(ingesting, enqueuing);
}

/// Enqueues and claims against the others, from the word "go".
async fn race(store: Store) {
    let new: Vec<_> = (0..EACH).map(|_| outgoing(&sealed("sent", &owner()))).collect();
    std::io::stdin().lock().read_line(&mut String::new()).expect("the parent says go");
    for new in new {
        say('O', &store.enqueue(new).await.expect("enqueues"));
        claim(&store).await;
    }
    while claim(&store).await > 0 {}
    store.close().await;
}

async fn claim(store: &Store) -> usize {
    let claimed = store.claim(2, Duration::from_secs(3600)).await.expect("claims");
    claimed.iter().for_each(|entry| say('C', &entry.id));
    claimed.len()
}

#[tokio::test]
async fn no_entry_is_claimed_twice_and_none_is_lost() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("store.db");
    // They also create the store at the same time.
    let mut children: Vec<_> = (0..3).map(|_| start("race", &path)).collect();
    for child in &mut children {
        child.stdin.as_mut().expect("piped").write_all(b"go\n").expect("listens");
    }
    let outputs: Vec<_> = children.into_iter().map(|child| child.wait_with_output().expect("ends")).collect();
    let (mut enqueued, mut claimed) = (HashSet::new(), Vec::new());
    for output in &outputs {
        assert!(output.status.success());
        let text = String::from_utf8_lossy(&output.stdout);
        for (what, id) in text.lines().filter_map(said) {
            let id: OutboxId = id.parse().expect("an id");
            if what == 'O' {
                assert!(enqueued.insert(id));
            } else {
                claimed.push(id);
            }
        }
    }
    assert_eq!(enqueued.len(), 3 * EACH);
    assert_eq!(claimed.len(), enqueued.len(), "each was claimed once");
    assert_eq!(claimed.into_iter().collect::<HashSet<_>>(), enqueued);
    let store = open(&path).await;
    assert_eq!(store.outbox(OutboxQuery::default()).await.expect("reads").items.len(), 3 * EACH);
}

#[tokio::test]
async fn killing_loses_nothing_that_was_acknowledged() {
    const ROUNDS: u64 = 30;
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("store.db");
    let (mut envelopes, mut entries) = (HashSet::new(), HashSet::new());
    for round in 0..ROUNDS {
        let mut child = start("write", &path);
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut note = |line: &str| match said(line) {
            Some(('E', id)) => envelopes.insert(id.parse::<EnvelopeId>().expect("an id")),
            Some(('O', id)) => entries.insert(id.parse::<OutboxId>().expect("an id")),
            _ => false,
        };
        // Any instant: in some rounds while the store is being opened, in others after some acknowledgements and a
        // moment more.
        let wanted = usize::try_from(round % 10 * 3).expect("small");
        for line in lines.by_ref().map_while(Result::ok).filter(|line| said(line).is_some()).take(wanted) {
            note(&line);
        }
        thread::sleep(Duration::from_micros(round * 1_237 % 9_000));
        child.kill().expect("is running");
        child.wait().expect("ends");
        // What it had said before the end.
        lines.map_while(Result::ok).for_each(|line| {
            note(&line);
        });

        let store = open(&path).await;
        let known = store.known(owner().id(), &envelopes.iter().copied().collect::<Vec<_>>()).await.expect("reads");
        assert_eq!(known, envelopes, "round {round}");
        for id in &entries {
            assert!(store.outbox_entry(*id).await.expect("reads").is_some(), "round {round}");
        }
        let damage = store.check(owner().id()).await.expect("whole");
        assert_eq!(damage, Default::default());
        let messages = everything(&store, &owner()).await.len();
        assert!(messages >= envelopes.len() && messages % 2 == 0, "a batch is there whole or not at all");
        store.close().await;
    }
    assert!(envelopes.len() > 50 && entries.len() > 50, "the children did write");
}
