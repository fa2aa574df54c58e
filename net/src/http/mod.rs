//! HTTP/1.1 as far as backends need it: one question, one bounded answer, or an answer that goes on.

mod exchange;
mod line;
mod pool;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use talkbox_core::{Error, ErrorKind, Result};
use url::{Position, Url};

use self::pool::Pool;
use crate::{connect::Connect, endpoint::Endpoint, reach::Trust};

/// The parts of a body, as they come.
pub type Chunks = BoxStream<'static, Result<Bytes>>;

/// Asks over HTTP/1.1, on connections that are kept for the next question.
///
/// - **Everything is bounded**: heads to 100 headers and 64 KiB, bodies to what the caller allows, the whole to a
///   deadline, also where an answer drips in byte by byte.
/// - **An answer is what was answered.** No redirect is followed (it could lead to an address that nobody checked),
///   nothing is decompressed, no cookie is kept, and nothing is sent but what the request says, `Host` and
///   `Content-Length`.
/// - **One question may be asked twice.** Whoever answers may end a kept connection at the very moment at which a request
///   goes out on it. Where nothing came back, it is asked once more on a fresh connection. All that Talkbox asks for may
///   be done twice: operations are idempotent by id.
/// - **Nothing goes on unseen.** A request or a stream that is dropped ends its connection.
///
/// A clone shares the connections. They end with [`close`](Self::close), or with the last clone and the last stream.
///
/// ```
/// use std::{sync::Arc, time::Duration};
///
/// use talkbox_net::{Bounds, Http, Limits, Network, Request, Trust};
/// # use tokio::{io::{AsyncReadExt as _, AsyncWriteExt as _}, net::TcpListener};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// # let listener = TcpListener::bind("127.0.0.1:0").await?;
/// # let url: url::Url = format!("http://{}/livez", listener.local_addr()?).parse()?;
/// # tokio::spawn(async move {
/// #     let (mut stream, _) = listener.accept().await.expect("a connection");
/// #     stream.read(&mut [0; 1024]).await.expect("a request");
/// #     stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell").await.expect("it reads");
/// # });
/// let http = Http::new("node", Arc::new(Network::new(Duration::from_secs(10), None)), Bounds::default());
/// let limits = Limits { max_response_bytes: 64 * 1024, deadline: Duration::from_secs(20) };
/// let answer = http.request(Request::get(url, Trust::Configured), limits).await?;
/// assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"well"[..]));
/// http.close().await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Http {
    what: &'static str,
    pool: Arc<Pool>,
}

/// How many connections there are at once, and how long unused ones are kept.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most requests to one endpoint at once; more of them wait, which counts towards their deadline. Eight keep a node
    /// busy that verifies on a few cores, and leave it room for others.
    pub requests: usize,
    /// Most streams from one endpoint at once, beside the requests: they last long, and requests must not wait for their
    /// end. One for each mailbox that is watched, and some for large answers.
    pub streams: usize,
    /// Most unused connections that are kept for one endpoint: what goes on at once in ordinary use.
    pub idle: usize,
    /// How long an unused one is kept: the pauses within one activity, and not much more than servers wait.
    pub idle_for: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { requests: 8, streams: 32, idle: 4, idle_for: Duration::from_secs(30) }
    }
}

/// What an answer may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of the body. Where more are announced or come, it is an error and the connection ends.
    pub max_response_bytes: usize,
    /// How long all of it may take: waiting for others, connecting, sending, and the whole answer.
    pub deadline: Duration,
}

/// What an answer may cost that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// How long everything up to the body may take: waiting for others, connecting, sending, and the answer's head.
    pub head: Duration,
    /// How long it may be silent while somebody listens.
    pub idle: Duration,
    /// Most bytes of the whole body: `u64::MAX` for one without end, such as a watch.
    pub max_response_bytes: u64,
}

/// A question. What it shows of itself in logs is its method and the origin alone.
#[non_exhaustive]
#[derive(Clone)]
pub struct Request {
    /// Whom and what it asks: `https` or `http`, without a user. The fragment is not sent.
    pub url: Url,
    /// Where the URL comes from, and so where it may lead to.
    pub trust: Trust,
    /// What is to be done.
    pub method: Method,
    /// Beside `Host` and `Content-Length`, which are set by themselves.
    pub headers: HeaderMap,
    /// What is sent along.
    pub body: Bytes,
}

impl Request {
    /// One by this method, with nothing sent along.
    pub fn new(method: Method, url: Url, trust: Trust) -> Self {
        Self { url, trust, method, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// Asks for what is there.
    pub fn get(url: Url, trust: Trust) -> Self {
        Self::new(Method::GET, url, trust)
    }

    /// Hands something over.
    pub fn post(url: Url, trust: Trust, body: impl Into<Bytes>) -> Self {
        Self::new(Method::POST, url, trust).body(body)
    }

    /// With this header; another one of the same name is replaced.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, &self.url[..Position::BeforePath])
    }
}

/// An answer, whole. What it shows of itself in logs is its status and its size.
#[derive(Clone)]
pub struct Response {
    /// How it went, whatever it is: that is for the caller to judge.
    pub status: StatusCode,
    /// What was said about it.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} bytes", self.status, self.body.len())
    }
}

/// An answer of which the body is still to come.
pub struct Streamed {
    /// How it went, whatever it is: that is for the caller to judge.
    pub status: StatusCode,
    /// What was said about it.
    pub headers: HeaderMap,
    /// The body. It ends after its first error; dropping it ends the connection.
    pub chunks: Chunks,
}

impl fmt::Debug for Streamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, more to come", self.status)
    }
}

impl Http {
    /// A client without connections yet. `what` is the noun for those whom it asks, as in [`Endpoint::new`].
    pub fn new(what: &'static str, connector: Arc<dyn Connect>, bounds: Bounds) -> Self {
        Self { what, pool: Arc::new(Pool::new(connector, bounds)) }
    }

    /// Asks, and waits for the whole answer.
    ///
    /// # Errors
    /// `InvalidInput` for a URL that cannot be asked; `Unreachable`, also where the answer is not HTTP or breaks off;
    /// `Timeout`; `TooLarge` for a body or a head over the bounds; `Closed`. All but the first name the endpoint.
    pub async fn request(&self, request: Request, limits: Limits) -> Result<Response> {
        let endpoint = self.endpoint(&request)?;
        exchange::whole(&self.pool, endpoint, request, limits).await
    }

    /// Asks, and waits for the answer's head. The body comes as it comes.
    ///
    /// # Errors
    /// As [`request`](Self::request); those of the body come with it.
    pub async fn stream(&self, request: Request, limits: StreamLimits) -> Result<Streamed> {
        let endpoint = self.endpoint(&request)?;
        exchange::streamed(&self.pool, endpoint, request, limits).await
    }

    /// Ends all: connections, requests and streams, which then fail with `Closed`, as do later ones.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    fn endpoint(&self, request: &Request) -> Result<Endpoint> {
        if !matches!(request.url.scheme(), "https" | "http") {
            let why = "the URL begins with neither `https://` nor `http://`";
            return Err(Error::new(ErrorKind::InvalidInput, why));
        }
        Endpoint::new(self.what, &request.url)
    }
}
