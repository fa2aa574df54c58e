//! `talkbox watch`: waits for messages and hands each one out; and goes on sending what is queued.
//!
//! A message counts as handed out once it is printed, or once the command of `--exec` has ended well: it is marked as
//! read then. What is unread when it begins comes first, so that nothing is lost between two runs.

use std::{collections::HashSet, io::Write, process::Stdio};

use futures_util::StreamExt as _;
use talkbox_core::{
    MailboxId, MessageId,
    address::to_npub,
    client::ClientEvent,
    local::{MessageQuery, Store, StoredMessage},
};
use tokio::{io::AsyncWriteExt as _, process::Command, time::Instant};

use crate::{
    announce,
    exit::{Code, Failure, Outcome},
    interrupt,
    output::DIM,
    session::{Live, Session},
    sync_log,
    text::{REASON, one_line, place, rfc3339, safe},
    view::{self, short, short_key},
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "What is unread comes first. A message is marked as read once it is printed; with `--exec` once CMD \
                        has ended with exit code 0, and otherwise it comes again with the next `watch`.\n\n\
                        CMD is run by `sh -c`, one at a time, with the body on standard input and TALKBOX_ID, \
                        TALKBOX_FROM, TALKBOX_TIME and TALKBOX_SUBJECT in its environment. With \
                        `--timeout` it ends after that long, with exit code 9 where nothing came; a CMD that runs is waited for.\n\n\
                        Of two that watch one mailbox on one computer each message goes to one or both: what one has \
                        marked as read, the other does not wait for."
)]
pub(crate) struct Arguments {
    /// The mailbox, by its name on this computer
    name: Option<String>,
    /// End after the first message
    #[arg(long)]
    once: bool,
    /// Run a command for each message
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    if session.is_offline() {
        return Err(Failure::input("there is nothing to wait for with `--offline`"));
    }
    session.require_network()?;
    let entry = session.entry(arguments.name.as_deref())?;
    let live = session.open(Some(&entry)).await?;
    announce::refresh(session, &live, &entry).await;
    let holders = live.talkbox.holders().len();
    let (owner, name, handed) = (entry.id, entry.name.as_str(), HashSet::new());
    let mut watch = Watch { session, arguments, owner, name, holders, handed, printed: None, count: 0 };
    let ended = tokio::select! {
        ended = watch.run(&live) => ended,
        // Nobody is told: it is what was asked for.
        () = interrupt::requested() => Err(Failure::silent(Code::Interrupted)),
    };
    if let Some(printed) = watch.printed {
        live.talkbox.store().mark_read(owner, &[printed]).await?;
    }
    session.finish(live).await;
    ended
}

struct Watch<'a> {
    session: &'a Session,
    arguments: &'a Arguments,
    owner: MailboxId,
    name: &'a str,
    /// How many holders there are.
    holders: usize,
    /// What was handed out in this run: a message is unread until that is on the disk.
    handed: HashSet<MessageId>,
    /// What was printed and is being marked as read: an interrupt must not come between the two.
    printed: Option<MessageId>,
    count: u64,
}

/// Messages of which it is remembered that they were handed out: far more than can be between the stream and the disk.
const MAX_HANDED: usize = 10_000;

impl Watch<'_> {
    async fn run(&mut self, live: &Live) -> Outcome {
        let store = live.talkbox.store().clone();
        let mut events = live.talkbox.watch(live.key()?);
        if self.hand_out_unread(&store).await? {
            return Ok(Code::Done);
        }
        let end = self.session.left().map(|timeout| Instant::now() + timeout);
        let over = async {
            match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(over);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => if self.take(&store, event).await? { return Ok(Code::Done) },
                    None => return Err(Failure::internal("the stream of messages ended")),
                },
                () = &mut over => return match self.count {
                    0 => Err(Failure::timeout("no message came in time")),
                    _ => Ok(Code::Done),
                },
            }
        }
    }

    /// Whether it is over.
    async fn take(&mut self, store: &Store, event: talkbox_core::Result<ClientEvent>) -> Outcome<bool> {
        let output = &self.session.output;
        match event {
            Ok(ClientEvent::Message(message)) => return self.hand_out(store, &message).await,
            Ok(ClientEvent::CaughtUp { down }) => {
                if down.len() < self.holders {
                    sync_log::set_last(store, self.owner, self.session.clock.now()).await?;
                }
                output.note(format_args!("{DIM}waiting for messages to `{}`{DIM:#}", self.name));
            }
            Ok(ClientEvent::Down { holder, error }) => {
                let why = one_line(&error.to_string(), REASON);
                output.warn(format_args!("{}: {why}; it is tried again", place(&holder)));
            }
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(false)
    }

    async fn hand_out_unread(&mut self, store: &Store) -> Outcome<bool> {
        let mut query = MessageQuery::oldest();
        query.unread = true;
        query.requests = Some(false);
        loop {
            let page = store.messages(self.owner, query.clone()).await?;
            for message in &page.items {
                if self.hand_out(store, message).await? {
                    return Ok(true);
                }
            }
            query.after = page.next;
            if query.after.is_none() {
                return Ok(false);
            }
        }
    }

    /// Prints a message or runs the command for it, once. Whether it is over.
    async fn hand_out(&mut self, store: &Store, stored: &StoredMessage) -> Outcome<bool> {
        let message = &stored.message;
        // A copy of what was sent from here is nothing to wait for, and requests are there to be looked through.
        if stored.requests || message.is_copy_of(self.owner) {
            return Ok(false);
        }
        if self.handed.len() >= MAX_HANDED {
            self.handed.clear();
        }
        if !self.handed.insert(message.id) {
            return Ok(false);
        }
        if let Some(command) = &self.arguments.exec
            && let Err(failure) = execute(command, stored).await
        {
            self.session.output.warn(format_args!("{}: {}; it stays unread", short(&message.id), failure.message()));
            return Ok(false);
        }
        self.print(stored)?;
        self.printed = Some(message.id);
        store.mark_read(self.owner, &[message.id]).await?;
        self.printed = None;
        self.count += 1;
        Ok(self.arguments.once)
    }

    fn print(&self, stored: &StoredMessage) -> Outcome<()> {
        let output = &self.session.output;
        let message = &stored.message;
        if output.is_json() {
            return output.object(&view::Json::of(stored));
        }
        if self.arguments.exec.is_some() {
            output.note(format_args!("{DIM}{} done{DIM:#}", short(&message.id)));
            return Ok(());
        }
        if output.is_table() {
            let head =
                format!("{}  {}  {}", short(&message.id), rfc3339(message.sent_at), short_key(&message.from.into()));
            output.line(format_args!("{DIM}{head}{DIM:#}"))?;
            return output.line(safe(&message.body));
        }
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(message.body.as_bytes())?;
        stdout.write_all(b"\n")?;
        Ok(stdout.flush()?)
    }
}

/// Runs the command for one message; the text comes in on its standard input, and what it prints is ours.
async fn execute(command: &str, stored: &StoredMessage) -> Outcome<()> {
    let message = &stored.message;
    let mut child = Command::new("sh")
        .args(["-c", command])
        .env("TALKBOX_ID", message.id.to_hex())
        .env("TALKBOX_FROM", to_npub(&message.from.into()))
        .env("TALKBOX_TIME", rfc3339(message.sent_at))
        // A NUL cannot be in an environment.
        .env("TALKBOX_SUBJECT", message.subject.as_deref().unwrap_or_default().replace('\0', ""))
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::input(format!("cannot run the command: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // It need not read all of it, or any.
        let _ = stdin.write_all(message.body.as_bytes()).await;
    }
    let status = child.wait().await?;
    if status.success() { Ok(()) } else { Err(Failure::internal(format!("the command ended with {status}"))) }
}
