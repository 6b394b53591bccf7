//! The process's allocator: jemalloc as the global allocator, and its counters. jemalloc runs as
//! shipped, with its background thread giving pages back after ten seconds. [`stock`] lets the thread that serves take memory that another thread has mapped and
//! filled with pages beforehand.
//!
//! Linking this crate installs the allocator. It knows nothing of keys, clients or settings.

pub mod stock;

use tikv_jemalloc_ctl::{epoch, raw, stats, thread};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What the allocator reports, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllocatorStats {
    /// Asked for by the program, rounded to size classes.
    pub allocated: usize,
    /// In pages with at least one live block.
    pub active: usize,
    /// Mapped and backed by memory.
    pub resident: usize,
    /// Retained by the allocator for reuse.
    pub retained: usize,
}

/// Reads the allocator's totals (some tens of microseconds).
#[must_use]
pub fn allocator_stats() -> AllocatorStats {
    let _ = epoch::advance();
    AllocatorStats {
        allocated: stats::allocated::read().unwrap_or(0),
        active: stats::active::read().unwrap_or(0),
        resident: stats::resident::read().unwrap_or(0),
        retained: stats::retained::read().unwrap_or(0),
    }
}

/// Memory in use, cheap enough to read before every write: the allocator's total at the last
/// refresh, plus what this thread took and gave since.
pub struct MemoryMeter {
    allocated: Option<thread::ThreadLocal<u64>>,
    deallocated: Option<thread::ThreadLocal<u64>>,
    base: i64,
}

impl MemoryMeter {
    /// A meter for the calling thread; it must stay on it.
    #[must_use]
    pub fn new() -> Self {
        let mut meter = MemoryMeter {
            allocated: thread::allocatedp::read().ok(),
            deallocated: thread::deallocatedp::read().ok(),
            base: 0,
        };
        meter.refresh();
        meter
    }

    #[inline]
    fn thread_net(&self) -> i64 {
        match (&self.allocated, &self.deallocated) {
            (Some(allocated), Some(deallocated)) => allocated.get().wrapping_sub(deallocated.get()) as i64,
            _ => 0,
        }
    }

    /// Takes the other threads' allocations into account again.
    pub fn refresh(&mut self) {
        self.base = allocator_stats().allocated as i64 - self.thread_net();
    }

    /// Bytes in use by the whole process.
    #[must_use]
    #[inline]
    pub fn allocated(&self) -> usize {
        (self.base + self.thread_net()).max(0) as usize
    }

    /// Bytes this thread has ever allocated: a test watches it stand still.
    #[must_use]
    pub fn thread_allocated_total(&self) -> u64 {
        self.allocated.as_ref().map_or(0, |counter| counter.get())
    }
}

impl Default for MemoryMeter {
    fn default() -> Self {
        Self::new()
    }
}

/// Asks the allocator to give all unused pages back.
pub fn purge() {
    // SAFETY: the name is a valid, NUL-terminated control that takes and returns nothing; 4096 is
    // jemalloc's number for "all arenas".
    let _ = unsafe { raw::write(b"arena.4096.purge\0", ()) };
}

/// Switches jemalloc's background thread.
pub fn set_background_thread(on: bool) {
    let _ = tikv_jemalloc_ctl::background_thread::write(on);
}

/// The allocator's own report.
#[must_use]
pub fn malloc_stats() -> String {
    let mut report = Vec::new();
    let _ = epoch::advance();
    if tikv_jemalloc_ctl::stats_print::stats_print(&mut report, tikv_jemalloc_ctl::stats_print::Options::default())
        .is_err()
    {
        return "Stats not available".to_owned();
    }
    String::from_utf8_lossy(&report).into_owned()
}

/// Version of the allocator.
#[must_use]
pub fn allocator_version() -> String {
    let version = tikv_jemalloc_ctl::version::read().unwrap_or("");
    format!("jemalloc-{}", version.split('-').next().unwrap_or(version))
}
