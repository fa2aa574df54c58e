//! The mailbox half: envelopes on relays.

use std::{collections::HashSet, sync::Arc};

use futures_util::{
    StreamExt as _,
    future::join_all,
    stream::{self, BoxStream},
};
use talkbox_core::{
    Ack, AuditOptions, Authorizer, Capabilities, DeleteOptions, DeleteRequest, Deletion, DeletionState, Descriptor,
    Envelope, EnvelopeId, Error, Holding, HoldingState, ListOptions, Locator, Mailbox, MailboxId, Page, PublicKey,
    PutOptions, RawEnvelope, Receipt, Reconcile, Refusal, Result, WatchEvent, WatchOptions, async_trait,
};

use crate::{
    ask::Asker,
    deliver::{Parcel, deliver},
    filter::{Filter, Sent},
    network::{Half, Network, Relay},
    reconcile::Negentropy,
    walk::{PAGE, Walk},
    watch,
};

/// Ids of one question: 7 KiB, which every relay takes.
const IDS: usize = 100;
/// Pages that one listing takes at most when they bring nothing that can be shown, such as what has expired.
const MAX_STEPS: usize = 16;

/// Envelopes on relays.
#[derive(Debug)]
pub(crate) struct NostrMailbox(Half);

impl NostrMailbox {
    pub(crate) fn new(half: Half) -> Self {
        Self(half)
    }

    fn asker(&self, holder: &Locator, auth: Option<Arc<dyn Authorizer>>) -> Result<Asker> {
        let network = self.0.network()?;
        Ok(Asker { relay: network.relay(holder)?, network: Arc::clone(network), auth })
    }
}

#[async_trait]
impl Mailbox for NostrMailbox {
    fn descriptor(&self) -> &Descriptor {
        &self.0.still().descriptor
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::FULL
    }

    fn holders(&self) -> Vec<Locator> {
        self.0.still().relays().iter().map(|relay| relay.holder.clone()).collect()
    }

    async fn put(&self, envelopes: &[Envelope], options: PutOptions) -> Vec<Result<Receipt>> {
        let put = async {
            let network = self.0.network()?;
            let parcels: Vec<_> = envelopes.iter().map(|it| Parcel { id: it.id().into(), json: it.json() }).collect();
            let relays = network.chosen(&options.at);
            Ok(bring(network, &relays, &parcels, options.auth.as_ref()).await)
        };
        match self.0.run(put).await {
            Ok(receipts) => {
                receipts.into_iter().map(|receipt| receipt.settle().map_err(|error| error.op("put"))).collect()
            }
            Err(error) => each(envelopes.len(), &error, "put"),
        }
    }

    async fn list(&self, owner: MailboxId, holder: &Locator, options: ListOptions) -> Result<Page> {
        let asker = self.asker(holder, options.auth.clone()).map_err(|error| error.op("list"))?;
        let listing = async {
            if options.ids.is_empty() {
                list(&asker, owner, &options).await
            } else {
                fetch(&asker, owner, &options.ids).await
            }
        };
        self.0.run(listing).await.map_err(|error| error.op("list"))
    }

    async fn audit(
        &self,
        owner: MailboxId,
        holder: &Locator,
        ids: &[EnvelopeId],
        options: AuditOptions,
    ) -> Result<Vec<Holding>> {
        let asker = self.asker(holder, options.auth).map_err(|error| error.op("audit"))?;
        self.0.run(audit(&asker, owner, ids)).await.map_err(|error| error.op("audit"))
    }

    async fn delete(&self, requests: &[DeleteRequest], options: DeleteOptions) -> Vec<Result<Deletion>> {
        let deleting = async {
            let network = self.0.network()?;
            let relays = network.chosen(&options.at);
            Ok(join_all(requests.iter().map(|request| delete(network, &relays, request, options.auth.as_ref()))).await)
        };
        match self.0.run(deleting).await {
            Ok(deletions) => {
                deletions.into_iter().map(|deletion| deletion.map_err(|error| error.op("delete"))).collect()
            }
            Err(error) => each(requests.len(), &error, "delete"),
        }
    }

    fn watch(&self, owner: MailboxId, options: WatchOptions) -> Option<BoxStream<'static, Result<WatchEvent>>> {
        Some(match self.0.network() {
            Ok(network) => watch::watch(network, owner, &options, &self.0.end()),
            Err(error) => stream::iter([Err(error.op("watch"))]).boxed(),
        })
    }

    fn reconciler(&self, holder: &Locator) -> Option<Arc<dyn Reconcile>> {
        let network = self.0.network().ok()?;
        let relay = network.relay(holder).ok()?;
        if network.pool.habits(&relay.url).lacks_negentropy {
            return None;
        }
        Some(Arc::new(Negentropy::new(Arc::clone(network), relay, self.0.end())))
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

/// A receipt for each event, of all relays.
pub(crate) async fn bring(
    network: &Network,
    relays: &[Result<Relay, Refusal>],
    parcels: &[Parcel<'_>],
    auth: Option<&Arc<dyn Authorizer>>,
) -> Vec<Receipt> {
    let mut receipts = vec![Receipt::default(); parcels.len()];
    let answers = join_all(relays.iter().map(|relay| async move {
        match relay {
            Ok(relay) => (Some(&relay.holder), deliver(network, relay, parcels, auth).await),
            Err(refusal) => (None, vec![Err(refusal.clone()); parcels.len()]),
        }
    }));
    for (holder, answers) in answers.await {
        for (receipt, answer) in receipts.iter_mut().zip(answers) {
            match (holder, answer) {
                (Some(holder), Ok(level)) => receipt.acks.push(Ack { holder: holder.clone(), level, until: None }),
                (_, Err(refusal)) => receipt.refused.push(refusal),
                (None, Ok(_)) => {}
            }
        }
    }
    receipts
}

async fn list(asker: &Asker, owner: MailboxId, options: &ListOptions) -> Result<Page> {
    let now = asker.network.clock.now();
    let relay = &asker.relay.url;
    let mut walk = match &options.after {
        Some(cursor) => Walk::resume(cursor, relay, now)?,
        None => Walk::whole(now),
    };
    let limit = match options.limit {
        0 => PAGE,
        limit => PAGE.min(limit as usize),
    };
    let about = Filter::envelopes(owner);
    let mut items = Vec::new();
    let mut is_last = false;
    for _ in 0..MAX_STEPS {
        let step = walk.step(asker, &about, limit - items.len()).await?;
        items.extend(step.items.iter().filter(|item| !item.head.is_expired(now)).filter_map(raw));
        is_last = step.is_last;
        if is_last || items.len() >= limit {
            break;
        }
    }
    Ok(Page { items, next: Some(walk.cursor(is_last, relay)), more: !is_last })
}

async fn fetch(asker: &Asker, owner: MailboxId, ids: &[EnvelopeId]) -> Result<Page> {
    let now = asker.network.clock.now();
    let mut items = Vec::new();
    let mut seen = HashSet::new();
    for ids in ids.chunks(IDS) {
        let answer = asker.fetch(&Filter::envelopes(owner).ids(ids)).await?;
        let wanted = answer.events.iter().filter(|item| !item.head.is_expired(now) && seen.insert(item.head.id));
        items.extend(wanted.filter_map(raw));
    }
    Ok(Page { items, next: None, more: false })
}

/// What a relay shows when it is asked for these. Only an envelope that holds proves that it is there: a relay could
/// make up the rest.
async fn audit(asker: &Asker, owner: MailboxId, ids: &[EnvelopeId]) -> Result<Vec<Holding>> {
    let who = asker.auth.as_ref().map(|auth| auth.public());
    let mut held = HashSet::new();
    let mut is_known_absent = true;
    for ids in ids.chunks(IDS) {
        let shown = show(asker, owner, who, ids).await?;
        is_known_absent &= shown.is_conclusive;
        held.extend(shown.held);
    }
    let absent = if is_known_absent { HoldingState::Absent } else { HoldingState::Unknown };
    let state = |id: &EnvelopeId| if held.contains(id) { HoldingState::Held { until: None } } else { absent };
    Ok(ids.iter().map(|id| Holding { id: *id, state: state(id) }).collect())
}

/// What a relay shows of some ids.
struct Shown {
    held: HashSet<EnvelopeId>,
    is_conclusive: bool,
}

/// Asks as the owner or a keeper, who may ask for a mailbox; or as the one-time key of a wrap, which may ask for what it
/// signed. From the outside these keys look alike, so a relay that does not show the first is asked the second.
async fn show(asker: &Asker, owner: MailboxId, who: Option<PublicKey>, ids: &[EnvelopeId]) -> Result<Shown> {
    let genuine = |events: &[Sent]| -> HashSet<EnvelopeId> {
        let raw = events.iter().filter_map(raw);
        raw.filter_map(|raw| Envelope::verify(&raw).ok()).map(|envelope| envelope.id()).collect()
    };
    let by_mailbox = asker.fetch(&Filter::envelopes(owner).ids(ids)).await;
    let Some(author) = who.filter(|who| *who != PublicKey::from(owner)) else {
        let answer = by_mailbox?;
        return Ok(Shown { held: genuine(&answer.events), is_conclusive: answer.is_conclusive && !answer.is_cut });
    };
    let mut held = match &by_mailbox {
        Ok(answer) => genuine(&answer.events),
        Err(_) => HashSet::new(),
    };
    let missing: Vec<_> = ids.iter().filter(|id| !held.contains(id)).copied().collect();
    if missing.is_empty() {
        return Ok(Shown { held, is_conclusive: true });
    }
    let by_author = asker.fetch(&Filter::envelopes_by(author).ids(&missing)).await;
    match (by_mailbox, by_author) {
        (_, Ok(answer)) => {
            held.extend(genuine(&answer.events));
            Ok(Shown { held, is_conclusive: answer.is_conclusive && !answer.is_cut })
        }
        (Ok(answer), Err(_)) => Ok(Shown { held, is_conclusive: answer.is_conclusive && !answer.is_cut }),
        (Err(error), Err(_)) => Err(error),
    }
}

/// Asks all relays to delete, and then whether it is gone: many say yes and keep it.
async fn delete(
    network: &Arc<Network>,
    relays: &[Result<Relay, Refusal>],
    request: &DeleteRequest,
    auth: Option<&Arc<dyn Authorizer>>,
) -> Result<Deletion> {
    let json = request.event().to_json();
    let parcel = Parcel { id: request.event().id(), json: &json };
    let answers = join_all(relays.iter().map(|relay| async move {
        let relay = relay.as_ref().map_err(Refusal::clone)?;
        deliver(network, relay, &[parcel], auth).await.pop().transpose()?;
        let is_gone = match auth {
            None => false,
            Some(auth) => {
                let asker = Asker { network: Arc::clone(network), relay: relay.clone(), auth: Some(Arc::clone(auth)) };
                let shown = show(&asker, request.mailbox(), Some(auth.public()), request.ids()).await;
                shown.is_ok_and(|shown| shown.is_conclusive && shown.held.is_empty())
            }
        };
        let state = if is_gone { DeletionState::Confirmed } else { DeletionState::Requested };
        Ok::<_, Refusal>((relay.holder.clone(), state))
    }))
    .await;
    let mut deletion = Deletion::default();
    for answer in answers {
        match answer {
            Ok(holder) => deletion.holders.push(holder),
            Err(refusal) => deletion.refused.push(refusal),
        }
    }
    if deletion.holders.is_empty() {
        // The same choice of the most telling refusal as for a receipt.
        return Receipt { refused: deletion.refused, ..Receipt::default() }.settle().map(|_| Deletion::default());
    }
    Ok(deletion)
}

/// What was sent, as core takes it.
pub(crate) fn raw(sent: &Sent) -> Option<RawEnvelope> {
    RawEnvelope::new(sent.head.id.into(), Arc::clone(&sent.json)).ok()
}

/// The same error for each of many.
fn each<T>(number: usize, error: &Error, op: &'static str) -> Vec<Result<T>> {
    let again = || Error::new(error.kind(), error.message().to_owned()).retry(error.retry_advice()).op(op);
    (0..number).map(|_| Err(again())).collect()
}
