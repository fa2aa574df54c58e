//! Running the cases: each as a test of its own, or all of them against a backend that is in use.

use std::{
    any::Any,
    fmt,
    future::Future,
    io::Write as _,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{Harness, Outcome, Verdict};

/// How long one case may take: several of them wait up to ten seconds for a network.
const CASE_LIMIT: Duration = Duration::from_secs(120);

/// Hands the names of all cases to a macro, as `callback! { [arguments] name name … }`. Each case is named here and
/// nowhere else.
#[doc(hidden)]
#[macro_export]
macro_rules! __for_each_case {
    ([$($callback:tt)*] $($arguments:tt)*) => {
        $($callback)*! {
            [$($arguments)*]
            describes_itself
            put_then_list
            put_twice_is_stored_once
            many_are_answered_in_order
            the_same_bytes_come_back
            the_stated_limit_is_honest
            what_has_expired_is_not_listed
            what_expires_disappears
            only_named_holders_get_it
            many_tasks_at_once
            an_unknown_mailbox_is_an_empty_page
            mailboxes_are_kept_apart
            pages_lose_nothing
            pages_lose_nothing_while_more_arrives
            a_listing_goes_on_from_its_cursor
            a_cursor_survives_reopening
            a_late_arrival_with_an_old_date_is_found
            listing_by_id_gives_what_was_asked_for
            a_stranger_is_denied_or_served
            an_audit_says_what_is_held
            an_author_may_audit
            an_owner_deletes
            an_author_deletes
            what_was_deleted_stays_away
            a_stranger_deletes_nothing
            a_watch_sees_what_arrives
            a_watch_goes_on_from_a_cursor
            a_watch_and_a_listing_leave_no_gap
            a_watch_shows_one_mailbox_alone
            a_watch_ends_when_it_is_dropped
            a_watch_comes_back_after_a_restart
            reconciling_finds_both_differences
            reconciling_equal_sets_finds_nothing
            a_record_is_found_by_mailbox
            a_record_is_found_by_code
            a_newer_record_wins
            an_impostor_does_not_win
            an_unknown_target_is_an_empty_answer
            a_hint_wakes_or_is_not_needed
            the_sender_goes_away_and_the_owner_reads
            what_is_durable_survives_a_restart
            closed_is_closed
            closing_ends_a_watch
            a_dead_holder_costs_only_itself
            a_hanging_holder_costs_only_itself
            a_refusal_is_told_in_the_holders_words
            lies_do_not_pass
            forged_records_do_not_pass
        }
    };
}

/// Makes every case of the kit a test, against the harness that the expression makes. Each test makes its own.
///
/// The expression may `.await`; it runs on a tokio runtime that the kit provides. See [`testkit`](crate::testkit).
#[macro_export]
macro_rules! conformance {
    ($harness:expr) => {
        $crate::__for_each_case! { [$crate::__conformance_tests] $harness }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ([$harness:expr] $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::testkit::run_as_test(stringify!($case), async {
                    let harness = $harness;
                    $crate::testkit::cases::$case(&harness).await
                });
            }
        )*
    };
}

macro_rules! list {
    ([] $($case:ident)*) => {
        &[$(Case { name: stringify!($case), run: |harness| Box::pin(super::cases::$case(harness)) }),*]
    };
}

static CASES: &[Case] = crate::__for_each_case! { [list] };

/// One case of the kit.
pub struct Case {
    /// Its name, which says what is right.
    pub name: &'static str,
    run: for<'a> fn(&'a dyn Harness) -> BoxFuture<'a, Outcome>,
}

impl Case {
    /// Runs it. A panic and a hang are failures of the case, and of no other.
    pub async fn check(&self, harness: &dyn Harness) -> CaseReport {
        let start = Instant::now();
        let run = AssertUnwindSafe((self.run)(harness)).catch_unwind();
        let (result, detail) = match tokio::time::timeout(CASE_LIMIT, run).await {
            Ok(Ok(Ok(Verdict::Pass))) => (CaseResult::Passed, String::new()),
            Ok(Ok(Ok(Verdict::Skip { capability }))) => (CaseResult::Skipped, format!("needs {capability}")),
            Ok(Ok(Err(failure))) => (CaseResult::Failed, failure.to_string()),
            Ok(Err(panic)) => (CaseResult::Failed, format!("panicked: {}", words(&*panic))),
            Err(_) => (CaseResult::Failed, format!("did not end within {} s", CASE_LIMIT.as_secs())),
        };
        if let Some(faults) = harness.faults() {
            faults.clear();
        }
        CaseReport { name: self.name, result, detail, took: start.elapsed() }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Case({})", self.name)
    }
}

/// How one case went.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CaseReport {
    /// Which case.
    pub name: &'static str,
    /// How it ended.
    pub result: CaseResult,
    /// Why it failed, or what it needs that is not there.
    pub detail: String,
    /// How long it took.
    pub took: Duration,
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseResult {
    /// Right.
    Passed,
    /// Could not be asked.
    Skipped,
    /// Wrong.
    Failed,
}

/// All cases, in the order of the list.
pub fn case_list() -> &'static [Case] {
    CASES
}

/// Runs all cases against one harness, one after the other.
pub async fn run(harness: &dyn Harness) -> Vec<CaseReport> {
    let mut reports = Vec::with_capacity(CASES.len());
    for case in CASES {
        reports.push(case.check(harness).await);
    }
    reports
}

/// Runs one case as a test: what [`conformance!`](crate::conformance) expands to.
///
/// # Panics
/// Where the case fails.
pub fn run_as_test(name: &str, case: impl Future<Output = Outcome>) {
    // Two threads, so that what only works as long as nothing runs beside it is found out.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("the operating system gives a thread");
    match runtime.block_on(async { tokio::time::timeout(CASE_LIMIT, case).await }) {
        Ok(Ok(Verdict::Pass)) => {}
        Ok(Ok(Verdict::Skip { capability })) => {
            // Not by `println`: that is shown only for tests that fail, and what was skipped should be seen.
            let _ = writeln!(std::io::stderr(), "skipped: {name} needs {capability}");
        }
        Ok(Err(failure)) => panic!("{name}: {failure}"),
        Err(_) => panic!("{name}: did not end within {} s", CASE_LIMIT.as_secs()),
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words")
}
