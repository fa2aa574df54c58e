//! `talkbox status`: the mailboxes, the store, the outbox, and who can be reached.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use talkbox_core::{
    ErrorKind, ListOptions, Locator, Mailbox, MailboxId, Timestamp,
    config::Opened,
    local::{OutboxQuery, OutboxState, Store},
};

use crate::{
    exit::{Code, Outcome},
    output::{BAD, DIM, GOOD, Table},
    session::Session,
    sync_log,
    text::{REASON, ago, one_line, place},
};

/// How long a holder may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) async fn run(session: &Session, _arguments: &Arguments) -> Outcome {
    let entries = session.keyring.list()?;
    let live = session.open(None).await?;
    let store = live.talkbox.store();
    let now = session.clock.now();
    let mut mailboxes = Vec::new();
    for entry in &entries {
        mailboxes.push(Line {
            name: entry.name.clone(),
            code: entry.code.to_string(),
            counts: store.count(entry.id).await?,
            last_arrival: store.last_arrival(entry.id).await?,
            last_sync: sync_log::last(store, entry.id).await?,
        });
    }
    let outbox = Outbox::count(store).await?;
    let deletions = store.count_deletions().await?;
    let holders = if session.is_offline() {
        Vec::new()
    } else {
        session.output.progress("asking the holders …");
        // Any mailbox will do: what counts is that there is an answer.
        let owner = entries.first().map_or(MailboxId::from_bytes([1; 32]), |entry| entry.id);
        reach(live.talkbox.backends(), owner, session.budget(PATIENCE)).await
    };
    session.output.progress_done();
    session.finish(live).await;
    if session.output.is_json() {
        session.output.object(&json!({
            "mailboxes": mailboxes.iter().map(Line::json).collect::<Vec<_>>(),
            "outbox": outbox.json(),
            "deletions": deletions,
            "backend": session.config.backend(),
            "holders": holders.iter().map(|(holder, error)| json!({"holder": holder, "reachable": error.is_none(), "error": error})).collect::<Vec<_>>(),
        }))?;
        return Ok(Code::Done);
    }
    tell(session, &mailboxes, &outbox, deletions, &holders, now)
}

fn tell(
    session: &Session,
    mailboxes: &[Line],
    outbox: &Outbox,
    deletions: u64,
    holders: &[(Locator, Option<String>)],
    now: Timestamp,
) -> Outcome {
    let output = &session.output;
    if mailboxes.is_empty() {
        output.note("there is no mailbox on this computer yet: `talkbox new` makes one");
    } else {
        let when = |time: Option<Timestamp>| time.map_or_else(|| "never".to_owned(), |time| ago(time, now));
        let mut table = Table::new(["MAILBOX", "CODE", "MESSAGES", "UNREAD", "LAST ONE", "LAST READ"]);
        for line in mailboxes {
            table.row([
                line.name.clone(),
                line.code.clone(),
                line.counts.total.to_string(),
                line.counts.unread.to_string(),
                when(line.last_arrival),
                when(line.last_sync),
            ]);
        }
        table.print(output)?;
    }
    let Outbox { queued, stored, delivered, wedged, .. } = outbox;
    output.line(format_args!("outbox     {queued} queued, {stored} stored, {delivered} delivered, {wedged} stuck"))?;
    if deletions > 0 {
        output.line(format_args!("deletions  {deletions} not confirmed yet; holders are asked again"))?;
    }
    output.line(format_args!("backend    {}", session.config.backend()))?;
    if !session.is_configured() {
        session.unconfigured_note();
    }
    for (holder, error) in holders {
        match error {
            None => output.line(format_args!("{GOOD}reachable{GOOD:#}  {holder}"))?,
            Some(error) => {
                let (holder, why) = (place(holder), one_line(error, REASON));
                output.line(format_args!("{BAD}away{BAD:#}       {holder} {DIM}{why}{DIM:#}"))?;
            }
        }
    }
    Ok(Code::Done)
}

struct Line {
    name: String,
    code: String,
    counts: talkbox_core::local::MessageCounts,
    last_arrival: Option<Timestamp>,
    last_sync: Option<Timestamp>,
}

impl Line {
    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "code": self.code,
            "messages": self.counts.total,
            "unread": self.counts.unread,
            "requests": self.counts.requests,
            "last_arrival": self.last_arrival,
            "last_sync": self.last_sync,
        })
    }
}

#[derive(Debug, Default)]
struct Outbox {
    queued: u64,
    stored: u64,
    delivered: u64,
    wedged: u64,
    cancelled: u64,
}

impl Outbox {
    async fn count(store: &Store) -> Outcome<Self> {
        let mut counts = Self::default();
        let mut query = OutboxQuery::default();
        query.originals = true;
        loop {
            let page = store.outbox(query.clone()).await?;
            for entry in &page.items {
                match entry.state {
                    OutboxState::Delivered => counts.delivered += 1,
                    OutboxState::Wedged(_) => counts.wedged += 1,
                    OutboxState::Cancelled => counts.cancelled += 1,
                    _ if entry.is_stored() => counts.stored += 1,
                    _ => counts.queued += 1,
                }
            }
            query.after = page.next;
            if query.after.is_none() {
                return Ok(counts);
            }
        }
    }

    fn json(&self) -> Value {
        let Self { queued, stored, delivered, wedged, cancelled } = self;
        json!({"queued": queued, "stored": stored, "delivered": delivered, "wedged": wedged, "cancelled": cancelled})
    }
}

/// Asks every holder for nearly nothing, all at once: who answers is reachable, also one that wants to know who asks.
async fn reach(opened: &Opened, owner: MailboxId, budget: Duration) -> Vec<(Locator, Option<String>)> {
    let ask = async |mailbox: &Arc<dyn Mailbox>, holder: Locator| {
        let asked = mailbox.list(owner, &holder, ListOptions::default().limit(1));
        let error = match tokio::time::timeout(budget, asked).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) if error.kind() == ErrorKind::Denied => None,
            Ok(Err(error)) => Some(error.message().to_owned()),
            Err(_) => Some("no answer".to_owned()),
        };
        (holder, error)
    };
    let holders = opened
        .mailboxes
        .iter()
        .flat_map(|(_, mailbox)| mailbox.holders().into_iter().map(move |holder| (mailbox, holder)));
    join_all(holders.map(|(mailbox, holder)| ask(mailbox, holder))).await
}
