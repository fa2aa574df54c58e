//! Peers that know nothing of logs: Kubo, and a pinning service. They keep blocks, and the DHT. For the full run.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _};

use serde_json::json;
use talkbox_backend_ipfs::{Dht, IpfsNode};
use talkbox_core::{Envelope, HoldingState, Locator};
use tokio::time::{sleep, timeout};

use crate::{
    forge::Forger,
    ours::{Client, LOOK_AGAIN, Owner, TCP, ids, node, node_with},
    peer::{Kind, PATIENCE, Peer, text},
};

/// The DHT of private networks, as Kubo speaks it.
const PRIVATE_DHT: &str = "/ipfs/lan/kad/1.0.0";

/// What is to be known of a log in order to ask others for it.
struct Known {
    /// All blocks that it consists of.
    blocks: Vec<String>,
    heads: Vec<String>,
    log: String,
}

/// Reads a log from a node, through a JavaScript peer that is gone afterwards.
async fn read(owner: &Owner, address: &str, entries: usize) -> Known {
    let mut reader = Peer::start().await.expect("as the others");
    let log = reader.open(&owner.log()).await;
    reader.connect(address).await;
    reader.until(entries).await;
    let mut blocks = vec![text(&json!(log.trim_start_matches("/orbitdb/")))];
    for entry in reader.all().await {
        blocks.extend([text(&entry["identity"]), text(&entry["hash"])]);
    }
    let heads = reader.heads().await;
    reader.quit().await;
    blocks.sort_unstable();
    blocks.dedup();
    Known { blocks, heads, log }
}

/// Tells a fresh node of one entry on top of a log. All that is below it has to come from a peer that keeps blocks.
async fn all_comes_from(owner: &Owner, keeper: &mut Peer, at: &str, known: &Known, mail: &[Envelope]) {
    let (node, address) = node(owner, TCP, &[at]).await;
    let connected = timeout(PATIENCE, async {
        while !keeper.ask("peers").await["connected"].to_string().contains(&node.id()) {
            sleep(LOOK_AGAIN).await;
        }
    });
    connected.await.expect("it stays connected to the peers that it is told of");
    let mut teller = Peer::start().await.expect("as the others");
    teller.open(&owner.log()).await;
    teller.connect(&address).await;
    teller.event("join", |join| join["log"] == known.log.as_str()).await;
    let (forger, letter) = (Forger::new(), owner.letter());
    let entry = forger.letter(&known.log, &letter, &known.heads);
    for block in [&forger.identity, &entry] {
        teller.ask(&format!("put {}", block.hex)).await;
    }
    let reader = Client::of(owner, &address).await;
    let mut watch = reader.watch().await;
    teller.ask(&format!("publish {}", entry.hex)).await;
    watch.until(&letter).await;
    let mut all = ids(mail);
    all.insert(letter.id().to_hex());
    reader.until_listed(&all).await;
}

#[tokio::test]
async fn kubo_keeps_a_log_block_by_block_and_gives_it_to_a_node() {
    for options in [&[][..], &["--rsa"]] {
        let Some(mut kubo) = Peer::start_with(Kind::Kubo, options).await else { return };
        let owner = Owner::new();
        let (node, address) = node(&owner, TCP, &[]).await;
        let sender = Client::of(&owner, &address).await;
        let mail = owner.mail(5);
        sender.store(&mail).await;
        let known = read(&owner, &address, mail.len()).await;
        kubo.connect(&address).await;
        for block in &known.blocks {
            kubo.ask(&format!("pin {block}")).await;
        }
        sender.close().await;
        node.shutdown().await;
        let at = kubo.tcp.clone();
        all_comes_from(&owner, &mut kubo, &at, &known, &mail).await;
    }
}

#[tokio::test]
async fn a_mailbox_is_found_through_the_dht_by_who_knows_kubo_alone() {
    let Some(kubo) = Peer::start_with(Kind::Kubo, &[]).await else { return };
    let owner = Owner::new();
    let (_node, address) = in_dht(&owner, &kubo.tcp).await;
    let record = owner.record(&address);
    Client::of(&owner, &address).await.publish(&record).await;
    let settings = json!({ "bootstrap": [kubo.tcp], "dht": "client", "dht_protocol": PRIVATE_DHT });
    let stranger = Client::with(&owner, settings).await;
    let looked = timeout(PATIENCE, async {
        // That it is there is told to the DHT while this begins to look.
        while !stranger.resolve(record.code()).await.contains(&record.event().to_json()) {}
    });
    looked.await.expect("it is found");
}

async fn in_dht(owner: &Owner, bootstrap: &str) -> (IpfsNode, String) {
    node_with(owner, TCP, &[], |config| {
        config.bootstrap = vec![bootstrap.to_owned()];
        config.dht = Dht::Server;
        config.dht_protocol = PRIVATE_DHT.to_owned();
    })
    .await
}

#[tokio::test]
async fn a_pinning_service_keeps_a_mailbox_when_its_writer_and_its_node_are_gone() {
    let Some(mut service) = Peer::start_with(Kind::Pinning, &[]).await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let token_file = folder.path().join("token");
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&token_file).expect("a file");
    file.write_all(text(&service.ready["token"]).as_bytes()).expect("it is written");

    let owner = Owner::new();
    let (node, address) = node(&owner, TCP, &[]).await;
    let pins = json!([{ "name": "real", "endpoint": service.ready["url"], "token_file": token_file }]);
    let settings = json!({ "peers": [address], "pins": pins, "dht": "off", "timeout_ms": 60_000 });
    let writer = Client::with(&owner, settings).await;
    let mail = owner.mail(5);
    let pinned: Locator = "ipfs:pin/real".parse().expect("a locator");
    for receipt in writer.put(&mail).await {
        assert_eq!((receipt.acks.len(), &receipt.pending), (1, &vec![pinned.clone()]), "{receipt:?}");
    }
    let is_held = |state: &HoldingState| matches!(state, HoldingState::Held { .. });
    let waited = timeout(PATIENCE, async {
        while !writer.audit(&pinned, &mail).await.iter().all(is_held) {
            sleep(LOOK_AGAIN).await;
        }
    });
    waited.await.expect("it is pinned");
    let known = read(&owner, &address, mail.len()).await;
    writer.close().await;
    node.shutdown().await;
    let at = service.tcp.clone();
    all_comes_from(&owner, &mut service, &at, &known, &mail).await;
}
