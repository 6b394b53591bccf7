//! Which key a request names.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Zipf};

/// How keys are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KeyDistribution {
    /// Each key as often as any other.
    Uniform,
    /// The k-th key in proportion to `k^-theta`.
    Zipfian {
        /// 0 is uniform; YCSB uses 0.99.
        theta: f64,
    },
    /// A share of the keys gets a share of the requests.
    HotSet {
        /// Share of the keys, 0 to 1.
        keys: f64,
        /// Share of the requests, 0 to 1.
        requests: f64,
    },
    /// One after another, round and round.
    Sequential,
}

impl FromStr for KeyDistribution {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let number = |text: &str| text.parse::<f64>().with_context(|| format!("{text:?} in {name} is no number"));
        Ok(match name {
            "uniform" if rest.is_empty() => KeyDistribution::Uniform,
            "sequential" if rest.is_empty() => KeyDistribution::Sequential,
            "zipfian" => {
                let theta = if rest.is_empty() { 0.99 } else { number(rest)? };
                ensure!((0.0..=10.0).contains(&theta), "zipfian wants a theta from 0 to 10, not {theta}");
                KeyDistribution::Zipfian { theta }
            }
            "hotset" => {
                let (keys, requests) = rest.split_once(',').context("hotset wants two shares: hotset:0.1,0.9")?;
                let (keys, requests) = (number(keys)?, number(requests)?);
                ensure!(
                    keys > 0.0 && keys < 1.0 && (0.0..=1.0).contains(&requests),
                    "hotset wants shares between 0 and 1"
                );
                KeyDistribution::HotSet { keys, requests }
            }
            _ => bail!(
                "unknown key distribution {text:?}: want uniform, zipfian[:THETA], hotset:KEYS,REQUESTS or sequential"
            ),
        })
    }
}

impl fmt::Display for KeyDistribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyDistribution::Uniform => write!(f, "uniform"),
            KeyDistribution::Zipfian { theta } => write!(f, "zipfian:{theta}"),
            KeyDistribution::HotSet { keys, requests } => write!(f, "hotset:{keys},{requests}"),
            KeyDistribution::Sequential => write!(f, "sequential"),
        }
    }
}

/// Draws key numbers.
#[derive(Clone, Debug)]
pub struct KeySource {
    keys: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Uniform,
    Zipfian(Zipf<f64>),
    HotSet { hot: u64, requests: f64 },
    Sequential { next: u64 },
}

impl KeySource {
    /// A source of numbers below `keys`; `offset` is where a sequence begins.
    ///
    /// # Errors
    /// No keys, or a hot set that leaves none.
    pub fn new(distribution: KeyDistribution, keys: u64, offset: u64) -> anyhow::Result<Self> {
        ensure!(keys > 0, "the key count must be at least 1");
        let kind = match distribution {
            KeyDistribution::Uniform => Kind::Uniform,
            KeyDistribution::Zipfian { theta } => Kind::Zipfian(Zipf::new(keys as f64, theta).context("zipfian")?),
            KeyDistribution::HotSet { keys: share, requests } => {
                let hot = (keys as f64 * share) as u64;
                ensure!(hot > 0 && hot < keys, "a hot set of {share} of {keys} keys leaves none on one side");
                Kind::HotSet { hot, requests }
            }
            KeyDistribution::Sequential => Kind::Sequential { next: offset % keys },
        };
        Ok(KeySource { keys, kind })
    }

    /// The next key's number.
    #[inline]
    pub fn next(&mut self, rng: &mut impl Rng) -> u64 {
        match &mut self.kind {
            Kind::Uniform => below(rng, self.keys),
            Kind::Zipfian(zipf) => (zipf.sample(rng) as u64).saturating_sub(1).min(self.keys - 1),
            Kind::HotSet { hot, requests } => {
                if rng.random::<f64>() < *requests {
                    below(rng, *hot)
                } else {
                    *hot + below(rng, self.keys - *hot)
                }
            }
            Kind::Sequential { next } => {
                let key = *next;
                *next = if key + 1 == self.keys { 0 } else { key + 1 };
                key
            }
        }
    }
}

/// A uniform number below `bound`; its bias is below `bound / 2^64`.
#[inline]
pub fn below(rng: &mut impl Rng, bound: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::Xoshiro256PlusPlus;

    fn counts(distribution: &str, keys: u64, draws: usize) -> Vec<f64> {
        let mut source = KeySource::new(distribution.parse().unwrap(), keys, 0).unwrap();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
        let mut counts = vec![0.0; keys as usize];
        for _ in 0..draws {
            counts[source.next(&mut rng) as usize] += 1.0 / draws as f64;
        }
        counts
    }

    #[test]
    fn shares_are_those_asked_for() {
        assert!(counts("uniform", 10, 100_000).iter().all(|share| (share - 0.1).abs() < 0.01));
        assert!(counts("sequential", 10, 100).iter().all(|share| (share - 0.1).abs() < 1e-9));
        let zipf = counts("zipfian:0.99", 1000, 400_000);
        let norm: f64 = (1..=1000).map(|k| f64::from(k).powf(-0.99)).sum();
        for k in [1usize, 2, 10] {
            let want = (k as f64).powf(-0.99) / norm;
            assert!((zipf[k - 1] - want).abs() < want * 0.1, "{k}: {} {want}", zipf[k - 1]);
        }
        let hot: f64 = counts("hotset:0.1,0.9", 100, 100_000)[..10].iter().sum();
        assert!((hot - 0.9).abs() < 0.01, "{hot}");
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "zipf", "zipfian:x", "zipfian:-1", "hotset", "hotset:2,1", "hotset:0.1", "uniform:3"] {
            assert!(bad.parse::<KeyDistribution>().is_err(), "{bad}");
        }
        assert!(KeySource::new(KeyDistribution::Uniform, 0, 0).is_err());
        assert!(KeySource::new("hotset:0.1,0.5".parse().unwrap(), 5, 0).is_err());
    }
}
