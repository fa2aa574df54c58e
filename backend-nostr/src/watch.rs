//! Watching: one subscription on each relay that stays open, opened again when it is lost.
//!
//! There is no task behind it: whoever reads the stream drives it, and dropping it ends everything. A reader that is
//! slower than a relay loses the subscription, not an envelope: it is told `Lagged`, and what was missed is sent again.
//!
//! A subscription has two filters. The first asks for what may have come lately, by its date. The second asks for
//! nothing by date and only for what comes from now on: what somebody puts back after weeks is as new as the rest. It
//! cannot ask for none of what is stored, since to `limit: 0` some relays send everything and others no end at all, so
//! that it asks for one.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use talkbox_core::{Error, ErrorKind, EventId, MailboxId, Result, Timestamp, WatchEvent, WatchOptions};
use talkbox_net::BackOff;
use tokio::{
    sync,
    time::{Instant, timeout_at},
};

use crate::{
    ask::{Asker, MAX_LIMIT, PATIENCE},
    connection::Connection,
    filter::{Filter, Sent},
    mailbox::raw,
    network::{Network, Relay, no_relays},
    routes::{Budget, Delivery},
    subscription::{Ended, Subscription},
    verdict::{Refused, wants_key},
    walk::{PAGE, Walk, look_back, too_much},
    wire::Completeness,
};

/// Envelopes that wait to be taken: 64 MiB of the largest kind. More is a lag.
const WAITING: usize = 1024;

/// The stream of all relays.
pub(crate) fn watch(
    network: &Arc<Network>,
    owner: MailboxId,
    options: &WatchOptions,
    end: &sync::watch::Receiver<bool>,
) -> BoxStream<'static, Result<WatchEvent>> {
    let now = network.clock.now();
    let one = |relay: &Relay| {
        let after = options.after.iter().find(|(holder, _)| {
            // The cursor may name the relay in another spelling.
            network.relay(holder).is_ok_and(|named| named.url == relay.url)
        });
        let (from, ready) = match after.map(|(_, cursor)| Walk::resume(cursor, &relay.url, now)) {
            None => (look_back(now), VecDeque::new()),
            Some(Ok(walk)) => (walk.watch_from(), VecDeque::new()),
            // Not a cursor of this relay: say that something may be missing, and let the caller list from the start.
            Some(Err(_)) => (look_back(now), VecDeque::from([Ok(WatchEvent::Lagged { holder: relay.holder.clone() })])),
        };
        let asker = Asker { network: Arc::clone(network), relay: relay.clone(), auth: options.auth.clone() };
        let back_off = BackOff::new(options.retry_after);
        let watch =
            Watch { asker, about: Filter::envelopes(owner), from, back_off, was_open: false, ready, open: None };
        let mut end = end.clone();
        let ended = async move {
            // An error means that the mailbox was dropped, which ends the stream as well.
            let _ = end.wait_for(|closed| *closed).await;
        };
        stream::unfold(watch, Watch::next).take_until(Box::pin(ended)).boxed()
    };
    let relays: Vec<_> = network.relays().iter().map(one).collect();
    if relays.is_empty() {
        return stream::iter([Err(no_relays().op("watch"))]).boxed();
    }
    stream::select_all(relays).boxed()
}

/// One relay.
struct Watch {
    asker: Asker,
    about: Filter,
    /// From when on, by our clock and with the overlap.
    from: Timestamp,
    back_off: BackOff,
    /// Whether there was a subscription before this one, so that something may be missing between them.
    was_open: bool,
    /// What is to be said next.
    ready: VecDeque<Result<WatchEvent>>,
    open: Option<Open>,
}

/// An open subscription.
struct Open {
    connection: Arc<Connection>,
    subscription: Subscription,
    /// What came before the end of what was stored; `None` when that is through.
    backlog: Option<Vec<(Timestamp, EventId)>>,
    /// Whether the relay has been told who asks, after it was asked.
    is_introduced: bool,
    /// When what was stored has to be through.
    until: Instant,
}

impl Watch {
    async fn next(mut self) -> Option<(Result<WatchEvent>, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((event, self));
            }
            if let Err(error) = self.advance().await {
                self.fail(error);
            }
        }
    }

    /// Opens the subscription, or takes what comes next on it.
    async fn advance(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take() else { return self.subscribe().await };
        let next = open.subscription.next();
        let delivery = match &open.backlog {
            None => next.await,
            Some(backlog) if backlog.len() > MAX_LIMIT => return Err(too_much()),
            Some(_) => timeout_at(open.until, next)
                .await
                .map_err(|_| Error::new(ErrorKind::Timeout, "the relay does not say what it has stored"))?,
        };
        let delivery = match delivery {
            Ok(delivery) => delivery,
            Err(Ended::Overrun) => {
                tracing::debug!(relay = %self.asker.relay.url, "the watch lags");
                // With a pause, or a relay that floods would be taken at its own speed.
                self.back_off.fail();
                self.look_back();
                return Ok(());
            }
            Err(Ended::Lost(lost)) => return self.lose(lost.to_error()),
        };
        match delivery {
            Delivery::Event(event) => self.take(&event, open.backlog.as_mut()),
            Delivery::Eose(completeness) => {
                // A relay may send its challenge late, and show less to strangers without a word.
                if !open.is_introduced && self.asker.introduce(&open.connection).await.is_ok_and(|is_new| is_new) {
                    return self.resubscribe(true).await;
                }
                let backlog = open.backlog.take().unwrap_or_default();
                self.go_live(&backlog, completeness).await?;
            }
            Delivery::Closed(words) => {
                if !open.is_introduced && wants_key(&words) && self.prove(&open.connection).await? {
                    return self.resubscribe(true).await;
                }
                return self.lose(Refused::of(&words).into_error());
            }
            Delivery::Neg(_) | Delivery::NegErr(_) | Delivery::Notice(_) => {}
        }
        self.open = Some(open);
        Ok(())
    }

    async fn subscribe(&mut self) -> Result<()> {
        let is_again = self.was_open || self.back_off.is_on();
        self.back_off.wait().await;
        self.resubscribe(false).await?;
        if is_again {
            self.ready.push_back(Ok(WatchEvent::Lagged { holder: self.asker.relay.holder.clone() }));
        }
        self.was_open = true;
        Ok(())
    }

    async fn resubscribe(&mut self, is_introduced: bool) -> Result<()> {
        let recent = Filter { since: Some(self.from), limit: Some(PAGE), ..self.about.clone() };
        let live = Filter { limit: Some(1), ..self.about.clone() };
        let budget = Budget { waiting: WAITING, events: usize::MAX, bytes: usize::MAX, notices: false };
        let (connection, subscription) = self.asker.subscribe(&[recent, live], budget).await?;
        let until = Instant::now() + self.asker.network.timeout * PATIENCE;
        self.open = Some(Open { connection, subscription, backlog: Some(Vec::new()), is_introduced, until });
        Ok(())
    }

    /// The rest of what is stored, where the relay may have cut it short; then all that comes is new.
    async fn go_live(&mut self, backlog: &[(Timestamp, EventId)], completeness: Completeness) -> Result<()> {
        let mut walk = Walk::from(self.asker.network.clock.now(), self.from);
        walk.take_in(backlog);
        let mut is_last = completeness == Completeness::Finish || backlog.is_empty();
        while !is_last {
            let step = walk.step(&self.asker, &self.about, PAGE).await?;
            step.items.iter().for_each(|event| self.take(event, None));
            is_last = step.is_last;
        }
        self.back_off.reset();
        self.ready.push_back(Ok(WatchEvent::Live { holder: self.asker.relay.holder.clone() }));
        Ok(())
    }

    async fn prove(&self, connection: &Connection) -> Result<bool> {
        let Some(auth) = &self.asker.auth else { return Ok(false) };
        let until = Instant::now() + self.asker.network.timeout;
        connection.prove(&self.asker.relay.holder, &**auth, until).await.map(|()| true)
    }

    fn take(&mut self, event: &Sent, backlog: Option<&mut Vec<(Timestamp, EventId)>>) {
        if !self.about.matches(&event.head) {
            return;
        }
        // What is older came by the second filter, and says nothing of how far down the page reaches.
        if let Some(backlog) = backlog.filter(|_| event.head.created_at >= self.from) {
            backlog.push((event.head.created_at, event.head.id));
        }
        if event.head.is_expired(self.asker.network.clock.now()) {
            return;
        }
        if let Some(raw) = raw(event) {
            let holder = self.asker.relay.holder.clone();
            self.ready.push_back(Ok(WatchEvent::Envelope { holder, raw, cursor: None }));
        }
    }

    /// The subscription is gone, by the relay's doing.
    fn lose(&mut self, error: Error) -> Result<()> {
        self.look_back();
        Err(error)
    }

    /// What may have come from now on is asked for when the subscription is opened again.
    fn look_back(&mut self) {
        self.from = self.from.max(look_back(self.asker.network.clock.now()));
    }

    fn fail(&mut self, error: Error) {
        self.open = None;
        self.back_off.fail_with(&error);
        let error = if error.context("relay").is_some() { error } else { error.with("relay", &self.asker.relay.url) };
        self.ready.push_back(Err(error.op("watch")));
    }
}
