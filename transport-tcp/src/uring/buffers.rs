//! The provided-buffer ring: memory lent to the kernel, which fills one buffer per receive and
//! tells its number. A buffer is either the kernel's (between [`Buffers::give`] and the completion
//! that names it) or ours (until it is given again). Only as many are given as turn out to be
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
    tail: u16,
}

impl Buffers {
    /// Memory for `count` buffers (rounded up to a power of two) of `size_bytes` each. Nothing is
    /// given to the kernel yet.
    pub(super) fn new(count: u16, size_bytes: usize) -> io::Result<Self> {
        let count = count.clamp(8, 1 << 14).next_power_of_two();
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let data = Mapping::new(usize::from(count) * size_bytes)?;
        Ok(Buffers { entries, data, count, size_bytes, given: 0, tail: 0 })
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
            self.give(id);
        }
        true
    }

    /// Gives a buffer (back) to the kernel. Numbers never handed out are ignored.
    pub(super) fn give(&mut self, id: u16) {
        if id >= self.given {
            return;
        }
        let at = usize::from(self.tail & (self.count - 1));
        // SAFETY: `id` is below `count`, so the address lies inside the mapping.
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

    /// The first `len` bytes of a buffer that is ours. A number or length the kernel cannot have
    /// meant gives nothing.
    pub(super) fn slice(&self, id: u16, len: usize) -> &[u8] {
        if id >= self.given || len > self.size_bytes {
            return &[];
        }
        // SAFETY: inside the mapping by the check above, initialised since it was mapped zeroed,
        // and not written while borrowed: the kernel writes only buffers it has been given, which
        // takes `&mut self`.
        unsafe { std::slice::from_raw_parts(self.data.base.as_ptr().add(usize::from(id) * self.size_bytes), len) }
    }
}
