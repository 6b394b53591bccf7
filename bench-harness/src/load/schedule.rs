//! When an open loop's requests are intended.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// How arrivals are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// Evenly.
    Uniform,
    /// As independent users would: exponential gaps.
    Poisson,
}

/// A sequence of intended times. Times are kept as fractions, so that no rate drifts.
#[derive(Clone, Debug)]
pub struct Schedule {
    origin_ns: f64,
    gap_ns: f64,
    arrivals: Arrivals,
    count: u64,
    at_ns: f64,
    rng: Xoshiro256PlusPlus,
}

impl Schedule {
    /// `rate` requests a second from `origin_ns` on.
    #[must_use]
    pub fn new(origin_ns: u64, rate: f64, arrivals: Arrivals, seed: u64) -> Self {
        let mut schedule = Schedule {
            origin_ns: origin_ns as f64,
            gap_ns: 1e9 / rate,
            arrivals,
            count: 0,
            at_ns: origin_ns as f64,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed ^ 0xa771_7a15),
        };
        if arrivals == Arrivals::Poisson {
            schedule.advance();
        }
        schedule
    }

    /// When the next request is intended.
    #[inline]
    #[must_use]
    pub fn next_ns(&self) -> u64 {
        self.at_ns as u64
    }

    /// How many are intended before `end_ns` from the next on: exactly when they are spaced evenly,
    /// the mean of what the dice would give when they are not.
    #[must_use]
    pub fn count_until(&self, end_ns: u64) -> u64 {
        match self.arrivals {
            Arrivals::Uniform => {
                (((end_ns as f64 - self.origin_ns) / self.gap_ns).ceil() as u64).saturating_sub(self.count)
            }
            Arrivals::Poisson => ((end_ns as f64 - self.at_ns) / self.gap_ns).ceil() as u64,
        }
    }

    /// Goes on to the first that is intended at `from_ns` or later, without looking at those before.
    pub fn skip_until(&mut self, from_ns: u64) {
        if self.next_ns() >= from_ns {
            return;
        }
        match self.arrivals {
            Arrivals::Uniform => {
                self.count = self.count.max(((from_ns as f64 - self.origin_ns) / self.gap_ns).ceil() as u64);
                self.at_ns = self.origin_ns + self.count as f64 * self.gap_ns;
            }
            // Exponential gaps have no memory: from any moment on the next is as far as from any other.
            Arrivals::Poisson => {
                self.at_ns = from_ns as f64;
                self.advance();
            }
        }
    }

    /// Goes on to the one after.
    #[inline]
    pub fn advance(&mut self) {
        self.count += 1;
        self.at_ns = match self.arrivals {
            Arrivals::Uniform => self.origin_ns + self.count as f64 * self.gap_ns,
            // 1 - u is in (0, 1], whose logarithm is finite.
            Arrivals::Poisson => self.at_ns - (1.0 - self.rng.random::<f64>()).ln() * self.gap_ns,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(arrivals: Arrivals, rate: f64, count: usize) -> Vec<u64> {
        let mut schedule = Schedule::new(1000, rate, arrivals, 3);
        (0..count)
            .map(|_| {
                let at = schedule.next_ns();
                schedule.advance();
                at
            })
            .collect()
    }

    #[test]
    fn uniform_arrivals_do_not_drift() {
        let times = times(Arrivals::Uniform, 3e5, 3_000_001);
        assert_eq!(times[0], 1000);
        assert!(times[3_000_000].abs_diff(10_000_001_000) <= 2, "{}", times[3_000_000]);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread() {
        let times = times(Arrivals::Poisson, 1e5, 1_000_000);
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1e4).abs() < 50.0, "{mean}");
        // Of exponential gaps a share of 1/e is longer than the mean, and e^-3 than three times it.
        for times in [1.0f64, 3.0] {
            let longer = gaps.iter().filter(|gap| **gap > times * mean).count() as f64 / gaps.len() as f64;
            assert!((longer - (-times).exp()).abs() < 0.005, "{longer}");
        }
    }

    #[test]
    fn counting_and_skipping_agree_with_going_one_by_one() {
        for rate in [3e5, 7.0, 1e9] {
            let (from, end) = (1000 + (2e9 / rate) as u64 + 17, 1000 + (9.5e9 / rate) as u64);
            let mut slow = Schedule::new(1000, rate, Arrivals::Uniform, 3);
            let mut quick = slow.clone();
            while slow.next_ns() < from {
                slow.advance();
            }
            quick.skip_until(from);
            assert_eq!(quick.next_ns(), slow.next_ns(), "{rate}");
            let count = quick.count_until(end);
            let mut counted = 0;
            while slow.next_ns() < end {
                slow.advance();
                counted += 1;
            }
            assert_eq!(count, counted, "{rate}");
        }
        // Ten million of Poisson's are within a thousandth of their mean.
        let mut dice = Schedule::new(0, 1e7, Arrivals::Poisson, 3);
        let counted = dice.count_until(1_000_000_000);
        assert!(counted.abs_diff(10_000_000) < 10, "{counted}");
        dice.skip_until(500_000_000);
        assert!((500_000_000..500_010_000).contains(&dice.next_ns()), "{}", dice.next_ns());
    }
}
