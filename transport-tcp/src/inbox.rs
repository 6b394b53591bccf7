//! The received and not yet consumed bytes of one connection. They lie either in one buffer of the
//! provided ring, where the kernel put them, or in a vector of the connection's own. An idle
//! connection has neither.

use crate::pool::Pool;

/// A buffer of the provided ring that holds received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingLease {
    /// Buffer number in the ring.
    pub(crate) id: u16,
    /// Received bytes in it.
    pub(crate) len: u32,
}

/// Unconsumed bytes. Never both a lease and gathered bytes: what comes behind a lease moves both
/// into the vector, so the content is always contiguous.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) lease: Option<RingLease>,
    pub(crate) bytes: Vec<u8>,
    /// Consumed bytes at the front of whichever holds the content.
    pub(crate) start: usize,
}

impl Inbox {
    /// Unconsumed bytes.
    pub(crate) fn len(&self) -> usize {
        let end = self.lease.map_or(self.bytes.len(), |lease| lease.len as usize);
        end.saturating_sub(self.start)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The content, when it is in the vector.
    pub(crate) fn gathered(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Makes room for a receive of `want` bytes behind the content.
    pub(crate) fn reserve(&mut self, want: usize, pool: &mut Pool) {
        if self.bytes.capacity() == 0 {
            self.bytes = pool.lease_rx();
        }
        if self.bytes.capacity() - self.bytes.len() >= want {
            return;
        }
        if self.start > 0 {
            // Once a buffer is full its consumed front is worth more than the move costs.
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.reserve(want);
    }

    /// Appends bytes that were received elsewhere.
    pub(crate) fn append(&mut self, bytes: &[u8], pool: &mut Pool) {
        self.reserve(bytes.len(), pool);
        self.bytes.extend_from_slice(bytes);
    }

    /// Drops `len` bytes from the front, or all there are. Returns the ring buffer that became
    /// free, if one did.
    pub(crate) fn consume(&mut self, len: usize, pool: &mut Pool) -> Option<u16> {
        self.start += len.min(self.len());
        if self.is_empty() { self.release(pool) } else { None }
    }

    /// Gives back storage beyond `keep` bytes that little is left in: what came in a flood.
    pub(crate) fn shrink(&mut self, keep: usize, pool: &mut Pool) {
        if self.bytes.capacity() > keep && self.len() < self.bytes.capacity() / 4 {
            let mut fewer = pool.lease_rx();
            fewer.extend_from_slice(self.gathered());
            pool.return_rx(std::mem::replace(&mut self.bytes, fewer));
            self.start = 0;
        }
    }

    /// Gives up content and storage. Returns the ring buffer that became free, if one did.
    pub(crate) fn release(&mut self, pool: &mut Pool) -> Option<u16> {
        self.start = 0;
        if self.bytes.capacity() > 0 {
            pool.return_rx(std::mem::take(&mut self.bytes));
        }
        self.lease.take().map(|lease| lease.id)
    }

    /// Storage of this connection's own in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_goes_back_with_the_last_byte() {
        let mut pool = Pool::new(1024);
        let mut inbox = Inbox::default();
        inbox.append(b"hello world", &mut pool);
        assert_eq!(inbox.consume(6, &mut pool), None);
        assert_eq!(inbox.gathered(), b"world");
        assert_eq!(inbox.consume(500, &mut pool), None);
        assert_eq!(inbox.memory(), 0);
        assert!(inbox.is_empty());
    }

    #[test]
    fn consumed_front_is_reused_before_growing() {
        let mut pool = Pool::new(1024);
        let mut inbox = Inbox::default();
        inbox.append(&[1; 1000], &mut pool);
        inbox.consume(990, &mut pool);
        inbox.append(&[2; 1000], &mut pool);
        assert_eq!(inbox.len(), 1010);
        assert_eq!(inbox.memory(), 1024);
    }

    #[test]
    fn what_a_flood_took_is_given_back_with_most_of_it() {
        let mut pool = Pool::new(1024);
        let mut inbox = Inbox::default();
        let sent: Vec<u8> = (0..200_000).map(|at| (at % 251) as u8).collect();
        inbox.append(&sent, &mut pool);
        inbox.consume(190_000, &mut pool);
        inbox.shrink(300_000, &mut pool);
        assert!(inbox.memory() >= 200_000);
        inbox.shrink(65_536, &mut pool);
        assert!(inbox.memory() < 20_000 && inbox.gathered() == &sent[190_000..]);
    }

    #[test]
    fn a_ring_buffer_is_named_when_it_is_empty() {
        let mut pool = Pool::new(1024);
        let mut inbox = Inbox { lease: Some(RingLease { id: 7, len: 3 }), ..Inbox::default() };
        assert_eq!(inbox.consume(2, &mut pool), None);
        assert_eq!(inbox.consume(1, &mut pool), Some(7));
        assert!(inbox.is_empty());
    }
}
