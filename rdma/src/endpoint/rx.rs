//! The receiving half of one connection: two windows that the peer fills in turn, and what was
//! received and not consumed. Bytes stay where the peer wrote them, except when a window ends inside
//! something unfinished: then they are gathered in a vector until what began in the old window is
//! consumed, and from there on are read in place again.

use crate::proto::{self, ImmediateError};
use crate::verbs::{Device, Region};

/// Where the unconsumed bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the current window.
    Window,
    /// In the other window, whose end they are; the current one is still empty.
    Tail,
    /// Gathered in the vector.
    Spill,
}

/// The receiving half.
pub(super) struct Rx {
    current: usize,
    /// Bytes of the current window written to.
    filled: u32,
    /// Consumed bytes at the front of where the bytes are.
    start: usize,
    place: Place,
    spill: Vec<u8>,
    /// The current window was announced.
    announced: bool,
    /// The owner has had its turn since the window became full: what it left is waiting for more.
    waited: bool,
    /// Unconsumed bytes at which no further window is announced.
    pub(super) limit: usize,
}

impl Rx {
    pub(super) fn new(limit: usize) -> Self {
        Rx {
            current: 0,
            filled: 0,
            start: 0,
            place: Place::Window,
            spill: Vec::new(),
            announced: false,
            waited: false,
            limit,
        }
    }

    fn end(&self, window_bytes: u32) -> usize {
        match self.place {
            Place::Window => self.filled as usize,
            Place::Tail => window_bytes as usize,
            Place::Spill => self.spill.len(),
        }
    }

    #[inline]
    pub(super) fn unconsumed(&self, window_bytes: u32) -> usize {
        self.end(window_bytes) - self.start
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
    pub(super) fn received<'a, D: Device>(&'a self, device: &'a D, windows: &[Region; 2]) -> &'a [u8] {
        let region = match self.place {
            Place::Spill => return self.spill.get(self.start..).unwrap_or_default(),
            Place::Window => windows[self.current],
            Place::Tail => windows[self.current ^ 1],
        };
        let length = self.unconsumed(region.length) as u32;
        device.bytes(region, self.start as u32, length).unwrap_or_default()
    }

    /// Takes an immediate. Returns whether bytes had to be moved.
    pub(super) fn arrived<D: Device>(
        &mut self,
        immediate: u32,
        written: u32,
        device: &D,
        windows: &[Region; 2],
        spare: &mut Vec<Vec<u8>>,
    ) -> Result<bool, ImmediateError> {
        let window_bytes = windows[self.current].length;
        proto::check_immediate(immediate, written, window_bytes - self.filled)?;
        let mut moved = false;
        if self.place == Place::Tail {
            let mut spill = spare.pop().unwrap_or_else(|| Vec::with_capacity(super::SPILL_BYTES));
            spill.extend_from_slice(self.received(device, windows));
            self.spill = spill;
            self.place = Place::Spill;
            self.start = 0;
            moved = true;
        }
        if self.place == Place::Spill {
            if self.start > self.spill.len() / 2 {
                self.spill.drain(..self.start);
                self.start = 0;
            }
            self.spill
                .extend_from_slice(device.bytes(windows[self.current], self.filled, immediate).unwrap_or_default());
        }
        self.filled += immediate;
        Ok(moved)
    }

    /// Drops the first `len` bytes, or all there are. The vector goes back once it is not needed.
    #[inline]
    pub(super) fn consume(&mut self, len: usize, window_bytes: u32, spare: &mut Vec<Vec<u8>>) {
        self.start += len.min(self.unconsumed(window_bytes));
        let left = self.unconsumed(window_bytes);
        match self.place {
            Place::Tail if left == 0 => {
                self.place = Place::Window;
                self.start = 0;
            }
            // What is left all lies in the current window too.
            Place::Spill if left <= self.filled as usize => {
                self.place = Place::Window;
                self.start = self.filled as usize - left;
                self.release(spare);
            }
            _ => {}
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
        let left = self.unconsumed(window_bytes);
        if self.filled < window_bytes || left >= self.limit || (left > 0 && !early && !self.waited) {
            return;
        }
        self.waited = false;
        self.current ^= 1;
        self.filled = 0;
        self.announced = false;
        if self.place == Place::Window {
            if left > 0 {
                self.place = Place::Tail;
            } else {
                self.start = 0;
            }
        }
    }

    /// Nobody will ask for anything any more.
    pub(super) fn abandon(&mut self, spare: &mut Vec<Vec<u8>>) {
        self.release(spare);
        *self = Rx::new(self.limit);
    }

    fn release(&mut self, spare: &mut Vec<Vec<u8>>) {
        let mut spill = std::mem::take(&mut self.spill);
        if spill.capacity() > 0 && spill.capacity() <= super::SPARE_BYTES_MAX && spare.len() < super::SPARE_MAX {
            spill.clear();
            spare.push(spill);
        }
    }

    #[cfg(test)]
    fn in_spill(window_bytes: u32) -> Rx {
        let spill = vec![0; window_bytes as usize];
        Rx { filled: window_bytes, start: 3, place: Place::Spill, spill, announced: true, ..Rx::new(1) }
    }

    /// Memory of its own beside the windows, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.spill.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_abandoned_in_the_middle_has_nothing_left() {
        let mut rx = Rx::in_spill(100);
        assert_eq!(rx.unconsumed(100), 97);
        rx.abandon(&mut Vec::new());
        assert!(!rx.is_full(100));
        rx.turn(100, true);
        assert_eq!(rx.unconsumed(100), 0);
    }
}
