//! What is written: sizes of values, and their bytes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use rand::{Rng, RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use rand_distr::{Distribution, LogNormal};

use super::keys::below;

/// Largest value in bytes, as large as a server takes one.
pub const VALUE_LEN_MAX: usize = 512 * 1024 * 1024;
/// Where values may begin in the block, which is that much longer than the largest value.
const OFFSETS: u64 = 64 * 1024;

/// How long values are, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum SizeDistribution {
    /// Always the same.
    Fixed(usize),
    /// Any from the first to the last.
    Range(usize, usize),
    /// Sizes with weights.
    Weighted(Vec<(usize, f64)>),
    /// Log-normal, cut off at 64 times the median.
    LogNormal {
        /// The median in bytes.
        median: usize,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
}

impl FromStr for SizeDistribution {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let size = |text: &str| {
            let bytes = parse_count(text)? as usize;
            ensure!(bytes <= VALUE_LEN_MAX, "a value of {text} bytes is longer than {VALUE_LEN_MAX}");
            Ok(bytes)
        };
        if let Some(rest) = text.strip_prefix("lognormal:") {
            let (median, sigma) = rest.split_once(',').context("lognormal wants lognormal:MEDIAN,SIGMA")?;
            let sigma: f64 = sigma.parse().with_context(|| format!("{sigma:?} is no number"))?;
            ensure!((0.0..=5.0).contains(&sigma), "lognormal wants a sigma from 0 to 5");
            let median = size(median)?;
            ensure!(median > 0 && median * 64 <= VALUE_LEN_MAX, "lognormal wants a median from 1 byte to 8 MiB");
            return Ok(SizeDistribution::LogNormal { median, sigma });
        }
        if let Some((low, high)) = text.split_once("..") {
            let (low, high) = (size(low)?, size(high)?);
            ensure!(low <= high, "the range {text} is empty");
            return Ok(SizeDistribution::Range(low, high));
        }
        if text.contains(':') {
            let mut sizes = Vec::new();
            for part in text.split(',') {
                let (bytes, weight) = part.split_once(':').with_context(|| format!("{part:?} wants SIZE:WEIGHT"))?;
                let weight: f64 = weight.parse().with_context(|| format!("{weight:?} is no weight"))?;
                ensure!(weight > 0.0 && weight.is_finite(), "the weight in {part:?} must be above 0");
                sizes.push((size(bytes)?, weight));
            }
            return Ok(SizeDistribution::Weighted(sizes));
        }
        match size(text) {
            Ok(bytes) => Ok(SizeDistribution::Fixed(bytes)),
            Err(error) => bail!("{error}; value sizes are SIZE, LOW..HIGH, SIZE:WEIGHT,… or lognormal:MEDIAN,SIGMA"),
        }
    }
}

/// Reads a count with an optional `k`, `m` or `g` (thousands) or `ki`, `mi`, `gi` (1024).
///
/// # Errors
/// No number, or one that does not fit.
pub fn parse_count(text: &str) -> anyhow::Result<u64> {
    let lower = text.trim().to_ascii_lowercase().replace('_', "");
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: f64 = match &lower[digits.len()..] {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "ki" | "kib" => 1024.0,
        "mi" | "mib" => 1024.0 * 1024.0,
        "gi" | "gib" => 1024.0 * 1024.0 * 1024.0,
        other => bail!("unknown unit {other:?} in {text:?}"),
    };
    let number: f64 = digits.parse().with_context(|| format!("{text:?} is no number"))?;
    let count = number * factor;
    ensure!((0.0..=1e15).contains(&count), "{text:?} is out of range");
    Ok(count.round() as u64)
}

impl fmt::Display for SizeDistribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SizeDistribution::Fixed(bytes) => write!(f, "{bytes}"),
            SizeDistribution::Range(low, high) => write!(f, "{low}..{high}"),
            SizeDistribution::Weighted(sizes) => {
                let parts: Vec<_> = sizes.iter().map(|(bytes, weight)| format!("{bytes}:{weight}")).collect();
                write!(f, "{}", parts.join(","))
            }
            SizeDistribution::LogNormal { median, sigma } => write!(f, "lognormal:{median},{sigma}"),
        }
    }
}

impl SizeDistribution {
    /// The smallest size there is.
    #[must_use]
    pub fn min(&self) -> usize {
        match self {
            SizeDistribution::Fixed(bytes) | SizeDistribution::Range(bytes, _) => *bytes,
            SizeDistribution::Weighted(sizes) => sizes.iter().map(|(bytes, _)| *bytes).min().unwrap_or(0),
            SizeDistribution::LogNormal { .. } => 0,
        }
    }

    /// The largest size there is.
    #[must_use]
    pub fn max(&self) -> usize {
        match self {
            SizeDistribution::Fixed(bytes) | SizeDistribution::Range(_, bytes) => *bytes,
            SizeDistribution::Weighted(sizes) => sizes.iter().map(|(bytes, _)| *bytes).max().unwrap_or(0),
            SizeDistribution::LogNormal { median, .. } => median * 64,
        }
    }

    /// A size.
    #[inline]
    pub fn sample(&self, rng: &mut impl Rng) -> usize {
        match self {
            SizeDistribution::Fixed(bytes) => *bytes,
            SizeDistribution::Range(low, high) => low + below(rng, (high - low) as u64 + 1) as usize,
            SizeDistribution::Weighted(sizes) => {
                let total: f64 = sizes.iter().map(|(_, weight)| weight).sum();
                let mut at = rng.random::<f64>() * total;
                for (bytes, weight) in sizes {
                    at -= weight;
                    if at < 0.0 {
                        return *bytes;
                    }
                }
                sizes.last().map_or(0, |(bytes, _)| *bytes)
            }
            SizeDistribution::LogNormal { median, sigma } => {
                let factor = LogNormal::new(0.0, *sigma).map_or(1.0, |spread| spread.sample(rng));
                ((*median as f64 * factor) as usize).clamp(1, self.max())
            }
        }
    }
}

/// Makes values: stretches of one block of random printable bytes.
#[derive(Clone, Debug)]
pub struct ValueSource {
    sizes: SizeDistribution,
    block: Arc<[u8]>,
}

impl ValueSource {
    /// Fills the block from `seed`.
    #[must_use]
    pub fn new(sizes: SizeDistribution, seed: u64) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0x5eed_0f7a_1e5b_10c4);
        let len = OFFSETS as usize + sizes.max();
        let mut block = Vec::with_capacity(len + 8);
        while block.len() < len {
            // Printable, so that a recorded command can be read; 6 bits of randomness a byte.
            block.extend(rng.next_u64().to_le_bytes().map(|byte| b'0' + (byte & 63)));
        }
        block.truncate(len);
        ValueSource { sizes, block: block.into() }
    }

    /// The largest value in bytes.
    #[must_use]
    pub fn len_max(&self) -> usize {
        self.sizes.max()
    }

    /// A value of a random size.
    #[inline]
    pub fn any(&self, rng: &mut impl Rng) -> &[u8] {
        let len = self.sizes.sample(rng);
        let from = below(rng, OFFSETS) as usize;
        &self.block[from..from + len]
    }

    /// The value a key has at a version: always the same for the same key, version and seed.
    #[must_use]
    pub fn of(&self, key: u64, version: u32) -> &[u8] {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(key ^ (u64::from(version) << 40));
        self.any(&mut rng)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_are_those_asked_for() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut mean = |text: &str| {
            let sizes: SizeDistribution = text.parse().unwrap();
            let drawn: Vec<usize> = (0..20_000).map(|_| sizes.sample(&mut rng)).collect();
            assert!(drawn.iter().all(|&len| len <= sizes.max()));
            drawn.iter().sum::<usize>() as f64 / drawn.len() as f64
        };
        assert_eq!(mean("64"), 64.0);
        assert_eq!(mean("1ki"), 1024.0);
        assert!((mean("100..300") - 200.0).abs() < 3.0);
        assert!((mean("10:3,1000:1") - 257.5).abs() < 15.0);
        assert!((mean("lognormal:100,0.5") - 100.0 * (0.125f64).exp()).abs() < 5.0);
        for bad in ["", "x", "5..1", "1:0", "1:x", "lognormal:5", "lognormal:0,1", "1gib", "-3", "64q"] {
            assert!(bad.parse::<SizeDistribution>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_version_has_one_value() {
        let source = ValueSource::new("10..100".parse().unwrap(), 3);
        let again = ValueSource::new("10..100".parse().unwrap(), 3);
        assert_eq!(source.of(5, 1), again.of(5, 1));
        assert_ne!(source.of(5, 1), source.of(5, 2));
        assert_ne!(source.of(5, 1), source.of(6, 1));
    }
}
