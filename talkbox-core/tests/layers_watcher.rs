//! The watcher: whatever the network does, nothing is lost, and nothing that is known comes again.

mod layers_fakes;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, stream::BoxStream};
use layers_fakes::{
    envelopes, locator,
    network::{Network, Told},
    owner,
};
use proptest::prelude::*;
use talkbox_core::{
    Cursor, Descriptor, Envelope, EnvelopeId, Error, ErrorKind, Hint, Locator, Mailbox, MailboxId, MailboxRecord,
    NotifyOptions, PublishOptions, RawEnvelope, Receipt, ResolveEvent, ResolveOptions, Result, SubscribeOptions,
    Target, Timestamp, Transport, async_trait,
    watcher::{Known, Reconciled, Watcher, WatcherEvent, WatcherOptions, reconcile_holder},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

/// Signed once: it is what takes time.
static POOL: LazyLock<Vec<Envelope>> = LazyLock::new(|| envelopes(40, 1));
/// Longer than any pause; no test waits for it in real time.
const LONG: Duration = Duration::from_secs(3 * 3600);

/// A store, as a client has one: envelopes and cursors, committed together.
#[derive(Clone, Debug, Default)]
struct Store(Arc<Mutex<Stored>>);

#[derive(Debug, Default)]
struct Stored {
    envelopes: BTreeSet<EnvelopeId>,
    cursors: BTreeMap<Locator, Cursor>,
    fails: bool,
}

impl Store {
    /// Takes a batch; how many of it were new. What does not hold is not stored.
    fn commit(&self, holder: Locator, raw: &[RawEnvelope], cursor: Option<Cursor>) -> usize {
        let mut stored = self.0.lock().expect("not poisoned");
        let valid = raw.iter().filter_map(|raw| Envelope::verify(raw).ok());
        let new = valid.filter(|envelope| stored.envelopes.insert(envelope.id())).count();
        if let Some(cursor) = cursor {
            stored.cursors.insert(holder, cursor);
        }
        new
    }

    fn has(&self, id: EnvelopeId) -> bool {
        self.0.lock().expect("not poisoned").envelopes.contains(&id)
    }

    fn count(&self) -> usize {
        self.0.lock().expect("not poisoned").envelopes.len()
    }

    fn cursors(&self) -> Vec<(Locator, Cursor)> {
        self.0.lock().expect("not poisoned").cursors.clone().into_iter().collect()
    }
}

#[async_trait]
impl Known for Store {
    async fn known(&self, _owner: MailboxId, ids: &[EnvelopeId]) -> Result<Vec<bool>> {
        tokio::task::yield_now().await;
        if self.0.lock().expect("not poisoned").fails {
            return Err(Error::new(ErrorKind::Storage, "the disk failed"));
        }
        Ok(ids.iter().map(|id| self.has(*id)).collect())
    }

    async fn all(&self, _owner: MailboxId) -> Result<Vec<(Timestamp, EnvelopeId)>> {
        let stored = self.0.lock().expect("not poisoned");
        Ok(stored.envelopes.iter().map(|id| (Timestamp(1_700_000_000), *id)).collect())
    }
}

fn holders() -> Vec<Locator> {
    ["net:a", "net:b", "net:c"].map(locator).to_vec()
}

fn raw(at: usize) -> RawEnvelope {
    RawEnvelope::from(&POOL[at])
}

fn start(network: &Network, store: &Store) -> Watcher {
    start_with(network, store, &[], WatcherOptions::default())
}

fn start_with(network: &Network, store: &Store, transports: &[Arc<dyn Transport>], options: WatcherOptions) -> Watcher {
    let options = WatcherOptions { cursors: store.cursors(), ..options };
    let mailbox: Arc<dyn Mailbox> = Arc::new(network.clone());
    Watcher::start(owner(), &[mailbox], transports, Arc::new(store.clone()), options)
}

/// Takes one event; the number of envelopes in it that were new.
async fn take(watcher: &mut Watcher, store: &Store) -> (usize, WatcherEvent) {
    let event = timeout(LONG, watcher.next()).await.expect("an event").expect("no end");
    if let WatcherEvent::Batch { holder, raw, cursor } = &event {
        assert!(raw.iter().all(|raw| !store.has(raw.id())), "what is known comes again");
        return (store.commit(holder.clone(), raw, cursor.clone()), event);
    }
    (0, event)
}

async fn until_caught_up(watcher: &mut Watcher, store: &Store) -> Vec<Locator> {
    loop {
        if let (_, WatcherEvent::CaughtUp { down }) = take(watcher, store).await {
            return down;
        }
    }
}

async fn until_stored(watcher: &mut Watcher, store: &Store, count: usize) {
    // Cursors go on coming when nothing else does.
    let stored = async {
        while store.count() < count {
            take(watcher, store).await;
        }
    };
    timeout(LONG, stored).await.expect("something is lost");
}

#[tokio::test(start_paused = true)]
async fn the_backlog_comes_once_and_then_what_is_live() {
    let network = Network::new(&holders(), true, false);
    for at in 0..10 {
        for holder in holders() {
            network.store(&holder, raw(at), Told::Once);
        }
    }
    let store = Store::default();
    let mut watcher = start(&network, &store);
    assert!(until_caught_up(&mut watcher, &store).await.is_empty());
    assert_eq!(store.count(), 10);
    // The watch was live before the first list, so that four pages of three were enough.
    assert_eq!(network.holder(&locator("net:a"), |one| one.lists), 4);
    let before = Instant::now();
    network.store(&locator("net:b"), raw(10), Told::Once);
    until_stored(&mut watcher, &store, 11).await;
    assert!(before.elapsed() < Duration::from_millis(10), "live is at once");
    // The cursor came along, and a new start asks only for what is after it.
    network.holder(&locator("net:b"), |one| one.lists = 0);
    drop(watcher);
    network.store(&locator("net:b"), raw(11), Told::Once);
    let mut watcher = start(&network, &store);
    until_stored(&mut watcher, &store, 12).await;
    assert_eq!(network.holder(&locator("net:b"), |one| one.lists), 1);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_watched_is_polled() {
    let network = Network::new(&holders(), false, false);
    let store = Store::default();
    let mut watcher = start(&network, &store);
    until_caught_up(&mut watcher, &store).await;
    assert_eq!(network.watches(), 0);
    network.store(&locator("net:c"), raw(0), Told::Once);
    let before = Instant::now();
    until_stored(&mut watcher, &store, 1).await;
    assert!(before.elapsed() <= Duration::from_secs(36), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_is_lost_is_polled_and_reconciled_when_it_is_back() {
    let network = Network::new(&holders()[..1], true, true);
    let holder = locator("net:a");
    let store = Store::default();
    let mut watcher = start(&network, &store);
    until_caught_up(&mut watcher, &store).await;
    network.lose(&holder);
    let (_, event) = take(&mut watcher, &store).await;
    let WatcherEvent::Down { holder: down, error } = event else { panic!("{event:?}") };
    assert_eq!((down, error.kind()), (holder.clone(), ErrorKind::Unreachable));
    network.store(&holder, raw(0), Told::Once);
    let before = Instant::now();
    until_stored(&mut watcher, &store, 1).await;
    assert!(before.elapsed() <= Duration::from_secs(36), "polled, since it is not live: {:?}", before.elapsed());
    network.store(&holder, raw(1), Told::Once);
    network.find(&holder);
    until_stored(&mut watcher, &store, 2).await;
    assert_eq!(network.holder(&holder, |one| (one.differences, one.ids_asked)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_lags_for_ever_is_not_asked_for_ever() {
    let network = Network::new(&holders()[..1], true, false);
    let store = Store::default();
    let mut watcher = start(&network, &store);
    until_caught_up(&mut watcher, &store).await;
    network.holder(&locator("net:a"), |one| one.lists = 0);
    for at in 0..30 {
        network.store(&locator("net:a"), raw(at), Told::Lost);
        let _none = timeout(Duration::from_millis(100), async {
            loop {
                take(&mut watcher, &store).await;
            }
        })
        .await;
    }
    // Three seconds of it: at most one pass a second, of a few pages each.
    assert!(network.holder(&locator("net:a"), |one| one.lists) <= 4 * 5);
    until_stored(&mut watcher, &store, 30).await;
}

#[tokio::test(start_paused = true)]
async fn a_live_cursor_does_not_cover_what_was_missed_while_listing() {
    let network = Network::new(&holders()[..1], true, false);
    let holder = locator("net:a");
    // Ten pages: one taken, eight in the queue, and the last has been given and waits when the watch misses something.
    (0..30).for_each(|at| network.store(&holder, raw(at), Told::Once));
    let store = Store::default();
    let mut watcher = start(&network, &store);
    take(&mut watcher, &store).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    network.store(&holder, raw(30), Told::Lost);
    tokio::time::sleep(Duration::from_millis(1)).await;
    until_caught_up(&mut watcher, &store).await;
    assert_eq!(store.count(), 30);
    network.store(&holder, raw(31), Told::Once);
    until_stored(&mut watcher, &store, 31).await;
    assert!(store.has(POOL[31].id()) && !store.has(POOL[30].id()));
    // The process dies before what was missed has come: the cursor that it stored must not be past that.
    drop(watcher);
    let mut watcher = start(&network, &store);
    until_stored(&mut watcher, &store, 32).await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_holder_is_told_once_and_does_not_hold_up_the_others() {
    let network = Network::new(&holders(), false, false);
    network.holder(&locator("net:a"), |one| one.failures = 5);
    network.store(&locator("net:b"), raw(0), Told::Once);
    network.store(&locator("net:a"), raw(1), Told::Once);
    let store = Store::default();
    let mut watcher = start(&network, &store);
    let mut downs = 0;
    let down = loop {
        match take(&mut watcher, &store).await.1 {
            WatcherEvent::Down { holder, .. } => {
                assert_eq!(holder, locator("net:a"));
                downs += 1;
            }
            WatcherEvent::CaughtUp { down } => break down,
            _ => {}
        }
    };
    assert_eq!(down, [locator("net:a")]);
    assert!(store.has(POOL[0].id()));
    while !store.has(POOL[1].id()) {
        downs += usize::from(matches!(take(&mut watcher, &store).await.1, WatcherEvent::Down { .. }));
    }
    assert_eq!(downs, 1);
    assert_eq!(network.holder(&locator("net:a"), |one| one.failures), 0);
}

#[tokio::test(start_paused = true)]
async fn rubbish_under_an_id_does_not_hide_what_is_right() {
    let network = Network::new(&holders(), true, false);
    let store = Store::default();
    let mut watcher = start(&network, &store);
    until_caught_up(&mut watcher, &store).await;
    network.forge(&locator("net:a"), RawEnvelope::new(POOL[0].id(), "{}").expect("small"));
    network.store(&locator("net:b"), raw(0), Told::Once);
    until_stored(&mut watcher, &store, 1).await;
    assert!(store.has(POOL[0].id()));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_asked_loses_nothing() {
    let network = Network::new(&holders(), true, false);
    let store = Store::default();
    store.0.lock().expect("not poisoned").fails = true;
    network.store(&locator("net:a"), raw(0), Told::Once);
    let mut watcher = start(&network, &store);
    until_stored(&mut watcher, &store, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_is_begun_again() {
    let network = Network::new(&holders(), true, false);
    let store = Store::default();
    let mut watcher = start(&network, &store);
    until_caught_up(&mut watcher, &store).await;
    network.end_watches();
    network.store(&locator("net:a"), raw(0), Told::Once);
    until_stored(&mut watcher, &store, 1).await;
    assert_eq!(network.watches(), 2);
}

#[tokio::test(start_paused = true)]
async fn waiting_may_be_given_up_at_any_time() {
    let network = Network::new(&holders(), true, false);
    for at in 0..40 {
        network.store(&locator("net:a"), raw(at), Told::Once);
    }
    let store = Store::default();
    let mut watcher = start(&network, &store);
    while store.count() < 40 {
        // One poll at a time: each look-up in the store is given up half-way several times.
        let next = futures_util::future::poll_immediate(watcher.next()).await;
        match next.flatten() {
            Some(WatcherEvent::Batch { holder, raw, cursor }) => {
                store.commit(holder, &raw, cursor);
            }
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
        if let Ok(Some(WatcherEvent::Batch { holder, raw, cursor })) =
            timeout(Duration::from_millis(5), watcher.next()).await
        {
            store.commit(holder, &raw, cursor);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_it_ends_all_work() {
    let network = Network::new(&holders(), false, false);
    let store = Store::default();
    let mut watcher = start(&network, &store);
    until_caught_up(&mut watcher, &store).await;
    drop(watcher);
    let lists = || holders().iter().map(|holder| network.holder(holder, |one| one.lists)).sum::<usize>();
    let before = lists();
    tokio::time::sleep(LONG).await;
    assert_eq!(lists(), before);
    let none = Watcher::start(owner(), &[], &[], Arc::new(store), WatcherOptions::default());
    let stream = none.into_stream();
    let _may_move_to_another_thread: &dyn Send = &stream;
    let events: Vec<_> = stream.collect().await;
    assert!(matches!(&events[..], [WatcherEvent::CaughtUp { down }] if down.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn hints_wake_a_reader_but_not_more_often_than_every_five_seconds() {
    let network = Network::new(&holders()[..1], false, false);
    let store = Store::default();
    let (hints, transport) = hinting();
    let options = WatcherOptions { poll: LONG, ..WatcherOptions::default() };
    let mut watcher = start_with(&network, &store, &[transport], options);
    until_caught_up(&mut watcher, &store).await;
    network.holder(&locator("net:a"), |one| one.lists = 0);
    let hint = |mailbox| Hint::sign(mailbox, &[], Timestamp(1)).expect("signs");
    // Another mailbox's is none.
    hints.send(Ok(hint(MailboxId::from_bytes([9; 32])))).await.expect("listens");
    network.store(&locator("net:a"), raw(0), Told::Once);
    assert!(timeout(Duration::from_secs(60), watcher.next()).await.is_err());
    let before = Instant::now();
    for at in 0..20 {
        hints.send(Ok(hint(owner()))).await.expect("listens");
        network.store(&locator("net:a"), raw(at), Told::Once);
        let _none = timeout(Duration::from_millis(500), async {
            loop {
                take(&mut watcher, &store).await;
            }
        })
        .await;
    }
    until_stored(&mut watcher, &store, 20).await;
    assert!(before.elapsed() <= Duration::from_secs(16), "{:?}", before.elapsed());
    let lists = network.holder(&locator("net:a"), |one| one.lists);
    // At 0, 5, 10 and 15 s, of up to four pages each.
    assert!((4..=4 * 4).contains(&lists), "{lists}");
}

/// A transport whose hints a test sends.
fn hinting() -> (mpsc::Sender<Result<Hint>>, Arc<dyn Transport>) {
    let (sender, receiver) = mpsc::channel(64);
    let descriptor = Descriptor::new("hinting", "hinting", &[]);
    (sender, Arc::new(Hinting { descriptor, hints: Mutex::new(Some(receiver)) }))
}

#[derive(Debug)]
struct Hinting {
    descriptor: Descriptor,
    hints: Mutex<Option<mpsc::Receiver<Result<Hint>>>>,
}

#[async_trait]
impl Transport for Hinting {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
    async fn publish(&self, _record: &MailboxRecord, _options: PublishOptions) -> Result<Receipt> {
        unreachable!("a watcher publishes nothing")
    }
    fn resolve(&self, _target: &Target, _options: ResolveOptions) -> BoxStream<'static, Result<ResolveEvent>> {
        unreachable!("a watcher resolves nothing")
    }
    async fn notify(&self, _hint: &Hint, _options: NotifyOptions) -> Result<()> {
        unreachable!("a watcher notifies nobody")
    }
    fn subscribe(&self, _owner: MailboxId, _options: SubscribeOptions) -> BoxStream<'static, Result<Hint>> {
        let hints = self.hints.lock().expect("not poisoned").take();
        let next = async |hints: Option<mpsc::Receiver<_>>| {
            let mut hints = hints?;
            Some((hints.recv().await?, Some(hints)))
        };
        futures_util::stream::unfold(hints, next).boxed()
    }
    async fn close(&self) {}
}

async fn reconcile(network: &Network, store: &Store) -> Result<Reconciled> {
    let mailbox: Arc<dyn Mailbox> = Arc::new(network.clone());
    let ours = store.all(owner()).await?;
    let holder = locator("net:a");
    let found = reconcile_holder(&mailbox, &holder, owner(), &ours, None, |raw, cursor| {
        store.commit(holder.clone(), &raw, cursor);
        std::future::ready(true)
    });
    found.await.map(|found| found.expect("never stopped"))
}

#[tokio::test]
async fn reconciling_fetches_what_is_missing_and_nothing_else() {
    let network = Network::new(&holders()[..1], false, true);
    (0..30).for_each(|at| network.store(&locator("net:a"), raw(at), Told::Once));
    let store = Store::default();
    store.commit(locator("net:a"), &[raw(0), raw(5), raw(35)], None);
    let found = reconcile(&network, &store).await.expect("reconciles");
    assert_eq!((found.theirs, found.arrived, found.ours, found.listed), (28, 28, vec![POOL[35].id()], false));
    assert_eq!(store.count(), 31);
    assert_eq!(network.holder(&locator("net:a"), |one| one.ids_asked), 28);
}

#[tokio::test]
async fn what_is_named_and_not_given_is_counted() {
    let network = Network::new(&holders()[..1], false, true);
    (0..5).for_each(|at| network.store(&locator("net:a"), raw(at), Told::Once));
    network.holder(&locator("net:a"), |one| one.withholds = true);
    let found = reconcile(&network, &Store::default()).await.expect("reconciles");
    assert_eq!((found.theirs, found.arrived), (5, 0));
}

#[tokio::test]
async fn who_cannot_reconcile_is_listed() {
    let network = Network::new(&holders()[..1], false, false);
    (0..10).for_each(|at| network.store(&locator("net:a"), raw(at), Told::Once));
    let store = Store::default();
    store.commit(locator("net:a"), &[raw(3)], None);
    let found = reconcile(&network, &store).await.expect("lists");
    assert_eq!((found.theirs, found.arrived, found.listed), (9, 9, true));
    assert_eq!(store.count(), 10);
    network.holder(&locator("net:a"), |one| one.failures = 1);
    assert_eq!(reconcile(&network, &store).await.expect_err("fails").kind(), ErrorKind::Unreachable);
}

/// What the network does in between.
#[derive(Clone, Debug)]
enum Act {
    Store(usize, usize, Told),
    Forge(usize, usize),
    Release(usize),
    Lose(usize),
    Find(usize),
    Fail(usize, u32),
    Restore(usize),
    EndWatches,
    Wait(u64),
    /// The consumer takes so many events.
    Take(usize),
    /// The process dies, with whatever was on its way, and starts again from what it stored.
    Die,
}

fn act() -> impl Strategy<Value = Act> {
    let told = prop::sample::select(vec![Told::Once, Told::Once, Told::Twice, Told::Later, Told::Lost]);
    prop_oneof![
        8 => (0..3_usize, 0..40_usize, told).prop_map(|(holder, at, told)| Act::Store(holder, at, told)),
        1 => (0..3_usize, 0..40_usize).prop_map(|(holder, at)| Act::Forge(holder, at)),
        1 => (0..3_usize).prop_map(Act::Release),
        2 => (0..3_usize).prop_map(Act::Lose),
        2 => (0..3_usize).prop_map(Act::Find),
        1 => (0..3_usize, 1..6_u32).prop_map(|(holder, times)| Act::Fail(holder, times)),
        1 => (0..3_usize).prop_map(Act::Restore),
        1 => Just(Act::EndWatches),
        3 => (0..4000_u64).prop_map(Act::Wait),
        3 => (1..4_usize).prop_map(Act::Take),
        1 => Just(Act::Die),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_lost_and_nothing_comes_twice(
        acts in prop::collection::vec(act(), 0..60),
        watch in any::<bool>(),
        reconciles in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(play(acts, watch, reconciles));
    }
}

async fn play(acts: Vec<Act>, watch: bool, reconciles: bool) {
    let (network, store) = (Network::new(&holders(), watch, reconciles), Store::default());
    let holder = |at: usize| holders().swap_remove(at);
    let mut expected = BTreeSet::new();
    // Without the list that is due from time to time, which would make good in hours what was missed.
    let start = || start_with(&network, &store, &[], WatcherOptions { relist: 10 * LONG, ..WatcherOptions::default() });
    let mut watcher = start();
    for act in acts {
        match act {
            Act::Store(at, which, told) => {
                network.store(&holder(at), raw(which), told);
                expected.insert(POOL[which].id());
            }
            Act::Forge(at, which) => {
                network.forge(&holder(at), RawEnvelope::new(POOL[which].id(), "{}").expect("small"));
            }
            Act::Release(at) => network.release(&holder(at)),
            Act::Lose(at) => network.lose(&holder(at)),
            Act::Find(at) => network.find(&holder(at)),
            Act::Fail(at, times) => network.holder(&holder(at), |one| one.failures = times),
            Act::Restore(at) => network.restore(&holder(at)),
            Act::EndWatches => network.end_watches(),
            Act::Wait(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
            Act::Take(times) => {
                for _ in 0..times {
                    let _none = timeout(Duration::from_millis(500), take(&mut watcher, &store)).await;
                }
            }
            Act::Die => {
                drop(watcher);
                watcher = start();
            }
        }
    }
    // All is well in the end: then everything that any holder has arrives.
    for holder in holders() {
        network.holder(&holder, |one| one.failures = 0);
        network.find(&holder);
        network.release(&holder);
    }
    let arrives = async {
        while !expected.iter().all(|id| store.has(*id)) {
            take(&mut watcher, &store).await;
        }
    };
    assert!(timeout(LONG, arrives).await.is_ok(), "lost: {} of {}", expected.len() - store.count(), expected.len());
    assert_eq!(store.count(), expected.len());
    // What was stored with the cursors is not sent again to one who starts from them, and nothing is behind them.
    drop(watcher);
    let mut again = start();
    until_caught_up(&mut again, &store).await;
    assert_eq!(store.count(), expected.len());
    for (holder, cursor) in store.cursors() {
        let (epoch, at) = cursor.0.split_once('.').expect("a cursor of ours");
        let (epoch, at): (u32, usize) = (epoch.parse().expect("a number"), at.parse().expect("a number"));
        let covered = network.covered(&holder, epoch, at);
        assert!(covered.iter().all(|id| store.has(*id)));
    }
}
