//! What anti-entropy costs at 1,000,000 items, beside the crate `negentropy` over its vector.

use std::{hint::black_box, io, time::Duration};

use negentropy::{Id, Negentropy, NegentropyStorageVector};
use talkbox_benches::{Bound, Clock, Pairs, Report, Row, Spent, duration};
use talkbox_core::{
    EventId, Timestamp,
    anti_entropy::{FrameLimit, IdSet, Initiator, Item, ReconciledSet as _, Window, respond},
};

use crate::supply::Supply;

const COUNT: u64 = 1_000_000;
const MONTH: u64 = 2_592_000;
const PAIRS: usize = 31;
/// A round of ours is over in microseconds: so many make a run that a clock can measure.
const ROUNDS: u32 = 200;
const BUILDS: usize = 7;
const CHANGES: u32 = 10_000;

pub(crate) fn claims(supply: &Supply, report: &Report) -> io::Result<()> {
    let now = supply.now.secs();
    let mut items: Vec<Item> = (0..COUNT).map(|n| item(now - mixed(n) % MONTH, n)).collect();
    report.add(building("unsorted", None, &items, |items| items.iter().copied().collect()))?;
    items.sort_unstable();
    report.add(building("sorted", Some(100.0), &items, |items| {
        let mut set = IdSet::new();
        set.extend(items.iter().copied());
        set
    }))?;
    let set: IdSet = items.iter().copied().collect();
    let storage = stored(&items);
    drop(items);
    report.add(idle(&set, &storage))?;
    report.add([last_hour(&set, now)])?;
    report.add(hostile(&set, now))?;
    report.add(differing(&set, &storage, now))?;
    report.add(changing(&set, storage, now))
}

fn building(order: &str, most: Option<f64>, items: &[Item], build: impl Fn(&[Item]) -> IdSet) -> [Row; 3] {
    let pairs = Pairs::measure(BUILDS, || Spent::on(|| build(items)), || Spent::on(|| stored(items)));
    let set = build(items);
    let claim = format!("build a set of 1,000,000 {order} items");
    [
        Row { bound: most.map(Bound::AtMost), ..limit(&claim, &pairs, Clock::Cpu, 1e3, "ms", 0.0) },
        Row::gain(&format!("{claim}: negentropy"), &pairs, Clock::Cpu, 1, 1.0).unclaimed(),
        figure(&format!("{claim}: bytes of memory an item"), set.heap_bytes() as f64 / set.len() as f64, "B", 48.0),
    ]
}

/// A round between equal sets, each side alone.
fn idle(set: &IdSet, storage: &NegentropyStorageVector) -> Vec<Row> {
    let initiator = Initiator::new(FrameLimit::NONE);
    let message = initiator.start(set);
    let answer = respond(set, &message, FrameLimit::NONE).expect("answers");
    let starts = Pairs::measure(
        PAIRS,
        || many(ROUNDS, |_| initiator.start(set)),
        || Spent::on(|| Negentropy::borrowed(storage, 0).and_then(|mut engine| engine.initiate()).expect("starts")),
    );
    let answers = Pairs::measure(
        PAIRS,
        || many(ROUNDS, |_| respond(set, &message, FrameLimit::NONE).expect("answers")),
        || Spent::on(|| Negentropy::borrowed(storage, 0).and_then(|mut one| one.reconcile(&message)).expect("answers")),
    );
    let claim = |side: &str| format!("a round between equal sets of 1,000,000, {side}");
    let mut rows = Vec::new();
    for (side, pairs) in [("initiator", &starts), ("responder", &answers)] {
        for clock in [Clock::Cpu, Clock::Wall] {
            rows.push(limit(&claim(side), pairs, clock, 1e6, "µs", 50.0));
        }
        rows.push(Row::gain(&format!("{}: negentropy", claim(side)), pairs, Clock::Cpu, 1, 1.0).unclaimed());
    }
    rows.push(figure(&claim("both messages"), (message.len() + answer.len()) as f64, "B", 700.0));
    rows
}

/// The same over the last hour, both sides together; the crate would need a set of its own for it.
fn last_hour(set: &IdSet, now: u64) -> Row {
    let initiator = Initiator::new(FrameLimit::NONE);
    let spent = many(ROUNDS, |_| {
        let window = || Window::new(set, Timestamp(now - 3_600), Timestamp(now - 5));
        respond(&window(), &initiator.start(&window()), FrameLimit::NONE).expect("answers")
    });
    let ours = spent.by(Clock::Cpu);
    let mut row = figure("a round over the last hour of 1,000,000, both sides", ours.as_secs_f64() * 1e6, "µs", 100.0);
    (row.ours, row.by) = (duration(ours), Clock::Cpu.name());
    row
}

/// The most work that 128 KiB can ask a node for: ranges that are skipped, ranges that differ, all in the month of the set.
fn hostile(set: &IdSet, now: u64) -> Vec<Row> {
    let frame = FrameLimit::at_most(60_000).expect("more than the least");
    let message = |range: &[u8]| {
        // Its ranges begin where those of the set do: the first message of a set of one time tells how that is written.
        let first: IdSet = (0..32).map(|n| item(now - MONTH, n)).collect();
        let start = Initiator::new(FrameLimit::NONE).start(&first);
        let digits = start[1..].iter().position(|byte| *byte < 0x80).expect("a number ends");
        let mut message = [&start[..digits + 2], &[0, 0]].concat();
        while message.len() + range.len() <= 131_072 {
            message.extend_from_slice(range);
        }
        message
    };
    // Each 399 s (0x83 0x10 is one more) after the one before: 6,500 of them make a month.
    let differing = [&[0x83, 0x10, 0, 1][..], &[7; 16]].concat();
    [("skipped", message(&[60, 0, 0])), ("that differ", message(&differing))]
        .map(|(kind, message)| {
            let spent = many(20, |_| respond(set, &message, frame).expect("answers")).by(Clock::Cpu);
            let claim = format!("128 KiB of ranges {kind}, answered from 1,000,000");
            let mut row = figure(&claim, spent.as_secs_f64() * 1e3, "ms", 0.0).unclaimed();
            (row.ours, row.by) = (duration(spent), Clock::Cpu.name());
            row
        })
        .into()
}

/// 1,000 recent items more, half of them on each side.
fn differing(set: &IdSet, storage: &NegentropyStorageVector, now: u64) -> Vec<Row> {
    let mut sides = [set.clone(), set.clone()];
    let mut storages = [storage.clone(), storage.clone()];
    for storage in &mut storages {
        storage.unseal().expect("unseals");
    }
    for n in 0..1_000 {
        let (side, new) = ((n % 2) as usize, item(now + n * 5, COUNT + n));
        sides[side].insert(new);
        storages[side].insert(new.timestamp().secs(), Id::from_byte_array(*new.id().as_bytes())).expect("inserts");
    }
    for storage in &mut storages {
        storage.seal().expect("seals");
    }
    let mut rows = Vec::new();
    let plain = Initiator::new(FrameLimit::NONE);
    for (how, initiator, bound) in
        [("like negentropy", plain, None), ("without lists", plain.without_lists(), Some(25.0))]
    {
        let claim = format!("1,000 recent differences among 1,000,000, {how}");
        let (ours, theirs) = (reconcile(&sides, initiator), reconcile_theirs(&storages));
        let pairs = Pairs::measure(
            PAIRS,
            || many(20, |_| reconcile(&sides, initiator)),
            || Spent::on(|| reconcile_theirs(&storages)),
        );
        rows.push(Row {
            theirs: format!("{:.1} B", theirs as f64 / 1e3),
            bound: bound.map(Bound::AtMost),
            ..figure(&format!("{claim}: bytes each"), ours as f64 / 1e3, "B", 0.0)
        });
        rows.push(Row::gain(&format!("{claim}: both sides"), &pairs, Clock::Cpu, 1, 1.0).unclaimed());
    }
    rows
}

fn reconcile([ours, theirs]: &[IdSet; 2], initiator: Initiator) -> usize {
    let (mut bytes, mut found) = (0, 0);
    let mut message = Some(initiator.start(ours));
    while let Some(sent) = message {
        let answer = respond(theirs, &sent, FrameLimit::NONE).expect("answers");
        bytes += sent.len() + answer.len();
        let step = initiator.step(ours, &answer).expect("a step");
        found += step.have.len() + step.need.len();
        message = step.reply;
    }
    assert_eq!(found, 1_000);
    bytes
}

fn reconcile_theirs([ours, theirs]: &[NegentropyStorageVector; 2]) -> usize {
    let mut initiator = Negentropy::borrowed(ours, 0).expect("an engine");
    let mut responder = Negentropy::borrowed(theirs, 0).expect("an engine");
    let (mut bytes, mut have, mut need) = (0, Vec::new(), Vec::new());
    let mut message = Some(initiator.initiate().expect("starts"));
    while let Some(sent) = message {
        let answer = responder.reconcile(&sent).expect("answers");
        bytes += sent.len() + answer.len();
        message = initiator.reconcile_with_ids(&answer, &mut have, &mut need).expect("a step");
    }
    assert_eq!(have.len() + need.len(), 1_000);
    bytes
}

/// Mail that comes, dated back by up to two days, and the oldest that goes.
fn changing(set: &IdSet, mut storage: NegentropyStorageVector, now: u64) -> Vec<Row> {
    let mut set = set.clone();
    let mut number = 2 * COUNT;
    let pairs = Pairs::measure(
        PAIRS,
        || {
            many(CHANGES, |_| {
                number += 1;
                assert!(set.insert(item(now - mixed(number) % 172_800, number)));
            })
        },
        || {
            Spent::on(|| {
                storage.unseal().expect("unseals");
                storage.insert(now, Id::from_byte_array([7; 32])).expect("inserts");
                storage.seal().expect("seals");
            })
        },
    );
    let after = set.heap_bytes() as f64 / set.len() as f64;
    let oldest: Vec<Item> = set.iter().take(100_000).copied().collect();
    let gone = many(oldest.len() as u32, |at| assert!(set.remove(&oldest[at as usize])));
    let mut removal = figure("remove one of the oldest", gone.cpu.as_secs_f64() * 1e6, "µs", 0.0).unclaimed();
    (removal.ours, removal.by) = (duration(gone.cpu), Clock::Cpu.name());
    vec![
        Row::gain("insert one into 1,000,000: negentropy", &pairs, Clock::Cpu, 1, 1.0).unclaimed(),
        limit("insert one into 1,000,000", &pairs, Clock::Cpu, 1e6, "µs", 0.0).unclaimed(),
        figure("after 320,000 insertions: bytes of memory an item", after, "B", 48.0),
        removal,
    ]
}

/// What one of so many takes.
fn many<T>(count: u32, mut one: impl FnMut(u32) -> T) -> Spent {
    let all = Spent::on(|| {
        for at in 0..count {
            black_box(one(at));
        }
    });
    Spent { wall: all.wall / count, cpu: all.cpu / count }
}

/// That the median of ours is at most so much.
fn limit(claim: &str, pairs: &Pairs, clock: Clock, per_second: f64, unit: &'static str, most: f64) -> Row {
    let ours: Duration = pairs.ours(clock);
    Row {
        claim: format!("{claim} ({} pairs)", pairs.len()),
        by: clock.name(),
        ours: duration(ours),
        theirs: duration(pairs.theirs(clock)),
        figure: ours.as_secs_f64() * per_second,
        unit,
        bound: Some(Bound::AtMost(most)),
    }
}

/// That a figure without another beside it is at most so much.
fn figure(claim: &str, figure: f64, unit: &'static str, most: f64) -> Row {
    Row {
        claim: claim.to_owned(),
        by: "size",
        ours: format!("{figure:.1} {unit}"),
        theirs: "–".to_owned(),
        figure,
        unit,
        bound: Some(Bound::AtMost(most)),
    }
}

fn stored(items: &[Item]) -> NegentropyStorageVector {
    let mut storage = NegentropyStorageVector::with_capacity(items.len());
    for item in items {
        storage.insert(item.timestamp().secs(), Id::from_byte_array(*item.id().as_bytes())).expect("inserts");
    }
    storage.seal().expect("seals");
    storage
}

fn item(time: u64, number: u64) -> Item {
    let mut id = [0; 32];
    for (part, at) in id.chunks_exact_mut(8).zip(0..) {
        part.copy_from_slice(&mixed(number * 4 + at).to_be_bytes());
    }
    Item::new(Timestamp(time), EventId::from_bytes(id)).expect("an item")
}

/// Numbers that look random, and are the same in every run.
fn mixed(number: u64) -> u64 {
    let mut it = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    it ^ (it >> 31)
}
