//! A network of holders that a test plays with: what arrives, what is lost, who fails.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use talkbox_core::{
    AuditOptions, Capabilities, Cursor, DeleteOptions, DeleteRequest, Deletion, Descriptor, Difference, Envelope,
    EnvelopeId, Error, ErrorKind, Holding, ListOptions, Locator, Mailbox, MailboxId, Page, PutOptions, RawEnvelope,
    Receipt, Reconcile, ReconcileOptions, Result, Timestamp, WatchEvent, WatchOptions, async_trait,
};
use tokio::sync::mpsc;

/// Items of one page: small, so that listings have several.
const PAGE: usize = 3;

#[derive(Clone, Debug)]
pub struct Network {
    descriptor: Descriptor,
    watch: bool,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    holders: BTreeMap<Locator, Holder>,
    watchers: Vec<mpsc::Sender<Result<WatchEvent>>>,
    watches: usize,
}

/// One holder.
#[derive(Debug)]
pub struct Holder {
    log: Vec<RawEnvelope>,
    epoch: u32,
    live: bool,
    reconciles: bool,
    /// So many calls fail.
    pub failures: u32,
    /// Live envelopes that come later than what comes after them.
    held_back: Vec<(RawEnvelope, usize)>,
    pub lists: usize,
    pub differences: usize,
    pub ids_asked: usize,
    /// What a reconciliation names and a list by ids does not give.
    pub withholds: bool,
}

impl Network {
    pub fn new(holders: &[Locator], watch: bool, reconciles: bool) -> Self {
        let holder = |locator: &Locator| {
            let holder = Holder {
                log: Vec::new(),
                epoch: 0,
                live: true,
                reconciles,
                failures: 0,
                held_back: Vec::new(),
                lists: 0,
                differences: 0,
                ids_asked: 0,
                withholds: false,
            };
            (locator.clone(), holder)
        };
        let state = State { holders: holders.iter().map(holder).collect(), ..State::default() };
        Self { descriptor: Descriptor::new("network", "network", &["net"]), watch, state: Arc::new(Mutex::new(state)) }
    }

    pub fn holder<T>(&self, holder: &Locator, with: impl FnOnce(&mut Holder) -> T) -> T {
        with(self.lock().holders.get_mut(holder).expect("a holder"))
    }

    pub fn watches(&self) -> usize {
        self.lock().watches
    }

    /// A holder takes an envelope, and tells who watches, unless that is lost or held back.
    pub fn store(&self, holder: &Locator, raw: RawEnvelope, told: Told) {
        let mut state = self.lock();
        let one = state.holders.get_mut(holder).expect("a holder");
        if one.log.contains(&raw) {
            return;
        }
        one.log.push(raw.clone());
        let at = one.log.len();
        match told {
            _ if !one.live => {}
            Told::Once => state.tell_envelope(holder, raw, at),
            Told::Twice => {
                state.tell_envelope(holder, raw.clone(), at);
                state.tell_envelope(holder, raw, at);
            }
            Told::Later => one.held_back.push((raw, at)),
            Told::Lost => state.tell(Ok(WatchEvent::Lagged { holder: holder.clone() })),
        }
    }

    /// A holder sends something that it does not have.
    pub fn forge(&self, holder: &Locator, raw: RawEnvelope) {
        let mut state = self.lock();
        state.tell(Ok(WatchEvent::Envelope { holder: holder.clone(), raw, cursor: None }));
    }

    /// What was held back comes, the last first.
    pub fn release(&self, holder: &Locator) {
        let mut state = self.lock();
        let held = std::mem::take(&mut state.holders.get_mut(holder).expect("a holder").held_back);
        for (raw, _) in held.into_iter().rev() {
            // It came out of order, so that no listing can go on after it.
            state.tell(Ok(WatchEvent::Envelope { holder: holder.clone(), raw, cursor: None }));
        }
    }

    pub fn lose(&self, holder: &Locator) {
        let mut state = self.lock();
        let one = state.holders.get_mut(holder).expect("a holder");
        if std::mem::replace(&mut one.live, false) {
            one.held_back.clear();
            let error = Error::new(ErrorKind::Unreachable, "connection lost").with("holder", holder);
            state.tell(Err(error));
        }
    }

    pub fn find(&self, holder: &Locator) {
        let mut state = self.lock();
        let one = state.holders.get_mut(holder).expect("a holder");
        if !std::mem::replace(&mut one.live, true) {
            state.tell(Ok(WatchEvent::Lagged { holder: holder.clone() }));
            state.tell(Ok(WatchEvent::Live { holder: holder.clone() }));
        }
    }

    /// All cursors of a holder become void.
    pub fn restore(&self, holder: &Locator) {
        self.holder(holder, |one| one.epoch += 1);
    }

    /// What a cursor says to be known.
    pub fn covered(&self, holder: &Locator, epoch: u32, at: usize) -> Vec<EnvelopeId> {
        let covered = |one: &mut Holder| match epoch == one.epoch {
            true => one.log[..at].iter().map(RawEnvelope::id).collect(),
            false => Vec::new(),
        };
        self.holder(holder, covered)
    }

    /// Every watch ends, as none should.
    pub fn end_watches(&self) {
        self.lock().watchers.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }
}

/// How those who watch are told of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Once,
    Twice,
    Later,
    Lost,
}

impl State {
    fn tell_envelope(&mut self, holder: &Locator, raw: RawEnvelope, at: usize) {
        let one = &self.holders[holder];
        // A cursor after this one would leave out what is held back.
        let cursor = one.held_back.is_empty().then(|| Cursor(format!("{}.{at}", one.epoch)));
        self.tell(Ok(WatchEvent::Envelope { holder: holder.clone(), raw, cursor }));
    }

    fn tell(&mut self, event: Result<WatchEvent>) {
        let copy = || match &event {
            Ok(event) => Ok(event.clone()),
            Err(error) => Err(Error::new(error.kind(), error.message().to_owned())
                .with("holder", error.context("holder").unwrap_or_default())),
        };
        self.watchers.retain(|watcher| !watcher.is_closed());
        for watcher in &self.watchers {
            watcher.try_send(copy()).expect("the test sends less than this");
        }
    }
}

#[async_trait]
impl Mailbox for Network {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::FULL;
        capabilities.watch = self.watch;
        capabilities
    }

    fn holders(&self) -> Vec<Locator> {
        self.lock().holders.keys().cloned().collect()
    }

    async fn put(&self, _envelopes: &[Envelope], _options: PutOptions) -> Vec<Result<Receipt>> {
        unreachable!("a watcher puts nothing")
    }

    async fn list(&self, _owner: MailboxId, holder: &Locator, options: ListOptions) -> Result<Page> {
        // Others get their turn in between, so that what arrives meanwhile arrives meanwhile.
        tokio::task::yield_now().await;
        let mut state = self.lock();
        let one = state.holders.get_mut(holder).expect("a holder");
        one.lists += 1;
        if one.failures > 0 {
            one.failures -= 1;
            return Err(Error::new(ErrorKind::Unreachable, "no connection"));
        }
        if !options.ids.is_empty() {
            one.ids_asked += options.ids.len();
            assert!(options.ids.len() <= ListOptions::MAX_IDS);
            let found = one.log.iter().filter(|raw| !one.withholds && options.ids.contains(&raw.id()));
            return Ok(Page { items: found.cloned().collect(), ..Page::default() });
        }
        let from = match &options.after {
            None => 0,
            Some(Cursor(cursor)) => {
                let (epoch, at) = cursor.split_once('.').expect("a cursor of ours");
                if epoch != one.epoch.to_string() {
                    return Err(Error::new(ErrorKind::NotFound, "of another epoch"));
                }
                at.parse().expect("a number")
            }
        };
        let to = one.log.len().min(from + PAGE);
        Ok(Page {
            items: one.log[from..to].to_vec(),
            next: Some(Cursor(format!("{}.{to}", one.epoch))),
            more: to < one.log.len(),
        })
    }

    async fn audit(
        &self,
        _owner: MailboxId,
        _holder: &Locator,
        _ids: &[EnvelopeId],
        _options: AuditOptions,
    ) -> Result<Vec<Holding>> {
        unreachable!("a watcher audits nothing")
    }

    async fn delete(&self, _requests: &[DeleteRequest], _options: DeleteOptions) -> Vec<Result<Deletion>> {
        unreachable!("a watcher deletes nothing")
    }

    fn watch(&self, _owner: MailboxId, options: WatchOptions) -> Option<BoxStream<'static, Result<WatchEvent>>> {
        assert!(options.after.is_empty(), "the backlog is listed");
        if !self.watch {
            return None;
        }
        let (sender, receiver) = mpsc::channel(100_000);
        let mut state = self.lock();
        state.watches += 1;
        for (holder, _) in state.holders.iter().filter(|(_, one)| one.live) {
            sender.try_send(Ok(WatchEvent::Live { holder: holder.clone() })).expect("empty");
        }
        state.watchers.push(sender);
        Some(stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver))).boxed())
    }

    fn reconciler(&self, holder: &Locator) -> Option<Arc<dyn Reconcile>> {
        let reconciles = self.holder(holder, |one| one.reconciles);
        reconciles.then(|| Arc::new(Reconciler(self.clone(), holder.clone())) as _)
    }

    async fn close(&self) {}
}

#[derive(Debug)]
struct Reconciler(Network, Locator);

#[async_trait]
impl Reconcile for Reconciler {
    async fn difference(
        &self,
        _owner: MailboxId,
        ours: &[(Timestamp, EnvelopeId)],
        _options: ReconcileOptions,
    ) -> Result<Difference> {
        tokio::task::yield_now().await;
        self.0.holder(&self.1, |one| {
            one.differences += 1;
            if one.failures > 0 {
                one.failures -= 1;
                return Err(Error::new(ErrorKind::Unreachable, "no connection"));
            }
            let known = |id: EnvelopeId| ours.iter().any(|(_, other)| *other == id);
            let theirs = one.log.iter().map(RawEnvelope::id).filter(|id| !known(*id)).collect();
            let has = |id: &EnvelopeId| one.log.iter().any(|raw| raw.id() == *id);
            let ours = ours.iter().map(|(_, id)| *id).filter(|id| !has(id)).collect();
            Ok(Difference { theirs, ours })
        })
    }
}
