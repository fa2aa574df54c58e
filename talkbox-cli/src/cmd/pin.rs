//! `talkbox pin`: what pinning services keep of the mailboxes on IPFS.

use std::path::PathBuf;

use serde_json::json;
use talkbox_backend_ipfs::{PinList, PinReport};
use talkbox_core::{Error, ErrorKind, MailboxId, Timestamp};

use crate::{
    exit::{Code, Failure, Outcome},
    ipfs,
    output::{BAD, BOLD, DIM, Output, Table},
    session::Session,
    text::{REASON, number, one_line, rfc3339},
    view::short_key,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Services are named by `pins` under [backends.ipfs], or under [ipfs] in the settings of a node; \
                        docs/ipfs.md tells how."
)]
pub(crate) struct Arguments {
    /// Those of the node with these settings, instead of one's own
    #[arg(long, global = true, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// The folder of that node, where its settings do not name it [default: `node` in the data folder]
    #[arg(long, global = true, value_name = "DIR", requires = "settings")]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// How each month stands at each service
    Status,
    /// Every request that each service has, in its own words
    Ls,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let (pins, context) = match &arguments.settings {
        None => {
            let (config, context) = ipfs::backend(session)?;
            (talkbox_backend_ipfs::pin_settings(config)?, context)
        }
        Some(settings) => {
            let (pins, folder) = super::node::pins(session, settings, arguments.data.as_deref())?;
            let mut context = session.context("node");
            context.data_dir = Some(folder);
            (pins, context)
        }
    };
    // What `talkbox config check` says is not about them.
    let of_node = |failure: Failure| match &arguments.settings {
        Some(path) if failure.code() == Code::BadInput => failure.hint(format_args!(
            "put `pins = [{{ name = \"…\", endpoint = \"https://…\", token_file = \"/…\" }}]` right under [ipfs] in {}",
            path.display()
        )),
        _ => failure,
    };
    match arguments.command {
        None | Some(Command::Status) => {
            let reports = ipfs::wait(session, talkbox_backend_ipfs::pin_status(&pins, &context)).await;
            let mut reports = reports.map_err(of_node)?;
            // A month in which nothing came yet.
            reports.retain(|pin| pin.of > 0);
            status(session, &reports)?;
            // How pins stand is known without a token; that none can be made is said all the same.
            talkbox_backend_ipfs::pin_tokens(&pins).await.map_err(not_asked)?;
            Ok(Code::Done)
        }
        Some(Command::Ls) => {
            if session.is_offline() {
                return Err(Failure::input("the services cannot be asked with `--offline`"));
            }
            session.output.progress("asking the services …");
            let lists = ipfs::wait(session, talkbox_backend_ipfs::pin_list(&pins, &context)).await;
            session.output.progress_done();
            list(&session.output, &lists.map_err(of_node)?)
        }
    }
}

fn status(session: &Session, pins: &[PinReport]) -> Outcome<()> {
    let output = &session.output;
    if output.is_json() {
        for pin in pins {
            output.object(pin)?;
        }
        return Ok(());
    }
    if pins.is_empty() {
        output.note("there is no log here yet that could be pinned");
        return Ok(());
    }
    let own = session.keyring.list()?;
    table(output, pins, |pin| {
        // Its name is `talkbox/1/<key>/<month>`.
        let mut parts = pin.name.rsplit('/');
        let (month, key) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let mailbox = MailboxId::from_hex(key).ok();
        let name = mailbox.and_then(|id| own.iter().find(|entry| entry.id == id)).map(|entry| entry.name.clone());
        let name = name.or_else(|| mailbox.as_ref().map(short_key)).unwrap_or_default();
        format!("{name} {month}")
    })
}

/// How logs stand, each under a name.
pub(super) fn table(output: &Output, pins: &[PinReport], name: impl Fn(&PinReport) -> String) -> Outcome<()> {
    let mut table = Table::new(["PIN SERVICE", "LOG", "STATE", "PINNED", "TRIES", "LAST", "DETAILS"]);
    for pin in pins {
        table.row([
            pin.service.clone(),
            name(pin),
            pin.state.to_owned(),
            format!("{} of {}", pin.covered, pin.of),
            pin.attempts.to_string(),
            pin.tried_at.filter(|time| *time > Timestamp(0)).map_or_else(String::new, rfc3339),
            one_line(pin.details.as_deref().unwrap_or_default(), REASON),
        ]);
    }
    table.print(output)
}

/// Shows what each service has.
///
/// # Errors
/// Why one of them could not be asked.
fn list(output: &Output, lists: &[PinList]) -> Outcome {
    show(output, lists)?;
    let failed = lists.iter().filter_map(|list| Some((list.error_kind?, list.error.as_ref()?)));
    // The settings first: of several reasons that one does not go away by itself.
    match failed.min_by_key(|(kind, _)| *kind != ErrorKind::ConfigInvalid) {
        None => Ok(Code::Done),
        // It names the service.
        Some((kind, error)) => Err(not_asked(Error::new(kind, error.clone()))),
    }
}

/// Why a service could not be asked, and what to do.
fn not_asked(error: Error) -> Failure {
    let hint = match error.kind() {
        ErrorKind::ConfigInvalid => {
            "the service's token stands alone in the file of `token_file`, as one line, and only you can read it (`chmod 600`)"
        }
        ErrorKind::Denied => {
            "the service does not know the token: put the one that it gave you into the file of `token_file`"
        }
        ErrorKind::Unsupported => "`endpoint` is where the service's API begins, without `/pins`",
        _ => "see that `endpoint` is right and that the service runs, then try again",
    };
    Failure::from(error).hint(hint)
}

fn show(output: &Output, lists: &[PinList]) -> Outcome<()> {
    if output.is_json() {
        for list in lists {
            output.object(&json!({
                "service": list.service,
                "pins": list.pins,
                "unreadable": list.unreadable,
                "has_more": list.has_more,
                "error": list.error,
            }))?;
        }
        return Ok(());
    }
    for list in lists {
        if let Some(error) = &list.error {
            output.line(format_args!("{BOLD}{}{BOLD:#}  {BAD}not asked{BAD:#}", list.service))?;
            output.line(format_args!("  {BAD}{}{BAD:#}", one_line(error, REASON)))?;
            continue;
        }
        output.line(format_args!(
            "{BOLD}{}{BOLD:#}  {}",
            list.service,
            number(list.pins.len() as u64, "request", "requests")
        ))?;
        for pin in &list.pins {
            let name = pin.name.as_deref().or(pin.log.as_deref()).unwrap_or("(no name)");
            output.line(format_args!("  {:<8} {}  {}", pin.state, one_line(&pin.cid, 80), one_line(name, 100)))?;
            let details = pin.details.as_deref().map(|details| one_line(details, REASON)).unwrap_or_default();
            let (request, created) = (one_line(&pin.request, 80), one_line(&pin.created, 40));
            output.line(format_args!("  {DIM}         {request}  {created}  {details}{DIM:#}"))?;
        }
        if list.unreadable > 0 {
            output.line(format_args!("  {} of them could not be read", list.unreadable))?;
        }
        if list.has_more {
            output.line("  there are more than were asked for")?;
        }
    }
    Ok(())
}
