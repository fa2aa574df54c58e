//! What may be typed: the commands and their flags.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{cmd, text};

/// A sealed mailbox with a 20-symbol public code.
#[derive(Debug, Parser)]
#[command(
    name = "talkbox",
    version,
    about = "A sealed mailbox with a 20-symbol public code, and no server of its own",
    after_help = "Exit codes: 0 done (stored, or queued) · 1 internal · 2 bad input · 3 not found · 4 nobody reachable · \
                  5 too few acks · 6 locked or wrong secret · 7 verification failed · 8 refused by all · 9 timeout · \
                  130 interrupted.\n\nNew here? `talkbox demo` shows all of it on this computer, without a network.",
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The flags that every command has. A flag overrides the environment, that the configuration file, that the default.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The mailbox to use, by its name on this computer; the first one by default [env: TALKBOX_MAILBOX]
    // Not by clap's `env`, here and below: the configuration reads the variables itself, to say where a value is from.
    #[arg(long, short, global = true, value_name = "NAME")]
    pub(crate) mailbox: Option<String>,
    /// The backend: a name of the configuration, or a URI such as `nostr:wss://relay.example` [env: TALKBOX_BACKEND]
    #[arg(long, short, global = true, value_name = "NAME|URI")]
    pub(crate) backend: Option<String>,
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", env = "TALKBOX_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// The file whose first line is the password of the keys on this computer [env: TALKBOX_PASSWORD_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) password_file: Option<String>,
    /// Print JSON: one object, or one to a line [env: TALKBOX_JSON]
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Leave out what is neither data nor a problem [env: TALKBOX_QUIET]
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Say more about what goes on; twice for everything [env: TALKBOX_VERBOSE]
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// No colours [env: TALKBOX_NO_COLOR, NO_COLOR]
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// How long to wait for the network in all, such as `30s` [env: TALKBOX_TIMEOUT]
    #[arg(long, global = true, value_name = "TIME", value_parser = a_duration)]
    pub(crate) timeout: Option<String>,
    /// Do not use the network: what is sent stays queued [env: TALKBOX_OFFLINE]
    #[arg(long, global = true)]
    pub(crate) offline: bool,
}

/// Checks a duration, and leaves it as it is for the configuration to read.
fn a_duration(value: &str) -> Result<String, String> {
    text::seconds(value).map(|_| value.to_owned())
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a mailbox, or take one over from words, a passphrase or an nsec
    New(cmd::new::Arguments),
    /// Show the public code of a mailbox, its key, its link or its QR code
    Id(cmd::id::Arguments),
    /// Seal a message to a mailbox and send it
    Send(cmd::send::Arguments),
    /// Fetch and list the messages of a mailbox
    Read(cmd::read::Arguments),
    /// Show one message whole
    Open(cmd::open::Arguments),
    /// Wait for messages, and go on sending what is queued
    Watch(cmd::watch::Arguments),
    /// Answer a message
    Reply(cmd::reply::Arguments),
    /// Delete messages here, and ask all holders to
    Delete(cmd::delete::Arguments),
    /// What is queued, stored, or stuck
    Outbox(cmd::outbox::Arguments),
    /// Mailboxes, store, outbox, and who can be reached
    Status(cmd::status::Arguments),
    /// How the logs of a mailbox on IPFS stand: months, heads, peers, pins
    Log(cmd::log::Arguments),
    /// What pinning services keep
    Pin(cmd::pin::Arguments),
    /// Show, check or begin the configuration
    Config(cmd::config::Arguments),
    /// The kinds of backend that this program knows
    Backend(cmd::backend::Arguments),
    /// Run the conformance kit against a backend
    Conformance(cmd::conformance::Arguments),
    /// Run a node: a relay that keeps envelopes for mailboxes
    Node(Box<cmd::node::Arguments>),
    /// Write the envelopes of a mailbox as lines of JSON
    Export(cmd::export::Arguments),
    /// Take envelopes from lines of JSON, each one verified
    Import(cmd::import::Arguments),
    /// See all of it work on this computer: no network, no account, under a minute
    Demo(cmd::demo::Arguments),
}
