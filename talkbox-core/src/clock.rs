//! Time, as a value that is handed in: nothing in core asks the operating system what time it is by itself.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Seconds since 1970-01-01T00:00:00Z, the unit of every time on the wire and in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The seconds.
    pub const fn secs(self) -> u64 {
        self.0
    }

    /// This time and so many seconds; stays at the end of time rather than wrap.
    #[must_use]
    pub const fn plus(self, secs: u64) -> Self {
        Self(self.0.saturating_add(secs))
    }

    /// This time less so many seconds; stays at zero rather than wrap.
    #[must_use]
    pub const fn minus(self, secs: u64) -> Self {
        Self(self.0.saturating_sub(secs))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where the time comes from. Everything that depends on the time is given one, so that a test can set it.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time now, in milliseconds since 1970-01-01T00:00:00Z. Only the order of messages needs it so fine.
    fn millis(&self) -> u64;

    /// The time now.
    fn now(&self) -> Timestamp {
        Timestamp(self.millis() / 1000)
    }
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that may ask the operating system")]
    fn millis(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A clock that stands still until it is moved: for tests and simulations.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that shows this time.
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(AtomicU64::new(in_millis(now))))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Sets the clock.
    pub fn set(&self, now: Timestamp) {
        self.0.store(in_millis(now), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn millis(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

fn in_millis(time: Timestamp) -> u64 {
    time.0.saturating_mul(1000)
}
