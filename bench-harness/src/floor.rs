//! The client's own floor: the same loop over the same transport against an echo, which has nothing
//! to do but send back. What a server's latency has above it is the server's.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Context;
use hdrhistogram::Histogram;
use tempfile::TempDir;
use tercel_rdma::endpoint::Options;
use tercel_rdma::hca::HcaDevice;
use tercel_rdma::raw::RawEcho;

use crate::clock::sleep;
use crate::histogram::{Summary, curve};
use crate::load::{Pacing, Wait};
use crate::report::views::Floor;
use crate::run::{Load, Session, measure};
use crate::target::{Over, Target, adapters};
use crate::workload::{Workload, WorkloadSpec};

/// A connection that was silent for so many turns is looked at only now and then.
const SILENT_TURNS: u32 = 10_000;

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
    Rdma(Box<RawEcho<HcaDevice>>),
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
            Listener::Rdma(_) => Err(ErrorKind::Unsupported.into()),
        }
    }
}

/// Where an echo is to listen.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The transport.
    pub over: Over,
    /// An address of an RDMA adapter of this host, for RDMA.
    pub rdma_addr: Option<IpAddr>,
}

impl Place {
    /// Over the same transport as a target, which for RDMA must be on this host.
    #[must_use]
    pub fn beside(target: &Target) -> Place {
        let rdma_addr = match target {
            Target::Rdma(addr) | Target::RawRdma(addr) => Some(addr.ip()),
            Target::Tcp(_) | Target::Unix(_) => None,
        };
        Place { over: target.over(), rdma_addr }
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
    pub fn start(place: Place, wait: Wait, core: Option<usize>) -> anyhow::Result<Self> {
        let (listener, target, directory) = match place.over {
            Over::Rdma => {
                let addr =
                    place.rdma_addr.context("an echo over RDMA needs the address of an adapter (--rdma-addr)")?;
                let echo = RawEcho::new(adapters()?, Options::default(), SocketAddr::new(addr, 0))
                    .context("the echo cannot listen")?;
                let target = Target::RawRdma(echo.addr());
                (Listener::Rdma(Box::new(echo)), target, None)
            }
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
            match (listener, wait) {
                (Listener::Rdma(echo), _) => serve_rdma(*echo, wait, &seen),
                (listener, Wait::Spin) => spin(&listener, &seen),
                (listener, Wait::Block) => block(&listener, &seen),
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

fn serve_rdma(mut echo: RawEcho<HcaDevice>, wait: Wait, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        if !echo.turn() && wait == Wait::Block {
            echo.park(std::time::Duration::from_millis(100));
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
    place: Place,
    load: &Load,
    spec: &WorkloadSpec,
    echo_wait: Wait,
    core: Option<usize>,
) -> anyhow::Result<(Floor, crate::run::Measured)> {
    let echo = Echo::start(place, echo_wait, core)?;
    let mut load = load.clone();
    load.connections = 1;
    load.threads = 1;
    load.rate = None;
    load.plan.pacing = Pacing::Closed { depth: 1 };
    let workload =
        Arc::new(Workload::compile(&WorkloadSpec { no_preload: true, verify: false, ..spec.clone() })?.any_reply());
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
