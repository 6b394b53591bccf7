//! The one loop that measures, over any [`tercel_transport::client::Client`] and any
//! [`crate::clock::Clock`].
//!
//! Here live the plan of a load ([`Plan`]), its schedule, the loop ([`run`]) and what it brings
//! back ([`Outcome`]). Touches no socket, no file and no clock but those handed in.

mod driver;
pub mod schedule;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

pub use driver::run;

use std::fmt;

use hdrhistogram::Histogram;

use crate::histogram;
use crate::workload::Found;
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
    /// Those of them that answered requests due in it.
    pub due_in_time: u64,
    /// Replies whose latency counts.
    pub measured: u64,
    /// Error replies among all.
    pub errors: u64,
    /// The first error reply.
    pub error_first: Option<String>,
    /// Replies of a type that their commands cannot get.
    pub mistyped: u64,
    /// The first of them.
    pub mistyped_first: Option<String>,
    /// Keys found and not found by requests that count, by the command of the mix.
    pub found: Vec<Found>,
    /// The first value of a length that was never written.
    pub wrong_len_first: Option<String>,
    /// Replies that were not what had been written.
    pub mismatches: u64,
    /// The first of them.
    pub mismatch_first: Option<String>,
    /// Replies that were compared, those that differed among them.
    pub verified: u64,
    /// Requests that counted and got no reply; their latency counts as the time they waited.
    pub unanswered: u64,
    /// Requests of the warm-up without a reply.
    pub unanswered_warmup: u64,
    /// Whether it was an open loop.
    pub open: bool,
    /// Requests that counted and were never sent; among the unanswered.
    pub unsent: u64,
    /// Until when requests were due: [`Outcome::measured_to_ns`], or before it when their number ended
    /// the load.
    pub due_to_ns: u64,
    /// Requests due in the measured time and not sent in it, because no connection had room.
    pub held_past_end: u64,
    /// Requests due in the measured time and not sent in it although a connection had room.
    pub late_past_end: u64,
    /// Smallest latency of a reply that came before the end of the measured time, also of the warm-up;
    /// `u64::MAX` without any.
    pub latency_ns_min: u64,
    /// How much later than intended requests were written although a connection had room: the
    /// client's doing.
    pub lag: Histogram<u64>,
    /// How much later than intended requests were written that had to wait for a connection with
    /// room: the server's doing.
    pub held: Histogram<u64>,
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
            due_in_time: 0,
            measured: 0,
            errors: 0,
            error_first: None,
            mistyped: 0,
            mistyped_first: None,
            found: Vec::new(),
            wrong_len_first: None,
            mismatches: 0,
            mismatch_first: None,
            verified: 0,
            unanswered: 0,
            unanswered_warmup: 0,
            open: false,
            unsent: 0,
            due_to_ns: 0,
            held_past_end: 0,
            late_past_end: 0,
            latency_ns_min: u64::MAX,
            lag: histogram::new(),
            held: histogram::new(),
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
        self.due_in_time += other.due_in_time;
        self.measured += other.measured;
        self.errors += other.errors;
        self.error_first = self.error_first.take().or(other.error_first);
        self.mistyped += other.mistyped;
        self.mistyped_first = self.mistyped_first.take().or(other.mistyped_first);
        self.found.resize(self.found.len().max(other.found.len()), Found::default());
        self.found.iter_mut().zip(&other.found).for_each(|(mine, theirs)| mine.add(*theirs));
        self.wrong_len_first = self.wrong_len_first.take().or(other.wrong_len_first);
        self.mismatches += other.mismatches;
        self.mismatch_first = self.mismatch_first.take().or(other.mismatch_first);
        self.verified += other.verified;
        self.unanswered += other.unanswered;
        self.unanswered_warmup += other.unanswered_warmup;
        self.open |= other.open;
        self.unsent += other.unsent;
        self.due_to_ns = self.due_to_ns.max(other.due_to_ns);
        self.held_past_end += other.held_past_end;
        self.late_past_end += other.late_past_end;
        self.latency_ns_min = self.latency_ns_min.min(other.latency_ns_min);
        histogram::merge(&mut self.lag, &other.lag);
        histogram::merge(&mut self.held, &other.held);
        histogram::merge(&mut self.gaps, &other.gaps);
        self.failure = self.failure.take().or(other.failure);
    }

    /// Length of the measured time in seconds.
    #[must_use]
    pub fn measured_s(&self) -> f64 {
        self.measured_to_ns.saturating_sub(self.measured_from_ns) as f64 / 1e9
    }

    /// Replies a second over the measured time. In the open loop those to requests due in it: what is
    /// left of a warm-up is worked off in it and belongs to no measurement.
    #[must_use]
    pub fn rate_achieved(&self) -> f64 {
        let seconds = self.measured_s();
        let replies = if self.open { self.due_in_time } else { self.replies_in_time };
        if seconds > 0.0 { replies as f64 / seconds } else { 0.0 }
    }

    /// Requests a second the schedule wanted. With random arrivals this is what the dice gave, not the
    /// rate asked for.
    #[must_use]
    pub fn rate_due(&self) -> f64 {
        let seconds = self.due_to_ns.saturating_sub(self.measured_from_ns) as f64 / 1e9;
        if seconds > 0.0 { self.due as f64 / seconds } else { f64::INFINITY }
    }

    /// In the open loop: whether the rate was not reached, and who is to blame. `None`: it was.
    #[must_use]
    pub fn shortfall(&self, rate_asked: f64) -> Option<Shortfall> {
        /// A smaller share is none.
        const TOLERANCE: f64 = 0.01;
        /// No more than this share is taken for what is normally under way: a server whose quickest
        /// reply takes longer is behind, or measured for too short a time to tell.
        const UNDER_WAY_MAX: f64 = 0.1;
        let seconds = self.measured_s();
        // More than was asked for nobody must reach, even where the dice wanted more.
        let wanted = rate_asked.min(self.rate_due()) * seconds;
        let missing = wanted - self.due_in_time as f64;
        // What is under way at the end of the measured time is no shortfall, and how much that is at
        // one moment is left to chance.
        let latency_s = if self.latency_ns_min == u64::MAX { 0.0 } else { self.latency_ns_min as f64 / 1e9 };
        let under_way = (rate_asked * latency_s).min(wanted * UNDER_WAY_MAX);
        let chance = 3.0 * (under_way + 1.0).sqrt();
        if self.due == 0 || missing <= wanted * TOLERANCE + under_way + chance {
            return None;
        }
        let missing = self.due.saturating_sub(self.due_in_time);
        let late = self.late_past_end.min(missing);
        let held = self.held_past_end.min(missing - late);
        // A count of requests ends when the last was sent; then the time it took over that tells.
        let overrun_ns = self.measured_to_ns.saturating_sub(self.due_to_ns) as f64;
        let sent_late = overrun_ns > seconds * 1e9 * TOLERANCE && self.lag.max() as f64 > overrun_ns / 2.0;
        let blame = if late > missing / 2 || sent_late { Blame::Client } else { Blame::Server };
        Some(Shortfall {
            blame,
            rate_asked,
            due: self.due,
            in_time: self.due_in_time,
            earlier: self.replies_in_time.saturating_sub(self.due_in_time),
            seconds,
            unanswered: missing - late - held,
            held,
            late,
            lag_p99_ns: self.lag.value_at_quantile(0.99),
        })
    }
}

/// Who was too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Blame {
    /// Requests were not sent in time although a connection had room for them.
    Client,
    /// Requests were sent and not answered in time, or had to wait until others were.
    Server,
}

/// A rate that was not reached: of the requests due in the measured time, which were not answered in
/// it, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shortfall {
    /// Who was too slow.
    pub blame: Blame,
    /// Requests a second asked for.
    pub rate_asked: f64,
    /// Requests due.
    pub due: u64,
    /// Those of them that were answered in the measured time.
    pub in_time: u64,
    /// Replies in the measured time to requests of the warm-up.
    pub earlier: u64,
    /// The measured time.
    pub seconds: f64,
    /// Requests that had been sent and were not answered.
    pub unanswered: u64,
    /// Requests that waited for a connection with room.
    pub held: u64,
    /// Requests that were not sent although there was room.
    pub late: u64,
    /// p99 of how late the client sent by its own doing, in nanoseconds.
    pub lag_p99_ns: u64,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = if self.blame == Blame::Client { "client" } else { "server" };
        write!(
            f,
            "{who} could not keep up with {:.0} requests/s: {} of the {} due were answered in {:.2} s",
            self.rate_asked, self.in_time, self.due, self.seconds
        )?;
        if self.earlier > 0 {
            write!(f, " (and {} of the warm-up)", self.earlier)?;
        }
        write!(
            f,
            "; {} more had been sent and not answered, {} waited for a connection with room (--window), {} were not \
             sent although there was room",
            self.unanswered, self.held, self.late
        )?;
        if self.blame == Blame::Client {
            let lag = histogram::human_ns(self.lag_p99_ns as f64);
            write!(f, " (p99 of sending late {lag}); use more --threads, larger requests, or a lower rate")?;
        }
        Ok(())
    }
}
