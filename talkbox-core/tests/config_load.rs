//! Reading the configuration: what overrides what, where a value came from, and how a mistake is told.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use talkbox_core::{
    Backend, BackendDef, ErrorKind, Registry,
    config::{Config, Entry, Origin, Sources},
};

fn def(name: &'static str, uri_key: Option<&'static str>, keys: &'static [&'static str]) -> BackendDef {
    BackendDef {
        name,
        about: "for tests",
        schemes: &["test"],
        uri_key,
        keys,
        list_keys: &["mirrors"],
        open: |_, _| Box::pin(async { Ok(Backend::default()) }),
    }
}

fn registry() -> Registry {
    Registry::new()
        .with(def("nostr", Some("relays"), &["relays", "index_relays", "api_token", "timeout"]))
        .with(def("gossip", Some("nodes"), &["nodes"]))
        .with(def("ipfs", None, &["pins", "mirrors"]))
        .with(def("memory", None, &[]))
}

fn file(text: &str) -> Sources {
    Sources::new().file("config.toml", text)
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn entries(config: &Config) -> BTreeMap<String, (Value, String)> {
    let entries = config.entries(&registry()).expect("in force").into_iter();
    entries.map(|Entry { key, value, origin }| (key, (value, origin.to_string()))).collect()
}

/// The one line that a user sees.
fn refused(sources: Sources) -> String {
    let error = match Config::load(sources) {
        Err(error) => error,
        Ok(config) => config.check(&registry()).expect_err("refused"),
    };
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    error.to_string()
}

#[test]
fn nothing_set_is_the_defaults() {
    let config = Config::load(Sources::new()).expect("loads");
    assert_eq!((config.backend(), config.mailbox(), config.min_acks()), ("nostr", None, None));
    assert_eq!((config.retention_secs(), config.allow_private()), (90 * 86_400, false));
    assert_eq!(config.origin("backend"), Origin::Default);
    config.check(&registry()).expect("holds");
    assert!(entries(&config).values().all(|(_, origin)| origin == "default"));
}

#[test]
fn a_flag_overrides_the_environment_and_that_the_file() {
    let text =
        "backend = \"ipfs\"\nmin_acks = 1\nretention = 30\n[backends.nostr]\nrelays = [\"wss://file.example\"]\n";
    let sources = file(text)
        .environment(variables(&[
            ("TALKBOX_BACKEND", "gossip"),
            ("TALKBOX_MIN_ACKS", "2"),
            ("TALKBOX_BACKENDS__NOSTR__RELAYS", "wss://a.example, wss://b.example"),
            ("HOME", "/home/somebody"),
            ("TALKBOX_LOG", "debug"),
        ]))
        .flag("--backend", "backend", "nostr");
    let config = Config::load(sources).expect("loads");
    let entries = entries(&config);
    let entry = |key: &str| (entries[key].0.clone(), entries[key].1.as_str());
    assert_eq!(entry("backend"), (json!("nostr"), "--backend"));
    assert_eq!(entry("min_acks"), (json!(2), "TALKBOX_MIN_ACKS"));
    assert_eq!(entry("retention"), (json!(30), "config.toml:3"));
    assert_eq!(entry("mailbox"), (json!(null), "default"));
    let relays = json!(["wss://a.example", "wss://b.example"]);
    assert_eq!(entry("backends.nostr.relays"), (relays.clone(), "TALKBOX_BACKENDS__NOSTR__RELAYS"));
    let plan = config.plan(&registry()).expect("a plan");
    assert_eq!(plan.members()[0].config.table()["relays"], relays);
}

#[test]
fn a_variable_is_read_in_the_type_of_its_key() {
    let read = |text: &str, name: &str, value: &str| {
        let config = Config::load(file(text).environment(variables(&[(name, value)]))).expect("loads");
        let table = config.plan(&registry()).expect("a plan").members()[0].config.table().clone();
        table.into_iter().next().expect("one setting").1
    };
    // What the backend takes from a URI is a list; what the file has a type for keeps that; else it is read as TOML.
    assert_eq!(read("", "TALKBOX_BACKENDS__NOSTR__RELAYS", "wss://a.example"), json!(["wss://a.example"]));
    // So is what it says is one, in an instance of any name; a list in brackets is one as well.
    let mine = "backend = \"mine\"\n[backends.mine]\nkind = \"ipfs\"";
    assert_eq!(read(mine, "TALKBOX_BACKENDS__MINE__MIRRORS", "a, b"), json!(["a", "b"]));
    assert_eq!(read(mine, "TALKBOX_BACKENDS__MINE__MIRRORS", "a"), json!(["a"]));
    assert_eq!(read(mine, "TALKBOX_BACKENDS__MINE__MIRRORS", "[\"a,b\"]"), json!(["a,b"]));
    assert_eq!(read(mine, "TALKBOX_BACKENDS__MINE__PINS", "a,b"), json!("a,b"), "nobody said that it is a list");
    let list = "[backends.nostr]\nindex_relays = []";
    assert_eq!(read(list, "TALKBOX_BACKENDS__NOSTR__INDEX_RELAYS", "a,b"), json!(["a", "b"]));
    let text = "[backends.nostr]\napi_token = \"x\"";
    assert_eq!(read(text, "TALKBOX_BACKENDS__NOSTR__API_TOKEN", "12345"), json!("12345"));
    assert_eq!(read("", "TALKBOX_BACKENDS__NOSTR__TIMEOUT", "12"), json!(12));
    assert_eq!(read("", "TALKBOX_BACKENDS__NOSTR__INDEX_RELAYS", "[\"a\", \"b\"]"), json!(["a", "b"]));
    let error = refused(
        file("[backends.nostr]\ntimeout = 3").environment(variables(&[("TALKBOX_BACKENDS__NOSTR__TIMEOUT", "soon")])),
    );
    assert_eq!(error, "`timeout` takes a whole number (at: TALKBOX_BACKENDS__NOSTR__TIMEOUT)");
}

#[test]
fn a_variable_finds_the_table_whose_name_has_a_dash() {
    let text = "backend = \"my-home\"\n[backends.my-home]\nkind = \"gossip\"\nnodes = []\n";
    let variable = variables(&[("TALKBOX_BACKENDS__MY_HOME__NODES", "https://node.example")]);
    let config = Config::load(file(text).environment(variable)).expect("loads");
    assert_eq!(entries(&config)["backends.my-home.nodes"].0, json!(["https://node.example"]));
}

#[test]
fn a_uri_is_a_backend_and_its_list() {
    let text = "[backends.home]\nkind = \"gossip\"\nnodes = [\"https://old.example\"]\n";
    let plan = |uri: &str| Config::load(file(text).flag("--backend", "backend", uri)).and_then(|c| c.plan(&registry()));
    let nostr = plan("nostr:wss://a.example,wss://b.example").expect("a plan");
    assert_eq!(nostr.members()[0].config.table()["relays"], json!(["wss://a.example", "wss://b.example"]));
    let home = plan("home:https://new.example").expect("a plan");
    assert_eq!((home.members()[0].name.as_str(), home.members()[0].def.name), ("home", "gossip"));
    assert_eq!(home.members()[0].config.table()["nodes"], json!(["https://new.example"]));
    for (uri, why) in [
        ("memory:x", "the backend `memory` takes nothing after a colon (at: --backend)"),
        ("nostr:", "nothing follows `nostr:` (at: --backend)"),
        (
            "nostrr:x",
            "there is no backend `nostrr`; did you mean `nostr`? (known: gossip, ipfs, memory, nostr, at: --backend)",
        ),
    ] {
        assert_eq!(plan(uri).expect_err(uri).to_string(), why);
    }
}

#[test]
fn a_proxy_of_all_programs_counts_where_none_is_set() {
    let all = [("all_proxy", "socks5://127.0.0.1:1"), ("ALL_PROXY", "socks5h://127.0.0.1:9050")];
    let proxy = |config: &Config| config.proxy().map(ToString::to_string);
    let config = Config::load(Sources::new().environment(variables(&all))).expect("loads");
    assert_eq!(proxy(&config).as_deref(), Some("socks5://127.0.0.1:9050"));
    assert_eq!(config.origin("proxy").to_string(), "ALL_PROXY");

    let config = Config::load(file("proxy = \"socks5://proxy.example\"").environment(variables(&all))).expect("loads");
    assert_eq!(proxy(&config).as_deref(), Some("socks5://proxy.example:1080"));
    let own = [("ALL_PROXY", "http://proxy.example"), ("TALKBOX_PROXY", "")];
    let config = Config::load(Sources::new().environment(variables(&own))).expect("an empty one means none");
    assert_eq!(proxy(&config), None);
    assert_eq!(
        refused(Sources::new().environment(variables(&own[..1]))),
        "`proxy`: a proxy is one of SOCKS5, such as `socks5://127.0.0.1:9050`; an empty one means none (at: ALL_PROXY)"
    );
}

#[test]
fn a_mistake_is_told_with_its_line_and_what_was_meant() {
    let known = "known: backend, mailbox, min_acks, retention, work, allow_private, proxy, backends";
    for (text, told) in [
        ("\nbakend = \"nostr\"", format!("there is no setting `bakend`; did you mean `backend`? (at: config.toml:2, {known})")),
        ("min_acks = \"2\"", "`min_acks` takes a whole number (at: config.toml:1)".to_owned()),
        ("min_acks = 0", "`min_acks` is a number from 1 to 64 (at: config.toml:1)".to_owned()),
        ("retention = 29", "`retention` is a number from 30 to 400 (at: config.toml:1)".to_owned()),
        ("mailbox = \"\"", "`mailbox` names a mailbox (at: config.toml:1)".to_owned()),
        ("backends = 3", "`backends` holds tables, as in `[backends.nostr]` (at: config.toml:1)".to_owned()),
        (
            "[backends]\nnostr = \"wss://a\"",
            "`backends.nostr` is a table, as in `[backends.nostr]` (at: config.toml:2)".to_owned(),
        ),
        (
            "[backends.nostr]\n\nrelay = [\"wss://a\"]",
            "there is no setting `relay`; did you mean `relays`? (at: config.toml:3, known: relays, index_relays, \
             api_token, timeout, kind, backend: nostr)"
                .to_owned(),
        ),
        (
            "[backends.home]\nkind = \"gosip\"",
            "there is no backend `gosip`; did you mean `gossip`? (known: gossip, ipfs, memory, nostr, at: config.toml:2)"
                .to_owned(),
        ),
        (
            "[backends.\"../up\"]\nkind = \"memory\"",
            "the name of a backend has at most 32 symbols of `a` to `z`, `0` to `9`, `-` and `_` (at: config.toml:2, \
             name: ../up)"
                .to_owned(),
        ),
    ] {
        assert_eq!(refused(file(text)), told);
    }
    let broken = refused(file("backend = \"nostr\"\nmin_acks = = 2"));
    assert!(broken.ends_with("(at: config.toml:2)"), "{broken}");
    let misspelt = refused(Sources::new().environment(variables(&[("TALKBOX_BAKEND", "nostr")])));
    assert_eq!(misspelt, "there is no variable `TALKBOX_BAKEND`; did you mean `TALKBOX_BACKEND`?");
}

#[test]
fn secrets_are_shown_nowhere() {
    let secret = "s3cret";
    let text = format!("[backends.nostr]\napi_token = \"{secret}\"\nrelays = [\"wss://me:{secret}@relay.example\"]\n");
    let sources = file(&text).environment(variables(&[("TALKBOX_BACKENDS__NOSTR__INDEX_RELAYS", "s3cret")]));
    assert!(!format!("{sources:?}").contains(secret));
    let config = Config::load(sources).expect("loads");
    assert!(!format!("{config:?}").contains(secret));
    assert!(!format!("{:?}", config.plan(&registry()).expect("a plan")).contains(secret));
    let entries = entries(&config);
    assert_eq!(entries["backends.nostr.api_token"].0, json!("(hidden)"));
    assert_eq!(entries["backends.nostr.relays"].0, json!(["wss://(hidden)@relay.example"]));
    // The line of a mistake is named and not quoted.
    let broken = refused(file(&format!("token = {secret}")));
    assert!(!broken.contains(secret), "{broken}");
}

mod properties {
    use proptest::prelude::*;
    use talkbox_core::config::{Config, Sources};

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(?s).{0,200}", name in "TALKBOX_[A-Z_]{0,30}", value in ".{0,40}") {
            let sources = Sources::new().file("x", text).environment([(name, value.clone())]);
            let registry = super::registry();
            let _any = Config::load(sources).and_then(|config| config.check(&registry));
            let _any = Config::load(Sources::new().flag("--backend", "backend", value)).and_then(|config| config.check(&registry));
        }

        #[test]
        fn almost_a_configuration_makes_it_tell_where(
            lines in prop::collection::vec(prop::sample::select(vec![
                "backend = \"a\"", "backend = \"nostr\"", "min_acks = 3", "[backends.a]", "[backends.b]", "mailbox = \"a\"",
                "mailbox = [\"a\", \"b\"]", "transport = \"b\"", "kind = \"gossip\"", "relays = []", "backends = 1", "[x]",
            ]), 0..8)
        ) {
            let sources = Sources::new().file("config.toml", lines.join("\n"));
            let loaded = Config::load(sources).and_then(|config| config.check(&super::registry()));
            if let Err(error) = loaded {
                prop_assert!(error.to_string().contains("config.toml:"), "{error}");
            }
        }
    }
}
