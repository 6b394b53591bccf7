//! The RDMA side: made from settings, and what it tells of itself.

use std::time::Duration;

use tercel_rdma::RdmaTransport;
use tercel_rdma::endpoint::Options;
use tercel_rdma::hca::{HcaDevice, HcaOptions};
use tercel_rdma::verbs::{Device, VerbsError};
use tercel_transport::Transport;
use tercel_transport::report::{Figure, Report, Value};

use tercel_core::settings::Settings;

/// Connections beyond `maxclients` that are taken to be told so.
const TURNED_AWAY: usize = 32;

/// Makes the RDMA side when it is first needed.
pub type Opener<D> = Box<dyn Fn(&Settings) -> Result<RdmaTransport<D>, VerbsError>>;

/// The RDMA side over this host's adapters.
///
/// # Errors
/// One line that says what is missing.
pub fn open_adapters(settings: &Settings) -> Result<RdmaTransport<HcaDevice>, VerbsError> {
    let options = rdma_options(settings);
    let per_connection = options.send_depth + options.recv_depth;
    let cq_depth = u32::try_from(options.connections_max).unwrap_or(u32::MAX).saturating_mul(per_connection);
    let completion_vector = u32::try_from(settings.rdma_completion_vector).ok();
    let device = HcaDevice::open(HcaOptions { cq_depth, completion_vector, huge_pages: settings.rdma_huge_pages })?;
    RdmaTransport::new(device, options)
}

/// An endpoint's options as the settings want them.
#[must_use]
pub fn rdma_options(settings: &Settings) -> Options {
    // Some more than that may connect, to be told that there are too many.
    let at_most = |wanted: i64| if wanted == 0 { settings.maxclients as usize + TURNED_AWAY } else { wanted as usize };
    Options {
        rx_window_bytes: settings.rdma_rx_size as u32,
        connections_max: at_most(settings.rdma_connections_max),
        connections_per_address_max: at_most(settings.rdma_connections_per_address_max),
        pinned_bytes_max: settings.rdma_pinned_bytes_max.0 as usize,
        handshake_timeout: Duration::from_millis(settings.rdma_handshake_timeout_ms as u64),
        ..Options::default()
    }
}

/// What its endpoint counted since the start.
pub(super) fn report<D: Device>(rdma: &mut RdmaTransport<D>, port: u16) -> Report {
    let stats = rdma.stats();
    let endpoint = rdma.endpoint();
    let counters = endpoint.counters();
    let gauge = |name, value: u64| Figure::new(name, Value::Gauge(value));
    let counter = |name, value: u64| Figure::new(name, Value::Counter(value));
    vec![
        Figure::new("rdma_adapters", Value::Text(endpoint.device().describe())),
        gauge("rdma_port", port.into()),
        gauge("rdma_connections", endpoint.connections() as u64).with_metric("RDMA connections."),
        counter("rdma_connections_accepted", stats.accepted),
        counter("rdma_connections_rejected", counters.rejected),
        gauge("rdma_pinned_bytes", endpoint.pinned_bytes() as u64).with_metric("Memory pinned for RDMA."),
        counter("rdma_received_bytes", stats.received_bytes),
        counter("rdma_sent_bytes", stats.sent_bytes),
        counter("rdma_messages_received", stats.receives),
        counter("rdma_messages_sent", stats.sends),
        counter("rdma_windows_announced", counters.windows_announced).with_metric("Receive windows announced."),
        counter("rdma_window_stalls", counters.stalls).with_metric("Times a client's window was full."),
        counter("rdma_window_spills", counters.spills),
        counter("rdma_completions", counters.completions),
        counter("rdma_doorbells", counters.doorbells),
        counter("rdma_ended_disconnected", counters.ended_disconnected),
        counter("rdma_ended_control", counters.ended_control),
        counter("rdma_ended_window", counters.ended_window),
        counter("rdma_ended_immediate", counters.ended_immediate),
        counter("rdma_ended_completion", counters.ended_completion),
        counter("rdma_ended_verbs", counters.ended_verbs),
        counter("rdma_ended_timeout", counters.ended_timeout),
        counter("rdma_ended_device", counters.ended_device),
    ]
}
