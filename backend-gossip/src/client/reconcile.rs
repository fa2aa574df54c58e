//! Anti-entropy with a node: what differs, at a cost that follows the difference. One message of negentropy v1 a
//! request; the node keeps nothing between two of them.

use std::{fmt, sync::Arc, time::Duration};

use talkbox_core::{
    Difference, EnvelopeId, Error, ErrorKind, EventId, MailboxId, Reconcile, ReconcileOptions, Result, Timestamp,
    anti_entropy::{FrameLimit, Initiator, Item, SortedItems},
    async_trait,
    half::closed,
};
use tokio::{sync::watch, time::timeout};

use super::{
    ask::{Asker, Proof, Question},
    network::{Network, RemoteNode},
};

/// Bytes of one message each way, as nodes take them: some 4,000 ids, or the fingerprints of as many ranges.
const MAX_MESSAGE: usize = 131_072;
const FRAME: FrameLimit = match FrameLimit::at_most(MAX_MESSAGE) {
    Some(limit) => limit,
    None => FrameLimit::NONE,
};
/// Most envelopes in which we may differ. More than a node makes up to keep us busy; as many as a listing takes.
const MAX_DIFFERENCE: usize = 200_000;
/// Messages each way. Four find a small difference among a million; one of [`MAX_DIFFERENCE`] takes fifty to be named.
const MAX_ROUNDS: usize = 128;
/// How long all of it may take.
const WHOLE: Duration = Duration::from_secs(60);

/// Reconciliation with one node.
pub(super) struct AntiEntropy {
    network: Arc<Network>,
    node: RemoteNode,
    end: watch::Receiver<bool>,
}

impl AntiEntropy {
    pub(super) const fn new(network: Arc<Network>, node: RemoteNode, end: watch::Receiver<bool>) -> Self {
        Self { network, node, end }
    }
}

async fn exchange(asker: &Asker, owner: MailboxId, ours: &[(Timestamp, EnvelopeId)]) -> Result<Difference> {
    let set = sorted(ours).await?;
    let initiator = Initiator::new(FRAME).without_lists();
    let path = format!("/v1/reconcile?mailbox={}", owner.to_hex());
    let mut message = initiator.start(&set);
    let (mut have, mut need) = (Vec::new(), Vec::new());
    for _ in 0..MAX_ROUNDS {
        let question = Question::post(&*path, "application/octet-stream", message);
        let answer = asker.ask(&question, Proof::First, MAX_MESSAGE).await?;
        let step = initiator.step(&set, &answer.body)?;
        have.extend(step.have);
        need.extend(step.need);
        if have.len() + need.len() > MAX_DIFFERENCE {
            return Err(Error::new(ErrorKind::Refused, "the node claims that more than 200,000 envelopes differ"));
        }
        match step.reply {
            Some(next) => message = next,
            None => return Ok(Difference { theirs: ids(need), ours: ids(have) }),
        }
    }
    Err(Error::new(ErrorKind::Refused, "the node reconciles without end"))
}

/// What we know of, in order. Sorting much takes a while, so it happens aside.
async fn sorted(ours: &[(Timestamp, EnvelopeId)]) -> Result<SortedItems> {
    let ours = ours.to_vec();
    let sorting = tokio::task::spawn_blocking(move || {
        ours.into_iter().map(|(time, id)| Item::new(time, id.into())).collect::<Result<SortedItems>>()
    });
    sorting.await.map_err(|error| Error::new(ErrorKind::Unexpected, "reconciliation cannot begin").source(error))?
}

fn ids(ids: Vec<EventId>) -> Vec<EnvelopeId> {
    let mut ids: Vec<EnvelopeId> = ids.into_iter().map(EnvelopeId::from).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[async_trait]
impl Reconcile for AntiEntropy {
    async fn difference(
        &self,
        owner: MailboxId,
        ours: &[(Timestamp, EnvelopeId)],
        options: ReconcileOptions,
    ) -> Result<Difference> {
        let asker = Asker { network: Arc::clone(&self.network), node: self.node.clone(), auth: options.auth };
        let late = |_| Error::new(ErrorKind::Timeout, "the reconciliation takes too long");
        let mut end = self.end.clone();
        let outcome = tokio::select! {
            biased;
            _ = end.wait_for(|closed| *closed) => Err(closed()),
            outcome = timeout(WHOLE, exchange(&asker, owner, ours)) => outcome.map_err(late).flatten(),
        };
        outcome.map_err(|error| asker.named(error).op("reconcile"))
    }
}

impl fmt::Debug for AntiEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AntiEntropy").field("node", &self.node.url).finish_non_exhaustive()
    }
}
