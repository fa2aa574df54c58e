//! `talkbox reply`: answers a message, to the key that sealed it.

use std::path::PathBuf;

use talkbox_core::{Draft, client::Replied};

use crate::{
    exit::Outcome,
    input, lookup,
    sending::{self, Ways},
    session::Session,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The message to answer, by the first digits of its id
    id: String,
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
    #[command(flatten)]
    ways: Ways,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let entry = session.entry_if_any()?;
    let body = input::text(arguments.text.as_deref(), arguments.from_file.as_deref())?;
    let live = session.open(entry.as_ref()).await?;
    let found = lookup::message(live.talkbox.store(), entry.as_ref(), &arguments.id).await?;
    let message = found.stored.message;
    // An answer to a throw-away key is answered under the same key.
    let key = found.throw_away.map_or_else(|| live.key().cloned(), Ok)?;
    let mut draft = Draft::text(body);
    draft.subject.clone_from(&arguments.subject);
    draft.mime.clone_from(&arguments.mime);
    draft.reply_to = Some(message.id);
    match live.talkbox.reply(&key, &message, draft, arguments.ways.min_acks).await? {
        Replied::Sent(sent) => sending::settle(session, live, &sent, &arguments.ways, None).await,
        Replied::Waits(id) => sending::waits(session, live, id, &arguments.ways).await,
    }
}
