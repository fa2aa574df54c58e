//! When something is done: how long a log has to be quiet, and how long to wait for a service.

use std::time::Duration;

use talkbox_core::{Error, Retry, Timestamp};

/// All pauses, so that a test can choose them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// A log that has not grown for so long gets a new root. Mail comes in bursts, and each root is a request.
    pub(crate) quiet: Duration,
    /// One that goes on growing gets a new root all the same after so long: until then its mail is only pending.
    pub(crate) longest: Duration,
    /// And one that has grown by so many entries: what a service fetches within a few seconds.
    pub(crate) entries: u64,
    /// The first and the longest pause before a service is asked how far it is.
    pub(crate) poll: (Duration, Duration),
    /// The first and the longest pause before something that failed is tried again.
    pub(crate) retry: (Duration, Duration),
    /// How often a pin is looked at that was pinned: services forget, and plans run out.
    pub(crate) recheck: Duration,
    /// A pin that is under way is left alone, or one that is always replaced would never be done; but only for so long,
    /// since some services never end what they began.
    pub(crate) patience: Duration,
    /// The shortest time between two rounds, and the longest.
    pub(crate) round: (Duration, Duration),
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            quiet: Duration::from_secs(10),
            longest: Duration::from_secs(300),
            entries: 1000,
            poll: (Duration::from_secs(2), Duration::from_secs(300)),
            retry: (Duration::from_secs(60), Duration::from_secs(3600)),
            recheck: Duration::from_secs(12 * 3600),
            patience: Duration::from_secs(3600),
            round: (Duration::from_secs(1), Duration::from_secs(60)),
        }
    }
}

impl Pace {
    /// When to ask next how far a request is that was made then: soon at first, and later ever less often.
    pub(crate) fn next_poll(&self, asked: Timestamp, now: Timestamp) -> Timestamp {
        let (first, last) = self.poll;
        let quarter = Duration::from_secs(now.minus(asked.secs()).secs() / 4);
        now.plus(quarter.clamp(first, last).as_secs())
    }

    /// When to try again what has failed so many times: pauses double.
    pub(crate) fn next_try(&self, attempts: u32, now: Timestamp) -> Timestamp {
        let (first, last) = self.retry;
        let doubled = first.saturating_mul(1 << attempts.saturating_sub(1).min(16));
        now.plus(doubled.min(last).as_secs())
    }

    /// When to ask a service again that failed so many times, of which the last time like this.
    pub(crate) fn next_visit(&self, failures: u32, error: &Error, now: Timestamp) -> Timestamp {
        let own = self.next_try(failures, now);
        match error.retry_advice() {
            Retry::After(Some(least)) => own.max(now.plus(least.as_secs())),
            Retry::After(None) => own,
            // A wrong token does not become right by itself, but its file is read anew.
            Retry::No | Retry::Exhausted => now.plus(self.retry.1.as_secs()),
        }
    }
}

/// How a log has grown since its last root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Growth {
    entries: u64,
    since: Timestamp,
    changed: Timestamp,
}

impl Growth {
    /// It is seen to have grown.
    pub(crate) const fn new(entries: u64, now: Timestamp) -> Self {
        Self { entries, since: now, changed: now }
    }

    /// It is looked at again.
    pub(crate) const fn see(&mut self, entries: u64, now: Timestamp) {
        if entries != self.entries {
            self.entries = entries;
            self.changed = now;
        }
    }

    /// When it gets a new root, being so many entries ahead of the last one.
    pub(crate) fn settles_at(&self, pace: &Pace, ahead: u64) -> Timestamp {
        if ahead >= pace.entries {
            return self.since;
        }
        self.changed.plus(pace.quiet.as_secs()).min(self.since.plus(pace.longest.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use talkbox_core::ErrorKind;

    use super::*;

    #[test]
    fn a_log_settles_when_it_is_quiet_or_has_waited_or_is_far_ahead() {
        let pace = Pace::default();
        let mut growth = Growth::new(1, Timestamp(1000));
        assert_eq!(growth.settles_at(&pace, 1), Timestamp(1010));
        growth.see(1, Timestamp(1009));
        assert_eq!(growth.settles_at(&pace, 1), Timestamp(1010));
        for (entries, now) in (2..100).zip(1009..) {
            growth.see(entries, Timestamp(now));
            assert_eq!(growth.settles_at(&pace, 1), Timestamp((now + 10).min(1300)));
        }
        growth.see(200, Timestamp(1299));
        assert_eq!(growth.settles_at(&pace, 1), Timestamp(1300));
        assert_eq!(growth.settles_at(&pace, 1000), Timestamp(1000));
    }

    #[test]
    fn a_service_is_asked_ever_less_often() {
        let pace = Pace::default();
        let mut now = Timestamp(1000);
        let mut pauses = Vec::new();
        for _ in 0..40 {
            let next = pace.next_poll(Timestamp(1000), now);
            pauses.push(next.minus(now.secs()).secs());
            now = next;
        }
        assert_eq!((pauses.first(), pauses.last()), (Some(&2), Some(&300)));
        assert!(pauses.is_sorted() && now < Timestamp(1000 + 4 * 3600));
    }

    #[test]
    fn failures_are_left_alone_for_longer_and_longer_up_to_an_hour() {
        let pace = Pace::default();
        let pauses: Vec<_> = (1..9).map(|attempts| pace.next_try(attempts, Timestamp(0)).secs()).collect();
        assert_eq!(pauses, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(pace.next_try(u32::MAX, Timestamp(0)).secs(), 3600);
        let visit = |kind, retry: Option<u64>| {
            let error = Error::new(kind, "");
            let error = match retry {
                Some(secs) => error.retry(Retry::After(Some(Duration::from_secs(secs)))),
                None => error,
            };
            pace.next_visit(1, &error, Timestamp(0)).secs()
        };
        assert_eq!(visit(ErrorKind::Unreachable, None), 60);
        assert_eq!(visit(ErrorKind::RateLimited, Some(5)), 60);
        assert_eq!(visit(ErrorKind::RateLimited, Some(500)), 500);
        assert_eq!(visit(ErrorKind::Denied, None), 3600);
    }
}
