//! libp2p over WebSockets: addresses that end in `/ws`.
//!
//! It is for a port behind a proxy that ends TLS, and for peers inside one network; there is no TLS here. The bytes of
//! the connection are the binary messages one after another, wherever those begin and end. The connection is encrypted
//! inside, as over any other transport.
//!
//! A peer that does not speak WebSocket, or speaks it wrongly, costs its own connection: the handshake has a time-out,
//! a message a greatest size, and what is not yet sent a bound.

use std::{
    error, fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use futures_util::{
    AsyncRead, AsyncWrite, FutureExt as _, Sink as _, Stream as _, TryFutureExt as _, future::BoxFuture,
};
use libp2p::{
    Multiaddr, Transport,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    multiaddr::Protocol,
};
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream, accept_async_with_config, client_async_with_config,
    tungstenite::{self, Message, error::ProtocolError, protocol::WebSocketConfig},
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};

/// What the handshake may take, from the connection on.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest message that is read. Peers send what their encryption makes, frames of up to 64 KiB.
const MAX_MESSAGE: usize = 1024 * 1024;
/// The longest message that is sent: what is written at once comes in frames of this size.
const MAX_SENT: usize = 64 * 1024;
/// Bytes that are read at once: each connection holds as many.
const READ_BUFFER: usize = 16 * 1024;
/// Bytes that are gathered before they are sent without being flushed: small messages go together.
const WRITE_BUFFER: usize = 32 * 1024;
/// Most bytes that wait to be sent: those gathered, a message, the answer to a ping, and the heads of all.
const MAX_WRITE_BUFFER: usize = WRITE_BUFFER + 2 * MAX_SENT;
/// Messages without content that are read in a row before others have their turn.
const MAX_IDLE: usize = 32;

/// A transport for `/ws` over one for what is before it, which resolves no names.
#[derive(Debug)]
pub(crate) struct WebSocket<T> {
    inner: T,
}

impl<T> WebSocket<T> {
    /// Carries WebSockets over TCP.
    pub(crate) fn over(inner: T) -> Self {
        Self { inner }
    }
}

impl<T> Transport for WebSocket<T>
where
    T: Transport + Unpin,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    type Output = Connection<T::Output>;
    type Error = Error<T::Error>;
    type ListenerUpgrade = BoxFuture<'static, Result<Self::Output, Self::Error>>;
    type Dial = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        let Some(below) = without_ws(&address) else { return Err(TransportError::MultiaddrNotSupported(address)) };
        self.inner.listen_on(id, below).map_err(|error| error.map(Error::Below))
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<Self::Error>> {
        let target = without_ws(&address).and_then(|below| Some((url_of(&below)?, below)));
        let Some((url, below)) = target else { return Err(TransportError::MultiaddrNotSupported(address)) };
        let connecting = self.inner.dial(below, options).map_err(|error| error.map(Error::Below))?;
        let dialled = async move {
            let stream = connecting.await.map_err(Error::Below)?;
            let handshake = client_async_with_config(url, stream.compat(), Some(config()));
            let (socket, _) = timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| Error::Timeout)??;
            Ok(Connection::new(socket))
        };
        Ok(dialled.boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let event = match ready!(Pin::new(&mut self.inner).poll(cx)) {
            TransportEvent::NewAddress { listener_id, listen_addr } => {
                TransportEvent::NewAddress { listener_id, listen_addr: with_ws(listen_addr) }
            }
            TransportEvent::AddressExpired { listener_id, listen_addr } => {
                TransportEvent::AddressExpired { listener_id, listen_addr: with_ws(listen_addr) }
            }
            TransportEvent::Incoming { listener_id, upgrade, local_addr, send_back_addr } => TransportEvent::Incoming {
                listener_id,
                upgrade: accept(upgrade).boxed(),
                local_addr: with_ws(local_addr),
                send_back_addr: with_ws(send_back_addr),
            },
            other => other.map_upgrade(|upgrade| accept(upgrade).boxed()).map_err(Error::Below),
        };
        Poll::Ready(event)
    }
}

async fn accept<F, S, E>(connecting: F) -> Result<Connection<S>, Error<E>>
where
    F: Future<Output = Result<S, E>> + Send,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = connecting.map_err(Error::Below).await?;
    let handshake = accept_async_with_config(stream.compat(), Some(config()));
    Ok(Connection::new(timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| Error::Timeout)??))
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER)
}

fn with_ws(address: Multiaddr) -> Multiaddr {
    address.with(Protocol::Ws("/".into()))
}

/// The address below, if it is one of a WebSocket. The peer at its end is checked elsewhere.
fn without_ws(address: &Multiaddr) -> Option<Multiaddr> {
    let mut below = address.clone();
    let mut last = below.pop()?;
    if matches!(last, Protocol::P2p(_)) {
        last = below.pop()?;
    }
    matches!(last, Protocol::Ws(path) if path == "/").then_some(below)
}

/// What is asked for in the handshake, as JavaScript peers ask.
fn url_of(below: &Multiaddr) -> Option<String> {
    let mut parts = below.iter();
    let url = match (parts.next()?, parts.next()?) {
        (Protocol::Ip4(host), Protocol::Tcp(port)) => format!("ws://{host}:{port}/"),
        (Protocol::Ip6(host), Protocol::Tcp(port)) => format!("ws://[{host}]:{port}/"),
        _ => return None,
    };
    parts.next().is_none().then_some(url)
}

/// A WebSocket as a stream of bytes.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    socket: WebSocketStream<Compat<S>>,
    /// What is left of the message that is being read.
    message: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(socket: WebSocketStream<Compat<S>>) -> Self {
        Self { socket, message: Bytes::new() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        for _ in 0..MAX_IDLE {
            if !self.message.is_empty() {
                let count = self.message.len().min(buf.len());
                self.message.copy_to_slice(&mut buf[..count]);
                return Poll::Ready(Ok(count));
            }
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(message))) => self.message = message,
                // Pings are answered below.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(0)),
                Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, "a message is not binary");
                    return Poll::Ready(Err(error));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.socket);
        // Not before what is blocked has gone, so that no more than the bound is held.
        ready!(socket.as_mut().poll_ready(cx)).map_err(broken)?;
        let sent = &buf[..buf.len().min(MAX_SENT)];
        socket.start_send(Message::Binary(Bytes::copy_from_slice(sent))).map_err(broken)?;
        Poll::Ready(Ok(sent.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(broken)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(broken)
    }
}

fn broken(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            io::ErrorKind::UnexpectedEof.into()
        }
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Error<E> {
    /// There is none below.
    Below(E),
    /// The peer took too long to shake hands.
    Timeout,
    /// The peer does not speak WebSocket here.
    Handshake(Box<tungstenite::Error>),
}

impl<E> From<tungstenite::Error> for Error<E> {
    fn from(error: tungstenite::Error) -> Self {
        Self::Handshake(Box::new(error))
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(error) => error.fmt(f),
            Self::Timeout => f.write_str("the peer took too long to open a WebSocket"),
            Self::Handshake(error) => write!(f, "the peer opened no WebSocket: {error}"),
        }
    }
}

impl<E: error::Error + 'static> error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Below(error) => error.source(),
            Self::Timeout => None,
            Self::Handshake(error) => Some(&**error),
        }
    }
}

#[cfg(test)]
mod tests;
