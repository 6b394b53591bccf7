//! The hiccup meter: a thread that sleeps a millisecond at a time and records by how much it woke
//! late. What it shows, the machine did to everybody, not the server to its clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::clock::{Clock, TscClock, sleep};
use crate::histogram;

/// How long it sleeps.
pub const PERIOD: Duration = Duration::from_millis(1);

/// A running meter.
pub struct HiccupMeter {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Histogram<u64>>>,
}

impl HiccupMeter {
    /// Starts a meter, on `core` if one is given. Without a thread to be had it measures nothing.
    #[must_use]
    pub fn start(clock: TscClock, core: Option<usize>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = std::thread::Builder::new().name("hiccup".to_owned()).spawn(move || {
            if let Some(id) = core {
                core_affinity::set_for_current(core_affinity::CoreId { id });
            }
            // The kernel may round a sleep by 50 us unless told otherwise; that is no hiccup.
            let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
            let mut late = histogram::new();
            while !seen.load(Ordering::Relaxed) {
                let begin = clock.now_ns();
                sleep(PERIOD);
                record(&mut late, clock.now_ns() - begin);
            }
            late
        });
        HiccupMeter { stop, thread: thread.ok() }
    }

    /// Ends the meter and returns by how much it woke late, in nanoseconds.
    #[must_use]
    pub fn finish(mut self) -> Histogram<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_else(histogram::new)
    }
}

impl Drop for HiccupMeter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Records one sleep. A long hiccup stands for all the sleeps that did not begin in it, so that it
/// weighs as much as it lasted.
fn record(late: &mut Histogram<u64>, slept_ns: u64) {
    let period = PERIOD.as_nanos() as u64;
    let mut over = slept_ns.saturating_sub(period);
    late.saturating_record(over.max(1));
    while over > period {
        over -= period;
        late.saturating_record(over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_hiccup_weighs_what_it_lasted() {
        let mut late = histogram::new();
        (0..900).for_each(|_| record(&mut late, 1_050_000));
        record(&mut late, 101_000_000);
        assert_eq!(late.len(), 1000);
        let p95 = late.value_at_quantile(0.95);
        assert!((49_000_000..=51_500_000).contains(&p95), "{p95}");
    }

    #[test]
    fn the_meter_runs_and_ends() {
        let meter = HiccupMeter::start(TscClock::new(), None);
        sleep(Duration::from_millis(30));
        assert!(!meter.finish().is_empty());
    }
}
