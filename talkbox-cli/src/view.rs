//! Messages as they are shown: a line of a table, a whole one, an object.

use serde::Serialize;
use talkbox_core::{MailboxId, MessageKind, PublicKey, address::to_npub, local::StoredMessage};

use crate::{
    exit::Outcome,
    output::{BOLD, DIM, Output, WARN, align},
    text::{ago, one_line, rfc3339, safe, size},
};

/// Digits of an id that are shown: one in four billion messages shares them with another.
const SHORT: usize = 8;
/// Columns are as wide as this whatever comes later, since a page is printed before the next is read.
const WIDTHS: [usize; 5] = [SHORT + 1, 6, 16, 7, 60];

/// The first digits of an id, enough to type.
pub(crate) fn short(id: &impl ToString) -> String {
    id.to_string().chars().take(SHORT).collect()
}

/// A key, short enough for a column and long enough to be told from others.
pub(crate) fn short_key(key: &MailboxId) -> String {
    let npub = to_npub(key);
    format!("{}…{}", &npub[..9], &npub[npub.len() - 4..])
}

/// The head of the table.
pub(crate) fn head(output: &Output) -> Outcome<()> {
    let head = align(&["ID", "WHEN", "FROM", "SIZE", "TEXT"].map(str::to_owned), &WIDTHS);
    output.line(format_args!("{BOLD}{head}{BOLD:#}"))
}

/// A line of the table; `*` stands before what is unread.
pub(crate) fn row(
    output: &Output,
    owner: MailboxId,
    stored: &StoredMessage,
    now: talkbox_core::Timestamp,
) -> Outcome<()> {
    let message = &stored.message;
    let mark = if stored.read_at.is_none() { "*" } else { " " };
    let from = if MailboxId::from(message.from) == owner {
        format!("to {}", short_key(&message.to))
    } else {
        short_key(&message.from.into())
    };
    let text = match (&message.kind, &message.subject) {
        (MessageKind::Text, Some(subject)) => format!("[{subject}] {}", message.body),
        (MessageKind::Text, None) => message.body.clone(),
        (MessageKind::Control, _) => format!("(control: {})", message.status.as_deref().unwrap_or("?")),
        (MessageKind::Unsupported(kind), _) => format!("(kind {kind}: this version cannot show it)"),
        _ => "(this version cannot show it)".to_owned(),
    };
    let cells = [
        format!("{mark}{}", short(&message.id)),
        ago(stored.sort_time(), now),
        from,
        size(message.body.len()),
        one_line(&text, WIDTHS[4]),
    ];
    output.line(align(&cells, &WIDTHS))
}

/// A message with everything that is known of it, for a person.
pub(crate) fn whole(output: &Output, owner: MailboxId, stored: &StoredMessage) -> Outcome<()> {
    let message = &stored.message;
    let field = |name: &str, value: &str| output.line(format_args!("{DIM}{name:<8}{DIM:#} {}", one_line(value, 200)));
    field("message", &message.id.to_hex())?;
    field("from", &author(&message.from, owner))?;
    if message.to != owner {
        field("to", &to_npub(&message.to))?;
    }
    field("sent", &rfc3339(message.sent_at))?;
    if let Some(subject) = &message.subject {
        field("subject", subject)?;
    }
    if let Some(other) = &message.reply_to {
        field("answers", &short(other))?;
    }
    if let Some(mime) = &message.mime {
        field("type", mime)?;
    }
    if let Some(place) = &message.answer_at {
        field("reply to", place)?;
        output.line(format_args!(
            "{WARN}         the sender asks for answers there; `talkbox reply` answers the key above{WARN:#}"
        ))?;
    }
    output.line("")?;
    output.line(safe(&message.body))
}

fn author(key: &PublicKey, owner: MailboxId) -> String {
    let npub = to_npub(&(*key).into());
    if MailboxId::from(*key) == owner { format!("{npub} (this mailbox)") } else { npub }
}

/// A message as `--json` prints it. `from` is proved by a signature; everything else is what the sender claims.
#[derive(Debug, Serialize)]
pub(crate) struct Json<'a> {
    id: String,
    envelope: String,
    kind: &'a MessageKind,
    from: String,
    to: String,
    verified: bool,
    sent_at: u64,
    first_seen: u64,
    read: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    re: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    mime: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    work: u8,
    request: bool,
    body: &'a str,
}

impl<'a> Json<'a> {
    pub(crate) fn of(stored: &'a StoredMessage) -> Self {
        let message = &stored.message;
        Self {
            id: message.id.to_hex(),
            envelope: message.envelope.to_hex(),
            kind: &message.kind,
            from: to_npub(&message.from.into()),
            to: to_npub(&message.to),
            verified: true,
            sent_at: message.sent_at.secs(),
            first_seen: stored.first_seen.secs(),
            read: stored.read_at.is_some(),
            subject: message.subject.as_deref(),
            re: message.reply_to.map(|id| id.to_hex()),
            mime: message.mime.as_deref(),
            reply_to: message.answer_at.as_deref(),
            status: message.status.as_deref(),
            work: stored.work,
            request: stored.requests,
            body: &message.body,
        }
    }
}
