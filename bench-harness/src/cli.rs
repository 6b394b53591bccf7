//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};

use crate::compare::{self, FailIf, Placement};
use crate::load::Wait;
use crate::report::Report;
use crate::report::files::Outputs;
use crate::run::{LoadSpec, Session, measure, parse_rate, preload};
use crate::server::{Contender, Over};
use crate::target::Target;
use crate::workload::{Workload, WorkloadSpec};
use crate::{floor, memory, null_server, scenario, sweep};

/// Something went wrong, or a result cannot be trusted.
const EXIT_FAILED: u8 = 1;
/// The command line makes no sense.
const EXIT_USAGE: u8 = 2;
/// A condition of --fail-if was met.
const EXIT_CONDITION: u8 = 3;

/// Measures the tail latency of any RESP server, and says whether A is better than B.
///
/// A TARGET is [NAME=]tcp://HOST:PORT, [NAME=]unix:///PATH, or [NAME=]exec:COMMAND, which is started
/// and pinned with {port} and {socket} filled in and ends afterwards.
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
    /// Measure the floor of the same transport first, and show what is above it
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
    /// Exit with status 3 if this is found and no accident, as in 'p999 > 1.2x'; may be repeated
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
    /// Seconds instead of those of the files
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// Divide the numbers of keys by this
    #[arg(long, default_value_t = 1, value_name = "FACTOR")]
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
    memory: memory::MemorySpec,
    #[command(flatten)]
    placement: Placement,
    #[command(flatten)]
    outputs: Outputs,
}

#[derive(clap::Args)]
struct FloorArgs {
    /// How the echo waits
    #[arg(long, value_enum, default_value = "spin")]
    echo_wait: Wait,
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
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("tercel-bench: {error:#}");
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
    let session = Session::new(!quiet && std::io::IsTerminal::is_terminal(&std::io::stderr()));
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

fn deliver(outputs: &Outputs, report: &Report) -> u8 {
    let delivered = outputs.deliver(report);
    if report.failed() || !delivered {
        EXIT_FAILED
    } else if report.comparison.as_ref().is_some_and(|comparison| !comparison.failed.is_empty()) {
        EXIT_CONDITION
    } else {
        0
    }
}

fn run(cli: Cli) -> anyhow::Result<u8> {
    match cli.command {
        Command::Load(args) => load(cli.quiet, &args),
        Command::Compare(args) => {
            let load = usage(args.load.compile())?;
            usage(Workload::compile(&args.workload))?;
            usage(if (0.5..1.0).contains(&args.confidence) {
                Ok(())
            } else {
                Err(anyhow::anyhow!("--confidence must be from 0.5 to below 1"))
            })?;
            let session = session(cli.quiet)?;
            let plan = compare::Plan {
                contenders: &args.targets,
                workload: &args.workload,
                load,
                rounds: args.rounds,
                confidence: args.confidence,
                fail_if: &args.fail_if,
                placement: args.placement,
            };
            let report = compare::run(&session, &plan)?;
            Ok(deliver(&args.outputs, &report))
        }
        Command::Sweep(args) => {
            let load = usage(args.load.compile())?;
            usage(Workload::compile(&args.workload))?;
            let rates =
                args.rates.as_deref().map(|text| text.split(',').map(parse_rate).collect::<anyhow::Result<Vec<f64>>>());
            let rates = usage(rates.transpose().context("--rates"))?.unwrap_or_default();
            let session = session(cli.quiet)?;
            let report = sweep::run(&session, &args.targets, &args.workload, &load, &rates, args.placement)?;
            Ok(deliver(&args.outputs, &report))
        }
        Command::Scenario(args) => {
            let session = session(cli.quiet)?;
            let plan = scenario::Plan {
                files: &args.files,
                contenders: &args.targets,
                placement: args.placement,
                client_core: args.client_core.clone(),
                wait: args.wait,
                duration: args.duration,
                scale_down: args.scale_down,
            };
            let report = scenario::run(&session, &plan)?;
            Ok(deliver(&args.outputs, &report))
        }
        Command::Memory(args) => {
            let session = session(cli.quiet)?;
            let report = memory::run(&session, &args.targets, &args.memory, args.placement)?;
            Ok(deliver(&args.outputs, &report))
        }
        Command::Floor(args) => {
            let load = usage(args.load.compile())?;
            let session = session(cli.quiet)?;
            let placement = &args.placement;
            let (floor, measured) =
                floor::run(&session, placement.over, &load, &args.workload, args.echo_wait, placement.core())?;
            let mut report = Report::new("floor", session.fingerprint.clone(), args.workload.describe());
            report.add(&measured.label, &measured);
            report.floors.push(floor);
            Ok(deliver(&args.outputs, &report))
        }
        Command::NullServer(args) => {
            null_server::run(&args.listen, args.core, args.value_len, args.spin)?;
            Ok(0)
        }
    }
}

fn load(quiet: bool, args: &LoadArgs) -> anyhow::Result<u8> {
    let load = usage(args.load.compile())?;
    let workload = Arc::new(usage(Workload::compile(&args.workload))?);
    usage(if (1..=1000).contains(&args.rounds) {
        Ok(())
    } else {
        Err(anyhow::anyhow!("--rounds must be from 1 to 1000"))
    })?;
    let session = session(quiet)?;
    let mut report = Report::new("load", session.fingerprint.clone(), args.workload.describe());
    for contender in &args.targets {
        let result = load_one(&session, args, contender, &workload, &load, &mut report);
        match result {
            Err(error) if report.results.is_empty() => return Err(error),
            Err(error) => {
                report.failure = Some(format!("{}: {error:#}", contender.name));
                break;
            }
            Ok(()) => {}
        }
    }
    Ok(deliver(&args.outputs, &report))
}

fn load_one(
    session: &Session,
    args: &LoadArgs,
    contender: &Contender,
    workload: &Arc<Workload>,
    load: &crate::run::Load,
    report: &mut Report,
) -> anyhow::Result<()> {
    let server = contender.up(args.placement.over, args.placement.core())?;
    preload(session, &server.target, workload, load.connect_timeout)?;
    ensure!(!session.stopped(), "interrupted");
    for round in 1..=args.rounds {
        let label = if args.rounds == 1 { contender.name.clone() } else { format!("{} #{round}", contender.name) };
        let measured = measure(session, &label, &server.target, workload, load, None)?;
        report.add(&label, &measured);
        if let Some(failure) = &measured.outcome.failure {
            anyhow::bail!("{failure}");
        }
        ensure!(!session.stopped(), "interrupted");
    }
    if args.floor {
        let over = if server.target.scheme() == "unix" { Over::Unix } else { Over::Tcp };
        // The echo takes the server's place; a server that spins must be out of the way first.
        drop(server);
        let (floor, _) = floor::run(session, over, load, &args.workload, Wait::Spin, args.placement.core())?;
        for result in
            report.results.iter_mut().filter(|result| result.label.split(" #").next() == Some(&contender.name))
        {
            result.floor = Some(floor.latency);
        }
        report.floors.push(floor);
    }
    Ok(())
}
