//! Is A better than B? Ratios of paired rounds, and a bootstrap interval around their mean.

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use crate::workload::keys::below;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 20_000;
/// With fewer rounds a bootstrap knows nothing: the interval is the range of what was seen.
pub const ROUNDS_MIN: usize = 5;

/// An estimate with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Geometric mean of the rounds' ratios.
    pub ratio: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// How many rounds it is made from; with fewer than [`ROUNDS_MIN`] the interval is a range.
    pub rounds: usize,
}

impl Estimate {
    /// Whether there are rounds enough to say anything.
    #[must_use]
    pub fn decides(&self) -> bool {
        self.rounds >= ROUNDS_MIN
    }

    /// Whether it decides, and the interval leaves out 1.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.decides() && (self.low > 1.0 || self.high < 1.0)
    }
}

/// The geometric mean of `ratios` with an interval of the given confidence; `None` without ratios or
/// with one that is not above 0.
///
/// The plain percentile interval of a bootstrap is too narrow for few rounds. Its ends are moved
/// outwards as far as Student's t and the lost degree of freedom say (Hesterberg's expanded
/// percentile interval).
#[must_use]
pub fn estimate(ratios: &[f64], confidence: f64, seed: u64) -> Option<Estimate> {
    if ratios.is_empty() || ratios.iter().any(|ratio| !ratio.is_finite() || *ratio <= 0.0) {
        return None;
    }
    let logs: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
    let count = logs.len();
    let mean = logs.iter().sum::<f64>() / count as f64;
    let (low, high) = if count < ROUNDS_MIN {
        (logs.iter().copied().fold(f64::INFINITY, f64::min), logs.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    } else {
        let tail = expanded_tail(count, confidence);
        let mut means = resampled_means(&logs, seed);
        means.sort_unstable_by(f64::total_cmp);
        let at = |quantile: f64| means[((quantile * means.len() as f64) as usize).min(means.len() - 1)];
        (at(tail), at(1.0 - tail))
    };
    Some(Estimate { ratio: mean.exp(), low: low.min(mean).exp(), high: high.max(mean).exp(), rounds: count })
}

/// The share of resamples outside of each end of the interval.
fn expanded_tail(count: usize, confidence: f64) -> f64 {
    let tail = (1.0 - confidence.clamp(0.5, 0.9999)) / 2.0;
    let n = count as f64;
    match (StudentsT::new(0.0, 1.0, n - 1.0), Normal::new(0.0, 1.0)) {
        (Ok(student), Ok(normal)) => normal.cdf((n / (n - 1.0)).sqrt() * student.inverse_cdf(tail)),
        _ => tail,
    }
}

fn resampled_means(values: &[f64], seed: u64) -> Vec<f64> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let count = values.len();
    let mut mean = || (0..count).map(|_| values[below(&mut rng, count as u64) as usize]).sum::<f64>() / count as f64;
    (0..RESAMPLES).map(|_| mean()).collect()
}

/// The median; 0 of nothing.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[len / 2],
        len => (sorted[len / 2 - 1] + sorted[len / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rand_distr::{Distribution, LogNormal};

    #[test]
    fn ratios_without_noise_have_no_interval() {
        let found = estimate(&[2.0; 8], 0.95, 1).unwrap();
        for value in [found.ratio, found.low, found.high] {
            assert!((value - 2.0).abs() < 1e-9, "{found:?}");
        }
        assert!(found.differs());
        assert_eq!(estimate(&[], 0.95, 1), None);
        assert_eq!(estimate(&[1.0, 0.0], 0.95, 1), None);
    }

    #[test]
    fn few_rounds_give_their_range() {
        let found = estimate(&[1.1, 0.9, 1.3], 0.95, 1).unwrap();
        assert!((found.low - 0.9).abs() < 1e-9 && (found.high - 1.3).abs() < 1e-9, "{found:?}");
        assert!(!found.differs());
        // All on one side of 1, and still only a range.
        for rounds in 1..ROUNDS_MIN {
            let found = estimate(&vec![3.0; rounds], 0.95, 1).unwrap();
            assert!(!found.decides() && !found.differs(), "{found:?}");
        }
        assert!(estimate(&[3.0; ROUNDS_MIN], 0.95, 1).unwrap().differs());
    }

    #[test]
    fn the_mean_of_two_values_is_resampled_as_the_binomial_says() {
        // A resample of n zeros and ones has a binomial mean: its spread is known exactly.
        let values: Vec<f64> = (0..20).map(|at| f64::from(at % 2)).collect();
        let means = resampled_means(&values, 7);
        let mean = means.iter().sum::<f64>() / means.len() as f64;
        let variance = means.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / means.len() as f64;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        assert!((variance - 0.25 / 20.0).abs() < 0.0005, "{variance}");
    }

    #[test]
    fn the_expansion_is_that_of_the_tables() {
        // n = 10: t(0.975, 9) = 2.262, times sqrt(10/9) = 2.3845; the normal tail there is 0.00855.
        assert!((expanded_tail(10, 0.95) - 0.00855).abs() < 0.0001, "{}", expanded_tail(10, 0.95));
        // Many rounds need no expansion.
        assert!((expanded_tail(100_000, 0.95) - 0.025).abs() < 0.0001);
    }

    #[test]
    fn the_interval_holds_the_truth_as_often_as_it_says() {
        // 300 comparisons of 8 noisy rounds each, once without and once with a true difference.
        let noise = LogNormal::new(0.0, 0.1).unwrap();
        for truth in [1.0, 1.5] {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(11);
            let (mut held, mut different) = (0, 0);
            for trial in 0..300 {
                let ratios: Vec<f64> = (0..8).map(|_| truth * noise.sample(&mut rng)).collect();
                let found = estimate(&ratios, 0.95, trial).unwrap();
                held += i32::from(found.low <= truth && truth <= found.high);
                different += i32::from(found.differs());
            }
            assert!((273..=298).contains(&held), "the truth {truth} was inside {held} times of 300");
            if truth == 1.0 {
                assert!(different <= 27, "a difference was seen {different} times where there is none");
            } else {
                assert!(different >= 298, "a true difference was seen only {different} times");
            }
        }
    }

    #[test]
    fn medians() {
        assert_eq!((median(&[]), median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0])), (0.0, 2.0, 2.5));
    }
}
