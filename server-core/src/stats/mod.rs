//! Counters, histograms and logs. Written by the executor and the commands, read by INFO, LATENCY,
//! COMMANDLOG and the metrics page. Everything here is owned by one executor.

pub mod commandlog;
pub mod latency;

use std::borrow::Cow;
use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use tercel_transport::PeerKind;
use tercel_transport::report::Report;

use crate::base::clock::Now;
use crate::command::CommandId;
use commandlog::CommandLogs;
use latency::LatencyMonitor;

/// Longest duration a histogram tells apart, in nanoseconds.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Latencies of commands that wait for their histograms, at most.
const UNRECORDED_MAX: usize = 64;
/// Kinds of errors counted apart; beyond it only the total grows.
const ERROR_KINDS_MAX: usize = 128;
/// Samples of the rate counters.
const RATE_SAMPLES: usize = 16;
/// Distance between them in nanoseconds.
const RATE_INTERVAL_NS: u64 = 100_000_000;

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

/// Rate of a counter over the last second and a half.
#[derive(Default)]
pub struct Rate {
    last_value: u64,
    last_ns: u64,
    samples: [u64; RATE_SAMPLES],
    next: usize,
}

impl Rate {
    /// Takes a sample.
    pub fn sample(&mut self, value: u64, now_ns: u64) {
        let elapsed = now_ns.saturating_sub(self.last_ns).max(1);
        let delta = value.saturating_sub(self.last_value);
        self.samples[self.next % RATE_SAMPLES] = (u128::from(delta) * 1_000_000_000 / u128::from(elapsed)) as u64;
        self.next += 1;
        self.last_value = value;
        self.last_ns = now_ns;
    }

    /// The mean of the samples, a second.
    #[must_use]
    pub fn per_second(&self) -> u64 {
        self.samples.iter().sum::<u64>() / RATE_SAMPLES as u64
    }
}

/// All statistics of an executor.
pub struct Stats {
    /// When the server started.
    pub started: Now,
    /// Per command.
    pub commands: Vec<CommandStats>,
    /// Per kind and phase.
    pub phases: [[Box<Histogram<u64>>; 4]; 2],
    /// What the transport told some tenths of a second ago of what is particular to it.
    pub transport_report: Option<Report>,
    /// Error replies by code.
    pub errors: BTreeMap<String, u64>,
    /// Error replies.
    pub error_replies: u64,
    /// Commands run.
    pub commands_processed: u64,
    /// Connections accepted.
    pub connections_received: u64,
    /// Connections refused.
    pub rejected_connections: u64,
    /// Clients closed for memory.
    pub evicted_clients: u64,
    /// When the log last warned of HTTP requests, in the clock's nanoseconds.
    pub http_warned_ns: Option<u64>,
    /// Clients closed for what they sent.
    pub query_buffer_disconnects: u64,
    /// Clients closed for what they did not read.
    pub output_buffer_disconnects: u64,
    /// Bytes received, over all transports.
    pub net_input_bytes: u64,
    /// Bytes sent.
    pub net_output_bytes: u64,
    /// Receives.
    pub reads_processed: u64,
    /// Sends.
    pub writes_processed: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Turns that did something.
    pub busy_turns: u64,
    /// Time spent in turns that did something, in nanoseconds.
    pub turns_ns: u64,
    /// Time spent running commands, in nanoseconds.
    pub execute_ns: u64,
    /// Longest turn since RESETSTAT, in nanoseconds.
    pub turn_ns_max: u64,
    /// Times the executor slept.
    pub parks: u64,
    /// Batches whose keys were prefetched.
    pub prefetch_batches: u64,
    /// Keys prefetched.
    pub prefetch_keys: u64,
    /// AUTH failures.
    pub auth_denied: u64,
    /// Largest input a client had waiting lately.
    pub recent_input_max: usize,
    /// Largest output a client had waiting lately.
    pub recent_output_max: usize,
    /// Rates.
    pub ops_rate: Rate,
    /// Rates.
    pub input_rate: Rate,
    /// Rates.
    pub output_rate: Rate,
    /// Rates.
    pub turn_rate: Rate,
    rates_at_ns: u64,
    /// Logs of slow and large commands.
    pub logs: CommandLogs,
    /// Latency events.
    pub latency: LatencyMonitor,
    /// Latencies of commands that are not in the histograms yet.
    unrecorded: Vec<(CommandId, PeerKind, u64)>,
}

impl Stats {
    /// Statistics of so many commands that begin now.
    #[must_use]
    pub fn new(now: Now, commands: usize) -> Self {
        Stats {
            started: now,
            unrecorded: Vec::with_capacity(UNRECORDED_MAX),
            commands: std::iter::repeat_with(CommandStats::default).take(commands).collect(),
            phases: std::array::from_fn(|_| std::array::from_fn(|_| Box::new(histogram()))),
            transport_report: None,
            errors: BTreeMap::new(),
            error_replies: 0,
            commands_processed: 0,
            connections_received: 0,
            rejected_connections: 0,
            evicted_clients: 0,
            http_warned_ns: None,
            query_buffer_disconnects: 0,
            output_buffer_disconnects: 0,
            net_input_bytes: 0,
            net_output_bytes: 0,
            reads_processed: 0,
            writes_processed: 0,
            turns: 0,
            busy_turns: 0,
            turns_ns: 0,
            execute_ns: 0,
            turn_ns_max: 0,
            parks: 0,
            prefetch_batches: 0,
            prefetch_keys: 0,
            auth_denied: 0,
            recent_input_max: 0,
            recent_output_max: 0,
            ops_rate: Rate::default(),
            input_rate: Rate::default(),
            output_rate: Rate::default(),
            turn_rate: Rate::default(),
            rates_at_ns: 0,
            logs: CommandLogs::default(),
            latency: LatencyMonitor::default(),
        }
    }

    /// Counts one run of a command.
    #[inline]
    pub fn record_command(&mut self, id: CommandId, kind: PeerKind, took_ns: u64, failed: bool, track: bool) {
        let stats = &mut self.commands[id.index()];
        stats.calls += 1;
        stats.total_ns += took_ns;
        stats.failed += u64::from(failed);
        self.execute_ns += took_ns;
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
        self.error_replies += 1;
        let code = text.split(' ').next().unwrap_or("ERR");
        if let Some(count) = self.errors.get_mut(code) {
            *count += 1;
        } else if self.errors.len() < ERROR_KINDS_MAX {
            self.errors.insert(code.to_owned(), 1);
        }
    }

    /// Samples the rates if it is time.
    pub fn sample_rates(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.rates_at_ns) >= RATE_INTERVAL_NS {
            self.rates_at_ns = now_ns;
            self.ops_rate.sample(self.commands_processed, now_ns);
            self.input_rate.sample(self.net_input_bytes, now_ns);
            self.output_rate.sample(self.net_output_bytes, now_ns);
            self.turn_rate.sample(self.busy_turns, now_ns);
        }
    }

    /// CONFIG RESETSTAT: everything back to the start, but the logs, the latency events and what
    /// describes the present.
    pub fn reset(&mut self) {
        let fresh = Stats::new(self.started, self.commands.len());
        let old = std::mem::replace(self, fresh);
        self.logs = old.logs;
        self.latency = old.latency;
        self.rates_at_ns = old.rates_at_ns;
        self.transport_report = old.transport_report;
    }
}
