//! `talkbox send`: seals a message to a mailbox and sends it, and says exactly how far it got.

use std::{path::PathBuf, time::Duration};

use talkbox_core::{
    Draft, ErrorKind, MessageId, Retry, SecretKey, Shortcode,
    address::{Address, Target},
    client::{LaterRequest, Resolved, SendRequest},
    local::Pin,
    shortcode::ParseError,
};

use crate::{
    exit::{Failure, Outcome},
    input,
    keyring::Entry,
    output::DIM,
    sending::{self, Ways},
    session::Session,
    text::size,
    view::short_key,
};

/// How long finding a mailbox may take; `docs/formats.md` §4 says 30 s.
const RESOLVE: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The message is on the disk before anything is sent. `stored k/n` says how many holders confirmed \
                        that they keep it; a message for which nobody could be reached says `queued`, and goes out with \
                        the next command, `talkbox watch` or `talkbox outbox flush`.\n\n\
                        Without `--from` or `--mailbox` it is sent under a throw-away key, to which the owner can reply."
)]
pub(crate) struct Arguments {
    /// The mailbox to send to: a code, npub, nprofile, or link
    #[arg(value_name = "CODE")]
    to: String,
    /// The text; `-` or nothing reads standard input
    text: Option<String>,
    /// Read the text from a file
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    from_file: Option<PathBuf>,
    /// One line that says what it is about
    #[arg(long, value_name = "LINE")]
    subject: Option<String>,
    /// The MIME type of the text
    #[arg(long = "type", value_name = "MIME")]
    mime: Option<String>,
    /// The message that it answers, by its whole id
    #[arg(long, value_name = "ID")]
    reply_to: Option<String>,
    /// Who sends it: a mailbox of this computer, or `anonymous`
    #[arg(long, value_name = "MAILBOX|anonymous")]
    from: Option<String>,
    #[command(flatten)]
    ways: Ways,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let address = address(session, &arguments.to)?;
    let reply_to = arguments.reply_to.as_deref().map(MessageId::from_hex).transpose()?;
    let sender = arguments.sender(session)?;
    let body = input::text(arguments.text.as_deref(), arguments.from_file.as_deref())?;
    let length = body.len();
    let mut draft = Draft::text(body);
    draft.subject.clone_from(&arguments.subject);
    draft.mime.clone_from(&arguments.mime);
    draft.reply_to = reply_to;

    let live = session.open(sender.as_ref()).await?;
    session.output.progress("looking for the mailbox …");
    // Without the network what is pinned has to be enough, and is there at once.
    let budget = if session.is_offline() { Duration::ZERO } else { session.budget(RESOLVE) };
    let found = live.talkbox.resolve(&address, budget).await;
    session.output.progress_done();
    let found = match found {
        Ok(found) => found,
        Err(error) if waits(session, &error) => {
            let later = LaterRequest::new(address.clone(), draft)
                .from(live.key.as_ref().map(SecretKey::id))
                .min_acks(arguments.ways.min_acks);
            return sending::wait_for_mailbox(session, live, later, &arguments.ways).await;
        }
        Err(error) => {
            let failure = unresolved(session, &address, error);
            live.close().await;
            return Err(failure);
        }
    };
    let to = found.clone();
    let request = SendRequest::new(found, draft).from(live.key.clone()).min_acks(arguments.ways.min_acks);
    let sent = live.talkbox.send(request).await?;
    if !session.output.is_json() {
        tell(session, &to, length, sender.as_ref())?;
    }
    sending::settle(session, live, &sent, &arguments.ways, to.code).await
}

/// Whom it goes to, how that is known, and as whom.
fn tell(session: &Session, to: &Resolved, length: usize, sender: Option<&Entry>) -> Outcome<()> {
    let key = short_key(&to.mailbox);
    let name = to.code.map_or_else(|| key.clone(), |code| format!("{code} = {key}"));
    let known = match to.pin {
        Some(Pin::First) => "verified, and pinned from now on",
        Some(_) => "pinned",
        None => "a key without a record",
    };
    session.output.line(format_args!("{DIM}to{DIM:#}        {name} ({known})"))?;
    let from = sender.map_or_else(|| "a throw-away key".to_owned(), |entry| format!("`{}`", entry.name));
    session.output.line(format_args!("{DIM}sealed{DIM:#}    {}, from {from}", size(length)))
}

impl Arguments {
    fn sender(&self, session: &Session) -> Outcome<Option<Entry>> {
        match self.from.as_deref() {
            Some("anonymous") => Ok(None),
            Some(name) => session.keyring.find(Some(name)).map(Some),
            // A mailbox that was named for this command; not one that the configuration names for reading.
            None if session.names_mailbox() => session.entry(None).map(Some),
            None => Ok(None),
        }
    }
}

/// Reads an address; a mistyped one is an error with what is possible, and is never sent to a guess.
pub(super) fn address(session: &Session, text: &str) -> Outcome<Address> {
    let own: Vec<Shortcode> = session.keyring.list()?.iter().map(|entry| entry.code).collect();
    Address::parse(text).map_err(|error| mistyped(error.known_first(|code| own.contains(code))))
}

fn mistyped(error: ParseError) -> Failure {
    let possible: Vec<serde_json::Value> = error
        .possible()
        .iter()
        .map(|possible| serde_json::json!({"code": possible.code, "position": possible.position, "change": possible.change}))
        .collect();
    let name = match &error {
        ParseError::WrongCheck { .. } => "bad-check",
        ParseError::Secret { .. } => "secret",
        _ => "bad-code",
    };
    let hint = match (&error, possible.is_empty()) {
        (ParseError::Secret { .. }, _) => "nothing was sent, and it was not looked up",
        (_, true) => "nothing was sent; ask the owner for the code, or for the npub",
        (_, false) => "nothing was sent, and none of these is taken unasked: compare with where you have it from",
    };
    Failure::new(crate::exit::Code::BadInput, name, error).hint(hint).detail("possible", possible)
}

/// Whether it is only that nobody can be asked now: then the message is kept, as one is that is found and cannot be
/// delivered.
fn waits(session: &Session, error: &talkbox_core::Error) -> bool {
    let nobody = error.kind() == ErrorKind::Unreachable && error.retry_advice() != Retry::No;
    session.is_configured() && (session.is_offline() || nobody)
}

fn unresolved(session: &Session, address: &Address, error: talkbox_core::Error) -> Failure {
    let kind = error.kind();
    let failure = Failure::from(error);
    if let Err(unconfigured) = session.require_network() {
        return unconfigured;
    }
    match (kind, address.target()) {
        (ErrorKind::NotFound, Target::Code(_)) => failure.hint(
            "nobody announced a mailbox of this code where you looked; ask its owner for a link, which says where it is",
        ),
        (ErrorKind::VerificationFailed, _) => failure.hint("nothing was sent; ask the owner for the full key"),
        _ => failure,
    }
}
