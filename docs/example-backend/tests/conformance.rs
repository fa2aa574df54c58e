//! The conformance kit, and what only a folder has.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use talkbox_core::{
    Backend, BackendConfig, Clock, ErrorKind, Locator, ManualClock, OpenContext, Registry, Result, SystemClock,
    async_trait,
    testkit::{Harness, Role},
};

talkbox_core::conformance!(FolderHarness::new());

/// A folder of its own for each test, and a clock that can be moved.
#[derive(Debug)]
struct FolderHarness {
    folder: PathBuf,
    clock: ManualClock,
}

impl FolderHarness {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("folder-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        Self { folder, clock: ManualClock::new(SystemClock.now()) }
    }
}

impl Drop for FolderHarness {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[async_trait]
impl Harness for FolderHarness {
    async fn open(&self, role: Role) -> Result<Backend> {
        let registry = Registry::new().with(talkbox_backend_folder::backend());
        let folder = self.folder.to_str().expect("a path without odd characters");
        let table = [("folder".to_owned(), folder.into())].into_iter().collect();
        let mut context = OpenContext::new(role.as_str());
        context.clock = self.clock();
        (registry.get("folder")?.open)(BackendConfig::new(table), context).await
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clock.clone())
    }

    fn advance(&self, by: Duration) -> bool {
        self.clock.advance(by);
        true
    }

    /// A folder has no program that runs: it is always as it is after a restart.
    async fn restart(&self) -> Result<bool> {
        Ok(true)
    }

    fn dead_holder(&self) -> Option<Locator> {
        Locator::new("folder", "/nobody/is/here").ok()
    }
}

#[test]
fn without_a_folder_it_does_not_open() {
    let open = (talkbox_backend_folder::backend().open)(BackendConfig::default(), OpenContext::new("folder"));
    // It never waits, so one look is enough.
    let waker = std::task::Waker::noop();
    let std::task::Poll::Ready(opened) = std::pin::pin!(open).poll(&mut std::task::Context::from_waker(waker)) else {
        panic!("opening waits");
    };
    assert_eq!(opened.expect_err("no folder").kind(), ErrorKind::ConfigInvalid);
}
