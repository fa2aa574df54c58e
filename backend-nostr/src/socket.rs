//! The one place where bytes come and go: a WebSocket to a relay, behind a trait so that a test can stand in for it.

use std::{fmt, pin::Pin, time::Duration};

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use talkbox_core::{Error, ErrorKind, Result, async_trait};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    Connector, client_async_tls_with_config,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};

use crate::{
    reach::{self, Trust},
    relay_url::RelayUrl,
    tls::{Tls, certificate_error},
};

/// Most bytes of a message from a relay: an event of 64 KiB fits many times over, and so does a step of a
/// reconciliation (60,000 bytes in hexadecimal, and relays that use larger ones).
const MAX_MESSAGE: usize = 1024 * 1024;
/// The buffer that is filled from the socket at once, some seven small envelopes. It is cleared before each reading, which
/// for a larger one costs more than the system calls that it saves.
const READ_BUFFER: usize = 16 * 1024;
/// What is written before it is flushed; a whole envelope fits, so that one system call sends it.
const WRITE_BUFFER: usize = 128 * 1024;
/// Where a relay does not read, sending fails here rather than fill the memory.
const MAX_WRITE_BUFFER: usize = 4 * 1024 * 1024;

/// What goes out.
pub(crate) type Outgoing = Pin<Box<dyn Sink<Message, Error = tungstenite::Error> + Send>>;
/// What comes in.
pub(crate) type Incoming = Pin<Box<dyn Stream<Item = Result<Message, tungstenite::Error>> + Send>>;

/// Opens sockets to relays.
#[async_trait]
pub(crate) trait Dial: fmt::Debug + Send + Sync + 'static {
    /// Opens one.
    ///
    /// # Errors
    /// `Unreachable`, `Timeout`; `Refused` where the relay's name leads to an address that is closed to it.
    async fn dial(&self, relay: &RelayUrl, trust: Trust) -> Result<(Outgoing, Incoming)>;
}

/// The real thing: TCP without delay, TLS by rustls, WebSocket without redirects.
#[derive(Debug)]
pub(crate) struct WebSocket {
    /// How long opening may take.
    timeout: Duration,
    tls: Tls,
}

impl WebSocket {
    /// Sockets that take at most so long to open.
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, tls: Tls::default() }
    }
}

#[async_trait]
impl Dial for WebSocket {
    async fn dial(&self, relay: &RelayUrl, trust: Trust) -> Result<(Outgoing, Incoming)> {
        timeout(self.timeout, self.open(relay, trust))
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, "the relay cannot be reached in time").with("relay", relay))?
    }
}

impl WebSocket {
    async fn open(&self, relay: &RelayUrl, trust: Trust) -> Result<(Outgoing, Incoming)> {
        let connector = if relay.is_encrypted() {
            Connector::Rustls(self.tls.config().await.map_err(|error| error.with("relay", relay))?)
        } else {
            Connector::Plain
        };
        let stream = connect(relay, trust).await.map_err(|error| match error {
            Failure::Io(error) => failed(relay, tungstenite::Error::Io(error)),
            Failure::Refused(error) => error,
        })?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_write_buffer_size(MAX_WRITE_BUFFER)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let handshake = Box::pin(client_async_tls_with_config(relay.as_str(), stream, Some(config), Some(connector)));
        let (socket, _) = handshake.await.map_err(|error| failed(relay, error))?;
        let (outgoing, incoming) = socket.split();
        Ok((Box::pin(outgoing.sink_map_err(|error| error)), Box::pin(incoming)))
    }
}

fn failed(relay: &RelayUrl, error: tungstenite::Error) -> Error {
    let unreachable = |words: String| Error::new(ErrorKind::Unreachable, words);
    let told = match &error {
        tungstenite::Error::Http(answer) => {
            unreachable(format!("the relay answers with HTTP status {}", answer.status()))
        }
        tungstenite::Error::Io(error) => {
            certificate_error(error).unwrap_or_else(|| unreachable(format!("no connection: {error}")))
        }
        other => unreachable(format!("no connection: {other}")),
    };
    told.with("relay", relay).source(error)
}

enum Failure {
    Io(std::io::Error),
    Refused(Error),
}

async fn connect(relay: &RelayUrl, trust: Trust) -> Result<TcpStream, Failure> {
    let mut last = None;
    for address in reach::resolve(relay, trust).await.map_err(Failure::Refused)? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // An answer is awaited after each message: holding back small ones costs 40 ms each.
                stream.set_nodelay(true).map_err(Failure::Io)?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(Failure::Io(last.unwrap_or_else(|| std::io::ErrorKind::AddrNotAvailable.into())))
}
