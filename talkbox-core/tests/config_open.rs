//! What a configuration leads to: which instances, which halves, each opened once.

mod layers_fakes;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use layers_fakes::{Calls, Fake, envelopes};
use talkbox_core::{
    Backend, BackendConfig, BackendDef, Error, ErrorKind, Mailbox, OpenContext, PutOptions, Registry, Result,
    Transport,
    config::{Config, Plan, Sources},
    layers::Stack,
};

/// Opens a fake of both halves under the name of the instance.
fn open_both(config: &BackendConfig, context: &OpenContext) -> Result<Backend> {
    let opened = Arc::new(Fake::new(&context.name, &["test"], &["test:a"]));
    if config.table().contains_key("fails") {
        return Err(Error::new(ErrorKind::ConfigInvalid, "cannot be").with("key", "fails"));
    }
    Ok(Backend::new(Arc::clone(&opened) as Arc<dyn Mailbox>, opened as Arc<dyn Transport>))
}

fn def(name: &'static str, schemes: &'static [&'static str]) -> BackendDef {
    BackendDef {
        name,
        about: "for tests",
        schemes,
        uri_key: Some("at"),
        keys: &["at", "fails"],
        list_keys: &[],
        open: |config, context| Box::pin(std::future::ready(open_both(&config, &context))),
    }
}

fn registry() -> Registry {
    let store = BackendDef {
        open: |_, context| {
            Box::pin(
                async move { Ok(Backend::of_mailbox(Arc::new(Fake::new(&context.name, &["store"], &["store:a"])))) },
            )
        },
        ..def("store", &["store"])
    };
    let find = BackendDef {
        open: |_, context| {
            Box::pin(async move { Ok(Backend::of_transport(Arc::new(Fake::new(&context.name, &["find"], &[])))) })
        },
        ..def("find", &["find"])
    };
    let hang = BackendDef { open: |_, _| Box::pin(std::future::pending()), ..def("hang", &["hang"]) };
    Registry::new().with(def("nostr", &["nostr"])).with(def("gossip", &["gossip"])).with(store).with(find).with(hang)
}

fn load(backend: &str, text: &str) -> Config {
    Config::load(Sources::new().file("c.toml", text).flag("--backend", "backend", backend)).expect("loads")
}

fn plan(backend: &str, text: &str) -> Result<Plan> {
    load(backend, text).plan(&registry())
}

fn names(plan: &Plan) -> (Vec<&str>, Vec<&str>, Vec<&str>) {
    let members = plan.members().iter().map(|member| member.name.as_str()).collect();
    (members, plan.mailboxes().iter().map(String::as_str).collect(), plan.transports().collect())
}

const COMPOSITIONS: &str = r#"
[backends.home]
kind = "gossip"

[backends.hybrid]
mailbox = "store"
transport = "nostr"

[backends.everywhere]
mailbox = ["nostr", "home", "store"]

[backends.both]
mailbox = ["hybrid", "everywhere"]
"#;

#[test]
fn a_composition_is_its_halves_each_instance_once() {
    let plan_of = |name| plan(name, COMPOSITIONS).expect("a plan");
    assert_eq!(names(&plan_of("nostr")), (vec!["nostr"], vec!["nostr"], vec!["nostr"]));
    assert_eq!(names(&plan_of("hybrid")), (vec!["store", "nostr"], vec!["store"], vec!["nostr"]));
    let all = vec!["nostr", "home", "store"];
    assert_eq!(names(&plan_of("everywhere")), (all.clone(), all.clone(), all));
    let both = plan_of("both");
    let stores = vec!["store", "nostr", "home"];
    assert_eq!(names(&both), (stores.clone(), stores, vec!["nostr", "home", "store"]));
    assert_eq!(both.members()[2].def.name, "gossip");
}

#[test]
fn a_composition_of_the_program_needs_no_table() {
    let registry = || registry().with_composition("hybrid", "store", "nostr");
    let plan = |backend, text| load(backend, text).plan(&registry());
    let none = plan("hybrid", "").expect("a plan");
    assert_eq!(names(&none), (vec!["store", "nostr"], vec!["store"], vec!["nostr"]));
    // Its halves have the settings of their tables, and it may be a half itself.
    let settings = "[backends.nostr]\nat = [\"a\"]\n[backends.more]\nmailbox = [\"hybrid\", \"gossip\"]\n";
    let more = plan("more", settings).expect("a plan");
    assert_eq!(names(&more).1, ["store", "gossip"]);
    let nostr = more.members().iter().find(|member| member.name == "nostr").expect("a member");
    assert!(nostr.config.table().contains_key("at"));
    // A table of its name is what the user wants instead.
    let own = plan("hybrid", "[backends.hybrid]\nmailbox = \"gossip\"\ntransport = \"find\"\n").expect("a plan");
    assert_eq!(names(&own), (vec!["gossip", "find"], vec!["gossip"], vec!["find"]));
    let after_colon = plan("hybrid:a", "").expect_err("no list");
    assert!(after_colon.to_string().contains("takes nothing after a colon"), "{after_colon}");
    let nearly = plan("hybird", "").expect_err("no name");
    assert!(nearly.to_string().contains("did you mean `hybrid`?"), "{nearly}");
    // What is not in use is not in force.
    let shown = |backend: &str| {
        let entries = load(backend, "").entries(&registry()).expect("entries");
        entries.iter().filter(|entry| entry.key.starts_with("backends.hybrid.")).count()
    };
    assert_eq!((shown("nostr"), shown("hybrid")), (0, 2));
}

#[test]
fn what_leads_nowhere_is_refused_with_its_line() {
    for (backend, text, told) in [
        ("a", "[backends.a]\nmailbox = \"a\"", "the composition `a` contains itself: a → a (at: c.toml:2)"),
        (
            "a",
            "[backends.a]\nmailbox = [\"store\", \"b\"]\n[backends.b]\nmailbox = \"a\"",
            "the composition `a` contains itself: a → b → a (at: c.toml:4)",
        ),
        (
            "a",
            "[backends.a]\nmailbox = \"store\"\ntransport = \"nostrr\"",
            "there is no backend `nostrr`; did you mean `nostr`? (known: a, find, gossip, hang, nostr, store, at: c.toml:3)",
        ),
        (
            "evrywhere",
            "[backends.everywhere]\nmailbox = \"store\"",
            "there is no backend `evrywhere`; did you mean `everywhere`? (known: everywhere, find, gossip, hang, \
             nostr, store, at: --backend)",
        ),
        (
            "a",
            "[backends.a]\nmailbox = \"store\"\nat = []",
            "`a` is a composition, since it has a `mailbox`: it has no setting `at` (at: c.toml:3)",
        ),
        ("a", "[backends.a]\nmailbox = 3", "`mailbox` takes the name of a backend or a list of names (at: c.toml:2)"),
        ("a", "[backends.a]\nmailbox = []", "`mailbox` takes the name of a backend or a list of names (at: c.toml:2)"),
    ] {
        assert_eq!(plan(backend, text).expect_err(told).to_string(), told);
    }
    let many: String = (0..17).map(|at| format!("[backends.n{at}]\nkind = \"store\"\n")).collect();
    let list: Vec<_> = (0..17).map(|at| format!("\"n{at}\"")).collect();
    let text = format!("{many}[backends.all]\nmailbox = [{}]", list.join(", "));
    assert!(
        plan("all", &text).expect_err("too many").to_string().starts_with("a composition leads to at most 16 backends")
    );
}

/// The key of a mailbox proves itself to these: also to the relays on which one only finds others and hears hints.
#[tokio::test]
async fn the_holders_are_those_of_every_instance_that_is_opened() {
    let holders = async |name| {
        let opened =
            plan(name, COMPOSITIONS).expect("a plan").open(&Stack::default(), |name| OpenContext::new(name)).await;
        opened.expect("opens").holders().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(holders("nostr").await, ["test:a"]);
    assert_eq!(holders("hybrid").await, ["store:a", "test:a"]);
    assert_eq!(holders("everywhere").await, ["test:a", "store:a"], "each once");
}

#[tokio::test]
async fn each_instance_is_opened_once_and_closed() {
    let plan = plan("both", COMPOSITIONS).expect("a plan");
    let opened_names = AtomicUsize::new(0);
    let opened = plan
        .open(&Stack::default(), |name| {
            opened_names.fetch_add(1, Ordering::SeqCst);
            OpenContext::new(name)
        })
        .await
        .expect("opens");
    assert_eq!(opened_names.load(Ordering::SeqCst), 3);
    let mailboxes: Vec<_> = opened.mailboxes.iter().map(|(name, _)| name.as_str()).collect();
    let transports: Vec<_> = opened.transports.iter().map(|(name, _)| name.as_str()).collect();
    // `store` has no transport, and nobody asked for one by name.
    assert_eq!((mailboxes, transports), (vec!["store", "nostr", "home"], vec!["nostr", "home"]));
    // The layers are there, and count each instance apart.
    let answers = opened.mailboxes[0].1.put(&envelopes(2, 1), PutOptions::default()).await;
    assert!(answers.iter().all(Result::is_ok));
    let counted: Vec<_> =
        opened.metrics.iter().map(|(name, metrics)| (name.as_str(), metrics.snapshot().envelopes_out)).collect();
    assert_eq!(counted, [("store", 2), ("nostr", 0), ("home", 0)]);
    opened.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_opened_is_told_with_its_place() {
    let open = async |backend: &str, text: &str| {
        let opened = plan(backend, text).expect("a plan").open(&Stack::default(), |name| OpenContext::new(name)).await;
        opened.expect_err("does not open")
    };
    let no_transport = open("a", "[backends.a]\nmailbox = \"nostr\"\ntransport = \"store\"").await;
    assert_eq!(no_transport.to_string(), "the backend `store` has no transport (at: c.toml:3)");
    let no_mailbox = open("find", "").await;
    assert_eq!(no_mailbox.to_string(), "the backend `find` has no mailbox (at: --backend)");
    let fails = open("nostr", "[backends.nostr]\nat = []\nfails = 1").await;
    assert_eq!(fails.to_string(), "open: cannot be (key: fails, backend: nostr, at: c.toml:3)");
    assert_eq!(open("hang", "").await.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn the_others_are_closed_when_one_does_not_open() {
    use std::sync::Mutex;
    static OPENED: Mutex<Vec<Arc<Fake>>> = Mutex::new(Vec::new());
    let remembered = BackendDef {
        open: |_, context| {
            Box::pin(async move {
                let fake = Arc::new(Fake::new(&context.name, &["test"], &[]));
                OPENED.lock().expect("not poisoned").push(Arc::clone(&fake));
                Ok(Backend::of_mailbox(fake))
            })
        },
        ..def("remembered", &["test"])
    };
    let registry = registry().with(remembered);
    let config = load("a", "[backends.a]\nmailbox = [\"remembered\", \"nostr\"]\n[backends.nostr]\nfails = 1");
    let opened = config.plan(&registry).expect("a plan").open(&Stack::default(), |name| OpenContext::new(name)).await;
    assert_eq!(opened.expect_err("fails").kind(), ErrorKind::ConfigInvalid);
    let closed: Vec<_> = OPENED.lock().expect("not poisoned").iter().map(|fake| Calls::of(&fake.calls.close)).collect();
    assert_eq!(closed, [1]);
}

#[test]
fn a_foreign_scheme_finds_its_instance_or_its_kind() {
    let config = load("nostr", COMPOSITIONS);
    let plan = |scheme| config.plan_for_scheme(scheme, &registry()).expect("valid");
    assert_eq!(names(&plan("gossip").expect("a kind")).0, ["home"]);
    assert_eq!(names(&plan("store").expect("a kind")).0, ["store"]);
    assert!(plan("unknown").is_none());
}
