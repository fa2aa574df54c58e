//! A disk that takes no more: the system refuses what would make a file larger than it may be. The children are this
//! same program, started again under that limit.
#![cfg(unix)]

use std::{
    collections::HashSet,
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use talkbox_core::{
    EnvelopeId, ManualClock, SecretKey,
    local::{OutboxId, OutboxQuery, Store},
};

#[expect(dead_code, reason = "each test program uses a part of it")]
mod local_common;
use local_common::*;

const ROLE: &str = "TALKBOX_TEST_ROLE";
const STORE: &str = "TALKBOX_TEST_STORE";
const OWNER: [u8; 32] = [9; 32];

fn owner() -> SecretKey {
    SecretKey::from_bytes(&OWNER).expect("a key")
}

/// A child for which no file may get larger than two megabytes, or four where the shell counts in units of 1,024 bytes.
/// The signal that the system sends at the limit is ignored, so that writing fails as it does on a full disk.
fn start(role: &str, store: &Path) -> Child {
    Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$0\" child --exact --nocapture --test-threads 1"])
        .arg(env::current_exe().expect("this program"))
        .env(ROLE, role)
        .env(STORE, store)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts")
}

fn say(what: &str, value: &dyn std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    // On a line of its own: the test harness leaves the one that it is on unfinished.
    writeln!(out, "\n{what} {value}").and_then(|()| out.flush()).expect("the parent listens");
}

/// What a child said, up to the word "end".
fn said(child: &mut Child) -> Vec<(String, String)> {
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let mut lines: Vec<_> = lines
        .filter_map(|line| line.split_once(' ').map(|(what, value)| (what.to_owned(), value.to_owned())))
        .take_while(|(what, _)| what != "end")
        .collect();
    lines.retain(|(what, _)| ["entry", "mail", "refused", "readable"].contains(&what.as_str()));
    lines
}

/// Not a test by itself: what the children do.
#[test]
fn child() {
    let (Ok(role), Ok(path)) = (env::var(ROLE), env::var(STORE)) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    runtime.block_on(async {
        // Later than a week, so that the file is checked when it is opened.
        let now = if role == "read" { NOW.plus(8 * 86_400) } else { NOW };
        let store = Store::open(Path::new(&path), key(), Arc::new(ManualClock::new(now))).await.expect("opens");
        match role.as_str() {
            "fill" => fill(store).await,
            "read" => read(store).await,
            other => unreachable!("there is no role {other}"),
        }
        say("end", &"");
        // The parent kills it: a store that is closed tidies up.
        let _ended = std::io::stdin().lock().read_line(&mut String::new());
    });
}

/// Sends and receives until neither is possible.
async fn fill(store: Store) {
    for _ in 0..400 {
        let mail = sealed(&"x".repeat(2_000), &owner());
        match store.ingest(batch(&owner(), "a", &[&mail])).await {
            Ok(_) => say("mail", &mail.envelope.id()),
            Err(error) => say("refused", &error.kind()),
        }
        match store.enqueue(outgoing(&sealed("sent", &owner()))).await {
            Ok(id) => say("entry", &id),
            Err(error) => say("refused", &error.kind()),
        }
    }
    // Down to the last page: what is as small as the note of a check finds no room either.
    // Another value each time, since SQLite does not write the same one again.
    for number in 0..1_000_u32 {
        if let Err(error) = store.set_setting("small", Some(&number.to_le_bytes())).await {
            return say("refused", &error.kind());
        }
    }
}

async fn read(store: Store) {
    say("readable", &everything(&store, &owner()).await.len());
    let (mut entries, mut query) = (0, OutboxQuery::default());
    loop {
        let page = store.outbox(query.clone()).await.expect("reads");
        entries += page.items.len();
        query.after = page.next;
        if page.next.is_none() {
            return say("readable", &entries);
        }
    }
}

#[tokio::test]
async fn when_the_disk_takes_no_more_nothing_acknowledged_is_lost_and_all_can_be_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("store.db");
    let mut child = start("fill", &path);
    let (mut mail, mut entries, mut refused) = (HashSet::new(), HashSet::new(), 0);
    for (what, value) in said(&mut child) {
        match what.as_str() {
            "mail" => drop(mail.insert(value.parse::<EnvelopeId>().expect("an id"))),
            "entry" => drop(entries.insert(value.parse::<OutboxId>().expect("an id"))),
            _ => {
                assert_eq!(value, "storage");
                refused += 1;
            }
        }
    }
    child.kill().expect("is running");
    child.wait().expect("ends");
    assert!(mail.len() > 5 && entries.len() > 5 && refused > 5, "{} {} {refused}", mail.len(), entries.len());

    // Another process, while the disk is still full, with a check of the file due.
    let mut child = start("read", &path);
    let read: Vec<_> = said(&mut child).into_iter().map(|(_, count)| count).collect();
    child.kill().expect("is running");
    child.wait().expect("ends");
    assert_eq!(read, [mail.len().to_string(), entries.len().to_string()]);

    // There is room again.
    let store = open(&path).await;
    assert_eq!(store.check(owner().id()).await.expect("whole"), Default::default());
    let known = store.known(owner().id(), &mail.iter().copied().collect::<Vec<_>>()).await.expect("reads");
    assert_eq!(known, mail);
    for id in &entries {
        assert!(store.outbox_entry(*id).await.expect("reads").is_some());
    }
    store.enqueue(outgoing(&sealed("sent", &owner()))).await.expect("there is room");
    assert_eq!(everything(&store, &owner()).await.len(), mail.len());
}
