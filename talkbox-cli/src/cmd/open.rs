//! `talkbox open`: one message whole.

use std::io::Write;

use crate::{
    exit::{Code, Outcome},
    lookup,
    session::Session,
    view,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The message, by the first digits of its id
    id: String,
    /// Print the body alone, byte by byte
    #[arg(long)]
    raw: bool,
    /// Leave it unread
    #[arg(long)]
    keep_unread: bool,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let entry = session.entry_if_any()?;
    let live = session.open_store().await?;
    let lookup::Found { stored: message, owner, .. } =
        lookup::message(&live.store, entry.as_ref(), &arguments.id).await?;
    if arguments.raw {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(message.message.body.as_bytes())?;
        stdout.flush()?;
    } else if session.output.is_json() {
        session.output.object(&view::Json::of(&message))?;
    } else {
        view::whole(&session.output, owner, &message)?;
    }
    if !arguments.keep_unread {
        live.store.mark_read(owner, &[message.message.id]).await?;
    }
    session.finish_store(live).await;
    Ok(Code::Done)
}
