//! Storage that is used again: reply buffers and receive buffers. Both pools are stacks, so that
//! the buffer handed out is the one used last and still in the cache, and both are bounded.

use tercel_transport::TxBuf;

/// Room of a leased reply buffer in bytes.
pub(crate) const TX_CAPACITY_BYTES: usize = 16 * 1024;
/// Reply buffers that grew beyond this are dropped rather than kept: what a slow reader was owed is given
/// back with it.
const TX_KEEP_MAX_BYTES: usize = 32 * 1024;
/// Receive buffers that grew beyond this and beyond what the settings ask for are dropped.
const RX_KEEP_MAX_BYTES: usize = 64 * 1024;
/// Reply buffers kept at most.
const TX_KEPT_MAX: usize = 256;
/// Receive buffers kept at most.
const RX_KEPT_MAX: usize = 64;

/// The buffers of one transport.
#[derive(Default)]
pub(crate) struct Pool {
    tx: Vec<TxBuf>,
    rx: Vec<Vec<u8>>,
    rx_capacity_bytes: usize,
}

impl Pool {
    pub(crate) fn new(rx_capacity_bytes: usize) -> Self {
        Pool { tx: Vec::new(), rx: Vec::new(), rx_capacity_bytes }
    }

    /// An empty reply buffer.
    pub(crate) fn lease_tx(&mut self) -> TxBuf {
        self.tx.pop().unwrap_or_else(|| TxBuf::with_capacity(TX_CAPACITY_BYTES))
    }

    /// Takes a reply buffer back; shared pieces are released at once.
    pub(crate) fn return_tx(&mut self, mut buf: TxBuf) {
        let keep = (TX_CAPACITY_BYTES / 2..=TX_KEEP_MAX_BYTES).contains(&buf.capacity());
        if keep && self.tx.len() < TX_KEPT_MAX {
            buf.clear();
            self.tx.push(buf);
        }
    }

    /// An empty receive buffer with the configured room.
    pub(crate) fn lease_rx(&mut self) -> Vec<u8> {
        self.rx.pop().unwrap_or_else(|| Vec::with_capacity(self.rx_capacity_bytes))
    }

    /// Takes a receive buffer back.
    pub(crate) fn return_rx(&mut self, mut buf: Vec<u8>) {
        let keep = (self.rx_capacity_bytes..=self.rx_capacity_bytes.max(RX_KEEP_MAX_BYTES)).contains(&buf.capacity());
        if keep && self.rx.len() < RX_KEPT_MAX {
            buf.clear();
            self.rx.push(buf);
        }
    }
}
