//! `talkbox outbox`: what is on its way, and how far it got.

use std::time::Duration;

use talkbox_core::{
    SecretKey, Target,
    local::{OutboxEntry, OutboxQuery, OutboxState, Store, WaitingDraft},
};

use crate::{
    exit::{Code, Failure, Outcome},
    lookup::{self, Queued},
    output::Table,
    sending,
    session::Session,
    text::{REASON, ago, one_line, place},
    view::{short, short_key},
};

/// How long `flush` tries.
const FLUSH: Duration = Duration::from_secs(15);
/// How long `flush --wait` waits.
const WAIT: Duration = Duration::from_secs(120);
/// How long `flush --wait` rests between two tries: kind to holders that are back in a moment.
const REST: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List what is on its way
    Ls {
        /// Also what is done, delivered or cancelled
        #[arg(long)]
        all: bool,
    },
    /// Send what is queued, now
    Flush {
        /// Wait until everything is stored, up to two minutes (or `--timeout`)
        #[arg(long)]
        wait: bool,
    },
    /// Take a message back that is still queued
    Cancel {
        /// The message or entry, by the first digits of its id
        id: String,
    },
    /// Try a message again that is stuck
    Retry {
        /// The message or entry, by the first digits of its id
        id: String,
    },
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    match &arguments.command {
        None => list(session, false).await,
        Some(Command::Ls { all }) => list(session, *all).await,
        Some(Command::Flush { wait }) => flush(session, *wait).await,
        Some(Command::Cancel { id }) => cancel(session, id).await,
        Some(Command::Retry { id }) => retry(session, id).await,
    }
}

async fn list(session: &Session, all: bool) -> Outcome {
    let live = session.open_store().await?;
    let mut query = OutboxQuery::default();
    query.originals = true;
    let now = session.clock.now();
    let mut table = Table::new(["ID", "WHEN", "TO", "STATE", "STORED", "WHY NOT"]);
    let mut shown = 0;
    for waiting in live.store.drafts().await? {
        shown += 1;
        if session.output.is_json() {
            session.output.object(&sending::draft_object(&waiting))?;
            continue;
        }
        table.row([
            short(&waiting.new.id),
            ago(waiting.created_at, now),
            whom(&waiting),
            sending::draft_state(&waiting).to_owned(),
            "-".to_owned(),
            one_line(waiting.reason.as_deref().unwrap_or("its mailbox has not been found yet"), REASON),
        ]);
    }
    loop {
        let page = live.store.outbox(query.clone()).await?;
        for entry in page.items.iter().filter(|entry| all || is_on_its_way(entry)) {
            shown += 1;
            if session.output.is_json() {
                session.output.object(&sending::object(entry, entry.state.as_str(), None))?;
                continue;
            }
            table.row([
                short(&entry.message.id),
                ago(entry.created_at, now),
                short_key(&entry.recipient),
                entry.state.to_string(),
                format!("{}/{}", entry.acks.len(), entry.locators.len()),
                why_not(entry),
            ]);
        }
        for damaged in &page.damaged {
            session.output.warn(&damaged.error);
        }
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    if !session.output.is_json() {
        if shown == 0 {
            session.output.note("nothing is on its way");
        } else {
            table.print(&session.output)?;
        }
    }
    session.finish_store(live).await;
    Ok(Code::Done)
}

fn whom(waiting: &WaitingDraft) -> String {
    match waiting.new.to.target() {
        Target::Code(code) => code.to_string(),
        Target::Mailbox(mailbox) => short_key(&mailbox),
    }
}

/// Whether there is still something to do or to know: nobody took it back, and not enough have it.
fn is_on_its_way(entry: &OutboxEntry) -> bool {
    match entry.state {
        OutboxState::Delivered | OutboxState::Cancelled => false,
        OutboxState::Wedged(_) => true,
        _ => !entry.is_stored(),
    }
}

fn why_not(entry: &OutboxEntry) -> String {
    match (&entry.state, entry.refused.first()) {
        (OutboxState::Wedged(reason), _) => one_line(reason, REASON),
        (_, Some(refusal)) => format!("{}: {}", place(&refusal.holder), one_line(&refusal.words, REASON)),
        (_, None) => String::new(),
    }
}

async fn flush(session: &Session, wait: bool) -> Outcome {
    if session.is_offline() {
        return Err(Failure::input("nothing can be sent with `--offline`"));
    }
    let live = session.open(None).await?;
    let keys = senders(session, live.talkbox.store()).await?;
    let budget = session.budget(if wait { WAIT } else { FLUSH });
    let end = tokio::time::Instant::now() + budget;
    let mut stored = 0;
    let (left, partly, hopeful) = loop {
        // Whoever asks for it does not want to wait until the outbox would have tried again by itself.
        for entry in unsettled(live.talkbox.store()).await? {
            live.talkbox.store().hasten(entry.id).await?;
        }
        for waiting in waiting(live.talkbox.store()).await? {
            live.talkbox.store().postpone_draft(waiting.new.id, session.clock.now()).await?;
        }
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        let drained = live.talkbox.drain(&keys, left.min(FLUSH)).await?;
        stored += drained.stored;
        let store = live.talkbox.store();
        let left = unsettled(store).await?;
        let partly = left.iter().filter(|entry| !entry.acks.is_empty()).count();
        let hopeful = left.iter().filter(|entry| entry.next_try.is_some()).count() + waiting(store).await?.len();
        let hopeless = left.iter().filter(|entry| entry.next_try.is_none()).count();
        if hopeful == 0 || !wait || tokio::time::Instant::now() + REST >= end {
            break (hopeful + hopeless, partly, hopeful);
        }
        tokio::time::sleep(REST).await;
    };
    live.close().await;
    let none = left - partly;
    if session.output.is_json() {
        session.output.object(&serde_json::json!({"stored": stored, "left": left, "partly": partly}))?;
    } else {
        session.output.line(format_args!("stored {stored}, at too few holders {partly}, at none {none}"))?;
    }
    if wait && left > 0 && hopeful == 0 {
        let message = format!("{left} messages are at fewer holders than was asked for, and the others refused them");
        return Err(Failure::new(Code::TooFewAcks, "too-few-acks", message)
            .hint("`talkbox outbox` says who refused them, and `talkbox outbox retry ID` asks those once more"));
    }
    if wait && left > 0 {
        return Err(Failure::timeout(format!("{left} messages are not stored yet"))
            .hint("they stay in the outbox; `talkbox outbox` says who refused them or could not be reached"));
    }
    Ok(Code::Done)
}

/// Messages that not enough holders have yet; one page of them, which is more than is tried at once.
async fn unsettled(store: &Store) -> Outcome<Vec<OutboxEntry>> {
    let mut query = OutboxQuery::default();
    query.originals = true;
    query.unsettled = true;
    Ok(store.outbox(query).await?.items)
}

/// Drafts whose mailboxes are still looked for.
async fn waiting(store: &Store) -> Outcome<Vec<WaitingDraft>> {
    let mut drafts = store.drafts().await?;
    drafts.retain(|waiting| waiting.next_try.is_some());
    Ok(drafts)
}

/// The keys of the mailboxes of this computer as whose owners drafts are to be sealed.
async fn senders(session: &Session, store: &Store) -> Outcome<Vec<SecretKey>> {
    let waiting = waiting(store).await?;
    let mut keys = Vec::new();
    for entry in session.keyring.list()? {
        if waiting.iter().any(|waiting| waiting.new.sender == Some(entry.id)) {
            keys.extend(session.keyring.unlock(Some(&entry))?.mailbox);
        }
    }
    Ok(keys)
}

async fn cancel(session: &Session, id: &str) -> Outcome {
    let live = session.open_store().await?;
    let entry = match lookup::outbox(&live.store, id).await? {
        Queued::Entry(entry) => entry,
        Queued::Draft(waiting) => {
            live.store.cancel_draft(waiting.new.id).await?;
            live.close().await;
            return draft_changed(session, &waiting, "cancelled");
        }
    };
    let had = entry.acks.len();
    let state = live.store.cancel(entry.id).await?;
    live.close().await;
    if state != OutboxState::Cancelled {
        return Err(Failure::input(format!(
            "message {} is {state}: it cannot be taken back",
            short(&entry.message.id)
        )));
    }
    changed(session, &entry, "cancelled")?;
    if had > 0 {
        session.output.warn(format_args!("{had} holders have it already: they keep it until it expires"));
    }
    Ok(Code::Done)
}

async fn retry(session: &Session, id: &str) -> Outcome {
    let live = session.open(None).await?;
    let entry = match lookup::outbox(live.talkbox.store(), id).await? {
        Queued::Entry(entry) => entry,
        Queued::Draft(waiting) => {
            live.talkbox.store().postpone_draft(waiting.new.id, session.clock.now()).await?;
            session.finish(live).await;
            return draft_changed(session, &waiting, "queued");
        }
    };
    let state = live.talkbox.store().retry(entry.id).await?;
    if state.is_final() {
        live.close().await;
        return Err(Failure::input(format!(
            "message {} is {state}: there is nothing to try",
            short(&entry.message.id)
        )));
    }
    changed(session, &entry, "queued")?;
    session.finish(live).await;
    Ok(Code::Done)
}

fn draft_changed(session: &Session, waiting: &WaitingDraft, state: &str) -> Outcome {
    if session.output.is_json() {
        let mut object = sending::draft_object(waiting);
        object["state"] = state.into();
        session.output.object(&object)?;
    } else {
        session.output.line(format_args!("{} {state}", short(&waiting.new.id)))?;
    }
    Ok(Code::Done)
}

fn changed(session: &Session, entry: &OutboxEntry, state: &str) -> Outcome<()> {
    if session.output.is_json() {
        return session.output.object(&sending::object(entry, state, None));
    }
    session.output.line(format_args!("{} {state}", short(&entry.message.id)))
}
