//! The receiving half of one connection: two windows that the peer fills in turn, and what was
//! received and not consumed. The peer may write to its windows at any time, so bytes are copied out of
//! them as soon as a completion tells of them, once, and are this side's alone from then on.

use super::options::Reason;
use crate::proto;
use crate::verbs::{Device, Region};

/// The receiving half.
pub(super) struct Rx {
    current: usize,
    /// Bytes of the current window written to.
    filled: u32,
    /// What was copied out of the windows, of which the first `start` bytes are consumed.
    bytes: Vec<u8>,
    start: usize,
    /// The current window was announced.
    announced: bool,
    /// The owner has had its turn since the window became full: what it left is waiting for more.
    waited: bool,
    /// Unconsumed bytes at which no further window is announced.
    pub(super) limit: usize,
}

impl Rx {
    pub(super) fn new(limit: usize) -> Self {
        Rx { current: 0, filled: 0, bytes: Vec::new(), start: 0, announced: false, waited: false, limit }
    }

    #[inline]
    pub(super) fn unconsumed(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Which window to announce, if one is due.
    pub(super) fn due_window(&self) -> Option<usize> {
        if self.announced { None } else { Some(self.current) }
    }

    /// It has been announced.
    pub(super) fn announced(&mut self) {
        self.announced = true;
    }

    pub(super) fn is_announcement_due(&self) -> bool {
        !self.announced
    }

    /// The unconsumed bytes.
    #[inline]
    pub(super) fn received(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Takes an immediate, and copies out what it tells of. Returns whether that begins a window while bytes of
    /// the one before are unconsumed.
    #[inline]
    pub(super) fn arrived<D: Device>(
        &mut self,
        immediate: u32,
        written: u32,
        device: &D,
        windows: &[Region; 2],
        spare: &mut Vec<Vec<u8>>,
    ) -> Result<bool, Reason> {
        let window = windows[self.current];
        proto::check_immediate(immediate, written, window.length - self.filled)?;
        let spills = self.filled == 0 && self.unconsumed() > 0;
        if self.bytes.capacity() == 0 {
            self.bytes = spare.pop().unwrap_or_default();
        } else if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        device.copy_out(window, self.filled, immediate, &mut self.bytes)?;
        self.filled += immediate;
        Ok(spills)
    }

    /// Drops the first `len` bytes, or all there are. The vector goes back once it is not needed.
    #[inline]
    pub(super) fn consume(&mut self, len: usize, spare: &mut Vec<Vec<u8>>) {
        self.start += len.min(self.unconsumed());
        if self.start == self.bytes.len() {
            self.release(spare);
        }
    }

    /// Whether the current window is full and not turned from.
    pub(super) fn is_full(&self, window_bytes: u32) -> bool {
        self.filled == window_bytes
    }

    /// The owner has had its turn with a full window.
    pub(super) fn set_waited(&mut self) {
        self.waited = true;
    }

    /// Turns to the other window once the current one is full, as far as the limit allows: at once if
    /// `early`, else once all is consumed or the owner has left something that waits for more.
    #[inline]
    pub(super) fn turn(&mut self, window_bytes: u32, early: bool) {
        let left = self.unconsumed();
        if self.filled < window_bytes || left >= self.limit || (left > 0 && !early && !self.waited) {
            return;
        }
        self.waited = false;
        self.current ^= 1;
        self.filled = 0;
        self.announced = false;
    }

    /// Nobody will ask for anything any more.
    pub(super) fn abandon(&mut self, spare: &mut Vec<Vec<u8>>) {
        self.release(spare);
        *self = Rx::new(self.limit);
    }

    /// Lets go of everything copied. The vector that was used last is the one used next, by whichever
    /// connection; with enough of those a small one stays, so that no number of connections that speak at once
    /// makes them allocate.
    #[inline]
    fn release(&mut self, spare: &mut Vec<Vec<u8>>) {
        self.start = 0;
        self.bytes.clear();
        let capacity = self.bytes.capacity();
        if capacity == 0 || (spare.len() >= super::SPARE_MAX && capacity <= super::RECEIVED_KEPT_BYTES) {
            return;
        }
        let bytes = std::mem::take(&mut self.bytes);
        if capacity <= super::SPARE_BYTES_MAX && spare.len() < super::SPARE_MAX {
            spare.push(bytes);
        }
    }

    /// Memory of its own beside the windows, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_abandoned_in_the_middle_has_nothing_left() {
        let mut rx = Rx { filled: 100, bytes: vec![0; 100], start: 3, announced: true, ..Rx::new(1) };
        assert_eq!(rx.unconsumed(), 97);
        rx.abandon(&mut Vec::new());
        assert!(!rx.is_full(100));
        rx.turn(100, true);
        assert_eq!((rx.unconsumed(), rx.received()), (0, &[][..]));
    }

    #[test]
    fn a_vector_goes_back_or_stays_small() {
        let mut spare = Vec::new();
        let consumed = |capacity: usize, spare: &mut Vec<Vec<u8>>| {
            let mut rx = Rx { bytes: Vec::with_capacity(capacity), ..Rx::new(1) };
            rx.bytes.resize(capacity, 7);
            rx.consume(usize::MAX, spare);
            assert_eq!(rx.unconsumed(), 0);
            rx.memory()
        };
        for _ in 0..super::super::SPARE_MAX {
            assert_eq!(consumed(64, &mut spare), 0);
        }
        assert_eq!(spare.len(), super::super::SPARE_MAX);
        assert_eq!(consumed(64, &mut spare), 64);
        assert_eq!(consumed(super::super::RECEIVED_KEPT_BYTES + 1, &mut spare), 0);
        assert_eq!(spare.len(), super::super::SPARE_MAX);
        spare.clear();
        assert_eq!(consumed(super::super::SPARE_BYTES_MAX + 1, &mut spare), 0);
        assert!(spare.is_empty());
    }
}
