//! Time for the load loop: the processor's counter, calibrated, or simulated time in tests.
//!
//! This module alone reads the operating system's clocks.

use std::time::Duration;

use serde::Serialize;

/// A source of nanoseconds that never goes back.
pub trait Clock {
    /// Nanoseconds since the clock's origin.
    fn now_ns(&self) -> u64;
}

/// The processor's time-stamp counter through `quanta`; where the processor has no invariant one,
/// `quanta` falls back to the monotonic clock by itself. Clones share their origin.
#[derive(Clone, Debug)]
pub struct TscClock {
    counter: quanta::Clock,
    origin: u64,
}

impl TscClock {
    /// Calibrates once a process; takes up to some hundred milliseconds the first time.
    #[must_use]
    pub fn new() -> Self {
        Self::from_counter(quanta::Clock::new())
    }

    fn from_counter(counter: quanta::Clock) -> Self {
        let origin = counter.raw();
        TscClock { counter, origin }
    }

    /// Lets `span` pass and compares the counter with the monotonic clock over it.
    #[allow(clippy::disallowed_methods)] // The reference a calibration is compared with.
    #[must_use]
    pub fn check(&self, span: Duration) -> Calibration {
        let reference = std::time::Instant::now();
        // Of many readings of both, the pair with the least time between its ends is kept, so that
        // being descheduled between two readings does not look like drift.
        let pair = || {
            (0..64)
                .map(|_| {
                    let before = reference.elapsed().as_nanos() as u64;
                    let counter = self.now_ns();
                    let after = reference.elapsed().as_nanos() as u64;
                    (after - before, counter, before + (after - before) / 2)
                })
                .min()
                .unwrap_or_default()
        };
        let begin = pair();
        std::thread::sleep(span);
        let end = pair();
        Calibration {
            drift_ppm: drift_ppm(end.1 - begin.1, end.2 - begin.2),
            read_ns: self.read_cost_ns(),
            span_ms: span.as_millis() as u64,
        }
    }

    fn read_cost_ns(&self) -> f64 {
        const READS: u32 = 10_000;
        let begin = self.now_ns();
        for _ in 0..READS {
            std::hint::black_box(self.now_ns());
        }
        (self.now_ns() - begin) as f64 / f64::from(READS)
    }
}

impl Default for TscClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TscClock {
    #[inline]
    fn now_ns(&self) -> u64 {
        self.counter.delta_as_nanos(self.origin, self.counter.raw())
    }
}

/// How well the counter keeps time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Calibration {
    /// How much faster the counter runs than the monotonic clock, in parts per million.
    pub drift_ppm: f64,
    /// What one reading costs in nanoseconds.
    pub read_ns: f64,
    /// How long the two were compared.
    pub span_ms: u64,
}

/// How much longer `counter_ns` is than `reference_ns`, in parts per million.
#[must_use]
pub fn drift_ppm(counter_ns: u64, reference_ns: u64) -> f64 {
    if reference_ns == 0 {
        return 0.0;
    }
    (counter_ns as f64 - reference_ns as f64) / reference_ns as f64 * 1e6
}

/// Unix time in milliseconds.
#[allow(clippy::disallowed_methods)] // Wall-clock time for the head of a report.
#[must_use]
pub fn unix_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Sleeps. Only threads beside the load may.
#[allow(clippy::disallowed_methods)] // Waiting for servers, events and hiccups is what these threads are for.
pub fn sleep(span: Duration) {
    std::thread::sleep(span);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_has_its_sign_and_size() {
        assert_eq!(drift_ppm(1_000_100, 1_000_000), 100.0);
        assert_eq!(drift_ppm(999_000, 1_000_000), -1000.0);
        assert_eq!(drift_ppm(5, 0), 0.0);
    }

    #[test]
    fn a_counter_that_is_told_its_time_reads_it() {
        let (counter, time) = quanta::Clock::mock();
        time.increment(77);
        let clock = TscClock::from_counter(counter);
        assert_eq!(clock.now_ns(), 0);
        time.increment(1_234_567);
        assert_eq!(clock.now_ns(), 1_234_567);
    }

    #[test]
    fn the_counter_keeps_the_systems_time() {
        // A calibration that was wrong by a factor, or in the wrong unit, is off by far more.
        let found = TscClock::new().check(Duration::from_millis(100));
        assert!(found.drift_ppm.abs() < 20_000.0, "{found:?}");
        assert!(found.read_ns > 0.0, "{found:?}");
    }
}
