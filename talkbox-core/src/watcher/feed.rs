//! The task of one watch: passes on what is live, and tells the tasks of the holders what they may have missed.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use tokio::time::{Instant, sleep};

use super::{BATCH, Incoming, Shared, signals::HolderState};
use crate::{
    Error, ErrorKind, Result,
    envelope::RawEnvelope,
    layers::jittered,
    locator::Locator,
    mailbox::{Cursor, Mailbox, WatchEvent, WatchOptions},
};

/// A watch that lasted this long was well.
const WELL: Duration = Duration::from_secs(60);

/// The watch of one mailbox.
#[derive(Debug)]
pub(super) struct Feed {
    mailbox: Arc<dyn Mailbox>,
    states: Vec<Arc<HolderState>>,
    shared: Shared,
    /// Live envelopes of one holder that have come together, and where its listing goes on after them.
    batch: Option<(Locator, Vec<RawEnvelope>, Option<Cursor>)>,
}

/// Nobody listens any more, or the backend was closed.
#[derive(Debug)]
struct Gone;

impl Feed {
    pub(super) const fn new(mailbox: Arc<dyn Mailbox>, states: Vec<Arc<HolderState>>, shared: Shared) -> Self {
        Self { mailbox, states, shared, batch: None }
    }

    /// Watches until nobody listens or the backend was closed. A watch does not end by itself; one that does is begun again.
    pub(super) async fn run(mut self) {
        let mut pause = self.shared.options.pause;
        loop {
            // From now on, without cursors: what was before is listed, so that it is not sent twice.
            let options = WatchOptions::default().auth(self.shared.options.auth.clone());
            let Some(events) = self.mailbox.watch(self.shared.owner, options) else { return };
            let began = Instant::now();
            let mut events = events.ready_chunks(BATCH);
            while let Some(events) = events.next().await {
                for event in events {
                    if self.take(event).await.is_err() {
                        return;
                    }
                }
                if self.flush().await.is_err() {
                    return;
                }
            }
            self.states.iter().for_each(|state| state.lost());
            if began.elapsed() > WELL {
                pause = self.shared.options.pause;
            }
            tracing::debug!(backend = self.mailbox.descriptor().name, "the watch ended by itself");
            sleep(jittered(pause, 0.2)).await;
            pause = pause.saturating_mul(2).min(self.shared.options.longest_pause);
        }
    }

    async fn take(&mut self, event: Result<WatchEvent>) -> Result<(), Gone> {
        match event {
            Ok(WatchEvent::Envelope { holder, raw, cursor }) => self.add(holder, raw, cursor).await,
            Ok(WatchEvent::Live { holder }) => {
                // What came before it is passed on before it.
                self.flush().await?;
                self.tell(&holder, HolderState::went_live);
                Ok(())
            }
            Ok(WatchEvent::Lagged { holder }) => {
                self.flush().await?;
                self.tell(&holder, HolderState::lagged);
                Ok(())
            }
            Err(error) => {
                self.flush().await?;
                if error.kind() == ErrorKind::Closed {
                    return Err(Gone);
                }
                self.lose(error).await
            }
        }
    }

    async fn add(&mut self, holder: Locator, raw: RawEnvelope, cursor: Option<Cursor>) -> Result<(), Gone> {
        let cursor = self.state(&holder).and_then(|state| state.live_cursor(cursor));
        match &mut self.batch {
            Some((same, batch, last)) if *same == holder && batch.len() < BATCH => {
                batch.push(raw);
                if cursor.is_some() {
                    *last = cursor;
                }
                Ok(())
            }
            _ => {
                self.flush().await?;
                self.batch = Some((holder, vec![raw], cursor));
                Ok(())
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        let Some((holder, raw, cursor)) = self.batch.take() else { return Ok(()) };
        self.shared.out.send(Incoming::Raw { holder, raw, cursor }).await.map_err(|_| Gone)
    }

    /// A holder was lost, or, where the error names none of them, any of them may be.
    async fn lose(&self, error: Error) -> Result<(), Gone> {
        let named =
            error.context("holder").and_then(|name| self.states.iter().find(|state| state.holder.as_str() == name));
        let lost = match (named, self.states.as_slice()) {
            (Some(state), _) | (None, [state]) => state,
            (None, _) => {
                self.states.iter().for_each(|state| state.lost());
                tracing::debug!(%error, "the watch reports a failure");
                return Ok(());
            }
        };
        lost.lost();
        if !lost.failed() {
            return Ok(());
        }
        self.shared.out.send(Incoming::Down { holder: lost.holder.clone(), error }).await.map_err(|_| Gone)
    }

    /// Tells the task of a holder; where it is none that is configured, all of them, since any may be behind it.
    fn tell(&self, holder: &Locator, what: impl Fn(&HolderState)) {
        match self.state(holder) {
            Some(state) => what(state),
            None => self.states.iter().for_each(|state| what(state)),
        }
    }

    fn state(&self, holder: &Locator) -> Option<&HolderState> {
        self.states.iter().find(|state| state.holder == *holder).map(|state| &**state)
    }
}
