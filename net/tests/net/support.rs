//! A server that does as it is told, and what tests say to it.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use talkbox_core::{Result, async_trait};
use talkbox_net::{Bounds, ByteStream, Connect, Endpoint, Http, Limits, Network, Request, StreamLimits, Trust};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, duplex},
    net::TcpListener,
    sync::{Notify, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use url::Url;

/// Long enough for anything that is to happen, on a busy computer, too.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a server does after it has read a request.
#[derive(Clone)]
pub(crate) enum Step {
    /// Sends this.
    Say(Vec<u8>),
    /// Sends this, a byte at a time, with a pause before each.
    Drip(Vec<u8>, Duration),
    /// Waits so long.
    Pause(Duration),
    /// Waits until the test says so.
    Await(Arc<Notify>),
    /// Does nothing more until the client ends the connection.
    Hang,
    /// Ends the connection.
    Close,
}

pub(crate) fn say(text: impl AsRef<[u8]>) -> Step {
    Step::Say(text.as_ref().to_vec())
}

/// An answer with its length before it.
pub(crate) fn answer(body: &str) -> Step {
    say(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

/// The head of an answer in chunks, and one of them.
pub(crate) const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

pub(crate) fn chunk(body: &str) -> Step {
    say(format!("{:x}\r\n{body}\r\n", body.len()))
}

/// What a server was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The how manieth request it is, from 0, on all connections.
    pub(crate) number: usize,
    /// The how manieth connection it came by, from 0.
    pub(crate) connection: usize,
    /// The request line and the headers, as they came.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

type Script = dyn Fn(&Asked) -> Vec<Step> + Send + Sync;

/// What a server has seen.
pub(crate) struct Seen {
    script: Box<Script>,
    accepted: AtomicUsize,
    asked: Mutex<Vec<Asked>>,
    /// Connections that have ended, by whichever side.
    ended: watch::Sender<usize>,
    /// Requests that are being answered now, and the most that there were at once.
    busy: Mutex<(usize, usize)>,
}

impl Seen {
    fn new(script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            accepted: AtomicUsize::new(0),
            asked: Mutex::default(),
            ended: watch::channel(0).0,
            busy: Mutex::default(),
        })
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("not poisoned").clone()
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.busy.lock().expect("not poisoned").1
    }

    /// Waits until so many connections have ended.
    pub(crate) async fn ended(&self, number: usize) {
        let mut ended = self.ended.subscribe();
        let wait = ended.wait_for(|ended| *ended >= number);
        let _ended = timeout(PATIENCE, wait).await.expect("they end").expect("it is kept");
    }

    /// Connections that have ended up to now.
    pub(crate) fn ended_yet(&self) -> usize {
        *self.ended.borrow()
    }

    pub(crate) async fn serve(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let connection = self.accepted.fetch_add(1, Ordering::SeqCst);
        // Whatever goes wrong here, the client has gone.
        let _gone = self.serve_all(connection, stream).await;
        self.ended.send_modify(|ended| *ended += 1);
    }

    async fn serve_all(&self, connection: usize, stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let (head, body) = read_request(&mut stream).await?;
            let asked = {
                let mut all = self.asked.lock().expect("not poisoned");
                let asked = Asked { number: all.len(), connection, head, body };
                all.push(asked.clone());
                asked
            };
            let _busy = Busy::new(self);
            for step in (self.script)(&asked) {
                match step {
                    Step::Say(bytes) => stream.write_all(&bytes).await?,
                    Step::Drip(bytes, pause) => {
                        for byte in bytes {
                            sleep(pause).await;
                            stream.write_all(&[byte]).await?;
                        }
                    }
                    Step::Pause(pause) => sleep(pause).await,
                    Step::Await(notify) => notify.notified().await,
                    Step::Hang => while stream.read(&mut [0; 1_024]).await? > 0 {},
                    Step::Close => return Ok(()),
                }
                stream.flush().await?;
            }
        }
    }
}

struct Busy<'a>(&'a Seen);

impl<'a> Busy<'a> {
    fn new(seen: &'a Seen) -> Self {
        let mut busy = seen.busy.lock().expect("not poisoned");
        busy.0 += 1;
        busy.1 = busy.1.max(busy.0);
        drop(busy);
        Self(seen)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.lock().expect("not poisoned").0 -= 1;
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).expect("text");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
    stream.read_exact(&mut body).await?;
    Ok((head, body))
}

/// A server on loopback.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    _task: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let seen = Seen::new(script);
        let mut task = JoinSet::new();
        let serving = Arc::clone(&seen);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(Arc::clone(&serving).serve(stream));
            }
        });
        Self { address, seen, _task: task }
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.address).parse().expect("a URL")
    }
}

/// A server in memory, to which every name leads: there time is virtual.
pub(crate) struct Memory {
    pub(crate) seen: Arc<Seen>,
    servers: Mutex<JoinSet<()>>,
}

impl Memory {
    pub(crate) fn new(script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { seen: Seen::new(script), servers: Mutex::default() })
    }
}

#[async_trait]
impl Connect for Memory {
    async fn connect(&self, _: &Endpoint, _: Trust) -> Result<ByteStream> {
        let (near, far) = duplex(16 * 1024);
        self.servers.lock().expect("not poisoned").spawn(Arc::clone(&self.seen).serve(far));
        Ok(Box::new(near))
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}

pub(crate) fn network() -> Network {
    Network::new(PATIENCE, None)
}

/// A client on the real network.
pub(crate) fn http() -> Http {
    Http::new("node", Arc::new(network()), Bounds::default())
}

/// A client of a server in memory.
pub(crate) fn http_in(memory: &Arc<Memory>, bounds: Bounds) -> Http {
    Http::new("node", Arc::<Memory>::clone(memory), bounds)
}

pub(crate) const LIMITS: Limits = Limits { max_response_bytes: 1_000, deadline: PATIENCE };

pub(crate) const STREAM: StreamLimits = StreamLimits { head: PATIENCE, idle: PATIENCE, max_response_bytes: u64::MAX };

pub(crate) fn get(url: impl AsRef<str>) -> Request {
    Request::get(url.as_ref().parse().expect("a URL"), Trust::Configured)
}

/// Of a server in memory.
pub(crate) const NODE: &str = "http://node.example/";
