//! One round at one service: whatever is due there is done, one thing after the other.
//!
//! The order of things is chosen so that ending at any point loses nothing: what is asked for is on disk before it is
//! asked for, and the request that is answered may be found again by its root.

use std::{collections::BTreeMap, sync::Arc};

use talkbox_core::{Clock, Error, ErrorKind, Result, Timestamp};

use super::{
    api::{Pin, PinStatus, RequestId, State},
    books::Books,
    delegates::{to_dial, to_tell},
    ledger::{LogPins, PinRow},
    pace::{Growth, Pace},
    request::request,
    root::Root,
    service::PinService,
    shelf::{KeptLog, Peers, Shelf},
};

/// Most characters that are kept of what went wrong.
const MAX_DETAILS: usize = 512;

/// What all services have in common.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) shelf: Arc<dyn Shelf>,
    pub(super) peers: Arc<dyn Peers>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) pace: Pace,
    /// Whether a service may name addresses that are not global, and is told such.
    pub(super) allow_private: bool,
}

/// One service, and what is remembered of it between rounds.
#[derive(Debug)]
pub(super) struct Visitor {
    service: Arc<dyn PinService>,
    books: Books,
    context: Context,
    /// Logs that have grown since their last root.
    growing: BTreeMap<String, Growth>,
    /// How often the service itself failed in a row.
    failures: u32,
    /// Until when it is left alone for that.
    until: Timestamp,
    trouble: Option<String>,
}

/// What is to be done about a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Ask for a new root, or again for the last one.
    Ask,
    /// Ask how far it is.
    Poll,
    /// Ask whether it is still there.
    Recheck,
    /// Nothing before then.
    Wait(Timestamp),
}

impl Visitor {
    pub(super) const fn new(service: Arc<dyn PinService>, books: Books, context: Context) -> Self {
        Self { service, books, context, growing: BTreeMap::new(), failures: 0, until: Timestamp(0), trouble: None }
    }

    /// What is wrong with the service itself, since the last time that it answered.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Does what is due, and says when something is due next.
    ///
    /// # Errors
    /// `Storage` alone: what goes wrong at the service is remembered, and tried again.
    pub(super) async fn round(&mut self) -> Result<Timestamp> {
        let now = self.now();
        if self.until > now {
            return Ok(self.until);
        }
        match self.work().await {
            Err(error) if is_of_service(error.kind()) => {
                self.failures = self.failures.saturating_add(1);
                self.until = self.context.pace.next_visit(self.failures, &error, self.now());
                tracing::info!(service = self.service.name(), kind = %error.kind(), "a pinning service is left alone for a while");
                self.trouble = Some(cut(&error));
                Ok(self.until)
            }
            done => done,
        }
    }

    async fn work(&mut self) -> Result<Timestamp> {
        let logs = self.context.shelf.logs().await?;
        let mut rows: BTreeMap<_, _> = self.books.all().await?.into_iter().collect();
        self.growing.retain(|address, _| logs.iter().any(|log| log.address == *address));
        let mut next = self.now().plus(self.context.pace.recheck.as_secs());
        for log in &logs {
            let pins = rows.remove(&log.address).unwrap_or_default();
            next = next.min(self.step(log, pins).await?);
        }
        // What remains is of months that were dropped.
        for address in rows.into_keys() {
            self.books.keep(&address, &LogPins::default(), self.now()).await?;
            self.books.sweep(&address).await?;
        }
        Ok(next.min(self.delete_left().await?))
    }

    /// One log: asks for what it wants, or how far that is, or whether the service still has what it had.
    async fn step(&mut self, log: &KeptLog, mut pins: LogPins) -> Result<Timestamp> {
        match self.due(log, &pins) {
            Due::Wait(until) => return Ok(until),
            Due::Ask => self.ask(log, &mut pins).await?,
            Due::Poll => self.poll(log, &mut pins).await?,
            Due::Recheck => self.recheck(log, &mut pins).await?,
        }
        match self.due(log, &pins) {
            Due::Wait(until) => Ok(until),
            _ => Ok(self.now()),
        }
    }

    /// What is to be done about a log now.
    fn due(&mut self, log: &KeptLog, pins: &LogPins) -> Due {
        let (now, pace) = (self.now(), self.context.pace);
        let settles_at = self.settles_at(log, pins, now);
        let is_settled = settles_at <= now;
        // What is due later than anything can be was written when the clock was wrong.
        let is_due = |row: &PinRow| row.due_at <= now || row.due_at > now.plus(pace.recheck.as_secs());
        match &pins.wanted {
            Some(row) if is_due(row) => {
                let is_stuck = row.tried_at.plus(pace.patience.as_secs()) <= now;
                let is_under_way = row.id.is_some() && row.state.is_under_way();
                return if is_under_way && !(is_stuck && is_settled) { Due::Poll } else { Due::Ask };
            }
            None if is_settled => return Due::Ask,
            _ => {}
        }
        if pins.held.as_ref().is_some_and(is_due) {
            return Due::Recheck;
        }
        let rows = [&pins.wanted, &pins.held].into_iter().flatten().map(|row| row.due_at).min();
        let grows = if pins.wanted.is_none() { settles_at } else { Timestamp(u64::MAX) };
        Due::Wait(rows.unwrap_or(grows).min(grows))
    }

    /// When a log gets a new root: never, where it is not ahead of its last one.
    fn settles_at(&mut self, log: &KeptLog, pins: &LogPins, now: Timestamp) -> Timestamp {
        let entries = pins.wanted.as_ref().or(pins.held.as_ref()).map_or(0, |row| row.entries);
        if log.entries == entries {
            self.growing.remove(&log.address);
            return Timestamp(u64::MAX);
        }
        let growth = self.growing.entry(log.address.clone()).or_insert_with(|| Growth::new(log.entries, now));
        growth.see(log.entries, now);
        growth.settles_at(&self.context.pace, log.entries.saturating_sub(entries))
    }

    /// Asks for the root of all that the log has now: in the place of a request that is not pinned, else anew.
    async fn ask(&mut self, log: &KeptLog, pins: &mut LogPins) -> Result<()> {
        let Some(contents) = self.context.shelf.contents(&log.address).await? else {
            // It was dropped this very moment: the next round sees to what it leaves.
            return Ok(());
        };
        // Whatever is a node now, or became one since: read after the blocks, so that none is missed.
        let nodes = self.books.nodes(&log.address).await?;
        let address = log.address.clone();
        let blocks = contents.blocks.into_iter().filter(move |cid| !nodes.contains(cid));
        let root = tokio::task::spawn_blocking(move || Root::build(&address, blocks))
            .await
            .map_err(|error| Error::new(ErrorKind::Unexpected, "the root was not built").source(error))??;
        let before = pins.wanted.take();
        let tried = before.as_ref().map_or(0, |row| row.attempts);
        let now = self.now();
        let mut row = PinRow {
            root: root.cid,
            id: before.as_ref().and_then(|row| row.id.clone()),
            // Until there is an answer, the former request is one whose place is to be taken.
            state: State::Failed,
            details: None,
            covered: contents.last,
            entries: contents.entries,
            attempts: tried.saturating_add(1),
            tried_at: now,
            due_at: self.context.pace.next_try(tried.saturating_add(1), now),
        };
        pins.wanted = Some(row.clone());
        self.books.keep_with_nodes(&log.address, pins, root, now).await?;
        let pin = Pin {
            cid: row.root,
            name: log.name.clone(),
            log: log.address.clone(),
            origins: to_tell(self.context.peers.addresses(), self.context.allow_private),
        };
        // An earlier request may have got there, and its answer not here.
        let unheard = before.filter(|row| row.id.is_none() && row.attempts > 0).map(|row| row.root);
        let held = pins.held.as_ref().and_then(|held| held.id.as_ref());
        match request(&*self.service, &pin, row.id.as_ref(), unheard, held).await {
            Ok(status) => {
                self.answered();
                self.taken(log, pins, row, status).await
            }
            Err(error) => {
                if is_of_service(error.kind()) {
                    // The log did nothing wrong, and goes on as soon as the service does.
                    row.attempts = tried.max(1);
                    row.due_at = self.now();
                }
                row.details = Some(cut(&error));
                pins.wanted = Some(row);
                self.keep(log, pins).await?;
                self.unless_of_log(error)
            }
        }
    }

    /// Asks how far the request is.
    async fn poll(&mut self, log: &KeptLog, pins: &mut LogPins) -> Result<()> {
        let Some((mut row, id)) = pins.wanted.clone().and_then(|row| row.id.clone().map(|id| (row, id))) else {
            return Ok(());
        };
        match self.ask_for(&id, &row).await {
            Ok(Some(status)) => self.taken(log, pins, row, status).await,
            Ok(None) => {
                row.id = None;
                row.details = Some("the pinning service does not know the request any more".to_owned());
                row.state = State::Failed;
                row.due_at = self.context.pace.next_try(row.attempts, self.now());
                pins.wanted = Some(row);
                self.keep(log, pins).await
            }
            // Asked again as soon as the service answers again.
            Err(error) if is_of_service(error.kind()) => Err(error),
            Err(error) => {
                row.due_at = self.context.pace.next_try(1, self.now());
                row.details = Some(cut(&error));
                pins.wanted = Some(row);
                self.keep(log, pins).await?;
                self.unless_of_log(error)
            }
        }
    }

    /// Asks whether what was pinned still is.
    async fn recheck(&mut self, log: &KeptLog, pins: &mut LogPins) -> Result<()> {
        let Some((mut row, id)) = pins.held.clone().and_then(|row| row.id.clone().map(|id| (row, id))) else {
            pins.held = None;
            return self.keep(log, pins).await;
        };
        match self.ask_for(&id, &row).await {
            Ok(Some(status)) if status.state == State::Pinned => {
                row.due_at = self.now().plus(self.context.pace.recheck.as_secs());
                pins.held = Some(row);
                self.keep(log, pins).await
            }
            Ok(status) => {
                tracing::warn!(service = self.service.name(), "a pinning service no longer has what it had pinned");
                pins.held = None;
                if pins.wanted.is_some() {
                    // What is wanted holds all of it, too.
                    return self.keep(log, pins).await;
                }
                row.attempts = 0;
                if let Some(status) = status {
                    return self.taken(log, pins, row, status).await;
                }
                row.id = None;
                row.state = State::Failed;
                row.details = Some("the pinning service no longer has what it had pinned".to_owned());
                row.due_at = self.now();
                pins.wanted = Some(row);
                self.keep(log, pins).await
            }
            Err(error) if is_of_service(error.kind()) => Err(error),
            Err(error) => {
                row.due_at = self.context.pace.next_try(1, self.now());
                pins.held = Some(row);
                self.keep(log, pins).await?;
                self.unless_of_log(error)
            }
        }
    }

    /// How far a request is; `None` where the service does not know it, or knows it as one for something else.
    async fn ask_for(&mut self, id: &RequestId, row: &PinRow) -> Result<Option<PinStatus>> {
        match self.service.get(id).await {
            Ok(status) => {
                self.answered();
                Ok((status.cid.hash() == row.root.hash()).then_some(status))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.answered();
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The service says how far a request is.
    async fn taken(&self, log: &KeptLog, pins: &mut LogPins, mut row: PinRow, status: PinStatus) -> Result<()> {
        let (now, pace) = (self.now(), &self.context.pace);
        if status.state.is_under_way() {
            let delegates = to_dial(status.delegates.iter().map(String::as_str), self.context.allow_private);
            if !delegates.is_empty() {
                self.context.peers.dial(delegates);
            }
        }
        row.id = Some(status.id);
        row.state = status.state;
        row.details = status.details;
        if row.state == State::Failed && row.details.is_none() {
            row.details = Some("the pinning service gave up, and does not say why".to_owned());
        }
        match status.state {
            State::Queued | State::Pinning => row.due_at = pace.next_poll(row.tried_at, now),
            State::Failed => row.due_at = pace.next_try(row.attempts, now),
            State::Pinned => row.due_at = now.plus(pace.recheck.as_secs()),
        }
        let is_pinned = row.state == State::Pinned;
        if is_pinned {
            *pins = LogPins { held: Some(row), wanted: None };
        } else {
            pins.wanted = Some(row);
        }
        self.keep(log, pins).await?;
        if is_pinned {
            self.books.sweep(&log.address).await?;
        }
        Ok(())
    }

    /// Deletes requests that nothing hangs on any more.
    async fn delete_left(&mut self) -> Result<Timestamp> {
        let left = self.books.left().await?;
        let mut next = Timestamp(u64::MAX);
        for mut one in left {
            if one.due_at > self.now() {
                next = next.min(one.due_at);
                continue;
            }
            match self.service.delete(&one.id).await {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    one.attempts = one.attempts.saturating_add(1);
                    one.due_at = self.context.pace.next_try(one.attempts, self.now());
                    next = next.min(one.due_at);
                    self.books.leave(one).await?;
                    self.unless_of_log(error)?;
                }
                Ok(()) | Err(_) => {
                    self.answered();
                    self.books.forget(one.id).await?;
                }
            }
        }
        Ok(next)
    }

    async fn keep(&self, log: &KeptLog, pins: &LogPins) -> Result<()> {
        self.books.keep(&log.address, pins, self.now()).await
    }

    /// The service answered, whatever it said.
    fn answered(&mut self) {
        self.failures = 0;
        self.trouble = None;
    }

    /// Passes on what is about the service as a whole, or our own disk; what is about one log was remembered.
    fn unless_of_log(&mut self, error: Error) -> Result<()> {
        if is_of_service(error.kind()) || error.kind() == ErrorKind::Storage {
            return Err(error);
        }
        self.answered();
        tracing::info!(service = self.service.name(), kind = %error.kind(), "a pin is tried again later");
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.context.clock.now()
    }
}

/// Whether an error would be the same for every other request.
const fn is_of_service(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Denied
            | ErrorKind::RateLimited
            | ErrorKind::Unreachable
            | ErrorKind::Timeout
            | ErrorKind::Closed
            | ErrorKind::ConfigInvalid
            | ErrorKind::Unsupported
    )
}

fn cut(error: &Error) -> String {
    error.to_string().chars().take(MAX_DETAILS).collect()
}
