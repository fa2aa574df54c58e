//! What has to be true when all is well again.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use talkbox_core::{Envelope, EnvelopeId};
use tokio::time::{Instant, sleep};

use crate::{
    client::{read_on, shown},
    history::Must,
    talk::Talk,
    world::{ROUND, World},
};

/// Rounds within which all nodes hold the same again.
const ROUNDS: u64 = 20;
/// Envelopes of a page: few, so that there are pages.
const PAGE: usize = 4;

/// Waits until all is healed, and checks. It ends the run.
pub(crate) async fn run(world: Arc<World>) -> turmoil::Result {
    while !world.healed.load(SeqCst) || world.clients_busy.load(SeqCst) > 0 {
        sleep(Duration::from_millis(100)).await;
    }
    let talk = Talk::new(&world, "checker".to_owned());
    let living: Vec<usize> = (0..world.nodes.len()).filter(|node| world.lives(*node)).collect();
    if let Err(states) = converge(&talk, &living).await {
        world.fault(format!("after {ROUNDS} rounds the nodes do not hold the same: {states:?}"));
    }
    for node in &living {
        for mailbox in 0..world.mailboxes.len() {
            if let Err(error) = check(&talk, *node, mailbox).await {
                world.fault(format!("node {node} does not list mailbox {mailbox}: {error}"));
            }
        }
    }
    Ok(())
}

type State = Result<(u64, String), String>;

/// Waits until all hold the same.
async fn converge(talk: &Talk, living: &[usize]) -> Result<(), Vec<State>> {
    let begun = Instant::now();
    loop {
        let mut states = Vec::new();
        for node in living {
            states.push(talk.fingerprint(*node).await);
        }
        if states.iter().all(|state| state.is_ok() && *state == states[0]) {
            talk.world.note(format!("all hold the same after {:?}: {:?}", begun.elapsed(), states.first()));
            return Ok(());
        }
        if begun.elapsed() > Duration::from_secs(ROUNDS * ROUND) {
            return Err(states);
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Checks what a node lists of a mailbox.
async fn check(talk: &Talk, node: usize, mailbox: usize) -> Result<(), String> {
    let world = &talk.world;
    let mut listed = BTreeSet::new();
    let mut after = None;
    let now = world.now();
    loop {
        let page = talk.page(node, mailbox, after.as_deref(), PAGE).await?;
        for json in page.items {
            match Envelope::parse(&json) {
                Err(error) => world.fault(format!("node {node} lists what is no envelope: {error}")),
                Ok(envelope) if !listed.insert(envelope.id()) => {
                    world.fault(format!("node {node} lists {} twice", shown([&envelope.id()])));
                }
                Ok(_) => {}
            }
        }
        after = Some(page.next);
        if !page.more {
            break;
        }
    }
    while read_on(talk, node, mailbox).await? {}
    world.note(format!("node {node} lists of mailbox {mailbox} {}", shown(&listed)));
    let later = world.now();
    let mut faults = Vec::new();
    {
        let history = &world.state().history;
        let says = |what: &str, id: &EnvelopeId| format!("node {node} {what} {}", shown([id]));
        let latest = world.latest();
        for (id, mail) in history.mail.iter().filter(|(_, mail)| mail.mailbox == mailbox) {
            // What expires while it is listed may be there or not.
            let must = [now, later].map(|time| mail.must(time, latest, |node| world.lives(node)));
            match (must, listed.contains(id)) {
                ([Must::BeThere, Must::BeThere], false) => faults.push(says("has lost", id)),
                ([Must::BeGone, Must::BeGone], true) => faults.push(says("serves what is deleted or expired:", id)),
                _ => {}
            }
        }
        let seen = &history.seen[&(node, mailbox)].ids;
        let lasts = |id: &&EnvelopeId| history.mail.get(*id).is_none_or(|mail| mail.expires > later);
        faults.extend(listed.difference(seen).filter(lasts).map(|id| says("kept from who read on", id)));
        let unknown = |id: &&EnvelopeId| history.mail.get(*id).is_none_or(|mail| mail.mailbox != mailbox);
        faults.extend(listed.iter().filter(unknown).map(|id| says("lists what nobody put:", id)));
    }
    faults.into_iter().for_each(|fault| world.fault(fault));
    Ok(())
}
