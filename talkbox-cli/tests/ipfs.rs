//! Mailboxes on IPFS: a peer beside a node, owners and senders on it, and what the commands say of it.
#![cfg(unix)]

mod common;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    process::{Child, ChildStdout, Command, Stdio},
};

use common::{Home, Ran, Relay, finish};
use serde_json::{Value, json};

/// A node with a peer on IPFS.
struct Peer {
    /// Until it was stopped, with what it says.
    running: Option<(Child, BufReader<ChildStdout>)>,
    /// Where the node beside it is.
    node: String,
    /// Where it is, as it goes into `peers`.
    address: String,
}

impl Peer {
    fn start(home: &Home, more: &[&str]) -> Self {
        let mut command = home.command(["node", "--listen", "127.0.0.1:0"]);
        command.args(more);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let mut told = BufReader::new(process.stdout.take().expect("piped"));
        let mut line = || {
            let mut line = String::new();
            told.read_line(&mut line).expect("it listens");
            line.trim().strip_prefix("listening on ").expect("a place").to_owned()
        };
        let node = line();
        assert!(node.starts_with("ws://"));
        let address = line();
        assert!(address.starts_with("/ip4/127.0.0.1/tcp/") && address.contains("/p2p/16Uiu2HA"), "{address}");
        Self { running: Some((process, told)), node, address }
    }

    /// One that keeps whatever is brought.
    fn any(home: &Home) -> Self {
        Self::start(home, &[IPFS, &["--ipfs-keep", "any"]].concat())
    }

    fn uri(&self) -> String {
        format!("ipfs:{}", self.address)
    }

    fn stop(mut self) -> Ran {
        let (mut process, told) = self.running.take().expect("runs");
        let sent = Command::new("kill").args(["-TERM", &process.id().to_string()]).status();
        assert!(sent.expect("runs").success());
        process.stdout = Some(told.into_inner());
        finish(process).success()
    }
}

impl Drop for Peer {
    /// A test that fails, or needs it no longer, leaves no process behind.
    fn drop(&mut self) {
        if let Some((mut process, _)) = self.running.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

const IPFS: &[&str] = &["--ipfs", "--ipfs-listen", "/ip4/127.0.0.1/tcp/0", "--ipfs-dht", "off"];

/// Somebody with these peers.
fn home(backend: &str, peers: &[&str], more: &str) -> Home {
    let home = Home::new();
    home.write(
        "config.toml",
        &format!(
            "backend = \"{backend}\"\nallow_private = true\n[backends.ipfs]\npeers = {}\ndht = \"off\"\n{more}",
            json!(peers)
        ),
    );
    home
}

fn id(peer: &str) -> &str {
    peer.rsplit('/').next().expect("an id")
}

/// What tells a peer from others where its address is shortened.
fn end_of(peer: &str) -> String {
    peer[peer.len() - 8..].to_owned()
}

#[test]
fn a_node_with_a_peer_holds_a_mailbox_and_its_log_is_shown() {
    let node = Home::new();
    let peer = Peer::any(&node);
    // One flag is enough, for the owner and for the sender.
    let (ada, bob) = (Home::new(), Home::new());
    for home in [&ada, &bob] {
        home.write("config.toml", "allow_private = true\n");
    }
    let uri = peer.uri();
    ada.run(["new", "tips", "--plain-key", "-b", &uri]).success();
    let code = ada.code();
    let sent = bob.json(["send", &code, "over a peer", "-b", &uri]);
    assert_eq!((&sent["state"], &sent["stored"][0]["holder"]), (&"stored".into(), &uri.as_str().into()), "{sent}");
    let read = ada.lines(["read", "-b", &uri]);
    assert_eq!(read.iter().map(|line| line["body"].clone()).collect::<Vec<_>>(), ["over a peer"]);

    let log = ada.json(["log", "-b", &uri]);
    let month = &log["months"][0];
    assert_eq!((&month["entries"], &month["waiting"], &month["head_count"]), (&1.into(), &0.into(), &1.into()));
    assert!(month["address"].as_str().expect("an address").starts_with("/orbitdb/zdpu"), "{log}");
    assert!(month["heads"][0].as_str().expect("a head").starts_with("zdpu"), "{log}");
    assert_eq!((&log["asked"], &log["peers"][0]["reachable"]), (&true.into(), &true.into()), "{log}");
    let there = json!([{"month": month["month"], "entries": 1, "behind": 0}]);
    assert_eq!(log["peers"][0]["months"], there, "{log}");
    // The sender sees the same log by the code, and whoever has nothing here as well.
    assert_eq!(bob.json(["log", &code, "-b", &uri])["months"][0]["heads"], month["heads"]);
    let npub = ada.run(["id", "--npub"]).success().stdout;
    let eve = Home::new();
    assert_eq!(eve.json(["log", npub.trim(), "-b", &uri])["months"][0]["heads"], month["heads"]);
    let shown = ada.run(["log", "-b", &uri]).success().stdout;
    assert!(shown.contains("in step") && shown.contains("reachable") && shown.contains(&code), "{shown}");

    // It ends gracefully, and is the same one when it starts again.
    let before = peer.address.clone();
    let logged = peer.stop().stderr;
    for words in ["the peer on IPFS listens", "the peer on IPFS has stopped", "the node has stopped"] {
        assert!(logged.contains(words), "{words}: {logged}");
    }
    // Nobody answers: what is here is shown, and that it is no answer.
    let ran = ada.run(["log", "-b", &uri, "--json"]).ends(4);
    let away = ran.objects().remove(0);
    assert_eq!((&away["peers"][0]["reachable"], &away["months"][0]["entries"]), (&false.into(), &1.into()), "{away}");
    let why = away["peers"][0]["error"].as_str().expect("a reason");
    let error = ran.error();
    let message = error["message"].as_str().expect("a message");
    assert_eq!(error["code"], "unreachable");
    assert!(message.contains(why) && message.contains(&end_of(&before)), "{message}");
    assert!(ada.run(["log", "-b", &uri]).ends(4).stdout.contains("/orbitdb/zdpu"), "what is here");
    // A reason stands where a long address does not hide it.
    bob.run(["send", &code, "later", "-b", &uri]).success();
    for command in ["status", "outbox"] {
        let shown = bob.run([command, "-b", &uri]).success().stdout;
        let line = shown.lines().find(|line| line.contains("the peer cannot be reached: Connection refused"));
        let line = line.expect("the whole reason");
        assert!(line.contains("ipfs:/ip4/127.0.0.1/tcp/") && line.contains(&end_of(&before)), "{shown}");
        assert!(!line.contains(&uri), "{shown}");
    }
    let offline = ada.json(["log", "--offline", "-b", &uri]);
    assert_eq!((&offline["asked"], &offline["peers"]), (&false.into(), &json!([])), "{offline}");
    assert_eq!(offline["months"], log["months"]);
    let again = Peer::any(&node);
    assert_eq!(id(&again.address), id(&before));
    let words = ada.secret("tips").to_nsec();
    let other = Home::new();
    other.write("config.toml", "allow_private = true\n");
    let uri = again.uri();
    other.run_with_input(["new", "--plain-key", "--nsec-file", "-", "-b", &uri], words.as_bytes()).success();
    let read = other.lines(["read", "-b", &uri]);
    assert_eq!(read.iter().map(|line| line["body"].clone()).collect::<Vec<_>>(), ["over a peer"]);
}

#[test]
fn one_peer_is_behind_and_the_log_says_so() {
    let (one, other) = (Home::new(), Home::new());
    let (first, second) = (Peer::any(&one), Peer::any(&other));
    let ada = home("ipfs", &[&first.address, &second.address], "");
    ada.run(["new", "tips", "--plain-key"]).success();
    let code = ada.code();
    // The record names both.
    let bob = home("ipfs", &[&first.address], "");
    let sent = bob.json(["send", &code, "to both"]);
    assert_eq!(sent["stored"].as_array().map(Vec::len), Some(2), "{sent}");
    second.stop();
    bob.run(["send", &code, "to one", "--min-acks", "1"]).success();
    let second = Peer::any(&other);
    let ada = {
        let more = home("ipfs", &[&first.address, &second.address], "");
        let words = ada.secret("tips").to_nsec();
        more.run_with_input(["new", "tips", "--plain-key", "--no-announce", "--nsec-file", "-"], words.as_bytes());
        more
    };
    let log = ada.json(["log"]);
    let peers = log["peers"].as_array().expect("peers");
    let of = |peer: &Peer| {
        let named = format!("ipfs:{}", peer.address);
        let month = &peers.iter().find(|one| one["holder"] == named).expect("named")["months"][0];
        (month["entries"].clone(), month["behind"].clone())
    };
    assert_eq!((of(&first), of(&second)), ((2.into(), 0.into()), (1.into(), 1.into())), "{log}");
    assert!(ada.run(["log"]).success().stdout.contains("1 behind"));
}

#[test]
fn a_peer_keeps_those_that_it_is_told_to() {
    let owner = Home::new();
    owner.run(["new", "tips", "--plain-key"]).success();
    let (code, npub) = (owner.code(), owner.run(["id", "--npub"]).success().stdout.trim().to_owned());
    // The code of a mailbox of this computer is known there, and nowhere else.
    let by_code = Peer::start(&owner, &[IPFS, &["--ipfs-keep", &code]].concat());
    let elsewhere = Home::new();
    let refused = elsewhere.run([&["node", "--listen", "127.0.0.1:0"], IPFS, &["--ipfs-keep", &code]].concat()).ends(3);
    assert!(refused.stderr.contains(&code) && refused.stderr.contains("npub"), "{}", refused.stderr);
    let by_npub = Peer::start(&elsewhere, &[IPFS, &["--ipfs-keep", &npub]].concat());
    owner.write(
        "config.toml",
        &format!(
            "backend = \"ipfs\"\nallow_private = true\n[backends.ipfs]\ndht = \"off\"\npeers = {}\n",
            json!([by_code.address, by_npub.address])
        ),
    );
    owner.run(["read"]).success();
    let bob = home("ipfs", &[&by_npub.address], "");
    let sent = bob.json(["send", &code, "kept"]);
    assert_eq!(sent["stored"].as_array().map(Vec::len), Some(2), "{sent}");
    // Somebody else's mail is kept by neither.
    let other = home("ipfs", &[&by_npub.address], "");
    other.run(["new", "other", "--plain-key"]).success();
    let npub = other.run(["id", "--npub"]).success().stdout;
    let ran = other.run(["send", npub.trim(), "x", "--json"]);
    assert!(!ran.stdout.contains("\"stored\":[{"), "{}", ran.stdout);
    // It did answer, and what it said is told.
    let queued = other.run(["send", npub.trim(), "x"]).success();
    let all = format!("{}{}", queued.stdout, queued.stderr);
    assert!(!all.contains("nobody could be reached"), "{all}");
    assert!(all.contains("the peer does not keep this mailbox") && all.contains("whoever runs it"), "{all}");
    let gone = other.run(["send", npub.trim(), "x", "--no-queue", "--json"]).ends(3);
    assert_eq!(gone.error()["code"], "not-found");
    let message = gone.error()["message"].as_str().expect("a message").to_owned();
    assert!(message.contains("the peer does not keep this mailbox"), "{message}");
    assert!(message.contains(&end_of(&by_npub.address)), "{message}");
}

#[test]
fn hybrid_needs_no_table_and_finds_on_relays_what_lives_on_peers() {
    let (relay, node) = (Relay::start(), Home::new());
    let peer = Peer::any(&node);
    let relays = format!("[backends.nostr]\nrelays = [\"{}\"]\n", relay.url);
    let (ada, bob) = (home("hybrid", &[&peer.address], &relays), home("hybrid", &[], &relays));
    let made = ada.json(["new", "tips", "--plain-key"]);
    assert!(made["announced"]["stored"].to_string().contains("nostr:"), "{made}");
    // The sender has no peer of his own: the record says where the mail goes.
    let sent = bob.json(["send", &ada.code(), "the best of both"]);
    assert_eq!(sent["stored"][0]["holder"], peer.uri(), "{sent}");
    assert_eq!(ada.bodies(), ["the best of both"]);
    let shown = ada.run(["config", "check"]).success().stdout;
    assert!(shown.contains("mailboxes  ipfs\ntransports nostr"), "{shown}");
}

/// What the HTTP side of a node answers.
fn get(ws: &str, path: &str) -> String {
    let at = ws.strip_prefix("ws://").expect("a URL");
    let mut stream = std::net::TcpStream::connect(at).expect("connects");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n").expect("asks");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    answer
}

#[test]
fn a_node_tells_of_its_peer_and_is_ready_only_while_that_takes_mail() {
    let home = Home::new();
    let peer = Peer::any(&home);
    let ready = get(&peer.node, "/readyz");
    assert!(ready.starts_with("HTTP/1.1 200 "), "{ready}");
    let metrics = get(&peer.node, "/metrics");
    for line in ["talkbox_node_ipfs_entries 0", "talkbox_node_ipfs_store_full 0", "talkbox_node_ready 1"] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    peer.stop();
    // A store that has as many bytes as it may have.
    let settings = home.write("node.toml", "[ipfs]\nmax_store = 0\n");
    let peer = Peer::start(&home, &[IPFS, &["--settings", settings.to_str().expect("text")]].concat());
    let ready = get(&peer.node, "/readyz");
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("the store of the peer on IPFS is full"), "{ready}");
    let metrics = get(&peer.node, "/metrics");
    for line in ["talkbox_node_ipfs_store_full 1", "talkbox_node_ready 0"] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    let logged = peer.stop().stderr;
    assert_eq!(logged.matches("the store of the peer on IPFS is full").count(), 1, "{logged}");
    assert!(logged.contains("max_store"), "{logged}");
}

#[test]
fn the_store_of_a_peer_is_checked_and_backed_up_with_that_of_its_node() {
    let node = Home::new();
    let data = node.path().join("data");
    let data = data.to_str().expect("text");
    let peer = Peer::start(&node, &[IPFS, &["--ipfs-keep", "any", "--data", data]].concat());
    let (ada, uri) = (Home::new(), peer.uri());
    ada.write("config.toml", "allow_private = true\n");
    ada.run(["new", "tips", "--plain-key", "-b", &uri]).success();
    ada.run(["send", &ada.code(), "to be kept", "-b", &uri]).success();
    let checked = node.json(["node", "verify", "--data", data]);
    assert_eq!((&checked["sound"], &checked["ipfs"]["damaged"]), (&true.into(), &0.into()), "{checked}");
    let blocks = checked["ipfs"]["blocks"].as_u64().expect("a number");
    assert!(blocks > 1, "{checked}");
    let copy = node.path().join("copy");
    let copy = copy.to_str().expect("text");
    let made = node.json(["node", "backup", "--to", copy, "--data", data]);
    let beside = format!("{copy}.ipfs");
    assert_eq!((&made["ipfs"]["path"], &made["ipfs"]["blocks"]), (&beside.as_str().into(), &blocks.into()), "{made}");
    // Both or none.
    std::fs::remove_file(copy).expect("is there");
    node.run(["node", "backup", "--to", copy, "--data", data]).ends(2);
    assert!(!std::path::Path::new(copy).exists());
    node.json(["node", "verify", "--file", &beside]);
    peer.stop();

    // In the name of a log, which is in a block and nowhere else.
    let mut bytes = std::fs::read(&beside).expect("reads");
    let at = bytes.windows(10).position(|some| some == b"talkbox/1/").expect("a name");
    bytes[at] ^= 1;
    std::fs::write(&beside, bytes).expect("writes");
    let found = node.run(["node", "verify", "--file", &beside]).ends(7).stdout;
    assert!(found.contains(&format!("{blocks} blocks of the peer on IPFS, 1 damaged\ndamaged  bafyrei")), "{found}");
    // It takes the place of the store, and then that one is damaged.
    std::fs::copy(&beside, node.path().join("data/ipfs/ipfs.sqlite3")).expect("copies");
    let found = node.run(["--json", "node", "verify", "--data", data]).ends(7).objects().swap_remove(0);
    assert_eq!((&found["sound"], &found["damaged"], &found["ipfs"]["damaged"]), (&false.into(), &0.into(), &1.into()));
}

#[test]
fn a_peer_that_cannot_run_says_why() {
    let home = Home::new();
    let refused = |arguments: &[&str], told: &[&str]| {
        let ran = home.run([&["node", "--listen", "127.0.0.1:0"], arguments].concat());
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.stderr);
        for words in told {
            assert!(ran.stderr.contains(words), "{arguments:?}: {}", ran.stderr);
        }
    };
    refused(&["--ipfs-keep", "any"], &["--ipfs-keep", "add `--ipfs`"]);
    refused(&["--ipfs", "--ipfs-listen", "here"], &["here", "--ipfs-listen /ip4/"]);
    refused(&["--ipfs", "--ipfs-peer", "/ip4/192.0.2.7/tcp/1"], &["/ip4/192.0.2.7/tcp/1", "ends with its id"]);
    let tls = format!("/dns4/node.example/tcp/443/tls/ws/p2p/{SOMEBODY}");
    for flag in ["--ipfs-peer", "--ipfs-bootstrap"] {
        refused(&["--ipfs", flag, &tls], &["/udp/PORT/quic-v1", "tls/ws"]);
    }
    refused(
        &["--ipfs", "--ipfs-keep", "any", "--ipfs-listen", "/ip4/192.0.2.7/tcp/0"],
        &["requested address", "--ipfs-listen /ip4/"],
    );
    let protocol =
        ["--ipfs", "--ipfs-listen", "/ip4/127.0.0.1/tcp/0", "--ipfs-keep", "any", "--ipfs-dht-protocol", "x"];
    refused(&protocol, &["dht_protocol", "the file of `--settings`"]);
    refused(&["--ipfs", "--ipfs-keep", "nonsense"], &["nonsense", "npub"]);
    refused(&["--ipfs", "--ipfs-dht", "on"], &["`off`, `client` or `server`"]);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let place = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().expect("an address").port());
    refused(&["--ipfs", "--ipfs-listen", &place, "--ipfs-keep", "any"], &["another program", &place, "tcp/0"]);
    // As the node itself ends where its port is taken.
    let node = home.run(["node", "--json", "--listen", &address]).ends(2);
    let peer = [&["node", "--json", "--listen", "127.0.0.1:0"], IPFS, &["--ipfs-keep", "any"]].concat();
    let peer = home.run([&peer[..], &["--ipfs-listen", &place]].concat()).ends(2);
    assert_eq!(node.error()["code"], peer.error()["code"]);
    for half in ["/dns4/node.example", "/ip4/192.0.2.7/udp/4001", "/tcp/4001", "/ip4/192.0.2.7/tcp/0"] {
        refused(&["--ipfs", "--ipfs-external", half], &[half, "--ipfs-external /dns4/node.example/tcp/4001"]);
    }
    for half in ["/ip4/127.0.0.1", "/ip4/127.0.0.1/udp/0"] {
        refused(&["--ipfs", "--ipfs-listen", half], &[half, "--ipfs-listen /ip4/"]);
    }
    let settings =
        home.write("node.toml", "[ipfs]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nexternal = [\"/ip4/192.0.2.7\"]\n");
    refused(&["--settings", settings.to_str().expect("text")], &["/ip4/192.0.2.7", "external"]);
    // The node has ended with it: its folder is free again.
    let settings = home.write("node.toml", "[ipfs]\nlistn = []\n");
    refused(&["--settings", settings.to_str().expect("text")], &["listn"]);
    let table = "name = \"mine\"\n[ipfs]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nkeep = [\"any\"]\ndht = \"off\"\n";
    let settings = home.write("node.toml", table);
    Peer::start(&home, &["--settings", settings.to_str().expect("text")]).stop();
}

/// The id of a peer that is nowhere.
const SOMEBODY: &str = "16Uiu2HAm3aBGq5sdGKKmyHYVJWrJUvqLoC1HbmoaQEUTBJ2bHP8u";

#[test]
fn peers_that_cannot_be_as_they_are_named_are_refused() {
    let (tcp, ws) = (format!("/ip4/192.0.2.7/tcp/1/p2p/{SOMEBODY}"), format!("/ip4/192.0.2.7/tcp/2/ws/p2p/{SOMEBODY}"));
    let twice = home("ipfs", &[&tcp, &ws], "");
    let told = twice.run(["config", "check"]).ends(2).stderr;
    for words in [&tcp, &ws, "one machine", "name one of them"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let tls = format!("/dns4/node.example/tcp/443/tls/ws/p2p/{SOMEBODY}");
    let told = home("ipfs", &[&tls], "").run(["config", "check"]).ends(2).stderr;
    assert!(told.contains(&tls) && told.contains("/udp/PORT/quic-v1"), "{told}");
    let told = twice.run(["log", "nonsense"]).ends(2).stderr;
    assert!(told.contains("npub") && !told.contains("nothing was sent"), "{told}");
}

#[test]
fn a_node_names_first_what_belongs_into_peers() {
    let home = Home::new();
    let told = ["--ipfs-external", "/dns4/node.example/tcp/443/tls/ws"];
    // The first one that it names is checked there.
    Peer::start(&home, &[IPFS, &["--ipfs-keep", "any"], &told].concat());
}

#[test]
fn a_node_that_should_go_by_a_proxy_runs_no_peer() {
    let home = Home::new();
    for (name, value) in [("TALKBOX_PROXY", "socks5://127.0.0.1:1"), ("ALL_PROXY", "socks5://127.0.0.1:1")] {
        let mut command = home.command(["node", "--listen", "127.0.0.1:0", "--ipfs-keep", "any"].iter().chain(IPFS));
        command.env(name, value);
        let told = common::run(command, None).ends(2).stderr;
        assert!(told.contains("proxy") && told.contains(name) && told.contains("without `--ipfs`"), "{told}");
    }
}

#[test]
fn a_token_that_stands_where_it_does_not_belong_is_never_shown() {
    for pins in ["\"s3cr3t\"", "[\"s3cr3t\"]", "[{ name = \"a\", token = \"s3cr3t\" }]"] {
        let home = home("ipfs", &[], &format!("pins = {pins}\n"));
        let settings = home.write("node.toml", &format!("[ipfs]\npins = {pins}\n"));
        let settings = settings.to_str().expect("text");
        let mut all = home.run(["config", "show"]).success().shown();
        for command in [
            &["config", "check"][..],
            &["pin", "ls", "--json"],
            &["pin", "ls", "--settings", settings],
            &["node", "--listen", "127.0.0.1:0", "--settings", settings],
        ] {
            let told = home.run(command).ends(2).shown();
            assert!(told.contains("token_file"), "{command:?}: {told}");
            all.push_str(&told);
        }
        assert!(!all.contains("s3cr3t") && all.contains("hidden"), "{all}");
    }
    let home = home("ipfs", &[], "pins = [{ name = \"a\", endpoint = \"https://a.example\", token_file = \"/t\" }]\n");
    assert!(home.run(["config", "show"]).success().stdout.contains("a.example"));
    let settings =
        home.write("node.toml", "[ipfs]\npins = [{ name = \"a\", endpoint = \"no\", token_file = \"/t\" }]\n");
    let told = home.run(["pin", "ls", "--settings", settings.to_str().expect("text")]).ends(2).stderr;
    assert!(told.contains("node.toml") && !told.contains("config check"), "{told}");
}

#[test]
fn pins_are_listed_in_the_words_of_the_service() {
    let bare = home("ipfs", &[], "");
    let none = bare.run(["pin", "ls"]).ends(2).stderr;
    assert!(none.contains("no pinning service") && none.contains("token_file"), "{none}");
    let settings = bare.write("node.toml", "[ipfs]\n");
    let none = bare.run(["pin", "status", "--settings", settings.to_str().expect("text")]).ends(2).stderr;
    assert!(none.contains("no pinning service") && none.contains("token_file"), "{none}");

    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let place = server.local_addr().expect("an address");
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().expect("connects");
        let (mut request, mut part) = (Vec::new(), [0; 1024]);
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = stream.read(&mut part).expect("reads");
            request.extend_from_slice(&part[..read]);
        }
        let cid = "bafyreib6pzdbnqaqimgpuvjwgxvyl4njlvlr4itwjfsqvoxbj3l7cvgfsq";
        let body =
            json!({"count": 1, "results": [{"requestid": "r1", "status": "pinned", "created": "2026-11-30T10:00:00Z",
            "pin": {"cid": cid, "name": "talkbox"}, "delegates": []}]})
            .to_string();
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).expect("answers");
        String::from_utf8_lossy(&request).to_ascii_lowercase()
    });
    let ada = Home::new();
    let token = ada.write("token", "s3cr3t\n");
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("is mine");
    ada.write(
        "config.toml",
        &format!(
            "backend = \"ipfs\"\n[backends.ipfs]\ndht = \"off\"\n\
             pins = [{{ name = \"mine\", endpoint = \"http://{place}/psa\", token_file = \"{}\" }}]\n",
            token.display()
        ),
    );
    let listed = ada.json(["pin", "ls"]);
    let request = serving.join().expect("served");
    assert!(request.starts_with("get /psa/pins?") && request.contains("authorization: bearer s3cr3t"), "{request}");
    let pin = &listed["pins"][0];
    assert_eq!((&pin["request"], &pin["state"], &pin["name"]), (&"r1".into(), &"pinned".into(), &"talkbox".into()));
    // Nothing is here yet that could be pinned.
    assert_eq!(ada.lines(["pin", "status"]), Vec::<Value>::new());
    // A node names its own.
    let table =
        format!("[ipfs]\npins = [{{ name = \"theirs\", endpoint = \"http://{place}\", token_file = \"/no\" }}]\n");
    let settings = ada.write("node.toml", &table);
    for command in ["ls", "status"] {
        let theirs = ada.run(["pin", command, "--settings", settings.to_str().expect("text")]).ends(2);
        for words in ["theirs", "/no", "chmod 600"] {
            assert!(theirs.stderr.contains(words), "{words}: {}", theirs.stderr);
        }
        assert!(!theirs.stdout.contains("0 requests"), "nobody was asked: {}", theirs.stdout);
    }
    let away = ada.run(["pin", "ls"]).ends(4);
    assert!(away.stdout.contains("mine") && !away.stdout.contains("s3cr3t"), "{}", away.stdout);
    assert!(away.stderr.contains("mine") && !away.stderr.contains("s3cr3t"), "{}", away.stderr);
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("is mine");
    let open = ada.run(["pin", "ls", "--json"]).ends(2);
    assert_eq!(open.error()["code"], "config-invalid");
    let message = open.error()["message"].as_str().expect("a message").to_owned();
    assert!(message.contains(token.to_str().expect("text")) && message.contains("open to others"), "{message}");
    // The month that is here is shown all the same.
    assert!(ada.run(["pin", "status"]).ends(2).stderr.contains("open to others"));
}
