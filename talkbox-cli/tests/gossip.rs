//! Mailboxes on nodes, over HTTP: from one computer to another and back.

mod common;

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use common::{Home, Relay, settings};
use serde_json::Value;

#[test]
fn a_message_goes_there_and_back_with_a_promise_until_when() {
    let node = Relay::start();
    let url = node.node_url();
    let ada = Home::with_nodes(&[&url]);
    ada.run(["new", "tips", "--plain-key"]).success();
    let code = ada.code();

    // Without a configuration, the flag alone says where.
    let bob = Home::new();
    bob.write("config.toml", "allow_private = true\n");
    let backend = format!("gossip:{url}");
    bob.run(["new", "bob", "--plain-key", "--backend", &backend]).success();
    let sent = bob.json(["send", &code, "hello", "--from", "bob", "--backend", &backend]);
    assert_eq!(sent["state"], "stored", "{sent}");
    let ack = &sent["stored"][0];
    assert_eq!(ack["holder"], format!("gossip:{url}"));
    assert!(ack["until"].as_u64().is_some_and(|until| until > 1_700_000_000), "{ack}");

    let read = ada.lines(["read"]);
    assert_eq!((read.len(), &read[0]["body"]), (1, &"hello".into()));
    let id = &read[0]["id"].as_str().expect("an id")[..8];
    ada.run(["reply", id, "who is it?"]).success();
    let answers = bob.lines(["read", "--backend", &backend]);
    assert!(answers.iter().any(|line| line["body"] == "who is it?"), "{answers:?}");

    let status = ada.json(["status"]);
    assert_eq!((&status["backend"], &status["holders"][0]["reachable"]), (&"gossip".into(), &true.into()));
    settings(&ada).bind(|| {
        insta::assert_snapshot!("gossip-delete", ada.run(["delete", id, "--yes"]).success().shown());
    });
    assert!(ada.bodies().iter().all(|body| body != "hello"));
    // Another computer with the same key does not get it any more, either.
    let other = Home::with_nodes(&[&url]);
    let nsec = ada.secret("tips").to_nsec();
    other.run_with_input(["new", "--plain-key", "--nsec-file", "-"], nsec.as_bytes()).success();
    assert!(other.bodies().iter().all(|body| body != "hello"));
}

#[test]
fn a_watch_hands_out_what_comes_to_any_of_the_nodes() {
    let (one, two) = (Relay::start(), Relay::start());
    let (first, second) = (one.node_url(), two.node_url());
    let ada = Home::with_nodes(&[&first, &second]);
    ada.run(["new", "tips", "--plain-key"]).success();
    let code = ada.code();
    let mut watch = ada.command(["watch", "--json", "--timeout", "100"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    for (url, text) in [(&first, "by the first"), (&second, "by the second")] {
        let bob = Home::with_nodes(&[url]);
        bob.run(["send", &code, text]).success();
        let line = lines.next().expect("a line").expect("read");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["body"], text);
    }
    watch.kill().expect("killed");
    watch.wait().expect("ended");
}

#[test]
fn a_node_that_is_away_costs_only_itself() {
    let node = Relay::start();
    let (url, away) = (node.node_url(), Relay::nobody().replace("ws://", "http://"));
    let ada = Home::with_nodes(&[&away, &url]);
    ada.run(["new", "tips", "--plain-key"]).success();
    let bob = Home::with_nodes(&[&away, &url]);
    let sent = bob.json(["send", &ada.code(), "to the one that is there", "--min-acks", "1"]);
    assert_eq!((&sent["state"], sent["stored"].as_array().map(Vec::len)), (&"stored".into(), Some(1)), "{sent}");
    assert_eq!(ada.bodies(), ["to the one that is there"]);
}

#[test]
fn senders_on_a_relay_reach_a_mailbox_on_a_node() {
    let node = Relay::start();
    let ada = Home::with_nodes(&[&node.node_url()]);
    ada.run(["new", "tips", "--plain-key"]).success();
    // The node is a relay, too: the record is found there, and says where the mail goes.
    let bob = Home::with_relays(&[&node.url]);
    let sent = bob.json(["send", &ada.code(), "by the record"]);
    assert_eq!(sent["stored"][0]["holder"], format!("gossip:{}", node.node_url()), "{sent}");
    assert_eq!(ada.bodies(), ["by the record"]);
}
