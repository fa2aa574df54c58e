//! `talkbox backend ls`: the kinds of backend that this program knows.

use serde_json::json;
use talkbox_core::Composition;

use crate::{
    exit::{Code, Outcome},
    output::Table,
    session::Session,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List them
    Ls,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let (Some(Command::Ls) | None) = arguments.command;
    if session.output.is_json() {
        for def in session.registry.iter() {
            session.output.object(&json!({
                "name": def.name,
                "about": def.about,
                "schemes": def.schemes,
                "keys": def.keys,
            }))?;
        }
        for composition in session.registry.compositions() {
            session.output.object(&json!({
                "name": composition.name,
                "about": about(composition),
                "mailbox": composition.mailbox,
                "transport": composition.transport,
            }))?;
        }
        return Ok(Code::Done);
    }
    let mut table = Table::new(["BACKEND", "LOCATORS", "SETTINGS", "WHAT IT IS"]);
    for def in session.registry.iter() {
        let schemes = def.schemes.iter().map(|scheme| format!("{scheme}:")).collect::<Vec<_>>().join(" ");
        table.row([def.name.to_owned(), schemes, def.keys.join(" "), def.about.to_owned()]);
    }
    for composition in session.registry.compositions() {
        table.row([composition.name.to_owned(), String::new(), "mailbox transport".to_owned(), about(composition)]);
    }
    table.print(&session.output)?;
    Ok(Code::Done)
}

fn about(composition: &Composition) -> String {
    format!("the mailbox of `{}` with the transport of `{}`", composition.mailbox, composition.transport)
}
