//! The configuration: where values come from, what is wrong with it, and what is used when nobody chose a network.

mod common;

use common::{Home, settings};

#[test]
fn a_first_configuration_is_written_and_right() {
    let home = Home::new();
    settings(&home).bind(|| {
        insta::assert_snapshot!("config-init", home.run(["config", "init"]).success().shown());
        insta::assert_snapshot!("config-init-again", home.run(["config", "init"]).ends(2).shown());
        insta::assert_snapshot!("config-show", home.run(["config", "show"]).success().shown());
        insta::assert_snapshot!("config-check", home.run(["config", "check"]).success().shown());
        insta::assert_snapshot!("config-path", home.run(["config", "path"]).success().shown());
        insta::assert_snapshot!("config-path-json", home.run(["config", "path", "--json"]).success().shown());
    });
}

#[test]
fn a_flag_overrides_the_environment_and_that_the_file() {
    let home = Home::new();
    home.write("config.toml", "backend = \"nostr\"\nmin_acks = 3\n[backends.nostr]\nrelays = [\"wss://a.example\"]\n");
    let value = |flags: &[&str], variables: &[(&str, &str)], key: &str| {
        let mut command = home.command(["config", "show", "--json"].iter().chain(flags));
        command.envs(variables.iter().copied());
        let objects = common::run(command, None).success().objects();
        let entry = objects.into_iter().find(|object| object["key"] == key).expect("the key");
        (entry["value"].to_string(), entry["origin"].as_str().expect("an origin").to_owned())
    };
    let file = home.path().join("config.toml").display().to_string();
    assert_eq!(value(&[], &[], "backend"), ("\"nostr\"".to_owned(), format!("{file}:1")));
    let variable = [("TALKBOX_BACKEND", "memory")];
    assert_eq!(value(&[], &variable, "backend"), ("\"memory\"".to_owned(), "TALKBOX_BACKEND".to_owned()));
    assert_eq!(value(&["--backend", "nostr"], &variable, "backend"), ("\"nostr\"".to_owned(), "--backend".to_owned()));
    assert_eq!(value(&[], &[("TALKBOX_MIN_ACKS", "1")], "min_acks").0, "1");
    assert_eq!(value(&[], &[], "retention"), ("90".to_owned(), "default".to_owned()));
}

#[test]
fn the_flags_of_every_command_are_settings_too() {
    let home = Home::new();
    home.run(["new", "--plain-key"]).success();
    let id = |variables: &[(&str, &str)], file: &str| {
        home.write("config.toml", file);
        let mut command = home.command(["id"]);
        command.envs(variables.iter().copied());
        common::run(command, None)
    };
    assert!(id(&[], "json = true").success().stdout.starts_with('{'));
    assert!(!id(&[("TALKBOX_JSON", "0")], "json = true").success().stdout.starts_with('{'));
    assert!(id(&[("TALKBOX_JSON", "1")], "").success().stdout.starts_with('{'));
    assert_eq!(id(&[], "quiet = true").success().stderr, "");
    assert!(id(&[], "timeout = \"soon\"").ends(2).stderr.contains("config.toml:1"));
    assert!(id(&[("TALKBOX_JSON", "maybe")], "").ends(2).stderr.contains("TALKBOX_JSON"));
    // What is no setting is left alone, also where it looks like one.
    id(&[("TALKBOX_TIME", "2026-11-23T00:00:00Z"), ("TALKBOX_PASSPHRASE_FILE", "x")], "").success();
    assert!(id(&[("TALKBOX_OFLINE", "1")], "").ends(2).stderr.contains("TALKBOX_OFFLINE"));
}

#[test]
fn mistakes_are_told_with_their_place() {
    let home = Home::new();
    let check = |text: &str| {
        home.write("config.toml", text);
        home.run(["config", "check"]).ends(2).shown()
    };
    settings(&home).bind(|| {
        insta::assert_snapshot!("config-unknown-key", check("# mine\nmin_akcs = 2\n"));
        insta::assert_snapshot!("config-unknown-backend", check("backend = \"nostre\"\n"));
        insta::assert_snapshot!("config-no-toml", check("backend = \n"));
        insta::assert_snapshot!("config-unknown-setting", check("[backends.nostr]\nrelay = [\"wss://a.example\"]\n"));
        home.write("config.toml", "");
        insta::assert_snapshot!("config-missing", home.run(["status", "--config", "/nowhere/x.toml"]).ends(2).shown());
    });
}

#[test]
fn backends_are_listed() {
    let home = Home::new();
    settings(&home).bind(|| {
        insta::assert_snapshot!("backend-ls", home.run(["backend", "ls"]).success().shown());
        insta::assert_snapshot!("backend-ls-json", home.run(["backend", "--json"]).success().shown());
    });
}

#[test]
fn no_network_is_used_that_nobody_chose() {
    let home = Home::new();
    home.run(["new", "--plain-key"]).success();
    let code = "F12TW-YXSDN-W8QCK-54PDT";
    settings(&home).bind(|| {
        insta::assert_snapshot!("unconfigured-status", home.run(["status"]).success().shown());
        insta::assert_snapshot!("unconfigured-read", home.run(["read"]).success().shown());
        insta::assert_snapshot!("unconfigured-watch", home.run(["watch"]).ends(2).shown());
        insta::assert_snapshot!("unconfigured-send", home.run(["send", code, "hi"]).ends(2).shown());
    });
}
