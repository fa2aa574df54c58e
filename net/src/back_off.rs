//! How long to leave somebody alone who was lost: a relay, a node.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use talkbox_core::{Error, error::Retry};

/// The first pause.
const FIRST: Duration = Duration::from_secs(1);
/// The last, and all that follow.
const LAST: Duration = Duration::from_secs(60);

/// Pauses that double, and vary by a quarter, so that whoever comes back is not met by all clients in one moment.
///
/// ```
/// use talkbox_net::BackOff;
///
/// let mut back_off = BackOff::new(None);
/// assert!(!back_off.is_on());
/// back_off.fail();
/// assert!(back_off.pause() >= std::time::Duration::from_millis(750));
/// back_off.reset();
/// assert!(!back_off.is_on());
/// ```
#[derive(Debug)]
pub struct BackOff {
    first: Duration,
    failures: u32,
    /// How long the last failure is known not to pass.
    least: Duration,
}

impl BackOff {
    /// Nothing has failed yet. `first` is the first pause, a second where it is not given; the longest is a minute.
    #[must_use]
    pub fn new(first: Option<Duration>) -> Self {
        Self { first: first.unwrap_or(FIRST).min(LAST), failures: 0, least: Duration::ZERO }
    }

    /// Something failed.
    pub const fn fail(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.least = Duration::ZERO;
    }

    /// This failed. Where it says how long it will not pass, the next pause is no shorter, up to a minute.
    pub fn fail_with(&mut self, error: &Error) {
        self.fail();
        if let Retry::After(Some(least)) = error.retry_advice() {
            self.least = least;
        }
    }

    /// All is well again.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Whether something failed, and nothing went well since.
    pub const fn is_on(&self) -> bool {
        self.failures > 0
    }

    /// Waits, if something failed.
    pub async fn wait(&self) {
        if self.is_on() {
            tokio::time::sleep(self.pause()).await;
        }
    }

    /// How long to leave it alone now.
    pub fn pause(&self) -> Duration {
        // Not a secret: the seed of the standard hash maps is random enough.
        self.pause_at((RandomState::new().hash_one(self.failures) % 1024) as f64 / 1024.0)
    }

    fn pause_at(&self, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.failures.saturating_sub(1).min(16)).min(LAST);
        doubled.max(self.least.min(LAST)).mul_f64(0.75 + random / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use talkbox_core::ErrorKind;

    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let mut back_off = BackOff::new(None);
        let pauses: Vec<_> = std::iter::repeat_with(|| {
            back_off.fail();
            back_off.pause_at(0.5).as_secs()
        })
        .take(8)
        .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!((back_off.pause_at(0.0).as_secs(), back_off.pause_at(1.0).as_secs()), (45, 75));
        back_off.reset();
        assert!(!back_off.is_on());
    }

    #[test]
    fn what_does_not_pass_soon_is_left_alone_at_once() {
        let mut back_off = BackOff::new(None);
        let pause = Retry::After(Some(Duration::from_secs(30)));
        back_off.fail_with(&Error::new(ErrorKind::Unreachable, "a wrong certificate").retry(pause));
        assert_eq!(back_off.pause_at(0.5).as_secs(), 30);
        back_off.fail_with(&Error::new(ErrorKind::Unreachable, "nobody there"));
        assert_eq!(back_off.pause_at(0.5).as_secs(), 2);
    }
}
