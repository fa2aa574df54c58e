//! A node that is killed at any instant, under load.

use std::{
    collections::HashSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use talkbox_backend_gossip::node::NodeConfig;
use talkbox_core::{SecretKey, event::Event};
use tokio::{sync::Notify, task::JoinSet};

use crate::{processes::Process, support::*};

/// Connections that publish at once, and what each has under way: so that commits are of many events, and one is
/// always under way.
pub(crate) const CLIENTS: usize = 4;
const UNDER_WAY: usize = 64;

/// Counts the acknowledgements of all connections, and tells when there are enough.
#[derive(Default)]
pub(crate) struct Acknowledged {
    count: AtomicUsize,
    pub(crate) enough: Notify,
}

/// Publishes without end, and gives what was acknowledged until the connection ended.
pub(crate) async fn publish(url: String, owner: SecretKey, wanted: usize, all: Arc<Acknowledged>) -> HashSet<String> {
    // The others may have had enough acknowledged before this one has connected.
    let Some(mut client) = Client::try_connect_to(&url).await else { return HashSet::new() };
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
pub(crate) async fn served(store: &Path, owner: &SecretKey, ids: &HashSet<String>) -> HashSet<String> {
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
        let mut config = NodeConfig::loopback();
        config.data = Some(directory.path().to_owned());
        let mut child = Process::start(&config);
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
