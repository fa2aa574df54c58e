//! What a client asks of the store: REQ, COUNT and the two steps of NIP-77. Each runs beside the session and comes
//! back to it when done.

use std::sync::Arc;

use futures_util::FutureExt as _;
use serde_json::json;
use talkbox_core::{Error, ErrorKind, hex};

use super::{Session, reconcile::Reconciliation};
use crate::node::{
    Shared,
    filter::Filter,
    gate::Rights,
    live::Subscription,
    outbox::Outbox,
    refusal::{Prefix, Refusal},
};

/// Bytes of stored events that are read at once.
const PAGE: usize = 262_144;

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
        let rights = self.rights();
        if let Err(refusal) = filters.iter().try_for_each(|filter| rights.check(filter)) {
            self.drop_subscription(&name);
            return self.closed(&name, &refusal);
        }
        self.drop_subscription(&name);
        let most = self.node.config.limits.max_subscriptions;
        if self.subscriptions.len() >= most {
            return self.closed(&name, &Refusal::new(Prefix::Blocked, format!("more than {most} subscriptions")));
        }
        let quoted = json!(name).to_string();
        let subscription = self.node.live.add(quoted, filters, rights, Arc::clone(&self.outbox));
        self.subscriptions.insert(name.clone(), Arc::clone(&subscription));
        let (node, outbox) = (Arc::clone(&self.node), Arc::clone(&self.outbox));
        let query = async move {
            match send_stored(&node, &subscription, &outbox).await {
                Ok(()) => Done::Sent,
                Err(error) => Done::Failed { name, subscription, refusal: failed(&error) },
            }
        };
        self.queries.push(query.boxed());
    }

    pub(super) fn count(&mut self, name: String, filters: Vec<Filter>) {
        let rights = self.rights();
        if let Err(refusal) = filters.iter().try_for_each(|filter| rights.check(filter)) {
            return self.closed(&name, &refusal);
        }
        let (node, outbox) = (Arc::clone(&self.node), Arc::clone(&self.outbox));
        let query = async move {
            let answer = match node.store.count(filters, rights, node.now()).await {
                Ok(Some(count)) => json!(["COUNT", name, { "count": count }]),
                Ok(None) => json!(["CLOSED", name, "error: more than this node counts"]),
                Err(error) => json!(["CLOSED", name, failed(&error).to_string()]),
            };
            outbox.send(answer.to_string()).await;
            Done::Sent
        };
        self.queries.push(query.boxed());
    }

    pub(super) fn open_reconciliation(&mut self, name: String, filter: Filter, message: Vec<u8>) {
        let rights = self.rights();
        let number = self.number();
        let most = self.node.config.limits.max_reconciliations;
        if let Err(refusal) = rights.check(&filter).and_then(|()| self.reconciliations.begin(&name, number, most)) {
            return self.neg_err(&name, &refusal);
        }
        let node = Arc::clone(&self.node);
        let query = async move {
            let answer = build(&node, filter, rights, message).await;
            Done::Reconciled { name, number, answer }
        };
        self.queries.push(query.boxed());
    }

    pub(super) fn go_on_reconciling(&mut self, name: String, message: Vec<u8>) {
        let number = self.number();
        let Some(session) = self.reconciliations.take(&name, number) else {
            return self.neg_err(&name, &Refusal::new(Prefix::Error, "closed: no such reconciliation is waiting"));
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

    fn drop_subscription(&mut self, name: &str) {
        if let Some(subscription) = self.subscriptions.remove(name) {
            self.node.live.remove(&subscription);
        }
    }
}

/// Sends what is stored for a subscription, then `EOSE`, and lets what arrived meanwhile follow.
async fn send_stored(node: &Shared, subscription: &Subscription, outbox: &Outbox) -> talkbox_core::Result<()> {
    let now = node.now();
    let (keys, last) = node.store.newest(subscription.filters(), subscription.rights(), now).await?;
    let keys: Arc<[_]> = keys.into();
    let mut from = 0;
    while from < keys.len() && !subscription.is_closed() {
        let (page, taken) = node.store.events(Arc::clone(&keys), from, subscription.rights(), now, PAGE).await?;
        from += taken;
        for event in page {
            if subscription.is_closed() {
                return Ok(());
            }
            outbox.send(subscription.message(&event)).await;
        }
    }
    if !subscription.is_closed() {
        outbox.send(subscription.end_of_stored()).await;
        subscription.go_live(last);
    }
    Ok(())
}

async fn build(
    node: &Shared,
    filter: Filter,
    rights: Rights,
    message: Vec<u8>,
) -> Result<(Box<Reconciliation>, Vec<u8>), Refusal> {
    let items = node.store.set(filter, rights, node.now()).await.map_err(|error| failed(&error))?;
    let items = items.ok_or_else(|| Refusal::new(Prefix::Blocked, "more ids than this node reconciles at once"))?;
    let held = Arc::clone(&node.held);
    let session =
        tokio::task::spawn_blocking(move || Reconciliation::new(items, held)).await.map_err(|_| broken())??;
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
    Refusal::new(Prefix::Error, "the reconciliation failed")
}

fn failed(error: &Error) -> Refusal {
    tracing::warn!(%error, "a query failed");
    let text = if error.kind() == ErrorKind::Timeout { "the query took too long" } else { "the store failed" };
    Refusal::new(Prefix::Error, text)
}
