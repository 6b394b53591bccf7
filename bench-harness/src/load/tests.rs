//! The loop against servers whose truth is known, in simulated time: nothing here depends on the
//! machine.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hdrhistogram::Histogram;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::schedule::{Arrivals, Schedule};
use super::sim::{Answer, SimClient};
use super::{Blame, Outcome, Pacing, Plan, Wait, run};
use crate::histogram::{self, IntervalLog, PRECISION, Summary};
use crate::recorder::{Collector, recorder};
use crate::workload::{Found, Generator, Workload, WorkloadSpec};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
/// How far simulated time moves each turn.
const STEP_NS: u64 = 1000;

fn plan(pacing: Pacing, duration_ns: u64) -> Plan {
    Plan {
        pacing,
        warmup_ns: 0,
        duration_ns,
        requests: None,
        window: 4096,
        drain_ns: 2 * SECOND,
        wait: Wait::Spin,
        interval_ns: 100 * MS,
        seed: 5,
    }
}

fn open(rate: f64, arrivals: Arrivals) -> Pacing {
    Pacing::Open { rate, arrivals }
}

fn drive_stepped(
    conns: usize,
    plan: &Plan,
    step_ns: u64,
    behave: impl FnMut(u64, u64) -> Answer,
) -> (Outcome, Histogram<u64>) {
    let workload = Workload::compile(&WorkloadSpec { mix: "ping".into(), ..WorkloadSpec::default() }).unwrap();
    let workload = Arc::new(workload);
    let mut generator = Generator::new(workload.clone(), 0, 0, conns as u64).unwrap();
    let (mut client, clock) = SimClient::new(conns, step_ns, behave);
    let (mut recorder, tap) = recorder(workload.names().len(), plan.interval_ns);
    let outcome = run(&mut client, conns, &clock, plan, &mut generator, &mut recorder, &AtomicBool::new(false));
    recorder.finish(outcome.measured_to_ns);
    let mut collector = Collector::new(workload.names(), 0, IntervalLog::new(0, ""), 0, None);
    tap.full.iter().for_each(|set| collector.take(&[set]));
    (outcome, collector.finish().total())
}

fn drive(conns: usize, plan: &Plan, behave: impl FnMut(u64, u64) -> Answer) -> (Outcome, Histogram<u64>) {
    drive_stepped(conns, plan, STEP_NS, behave)
}

const SERVICE_NS: u64 = 100_000;
const STALL_NS: u64 = 100 * MS;

/// A server that takes 100 us for everything and stands still for 100 ms in each second.
fn stalling(_: u64, now: u64) -> Answer {
    Answer::At(stalled_until(now) + SERVICE_NS)
}

fn stalled_until(now: u64) -> u64 {
    let (second, within) = (now / SECOND, now % SECOND);
    if (SECOND / 2..SECOND / 2 + STALL_NS).contains(&within) { second * SECOND + SECOND / 2 + STALL_NS } else { now }
}

/// The value at a quantile as HdrHistogram defines it: the smallest that enough others do not pass.
fn exact(sorted: &[u64], quantile: f64) -> u64 {
    let rank = (quantile * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted[rank.min(sorted.len()) - 1]
}

fn assert_true(found: &Summary, truth: &mut [u64]) {
    truth.sort_unstable();
    assert_eq!(found.count, truth.len() as u64);
    for (name, quantile) in histogram::PERCENTILES.iter().copied().chain([("max", 1.0)]) {
        let (found, want) = (found.by_name(name).unwrap(), exact(truth, quantile));
        // One turn to send late and one to see the reply late, and the histogram's precision.
        let tolerance = 2.0 * STEP_NS as f64 + want as f64 * PRECISION;
        assert!((found as f64 - want as f64).abs() <= tolerance, "{name}: found {found}, true is {want}");
    }
}

#[test]
fn the_open_loop_reports_the_stalls_of_a_server_as_they_are() {
    for arrivals in [Arrivals::Uniform, Arrivals::Poisson] {
        let rate = 10_000.0;
        let (outcome, latency) = drive(20, &plan(open(rate, arrivals), 10 * SECOND), stalling);
        let mut schedule = Schedule::new(0, rate, arrivals, 5);
        let mut truth = Vec::new();
        while schedule.next_ns() < 10 * SECOND {
            let intended = schedule.next_ns();
            truth.push(stalled_until(intended) + SERVICE_NS - intended);
            schedule.advance();
        }
        let summary = Summary::of(&latency);
        assert_true(&summary, &mut truth);
        // In figures: one request in ten met a stall, so p99 is 90 ms and p999 99 ms.
        assert!((85 * MS..95 * MS).contains(&summary.p99_ns) && summary.p999_ns > 98 * MS, "{summary:?}");
        assert_eq!((outcome.failure.as_deref(), outcome.unanswered, outcome.shortfall(rate)), (None, 0, None));
    }
}

#[test]
fn the_closed_loop_tells_its_known_lie() {
    let (_, latency) = drive(1, &plan(Pacing::Closed { depth: 1 }, 10 * SECOND), stalling);
    let summary = Summary::of(&latency);
    // It asked once in each stall: 10 of some 90,000 requests. The maximum shows it, p999 does not.
    assert!(summary.p999_ns < 2 * SERVICE_NS, "{summary:?}");
    assert!(summary.max_ns > 99 * MS, "{summary:?}");
}

#[test]
fn the_open_loop_reports_the_true_percentiles_of_a_delay_distribution() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(9);
    let mut truth = Vec::new();
    let (outcome, latency) = drive(100, &plan(open(2000.0, Arrivals::Poisson), 20 * SECOND), |_, now| {
        let delay = match rng.random::<f64>() {
            at if at < 0.9 => 50_000 + (at * 1e5) as u64,
            at if at < 0.99 => MS,
            at if at < 0.999 => 5 * MS,
            _ => 20 * MS,
        };
        truth.push(delay);
        Answer::At(now + delay)
    });
    assert_eq!(outcome.measured, truth.len() as u64);
    assert_true(&Summary::of(&latency), &mut truth);
}

#[test]
fn a_blocking_client_reports_the_same() {
    let plan = Plan { wait: Wait::Block, ..plan(open(5000.0, Arrivals::Uniform), 5 * SECOND) };
    let (_, latency) = drive(20, &plan, stalling);
    let summary = Summary::of(&latency);
    assert!((85 * MS..95 * MS).contains(&summary.p99_ns), "{summary:?}");
}

#[test]
fn the_closed_loop_keeps_its_pipelines_full_and_counts_right() {
    let (outcome, latency) =
        drive(4, &plan(Pacing::Closed { depth: 8 }, SECOND), |_, now| Answer::At(now + SERVICE_NS));
    // 32 requests each 100 us and the step that sees them.
    let want = 32.0 * 1e9 / (SERVICE_NS + STEP_NS) as f64;
    assert!((outcome.rate_achieved() / want - 1.0).abs() < 0.02, "{} {want}", outcome.rate_achieved());
    assert_eq!(latency.len(), outcome.measured);
    assert_eq!(outcome.sent, outcome.measured);
}

#[test]
fn warm_up_does_not_count_and_a_request_count_ends_the_load() {
    let slow_at_first = |_, now| Answer::At(now + if now < SECOND { 10 * MS } else { SERVICE_NS });
    let plan = Plan { warmup_ns: 2 * SECOND, requests: Some(1000), ..plan(Pacing::Closed { depth: 3 }, 100 * SECOND) };
    let (outcome, latency) = drive(1, &plan, slow_at_first);
    assert_eq!((latency.len(), outcome.due, outcome.measured), (1000, 1000, 1000));
    assert!(latency.max() < MS, "a slow request of the warm-up counted");
    let want = 3.0 * 1e9 / (SERVICE_NS + STEP_NS) as f64;
    assert!((outcome.rate_achieved() / want - 1.0).abs() < 0.02, "{} {want}", outcome.rate_achieved());
}

#[test]
fn a_server_beyond_its_rate_is_named_and_nothing_due_is_missing() {
    let mut free_at = 0;
    let one_a_millisecond = move |_, now: u64| {
        free_at = now.max(free_at) + MS;
        Answer::At(free_at)
    };
    let plan = Plan { window: 10, drain_ns: SECOND / 2, ..plan(open(4000.0, Arrivals::Uniform), 2 * SECOND) };
    let (outcome, latency) = drive(2, &plan, one_a_millisecond);
    assert_eq!(outcome.due, 8000);
    assert_eq!(latency.len(), 8000, "a request that was due is not in the histogram");
    assert!((outcome.rate_achieved() - 1000.0).abs() < 20.0, "{}", outcome.rate_achieved());
    assert!(outcome.unanswered > 5000, "{}", outcome.unanswered);
    let shortfall = outcome.shortfall(4000.0).unwrap();
    assert_eq!(shortfall.blame, Blame::Server);
    // Twenty requests fit the windows; the others never got to a connection.
    assert_eq!((shortfall.unanswered, shortfall.late), (20, 0), "{shortfall}");
    assert_eq!(shortfall.in_time + shortfall.unanswered + shortfall.held, 8000, "{shortfall}");
    assert!(outcome.lag.is_empty() || outcome.lag.max() < MS, "the client is blamed for full windows");
    assert!(outcome.held.max() > SECOND);
    // The last request intended waited from the end of the load to that of the draining, the
    // median some second longer.
    assert!(latency.value_at_quantile(0.5) > SECOND, "{}", latency.value_at_quantile(0.5));
}

#[test]
fn a_client_beyond_its_rate_says_so() {
    // Each turn takes the client 10 ms, in which it can issue so much and no more.
    let plan = Plan { window: 1_000_000, drain_ns: 0, ..plan(open(100_000.0, Arrivals::Uniform), SECOND) };
    let (outcome, _) = drive_stepped(2, &plan, 10 * MS, |_, now| Answer::At(now));
    let shortfall = outcome.shortfall(100_000.0).unwrap();
    let text = shortfall.to_string();
    assert!(shortfall.blame == Blame::Client && text.starts_with("client could not keep up"), "{text}");
    assert!(shortfall.late > shortfall.unanswered && shortfall.held == 0, "{text}");
    assert_eq!(shortfall.in_time + shortfall.late + shortfall.unanswered, shortfall.due, "{text}");
    assert!(outcome.lag.max() > 100 * MS);
    assert!(outcome.gaps.len() > 50 && outcome.gaps.max() >= 9 * MS, "gaps of the loop are not seen");
}

#[test]
fn a_stalled_server_is_not_blamed_on_the_client() {
    // There is room for everything on the connections: the client sends on time, and nobody answers
    // from the middle of the measured time on, until long after its end.
    let stalls = |_, now| Answer::At(if now < SECOND { now + SERVICE_NS } else { 4 * SECOND + SERVICE_NS });
    let plan = Plan { window: 1_000_000, drain_ns: 5 * SECOND, ..plan(open(1000.0, Arrivals::Uniform), 2 * SECOND) };
    let (outcome, _) = drive(2, &plan, stalls);
    let shortfall = outcome.shortfall(1000.0).unwrap();
    assert_eq!((shortfall.blame, shortfall.held, shortfall.late), (Blame::Server, 0, 0), "{shortfall}");
    assert!(shortfall.unanswered.abs_diff(1000) <= 1, "{shortfall}");
    assert!(outcome.lag.max() < MS && outcome.unanswered == 0);
    // With small windows most wait for room, which is no fault of the client either.
    let plan = Plan { window: 8, ..plan };
    let (outcome, _) = drive(2, &plan, stalls);
    let shortfall = outcome.shortfall(1000.0).unwrap();
    assert_eq!((shortfall.blame, shortfall.late, shortfall.unanswered), (Blame::Server, 0, 16), "{shortfall}");
    assert!(shortfall.held.abs_diff(984) <= 1, "{shortfall}");
    assert!(outcome.lag.max() < MS && outcome.held.max() > SECOND, "{shortfall}");
}

#[test]
fn a_backlog_of_the_warm_up_is_not_taken_for_what_was_due() {
    // The warm-up leaves so much behind that nothing of the measured time gets its turn.
    let mut free_at = 0;
    let slow = move |_, now: u64| {
        free_at = now.max(free_at) + MS;
        Answer::At(free_at)
    };
    let plan =
        Plan { warmup_ns: SECOND, window: 100_000, drain_ns: 0, ..plan(open(10_000.0, Arrivals::Uniform), SECOND) };
    let (outcome, _) = drive(1, &plan, slow);
    let found = outcome.shortfall(10_000.0).unwrap();
    assert_eq!((found.blame, found.in_time, found.due), (Blame::Server, 0, 10_000), "{found}");
    assert!(found.earlier.abs_diff(1000) < 10 && found.unanswered.abs_diff(10_000) < 70, "{found}");
    assert_eq!(outcome.rate_achieved(), 0.0, "replies to the warm-up count as achieved");
}

#[test]
fn a_long_drain_makes_no_rate_reached() {
    for (warmup_ns, drain_ns) in [(SECOND, 0), (SECOND, 100 * SECOND), (3 * SECOND, 100 * SECOND), (0, 100 * SECOND)] {
        for window in [16, 1 << 20] {
            let mut free_at = 0;
            let slow = move |_, now: u64| {
                free_at = now.max(free_at) + MS;
                Answer::At(free_at)
            };
            let plan = Plan { warmup_ns, drain_ns, window, ..plan(open(5000.0, Arrivals::Uniform), SECOND) };
            let (outcome, _) = drive(1, &plan, slow);
            let found = outcome.shortfall(5000.0);
            assert_eq!(found.map(|found| found.blame), Some(Blame::Server), "{warmup_ns} {drain_ns} {window}");
        }
    }
    // A stall without a warm-up, after which nothing is quick any more.
    let mut free_at = 900 * MS;
    let slow = move |_, now: u64| {
        free_at = now.max(free_at) + MS;
        Answer::At(free_at)
    };
    let plan = Plan { drain_ns: 100 * SECOND, ..plan(open(20_000.0, Arrivals::Uniform), SECOND) };
    assert!(drive(1, &plan, slow).0.shortfall(20_000.0).is_some());
}

#[test]
fn who_is_blamed_does_not_depend_on_the_warm_up() {
    for seconds in [0, 1, 2, 5] {
        // Turns of 1 ms, in which the client sends 64 of 100 that are due; for 20 ms at the beginning
        // the server had no room.
        let stalls = |_, now: u64| Answer::At(now.max(20 * MS));
        let plan =
            Plan { warmup_ns: seconds * SECOND, window: 512, ..plan(open(100_000.0, Arrivals::Uniform), SECOND) };
        let found = drive_stepped(1, &plan, MS, stalls).0.shortfall(100_000.0).unwrap();
        assert_eq!(found.blame, Blame::Client, "{seconds} s of warm-up: {found}");
    }
}

#[test]
fn requests_that_hang_since_the_warm_up_are_counted() {
    let plan = Plan { warmup_ns: SECOND, ..plan(Pacing::Closed { depth: 3 }, SECOND) };
    let dies = |n, now| if n < 30 { Answer::At(now + SERVICE_NS) } else { Answer::Never };
    let (outcome, _) = drive(2, &plan, dies);
    assert_eq!((outcome.unanswered_warmup, outcome.unanswered, outcome.measured), (6, 0, 0));
}

#[test]
fn a_rate_that_was_reached_is_no_shortfall_whatever_the_dice_gave() {
    // Few requests at random, answered late, without warm-up: some are always under way at the end.
    for seed in 0..200 {
        let plan = Plan { seed, ..plan(open(500.0, Arrivals::Poisson), SECOND / 2) };
        let (outcome, _) = drive(4, &plan, |_, now| Answer::At(now + 10 * MS));
        let found = outcome.shortfall(500.0);
        assert!(found.is_none(), "{}", found.unwrap());
    }
    // And a shortfall that is one never claims to have answered more than was asked for.
    for seed in 0..50 {
        let plan = Plan { seed, ..plan(open(500.0, Arrivals::Poisson), 2 * SECOND) };
        let (outcome, _) = drive(4, &plan, |_, now| Answer::At(now.max(2 * SECOND - 100 * MS * (seed % 3))));
        if let Some(found) = outcome.shortfall(500.0) {
            assert!((found.in_time as f64) < 500.0 * found.seconds && found.in_time < found.due, "{found}");
        }
    }
}

#[test]
fn a_count_at_a_rate_beyond_reach_is_no_success() {
    for window in [10, 4096] {
        let mut free_at = 0;
        let slow = move |_, now: u64| {
            free_at = now.max(free_at) + 2 * MS;
            Answer::At(free_at)
        };
        let plan = Plan { requests: Some(1000), window, ..plan(open(20_000.0, Arrivals::Uniform), 100 * SECOND) };
        let (outcome, latency) = drive(2, &plan, slow);
        assert_eq!((outcome.due, latency.len()), (1000, 1000));
        assert!((outcome.rate_achieved() - 500.0).abs() < 30.0, "{}", outcome.rate_achieved());
        let found = outcome.shortfall(20_000.0).unwrap();
        assert_eq!(found.blame, Blame::Server, "{found}");
    }
    let quick = |_, now| Answer::At(now + SERVICE_NS);
    let plan = Plan { requests: Some(1000), ..plan(open(20_000.0, Arrivals::Poisson), 100 * SECOND) };
    assert_eq!(drive(2, &plan, quick).0.shortfall(20_000.0), None);
}

/// A load of three commands in the shares 0.5, 0.3 and 0.2 against a server that never answers.
fn unsent(plan: &Plan) -> (Outcome, Vec<Histogram<u64>>) {
    let spec = WorkloadSpec { mix: "get:5,set:3,del:2".into(), ..WorkloadSpec::default() };
    let workload = Arc::new(Workload::compile(&spec).unwrap());
    let mut generator = Generator::new(workload.clone(), 0, 0, 2).unwrap();
    let (mut client, clock) = SimClient::new(2, STEP_NS, |_, _| Answer::Never);
    let (mut recorder, tap) = recorder(workload.names().len(), 1000 * SECOND);
    let outcome = run(&mut client, 2, &clock, plan, &mut generator, &mut recorder, &AtomicBool::new(false));
    recorder.finish(outcome.measured_to_ns);
    let mut collector = Collector::new(workload.names(), 0, IntervalLog::new(0, ""), 0, None);
    tap.full.iter().for_each(|set| collector.take(&[set]));
    (outcome, collector.finish().ops)
}

#[test]
fn what_was_never_sent_counts_for_the_commands_it_would_have_been() {
    for (rate, seconds) in [(1e5, 0.1), (1e9, 0.01)] {
        for arrivals in [Arrivals::Uniform, Arrivals::Poisson] {
            let duration_ns = (seconds * 1e9) as u64;
            let plan = Plan { window: 4, drain_ns: duration_ns, ..plan(open(rate, arrivals), duration_ns) };
            let (outcome, ops) = unsent(&plan);
            let count = rate * seconds;
            assert!((outcome.due as f64 - count).abs() < count * 0.05, "{arrivals:?}: {}", outcome.due);
            if arrivals == Arrivals::Uniform {
                assert_eq!(outcome.due as f64, count);
            }
            assert_eq!(outcome.unsent, outcome.due - 8);
            assert_eq!(ops.iter().map(Histogram::len).sum::<u64>(), outcome.due);
            for (op, share) in ops.iter().zip([0.5, 0.3, 0.2]) {
                let found = op.len() as f64 / outcome.due as f64;
                assert!((found - share).abs() < 0.02, "{rate} {arrivals:?}: {found} where {share} is due");
                // Each command waited from one to two durations, and the mean is between.
                let (low, middle, high) = (op.min() as f64, op.mean(), op.max() as f64);
                let whole = duration_ns as f64;
                assert!(low < whole * 1.02 && high > whole * 1.97, "{low} {high}");
                assert!((middle - 1.5 * whole).abs() < whole * 0.02, "{rate} {arrivals:?}: {middle}");
            }
        }
    }
}

#[test]
fn a_count_ends_the_account_of_what_was_never_sent() {
    for arrivals in [Arrivals::Uniform, Arrivals::Poisson] {
        let plan = Plan {
            warmup_ns: MS,
            requests: Some(5_000_000),
            window: 4,
            drain_ns: MS,
            ..plan(open(1e9, arrivals), 10 * MS)
        };
        let (outcome, ops) = unsent(&plan);
        assert_eq!(ops.iter().map(Histogram::len).sum::<u64>(), outcome.due);
        // The first eight belong to the warm-up.
        assert_eq!((outcome.due, outcome.unsent), (5_000_000, 5_000_000));
        // Due from 1 to 6 ms, given up at 12 ms.
        let (low, high) = (ops[0].min(), ops[0].max());
        assert!(low.abs_diff(6 * MS) < MS / 5 && high.abs_diff(11 * MS) < MS / 5, "{low} {high}");
    }
}

#[test]
fn a_stall_that_never_ends_is_in_the_result() {
    let dies = |_, now| if now < SECOND { Answer::At(now + SERVICE_NS) } else { Answer::Never };
    let (outcome, latency) = drive(4, &plan(open(1000.0, Arrivals::Uniform), 2 * SECOND), dies);
    assert_eq!(latency.len(), 2000);
    assert!((outcome.unanswered as i64 - 1000).abs() <= 1, "{}", outcome.unanswered);
    assert!(latency.value_at_quantile(0.99) > 2 * SECOND);
}

#[test]
fn what_was_measured_before_a_failure_is_kept() {
    let closes = |n, now| if n < 500 { Answer::At(now + SERVICE_NS) } else { Answer::Close };
    let (outcome, latency) = drive(1, &plan(open(1000.0, Arrivals::Uniform), 10 * SECOND), closes);
    let failure = outcome.failure.unwrap();
    assert!(failure.contains("closed connection 0") && failure.contains("after 500 replies"), "{failure}");
    assert!(latency.len() >= 500);
    assert!((outcome.measured_to_ns as f64 - 0.5e9).abs() < 0.01e9);

    for (bad, word) in [
        (&b"?what\r\n"[..], "unknown reply type"),
        (b"+OK\r\n+OK\r\n", "nothing was asked"),
        (b"$5\r\nabcdefg", "malformed"),
    ] {
        let wrong = |n, now| if n < 100 { Answer::At(now) } else { Answer::Bytes(bad) };
        let (outcome, latency) = drive(1, &plan(Pacing::Closed { depth: 1 }, SECOND), wrong);
        let failure = outcome.failure.unwrap();
        assert!(failure.contains("wrong reply") && failure.contains(word), "{failure}");
        assert!(latency.len() >= 100);
    }
}

#[test]
fn error_replies_are_counted_and_not_timed() {
    let refuses = |n, now| if n % 4 == 0 { Answer::Bytes(b"-OOM no room\r\n") } else { Answer::At(now + SERVICE_NS) };
    let (outcome, latency) = drive(2, &plan(open(1000.0, Arrivals::Uniform), SECOND), refuses);
    assert_eq!((outcome.errors, latency.len()), (250, 750));
    assert_eq!(outcome.error_first.as_deref(), Some("\"-OOM no room\""));
    assert_eq!(outcome.shortfall(1000.0), None);
}

/// Runs a workload that asks for everything one at a time.
fn ask(spec: &WorkloadSpec, behave: impl FnMut(u64, u64) -> Answer) -> Outcome {
    let workload = Arc::new(Workload::compile(spec).unwrap());
    let mut generator = Generator::new(workload.clone(), 0, 0, 1).unwrap();
    let (mut client, clock) = SimClient::new(1, STEP_NS, behave);
    let plan = Plan { requests: Some(400), ..plan(Pacing::Closed { depth: 1 }, SECOND) };
    let (mut recorder, _tap) = recorder(workload.names().len(), 1000 * SECOND);
    run(&mut client, 1, &clock, &plan, &mut generator, &mut recorder, &AtomicBool::new(false))
}

#[test]
fn what_is_read_and_not_there_is_counted() {
    let spec = WorkloadSpec { mix: "get".into(), value_size: "3".into(), ..WorkloadSpec::default() };
    let outcome = ask(&spec, |n, _| {
        Answer::Bytes(match n % 4 {
            0 => b"$-1\r\n",
            1 => b"_\r\n",
            2 => b"$3\r\nabc\r\n",
            _ => b"$4\r\nabcd\r\n",
        })
    });
    assert_eq!(outcome.found, [Found { hits: 200, misses: 200, wrong_len: 100 }]);
    assert_eq!(outcome.wrong_len_first.as_deref(), Some("get answered \"$4\\r\\nabcd\\r\\n\""));
    let mut twice = outcome.clone();
    twice.merge(outcome);
    assert_eq!(twice.found, [Found { hits: 400, misses: 400, wrong_len: 200 }]);
}

#[test]
fn what_differs_was_compared_too() {
    let spec = WorkloadSpec { mix: "get".into(), verify: true, ..WorkloadSpec::default() };
    let outcome = ask(&spec, |_, _| Answer::Bytes(b"$5\r\nwrong\r\n"));
    assert_eq!((outcome.verified, outcome.mismatches), (400, 400));
    assert_eq!(outcome.found[0].wrong_len, 0, "it was compared already");
    // What is not compared is looked at as without verification.
    let spec = WorkloadSpec { mix: "ttl".into(), verify: true, ..WorkloadSpec::default() };
    let outcome = ask(&spec, |_, _| Answer::Bytes(b"*0\r\n"));
    assert_eq!((outcome.verified, outcome.mistyped, outcome.measured), (0, 400, 0));
}

#[test]
fn a_stop_ends_the_load_and_keeps_what_there_is() {
    let workload =
        Arc::new(Workload::compile(&WorkloadSpec { mix: "ping".into(), ..WorkloadSpec::default() }).unwrap());
    let mut generator = Generator::new(workload, 0, 0, 1).unwrap();
    let stop = AtomicBool::new(false);
    let (mut client, clock) = SimClient::new(1, STEP_NS, |n, now| {
        if n == 1000 {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        Answer::At(now)
    });
    let plan = plan(Pacing::Closed { depth: 1 }, 1000 * SECOND);
    let (mut recorder, tap) = recorder(1, plan.interval_ns);
    let outcome = run(&mut client, 1, &clock, &plan, &mut generator, &mut recorder, &stop);
    recorder.finish(outcome.measured_to_ns);
    assert!((1000..1003).contains(&outcome.sent));
    assert_eq!(outcome.unanswered, 0, "what is answered right after the stop counts as unanswered");
    let measured: u64 = tap.full.iter().map(|set| set.ops[0].len()).sum();
    assert!(measured >= 1000);
}

#[test]
fn threads_merge_into_one_result() {
    let half = |seed| {
        let plan = Plan { seed, ..plan(open(500.0, Arrivals::Uniform), SECOND) };
        drive(2, &plan, |_, now| Answer::At(now + SERVICE_NS)).0
    };
    let (mut left, right) = (half(1), half(2));
    left.merge(right);
    assert_eq!((left.due, left.measured, left.lag.len()), (1000, 1000, 1000));
    assert!((left.rate_achieved() - 1000.0).abs() < 5.0);
}
