//! Bits that flip on the disk: no wrong event is ever served, and what is rotten is put right from a peer.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    ops::Range,
    path::Path,
};

use talkbox_backend_gossip::node::{Node, NodeConfig, NodeContext, maintenance};
use talkbox_core::{ErrorKind, ManualClock, SecretKey, event::Event};

use crate::{
    http::support::{get, post, publish},
    mesh::support::Mesh,
    support::{NOW, PATIENCE, key, wrap},
};

/// The file of a store whose node has ended.
struct Disk(std::fs::File);

impl Disk {
    fn open(data: &Path) -> Self {
        Self(OpenOptions::new().read(true).write(true).open(data.join("node.sqlite3")).expect("opens"))
    }

    /// With nothing in it but what counts: rows that were changed leave their old bytes behind.
    fn packed(data: &Path) -> Self {
        let conn = rusqlite::Connection::open(data.join("node.sqlite3")).expect("opens");
        conn.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)").expect("packs");
        drop(conn);
        Self::open(data)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.rewind().expect("seeks");
        self.0.read_to_end(&mut bytes).expect("reads");
        bytes
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.0.seek(SeekFrom::Start(at as u64)).expect("seeks");
        self.0.write_all(bytes).expect("writes");
    }
}

/// Where the columns of an event stand in the file. Its id stands in indexes too, but its signature only in the row, soon
/// after the id. A page that was split may still have what it had before; the row is on the later one.
fn body(file: &[u8], event: &Event) -> Range<usize> {
    let find = |bytes: &[u8], from: usize| file[from..].windows(bytes.len()).position(|some| some == bytes);
    let sig = file.windows(64).rposition(|some| some == event.signature()).expect("the row is in the file");
    let near = sig.saturating_sub(250);
    let id = near + find(event.id().as_bytes(), near).expect("the id stands before");
    // The guard of the signature and 300 bytes of content; where the event came from takes none.
    id..sig + 64 + 4 + 300
}

/// The mail of a mailbox as a node lists it, by id.
async fn listed(node: &Node, owner: &SecretKey) -> HashMap<String, String> {
    let path = format!("/v1/mailboxes/{}/envelopes", owner.id().to_hex());
    let page = get(node, &path).by(owner).send().await;
    assert_eq!(page.status, 200, "{page:?}");
    let items = page.json()["items"].as_array().expect("items").clone();
    let parsed = items.iter().map(|item| Event::parse(&item.to_string()).expect("every event served is a valid one"));
    let found: HashMap<_, _> = parsed.map(|event| (event.id().to_hex(), event.to_json())).collect();
    assert_eq!(found.len(), items.len(), "each once");
    found
}

/// The same, by asking for each id.
async fn fetched(node: &Node, owner: &SecretKey, mail: &[Event]) -> HashMap<String, String> {
    let ids: Vec<_> = mail.iter().map(|event| event.id().to_hex()).collect();
    let asked = serde_json::json!({ "ids": ids }).to_string();
    let answer = post(node, "/v1/envelopes/get", asked).by(owner).send().await;
    let parsed = answer.body.lines().map(|line| Event::parse(line).expect("every event served is a valid one"));
    parsed.map(|event| (event.id().to_hex(), event.to_json())).collect()
}

fn assert_part(found: &HashMap<String, String>, of: &HashMap<String, String>) {
    for (id, json) in found {
        assert_eq!(of.get(id), Some(json), "what is served is what was stored");
    }
}

/// Numbers that look random, and are the same in every run.
fn dice(seed: &mut u64) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) as usize
}

#[tokio::test]
async fn every_flipped_bit_of_a_row_is_noticed_and_healed_from_a_peer() {
    let rounds = if std::env::var_os("TALKBOX_FULL").is_some() { 60 } else { 5 };
    const MAIL: usize = 40;
    const FLIPS: usize = 16;
    let mut mesh = Mesh::of(3).await;
    let owner = key();
    let mail: Vec<Event> = (0..MAIL).map(|_| wrap(owner.id())).collect();
    publish(mesh.node(0), &mail.iter().collect::<Vec<_>>()).await;
    mesh.hold(MAIL).await;
    let right: HashMap<_, _> = mail.iter().map(|event| (event.id().to_hex(), event.to_json())).collect();
    let order = get(mesh.node(2), "/v1/peers").send().await.json()["epoch"].clone();
    let mut seed = 7;
    let mut offsets = std::collections::BTreeSet::new();
    for round in 0..rounds {
        mesh.stop(2).await;
        let data = mesh.places[2].data();
        let mut disk = Disk::packed(&data);
        let file = disk.bytes();
        for (at, event) in mail.iter().skip(round % (MAIL - FLIPS)).take(FLIPS).enumerate() {
            let body = body(&file, event);
            // Spread over the whole row, so that every column is met.
            let offset = (at * body.len() / FLIPS + dice(&mut seed) % (body.len() / FLIPS + 1)).min(body.len() - 1);
            let byte = file[body.start + offset] ^ (1 << (dice(&mut seed) % 8));
            disk.write(body.start + offset, &[byte]);
            offsets.insert(offset);
        }
        drop(disk);
        // Its peers are away at first: what is rotten is left out, and nothing wrong is served.
        let alone = Node::start(
            {
                let mut config = NodeConfig::loopback();
                config.data = Some(data.clone());
                config
            },
            NodeContext::default().with_clock(ManualClock::new(NOW)),
        )
        .await
        .expect("starts");
        let (by_list, by_id) = (listed(&alone, &owner).await, fetched(&alone, &owner, &mail).await);
        assert_part(&by_list, &right);
        assert_part(&by_id, &right);
        assert!(by_list.len() < MAIL, "some rows are rotten");
        alone.shutdown().await;

        mesh.start_with(2, |config| config.scrub_interval = 1).await;
        until_sound(mesh.node(2), &data, &owner, &mail, &right).await;
        mesh.hold(MAIL).await;
    }
    // A row has some 500.
    assert!(offsets.len() >= (rounds * 8).min(300), "many offsets were met: {}", offsets.len());
    assert_eq!(get(mesh.node(2), "/v1/peers").send().await.json()["epoch"], order, "cursors stay true");
}

/// What the database says of a row (how long its columns are, where it ends) is the file's own.
#[tokio::test]
async fn a_store_that_sqlite_cannot_read_is_refused_and_never_served_wrongly() {
    let (original, owner) = (tempfile::tempdir().expect("a directory"), key());
    let start = async |data: &Path| {
        let mut config = NodeConfig::loopback();
        config.data = Some(data.to_owned());
        Node::start(config, NodeContext::default().with_clock(ManualClock::new(NOW))).await
    };
    let mail: Vec<Event> = (0..6).map(|_| wrap(owner.id())).collect();
    let node = start(original.path()).await.expect("starts");
    publish(&node, &mail.iter().collect::<Vec<_>>()).await;
    node.shutdown().await;
    let right: HashMap<_, _> = mail.iter().map(|event| (event.id().to_hex(), event.to_json())).collect();
    let mut disk = Disk::open(original.path());
    let file = disk.bytes();
    let row = body(&file, &mail[3]);
    let (mut refused, mut served) = (0, 0);
    // Twelve bytes for the eleven columns, and the length and place of the row before them.
    for (bit, at) in (row.start - 17..row.start).enumerate() {
        disk.write(at, &[file[at] ^ (1 << (bit % 8))]);
        match start(original.path()).await {
            Ok(node) => {
                assert_part(&listed(&node, &owner).await, &right);
                node.shutdown().await;
                served += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Storage, "{error}");
                refused += 1;
            }
        }
        disk.write(0, &file);
    }
    assert!(refused > 0, "{refused} refused, {served} served");
}

#[tokio::test]
async fn pages_that_make_no_sense_are_shown_and_hide_nothing_else() {
    let (directory, owner) = (tempfile::tempdir().expect("a directory"), key());
    let start = async || {
        let mut config = NodeConfig::loopback();
        config.data = Some(directory.path().to_owned());
        Node::start(config, NodeContext::default().with_clock(ManualClock::new(NOW))).await
    };
    let node = start().await.expect("starts");
    let mail: Vec<Event> = (0..60).map(|_| wrap(owner.id())).collect();
    publish(&node, &mail.iter().collect::<Vec<_>>()).await;
    node.shutdown().await;
    let right: HashMap<_, _> = mail.iter().map(|event| (event.id().to_hex(), event.to_json())).collect();
    let node = start().await.expect("starts");
    assert_eq!(get(&node, "/readyz").send().await.status, 200);
    // A page of the table, while the node runs: nobody has read it since it started.
    let mut disk = Disk::open(directory.path());
    let file = disk.bytes();
    let page = body(&file, &mail[30]).start / 4_096 * 4_096;
    disk.write(page, &[0x55; 4_096]);
    let left = listed(&node, &owner).await;
    assert_part(&left, &right);
    assert!((1..60).contains(&left.len()), "the others are served: {}", left.len());
    let ready = get(&node, "/readyz").send().await;
    assert_eq!((ready.status, ready.json()["fault"].clone()), (503, "the store is damaged".into()));
    node.shutdown().await;
    let error = start().await.expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.to_string().contains("the store is damaged"), "{error}");
}

/// Whoever is told that an event is here already relies on it.
#[tokio::test]
async fn what_is_brought_again_puts_a_rotten_row_right() {
    let (directory, owner) = (tempfile::tempdir().expect("a directory"), key());
    let start = async || {
        let mut config = NodeConfig::loopback();
        config.data = Some(directory.path().to_owned());
        Node::start(config, NodeContext::default().with_clock(ManualClock::new(NOW))).await.expect("starts")
    };
    let mail = wrap(owner.id());
    let node = start().await;
    publish(&node, &[&mail]).await;
    node.shutdown().await;
    let mut disk = Disk::open(directory.path());
    let file = disk.bytes();
    let at = body(&file, &mail).start + 150;
    disk.write(at, &[file[at] ^ 8]);
    let node = start().await;
    assert!(listed(&node, &owner).await.is_empty());
    assert_eq!(publish(&node, &[&mail]).await[0]["status"], "duplicate");
    assert_eq!(listed(&node, &owner).await.len(), 1);
    assert!(maintenance::verify(directory.path()).expect("checks").is_sound());
}

/// The writer still has in memory what was right, and whoever has read on has passed the place.
#[tokio::test]
async fn a_bit_that_flips_while_the_node_runs_is_healed_and_reaches_who_read_on() {
    let mut mesh = Mesh::of(2).await;
    let owner = key();
    let mail: Vec<Event> = (0..10).map(|_| wrap(owner.id())).collect();
    publish(mesh.node(0), &mail.iter().collect::<Vec<_>>()).await;
    mesh.hold(10).await;
    mesh.stop(0).await;
    // What is in its log moves into the file.
    mesh.stop(1).await;
    mesh.start(1).await;
    // It looks at each of them.
    let answers = publish(mesh.node(1), &mail.iter().collect::<Vec<_>>()).await;
    assert!(answers[..mail.len()].iter().all(|answer| answer["status"] == "duplicate"), "{answers:?}");
    let mut disk = Disk::open(&mesh.places[1].data());
    let file = disk.bytes();
    for event in &mail[3..5] {
        let at = body(&file, event).start + 150;
        disk.write(at, &[file[at] ^ 8]);
    }
    let path = format!("/v1/mailboxes/{}/envelopes", owner.id().to_hex());
    let page = get(mesh.node(1), &path).by(&owner).send().await.json();
    assert_eq!(page["items"].as_array().expect("items").len(), 8);
    let on = format!("{path}?after={}", page["next"].as_str().expect("a cursor"));
    // One is brought again, the other healed from the peer.
    assert_eq!(publish(mesh.node(1), &[&mail[3]]).await[0]["status"], "duplicate");
    mesh.start(0).await;
    let mut healed = Vec::new();
    let found = tokio::time::timeout(PATIENCE, async {
        while healed.len() < 2 {
            let page = get(mesh.node(1), &on).by(&owner).send().await.json();
            let ids = page["items"].as_array().expect("items").iter().map(|item| item["id"].clone());
            healed = ids.collect();
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
    assert!(found.await.is_ok(), "both come to who read on: {healed:?}");
    healed.sort_by_key(ToString::to_string);
    let mut expected: Vec<_> = mail[3..5].iter().map(|event| serde_json::json!(event.id().to_hex())).collect();
    expected.sort_by_key(ToString::to_string);
    assert_eq!(healed, expected);
    mesh.stop(1).await;
    assert!(maintenance::verify(&mesh.places[1].data()).expect("checks").is_sound());
}

/// Where these bytes stand in the file.
fn all(file: &[u8], bytes: &[u8]) -> Vec<usize> {
    (0..file.len() - bytes.len()).filter(|at| file[*at..].starts_with(bytes)).collect()
}

/// An index says other things than its table; no bit of an event itself is wrong, so that nobody is needed for it.
#[tokio::test]
async fn an_index_that_is_rotten_is_made_anew() {
    let (directory, owner) = (tempfile::tempdir().expect("a directory"), key());
    let start = async || {
        let mut config = NodeConfig::loopback();
        config.data = Some(directory.path().to_owned());
        config.scrub_interval = 1;
        Node::start(config, NodeContext::default().with_clock(ManualClock::new(NOW))).await.expect("starts")
    };
    let node = start().await;
    let mail: Vec<Event> = (0..8).map(|_| wrap(owner.id())).collect();
    publish(&node, &mail.iter().collect::<Vec<_>>()).await;
    node.shutdown().await;
    let right: HashMap<_, _> = mail.iter().map(|event| (event.id().to_hex(), event.to_json())).collect();
    let mut disk = Disk::packed(directory.path());
    let file = disk.bytes();
    let places = all(&file, mail[0].id().as_bytes()).len();
    assert!(places >= 2, "the id stands in the row and in an index");
    for (nth, event) in mail.iter().enumerate().take(places) {
        // Of each event another of the places where its id stands, but not the one in its row.
        let at = all(&file, event.id().as_bytes())[nth];
        if at != body(&file, event).start {
            disk.write(at + 9, &[file[at + 9] ^ 2]);
        }
    }
    drop(disk);
    let node = start().await;
    assert_part(&listed(&node, &owner).await, &right);
    assert_part(&fetched(&node, &owner, &mail).await, &right);
    until_sound(&node, directory.path(), &owner, &mail, &right).await;
    node.shutdown().await;
}

/// Every event of the mailbox gives another id then.
#[tokio::test]
async fn a_mailbox_whose_key_is_rotten_is_healed_from_a_peer() {
    let mut mesh = Mesh::of(2).await;
    let owner = key();
    let mail: Vec<Event> = (0..10).map(|_| wrap(owner.id())).collect();
    publish(mesh.node(0), &mail.iter().collect::<Vec<_>>()).await;
    mesh.hold(10).await;
    let right: HashMap<_, _> = mail.iter().map(|event| (event.id().to_hex(), event.to_json())).collect();
    for nth in 0..2 {
        mesh.stop(1).await;
        let data = mesh.places[1].data();
        let mut disk = Disk::packed(&data);
        let file = disk.bytes();
        // In the table, and in its index.
        let places = all(&file, owner.id().as_bytes());
        disk.write(places[nth] + 5, &[file[places[nth] + 5] ^ 1]);
        drop(disk);
        mesh.start_with(1, |config| config.scrub_interval = 1).await;
        assert_part(&listed(mesh.node(1), &owner).await, &right);
        until_sound(mesh.node(1), &data, &owner, &mail, &right).await;
        mesh.hold(10).await;
    }
}

/// Waits until all is served, and nothing in the file is wrong.
async fn until_sound(node: &Node, data: &Path, owner: &SecretKey, mail: &[Event], right: &HashMap<String, String>) {
    let sound = tokio::time::timeout(PATIENCE, async {
        loop {
            let (by_list, by_id) = (listed(node, owner).await, fetched(node, owner, mail).await);
            assert_part(&by_list, right);
            assert_part(&by_id, right);
            let is_whole = by_list.len() == mail.len() && by_id.len() == mail.len();
            if is_whole && maintenance::verify(data).is_ok_and(|all| all.is_sound()) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    if sound.await.is_err() {
        let metrics = get(node, "/metrics").send().await.body;
        panic!("not healed: {} served; {:?}\n{metrics}", listed(node, owner).await.len(), maintenance::verify(data));
    }
}
