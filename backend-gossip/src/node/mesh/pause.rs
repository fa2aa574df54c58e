//! How long a peer is left alone with which something went wrong.

use std::time::Duration;

/// The first pause: a node that starts again is back after it.
const FIRST: Duration = Duration::from_millis(500);
/// The last, and all that follow.
const LAST: Duration = Duration::from_secs(60);

/// Pauses that double, and vary by a quarter, so that a node that comes back is not met by all others at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pauses {
    failures: u32,
}

impl Pauses {
    /// Something went wrong. How long to wait; the dice decide about the quarter.
    pub(super) fn fail(&mut self, dice: u8) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failures.min(10)).min(LAST);
        self.failures = self.failures.saturating_add(1);
        doubled.mul_f64(0.75 + f64::from(dice) / 1_020.0)
    }

    /// All is well again.
    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_double_up_to_a_minute_and_vary_by_a_quarter() {
        let mut pauses = Pauses::default();
        let taken: Vec<_> = (0..9).map(|_| pauses.fail(255).as_millis()).collect();
        assert_eq!(taken, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        pauses.reset();
        assert_eq!(pauses.fail(0), Duration::from_millis(375));
    }
}
