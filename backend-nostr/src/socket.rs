//! The one place where messages come and go: a WebSocket to a relay, behind a trait so that a test can stand in for it.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use talkbox_core::{Error, ErrorKind, Proxy, Result, async_trait};
use talkbox_net::{Connect as _, Network, Trust};
use tokio::time::timeout;
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};

use crate::relay_url::RelayUrl;

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
    /// `Unreachable`, also where the relay's name leads to an address that is closed to it; `Timeout`.
    async fn dial(&self, relay: &RelayUrl, trust: Trust) -> Result<(Outgoing, Incoming)>;
}

/// The real thing: WebSocket without redirects, over a connection of the shared crate.
#[derive(Debug)]
pub(crate) struct WebSocket {
    /// How long opening may take.
    timeout: Duration,
    network: Network,
}

impl WebSocket {
    /// Sockets that take at most so long to open, and go through this proxy.
    pub(crate) fn new(timeout: Duration, proxy: Option<Proxy>) -> Self {
        Self { timeout, network: Network::new(timeout, proxy) }
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
        let stream = self.network.connect(&relay.endpoint(), trust).await?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_write_buffer_size(MAX_WRITE_BUFFER)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let handshake = Box::pin(client_async_with_config(relay.as_str(), stream, Some(config)));
        let (socket, _) = handshake.await.map_err(|error| failed(relay, error))?;
        let (outgoing, incoming) = socket.split();
        Ok((Box::pin(Released(outgoing)), Box::pin(incoming)))
    }
}

fn failed(relay: &RelayUrl, error: tungstenite::Error) -> Error {
    let words = match &error {
        tungstenite::Error::Http(answer) => format!("the relay answers with HTTP status {}", answer.status()),
        tungstenite::Error::Io(error) => format!("no connection: {error}"),
        other => format!("no connection: {other}"),
    };
    Error::new(ErrorKind::Unreachable, words).with("relay", relay).source(error)
}

/// A sink that wakes nobody once everything is sent.
///
/// The socket remembers who wrote last, and wakes that task, too, when the next bytes come in: two tasks run where only
/// the reader has something to do, on two cores, which doubles what an exchange costs.
struct Released<S>(S);

impl<S: Sink<Message> + Unpin> Sink<Message> for Released<S> {
    type Error = S::Error;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready_unpin(context)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), S::Error> {
        self.0.start_send_unpin(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        ready!(self.0.poll_flush_unpin(context))?;
        // Nothing is left to flush: this only makes nobody the one who wrote last. Where the reader is just at the socket
        // it has to wait, and does not: then the next bytes wake one task too many.
        let _ = self.0.poll_flush_unpin(&mut Context::from_waker(Waker::noop()));
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_close_unpin(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use futures_util::FutureExt as _;
    use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn what_comes_in_wakes_the_reader_and_not_whoever_wrote_last() {
        let (near, far) = tokio::io::duplex(READ_BUFFER);
        let (near, mut far) = (
            WebSocketStream::from_raw_socket(near, Role::Client, None).await,
            WebSocketStream::from_raw_socket(far, Role::Server, None).await,
        );
        let (outgoing, mut incoming) = near.split();
        let mut outgoing = Released(outgoing);
        let (reader, writer) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        let (reads, writes) = (Waker::from(Arc::clone(&reader)), Waker::from(Arc::clone(&writer)));

        let mut sending = outgoing.send(Message::text("there"));
        assert!(sending.poll_unpin(&mut Context::from_waker(&writes)).is_ready());
        assert!(incoming.poll_next_unpin(&mut Context::from_waker(&reads)).is_pending());
        far.send(Message::text("and back")).await.expect("is sent");
        assert_eq!((reader.0.load(Ordering::SeqCst), writer.0.load(Ordering::SeqCst)), (1, 0));
        let came = incoming.next().await.expect("a message").expect("a message");
        assert_eq!(came, Message::text("and back"));
    }
}
