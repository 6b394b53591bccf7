//! The log: `tracing` to standard output or a file, written by a thread of its own so that the
//! executor never waits for a disk.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use tercel_core::settings::{LogLevel, Settings};

type LevelHandle = reload::Handle<LevelFilter, Registry>;

/// The one log of the process lets its level be changed.
static LEVEL: OnceLock<LevelHandle> = OnceLock::new();

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::TRACE,
        LogLevel::Verbose => LevelFilter::DEBUG,
        LogLevel::Notice => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Nothing => LevelFilter::OFF,
    }
}

/// Changes how much is logged.
pub fn set_level(level: LogLevel) {
    if let Some(handle) = LEVEL.get() {
        // The log may be gone at exit; then nothing is logged anyway.
        let _ = handle.reload(filter(level));
    }
}

/// A log file that says on standard error when it cannot be written, once until it can again.
struct LogFile {
    file: File,
    path: String,
    failing: bool,
}

impl LogFile {
    fn open(path: &str) -> io::Result<File> {
        File::options().create(true).append(true).open(path)
    }

    /// Opens the file anew if somebody moved or removed it, as log rotation does. Only the log's own
    /// thread waits for this.
    fn follow(&mut self) {
        let here = |metadata: &Metadata| (metadata.dev(), metadata.ino());
        let ours = self.file.metadata().map(|metadata| here(&metadata)).ok();
        let named = std::fs::metadata(&self.path).map(|metadata| here(&metadata)).ok();
        if (ours.is_none() || ours != named)
            && let Ok(file) = LogFile::open(&self.path)
        {
            self.file = file;
        }
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.follow();
        match self.file.write_all(bytes) {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    eprintln!(
                        "tercel-server: can't write the log file {}: {error}; lines are lost until it can",
                        self.path
                    );
                }
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins logging. Keep the guard: what is still queued is written when it goes.
///
/// # Errors
/// The log file cannot be opened.
pub fn start(settings: &Settings) -> io::Result<WorkerGuard> {
    let (level, handle) = reload::Layer::new(filter(settings.loglevel.0));
    let (writer, guard) = if settings.logfile.is_empty() {
        tracing_appender::non_blocking(io::stdout())
    } else {
        let file = LogFile::open(&settings.logfile)?;
        tracing_appender::non_blocking(LogFile { file, path: settings.logfile.clone(), failing: false })
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_target(false).with_ansi(false);
    if tracing_subscriber::registry().with(level).with(layer).try_init().is_ok() {
        let _ = LEVEL.set(handle);
    }
    Ok(guard)
}
