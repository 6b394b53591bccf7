//! One connection as the endpoint knows it, and the registered memory it works with.

use std::net::SocketAddr;

use tercel_transport::{ConnId, Hangup, Peer};

use super::options::Reason;
use super::rx::Rx;
use super::tx::Tx;
use crate::verbs::{Access, Device, Listener, Pd, Qp, Region, VerbsError};

/// Bytes of the buffer behind each posted receive. Longer than a control message, so that one that is
/// too long is seen as such.
pub(super) const RECV_SLOT_BYTES: u32 = 64;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody's.
    Free,
    /// We dialled; there is no queue pair yet.
    Resolving,
    /// There is a queue pair, and one side waits for the other.
    Connecting,
    /// Connected; the peer's window is not known yet.
    Greeting,
    /// In use.
    Live,
    /// It failed or the peer left; the owner is yet to close it.
    Broken,
    /// Closed by the owner; what was queued is still leaving.
    Draining,
    /// Over; waiting for its receives to flush.
    Dying,
}

/// Memory of one connection: its protection domain and what is registered in it. A domain of its own
/// keeps clients from each other's memory, and so it is pooled whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionMemory {
    pub(super) pd: Pd,
    pub(super) windows: [Region; 2],
    pub(super) tx: Region,
    pub(super) recv: Region,
}

impl ConnectionMemory {
    pub(super) fn bytes(rx: u32, tx: u32, recv_depth: u32) -> usize {
        2 * rx as usize + tx as usize + (recv_depth * RECV_SLOT_BYTES) as usize
    }

    pub(super) fn new<D: Device>(
        device: &mut D,
        qp: Qp,
        rx: u32,
        tx: u32,
        recv_depth: u32,
    ) -> Result<ConnectionMemory, VerbsError> {
        let pd = device.alloc_pd(qp)?;
        let wanted = [
            (rx, Access::RemoteWrite),
            (rx, Access::RemoteWrite),
            (tx, Access::Local),
            (recv_depth * RECV_SLOT_BYTES, Access::Local),
        ];
        let mut made = [None; 4];
        for (place, (length, access)) in made.iter_mut().zip(wanted) {
            match device.register(pd, length, access) {
                Ok(region) => *place = Some(region),
                Err(error) => {
                    for region in made.into_iter().flatten() {
                        let _ = device.deregister(region);
                    }
                    let _ = device.dealloc_pd(pd);
                    return Err(error);
                }
            }
        }
        match made {
            [Some(first), Some(second), Some(tx), Some(recv)] => {
                Ok(ConnectionMemory { pd, windows: [first, second], tx, recv })
            }
            _ => Err(VerbsError::Unknown("region")),
        }
    }

    /// Wipes `count` bytes of it for the next client, from byte `at` on, counted through its regions.
    pub(super) fn wipe<D: Device>(&self, device: &mut D, mut at: usize, mut count: usize) {
        for region in [self.windows[0], self.windows[1], self.tx, self.recv] {
            let length = region.length as usize;
            if at >= length {
                at -= length;
                continue;
            }
            let here = count.min(length - at);
            let _ = device.wipe(region, at as u32, here as u32);
            count -= here;
            at = 0;
            if count == 0 {
                break;
            }
        }
    }

    pub(super) fn free<D: Device>(self, device: &mut D) {
        for region in [self.windows[0], self.windows[1], self.tx, self.recv] {
            let _ = device.deregister(region);
        }
        let _ = device.dealloc_pd(self.pd);
    }
}

/// One connection.
pub(super) struct Conn {
    pub(super) generation: u32,
    /// Told by completions; changes only when no completion of the slot's last tenant can come any more.
    pub(super) epoch: u16,
    pub(super) phase: Phase,
    /// We are the server.
    pub(super) serves: bool,
    /// The owner has been told of it.
    pub(super) known: bool,
    /// It has been in use.
    pub(super) stood: bool,
    /// The listener it came in by; `None` if we dialled.
    pub(super) listener: Option<Listener>,
    pub(super) qp: Qp,
    pub(super) peer: Peer,
    pub(super) remote: SocketAddr,
    pub(super) memory: Option<ConnectionMemory>,
    /// Sends of at most so many bytes go inline.
    pub(super) inline_bytes: u32,
    pub(super) rx: Rx,
    pub(super) tx: Tx,
    /// Slots of receives to post again, and receives posted.
    pub(super) recv_free: Vec<u16>,
    pub(super) recvs_out: u32,
    pub(super) answer_due: Option<u16>,
    pub(super) keepalive_due: bool,
    /// Closed by the owner before it was connected; it drains once it is.
    pub(super) closing: bool,
    /// On the list of connections to look after, and on that of connections with news.
    pub(super) dirty: bool,
    pub(super) readable: bool,
    /// `Drained` is owed.
    pub(super) blocked: bool,
    /// A stall has been counted for the window that is full.
    pub(super) stalled: bool,
    pub(super) reason: Option<Reason>,
    pub(super) hung: bool,
    /// Nanoseconds of the endpoint's clock; `u64::MAX` for never.
    pub(super) deadline_ns: u64,
    pub(super) keepalive_ns: u64,
}

impl Conn {
    pub(super) fn vacant(generation: u32, epoch: u16) -> Self {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Conn {
            generation,
            epoch,
            phase: Phase::Free,
            serves: false,
            known: false,
            stood: false,
            listener: None,
            qp: Qp(0),
            peer: Peer::Memory(0),
            remote: nowhere,
            memory: None,
            inline_bytes: 0,
            rx: Rx::new(0),
            tx: Tx::default(),
            recv_free: Vec::new(),
            recvs_out: 0,
            answer_due: None,
            keepalive_due: false,
            closing: false,
            dirty: false,
            readable: false,
            blocked: false,
            stalled: false,
            reason: None,
            hung: false,
            deadline_ns: u64::MAX,
            keepalive_ns: u64::MAX,
        }
    }

    pub(super) fn id(&self, index: u32) -> ConnId {
        ConnId { index, generation: self.generation }
    }

    /// Whether the owner may use it.
    pub(super) fn is_open(&self) -> bool {
        !self.closing
            && matches!(
                self.phase,
                Phase::Resolving | Phase::Connecting | Phase::Greeting | Phase::Live | Phase::Broken
            )
    }

    /// Whether there is nothing to do for it before the owner has something for it: nothing waits to be
    /// sent, and fewer than half of its `recv_depth` receives are to be posted again.
    pub(super) fn is_at_ease(&self, recv_depth: u32) -> bool {
        self.phase == Phase::Live
            && self.tx.unsent == 0
            && !self.blocked
            && !self.rx.is_announcement_due()
            && self.answer_due.is_none()
            && !self.keepalive_due
            && self.recv_free.len() * 2 < recv_depth as usize
    }

    pub(super) fn hangup(&self) -> Hangup {
        match &self.reason {
            None | Some(Reason::Disconnected) if self.stood => Hangup::Eof,
            // A dial that was not taken is no end in good order, whatever the device calls it.
            None => Hangup::Error(Reason::Disconnected.errno()),
            Some(reason) => Hangup::Error(reason.errno()),
        }
    }
}
