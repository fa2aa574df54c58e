//! The mesh in a simulated network, with simulated time and disks: one seed, one run.
//!
//! Nodes crash, are cut off, lose packets, have wrong clocks and full disks, and one peer lies; then all of it ends, and
//! what was acknowledged has to be there, everywhere, once, and what was deleted or has expired has to be gone. A run
//! that fails shows its seed, its plan and what everybody did:
//!
//! ```text
//! FIRST_SEED=587 SEEDS=1 SHOW=1 cargo test --workspace --test simulation -- --nocapture what_is
//! ```
//!
//! That the checks can fail is shown by bugs that are planted in the nodes.

mod check;
mod client;
mod disk;
mod history;
mod liar;
mod net;
mod plan;
mod rng;
mod run;
mod talk;
mod world;

use std::{
    env, fmt,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use talkbox_backend_gossip::node::Defect;

use crate::run::{Report, run};

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Says something to whoever runs the tests.
#[expect(clippy::print_stderr, reason = "the harness shows it where a test fails, or with --nocapture")]
fn tell(what: &dyn fmt::Display) {
    eprintln!("{what}");
}

/// Runs seeds on two threads, until one is of interest.
fn search(seeds: std::ops::Range<u64>, each: impl Fn(u64) -> Option<Report> + Sync) -> Option<Report> {
    let next = AtomicU64::new(seeds.start);
    let found: Mutex<Option<(u64, Report)>> = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, SeqCst);
                    if seed >= seeds.end || found.lock().expect("no panic").is_some() {
                        return;
                    }
                    if let Some(report) = each(seed) {
                        found.lock().expect("no panic").get_or_insert((seed, report));
                    }
                }
            });
        }
    });
    found.into_inner().expect("no panic").map(|(_, report)| report)
}

fn seeds(nodes: Option<usize>, first: u64, count: u64) {
    let (begun, totals) = (Instant::now(), Mutex::new((0, Duration::ZERO)));
    let failed = search(first..first + count, |seed| {
        let report = run(seed, None, nodes);
        let mut totals = totals.lock().expect("no panic");
        *totals = (totals.0 + report.acknowledged, totals.1 + report.took);
        if setting("SHOW", 0) > 0 {
            tell(&report);
        }
        (!report.is_good()).then_some(report)
    });
    let (acknowledged, took) = totals.into_inner().expect("no panic");
    if let Some(report) = failed {
        panic!("{report}");
    }
    let real = begun.elapsed();
    tell(&format_args!("{count} seeds in {real:?}, {took:?} of virtual time, {acknowledged} acknowledged"));
}

#[test]
fn what_is_acknowledged_is_kept_whatever_goes_wrong() {
    seeds(None, setting("FIRST_SEED", 0), setting("SEEDS", 200));
}

// Many nodes cost minutes: these run where they are asked for, as `scripts/test --full` does.

#[test]
#[ignore = "takes minutes"]
fn twenty_nodes_keep_what_is_acknowledged() {
    seeds(Some(20), 1_000_000, setting("SEEDS_20", 20));
}

#[test]
#[ignore = "takes minutes"]
fn fifty_nodes_keep_what_is_acknowledged() {
    seeds(Some(50), 2_000_000, setting("SEEDS_50", 2));
}

#[test]
fn a_seed_gives_one_run() {
    let first = setting("FIRST_SEED", 0);
    for seed in first..first + setting("REPLAYS", 5) {
        let (one, other) = (run(seed, None, None), run(seed, None, None));
        if one.hash() != other.hash() {
            let differs = one.sent().iter().zip(other.sent()).position(|(one, other)| one != other);
            let around = |report: &Report| {
                let at = differs.unwrap_or(0);
                report.sent()[at.saturating_sub(8)..report.sent().len().min(at + 4)].join("\n")
            };
            panic!("seed {seed} gives two runs:\n{}\n\nand\n{}", around(&one), around(&other));
        }
    }
}

/// Fails where none of 200 seeds shows the bug.
fn is_caught(defect: Defect) {
    let report = search(0..200, |seed| {
        let report = run(seed, Some(defect), None);
        (!report.is_good()).then_some(report)
    });
    let report = report.unwrap_or_else(|| panic!("{defect:?} is not caught by 200 seeds"));
    tell(&format_args!("{defect:?}: seed {}: {}", report.seed(), report.faults()[0]));
}

macro_rules! planted {
    ($($name:ident $defect:ident)*) => { $(
        #[test]
        fn $name() {
            is_caught(Defect::$defect);
        }
    )* };
}

planted! {
    an_acknowledgement_before_the_commit_is_caught AckBeforeCommit
    a_commit_that_does_not_sync_is_caught NoSync
    what_counts_as_known_too_early_is_caught DropOnDedupe
    nodes_that_are_not_compared_are_caught NoRepair
    a_wiped_store_is_caught WipeOnCrash
    a_list_by_the_senders_clocks_is_caught ClockOrderedCursor
    a_forgotten_deletion_is_caught ForgottenDeletions
    an_unverified_signature_is_caught AcceptUnverified
}
