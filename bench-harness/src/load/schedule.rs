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
}
