//! What goes wrong, and when.

use std::fmt;

use crate::rng::Rng;

/// Until when things go wrong, in milliseconds; then all of it ends.
pub(crate) const HEALED_AT: u64 = 25_000;
/// Those who put and delete.
pub(crate) const CLIENTS: usize = 2;
const DAY: i64 = 86_400;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    /// The power of a node fails.
    Crash(usize),
    Start(usize),
    /// A node goes for ever.
    Leave(usize),
    Cut(usize, usize),
    Join(usize, usize),
    /// What the first sends does not reach the second.
    CutOneWay(usize, usize),
    JoinOneWay(usize, usize),
    /// So many of a hundred packets get lost between two.
    Loss(usize, usize, u32),
    /// The longest that a packet takes, in milliseconds. Between packets it varies, so that they overtake each other.
    Latency(u64),
    /// The clock of a node is wrong by so many seconds.
    Skew(usize, i64),
    /// So many seconds pass for all.
    Pass(i64),
    /// The disk of a node is full, or no longer.
    Full(usize, bool),
    /// The disk of a node fails, or no longer.
    Fail(usize, bool),
}

/// What happens in one run.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) liar: bool,
    /// How long a commit takes, in milliseconds.
    pub(crate) commit_time: u64,
    /// Nodes that are not there in the beginning.
    pub(crate) late: Vec<usize>,
    /// By time, in milliseconds.
    pub(crate) acts: Vec<(u64, Act)>,
}

impl Plan {
    /// A plan for so many nodes, or for 3 to 7.
    pub(crate) fn new(seed: u64, nodes: Option<usize>) -> Self {
        let mut rng = Rng::new(seed, "plan", 0);
        let few = [3, 3, 3, 4, 4, 5, 5, 6, 7];
        let nodes = nodes.unwrap_or_else(|| few[rng.below(few.len())]);
        let commit_time = if rng.chance(70) { rng.between(0, 400) } else { 0 };
        let mut plan = Self { nodes, liar: rng.chance(35), commit_time, late: Vec::new(), acts: Vec::new() };
        for _ in 0..rng.between(2, 6) {
            plan.add_fault(&mut rng);
        }
        plan.acts.sort_by_key(|(at, _)| *at);
        plan
    }

    fn add_fault(&mut self, rng: &mut Rng) {
        let (one, other) = self.two(rng);
        let begin = rng.between(1_000, HEALED_AT - 5_000);
        let end = (begin + rng.between(500, 12_000)).min(HEALED_AT);
        let mut lasts = |from: Act, to: Act| self.acts.extend([(begin, from), (end, to)]);
        match rng.below(14) {
            0..=2 => lasts(Act::Crash(one), Act::Start(one)),
            3 => (0..self.nodes).for_each(|node| {
                self.acts.extend([(begin, Act::Crash(node)), (begin + 700 * node as u64, Act::Start(node))]);
            }),
            4 => lasts(Act::Cut(one, other), Act::Join(one, other)),
            5 => lasts(Act::CutOneWay(one, other), Act::JoinOneWay(one, other)),
            6 => self.split(rng, begin),
            7 => {
                let rate = u32::try_from(rng.between(1, 40)).expect("small");
                lasts(Act::Loss(one, other, rate), Act::Loss(one, other, 0));
            }
            8 => lasts(Act::Latency(rng.between(200, 5_000)), Act::Latency(USUAL_LATENCY)),
            9 => {
                let secs = i64::try_from(rng.between(60, 864_000)).expect("ten days");
                let secs = if rng.chance(50) { secs } else { -secs };
                lasts(Act::Skew(one, secs), Act::Skew(one, 0));
            }
            10 => lasts(Act::Full(one, true), Act::Full(one, false)),
            11 => lasts(Act::Fail(one, true), Act::Fail(one, false)),
            12 if !self.late.contains(&one) && self.late.len() + 2 < self.nodes => {
                self.late.push(one);
                self.acts.push((begin, Act::Start(one)));
                if rng.chance(60) {
                    // It meets only those who did not bring what the other has brought.
                    self.acts.push((begin.saturating_sub(500), Act::Leave(other)));
                }
            }
            12 => self.acts.push((begin, Act::Leave(one))),
            _ => self.acts.push((begin, Act::Pass(DAY * i64::try_from(rng.between(1, 29)).expect("a month")))),
        }
    }

    /// A part of the nodes is alone nearly all the time.
    fn split(&mut self, rng: &mut Rng, begin: u64) {
        let minority = 1 + rng.below(self.nodes / 2);
        for one in 0..minority {
            for other in minority..self.nodes {
                self.acts.extend([(begin / 4, Act::Cut(one, other)), (HEALED_AT, Act::Join(one, other))]);
            }
        }
    }

    fn two(&self, rng: &mut Rng) -> (usize, usize) {
        let one = rng.below(self.nodes);
        (one, (one + 1 + rng.below(self.nodes - 1)) % self.nodes)
    }
}

/// As within one continent.
pub(crate) const USUAL_LATENCY: u64 = 60;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, liar, commit_time, late, .. } = self;
        writeln!(f, "{nodes} nodes, liar: {liar}, a commit takes {commit_time} ms, late: {late:?}")?;
        self.acts.iter().try_for_each(|(at, act)| writeln!(f, "{at:>6} {act:?}"))
    }
}
