//! Every figure that is claimed of the IPFS backend, measured in one run with the real `@orbitdb/core` and set beside its
//! claim. It reports and does not judge: a figure that is not held is a line that says NO, and no failure.
//!
//! `cargo bench -p talkbox-benches --bench ipfs [-- NAME…]`, where NAME is one of the modules below.
//! `TALKBOX_INTEROP_ORBITDB` names the JavaScript peer; without it, what is compared with it is skipped and says so.

mod appending;
mod living;
mod nodes;
mod orbitdb;
mod reopening;
mod replicating;
mod resting;

use std::{io, process::ExitCode, time::Duration};

use talkbox_benches::{Bound, Report, Row, duration};

/// Characters of a payload.
pub(crate) const PAYLOAD: usize = 300;
/// Entries of the logs that only our own peers have.
pub(crate) const MANY: usize = 10_000;
/// Entries of the logs that the JavaScript peer has to write, read or fetch: it needs the same time for each of them.
pub(crate) const SOME: usize = 2_000;

/// A group of claims, by the name that it is asked for by.
type Claims = (&'static str, fn(&Report) -> io::Result<()>);

const ALL: [Claims; 5] = [
    ("resting", resting::claims),
    ("appending", appending::claims),
    ("reopening", reopening::claims),
    ("replicating", replicating::claims),
    ("living", living::claims),
];

fn main() -> ExitCode {
    // What is measured from outside is this same program, started again.
    if nodes::is_node() {
        return nodes::play();
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|it| it == name);
    match report(is_wanted) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read has gone, or a peer has.
        Err(_) => ExitCode::FAILURE,
    }
}

fn report(is_wanted: impl Fn(&str) -> bool) -> io::Result<()> {
    let report = Report::begin()?;
    for (name, claims) in ALL {
        if is_wanted(name) {
            claims(&report)?;
        }
    }
    Ok(())
}

/// A row for what each takes for one operation, where the claim is how many times faster ours is.
pub(crate) fn faster(claim: &str, by: &'static str, ours: Duration, theirs: Option<Duration>, least: f64) -> Row {
    // Where there is nothing beside it, how many of ours there are in a second.
    let figure = theirs.map_or(1.0, |theirs| theirs.as_secs_f64()) / ours.as_secs_f64();
    Row {
        claim: claim.to_owned(),
        by,
        ours: duration(ours),
        theirs: theirs.map_or_else(|| "–".to_owned(), duration),
        figure,
        unit: if theirs.is_some() { "×" } else { "/s" },
        bound: theirs.is_some().then_some(Bound::AtLeast(least)),
    }
}

/// The middle one.
pub(crate) fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|one, other| one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal));
    values[values.len() / 2]
}

/// Texts of the usual length, no two alike.
pub(crate) fn texts(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:0>PAYLOAD$}")).collect()
}

/// MiB of so many bytes.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
