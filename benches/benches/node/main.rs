//! The figures of a node, measured from outside and in one run with nostr-rs-relay and PostgreSQL, beside what is claimed
//! of them. It reports and does not judge: a figure that is not held is a line that says NO, and no failure.
//!
//! `cargo bench -p talkbox-benches --bench node [-- NAME…]`, where NAME is one of the groups below.
//! What each claim means is in `benches/README.md`.

mod delivering;
mod hostile;
mod http;
mod ingesting;
mod load;
mod meshing;
mod million;
mod postgres;
mod publishing;
mod querying;
mod servers;
mod storing;
mod supply;
mod websocket;

use std::{io, process::ExitCode};

use talkbox_benches::Report;

use self::supply::Supply;

/// A group of claims, by the name that it is asked for by.
type Claims = (&'static str, fn(&Supply, &Report) -> io::Result<()>);

const ALL: [Claims; 8] = [
    ("ingesting", ingesting::claims),
    ("storing", storing::claims),
    ("publishing", publishing::claims),
    ("delivering", delivering::claims),
    ("querying", querying::claims),
    ("meshing", meshing::claims),
    ("hostile", hostile::claims),
    ("million", million::claims),
];

fn main() -> ExitCode {
    // The node is this same program, started again as the command.
    if servers::is_command() {
        return talkbox_cli::run(servers::registry());
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|it| it == name);
    match report(is_wanted) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read has gone, or a server did not start.
        Err(error) => {
            let _gone = io::Write::write_fmt(&mut io::stderr(), format_args!("{error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn report(is_wanted: impl Fn(&str) -> bool) -> io::Result<()> {
    let supply = Supply::new();
    let report = Report::begin()?;
    for (name, claims) in ALL {
        if is_wanted(name) {
            claims(&supply, &report)?;
        }
    }
    Ok(())
}
