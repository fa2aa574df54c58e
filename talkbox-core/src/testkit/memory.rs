//! The harness of the reference: everything can be done to a network in memory.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Faults, FaultyHolders, Harness, Role};
use crate::{
    Result,
    backend::Backend,
    clock::{Clock, ManualClock, SystemClock},
    locator::Locator,
    memory::{MemoryConfig, MemoryNetwork, SCHEME},
};

/// A [`MemoryNetwork`] with a clock that can be moved and holders that can be made to misbehave.
#[derive(Debug)]
pub struct MemoryHarness {
    network: MemoryNetwork,
    clock: ManualClock,
    faults: FaultyHolders,
}

impl MemoryHarness {
    /// Three holders that serve a mailbox only to those whom it concerns.
    ///
    /// # Panics
    /// Where the operating system gives no randomness.
    pub fn new() -> Self {
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        Self::of(MemoryConfig { holders: names, gated: true, ..MemoryConfig::default() })
            .expect("the names are well-formed")
    }

    /// A network with these settings.
    ///
    /// # Errors
    /// As [`MemoryNetwork::new`].
    pub fn of(config: MemoryConfig) -> Result<Self> {
        let clock = ManualClock::new(SystemClock.now());
        let network = MemoryNetwork::new(config, Arc::new(clock.clone()))?;
        // Long enough for a holder that answers at once, on a machine with much else to do.
        let faults = FaultyHolders::new(0, Duration::from_millis(300), Arc::new(clock.clone()));
        Ok(Self { network, clock, faults })
    }

    /// The network.
    pub const fn network(&self) -> &MemoryNetwork {
        &self.network
    }

    /// What makes its holders misbehave.
    pub const fn holders(&self) -> &FaultyHolders {
        &self.faults
    }
}

impl Default for MemoryHarness {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Harness for MemoryHarness {
    async fn open(&self, role: Role) -> Result<Backend> {
        Ok(self.faults.wrap(self.network.open(role.as_str())))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clock.clone())
    }

    fn advance(&self, by: Duration) -> bool {
        self.clock.advance(by);
        true
    }

    async fn restart(&self) -> Result<bool> {
        for holder in self.network.holders() {
            self.network.restart(holder)?;
        }
        Ok(true)
    }

    fn faults(&self) -> Option<&dyn Faults> {
        Some(&self.faults)
    }

    fn watchers(&self) -> Option<usize> {
        Some(self.network.watchers())
    }

    fn dead_holder(&self) -> Option<Locator> {
        Locator::new(SCHEME, "nobody").ok()
    }
}
