//! The `talkbox` command as a library, so that a third party ships it with a backend of its own:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use talkbox_core::{Registry, memory};
//!
//! fn main() -> ExitCode {
//!     talkbox_cli::run(Registry::new().with(memory::backend()))
//! }
//! ```

mod announce;
mod args;
mod cmd;
mod exit;
mod files;
mod input;
mod interrupt;
mod ipfs;
mod keyring;
mod lookup;
mod output;
mod panics;
mod password;
mod paths;
mod prompt;
mod qr;
mod scratch;
mod secret;
mod sending;
mod session;
mod settings;
mod sync_log;
mod text;
mod view;

use std::{ffi::OsString, process::ExitCode, time::Duration};

use clap::Parser as _;
use talkbox_core::Registry;

use self::{
    args::{Arguments, Command},
    exit::{Code, Failure, Outcome},
    output::Output,
    session::Session,
};

/// How long work that is left may take when the process ends: what has to be on the disk is there before.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs the command line of this process with the backends of `registry`, and gives its exit code
/// (`docs/formats.md` §10).
///
/// It reads `std::env::args_os`, prints data to standard output and everything else to standard error, and ends
/// without a panic: one inside is told as an internal error.
pub fn run(registry: Registry) -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    panics::caught(|| start(&arguments, registry)).into()
}

fn start(arguments: &[OsString], registry: Registry) -> Code {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error, arguments),
    };
    let global = &arguments.global;
    let session = match Session::new(global, registry) {
        Ok(session) => session,
        Err(failure) => {
            let json = settings::wants_json(global.json);
            return report(&Output::new(json, global.quiet, global.verbose, global.no_color), Err(failure));
        }
    };
    session.output.start_log(matches!(&arguments.command, Command::Node(node) if node.is_service()));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&session.output, Err(Failure::internal(error))),
    };
    let outcome = runtime.block_on(async {
        let command = command(&session, &arguments.command);
        match arguments.command {
            // A node ends gracefully where it is interrupted, and that is no failure; a watch says goodbye.
            Command::Node(_) | Command::Watch(_) => command.await,
            _ => interrupt::or(command).await,
        }
    });
    runtime.shutdown_timeout(LAST_WORDS);
    report(&session.output, outcome)
}

async fn command(session: &Session, command: &Command) -> Outcome {
    // Each in a box: the state of the largest would otherwise be moved about for all.
    match command {
        Command::New(arguments) => Box::pin(cmd::new::run(session, arguments)).await,
        Command::Id(arguments) => Box::pin(cmd::id::run(session, arguments)).await,
        Command::Send(arguments) => Box::pin(cmd::send::run(session, arguments)).await,
        Command::Read(arguments) => Box::pin(cmd::read::run(session, arguments)).await,
        Command::Open(arguments) => Box::pin(cmd::open::run(session, arguments)).await,
        Command::Watch(arguments) => Box::pin(cmd::watch::run(session, arguments)).await,
        Command::Reply(arguments) => Box::pin(cmd::reply::run(session, arguments)).await,
        Command::Delete(arguments) => Box::pin(cmd::delete::run(session, arguments)).await,
        Command::Outbox(arguments) => Box::pin(cmd::outbox::run(session, arguments)).await,
        Command::Status(arguments) => Box::pin(cmd::status::run(session, arguments)).await,
        Command::Log(arguments) => Box::pin(cmd::log::run(session, arguments)).await,
        Command::Pin(arguments) => Box::pin(cmd::pin::run(session, arguments)).await,
        Command::Config(arguments) => Box::pin(cmd::config::run(session, arguments)).await,
        Command::Backend(arguments) => cmd::backend::run(session, arguments),
        Command::Conformance(arguments) => Box::pin(cmd::conformance::run(session, arguments)).await,
        Command::Node(arguments) => Box::pin(cmd::node::run(session, arguments)).await,
        Command::Export(arguments) => Box::pin(cmd::export::run(session, arguments)).await,
        Command::Import(arguments) => Box::pin(cmd::import::run(session, arguments)).await,
        Command::Demo(arguments) => Box::pin(cmd::demo::run(session, arguments)).await,
    }
}

fn report(output: &Output, outcome: Outcome) -> Code {
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            output.failure(&failure);
            failure.code()
        }
    }
}

/// What clap has to say: help and version on standard output, mistakes on standard error, as JSON where that was asked
/// for.
fn usage(error: &clap::Error, arguments: &[OsString]) -> Code {
    let code = if error.use_stderr() { Code::BadInput } else { Code::Done };
    let json = settings::wants_json(arguments.iter().any(|argument| argument == "--json"));
    if json && error.use_stderr() {
        let text = error.render().to_string();
        let message = text.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default().trim();
        let failure = Failure::new(Code::BadInput, "usage", message).hint("`talkbox --help` lists commands and flags");
        Output::new(true, false, 0, false).failure(&failure);
    } else {
        // Where nobody reads it, nothing is lost.
        let _ = error.print();
    }
    code
}
