//! What a client asks of the store: REQ, COUNT and the two steps of NIP-77. Each runs beside the session and comes
//! back to it when done.

use std::sync::Arc;

use futures_util::FutureExt as _;
use serde_json::json;
use talkbox_core::hex;

use super::{Session, reconcile::Reconciliation};
use crate::node::{
    Shared,
    filter::Filter,
    live::{Form, Subscription},
    outbox::Outbox,
    refusal::{Reason, Refusal},
    shares::{Claim, Full},
    store::{Count, Reader, Set, Short},
};

/// Bytes of stored events that are read at once. It is what a query may have in memory for a client that does not read,
/// and enough that to wait for a turn costs little beside it.
const PAGE: usize = 131_072;
/// What a subscription takes besides its filters.
const SUBSCRIPTION_BYTES: usize = 512;

/// What a query leaves to the session.
pub(crate) enum Done {
    Sent,
    /// The subscription ends with this.
    Failed {
        name: String,
        subscription: Arc<Subscription>,
        refusal: Refusal,
    },
    /// The message that answers, and the reconciliation that goes on.
    Reconciled {
        name: String,
        number: u64,
        answer: Result<(Box<Reconciliation>, Vec<u8>), Refusal>,
    },
}

impl Session {
    pub(super) fn subscribe(&mut self, name: String, filters: Vec<Filter>) {
        self.drop_subscription(&name);
        let claim = match self.may_ask(&filters) {
            Ok(claim) => claim,
            Err(refusal) => return self.closed(&name, &refusal),
        };
        let most = self.node.config.limits.max_subscriptions;
        if self.subscriptions.len() >= most {
            return self.closed(&name, &Refusal::new(Reason::Blocked, format!("more than {most} subscriptions")));
        }
        let reader = self.reader();
        let form = Form::Relay { name: json!(name).to_string() };
        let subscription = self.node.live.add(form, filters, reader.rights.clone(), Arc::clone(&self.outbox), claim);
        self.subscriptions.insert(name.clone(), Arc::clone(&subscription));
        let (node, outbox) = (Arc::clone(&self.node), Arc::clone(&self.outbox));
        let query = async move {
            match send_stored(&node, &subscription, &outbox, reader).await {
                Ok(()) => Done::Sent,
                Err(error) => Done::Failed { name, subscription, refusal: Refusal::of_store(&error) },
            }
        };
        self.queries.push(query.boxed());
    }

    pub(super) fn count(&mut self, name: String, filters: Vec<Filter>) {
        let claim = match self.may_ask(&filters) {
            Ok(claim) => claim,
            Err(refusal) => return self.closed(&name, &refusal),
        };
        let (node, outbox, reader) = (Arc::clone(&self.node), Arc::clone(&self.outbox), self.reader());
        let query = async move {
            let count = Count::new(node.config.limits.max_reconciled);
            let answer = match node.store.search(filters.into(), reader, count).await {
                Ok((count, _)) => match count.number() {
                    Some(count) => json!(["COUNT", name, { "count": count }]),
                    None => json!(["CLOSED", name, "error: more than this node counts"]),
                },
                Err(error) => json!(["CLOSED", name, Refusal::of_store(&error).to_string()]),
            };
            drop(claim);
            if outbox.room().await {
                outbox.push(answer.to_string());
            }
            Done::Sent
        };
        self.queries.push(query.boxed());
    }

    pub(super) fn open_reconciliation(&mut self, name: String, filter: Filter, message: Vec<u8>) {
        let number = self.number();
        let most = self.node.config.limits.max_reconciliations;
        let filters = [filter];
        let claim = self.may_ask(&filters).and_then(|claim| {
            self.reconciliations.begin(&name, number, most)?;
            Ok(claim)
        });
        let claim = match claim {
            Ok(claim) => claim,
            Err(refusal) => return self.neg_err(&name, &refusal),
        };
        let (node, reader) = (Arc::clone(&self.node), self.reader());
        let query = async move {
            let answer = build(&node, filters, reader, message).await;
            drop(claim);
            Done::Reconciled { name, number, answer }
        };
        self.queries.push(query.boxed());
    }

    pub(super) fn go_on_reconciling(&mut self, name: String, message: Vec<u8>) {
        let number = self.number();
        let Some(session) = self.reconciliations.take(&name, number) else {
            return self.neg_err(&name, &Refusal::new(Reason::Failed, "closed: no such reconciliation is waiting"));
        };
        let query = async move { Done::Reconciled { name, number, answer: answer(session, message).await } };
        self.queries.push(query.boxed());
    }

    pub(super) fn finish(&mut self, done: Done) {
        match done {
            Done::Sent => {}
            Done::Failed { name, subscription, refusal } => {
                // It may have been closed meanwhile, and another opened under the name.
                if self.subscriptions.get(&name).is_some_and(|open| Arc::ptr_eq(open, &subscription)) {
                    self.drop_subscription(&name);
                    self.closed(&name, &refusal);
                }
            }
            Done::Reconciled { name, number, answer } => {
                let (session, result) = match answer {
                    Ok((session, message)) => (Some(session), Ok(message)),
                    Err(refusal) => (None, Err(refusal)),
                };
                if self.reconciliations.put_back(&name, number, session) {
                    match result {
                        Ok(message) => self.outbox.push(json!(["NEG-MSG", name, hex::encode(&message)]).to_string()),
                        Err(refusal) => self.neg_err(&name, &refusal),
                    }
                }
            }
        }
    }

    /// Whether this may be asked, and the claim on what the filters take.
    fn may_ask(&self, filters: &[Filter]) -> Result<Claim, Refusal> {
        let rights = self.rights();
        filters.iter().try_for_each(|filter| rights.check(filter))?;
        let bytes = SUBSCRIPTION_BYTES + filters.iter().map(Filter::bytes).sum::<usize>();
        self.node.filters.claim(self.pass.party(), bytes).map_err(|full| match full {
            Full::Party => {
                Refusal::new(Reason::Blocked, "this address keeps as many filters as it may; close a subscription")
            }
            Full::Node => {
                Refusal::new(Reason::RateLimited, "the node keeps as many filters as it can; try again later")
            }
        })
    }

    /// Who asks, at this moment.
    fn reader(&self) -> Reader {
        Reader { party: self.pass.party(), rights: self.rights(), now: self.node.now() }
    }

    fn drop_subscription(&mut self, name: &str) {
        if let Some(subscription) = self.subscriptions.remove(name) {
            self.node.live.remove(&subscription);
        }
    }
}

/// Sends what is stored for a subscription, then `EOSE`, and lets what arrived meanwhile follow. A page is read when there
/// is room for it: while a client takes its time, nothing of the store is taken or kept for it.
async fn send_stored(
    node: &Shared,
    subscription: &Subscription,
    outbox: &Outbox,
    reader: Reader,
) -> talkbox_core::Result<()> {
    let mut pages = node.store.newest(subscription.filters(), reader, node.config.limits.max_limit).await?;
    while outbox.room().await && !subscription.is_closed() {
        if let Some(last) = pages.end() {
            outbox.push(subscription.end_of_stored(last));
            subscription.go_live(last);
            return Ok(());
        }
        let page;
        (pages, page) = node.store.page(pages, PAGE).await?;
        if subscription.is_closed() {
            return Ok(());
        }
        let messages: Vec<_> = page.iter().map(|event| subscription.message(event, None).into()).collect();
        outbox.push_all(messages);
    }
    Ok(())
}

async fn build(
    node: &Shared,
    filters: [Filter; 1],
    reader: Reader,
    message: Vec<u8>,
) -> Result<(Box<Reconciliation>, Vec<u8>), Refusal> {
    let busy = || Refusal::new(Reason::RateLimited, "the node is reconciling with many others; try again later");
    let too_many = || Refusal::new(Reason::Blocked, "more ids than this node reconciles at once");
    let claim = node.reconciled.claim(reader.party, 0).map_err(|_| busy())?;
    let set = Set::new(node.config.limits.max_reconciled, claim);
    let (set, _) =
        node.store.search(Arc::new(filters), reader, set).await.map_err(|error| Refusal::of_store(&error))?;
    let (items, claim) = set.items().map_err(|short| match short {
        Short::TooMany | Short::NoRoom(Full::Party) => too_many(),
        Short::NoRoom(Full::Node) => busy(),
    })?;
    let session =
        tokio::task::spawn_blocking(move || Reconciliation::new(items, claim)).await.map_err(|_| broken())??;
    answer(Box::new(session), message).await
}

async fn answer(mut session: Box<Reconciliation>, message: Vec<u8>) -> Result<(Box<Reconciliation>, Vec<u8>), Refusal> {
    tokio::task::spawn_blocking(move || {
        let answer = session.answer(&message)?;
        Ok((session, answer))
    })
    .await
    .map_err(|_| broken())?
}

fn broken() -> Refusal {
    Refusal::new(Reason::Failed, "the reconciliation failed")
}
