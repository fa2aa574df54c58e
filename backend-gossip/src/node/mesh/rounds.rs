//! Anti-entropy with one peer: all that both hold is compared, and what differs is exchanged.
//!
//! Two nodes that hold the same find that out with one message of some 340 bytes and one byte in answer.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use talkbox_core::{
    EventId, Result,
    anti_entropy::{FrameLimit, Initiator},
};
use tokio::time::Instant;

use super::{
    ask::{self, Fate},
    exchange::Exchange,
    pause::Pauses,
};
use crate::node::{
    addresses::Party,
    admitted::Origin,
    http::{MAX_BATCH, MAX_RECONCILE},
    intake::{Answer, Batch},
    planted::Defect,
    refusal::Reason,
};

/// Messages of one comparison. A million ids that differ in ten thousand places take 4.
const MAX_STEPS: usize = 64;
/// Most differences that are looked at in one comparison, each way; the next one finds the rest. A node that begins with
/// nothing is filled in portions, and one that makes ids up keeps us busy no longer than with these.
const MAX_DIFFERENCE: usize = 50_000;
/// Events that a peer may bring in one comparison which are not what they claim. It is either broken or hostile.
const MAX_FORGED: usize = 8;
/// Ids of one comparison that a peer may name and not give, while it gives more than that: what expires or is deleted at the
/// time, or has rotted there.
const MAX_HOLLOW: usize = 1_024;

/// How long one comparison lets the peer push before it fetches: for a million events. A peer that never ends pushing may
/// lack something that it does not push.
const YIELDS: Duration = Duration::from_secs(60);

/// Between the beginnings of two comparisons: nobody notices such a delay, and a peer that calls for one with each answer
/// gets four a second and not thousands.
const AT_LEAST: Duration = Duration::from_millis(250);

/// Compares now and then, until the node stops; at once when the peer was away or has another store.
pub(super) async fn run(exchange: Arc<Exchange>) {
    if exchange.node.context.planted().is(Defect::NoRepair) {
        return;
    }
    let mut pauses = Pauses::default();
    loop {
        let begun = Instant::now();
        let pause = match compare(&exchange).await {
            Ok(()) => {
                exchange.went_well(&mut pauses);
                usual(&exchange)
            }
            Err(error) => exchange.went_wrong(&mut pauses, &error),
        };
        let mut stop = exchange.node.stop.clone();
        tokio::select! {
            biased;
            () = stop.asked() => return,
            () = tokio::time::sleep(pause) => {}
            () = exchange.peer.suspect.notified() => {
                // Whatever calls for it, also a peer that does so with each answer.
                tokio::time::sleep(AT_LEAST.saturating_sub(begun.elapsed())).await;
            }
        }
    }
}

/// The pause between two comparisons: the configured one for every peer together, and up to half more or less, so that
/// nodes that were started at one moment do not ask each other at one.
fn usual(exchange: &Exchange) -> Duration {
    let node = &exchange.node;
    let every = Duration::from_secs(node.config.sync_interval.max(1));
    let peers = u32::try_from(node.roster.peers().len()).unwrap_or(u32::MAX);
    let dice = node.context.random::<1>().map_or(128, |[dice]| dice);
    every.saturating_mul(peers.max(1)).mul_f64(0.5 + f64::from(dice) / 255.0)
}

async fn compare(exchange: &Exchange) -> Result<()> {
    exchange.meet().await?;
    let (node, peer) = (&exchange.node, &exchange.peer);
    // Read first: what is beyond it is pushed, also what will have been pushed when its turn would be here.
    let acknowledged = peer.acknowledged();
    let (have, need) = differences(exchange).await?;
    peer.compared(node.now(), need.len(), have.len());
    node.metrics.comparisons.add(1);
    if !need.is_empty() {
        take(exchange, need).await?;
    }
    if !have.is_empty() {
        give(exchange, have, acknowledged).await?;
    }
    Ok(())
}

/// What we hold and the peer does not, and the reverse.
async fn differences(exchange: &Exchange) -> Result<(Vec<EventId>, Vec<EventId>)> {
    let (node, peer) = (&exchange.node, &exchange.peer);
    let initiator = Initiator::new(FrameLimit::at_most(MAX_RECONCILE).unwrap_or(FrameLimit::NONE)).without_lists();
    let (mut have, mut need) = (Vec::new(), Vec::new());
    let mut message = Some(initiator.start(&*node.store.held()));
    for _ in 0..MAX_STEPS {
        let Some(sent) = message.take() else { break };
        let answer = ask::reconcile(node, peer, sent).await?;
        let step = initiator.step(&*node.store.held(), &answer)?;
        have.extend(step.have);
        need.extend(step.need);
        if have.len() >= MAX_DIFFERENCE || need.len() >= MAX_DIFFERENCE {
            have.truncate(MAX_DIFFERENCE);
            need.truncate(MAX_DIFFERENCE);
            break;
        }
        message = step.reply;
    }
    Ok((have, need))
}

/// Takes what the peer has. It goes the way of all events: what is not what it claims is refused.
async fn take(exchange: &Exchange, need: Vec<EventId>) -> Result<()> {
    let (node, peer) = (&exchange.node, &exchange.peer);
    let (mut forged, mut hollow, mut brought) = (0, 0, 0);
    let (mut before, mut patience) = (None, YIELDS);
    for ids in need.chunks(MAX_BATCH) {
        // It would come twice.
        while let Some(rest) = peer.pushes().filter(|rest| *rest <= patience) {
            patience -= rest;
            if !exchange.wait(rest).await {
                return Ok(());
            }
        }
        // Meanwhile the peer may have pushed it, or another brought it; and what was deleted here is not wanted.
        let ids = node.store.unknown(ids.to_vec(), Party::Node).await?;
        if ids.is_empty() {
            continue;
        }
        let events = ask::fetch(node, peer, &ids).await?;
        hollow += ids.len().saturating_sub(events.len());
        if hollow > MAX_HOLLOW && hollow > brought {
            return Err(ask::nonsense("the peer names events that it does not give"));
        }
        brought += events.len();
        node.metrics.fetched.add(events.len());
        let (batch, tickets) = Batch::new(events.len());
        for (event, ticket) in events.into_iter().zip(tickets) {
            node.intake.take(event, Origin::Peer, ticket).await;
        }
        // While these are verified the next are fetched.
        if let Some(before) = before.replace(batch)
            && judged(&before, &mut forged).await?.is_break()
        {
            break;
        }
    }
    match before {
        Some(last) => judged(&last, &mut forged).await.map(drop),
        None => Ok(()),
    }
}

/// Waits for what became of a batch, and counts what was forged. Whether to go on: not where the store has no room for any
/// of it. The next comparison tries again.
async fn judged(batch: &Batch, forged: &mut usize) -> Result<ControlFlow<()>> {
    let answers = batch.answers().await;
    *forged += answers.iter().filter(|answer| answer.is_forged()).count();
    if *forged > MAX_FORGED {
        return Err(ask::nonsense("the peer brings events that are not what they claim"));
    }
    let has_no_room = |answer: &Answer| answer.outcome.is_for(Reason::DiskFull);
    let is_full = !answers.is_empty() && answers.iter().all(has_no_room);
    Ok(if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
}

/// Gives the peer what it lacks, but for what is pushed: all beyond the place that it had acknowledged.
async fn give(exchange: &Exchange, have: Vec<EventId>, acknowledged: i64) -> Result<()> {
    let node = &exchange.node;
    for ids in have.chunks(MAX_BATCH) {
        // What was refused here counts as held only as long as a peer holds it: it may have been deleted or replaced there.
        node.store.writer().forget_refused(ids.to_vec());
        let stored = node.store.pushed(ids.to_vec(), acknowledged, Party::Node, node.now()).await?;
        let mut events = Vec::new();
        let mut bytes = 0;
        for json in stored {
            if bytes + json.len() > 1 << 20 {
                publish(exchange, &std::mem::take(&mut events)).await?;
                bytes = 0;
            }
            bytes += json.len() + 1;
            events.push(json);
        }
        publish(exchange, &events).await?;
    }
    Ok(())
}

async fn publish(exchange: &Exchange, events: &[String]) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let fates = ask::publish(&exchange.node, &exchange.peer, events).await?;
    if fates.contains(&Fate::Later) { Err(ask::nonsense("the peer cannot store anything now")) } else { Ok(()) }
}
