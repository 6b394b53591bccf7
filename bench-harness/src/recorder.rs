//! Between the load loop and everybody who looks at its results: histograms of the current interval
//! are filled by the loop, travel full to the collector, and come back empty. The loop never waits
//! for the collector and never allocates.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::histogram::{self, IntervalLog, Summary};

/// Histogram sets that are under way at once.
const SETS: usize = 4;

/// What one load thread recorded over an interval.
pub struct IntervalSet {
    /// When the interval began, in the loop's nanoseconds.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// Latencies of each command in nanoseconds.
    pub ops: Vec<Histogram<u64>>,
    /// Replies in the interval, whether their latency counts or not.
    pub replies: u64,
    /// Error replies in the interval.
    pub errors: u64,
}

impl IntervalSet {
    fn new(ops: usize) -> Self {
        IntervalSet { start_ns: 0, end_ns: 0, ops: (0..ops).map(|_| histogram::new()).collect(), replies: 0, errors: 0 }
    }

    fn clear(&mut self) {
        self.ops.iter_mut().for_each(Histogram::reset);
        self.replies = 0;
        self.errors = 0;
    }
}

/// The loop's end: records into the current interval and changes it when it is over.
pub struct Recorder {
    current: IntervalSet,
    interval_ns: u64,
    free: Receiver<IntervalSet>,
    full: SyncSender<IntervalSet>,
}

/// The collector's end for one thread.
pub struct RecorderTap {
    /// Full sets, in order; ends when the loop is done.
    pub full: Receiver<IntervalSet>,
    free: SyncSender<IntervalSet>,
}

impl RecorderTap {
    /// Gives a set back, emptied.
    pub fn recycle(&self, mut set: IntervalSet) {
        set.clear();
        // The loop may be done already; then nobody wants it.
        let _ = self.free.try_send(set);
    }
}

/// Both ends for one load thread with `ops` commands.
#[must_use]
pub fn recorder(ops: usize, interval_ns: u64) -> (Recorder, RecorderTap) {
    let (free_in, free) = sync_channel(SETS);
    let (full, full_out) = sync_channel(SETS + 1);
    for _ in 1..SETS {
        let _ = free_in.try_send(IntervalSet::new(ops));
    }
    let recorder = Recorder { current: IntervalSet::new(ops), interval_ns: interval_ns.max(1), free, full };
    (recorder, RecorderTap { full: full_out, free: free_in })
}

impl Recorder {
    /// Begins the first interval.
    pub fn begin(&mut self, now_ns: u64) {
        self.current.start_ns = now_ns;
    }

    /// When the current interval is over.
    #[inline]
    #[must_use]
    pub fn due_ns(&self) -> u64 {
        self.current.start_ns + self.interval_ns
    }

    /// Records a latency of a command.
    #[inline]
    pub fn record(&mut self, op: u8, latency_ns: u64) {
        if let Some(histogram) = self.current.ops.get_mut(usize::from(op)) {
            histogram.saturating_record(latency_ns.max(1));
        }
    }

    /// Records the same latency of a command several times.
    pub fn record_n(&mut self, op: u8, latency_ns: u64, count: u64) {
        if let Some(histogram) = self.current.ops.get_mut(usize::from(op)) {
            histogram.saturating_record_n(latency_ns.max(1), count);
        }
    }

    /// Counts a reply.
    #[inline]
    pub fn count(&mut self, error: bool) {
        self.current.replies += 1;
        self.current.errors += u64::from(error);
    }

    /// Changes the set if the interval is over. While the collector has none to give, the interval
    /// simply grows longer.
    #[inline]
    pub fn turn(&mut self, now_ns: u64) {
        if now_ns >= self.due_ns() {
            self.rotate(now_ns);
        }
    }

    fn rotate(&mut self, now_ns: u64) {
        match self.free.try_recv() {
            Ok(mut next) => {
                next.start_ns = now_ns;
                self.current.end_ns = now_ns;
                let full = std::mem::replace(&mut self.current, next);
                // There are fewer sets than the queue has room for.
                let _ = self.full.try_send(full);
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
    }

    /// Hands over the last interval.
    pub fn finish(mut self, now_ns: u64) {
        self.current.end_ns = now_ns;
        let _ = self.full.send(self.current);
    }
}

/// What a report shows of one interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct IntervalStat {
    /// Begin in seconds since the load began.
    pub start_s: f64,
    /// End.
    pub end_s: f64,
    /// Replies a second.
    pub rate: f64,
    /// Error replies.
    pub errors: u64,
    /// Latencies of replies that came in this interval.
    pub latency: Summary,
}

/// Everything recorded in one measurement.
pub struct Recording {
    /// Latencies of each command.
    pub ops: Vec<Histogram<u64>>,
    /// The time line.
    pub intervals: Vec<IntervalStat>,
    /// The same as the field's log format, compressed histograms by command.
    pub log: IntervalLog,
    /// Latencies by the part of the time line they fall into, if marks were set.
    pub parts: Vec<Histogram<u64>>,
}

impl Recording {
    /// All commands in one.
    #[must_use]
    pub fn total(&self) -> Histogram<u64> {
        let mut total = histogram::new();
        self.ops.iter().for_each(|op| histogram::merge(&mut total, op));
        total
    }
}

/// Says which part of a time line an interval belongs to, from its begin and end in nanoseconds.
pub type PartOf = Box<dyn FnMut(u64, u64) -> usize + Send>;

/// Merges what the threads' recorders hand over.
pub struct Collector {
    names: Vec<String>,
    origin_ns: u64,
    recording: Recording,
    part_of: Option<PartOf>,
    merged: Histogram<u64>,
}

impl Collector {
    /// A collector for commands with these names; intervals count from `origin_ns`.
    #[must_use]
    pub fn new(names: &[String], origin_ns: u64, log: IntervalLog, parts: usize, part_of: Option<PartOf>) -> Self {
        Collector {
            names: names.to_vec(),
            origin_ns,
            recording: Recording {
                ops: names.iter().map(|_| histogram::new()).collect(),
                intervals: Vec::new(),
                log,
                parts: (0..parts).map(|_| histogram::new()).collect(),
            },
            part_of,
            merged: histogram::new(),
        }
    }

    /// Takes one interval's sets, one of each thread.
    pub fn take(&mut self, sets: &[IntervalSet]) {
        let (Some(start), Some(end)) =
            (sets.iter().map(|set| set.start_ns).min(), sets.iter().map(|set| set.end_ns).max())
        else {
            return;
        };
        let seconds = |ns: u64| ns.saturating_sub(self.origin_ns) as f64 / 1e9;
        let (start_s, end_s) = (seconds(start), seconds(end));
        self.merged.reset();
        for op in 0..self.names.len() {
            let mut one: Option<Histogram<u64>> = None;
            for histogram in sets.iter().filter_map(|set| set.ops.get(op)).filter(|histogram| !histogram.is_empty()) {
                histogram::merge(&mut self.recording.ops[op], histogram);
                histogram::merge(&mut self.merged, histogram);
                match &mut one {
                    Some(one) => histogram::merge(one, histogram),
                    None => one = Some(histogram.clone()),
                }
            }
            if let Some(one) = one {
                self.recording.log.push(start_s, end_s - start_s, &self.names[op], &one);
            }
        }
        if let Some(part_of) = &mut self.part_of {
            let part = part_of(start, end);
            if let Some(part) = self.recording.parts.get_mut(part) {
                histogram::merge(part, &self.merged);
            }
        }
        let replies: u64 = sets.iter().map(|set| set.replies).sum();
        self.recording.intervals.push(IntervalStat {
            start_s,
            end_s,
            rate: replies as f64 / (end_s - start_s).max(1e-9),
            errors: sets.iter().map(|set| set.errors).sum(),
            latency: Summary::of(&self.merged),
        });
    }

    /// What there is so far.
    #[must_use]
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// What there was.
    #[must_use]
    pub fn finish(self) -> Recording {
        self.recording
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_recorded_is_lost_when_the_collector_is_slow() {
        let (mut recorder, tap) = recorder(2, 10);
        recorder.begin(0);
        for now in 0..1000u64 {
            recorder.record((now % 2) as u8, now + 1);
            recorder.count(now % 10 == 0);
            recorder.turn(now);
        }
        recorder.finish(1000);
        let names = ["a".to_owned(), "b".to_owned()];
        let mut collector =
            Collector::new(&names, 0, IntervalLog::new(0, ""), 2, Some(Box::new(|start, _| usize::from(start >= 20))));
        for set in tap.full.iter() {
            collector.take(&[set]);
        }
        let recording = collector.finish();
        assert_eq!(recording.total().len(), 1000);
        assert_eq!(recording.ops[0].len(), 500);
        assert_eq!(recording.intervals.iter().map(|interval| interval.errors).sum::<u64>(), 100);
        assert_eq!(recording.intervals.len(), SETS);
        let parts: Vec<u64> = recording.parts.iter().map(|part| part.len()).collect();
        assert_eq!(parts.iter().sum::<u64>(), 1000);
        assert!(parts.iter().all(|&count| count > 0), "{parts:?}");
    }
}
