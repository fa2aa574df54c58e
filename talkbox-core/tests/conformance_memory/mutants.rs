//! Backends that are wrong in one way each, and the cases that have to find it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt as _, future, stream, stream::BoxStream};
use talkbox_core::{
    AuditOptions, Backend, Capabilities, Clock, DeleteOptions, DeleteRequest, Deletion, DeletionState, Descriptor,
    Difference, Envelope, EnvelopeId, Error, ErrorKind, Hint, Holding, HoldingState, ListOptions, Locator, Mailbox,
    MailboxId, MailboxRecord, NotifyOptions, Page, PublishOptions, PutOptions, RawEnvelope, RawRecord, Receipt,
    Reconcile, ReconcileOptions, ResolveEvent, ResolveOptions, Result, SubscribeOptions, Target, Timestamp, Transport,
    WatchEvent, WatchOptions, async_trait,
    testkit::{CaseResult, Harness, MemoryHarness, Role, case_list},
};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    AcksWithoutStoring,
    AnswersOnlyTheFirst,
    RefusesDuplicates,
    ListsTwice,
    ForgetsTheLastOfAPage,
    IgnoresTheLimit,
    LosesTheCursor,
    ListsByTime,
    IgnoresIds,
    MixesMailboxes,
    ListsWhatHasExpired,
    RewritesTags,
    IgnoresAt,
    OverstatesItsLimit,
    FailsOnUnknownMailboxes,
    AnswersStrangersWithAnError,
    SaysHeldOfAll,
    SaysAbsentToAuthors,
    ConfirmsAllDeletions,
    WatchesInSilence,
    WatchIgnoresCursors,
    NeverGoesLive,
    KeepsWatching,
    OneHolderFailsAll,
    ReconcilesToNothing,
    StaysOpen,
    ForgetsRecords,
    ResolvesTheOldest,
    ResolvesForEver,
    SwallowsHints,
}

use Mutant::*;

/// Which case finds what.
const FINDS: &[(Mutant, &str)] = &[
    (AcksWithoutStoring, "put_then_list"),
    (AcksWithoutStoring, "the_sender_goes_away_and_the_owner_reads"),
    (AcksWithoutStoring, "what_is_durable_survives_a_restart"),
    (AcksWithoutStoring, "many_tasks_at_once"),
    (AnswersOnlyTheFirst, "many_are_answered_in_order"),
    (RefusesDuplicates, "put_twice_is_stored_once"),
    (ListsTwice, "put_twice_is_stored_once"),
    (ForgetsTheLastOfAPage, "pages_lose_nothing"),
    (ForgetsTheLastOfAPage, "pages_lose_nothing_while_more_arrives"),
    (IgnoresTheLimit, "pages_lose_nothing"),
    (LosesTheCursor, "a_listing_goes_on_from_its_cursor"),
    (ListsByTime, "a_late_arrival_with_an_old_date_is_found"),
    (IgnoresIds, "listing_by_id_gives_what_was_asked_for"),
    (MixesMailboxes, "mailboxes_are_kept_apart"),
    (ListsWhatHasExpired, "what_has_expired_is_not_listed"),
    (ListsWhatHasExpired, "what_expires_disappears"),
    (RewritesTags, "the_same_bytes_come_back"),
    (IgnoresAt, "only_named_holders_get_it"),
    (OverstatesItsLimit, "the_stated_limit_is_honest"),
    (FailsOnUnknownMailboxes, "an_unknown_mailbox_is_an_empty_page"),
    (AnswersStrangersWithAnError, "a_stranger_is_denied_or_served"),
    (SaysHeldOfAll, "an_audit_says_what_is_held"),
    (SaysAbsentToAuthors, "an_author_may_audit"),
    (ConfirmsAllDeletions, "an_owner_deletes"),
    (ConfirmsAllDeletions, "an_author_deletes"),
    (ConfirmsAllDeletions, "a_stranger_deletes_nothing"),
    (ConfirmsAllDeletions, "what_was_deleted_stays_away"),
    (WatchesInSilence, "a_watch_sees_what_arrives"),
    (WatchesInSilence, "a_watch_and_a_listing_leave_no_gap"),
    (WatchIgnoresCursors, "a_watch_goes_on_from_a_cursor"),
    (NeverGoesLive, "a_watch_sees_what_arrives"),
    (NeverGoesLive, "a_watch_comes_back_after_a_restart"),
    (MixesMailboxes, "a_watch_shows_one_mailbox_alone"),
    (KeepsWatching, "a_watch_ends_when_it_is_dropped"),
    (OneHolderFailsAll, "a_dead_holder_costs_only_itself"),
    (OneHolderFailsAll, "a_hanging_holder_costs_only_itself"),
    (OneHolderFailsAll, "a_refusal_is_told_in_the_holders_words"),
    (ReconcilesToNothing, "reconciling_finds_both_differences"),
    (StaysOpen, "closed_is_closed"),
    (StaysOpen, "closing_ends_a_watch"),
    (ForgetsRecords, "a_record_is_found_by_mailbox"),
    (ForgetsRecords, "a_record_is_found_by_code"),
    (ForgetsRecords, "an_unknown_target_is_an_empty_answer"),
    (ForgetsRecords, "an_impostor_does_not_win"),
    (ForgetsRecords, "forged_records_do_not_pass"),
    (ResolvesTheOldest, "a_newer_record_wins"),
    (ResolvesForEver, "an_unknown_target_is_an_empty_answer"),
    (SwallowsHints, "a_hint_wakes_or_is_not_needed"),
];

/// All at once: most of them are found by waiting in vain.
#[tokio::test(flavor = "multi_thread")]
async fn every_mutant_is_found() {
    let checks = FINDS.iter().map(|(mutant, name)| async move {
        let case = case_list().iter().find(|case| case.name == *name).expect("a case of this name");
        let report = case.check(&MutantHarness::of(*mutant)).await;
        (report.result != CaseResult::Failed).then(|| format!("{mutant:?} passes {name}: {report:?}"))
    });
    let missed: Vec<String> = future::join_all(checks).await.into_iter().flatten().collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

#[derive(Debug)]
struct MutantHarness {
    memory: MemoryHarness,
    mutant: Mutant,
    shared: Arc<Shared>,
}

/// What the mutants of one network remember.
#[derive(Debug, Default)]
struct Shared {
    envelopes: Mutex<Vec<Envelope>>,
    records: Mutex<Vec<MailboxRecord>>,
}

impl MutantHarness {
    fn of(mutant: Mutant) -> Self {
        Self { memory: MemoryHarness::new(), mutant, shared: Arc::default() }
    }
}

#[async_trait]
impl Harness for MutantHarness {
    async fn open(&self, role: Role) -> Result<Backend> {
        let inner = self.memory.open(role).await?;
        let (mutant, shared) = (self.mutant, &self.shared);
        let mailbox = inner.mailbox.expect("both halves");
        let transport = inner.transport.expect("both halves");
        Ok(Backend::new(
            Arc::new(Wrong { inner: mailbox, mutant, shared: Arc::clone(shared), clock: self.memory.clock() }),
            Arc::new(WrongTransport { inner: transport, mutant, shared: Arc::clone(shared) }),
        ))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.memory.clock()
    }

    fn advance(&self, by: Duration) -> bool {
        self.memory.advance(by)
    }

    async fn restart(&self) -> Result<bool> {
        self.memory.restart().await
    }

    fn faults(&self) -> Option<&dyn talkbox_core::testkit::Faults> {
        self.memory.faults()
    }

    fn watchers(&self) -> Option<usize> {
        self.memory.watchers()
    }

    fn dead_holder(&self) -> Option<Locator> {
        self.memory.dead_holder()
    }
}

#[derive(Debug)]
struct Wrong {
    inner: Arc<dyn Mailbox>,
    mutant: Mutant,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
}

impl Wrong {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == mutant
    }

    /// What was put to any mailbox, if the mutant remembers that.
    fn remembered(&self) -> Vec<RawEnvelope> {
        self.shared.envelopes.lock().expect("no panic").iter().map(RawEnvelope::from).collect()
    }
}

#[async_trait]
impl Mailbox for Wrong {
    fn descriptor(&self) -> &Descriptor {
        self.inner.descriptor()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn holders(&self) -> Vec<Locator> {
        self.inner.holders()
    }

    async fn put(&self, envelopes: &[Envelope], mut options: PutOptions) -> Vec<Result<Receipt>> {
        let known: BTreeSet<EnvelopeId> = self.remembered().iter().map(RawEnvelope::id).collect();
        self.shared.envelopes.lock().expect("no panic").extend_from_slice(envelopes);
        match self.mutant {
            AcksWithoutStoring => {
                let ack = |holder| talkbox_core::Ack { holder, level: talkbox_core::Level::Stored, until: None };
                let acks: Vec<_> = self.holders().into_iter().map(ack).collect();
                return envelopes.iter().map(|_| Ok(Receipt { acks: acks.clone(), ..Receipt::default() })).collect();
            }
            AnswersOnlyTheFirst => return self.inner.put(&envelopes[..1], options).await,
            RefusesDuplicates if known.contains(&envelopes[0].id()) => {
                return vec![Err(Error::new(ErrorKind::Refused, "duplicate"))];
            }
            OverstatesItsLimit if envelopes[0].json().len() > 10_000 => {
                return vec![Err(Error::new(ErrorKind::TooLarge, "too large"))];
            }
            IgnoresAt => options.at.clear(),
            _ => {}
        }
        let mut answers = self.inner.put(envelopes, options).await;
        if self.is(OneHolderFailsAll) {
            for answer in &mut answers {
                if answer.as_ref().is_ok_and(|receipt| !receipt.refused.is_empty()) {
                    *answer = Err(Error::new(ErrorKind::Unreachable, "one holder failed"));
                }
            }
        }
        answers
    }

    async fn list(&self, owner: MailboxId, holder: &Locator, mut options: ListOptions) -> Result<Page> {
        let by_owner = options.auth.as_ref().is_some_and(|auth| MailboxId::from(auth.public()) == owner);
        let after = options.after.clone();
        match self.mutant {
            AnswersStrangersWithAnError if !by_owner => return Err(Error::new(ErrorKind::Unexpected, "who?")),
            FailsOnUnknownMailboxes if !self.remembered().iter().any(|raw| raw.json().contains(&owner.to_hex())) => {
                return Err(Error::new(ErrorKind::NotFound, "no such mailbox"));
            }
            IgnoresTheLimit => options.limit = 0,
            IgnoresIds => options.ids.clear(),
            _ => {}
        }
        let limit = options.limit as usize;
        let mut page = self.inner.list(owner, holder, options).await?;
        match self.mutant {
            ListsTwice => page.items.extend(page.items.clone()),
            ForgetsTheLastOfAPage if limit > 0 && page.more => drop(page.items.pop()),
            LosesTheCursor if !page.more => page.next = None,
            ListsByTime if after.is_some() => {
                let yesterday = self.clock.now().minus(86_400);
                page.items.retain(|raw| Envelope::verify(raw).is_ok_and(|envelope| envelope.created_at() > yesterday));
            }
            MixesMailboxes | ListsWhatHasExpired => page.items = self.remembered(),
            RewritesTags => {
                for raw in &mut page.items {
                    *raw = RawEnvelope::new(raw.id(), raw.json().replace("[\"x\"],", ""))?;
                }
            }
            _ => {}
        }
        Ok(page)
    }

    async fn audit(
        &self,
        owner: MailboxId,
        holder: &Locator,
        ids: &[EnvelopeId],
        options: AuditOptions,
    ) -> Result<Vec<Holding>> {
        let by_owner = options.auth.as_ref().is_some_and(|auth| MailboxId::from(auth.public()) == owner);
        let mut holdings = self.inner.audit(owner, holder, ids, options).await?;
        for holding in &mut holdings {
            match self.mutant {
                SaysHeldOfAll => holding.state = HoldingState::Held { until: None },
                SaysAbsentToAuthors if !by_owner => holding.state = HoldingState::Absent,
                _ => {}
            }
        }
        Ok(holdings)
    }

    async fn delete(&self, requests: &[DeleteRequest], options: DeleteOptions) -> Vec<Result<Deletion>> {
        if self.is(ConfirmsAllDeletions) {
            let holders = self.holders().into_iter().map(|holder| (holder, DeletionState::Confirmed)).collect();
            let deletion = Deletion { holders, ..Deletion::default() };
            return requests.iter().map(|_| Ok(deletion.clone())).collect();
        }
        self.inner.delete(requests, options).await
    }

    fn watch(&self, owner: MailboxId, mut options: WatchOptions) -> Option<BoxStream<'static, Result<WatchEvent>>> {
        if self.is(WatchIgnoresCursors) {
            options.after.clear();
        }
        if self.is(KeepsWatching) {
            let mut forgotten = self.inner.watch(owner, options.clone())?;
            tokio::spawn(async move { while forgotten.next().await.is_some() {} });
        }
        let events = self.inner.watch(owner, options)?;
        let mutant = self.mutant;
        let shown = move |event: &Result<WatchEvent>| {
            let shown = match event {
                Ok(WatchEvent::Envelope { .. }) => mutant != WatchesInSilence,
                Ok(WatchEvent::Live { .. }) => mutant != NeverGoesLive,
                _ => true,
            };
            future::ready(shown)
        };
        let events = events.filter(shown);
        if !self.is(MixesMailboxes) {
            return Some(events.boxed());
        }
        // What is there of others comes first.
        let shared = Arc::clone(&self.shared);
        let holder = self.holders().swap_remove(0);
        Some(
            events
                .flat_map(move |event| {
                    let others = match &event {
                        Ok(WatchEvent::Envelope { .. }) => shared.envelopes.lock().expect("no panic").clone(),
                        _ => vec![],
                    };
                    let holder = holder.clone();
                    let others = others.into_iter().map(move |envelope| {
                        let raw = RawEnvelope::from(&envelope);
                        Ok(WatchEvent::Envelope { holder: holder.clone(), raw, cursor: None })
                    });
                    stream::iter(others.chain([event]))
                })
                .boxed(),
        )
    }

    fn reconciler(&self, holder: &Locator) -> Option<Arc<dyn Reconcile>> {
        if self.is(ReconcilesToNothing) { Some(Arc::new(Nothing)) } else { self.inner.reconciler(holder) }
    }

    async fn close(&self) {
        if !self.is(StaysOpen) {
            self.inner.close().await;
        }
    }
}

#[derive(Debug)]
struct Nothing;

#[async_trait]
impl Reconcile for Nothing {
    async fn difference(
        &self,
        _owner: MailboxId,
        _ours: &[(Timestamp, EnvelopeId)],
        _options: ReconcileOptions,
    ) -> Result<Difference> {
        Ok(Difference::default())
    }
}

#[derive(Debug)]
struct WrongTransport {
    inner: Arc<dyn Transport>,
    mutant: Mutant,
    shared: Arc<Shared>,
}

#[async_trait]
impl Transport for WrongTransport {
    fn descriptor(&self) -> &Descriptor {
        self.inner.descriptor()
    }

    async fn publish(&self, record: &MailboxRecord, options: PublishOptions) -> Result<Receipt> {
        self.shared.records.lock().expect("no panic").push(record.clone());
        self.inner.publish(record, options).await
    }

    fn resolve(&self, target: &Target, options: ResolveOptions) -> BoxStream<'static, Result<ResolveEvent>> {
        match self.mutant {
            ForgetsRecords => stream::empty().boxed(),
            ResolvesForEver => stream::pending().boxed(),
            ResolvesTheOldest => {
                let oldest = self.shared.records.lock().expect("no panic").first().cloned();
                let source: Locator = "memory:a".parse().expect("a locator");
                let raw =
                    oldest.map(|record| Ok(ResolveEvent::Record(RawRecord { json: record.event().to_json(), source })));
                stream::iter(raw).boxed()
            }
            _ => self.inner.resolve(target, options),
        }
    }

    async fn notify(&self, hint: &Hint, options: NotifyOptions) -> Result<()> {
        if self.mutant == SwallowsHints { Ok(()) } else { self.inner.notify(hint, options).await }
    }

    fn subscribe(&self, owner: MailboxId, options: SubscribeOptions) -> BoxStream<'static, Result<Hint>> {
        self.inner.subscribe(owner, options)
    }

    async fn close(&self) {
        if self.mutant != StaysOpen {
            self.inner.close().await;
        }
    }
}
