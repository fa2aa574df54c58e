//! How to try again: so often, so long, and not all at the same moment.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::metrics::{Metrics, Operation};
use crate::{Error, ErrorKind, Result, Retry, random};

/// How to try again. Every operation is idempotent by id, so that trying again is always safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many tries in all, the first one counted; 1 never tries again.
    pub attempts: u32,
    /// The pause before the second try; it doubles from one to the next.
    pub pause: Duration,
    /// The longest pause, unless a holder asks for a longer one.
    pub longest_pause: Duration,
    /// How long all tries and pauses take together. A try that is under way when it runs out is given up.
    pub budget: Duration,
}

impl Default for RetryPolicy {
    /// Four tries in a minute. What takes longer is the outbox's to try again, which survives the process.
    fn default() -> Self {
        Self {
            attempts: 4,
            pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(5),
            budget: Duration::from_secs(60),
        }
    }
}

/// The tries of one call.
#[derive(Debug)]
pub(super) struct Tries<'a> {
    policy: RetryPolicy,
    made: u32,
    deadline: Instant,
    metrics: &'a Metrics,
    operation: Operation,
}

impl<'a> Tries<'a> {
    pub(super) fn new(policy: RetryPolicy, metrics: &'a Metrics, operation: Operation) -> Self {
        Self { policy, made: 0, deadline: Instant::now() + policy.budget, metrics, operation }
    }

    /// One try, which ends with the budget at the latest.
    pub(super) async fn attempt<T>(&mut self, call: impl Future<Output = T>) -> Option<T> {
        self.made += 1;
        timeout_at(self.deadline, call).await.ok()
    }

    /// Waits until the next try; `false` where there is none. Waits at least for as long as a holder asked.
    pub(super) async fn again(&mut self, asked: Option<Duration>) -> bool {
        // What is asked for comes from a network: it may be any number, also one that no clock can add up.
        if self.made >= self.policy.attempts || asked.is_some_and(|asked| asked >= self.policy.budget) {
            return false;
        }
        let doubled = self.policy.pause.saturating_mul(1 << (self.made.saturating_sub(1)).min(16));
        let pause = doubled.min(self.policy.longest_pause);
        // Between half of it and all of it, so that clients that failed together do not come back together. What a
        // holder asked for is a least, and up to a tenth more is spread over it.
        let pause = match asked {
            Some(asked) => asked.saturating_add(asked.mul_f64(random_part() / 10.0)).max(pause / 2),
            None => pause.mul_f64(0.5 + random_part() / 2.0),
        };
        let at = Instant::now() + pause;
        if at >= self.deadline {
            return false;
        }
        self.metrics.retried(self.operation);
        sleep_until(at).await;
        true
    }

    /// The error that comes out when there is no further try: an outer layer does not multiply the tries. What a
    /// holder asked for stays in the context, for whoever tries again much later.
    pub(super) fn exhausted(&self, error: Error) -> Error {
        let asked = asked(&error);
        let error = error.retry(Retry::Exhausted).with("tries", self.made);
        match asked {
            Some(asked) => error.with("retry_after", format_args!("{} s", asked.as_secs())),
            None => error,
        }
    }

    /// The error of a try that the budget cut off.
    pub(super) fn cut_off(&self) -> Error {
        Error::new(ErrorKind::Timeout, "no answer within the time for all tries").op(self.operation.as_str())
    }
}

/// How long a holder asked to wait.
pub(super) fn asked(error: &Error) -> Option<Duration> {
    match error.retry_advice() {
        Retry::After(asked) => asked,
        Retry::No | Retry::Exhausted => None,
    }
}

/// Tries a call that gives one answer.
pub(super) async fn retry<T, F: Future<Output = Result<T>>>(
    policy: RetryPolicy,
    metrics: &Metrics,
    operation: Operation,
    mut call: impl FnMut() -> F,
) -> Result<T> {
    let mut tries = Tries::new(policy, metrics, operation);
    loop {
        let Some(answer) = tries.attempt(call()).await else { return Err(tries.exhausted(tries.cut_off())) };
        match answer {
            Err(error) if error.is_retryable() => {
                if !tries.again(asked(&error)).await {
                    return Err(tries.exhausted(error));
                }
            }
            answer => return answer,
        }
    }
}

/// So long, and up to this part of it more or less: so that those who wait for the same do not come together.
pub(crate) fn jittered(time: Duration, part: f64) -> Duration {
    time.mul_f64(1.0 - part + 2.0 * part * random_part())
}

/// From 0 to 1. It decides a pause and no key; without randomness the pause is the middle one.
fn random_part() -> f64 {
    random::bytes::<4>().map_or(0.5, |bytes| f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX))
}
