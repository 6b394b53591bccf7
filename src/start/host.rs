//! This machine, as the server sees it.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tercel_memory::MemoryMeter;
use tercel_transport::Wake;

use super::clients_possible;
use super::disk::MachineDisk;
use crate::network;
use crate::process::{logging, sys};
use tercel_core::base::clock::Clock;
use tercel_core::base::disk::Disk;
use tercel_core::host::{AllocatorReport, Helper, Host, Job, Meter, ProcessInfo, Refused, Resources};
use tercel_core::settings::Settings;

/// Helpers give way to whoever serves clients, where there is no core to spare for them, but not so far
/// that a save takes for ever between threads that spin.
const HELPER_NICE: i32 = 10;

/// The machine this process runs on.
pub struct Machine {
    process: ProcessInfo,
    /// Cores for helpers; empty for any.
    helper_cores: Vec<usize>,
    waker: Option<Arc<dyn Wake>>,
}

impl Machine {
    /// What is known of the process, where helpers run, and who is woken by them.
    #[must_use]
    pub fn new(process: ProcessInfo, helper_cores: Vec<usize>, waker: Option<Arc<dyn Wake>>) -> Self {
        Machine { process: ProcessInfo { pid: std::process::id(), ..process }, helper_cores, waker }
    }
}

/// This machine for an executor that nobody started as a server: in tests, benchmarks and examples.
#[must_use]
pub fn machine() -> Rc<dyn Host> {
    Rc::new(Machine::new(ProcessInfo::default(), Vec::new(), None))
}

struct ThreadMeter(MemoryMeter);

impl Meter for ThreadMeter {
    fn allocated(&self) -> usize {
        self.0.allocated()
    }

    fn refresh(&mut self) {
        self.0.refresh();
    }
}

struct Thread(std::thread::JoinHandle<()>);

impl Helper for Thread {
    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    fn join(self: Box<Self>) {
        // A helper that panicked has said so itself.
        let _ = self.0.join();
    }
}

impl Host for Machine {
    fn process(&self) -> &ProcessInfo {
        &self.process
    }

    fn resources(&self) -> Resources {
        Resources {
            resident_bytes: sys::resident_bytes(),
            total_memory_bytes: sys::total_memory_bytes(),
            cpu: sys::cpu_times(),
        }
    }

    fn allocator(&self) -> AllocatorReport {
        let stats = tercel_memory::allocator_stats();
        let stock = tercel_memory::stock::stats();
        AllocatorReport {
            allocated: stats.allocated,
            active: stats.active,
            resident: stats.resident,
            version: tercel_memory::allocator_version(),
            stock_ready_bytes: stock.ready_bytes,
            stock_taken: stock.taken,
            stock_missed: stock.missed,
        }
    }

    fn allocator_text(&self) -> String {
        tercel_memory::malloc_stats()
    }

    fn purge(&self) {
        tercel_memory::purge();
    }

    fn meter(&self) -> Box<dyn Meter> {
        Box::new(ThreadMeter(MemoryMeter::new()))
    }

    fn random(&self, into: &mut [u8]) -> bool {
        getrandom::fill(into).is_ok()
    }

    fn check_settings(&self, old: &Settings, new: &Settings) -> Result<(), Refused> {
        let changed = [
            ("port", old.port != new.port),
            ("bind", old.bind != new.bind),
            ("rdma-port", old.rdma_port != new.rdma_port),
            ("rdma-bind", old.rdma_bind != new.rdma_bind),
        ];
        if let Some((setting, _)) = changed.into_iter().find(|(_, changed)| *changed) {
            network::check(old, new).map_err(|error| {
                tracing::warn!("{error}");
                let reason = if setting.ends_with("bind") {
                    "Failed to bind to specified addresses."
                } else {
                    "Unable to listen on this port. Check server logs."
                };
                Refused { setting, reason: reason.to_owned() }
            })?;
        }
        if new.maxclients > old.maxclients {
            let possible = clients_possible(new.maxclients);
            if possible < new.maxclients {
                return Err(Refused {
                    setting: "maxclients",
                    reason: format!(
                        "The operating system is not able to handle the specified number of clients, try with {possible}"
                    ),
                });
            }
        }
        Ok(())
    }

    fn settings_changed(&self, old: &Settings, new: &Settings) {
        if new.jemalloc_bg_thread != old.jemalloc_bg_thread {
            tercel_memory::set_background_thread(new.jemalloc_bg_thread);
        }
        if new.loglevel != old.loglevel {
            logging::set_level(new.loglevel.0);
        }
    }

    fn spawn(&self, name: &str, job: Job) -> io::Result<Box<dyn Helper>> {
        let cores = self.helper_cores.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            sys::run_on(&cores);
            sys::give_way(HELPER_NICE);
            job();
        })?;
        Ok(Box::new(Thread(thread)))
    }

    fn waker(&self) -> Option<Arc<dyn Wake>> {
        self.waker.clone()
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(MachineDisk)
    }

    fn clock(&self) -> Clock {
        Clock::new()
    }

    // Whoever asks for it wants nobody served.
    #[allow(clippy::disallowed_methods)]
    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
