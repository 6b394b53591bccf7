//! Registered memory: pages, the heap they come from, regions, and slices of them.

use std::collections::HashMap;
use std::ffi::c_int;
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::super::ffi::{self, consts::*};
use super::{Pd, made};

/// Pages of this process, zero at first.
struct Pages {
    at: NonNull<u8>,
    length: usize,
}

const PAGE_BYTES: usize = 4096;
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Mapped at a time where regions share mappings.
const HEAP_STEP_BYTES: usize = 32 << 20;

impl Pages {
    /// With `huge`, pages of 2 MiB where the host has set some aside.
    fn new(length: usize, huge: bool) -> io::Result<Pages> {
        let map = |length: usize, flags: c_int| {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
            // SAFETY: new pages wherever the kernel puts them.
            let at = unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
            if at == libc::MAP_FAILED {
                Err(io::Error::last_os_error())
            } else {
                made(at.cast::<u8>()).map(|at| Pages { at, length })
            }
        };
        if huge && let Ok(pages) = map(length.next_multiple_of(HUGE_PAGE_BYTES), libc::MAP_HUGETLB | libc::MAP_POPULATE)
        {
            return Ok(pages);
        }
        map(length.next_multiple_of(PAGE_BYTES), 0)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped by us; every region in them holds them.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.length) };
    }
}

/// Some of the pages of a mapping, which nobody else has.
pub struct Block {
    pages: Rc<Pages>,
    offset: usize,
    length: usize,
}

impl Block {
    fn whole(pages: Pages) -> Block {
        let length = pages.length;
        Block { pages: Rc::new(pages), offset: 0, length }
    }

    /// Cuts off its first `length` bytes, whole pages of which it has at least so many.
    fn split(&mut self, length: usize) -> Option<Block> {
        if length > self.length || !length.is_multiple_of(PAGE_BYTES) {
            return None;
        }
        let first = Block { pages: self.pages.clone(), offset: self.offset, length };
        self.offset += length;
        self.length -= length;
        Some(first)
    }

    fn at(&self) -> NonNull<u8> {
        // SAFETY: a block lies within its mapping.
        unsafe { self.pages.at.add(self.offset) }
    }

    fn zero(&mut self) {
        // SAFETY: within the mapping, and nobody else has these bytes.
        unsafe { ptr::write_bytes(self.at().as_ptr(), 0, self.length) }
    }
}

/// Where the memory of regions comes from. On small pages each region has a mapping of its own; on huge
/// ones they share mappings, which are kept.
#[derive(Default)]
pub struct Heap {
    huge: bool,
    rest: Option<Block>,
    free: HashMap<usize, Vec<Block>>,
}

impl Heap {
    /// On huge pages, as far as the host has set some aside, or not.
    #[must_use]
    pub fn new(huge: bool) -> Heap {
        Heap { huge, ..Heap::default() }
    }

    /// At least `length` bytes, all zero.
    ///
    /// # Errors
    /// There is no memory.
    pub fn take(&mut self, length: u32) -> io::Result<Block> {
        let length = (length as usize).next_multiple_of(PAGE_BYTES);
        if !self.huge {
            return Ok(Block::whole(Pages::new(length, false)?));
        }
        if let Some(mut block) = self.free.get_mut(&length).and_then(Vec::pop) {
            block.zero();
            return Ok(block);
        }
        if self.rest.as_ref().is_none_or(|rest| rest.length < length) {
            self.rest = Some(Block::whole(Pages::new(length.max(HEAP_STEP_BYTES), true)?));
        }
        self.rest.as_mut().and_then(|rest| rest.split(length)).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// Takes a block back.
    pub fn give(&mut self, block: Block) {
        if self.huge {
            self.free.entry(block.length).or_default().push(block);
        }
    }
}

/// Registered memory.
pub struct Mr {
    raw: NonNull<ffi::ibv_mr>,
    length: u32,
    pd: Rc<Pd>,
    /// The peer may write to it.
    shared: bool,
    /// Gone only when the region is being taken apart.
    block: Option<Block>,
    at: NonNull<u8>,
}

/// Registered bytes as a work request names them.
#[derive(Clone, Copy)]
pub struct Slice<'a> {
    pub(super) sge: ffi::ibv_sge,
    _region: PhantomData<&'a Mr>,
}

impl Slice<'_> {
    /// How many bytes.
    #[must_use]
    pub fn length(&self) -> u32 {
        self.sge.length
    }
}

impl Mr {
    /// Registers the first `length` bytes of a block, for this side alone or for the peer's writes too.
    ///
    /// # Errors
    /// They are too many, or cannot be pinned.
    pub fn new(pd: &Rc<Pd>, block: Block, length: u32, remote_write: bool) -> io::Result<Mr> {
        if length == 0 || length as usize > block.length {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let at = block.at();
        let access =
            if remote_write { IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE } else { IBV_ACCESS_LOCAL_WRITE };
        // SAFETY: pages that stay until the region is gone, because it holds them, and nobody else has.
        let raw = made(unsafe {
            (pd.devices.api.ibv_reg_mr)(pd.raw.as_ptr(), at.as_ptr().cast(), length as usize, access as c_int)
        })?;
        Ok(Mr { raw, length, pd: pd.clone(), shared: remote_write, block: Some(block), at })
    }

    /// Unregisters, and hands the memory back.
    #[must_use]
    pub fn into_block(mut self) -> Option<Block> {
        let block = self.block.take();
        // The device is done with the pages before anybody else has them.
        drop(self);
        block
    }

    /// Its address, as the peer writes to it.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.at.as_ptr() as u64
    }

    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> u32 {
        self.length
    }

    /// The key for the peer.
    #[must_use]
    pub fn rkey(&self) -> u32 {
        // SAFETY: ours until `drop`.
        unsafe { self.raw.as_ref() }.rkey
    }

    fn holds(&self, offset: u32, length: u32) -> bool {
        offset.checked_add(length).is_some_and(|end| end <= self.length)
    }

    /// Some of its bytes, for a work request; `None` if they are outside.
    #[must_use]
    pub fn slice(&self, offset: u32, length: u32) -> Option<Slice<'_>> {
        // SAFETY: the region is ours until `drop`.
        let lkey = unsafe { self.raw.as_ref() }.lkey;
        self.holds(offset, length).then(|| Slice {
            sge: ffi::ibv_sge { addr: self.address() + u64::from(offset), length, lkey },
            _region: PhantomData,
        })
    }

    /// Whether the peer may write to it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// Borrows its bytes; `None` if they are outside, or if the peer may write to them: a slice must not
    /// change under its reader. Of a region that receives fill, what completions have told of is settled.
    #[must_use]
    pub fn bytes(&self, offset: u32, length: u32) -> Option<&[u8]> {
        // SAFETY: within pages this region holds, zeroed at first and only ever written as bytes. The
        // device writes to them only where a receive is posted, which nobody asks for before its completion.
        (!self.shared && self.holds(offset, length))
            .then(|| unsafe { std::slice::from_raw_parts(self.at.as_ptr().add(offset as usize), length as usize) })
    }

    /// As [`Mr::bytes`], to write into.
    #[must_use]
    pub fn bytes_mut(&mut self, offset: u32, length: u32) -> Option<&mut [u8]> {
        // SAFETY: as in `bytes`, and no other borrow of this process is alive.
        (!self.shared && self.holds(offset, length))
            .then(|| unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr().add(offset as usize), length as usize) })
    }

    /// Appends its bytes to `into`; `None` if they are outside. The peer may be writing to them.
    #[inline]
    pub fn copy_out(&self, offset: u32, length: u32, into: &mut Vec<u8>) -> Option<()> {
        if !self.holds(offset, length) {
            return None;
        }
        let length = length as usize;
        into.reserve(length);
        // SAFETY: the bytes lie within pages this region holds, zeroed at first, to which this process has no
        // reference; then so many bytes of the vector have been written.
        unsafe {
            load_shared(self.at.as_ptr().add(offset as usize), &mut into.spare_capacity_mut()[..length]);
            into.set_len(into.len() + length);
        }
        Some(())
    }

    /// Makes its bytes zero; `None` if they are outside. The peer may be writing to them.
    pub fn wipe(&mut self, offset: u32, length: u32) -> Option<()> {
        // SAFETY: the bytes lie within pages this region holds; whoever has a slice of them has borrowed it.
        self.holds(offset, length)
            .then(|| unsafe { zero_shared(self.at.as_ptr().add(offset as usize), length as usize) })
    }
}

/// Copies bytes that a device may be writing to at this moment, which no plain read may. What is relied upon: a
/// relaxed atomic load is defined whoever else writes to its place, and the device is as another thread that
/// writes atomically, byte by byte at the least. So each byte is one that was there; which, of bytes that are
/// being written, nobody can say. That bytes whose completion was taken are seen as they were written is the
/// device's promise and needs no fence here: the completion was read before, by the library, with its barrier.
///
/// # Safety
/// `from` is the start of as many bytes that may be read, and no reference to any of them exists.
#[inline]
unsafe fn load_shared(from: *mut u8, into: &mut [MaybeUninit<u8>]) {
    let head = from.align_offset(size_of::<u64>()).min(into.len());
    let (first, rest) = into.split_at_mut(head);
    let (words, last) = rest.as_chunks_mut::<{ size_of::<u64>() }>();
    // SAFETY: all within the bytes that `from` begins, and words where the address is a multiple of a word.
    unsafe {
        let byte = |at: usize| MaybeUninit::new(AtomicU8::from_ptr(from.add(at)).load(Ordering::Relaxed));
        for (at, place) in first.iter_mut().enumerate() {
            *place = byte(at);
        }
        for (at, place) in words.iter_mut().enumerate() {
            let word = AtomicU64::from_ptr(from.add(head).cast::<u64>().add(at)).load(Ordering::Relaxed);
            *place = word.to_ne_bytes().map(MaybeUninit::new);
        }
        let tail = head + words.len() * size_of::<u64>();
        for (at, place) in last.iter_mut().enumerate() {
            *place = byte(tail + at);
        }
    }
}

/// As [`load_shared`], to make bytes zero.
///
/// # Safety
/// `at` is the start of `length` bytes that may be written, and no reference to any of them exists.
unsafe fn zero_shared(at: *mut u8, length: usize) {
    let head = at.align_offset(size_of::<u64>()).min(length);
    let words = (length - head) / size_of::<u64>();
    let tail = head + words * size_of::<u64>();
    // SAFETY: as for loading.
    unsafe {
        for at in (0..head).chain(tail..length).map(|offset| at.add(offset)) {
            AtomicU8::from_ptr(at).store(0, Ordering::Relaxed);
        }
        for word in 0..words {
            AtomicU64::from_ptr(at.add(head).cast::<u64>().add(word)).store(0, Ordering::Relaxed);
        }
    }
}

impl Drop for Mr {
    fn drop(&mut self) {
        // SAFETY: ours. Afterwards the device lets nobody at the pages, which are still mapped.
        unsafe { (self.pd.devices.api.ibv_dereg_mr)(self.raw.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Wherever a piece begins and ends between words, it is that piece which is copied, and wiped.
        #[test]
        fn a_piece_of_shared_memory_is_copied_and_wiped_to_the_byte(
            mut memory in prop::collection::vec(1u8.., 0..100),
            from in 0usize..100,
            length in 0usize..100,
        ) {
            let from = from.min(memory.len());
            let length = length.min(memory.len() - from);
            let mut wanted = memory.clone();
            let mut copy = vec![MaybeUninit::new(0u8); length];
            let at = memory.as_mut_ptr();
            // SAFETY: a piece of the vector, which is not looked at meanwhile; all of `copy` is written.
            unsafe {
                load_shared(at.add(from), &mut copy);
                zero_shared(at.add(from), length);
                let copy: Vec<u8> = copy.iter().map(|byte| byte.assume_init()).collect();
                prop_assert_eq!(&copy[..], &wanted[from..from + length]);
            }
            wanted[from..from + length].fill(0);
            prop_assert_eq!(memory, wanted);
        }
    }
}
