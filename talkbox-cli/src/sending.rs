//! What became of a message that was sent: how far it got, who has it, who would not take it, and the exit code.

use std::time::Duration;

use serde_json::{Value, json};
use talkbox_core::{
    ErrorKind, Refusal, Retry, Shortcode,
    client::{LaterRequest, Sent},
    local::{OutboxEntry, OutboxId, OutboxState, WaitingDraft},
};

use crate::{
    exit::{Code, Failure, Outcome},
    output::{BAD, DIM, GOOD, Output, WARN},
    session::{Live, Session},
    text::{REASON, date, one_line, place},
    view::short,
};

/// How long a message may take to be stored before the command ends and leaves it to the outbox: long enough for a
/// handshake with a distant relay.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same with `--wait`.
const LONG_PATIENCE: Duration = Duration::from_secs(60);

/// What helps where a holder keeps no such mailbox.
const KEEPS_NONE: &str = "ask whoever runs it to keep this mailbox, or name a holder that does";

/// How sending may end.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Ways {
    /// How many holders have to confirm it
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) min_acks: Option<u32>,
    /// Wait up to a minute (or `--timeout`) until it is stored; otherwise that is an error
    #[arg(long)]
    pub(crate) wait: bool,
    /// Where nobody can be reached, fail and keep nothing
    #[arg(long, conflicts_with = "wait")]
    pub(crate) no_queue: bool,
}

/// Waits until the message is stored or that has to be left to later, and says so.
pub(crate) async fn settle(session: &Session, live: Live, sent: &Sent, ways: &Ways, to: Option<Shortcode>) -> Outcome {
    let store = live.talkbox.store();
    let entry = if session.is_offline() {
        None
    } else {
        session.output.progress("sending …");
        let budget = session.budget(if ways.wait { LONG_PATIENCE } else { PATIENCE });
        let stored = live.talkbox.stored(sent.outbox, budget).await;
        session.output.progress_done();
        match stored {
            Err(error) if error.kind() == ErrorKind::Storage => return Err(error.into()),
            // What the outbox says counts, whatever networks do.
            stored => stored.ok(),
        }
    };
    let entry = match entry {
        Some(entry) => entry,
        None => {
            store.outbox_entry(sent.outbox).await?.ok_or_else(|| Failure::internal("the outbox lost the message"))?
        }
    };
    let end = End::of(&entry, ways);
    if matches!(end, End::Nobody | End::Refused) && ways.no_queue {
        store.cancel(entry.id).await?;
    }
    tell(&session.output, &entry, &end, to)?;
    // Whatever else waits goes the same way, and the sender's own copy.
    if matches!(end, End::Stored) && !session.is_offline() {
        session.finish(live).await;
    } else {
        live.close().await;
    }
    end.outcome(&entry)
}

/// Keeps a message for a mailbox that nobody can be asked for, and says so.
pub(crate) async fn wait_for_mailbox(session: &Session, live: Live, later: LaterRequest, ways: &Ways) -> Outcome {
    if ways.no_queue {
        live.close().await;
        return Err(nobody());
    }
    let id = live.talkbox.send_later(later).await?;
    waits(session, live, id, ways).await
}

/// Says that a message waits for its mailbox to be found; with `--no-queue` it is forgotten again.
pub(crate) async fn waits(session: &Session, live: Live, id: OutboxId, ways: &Ways) -> Outcome {
    let store = live.talkbox.store();
    if ways.no_queue {
        store.cancel_draft(id).await?;
        live.close().await;
        return Err(nobody());
    }
    let waiting = store.draft(id).await?.ok_or_else(|| Failure::internal("the outbox lost the message"))?;
    live.close().await;
    if session.output.is_json() {
        session.output.object(&draft_object(&waiting))?;
    } else {
        session.output.line(format_args!(
            "{WARN}queued{WARN:#}    nobody could be asked where this mailbox is; later commands and `talkbox watch` try again"
        ))?;
        session.output.line(format_args!("{DIM}outbox{DIM:#}    {}", short(&id)))?;
    }
    if ways.wait {
        return Err(Failure::timeout("the mailbox was not found when the time was over")
            .hint("the message stays in the outbox; `talkbox outbox flush --wait` goes on waiting"));
    }
    Ok(Code::Done)
}

/// The word of a holder that did answer, where one did: then the message does not wait for a connection. That a holder keeps
/// no such mailbox goes first: it is what somebody has to do something about.
fn answer(entry: &OutboxEntry) -> Option<&Refusal> {
    use ErrorKind::{Denied, InvalidEnvelope, NotFound, RateLimited, Refused, TooLarge};
    let answered = entry.refused.iter().filter(|refusal| {
        matches!(refusal.kind, Denied | InvalidEnvelope | NotFound | RateLimited | Refused | TooLarge)
    });
    answered.min_by_key(|refusal| refusal.kind != NotFound)
}

/// Why nobody has a message that is not to be queued.
fn not_taken(entry: &OutboxEntry) -> Failure {
    let Some(Refusal { holder, kind, words, .. }) = answer(entry) else { return nobody() };
    let hint = match kind {
        ErrorKind::NotFound => format!("nothing was sent or kept; {KEEPS_NONE}"),
        _ => "nothing was sent or kept; without `--no-queue` it would be queued".to_owned(),
    };
    let message = format!("{}: {}", place(holder), one_line(words, REASON));
    Failure::new(Code::of(*kind), kind.as_str(), message).hint(hint)
}

fn nobody() -> Failure {
    Failure::new(Code::Unreachable, "unreachable", "nobody could be reached")
        .hint("nothing was sent or kept; without `--no-queue` it would be queued")
}

/// How a message stands when the command ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Enough holders have it.
    Stored,
    /// Some have it, and the others may take it yet.
    TooFew,
    /// Some have it, and the others refused it for good.
    NoMore,
    /// Nobody has it yet; the outbox goes on.
    Queued,
    /// Nobody has it, and that is an error.
    Nobody,
    /// `--wait` is over.
    Late,
    /// Everybody refused it for good.
    Refused,
}

impl End {
    fn of(entry: &OutboxEntry, ways: &Ways) -> Self {
        let for_good = entry.refused.iter().filter(|refusal| refusal.retry == Retry::No).count();
        let wedged = matches!(entry.state, OutboxState::Wedged(_));
        let refused_by_all = wedged || (for_good > 0 && for_good >= entry.locators.len());
        match (entry.is_stored(), entry.acks.is_empty()) {
            (true, _) => Self::Stored,
            (false, true) if refused_by_all => Self::Refused,
            (false, false) if entry.next_try.is_none() => Self::NoMore,
            (false, _) if ways.wait => Self::Late,
            (false, false) => Self::TooFew,
            (false, true) if ways.no_queue => Self::Nobody,
            (false, true) => Self::Queued,
        }
    }

    const fn as_str(&self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::TooFew | Self::NoMore | Self::Queued | Self::Late => "queued",
            Self::Nobody => "cancelled",
            Self::Refused => "wedged",
        }
    }

    fn outcome(&self, entry: &OutboxEntry) -> Outcome {
        let (got, of) = (entry.acks.len(), entry.min_acks);
        match self {
            Self::Stored | Self::Queued => Ok(Code::Done),
            Self::TooFew => {
                let message = format!("stored by {got} of the {of} holders that were asked for");
                Err(Failure::new(Code::TooFewAcks, "too-few-acks", message)
                    .hint("what may still help is tried again; `talkbox outbox` shows it, and `--min-acks NUMBER` asks for less"))
            }
            Self::NoMore => {
                let message = format!("stored by {got} of the {of} holders that were asked for");
                Err(Failure::new(Code::TooFewAcks, "too-few-acks", message)
                    .hint("it can be read; the others refused it for good: `talkbox outbox retry ID` asks them once more, and `--min-acks NUMBER` asks for less"))
            }
            Self::Late => Err(Failure::timeout(format!("stored by {got} of {of} holders when the time was over"))
                .hint("it stays in the outbox and is tried again; `talkbox outbox flush --wait` goes on waiting")),
            Self::Nobody => Err(not_taken(entry)),
            Self::Refused => {
                let words = entry.refused.first().map(|refusal| refusal.words.clone()).unwrap_or_default();
                let message = format!("refused by all {} holders: {words}", entry.locators.len());
                Err(Failure::new(Code::Refused, "refused", message).hint(
                    "it was not sent; `talkbox outbox retry ID` tries again, `talkbox outbox cancel ID` forgets it",
                ))
            }
        }
    }
}

fn tell(output: &Output, entry: &OutboxEntry, end: &End, to: Option<Shortcode>) -> Outcome<()> {
    if output.is_json() {
        return output.object(&object(entry, end.as_str(), to));
    }
    let (got, of) = (entry.acks.len(), entry.locators.len());
    match end {
        End::Stored => output.line(format_args!("{GOOD}stored{GOOD:#}    {got}/{of}  {}", holders(entry)))?,
        End::TooFew | End::NoMore | End::Late if got > 0 => {
            output.line(format_args!("{WARN}stored{WARN:#}    {got}/{of}  {}", holders(entry)))?
        }
        End::Refused => output.line(format_args!("{BAD}refused{BAD:#}   {of}/{of}"))?,
        End::Nobody => {}
        _ => {
            let why = if answer(entry).is_some() { "no holder has taken it yet" } else { "nobody could be reached" };
            output.line(format_args!("{WARN}queued{WARN:#}    {why}; later commands and `talkbox watch` try again"))?;
        }
    }
    for refusal in &entry.refused {
        let (holder, words) = (place(&refusal.holder), one_line(&refusal.words, REASON));
        output.line(format_args!("{DIM}  not at{DIM:#}  {holder}: {words}"))?;
    }
    if !matches!(end, End::Nobody) && entry.refused.iter().any(|refusal| refusal.kind == ErrorKind::NotFound) {
        output.note(KEEPS_NONE);
    }
    for holder in &entry.pending {
        output.line(format_args!("{DIM}  on its way to{DIM:#} {holder}"))?;
    }
    if matches!(end, End::Nobody) {
        return Ok(());
    }
    output.line(format_args!("{DIM}message{DIM:#}   {}", short(&entry.message.id)))
}

/// Who has it, and until when where they signed that.
fn holders(entry: &OutboxEntry) -> String {
    let each = entry.acks.iter().map(|(ack, _)| match ack.until {
        Some(until) => format!("{} (until {})", ack.holder, date(until)),
        None => ack.holder.to_string(),
    });
    each.collect::<Vec<_>>().join("  ")
}

/// A draft that waits as `--json` prints it: there is no message and no envelope yet.
pub(crate) fn draft_object(waiting: &WaitingDraft) -> Value {
    json!({
        "id": null,
        "envelope": null,
        "outbox": waiting.new.id.to_string(),
        "state": draft_state(waiting),
        "to": waiting.new.to.to_string(),
        "stored": [],
        "pending": [],
        "refused": [],
        "reason": waiting.reason,
        "attempts": waiting.attempts,
        "next_try": waiting.next_try,
    })
}

/// The state of a draft, in the words of the outbox.
pub(crate) const fn draft_state(waiting: &WaitingDraft) -> &'static str {
    if waiting.next_try.is_some() { "queued" } else { "wedged" }
}

/// An entry of the outbox as `--json` prints it.
pub(crate) fn object(entry: &OutboxEntry, state: &str, to: Option<Shortcode>) -> Value {
    let stored = entry.acks.iter().map(|(ack, envelope)| {
        json!({
            "holder": ack.holder,
            "level": ack.level,
            "until": ack.until,
            "envelope": envelope,
        })
    });
    let refused = entry.refused.iter().map(|refusal| {
        json!({"holder": refusal.holder, "kind": refusal.kind.as_str(), "words": refusal.words, "retry": refusal.retry != Retry::No})
    });
    let mut object = json!({
        "id": entry.message.id,
        "envelope": entry.envelope.id(),
        "outbox": entry.id.to_string(),
        "state": state,
        "npub": talkbox_core::address::to_npub(&entry.recipient),
        "stored": stored.collect::<Vec<_>>(),
        "pending": entry.pending,
        "refused": refused.collect::<Vec<_>>(),
        "min_acks": entry.min_acks,
        "of": entry.locators.len(),
        "attempts": entry.attempts,
        "next_try": entry.next_try,
    });
    if let (Some(code), Some(members)) = (to, object.as_object_mut()) {
        members.insert("code".to_owned(), json!(code));
    }
    object
}
