//! The loop: issue what is due, ring the doorbell, take what came, record.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tercel_resp::reply::Scanner;
use tercel_transport::client::{Client, Received};

use super::schedule::Schedule;
use super::{GAP_NS_MIN, Outcome, Pacing, Plan, Wait};
use crate::clock::Clock;
use crate::recorder::Recorder;
use crate::workload::{Found, Generator, Issued, excerpt};

/// Bytes received at once.
const RECEIVE_LEN: usize = 256 * 1024;
/// Room for requests a connection begins with.
const SEND_LEN: usize = 16 * 1024;
/// Requests issued in one turn at most, so that replies are not left lying.
const ISSUE_MAX: usize = 64;
/// How long replies to what is under way are still taken after an interrupt.
const STOP_DRAIN_NS_MAX: u64 = 500_000_000;
/// Requests that were due and never sent are drawn one by one up to so many; more are spread evenly,
/// so that no rate makes the end of a load take long.
const UNSENT_DRAWN_MAX: u64 = 1 << 20;
/// Into so many steps.
const UNSENT_STEPS: u64 = 1 << 16;
/// Longest sleep of a blocking client.
const SLEEP_NS_MAX: u64 = 10_000_000;

#[derive(Clone, Copy)]
struct Pending {
    intended_ns: u64,
    issued: Issued,
    counts: bool,
}

struct Conn {
    /// Requests not yet taken by the client, from `sent` on.
    out: Vec<u8>,
    sent: usize,
    blocked: bool,
    /// Whether it is on the list of connections with something to send.
    dirty: bool,
    /// A new pipeline of the closed loop, whose time begins when it is handed to the client.
    unstamped: bool,
    pending: VecDeque<Pending>,
    /// The beginning of a reply that has not arrived whole.
    partial: Vec<u8>,
    scanner: Scanner,
}

struct Driver<'a, C, K> {
    client: &'a mut C,
    clock: &'a K,
    plan: &'a Plan,
    generator: &'a mut Generator,
    recorder: &'a mut Recorder,
    conns: Vec<Conn>,
    dirty: Vec<usize>,
    outcome: Outcome,
    measured_from_ns: u64,
    /// No request is intended from here on.
    end_ns: u64,
    /// Requests that may still be issued.
    left: u64,
    under_way: usize,
    verify: bool,
    behind: Behind,
    /// Requests of the measured time that were not sent in it.
    past_end: u64,
}

/// How far the loop is behind its schedule, and by whose doing. What it falls back by in a turn that
/// ends without room on any connection is the server's, in every other turn the client's; what it
/// catches up is taken from who it is that lets it. So a backlog keeps its cause while it is worked
/// off, and one moment without room does not make all of it the server's.
#[derive(Default)]
struct Behind {
    lag_ns: u64,
    server_ns: i64,
    client_ns: i64,
}

impl Behind {
    /// Takes a turn that left the next request `lag_ns` late.
    fn turn(&mut self, lag_ns: u64, full: bool) {
        let more = lag_ns as i64 - self.lag_ns as i64;
        self.lag_ns = lag_ns;
        if lag_ns == 0 {
            (self.server_ns, self.client_ns) = (0, 0);
        } else if full {
            self.server_ns += more;
        } else {
            self.client_ns += more;
        }
    }

    fn by_server(&self) -> bool {
        self.server_ns > self.client_ns
    }

    /// Of so many requests not sent, those that the client did not send.
    fn clients(&self, count: u64) -> u64 {
        let (server, client) = (self.server_ns.max(0) as f64, self.client_ns.max(0) as f64);
        if server + client == 0.0 { count } else { (count as f64 * client / (server + client)) as u64 }
    }
}

/// Runs a load over the first `conns` connections of `client`, all of them open, until its plan is
/// done, `stop` is set, or a connection fails. What was measured is in the recorder and the outcome
/// in every case.
pub fn run<C: Client, K: Clock>(
    client: &mut C,
    conns: usize,
    clock: &K,
    plan: &Plan,
    generator: &mut Generator,
    recorder: &mut Recorder,
    stop: &AtomicBool,
) -> Outcome {
    let depth = match plan.pacing {
        Pacing::Closed { depth } => depth,
        Pacing::Open { .. } => plan.window,
    };
    let verify = generator.workload().verify;
    let conns = (0..conns)
        .map(|_| Conn {
            out: Vec::with_capacity(SEND_LEN),
            sent: 0,
            blocked: false,
            dirty: false,
            unstamped: false,
            pending: VecDeque::with_capacity(depth),
            partial: Vec::new(),
            scanner: Scanner::default(),
        })
        .collect::<Vec<_>>();
    let dirty = Vec::with_capacity(conns.len());
    let start_ns = clock.now_ns();
    let mut driver = Driver {
        client,
        clock,
        plan,
        generator,
        recorder,
        conns,
        dirty,
        outcome: Outcome::new(start_ns),
        measured_from_ns: start_ns + plan.warmup_ns,
        end_ns: start_ns + plan.warmup_ns + plan.duration_ns,
        left: plan.requests.unwrap_or(u64::MAX),
        under_way: 0,
        verify,
        behind: Behind::default(),
        past_end: 0,
    };
    driver.outcome.found.resize(driver.generator.workload().names().len(), Found::default());
    if let Err(failure) = driver.drive(start_ns, stop) {
        driver.outcome.failure = Some(failure);
    }
    driver.outcome
}

impl<C: Client, K: Clock> Driver<'_, C, K> {
    fn drive(&mut self, start_ns: u64, stop: &AtomicBool) -> Result<(), String> {
        let mut buffer = vec![0; RECEIVE_LEN];
        let mut ready = Vec::with_capacity(self.conns.len().max(256));
        let mut schedule = match self.plan.pacing {
            Pacing::Open { rate, arrivals } => Some(Schedule::new(start_ns, rate, arrivals, self.plan.seed)),
            Pacing::Closed { .. } => None,
        };
        let mut next_conn = 0;
        self.recorder.begin(start_ns);
        self.generator.set_now_ns(start_ns);
        if schedule.is_none() {
            (0..self.conns.len()).for_each(|conn| self.refill(conn, start_ns));
        }
        let mut last_ns = start_ns;
        let mut stopped = false;
        let mut drain_ns = self.plan.drain_ns;
        let result = loop {
            let now = self.clock.now_ns();
            if self.plan.wait == Wait::Spin && now - last_ns >= GAP_NS_MIN {
                self.outcome.gaps.saturating_record(now - last_ns);
            }
            last_ns = now;
            if !stopped && stop.load(Ordering::Relaxed) {
                stopped = true;
                self.end_ns = self.end_ns.min(now);
                self.left = 0;
                drain_ns = drain_ns.min(STOP_DRAIN_NS_MAX);
            }
            self.generator.set_now_ns(now);
            if let Some(schedule) = &mut schedule {
                self.issue_due(schedule, now, &mut next_conn);
            }
            if let Err(failure) = self.flush() {
                break Err(failure);
            }
            let all_sent = self.left == 0 || schedule.as_ref().map_or(now, Schedule::next_ns) >= self.end_ns;
            if all_sent && self.under_way == 0 && (self.left == 0 || now >= self.end_ns) {
                break Ok(());
            }
            if now >= self.end_ns.saturating_add(drain_ns) {
                break Ok(());
            }
            ready.clear();
            match self.plan.wait {
                Wait::Spin => self.client.poll(&mut ready),
                Wait::Block => {
                    let due = schedule.as_ref().filter(|_| !all_sent).map_or(u64::MAX, Schedule::next_ns);
                    let until = due.min(self.recorder.due_ns());
                    let sleep = until.saturating_sub(self.clock.now_ns()).min(SLEEP_NS_MAX);
                    self.client.wait(Duration::from_nanos(sleep), &mut ready);
                    last_ns = self.clock.now_ns();
                }
            }
            let mut failed = None;
            for &conn in &ready {
                if let Err(failure) = self.receive(conn, &mut buffer) {
                    failed = Some(failure);
                    break;
                }
            }
            if let Some(failure) = failed {
                break Err(failure);
            }
            self.recorder.turn(last_ns);
        };
        self.conclude(schedule, result.is_ok() && !stopped);
        result
    }

    /// Writes the requests whose time has come, connections in turn.
    fn issue_due(&mut self, schedule: &mut Schedule, now: u64, next_conn: &mut usize) {
        let full = self.issue_some(schedule, now, next_conn);
        // What is late after the end says nothing about who was too slow before it.
        if now < self.end_ns && self.left > 0 {
            self.behind.turn(now.saturating_sub(schedule.next_ns()), full);
        }
    }

    /// Returns whether there was no room for one that was due.
    fn issue_some(&mut self, schedule: &mut Schedule, now: u64, next_conn: &mut usize) -> bool {
        for _ in 0..ISSUE_MAX {
            let intended = schedule.next_ns();
            if intended > now || intended >= self.end_ns || self.left == 0 {
                return false;
            }
            let count = self.conns.len();
            let free = (0..count)
                .map(|step| (*next_conn + step) % count)
                .find(|&conn| self.conns[conn].pending.len() < self.plan.window);
            let Some(conn) = free else { return true };
            *next_conn = if conn + 1 == count { 0 } else { conn + 1 };
            schedule.advance();
            let counts = intended >= self.measured_from_ns;
            if counts {
                let late = if self.behind.by_server() { &mut self.outcome.held } else { &mut self.outcome.lag };
                late.saturating_record((now - intended).max(1));
                self.past_end += u64::from(now >= self.end_ns);
            }
            self.issue(conn, intended, counts);
            if self.left == 0 {
                // The last of a count: what is answered from now on was not answered at the rate asked
                // for, and later than intended is no longer the time it was due in.
                self.end_ns = self.end_ns.min(now + 1);
                self.outcome.due_to_ns = intended;
            }
        }
        false
    }

    #[inline]
    fn issue(&mut self, at: usize, intended_ns: u64, counts: bool) {
        let conn = &mut self.conns[at];
        let issued = self.generator.next(&mut conn.out, at);
        conn.pending.push_back(Pending { intended_ns, issued, counts });
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(at);
        }
        self.outcome.sent += 1;
        self.under_way += 1;
        if counts {
            self.outcome.due += 1;
            self.left -= 1;
        }
    }

    /// In the closed loop: the next pipeline of a connection, if there is one.
    fn refill(&mut self, at: usize, now: u64) {
        let Pacing::Closed { depth } = self.plan.pacing else { return };
        if now >= self.end_ns {
            return;
        }
        let counts = now >= self.measured_from_ns;
        let depth = if counts { (depth as u64).min(self.left) as usize } else { depth };
        for _ in 0..depth {
            self.issue(at, 0, counts);
        }
        self.conns[at].unstamped = depth > 0;
    }

    fn flush(&mut self) -> Result<(), String> {
        let mut rang = false;
        let mut kept = 0;
        for index in 0..self.dirty.len() {
            let at = self.dirty[index];
            let conn = &mut self.conns[at];
            if std::mem::take(&mut conn.unstamped) {
                // Putting requests together, and serving other connections meanwhile, is the
                // client's time and not the server's.
                let sent_ns = self.clock.now_ns();
                conn.pending.iter_mut().for_each(|pending| pending.intended_ns = sent_ns);
            }
            let taken = self
                .client
                .send(at, &conn.out[conn.sent..])
                .map_err(|error| format!("cannot send on connection {at}: {error}"))?;
            conn.sent += taken;
            rang |= taken > 0;
            let all = conn.sent == conn.out.len();
            if all {
                conn.out.clear();
                conn.sent = 0;
                conn.dirty = false;
            } else {
                self.dirty[kept] = at;
                kept += 1;
            }
            if conn.blocked == all {
                conn.blocked = !all;
                self.client.set_blocked(at, !all);
            }
        }
        self.dirty.truncate(kept);
        if rang {
            self.client.flush();
        }
        Ok(())
    }

    fn receive(&mut self, at: usize, buffer: &mut [u8]) -> Result<(), String> {
        let len = match self.take(at, buffer)? {
            0 => return Ok(()),
            len => len,
        };
        let now = self.clock.now_ns();
        if self.conns[at].partial.is_empty() {
            let used = self.replies(at, &buffer[..len], now)?;
            self.conns[at].partial.extend_from_slice(&buffer[used..len]);
        } else {
            let mut partial = std::mem::take(&mut self.conns[at].partial);
            partial.extend_from_slice(&buffer[..len]);
            let used = self.replies(at, &partial, now)?;
            partial.drain(..used);
            self.conns[at].partial = partial;
        }
        if self.conns[at].pending.is_empty() {
            let now = self.clock.now_ns();
            self.refill(at, now);
        }
        Ok(())
    }

    fn take(&mut self, at: usize, into: &mut [u8]) -> Result<usize, String> {
        match self.client.receive(at, into) {
            Ok(Received::Nothing) => Ok(0),
            Ok(Received::Bytes(len)) => Ok(len),
            Ok(Received::Eof) => Err(format!(
                "the server closed connection {at} with {} requests on it unanswered, after {} replies in all",
                self.conns[at].pending.len(),
                self.outcome.sent - self.under_way as u64
            )),
            Err(error) => Err(format!("connection {at} broke: {error}")),
        }
    }

    /// Accounts for every whole reply of `input`; returns how many bytes they were.
    fn replies(&mut self, at: usize, input: &[u8], now: u64) -> Result<usize, String> {
        let mut used = 0;
        let in_time = now >= self.measured_from_ns && now < self.end_ns;
        loop {
            let conn = &mut self.conns[at];
            let rest = &input[used..];
            let scanned = match conn.scanner.next(rest) {
                Ok(Some(scanned)) => scanned,
                Ok(None) => return Ok(used),
                Err(error) => return Err(format!("wrong reply on connection {at}: {error} at {}", excerpt(rest))),
            };
            let reply = &rest[..scanned.len];
            used += scanned.len;
            if scanned.kind == b'>' {
                // Out of band: no request waits for it.
                continue;
            }
            let Some(pending) = conn.pending.pop_front() else {
                return Err(format!("wrong reply on connection {at}: nothing was asked, yet came {}", excerpt(reply)));
            };
            self.under_way -= 1;
            let failed = matches!(scanned.kind, b'-' | b'!');
            let workload = self.generator.workload();
            let checked = if self.verify && !failed { workload.check(pending.issued, reply, now) } else { Ok(false) };
            // What was compared needs no look at its type or length beside.
            let compared = checked != Ok(false);
            let mistyped = !failed && !compared && !workload.fits(pending.issued.op, scanned.kind);
            self.recorder.count(failed || mistyped);
            self.outcome.replies_in_time += u64::from(in_time);
            self.outcome.due_in_time += u64::from(in_time && pending.counts);
            if now < self.end_ns {
                // Also of the warm-up: behind its backlog no request is as quick as it could be.
                let latency_ns = now.saturating_sub(pending.intended_ns);
                self.outcome.latency_ns_min = self.outcome.latency_ns_min.min(latency_ns);
            }
            if failed {
                self.outcome.errors += 1;
                if self.outcome.error_first.is_none() {
                    self.outcome.error_first = Some(excerpt(reply.trim_ascii_end()));
                }
                continue;
            }
            if mistyped {
                self.outcome.mistyped += 1;
                if self.outcome.mistyped_first.is_none() {
                    self.outcome.mistyped_first = Some(workload.answered(pending.issued.op, reply));
                }
                continue;
            }
            if pending.counts {
                let latency_ns = now.saturating_sub(pending.intended_ns);
                self.outcome.measured += 1;
                self.recorder.record(pending.issued.op, latency_ns);
                let mut found = workload.found(pending.issued.op, reply);
                if found.wrong_len > 0 && compared {
                    found.wrong_len = 0;
                }
                if found.wrong_len > 0 && self.outcome.wrong_len_first.is_none() {
                    self.outcome.wrong_len_first = Some(workload.answered(pending.issued.op, reply));
                }
                if let Some(sum) = self.outcome.found.get_mut(usize::from(pending.issued.op)) {
                    sum.add(found);
                }
            }
            self.outcome.verified += u64::from(compared);
            if let Err(what) = checked {
                self.outcome.mismatches += 1;
                self.outcome.mismatch_first.get_or_insert(what);
            }
        }
    }

    /// Counts what was due and never answered with the time it waited: leaving it out would hide
    /// the worst of a stall.
    fn conclude(&mut self, schedule: Option<Schedule>, to_the_end: bool) {
        let now = self.clock.now_ns();
        self.outcome.measured_from_ns = self.measured_from_ns.min(now);
        let by_count = self.plan.requests.is_some() && self.left == 0 && schedule.is_none();
        self.outcome.measured_to_ns =
            if by_count { now } else { now.min(self.end_ns) }.max(self.outcome.measured_from_ns);
        if self.outcome.due_to_ns == 0 {
            self.outcome.due_to_ns = self.outcome.measured_to_ns;
        }
        for conn in &self.conns {
            for pending in &conn.pending {
                if !pending.counts {
                    self.outcome.unanswered_warmup += 1;
                    continue;
                }
                self.outcome.unanswered += 1;
                self.recorder.record(pending.issued.op, now.saturating_sub(pending.intended_ns));
            }
        }
        if by_count {
            self.outcome.replies_in_time = self.outcome.due - self.outcome.unanswered;
        }
        if let Some(schedule) = schedule.filter(|_| to_the_end) {
            self.unsent(schedule, now);
        }
        self.outcome.late_past_end = self.behind.clients(self.past_end);
        self.outcome.held_past_end = self.past_end - self.outcome.late_past_end;
        self.outcome.open = matches!(self.plan.pacing, Pacing::Open { .. });
    }

    /// Accounts for what was due and never sent, by the command it would have been.
    fn unsent(&mut self, mut schedule: Schedule, now: u64) {
        let full = self.behind.by_server();
        let count = if schedule.count_until(self.end_ns) <= UNSENT_DRAWN_MAX {
            self.unsent_drawn(&mut schedule, now, full)
        } else {
            self.unsent_spread(&mut schedule, now, full)
        };
        self.left -= count;
        self.outcome.due += count;
        self.outcome.unsent += count;
        self.outcome.unanswered += count;
        self.past_end += count;
    }

    fn unsent_drawn(&mut self, schedule: &mut Schedule, now: u64, full: bool) -> u64 {
        let mut count = 0;
        while schedule.next_ns() < self.end_ns && count < self.left {
            let intended = schedule.next_ns();
            schedule.advance();
            if intended >= self.measured_from_ns {
                let op = self.generator.next_op();
                self.unsent_waited(op, now.saturating_sub(intended), 1, full);
                count += 1;
            }
        }
        count
    }

    /// So many that nobody could tell the single one: in even steps, each command by its share.
    fn unsent_spread(&mut self, schedule: &mut Schedule, now: u64, full: bool) -> u64 {
        schedule.skip_until(self.measured_from_ns);
        let from = schedule.next_ns();
        let whole = schedule.count_until(self.end_ns);
        let count = whole.min(self.left);
        // A count of requests may end the load before its time does.
        let span_ns = self.end_ns.saturating_sub(from) as f64 * (count as f64 / whole.max(1) as f64);
        let shares = self.generator.op_shares();
        let mut given = vec![0u64; shares.len()];
        let mut before = 0;
        for step in 1..=UNSENT_STEPS {
            let so_far = (u128::from(count) * u128::from(step) / u128::from(UNSENT_STEPS)) as u64;
            let waited_ns = now.saturating_sub(from + (span_ns * (step as f64 - 0.5) / UNSENT_STEPS as f64) as u64);
            let mut left = so_far - before;
            before = so_far;
            for (op, share) in shares.iter().enumerate() {
                let more = ((so_far as f64 * share) as u64).saturating_sub(given[op]).min(left);
                self.unsent_waited(op as u8, waited_ns, more, full);
                given[op] += more;
                left -= more;
            }
            // What rounding left goes to whoever has most to get.
            let owed = |op: usize| so_far as f64 * shares[op] - given[op] as f64;
            if let Some(op) = (0..shares.len()).max_by(|&a, &b| owed(a).total_cmp(&owed(b))) {
                self.unsent_waited(op as u8, waited_ns, left, full);
                given[op] += left;
            }
        }
        count
    }

    fn unsent_waited(&mut self, op: u8, waited_ns: u64, count: u64, full: bool) {
        if count > 0 {
            let late = if full { &mut self.outcome.held } else { &mut self.outcome.lag };
            late.saturating_record_n(waited_ns.max(1), count);
            self.recorder.record_n(op, waited_ns, count);
        }
    }
}
