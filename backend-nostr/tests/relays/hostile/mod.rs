//! A small relay that does what a script says: honest by default, and hostile in one way at a time.

mod session;

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::broadcast,
    task::JoinSet,
};

/// What a relay does to the questions and events that it gets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) writes: Writes,
    pub(crate) reads: Reads,
    pub(crate) gate: Gate,
    /// It sends its challenge with the first refusal, and not at once.
    pub(crate) challenges_late: bool,
    pub(crate) negentropy: Negentropy,
    /// It gives so many events for one question, whatever the question says.
    pub(crate) cap: Option<usize>,
    /// It says `finish` or `more` at the end of a page (NIP-67).
    pub(crate) says_finish: bool,
    /// It says yes to deletions and keeps what it has.
    pub(crate) keeps_deleted: bool,
}

/// What it does with an event.
#[derive(Clone, Debug, Default)]
pub(crate) enum Writes {
    #[default]
    Take,
    /// It says no, in these words.
    Refuse(&'static str),
    /// It says no to what is dated before this time.
    RefuseBefore(u64),
    /// It says yes and forgets.
    OkButDrop,
    /// It says nothing.
    Never,
    /// It says nothing to anything on a connection once it got this event.
    Poisoned(String),
    /// It ends the connection when it gets this event.
    CloseOn(String),
    /// It ends the connection at each event.
    Close,
}

/// What it does with a question.
#[derive(Clone, Debug, Default)]
pub(crate) enum Reads {
    #[default]
    Honest,
    /// It sends this before each answer.
    Preface(Vec<Frame>),
    /// It sends so many messages of garbage before each answer.
    Babble(usize),
    /// It sends these events in answer to everything, and nothing else.
    Invent(Vec<Value>),
    /// It sends events without end and never says that it is done.
    Flood,
    /// It sends this many events of the answer, and then the end of the connection.
    CloseAfter(usize),
    /// It sends all and never says that it is done.
    NeverEose,
    /// It says that it is done, and has sent nothing.
    EarlyEose,
    /// It says nothing.
    Never,
    /// It refuses, in these words.
    Closed(&'static str),
    /// It ignores `limit`, and sends in no order.
    Disorder,
}

/// Something that is sent as it is.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    Text(String),
    Binary(Vec<u8>),
}

/// Who may read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Gate {
    #[default]
    Open,
    /// Envelopes only to whom they concern; others are told.
    Reads,
    /// Envelopes only to whom they concern; others are told nothing and get nothing.
    ReadsSilently,
    /// Events only from somebody.
    Writes,
}

/// How it answers to reconciliation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Negentropy {
    #[default]
    Speaks,
    Silence,
    Notice(&'static str),
    Error(&'static str),
    Closed(&'static str),
    Garbage,
}

/// A running relay. Dropping it ends it.
pub(crate) struct Relay {
    pub(crate) url: String,
    address: SocketAddr,
    state: Arc<State>,
    tasks: JoinSet<()>,
}

struct State {
    script: Mutex<Script>,
    events: Mutex<Vec<Value>>,
    news: broadcast::Sender<Value>,
    kick: broadcast::Sender<()>,
    connections: AtomicUsize,
    heard: Mutex<Vec<Value>>,
}

impl Relay {
    /// An honest one.
    pub(crate) async fn honest() -> Self {
        Self::scripted(Script::default()).await
    }

    /// One that follows a script.
    pub(crate) async fn scripted(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let state = Arc::new(State {
            script: Mutex::new(script),
            events: Mutex::default(),
            news: broadcast::channel(4096).0,
            kick: broadcast::channel(4).0,
            connections: AtomicUsize::new(0),
            heard: Mutex::default(),
        });
        let address = listener.local_addr().expect("bound");
        let mut relay = Self { url: format!("ws://{address}"), address, state, tasks: JoinSet::new() };
        relay.serve(listener);
        relay
    }

    fn serve(&mut self, listener: TcpListener) {
        let state = Arc::clone(&self.state);
        self.tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                state.connections.fetch_add(1, Ordering::SeqCst);
                sessions.spawn(session::run(stream, Arc::clone(&state)));
            }
        });
    }

    /// Ends all connections and takes no more.
    pub(crate) async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Runs again, on the same port and with the same events.
    pub(crate) fn start(&mut self) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket.bind(self.address).expect("its old port");
        self.serve(socket.listen(64).expect("listens"));
    }

    /// Ends all connections.
    pub(crate) fn kick(&self) {
        let _ = self.state.kick.send(());
    }

    /// Follows another script from now on.
    pub(crate) fn follow(&self, script: Script) {
        *self.state.script.lock().expect("not poisoned") = script;
    }

    /// Stores an event without being asked.
    pub(crate) fn plant(&self, json: &str) {
        self.state.events.lock().expect("not poisoned").push(serde_json::from_str(json).expect("JSON"));
    }

    /// Forgets all events.
    pub(crate) fn wipe(&self) {
        self.state.events.lock().expect("not poisoned").clear();
    }

    /// The ids of what it stores.
    pub(crate) fn ids(&self) -> HashSet<String> {
        let events = self.state.events.lock().expect("not poisoned");
        events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Every message of this kind that it got.
    pub(crate) fn heard(&self, label: &str) -> Vec<Value> {
        self.state.heard.lock().expect("not poisoned").iter().filter(|message| message[0] == label).cloned().collect()
    }
}
