//! What an operator does with a store.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use talkbox_backend_gossip::{
    NodeConfig, NodeContext,
    node::{Beside, Node, Sample, SampleKind, Standing, maintenance},
};
use talkbox_core::{ErrorKind, async_trait};

use crate::{
    http::support::{get, publish},
    support::{NOW, PATIENCE, key, node_at, wrap, wrap_by},
};

async fn start(directory: &tempfile::TempDir) -> Node {
    let data = directory.path().to_owned();
    node_at(NOW, |config| config.data = Some(data)).await.0
}

#[tokio::test]
async fn a_backup_of_a_running_node_is_a_store_of_its_own_epoch() {
    let (original, copy) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let node = start(&original).await;
    let owner = key();
    publish(&node, &[&wrap(owner.id()), &wrap(owner.id())]).await;
    let to = copy.path().join("node.sqlite3");
    let made = maintenance::backup(original.path(), &to).expect("is made");
    assert_eq!((made.events, &made.path), (2, &to));
    assert!(made.bytes > 0);
    publish(&node, &[&wrap(owner.id())]).await;
    let taken = maintenance::backup(original.path(), &to).expect_err("it is there already");
    assert_eq!(taken.kind(), ErrorKind::InvalidInput);

    let restored = start(&copy).await;
    assert_ne!(restored.epoch(), node.epoch());
    let path = format!("/v1/mailboxes/{}/envelopes", owner.id().to_hex());
    let old = format!("{path}?after={:016x}.1", node.epoch());
    assert_eq!(get(&restored, &old).by(&owner).send().await.problem(), (410, "cursor-unknown".to_owned()));
    let page = get(&restored, &path).by(&owner).send().await.json();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(2));
    let epoch = restored.epoch();
    restored.shutdown().await;
    assert_eq!(start(&copy).await.epoch(), epoch, "it is new once");
}

#[tokio::test]
async fn a_check_finds_what_is_damaged_though_sqlite_does_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = start(&directory).await;
    let mail: Vec<_> = (0..4).map(|_| wrap(key().id())).collect();
    publish(&node, &mail.iter().collect::<Vec<_>>()).await;
    let sound = maintenance::verify(directory.path()).expect("checks");
    assert!(sound.is_sound(), "{sound:?}");
    assert_eq!(sound.events, 4);
    let file = rusqlite::Connection::open(directory.path().join("node.sqlite3")).expect("opens");
    let spoil = |column: &str, at: usize| {
        let sql = format!("UPDATE event SET {column} = zeroblob(length({column})) WHERE id = ?1");
        assert_eq!(file.execute(&sql, [&mail[at].id().as_bytes()[..]]).expect("writes"), 1);
    };
    spoil("content", 1);
    spoil("sig", 2);
    let found = maintenance::verify(directory.path()).expect("checks");
    assert!(!found.is_sound());
    assert_eq!((found.events, found.damaged, found.faults.len()), (4, 2, 0));
    let mut named = found.named;
    let mut spoilt = [mail[1].id(), mail[2].id()];
    named.sort_unstable();
    spoilt.sort_unstable();
    assert_eq!(named, spoilt);
    let nothing = tempfile::tempdir().expect("a directory");
    assert_eq!(maintenance::verify(nothing.path()).expect_err("no store").kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_backup_is_checked_as_a_store_is_and_what_cannot_be_read_is_damaged() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = start(&directory).await;
    publish(&node, &[&wrap(key().id()), &wrap(key().id())]).await;
    let to = directory.path().join("a copy?#%20.sqlite3");
    maintenance::backup(directory.path(), &to).expect("is made");
    let found = maintenance::verify_file(&to).expect("checks");
    assert!(found.is_sound() && found.events == 2, "{found:?}");
    for nonsense in [&b"no database at all, and longer than a head".repeat(100)[..], b""] {
        std::fs::write(&to, nonsense).expect("writes");
        let found = maintenance::verify_file(&to).expect("says what it found");
        assert!(!found.is_sound() && found.faults.len() == 1, "{found:?}");
    }
    let missing = maintenance::verify_file(&directory.path().join("nothing")).expect_err("is not there");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

/// What stands where SQLite would make one of its files leads nowhere: it fails as where nothing can be written.
#[cfg(unix)]
#[tokio::test]
async fn a_store_is_read_where_nothing_can_be_written_beside_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = directory.path().join("data #1?%");
    let data = folder.clone();
    let node = node_at(NOW, |config| config.data = Some(data)).await.0;
    publish(&node, &[&wrap(key().id()), &wrap(key().id())]).await;
    node.shutdown().await;
    std::os::unix::fs::symlink("/nowhere/at/all", folder.join("node.sqlite3-shm")).expect("makes");
    let found = maintenance::verify(&folder).expect("checks");
    assert!(found.is_sound() && found.events == 2, "{found:?}");
    let to = directory.path().join("copy");
    assert_eq!(maintenance::backup(&folder, &to).expect("is made").events, 2);
    assert_eq!(maintenance::verify_file(&to).expect("checks").events, 2);
    let year = NOW.plus(400 * 86_400);
    assert_eq!(maintenance::collectable(&folder, year).expect("counts").events, 2);
    // What the log has is not left out unsaid.
    std::fs::write(folder.join("node.sqlite3-wal"), [7; 4_096]).expect("writes");
    let error = maintenance::verify(&folder).expect_err("the log cannot be read");
    assert!(error.to_string().contains("copy the folder"), "{error}");
}

#[tokio::test]
async fn what_has_expired_is_counted_before_it_goes() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = start(&directory).await;
    let soon = NOW.plus(10).to_string();
    let short = wrap_by(&key(), key().id(), NOW, &[&["expiration", &soon]]);
    publish(&node, &[&short, &wrap(key().id())]).await;
    assert_eq!(maintenance::collectable(directory.path(), NOW).expect("counts").events, 0);
    let later = maintenance::collectable(directory.path(), NOW.plus(3_600)).expect("counts");
    assert_eq!(later.events, 1);
    assert!(later.bytes > 300);
}

/// Whoever makes room on a full disk looks at `/readyz` then; nobody need come and write for it.
#[tokio::test]
async fn a_node_is_ready_again_by_itself_when_it_can_write_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = start(&directory).await;
    let is_ready = async || get(&node, "/readyz").send().await.status == 200;
    assert!(is_ready().await);
    // Who has the lock keeps the node from writing as a full disk does.
    let other = rusqlite::Connection::open(directory.path().join("node.sqlite3")).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locks");
    assert_eq!(publish(&node, &[&wrap(key().id())]).await[0]["code"], "failed");
    assert!(!is_ready().await);
    other.execute_batch("ROLLBACK").expect("unlocks");
    let ready = async {
        while !is_ready().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("it tries by itself");
}

/// Something beside a node that works, or does not.
#[derive(Debug, Default)]
struct Neighbour(AtomicBool);

#[async_trait]
impl Beside for Neighbour {
    async fn standing(&self) -> Standing {
        let works = self.0.load(Ordering::Relaxed);
        let (name, help) = ("neighbour_works", "Whether the neighbour works.");
        let sample = Sample { name, kind: SampleKind::Gauge, help, value: works.into() };
        Standing { fault: (!works).then_some("the neighbour does not work"), samples: vec![sample] }
    }
}

#[tokio::test]
async fn what_runs_beside_a_node_is_asked_with_it() {
    let neighbour = Arc::new(Neighbour::default());
    let context = NodeContext::default().with_beside(Arc::<Neighbour>::clone(&neighbour));
    let node = Node::start(NodeConfig::loopback(), context).await.expect("the node starts");
    let ready = get(&node, "/readyz").send().await;
    assert_eq!((ready.status, &ready.json()["fault"]), (503, &"the neighbour does not work".into()));
    let metrics = get(&node, "/metrics").send().await.body;
    assert!(metrics.contains("talkbox_node_neighbour_works 0\n"), "{metrics}");
    assert!(metrics.contains("talkbox_node_ready 0\n"), "{metrics}");
    neighbour.0.store(true, Ordering::Relaxed);
    assert_eq!(get(&node, "/readyz").send().await.status, 200);
    let metrics = get(&node, "/metrics").send().await.body;
    assert!(
        metrics.contains("# TYPE talkbox_node_neighbour_works gauge\ntalkbox_node_neighbour_works 1\n"),
        "{metrics}"
    );
}
