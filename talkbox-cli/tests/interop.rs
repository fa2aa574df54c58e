//! Other people's Nostr: npm `nostr-tools` as a client (NIP-17), PyPI `nostr-relay` as a relay. Each test says when it
//! is skipped for want of one; `scripts/test` prepares both.

mod common;

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{Home, Relay, run};
use serde_json::Value;
use talkbox_core::{SecretKey, hex};

/// How long the relay may take to start: it is Python.
const STARTS: Duration = Duration::from_secs(60);

/// A variable that says where a peer is, or a printed reason to skip.
fn peer(variable: &str) -> Option<PathBuf> {
    let place = std::env::var_os(variable).filter(|place| !place.is_empty()).map(PathBuf::from);
    if place.is_none() {
        // Not by `println`: that is shown only for tests that fail.
        let _ = writeln!(std::io::stderr(), "skipped: {variable} is not set; scripts/test sets it");
    }
    place
}

/// nostr-tools, as one client.
struct NostrTools {
    folder: PathBuf,
    key: SecretKey,
}

impl NostrTools {
    fn find() -> Option<Self> {
        Some(Self { folder: peer("TALKBOX_INTEROP_JS")?, key: SecretKey::generate().expect("randomness") })
    }

    fn run(&self, arguments: &[&str]) -> Vec<Value> {
        let mut node = Command::new("node");
        node.arg(self.folder.join("dm.mjs")).args(arguments).current_dir(&self.folder);
        let ran = run(node, None).success();
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn secret(&self) -> String {
        hex::encode(&*self.key.to_bytes())
    }

    fn send(&self, relay: &str, to: &str, text: &str) {
        self.run(&["send", relay, to, &self.secret(), text]);
    }

    fn receive(&self, relay: &str) -> Vec<Value> {
        self.run(&["recv", relay, &self.secret()])
    }
}

/// The relay from PyPI, in a process of its own.
struct PyRelay {
    process: Child,
    url: String,
    _data: tempfile::TempDir,
}

impl PyRelay {
    fn start() -> Option<Self> {
        let python = peer("TALKBOX_INTEROP_PY")?;
        // …/interop/python/venv/bin/python: the launcher stands beside the environment.
        let launcher = python.ancestors().nth(3).expect("inside of an environment").join("relay.sh");
        let data = tempfile::tempdir().expect("a folder");
        let address = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        let mut process = Command::new(launcher);
        process.arg(address.port().to_string()).arg(data.path());
        let process = process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut relay = Self { process: process.spawn().expect("starts"), url: format!("ws://{address}"), _data: data };
        relay.wait_until_it_listens(address);
        Some(relay)
    }

    fn wait_until_it_listens(&mut self, address: SocketAddr) {
        let end = Instant::now() + STARTS;
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            assert!(self.process.try_wait().expect("asked").is_none(), "the relay ended");
            assert!(Instant::now() < end, "the relay does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for PyRelay {
    fn drop(&mut self) {
        // It has workers of its own, which end with it only where it is asked and not killed.
        let asked = Command::new("kill").arg(self.process.id().to_string()).status();
        if !asked.is_ok_and(|status| status.success()) {
            self.process.kill().expect("killed");
        }
        self.process.wait().expect("ended");
    }
}

fn there_and_back(relay: &str, js: &NostrTools) {
    let ada = Home::with_mailbox("tips", &[relay]);
    let npub = ada.run(["id", "--npub"]).success().stdout;
    js.send(relay, npub.trim(), "from nostr-tools ✓");
    let read = ada.lines(["read"]);
    assert_eq!(read.len(), 1);
    assert_eq!(read[0]["body"], "from nostr-tools ✓");
    assert_eq!(read[0]["from"], talkbox_core::address::to_npub(&js.key.id()));

    let id = read[0]["id"].as_str().expect("an id");
    // That key has no record: the answer goes where the owner's own mailbox is.
    ada.run(["reply", &id[..8], "from talkbox ✓"]).success();
    let received = js.receive(relay);
    let answer = received.iter().find(|message| message["content"] == "from talkbox ✓").expect("the answer");
    assert_eq!(answer["sender"], ada.secret("tips").id().to_hex());
    assert_eq!(answer["kind"], 14);
    let tags = answer["tags"].to_string();
    assert!(tags.contains(id), "it names what it answers: {tags}");

    // And to an nprofile that nobody announced.
    let hints = [relay.to_owned()];
    let nprofile = talkbox_core::address::to_nprofile(&js.key.id(), &hints).expect("an nprofile");
    ada.run(["send", &nprofile, "unasked", "--from", "tips"]).success();
    assert!(js.receive(relay).iter().any(|message| message["content"] == "unasked"));
}

#[test]
fn nostr_tools_and_we_write_to_each_other_over_our_node() {
    let Some(js) = NostrTools::find() else { return };
    let relay = Relay::start();
    there_and_back(&relay.url, &js);
}

#[test]
fn nostr_tools_and_we_write_to_each_other_over_a_python_relay() {
    let (Some(js), Some(relay)) = (NostrTools::find(), PyRelay::start()) else { return };
    there_and_back(&relay.url, &js);
}

#[test]
fn two_of_us_write_to_each_other_over_a_python_relay() {
    let Some(relay) = PyRelay::start() else { return };
    let (ada, bob) = (Home::with_mailbox("tips", &[&relay.url]), Home::with_mailbox("bob", &[&relay.url]));
    let sent = bob.json(["send", &ada.code(), "hello", "--from", "bob"]);
    assert_eq!(sent["state"], "stored");
    // A duplicate is refused by this relay, in words, and is as good as stored.
    let exported = ada.run(["read"]).success();
    assert_eq!(exported.stdout, "hello\n");
    let lines = ada.run(["export"]).success().stdout;
    let again = ada.run_with_input(["import", "-", "--upload", "--json"], lines.as_bytes()).success();
    assert_eq!((&again.objects()[0]["uploaded"], &again.objects()[0]["new"]), (&1.into(), &0.into()));
    let id = ada.lines(["read"])[0]["id"].as_str().expect("an id")[..8].to_owned();
    ada.run(["reply", &id, "hello yourself"]).success();
    assert!(bob.bodies().contains(&"hello yourself".to_owned()));
    // This relay answers OK to a deletion and keeps the event: that is not called confirmed.
    let deleted = ada.run(["delete", &id, "--yes", "--json"]).success();
    assert_eq!(deleted.objects()[0]["holders"][0]["state"], "requested");
    assert!(ada.bodies().iter().all(|body| body != "hello"), "here it is gone all the same");
}
