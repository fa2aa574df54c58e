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

use crate::node::context::Work;

/// A pool of threads for arithmetic. Its queue has no bound of its own: each job belongs to something that has.
pub(crate) struct Pool {
    shared: Option<Arc<Shared>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Box<dyn FnOnce() + Send>>,
    stopped: bool,
}

impl Pool {
    /// Starts the threads, if there are to be any.
    ///
    /// # Errors
    /// `Unexpected` where the system gives no thread.
    pub(crate) fn start(work: Work) -> Result<Self> {
        if work == Work::Inline {
            return Ok(Self { shared: None });
        }
        let shared = Arc::new(Shared::default());
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("node-verify".to_owned())
                .spawn(move || shared.work())
                .map_err(|error| Error::new(ErrorKind::Unexpected, "no thread to verify on").source(error))?;
        }
        Ok(Self { shared: Some(shared) })
    }

    /// Runs a job soon, or now where there are no threads. It is dropped unrun only where the node stops.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let Some(shared) = &self.shared else { return job() };
        let mut queue = shared.lock();
        if !queue.stopped {
            queue.jobs.push_back(Box::new(job));
            drop(queue);
            shared.filled.notify_one();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.lock().stopped = true;
            shared.filled.notify_all();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Shared {
    fn work(&self) {
        while let Some(job) = self.next() {
            // A bug in one job must not take the thread away from all others.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a job panicked");
            }
        }
    }

    fn next(&self) -> Option<Box<dyn FnOnce() + Send>> {
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
