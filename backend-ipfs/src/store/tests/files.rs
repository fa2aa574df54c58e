//! The file.

use std::path::Path;

use super::*;

/// Makes nonsense of the first page of a table.
fn spoil(path: &Path, table: &str) {
    use std::io::{Seek as _, SeekFrom, Write as _};

    let db = rusqlite::Connection::open(path).expect("opens");
    let page: u32 = db
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = ?1", [table], |row| row.get(0))
        .expect("there is one");
    let size: u32 = db.query_row("PRAGMA page_size", [], |row| row.get(0)).expect("reads");
    drop(db);
    let mut file = std::fs::OpenOptions::new().write(true).open(path).expect("opens");
    file.seek(SeekFrom::Start(u64::from(page - 1) * u64::from(size))).expect("is there");
    file.write_all(&vec![0xa5; size as usize]).expect("writes");
}

async fn open(path: &Path) -> Store {
    Store::open(Some(path), clock(), StoreLimits::default()).await.expect("opens")
}

/// What a process that was killed leaves behind is the file and its log as they are.
#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("deep/store.db");
    let store = open(&path).await;
    store.open_log(month_log()).await.expect("opens");
    let log = month_log().definition.address;
    let (own, stranger) = (writer(), writer());
    let mail: Vec<Envelope> = (0..5).map(|_| envelope()).collect();
    store.append(&log, mail.clone(), own, vec![]).await.expect("appends");
    let chain = chain(&log, &stranger, 40);
    store.receive(&log, with_identity(&stranger, &[&chain[..9], &chain[10..]].concat())).await.expect("receives");
    let (before, order) = (heads(&store, &log).await, traversal(&store, &log).await);

    let copy = dir.path().join("copy.db");
    std::fs::copy(&path, &copy).expect("copies");
    std::fs::copy(path.with_extension("db-wal"), copy.with_extension("db-wal")).expect("copies");
    let found = open(&copy).await;
    assert_eq!((heads(&found, &log).await, traversal(&found, &log).await), (before, order));
    assert_eq!(found.epoch(), store.epoch());
    assert_eq!(found.page(mailbox(), 0, 9).await.expect("reads").items.len(), 5);
    assert_eq!(found.missing(&log, 9).await.expect("reads"), [chain[9].cid]);
    found.receive(&log, vec![chain[9].clone()]).await.expect("receives");
    assert_eq!(traversal(&found, &log).await.len(), 45);
}

#[tokio::test]
async fn a_store_that_was_closed_opens_again_and_is_its_owners_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("store.db");
    let store = open(&path).await;
    store.open_log(month_log()).await.expect("opens");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    store.close().await;
    assert_eq!(store.logs().await.expect_err("is closed").kind(), talkbox_core::ErrorKind::Closed);
    assert_eq!(store.expire(NOW).await.expect_err("is closed").kind(), talkbox_core::ErrorKind::Closed);
    let again = open(&path).await;
    assert_eq!((again.epoch(), again.logs().await.expect("reads").len()), (store.epoch(), 1));
}

#[tokio::test]
async fn tables_of_others_are_theirs_and_what_fails_is_taken_back() {
    let store = store().await;
    store.with(|db| Ok(db.execute_batch("CREATE TABLE pins_of (name TEXT) STRICT")?)).await.expect("creates");
    let failed = store.with(|db| {
        db.execute("INSERT INTO pins_of VALUES ('half')", [])?;
        Ok(db.execute_batch("INSERT INTO nowhere VALUES (1)")?)
    });
    assert_eq!(failed.await.expect_err("fails").kind(), talkbox_core::ErrorKind::Storage);
    let count = store.with(|db| Ok(db.query_row("SELECT count(*) FROM pins_of", [], |row| row.get::<_, i64>(0))?));
    assert_eq!(count.await.expect("reads"), 0);
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(&dir.path().join("store.db")).await;
    store.open_log(month_log()).await.expect("opens");
    let log = month_log().definition.address;
    let room = |pages: i64| {
        store.with(move |db| {
            let now: i64 = db.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            Ok(db.pragma_update_and_check(None, "max_page_count", now + pages, |_| Ok(()))?)
        })
    };
    room(3).await.expect("sets");
    let writer = writer();
    let (mut kept, mut failed) = (0, 0);
    for n in 0..20 {
        match store.append_values(&log, vec![text(format!("{n}{}", "x".repeat(4_000)))], Arc::clone(&writer)).await {
            Ok(one) => kept += one.len(),
            Err(error) => {
                assert_eq!(error.kind(), talkbox_core::ErrorKind::Storage);
                failed += 1;
            }
        }
    }
    assert!(kept > 0 && failed > 0, "{kept} were kept, {failed} failed");
    assert_eq!(traversal(&store, &log).await.len(), kept);
    // Whoever runs it is told, until there is room again, though nobody writes anything then.
    assert_eq!(*store.standing().borrow(), Standing::Failing);
    store.look_again().await.expect_err("there is no room yet");
    assert_eq!(*store.standing().borrow(), Standing::Failing);
    room(1_000).await.expect("sets");
    store.look_again().await.expect("there is room");
    assert_eq!(*store.standing().borrow(), Standing::Well);
    store.append_values(&log, vec![text("there is room")], writer).await.expect("appends");
    assert_eq!((traversal(&store, &log).await.len(), heads(&store, &log).await.len()), (kept + 1, 1));
}

#[tokio::test]
async fn what_makes_no_sense_is_told_and_stays_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("store.db");
    let store = open(&path).await;
    store.open_log(month_log()).await.expect("opens");
    store.close().await;
    spoil(&path, "blocks");
    let store = open(&path).await;
    assert_eq!(*store.standing().borrow(), Standing::Well);
    let error = store.blocks(vec![month_log().definition.manifest.cid]).await.expect_err("is damaged");
    assert_eq!(error.context("file"), path.to_str(), "a program has several stores");
    assert_eq!(*store.standing().borrow(), Standing::Damaged);
    store.with(|db| Ok(db.execute_batch("CREATE TABLE pins_of (name TEXT) STRICT")?)).await.expect("creates");
    store.look_again().await.expect("there is nothing to try");
    assert_eq!(*store.standing().borrow(), Standing::Damaged);
}

/// Several peers bring the same at once, each in another order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_from_several_sides_at_once_is_taken_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(&dir.path().join("store.db")).await;
    store.open_log(month_log()).await.expect("opens");
    let log = month_log().definition.address;
    let writer = writer();
    let mail = envelope();
    let mut chain = chain(&log, &writer, 150);
    chain.push(signed(&log, &writer, &[chain[149].cid], &[], 151, crate::orbitdb::value_of(&mail)));
    let tasks: Vec<_> = (0..6)
        .map(|side| {
            let mut order = chain.clone();
            order.rotate_left(side * 20);
            if side % 2 == 1 {
                order.reverse();
            }
            let (store, log, identity) = (store.clone(), log.clone(), writer.identity().clone());
            tokio::spawn(async move {
                let (mut new, mut shown) = (0, 0);
                for portion in order.chunks(7 + side) {
                    let blocks = [std::slice::from_ref(&identity), portion].concat();
                    let received = store.receive(&log, blocks).await.expect("receives");
                    new += received.entries.iter().filter(|taken| taken.is_new).count();
                    shown += received.shown.len();
                }
                (new, shown)
            })
        })
        .collect();
    let (mut new, mut shown) = (0, 0);
    for task in tasks {
        let (more_new, more_shown) = task.await.expect("ends");
        new += more_new;
        shown += more_shown;
    }
    assert_eq!((new, shown), (151, 1));
    let state = &store.logs().await.expect("reads")[0];
    assert_eq!((state.entries, state.waiting, state.heads), (151, 0, 1));
    assert_eq!(state.bytes, chain.iter().map(|block| block.bytes.len() as u64).sum::<u64>());
}

#[tokio::test]
async fn many_at_once_are_all_answered() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(&dir.path().join("store.db")).await;
    store.open_log(month_log()).await.expect("opens");
    let log = month_log().definition.address;
    let writer = writer();
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let (store, log, writer) = (store.clone(), log.clone(), Arc::clone(&writer));
            tokio::spawn(async move { store.append_values(&log, vec![text(n.to_string())], writer).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.expect("ends").expect("appends").len(), 1);
    }
    assert_eq!(traversal(&store, &log).await.len(), 200);
    assert_eq!(heads(&store, &log).await.len(), 1, "one after the other");
}
