//! What the server asks the operating system: process facts and limits. The one place in `src/`
//! where unsafe code may stand.

#![allow(unsafe_code)]

use tercel_core::host::CpuTimes;

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

/// Physical memory of the machine in bytes. Read once: the kernel takes its time over it.
#[must_use]
pub fn total_memory_bytes() -> usize {
    static TOTAL: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *TOTAL.get_or_init(read_total_memory_bytes)
}

fn read_total_memory_bytes() -> usize {
    std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| text.lines().next()?.split_whitespace().nth(1)?.parse::<usize>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// Makes the calling thread give way to others where there are too few processors, `nice` from 0 to 19.
pub fn give_way(nice: i32) {
    // SAFETY: plain numbers; 0 is the calling thread. Failure changes nothing.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, nice);
    }
}

/// Lets the calling thread run on these processors, if there are any and the system agrees.
pub fn run_on(cpus: &[usize]) {
    if cpus.is_empty() {
        return;
    }
    // SAFETY: the set is plain bits for which zero is valid; CPU_SET is told only numbers within it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for &cpu in cpus.iter().filter(|&&cpu| cpu < libc::CPU_SETSIZE as usize) {
            libc::CPU_SET(cpu, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}
