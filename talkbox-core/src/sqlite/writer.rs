//! The one connection that writes: a thread behind a bounded queue, which commits whatever is waiting as one transaction
//! and answers only then.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Fault, Place, Schema, Sql};
use crate::{Error, ErrorKind, Result, Retry};

/// How long a transaction takes more calls: beside it the 1 ms that the disk takes is little, and no caller waits
/// noticeably for those behind it.
const GROUP: Duration = Duration::from_millis(20);

/// A call on its way through the writer.
trait Call<S: Schema>: Send {
    /// Does the work, and says whether its effects are to be kept.
    fn run(&mut self, access: &S::Access<'_>) -> bool;
    /// Answers whoever waits; with what kept the transaction from being committed, where something did.
    fn answer(self: Box<Self>, failure: Option<&Failure>);
}

/// What the queue carries.
enum Turn<S> {
    Call(Box<dyn Call<S>>),
    /// Take no more, finish what is waiting, and end.
    Close,
}

/// The way to the writer.
pub(super) struct Writer<S> {
    turns: mpsc::Sender<Turn<S>>,
}

impl<S: Schema> Writer<S> {
    /// Starts the thread, which opens and prepares the store. The watch closes when the thread has ended.
    pub(super) async fn start(place: Place, schema: Arc<S>) -> Result<(Self, watch::Receiver<()>)> {
        let (turns, waiting) = mpsc::channel(S::MAX_WAITING);
        let (ready, opened) = oneshot::channel();
        let (running, ended) = watch::channel(());
        thread::Builder::new()
            .name(S::THREAD.to_owned())
            .spawn(move || {
                let _running = running;
                match schema.open_writer(&place) {
                    Ok(db) => {
                        if ready.send(Ok(())).is_ok() {
                            serve(&db, waiting, &*schema);
                        }
                        finish(db, &place);
                    }
                    Err(error) => {
                        // Nobody waits any more: then nobody needs to know.
                        let _ = ready.send(Err(Error::from(error)));
                    }
                }
            })
            .map_err(|error| Error::new(ErrorKind::Unexpected, "no thread can be started").source(error))?;
        opened.await.map_err(|_| stopped())??;
        Ok((Self { turns }, ended))
    }

    /// Hands over a call and waits until it is committed. Once handed over it is done, whether or not anybody waits.
    pub(super) async fn call<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&S::Access<'_>) -> Sql<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let call = Pending { work: Some(work), result: None, reply };
        self.turns.send(Turn::Call(Box::new(call))).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Lets the thread end once it has done what is waiting.
    pub(super) async fn close(&self) {
        // Fails where it has ended.
        let _ = self.turns.send(Turn::Close).await;
    }
}

fn serve<S: Schema>(db: &Connection, mut waiting: mpsc::Receiver<Turn<S>>, schema: &S) {
    let mut done = Vec::with_capacity(S::MAX_WAITING);
    while let Some(turn) = waiting.blocking_recv() {
        let Turn::Call(first) = turn else {
            waiting.close();
            continue;
        };
        let failure = commit(db, schema, first, &mut waiting, &mut done).err();
        if let Some(failure) = &failure {
            // Each caller is told, and knows better whether anybody has to know.
            tracing::debug!(error = %failure.words, "the store could not commit");
        }
        for call in done.drain(..) {
            call.answer(failure.as_ref());
        }
    }
}

/// Runs a call, and those that wait behind it, as one transaction. A call that fails takes back its own effects alone.
fn commit<S: Schema>(
    db: &Connection,
    schema: &S,
    first: Box<dyn Call<S>>,
    waiting: &mut mpsc::Receiver<Turn<S>>,
    done: &mut Vec<Box<dyn Call<S>>>,
) -> Result<(), Failure> {
    let (access, begun) = (schema.access(db), Instant::now());
    let mut next = Some(first);
    if let Err(error) = run(db, "BEGIN IMMEDIATE") {
        done.extend(next);
        return Err(error.into());
    }
    while let Some(call) = next.take() {
        done.push(call);
        let kept = run(db, "SAVEPOINT one").is_ok() && done.last_mut().is_some_and(|call| call.run(&access));
        if db.is_autocommit() {
            // A full disk or a failing one makes SQLite take back everything.
            return Err(Failure::lost());
        }
        let undone = if kept { Ok(()) } else { run(db, "ROLLBACK TO one") };
        undone.and_then(|()| run(db, "RELEASE one")).or_else(|error| {
            db.execute_batch("ROLLBACK")?;
            Err(error)
        })?;
        if done.len() < S::MAX_WAITING && begun.elapsed() < GROUP {
            next = match waiting.try_recv() {
                Ok(Turn::Call(call)) => Some(call),
                Ok(Turn::Close) => {
                    waiting.close();
                    None
                }
                Err(_) => None,
            };
        }
    }
    if let Err(error) = run(db, "COMMIT") {
        if !db.is_autocommit() {
            db.execute_batch("ROLLBACK")?;
        }
        return Err(error.into());
    }
    Ok(())
}

/// Runs a statement that frames others, compiled once: on a short transaction compiling it would take longer than it.
fn run(db: &Connection, sql: &'static str) -> rusqlite::Result<()> {
    db.prepare_cached(sql)?.execute([]).map(drop)
}

/// Leaves one tidy file behind.
fn finish(db: Connection, place: &Place) {
    if matches!(place, Place::File(_))
        && let Err(error) = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    {
        tracing::debug!(%error, "the log of the store was left for the next start");
    }
    if let Err((_, error)) = db.close() {
        tracing::debug!(%error, "the store did not close tidily");
    }
}

/// Why a transaction was not committed: one for many calls, so that each gets an error of its own from it.
#[derive(Debug)]
struct Failure {
    words: String,
    retry: Retry,
}

impl Failure {
    fn lost() -> Self {
        Self { words: "the local disk is full or failed, and nothing was kept".to_owned(), retry: Retry::No }
    }

    fn error(&self) -> Error {
        Error::new(ErrorKind::Storage, self.words.clone()).retry(self.retry)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let error = Error::from(Fault::from(error));
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self { words: format!("{}{cause}", error.message()), retry: error.retry_advice() }
    }
}

struct Pending<T, F> {
    work: Option<F>,
    result: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<S, T, F> Call<S> for Pending<T, F>
where
    S: Schema,
    T: Send,
    F: FnOnce(&S::Access<'_>) -> Sql<T> + Send,
{
    fn run(&mut self, access: &S::Access<'_>) -> bool {
        let result = self.work.take().map(|work| work(access).map_err(Error::from));
        let kept = matches!(result, Some(Ok(_)));
        self.result = result;
        kept
    }

    fn answer(self: Box<Self>, failure: Option<&Failure>) {
        let answer = match (self.result, failure) {
            // Its own error says more than that of the group.
            (Some(Err(error)), _) => Err(error),
            (_, Some(failure)) => Err(failure.error()),
            (Some(result), None) => result,
            (None, None) => Err(Error::new(ErrorKind::Storage, "the store could not begin")),
        };
        // Whoever asked may have gone: it is committed all the same.
        let _ = self.reply.send(answer);
    }
}

pub(super) fn stopped() -> Error {
    Error::new(ErrorKind::Closed, "the store is closed")
}
