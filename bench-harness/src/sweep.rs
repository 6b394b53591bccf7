//! Latency against load: the open loop at one rate after another, and where it bends.

use std::sync::Arc;

use anyhow::{bail, ensure};

use crate::load::Pacing;
use crate::report::Report;
use crate::report::layout::rate;
use crate::report::views::{Step, SweepView, knee};
use crate::run::{Finding, Load, Session, measure, preload};
use crate::server::{Contender, Placement, all_answer};
use crate::workload::{Workload, WorkloadSpec};

/// Rates tried when none are given, as shares of what a closed loop reaches.
const SHARES: [f64; 12] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5];
/// Sweeps each server in turn; rates are requests a second, or found out if there are none.
///
/// # Errors
/// The first measurement could not begin.
pub fn run(
    session: &Session,
    contenders: &[Contender],
    spec: &WorkloadSpec,
    load: &Load,
    rates: &[f64],
    placement: Placement,
) -> anyhow::Result<Report> {
    ensure!(!contenders.is_empty(), "a sweep needs a target");
    let workload = Arc::new(Workload::compile(spec)?);
    all_answer(contenders, &placement, session)?;
    let mut report = Report::new("sweep", session.fingerprint.clone(), spec.describe());
    for contender in contenders {
        let mut view = SweepView { label: contender.name.clone(), steps: Vec::new(), knee: None };
        let done = one(session, contender, &workload, load, rates, placement, &mut report, &mut view);
        view.knee = knee(&view.steps);
        if !view.steps.is_empty() {
            report.sweeps.push(view);
        }
        match done {
            Err(error) if report.sweeps.is_empty() => return Err(error),
            Err(error) => {
                report.failure = Some(format!("{}: {error:#}", contender.name));
                break;
            }
            Ok(()) if session.stopped() || report.failure.is_some() => break,
            Ok(()) => {}
        }
    }
    Ok(report)
}

#[allow(clippy::too_many_arguments)]
fn one(
    session: &Session,
    contender: &Contender,
    workload: &Arc<Workload>,
    load: &Load,
    rates: &[f64],
    placement: Placement,
    report: &mut Report,
    view: &mut SweepView,
) -> anyhow::Result<()> {
    let server = contender.up(&placement, session)?;
    preload(session, &server.target, workload, load.connect_timeout)?;
    let mut rates = rates.to_vec();
    if rates.is_empty() {
        let mut closed = load.clone();
        closed.rate = None;
        closed.plan.pacing = Pacing::Closed { depth: 1 };
        closed.plan.duration_ns = closed.plan.duration_ns.min(2_000_000_000);
        let label = format!("{} closed loop", contender.name);
        let outcome = measure(session, &label, &server.target, workload, &closed, None)?.outcome;
        if let Some(failure) = &outcome.failure {
            bail!("in the closed loop that finds the rates: {failure}");
        }
        let reached = outcome.rate_achieved();
        ensure!(reached > 0.0, "nothing was answered in the closed loop that finds the rates");
        rates = SHARES.iter().map(|share| (share * reached / 10.0).ceil() * 10.0).collect();
    }
    rates.sort_by(f64::total_cmp);
    for asked in rates {
        if session.stopped() {
            break;
        }
        let label = format!("{} at {}", contender.name, rate(asked));
        if workload.verify {
            // What the rate before left is not known to this one.
            preload(session, &server.target, workload, load.connect_timeout)?;
        }
        let measured = measure(session, &label, &server.target, workload, &load.at_rate(asked), None)?;
        // A rate that is not reached is what a sweep is looking for, no problem of the run.
        report.add_expecting(&label, &measured, &[Finding::Overload]);
        let blame = measured.outcome.shortfall(asked).map(|shortfall| shortfall.blame);
        let Some(result) = report.results.last() else { continue };
        view.steps.push(Step {
            rate_asked: asked,
            rate_achieved: result.rate_achieved,
            latency: result.latency,
            hiccups: result.hiccups,
            rate_due: measured.outcome.rate_due(),
            reached: blame.is_none(),
            blame,
        });
        if let Some(failure) = measured.outcome.failure {
            report.failure = Some(format!("{label}: {failure}"));
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Summary;
    use crate::load::Blame;

    fn step(rate: f64, p99_ns: u64, reached: bool) -> Step {
        let latency = Summary { p99_ns, ..Summary::default() };
        let blame = (!reached).then_some(Blame::Server);
        let hiccups = Summary::default();
        Step { rate_asked: rate, rate_achieved: rate, latency, hiccups, rate_due: rate, reached, blame }
    }

    #[test]
    fn a_client_that_was_too_slow_is_no_knee_of_the_server() {
        let told = |steps: Vec<Step>| {
            let knee = knee(&steps);
            SweepView { label: "x".into(), steps, knee }.table()
        };
        let client = Step { blame: Some(Blame::Client), ..step(2.0, 100, false) };
        let text = told(vec![step(1.0, 100, true), client.clone()]);
        assert!(text.contains("NO: client") && text.contains("the client that was too slow"), "{text}");
        let text = told(vec![step(1.0, 100, true), step(1.5, 900, true), client]);
        assert!(text.contains("x bends after 1/s") && !text.contains("too slow"), "{text}");
        assert!(told(vec![step(1.0, 100, false)]).contains("x bends at or below the lowest rate tried ("));
        assert!(told(vec![step(1.0, 100, true)]).contains("does not bend at any rate tried, up to 1/s"));
    }

    #[test]
    fn the_knee_is_the_last_rate_before_the_bend() {
        let bend = [
            step(1.0, 100, true),
            step(2.0, 120, true),
            step(3.0, 490, true),
            step(4.0, 600, true),
            step(5.0, 300, true),
        ];
        assert_eq!(knee(&bend), Some(3.0));
        assert_eq!(knee(&[step(1.0, 100, true), step(2.0, 100, false)]), Some(1.0));
        assert_eq!(knee(&[step(1.0, 100, false)]), None);
        assert_eq!(knee(&[]), None);
    }
}
