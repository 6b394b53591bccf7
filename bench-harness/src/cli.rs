//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};

use crate::compare::{self, FailIf};
use crate::floor::Place;
use crate::load::Wait;
use crate::load::schedule::Arrivals;
use crate::report::Report;
use crate::report::files::{Outputs, complain};
use crate::report::views::Comparison;
use crate::run::{Load, LoadSpec, Session, measure, parse_rate, preload};
use crate::server::{Contender, Placement, all_answer, start};
use crate::target::{Over, Target};
use crate::workload::{Workload, WorkloadSpec};
use crate::{bytes_per_key, floor, null_server, scenario, sweep};

/// Something went wrong, or a result cannot be trusted: there is a line that begins with `!`.
const EXIT_FAILED: u8 = 1;
/// The command line, or a file it names, makes no sense. Nothing was measured. As clap has it.
const EXIT_USAGE: u8 = 2;
/// A condition of --fail-if was met, whatever else is wrong.
const EXIT_CONDITION: u8 = 3;
/// A condition of --fail-if could not be decided, and none was met.
const EXIT_UNDECIDED: u8 = 4;

/// Measures the tail latency of any RESP server, and says whether A is better than B.
///
/// A TARGET is [NAME=]tcp://HOST:PORT, [NAME=]unix:///PATH, or [NAME=]exec:COMMAND, which is started
/// and pinned with {port} and {socket} filled in and ends afterwards.
///
/// Exit status, the first that applies: 2 the command line makes no sense, 3 a condition of --fail-if
/// was met, 4 one could not be decided, 1 something is wrong (a line that begins with "!", an
/// interrupt, a report that could not be written), 0.
#[derive(Parser)]
#[command(name = "tercel-bench", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Show no progress
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Measure one server (or several, one after the other)
    Load(LoadArgs),
    /// Measure servers in interleaved rounds and say which is better
    Compare(CompareArgs),
    /// Latency against load: one rate after another, and where it bends
    Sweep(SweepArgs),
    /// A constant load while something happens
    Scenario(ScenarioArgs),
    /// Bytes a key
    Memory(MemoryArgs),
    /// The client's own floor: ping-pong with an echo
    Floor(FloorArgs),
    /// A server without a store, to find a load generator's ceiling
    #[command(hide = true)]
    NullServer(NullServerArgs),
}

#[derive(clap::Args)]
struct LoadArgs {
    /// Servers
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<Contender>,
    /// How often
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    rounds: usize,
    /// Measure the floor of the same transport afterwards, and show what is above it
    #[arg(long)]
    floor: bool,
    #[command(flatten)]
    load: LoadSpec,
    #[command(flatten)]
    workload: WorkloadSpec,
    #[command(flatten)]
    placement: Placement,
    #[command(flatten)]
    outputs: Outputs,
}

#[derive(clap::Args)]
struct CompareArgs {
    /// Servers, the first is what the others are compared with
    #[arg(required = true, num_args = 2.., value_name = "TARGET")]
    targets: Vec<Contender>,
    /// How often each is measured
    #[arg(long, default_value_t = 6, value_name = "COUNT")]
    rounds: usize,
    /// Confidence of the intervals
    #[arg(long, default_value_t = 0.95, value_name = "SHARE")]
    confidence: f64,
    /// Exit with status 3 if this is found and no accident, as in 'p999 > 1.2x'; may be repeated;
    /// wants at least 5 rounds
    #[arg(long, value_name = "CONDITION")]
    fail_if: Vec<FailIf>,
    #[command(flatten)]
    load: LoadSpec,
    #[command(flatten)]
    workload: WorkloadSpec,
    #[command(flatten)]
    placement: Placement,
    #[command(flatten)]
    outputs: Outputs,
}

#[derive(clap::Args)]
struct SweepArgs {
    /// Servers
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<Contender>,
    /// Rates, comma-separated [default: shares of what a closed loop reaches]
    #[arg(long, value_name = "RATES")]
    rates: Option<String>,
    #[command(flatten)]
    load: LoadSpec,
    #[command(flatten)]
    workload: WorkloadSpec,
    #[command(flatten)]
    placement: Placement,
    #[command(flatten)]
    outputs: Outputs,
}

#[derive(clap::Args)]
struct ScenarioArgs {
    /// A server; may be repeated
    #[arg(long = "target", required = true, value_name = "TARGET")]
    targets: Vec<Contender>,
    /// Scenario files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Disturb servers that hold keys already: scenarios write, evict and delete
    #[arg(long)]
    yes_on_data: bool,
    /// Seconds instead of those of the files
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// Divide the numbers of keys, and the memory they may take, by this
    #[arg(long, default_value_t = 1, value_name = "FACTOR", value_parser = clap::value_parser!(u64).range(1..))]
    scale_down: u64,
    /// Core of the load thread, or `none`
    #[arg(long, value_name = "CORE")]
    client_core: Option<String>,
    /// What the client does while there is nothing to do
    #[arg(long, value_enum, default_value = "spin")]
    wait: Wait,
    #[command(flatten)]
    placement: Placement,
    #[command(flatten)]
    outputs: Outputs,
}

#[derive(clap::Args)]
struct MemoryArgs {
    /// Servers
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<Contender>,
    #[command(flatten)]
    memory: bytes_per_key::BytesPerKeySpec,
    #[command(flatten)]
    placement: Placement,
    #[command(flatten)]
    outputs: Outputs,
}

#[derive(clap::Args)]
struct FloorArgs {
    /// The transport: tcp or unix over loopback, or rdma: bare work requests through an adapter
    #[arg(long, value_enum, default_value = "tcp")]
    over: Over,
    /// How the echo waits
    #[arg(long, value_enum, default_value = "spin")]
    echo_wait: Wait,
    /// Core of the echo [default: the first core if there are two]
    #[arg(long, value_name = "CORE")]
    server_core: Option<usize>,
    /// Address of an RDMA adapter of this host, for --over rdma
    #[arg(long, value_name = "ADDRESS")]
    rdma_addr: Option<IpAddr>,
    /// Seconds before anything counts
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    warmup: f64,
    /// Seconds that count
    #[arg(short, long, default_value_t = 10.0, value_name = "SECONDS")]
    duration: f64,
    /// End after so many requests that count, if that is before the duration is over
    #[arg(short = 'n', long, value_name = "COUNT")]
    requests: Option<String>,
    /// What the client does while there is nothing to do
    #[arg(long, value_enum, default_value = "spin")]
    wait: Wait,
    /// Core of the client, or `none` [default: the last core]
    #[arg(long, value_name = "CORE")]
    client_core: Option<String>,
    /// Bytes of a value in the requests, which are those of a mix of GET and SET; as in load
    #[arg(long, default_value = "64", value_name = "SIZES")]
    value_size: String,
    #[command(flatten)]
    outputs: Outputs,
}

impl FloorArgs {
    fn load(&self) -> LoadSpec {
        LoadSpec {
            connections: 1,
            pipeline: 1,
            rate: None,
            arrivals: Arrivals::Poisson,
            warmup: self.warmup,
            duration: self.duration,
            requests: self.requests.clone(),
            threads: 1,
            wait: self.wait,
            client_core: self.client_core.clone(),
            window: 1,
            drain: 2.0,
            interval: 250,
            connect_timeout: 5.0,
        }
    }
}

#[derive(clap::Args)]
struct NullServerArgs {
    /// Where to listen: tcp://127.0.0.1:PORT or unix:///PATH
    listen: Target,
    #[arg(long)]
    core: Option<usize>,
    #[arg(long, default_value_t = 64)]
    value_len: usize,
    #[arg(long)]
    spin: bool,
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == start::BECOME) {
        let Err(error) = start::become_server(&words.collect::<Vec<_>>()) else { return ExitCode::SUCCESS };
        complain(&format!("{error:#}"));
        return ExitCode::from(EXIT_FAILED);
    }
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(if error.is::<Usage>() { EXIT_USAGE } else { EXIT_FAILED })
        }
    }
}

/// Marks errors of the command line.
#[derive(Debug)]
struct Usage;

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the command line makes no sense")
    }
}

fn usage<T>(result: anyhow::Result<T>) -> anyhow::Result<T> {
    result.context(Usage)
}

fn session(quiet: bool) -> anyhow::Result<Session> {
    let mut session = Session::new(!quiet && std::io::IsTerminal::is_terminal(&std::io::stderr()));
    session.starts_itself = true;
    // Many connections need many descriptors; what the system allows is taken.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // A second one ends the program at once.
        signal_hook::flag::register_conditional_shutdown(signal, i32::from(EXIT_FAILED), session.stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, session.stop.clone()))
            .context("cannot take care of signals")?;
    }
    Ok(session)
}

fn deliver(session: &Session, outputs: &Outputs, mut report: Report) -> u8 {
    if session.stopped() && report.failure.is_none() {
        report.failure = Some("interrupted; this is what was measured until then".to_owned());
    }
    let delivered = outputs.deliver(&report);
    let asked = |of: fn(&Comparison) -> &Vec<String>| {
        report.comparison.as_ref().is_some_and(|comparison| !of(comparison).is_empty())
    };
    if asked(|comparison| &comparison.failed) {
        EXIT_CONDITION
    } else if asked(|comparison| &comparison.undecided) {
        EXIT_UNDECIDED
    } else if !report.problems().is_empty() || !delivered {
        EXIT_FAILED
    } else {
        0
    }
}

/// What every command that measures wants of its command line.
fn sensible(
    contenders: &[Contender],
    load: &LoadSpec,
    workload: &WorkloadSpec,
    placement: &Placement,
    outputs: &Outputs,
) -> anyhow::Result<(Load, Arc<Workload>)> {
    outputs.check(true)?;
    placement.check(contenders)?;
    let (mut load, seed) = (load.compile()?, workload.seed);
    load.plan.seed = seed;
    let workload = Workload::compile(workload)?;
    workload.check_connections(load.connections as u64)?;
    Ok((load, Arc::new(workload)))
}

fn run(cli: Cli) -> anyhow::Result<u8> {
    match cli.command {
        Command::Load(args) => load(cli.quiet, &args),
        Command::Compare(args) => {
            let (load, _) = usage(sensible(&args.targets, &args.load, &args.workload, &args.placement, &args.outputs))?;
            let plan = compare::Plan {
                contenders: &args.targets,
                workload: &args.workload,
                load,
                rounds: args.rounds,
                confidence: args.confidence,
                fail_if: &args.fail_if,
                placement: args.placement,
            };
            usage(plan.check())?;
            let session = session(cli.quiet)?;
            let report = compare::run(&session, &plan)?;
            Ok(deliver(&session, &args.outputs, report))
        }
        Command::Sweep(args) => {
            let (load, _) = usage(sensible(&args.targets, &args.load, &args.workload, &args.placement, &args.outputs))?;
            usage(args.rates())?;
            let session = session(cli.quiet)?;
            let report = sweep::run(&session, &args.targets, &args.workload, &load, &args.rates()?, args.placement)?;
            Ok(deliver(&session, &args.outputs, report))
        }
        Command::Scenario(args) => {
            let plan = scenario::Plan {
                files: &args.files,
                contenders: &args.targets,
                placement: args.placement,
                client_core: args.client_core.clone(),
                wait: args.wait,
                duration: args.duration,
                scale_down: args.scale_down,
                yes_on_data: args.yes_on_data,
            };
            usage(args.outputs.check(true).and_then(|()| args.placement.check(&args.targets)))?;
            let scenarios = usage(plan.scenarios())?;
            let session = session(cli.quiet)?;
            let report = scenario::run(&session, &plan, &scenarios)?;
            Ok(deliver(&session, &args.outputs, report))
        }
        Command::Memory(args) => {
            usage(args.outputs.check(false).and_then(|()| args.placement.check(&args.targets)))?;
            let combinations = usage(args.memory.compile())?;
            let session = session(cli.quiet)?;
            let report = bytes_per_key::run(&session, &args.targets, &combinations, args.placement)?;
            Ok(deliver(&session, &args.outputs, report))
        }
        Command::Floor(args) => {
            let placement = Placement {
                over: args.over,
                server_core: args.server_core,
                rdma_addr: args.rdma_addr,
                start_timeout: f64::from(u8::MAX),
            };
            let workload = WorkloadSpec { value_size: args.value_size.clone(), ..WorkloadSpec::default() };
            let (load, _) = usage(sensible(&[], &args.load(), &workload, &placement, &args.outputs))?;
            let session = session(cli.quiet)?;
            let (floor, measured) = floor::run(
                &session,
                Place { over: args.over, rdma_addr: args.rdma_addr },
                &load,
                &workload,
                args.echo_wait,
                placement.core(),
            )?;
            let mut report = Report::new("floor", session.fingerprint.clone(), workload.describe());
            report.add(&measured.label, &measured);
            report.floors.push(floor);
            Ok(deliver(&session, &args.outputs, report))
        }
        Command::NullServer(args) => {
            null_server::run(&args.listen, args.core, args.value_len, args.spin)?;
            Ok(0)
        }
    }
}

impl SweepArgs {
    /// The rates to try; none if they are to be found out.
    fn rates(&self) -> anyhow::Result<Vec<f64>> {
        ensure!(self.load.rate.is_none(), "sweep takes its rates from --rates, not from --rate");
        ensure!(self.load.pipeline == 1, "--pipeline belongs to the closed loop; sweep is an open one");
        let rates = self.rates.as_deref().unwrap_or_default();
        rates.split(',').filter(|_| !rates.is_empty()).map(parse_rate).collect::<anyhow::Result<_>>().context("--rates")
    }
}

fn load(quiet: bool, args: &LoadArgs) -> anyhow::Result<u8> {
    let (load, workload) = usage(sensible(&args.targets, &args.load, &args.workload, &args.placement, &args.outputs))?;
    usage(if (1..=1000).contains(&args.rounds) {
        Ok(())
    } else {
        Err(anyhow::anyhow!("--rounds must be from 1 to 1000"))
    })?;
    let session = session(quiet)?;
    all_answer(&args.targets, &args.placement, &session)?;
    let mut report = Report::new("load", session.fingerprint.clone(), args.workload.describe());
    for contender in &args.targets {
        let result = load_one(&session, args, contender, &workload, &load, &mut report);
        match result {
            Err(error) if report.results.is_empty() => return Err(error),
            Err(error) => report.failure = Some(format!("{}: {error:#}", contender.name)),
            Ok(()) => {}
        }
        if report.failure.is_some() || session.stopped() {
            break;
        }
    }
    Ok(deliver(&session, &args.outputs, report))
}

/// What it measured is in the report also when it fails.
fn load_one(
    session: &Session,
    args: &LoadArgs,
    contender: &Contender,
    workload: &Arc<Workload>,
    load: &Load,
    report: &mut Report,
) -> anyhow::Result<()> {
    let server = contender.up(&args.placement, session)?;
    preload(session, &server.target, workload, load.connect_timeout)?;
    for round in 1..=args.rounds {
        if session.stopped() {
            return Ok(());
        }
        if round > 1 && workload.verify {
            // What a round before left is not known to this one.
            preload(session, &server.target, workload, load.connect_timeout)?;
        }
        let label = if args.rounds == 1 { contender.name.clone() } else { format!("{} #{round}", contender.name) };
        let measured = measure(session, &label, &server.target, workload, load, None)?;
        report.add(&label, &measured);
        if let Some(failure) = &measured.outcome.failure {
            report.failure = Some(format!("{label}: {failure}"));
            return Ok(());
        }
    }
    if args.floor && !session.stopped() {
        let place = Place::beside(&server.target);
        // The echo takes the server's place; a server that spins must be out of the way first.
        drop(server);
        let (floor, _) = floor::run(session, place, load, &args.workload, Wait::Spin, args.placement.core())?;
        for result in
            report.results.iter_mut().filter(|result| result.label.split(" #").next() == Some(&contender.name))
        {
            result.floor = Some(floor.latency);
        }
        report.floors.push(floor);
    }
    Ok(())
}
