//! Messages from one computer to another and back, over a real node.

mod common;

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use common::{Home, Relay, finish, settings};
use talkbox_core::{Clock as _, Draft, SealOptions, SecretKey, SystemClock, seal};

/// What stands in a snapshot for how long ago something was.
fn with_ages(home: &Home) -> insta::Settings {
    let mut settings = settings(home);
    settings.add_filter(r"\b(now|\d+ min)\b", "[ago]");
    settings
}

#[test]
fn a_message_goes_there_and_the_answer_comes_back() {
    let relay = Relay::start();
    let (ada, bob) = (Home::with_mailbox("tips", &[&relay.url]), Home::with_mailbox("bob", &[&relay.url]));
    let carol = Home::with_mailbox("carol", &[&relay.url]);
    let (code, carols) = (ada.code(), carol.code().to_lowercase().replace('-', " "));
    with_ages(&bob).bind(|| {
        let sent = bob.run_with_input(["send", &code, "--from", "bob", "--subject", "page 3"], b"hello\nyou\n");
        insta::assert_snapshot!("send", sent.success().shown());
        let again = bob.run(["send", &carols, "second", "--type", "text/plain", "--json"]);
        insta::assert_snapshot!("send-json", again.success().shown());
        insta::assert_snapshot!("outbox-done", bob.run(["outbox", "ls", "--all"]).success().shown());
        insta::assert_snapshot!("outbox-empty", bob.run(["outbox"]).success().shown());
    });
    let read = ada.run(["read", "--keep-unread"]).success();
    assert_eq!(read.stdout, "hello\nyou\n");
    let id = ada.lines(["read", "--keep-unread"])[0]["id"].as_str().expect("an id")[..8].to_owned();
    with_ages(&ada).bind(|| {
        insta::assert_snapshot!("read-table", ada.run(["read", "--table"]).success().shown());
        insta::assert_snapshot!(
            "read-json",
            ada.run(["read", "--json", "--limit", "1", "--keep-unread"]).success().shown()
        );
        insta::assert_snapshot!("open", ada.run(["open", &id]).success().shown());
        insta::assert_snapshot!("open-missing", ada.run(["open", "00000000"]).ends(3).shown());
        insta::assert_snapshot!("open-short", ada.run(["open", "0"]).ends(2).shown());
        insta::assert_snapshot!("status", ada.run(["status"]).success().shown());
        insta::assert_snapshot!("status-json", ada.run(["status", "--json"]).success().shown());
        insta::assert_snapshot!("reply", ada.run(["reply", &id, "who signed it?"]).success().shown());
    });
    assert_eq!(ada.run(["open", &id, "--raw"]).success().stdout, "hello\nyou");
    let answer = &bob.lines(["read"])[..];
    let answer = answer.iter().find(|line| line["re"].is_string()).expect("the answer");
    assert_eq!(answer["body"], "who signed it?");
    assert!(answer["re"].as_str().expect("an id").starts_with(&id));
}

#[test]
fn what_was_read_is_not_unread() {
    let ada = Home::new();
    ada.run(["new", "--plain-key"]).success();
    import(&ada, ["one", "two\nlines", "three"].map(str::to_owned));
    assert_eq!(ada.run(["read", "--unread", "--keep-unread", "-0"]).success().stdout, "one\0two\nlines\0three\0");
    // A table shows the beginning alone, and marks nothing.
    assert_eq!(ada.run(["read", "--table", "--unread"]).success().stdout.lines().count(), 4);
    assert_eq!(ada.lines(["read", "--unread", "--limit", "1"])[0]["body"], "three");
    assert_eq!(ada.run(["read", "--unread"]).success().stdout, "one\ntwo\nlines\n");
    assert_eq!(ada.run(["read", "--unread"]).success().stdout, "");
    assert_eq!(ada.run(["read", "--since", "1h"]).success().stdout.lines().count(), 4);
}

#[test]
fn somebody_without_a_mailbox_gets_an_answer() {
    let relay = Relay::start();
    let ada = Home::with_mailbox("tips", &[&relay.url]);
    let source = Home::with_relays(&[&relay.url]);
    source.run(["send", &ada.code(), "a tip"]).success();
    let id = ada.lines(["read"])[0]["id"].as_str().expect("an id").to_owned();
    ada.run(["reply", &id[..8], "tell me more"]).success();
    with_ages(&source).bind(|| insta::assert_snapshot!("read-without-mailbox", source.run(["read"]).ends(3).shown()));
    let answers = source.lines(["read", "--replies"]);
    assert_eq!((answers.len(), answers[0]["body"].as_str()), (1, Some("tell me more")));
    let id = &answers[0]["id"].as_str().expect("an id")[..8];
    source.run(["open", id]).success();
    source.run(["reply", id, "page 3"]).success();
    assert_eq!(ada.bodies(), ["a tip", "page 3"]);
    let lines = ada.lines(["read"]);
    assert_eq!(lines[0]["from"], lines[1]["from"], "one conversation, one key");
    let sent = ada.lines(["read", "--sent"]);
    assert_eq!((sent.len(), sent[0]["body"].as_str()), (1, Some("tell me more")), "its own copy is no mail");
    assert_eq!(ada.lines(["read", "--all"]).len(), 3);
    assert_eq!(ada.json(["status"])["mailboxes"][0]["unread"], 0);
}

#[test]
fn a_backend_for_one_command_moves_no_mailbox_and_a_configured_one_does() {
    let (first, second) = (Relay::start(), Relay::start());
    let ada = Home::with_mailbox("tips", &[&first.url]);
    let code = ada.code();
    let elsewhere = ada.run(["read", "--backend", &format!("nostr:{}", second.url)]).success();
    assert!(elsewhere.stderr.contains("senders still go to where"), "{}", elsewhere.stderr);
    let stored_at =
        |relay: &Relay| Home::with_relays(&[&relay.url]).json(["send", &code, "hello"])["stored"].to_string();
    assert!(stored_at(&first).contains(&first.url));
    assert_eq!(ada.bodies(), ["hello"], "who reads as configured finds it");

    let config = ada.path().join("config.toml");
    let settings = std::fs::read_to_string(&config).expect("reads");
    std::fs::write(&config, settings.replace(&first.url, &second.url)).expect("writes");
    ada.run(["read"]).success();
    assert!(stored_at(&second).contains(&second.url));
}

#[test]
fn mail_below_the_work_floor_is_a_request() {
    let relay = Relay::start();
    let ada = Home::with_mailbox("tips", &[&relay.url]);
    let bob = Home::with_relays(&[&relay.url]);
    bob.run(["send", &ada.code(), "before there was a floor"]).success();
    assert_eq!(ada.bodies(), ["before there was a floor"]);
    let config = ada.path().join("config.toml");
    let settings = std::fs::read_to_string(&config).expect("reads");
    std::fs::write(&config, format!("work = 8\n{settings}")).expect("writes");
    // It is announced with the next command that reads, and senders follow it.
    assert!(ada.bodies().is_empty());
    let sent = bob.json(["send", &ada.code(), "with work"]);
    assert_eq!(ada.bodies(), ["with work"], "{sent}");
    let requests = ada.lines(["read", "--requests", "--keep-unread"]);
    assert_eq!((requests.len(), requests[0]["body"].as_str()), (1, Some("before there was a floor")));
    assert!(requests[0]["request"] == true);
    assert_eq!(ada.lines(["read", "--all"]).len(), 2);
}

#[test]
fn the_latest_are_those_of_the_network_too() {
    let relay = Relay::start();
    let ada = Home::with_mailbox("tips", &[&relay.url]);
    let bob = Home::with_relays(&[&relay.url]);
    for text in ["one", "two", "three"] {
        bob.run(["send", &ada.code(), text]).success();
    }
    assert_eq!(ada.run(["read", "--limit", "2"]).success().stdout, "two\nthree\n");
}

#[test]
fn a_link_leads_to_a_mailbox_that_no_directory_knows() {
    let relay = Relay::start();
    let ada = Home::with_mailbox("tips", &[&relay.url]);
    let link = ada.run(["id", "--link", "https://host.example"]).success().stdout;
    let npub = ada.run(["id", "--npub"]).success().stdout;
    let bob = Home::with_relays(&[&relay.url]);
    bob.run(["send", link.trim(), "by link"]).success();
    bob.run(["send", npub.trim(), "by key"]).success();
    assert_eq!(ada.bodies(), ["by link", "by key"]);
}

#[test]
fn wrong_addresses_are_refused_before_anything_is_sent() {
    let relay = Relay::start();
    let home = Home::with_relays(&[&relay.url]);
    let right = "F12TW-YXSDN-W8QCK-54PDT";
    settings(&home).bind(|| {
        // The right code is that of BIP-340's generator, and stays in the snapshot.
        let shown = |code: &str| home.run(["send", code, "hi"]).ends(2).shown().replace(right, "[right code]");
        insta::assert_snapshot!("send-wrong-symbol", shown("G12TW-YXSDN-W8QCK-54PDT"));
        insta::assert_snapshot!("send-swapped", shown("1F2TW-YXSDN-W8QCK-54PDT"));
        insta::assert_snapshot!("send-short-code", shown("F12TW"));
        insta::assert_snapshot!("send-bad-letter", shown("U12TW-YXSDN-W8QCK-54PDT"));
        let nsec = SecretKey::generate().expect("randomness").to_nsec();
        let refused = home.run(["send", &nsec, "hi"]).ends(2);
        assert!(!refused.stderr.contains(nsec.as_str()), "a secret is not repeated");
        insta::assert_snapshot!("send-secret", refused.shown());
        insta::assert_snapshot!("send-unknown", home.run(["send", right, "hi"]).ends(3).shown());
        insta::assert_snapshot!("send-empty", home.run(["send", right]).ends(2).shown());
    });
    let error = home.run(["send", "G12TW-YXSDN-W8QCK-54PDT", "hi", "--json"]).ends(2).error();
    assert_eq!((&error["code"], &error["possible"][0]["code"]), (&"bad-check".into(), &right.into()));
    assert_eq!(home.lines(["outbox", "ls", "--all"]).len(), 0);
}

#[test]
fn what_is_deleted_stays_away_and_the_holders_are_asked() {
    let relay = Relay::start();
    let ada = Home::with_mailbox("tips", &[&relay.url]);
    let bob = Home::with_relays(&[&relay.url]);
    bob.run(["send", &ada.code(), "delete me"]).success();
    let id = ada.lines(["read"])[0]["id"].as_str().expect("an id")[..8].to_owned();
    with_ages(&ada).bind(|| {
        insta::assert_snapshot!("delete-unconfirmed", ada.run(["delete", &id]).ends(2).shown());
        insta::assert_snapshot!("delete", ada.run(["delete", &id, "--yes"]).success().shown());
    });
    assert!(ada.bodies().is_empty());
    // Another computer with the same key does not get it any more, either.
    let other = Home::with_relays(&[&relay.url]);
    let nsec = ada.secret("tips").to_nsec();
    other.run_with_input(["new", "--plain-key", "--nsec-file", "-"], nsec.as_bytes()).success();
    assert!(other.bodies().is_empty());
}

#[test]
fn an_export_opens_elsewhere_and_bad_lines_are_numbered() {
    let relay = Relay::start();
    let ada = Home::with_mailbox("tips", &[&relay.url]);
    let bob = Home::with_relays(&[&relay.url]);
    for text in ["one", "two"] {
        bob.run(["send", &ada.code(), text]).success();
    }
    ada.run(["read"]).success();
    let exported = ada.run(["export"]).success().stdout;
    assert_eq!(exported.lines().count(), 2);
    let fresh = Relay::start();
    let other = Home::with_relays(&[&fresh.url]);
    let nsec = ada.secret("tips").to_nsec();
    other.run_with_input(["new", "--plain-key", "--nsec-file", "-"], nsec.as_bytes()).success();
    let lines = format!(
        "{exported}nonsense\n{}\n",
        exported.lines().next().expect("a line").replace("\"sig\":\"", "\"sig\":\"f")
    );
    with_ages(&other).bind(|| {
        let imported = other.run_with_input(["import", "-", "--upload"], lines.as_bytes()).ends(7);
        insta::assert_snapshot!("import", imported.shown());
        insta::assert_snapshot!("import-missing", other.run(["import", "nowhere"]).ends(2).shown());
    });
    assert_eq!(other.bodies(), ["one", "two"]);
    // And it is on the new relay.
    let third = Home::with_relays(&[&fresh.url]);
    third.run_with_input(["new", "--plain-key", "--nsec-file", "-"], nsec.as_bytes()).success();
    assert_eq!(third.bodies(), ["one", "two"]);
    let file = ada.path().join("export.jsonl").display().to_string();
    ada.run(["export", "--output", &file]).success();
    ada.run(["export", "--output", &file]).ends(2);
    assert_eq!(std::fs::read_to_string(file).expect("read"), exported);
}

#[cfg(unix)]
#[test]
fn a_watch_hands_out_what_comes() {
    let relay = Relay::start();
    let ada = Home::with_mailbox("tips", &[&relay.url]);
    let bob = Home::with_relays(&[&relay.url]);
    let code = ada.code();
    let mut watch = ada.command(["watch", "--json", "--timeout", "100"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    for text in ["first", "second"] {
        bob.run(["send", &code, text]).success();
        let line: serde_json::Value =
            serde_json::from_str(&lines.next().expect("a line").expect("read")).expect("JSON");
        assert_eq!(line["body"], text);
    }
    signal(&watch, "INT");
    assert_eq!(watch.wait().expect("ended").code(), Some(130));
    bob.run(["send", &code, "third"]).success();
    // What was handed out is read; what came meanwhile comes first.
    assert_eq!(ada.run(["watch", "--once", "--timeout", "60"]).success().stdout, "third\n");
    settings(&ada).bind(|| {
        insta::assert_snapshot!("watch-timeout", ada.run(["watch", "--once", "--timeout", "1"]).ends(9).shown());
        insta::assert_snapshot!("watch-offline", ada.run(["watch", "--offline"]).ends(2).shown());
    });
}

#[cfg(unix)]
#[test]
fn a_command_runs_for_each_message_and_a_failure_leaves_it_unread() {
    let relay = Relay::start();
    let ada = Home::with_mailbox("tips", &[&relay.url]);
    let bob = Home::with_relays(&[&relay.url]);
    bob.run(["send", &ada.code(), "for the robot", "--subject", "job"]).success();
    let file = ada.path().join("seen");
    let script = format!("test -e {0} || exit 3; cat >> {0}; echo \" $TALKBOX_SUBJECT\" >> {0}", file.display());
    let watch = || ada.run(["watch", "--once", "--exec", &script, "--timeout", "5"]);
    let failed = watch().ends(9);
    assert!(failed.stderr.contains("it stays unread"), "{}", failed.stderr);
    std::fs::write(&file, "").expect("written");
    watch().success();
    assert_eq!(std::fs::read_to_string(&file).expect("read"), "for the robot job\n");
    assert_eq!(ada.run(["read", "--unread"]).success().stdout, "");
}

#[cfg(unix)]
fn signal(process: &std::process::Child, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), process.id().to_string()]).status();
    assert!(sent.expect("runs").success());
}

#[cfg(unix)]
#[test]
fn interrupts_end_a_watch_and_a_node() {
    let relay = Relay::start();
    let ada = Home::with_mailbox("tips", &[&relay.url]);
    let mut watch = ada.command(["watch"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut told = BufReader::new(watch.stderr.take().expect("piped"));
    told.read_line(&mut String::new()).expect("it waits");
    signal(&watch, "INT");
    watch.stderr = Some(told.into_inner());
    finish(watch).ends(130);

    let data = ada.path().join("node").display().to_string();
    let mut node = ada.command(["node", "--listen", "127.0.0.1:0", "--data", &data, "--json"]);
    let mut node = node.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut told = BufReader::new(node.stdout.take().expect("piped"));
    let mut line = String::new();
    told.read_line(&mut line).expect("it listens");
    let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&line["event"], line["v"].as_u64()), (&"listening".into(), Some(1)));
    let bob = Home::with_mailbox("bob", &[line["url"].as_str().expect("a URL")]);
    bob.run(["send", &bob.code(), "to myself"]).success();
    signal(&node, "TERM");
    node.stdout = Some(told.into_inner());
    finish(node).ends(0);
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = Home::new();
    home.run(["new", "--plain-key"]).success();
    import(&home, vec!["x".repeat(1024); 200]);
    let mut read = home.command(["read", "--no-sync"]);
    let mut read = read.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(read.stdout.take().expect("piped")).lines();
    lines.next().expect("a line").expect("read");
    drop(lines);
    let mut told = String::new();
    std::io::Read::read_to_string(&mut read.stderr.take().expect("piped"), &mut told).expect("read");
    assert_eq!((read.wait().expect("ended").code(), told.as_str()), (Some(0), ""));
}

#[test]
fn a_large_mailbox_is_listed_whole_and_in_order() {
    let home = Home::new();
    home.run(["new", "--plain-key"]).success();
    let texts: Vec<String> = (0..1500).map(|at| format!("number {at}")).collect();
    import(&home, texts.clone());
    let read = home.run(["read", "--no-sync"]).success();
    assert_eq!(read.stdout.lines().collect::<Vec<_>>(), texts);
}

#[test]
fn text_of_strangers_does_not_reach_the_terminal_raw() {
    let home = Home::new();
    home.run(["new", "--plain-key"]).success();
    let owner = home.secret("main").id();
    let sender = SecretKey::generate().expect("randomness");
    let mut draft = Draft::text("\u{1b}]0;owned\u{7}\u{1b}[2Jclear\u{202e}txt.exe");
    draft.subject = Some("\u{1b}[31mred".to_owned());
    let sealed = seal(&draft, &sender, owner, SystemClock.now(), &SealOptions::default()).expect("seals");
    home.run_with_input(["import", "-"], format!("{}\n", sealed.envelope.json()).as_bytes()).success();
    let table = home.run(["read", "--no-sync", "--table"]).success().stdout;
    let id = &table.lines().nth(1).expect("a row")[1..9].to_owned();
    for shown in [table, home.run(["open", id]).success().stdout] {
        assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{shown:?}");
        assert!(shown.contains("clear"));
    }
    // A program gets what was sent.
    assert!(home.run(["open", id, "--raw"]).success().stdout.contains('\u{1b}'));
}

#[test]
fn a_backend_is_checked_by_the_kit() {
    let home = Home::new();
    let lines = home.lines(["conformance", "put_", "--backend", "memory"]);
    assert!(lines.iter().any(|line| line["case"] == "put_then_list" && line["result"] == "passed"));
    let sum = lines.last().expect("a sum");
    assert_eq!((&sum["failed"], sum["passed"].as_u64() >= Some(2)), (&0.into(), true));
    settings(&home).bind(|| {
        let none = home.run(["conformance", "no_such_case", "--backend", "memory"]).ends(3);
        insta::assert_snapshot!("conformance-none", none.shown());
    });
    // A network that is in use, and one where nobody is.
    let relay = Relay::start();
    let home = Home::with_relays(&[&relay.url]);
    home.run(["conformance", "put_then_list"]).success();
    let nobody = format!("nostr:{}", Relay::nobody());
    home.run(["conformance", "put_then_list", "--backend", &nobody]).ends(1);
}

/// Puts messages into the mailbox of a home, one second apart, which is what orders them.
fn import(home: &Home, texts: impl IntoIterator<Item = String, IntoIter: ExactSizeIterator>) {
    let (owner, sender) = (home.secret("main").id(), SecretKey::generate().expect("randomness"));
    let texts = texts.into_iter();
    let first = SystemClock.now().minus(texts.len() as u64);
    let seal = |(at, text): (usize, String)| {
        let now = first.plus(at as u64);
        let sealed = seal(&Draft::text(text), &sender, owner, now, &SealOptions::default()).expect("seals");
        format!("{}\n", sealed.envelope.json())
    };
    let lines: String = texts.enumerate().map(seal).collect();
    let file = home.write("texts.jsonl", &lines);
    home.run(["import", &file.display().to_string()]).success();
}
