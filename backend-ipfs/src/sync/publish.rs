//! `/talkbox/publish/1`: a record is given to a peer. Its JSON goes out in a frame; what became of it comes back in one.

use std::sync::Arc;

use ipld_core::ipld::Ipld;
use talkbox_core::{Clock, Error, ErrorKind, MailboxRecord, Result, record::MAX_RECORD_BYTES};
use tokio::sync::{Mutex, Semaphore};

use super::{
    channel::{Channel, Stream},
    frame::nonsense,
    greeting::{MAX_ANSWER, VERSION, map, plain},
    limits::Limits,
    record::{Records, expires_at},
};
use crate::orbitdb::cbor;

/// Records that are checked or wait for that, 0.2 s each: the last is answered within what clients wait for a frame.
const QUEUE: usize = 32;

/// Why a record is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    /// It is no record: its form, signature or work.
    Malformed,
    /// Its code is not that of its key.
    Mismatch,
    /// A newer one has its place, or one of another key with the same code.
    Superseded,
    /// It is dated ahead.
    TooEarly,
    /// It is no longer valid.
    Expired,
    /// Too many are being checked.
    Busy,
    /// The store failed.
    Failed,
}

impl Code {
    const ALL: [Self; 7] =
        [Self::Malformed, Self::Mismatch, Self::Superseded, Self::TooEarly, Self::Expired, Self::Busy, Self::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Mismatch => "mismatch",
            Self::Superseded => "superseded",
            Self::TooEarly => "too-early",
            Self::Expired => "expired",
            Self::Busy => "busy",
            Self::Failed => "failed",
        }
    }

    const fn kind(self) -> ErrorKind {
        match self {
            Self::Busy | Self::Failed => ErrorKind::RateLimited,
            Self::Malformed | Self::Mismatch | Self::Superseded | Self::TooEarly | Self::Expired => ErrorKind::Refused,
        }
    }
}

/// Gives a record to a peer. It has kept it, or had it, when this returns.
///
/// # Errors
/// `Refused` and `RateLimited` with the peer's words; `Timeout`, `Unreachable`, `Unexpected`.
pub(crate) async fn publish<S: Stream>(stream: S, record: &MailboxRecord, limits: Limits) -> Result<()> {
    let mut channel = Channel::new(stream, limits.frame);
    channel.send(record.event().to_json().as_bytes()).await?;
    channel.close().await?;
    read_answer(&channel.expect(MAX_ANSWER).await?).ok_or_else(|| nonsense("the peer's answer makes no sense"))?
}

pub(super) fn read_answer(bytes: &[u8]) -> Option<Result<()>> {
    let Ok(Ipld::Map(fields)) = cbor::decode(bytes) else { return None };
    match (fields.get("v")?, fields.get("ok")?) {
        (Ipld::Integer(VERSION), Ipld::Bool(true)) => Some(Ok(())),
        (Ipld::Integer(VERSION), Ipld::Bool(false)) => {
            let text = |name| match fields.get(name) {
                Some(Ipld::String(text)) => text.as_str(),
                _ => "",
            };
            let code = Code::ALL.into_iter().find(|code| code.as_str() == text("code"));
            let kind = code.map_or(ErrorKind::Refused, Code::kind);
            Some(Err(Error::new(kind, "the peer does not take the record").with("words", plain(text("why")))))
        }
        _ => None,
    }
}

/// Takes records for a node.
#[derive(Debug)]
pub(crate) struct Publishing<R> {
    records: R,
    clock: Arc<dyn Clock>,
    /// Who is or waits to be checked.
    queue: Semaphore,
    /// Held by whoever is checked: 64 MiB and a core each, so one at a time; and nothing comes between what is compared
    /// and what is kept.
    turn: Mutex<()>,
}

impl<R: Records> Publishing<R> {
    /// Keeps records there.
    pub(crate) fn new(records: R, clock: Arc<dyn Clock>) -> Self {
        Self { records, clock, queue: Semaphore::new(QUEUE), turn: Mutex::new(()) }
    }

    /// Where they are kept.
    pub(crate) const fn records(&self) -> &R {
        &self.records
    }

    /// Takes the record of one stream.
    ///
    /// # Errors
    /// `Timeout` and `Unreachable` for a peer that is slow or gone, `TooLarge` for what can be no record.
    pub(crate) async fn serve<S: Stream>(&self, stream: S, limits: Limits) -> Result<()> {
        let mut channel = Channel::new(stream, limits.frame);
        let json = channel.expect(MAX_RECORD_BYTES).await?;
        let answer = match self.take(&json).await {
            Ok(()) => map([("v", Ipld::Integer(VERSION)), ("ok", Ipld::Bool(true))]),
            Err(NotKept { code, why }) => map([
                ("v", Ipld::Integer(VERSION)),
                ("ok", Ipld::Bool(false)),
                ("why", Ipld::String(plain(&why))),
                ("code", Ipld::String(code.as_str().to_owned())),
            ]),
        };
        channel.send(&cbor::encode(&answer)?).await?;
        channel.close().await
    }

    /// Checks a record, what is cheap first, and keeps it.
    async fn take(&self, json: &[u8]) -> std::result::Result<(), NotKept> {
        let malformed = |why: String| NotKept { code: Code::Malformed, why };
        let json = str::from_utf8(json).map_err(|_| malformed("no text".to_owned()))?;
        let record = MailboxRecord::parse(json).map_err(|error| malformed(error.message().to_owned()))?;
        let busy = |_| NotKept::new(Code::Busy, "many records are being checked; try again in a minute");
        let _place = self.queue.try_acquire().map_err(busy)?;
        let _turn = self.turn.lock().await;
        let now = self.clock.now();
        if !record.supersedes(None, now) {
            return Err(NotKept::new(Code::TooEarly, "the record is dated ahead"));
        }
        if expires_at(&record) <= now {
            return Err(NotKept::new(Code::Expired, "the record has expired"));
        }
        match self.current(&record).await? {
            Some(current) if current == record => return Ok(()),
            // The first that was proven stays: a second key with the same code is an attempt to take its place.
            Some(current) if current.mailbox() != record.mailbox() => {
                return Err(NotKept::new(Code::Superseded, "another key has this code"));
            }
            Some(current) if !record.supersedes(Some(&current), now) => {
                return Err(NotKept::new(Code::Superseded, "a newer record has its place"));
            }
            // Its key was checked with the record that it replaces.
            Some(_) => {}
            None => prove(&record).await?,
        }
        self.records.put(record).await.map_err(|error| NotKept::failed(&error))
    }

    async fn current(&self, record: &MailboxRecord) -> std::result::Result<Option<MailboxRecord>, NotKept> {
        let json = self.records.get(record.code()).await.map_err(|error| NotKept::failed(&error))?;
        // One that no longer reads is as good as none.
        Ok(json.and_then(|json| MailboxRecord::parse(&json).ok()))
    }
}

/// Why a record is not kept, for whoever brought it.
#[derive(Debug)]
struct NotKept {
    code: Code,
    why: String,
}

impl NotKept {
    fn new(code: Code, why: &str) -> Self {
        Self { code, why: why.to_owned() }
    }

    /// A fault of this node's. What exactly is nobody's business but the operator's.
    fn failed(error: &Error) -> Self {
        tracing::warn!(%error, "a record could not be kept");
        Self::new(Code::Failed, "the store failed")
    }
}

/// Checks that the code of a record is that of its key: 0.2 s.
async fn prove(record: &MailboxRecord) -> std::result::Result<(), NotKept> {
    let (code, mailbox) = (record.code(), record.mailbox());
    match tokio::task::spawn_blocking(move || code.matches(&mailbox)).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(NotKept::new(Code::Mismatch, "the d tag is not the shortcode of the key")),
        // It panics where there is no memory.
        Err(_) => Err(NotKept::new(Code::Failed, "there is no memory to check the shortcode")),
    }
}
