//! The provided-buffer ring: memory lent to the kernel, which fills one buffer per receive and
//! tells its number. A buffer is either the kernel's (between [`Buffers::give`] and the completion
//! that names it) or ours (until it is given again); which, is kept account of, so that a buffer of
//! the kernel's is never looked into and none is given twice. Only as many are given as turn out to be
//! needed, since the kernel takes them in turn and few warm ones beat many cold ones.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// Buffers given at the start; more follow when the kernel runs out.
const GIVEN_FIRST: u16 = 32;

/// Anonymous memory of our own, page-aligned and zeroed.
struct Mapping {
    base: NonNull<u8>,
    len_bytes: usize,
}

impl Mapping {
    fn new(len_bytes: usize) -> io::Result<Self> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing
        // that exists; the result is checked before it is used.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        match NonNull::new(base.cast()) {
            Some(base) => Ok(Mapping { base, len_bytes }),
            None => Err(io::Error::from_raw_os_error(libc::ENOMEM)),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` mapped, and nobody refers to it any more: the ring
        // is quiet before its buffers are dropped (see `Ring::quiesce`).
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len_bytes) };
    }
}

/// The ring of lent buffers and their memory.
pub(super) struct Buffers {
    entries: Mapping,
    data: Mapping,
    /// Ring size, a power of two.
    count: u16,
    size_bytes: usize,
    /// Buffers that exist so far, on either side.
    given: u16,
    /// For each buffer, whether it is ours to read.
    ours: Box<[bool]>,
    tail: u16,
}

impl Buffers {
    /// Memory for `count` buffers (rounded up to a power of two) of `size_bytes` each. Nothing is
    /// given to the kernel yet.
    pub(super) fn new(count: u16, size_bytes: usize) -> io::Result<Self> {
        let count = count.clamp(8, 1 << 14).next_power_of_two();
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let data = Mapping::new(usize::from(count) * size_bytes)?;
        let ours = vec![false; usize::from(count)].into_boxed_slice();
        Ok(Buffers { entries, data, count, size_bytes, given: 0, ours, tail: 0 })
    }

    /// Address and number of the ring's entries, for the registration.
    pub(super) fn registration(&self) -> (u64, u16) {
        (self.entries.base.as_ptr() as u64, self.count)
    }

    /// Lets the kernel have more buffers; false if all are out already.
    pub(super) fn grow(&mut self) -> bool {
        if self.given >= self.count {
            return false;
        }
        let more = if self.given == 0 { GIVEN_FIRST } else { self.given }.min(self.count - self.given);
        for _ in 0..more {
            let id = self.given;
            self.given += 1;
            self.came_back(id);
            self.give(id);
        }
        true
    }

    /// A completion has named the buffer: it is ours until it is given again.
    #[inline]
    pub(super) fn came_back(&mut self, id: u16) {
        if id < self.given {
            self.ours[usize::from(id)] = true;
        }
    }

    #[inline]
    fn is_ours(&self, id: u16) -> bool {
        self.ours.get(usize::from(id)).copied().unwrap_or(false)
    }

    /// Gives a buffer (back) to the kernel. One that is not ours to give is left alone.
    pub(super) fn give(&mut self, id: u16) {
        if !self.is_ours(id) {
            return;
        }
        self.ours[usize::from(id)] = false;
        let at = usize::from(self.tail & (self.count - 1));
        // SAFETY: a buffer of ours has a number below `count`, so the address lies inside the mapping.
        let addr = unsafe { self.data.base.as_ptr().add(usize::from(id) * self.size_bytes) };
        // At most `count` buffers exist, so this entry is not one the kernel is yet to read. The tail, in
        // the first entry's spare field, is left alone by writing address, length and number.
        // SAFETY: `at` is below `count`, the mapping holds `count` entries and is aligned to a page, and
        // the kernel does not read an entry before the tail has passed it.
        unsafe {
            let entry = &mut *self.entries.base.as_ptr().cast::<BufRingEntry>().add(at);
            entry.set_addr(addr as u64);
            entry.set_len(self.size_bytes as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail is an aligned u16 inside the mapping that both sides access atomically.
        // Release: the entry is written before the kernel can see that it is there.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.base.as_ptr().cast());
            (*tail.cast::<AtomicU16>()).store(self.tail, Ordering::Release);
        }
    }

    /// The first `len` bytes of a buffer that is ours. One that is the kernel's, and a number or length
    /// the kernel cannot have meant, give nothing.
    pub(super) fn slice(&self, id: u16, len: usize) -> &[u8] {
        if !self.is_ours(id) || len > self.size_bytes {
            return &[];
        }
        // SAFETY: inside the mapping by the check above, initialised since it was mapped zeroed,
        // and not written while borrowed: it is not the kernel's, and giving it away takes `&mut self`.
        unsafe { std::slice::from_raw_parts(self.data.base.as_ptr().add(usize::from(id) * self.size_bytes), len) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever numbers come from the kernel's side and ours, a buffer is readable exactly while it is ours,
        /// and given as often as it came back.
        #[test]
        fn a_buffer_is_one_sides_at_a_time(steps in prop::collection::vec((any::<bool>(), 0u16..40), 0..200)) {
            let mut buffers = Buffers::new(64, 16).unwrap();
            prop_assert!(buffers.grow());
            let mut ours = std::collections::BTreeSet::new();
            let mut given = GIVEN_FIRST;
            prop_assert_eq!(buffers.tail, given);
            for (comes, id) in steps {
                if comes && id < GIVEN_FIRST {
                    ours.insert(id);
                }
                if comes {
                    buffers.came_back(id);
                } else {
                    given += u16::from(ours.remove(&id));
                    buffers.give(id);
                }
                prop_assert_eq!(buffers.tail, given);
                for id in 0..64 {
                    prop_assert_eq!(buffers.slice(id, 16).len(), if ours.contains(&id) { 16 } else { 0 });
                    prop_assert_eq!(buffers.slice(id, 17).len(), 0);
                }
            }
        }
    }
}
