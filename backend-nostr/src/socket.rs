//! The one place where bytes come and go: a WebSocket to a relay, behind a trait so that a test can stand in for it.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    time::Duration,
};

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use talkbox_core::{Error, ErrorKind, Proxy, Result, async_trait};
use tokio::{net::TcpStream, time::timeout};
use tokio_socks::tcp::Socks5Stream;
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
    proxy: Option<Proxy>,
    tls: Tls,
}

impl WebSocket {
    /// Sockets that take at most so long to open, and go through this proxy.
    pub(crate) fn new(timeout: Duration, proxy: Option<Proxy>) -> Self {
        Self { timeout, proxy, tls: Tls::default() }
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
        let stream = match &self.proxy {
            Some(proxy) if !reach::is_at_home(relay, trust) => connect_by(proxy, relay, trust).await?,
            _ => connect(relay, trust).await?,
        };
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

async fn connect(relay: &RelayUrl, trust: Trust) -> Result<TcpStream> {
    let mut last = None;
    for address in reach::resolve(relay, trust).await? {
        match undelayed(TcpStream::connect(address).await) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    let error = last.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
    Err(failed(relay, tungstenite::Error::Io(error)))
}

/// The proxy gets the relay's name as it stands. Only its own name is resolved here.
async fn connect_by(proxy: &Proxy, relay: &RelayUrl, trust: Trust) -> Result<TcpStream> {
    reach::check_unresolved(relay, trust)?;
    let unreachable =
        |words: String| Error::new(ErrorKind::Unreachable, words).with("relay", relay).with("proxy", proxy);
    let stream = undelayed(TcpStream::connect((proxy.host(), proxy.port())).await)
        .map_err(|error| unreachable(format!("no connection to the proxy: {error}")).source(error))?;
    let (host, port) = relay.host_and_port();
    let asked = match host.parse::<IpAddr>() {
        Ok(address) => Socks5Stream::connect_with_socket(stream, SocketAddr::from((address, port))).await,
        Err(_) => Socks5Stream::connect_with_socket(stream, (host.as_str(), port)).await,
    };
    let through =
        asked.map_err(|error| unreachable(format!("the proxy does not lead there: {error}")).source(error))?;
    Ok(through.into_inner())
}

fn undelayed(stream: io::Result<TcpStream>) -> io::Result<TcpStream> {
    let stream = stream?;
    // An answer is awaited after each message: holding back small ones costs 40 ms each.
    stream.set_nodelay(true)?;
    Ok(stream)
}
