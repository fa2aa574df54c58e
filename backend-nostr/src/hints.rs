//! Hints as they come: checked here, since a hint is nothing but its signature, and bounded, since anybody may send one.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use talkbox_core::{
    Authorizer, Error, ErrorKind, EventId, Hint, MailboxId, Result,
    event::{Event, kind},
};
use talkbox_net::BackOff;
use tokio::{sync::watch, time::Instant};

use crate::{
    ask::Asker,
    connection::Connection,
    filter::{Filter, Sent},
    network::{Network, no_relays},
    routes::{Budget, Delivery},
    subscription::{Ended, Subscription},
    verdict::{Refused, wants_key},
};

/// Hints that wait to be taken. They all say the same, so more are worth nothing.
const WAITING: usize = 64;
/// How far back to ask, in seconds: some relays store what they should not, and a hint lives for an hour.
const LOOK_BACK: u64 = 3600;
/// Ids that are remembered of one relay, so that a repeated hint is not checked again.
const SEEN: usize = 256;
/// Checks of signatures for one relay: so many at once, and one more each time this passes. A flood costs no more.
const CHECKS: u32 = 20;
const CHECK_EVERY: Duration = Duration::from_millis(200);

/// The hints of all relays.
pub(crate) fn subscribe(
    network: &Arc<Network>,
    owner: MailboxId,
    auth: Option<Arc<dyn Authorizer>>,
    mut end: watch::Receiver<bool>,
) -> BoxStream<'static, Result<Hint>> {
    if network.relays().is_empty() {
        return stream::iter([Err(no_relays().op("subscribe"))]).boxed();
    }
    let sources = network.relays().iter().map(|relay| {
        let source = Source {
            asker: Asker { network: Arc::clone(network), relay: relay.clone(), auth: auth.clone() },
            about: Filter { kind: kind::HINT, mailbox: Some(owner), ..Filter::default() },
            back_off: BackOff::new(None),
            open: None,
            seen: VecDeque::new(),
            checks: CHECKS,
            refilled: Instant::now(),
        };
        stream::unfold(source, Source::next).boxed()
    });
    let ended = async move {
        // An error means that the transport was dropped, which ends the stream as well.
        let _ = end.wait_for(|closed| *closed).await;
    };
    stream::select_all(sources).take_until(Box::pin(ended)).boxed()
}

/// One relay.
struct Source {
    asker: Asker,
    about: Filter,
    back_off: BackOff,
    open: Option<(Arc<Connection>, Subscription)>,
    seen: VecDeque<EventId>,
    checks: u32,
    refilled: Instant,
}

impl Source {
    async fn next(mut self) -> Option<(Result<Hint>, Self)> {
        loop {
            match self.advance().await {
                Ok(Some(hint)) => return Some((Ok(hint), self)),
                Ok(None) => {}
                Err(error) => {
                    self.open = None;
                    self.back_off.fail_with(&error);
                    let error = if error.context("relay").is_some() {
                        error
                    } else {
                        error.with("relay", &self.asker.relay.url)
                    };
                    return Some((Err(error.op("subscribe")), self));
                }
            }
        }
    }

    async fn advance(&mut self) -> Result<Option<Hint>> {
        let Some((connection, subscription)) = &mut self.open else {
            self.back_off.wait().await;
            let since = self.asker.network.clock.now().minus(LOOK_BACK);
            let question = Filter { since: Some(since), limit: Some(WAITING), ..self.about.clone() };
            let budget = Budget { waiting: WAITING + 8, events: usize::MAX, bytes: usize::MAX, notices: false };
            self.open = Some(self.asker.subscribe(&[question], budget).await?);
            return Ok(None);
        };
        match subscription.next().await {
            Ok(Delivery::Event(event)) => return Ok(self.check(&event)),
            Ok(Delivery::Eose(_)) => self.back_off.reset(),
            Ok(Delivery::Closed(words)) => {
                let error = Refused::of(&words).into_error();
                let Some(auth) = self.asker.auth.as_ref().filter(|_| wants_key(&words)) else { return Err(error) };
                let until = Instant::now() + self.asker.network.timeout;
                let is_new = connection.is_challenged();
                connection.prove(&self.asker.relay.holder, &**auth, until).await?;
                if !is_new {
                    return Err(error);
                }
                self.open = None;
            }
            Ok(Delivery::Neg(_) | Delivery::NegErr(_) | Delivery::Notice(_)) => {}
            Err(Ended::Overrun) => return Err(Error::new(ErrorKind::RateLimited, "the relay sends too many hints")),
            Err(Ended::Lost(lost)) => return Err(lost.to_error()),
        }
        Ok(None)
    }

    fn check(&mut self, event: &Sent) -> Option<Hint> {
        if !self.about.matches(&event.head) || self.seen.contains(&event.head.id) || !self.may_check() {
            return None;
        }
        // The hash in the id is checked with the signature: a forgery cannot take the place of a real hint.
        let hint =
            Event::parse(&event.json).and_then(|event| Hint::from_event(event, self.asker.network.clock.now())).ok()?;
        if self.seen.len() >= SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(hint.event().id());
        Some(hint)
    }

    fn may_check(&mut self) -> bool {
        let refill = self.refilled.elapsed().as_millis() / CHECK_EVERY.as_millis();
        if refill > 0 {
            self.refilled = Instant::now();
            self.checks = self.checks.saturating_add(refill.min(u128::from(CHECKS)) as u32).min(CHECKS);
        }
        self.checks.checked_sub(1).map(|left| self.checks = left).is_some()
    }
}
