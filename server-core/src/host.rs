//! What a server asks of the machine it runs on: memory and time used, random numbers, helper threads,
//! whether settings can be had. The process brings one implementation; [`FakeHost`] is another, for tests
//! and for whole servers in one process.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tercel_transport::Wake;

use crate::base::clock::{Clock, ManualTime};
use crate::base::disk::{Disk, MemoryDisk};
use crate::settings::Settings;

/// Facts of the process that do not change.
#[derive(Debug, Default, Clone)]
pub struct ProcessInfo {
    /// Its number.
    pub pid: u32,
    /// Path of the program.
    pub executable: String,
    /// Path of the configuration file, empty without one.
    pub config_file: String,
    /// Kernel name, release and machine.
    pub os: String,
    /// What the transport says of itself.
    pub multiplexing_api: String,
    /// Core the executor is pinned to, if any.
    pub pinned_core: Option<usize>,
}

/// Processor time used so far, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTimes {
    /// By the kernel for the process.
    pub system: f64,
    /// By the process.
    pub user: f64,
    /// By the kernel for the executor's thread.
    pub thread_system: f64,
    /// By the executor's thread.
    pub thread_user: f64,
}

/// Memory and time as the operating system sees them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resources {
    /// Memory that is backed, in bytes.
    pub resident_bytes: usize,
    /// Memory of the machine, in bytes.
    pub total_memory_bytes: usize,
    /// Processor time.
    pub cpu: CpuTimes,
}

/// What the allocator tells, in bytes where nothing else is said.
#[derive(Clone, Debug, Default)]
pub struct AllocatorReport {
    /// Asked for, rounded to size classes.
    pub allocated: usize,
    /// In pages with at least one live block.
    pub active: usize,
    /// Backed by memory.
    pub resident: usize,
    /// Name and version.
    pub version: String,
    /// Pages filled ahead and not taken yet.
    pub stock_ready_bytes: usize,
    /// Times memory came from them.
    pub stock_taken: u64,
    /// Times there was none of them.
    pub stock_missed: u64,
}

/// Memory in use, cheap enough to ask before every write.
pub trait Meter {
    /// Bytes.
    fn allocated(&self) -> usize;
    /// Learns what helpers took and gave; costs more.
    fn refresh(&mut self);
}

/// A thread that works for the server.
pub trait Helper {
    /// Whether it is done.
    fn is_finished(&self) -> bool;
    /// Waits until it is done.
    fn join(self: Box<Self>);
}

/// What a helper is to do.
pub type Job = Box<dyn FnOnce() + Send>;

/// A setting that cannot be had here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which of those that changed.
    pub setting: &'static str,
    /// Why.
    pub reason: String,
}

/// The machine.
pub trait Host {
    /// Facts of the process.
    fn process(&self) -> &ProcessInfo;
    /// Memory and time.
    fn resources(&self) -> Resources;
    /// What the allocator tells.
    fn allocator(&self) -> AllocatorReport;
    /// What it tells to people.
    fn allocator_text(&self) -> String;
    /// Has it give back what it does not use.
    fn purge(&self);
    /// A meter for the calling thread, on which it must stay.
    fn meter(&self) -> Box<dyn Meter>;
    /// Fills with random bytes; false if there are none to be had.
    fn random(&self, into: &mut [u8]) -> bool;
    /// Whether the machine can do what changed settings ask for.
    ///
    /// # Errors
    /// [`Refused`] names the first that it cannot.
    fn check_settings(&self, old: &Settings, new: &Settings) -> Result<(), Refused>;
    /// Follows settings that concern the process.
    fn settings_changed(&self, old: &Settings, new: &Settings);
    /// Starts a helper, less urgent than the executor and on other cores where there are any.
    ///
    /// # Errors
    /// The operating system's.
    fn spawn(&self, name: &str, job: Job) -> io::Result<Box<dyn Helper>>;
    /// Ends the executor's sleep; for helpers.
    fn waker(&self) -> Option<Arc<dyn Wake>>;
    /// The disk.
    fn disk(&self) -> Arc<dyn Disk>;
    /// The clock.
    fn clock(&self) -> Clock;
    /// Does nothing for a time, and nobody else is served meanwhile: for tests and at the end.
    fn sleep(&self, time: Duration);
}

/// A machine that is not there: nothing is used, everything can be had, but for helpers, the disk is in
/// memory, and time passes when it is told to.
#[derive(Default)]
pub struct FakeHost {
    process: ProcessInfo,
    disk: MemoryDisk,
    time: ManualTime,
    spawn: Option<Spawn>,
}

/// How a [`FakeHost`] starts helpers.
pub type Spawn = fn(Job) -> Box<dyn Helper>;

impl FakeHost {
    /// One with helpers of the caller's.
    #[must_use]
    pub fn with_helpers(spawn: Spawn) -> Rc<Self> {
        Rc::new(FakeHost { spawn: Some(spawn), ..FakeHost::default() })
    }

    /// One whose time is the caller's.
    #[must_use]
    pub fn with_time(time: ManualTime) -> Rc<Self> {
        Rc::new(FakeHost { time, ..FakeHost::default() })
    }

    /// Its disk.
    #[must_use]
    pub fn memory_disk(&self) -> &MemoryDisk {
        &self.disk
    }
}

struct NoMeter;

impl Meter for NoMeter {
    fn allocated(&self) -> usize {
        0
    }

    fn refresh(&mut self) {}
}

impl Host for FakeHost {
    fn process(&self) -> &ProcessInfo {
        &self.process
    }

    fn resources(&self) -> Resources {
        Resources::default()
    }

    fn allocator(&self) -> AllocatorReport {
        AllocatorReport::default()
    }

    fn allocator_text(&self) -> String {
        String::new()
    }

    fn purge(&self) {}

    fn meter(&self) -> Box<dyn Meter> {
        Box::new(NoMeter)
    }

    fn random(&self, into: &mut [u8]) -> bool {
        // The same each time, so that a test is.
        for (at, byte) in into.iter_mut().enumerate() {
            *byte = (at as u8).wrapping_mul(167).wrapping_add(13);
        }
        true
    }

    fn check_settings(&self, _: &Settings, _: &Settings) -> Result<(), Refused> {
        Ok(())
    }

    fn settings_changed(&self, _: &Settings, _: &Settings) {}

    fn spawn(&self, _: &str, job: Job) -> io::Result<Box<dyn Helper>> {
        self.spawn.map(|spawn| spawn(job)).ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    fn waker(&self) -> Option<Arc<dyn Wake>> {
        None
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.clone())
    }

    fn clock(&self) -> Clock {
        Clock::manual(self.time.clone())
    }

    fn sleep(&self, time: Duration) {
        self.time.advance(time.as_nanos() as u64);
    }
}
