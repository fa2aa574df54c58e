//! The in-memory backend passes the conformance kit: it is the reference. And the kit itself is right: it finds what is
//! wrong with a backend that is wrong, and its faults are what they say.

mod chaos;
mod faults;
mod mutants;

use talkbox_core::testkit::{CaseResult, LiveHarness, MemoryHarness, run};
use talkbox_core::{SystemClock, memory::MemoryNetwork};

talkbox_core::conformance!(MemoryHarness::new());

/// The list runs as a whole as well, on a network that it can do nothing to: what then cannot be asked is skipped, and
/// says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_in_use_can_be_checked() {
    let network = MemoryNetwork::of(&["a", "b"], std::sync::Arc::new(SystemClock)).expect("a network");
    let harness = LiveHarness::new(move |role| {
        let backend = network.open(role.as_str());
        Box::pin(async move { Ok(backend) })
    });
    let reports = run(&harness).await;
    assert!(reports.iter().all(|report| report.result != CaseResult::Failed), "{reports:#?}");
    let skipped: Vec<_> = reports.iter().filter(|report| report.result == CaseResult::Skipped).collect();
    assert!(skipped.iter().all(|report| report.detail.starts_with("needs ")), "{skipped:#?}");
    let names: Vec<_> = skipped.iter().map(|report| report.name).collect();
    assert_eq!(
        names,
        [
            "what_expires_disappears",
            "a_watch_ends_when_it_is_dropped",
            "a_watch_comes_back_after_a_restart",
            "what_is_durable_survives_a_restart",
            "a_dead_holder_costs_only_itself",
            "a_hanging_holder_costs_only_itself",
            "a_refusal_is_told_in_the_holders_words",
            "lies_do_not_pass",
            "forged_records_do_not_pass",
        ]
    );
}
