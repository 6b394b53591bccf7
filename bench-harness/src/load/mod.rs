//! The one loop that measures, over any [`tercel_transport::client::Client`] and any
//! [`crate::clock::Clock`].
//!
//! Here live the plan of a load ([`Plan`]), its schedule, the loop ([`run`]) and what it brings
//! back ([`Outcome`]). Touches no socket, no file and no clock but those handed in.

mod engine;
pub mod schedule;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

pub use engine::run;

use hdrhistogram::Histogram;

use crate::histogram;
use schedule::Arrivals;

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pacing {
    /// Each connection sends `depth` requests in one piece, waits for all replies, and repeats.
    /// A stalled server is then hardly asked, which hides its stall.
    Closed {
        /// Requests in one piece.
        depth: usize,
    },
    /// At a rate of its own, whatever the server does.
    Open {
        /// Requests a second of this thread.
        rate: f64,
        /// How they are spaced.
        arrivals: Arrivals,
    },
}

/// What to do while there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Wait {
    /// Poll without pause: one core goes to the client, no wake-up is in the result.
    Spin,
    /// Sleep until something arrives, as an ordinary client does.
    Block,
}

/// A load of one thread.
#[derive(Clone, Debug)]
pub struct Plan {
    /// When requests are sent.
    pub pacing: Pacing,
    /// Requests meant for this time do not count.
    pub warmup_ns: u64,
    /// How long requests count.
    pub duration_ns: u64,
    /// Ends earlier, once so many requests that count were sent.
    pub requests: Option<u64>,
    /// Requests under way a connection at most, in the open loop.
    pub window: usize,
    /// How long to wait for replies after the last request.
    pub drain_ns: u64,
    /// What to do while there is nothing to do.
    pub wait: Wait,
    /// Length of an interval of the time line.
    pub interval_ns: u64,
    /// Seed of the arrivals.
    pub seed: u64,
}

/// Gaps between two turns of the loop are noise from here on, in nanoseconds.
pub const GAP_NS_MIN: u64 = 20_000;

/// What a load brought, beside the latencies its recorder has.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// When it began, in the clock's nanoseconds.
    pub start_ns: u64,
    /// From when on requests counted.
    pub measured_from_ns: u64,
    /// Until when requests counted, or when the load ended before that.
    pub measured_to_ns: u64,
    /// Requests the schedule or the pipeline wanted in the measured time.
    pub due: u64,
    /// Requests that were written in all.
    pub sent: u64,
    /// Replies that came in the measured time.
    pub replies_in_time: u64,
    /// Replies whose latency counts.
    pub measured: u64,
    /// Error replies among all.
    pub errors: u64,
    /// The first error reply.
    pub error_first: Option<String>,
    /// Replies that were not what had been written.
    pub mismatches: u64,
    /// The first of them.
    pub mismatch_first: Option<String>,
    /// Replies that were compared.
    pub verified: u64,
    /// Requests that counted and got no reply; their latency counts as the time they waited.
    pub unanswered: u64,
    /// Requests held back because every connection's window was full.
    pub held_back: u64,
    /// How much later than intended requests were written.
    pub lag: Histogram<u64>,
    /// Gaps between two turns of the loop from [`GAP_NS_MIN`] on.
    pub gaps: Histogram<u64>,
    /// Why the load ended early.
    pub failure: Option<String>,
}

impl Outcome {
    /// Nothing yet.
    #[must_use]
    pub fn new(start_ns: u64) -> Self {
        Outcome {
            start_ns,
            measured_from_ns: start_ns,
            measured_to_ns: start_ns,
            due: 0,
            sent: 0,
            replies_in_time: 0,
            measured: 0,
            errors: 0,
            error_first: None,
            mismatches: 0,
            mismatch_first: None,
            verified: 0,
            unanswered: 0,
            held_back: 0,
            lag: histogram::new(),
            gaps: histogram::new(),
            failure: None,
        }
    }

    /// Adds what another thread brought in the same time.
    pub fn merge(&mut self, other: Outcome) {
        self.start_ns = self.start_ns.min(other.start_ns);
        self.measured_from_ns = self.measured_from_ns.min(other.measured_from_ns);
        self.measured_to_ns = self.measured_to_ns.max(other.measured_to_ns);
        self.due += other.due;
        self.sent += other.sent;
        self.replies_in_time += other.replies_in_time;
        self.measured += other.measured;
        self.errors += other.errors;
        self.error_first = self.error_first.take().or(other.error_first);
        self.mismatches += other.mismatches;
        self.mismatch_first = self.mismatch_first.take().or(other.mismatch_first);
        self.verified += other.verified;
        self.unanswered += other.unanswered;
        self.held_back += other.held_back;
        histogram::merge(&mut self.lag, &other.lag);
        histogram::merge(&mut self.gaps, &other.gaps);
        self.failure = self.failure.take().or(other.failure);
    }

    /// Length of the measured time in seconds.
    #[must_use]
    pub fn measured_s(&self) -> f64 {
        self.measured_to_ns.saturating_sub(self.measured_from_ns) as f64 / 1e9
    }

    /// Replies a second over the measured time.
    #[must_use]
    pub fn rate_achieved(&self) -> f64 {
        let seconds = self.measured_s();
        if seconds > 0.0 { self.replies_in_time as f64 / seconds } else { 0.0 }
    }

    /// Requests a second the schedule wanted over the measured time. With random arrivals this is
    /// what the dice gave, not the rate asked for.
    #[must_use]
    pub fn rate_due(&self) -> f64 {
        let seconds = self.measured_s();
        if seconds > 0.0 { self.due as f64 / seconds } else { 0.0 }
    }

    /// In the open loop: whether fewer replies came than were due, and who is to blame.
    #[must_use]
    pub fn shortfall(&self, rate_asked: f64) -> Option<String> {
        /// Replies still under way at the end of the measured time are no shortfall.
        const TOLERANCE: f64 = 0.99;
        let (due, achieved) = (self.rate_due(), self.rate_achieved());
        if self.due == 0 || achieved >= due * TOLERANCE {
            return None;
        }
        let lag = histogram::human_ns(self.lag.value_at_quantile(0.99) as f64);
        let figures = format!("{achieved:.0} of {rate_asked:.0} requests/s were answered, p99 of sending late {lag}");
        Some(if self.held_back > 0 {
            format!("server could not keep up: {figures}; every connection's window was full {} times", self.held_back)
        } else {
            format!(
                "client could not keep up: {figures}; use more --threads, fewer or larger requests, or a lower rate"
            )
        })
    }
}
