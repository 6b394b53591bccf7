//! One measurement from beginning to end: connections, preload, the load threads, the hiccup meter
//! beside them, progress, and the server's own figures before and after.

mod findings;
pub mod phases;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};

use crate::admin::Admin;
use crate::clock::{Clock, TscClock, unix_ms};
use crate::cores::{cores, usable};
use crate::fingerprint::Fingerprint;
use crate::hiccup::HiccupMeter;
use crate::histogram::{self, IntervalLog, human_ns};
use crate::load::schedule::Arrivals;
use crate::load::{self, Outcome, Pacing, Plan, Wait};
use crate::recorder::{Collector, PartOf, Recording, recorder};
use crate::target::{AnyClient, Target};
use crate::workload::values::parse_count;
use crate::workload::{Generator, Workload};
pub use findings::Finding;
use phases::Phase;

/// A load in the words of the command line.
#[derive(Clone, Debug, PartialEq, clap::Args)]
#[command(next_help_heading = "Load")]
pub struct LoadSpec {
    /// Connections in all
    #[arg(short, long, default_value_t = 1, value_name = "COUNT")]
    pub connections: usize,
    /// Closed loop: requests a connection sends in one piece before it waits for all replies
    #[arg(short = 'P', long, default_value_t = 1, value_name = "COUNT")]
    pub pipeline: usize,
    /// Open loop: requests a second (10k, 1.5m), latency counted from the intended time
    #[arg(short, long, value_name = "RATE")]
    pub rate: Option<String>,
    /// Spacing of an open loop's requests
    #[arg(long, value_enum, default_value = "poisson")]
    pub arrivals: Arrivals,
    /// Seconds before anything counts
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    pub warmup: f64,
    /// Seconds that count
    #[arg(short, long, default_value_t = 10.0, value_name = "SECONDS")]
    pub duration: f64,
    /// End after so many requests that count, if that is before the duration is over
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub requests: Option<String>,
    /// Load threads, each with its share of connections and rate
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub threads: usize,
    /// What the client does while there is nothing to do
    #[arg(long, value_enum, default_value = "spin")]
    pub wait: Wait,
    /// Core of the first load thread, the others follow; `none` leaves it to the kernel
    /// [default: the last core]
    #[arg(long, value_name = "CORE")]
    pub client_core: Option<String>,
    /// Open loop: requests under way on one connection at most
    #[arg(long, default_value_t = 4096, value_name = "COUNT")]
    pub window: usize,
    /// Seconds to wait for replies after the end
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    pub drain: f64,
    /// Length of an interval of the time line in milliseconds
    #[arg(long, default_value_t = 250, value_name = "MS")]
    pub interval: u64,
    /// Seconds a connect may take
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    pub connect_timeout: f64,
}

impl LoadSpec {
    /// Checks the figures and reads those with units.
    ///
    /// # Errors
    /// One of them makes no sense.
    pub fn compile(&self) -> anyhow::Result<Load> {
        ensure!((1..=65_536).contains(&self.connections), "--connections must be from 1 to 65536");
        ensure!((1..=65_536).contains(&self.pipeline), "--pipeline must be from 1 to 65536");
        ensure!((1..=1024).contains(&self.threads), "--threads must be from 1 to 1024");
        ensure!(self.threads <= self.connections, "--threads must not exceed --connections");
        ensure!((1..=1 << 20).contains(&self.window), "--window must be from 1 to 1048576");
        ensure!((1..=60_000).contains(&self.interval), "--interval must be from 1 to 60000");
        let seconds = |name: &str, value: f64, max: f64| {
            ensure!((0.0..=max).contains(&value), "{name} must be from 0 to {max} seconds");
            Ok((value * 1e9) as u64)
        };
        let duration_ns = seconds("--duration", self.duration, 1e6)?;
        ensure!(duration_ns > 0, "--duration must be above 0");
        let rate = self.rate.as_deref().map(parse_rate).transpose().context("--rate")?;
        ensure!(
            rate.is_none() || self.pipeline == 1,
            "--pipeline belongs to the closed loop; --rate sends when it is time"
        );
        let requests = self.requests.as_deref().map(parse_count).transpose().context("--requests")?;
        ensure!(requests != Some(0), "--requests must be at least 1");
        let client_cores = match self.client_core.as_deref() {
            Some("none") => Vec::new(),
            Some(core) => {
                let first: usize = core.parse().with_context(|| format!("--client-core {core:?} is no core"))?;
                let wanted: Vec<usize> = (0..self.threads).map(|thread| first.saturating_add(thread)).collect();
                wanted.iter().try_for_each(|core| usable(*core)).context("--client-core")?;
                wanted
            }
            // With one core the client and everything else share it anyway.
            None => {
                let cores = cores();
                cores
                    .len()
                    .checked_sub(self.threads)
                    .filter(|first| *first > 0)
                    .map_or(Vec::new(), |first| cores[first..].to_vec())
            }
        };
        let connect_timeout_ns = seconds("--connect-timeout", self.connect_timeout, 3600.0)?;
        ensure!(connect_timeout_ns > 0, "--connect-timeout must be above 0");
        Ok(Load {
            connections: self.connections,
            threads: self.threads,
            rate,
            arrivals: self.arrivals,
            client_cores,
            connect_timeout: Duration::from_nanos(connect_timeout_ns),
            plan: Plan {
                pacing: match rate {
                    Some(rate) => Pacing::Open { rate: rate / self.threads as f64, arrivals: self.arrivals },
                    None => Pacing::Closed { depth: self.pipeline },
                },
                warmup_ns: seconds("--warmup", self.warmup, 1e6)?,
                duration_ns,
                requests: requests.map(|requests| requests.div_ceil(self.threads as u64)),
                window: self.window,
                drain_ns: seconds("--drain", self.drain, 3600.0)?,
                wait: self.wait,
                interval_ns: self.interval * 1_000_000,
                seed: 1,
            },
        })
    }
}

/// Reads a rate: a count with a unit, or a fraction.
///
/// # Errors
/// It is no number above 0.
pub fn parse_rate(text: &str) -> anyhow::Result<f64> {
    let rate = match text.parse::<f64>() {
        Ok(rate) => rate,
        Err(_) => parse_count(text)? as f64,
    };
    ensure!(rate > 0.0 && rate <= 1e9, "a rate must be above 0 and at most 10^9, not {text}");
    Ok(rate)
}

/// A load that makes sense.
#[derive(Clone, Debug)]
pub struct Load {
    /// Connections in all.
    pub connections: usize,
    /// Threads.
    pub threads: usize,
    /// Requests a second of all threads, in the open loop.
    pub rate: Option<f64>,
    /// Their spacing.
    pub arrivals: Arrivals,
    /// Core of each thread; none leaves it to the kernel.
    pub client_cores: Vec<usize>,
    /// How long a connect may take.
    pub connect_timeout: Duration,
    /// The plan of one thread.
    pub plan: Plan,
}

impl Load {
    /// The same load at another rate.
    #[must_use]
    pub fn at_rate(&self, rate: f64) -> Self {
        let mut load = self.clone();
        load.rate = Some(rate);
        load.plan.pacing = Pacing::Open { rate: rate / self.threads as f64, arrivals: self.arrivals };
        load
    }

    /// One line for reports.
    #[must_use]
    pub fn describe(&self) -> String {
        let loops = match (self.plan.pacing, self.rate) {
            (Pacing::Closed { depth: 1 }, _) => "closed loop".to_owned(),
            (Pacing::Closed { depth }, _) => format!("closed loop, pipeline {depth}"),
            (Pacing::Open { arrivals, rate }, whole) => {
                format!("open loop, {:.0} requests/s, {arrivals:?} arrivals", whole.unwrap_or(rate)).to_lowercase()
            }
        };
        let wait = if self.plan.wait == Wait::Spin { "busy-polling" } else { "sleeping" };
        let conns =
            if self.connections == 1 { "1 connection".to_owned() } else { format!("{} connections", self.connections) };
        let threads = if self.threads == 1 { String::new() } else { format!(", {} threads", self.threads) };
        format!("{loops}, {conns}{threads}, {wait} client")
    }
}

/// What all measurements of one run of the program share.
pub struct Session {
    /// The clock of everything.
    pub clock: TscClock,
    /// Set by the first interrupt: what is running ends and is reported.
    pub stop: Arc<AtomicBool>,
    /// Whether progress is shown.
    pub progress: bool,
    /// The machine.
    pub fingerprint: Fingerprint,
    /// Whether the running program is `tercel-bench` itself, which can start itself once more to
    /// become a server (see [`crate::server::start`]).
    pub starts_itself: bool,
}

impl Session {
    /// Calibrates the clock and looks at the machine.
    #[must_use]
    pub fn new(progress: bool) -> Self {
        let clock = TscClock::new();
        let fingerprint = Fingerprint::take(clock.check(Duration::from_millis(100)));
        Session { clock, stop: Arc::new(AtomicBool::new(false)), progress, fingerprint, starts_itself: false }
    }

    /// Whether the user wants to stop.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn bar(&self, len: u64, what: &str) -> ProgressBar {
        if !self.progress {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(len);
        if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:30}] {percent}% {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what.to_owned());
        bar
    }
}

/// Marks in the time line: how many parts there are, and which one an interval belongs to.
pub struct Parts {
    /// How many.
    pub count: usize,
    /// Which.
    pub of: PartOf,
    /// Told the time on the session's clock when the load begins.
    pub begun: Box<dyn FnOnce(u64) + Send>,
}

/// What one measurement found.
pub struct Measured {
    /// What the user calls the server.
    pub label: String,
    /// Where it is.
    pub target: Target,
    /// The server's name and version.
    pub server: String,
    /// The load in words.
    pub load: String,
    /// Requests a second asked for, in the open loop.
    pub rate_asked: Option<f64>,
    /// Names of the commands, as the recording has them.
    pub commands: Vec<String>,
    /// Counts of the load threads.
    pub outcome: Outcome,
    /// What was recorded.
    pub recording: Recording,
    /// How late a sleeping thread woke during the load.
    pub hiccups: Histogram<u64>,
    /// CPU of the load threads in seconds.
    pub client_cpu_s: f64,
    /// CPU of the server in seconds, if it says.
    pub server_cpu_s: Option<f64>,
    /// The server's own distributions, if it has them.
    pub phases: Vec<Phase>,
    /// Whether replies were to be compared with what had been written.
    pub verify: bool,
    /// Whether reads may find nothing without anything being wrong.
    pub may_miss: bool,
}

/// A server that answers nothing for so long while keys are written is given up.
const PRELOAD_PATIENCE: Duration = Duration::from_secs(20);

/// Writes all keys of a workload, if it wants that.
///
/// # Errors
/// The server is not reachable or refuses.
pub fn preload(session: &Session, target: &Target, workload: &Workload, timeout: Duration) -> anyhow::Result<()> {
    if !workload.preload {
        return Ok(());
    }
    let mut admin = Admin::connect(target, timeout)?;
    admin.set_patience(PRELOAD_PATIENCE);
    workload.preloading(session.clock.now_ns());
    let bar = session.bar(workload.keys(), "preload");
    let done = admin.preload(workload, 0, workload.keys(), |seen| {
        bar.set_position(seen);
        !session.stopped()
    });
    bar.finish_and_clear();
    ensure!(!session.stopped(), "interrupted while the keys were written");
    done.context("cannot preload the keys")
}

struct Ready {
    client: AnyClient,
    conns: usize,
    generator: Generator,
}

/// Measures. Everything that needs time of its own, connecting and preloading, is done before.
///
/// # Errors
/// The load could not begin. Once it has begun, failures are part of what is returned.
pub fn measure(
    session: &Session,
    label: &str,
    target: &Target,
    workload: &Arc<Workload>,
    load: &Load,
    parts: Option<Parts>,
) -> anyhow::Result<Measured> {
    let mut admin = Admin::connect(target, load.connect_timeout)?;
    admin.set_patience(Duration::from_secs(10));
    let info = admin.info().with_context(|| format!("{target} does not answer as a RESP server"))?;
    let before = phases::read(&mut admin, workload.names());
    let mut threads = Vec::new();
    for thread in 0..load.threads {
        let (from, to) = (load.connections * thread / load.threads, load.connections * (thread + 1) / load.threads);
        let mut client = target.client()?;
        for conn in from..to {
            client.connect(load.connect_timeout).with_context(|| {
                format!("cannot connect to {target} (connection {} of {})", conn + 1, load.connections)
            })?;
        }
        let generator = Generator::new(workload.clone(), thread as u64, from as u64, load.connections as u64)?;
        threads.push(Ready { client, conns: to - from, generator });
    }
    let cpu_before = phases::cpu_s(&admin.info()?);

    // The meter goes where neither the client nor, usually, the server is; the kernel finds it a
    // place where there is none.
    let meter = HiccupMeter::start(session.clock.clone(), None);
    let (outcome, recording, client_cpu_s) = drive(session, label, workload, load, threads, parts)?;
    let hiccups = meter.finish();

    // A server that is gone has nothing to add.
    let info_after = admin.info().unwrap_or_default();
    let after = phases::read(&mut admin, workload.names());
    Ok(Measured {
        label: label.to_owned(),
        target: target.clone(),
        server: phases::version(&info),
        load: load.describe(),
        rate_asked: load.rate,
        commands: workload.names().to_vec(),
        outcome,
        recording,
        hiccups,
        client_cpu_s,
        server_cpu_s: phases::cpu_s(&info_after).zip(cpu_before).map(|(after, before)| after - before),
        phases: phases::between(&before, after),
        verify: workload.verify,
        may_miss: workload.may_miss,
    })
}

fn drive(
    session: &Session,
    label: &str,
    workload: &Workload,
    load: &Load,
    threads: Vec<Ready>,
    parts: Option<Parts>,
) -> anyhow::Result<(Outcome, Recording, f64)> {
    let count = threads.len();
    let barrier = Barrier::new(count + 1);
    std::thread::scope(|scope| {
        let mut taps = Vec::new();
        let mut handles = Vec::new();
        for (index, mut ready) in threads.into_iter().enumerate() {
            let (mut recorder, tap) = recorder(workload.names().len(), load.plan.interval_ns);
            taps.push(tap);
            let plan = Plan { seed: load.plan.seed.wrapping_add(index as u64), ..load.plan.clone() };
            let (clock, barrier, stop) = (&session.clock, &barrier, &*session.stop);
            let core = load.client_cores.get(index).copied();
            let body = move || {
                let pinned = core.is_none_or(|id| core_affinity::set_for_current(core_affinity::CoreId { id }));
                barrier.wait();
                let cpu = thread_cpu_s();
                let mut outcome =
                    load::run(&mut ready.client, ready.conns, clock, &plan, &mut ready.generator, &mut recorder, stop);
                let cpu = thread_cpu_s() - cpu;
                recorder.finish(outcome.measured_to_ns.max(clock.now_ns()));
                if !pinned && outcome.failure.is_none() {
                    outcome.failure =
                        Some(format!("the load thread could not be pinned to core {}", core.unwrap_or_default()));
                }
                (outcome, cpu)
            };
            handles.push(
                std::thread::Builder::new()
                    .name(format!("load-{index}"))
                    .spawn_scoped(scope, body)
                    .context("cannot start a load thread")?,
            );
        }
        barrier.wait();
        let origin_ns = session.clock.now_ns();
        let log = IntervalLog::new(unix_ms(), &format!("{label}: {}", load.describe()));
        let (mut part_count, mut part_of) = (0, None);
        if let Some(parts) = parts {
            (part_count, part_of) = (parts.count, Some(parts.of));
            (parts.begun)(origin_ns);
        }
        let mut collector = Collector::new(workload.names(), origin_ns, log, part_count, part_of);
        let total_ms = (load.plan.warmup_ns + load.plan.duration_ns) / 1_000_000;
        let bar = session.bar(total_ms, label);
        let mut so_far = histogram::new();
        loop {
            let sets: Vec<_> = taps.iter().map(|tap| tap.full.recv().ok()).collect();
            if sets.iter().all(Option::is_none) {
                break;
            }
            let mut present = Vec::with_capacity(count);
            let mut owners = Vec::with_capacity(count);
            for (tap, set) in taps.iter().zip(sets) {
                if let Some(set) = set {
                    present.push(set);
                    owners.push(tap);
                }
            }
            collector.take(&present);
            if session.progress {
                for op in present.iter().flat_map(|set| &set.ops).filter(|op| !op.is_empty()) {
                    histogram::merge(&mut so_far, op);
                }
                let at = |quantile| human_ns(so_far.value_at_quantile(quantile) as f64);
                let rate = collector.recording().intervals.last().map_or(0.0, |interval| interval.rate);
                bar.set_position((session.clock.now_ns() - origin_ns) / 1_000_000);
                bar.set_message(format!("{rate:.0}/s  p50 {}  p99 {}  p999 {}", at(0.5), at(0.99), at(0.999)));
            }
            owners.iter().zip(present).for_each(|(tap, set)| tap.recycle(set));
        }
        bar.finish_and_clear();
        let (mut whole, mut cpu_s): (Option<Outcome>, f64) = (None, 0.0);
        for handle in handles {
            let Ok((outcome, cpu)) = handle.join() else { bail!("a load thread panicked") };
            cpu_s += cpu;
            match &mut whole {
                Some(whole) => whole.merge(outcome),
                None => whole = Some(outcome),
            }
        }
        let outcome = whole.context("there is no load thread")?;
        Ok((outcome, collector.finish(), cpu_s))
    })
}

/// CPU time of the calling thread in seconds.
#[must_use]
pub fn thread_cpu_s() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
