//! The network: named holders, shared by all that open on it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{broadcast, watch};

use super::{SCHEME, holder::Holder, mailbox::MemoryMailbox, transport::MemoryTransport};
use crate::{
    EnvelopeId, Error, ErrorKind, MailboxId, PublicKey, Result,
    auth::{AuthRequest, Authorizer},
    backend::Backend,
    capability::{Capabilities, Descriptor},
    clock::{Clock, Timestamp},
    envelope::MAX_ENVELOPE_BYTES,
    event::kind,
    hex,
    hint::Hint,
    locator::Locator,
    random,
};

/// Hints that wait for a slow subscriber; older ones are lost, as hints may be.
const HINTS: usize = 64;

/// The settings of `[backends.memory]`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// The names of the holders.
    pub holders: Vec<String>,
    /// Whether holders serve a mailbox only to its owner, its keepers and, for their own envelopes, their authors.
    pub gated: bool,
    /// Most bytes of an envelope.
    pub max_envelope_bytes: u32,
    /// Most envelopes of one holder. 100,000 common ones are about 200 MB.
    pub max_envelopes: u32,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            holders: vec!["here".to_owned()],
            gated: false,
            max_envelope_bytes: MAX_ENVELOPE_BYTES as u32,
            max_envelopes: 100_000,
        }
    }
}

/// A network in memory. A clone is the same network.
///
/// ```
/// use std::sync::Arc;
/// use talkbox_core::{SystemClock, memory::MemoryNetwork};
///
/// let network = MemoryNetwork::of(&["a", "b"], Arc::new(SystemClock))?;
/// let (sender, owner) = (network.open("sender"), network.open("owner"));
/// assert_eq!(sender.mailbox.unwrap().holders(), owner.mailbox.unwrap().holders());
/// # Ok::<(), talkbox_core::Error>(())
/// ```
#[derive(Clone)]
pub struct MemoryNetwork(Arc<Shared>);

struct Shared {
    config: MemoryConfig,
    clock: Arc<dyn Clock>,
    /// Whether what is stored survives a restart of the holders.
    durable: bool,
    order: Vec<Locator>,
    holders: BTreeMap<Locator, Running>,
}

/// A holder, and what wakes those who wait for it.
struct Running {
    state: Mutex<Holder>,
    signal: watch::Sender<Signal>,
    hints: broadcast::Sender<Hint>,
}

/// What those who watch a holder are woken by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Signal {
    /// How often it was restarted.
    pub(super) restarts: u64,
    /// Counts arrivals.
    pub(super) arrivals: u64,
}

impl MemoryNetwork {
    /// A network with these settings. What its holders store survives their [`restart`](Self::restart).
    ///
    /// # Errors
    /// `ConfigInvalid` without a holder, for two of one name, or for a name that a locator cannot have.
    pub fn new(config: MemoryConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let invalid = |why: &'static str| Error::new(ErrorKind::ConfigInvalid, why);
        let mut order = Vec::new();
        let mut holders = BTreeMap::new();
        for name in &config.holders {
            let locator = locator(name)?;
            let running = Running {
                state: Mutex::new(Holder::new()?),
                signal: watch::Sender::new(Signal::default()),
                hints: broadcast::Sender::new(HINTS),
            };
            if holders.insert(locator.clone(), running).is_some() {
                return Err(invalid("two holders have one name").with("holder", locator));
            }
            order.push(locator);
        }
        if order.is_empty() {
            return Err(invalid("a network in memory needs at least one holder"));
        }
        Ok(Self(Arc::new(Shared { config, clock, durable: true, order, holders })))
    }

    /// A network of holders with these names.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of(holders: &[&str], clock: Arc<dyn Clock>) -> Result<Self> {
        let holders = holders.iter().map(|name| (*name).to_owned()).collect();
        Self::new(MemoryConfig { holders, ..MemoryConfig::default() }, clock)
    }

    /// The same, with nothing that lasts: what the configuration opens.
    pub(super) fn ending_with_the_process(mut self) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            shared.durable = false;
        }
        self
    }

    /// All holders, in order of preference.
    pub fn holders(&self) -> &[Locator] {
        &self.0.order
    }

    /// Opens a backend of this name that has all holders configured.
    pub fn open(&self, name: &str) -> Backend {
        self.open_at(name, self.holders())
    }

    /// Opens a backend of this name that has these holders configured. It reaches the others when it is told to.
    pub fn open_at(&self, name: &str, holders: &[Locator]) -> Backend {
        let descriptor = Descriptor::new(SCHEME, name, &[SCHEME]);
        Backend::new(
            Arc::new(MemoryMailbox::new(self.clone(), descriptor.clone(), holders.to_vec())),
            Arc::new(MemoryTransport::new(self.clone(), descriptor, holders.to_vec())),
        )
    }

    /// Restarts a holder: who watches it loses the connection, and what does not last is gone.
    ///
    /// # Errors
    /// `NotFound` for a holder that is not of this network.
    pub fn restart(&self, holder: &Locator) -> Result<()> {
        if !self.0.durable {
            self.lock(holder)?.clear()?;
        }
        self.running(holder)?.signal.send_modify(|signal| signal.restarts += 1);
        Ok(())
    }

    /// Begins a new numbering at a holder, as after a restore from a backup: earlier cursors are unknown to it.
    ///
    /// # Errors
    /// As [`restart`](Self::restart).
    pub fn renumber(&self, holder: &Locator) -> Result<()> {
        self.lock(holder)?.renumber()?;
        self.restart(holder)
    }

    /// Makes a holder lose envelopes, as one whose disk failed. It takes them when they are put again.
    ///
    /// # Errors
    /// As [`restart`](Self::restart).
    pub fn lose(&self, holder: &Locator, ids: &[EnvelopeId]) -> Result<()> {
        self.lock(holder)?.lose(ids);
        Ok(())
    }

    /// What a holder has for a mailbox, in the order of arrival: for a test that has to know it without asking.
    ///
    /// # Errors
    /// As [`restart`](Self::restart).
    pub fn held(&self, holder: &Locator, owner: MailboxId) -> Result<Vec<EnvelopeId>> {
        let (items, _, _) = self.lock(holder)?.arrived(owner, 0, usize::MAX, self.now());
        Ok(items.into_iter().map(|(_, envelope)| envelope.id()).collect())
    }

    /// How many watches are open on all holders.
    pub fn watchers(&self) -> usize {
        self.0.holders.values().map(|running| running.signal.receiver_count()).sum()
    }

    pub(super) fn config(&self) -> &MemoryConfig {
        &self.0.config
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        Capabilities {
            durable: self.0.durable,
            max_envelope_bytes: self.0.config.max_envelope_bytes,
            ..Capabilities::FULL
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The state of a holder.
    ///
    /// # Errors
    /// `NotFound` for a holder that is not of this network.
    pub(super) fn lock(&self, holder: &Locator) -> Result<MutexGuard<'_, Holder>> {
        Ok(self.running(holder)?.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn signal(&self, holder: &Locator) -> Result<watch::Receiver<Signal>> {
        Ok(self.running(holder)?.signal.subscribe())
    }

    /// Wakes those who watch a holder.
    pub(super) fn arrived(&self, holder: &Locator) -> Result<()> {
        self.running(holder)?.signal.send_modify(|signal| signal.arrivals += 1);
        Ok(())
    }

    pub(super) fn hints(&self, holder: &Locator) -> Result<&broadcast::Sender<Hint>> {
        Ok(&self.running(holder)?.hints)
    }

    /// Who asks, proved by an answer to a challenge; `None` where no key is given.
    ///
    /// # Errors
    /// `Denied` where the proof does not hold; whatever the authorizer gives.
    pub(super) async fn asker(
        &self,
        holder: &Locator,
        auth: Option<&Arc<dyn Authorizer>>,
    ) -> Result<Option<PublicKey>> {
        let Some(auth) = auth.filter(|_| self.0.config.gated) else { return Ok(None) };
        let challenge = hex::encode(&random::bytes::<16>()?);
        let request = AuthRequest::Relay { holder, url: holder.as_str(), challenge: &challenge };
        let event = auth.authorize(request).await?;
        let proved = event.kind() == kind::RELAY_AUTH
            && event.author() == auth.public()
            && event.value("challenge") == Some(&challenge)
            && event.value("relay") == Some(holder.as_str());
        if proved { Ok(Some(event.author())) } else { Err(denied(holder)) }
    }

    /// Refuses who may not read the mailbox.
    ///
    /// # Errors
    /// `Denied`; `NotFound` for a holder that is not of this network.
    pub(super) async fn admit(
        &self,
        owner: MailboxId,
        holder: &Locator,
        auth: Option<&Arc<dyn Authorizer>>,
    ) -> Result<()> {
        let asker = self.asker(holder, auth).await?;
        let admitted = !self.0.config.gated
            || asker.is_some_and(|key| match self.lock(holder) {
                Ok(state) => state.may_read(owner, key),
                Err(_) => false,
            });
        if admitted { Ok(()) } else { Err(denied(holder)) }
    }

    fn running(&self, holder: &Locator) -> Result<&Running> {
        self.0.holders.get(holder).ok_or_else(|| {
            let kind = if holder.scheme() == SCHEME { ErrorKind::NotFound } else { ErrorKind::Unsupported };
            Error::new(kind, "no such holder").with("holder", holder)
        })
    }
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryNetwork").field("holders", &self.0.order).finish_non_exhaustive()
    }
}

fn denied(holder: &Locator) -> Error {
    Error::new(ErrorKind::Denied, "auth-required: this is not your mailbox").with("holder", holder)
}

fn locator(name: &str) -> Result<Locator> {
    let locator = Locator::new(SCHEME, name.strip_prefix("memory:").unwrap_or(name));
    locator.map_err(|error| {
        Error::new(ErrorKind::ConfigInvalid, "not a name for a holder").with("holder", name).source(error)
    })
}
