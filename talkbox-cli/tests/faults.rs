//! What the command says when networks fail: never "stored" for what nobody stores.

mod common;

use common::{Home, Relay, settings};
use talkbox_core::{
    Clock as _, MailboxRecord, RecordFields, SecretKey, SystemClock,
    local::{Store, StoreKey},
};

#[test]
fn refused_by_every_relay_is_an_error_in_their_words() {
    let relays = [Relay::refusing(), Relay::refusing(), Relay::refusing()];
    let urls: Vec<&str> = relays.iter().map(|relay| relay.url.as_str()).collect();
    let ada = Home::with_mailbox("tips", &urls);
    let bob = Home::with_relays(&urls);
    settings(&bob).bind(|| {
        insta::assert_snapshot!("refused", bob.run(["send", &ada.code(), "hi"]).ends(8).shown());
        let refused = bob.run(["send", &ada.code(), "hi", "--json"]).ends(8);
        assert_eq!(refused.objects()[0]["state"], "wedged");
        assert_eq!(refused.error()["code"], "refused");
    });
    assert_eq!(bob.lines(["outbox"]).len(), 2, "what is stuck is shown");
    assert!(ada.bodies().is_empty());
}

#[test]
fn with_nobody_there_it_is_queued_and_sent_later() {
    let data = tempfile::tempdir().expect("a folder");
    let mut relay = Relay::with(|config| config.data = Some(data.path().to_owned()));
    let (url, address) = (relay.url.clone(), relay.address());
    let ada = Home::with_mailbox("tips", &[&url]);
    let bob = Home::with_relays(&[&url]);
    let code = ada.code();
    bob.run(["send", &code, "before"]).success();
    relay.stop();
    settings(&bob).bind(|| {
        let queued = bob.run(["send", &code, "meanwhile"]).success();
        assert!(queued.stdout.contains("queued") && !queued.stdout.contains("stored "), "{}", queued.stdout);
        insta::assert_snapshot!("queued", queued.shown());
        insta::assert_snapshot!("no-queue", bob.run(["send", &code, "gone", "--no-queue"]).ends(4).shown());
        insta::assert_snapshot!("wait", bob.run(["send", &code, "late", "--wait", "--timeout", "2"]).ends(9).shown());
    });
    assert_eq!(bob.lines(["outbox"]).len(), 2);
    // What is stored here can be read all the same.
    assert_eq!(ada.run(["read", "--offline"]).success().stdout, "");
    let _relay = Relay::with(|config| {
        config.listen = address;
        config.data = Some(data.path().to_owned());
    });
    assert_eq!(bob.json(["outbox", "flush", "--wait"])["left"], 0);
    assert_eq!(ada.bodies(), ["before", "meanwhile", "late"]);
}

#[test]
fn what_was_sent_offline_goes_out_with_the_next_command() {
    let relay = Relay::start();
    let ada = Home::with_mailbox("tips", &[&relay.url]);
    let bob = Home::with_relays(&[&relay.url]);
    let code = ada.code();
    // Nobody could be asked what the code means: it is sealed when somebody can.
    let waits = bob.json(["send", &code, "unknown", "--offline"]);
    assert_eq!((waits["state"].as_str(), waits["id"].is_null()), (Some("queued"), true), "{waits}");
    assert_eq!(bob.lines(["outbox", "--offline"])[0]["outbox"], waits["outbox"]);
    assert_eq!(bob.run(["send", &code, "kept by nobody", "--offline", "--no-queue"]).ends(4).stdout, "");
    bob.run(["send", &code, "first"]).success();
    assert_eq!(ada.bodies(), ["unknown", "first"], "in the order in which they were written");
    assert_eq!(bob.json(["send", &code, "second", "--offline"])["state"], "queued");
    let told = bob.run(["status"]).success().stderr;
    assert!(told.contains("stored what was queued: 1"), "{told}");
    assert_eq!(ada.bodies(), ["unknown", "first", "second"]);
    // A watch does so, too.
    bob.run(["new", "bob", "--plain-key"]).success();
    assert_eq!(bob.json(["send", &code, "third", "--offline"])["state"], "queued");
    let watch = bob.command(["watch", "--timeout", "100"]).spawn().expect("starts");
    let seen = ada.run(["watch", "--timeout", "100", "--once", "--json"]);
    drop(Killed(watch));
    assert!(seen.success().stdout.contains("unknown"), "what is unread comes first");
    assert!(ada.lines(["read"]).iter().any(|line| line["body"] == "second"));
}

#[test]
fn fewer_acks_than_asked_for_is_told() {
    let (good, bad) = (Relay::start(), Relay::refusing());
    let urls = [good.url.as_str(), bad.url.as_str()];
    let ada = Home::with_mailbox("tips", &urls);
    let bob = Home::with_relays(&urls);
    settings(&bob).bind(|| {
        // Relays are asked at the same time, and their ports are any.
        insta::assert_snapshot!("too-few-acks", bob.run(["send", &ada.code(), "hi"]).ends(5).shown());
        insta::assert_snapshot!(
            "enough-acks",
            bob.run(["send", &ada.code(), "hi", "--min-acks", "1"]).success().shown()
        );
        insta::assert_snapshot!(
            "impossible-acks",
            bob.run(["send", &ada.code(), "hi", "--min-acks", "9"]).ends(2).shown()
        );
    });
    assert_eq!(ada.bodies(), ["hi", "hi"], "who could take it has it");
}

#[test]
fn a_queued_message_can_be_taken_back() {
    let relay = Relay::start();
    let ada = Home::with_mailbox("tips", &[&relay.url]);
    let bob = Home::with_relays(&[&relay.url]);
    let code = ada.code();
    bob.run(["send", &code, "first"]).success();
    let id = bob.json(["send", &code, "regretted", "--offline"])["id"].as_str().expect("an id")[..8].to_owned();
    settings(&bob).bind(|| {
        insta::assert_snapshot!("outbox-cancel", bob.run(["outbox", "cancel", &id, "--offline"]).success().shown());
        insta::assert_snapshot!("outbox-retry-cancelled", bob.run(["outbox", "retry", &id]).ends(2).shown());
        insta::assert_snapshot!("outbox-missing", bob.run(["outbox", "cancel", "00000000"]).ends(3).shown());
    });
    bob.run(["outbox", "flush"]).success();
}

#[test]
fn a_second_key_for_a_pinned_code_is_an_error() {
    let relay = Relay::start();
    let ada = Home::with_mailbox("tips", &[&relay.url]);
    let bob = Home::with_relays(&[&relay.url]);
    bob.run(["status"]).success();
    // Nobody can make a second key of one code: somebody who has pinned another one comes to the same.
    let code = ada.code();
    let attacker = SecretKey::generate().expect("randomness");
    let now = SystemClock.now();
    let fields = RecordFields::new(vec![format!("nostr:{}", relay.url).parse().expect("a locator")]);
    let record = MailboxRecord::sign(&attacker, code.parse().expect("a code"), fields, now).expect("signs");
    let key = std::fs::read_to_string(bob.path().join("store.key")).expect("read");
    let key = StoreKey::from_bytes(*SecretKey::from_nsec(&key).expect("a key").to_bytes());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store =
            Store::open(&bob.path().join("store.sqlite"), key, std::sync::Arc::new(SystemClock)).await.expect("opens");
        store.pin(&record, code.parse().expect("a code")).await.expect("pins");
        store.close().await;
    });
    settings(&bob).bind(|| insta::assert_snapshot!("second-key", bob.run(["send", &code, "hi"]).ends(7).shown()));
    assert!(bob.lines(["outbox", "ls", "--all"]).is_empty());
}

#[test]
fn a_relay_that_is_away_costs_only_itself() {
    let relay = Relay::start();
    let nobody = Relay::nobody();
    let ada = Home::with_mailbox("tips", &[&nobody, &relay.url]);
    let bob = Home::with_relays(&[&nobody, &relay.url]);
    let sent = bob.run(["send", &ada.code(), "hi", "--min-acks", "1", "--json"]).success();
    assert_eq!(sent.objects()[0]["stored"].as_array().map(Vec::len), Some(1));
    let read = ada.run(["read"]).success();
    assert_eq!(read.stdout, "hi\n");
    assert!(read.stderr.contains(nobody.trim_start_matches("ws://")), "who is away is named: {}", read.stderr);
    settings(&ada).bind(|| {
        insta::assert_snapshot!("status-away", ada.run(["status", "--json"]).success().shown().replace("[port]", ""))
    });
}

/// Ends a process with the test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("ended");
    }
}
