//! What an endpoint is made with, why it ends connections, and what it counts.

use std::net::SocketAddr;
use std::time::Duration;

use crate::proto::{ControlError, ImmediateError, WindowError};
use crate::verbs::{Refusal, Status, VerbsError};

/// How an endpoint is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// The receive window in bytes. A connection has two of them.
    pub rx_window_bytes: u32,
    /// Registered memory for sending, a connection, in bytes.
    pub tx_bytes: u32,
    /// Send work requests outstanding at most, a connection.
    pub send_depth: u32,
    /// Receives posted, a connection; at most 32,768.
    pub recv_depth: u32,
    /// Sends of at most so many bytes go inline, if the device can.
    pub inline_bytes: u32,
    /// Announce the second window as soon as the first is full, rather than once it is consumed.
    pub announce_early: bool,
    /// Connections at most.
    pub connections_max: usize,
    /// Connections from one address at most.
    pub connections_per_address_max: usize,
    /// Registered memory of all connections at most, in bytes.
    pub pinned_bytes_max: usize,
    /// Connections whose registered memory is kept for the next ones.
    pub pooled_max: usize,
    /// From a connection's request to the peer's window.
    pub handshake_timeout: Duration,
    /// How long a draining connection may take to send what is queued.
    pub drain_timeout: Duration,
    /// A keepalive is sent this often; a dead peer shows by not acknowledging it. Zero: never.
    pub keepalive_interval: Duration,
    /// A client does not send more than so many immediates without hearing from its server, which may have
    /// posted no more receives than that and then drop the connection (stock servers post 1,024).
    pub unheard_max: u32,
    /// The shortest and the longest window a peer may announce, in bytes.
    pub peer_window_bytes: (u32, u32),
}

impl Default for Options {
    fn default() -> Self {
        Options {
            rx_window_bytes: 1 << 20,
            tx_bytes: 256 * 1024,
            send_depth: 64,
            recv_depth: 128,
            inline_bytes: 256,
            announce_early: true,
            connections_max: 1000,
            connections_per_address_max: 1000,
            pinned_bytes_max: 4 << 30,
            pooled_max: 8,
            handshake_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(3),
            unheard_max: 512,
            peer_window_bytes: (1024, 1 << 30),
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The peer disconnected.
    #[error("the peer disconnected")]
    Disconnected,
    /// This side closed it.
    #[error("closed")]
    Closed,
    /// A control message that is none.
    #[error("{0}")]
    Control(#[from] ControlError),
    /// A control message that this side of a connection is not sent.
    #[error("a control message for the other side")]
    ControlRole,
    /// Features nobody has defined.
    #[error("unknown features {0:#x}")]
    Features(u64),
    /// An announcement that cannot be meant.
    #[error("{0}")]
    Window(#[from] WindowError),
    /// An immediate that cannot be true.
    #[error("{0}")]
    Immediate(#[from] ImmediateError),
    /// Bytes in a window that was not announced.
    #[error("written to without a window")]
    NoWindow,
    /// A work request failed.
    #[error("a work request failed: {0:?}")]
    Completion(Status),
    /// The device refused.
    #[error("{0}")]
    Verbs(#[from] VerbsError),
    /// The dial led nowhere.
    #[error("{0:?}")]
    Refused(Refusal),
    /// The peer took too long to announce a window.
    #[error("no window announced in time")]
    HandshakeTimeout,
    /// The peer took too long to take the last bytes.
    #[error("the last bytes were not taken in time")]
    DrainTimeout,
    /// The device is gone.
    #[error("the device was removed")]
    DeviceRemoved,
}

impl Reason {
    /// The operating system's error number that says about the same.
    pub(crate) fn errno(&self) -> i32 {
        match self {
            Reason::Disconnected | Reason::Closed => 104,
            Reason::Refused(_) => 111,
            Reason::HandshakeTimeout
            | Reason::DrainTimeout
            | Reason::Completion(Status::RetryExceeded | Status::RnrRetryExceeded) => 110,
            Reason::Completion(_) => 104,
            Reason::DeviceRemoved => 19,
            Reason::Verbs(_) => 5,
            _ => 71,
        }
    }
}

/// A connection that ended, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Who it was.
    pub remote: SocketAddr,
    /// Why it ended.
    pub reason: Reason,
}

/// Counters since the start. Those of the second half count connections that ended, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Windows announced to peers.
    pub windows_announced: u64,
    /// Times there was something to send and the peer's window was full.
    pub stalls: u64,
    /// Completions taken.
    pub completions: u64,
    /// Times a window ended inside what was not consumed yet.
    pub spills: u64,
    /// Doorbells rung for sends.
    pub doorbells: u64,
    /// Requests turned away by a limit.
    pub rejected: u64,
    /// Peers that disconnected.
    pub ended_disconnected: u64,
    /// Control messages: length, opcode, side, features.
    pub ended_control: u64,
    /// Windows nobody can mean.
    pub ended_window: u64,
    /// Immediates that cannot be true.
    pub ended_immediate: u64,
    /// Failed work requests.
    pub ended_completion: u64,
    /// Refusals of the device.
    pub ended_verbs: u64,
    /// Handshakes and drains that took too long.
    pub ended_timeout: u64,
    /// Devices removed.
    pub ended_device: u64,
    /// Dials that led nowhere.
    pub ended_refused: u64,
}

impl Counters {
    pub(crate) fn count(&mut self, reason: &Reason) {
        let counter = match reason {
            Reason::Closed => return,
            Reason::Disconnected => &mut self.ended_disconnected,
            Reason::Control(_) | Reason::ControlRole | Reason::Features(_) => &mut self.ended_control,
            Reason::Window(_) => &mut self.ended_window,
            Reason::Immediate(_) | Reason::NoWindow => &mut self.ended_immediate,
            Reason::Completion(_) => &mut self.ended_completion,
            Reason::Verbs(_) => &mut self.ended_verbs,
            Reason::HandshakeTimeout | Reason::DrainTimeout => &mut self.ended_timeout,
            Reason::DeviceRemoved => &mut self.ended_device,
            Reason::Refused(_) => &mut self.ended_refused,
        };
        *counter += 1;
    }
}
