//! Watching one holder: a place in the order of arrival, and a signal that says when to look again. Nothing is queued
//! for one who does not read, so nothing can overflow.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{StreamExt as _, stream, stream::BoxStream};
use tokio::sync::watch;

use super::{MemoryNetwork, holder::Position, network::Signal};
use crate::{
    Error, ErrorKind, MailboxId, Result,
    auth::Authorizer,
    envelope::RawEnvelope,
    locator::Locator,
    mailbox::{WatchEvent, WatchOptions},
};

/// Most envelopes that are taken out of the holder at once.
const BATCH: usize = 64;

/// What one holder says of a mailbox, from the cursor of the options or from now.
pub(super) fn holder(
    network: &MemoryNetwork,
    holder: &Locator,
    owner: MailboxId,
    options: &WatchOptions,
) -> BoxStream<'static, Result<WatchEvent>> {
    let after = options.after.iter().find(|(named, _)| named == holder).map(|(_, cursor)| cursor);
    let (mut lost, mut begin) = (false, None);
    if let (Ok(state), Ok(signal)) = (network.lock(holder), network.signal(holder)) {
        let now = state.position();
        let position = after.map_or(Ok(now.seq), |cursor| state.sequence(cursor));
        lost = position.is_err();
        begin = Some((Position { seq: position.unwrap_or(now.seq), ..now }, signal));
    }
    let Some((position, signal)) = begin else {
        let error = Error::new(ErrorKind::NotFound, "no such holder").op("watch").with("holder", holder);
        return stream::iter([Err(error)]).chain(stream::pending()).boxed();
    };
    let restarts = signal.borrow().restarts;
    let watch = Watch {
        network: network.clone(),
        holder: holder.clone(),
        owner,
        auth: options.auth.clone(),
        admitted: false,
        position,
        restarts,
        signal,
        live: false,
        ready: lost.then(|| Ok(WatchEvent::Lagged { holder: holder.clone() })).into_iter().collect(),
    };
    stream::unfold(watch, Watch::next).boxed()
}

struct Watch {
    network: MemoryNetwork,
    holder: Locator,
    owner: MailboxId,
    auth: Option<Arc<dyn Authorizer>>,
    admitted: bool,
    position: Position,
    restarts: u64,
    signal: watch::Receiver<Signal>,
    live: bool,
    /// At most one batch.
    ready: VecDeque<Result<WatchEvent>>,
}

impl Watch {
    async fn next(mut self) -> Option<(Result<WatchEvent>, Self)> {
        if !self.admitted {
            if let Err(denied) = self.network.admit(self.owner, &self.holder, self.auth.as_ref()).await {
                // Asking again with the same key changes nothing; the other holders go on.
                self.admitted = true;
                self.signal = watch::Sender::new(Signal::default()).subscribe();
                return Some((Err(denied.op("watch")), self));
            }
            self.admitted = true;
        }
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((event, self));
            }
            let signal = *self.signal.borrow_and_update();
            if let Err(error) = self.look(signal) {
                return Some((Err(error), self));
            }
            if !self.ready.is_empty() {
                continue;
            }
            if !self.live {
                self.live = true;
                let live = WatchEvent::Live { holder: self.holder.clone() };
                return Some((Ok(live), self));
            }
            self.signal.changed().await.ok()?;
        }
    }

    /// Takes what is new.
    fn look(&mut self, signal: Signal) -> Result<()> {
        let state = self.network.lock(&self.holder)?;
        if signal.restarts != self.restarts {
            self.restarts = signal.restarts;
            let gone = Error::new(ErrorKind::Unreachable, "the holder was restarted").op("watch");
            self.ready.push_back(Err(gone.with("holder", &self.holder)));
            self.ready.push_back(Ok(WatchEvent::Lagged { holder: self.holder.clone() }));
            self.live = false;
            let now = state.position();
            if now.epoch != self.position.epoch {
                self.position = now;
            }
            return Ok(());
        }
        let (items, seq, _) = state.arrived(self.owner, self.position.seq, BATCH, self.network.now());
        for (seq, envelope) in items {
            let cursor = Some(Position { seq, ..self.position }.cursor());
            let raw = RawEnvelope::from(&envelope);
            self.ready.push_back(Ok(WatchEvent::Envelope { holder: self.holder.clone(), raw, cursor }));
        }
        self.position.seq = seq;
        Ok(())
    }
}
