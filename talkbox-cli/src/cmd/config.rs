//! `talkbox config`: what is in force and where it came from; whether it is right; and a first file to begin with.

use serde_json::{Value, json};

use crate::{
    exit::{Code, Outcome},
    files,
    output::{DIM, Table},
    session::Session,
};

/// What `config init` writes. The relays are well-known public ones: whoever writes the file chooses them.
pub(crate) const TEMPLATE: &str = include_str!("../config.template.toml");

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print every value that is in force, and where it came from
    Show,
    /// Print where the configuration, the keys and the store are
    Path,
    /// Check the configuration; say what is wrong and where
    Check,
    /// Write a first configuration, with well-known public relays
    Init,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    match arguments.command {
        None | Some(Command::Show) => show(session),
        Some(Command::Path) => path(session),
        Some(Command::Check) => check(session).await,
        Some(Command::Init) => init(session),
    }
}

fn show(session: &Session) -> Outcome {
    let mut entries = session.config.entries(&session.registry)?;
    for entry in &mut entries {
        if entry.key.ends_with(".pins") && !are_tables(&entry.value) {
            // A token may stand where a service belongs.
            entry.value = "(hidden: these are no pinning services)".into();
        }
    }
    if session.output.is_json() {
        for entry in entries {
            let origin = entry.origin.to_string();
            session.output.object(&json!({"key": entry.key, "value": entry.value, "origin": origin}))?;
        }
        return Ok(Code::Done);
    }
    let mut table = Table::new(["KEY", "VALUE", "FROM"]);
    for entry in entries {
        let value =
            if entry.value.is_null() || entry.value == "" { "(not set)".to_owned() } else { entry.value.to_string() };
        table.row([entry.key, value, entry.origin.to_string()]);
    }
    table.print(&session.output)?;
    Ok(Code::Done)
}

/// Whether these are tables, of which the library hides what sounds like a secret.
fn are_tables(value: &Value) -> bool {
    value.as_array().is_some_and(|all| all.iter().all(Value::is_object))
}

fn path(session: &Session) -> Outcome {
    let paths = [
        ("config", session.config_path().clone()),
        ("mailboxes", session.paths.mailboxes()),
        ("store", session.paths.store()),
        ("store_key", session.paths.store_key()),
        ("data", session.paths.data().to_owned()),
    ];
    if session.output.is_json() {
        let object: serde_json::Map<_, _> =
            paths.into_iter().map(|(name, path)| (name.to_owned(), json!(path))).collect();
        session.output.object(&object)?;
        return Ok(Code::Done);
    }
    for (name, path) in paths {
        session.output.line(format_args!("{name:<10} {}", path.display()))?;
    }
    Ok(Code::Done)
}

async fn check(session: &Session) -> Outcome {
    session.config.check(&session.registry)?;
    // Opening finds what only the backend itself knows to be wrong. It connects to nobody.
    let opened = session.open_backends().await?;
    let mailboxes: Vec<&str> = opened.mailboxes.iter().map(|(name, _)| name.as_str()).collect();
    let transports: Vec<&str> = opened.transports.iter().map(|(name, _)| name.as_str()).collect();
    let holders: Vec<String> =
        opened.mailboxes.iter().flat_map(|(_, mailbox)| mailbox.holders()).map(|holder| holder.to_string()).collect();
    opened.close().await;
    let path = session.config_path();
    if session.output.is_json() {
        session.output.object(&json!({
            "config": path,
            "exists": path.exists(),
            "backend": session.config.backend(),
            "mailboxes": mailboxes,
            "transports": transports,
            "holders": holders,
        }))?;
        return Ok(Code::Done);
    }
    if !session.is_configured() {
        session.unconfigured_note();
    }
    session.output.line(format_args!("ok         backend `{}`", session.config.backend()))?;
    session.output.line(format_args!("mailboxes  {}", mailboxes.join(", ")))?;
    session.output.line(format_args!("transports {}", transports.join(", ")))?;
    for holder in holders {
        session.output.line(format_args!("holder     {holder}"))?;
    }
    Ok(Code::Done)
}

fn init(session: &Session) -> Outcome {
    let path = session.config_path();
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        files::private_folder(folder)?;
    }
    files::create(path, TEMPLATE)
        .map_err(|failure| failure.hint("edit it by hand; `talkbox config check` says whether it is right"))?;
    if session.output.is_json() {
        session.output.object(&json!({"config": path}))?;
        return Ok(Code::Done);
    }
    session.output.line(path.display())?;
    session
        .output
        .note(format_args!("{DIM}it names public relays: change them as you like, then `talkbox config check`{DIM:#}"));
    Ok(Code::Done)
}
