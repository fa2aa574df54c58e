//! Holders that are slow and answer in no order are still right.

use std::{sync::Arc, time::Duration};

use talkbox_core::{
    Backend, Clock, Result, async_trait,
    testkit::{CaseResult, Fault, Faults as _, Harness, MemoryHarness, Role, run},
};

#[derive(Debug)]
struct Chaos(MemoryHarness);

#[async_trait]
impl Harness for Chaos {
    async fn open(&self, role: Role) -> Result<Backend> {
        for holder in self.0.network().holders() {
            let mut fault = Fault::delays(Duration::from_millis(2));
            fault.reorder = true;
            self.0.holders().set(holder, fault);
        }
        self.0.open(role).await
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.0.clock()
    }

    async fn restart(&self) -> Result<bool> {
        self.0.restart().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_holders_without_order_pass() {
    let reports = run(&Chaos(MemoryHarness::new())).await;
    let failed: Vec<_> = reports.iter().filter(|report| report.result == CaseResult::Failed).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}
