//! What opening costs, beside the work that it must do, the `nostr` crate and nostr-tools.

use std::{io, path::PathBuf, process::Command, time::Duration};

use nostr::{
    event::Event,
    key::{Keys, SecretKey as NostrSecretKey},
    nips::nip59::UnwrappedGift,
};
use talkbox_benches::{Bare, Clock, Pairs, Report, Row, Spent};
use talkbox_core::{Envelope, Opener, seal::Sealed};

use crate::supply::{BODY, Supply, key};

/// Envelopes of one run, each of a sender of its own: 10 ms, so that a run is either disturbed or not.
const RUN: u32 = 50;
const PAIRS: usize = 61;
/// Node is started for each pair, and warms up for a while.
const PAIRS_WITH_NODE: usize = 11;
const UNWRAPS_IN_NODE: u32 = 50;

pub(crate) fn claims(supply: &Supply, report: &Report) -> io::Result<()> {
    for bytes in [BODY, 4_000] {
        let sealed: Vec<Sealed> = (0..RUN).map(|_| supply.sealed(&key(), bytes)).collect();
        report.add(beside_the_bare_work(supply, &sealed, bytes))?;
        report.add(beside_nostr(supply, &sealed, bytes))?;
    }
    match interop_js() {
        Some(folder) => report.add(beside_nostr_tools(supply, &folder)),
        None => report.skip(
            "open, known sender: nostr-tools in Node",
            "no node_modules in interop/js, nor in TALKBOX_INTEROP_JS: scripts/interop-setup javascript",
        ),
    }
}

/// A new envelope of a sender that is not known: the most that there is to do.
fn beside_the_bare_work(supply: &Supply, sealed: &[Sealed], bytes: usize) -> Vec<Row> {
    let json: Vec<&str> = sealed.iter().map(|sealed| sealed.envelope.json()).collect();
    let bare: Vec<Bare> = sealed.iter().map(|sealed| Bare::new(sealed, &supply.owner)).collect();
    let pairs = Pairs::measure(
        PAIRS,
        || {
            let opener = Opener::new(supply.owner.clone());
            Spent::on(|| {
                for json in &json {
                    let envelope = Envelope::parse(json).expect("valid");
                    opener.open(&envelope).expect("opens");
                }
            })
        },
        || Spent::on(|| bare.iter().for_each(Bare::run)),
    );
    let claim = format!("parse + open, new sender, {bytes} B: bare curve and hash work");
    [Clock::Cpu, Clock::Wall].map(|clock| Row::cost(&claim, &pairs, clock, RUN, 1.15)).into()
}

/// Envelopes that were verified when they came, of senders whose keys are remembered.
fn beside_nostr(supply: &Supply, sealed: &[Sealed], bytes: usize) -> Vec<Row> {
    let keys = Keys::new(NostrSecretKey::from_slice(&*supply.owner.to_bytes()).expect("a key"));
    let event = |sealed: &Sealed| Event::from_json(sealed.envelope.json()).expect("an event");
    let events: Vec<Event> = sealed.iter().map(event).collect();
    let opener = Opener::new(supply.owner.clone());
    let pairs = Pairs::measure(
        PAIRS,
        || Spent::on(|| sealed.iter().for_each(|sealed| drop(opener.open(&sealed.envelope).expect("opens")))),
        || {
            Spent::on(|| {
                events.iter().for_each(|event| drop(UnwrappedGift::from_gift_wrap(&keys, event).expect("unwraps")));
            })
        },
    );
    let claim = format!("open, known sender, {bytes} B: unwrap of the nostr crate");
    [Clock::Cpu, Clock::Wall].map(|clock| Row::gain(&claim, &pairs, clock, RUN, 1.6)).into()
}

/// The same beside `unwrapEvent`, which is measured inside of Node, without its start.
fn beside_nostr_tools(supply: &Supply, folder: &PathBuf) -> Vec<Row> {
    let envelopes = supply.take(500);
    let opener = Opener::new(supply.owner.clone());
    let each = envelopes.len() as u32;
    let pairs = Pairs::measure(
        PAIRS_WITH_NODE,
        || {
            let all = Spent::on(|| envelopes.iter().for_each(|it| drop(opener.open(it).expect("opens"))));
            Spent { wall: all.wall / each, cpu: all.cpu / each }
        },
        || unwrap_in_node(folder),
    );
    let claim = format!("open, known sender, {BODY} B: nostr-tools in Node");
    [Clock::Cpu, Clock::Wall].map(|clock| Row::gain(&claim, &pairs, clock, 1, 110.0)).into()
}

fn unwrap_in_node(folder: &PathBuf) -> Spent {
    let mut node = Command::new("node");
    node.args(["dm.mjs", "bench", &UNWRAPS_IN_NODE.to_string()]).current_dir(folder);
    let output = node.output().expect("node starts");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("dm.mjs prints its figures");
    let micros = |name: &str| Duration::from_micros(told[name].as_u64().expect("a figure"));
    Spent { wall: micros("unwrap_us"), cpu: micros("unwrap_cpu_us") }
}

/// Where nostr-tools is installed.
fn interop_js() -> Option<PathBuf> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../interop/js"));
    let named = std::env::var_os("TALKBOX_INTEROP_JS").map(PathBuf::from);
    [named, Some(beside)].into_iter().flatten().find(|folder| folder.join("node_modules/nostr-tools").is_dir())
}
