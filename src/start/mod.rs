//! Putting the server together: settings, log, transport, listeners, pinning, executor.

pub mod disk;
pub mod host;

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::time::Duration;

use tercel_memory::stock;
use tercel_rdma::verbs::Device as _;
use tercel_transport::Transport;
use tercel_transport_tcp::{Backend, TcpOptions, TcpTransport};

use crate::executor::{Ending, Executor};
use crate::metrics;
use crate::network::{self, ListenError, Network, listeners};
use crate::process::{host_check, sys};
use disk::MachineDisk;
use host::Machine;
use tercel_commands::commands;
use tercel_core::base::disk::Disk;
use tercel_core::host::ProcessInfo;
use tercel_core::persistence::LoadError;
use tercel_core::server::Server;
use tercel_core::settings::{Settings, Supervised, TransportBackend};

/// Descriptors the server needs beside its clients'.
const OWN_DESCRIPTORS: u64 = 64;
/// How long a closing connection may take to be sent its last bytes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No transport.
    #[error("can't set up the network: {0}")]
    Transport(String),
    /// Neither a port nor a unix socket.
    #[error("Configured to not listen anywhere, exiting.")]
    Nowhere,
    /// An address.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// The metrics port.
    #[error("can't listen for metrics on {addr}: {reason}")]
    Metrics {
        /// The address.
        addr: String,
        /// The operating system's words.
        reason: String,
    },
    /// The snapshot cannot be loaded.
    #[error("{0}")]
    Load(#[from] LoadError),
    /// Something the operating system refused.
    #[error("{what}: {reason}")]
    Os {
        /// What was tried.
        what: String,
        /// Its words.
        reason: String,
    },
}

/// A transport as the settings want it.
///
/// # Errors
/// [`StartError::Transport`].
pub fn transport(settings: &Settings) -> Result<TcpTransport, StartError> {
    let backend = match settings.transport_backend.0 {
        TransportBackend::Auto => Backend::Auto,
        TransportBackend::IoUring => Backend::IoUring,
        TransportBackend::Epoll => Backend::Epoll,
    };
    let options = TcpOptions {
        backend,
        drain_timeout: DRAIN_TIMEOUT,
        keepalive_seconds: settings.tcp_keepalive as u32,
        max_connections_hint: settings.maxclients as usize,
        ..TcpOptions::default()
    };
    TcpTransport::new(options).map_err(|error| StartError::Transport(error.to_string()))
}

/// Which cores do what.
struct Cores {
    /// The executor's own, if it is pinned.
    executor: Option<usize>,
    /// For everything else, near the executor's memory; empty where there is no choice.
    helpers: Vec<usize>,
}

/// Pins the calling thread to the core `cpu-affinity` names, if it is one this process may use.
fn pin(settings: &Settings) -> Cores {
    let free = Cores { executor: None, helpers: Vec::new() };
    let Some(&wanted) = host_check::parse_cpu_list(&settings.cpu_affinity.0).first() else { return free };
    // Read before pinning: afterwards only the pinned core would be listed.
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let others: Vec<usize> = cores.iter().map(|core| core.id).filter(|&id| id != wanted).collect();
    match cores.into_iter().find(|core| core.id == wanted) {
        Some(core) if core_affinity::set_for_current(core) => {
            let node = host_check::cores_of_node(wanted);
            let near: Vec<usize> = others.iter().copied().filter(|id| node.contains(id)).collect();
            Cores { executor: Some(wanted), helpers: if near.is_empty() { others } else { near } }
        }
        _ => {
            tracing::warn!("can't pin the executor to core {wanted}");
            free
        }
    }
}

/// Lets the executor's memory come from pages that were filled ahead. It works without, more slowly.
fn stock_pages(settings: &Settings, cores: &Cores) {
    let options = stock::Options {
        units: (settings.page_stock.0 as usize / stock::UNIT_BYTES).min(stock::UNITS_MAX),
        huge: !settings.disable_thp,
    };
    let cpus = cores.helpers.clone();
    if let Err(error) = stock::serve_this_thread(options, move || sys::run_on(&cpus)) {
        tracing::warn!("pages are not filled ahead: {error}");
    }
}

/// How many of `wanted` clients the limit on open files leaves room for; raises it as far as it goes.
pub(crate) fn clients_possible(wanted: i64) -> i64 {
    let open_files = sys::raise_open_files(wanted as u64 + OWN_DESCRIPTORS);
    wanted.min(open_files.saturating_sub(OWN_DESCRIPTORS).max(1) as i64)
}

/// Runs a server until it ends.
///
/// # Errors
/// [`StartError`] if it cannot start.
pub fn run(settings: Settings, config_file: Option<PathBuf>, stop: Arc<AtomicUsize>) -> Result<Ending, StartError> {
    let os = |what: &str, error: std::io::Error| StartError::Os { what: what.to_owned(), reason: error.to_string() };
    let config_file = config_file.map(|path| path.canonicalize().unwrap_or(path));
    let dir = MachineDisk
        .directory(&std::env::current_dir().unwrap_or_default(), Path::new(&settings.dir))
        .map_err(|error| os(&format!("can't use the directory '{}'", settings.dir), error))?;
    if settings.disable_thp {
        sys::disable_thp();
    }
    tercel_memory::set_background_thread(settings.jemalloc_bg_thread);
    let mut settings = settings;
    if settings.port == 0 && settings.unixsocket.is_empty() && settings.rdma_port == 0 {
        return Err(StartError::Nowhere);
    }
    let possible = clients_possible(settings.maxclients);
    if possible < settings.maxclients {
        tracing::warn!("too few files may be open: maxclients is lowered from {} to {possible}", settings.maxclients);
        settings.maxclients = possible;
    }
    let mut network = Network::new(transport(&settings)?, Box::new(network::open_adapters));
    let mut listeners = listeners::listen(network.sockets(), &settings)?;
    match network.listen_rdma(&mut listeners, &settings) {
        Err(error @ ListenError::NoRdma(_)) if settings.port != 0 || !settings.unixsocket.is_empty() => {
            tracing::warn!("{error}; serving sockets only")
        }
        done => done?,
    }
    let metrics_listener = if settings.metrics_port == 0 {
        None
    } else {
        let addr = format!("{}:{}", settings.metrics_bind, settings.metrics_port);
        Some(TcpListener::bind(&addr).map_err(|error| StartError::Metrics { addr, reason: error.to_string() })?)
    };
    let cores = pin(&settings);
    stock_pages(&settings, &cores);
    let pidfile = dir.join(&settings.pidfile);
    if !settings.pidfile.is_empty()
        && let Err(error) =
            std::fs::File::create(&pidfile).and_then(|mut file| writeln!(file, "{}", std::process::id()))
    {
        tracing::warn!("Failed to write PID file: {error}");
    }
    // Tools for Valkey know a server by its PID and that it is initialized.
    tracing::info!("Tercel {} starting, PID: {}", env!("CARGO_PKG_VERSION"), std::process::id());
    tracing::info!("Network: {}", network.describe());
    if let Some(rdma) = network.rdma() {
        tracing::info!("RDMA: port {}, adapters {}", settings.rdma_port, rdma.endpoint().device().describe());
    }
    for finding in host_check::check(&settings, cores.executor) {
        tracing::info!("Tail latency: {} To mend: {}.", finding.what, finding.mend);
    }
    let process = ProcessInfo {
        executable: std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default(),
        config_file: config_file.map(|path| path.display().to_string()).unwrap_or_default(),
        os: sys::uname(),
        multiplexing_api: network.name().to_owned(),
        pinned_core: cores.executor,
        ..ProcessInfo::default()
    };
    let (supervised, has_pidfile, port) = (settings.supervised.0, !settings.pidfile.is_empty(), settings.port);
    let waker = network.waker();
    let machine = Machine::new(process, cores.helpers.clone(), Some(Arc::clone(&waker)));
    let server = Server::new(&commands().table, settings, Rc::new(machine), dir);
    let mut executor = Executor::new(network, commands(), server, stop);
    executor.on_settings(Box::new(move |network, old, new| network.follow(&mut listeners, old, new)));
    if let Some(listener) = metrics_listener {
        let (sender, receiver) = mpsc::channel();
        executor.on_wake(Box::new(move |server| metrics::answer(&receiver, server)));
        metrics::serve(listener, sender, waker, cores.helpers)
            .map_err(|error| os("can't start the admin thread", error))?;
    }
    let remove_pidfile = || {
        if has_pidfile {
            let _ = std::fs::remove_file(&pidfile);
        }
    };
    tracing::info!("Server initialized");
    let loaded = executor.load().inspect_err(|_| remove_pidfile())?;
    if let Some(ending) = loaded {
        remove_pidfile();
        return Ok(ending);
    }
    tracing::info!("Ready to accept connections on port {port}");
    if supervised != Supervised::No {
        // Without a supervisor that listens there is nobody to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    }
    let ending = executor.run();
    tracing::info!("Tercel is now ready to exit, bye bye...");
    if supervised != Supervised::No {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    }
    remove_pidfile();
    Ok(ending)
}
