//! Two things measured in turn (A B, B A, A B, …): what disturbs the machine for longer than one of them disturbs both,
//! and the median of the ratios of the pairs is left.

use std::time::Duration;

use crate::clocks::{Clock, Spent};

/// What was measured, pair by pair.
#[derive(Clone, Debug)]
pub struct Pairs {
    ours: Vec<Spent>,
    theirs: Vec<Spent>,
}

impl Pairs {
    /// Measures so many pairs, after one that only warms up.
    pub fn measure(pairs: usize, mut ours: impl FnMut() -> Spent, mut theirs: impl FnMut() -> Spent) -> Self {
        let (_, _) = (ours(), theirs());
        let mut measured = Self { ours: Vec::with_capacity(pairs), theirs: Vec::with_capacity(pairs) };
        for pair in 0..pairs {
            // Whoever comes second finds the caches as the first has left them: so each is first in turn.
            if pair % 2 == 0 {
                measured.ours.push(ours());
                measured.theirs.push(theirs());
            } else {
                measured.theirs.push(theirs());
                measured.ours.push(ours());
            }
        }
        measured
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ours.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ours.is_empty()
    }

    /// The median of ours.
    pub fn ours(&self, clock: Clock) -> Duration {
        median(self.ours.iter().map(|spent| spent.by(clock)).collect())
    }

    /// The median of theirs.
    pub fn theirs(&self, clock: Clock) -> Duration {
        median(self.theirs.iter().map(|spent| spent.by(clock)).collect())
    }

    /// How many times as much as theirs ours takes: the median over the pairs.
    pub fn cost(&self, clock: Clock) -> f64 {
        let pairs = self.ours.iter().zip(&self.theirs);
        let mut ratios: Vec<f64> =
            pairs.map(|(ours, theirs)| ours.by(clock).as_secs_f64() / theirs.by(clock).as_secs_f64()).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// How many times faster ours is.
    pub fn gain(&self, clock: Clock) -> f64 {
        1.0 / self.cost(clock)
    }
}

/// The middle one.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlier_moves_no_ratio_and_the_first_pair_is_not_counted() {
        let took = |wall| Spent { wall: Duration::from_micros(wall), cpu: Duration::from_micros(wall * 2) };
        let (mut ours, mut theirs) = ([9_000, 30, 31, 29, 9_000, 30].into_iter(), [1, 10, 10, 10, 10, 10].into_iter());
        let pairs = Pairs::measure(
            5,
            || took(ours.next().expect("one for each pair")),
            || took(theirs.next().expect("one for each pair")),
        );
        assert_eq!(
            (pairs.len(), pairs.ours(Clock::Wall), pairs.theirs(Clock::Cpu)),
            (5, Duration::from_micros(30), Duration::from_micros(20))
        );
        assert!((pairs.cost(Clock::Wall) - 3.0).abs() < 1e-9 && (pairs.gain(Clock::Cpu) - 1.0 / 3.0).abs() < 1e-9);
    }
}
