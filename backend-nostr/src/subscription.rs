//! A subscription: what comes for one question, until it is dropped.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::mpsc;

use crate::{
    line::Line,
    routes::{Budget, Delivery, Lost},
    wire::SubId,
};

/// A subscription. Dropping it tells the relay to stop.
pub(crate) struct Subscription {
    id: SubId,
    deliveries: mpsc::Receiver<Delivery>,
    overrun: Arc<AtomicBool>,
    line: Arc<Line>,
    goodbye: fn(SubId) -> String,
}

/// Why a subscription gets nothing more.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// The relay sent more than it was asked for, or faster than it could be taken.
    Overrun,
    /// The connection ended.
    Lost(Lost),
}

impl Subscription {
    /// Begins one, of which the relay does not know yet. `goodbye` is what ends it.
    ///
    /// # Errors
    /// Where the connection is lost.
    pub(crate) fn begin(line: &Arc<Line>, budget: Budget, goodbye: fn(SubId) -> String) -> Result<Self, Lost> {
        let (id, deliveries, overrun) = line.use_routes().subscribe(budget)?;
        Ok(Self { id, deliveries, overrun, line: Arc::clone(line), goodbye })
    }

    /// Its number.
    pub(crate) const fn id(&self) -> SubId {
        self.id
    }

    /// What comes next.
    ///
    /// # Errors
    /// Where nothing comes any more.
    pub(crate) async fn next(&mut self) -> Result<Delivery, Ended> {
        self.deliveries.recv().await.ok_or_else(|| self.ended())
    }

    /// All that has come, once something has.
    ///
    /// # Errors
    /// Where nothing comes any more.
    pub(crate) async fn next_many(&mut self, into: &mut Vec<Delivery>) -> Result<(), Ended> {
        // As many as the reader hands out before it lets others run.
        const AT_ONCE: usize = 128;
        if self.deliveries.recv_many(into, AT_ONCE).await == 0 { Err(self.ended()) } else { Ok(()) }
    }

    fn ended(&self) -> Ended {
        if self.overrun.load(Ordering::Acquire) { Ended::Overrun } else { Ended::Lost(self.line.lost()) }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.line.routes().unsubscribe(self.id) {
            self.line.aside((self.goodbye)(self.id));
        }
    }
}
