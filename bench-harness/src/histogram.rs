//! Latency histograms: their bounds, what is read from them, and the interval log.
//!
//! All latencies are nanoseconds with three significant digits, so any value read is within 0.1 %
//! of a recorded one.

use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use serde::Serialize;

/// Longest latency told apart in nanoseconds: two minutes. Longer ones count as this.
pub const LATENCY_NS_MAX: u64 = 120_000_000_000;
/// The share by which a value read may differ from the one recorded.
pub const PRECISION: f64 = 0.001;

/// The percentiles of tables, with the names they go by.
pub const PERCENTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("p9999", 0.9999)];

/// An empty histogram.
#[must_use]
pub fn new() -> Histogram<u64> {
    // The bounds are constants the library accepts, which every test of this crate would show.
    #[allow(clippy::expect_used)]
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("constant bounds")
}

/// Adds one histogram to another.
pub fn merge(into: &mut Histogram<u64>, from: &Histogram<u64>) {
    // Both have the bounds of `new`, for which the library has no failure.
    let added = into.add(from);
    debug_assert!(added.is_ok());
}

/// What tables show of a histogram, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Values recorded.
    pub count: u64,
    /// Smallest.
    pub min_ns: u64,
    /// Mean.
    pub mean_ns: f64,
    /// Median.
    pub p50_ns: u64,
    /// 90 of 100 are not above.
    pub p90_ns: u64,
    /// 99 of 100 are not above.
    pub p99_ns: u64,
    /// 999 of 1000 are not above.
    pub p999_ns: u64,
    /// 9999 of 10000 are not above.
    pub p9999_ns: u64,
    /// Largest.
    pub max_ns: u64,
}

impl Summary {
    /// Reads a histogram.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Summary::default();
        }
        let at = |quantile| histogram.value_at_quantile(quantile).min(histogram.max());
        Summary {
            count: histogram.len(),
            min_ns: histogram.min(),
            mean_ns: histogram.mean(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            p9999_ns: at(0.9999),
            max_ns: histogram.max(),
        }
    }

    /// A value by its name in tables: `p50` … `p9999`, `max`.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<u64> {
        Some(match name {
            "p50" => self.p50_ns,
            "p90" => self.p90_ns,
            "p99" => self.p99_ns,
            "p999" => self.p999_ns,
            "p9999" => self.p9999_ns,
            "max" => self.max_ns,
            _ => return None,
        })
    }
}

/// Nanoseconds as people read them: three digits and a unit.
#[must_use]
pub fn human_ns(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1e3 => return format!("{ns:.0} ns"),
        ns if ns < 1e6 => (ns / 1e3, "us"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// A point of a percentile curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    /// 0 to 1.
    pub quantile: f64,
    /// The latency there.
    pub ns: u64,
}

/// The curve a report draws: ten points a half of what is left, up to the last recorded value.
#[must_use]
pub fn curve(histogram: &Histogram<u64>) -> Vec<CurvePoint> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let last = 1.0 - 1.0 / histogram.len() as f64;
    let mut points = Vec::new();
    let mut left: f64 = 1.0;
    while 1.0 - left <= last {
        points.push(CurvePoint { quantile: 1.0 - left, ns: histogram.value_at_quantile(1.0 - left) });
        left *= 0.93;
    }
    points.push(CurvePoint { quantile: last, ns: histogram.max() });
    points
}

/// Collects interval histograms in the text format of HdrHistogram's tools (`.hlog`), compressed,
/// one line an interval and tag.
pub struct IntervalLog {
    text: Vec<u8>,
    serializer: V2DeflateSerializer,
}

impl IntervalLog {
    /// A log whose intervals count from `started_unix_ms`.
    #[must_use]
    pub fn new(started_unix_ms: u64, comment: &str) -> Self {
        let started = std::time::UNIX_EPOCH + Duration::from_millis(started_unix_ms);
        let mut log = IntervalLog { text: Vec::new(), serializer: V2DeflateSerializer::new() };
        // Writing to memory has no way to fail.
        let _ = IntervalLogWriterBuilder::new()
            .add_comment(&comment.replace(['\r', '\n'], " "))
            .with_start_time(started)
            .with_base_time(started)
            .with_max_value_divisor(1e6)
            .begin_log_with(&mut log.text, &mut log.serializer);
        log
    }

    /// Adds an interval; times in seconds since the start.
    pub fn push(&mut self, start_s: f64, len_s: f64, tag: &str, histogram: &Histogram<u64>) {
        // The writer wants to be begun each time; only what it appends after its own head is kept.
        let mut line = Vec::new();
        let mut builder = IntervalLogWriterBuilder::new();
        if let Ok(mut writer) = builder.with_max_value_divisor(1e6).begin_log_with(&mut line, &mut self.serializer) {
            let (start, len) = (Duration::from_secs_f64(start_s.max(0.0)), Duration::from_secs_f64(len_s.max(0.0)));
            let _ = writer.write_histogram(histogram, start, len, Tag::new(tag));
        }
        let own = line
            .split_inclusive(|&byte| byte == b'\n')
            .filter(|line| line.starts_with(b"Tag=") || line[0].is_ascii_digit());
        own.for_each(|line| self.text.extend_from_slice(line));
    }

    /// The log.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn a_merge_is_the_same_as_recording_everything_in_one() {
        let (mut all, mut left, mut right) = (new(), new(), new());
        for value in 1..100_000u64 {
            let value = value * value % 10_000_019 + 1;
            all.record(value).unwrap();
            if value % 3 == 0 { &mut left } else { &mut right }.record(value).unwrap();
        }
        merge(&mut left, &right);
        assert_eq!(left, all);
        assert_eq!(Summary::of(&left), Summary::of(&all));
    }

    #[test]
    fn percentiles_of_a_known_ramp() {
        let mut histogram = new();
        (1..=100_000u64).for_each(|value| histogram.record(value * 1000).unwrap());
        let summary = Summary::of(&histogram);
        for (found, want) in [
            (summary.p50_ns, 50e6),
            (summary.p99_ns, 99e6),
            (summary.p999_ns, 99.9e6),
            (summary.p9999_ns, 99.99e6),
            (summary.max_ns, 1e8),
        ] {
            assert!((found as f64 - want).abs() <= want * PRECISION, "{found} {want}");
        }
        assert_eq!(summary.by_name("p999"), Some(summary.p999_ns));
        let curve = curve(&histogram);
        assert!(curve.windows(2).all(|pair| pair[0].ns <= pair[1].ns && pair[0].quantile < pair[1].quantile));
        assert_eq!(curve.last().unwrap().ns, histogram.max());
    }

    #[test]
    fn the_log_reads_back() {
        let mut log = IntervalLog::new(1_700_000_000_000, "a\nb");
        let mut histogram = new();
        histogram.record_n(5_000_000, 7).unwrap();
        log.push(0.0, 1.0, "all", &histogram);
        log.push(1.0, 0.5, "get", &histogram);
        let mut tags = Vec::new();
        for entry in IntervalLogIterator::new(log.text()) {
            if let LogEntry::Interval(entry) = entry.unwrap() {
                tags.push((entry.tag().unwrap().as_str().to_owned(), entry.start_timestamp().as_millis()));
                let bytes = base64_decode(entry.encoded_histogram());
                let read: Histogram<u64> =
                    hdrhistogram::serialization::Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
                assert_eq!(read, histogram);
            }
        }
        assert_eq!(tags, [("all".to_owned(), 0), ("get".to_owned(), 1000)]);
        let _ = Deserializer::new();
    }

    fn base64_decode(text: &str) -> Vec<u8> {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let (mut out, mut bits, mut held) = (Vec::new(), 0u32, 0);
        for byte in text.bytes().filter(|&byte| byte != b'=') {
            bits = bits << 6 | ALPHABET.iter().position(|&known| known == byte).unwrap() as u32;
            held += 6;
            if held >= 8 {
                held -= 8;
                out.push((bits >> held) as u8);
            }
        }
        out
    }

    #[test]
    fn nanoseconds_read_well() {
        for (ns, text) in
            [(12.0, "12 ns"), (1234.0, "1.23 us"), (45_600.0, "45.6 us"), (789e6, "789 ms"), (2e9, "2.00 s")]
        {
            assert_eq!(human_ns(ns), text);
        }
    }
}
