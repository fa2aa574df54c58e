//! nostr-sdk as a client of our node: it writes and reads gift wraps, proves who it is (NIP-42), and reconciles in both
//! directions (NIP-77). The node gates reads, so that everything here is read as the mailbox's own key.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::Value;
use talkbox_backend_gossip::{Node, NodeConfig, NodeContext};
use talkbox_core::{
    Backend, Envelope, EnvelopeId, Level, Locator, MailboxId, Opener, PutOptions, SecretKey, hex, message::Message,
};

use crate::{envelopes, key, list_all, open, peer, sorted};

/// The client, in a process of its own.
struct Sdk(std::ffi::OsString);

/// What it printed, and whether it is content.
struct Ran {
    lines: Vec<Value>,
    said: String,
    is_done: bool,
}

impl Sdk {
    fn find() -> Option<Self> {
        peer("TALKBOX_INTEROP_NOSTR_SDK").map(Self)
    }

    /// Runs one of its commands, with these wraps on its standard input.
    async fn run(&self, arguments: &[&str], input: &[Envelope]) -> Ran {
        let mut command = Command::new(&self.0);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let input: String = input.iter().flat_map(|wrap| [wrap.json(), "\n"]).collect();
        let ended = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().expect("it starts");
            child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
            child.wait_with_output().expect("it ends")
        });
        let ended = ended.await.expect("no panic");
        let text = String::from_utf8(ended.stdout).expect("text");
        Ran {
            lines: text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect(),
            said: String::from_utf8_lossy(&ended.stderr).into_owned(),
            is_done: ended.status.success(),
        }
    }

    /// Runs one of its commands, which has to succeed.
    async fn ask(&self, arguments: &[&str], input: &[Envelope]) -> Vec<Value> {
        let ran = self.run(arguments, input).await;
        assert!(ran.is_done, "{arguments:.2?}: {}", ran.said);
        ran.lines
    }
}

/// Our node, our own client of it, and a mailbox.
struct Scene {
    node: Node,
    backend: Backend,
    owner: SecretKey,
}

impl Scene {
    async fn new() -> Self {
        let node = Node::start(NodeConfig::loopback(), NodeContext::default()).await.expect("the node starts");
        Self { backend: open(&node.url()).await, node, owner: key() }
    }

    async fn put(&self, envelopes: &[Envelope]) {
        let receipts = self.backend.mailbox.as_ref().expect("a mailbox").put(envelopes, PutOptions::default()).await;
        assert!(receipts.into_iter().all(|receipt| receipt.expect("taken").acks[0].level == Level::Stored));
    }

    async fn stored(&self) -> Vec<Envelope> {
        let at = Locator::new("nostr", &self.node.url()).expect("a locator");
        let mailbox = self.backend.mailbox.as_deref().expect("a mailbox");
        list_all(mailbox, &self.owner, &at, 500).await.0
    }

    async fn opened(&self) -> Vec<Message> {
        let opener = Opener::new(self.owner.clone());
        self.stored().await.iter().map(|envelope| opener.open(envelope).expect("opens")).collect()
    }
}

fn secret(key: &SecretKey) -> String {
    hex::encode(&*key.to_bytes())
}

fn hex_of(mailbox: MailboxId) -> String {
    hex::encode(mailbox.as_bytes())
}

fn ids(envelopes: &[Envelope]) -> Vec<EnvelopeId> {
    sorted(envelopes.iter().map(Envelope::id))
}

/// The wraps that it names.
fn named(lines: &[Value]) -> Vec<EnvelopeId> {
    sorted(lines.iter().map(|line| {
        let digits = line["wrap"].as_str().expect("an id");
        EnvelopeId::from_bytes(hex::decode32(digits).expect("64 digits"))
    }))
}

#[tokio::test]
async fn what_it_writes_we_read_and_what_we_write_it_reads() {
    let Some(sdk) = Sdk::find() else { return };
    let scene = Scene::new().await;
    let (url, owner, sender) = (scene.node.url(), secret(&scene.owner), key());
    let text = "from nostr-sdk ✓ \"quoted\"\n";
    let sent = sdk.ask(&["send", &url, &hex_of(scene.owner.id()), &secret(&sender), text], &[]).await;
    let read = scene.opened().await;
    assert_eq!(read.len(), 1);
    assert_eq!((read[0].body.as_str(), read[0].from), (text, sender.public()));
    assert_eq!(named(&sent), [read[0].envelope]);

    scene.put(&envelopes(&scene.owner, 3)).await;
    // Page by page, and by ids that it learns by NIP-77: both after it has proved the mailbox's key.
    for command in ["recv", "sync"] {
        let lines = sdk.ask(&[command, &url, &owner], &[]).await;
        assert_eq!(named(&lines), ids(&scene.stored().await), "{command}");
        let texts: Vec<_> = lines.iter().filter(|line| line["content"] == "hello" && line["kind"] == 14).collect();
        assert_eq!(texts.len(), 3, "{command}");
    }
    let nothing = sdk.ask(&["recv", &url, &secret(&sender)], &[]).await;
    assert_eq!(nothing, Vec::<Value>::new(), "the mail of another mailbox is not served");
}

#[tokio::test]
async fn its_own_reconciliation_downloads_what_it_lacks() {
    let Some(sdk) = Sdk::find() else { return };
    let scene = Scene::new().await;
    // More than it asks for in one REQ, on both sides of what it holds.
    let all = envelopes(&scene.owner, 330);
    let (held, lacking) = all.split_at(110);
    scene.put(&all).await;
    let url = scene.node.url();
    let lines = sdk.ask(&["pull", &url, &secret(&scene.owner)], held).await;
    assert_eq!(named(&lines), ids(lacking));
    assert_eq!(sdk.ask(&["pull", &url, &secret(&scene.owner)], &all).await, Vec::<Value>::new());
    assert_eq!(named(&sdk.ask(&["pull", &url, &secret(&scene.owner)], &[]).await), ids(&all));
}

#[tokio::test]
async fn its_own_reconciliation_uploads_what_the_node_lacks() {
    let Some(sdk) = Sdk::find() else { return };
    let scene = Scene::new().await;
    let all = envelopes(&scene.owner, 260);
    scene.put(&all[..50]).await;
    let url = scene.node.url();
    // Of the 50 it holds 20, and 210 that the node does not have.
    let lines = sdk.ask(&["push", &url, &secret(&scene.owner)], &all[30..]).await;
    assert_eq!(named(&lines), ids(&all[50..]));
    assert_eq!(ids(&scene.stored().await), ids(&all));
    assert_eq!(sdk.ask(&["push", &url, &secret(&scene.owner)], &all).await, Vec::<Value>::new());
}
