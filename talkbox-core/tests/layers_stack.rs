//! The layers: what is refused, what is timed out, what is tried again, what is counted; and in which order.

mod layers_fakes;

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use layers_fakes::{Calls, Fake, Step, acked, envelopes, error, locator, owner};
use proptest::prelude::*;
use talkbox_core::{
    AuditOptions, Capabilities, DeleteOptions, DeleteRequest, EnvelopeId, Error, ErrorKind, Hint, Holding,
    HoldingState, ListOptions, Locator, Mailbox, NotifyOptions, PutOptions, RawRecord, ReconcileOptions, ResolveEvent,
    ResolveOptions, Retry, SecretKey, Target, Timestamp, Transport, WatchEvent, WatchOptions,
    layers::{RetryPolicy, Stack, Timeouts, prometheus},
};
use tokio::time::Instant;

fn fake() -> Fake {
    Fake::new("home", &["test"], &["test:a", "test:b"])
}

fn stacked(fake: Fake) -> (Arc<Fake>, Arc<dyn Mailbox>, Stack) {
    let (fake, stack) = (Arc::new(fake), Stack::default());
    let mailbox = stack.mailbox(Arc::clone(&fake) as Arc<dyn Mailbox>);
    (fake, mailbox, stack)
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_the_network_and_costs_only_itself() {
    let [small, large, other]: [_; 3] =
        [envelopes(1, 10).remove(0), envelopes(1, 5000).remove(0), envelopes(1, 20).remove(0)];
    let mut fake = fake();
    fake.capabilities.max_envelope_bytes = 2000;
    let (fake, mailbox, _) = stacked(fake);
    let answers = mailbox.put(&[small.clone(), large.clone(), other.clone()], PutOptions::default()).await;
    assert!(answers[0].is_ok() && answers[2].is_ok());
    let refused = answers[1].as_ref().expect_err("too large");
    assert_eq!(
        (refused.kind(), refused.operation(), refused.context("limit")),
        (ErrorKind::TooLarge, Some("put"), Some("2000"))
    );
    assert_eq!(*fake.puts.lock().expect("not poisoned"), [vec![small.id(), other.id()]]);
    let alone = mailbox.put(&[large], PutOptions::default()).await;
    assert!(alone[0].is_err());
    assert_eq!(Calls::of(&fake.calls.put), 1);
}

#[tokio::test]
async fn what_cannot_work_is_refused_before_the_network() {
    let mut fake = fake();
    (fake.capabilities.watch, fake.capabilities.delete) = (false, false);
    fake.reconciles = true;
    let (fake, mailbox, _) = stacked(fake);
    let (ours, foreign) = (locator("test:a"), locator("other:a"));
    let id = EnvelopeId::from_bytes([1; 32]);
    let key = SecretKey::generate().expect("randomness");
    let request = DeleteRequest::sign(&key, owner(), &[id], Timestamp(1)).expect("signs");

    let many = ListOptions::default().ids(vec![id; 257]);
    let refused = mailbox.list(owner(), &ours, many).await.expect_err("too many ids");
    assert_eq!((refused.kind(), refused.operation()), (ErrorKind::InvalidInput, Some("list")));
    for kind in [
        mailbox.list(owner(), &foreign, ListOptions::default()).await.map(drop),
        mailbox.audit(owner(), &foreign, &[id], AuditOptions::default()).await.map(drop),
        mailbox.audit(owner(), &ours, &[], AuditOptions::default()).await.map(drop),
        mailbox.put(&envelopes(1, 1), PutOptions::default().at([foreign.clone()])).await.remove(0).map(drop),
    ]
    .map(|answer| answer.expect_err("refused").kind())
    {
        assert_eq!(kind, ErrorKind::InvalidInput);
    }
    let deleted = mailbox.delete(&[request], DeleteOptions::default()).await.remove(0);
    assert_eq!(deleted.expect_err("cannot").kind(), ErrorKind::Unsupported);
    assert!(mailbox.watch(owner(), WatchOptions::default()).is_none());
    assert!(mailbox.reconciler(&foreign).is_none() && mailbox.reconciler(&ours).is_some());
    assert!(mailbox.put(&[], PutOptions::default()).await.is_empty());
    assert!(mailbox.delete(&[], DeleteOptions::default()).await.is_empty());
    let calls = &fake.calls;
    let all = [&calls.put, &calls.list, &calls.audit, &calls.delete, &calls.watch].map(Calls::of);
    assert_eq!(all, [0; 5]);
}

#[tokio::test]
async fn a_backend_is_held_to_one_answer_for_each_item() {
    let short = fake().then_put(Step::Answer(vec![Ok(acked(&[locator("test:a")]))]));
    let ids = [EnvelopeId::from_bytes([1; 32]), EnvelopeId::from_bytes([2; 32])];
    let swapped = ids.iter().rev().map(|id| Holding { id: *id, state: HoldingState::Absent }).collect();
    short.audit.lock().expect("not poisoned").push_back(Step::Answer(Ok(swapped)));
    let (_, mailbox, _) = stacked(short);
    let answers = mailbox.put(&envelopes(2, 1), PutOptions::default()).await;
    assert!(answers[0].is_ok());
    assert_eq!(answers[1].as_ref().expect_err("missing").kind(), ErrorKind::Unexpected);
    let audited = mailbox.audit(owner(), &locator("test:a"), &ids, AuditOptions::default()).await;
    assert_eq!(audited.expect_err("swapped").kind(), ErrorKind::Unexpected);
}

#[tokio::test(start_paused = true)]
async fn a_hang_is_timed_out_and_tried_again() {
    let (fake, mailbox, _) = stacked(fake().then_list(Step::Hang));
    let start = Instant::now();
    mailbox.list(owner(), &locator("test:a"), ListOptions::default()).await.expect("the second try");
    assert_eq!(Calls::of(&fake.calls.list), 2);
    assert!((30.0..31.0).contains(&start.elapsed().as_secs_f64()));
}

#[tokio::test(start_paused = true)]
async fn what_hangs_for_ever_ends_within_the_budget() {
    let mut hanging = fake();
    for _ in 0..9 {
        hanging = hanging.then_list(Step::Hang).then_put(Step::Hang);
    }
    let (fake, mailbox, _) = stacked(hanging);
    let start = Instant::now();
    let failed = mailbox.list(owner(), &locator("test:a"), ListOptions::default()).await.expect_err("hangs");
    assert_eq!(
        (failed.kind(), failed.retry_advice(), failed.operation()),
        (ErrorKind::Timeout, Retry::Exhausted, Some("list"))
    );
    assert_eq!((start.elapsed(), Calls::of(&fake.calls.list)), (Duration::from_secs(60), 2));
    let start = Instant::now();
    let failed = mailbox.put(&envelopes(3, 1), PutOptions::default()).await;
    assert!(failed.iter().all(|answer| answer.as_ref().is_err_and(|error| error.retry_advice() == Retry::Exhausted)));
    assert_eq!(start.elapsed(), Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn only_what_may_go_better_is_tried_again() {
    for kind in [ErrorKind::Refused, ErrorKind::Denied, ErrorKind::NotFound, ErrorKind::Unexpected] {
        let (fake, mailbox, _) = stacked(fake().then_list(Step::Answer(error(kind))));
        let failed = mailbox.list(owner(), &locator("test:a"), ListOptions::default()).await.expect_err("no");
        assert_eq!((failed.kind(), failed.retry_advice(), Calls::of(&fake.calls.list)), (kind, Retry::No, 1));
    }
    let used_up = || Err(Error::new(ErrorKind::Timeout, "inner").retry(Retry::Exhausted));
    let (fake, mailbox, _) = stacked(fake().then_list(Step::Answer(used_up())));
    let failed = mailbox.list(owner(), &locator("test:a"), ListOptions::default()).await.expect_err("no");
    assert_eq!((failed.retry_advice(), Calls::of(&fake.calls.list)), (Retry::Exhausted, 1));
}

#[tokio::test(start_paused = true)]
async fn the_number_of_tries_is_bounded_and_their_pauses_grow() {
    let mut failing = fake();
    for _ in 0..9 {
        failing = failing.then_list(Step::Answer(error(ErrorKind::Unreachable)));
    }
    let (fake, mailbox, stack) = stacked(failing);
    let start = Instant::now();
    let failed = mailbox.list(owner(), &locator("test:a"), ListOptions::default()).await.expect_err("fails");
    assert_eq!((failed.kind(), failed.retry_advice()), (ErrorKind::Unreachable, Retry::Exhausted));
    assert_eq!((Calls::of(&fake.calls.list), failed.context("tries")), (4, Some("4")));
    // 250, 500 and 1000 ms, each between half and all of it.
    assert!((0.875..=1.751).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
    let list = stack.metrics().snapshot().operations[1].1.clone();
    assert_eq!((list.calls, list.retries, list.errors), (1, 3, vec![("unreachable", 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_asks_for_time_gets_it() {
    let asks = |secs| {
        Err(Error::new(ErrorKind::RateLimited, "slow down").retry(Retry::After(Some(Duration::from_secs(secs)))))
    };
    let (fake, mailbox, _) = stacked(fake().then_list(Step::Answer(asks(10))).then_list(Step::Answer(asks(90))));
    let start = Instant::now();
    // The second asks for more than the budget has: nobody waits for what cannot come.
    let failed = mailbox.list(owner(), &locator("test:a"), ListOptions::default()).await.expect_err("too long");
    assert_eq!((failed.retry_advice(), failed.context("retry_after")), (Retry::Exhausted, Some("90 s")));
    assert_eq!(Calls::of(&fake.calls.list), 2);
    assert!((10.0..=11.01).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
    let endless = Err(Error::new(ErrorKind::RateLimited, "slow down").retry(Retry::After(Some(Duration::MAX))));
    let (_, mailbox, _) = stacked(self::fake().then_list(Step::Answer(endless)));
    let failed = mailbox.list(owner(), &locator("test:a"), ListOptions::default()).await.expect_err("too long");
    assert_eq!(failed.retry_advice(), Retry::Exhausted);
}

#[tokio::test(start_paused = true)]
async fn only_the_envelopes_that_failed_are_put_again() {
    let all = envelopes(4, 1);
    let half = || Ok(acked(&[locator("test:a")]));
    let fake = fake()
        .then_put(Step::Answer(vec![
            half(),
            error(ErrorKind::Unreachable),
            error(ErrorKind::Refused),
            error(ErrorKind::Timeout),
        ]))
        .then_put(Step::Answer(vec![error(ErrorKind::Unreachable), half()]));
    let (fake, mailbox, _) = stacked(fake);
    let answers = mailbox.put(&all, PutOptions::default()).await;
    let puts = fake.puts.lock().expect("not poisoned").clone();
    let id = |at: usize| all[at].id();
    assert_eq!(puts, [vec![id(0), id(1), id(2), id(3)], vec![id(1), id(3)], vec![id(1)]]);
    // One ack of two is a success: the outbox fills up the rest.
    assert_eq!(answers[0].as_ref().expect("stored").acks.len(), 1);
    assert!(answers[1].is_ok() && answers[3].is_ok());
    assert_eq!(answers[2].as_ref().expect_err("refused").retry_advice(), Retry::No);
}

#[tokio::test(start_paused = true)]
async fn a_resolution_ends_in_time_and_keeps_what_came() {
    let record = ResolveEvent::Record(RawRecord { json: "{}".to_owned(), source: locator("test:a") });
    let fake = fake();
    *fake.records.lock().expect("not poisoned") = vec![
        Step::Answer(Ok(record.clone())),
        Step::After(Duration::from_secs(5), error(ErrorKind::Unreachable)),
        Step::Hang,
    ];
    let stack = Stack::default();
    let transport = stack.transport(Arc::new(fake));
    let start = Instant::now();
    let answers: Vec<_> = transport.resolve(&Target::Mailbox(owner()), ResolveOptions::default()).collect().await;
    assert_eq!(start.elapsed(), Duration::from_secs(30));
    let kinds: Vec<_> = answers.iter().map(|answer| answer.as_ref().map_err(Error::kind)).collect();
    assert_eq!(kinds, [Ok(&record), Err(ErrorKind::Unreachable), Err(ErrorKind::Timeout)]);
    let resolve = &stack.metrics().snapshot().operations[7].1;
    assert_eq!((resolve.calls, &resolve.errors), (1, &vec![("unreachable", 1), ("timeout", 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_sent_once() {
    let fake = Arc::new(fake());
    let transport = Stack::default().transport(Arc::clone(&fake) as Arc<dyn Transport>);
    let hint = Hint::sign(owner(), &[], Timestamp(1)).expect("signs");
    let failed = transport.notify(&hint, NotifyOptions::default()).await.expect_err("nobody");
    assert_eq!(
        (failed.kind(), failed.operation(), Calls::of(&fake.calls.notify)),
        (ErrorKind::Unreachable, Some("notify"), 1)
    );
}

#[tokio::test]
async fn every_call_goes_through_to_the_backend() {
    let mut fake = fake();
    fake.reconciles = true;
    let live = WatchEvent::Live { holder: locator("test:a") };
    fake.events.lock().expect("not poisoned").push(Ok(live));
    let (fake, mailbox, stack) = stacked(fake);
    assert_eq!((mailbox.descriptor().name.as_str(), mailbox.holders().len()), ("home", 2));
    assert_eq!(mailbox.capabilities(), Capabilities::FULL);
    let events: Vec<_> = mailbox.watch(owner(), WatchOptions::default()).expect("watches").collect().await;
    assert!(matches!(&events[..], [Ok(WatchEvent::Live { .. })]));
    let reconciler = mailbox.reconciler(&locator("test:a")).expect("reconciles");
    reconciler.difference(owner(), &[], ReconcileOptions::default()).await.expect("no difference");
    mailbox.put(&envelopes(2, 100), PutOptions::default()).await;
    mailbox.close().await;
    let calls = &fake.calls;
    assert_eq!([&calls.watch, &calls.reconcile, &calls.put, &calls.close].map(Calls::of), [1, 1, 1, 1]);

    let snapshot = stack.metrics().snapshot();
    assert_eq!((snapshot.envelopes_out, snapshot.acks), (2, 4));
    let page = prometheus(&[("home", snapshot)]);
    assert!(page.contains("talkbox_backend_calls_total{backend=\"home\",operation=\"put\"} 1\n"), "{page}");
    assert!(page.contains("talkbox_backend_acks_total{backend=\"home\"} 4\n"), "{page}");
    assert!(page.contains("talkbox_backend_call_seconds_bucket{backend=\"home\",operation=\"put\",le=\"+Inf\"} 1\n"));
    let well_formed =
        |line: &str| line.starts_with("# ") || line.rsplit_once(' ').is_some_and(|(_, n)| n.parse::<f64>().is_ok());
    assert!(page.lines().all(well_formed), "{page}");
    assert!(!page.contains(&owner().to_hex()[..16]));
}

proptest! {
    /// Whatever a backend answers to each try, each envelope has one answer in the end, it is the last one that the
    /// backend gave for it, and nothing that was answered for good is asked for again.
    #[test]
    fn each_envelope_has_its_last_answer(
        answers in prop::collection::vec(prop::collection::vec(0..4_u8, 5), 1..6),
        attempts in 1..5_u32,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let all = envelopes(5, 1);
            let script = Arc::new(Scripted { answers: answers.clone(), all: all.iter().map(|one| one.id()).collect(), ..Scripted::default() });
            let policy = RetryPolicy { attempts, ..RetryPolicy::default() };
            let stack = Stack::default().retry(policy).timeouts(Timeouts::default());
            let mailbox = stack.mailbox(Arc::new(ByEnvelope { inner: fake(), script: Arc::clone(&script) }));
            let given = mailbox.put(&all, PutOptions::default()).await;
            for (at, answer) in given.iter().enumerate() {
                let mut expected = 0;
                for attempt in 0..attempts as usize {
                    expected = answers[attempt.min(answers.len() - 1)][at];
                    if expected != 1 {
                        break;
                    }
                }
                match (expected, answer) {
                    (0 | 3, Ok(_)) => {}
                    (1, Err(error)) => assert_eq!(error.retry_advice(), Retry::Exhausted),
                    (2, Err(error)) => assert_eq!(error.retry_advice(), Retry::No),
                    other => panic!("{other:?}"),
                }
            }
            assert!(script.calls.load(std::sync::atomic::Ordering::SeqCst) <= attempts as usize);
        });
    }
}

#[derive(Debug, Default)]
struct Scripted {
    answers: Vec<Vec<u8>>,
    all: Vec<EnvelopeId>,
    calls: std::sync::atomic::AtomicUsize,
}

/// Answers each try by a table: stored, unreachable, refused, stored.
#[derive(Debug)]
struct ByEnvelope {
    inner: Fake,
    script: Arc<Scripted>,
}

#[talkbox_core::async_trait]
impl Mailbox for ByEnvelope {
    fn descriptor(&self) -> &talkbox_core::Descriptor {
        Mailbox::descriptor(&self.inner)
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    fn holders(&self) -> Vec<Locator> {
        self.inner.holders()
    }
    async fn put(
        &self,
        envelopes: &[talkbox_core::Envelope],
        _options: PutOptions,
    ) -> Vec<talkbox_core::Result<talkbox_core::Receipt>> {
        let attempt = self.script.calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let row = &self.script.answers[attempt.min(self.script.answers.len() - 1)];
        envelopes
            .iter()
            .map(|envelope| {
                let at = self.script.all.iter().position(|id| *id == envelope.id()).expect("one of ours");
                match row[at] {
                    1 => error(ErrorKind::Unreachable),
                    2 => error(ErrorKind::Refused),
                    _ => Ok(acked(&self.inner.holders)),
                }
            })
            .collect()
    }
    async fn list(
        &self,
        owner: talkbox_core::MailboxId,
        holder: &Locator,
        options: ListOptions,
    ) -> talkbox_core::Result<talkbox_core::Page> {
        self.inner.list(owner, holder, options).await
    }
    async fn audit(
        &self,
        owner: talkbox_core::MailboxId,
        holder: &Locator,
        ids: &[EnvelopeId],
        options: AuditOptions,
    ) -> talkbox_core::Result<Vec<Holding>> {
        self.inner.audit(owner, holder, ids, options).await
    }
    async fn delete(
        &self,
        requests: &[DeleteRequest],
        options: DeleteOptions,
    ) -> Vec<talkbox_core::Result<talkbox_core::Deletion>> {
        self.inner.delete(requests, options).await
    }
    fn watch(
        &self,
        _owner: talkbox_core::MailboxId,
        _options: WatchOptions,
    ) -> Option<futures_util::stream::BoxStream<'static, talkbox_core::Result<WatchEvent>>> {
        None
    }
    fn reconciler(&self, _holder: &Locator) -> Option<Arc<dyn talkbox_core::Reconcile>> {
        None
    }
    async fn close(&self) {}
}
