//! What a node is given from outside, so that a test or a simulation can decide it: time, randomness, and where work
//! runs.

use std::{fmt, sync::Arc, time::Duration};

use talkbox_core::{Clock, Error, ErrorKind, Result, SecretKey, SystemClock};

use talkbox_net::{Connect, Network};

use super::{
    beside::Beside,
    listen::{Bind, Tcp},
    planted::Planted,
};

/// How long it may take to reach a peer.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Where random bytes come from: challenges and the epoch of the store. Nothing secret is made of them.
pub trait Randomness: fmt::Debug + Send + Sync + 'static {
    /// Fills the bytes.
    ///
    /// # Errors
    /// `Unexpected` where there is none to give.
    fn fill(&self, bytes: &mut [u8]) -> Result<()>;
}

/// The randomness of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandomness;

impl Randomness for OsRandomness {
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        getrandom::fill(bytes).map_err(|error| {
            Error::new(ErrorKind::Unexpected, "the operating system gives no randomness").source(error)
        })
    }
}

/// What a node runs in. The default is the operating system.
#[derive(Clone, Debug)]
pub struct NodeContext {
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    work: Work,
    planted: Planted,
    key: Option<SecretKey>,
    listeners: Arc<dyn Bind>,
    connector: Arc<dyn Connect>,
    beside: Option<Arc<dyn Beside>>,
}

/// Where work runs that takes a core or the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// On threads beside the tasks.
    Threads,
    /// In the task that asks for it.
    Inline,
}

impl NodeContext {
    /// Takes the time from another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Takes randomness from elsewhere.
    #[must_use]
    pub fn with_randomness(mut self, randomness: impl Randomness) -> Self {
        self.randomness = Arc::new(randomness);
        self
    }

    /// Does everything in the tasks of one thread, the disk included. Slower, and in an order that only the runtime
    /// decides: a simulation that repeats itself needs that.
    #[must_use]
    pub fn single_threaded(mut self) -> Self {
        self.work = Work::Inline;
        self
    }

    /// Gives the node this key, in place of the one in its folder.
    #[must_use]
    pub fn with_key(mut self, key: SecretKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Takes connections from elsewhere than the operating system's TCP.
    #[must_use]
    pub fn with_listeners(mut self, listeners: impl Bind) -> Self {
        self.listeners = Arc::new(listeners);
        self
    }

    /// Reaches peers otherwise than over the operating system's TCP.
    #[must_use]
    pub fn with_connector(mut self, connector: Arc<dyn Connect>) -> Self {
        self.connector = connector;
        self
    }

    /// Has the node be ready only while this is, too, and shows its measures among those of the node.
    #[must_use]
    pub fn with_beside(mut self, beside: Arc<dyn Beside>) -> Self {
        self.beside = Some(beside);
        self
    }

    /// Plants a bug.
    #[cfg(feature = "defects")]
    #[doc(hidden)]
    #[must_use]
    pub fn with_defect(mut self, defect: super::Defect) -> Self {
        self.planted.defect = Some(defect);
        self
    }

    /// Lets each commit of a node with one thread take so long, so that the node can be killed meanwhile.
    #[cfg(feature = "defects")]
    #[doc(hidden)]
    #[must_use]
    pub fn with_commit_time(mut self, commit_time: Duration) -> Self {
        self.planted.commit_time = commit_time;
        self
    }

    pub(crate) const fn planted(&self) -> Planted {
        self.planted
    }

    pub(crate) fn connector(&self) -> Arc<dyn Connect> {
        Arc::clone(&self.connector)
    }

    pub(crate) const fn beside(&self) -> Option<&Arc<dyn Beside>> {
        self.beside.as_ref()
    }

    pub(crate) fn listeners(&self) -> &dyn Bind {
        &*self.listeners
    }

    pub(crate) fn key(&self) -> Option<SecretKey> {
        self.key.clone()
    }

    pub(crate) const fn work(&self) -> Work {
        self.work
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// So many random bytes.
    pub(crate) fn random<const N: usize>(&self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.randomness.fill(&mut bytes)?;
        Ok(bytes)
    }
}

impl Default for NodeContext {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            randomness: Arc::new(OsRandomness),
            work: Work::Threads,
            planted: Planted::default(),
            key: None,
            listeners: Arc::new(Tcp),
            connector: Arc::new(Network::new(CONNECT_WITHIN, None)),
            beside: None,
        }
    }
}
