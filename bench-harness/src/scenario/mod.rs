//! Under disturbance: a constant open-loop load while something happens, and the latency before,
//! during and after.

pub mod event;
pub mod file;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context, ensure};
use tercel_resp::reply::Value;

use crate::admin::Admin;
use crate::clock::{Clock, sleep, unix_ms};
use crate::histogram::Summary;
use crate::load::Wait;
use crate::report::Report;
use crate::report::views::ScenarioView;
use crate::run::{Finding, Parts, Session, measure, preload};
use crate::server::{Contender, Endpoint, Placement, all_answer};
use crate::target::Target;
use crate::workload::Workload;
use crate::workload::values::parse_count;
use event::{Prepared, config_get, config_set};
use file::{Expect, Scenario};

/// So many keys are left however far a scenario is scaled down.
const KEYS_MIN: u64 = 3000;
/// So many bytes of memory above what is used: with fewer the buffers of a few connections fill it.
const HEADROOM_MIN: u64 = 100_000;

/// When an event began and ended, in the session's nanoseconds; `u64::MAX` until it does.
struct Span {
    start_ns: AtomicU64,
    end_ns: AtomicU64,
}

/// 0 before, 1 during, 2 after. What an event held up is answered right after it, so the interval
/// after its end belongs to it.
fn part(span: &Span, start_ns: u64, end_ns: u64) -> usize {
    let (event_start, event_end) = (span.start_ns.load(Ordering::Acquire), span.end_ns.load(Ordering::Acquire));
    if end_ns <= event_start {
        0
    } else if start_ns > event_end.saturating_add(end_ns - start_ns) {
        2
    } else {
        1
    }
}

/// What to run.
pub struct Plan<'a> {
    /// Scenario files.
    pub files: &'a [PathBuf],
    /// The servers.
    pub contenders: &'a [Contender],
    /// Where started servers run.
    pub placement: Placement,
    /// Core of the load.
    pub client_core: Option<String>,
    /// What the client does while there is nothing to do.
    pub wait: Wait,
    /// Whether servers that hold keys may be disturbed.
    pub yes_on_data: bool,
    /// Seconds instead of those of the files; the event stays where it is in proportion.
    pub duration: Option<f64>,
    /// Keys of the workload and of events are divided by this.
    pub scale_down: u64,
}

impl Plan<'_> {
    /// Reads the scenarios and changes them as the plan says.
    ///
    /// # Errors
    /// A file cannot be read, or it, or the plan for it, makes no sense.
    pub fn scenarios(&self) -> anyhow::Result<Vec<Scenario>> {
        ensure!(!self.files.is_empty() && !self.contenders.is_empty(), "a scenario needs a file and a target");
        ensure!(self.scale_down > 0, "--scale-down must be at least 1");
        if let Some(duration) = self.duration {
            ensure!(duration > 0.0 && duration <= 1e6, "--duration must be above 0 seconds");
        }
        let scenarios: Vec<Scenario> =
            self.files.iter().map(|path| scaled(Scenario::read(path)?, self)).collect::<anyhow::Result<_>>()?;
        for scenario in &scenarios {
            scenario.load.spec(self.client_core.clone(), self.wait).compile()?;
        }
        Ok(scenarios)
    }
}

/// Refuses a server somebody keeps something in: a scenario may delete all of it.
fn holds_nothing(target: &Target, name: &str) -> anyhow::Result<()> {
    let mut admin = Admin::connect(target, Duration::from_secs(5))?;
    let size = admin.call(&["DBSIZE"])?;
    // INFO knows of the other databases, which FLUSHALL does not spare.
    let others = admin.info()?.into_iter().any(|(field, text)| {
        field.strip_prefix("db").is_some_and(|digits| digits.parse::<u64>().is_ok()) && text.starts_with("keys=")
    });
    ensure!(
        size == Value::Integer(0) && !others,
        "{name} holds keys already, or does not tell; a scenario writes, evicts and deletes. Give it an empty server, or \
         --yes-on-data if what it holds may be lost"
    );
    Ok(())
}

/// Runs every scenario on every server.
///
/// # Errors
/// The first scenario could not begin.
pub fn run(session: &Session, plan: &Plan<'_>, scenarios: &[Scenario]) -> anyhow::Result<Report> {
    all_answer(plan.contenders, &plan.placement, session)?;
    if !plan.yes_on_data {
        for contender in plan.contenders {
            if let Endpoint::Running(target) = &contender.endpoint {
                holds_nothing(target, &contender.name)?;
            }
        }
    }
    let mut report =
        Report::new("scenario", session.fingerprint.clone(), "a constant open-loop load and an event in it".to_owned());
    for scenario in scenarios {
        for contender in plan.contenders {
            if session.stopped() {
                return Ok(report);
            }
            let label = format!("{} {}", contender.name, scenario.name);
            match one(session, plan, scenario, contender, &label, &mut report) {
                Ok(()) => {}
                Err(error) if report.results.is_empty() => return Err(error.context(label)),
                Err(error) => report.failure = Some(format!("{label}: {error:#}")),
            }
        }
    }
    Ok(report)
}

fn scaled(mut scenario: Scenario, plan: &Plan<'_>) -> anyhow::Result<Scenario> {
    if let Some(duration) = plan.duration {
        scenario.load.event_at *= duration / scenario.load.duration;
        scenario.load.duration = duration;
    }
    let smaller = |count: &mut String| -> anyhow::Result<()> {
        *count = (parse_count(count)? / plan.scale_down).max(KEYS_MIN).to_string();
        Ok(())
    };
    if plan.scale_down > 1 {
        scenario.about += &format!(" (Numbers of keys divided by {}.)", plan.scale_down);
        smaller(&mut scenario.workload.keys)?;
        if let Some(more) = &mut scenario.server.maxmemory_above_used {
            // Fewer keys must still run into it.
            *more = (parse_count(more)? / plan.scale_down).max(HEADROOM_MIN).to_string();
        }
        match &mut scenario.event {
            file::Event::Fill { keys, .. } | file::Event::Expire { keys, .. } => smaller(keys)?,
            _ => {}
        }
    }
    Ok(scenario)
}

fn one(
    session: &Session,
    plan: &Plan<'_>,
    scenario: &Scenario,
    contender: &Contender,
    label: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    let server = contender.up(&plan.placement, session)?;
    let mut admin = Admin::connect(&server.target, Duration::from_secs(5))?;
    let mut restore = Vec::new();
    let done = disturbed(session, plan, scenario, &server.target, label, report, &mut admin, &mut restore);
    // The server may be somebody's: it gets back what it had, whatever came of the measurement.
    for (name, value) in restore.iter().rev() {
        if let Err(error) = config_set(&mut admin, name, value) {
            report.failure = Some(format!("{label}: {name} could not be restored: {error:#}"));
        }
    }
    done
}

/// The fields of INFO that show an event.
fn shown(admin: &mut Admin, expect: &Expect) -> anyhow::Result<Vec<(String, u64, u64)>> {
    if expect.rises.is_empty() {
        return Ok(Vec::new());
    }
    let info = admin.info()?;
    let value = |name: &String| {
        info.get(name)
            .and_then(|text| text.parse().ok())
            .with_context(|| format!("INFO has no {name}, so there is no telling whether the event took place"))
    };
    expect.rises.iter().map(|(name, least)| Ok((name.clone(), value(name)?, *least))).collect()
}

/// Whether what must have risen did.
fn took_place(before: &[(String, u64, u64)], after: &[(String, u64, u64)]) -> Result<(), String> {
    for ((name, before, least), (_, after, _)) in before.iter().zip(after) {
        let rose = after.saturating_sub(*before);
        if rose < *least {
            return Err(format!(
                "the event did not take place as it should: {name} rose by {rose}, at least {least} were expected"
            ));
        }
    }
    Ok(())
}

#[allow(clippy::too_many_arguments)]
fn disturbed(
    session: &Session,
    plan: &Plan<'_>,
    scenario: &Scenario,
    target: &Target,
    label: &str,
    report: &mut Report,
    admin: &mut Admin,
    restore: &mut Vec<(String, String)>,
) -> anyhow::Result<()> {
    let workload = Arc::new(Workload::compile(&scenario.workload)?);
    let mut load = scenario.load.spec(plan.client_core.clone(), plan.wait).compile()?;
    load.plan.seed = scenario.workload.seed;
    for (name, value) in &scenario.server.config {
        restore.push((name.clone(), config_get(admin, name)?));
        config_set(admin, name, value)?;
    }
    preload(session, target, &workload, load.connect_timeout)?;
    if let Some(more) = &scenario.server.maxmemory_above_used {
        let used: u64 =
            admin.info()?.get("used_memory").and_then(|text| text.parse().ok()).context("INFO has no used_memory")?;
        restore.push(("maxmemory".to_owned(), config_get(admin, "maxmemory")?));
        config_set(admin, "maxmemory", &(used + parse_count(more)?).to_string())?;
    }
    let lead_ns = load.plan.warmup_ns + (scenario.load.event_at * 1e9) as u64;
    let mut prepared = Prepared::new(&scenario.event, target, &session.clock, lead_ns / 1_000_000)?;
    if let Some(begin) = prepared.load_begins_unix_ms(lead_ns / 1_000_000) {
        sleep(Duration::from_millis(begin.saturating_sub(unix_ms())));
    }

    let before = shown(admin, &scenario.expect)?;
    let span = Arc::new(Span { start_ns: AtomicU64::new(u64::MAX), end_ns: AtomicU64::new(u64::MAX) });
    let done = Arc::new(AtomicBool::new(false));
    let (begun, begins) = channel();
    let (measured, event) = std::thread::scope(|scope| {
        let (clock, span_of_event, done_seen, stop) = (&session.clock, &*span, &*done, &*session.stop);
        let happening = scope.spawn(move || -> Result<(), String> {
            // Nothing is sent if the load could not begin.
            let Ok(origin_ns) = begins.recv() else { return Ok(()) };
            let at = origin_ns + lead_ns;
            let go_on = || !done_seen.load(Ordering::Relaxed) && !stop.load(Ordering::Relaxed);
            while clock.now_ns() < at && go_on() {
                sleep(Duration::from_nanos((at - clock.now_ns().min(at)).min(20_000_000)));
            }
            if !go_on() {
                return Err("the load ended before the event began".to_owned());
            }
            span_of_event.start_ns.store(clock.now_ns(), Ordering::Release);
            let result = prepared.happen(&go_on);
            if go_on() {
                span_of_event.end_ns.store(clock.now_ns(), Ordering::Release);
            }
            result.map_err(|error| format!("{error:#}"))
        });
        let seen = span.clone();
        let parts = Parts {
            count: 3,
            of: Box::new(move |start, end| part(&seen, start, end)),
            begun: Box::new(move |origin| {
                // The event's thread is gone only if it panicked, which shows below.
                let _ = begun.send(origin);
            }),
        };
        let measured = measure(session, label, target, &workload, &load, Some(parts));
        done.store(true, Ordering::Relaxed);
        (measured, happening.join().unwrap_or_else(|_| Err("the event panicked".to_owned())))
    });
    let measured = measured?;
    // Errors (an OOM under eviction, say), keys that are gone and a rate not reached are what the event did.
    report.add_expecting(label, &measured, &[Finding::Overload, Finding::Errors, Finding::Misses]);
    let event = event.and_then(|()| {
        let after = shown(admin, &scenario.expect).map_err(|error| format!("{error:#}"))?;
        took_place(&before, &after)
    });
    let seconds = |ns: u64| ns.saturating_sub(measured.outcome.start_ns) as f64 / 1e9;
    let (start_ns, end_ns) = (span.start_ns.load(Ordering::Acquire), span.end_ns.load(Ordering::Acquire));
    let over = end_ns != u64::MAX;
    let load_end_ns = measured.outcome.measured_to_ns;
    let parts: Vec<Summary> = measured.recording.parts.iter().map(Summary::of).collect();
    report.scenarios.push(ScenarioView {
        label: label.to_owned(),
        name: scenario.name.clone(),
        about: scenario.about.clone(),
        event_start_s: seconds(start_ns.min(load_end_ns)),
        event_end_s: seconds(if over { end_ns } else { load_end_ns }),
        over,
        before: parts.first().copied().unwrap_or_default(),
        during: parts.get(1).copied().unwrap_or_default(),
        after: parts.get(2).copied().unwrap_or_default(),
        error: event.err(),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_left_no_trace_did_not_take_place() {
        let seen = |value| vec![("evicted_keys".to_owned(), value, 10)];
        assert_eq!(took_place(&seen(5), &seen(15)), Ok(()));
        let error = took_place(&seen(5), &seen(14)).err().unwrap_or_default();
        assert!(error.contains("evicted_keys rose by 9"), "{error}");
        assert!(took_place(&seen(5), &seen(0)).is_err(), "a counter that was reset is no rise");
    }

    #[test]
    fn scaling_down_leaves_an_eviction_its_evictions() {
        let files = [std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/eviction.toml")];
        let contenders: [Contender; 1] = ["tcp://127.0.0.1:1".parse().expect("a target")];
        let placement =
            Placement { over: crate::target::Over::Tcp, server_core: None, rdma_addr: None, start_timeout: 1.0 };
        let mut plan = Plan {
            files: &files,
            contenders: &contenders,
            placement,
            client_core: Some("none".into()),
            wait: Wait::Block,
            duration: None,
            scale_down: 1,
            yes_on_data: false,
        };
        let of = |plan: &Plan<'_>| {
            let scenario = plan.scenarios().expect("a whole scenario").remove(0);
            let file::Event::Fill { keys, .. } = &scenario.event else { panic!("no fill") };
            let count = |text: &str| parse_count(text).expect("a count") as f64;
            count(keys) / count(scenario.server.maxmemory_above_used.as_deref().expect("a headroom"))
        };
        let whole = of(&plan);
        for factor in [7, 100, 100_000] {
            plan.scale_down = factor;
            assert!((of(&plan) / whole - 1.0).abs() < 0.01, "keys and headroom shrink differently by {factor}");
        }
        plan.scale_down = 0;
        assert!(plan.scenarios().is_err());
        (plan.scale_down, plan.duration) = (1, Some(0.0));
        assert!(plan.scenarios().is_err());
    }

    #[test]
    fn intervals_fall_into_the_right_part() {
        let span = Span { start_ns: AtomicU64::new(u64::MAX), end_ns: AtomicU64::new(u64::MAX) };
        assert_eq!(part(&span, 0, 100), 0, "before it begins");
        span.start_ns.store(250, Ordering::Release);
        assert_eq!((part(&span, 100, 200), part(&span, 200, 300), part(&span, 900, 1000)), (0, 1, 1));
        span.end_ns.store(450, Ordering::Release);
        assert_eq!((part(&span, 400, 500), part(&span, 500, 600), part(&span, 600, 700)), (1, 1, 2));
    }
}
