//! Hints as they come: checked here, since a hint is nothing but its signature, and bounded, since anybody may send one.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use talkbox_core::{
    Authorizer, Error, ErrorKind, EventId, Hint, MailboxId, Result,
    event::{Event, Wire, kind},
};
use talkbox_net::BackOff;
use tokio::{sync::watch, time::Instant};

use super::{
    ask::Asker,
    feed::{Feed, Told},
    network::{Network, no_nodes},
};

/// Ids that are remembered of one node, so that a repeated hint is not checked again.
const SEEN: usize = 256;
/// Checks of signatures for one node: so many at once, and one more each time this passes. A flood costs no more.
const CHECKS: u32 = 20;
const CHECK_EVERY: Duration = Duration::from_millis(200);
/// What a node tells in a row that is no hint worth a check, after which it is lost: more than a busy mailbox gets in
/// the time of a back-off.
const MAX_OTHERS: u32 = 100_000;

/// The hints of all nodes.
pub(super) fn subscribe(
    network: &Arc<Network>,
    owner: MailboxId,
    auth: Option<Arc<dyn Authorizer>>,
    mut end: watch::Receiver<bool>,
) -> BoxStream<'static, Result<Hint>> {
    if network.nodes().is_empty() {
        return stream::iter([Err(no_nodes().op("subscribe"))]).boxed();
    }
    let sources = network.nodes().iter().map(|node| {
        let source = Source {
            asker: Asker { network: Arc::clone(network), node: node.clone(), auth: auth.clone() },
            owner,
            back_off: BackOff::new(None),
            open: None,
            seen: VecDeque::new(),
            checks: CHECKS,
            refilled: Instant::now(),
            others: 0,
        };
        stream::unfold(source, Source::next).boxed()
    });
    let ended = async move {
        // An error means that the transport was dropped, which ends the stream as well.
        let _ = end.wait_for(|closed| *closed).await;
    };
    stream::select_all(sources).take_until(Box::pin(ended)).boxed()
}

/// One node.
struct Source {
    asker: Asker,
    owner: MailboxId,
    back_off: BackOff,
    open: Option<Feed>,
    seen: VecDeque<EventId>,
    checks: u32,
    refilled: Instant,
    others: u32,
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
                    let error = self.asker.named(error).op("subscribe");
                    return Some((Err(error), self));
                }
            }
        }
    }

    async fn advance(&mut self) -> Result<Option<Hint>> {
        let Some(feed) = &mut self.open else {
            self.back_off.wait().await;
            self.open = Some(self.asker.feed(self.owner, None).await?);
            return Ok(None);
        };
        match feed.next().await? {
            Told::Hint { json } => return Ok(self.check(&json)),
            Told::Live { .. } => self.back_off.reset(),
            // The mailbox's own mail, which a watch takes.
            Told::Envelope { .. } | Told::Other => {
                self.others += 1;
                if self.others >= MAX_OTHERS {
                    self.others = 0;
                    return Err(Error::new(ErrorKind::RateLimited, "the node tells of too much that is no hint"));
                }
            }
        }
        Ok(None)
    }

    fn check(&mut self, json: &str) -> Option<Hint> {
        let event = Wire::parse(json).ok()?;
        let id = event.id();
        let is_ours = event.kind() == kind::HINT && event.values("p").any(|key| key == self.owner.to_hex());
        if !is_ours || self.seen.contains(&id) || !self.may_check() {
            return None;
        }
        // The hash in the id is checked with the signature: a forgery cannot take the place of a real hint.
        let hint = Event::parse(json).and_then(|event| Hint::from_event(event, self.asker.network.clock.now())).ok()?;
        if self.seen.len() >= SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(id);
        self.others = 0;
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
