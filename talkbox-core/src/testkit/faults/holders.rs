//! Which holder misbehaves how, now.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::{Fault, Faults, mailbox::FaultyMailbox, transport::FaultyTransport};
use crate::{Error, ErrorKind, Result, backend::Backend, clock::Clock, locator::Locator};

/// Makes the holders of any backend misbehave. A clone is the same.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use talkbox_core::{ManualClock, Timestamp, memory::MemoryNetwork, testkit::{Fault, Faults as _, FaultyHolders}};
///
/// let clock = Arc::new(ManualClock::new(Timestamp(1_790_000_000)));
/// let network = MemoryNetwork::of(&["a", "b"], clock.clone())?;
/// let faults = FaultyHolders::new(7, Duration::from_millis(100), clock);
/// let backend = faults.wrap(network.open("owner"));
/// faults.set(&network.holders()[0], Fault::hangs());
/// # Ok::<(), talkbox_core::Error>(())
/// ```
#[derive(Clone)]
pub struct FaultyHolders(Arc<Shared>);

struct Shared {
    seed: u64,
    patience: Duration,
    clock: Arc<dyn Clock>,
    holders: Mutex<BTreeMap<Locator, Plan>>,
    /// Counts the interruptions of watches, holder by holder.
    interruptions: watch::Sender<BTreeMap<Locator, u64>>,
}

#[derive(Default)]
struct Plan {
    fault: Fault,
    draws: u64,
}

impl FaultyHolders {
    /// All behave until [`set`](Faults::set). `patience` is how long a wrapped backend waits for one holder before it
    /// goes on without it, and `clock` that from which lies are dated.
    pub fn new(seed: u64, patience: Duration, clock: Arc<dyn Clock>) -> Self {
        let (holders, interruptions) = (Mutex::default(), watch::Sender::default());
        Self(Arc::new(Shared { seed, patience, clock, holders, interruptions }))
    }

    /// The same backend, with these faults in between.
    pub fn wrap(&self, backend: Backend) -> Backend {
        // A transport does not say which holders it has: they are those of the other half.
        let holders = backend.mailbox.as_ref().map(|mailbox| mailbox.holders()).unwrap_or_default();
        Backend {
            mailbox: backend.mailbox.map(|inner| Arc::new(FaultyMailbox::new(inner, self.clone())) as _),
            transport: backend.transport.map(|inner| Arc::new(FaultyTransport::new(inner, self.clone(), holders)) as _),
        }
    }

    /// Breaks off every watch of a holder, as when a connection is lost: an error, then `Lagged`, then `Live`.
    pub fn interrupt(&self, holder: &Locator) {
        self.0.interruptions.send_modify(|counts| *counts.entry(holder.clone()).or_default() += 1);
    }

    pub(super) fn interruptions(&self) -> watch::Receiver<BTreeMap<Locator, u64>> {
        self.0.interruptions.subscribe()
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    pub(super) fn fault(&self, holder: &Locator) -> Fault {
        self.plans(|plans| plans.get(holder).map(|plan| plan.fault.clone()).unwrap_or_default())
    }

    /// Whether something that happens so many of a hundred times at a holder happens now.
    pub(super) fn happens(&self, holder: &Locator, percent: u8) -> bool {
        percent > 0 && self.draw(holder) % 100 < u64::from(percent)
    }

    /// Another order.
    pub(super) fn shuffle<T>(&self, holder: &Locator, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = usize::try_from(self.draw(holder) % (last as u64 + 1)).unwrap_or_default();
            items.swap(last, other);
        }
    }

    /// Does something at a holder, or what its fault says instead.
    pub(super) async fn at<T>(&self, holder: &Locator, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let Fault { hang, delay, refuse, .. } = self.fault(holder);
        let answer = async {
            if hang {
                std::future::pending::<()>().await;
            }
            if let Some(delay) = delay {
                tokio::time::sleep(delay).await;
            }
            match refuse {
                Some((kind, words)) => Err(Error::new(kind, words).with("holder", holder)),
                None => work.await,
            }
        };
        let too_late = |_| Error::new(ErrorKind::Timeout, "no answer").with("holder", holder);
        tokio::time::timeout(self.0.patience, answer).await.map_err(too_late)?
    }

    fn draw(&self, holder: &Locator) -> u64 {
        let count = self.plans(|plans| {
            let plan = plans.entry(holder.clone()).or_default();
            plan.draws += 1;
            plan.draws
        });
        // The keys of `DefaultHasher::new` are fixed, so this is the same in every run.
        let mut hasher = DefaultHasher::new();
        (self.0.seed, holder, count).hash(&mut hasher);
        hasher.finish()
    }

    fn plans<T>(&self, with: impl FnOnce(&mut BTreeMap<Locator, Plan>) -> T) -> T {
        with(&mut self.0.holders.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Faults for FaultyHolders {
    fn set(&self, holder: &Locator, fault: Fault) -> bool {
        self.plans(|plans| plans.entry(holder.clone()).or_default().fault = fault);
        true
    }

    fn clear(&self) {
        self.plans(|plans| plans.values_mut().for_each(|plan| plan.fault = Fault::default()));
    }
}

impl fmt::Debug for FaultyHolders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyHolders").field("seed", &self.0.seed).finish_non_exhaustive()
    }
}
