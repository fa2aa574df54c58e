//! Two holders in memory, that can be made to fail, and clients of them.

use std::{sync::Arc, time::Duration};

use talkbox_core::{
    Backend, Clock, ErrorKind, Locator, ManualClock, Registry, SecretKey, Timestamp,
    client::{Settings, Talkbox},
    config::Opened,
    local::{MessageQuery, Store, StoreKey},
    memory::{self, MemoryNetwork},
    testkit::{Fault, Faults as _, FaultyHolders},
};

pub(crate) const NOW: Timestamp = Timestamp(1_790_000_000);
pub(crate) const BUDGET: Duration = Duration::from_secs(20);
/// How long a client waits for a holder that does not answer.
const PATIENCE: Duration = Duration::from_millis(100);

pub(crate) struct World {
    pub(crate) clock: ManualClock,
    pub(crate) network: MemoryNetwork,
    faults: FaultyHolders,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::patient(PATIENCE)
    }

    /// One in which a client waits so long for a holder.
    pub(crate) fn patient(patience: Duration) -> Self {
        let clock = ManualClock::new(NOW);
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let network = MemoryNetwork::of(&["a", "b"], Arc::clone(&shared)).expect("a network");
        Self { clock, network, faults: FaultyHolders::new(7, patience, shared) }
    }

    /// From now on so many of the holders do not answer, and the others do.
    pub(crate) fn hang(&self, count: usize) {
        for (at, holder) in self.network.holders().iter().enumerate() {
            self.faults.set(holder, if at < count { Fault::hangs() } else { Fault::default() });
        }
    }

    /// From now on only this one of the holders answers.
    pub(crate) fn refuse_but(&self, holder: &Locator) {
        self.refuse();
        self.faults.set(holder, Fault::default());
    }

    /// From now on the second holder is later than the first with every answer.
    pub(crate) fn delay_one(&self, by: Duration) {
        self.faults.set(&self.network.holders()[1], Fault::delays(by));
    }

    /// From now on all holders refuse, in a way that is not to be tried again.
    pub(crate) fn refuse(&self) {
        for holder in self.network.holders() {
            self.faults.set(holder, Fault::refuses(ErrorKind::Refused, "blocked: too much"));
        }
    }

    pub(crate) async fn client(&self) -> Talkbox {
        self.client_of(self.faults.wrap(self.network.open("memory"))).await
    }

    pub(crate) async fn client_of(&self, backend: Backend) -> Talkbox {
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let store = Store::in_memory(StoreKey::generate().expect("randomness"), clock).await.expect("a store");
        self.client_on(store, backend)
    }

    /// A client with this store, which another one may have had before.
    pub(crate) fn client_on(&self, store: Store, backend: Backend) -> Talkbox {
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let mut opened = Opened::default();
        opened.mailboxes.extend(backend.mailbox.map(|mailbox| ("memory".to_owned(), mailbox)));
        opened.transports.extend(backend.transport.map(|transport| ("memory".to_owned(), transport)));
        Talkbox::new(store, opened, Registry::new().with(memory::backend()), clock, Settings::default())
    }
}

pub(crate) async fn bodies(client: &Talkbox, key: &SecretKey) -> Vec<String> {
    let page = client.store().messages(key.id(), MessageQuery::default()).await.expect("reads");
    page.items.into_iter().map(|stored| stored.message.body).collect()
}
