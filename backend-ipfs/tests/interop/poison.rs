//! Entries that mean harm, sent live to a node: it goes on, and so do the JavaScript peers behind it.

use std::{
    env,
    time::{Duration, Instant},
};

use serde_json::Value;
use talkbox_backend_ipfs::IpfsNode;

use crate::{
    forge::{Block, Forger},
    ours::{Client, Ids, Owner, TCP, Watch, node},
    peer::Peer,
};

/// How long an honest letter may take, also on a busy machine: a JavaScript peer that waits for a block that does not
/// come takes nothing else for 30 s.
const NOT_STALLED: Duration = Duration::from_secs(25);
/// Heads on top of nothing: in the full run as many as to fill whatever is sized for honest use.
const HEADS: usize = 600;
const MANY_HEADS: usize = 6_000;

/// Somebody who sends, a node, and a JavaScript peer that knows that node alone.
struct Scene {
    owner: Owner,
    log: String,
    sender: Peer,
    node: IpfsNode,
    client: Client,
    watch: Watch,
    behind: Peer,
    sent: Ids,
}

impl Scene {
    async fn set() -> Option<Self> {
        let (mut sender, mut behind) = (Peer::start().await?, Peer::start().await?);
        let owner = Owner::new();
        let (node, address) = node(&owner, TCP, &[]).await;
        let client = Client::of(&owner, &address).await;
        let watch = client.watch().await;
        let log = sender.open(&owner.log()).await;
        for peer in [&mut sender, &mut behind] {
            peer.open(&owner.log()).await;
            peer.connect(&address).await;
            peer.event("join", |join| join["log"] == log.as_str()).await;
        }
        Some(Self { owner, log, sender, node, client, watch, behind, sent: Ids::new() })
    }

    /// Has the sender send an entry in both ways.
    async fn send(&mut self, entry: &Block) {
        self.sender.ask(&format!("publish {}", entry.hex)).await;
        self.sender.ask(&format!("offer {} {}", self.node.id(), entry.hex)).await;
    }

    /// Has it keep a block, which it gives to whoever asks.
    async fn give(&mut self, block: &Block) {
        self.sender.ask(&format!("put {}", block.hex)).await;
    }

    /// Letters from both sides arrive everywhere, in time.
    async fn goes_on(&mut self, after: &str) {
        let since = Instant::now();
        let ours = self.owner.letter();
        self.client.store(std::slice::from_ref(&ours)).await;
        self.sent.insert(ours.id().to_hex());
        self.watch.until(&ours).await;
        self.behind.until_mail(&self.sent).await;
        let theirs = self.owner.letter();
        self.behind.add_mail(std::slice::from_ref(&theirs)).await;
        self.sent.insert(theirs.id().to_hex());
        self.watch.until(&theirs).await;
        assert!(since.elapsed() < NOT_STALLED, "stalled for {:.1?} by {after}", since.elapsed());
        assert_eq!(self.client.listed().await, self.sent, "{after}");
    }

    async fn hashes_behind(&mut self) -> Vec<String> {
        self.behind.hashes().await
    }
}

#[tokio::test]
async fn what_javascript_peers_refuse_harms_nobody() {
    let Some(mut scene) = Scene::set().await else { return };
    let forger = Forger::new();
    scene.give(&forger.identity).await;
    scene.goes_on("nothing").await;
    // Those of the vectors are for another log.
    let vectors: Value = serde_json::from_str(include_str!("../vectors/orbitdb/negative.json")).expect("JSON");
    for case in vectors["cases"].as_array().expect("cases") {
        let hex = case["entry"]["bytes_hex"].as_str().expect("bytes");
        scene.sender.ask(&format!("publish {hex}")).await;
        scene.sender.ask(&format!("offer {} {hex}", scene.node.id())).await;
    }
    scene.goes_on("what is for another log").await;
    for odd in forger.refused(&scene.log) {
        for block in &odd.beside {
            scene.give(block).await;
        }
        scene.send(&odd.entry).await;
    }
    scene.goes_on("what is refused").await;
    // All of it has been looked at when what was sent behind it is here.
    let last = scene.owner.letter();
    let entry = forger.letter(&scene.log, &last, &[]);
    scene.give(&entry).await;
    scene.send(&entry).await;
    scene.watch.until(&last).await;
    scene.sent.insert(last.id().to_hex());
    scene.goes_on("what is refused, once it has been looked at").await;
    let behind = scene.hashes_behind().await;
    for odd in forger.refused(&scene.log) {
        assert!(!behind.contains(&odd.entry.link), "{} has arrived", odd.what);
    }
}

#[tokio::test]
async fn what_javascript_peers_take_and_should_not_harms_nobody() {
    let Some(mut scene) = Scene::set().await else { return };
    let forger = Forger::new();
    scene.give(&forger.identity).await;
    let mut sent = Vec::new();
    for odd in forger.taken(&scene.log) {
        scene.give(&odd.entry).await;
        scene.send(&odd.entry).await;
        sent.push(odd.entry.link);
        scene.goes_on(odd.what).await;
    }
    // What is a part of the log for some is one for all.
    scene.behind.until_it_has(&sent).await;
}

#[tokio::test]
async fn what_is_not_canonical_is_kept_from_the_peers_behind() {
    let Some(mut scene) = Scene::set().await else { return };
    let forger = Forger::new();
    scene.give(&forger.identity).await;
    scene.goes_on("nothing").await;
    let head = scene.behind.heads().await.swap_remove(0);
    let mut all = Vec::new();
    for (number, next) in [&[][..], &[head.as_str()]].into_iter().enumerate() {
        let entry = forger.not_canonical(&scene.log, number, next);
        scene.send(&entry).await;
        all.push(entry.link);
    }
    // Whoever comes now gets what is below.
    let mut late = Peer::start().await.expect("as the others");
    late.open(&scene.owner.log()).await;
    late.connect(&scene.node.addresses()[0]).await;
    late.until_mail(&scene.sent).await;
    let (late_has, behind_has) = (late.hashes().await, scene.hashes_behind().await);
    assert!(all.iter().all(|link| !late_has.contains(link) && !behind_has.contains(link)));
    scene.goes_on("what is not canonical").await;
    late.until_mail(&scene.sent).await;
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "measured, and not asserted: a test runs on any machine")]
async fn thousands_of_heads_harm_nobody() {
    let Some(mut scene) = Scene::set().await else { return };
    let forger = Forger::new();
    scene.give(&forger.identity).await;
    let count = if env::var_os("TALKBOX_FULL").is_some() { MANY_HEADS } else { HEADS };
    let since = Instant::now();
    let junk: Vec<Block> = (0..count).map(|number| forger.junk(&scene.log, number)).collect();
    let (mut portions, mut refused) = (0, 0);
    for some in junk.chunks(100) {
        let offer: Vec<_> = some.iter().map(|entry| entry.hex.as_str()).collect();
        let offered = scene.sender.attempt(&format!("offer {} {}", scene.node.id(), offer.join(" "))).await;
        portions += 1;
        // A node that has enough to do with what a peer showed before takes no more from it.
        refused += usize::from(offered.is_err());
    }
    assert!(refused < portions, "some of it was taken");
    eprintln!("{count} heads offered in {:.1?}, of which {refused} hundreds were refused", since.elapsed());
    scene.goes_on("many heads offered").await;
    eprintln!("… and letters went on after {:.1?}", since.elapsed());
    for entry in &junk {
        scene.sender.ask(&format!("publish {}", entry.hex)).await;
    }
    eprintln!("… told by gossip after {:.1?}", since.elapsed());
    scene.goes_on("many heads told").await;
    eprintln!(
        "… and letters went on after {:.1?}; behind are {} entries",
        since.elapsed(),
        scene.hashes_behind().await.len()
    );
}
