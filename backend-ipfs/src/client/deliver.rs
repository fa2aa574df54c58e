//! Bringing envelopes to peers. Each is made an entry of the log of its month once, on top of what the first peer that
//! answers has, and that entry goes to all of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use talkbox_core::{
    Ack, Envelope, EnvelopeId, Error, ErrorKind, HoldingState, Level, Locator, MailboxId, Receipt, Refusal, Result,
    Timestamp,
};
use tokio::{sync::OnceCell, time::sleep};

use super::{
    holdings::held,
    network::{Holder, Network},
    pins,
};
use crate::{
    orbitdb::{Block, Cid, Month, MonthLog, digest_of},
    pinning::Standing,
    store::Refused,
    sync::{self, Limits, Push},
};

/// How long between two looks at a peer that fetches by itself.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What is said of the other places of a holder that took an envelope.
const SAME: &str = "this is the same peer as at another address: it counts once";

/// What one holder says of one envelope.
enum Answer {
    Stored(Option<Timestamp>),
    Duplicate(Option<Timestamp>),
    /// It has fetched it, and promises nothing.
    Fetched,
}

/// Envelopes of one log, and their entries once they are made.
struct Group {
    log: MonthLog,
    /// Where they stand among all.
    at: Vec<usize>,
    envelopes: Vec<Envelope>,
    made: OnceCell<Made>,
}

/// Entries, with what they need to be verified.
struct Made {
    /// Identities before the entries that they signed.
    blocks: Vec<Block>,
    /// The entries alone.
    entries: Vec<Block>,
    /// Those of them that had been made before, by envelope.
    known: Vec<EnvelopeId>,
    /// Those that are none for a log.
    refused: HashMap<EnvelopeId, Refused>,
}

/// A receipt for each envelope, of all of these holders, or of those that are configured where none is named.
pub(super) async fn deliver(network: &Arc<Network>, envelopes: &[Envelope], at: &[Locator]) -> Vec<Receipt> {
    let groups = groups(envelopes);
    let holders = network.chosen(at);
    let answers = join_all(holders.iter().map(|holder| async {
        match holder {
            Ok(holder) => bring_all(network, holder, &groups, envelopes.len()).await,
            Err(refusal) => (0..envelopes.len()).map(|_| Err(refusal.clone())).collect(),
        }
    }));
    let mut receipts = vec![Receipt::default(); envelopes.len()];
    let answers = answers.await;
    pinned(network, envelopes, &mut receipts).await;
    for (holder, answers) in holders.iter().zip(answers) {
        for (receipt, answer) in receipts.iter_mut().zip(answers) {
            // Told at the same attempt as the ack: a place that nothing is said of would be tried alone, and count then.
            for (_, other) in holder.as_ref().map_or(&[][..], |it| &it.others) {
                receipt.refused.push(match &answer {
                    Ok(_) => Refusal::new(other.clone(), ErrorKind::Refused, SAME),
                    Err(refusal) => Refusal { holder: other.clone(), ..refusal.clone() },
                });
            }
            let ack = |level, until| holder.as_ref().ok().map(|it| Ack { holder: it.locator.clone(), level, until });
            match answer {
                Ok(Answer::Stored(until)) => receipt.acks.extend(ack(Level::Stored, until)),
                Ok(Answer::Duplicate(until)) => receipt.acks.extend(ack(Level::Duplicate, until)),
                Ok(Answer::Fetched) => receipt.pending.extend(holder.as_ref().ok().map(|it| it.locator.clone())),
                Err(refusal) => receipt.refused.push(refusal),
            }
        }
    }
    receipts
}

/// What the pinning services that are configured here say of what was made: an ack of what is pinned, and that the rest is
/// on its way there.
async fn pinned(network: &Network, envelopes: &[Envelope], receipts: &mut [Receipt]) {
    let ids: Vec<EnvelopeId> = envelopes.iter().map(Envelope::id).collect();
    for (service, standings) in pins::standings(network, &ids).await {
        for (receipt, standing) in receipts.iter_mut().zip(standings) {
            match standing {
                Some(Standing::Pinned) => {
                    receipt.acks.push(Ack { holder: service.clone(), level: Level::Pinned, until: None });
                }
                // What failed is tried again, and shown by `talkbox pin status`.
                Some(Standing::Pending | Standing::Failed { .. }) => receipt.pending.push(service.clone()),
                None => {}
            }
        }
    }
}

/// One group for each mailbox and month.
fn groups(envelopes: &[Envelope]) -> Vec<Group> {
    let mut groups: BTreeMap<(MailboxId, Month), Vec<usize>> = BTreeMap::new();
    for (at, envelope) in envelopes.iter().enumerate() {
        groups.entry((envelope.mailbox(), Month::of(envelope.created_at()))).or_default().push(at);
    }
    let group = |((mailbox, month), at): ((MailboxId, Month), Vec<usize>)| Group {
        log: MonthLog::new(mailbox, month),
        envelopes: at.iter().map(|at| envelopes[*at].clone()).collect(),
        at,
        made: OnceCell::new(),
    };
    groups.into_iter().map(group).collect()
}

/// Brings all groups to one holder. One answer for each envelope, in order.
async fn bring_all(
    network: &Arc<Network>,
    holder: &Holder,
    groups: &[Group],
    count: usize,
) -> Vec<Result<Answer, Refusal>> {
    let mut answers: Vec<Option<Result<Answer, Refusal>>> = (0..count).map(|_| None).collect();
    for group in groups {
        let brought = match network.connect(holder).await {
            Ok(()) => bring(network, holder, group).await,
            Err(error) => Err(error),
        };
        match brought {
            Ok(brought) => {
                // Whoever watches the peer does not hear of what was made here otherwise.
                let taken = group.envelopes.iter().zip(&brought).filter(|(_, answer)| answer.is_ok());
                let taken = taken.map(|(envelope, _)| envelope.id());
                network.peer.logs.holds(group.log.mailbox, taken, holder.peer());
                for (at, answer) in group.at.iter().zip(brought) {
                    answers[*at] = Some(answer.map_err(|error| Refusal::of(holder.locator.clone(), &error)));
                }
            }
            Err(error) => {
                let refusal = Refusal::of(holder.locator.clone(), &error);
                group.at.iter().for_each(|at| answers[*at] = Some(Err(refusal.clone())));
            }
        }
    }
    let unanswered = || Refusal::new(holder.locator.clone(), ErrorKind::Unexpected, "nothing was said of it");
    answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(unanswered()))).collect()
}

/// Brings one group to one holder.
async fn bring(network: &Arc<Network>, holder: &Holder, group: &Group) -> Result<Vec<Result<Answer>>> {
    let ids: Vec<EnvelopeId> = group.envelopes.iter().map(Envelope::id).collect();
    let limits = Limits { frame: network.timeout, ..Limits::default() };
    let _share = network.bringing.wait(holder.peer()).await;
    let stream = match network.open_stream(holder.peer(), sync::SYNC).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::Unsupported => return offer(network, holder, group).await,
        Err(error) => return Err(error),
    };
    let push = Push::begin(stream, group.log.mailbox, group.log.month, limits).await?;
    let onto = push.standing().heads.clone();
    let made = group.made.get_or_try_init(|| make(network, group, onto)).await?;
    // Those that were tried before may be there already.
    let before = match made.known.is_empty() {
        true => Vec::new(),
        false => held(network, holder, &made.known).await?.unwrap_or_default(),
    };
    let was_held = |id: &EnvelopeId| {
        let at = made.known.iter().position(|known| known == id);
        at.and_then(|at| before.get(at)).is_some_and(|state| matches!(state, HoldingState::Held { .. }))
    };
    push.give(group.log.definition.manifest.cid, &made.blocks).await?;
    let Some(states) = held(network, holder, &ids).await? else {
        return Ok(ids.iter().map(|_| Ok(Answer::Fetched)).collect());
    };
    let answer = |(id, state): (&EnvelopeId, HoldingState)| match state {
        _ if made.refused.contains_key(id) => Err(not_taken(&made.refused[id])),
        HoldingState::Held { until } if was_held(id) => Ok(Answer::Duplicate(until)),
        HoldingState::Held { until } => Ok(Answer::Stored(until)),
        // Its store may be full, or broken: that can change, and the envelope stays what it is.
        _ => Err(Error::new(ErrorKind::RateLimited, "the peer does not keep it now: its store may be full")),
    };
    Ok(ids.iter().zip(states).map(answer).collect())
}

fn not_taken(why: &Refused) -> Error {
    let kind = if matches!(why, Refused::StoreFull | Refused::LogFull(_)) {
        ErrorKind::RateLimited
    } else {
        ErrorKind::Refused
    };
    Error::new(kind, why.to_string())
}

/// Makes the entries, once for all holders.
async fn make(network: &Network, group: &Group, onto: Vec<(Cid, u64)>) -> Result<Made> {
    let store = &network.peer.store;
    store.open_log(group.log.clone()).await?;
    let log = &group.log.definition.address;
    let appended = store.append(log, group.envelopes.clone(), Arc::clone(&network.writer), onto).await?;
    let refused = appended.iter().filter_map(|one| Some((one.envelope, one.refused.clone()?))).collect();
    let known: Vec<EnvelopeId> =
        appended.iter().filter(|one| one.entry.is_none() && one.refused.is_none()).map(|one| one.envelope).collect();
    let mut entries: Vec<Cid> = store.entries_with(log, known.clone()).await?;
    entries.extend(appended.iter().filter_map(|one| one.entry.as_ref().map(|entry| entry.cid)));
    network.peer.logs.grown();
    let blocks = store.bundle(log, entries.iter().map(digest_of).collect()).await?;
    let entries = blocks.iter().filter(|block| entries.contains(&block.cid)).cloned().collect();
    Ok(Made { blocks, entries, known, refused })
}

/// Has a peer fetch by itself what it is told of, as JavaScript peers do.
async fn offer(network: &Arc<Network>, holder: &Holder, group: &Group) -> Result<Vec<Result<Answer>>> {
    let (logs, log) = (&network.peer.logs, &group.log.definition.address);
    logs.follow(&group.log).await?;
    // The new entries are on top of its heads, or else of those of another holder: then it fetches here what is below.
    let onto = logs.heads_of(log, holder.peer()).await?.unwrap_or_default();
    let is_first = !group.made.initialized();
    let made = group.made.get_or_try_init(|| make(network, group, onto)).await?;
    if !is_first {
        logs.seek_all(log, holder.peer()).await?;
    }
    logs.publish(log, &made.entries).await;
    let wanted: Vec<Cid> = made.entries.iter().map(|entry| entry.cid).collect();
    let fetched = async {
        loop {
            if logs.has_heads_over(log, holder.peer(), &wanted).await? {
                return Ok(());
            }
            sleep(LOOK_AGAIN).await;
        }
    };
    match tokio::time::timeout(network.timeout, fetched).await {
        Ok(Ok(())) => {
            let answer = |envelope: &Envelope| match made.refused.get(&envelope.id()) {
                Some(why) => Err(not_taken(why)),
                None => Ok(Answer::Fetched),
            };
            Ok(group.envelopes.iter().map(answer).collect())
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::new(ErrorKind::Timeout, "the peer did not fetch the entry")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use talkbox_core::{
        BackendConfig, Clock as _, Draft, OpenContext, PutOptions, SealOptions, SecretKey, SystemClock,
    };

    use super::*;
    use crate::service::{IpfsNode, IpfsNodeConfig};

    /// A record can name one peer at several addresses, and a sender counts who has a message.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_peer_at_two_addresses_counts_once_and_is_reached_at_either() {
        let mut config = IpfsNodeConfig::loopback();
        config.listen.push("/ip4/127.0.0.1/tcp/0/ws".to_owned());
        let node = IpfsNode::start(config).await.expect("starts");
        let locator = |address: &String| Locator::new("ipfs", address).expect("a locator");
        let here: Vec<_> = node.addresses().iter().map(locator).collect();
        let gone = locator(&format!("/ip4/127.0.0.1/tcp/1/p2p/{}", node.id()));

        let serde_json::Value::Object(table) = json!({ "dht": "off", "timeout_ms": 5_000 }) else {
            unreachable!("a table")
        };
        let mut context = OpenContext::new("ipfs");
        context.allow_private = true;
        let opened = (super::super::backend().open)(BackendConfig::new(table), context).await.expect("opens");
        let mailbox = opened.mailbox.expect("a mailbox");
        let owner = SecretKey::generate().expect("randomness").id();
        let sender = SecretKey::generate().expect("randomness");
        let mail = |text: &str| {
            talkbox_core::seal(&Draft::text(text), &sender, owner, SystemClock.now(), &SealOptions::default())
                .expect("seals")
                .envelope
        };
        for (text, first, second) in [("to one", &here[0], &here[1]), ("over the other", &gone, &here[0])] {
            let at = [first.clone(), second.clone()];
            let receipt = mailbox.put(&[mail(text)], PutOptions::default().at(at)).await.remove(0).expect("is stored");
            let acks: Vec<_> = receipt.acks.iter().map(|ack| &ack.holder).collect();
            assert_eq!(acks, [first], "{receipt:?}");
            // For good: it is not tried alone afterwards.
            let refused: Vec<_> = receipt.refused.iter().map(|one| (&one.holder, one.retry)).collect();
            assert_eq!(refused, [(second, talkbox_core::Retry::No)], "{receipt:?}");
        }
        node.shutdown().await;
        let at = [here[0].clone(), here[1].clone()];
        let error = mailbox.put(&[mail("to nobody")], PutOptions::default().at(at)).await.remove(0).expect_err("away");
        let refused: Vec<_> = error.refusals().iter().map(|one| (&one.holder, one.retry)).collect();
        assert!(refused.len() == 2 && refused.iter().all(|(_, retry)| *retry != talkbox_core::Retry::No), "{error:?}");
        mailbox.close().await;
    }
}
