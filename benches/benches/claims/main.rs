//! Every figure that is claimed of Talkbox, measured in one run and set beside its claim. It reports and does not judge:
//! a figure that is not held is a line that says NO, and no failure.
//!
//! `cargo bench -p talkbox-benches --bench claims [-- NAME…]`, where NAME is one of the modules below.
//! What each claim means, and what was measured, is in `benches/README.md`.

mod cores;
mod opening;
mod peers;
mod putting;
mod reading;
mod reconciling;
mod stored;
mod supply;

use std::{io, process::ExitCode};

use talkbox_benches::Report;

use self::{peers::Role, supply::Supply};

/// A group of claims, by the name that it is asked for by.
type Claims = (&'static str, fn(&Supply, &Report) -> io::Result<()>);

const ALL: [Claims; 6] = [
    ("opening", opening::claims),
    ("cores", cores::claims),
    ("stored", stored::claims),
    ("putting", putting::claims),
    ("reading", reading::claims),
    ("reconciling", reconciling::claims),
];

fn main() -> ExitCode {
    // What is measured from outside is this same program, started again.
    if let Some(role) = Role::of_this_process() {
        return role.play();
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|it| it == name);
    match report(is_wanted) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read has gone.
        Err(_) => ExitCode::FAILURE,
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
