//! Amounts of memory, and limits made of them.

use super::{Value, between, one};

/// A number of bytes, read with or without a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Memory(pub i64);

/// Reads `100`, `1k` (1000), `1kb` (1024) and so on, in bytes.
#[must_use]
pub fn parse_memory(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let digits_end = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let number: i64 = lower[..digits_end].parse().ok()?;
    let factor = match &lower[digits_end..] {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

impl Value for Memory {
    type Rule = std::ops::RangeInclusive<i64>;

    fn read(words: &[&str], rule: &Self::Rule) -> Result<Self, String> {
        let bytes = parse_memory(one(words)?).ok_or_else(|| "argument must be a memory value".to_owned())?;
        between(bytes, rule).map(Memory)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }

    fn accepts(_: &Self::Rule) -> String {
        "bytes, with b, k, kb, m, mb, g or gb".to_owned()
    }
}

/// A number of bytes, or a share of `maxmemory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryOrPercent {
    /// Bytes.
    Bytes(i64),
    /// Percent of `maxmemory`.
    Percent(i64),
}

impl Default for MemoryOrPercent {
    fn default() -> Self {
        MemoryOrPercent::Bytes(0)
    }
}

impl Value for MemoryOrPercent {
    type Rule = ();

    fn read(words: &[&str], (): &()) -> Result<Self, String> {
        let word = one(words)?;
        if let Some(percent) = word.strip_suffix('%') {
            return match percent.parse() {
                Ok(percent @ 0..=100) => Ok(MemoryOrPercent::Percent(percent)),
                _ => Err("argument must be a memory or percent value".to_owned()),
            };
        }
        parse_memory(word)
            .map(MemoryOrPercent::Bytes)
            .ok_or_else(|| "argument must be a memory or percent value".to_owned())
    }

    fn show(&self) -> String {
        match self {
            MemoryOrPercent::Bytes(bytes) => bytes.to_string(),
            MemoryOrPercent::Percent(percent) => format!("{percent}%"),
        }
    }

    fn accepts((): &()) -> String {
        "bytes, or a percentage of maxmemory".to_owned()
    }
}

/// Output-buffer limits of one class of clients, in bytes and seconds; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct OutputLimit {
    /// Closed at once above this.
    pub hard: u64,
    /// Closed when above this for `soft_seconds`.
    pub soft: u64,
    /// How long.
    pub soft_seconds: u64,
}

/// Output-buffer limits of all classes: normal, replica, pubsub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct OutputLimits(pub [OutputLimit; 3]);

impl OutputLimits {
    /// Reads quadruples on top of `self`, so that a class not named keeps its limits.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub fn with_words(mut self, words: &[&str]) -> Result<Self, String> {
        if !words.len().is_multiple_of(4) {
            return Err("Wrong number of arguments in buffer limit configuration.".to_owned());
        }
        for quad in words.chunks_exact(4) {
            let at = match quad[0].to_ascii_lowercase().as_str() {
                "normal" => 0,
                "slave" | "replica" => 1,
                "pubsub" => 2,
                _ => return Err("Invalid client class specified in buffer limit configuration.".to_owned()),
            };
            let wrong = || "Error in hard, soft or soft_seconds setting in buffer limit configuration.".to_owned();
            self.0[at] = OutputLimit {
                hard: parse_memory(quad[1]).ok_or_else(wrong)? as u64,
                soft: parse_memory(quad[2]).ok_or_else(wrong)? as u64,
                soft_seconds: quad[3].parse().map_err(|_| wrong())?,
            };
        }
        Ok(self)
    }
}

impl Value for OutputLimits {
    type Rule = ();

    fn read(words: &[&str], (): &()) -> Result<Self, String> {
        OutputLimits::default().with_words(words)
    }

    fn show(&self) -> String {
        ["normal", "slave", "pubsub"]
            .iter()
            .zip(&self.0)
            .map(|(name, limit)| format!("{name} {} {} {}", limit.hard, limit.soft, limit.soft_seconds))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn accepts((): &()) -> String {
        "class hard soft seconds, for normal, replica, pubsub".to_owned()
    }
}
