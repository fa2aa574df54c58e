//! One connection that speaks HTTP/1.1, and one question on it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{Builder, SendRequest},
};
use hyper_util::rt::TokioIo;
use talkbox_core::{Error, ErrorKind, Result};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use crate::{connect::ByteStream, endpoint::Endpoint};

/// Most headers of an answer. Ordinary ones have some ten, those behind a few proxies some thirty.
const MAX_HEADERS: usize = 100;
/// Most bytes of an answer's head, and of what is read at once: as much as a server with long policies and cookies sends,
/// many times over.
const MAX_HEAD: usize = 64 * 1024;
/// How long a connection may take to be ready again once its answer is whole. It is ready at once, but for a server that
/// answered without reading all of the request: such a connection is not worth the wait.
const SETTLES_IN: Duration = Duration::from_millis(50);

/// The request as it is sent.
pub(super) type Question = http::Request<Full<Bytes>>;
/// The answer, with its body still on the line.
pub(super) type Answer = http::Response<Incoming>;

/// A connection. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Line {
    sender: SendRequest<Full<Bytes>>,
    /// Bytes that have come in.
    received: Arc<AtomicU64>,
    _driver: Ended,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// Not one byte came back.
    pub(super) unheard: bool,
}

impl Line {
    /// Speaks HTTP on an open connection. What moves its bytes runs among these tasks.
    ///
    /// # Errors
    /// `Unreachable`.
    pub(super) async fn open(
        endpoint: &Endpoint,
        stream: ByteStream,
        tasks: impl FnOnce(Driver) -> AbortHandle,
    ) -> Result<Self> {
        let received = Arc::<AtomicU64>::default();
        let counted = Counted { stream, received: Arc::clone(&received) };
        let mut http = Builder::new();
        http.max_headers(MAX_HEADERS).max_header_size(MAX_HEAD).max_buf_size(MAX_HEAD);
        let (sender, connection) =
            http.handshake(TokioIo::new(counted)).await.map_err(|error| failed(endpoint, error))?;
        let driver = tasks(Box::pin(async move {
            if let Err(error) = connection.await {
                // Whoever is waiting for an answer is told, too.
                tracing::trace!(%error, "a connection ended");
            }
        }));
        Ok(Self { sender, received, _driver: Ended(driver) })
    }

    /// Asks.
    pub(super) async fn ask(&mut self, endpoint: &Endpoint, question: Question) -> Result<Answer, Failure> {
        let before = self.received.load(Ordering::Acquire);
        self.sender.send_request(question).await.map_err(|error| Failure {
            error: failed(endpoint, error),
            unheard: self.received.load(Ordering::Acquire) == before,
        })
    }

    /// The line, ready for the next question, once the last answer is whole; `None` where it has ended.
    pub(super) async fn settled(mut self) -> Option<Self> {
        let ready = timeout(SETTLES_IN, self.sender.ready()).await;
        matches!(ready, Ok(Ok(()))).then_some(self)
    }

    /// Whether it can be asked on, as far as is known here.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }
}

/// What moves the bytes of a connection.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A task that ends with this.
#[derive(Debug)]
pub(super) struct Ended(pub(super) AbortHandle);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts a task among others, and forgets those that have ended.
pub(super) fn spawn(tasks: &mut JoinSet<()>, driver: Driver) -> AbortHandle {
    while tasks.try_join_next().is_some() {}
    tasks.spawn(driver)
}

/// What went wrong on the line.
pub(super) fn failed(endpoint: &Endpoint, error: hyper::Error) -> Error {
    let what = endpoint.what();
    let told = if error.is_parse_too_large() {
        endpoint.error(ErrorKind::TooLarge, format!("the {what}'s answer begins with too many or too long headers"))
    } else if error.is_parse() {
        endpoint.error(ErrorKind::Unreachable, format!("the {what} does not answer by the rules of HTTP: {error}"))
    } else {
        endpoint.error(ErrorKind::Unreachable, format!("the {what}'s answer broke off: {error}"))
    };
    told.source(error)
}

/// A stream that counts what comes in: only so is it known whether a request was heard.
struct Counted {
    stream: ByteStream,
    received: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        self.received.fetch_add((into.filled().len() - before) as u64, Ordering::AcqRel);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
