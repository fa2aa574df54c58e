//! What is behind a connection: the socket, who waits for what, and the two tasks.
//!
//! One task reads and hands out what comes. Another sends what nobody waits for (CLOSE, pings), so that the reader never
//! writes: two sides that both wait for the other to read would wait for ever.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use talkbox_core::ErrorKind;
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    routes::{Lost, Routed, Routes},
    socket::{Incoming, Outgoing},
    verdict::cut,
    wire,
};

/// Messages that nobody waits for. When it is full they are dropped: a CLOSE that is not sent costs strays.
const ASIDES: usize = 64;
/// How often the connection is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// After so long a silence the relay is pinged. Proxies commonly cut what is silent for 60 s.
const PING_AFTER: Duration = Duration::from_secs(30);
/// After so long a silence, two pings included, the relay is gone.
const DEAD_AFTER: Duration = Duration::from_secs(75);
/// A connection that nobody uses is closed after so long.
const IDLE_AFTER: Duration = Duration::from_secs(120);
/// How long a farewell or an aside may take.
const ASIDE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the tasks and the subscriptions share with the connection.
pub(crate) struct Line {
    outgoing: tokio::sync::Mutex<Outgoing>,
    routes: Mutex<Routes>,
    asides: mpsc::Sender<String>,
    /// The latest challenge.
    pub(crate) challenge: watch::Sender<Option<Arc<str>>>,
    /// Whether the latest challenge was answered.
    pub(crate) is_proven: AtomicBool,
    born: Instant,
    /// When it was last used and when something last came, in milliseconds after `born`.
    used: AtomicU64,
    heard: AtomicU64,
}

impl Line {
    /// Takes over a socket, and starts the tasks.
    pub(crate) fn open((outgoing, incoming): (Outgoing, Incoming)) -> (Arc<Self>, [AbortHandle; 2]) {
        let (asides, queue) = mpsc::channel(ASIDES);
        let line = Arc::new(Self {
            outgoing: tokio::sync::Mutex::new(outgoing),
            routes: Mutex::new(Routes::new()),
            asides,
            challenge: watch::channel(None).0,
            is_proven: AtomicBool::new(false),
            born: Instant::now(),
            used: AtomicU64::new(0),
            heard: AtomicU64::new(0),
        });
        let tasks = [
            tokio::spawn(read(Arc::clone(&line), incoming)).abort_handle(),
            tokio::spawn(tend(Arc::clone(&line), queue)).abort_handle(),
        ];
        (line, tasks)
    }

    /// When it was last used.
    pub(crate) fn last_used(&self) -> Instant {
        self.born + Duration::from_millis(self.used.load(Ordering::Relaxed))
    }

    /// Says goodbye, if the relay still reads.
    pub(crate) async fn say_goodbye(&self) {
        let farewell = async { self.outgoing.lock().await.send(Message::Close(None)).await };
        let _ = timeout(ASIDE_TIMEOUT, farewell).await;
    }

    pub(crate) fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn use_routes(&self) -> MutexGuard<'_, Routes> {
        self.touch();
        self.routes()
    }

    pub(crate) fn touch(&self) {
        self.used.store(self.millis(), Ordering::Relaxed);
    }

    fn millis(&self) -> u64 {
        // Wraps after half a billion years.
        self.born.elapsed().as_millis() as u64
    }

    pub(crate) fn end(&self, why: Lost) {
        self.routes().end(why);
    }

    pub(crate) fn lost(&self) -> Lost {
        let ended_by_relay = || Lost::new(ErrorKind::Unreachable, "the relay ended the subscription");
        self.routes().lost().cloned().unwrap_or_else(ended_by_relay)
    }

    pub(crate) async fn send(&self, message: String) -> Result<(), Lost> {
        let sent = self.outgoing.lock().await.send(Message::text(message)).await;
        sent.map_err(|error| {
            self.end(Lost::new(ErrorKind::Unreachable, format!("the connection is lost: {error}")));
            self.lost()
        })
    }

    pub(crate) fn aside(&self, message: String) {
        // See `ASIDES`.
        let _ = self.asides.try_send(message);
    }

    /// Takes what the relay says; `Some` where the connection has to end for it.
    fn take(&self, text: &str) -> Option<Lost> {
        let routed = match wire::Incoming::parse(text) {
            Ok(wire::Incoming::Auth(challenge)) => {
                self.is_proven.store(false, Ordering::Release);
                self.challenge.send_replace(Some((&*challenge).into()));
                self.routes().stray(text.len())
            }
            Ok(message) => {
                if let wire::Incoming::Notice(words) = &message {
                    tracing::debug!(words = %cut(words).escape_debug(), "notice of a relay");
                }
                self.routes().route(message, text.len())
            }
            Err(_) => self.routes().stray(text.len()),
        };
        self.heed(routed)
    }

    fn heed(&self, routed: Routed) -> Option<Lost> {
        match routed {
            Routed::Taken => None,
            Routed::Overrun(id) => {
                self.aside(wire::close(id));
                None
            }
            Routed::Flood => Some(Lost::new(ErrorKind::Refused, "the relay sends too much that nobody asked for")),
        }
    }
}

/// Reads until the end.
async fn read(line: Arc<Line>, mut incoming: Incoming) {
    let why = loop {
        // One buffer of the socket can hold hundreds of messages: let those who wait for them run.
        tokio::task::coop::consume_budget().await;
        let message = incoming.next().await;
        line.heard.store(line.millis(), Ordering::Relaxed);
        let end = match message {
            Some(Ok(Message::Text(text))) => line.take(text.as_str()),
            Some(Ok(Message::Binary(bytes))) => {
                let routed = line.routes().stray(bytes.len());
                line.heed(routed)
            }
            Some(Ok(Message::Close(frame))) => {
                let words = frame.map(|frame| format!(" ({} {})", frame.code, cut(&frame.reason)));
                Some(Lost::new(
                    ErrorKind::Unreachable,
                    format!("the relay closed the connection{}", words.unwrap_or_default()),
                ))
            }
            Some(Ok(_)) => None,
            Some(Err(error)) => Some(Lost::new(ErrorKind::Unreachable, format!("the connection is lost: {error}"))),
            None => Some(Lost::new(ErrorKind::Unreachable, "the relay closed the connection")),
        };
        if let Some(why) = end {
            break why;
        }
    };
    line.end(why);
}

/// Sends what nobody waits for, pings, and notices the end of a relay that has gone without a word.
async fn tend(line: Arc<Line>, mut asides: mpsc::Receiver<String>) {
    loop {
        tokio::select! {
            aside = asides.recv() => {
                let Some(aside) = aside else { return };
                if timeout(ASIDE_TIMEOUT, line.send(aside)).await.is_err() {
                    tracing::debug!("a relay does not read");
                }
            }
            () = sleep(LOOK_EVERY) => {
                let now = line.millis();
                let since = |then: &AtomicU64| Duration::from_millis(now.saturating_sub(then.load(Ordering::Relaxed)));
                let silent = since(&line.heard);
                if silent >= DEAD_AFTER {
                    line.end(Lost::new(ErrorKind::Unreachable, "the relay went silent"));
                } else if since(&line.used) >= IDLE_AFTER && line.routes().is_idle() {
                    line.end(Lost::new(ErrorKind::Unreachable, "closed after long disuse"));
                } else if silent >= PING_AFTER {
                    let ping = async { line.outgoing.lock().await.send(Message::Ping(Vec::new().into())).await };
                    // What fails here shows as silence.
                    let _ = timeout(ASIDE_TIMEOUT, ping).await;
                }
            }
        }
        if line.routes().lost().is_some() {
            return;
        }
    }
}
