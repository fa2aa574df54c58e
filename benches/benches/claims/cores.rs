//! Whether much mail uses the whole machine.

use std::{io, num::NonZero, thread};

use talkbox_benches::{Bound, Clock, Pairs, Report, Row, Spent};
use talkbox_core::{Envelope, Opener, RawEnvelope};

use crate::supply::{MANY, Supply};

const PAIRS: usize = 11;
/// What part of the cores has to be used: the rest is what starts and ends on one of them, and what else the machine
/// does.
const SHARE: f64 = 0.8;

pub(crate) fn claims(supply: &Supply, report: &Report) -> io::Result<()> {
    let raw: Vec<RawEnvelope> = supply.many().iter().map(RawEnvelope::from).collect();
    let pairs = Pairs::measure(
        PAIRS,
        || {
            Spent::on(|| {
                let envelopes: Vec<Envelope> =
                    Envelope::verify_many(&raw).into_iter().map(|envelope| envelope.expect("valid")).collect();
                Opener::new(supply.owner.clone()).open_many(&envelopes)
            })
        },
        || {
            Spent::on(|| {
                let opener = Opener::new(supply.owner.clone());
                let open = |raw| opener.open(&Envelope::verify(raw).expect("valid")).expect("opens");
                raw.iter().map(open).collect::<Vec<_>>()
            })
        },
    );
    let cores = thread::available_parallelism().map_or(1, NonZero::get) as f64;
    let claim = format!("verify and open {MANY} on all of {cores} cores: on one");
    let used = pairs.ours(Clock::Cpu).as_secs_f64() / pairs.ours(Clock::Wall).as_secs_f64();
    report.add([
        Row::gain(&claim, &pairs, Clock::Wall, 1, SHARE * cores),
        Row {
            claim: format!("verify and open {MANY}: cores in use (CPU by wall)"),
            by: "both",
            ours: talkbox_benches::duration(pairs.ours(Clock::Cpu)),
            theirs: talkbox_benches::duration(pairs.ours(Clock::Wall)),
            figure: used,
            unit: "",
            bound: Some(Bound::AtLeast(SHARE * cores)),
        },
        Row::cost("of that, what the division costs", &pairs, Clock::Cpu, 1, 1.0).unclaimed(),
    ])
}
