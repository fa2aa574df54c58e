//! The threads that verify: one per core, since a signature is 50 µs of nothing but arithmetic.

use std::{
    collections::VecDeque,
    fmt,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

use talkbox_core::{Error, ErrorKind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Jobs that wait or run. At full load 30 to 60 ms of work, so that a client that publishes much delays another's
/// answer by no more than that.
const JOBS: usize = 1_024;

/// A bounded pool of threads for arithmetic.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    free: Arc<Semaphore>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(Box<dyn FnOnce() + Send>, OwnedSemaphorePermit)>,
    stopped: bool,
}

impl Pool {
    /// Starts the threads.
    ///
    /// # Errors
    /// `Unexpected` where the system gives no thread.
    pub(crate) fn start() -> Result<Self> {
        let shared = Arc::new(Shared::default());
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("node-verify".to_owned())
                .spawn(move || shared.work())
                .map_err(|error| Error::new(ErrorKind::Unexpected, "no thread to verify on").source(error))?;
        }
        Ok(Self { shared, free: Arc::new(Semaphore::new(JOBS)) })
    }

    /// Queues a job; waits where too many are queued. A job is dropped unrun only where the node stops.
    pub(crate) async fn run(&self, job: impl FnOnce() + Send + 'static) {
        let Ok(permit) = Arc::clone(&self.free).acquire_owned().await else { return };
        let mut queue = self.shared.lock();
        if !queue.stopped {
            queue.jobs.push_back((Box::new(job), permit));
            drop(queue);
            self.shared.filled.notify_one();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.filled.notify_all();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("free", &self.free.available_permits()).finish_non_exhaustive()
    }
}

impl Shared {
    fn work(&self) {
        while let Some((job, permit)) = self.next() {
            // A bug in one job must not take the thread away from all others.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a job panicked");
            }
            drop(permit);
        }
    }

    fn next(&self) -> Option<(Box<dyn FnOnce() + Send>, OwnedSemaphorePermit)> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.stopped {
                return None;
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
