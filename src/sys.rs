//! What the server asks the allocator and the operating system: the global allocator and its
//! counters, process facts, signals. The one place in `src/` where unsafe code may stand.

#![allow(unsafe_code)]

use tikv_jemalloc_ctl::{epoch, raw, stats, thread};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// jemalloc's start-up configuration: a background thread gives pages back, so that freeing a
/// large block costs the executor nothing; one arena suits the one thread that allocates.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: &[u8; 91] =
    b"background_thread:true,oversize_threshold:0,dirty_decay_ms:2000,muzzy_decay_ms:0,narenas:2\0";

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
        let mut meter =
            MemoryMeter { allocated: thread::allocatedp::read().ok(), deallocated: thread::deallocatedp::read().ok(), base: 0 };
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
    if tikv_jemalloc_ctl::stats_print::stats_print(&mut report, tikv_jemalloc_ctl::stats_print::Options::default()).is_err() {
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

/// Processor time used: seconds in the kernel and in user mode, for the whole process and for the
/// calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTimes {
    /// Kernel time of the process in seconds.
    pub system: f64,
    /// User time of the process in seconds.
    pub user: f64,
    /// Kernel time of this thread in seconds.
    pub thread_system: f64,
    /// User time of this thread in seconds.
    pub thread_user: f64,
}

fn usage(who: libc::c_int) -> (f64, f64) {
    // SAFETY: rusage is plain data for which all-zero bytes are valid; getrusage writes it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(who, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    (seconds(usage.ru_stime), seconds(usage.ru_utime))
}

/// Reads the processor time used so far.
#[must_use]
pub fn cpu_times() -> CpuTimes {
    let (system, user) = usage(libc::RUSAGE_SELF);
    let (thread_system, thread_user) = usage(libc::RUSAGE_THREAD);
    CpuTimes { system, user, thread_system, thread_user }
}

/// Kernel name, release and machine.
#[must_use]
pub fn uname() -> String {
    // SAFETY: utsname is plain bytes for which zero is valid; uname fills it with NUL-terminated text.
    let name = unsafe {
        let mut name: libc::utsname = std::mem::zeroed();
        libc::uname(&raw mut name);
        name
    };
    let text = |field: &[libc::c_char]| {
        field.iter().take_while(|&&c| c != 0).map(|&c| char::from(c as u8)).collect::<String>()
    };
    format!("{} {} {}", text(&name.sysname), text(&name.release), text(&name.machine))
}

/// The limit on open files: raises the soft limit towards `wanted` and returns what it is now.
#[must_use]
pub fn raise_open_files(wanted: u64) -> u64 {
    // SAFETY: rlimit is plain data; both calls read or write only the struct given.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return 1024;
        }
        if limit.rlim_cur < wanted {
            let mut raised = limit;
            raised.rlim_cur = wanted.min(limit.rlim_max.max(wanted));
            raised.rlim_max = raised.rlim_max.max(raised.rlim_cur);
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) != 0 {
                raised.rlim_cur = wanted.min(limit.rlim_max);
                raised.rlim_max = limit.rlim_max;
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised);
            }
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        }
        limit.rlim_cur
    }
}

/// The limit on locked memory in bytes (`u64::MAX`: none).
#[must_use]
pub fn locked_memory_limit() -> u64 {
    // SAFETY: rlimit is plain data that getrlimit fills.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit);
        limit.rlim_cur
    }
}

/// Keeps transparent huge pages away from this process (`disable-thp`).
pub fn disable_thp() {
    // SAFETY: a prctl with plain integers; failure changes nothing.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
}

/// Resident memory of this process in bytes.
#[must_use]
pub fn resident_bytes() -> usize {
    std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<usize>().ok())
        .map_or(0, |pages| pages * 4096)
}

/// Physical memory of the machine in bytes.
#[must_use]
pub fn total_memory_bytes() -> usize {
    std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| text.lines().next()?.split_whitespace().nth(1)?.parse::<usize>().ok())
        .map_or(0, |kib| kib * 1024)
}
