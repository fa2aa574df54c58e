//! A proxy in front of a relay, which does to its messages what the kit's faults say.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};
use talkbox_core::{
    Clock as _, ErrorKind, Locator, MailboxId, ManualClock, Shortcode, Target,
    event::kind,
    hex,
    testkit::{Fault, Faults, Lie},
};
use tokio::{
    net::TcpListener,
    task::{AbortHandle, JoinSet},
};

use crate::session;

/// A proxy. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) url: String,
    state: Arc<State>,
    task: AbortHandle,
}

/// What its connections share.
#[derive(Debug)]
pub(crate) struct State {
    relay: OnceLock<SocketAddr>,
    clock: ManualClock,
    fault: Mutex<Fault>,
    /// How often something came by that happens now and then.
    drawn: AtomicU64,
    records: Mutex<Vec<Passed>>,
    /// One more is held for each open subscription.
    subscription: Arc<()>,
}

/// A record that was passed on to the relay, and what is made up about it.
#[derive(Debug)]
struct Passed {
    code: Shortcode,
    author: String,
    lies: Vec<String>,
}

impl Front {
    /// One that serves nobody until it is [put before](Self::stand_before) a relay.
    pub(crate) async fn bind(clock: ManualClock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("ws://{}", listener.local_addr().expect("bound"));
        let state = Arc::new(State {
            relay: OnceLock::new(),
            clock,
            fault: Mutex::default(),
            drawn: AtomicU64::new(0),
            records: Mutex::default(),
            subscription: Arc::default(),
        });
        let task = tokio::spawn(serve(listener, Arc::clone(&state))).abort_handle();
        Self { url, state, task }
    }

    /// Passes everything on to this relay.
    pub(crate) fn stand_before(&self, relay: SocketAddr) {
        self.state.relay.set(relay).expect("once");
    }

    /// The relay, as a holder is named.
    pub(crate) fn holder(&self) -> Locator {
        Locator::new("nostr", &self.url).expect("a locator")
    }

    /// How many subscriptions are open.
    pub(crate) fn subscriptions(&self) -> usize {
        Arc::strong_count(&self.state.subscription) - 1
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    pub(crate) fn relay(&self) -> SocketAddr {
        *self.relay.get().expect("put before a relay")
    }

    pub(crate) fn fault(&self) -> Fault {
        self.fault.lock().expect("not poisoned").clone()
    }

    /// Whether something that happens so many of a hundred times happens now: evenly spread, the same in every run.
    pub(crate) fn happens(&self, percent: u8) -> bool {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        let until = |number: u64| number * u64::from(percent) / 100;
        until(drawn + 1) > until(drawn)
    }

    /// A subscription that counts as open until it is dropped.
    pub(crate) fn subscription(&self) -> Arc<()> {
        Arc::clone(&self.subscription)
    }

    /// Takes note of an event that is passed on.
    pub(crate) fn pass(&self, event: &Value) {
        let d = event["tags"].as_array().into_iter().flatten().find(|tag| tag[0] == "d");
        let code = d.and_then(|tag| tag[1].as_str()?.parse().ok());
        if let (Some(kind::RECORD), Some(code), Some(author)) =
            (event["kind"].as_u64().and_then(|kind| kind.try_into().ok()), code, event["pubkey"].as_str())
        {
            let passed = Passed { code, author: author.to_owned(), lies: Vec::new() };
            self.records.lock().expect("not poisoned").push(passed);
        }
    }

    /// Makes up what is to be told of the records that were passed on. The work that a record shows takes longer than
    /// the answer to a question may.
    fn make_up_records(&self, lies: &[Lie]) {
        let now = self.clock.now();
        for passed in &mut *self.records.lock().expect("not poisoned") {
            let tell = |lie: Lie| lie.records(&Target::Code(passed.code), now).expect("randomness");
            passed.lies = std::thread::scope(|scope| {
                let telling: Vec<_> = lies.iter().map(|lie| scope.spawn(|| tell(*lie))).collect();
                telling.into_iter().flat_map(|told| told.join().expect("no panic")).collect()
            });
        }
    }

    /// What is made up in answer to a question, as the JSON of events, or of none.
    pub(crate) fn lies(&self, filter: &Value) -> Vec<String> {
        let asked = |name: &str| filter[name][0].as_str();
        match filter["kinds"][0].as_u64().and_then(|kind| kind.try_into().ok()) {
            Some(kind::GIFT_WRAP) => {
                let owner = asked("#p").and_then(hex::decode32).map(MailboxId::from_bytes);
                let lies = self.fault().lies.into_iter();
                let told = owner.map(|owner| lies.map(move |lie| lie.envelopes(owner, self.clock.now())));
                let told = told.into_iter().flatten().flat_map(|told| told.expect("randomness"));
                told.map(|raw| named(raw.id().to_hex(), raw.json())).collect()
            }
            Some(kind::RECORD) => {
                let records = self.records.lock().expect("not poisoned");
                let is_asked_for = |passed: &&Passed| {
                    asked("#d").is_some_and(|code| code.parse().ok() == Some(passed.code))
                        || asked("authors") == Some(&*passed.author)
                };
                records.iter().filter(is_asked_for).flat_map(|passed| passed.lies.clone()).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// On this wire an event names itself: one that is listed under another id claims it.
fn named(id: String, json: &str) -> String {
    match serde_json::from_str(json) {
        Ok(Value::Object(mut event)) if event.get("id") != Some(&json!(id)) => {
            event.insert("id".to_owned(), json!(id));
            Value::Object(event).to_string()
        }
        _ => json.to_owned(),
    }
}

/// The kit's faults, on the wire of these relays.
#[derive(Debug)]
pub(crate) struct WireFaults(pub(crate) Vec<Front>);

impl Faults for WireFaults {
    fn set(&self, holder: &Locator, fault: Fault) -> bool {
        let Some(front) = self.0.iter().find(|front| front.holder() == *holder) else { return false };
        // A relay gives no cursors, and says no to a question in few ways.
        let can_be_told = !fault.lies.contains(&Lie::CursorLoop)
            && fault.refuse.as_ref().is_none_or(|(kind, _)| prefix(*kind).is_some());
        if can_be_told {
            front.state.make_up_records(&fault.lies);
            *front.state.fault.lock().expect("not poisoned") = fault;
        }
        can_be_told
    }

    fn clear(&self) {
        for front in &self.0 {
            *front.state.fault.lock().expect("not poisoned") = Fault::default();
        }
    }
}

/// What a relay puts before its words, for them to mean this.
pub(crate) const fn prefix(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::Refused => Some(""),
        ErrorKind::Denied => Some("restricted: "),
        ErrorKind::RateLimited => Some("rate-limited: "),
        _ => None,
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut sessions = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        sessions.spawn(session::run(stream, Arc::clone(&state)));
    }
}
