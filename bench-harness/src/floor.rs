//! The client's own floor: the same loop over the same transport against an echo, which has nothing
//! to do but send back. What a server's latency has above it is the server's.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;
use tempfile::TempDir;

use crate::clock::sleep;
use crate::histogram::{CurvePoint, Summary, curve};
use crate::load::{Pacing, Wait};
use crate::report::table::summaries;
use crate::run::{Load, Session, measure};
use crate::server::Over;
use crate::target::Target;
use crate::workload::{Workload, WorkloadSpec};

/// A connection that was silent for so many turns is looked at only now and then.
const SILENT_TURNS: u32 = 10_000;

/// What the client and the transport cost by themselves.
#[derive(Clone, Debug, Serialize)]
pub struct Floor {
    /// `tcp`, `unix`.
    pub transport: String,
    /// How the echo waits.
    pub echo: String,
    /// The load in words.
    pub load: String,
    /// Latencies of the echo.
    pub latency: Summary,
    /// What a sleeping thread saw meanwhile.
    pub hiccups: Summary,
    /// The percentile curve.
    pub curve: Vec<CurvePoint>,
}

impl Floor {
    /// The table.
    #[must_use]
    pub fn table(&self) -> String {
        let title = format!("floor of {}", self.transport);
        let rows = [(title, self.latency, Vec::new()), ("machine: hiccups".to_owned(), self.hiccups, Vec::new())];
        format!("{}, echo {}\n{}", self.load, self.echo, summaries("", &[], &rows))
    }
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn accept(&self, nonblocking: bool) -> std::io::Result<Box<dyn Stream>> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(nonblocking)?;
                Ok(Box::new(stream))
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(nonblocking)?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// An echo on a thread of its own.
pub struct Echo {
    /// Where it listens.
    pub target: Target,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _directory: Option<TempDir>,
}

impl Echo {
    /// Starts one, spinning on `core` or sleeping.
    ///
    /// # Errors
    /// It cannot listen, or gets no thread.
    pub fn start(over: Over, wait: Wait, core: Option<usize>) -> anyhow::Result<Self> {
        let (listener, target, directory) = match over {
            Over::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").context("the echo cannot listen")?;
                listener.set_nonblocking(true)?;
                let target = Target::Tcp(listener.local_addr()?);
                (Listener::Tcp(listener), target, None)
            }
            Over::Unix => {
                let directory = tempfile::Builder::new().prefix("tercel-bench-").tempdir()?;
                let path = directory.path().join("echo");
                let listener = UnixListener::bind(&path).context("the echo cannot listen")?;
                listener.set_nonblocking(true)?;
                (Listener::Unix(listener), Target::Unix(path), Some(directory))
            }
        };
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let body = move || {
            if let Some(id) = core {
                core_affinity::set_for_current(core_affinity::CoreId { id });
            }
            match wait {
                Wait::Spin => spin(&listener, &seen),
                Wait::Block => block(&listener, &seen),
            }
        };
        let thread =
            std::thread::Builder::new().name("echo".to_owned()).spawn(body).context("the echo gets no thread")?;
        Ok(Echo { target, stop, thread: Some(thread), _directory: directory })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn spin(listener: &Listener, stop: &AtomicBool) {
    let mut streams: Vec<(Box<dyn Stream>, u32)> = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut turn = 0u32;
    while !stop.load(Ordering::Relaxed) {
        turn = turn.wrapping_add(1);
        if turn.is_multiple_of(1024) {
            streams.extend(listener.accept(true).ok().map(|stream| (stream, 0)));
        }
        streams.retain_mut(|(stream, silent)| {
            if *silent > SILENT_TURNS && turn % 1024 != 1 {
                return true;
            }
            match stream.read(&mut buffer) {
                Ok(0) => false,
                Ok(len) => {
                    *silent = 0;
                    write_all(&mut **stream, &buffer[..len], stop)
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    *silent = silent.saturating_add(1);
                    true
                }
                Err(_) => false,
            }
        });
    }
}

fn write_all(stream: &mut dyn Stream, mut bytes: &[u8], stop: &AtomicBool) -> bool {
    while !bytes.is_empty() && !stop.load(Ordering::Relaxed) {
        match stream.write(bytes) {
            Ok(len) => bytes = &bytes[len..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(_) => return false,
        }
    }
    true
}

fn block(listener: &Listener, stop: &Arc<AtomicBool>) {
    // Threads end when their peers close, which the caller's client does before the echo is dropped.
    while !stop.load(Ordering::Relaxed) {
        if let Ok(mut stream) = listener.accept(false) {
            let seen = stop.clone();
            let body = move || {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(len @ 1..) = stream.read(&mut buffer) {
                    if !write_all(&mut *stream, &buffer[..len], &seen) {
                        break;
                    }
                }
            };
            // Without a thread the connection is closed, which its client reports.
            let _ = std::thread::Builder::new().name("echo-connection".to_owned()).spawn(body);
        } else {
            sleep(std::time::Duration::from_millis(1));
        }
    }
}

/// Plays ping-pong with an echo over loopback, one request at a time on one connection, with
/// requests as long as those of the workload.
///
/// # Errors
/// The echo or the measurement could not begin.
pub fn run(
    session: &Session,
    over: Over,
    load: &Load,
    spec: &WorkloadSpec,
    echo_wait: Wait,
    core: Option<usize>,
) -> anyhow::Result<(Floor, crate::run::Measured)> {
    let echo = Echo::start(over, echo_wait, core)?;
    let mut load = load.clone();
    load.connections = 1;
    load.threads = 1;
    load.rate = None;
    load.plan.pacing = Pacing::Closed { depth: 1 };
    let workload = Arc::new(Workload::compile(&WorkloadSpec { no_preload: true, verify: false, ..spec.clone() })?);
    let label = format!("floor {}", echo.target.scheme());
    let measured = measure(session, &label, &echo.target, &workload, &load, None)?;
    let total: Histogram<u64> = measured.recording.total();
    let floor = Floor {
        transport: echo.target.scheme().to_owned(),
        echo: if echo_wait == Wait::Spin { "spins" } else { "sleeps" }.to_owned(),
        load: load.describe(),
        latency: Summary::of(&total),
        hiccups: Summary::of(&measured.hiccups),
        curve: curve(&total),
    };
    Ok((floor, measured))
}
