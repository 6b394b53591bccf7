//! What is measured of commands, turns and the network: counters, histograms and logs, read by INFO, LATENCY,
//! COMMANDLOG and the metrics page. Data and clients count for themselves.

pub mod commandlog;
pub mod latency;
mod rates;
mod turns;

pub use rates::PerSecond;
pub use turns::TurnCounters;

use std::borrow::Cow;
use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use tercel_transport::PeerKind;
use tercel_transport::Stats as TransportCounters;
use tercel_transport::report::Report;

use crate::base::clock::Now;
use crate::command::CommandId;
use commandlog::CommandLogs;
use latency::LatencyMonitor;
use rates::Rates;

/// Longest duration a histogram tells apart, in nanoseconds.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Latencies of commands that wait for their histograms, at most.
const UNRECORDED_MAX: usize = 64;
/// Kinds of errors counted apart; beyond it only the total grows.
const ERROR_KINDS_MAX: usize = 128;

/// A latency histogram in nanoseconds with two significant digits.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    // The bounds are constants that the constructor accepts.
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 2).unwrap_or_else(|_| unreachable!("constant bounds"))
}

/// What is known of one command's runs.
#[derive(Default)]
pub struct CommandStats {
    /// Runs.
    pub calls: u64,
    /// Time spent in nanoseconds.
    pub total_ns: u64,
    /// Calls refused before they ran.
    pub rejected: u64,
    /// Calls that answered an error.
    pub failed: u64,
    /// Distribution of run times; made at the first run.
    pub histogram: Option<Box<Histogram<u64>>>,
}

/// The phases of a command's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// From a command's arrival to the start of parsing it, at most: counted from the poll before
    /// the one that reported it, since nobody looked in between; after a sleep, from its end.
    /// Batches before it, housekeeping and the poll itself are in it.
    Arrive,
    /// Parsing and hashing the batch it came in.
    Parse,
    /// Running it.
    Execute,
    /// From the end of the batch until its reply was handed to the kernel or the device.
    Flush,
}

/// All phases, in order.
pub const PHASES: [(Phase, &str); 4] =
    [(Phase::Arrive, "arrive"), (Phase::Parse, "parse"), (Phase::Execute, "execute"), (Phase::Flush, "flush")];

/// What is counted of all commands together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Commands run.
    pub commands: u64,
    /// Time spent running them, in nanoseconds.
    pub execute_ns: u64,
    /// Error replies.
    pub error_replies: u64,
}

/// All statistics of a server.
pub struct Stats {
    started: Now,
    commands: Vec<CommandStats>,
    phases: [[Box<Histogram<u64>>; 4]; 2],
    /// Error replies by code.
    errors: BTreeMap<String, u64>,
    totals: Totals,
    turns: TurnCounters,
    /// What the transport told some tenths of a second ago, since the last reset.
    transport: TransportCounters,
    /// What it had told at the last reset.
    transport_at_reset: TransportCounters,
    transport_report: Option<Report>,
    rates: Rates,
    logs: CommandLogs,
    latency: LatencyMonitor,
    /// Latencies of commands that are not in the histograms yet.
    unrecorded: Vec<(CommandId, PeerKind, u64)>,
}

impl Stats {
    /// Statistics of so many commands that begin now.
    #[must_use]
    pub fn new(now: Now, commands: usize) -> Self {
        Stats {
            started: now,
            commands: std::iter::repeat_with(CommandStats::default).take(commands).collect(),
            phases: std::array::from_fn(|_| std::array::from_fn(|_| Box::new(histogram()))),
            errors: BTreeMap::new(),
            totals: Totals::default(),
            turns: TurnCounters::default(),
            transport: TransportCounters::default(),
            transport_at_reset: TransportCounters::default(),
            transport_report: None,
            rates: Rates::default(),
            logs: CommandLogs::default(),
            latency: LatencyMonitor::default(),
            unrecorded: Vec::with_capacity(UNRECORDED_MAX),
        }
    }

    /// When the server started.
    #[must_use]
    pub fn started(&self) -> Now {
        self.started
    }

    /// What is known of one command's runs.
    #[must_use]
    pub fn command(&self, id: CommandId) -> &CommandStats {
        &self.commands[id.index()]
    }

    /// Error replies by code, in order.
    pub fn errors(&self) -> impl Iterator<Item = (&str, u64)> {
        self.errors.iter().map(|(code, count)| (code.as_str(), *count))
    }

    /// What is counted of all commands together.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// What the executor counts of its turns.
    #[must_use]
    pub fn turns(&self) -> &TurnCounters {
        &self.turns
    }

    /// The same, for the executor.
    #[inline]
    pub fn turns_mut(&mut self) -> &mut TurnCounters {
        &mut self.turns
    }

    /// What the transport counted since the last reset, as of some tenths of a second ago.
    #[must_use]
    pub fn transport(&self) -> &TransportCounters {
        &self.transport
    }

    /// What the transport told then of what is particular to it.
    pub fn transport_report(&self) -> Option<&Report> {
        self.transport_report.as_ref()
    }

    /// Takes down what the transport tells, and samples the rates if it is time.
    pub fn sample(&mut self, now_ns: u64, mut transport: TransportCounters, report: Option<Report>) {
        let before = &self.transport_at_reset;
        transport.received_bytes -= before.received_bytes;
        transport.sent_bytes -= before.sent_bytes;
        transport.receives -= before.receives;
        transport.sends -= before.sends;
        let counted = PerSecond {
            commands: self.totals.commands,
            received_bytes: transport.received_bytes,
            sent_bytes: transport.sent_bytes,
            turns: self.turns.busy_turns,
        };
        self.transport = transport;
        self.transport_report = report;
        self.rates.sample(now_ns, counted);
    }

    /// Rates of the last second and a half.
    #[must_use]
    pub fn rates(&self) -> PerSecond {
        self.rates.per_second()
    }

    /// The logs of slow and large commands.
    #[must_use]
    pub fn logs(&self) -> &CommandLogs {
        &self.logs
    }

    /// The same, to write.
    pub fn logs_mut(&mut self) -> &mut CommandLogs {
        &mut self.logs
    }

    /// Latency events.
    #[must_use]
    pub fn latency(&self) -> &LatencyMonitor {
        &self.latency
    }

    /// The same, to write.
    #[inline]
    pub fn latency_mut(&mut self) -> &mut LatencyMonitor {
        &mut self.latency
    }

    /// Counts a command that was refused before it ran.
    pub fn count_rejected(&mut self, id: CommandId) {
        self.commands[id.index()].rejected += 1;
    }

    /// Distributions of commands are not kept any more.
    pub fn forget_distributions(&mut self) {
        for command in &mut self.commands {
            command.histogram = None;
        }
    }

    /// Counts one run of a command.
    #[inline]
    pub fn record_command(&mut self, id: CommandId, kind: PeerKind, took_ns: u64, failed: bool, track: bool) {
        let stats = &mut self.commands[id.index()];
        stats.calls += 1;
        stats.total_ns += took_ns;
        stats.failed += u64::from(failed);
        self.totals.commands += 1;
        self.totals.execute_ns += took_ns;
        if track {
            if self.unrecorded.len() == UNRECORDED_MAX {
                self.settle();
            }
            self.unrecorded.push((id, kind, took_ns.max(1)));
        }
    }

    /// Puts the latencies of commands into their histograms: after their replies have left, and before
    /// anybody looks.
    #[inline]
    pub fn settle(&mut self) {
        if !self.unrecorded.is_empty() {
            self.record_latencies();
        }
    }

    fn record_latencies(&mut self) {
        for (id, kind, took_ns) in self.unrecorded.drain(..) {
            let histogram = self.commands[id.index()].histogram.get_or_insert_with(|| Box::new(histogram()));
            histogram.saturating_record(took_ns);
            self.phases[kind as usize][Phase::Execute as usize].saturating_record(took_ns);
        }
    }

    /// Counts `count` commands that spent `took_ns` in a phase.
    #[inline]
    pub fn record_phase(&mut self, phase: Phase, kind: PeerKind, took_ns: u64, count: u64) {
        self.phases[kind as usize][phase as usize].saturating_record_n(took_ns.max(1), count);
    }

    /// As [`Stats::record_phase`], with a count for each kind.
    #[inline]
    pub fn record_phases(&mut self, phase: Phase, took_ns: u64, counts: [u64; 2]) {
        for ((kind, _), count) in PeerKind::ALL.into_iter().zip(counts) {
            if count > 0 {
                self.record_phase(phase, kind, took_ns, count);
            }
        }
    }

    /// A phase's histograms: that of all commands, named after the phase, and, once commands came over
    /// RDMA, those of the kinds apart.
    #[must_use]
    pub fn phase_histograms(&self, phase: Phase) -> Vec<(String, Cow<'_, Histogram<u64>>)> {
        let name = PHASES[phase as usize].1;
        let of = |kind: PeerKind| &*self.phases[kind as usize][phase as usize];
        let rdma = of(PeerKind::Rdma);
        if rdma.is_empty() {
            return vec![(name.to_owned(), Cow::Borrowed(of(PeerKind::Socket)))];
        }
        let mut all = rdma.clone();
        // Both were made with the same bounds, so adding cannot fail.
        let _ = all.add(of(PeerKind::Socket));
        let mut found = vec![(name.to_owned(), Cow::Owned(all))];
        found.extend(
            PeerKind::ALL.into_iter().map(|(kind, carried)| (format!("{name}-{carried}"), Cow::Borrowed(of(kind)))),
        );
        found
    }

    /// Counts an error reply by its code, the text's first word.
    pub fn record_error(&mut self, text: &str) {
        self.totals.error_replies += 1;
        let code = text.split(' ').next().unwrap_or("ERR");
        if let Some(count) = self.errors.get_mut(code) {
            *count += 1;
        } else if self.errors.len() < ERROR_KINDS_MAX {
            self.errors.insert(code.to_owned(), 1);
        }
    }

    /// CONFIG RESETSTAT: everything back to the start, but the logs, the latency events and what
    /// describes the present.
    pub fn reset(&mut self) {
        let fresh = Stats::new(self.started, self.commands.len());
        let old = std::mem::replace(self, fresh);
        self.logs = old.logs;
        self.latency = old.latency;
        self.transport_report = old.transport_report;
        self.transport_at_reset = old.transport_at_reset;
        self.transport_at_reset += old.transport;
        self.rates = old.rates;
        self.rates.reset();
    }

    /// A phase's distribution among those who come in one way, in nanoseconds.
    #[must_use]
    pub fn phase(&self, phase: Phase, kind: PeerKind) -> &Histogram<u64> {
        &self.phases[kind as usize][phase as usize]
    }
}
