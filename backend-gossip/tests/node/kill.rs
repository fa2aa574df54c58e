//! A node that is killed at any instant, under load. The children are this same program, started again.

use std::{
    collections::HashSet,
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use talkbox_core::{SecretKey, event::Event};
use tokio::{sync::Notify, task::JoinSet};

use crate::support::*;

const STORE: &str = "TALKBOX_TEST_NODE";
/// Connections that publish at once, and what each has under way: so that commits are of many events, and one is
/// always under way.
const CLIENTS: usize = 4;
const UNDER_WAY: usize = 64;

/// Not a test by itself: what the children do.
#[test]
fn child() {
    let Ok(path) = env::var(STORE) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let (node, _) = node_with(|config| config.data = Some(path.into())).await;
        // On a line of its own: the test harness leaves the one that it is on unfinished.
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{}", node.url()).and_then(|()| out.flush()).expect("the parent listens");
        drop(out);
        std::future::pending::<()>().await;
    });
}

/// A child, which has ended when this is dropped.
struct Killed(Child);

impl Killed {
    fn start(store: &Path) -> Self {
        let child = Command::new(env::current_exe().expect("this program"))
            .args(["kill::child", "--exact", "--nocapture", "--test-threads", "1"])
            .env(STORE, store)
            .stdout(Stdio::piped())
            .spawn();
        Self(child.expect("starts"))
    }

    /// Where it listens, once it does.
    fn url(&mut self) -> String {
        let lines = BufReader::new(self.0.stdout.take().expect("piped")).lines();
        lines.map_while(Result::ok).find(|line| line.starts_with("ws://")).expect("the child listens")
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().expect("is running");
        self.0.wait().expect("ends");
    }
}

/// Counts the acknowledgements of all connections, and tells when there are enough.
#[derive(Default)]
struct Acknowledged {
    count: AtomicUsize,
    enough: Notify,
}

/// Publishes without end, and gives what was acknowledged until the connection ended.
async fn publish(url: String, owner: SecretKey, wanted: usize, all: Arc<Acknowledged>) -> HashSet<String> {
    let mut client = Client::connect_to(&url).await;
    let (mut acknowledged, mut under_way) = (HashSet::new(), 0);
    loop {
        while under_way < UNDER_WAY {
            let event: Event = wrap(owner.id());
            if !client.try_send(&json!(["EVENT", value(&event)])).await {
                // What has been answered can still be read.
                break;
            }
            under_way += 1;
        }
        let Some(answer) = client.next().await else { return acknowledged };
        assert_eq!((&answer[0], &answer[2]), (&json!("OK"), &Value::Bool(true)), "{answer}");
        acknowledged.insert(answer[1].as_str().expect("an id").to_owned());
        under_way -= 1;
        if all.count.fetch_add(1, Ordering::SeqCst) + 1 >= wanted {
            all.enough.notify_one();
        }
    }
}

/// Those of the ids that a node on this store serves to the owner, each event checked.
async fn served(store: &Path, owner: &SecretKey, ids: &HashSet<String>) -> HashSet<String> {
    let (node, _) = node_with(|config| config.data = Some(store.to_owned())).await;
    let mut client = Client::connect_as(&node, owner).await;
    let mut served = HashSet::new();
    let ids: Vec<&String> = ids.iter().collect();
    // As many as a filter gives at most.
    for some in ids.chunks(500) {
        served.extend(client.stored(json!({"ids": some})).await);
    }
    node.shutdown().await;
    served
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_loses_nothing_that_was_acknowledged() {
    const ROUNDS: usize = 30;
    let directory = tempfile::tempdir().expect("a directory");
    let owner = key();
    let mut everything = HashSet::new();
    for round in 0..ROUNDS {
        let mut child = Killed::start(directory.path());
        if round % 5 == 4 {
            // While the store is being opened and recovered.
            tokio::time::sleep(Duration::from_micros(1_000 + round as u64 * 1_237 % 20_000)).await;
            continue;
        }
        let url = child.url();
        let (all, wanted) = (Arc::new(Acknowledged::default()), 1 + round * 17 % 200);
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(publish(url.clone(), owner.clone(), wanted, Arc::clone(&all)));
        }
        tokio::time::timeout(PATIENCE, all.enough.notified()).await.expect("so many are acknowledged");
        // Any instant of a commit, which takes a few milliseconds.
        tokio::time::sleep(Duration::from_micros(round as u64 * 1_237 % 7_000)).await;
        drop(child);
        let acknowledged: HashSet<String> = clients.join_all().await.into_iter().flatten().collect();
        assert!(acknowledged.len() >= wanted);
        assert_eq!(served(directory.path(), &owner, &acknowledged).await, acknowledged, "round {round}");
        everything.extend(acknowledged);
    }
    assert_eq!(served(directory.path(), &owner, &everything).await, everything, "after all rounds");
    assert!(everything.len() > 1_000, "there was load: {}", everything.len());
}
