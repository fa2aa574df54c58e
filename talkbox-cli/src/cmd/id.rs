//! `talkbox id`: the public side of a mailbox, in every form that it is handed out in.

use serde_json::json;
use talkbox_core::address::{to_nprofile, to_npub};

use crate::{
    exit::{Code, Outcome},
    output::{CODE, DIM},
    qr,
    session::Session,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Letters and digits are public, words are secret. The code is for dictating and typing; link and QR \
                        code carry the whole key and where the mailbox is, so that they trust no directory."
)]
pub(crate) struct Arguments {
    /// The mailbox, by its name on this computer
    name: Option<String>,
    /// Show a QR code, for the camera of a phone
    #[arg(long)]
    qr: bool,
    /// Draw the QR code for a terminal that writes dark on light
    #[arg(long, requires = "qr")]
    inverted: bool,
    /// Print a link; with HOST one to a web page there, such as `https://tips.example`
    #[arg(long, value_name = "HOST", num_args = 0..=1, default_missing_value = "", conflicts_with = "npub")]
    link: Option<String>,
    /// Print the key as an npub
    #[arg(long)]
    npub: bool,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let entry = session.entry(arguments.name.as_deref())?;
    let npub = to_npub(&entry.id);
    let nprofile = to_nprofile(&entry.id, &session.relay_hints().await)?;
    let link = match arguments.link.as_deref().unwrap_or_default() {
        "" => format!("nostr:{nprofile}"),
        host => format!("{}/#/to/{nprofile}", host.trim_end_matches('/')),
    };
    if session.output.is_json() {
        session.output.object(&json!({
            "mailbox": entry.name,
            "code": entry.code,
            "npub": npub,
            "nprofile": nprofile,
            "link": link,
            "made_from": entry.origin,
            "created_at": entry.created_at,
        }))?;
        return Ok(Code::Done);
    }
    if arguments.qr {
        // In upper case a QR code needs half the room for the same text; links to a host keep their case.
        let text = if link.starts_with("nostr:") { link.to_ascii_uppercase() } else { link.clone() };
        for line in qr::lines(&text, arguments.inverted)? {
            session.output.line(line)?;
        }
    }
    if arguments.npub {
        session.output.line(npub)?;
    } else if arguments.link.is_some() {
        session.output.line(link)?;
    } else {
        session.output.line(format_args!("{CODE}{}{CODE:#}", entry.code))?;
        session.output.note(format_args!("{DIM}{npub}  mailbox `{}`{DIM:#}", entry.name));
    }
    Ok(Code::Done)
}
