//! `talkbox read`: what is stored, at once and page by page; and below it what the network brings meanwhile.
//!
//! The listing does not wait for the network: a mailbox of 10,000 messages starts to print as fast as an empty one, in
//! the memory of one page. The network is asked at the same time, and what it brings is printed after the listing, so
//! that nothing is shown twice and nothing has to be sorted in.

use std::{collections::HashSet, io::Write, time::Duration};

use futures_util::StreamExt as _;
use talkbox_core::{
    ErrorKind, Locator, MailboxId, MessageId, Timestamp,
    client::Synced,
    local::{Kinds, MessageQuery, Store, StoredMessage, Way},
};
use tokio::sync::mpsc;

use crate::{
    announce,
    exit::{Code, Failure, Outcome},
    keyring::Entry,
    output::{DIM, Output},
    session::{Live, Session},
    sync_log,
    text::{self, REASON, one_line, place},
    view,
};

/// How long the network may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Messages of the first page: enough to fill a terminal, and read in a few milliseconds.
const FIRST_PAGE: u32 = 64;
/// Messages of the others: at 24 KiB each, 12 MiB at worst.
const PAGE: u32 = 512;

/// Parts of a sync that may wait for a slow reader: as many as most people have holders.
const MAX_UNTOLD: usize = 64;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "On a terminal it prints a table, with `*` before what is unread; `talkbox open ID` shows a message \
                        whole. In a pipe it prints the bodies, and marks them as read once they are written. What is \
                        stored is printed at once, and what the network brings meanwhile after it."
)]
pub(crate) struct Arguments {
    /// The mailbox, by its name on this computer
    name: Option<String>,
    /// Answers to what was sent without a mailbox
    #[arg(long, conflicts_with = "name")]
    replies: bool,
    /// Only what is unread
    #[arg(long)]
    unread: bool,
    /// What was sent from this mailbox instead
    #[arg(long, conflicts_with_all = ["replies", "unread"])]
    sent: bool,
    /// Mail that shows less work than the setting `work` asks for, instead
    #[arg(long, conflicts_with_all = ["replies", "sent"])]
    requests: bool,
    /// Also what was sent, requests, control messages, and what this version cannot show
    #[arg(long, conflicts_with_all = ["sent", "requests"])]
    all: bool,
    /// The latest, at most so many; listed once the network has answered
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: Option<u32>,
    /// Only what is newer, such as `2d`
    #[arg(long, value_name = "TIME", value_parser = text::seconds)]
    since: Option<u64>,
    /// Only what is stored here: do not ask the network
    #[arg(long)]
    no_sync: bool,
    /// Print the table also in a pipe
    #[arg(long, conflicts_with = "null")]
    table: bool,
    /// End each body with a NUL instead of a line feed, for programs
    #[arg(short = '0', long)]
    null: bool,
    /// Leave what is printed unread
    #[arg(long)]
    keep_unread: bool,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let entry = if arguments.replies {
        None
    } else {
        let entry = session.entry(arguments.name.as_deref());
        Some(entry.map_err(|failure| match failure.hint_text() {
            Some(hint) if arguments.name.is_none() => {
                let hint = format!("{hint}; `talkbox read --replies` shows answers to what was sent without one");
                failure.hint(hint)
            }
            _ => failure,
        })?)
    };
    let mut printer = Printer::new(session, arguments.form(&session.output), arguments.keep_unread);
    if arguments.no_sync || session.is_offline() || !session.is_configured() {
        let live = session.open_store().await?;
        if !arguments.no_sync && !session.is_offline() {
            session.unconfigured_note();
        }
        if let Some(entry) = &entry {
            live.store.set_work_floor(entry.id, session.config.work()).await?;
        }
        arguments.list_all(&live.store, &owners(&live.store, entry.as_ref()).await?, &mut printer).await?;
        live.close().await;
        return printer.finish();
    }
    let live = session.open(entry.as_ref()).await?;
    let store = live.talkbox.store().clone();
    let mut arriving = start_sync(&live, session.budget(PATIENCE)).await?;
    let owners = owners(&store, entry.as_ref()).await?;
    // Which are the latest is known once all are there.
    let is_at_once = arguments.limit.is_none();
    if is_at_once {
        arguments.list_all(&store, &owners, &mut printer).await?;
    }
    session.output.progress("asking the network …");
    let mut answers = Answers::default();
    while let Some(Synced { new, holders }) = arriving.recv().await {
        if is_at_once {
            arguments.arrived(&store, &owners, &mut printer, &new).await?;
        }
        for (holder, outcome) in holders {
            answers.take(session, &holder, outcome)?;
        }
    }
    session.output.progress_done();
    if !is_at_once {
        arguments.list_all(&store, &owners, &mut printer).await?;
    }
    if let Some(entry) = entry.as_ref().filter(|_| answers.answered > 0) {
        sync_log::set_last(&store, entry.id, session.clock.now()).await?;
        announce::refresh(session, &live, entry).await;
    }
    session.finish(live).await;
    let printed = printer.finish()?;
    answers.outcome()?;
    Ok(printed)
}

/// How many holders answered, and how many did not.
#[derive(Debug, Default)]
struct Answers {
    answered: usize,
    failed: usize,
}

impl Answers {
    fn take(&mut self, session: &Session, holder: &Locator, outcome: talkbox_core::Result<usize>) -> Outcome<()> {
        match outcome {
            Ok(_) => self.answered += 1,
            Err(error) if error.kind() == ErrorKind::Storage => return Err(error.into()),
            Err(error) => {
                self.failed += 1;
                session.output.progress_done();
                session.output.warn(format_args!("{}: {}", place(holder), one_line(error.message(), REASON)));
            }
        }
        Ok(())
    }

    /// What is stored here is no answer to what is new.
    fn outcome(&self) -> Outcome<()> {
        if self.answered > 0 || self.failed == 0 {
            return Ok(());
        }
        Err(Failure::new(Code::Unreachable, "unreachable", "no holder answered, so nothing new can have come")
            .hint("what is stored here was shown; `--no-sync` asks nobody"))
    }
}

/// Whose messages are listed: those of the mailbox, or of every throw-away key.
async fn owners(store: &Store, entry: Option<&Entry>) -> Outcome<Vec<MailboxId>> {
    Ok(match entry {
        Some(entry) => vec![entry.id],
        None => store.conversations().await?.iter().map(|conversation| conversation.key.id()).collect(),
    })
}

/// Asks the network, in a task of its own: it must not stand still while a page waits for a slow reader. The task ends
/// once nobody listens any more.
async fn start_sync(live: &Live, budget: Duration) -> Outcome<mpsc::Receiver<Synced>> {
    let mut syncing = match &live.key {
        Some(key) => live.talkbox.syncing(key, budget),
        None => live.talkbox.syncing_conversations(budget).await?,
    };
    let (tell, arriving) = mpsc::channel(MAX_UNTOLD);
    tokio::spawn(async move {
        loop {
            let synced = tokio::select! {
                synced = syncing.next() => synced,
                () = tell.closed() => return,
            };
            let Some(synced) = synced else { return };
            if tell.send(synced).await.is_err() {
                return;
            }
        }
    });
    Ok(arriving)
}

impl Arguments {
    fn form(&self, output: &Output) -> Form {
        if output.is_json() {
            Form::Json
        } else if self.null {
            Form::Bodies { end: 0 }
        } else if self.table || output.is_table() {
            Form::Table
        } else {
            Form::Bodies { end: b'\n' }
        }
    }

    fn query(&self, now: Timestamp) -> MessageQuery {
        let mut query = MessageQuery::oldest();
        query.unread = self.unread;
        query.since = self.since.map(|seconds| now.minus(seconds));
        // What one sent oneself is not held to what one asks of others.
        query.requests = (!self.all && !self.sent).then_some(self.requests);
        if self.all {
            query.kinds = Kinds::ALL;
            query.way = Way::Both;
        } else if self.sent {
            query.way = Way::Sent;
        }
        query
    }

    async fn list_all(&self, store: &Store, owners: &[MailboxId], printer: &mut Printer<'_>) -> Outcome<()> {
        for owner in owners {
            self.list(store, *owner, printer).await?;
        }
        Ok(())
    }

    /// Prints what is stored, the oldest first.
    async fn list(&self, store: &Store, owner: MailboxId, printer: &mut Printer<'_>) -> Outcome<()> {
        let mut query = self.query(printer.now);
        if let Some(limit) = self.limit {
            return self.list_latest(store, owner, printer, query, limit).await;
        }
        query.limit = FIRST_PAGE;
        loop {
            let page = store.messages(owner, query.clone()).await?;
            printer.print(store, owner, &page.items).await?;
            printer.damaged(page.damaged.iter().map(|damaged| &damaged.error));
            let Some(next) = page.next else { return Ok(()) };
            query.after = Some(next);
            query.limit = PAGE;
        }
    }

    /// Prints the latest of what is stored: found from the end, and turned round.
    async fn list_latest(
        &self,
        store: &Store,
        owner: MailboxId,
        printer: &mut Printer<'_>,
        query: MessageQuery,
        limit: u32,
    ) -> Outcome<()> {
        let mut latest = query;
        latest.order = talkbox_core::local::Order::NewestFirst;
        latest.limit = limit;
        let page = store.messages(owner, latest).await?;
        let turned: Vec<StoredMessage> = page.items.into_iter().rev().collect();
        printer.print(store, owner, &turned).await?;
        printer.damaged(page.damaged.iter().map(|damaged| &damaged.error));
        Ok(())
    }

    /// Prints what came while the rest was listed.
    async fn arrived(
        &self,
        store: &Store,
        owners: &[MailboxId],
        printer: &mut Printer<'_>,
        new: &[MessageId],
    ) -> Outcome<()> {
        let MessageQuery { kinds, way, requests, .. } = self.query(printer.now);
        for batch in new.chunks(PAGE as usize) {
            for owner in owners {
                let mut messages = Vec::with_capacity(batch.len());
                for id in batch {
                    let message = store.message(*owner, *id).await?;
                    messages.extend(message.filter(|stored| {
                        let is_wanted = requests.is_none_or(|requests| requests == stored.requests);
                        is_wanted && kinds.has(stored.message.kind) && way.has(*owner, &stored.message)
                    }));
                }
                printer.print(store, *owner, &messages).await?;
            }
        }
        Ok(())
    }
}

/// How messages are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Table,
    Bodies { end: u8 },
    Json,
}

/// Prints messages, each once, and marks as read what was printed whole.
struct Printer<'a> {
    session: &'a Session,
    form: Form,
    keep_unread: bool,
    now: Timestamp,
    /// What arrived since the command began and has been printed: the network may name it again.
    late: HashSet<MessageId>,
    printed: u64,
    damaged: u64,
}

impl<'a> Printer<'a> {
    fn new(session: &'a Session, form: Form, keep_unread: bool) -> Self {
        let now = session.clock.now();
        Self { session, form, keep_unread, now, late: HashSet::new(), printed: 0, damaged: 0 }
    }

    async fn print(&mut self, store: &Store, owner: MailboxId, messages: &[StoredMessage]) -> Outcome<()> {
        let output = &self.session.output;
        let mut whole = Vec::new();
        // One write for a page: a line at a time would cost a system call each.
        let mut bytes = Vec::new();
        for message in messages {
            if message.first_seen >= self.now && !self.late.insert(message.message.id) {
                continue;
            }
            match self.form {
                Form::Table => {
                    if self.printed == 0 {
                        output.progress_done();
                        view::head(output)?;
                    }
                    view::row(output, owner, message, self.now)?;
                }
                Form::Bodies { end } => {
                    bytes.extend_from_slice(message.message.body.as_bytes());
                    bytes.push(end);
                }
                Form::Json => output.write_object(&mut bytes, &view::Json::of(message))?,
            }
            self.printed += 1;
            if self.form != Form::Table && message.read_at.is_none() {
                whole.push(message.message.id);
            }
        }
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&bytes)?;
        stdout.flush()?;
        drop(stdout);
        if !self.keep_unread && !whole.is_empty() {
            store.mark_read(owner, &whole).await?;
        }
        Ok(())
    }

    fn damaged<'e>(&mut self, errors: impl Iterator<Item = &'e talkbox_core::Error>) {
        for error in errors {
            self.damaged += 1;
            self.session.output.warn(error);
        }
    }

    fn finish(self) -> Outcome {
        if self.printed == 0 && self.form == Form::Table {
            self.session.output.note(format_args!("{DIM}no messages{DIM:#}"));
        }
        // What could be read was read; that something could not is not success.
        Ok(if self.damaged == 0 { Code::Done } else { Code::Internal })
    }
}
