//! A mailbox and a transport that do what a test tells them, and remember what they were asked.
#![allow(dead_code, unreachable_pub, reason = "every test file has this as a module, and uses a part of it")]

pub mod network;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use talkbox_core::{
    Ack, AuditOptions, Capabilities, DeleteOptions, DeleteRequest, Deletion, Descriptor, Envelope, EnvelopeId, Error,
    ErrorKind, Hint, Holding, Level, ListOptions, Locator, Mailbox, MailboxId, MailboxRecord, NotifyOptions, Page,
    PublishOptions, PutOptions, Receipt, Reconcile, ReconcileOptions, ResolveEvent, ResolveOptions, Result, SecretKey,
    SubscribeOptions, Target, Timestamp, Transport, WatchEvent, WatchOptions, async_trait,
    event::{Event, kind},
    mailbox::Difference,
};

/// What a fake does when it is asked.
pub enum Step<T> {
    Answer(T),
    After(Duration, T),
    Hang,
}

/// Steps, one for each call; the last answer of an empty queue is made by the fake.
pub type Script<T> = Mutex<VecDeque<Step<T>>>;

/// The next step of a script.
pub async fn play<T>(script: &Script<T>) -> Option<T> {
    let step = script.lock().expect("not poisoned").pop_front()?;
    match step {
        Step::Answer(answer) => Some(answer),
        Step::After(time, answer) => {
            tokio::time::sleep(time).await;
            Some(answer)
        }
        Step::Hang => std::future::pending().await,
    }
}

/// Calls that a fake counts.
#[derive(Debug, Default)]
pub struct Calls {
    pub put: AtomicUsize,
    pub list: AtomicUsize,
    pub audit: AtomicUsize,
    pub delete: AtomicUsize,
    pub watch: AtomicUsize,
    pub reconcile: AtomicUsize,
    pub publish: AtomicUsize,
    pub notify: AtomicUsize,
    pub close: AtomicUsize,
}

impl Calls {
    pub fn of(count: &AtomicUsize) -> usize {
        count.load(Ordering::SeqCst)
    }
}

pub struct Fake {
    pub descriptor: Descriptor,
    pub capabilities: Capabilities,
    pub holders: Vec<Locator>,
    pub calls: Calls,
    /// The ids of every `put`, call by call.
    pub puts: Mutex<Vec<Vec<EnvelopeId>>>,
    pub put_at: Mutex<Vec<Vec<Locator>>>,
    pub put: Script<Vec<Result<Receipt>>>,
    pub list: Script<Result<Page>>,
    pub audit: Script<Result<Vec<Holding>>>,
    pub publish: Script<Result<Receipt>>,
    pub reconcile: Arc<Script<Result<Difference>>>,
    pub reconciles: bool,
    pub records: Mutex<Vec<Step<Result<ResolveEvent>>>>,
    pub events: Mutex<Vec<Result<WatchEvent>>>,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fake").field("name", &self.descriptor.name).finish_non_exhaustive()
    }
}

impl Fake {
    pub fn new(name: &str, schemes: &'static [&'static str], holders: &[&str]) -> Self {
        Self {
            descriptor: Descriptor::new("fake", name, schemes),
            capabilities: Capabilities::FULL,
            holders: holders.iter().map(|holder| locator(holder)).collect(),
            calls: Calls::default(),
            puts: Mutex::default(),
            put_at: Mutex::default(),
            put: Mutex::default(),
            list: Mutex::default(),
            audit: Mutex::default(),
            publish: Mutex::default(),
            reconcile: Arc::default(),
            reconciles: false,
            records: Mutex::default(),
            events: Mutex::default(),
        }
    }

    pub fn then_put(self, step: Step<Vec<Result<Receipt>>>) -> Self {
        self.put.lock().expect("not poisoned").push_back(step);
        self
    }

    pub fn then_list(self, step: Step<Result<Page>>) -> Self {
        self.list.lock().expect("not poisoned").push_back(step);
        self
    }
}

pub fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::SeqCst);
}

#[async_trait]
impl Mailbox for Fake {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn holders(&self) -> Vec<Locator> {
        self.holders.clone()
    }

    async fn put(&self, envelopes: &[Envelope], options: PutOptions) -> Vec<Result<Receipt>> {
        count(&self.calls.put);
        self.puts.lock().expect("not poisoned").push(envelopes.iter().map(Envelope::id).collect());
        self.put_at.lock().expect("not poisoned").push(options.at.clone());
        let at = if options.at.is_empty() { self.holders.clone() } else { options.at };
        let stored = || envelopes.iter().map(|_| Ok(acked(&at))).collect();
        play(&self.put).await.unwrap_or_else(stored)
    }

    async fn list(&self, _owner: MailboxId, _holder: &Locator, _options: ListOptions) -> Result<Page> {
        count(&self.calls.list);
        play(&self.list).await.unwrap_or_else(|| Ok(Page::default()))
    }

    async fn audit(
        &self,
        _owner: MailboxId,
        _holder: &Locator,
        _ids: &[EnvelopeId],
        _options: AuditOptions,
    ) -> Result<Vec<Holding>> {
        count(&self.calls.audit);
        play(&self.audit).await.unwrap_or_else(|| Ok(Vec::new()))
    }

    async fn delete(&self, requests: &[DeleteRequest], _options: DeleteOptions) -> Vec<Result<Deletion>> {
        count(&self.calls.delete);
        requests.iter().map(|_| Ok(Deletion::default())).collect()
    }

    fn watch(&self, _owner: MailboxId, _options: WatchOptions) -> Option<BoxStream<'static, Result<WatchEvent>>> {
        count(&self.calls.watch);
        let events: Vec<_> = self.events.lock().expect("not poisoned").drain(..).collect();
        Some(stream::iter(events).boxed())
    }

    fn reconciler(&self, _holder: &Locator) -> Option<Arc<dyn Reconcile>> {
        count(&self.calls.reconcile);
        self.reconciles.then(|| Arc::new(FakeReconcile(Arc::clone(&self.reconcile))) as _)
    }

    async fn close(&self) {
        count(&self.calls.close);
    }
}

struct FakeReconcile(Arc<Script<Result<Difference>>>);

impl std::fmt::Debug for FakeReconcile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FakeReconcile")
    }
}

#[async_trait]
impl Reconcile for FakeReconcile {
    async fn difference(
        &self,
        _owner: MailboxId,
        _ours: &[(Timestamp, EnvelopeId)],
        _options: ReconcileOptions,
    ) -> Result<Difference> {
        play(&self.0).await.unwrap_or_else(|| Ok(Difference::default()))
    }
}

#[async_trait]
impl Transport for Fake {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    async fn publish(&self, _record: &MailboxRecord, _options: PublishOptions) -> Result<Receipt> {
        count(&self.calls.publish);
        play(&self.publish).await.unwrap_or_else(|| Ok(acked(&self.holders)))
    }

    fn resolve(&self, _target: &Target, _options: ResolveOptions) -> BoxStream<'static, Result<ResolveEvent>> {
        let steps: Vec<_> = self.records.lock().expect("not poisoned").drain(..).collect();
        stream::iter(steps)
            .then(async |step| match step {
                Step::Answer(record) => record,
                Step::After(time, record) => {
                    tokio::time::sleep(time).await;
                    record
                }
                Step::Hang => std::future::pending().await,
            })
            .boxed()
    }

    async fn notify(&self, _hint: &Hint, _options: NotifyOptions) -> Result<()> {
        count(&self.calls.notify);
        Err(Error::new(ErrorKind::Unreachable, "nobody"))
    }

    fn subscribe(&self, _owner: MailboxId, _options: SubscribeOptions) -> BoxStream<'static, Result<Hint>> {
        stream::empty().boxed()
    }

    async fn close(&self) {
        count(&self.calls.close);
    }
}

pub fn locator(text: &str) -> Locator {
    text.parse().expect("a locator")
}

pub fn owner() -> MailboxId {
    MailboxId::from_bytes([7; 32])
}

/// Valid envelopes to the owner, each another one, with content of so many bytes.
pub fn envelopes(count: usize, bytes: usize) -> Vec<Envelope> {
    let key = SecretKey::generate().expect("randomness");
    let tags = vec![vec!["p".to_owned(), owner().to_hex()]];
    (0..count)
        .map(|at| {
            let content = format!("{at:0>bytes$}");
            let event = Event::sign(&key, Timestamp(1_700_000_000), kind::GIFT_WRAP, tags.clone(), content);
            Envelope::parse(&event.to_json()).expect("valid")
        })
        .collect()
}

/// A receipt of these holders.
pub fn acked(holders: &[Locator]) -> Receipt {
    let ack = |holder: &Locator| Ack { holder: holder.clone(), level: Level::Stored, until: None };
    Receipt { acks: holders.iter().map(ack).collect(), ..Receipt::default() }
}

pub fn error<T>(kind: ErrorKind) -> Result<T> {
    Err(Error::new(kind, "scripted"))
}
