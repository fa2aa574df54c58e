//! One run: a seed, its plan, and what came of it.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use talkbox_backend_gossip::node::Defect;
use turmoil::{Builder, Sim};

use crate::{
    check, client,
    disk::{self, Frozen},
    liar,
    plan::{Act, CLIENTS, HEALED_AT, Plan, USUAL_LATENCY},
    world::World,
};

/// What time goes by. A smaller one costs more: 1 ms ten times as much.
const TICK: Duration = Duration::from_millis(20);
/// Longer than any run takes that goes well.
const LONGEST: Duration = Duration::from_secs(400);

/// What came of a run.
pub(crate) struct Report {
    seed: u64,
    plan: Plan,
    trace: Vec<String>,
    faults: Vec<String>,
    sent: Vec<String>,
    /// Envelopes that were acknowledged.
    pub(crate) acknowledged: usize,
    /// In virtual time.
    pub(crate) took: Duration,
}

impl Report {
    pub(crate) fn is_good(&self) -> bool {
        self.faults.is_empty()
    }

    pub(crate) const fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn faults(&self) -> &[String] {
        &self.faults
    }

    /// The same for two runs only where all happened alike.
    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest([self.trace.join("\n"), self.sent.join("\n")].join("\n")).into()
    }

    /// What was sent.
    pub(crate) fn sent(&self) -> &[String] {
        &self.sent
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}\n{}", self.seed, self.faults.join("; "), self.plan)?;
        self.trace.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Runs a seed.
pub(crate) fn run(seed: u64, defect: Option<Defect>, nodes: Option<usize>) -> Report {
    let plan = Plan::new(seed, nodes);
    let world = World::new(seed, defect, &plan);
    let mut sim = Builder::new()
        .rng_seed(seed)
        .enable_random_order()
        .tick_duration(TICK)
        .simulation_duration(LONGEST * 2)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(USUAL_LATENCY))
        .fail_rate(0.0)
        .repair_rate(1.0)
        .tcp_capacity(1 << 16)
        .build();
    hosts(&mut sim, &world, &plan);
    let mut acts = plan.acts.iter().peekable();
    let ended = loop {
        let elapsed = sim.elapsed();
        while let Some((_, act)) = acts.next_if(|(at, _)| Duration::from_millis(*at) <= elapsed) {
            apply(&mut sim, &world, *act);
        }
        if elapsed >= Duration::from_millis(HEALED_AT) && !world.healed.load(SeqCst) {
            heal(&mut sim, &world);
        }
        if elapsed > LONGEST {
            break Err("it does not end".to_owned());
        }
        match catch_unwind(AssertUnwindSafe(|| sim.step())) {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => break Ok(()),
            Ok(Err(error)) => break Err(format!("a host failed: {error}")),
            Err(_) => break Err("a host panicked".to_owned()),
        }
    };
    let took = sim.elapsed();
    drop(sim);
    let mut state = world.state();
    state.faults.extend(ended.err());
    let acknowledged = state.history.mail.values().filter(|mail| !mail.held_by.is_empty()).count();
    let (trace, faults) = (std::mem::take(&mut state.trace), std::mem::take(&mut state.faults));
    let sent = std::mem::take(&mut state.sent);
    drop(state);
    Report { seed, plan, trace, faults, sent, acknowledged, took }
}

fn hosts(sim: &mut Sim<'_>, world: &Arc<World>, plan: &Plan) {
    for number in 0..plan.nodes {
        let shared = Arc::clone(world);
        sim.host(world.name(number), move || Arc::clone(&shared).run_node(number));
    }
    for late in &plan.late {
        sim.crash(world.name(*late));
    }
    if let Some(key) = world.liar.clone() {
        let shared = Arc::clone(world);
        sim.host(world.name(plan.nodes), move || liar::run(Arc::clone(&shared), key.clone()));
    }
    for number in 0..CLIENTS {
        sim.client(format!("client{number}"), client::run(Arc::clone(world), number));
    }
    sim.client("reader", client::read(Arc::clone(world)));
    sim.client("checker", check::run(Arc::clone(world)));
}

fn apply(sim: &mut Sim<'_>, world: &World, act: Act) {
    let (elapsed, name) = (sim.elapsed(), |node| world.name(node));
    world.state().trace.push(format!("{:>6} {act:?}", elapsed.as_millis()));
    match act {
        Act::Crash(node) => crash(sim, world, node),
        Act::Start(node) => start(sim, world, node),
        Act::Leave(node) => {
            crash(sim, world, node);
            // Somebody has to be left.
            if (0..world.nodes.len()).filter(|node| world.lives(*node)).count() > 2 {
                world.nodes[node].left.store(true, SeqCst);
            }
        }
        Act::Cut(one, other) => [(one, other), (other, one)].into_iter().for_each(|way| cut(sim, world, way)),
        Act::Join(one, other) => [(one, other), (other, one)].into_iter().for_each(|way| join(sim, world, way)),
        Act::CutOneWay(one, other) => cut(sim, world, (one, other)),
        Act::JoinOneWay(one, other) => join(sim, world, (one, other)),
        Act::Loss(one, other, percent) => sim.set_link_fail_rate(name(one), name(other), f64::from(percent) / 100.0),
        Act::Latency(millis) => sim.set_max_message_latency(Duration::from_millis(millis)),
        Act::Skew(node, secs) => world.skew(node, secs, elapsed),
        Act::Pass(secs) => world.pass(secs),
        Act::Full(node, is_full) => {
            world.nodes[node].full.store(is_full, SeqCst);
            crash(sim, world, node);
            start(sim, world, node);
        }
        Act::Fail(node, fails) => {
            if let Err(error) = disk::fail(&world.folder(node), fails) {
                world.fault(format!("the disk of node {node} cannot be made to fail: {error}"));
            }
        }
    }
}

fn cut(sim: &Sim<'_>, world: &World, way: (usize, usize)) {
    world.cuts.lock().expect("nobody panics with it").insert(way);
    sim.partition_oneway(world.name(way.0), world.name(way.1));
}

fn join(sim: &Sim<'_>, world: &World, way: (usize, usize)) {
    world.cuts.lock().expect("nobody panics with it").remove(&way);
    sim.repair_oneway(world.name(way.0), world.name(way.1));
}

/// The names of all hosts but one.
fn others(world: &World, node: usize) -> Vec<String> {
    let nodes = (0..world.nodes.len() + usize::from(world.liar.is_some())).filter(|other| *other != node);
    let clients = (0..CLIENTS).map(|number| format!("client{number}"));
    nodes.map(|other| world.name(other)).chain(clients).chain(["reader".to_owned(), "checker".to_owned()]).collect()
}

/// The power of a node fails.
fn crash(sim: &mut Sim<'_>, world: &World, node: usize) {
    if !sim.is_host_running(world.name(node)) {
        return;
    }
    let frozen = Frozen::take(&world.folder(node), world.nodes[node].syncs.load(SeqCst));
    // Without power nothing is sent any more. The runtime, which is dropped, would end each connection, and in an order
    // that differs from run to run.
    let name = world.name(node);
    let others: Vec<String> = others(world, node);
    others.iter().for_each(|other| sim.partition(name.as_str(), other.as_str()));
    sim.crash(name.as_str());
    others.iter().for_each(|other| sim.repair(name.as_str(), other.as_str()));
    let cuts = world.cuts.lock().expect("nobody panics with it").clone();
    for (from, to) in cuts.into_iter().filter(|(from, to)| *from == node || *to == node) {
        sim.partition_oneway(world.name(from), world.name(to));
    }
    if let Err(error) = frozen.restore(&world.folder(node)) {
        world.fault(format!("the store of node {node} cannot be restored: {error}"));
    }
}

fn start(sim: &mut Sim<'_>, world: &World, node: usize) {
    if world.lives(node) && !sim.is_host_running(world.name(node)) {
        sim.bounce(world.name(node));
    }
}

/// Ends all that is wrong.
fn heal(sim: &mut Sim<'_>, world: &World) {
    sim.set_max_message_latency(Duration::from_millis(USUAL_LATENCY));
    for one in 0..world.nodes.len() {
        for other in 0..one {
            sim.set_link_fail_rate(world.name(one), world.name(other), 0.0);
            apply(sim, world, Act::Join(one, other));
        }
        world.skew(one, 0, sim.elapsed());
        apply(sim, world, Act::Fail(one, false));
        if world.nodes[one].full.load(SeqCst) {
            apply(sim, world, Act::Full(one, false));
        }
        start(sim, world, one);
    }
    world.healed.store(true, SeqCst);
}
