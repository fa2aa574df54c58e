//! A mailbox moves from one network to the next, and stays what it is: the same envelopes, byte for byte.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use talkbox_backend_gossip::{Node, NodeConfig, NodeContext};
use talkbox_backend_ipfs::{IpfsNode, IpfsNodeConfig};
use talkbox_core::{
    Clock, Draft, Envelope, EnvelopeId, KeyAuthorizer, ListOptions, Locator, Mailbox, ManualClock, OpenContext,
    PutOptions, Registry, ResolveOptions, SealOptions, SecretKey, SystemClock, Timestamp,
    address::Target,
    client::{Settings, Talkbox},
    config::{Config, Opened, Sources},
    event::{Event, kind},
    layers::Stack,
    local::{Store, StoreKey},
    seal,
};
use tempfile::TempDir;

/// Envelopes that move, and over how many days they were sent.
const ENVELOPES: u64 = 60;
const DAYS: u64 = 84;
/// Envelopes that are put at once.
const BATCH: usize = 25;

/// What a holder has: the JSON by id.
type Mail = BTreeMap<EnvelopeId, String>;

/// All networks on one machine.
struct World {
    clock: ManualClock,
    /// Two relays and two gossip nodes: a node speaks both.
    relays: Vec<Node>,
    nodes: Vec<Node>,
    peers: Vec<IpfsNode>,
}

impl World {
    async fn start() -> Self {
        let clock = ManualClock::new(SystemClock.now());
        let gossip = || Node::start(NodeConfig::loopback(), NodeContext::default().with_clock(clock.clone()));
        let ipfs = || IpfsNode::start_with(IpfsNodeConfig::loopback(), None, Arc::new(clock.clone()));
        let (mut relays, mut nodes, mut peers) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..2 {
            relays.push(gossip().await.expect("a relay starts"));
            nodes.push(gossip().await.expect("a node starts"));
            peers.push(ipfs().await.expect("a peer starts"));
        }
        Self { clock, relays, nodes, peers }
    }

    /// The backend of this name, with nothing that any before it remembered.
    async fn open(&self, backend: &str, folder: &TempDir) -> (Opened, Arc<dyn Mailbox>) {
        let urls = |nodes: &[Node], scheme: &str| -> Vec<String> {
            nodes.iter().map(|node| format!("{scheme}://{}", node.addr())).collect()
        };
        let peers: Vec<_> = self.peers.iter().map(|peer| peer.addresses().swap_remove(0)).collect();
        let text = format!(
            "backend = {backend:?}
             backends.hybrid = {{ mailbox = \"ipfs\", transport = \"nostr\" }}
             backends.nostr.relays = {:?}
             backends.gossip.nodes = {:?}
             backends.ipfs = {{ peers = {peers:?}, dht = \"off\" }}",
            urls(&self.relays, "ws"),
            urls(&self.nodes, "http"),
        );
        let registry = Registry::new()
            .with(talkbox_backend_nostr::backend())
            .with(talkbox_backend_gossip::backend())
            .with(talkbox_backend_ipfs::backend());
        let config = Config::load(Sources::new().file("talkbox.toml", text)).expect("is TOML");
        let context = |name: &str| {
            let mut context = OpenContext::new(name);
            context.clock = Arc::new(self.clock.clone());
            context.data_dir = Some(folder.path().join(name));
            context.allow_private = true;
            context
        };
        let plan = config.plan(&registry).expect("is a backend");
        let opened = plan.open(&Stack::default(), context).await.expect("opens");
        let mailbox = Arc::clone(&opened.mailboxes.first().expect("one mailbox").1);
        (opened, mailbox)
    }

    /// Everything that each holder of a backend has, read from the network by somebody new.
    async fn read(&self, backend: &str, owner: &SecretKey) -> BTreeMap<Locator, Mail> {
        let folder = TempDir::new().expect("a folder");
        let (opened, mailbox) = self.open(backend, &folder).await;
        let mut all = BTreeMap::new();
        for holder in mailbox.holders() {
            let mut mail = Mail::new();
            let mut after = None;
            loop {
                let auth = Arc::new(KeyAuthorizer::for_anyone(owner.clone(), Arc::new(self.clock.clone())));
                let options = ListOptions::default().auth(Some(auth)).after(after).limit(17);
                let page = mailbox.list(owner.id(), &holder, options).await.expect("lists");
                for raw in page.items {
                    // What a holder says is worth what its signature is worth.
                    let envelope = Envelope::verify(&raw).expect("is valid");
                    mail.insert(envelope.id(), envelope.json().to_owned());
                }
                if !page.more {
                    break;
                }
                after = page.next;
            }
            all.insert(holder, mail);
        }
        opened.close().await;
        all
    }

    async fn write(&self, backend: &str, mail: &Mail) {
        let folder = TempDir::new().expect("a folder");
        let (opened, mailbox) = self.open(backend, &folder).await;
        let envelopes: Vec<_> = mail.values().map(|json| Envelope::parse(json).expect("is valid")).collect();
        for batch in envelopes.chunks(BATCH) {
            let someone = SecretKey::generate().expect("randomness");
            let auth = Arc::new(KeyAuthorizer::for_anyone(someone, Arc::new(self.clock.clone())));
            for receipt in mailbox.put(batch, PutOptions::default().auth(auth)).await {
                let receipt = receipt.expect("somebody takes it");
                assert_eq!((receipt.acks.len(), receipt.refused.len()), (2, 0), "{backend}: {receipt:?}");
            }
        }
        opened.close().await;
    }
}

/// Mail of three months, each envelope kept as long as the first.
fn mail(owner: &SecretKey, now: Timestamp) -> Mail {
    let sender = SecretKey::generate().expect("randomness");
    let mut options = SealOptions::default();
    options.retention = 120 * 86_400;
    let envelope = |number: u64| {
        let sent = now.minus(DAYS * 86_400 / ENVELOPES * number);
        let draft = Draft::text(format!("message {number} \u{1f4ee} \"with\" \\ and\nlines"));
        seal(&draft, &sender, owner.id(), sent, &options).expect("seals").envelope
    };
    (0..ENVELOPES).map(envelope).map(|envelope| (envelope.id(), envelope.json().to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_moves_through_all_networks_and_stays_the_same() {
    let world = World::start().await;
    let owner = SecretKey::generate().expect("randomness");
    let sent = mail(&owner, world.clock.now());
    let months: std::collections::BTreeSet<u64> = sent
        .values()
        .map(|json| Envelope::parse(json).expect("is valid").created_at().secs() / (31 * 86_400))
        .collect();
    assert!(months.len() >= 3, "it is mail of several months");
    world.write("nostr", &sent).await;

    let mut from = "nostr";
    for to in ["hybrid", "ipfs", "gossip", "nostr"] {
        let read = world.read(from, &owner).await;
        assert_eq!(read.len(), 2, "{from} has two holders");
        for (holder, mail) in &read {
            let missing = sent.keys().filter(|id| !mail.contains_key(id)).count();
            assert_eq!((missing, mail.len()), (0, sent.len()), "at {holder}");
            assert_eq!(*mail, sent, "the bytes differ at {holder}");
        }
        // The last one comes back to where it began, to relays that know it.
        world.write(to, read.values().next().expect("a holder")).await;
        from = to;
    }
    for (holder, mail) in world.read("nostr", &owner).await {
        assert_eq!(mail, sent, "at {holder}");
    }
}

/// The relays that a mailbox's list for direct messages names at each relay, which are none where there is no list.
async fn listed(opened: &Opened, owner: &SecretKey) -> Vec<Option<Vec<String>>> {
    let (_, transport) = opened.transports.first().expect("one transport");
    let found: Vec<_> = transport.resolve(&Target::Mailbox(owner.id()), ResolveOptions::default()).collect().await;
    let records = found.into_iter().filter_map(|event| event.expect("resolves").into_record());
    let mut lists = BTreeMap::new();
    for record in records {
        let event = Event::parse(&record.json).expect("is valid");
        let list = lists.entry(record.source).or_insert(None);
        if event.kind() == kind::INBOX_RELAYS {
            *list = Some(event.tags().iter().filter_map(|tag| tag.get(1).cloned()).collect());
        }
    }
    lists.into_values().collect()
}

/// Whoever has a list from before would send to relays that nobody reads.
#[tokio::test(flavor = "multi_thread")]
async fn other_nostr_clients_are_told_that_a_mailbox_has_left_its_relays() {
    let world = World::start().await;
    let (owner, newcomer) = (SecretKey::generate().expect("randomness"), SecretKey::generate().expect("randomness"));
    let clock: Arc<dyn Clock> = Arc::new(world.clock.clone());
    let home = TempDir::new().expect("a folder");
    let relays: Vec<String> = world.relays.iter().map(|relay| format!("ws://{}", relay.addr())).collect();
    let announce = async |backend: &str, key: &SecretKey| {
        let folder = TempDir::new().expect("a folder");
        let (opened, _) = world.open(backend, &folder).await;
        let path = home.path().join("store.db");
        let store = Store::open(&path, StoreKey::from_bytes([7; 32]), Arc::clone(&clock)).await.expect("opens");
        let client = Talkbox::new(store, opened, Registry::new(), Arc::clone(&clock), Settings::default());
        assert_eq!(client.announce(key).await.expect("announces").acks(), 2, "{backend}");
        client.close().await;
        let (opened, _) = world.open("hybrid", &folder).await;
        let listed = listed(&opened, key).await;
        opened.close().await;
        // Announcements of one second would be as new as each other.
        world.clock.advance(Duration::from_secs(1));
        listed
    };
    assert_eq!(announce("nostr", &owner).await, vec![Some(relays.clone()); 2]);
    // Also again: a relay may have been away the first time.
    for _ in 0..2 {
        assert_eq!(announce("hybrid", &owner).await, vec![Some(Vec::new()); 2]);
    }
    assert_eq!(announce("nostr", &owner).await, vec![Some(relays); 2]);
    assert_eq!(
        announce("hybrid", &newcomer).await,
        vec![None; 2],
        "there was no list, and another program's is not ours"
    );
}
