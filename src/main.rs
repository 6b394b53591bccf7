//! The server program: reads its arguments, loads the settings and runs.

#![forbid(unsafe_code)]

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use tercel::executor::Ending;
use tercel::process::{host_check, logging};
use tercel::start;
use tercel::start::disk::MachineDisk;
use tercel_core::settings;
use tercel_core::settings::file::{STANDARD_INPUT, Source};

const USAGE: &str = "Usage: tercel-server [/path/to/tercel.conf] [--setting value ...]
       tercel-server - [--setting value ...]    read the configuration from standard input
       tercel-server -v | --version
       tercel-server -h | --help
       tercel-server --check-host       say what on this host costs tail latency
       tercel-server --settings-doc     print the settings as documentation

Examples:
       tercel-server --port 7777
       tercel-server /etc/tercel/tercel.conf --loglevel verbose
       tercel-server --busy-poll-us -1 --cpu-affinity 2
";

/// Options in order: name and values.
type Options = Vec<(String, Vec<String>)>;

/// The configuration file, whether standard input is read behind it, and the options.
fn parse_arguments(arguments: impl Iterator<Item = String>) -> (Option<PathBuf>, bool, Options) {
    let mut arguments: Vec<String> = arguments.collect();
    let (mut file, mut from_input) = (None, false);
    let mut options: Options = Vec::new();
    // A dash as the first or the last argument; anywhere else it is a value.
    if arguments.last().is_some_and(|last| last == STANDARD_INPUT) {
        from_input = true;
        arguments.pop();
    }
    for (at, argument) in arguments.into_iter().enumerate() {
        if at == 0 && argument == STANDARD_INPUT {
            from_input = true;
        } else if let Some(name) = argument.strip_prefix("--") {
            // `--port 6380` in one word, as Valkey takes it, too.
            let mut words = name.split_whitespace().map(str::to_owned);
            options.push((words.next().unwrap_or_default(), words.collect()));
        } else if at == 0 {
            file = Some(PathBuf::from(argument));
        } else if let Some((_, values)) = options.last_mut() {
            values.push(argument);
        } else {
            // A value without an option is an option that nobody knows.
            options.push((argument, Vec::new()));
        }
    }
    (file, from_input, options)
}

fn main() -> ExitCode {
    let mut arguments = Vec::new();
    for argument in std::env::args_os().skip(1) {
        match argument.into_string() {
            Ok(argument) => arguments.push(argument),
            Err(argument) => {
                eprintln!("the argument '{}' is not UTF-8 text", argument.to_string_lossy());
                return ExitCode::FAILURE;
            }
        }
    }
    match arguments.first().map(String::as_str) {
        Some("-v" | "--version") => {
            println!("Tercel server v={} valkey-compatible=9.1 bits={}", env!("CARGO_PKG_VERSION"), usize::BITS);
            return ExitCode::SUCCESS;
        }
        Some("-h" | "--help") => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Some("--settings-doc") => {
            print!("{}", settings::documentation());
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let check_only = arguments.first().is_some_and(|argument| argument == "--check-host");
    let (file, from_input, options) = parse_arguments(arguments.into_iter().skip(usize::from(check_only)));
    let mut text = Vec::new();
    if from_input && let Err(error) = std::io::stdin().read_to_end(&mut text) {
        eprintln!("can't read the configuration from standard input: {error}");
        return ExitCode::FAILURE;
    }
    let file_source = file.as_deref().map(Source::File);
    let sources: Vec<Source<'_>> = file_source.into_iter().chain(from_input.then_some(Source::Text(&text))).collect();
    let settings = match settings::file::load(&MachineDisk, &sources, &options) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if check_only {
        let core = host_check::parse_cpu_list(&settings.cpu_affinity.0).first().copied();
        for finding in host_check::check(&settings, core) {
            println!("- {}\n  To mend: {}.", finding.what, finding.mend);
        }
        return ExitCode::SUCCESS;
    }
    let guard = match logging::start(&settings) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("Can't open the log file '{}': {error}", settings.logfile);
            return ExitCode::FAILURE;
        }
    };
    let log_to_file = !settings.logfile.is_empty();
    let stop = Arc::new(AtomicUsize::new(0));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        if let Err(error) = signal_hook::flag::register_usize(signal, Arc::clone(&stop), signal as usize) {
            tracing::warn!("can't handle signal {signal}: {error}");
        }
    }
    // Past a limit on the size of files a snapshot fails with an error, and the server goes on; and as in
    // Valkey, it outlives the terminal it was started from.
    let ignored = Arc::new(AtomicBool::new(false));
    for signal in [libc::SIGXFSZ, signal_hook::consts::SIGHUP] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&ignored)) {
            tracing::warn!("can't ignore signal {signal}: {error}");
        }
    }
    let status = match start::run(settings, file, stop) {
        Ok(Ending::Shutdown) => ExitCode::SUCCESS,
        Ok(Ending::Exit(status)) => ExitCode::from(status.clamp(0, 255) as u8),
        Err(error) => {
            tracing::error!("{error}");
            if log_to_file {
                // Whoever started it sees no log.
                eprintln!("{error}");
            }
            ExitCode::FAILURE
        }
    };
    drop(guard);
    status
}
