//! Two or more servers in interleaved rounds, and what can be said about them.

pub mod stats;

use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};

use crate::histogram::PERCENTILES;
use crate::report::layout::share;
use crate::report::views::{Comparison, MetricRow, THROUGHPUT, TOO_FEW, Versus};
use crate::report::{Report, ResultView};
use crate::run::{Load, Session, measure, preload};
use crate::server::{Contender, Placement, Server, all_answer};
use crate::workload::{Found, Workload, WorkloadSpec};
use stats::{Estimate, ROUNDS_MIN, estimate, median};

/// A condition that makes the exit status 3: `p999 > 1.2x`.
#[derive(Clone, Debug, PartialEq)]
pub struct FailIf {
    metric: String,
    above: bool,
    factor: f64,
}

/// A smaller difference is none worth a word, however sure it is.
const RATIO_MIN: f64 = 0.01;
const SERVER_CPU: &str = "server-cpu";

fn metrics() -> impl Iterator<Item = &'static str> {
    PERCENTILES.iter().map(|(name, _)| *name).chain(["max", THROUGHPUT, SERVER_CPU])
}

impl FromStr for FailIf {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let want = || format!("{text:?} is no condition; write METRIC > FACTORx, as in 'p999 > 1.2x'");
        let at = text.find(['<', '>']).with_context(want)?;
        let metric = text[..at].trim().to_owned();
        let factor = text[at + 1..].trim().strip_suffix('x').with_context(want)?.trim();
        let factor: f64 = factor.parse().ok().with_context(want)?;
        ensure!(factor.is_finite() && factor > 0.0, "{}", want());
        if !metrics().any(|known| known == metric) {
            bail!("unknown metric {metric:?} in {text:?}: there are {}", metrics().collect::<Vec<_>>().join(", "));
        }
        Ok(FailIf { metric, above: text.as_bytes()[at] == b'>', factor })
    }
}

impl FailIf {
    /// Whether the estimate is beyond the factor and is no accident (its interval leaves out 1).
    #[must_use]
    pub fn hit(&self, metric: &str, estimate: &Estimate) -> bool {
        let beyond = if self.above { estimate.ratio > self.factor } else { estimate.ratio < self.factor };
        metric == self.metric && beyond && estimate.differs()
    }
}

impl std::fmt::Display for FailIf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}x", self.metric, if self.above { '>' } else { '<' }, self.factor)
    }
}

fn value_of(result: &ResultView, metric: &str) -> f64 {
    match metric {
        THROUGHPUT => result.rate_achieved,
        SERVER_CPU => result.server_cpu_ns_per_request.unwrap_or(0.0),
        name => result.latency.by_name(name).unwrap_or(0) as f64,
    }
}

impl Comparison {
    /// Compares rounds: `rounds[i][j]` is server `j` in round `i`.
    #[must_use]
    pub fn of(names: &[String], rounds: &[Vec<ResultView>], confidence: f64, fail_if: &[FailIf]) -> Self {
        let whole: Vec<&Vec<ResultView>> = rounds.iter().filter(|round| round.len() == names.len()).collect();
        let (mut failed, mut undecided) = (Vec::new(), Vec::new());
        let mut versus = Vec::new();
        for (at, label) in names.iter().enumerate().skip(1) {
            let rows: Vec<MetricRow> = metrics().map(|metric| compare(&whole, at, metric, confidence)).collect();
            for condition in fail_if {
                let Some(row) = rows.iter().find(|row| row.metric == condition.metric) else { continue };
                match &row.estimate {
                    Some(estimate) if !estimate.decides() => undecided.push(format!(
                        "fail-if {condition} could not be decided for {label}: {} of at least {ROUNDS_MIN} rounds",
                        estimate.rounds
                    )),
                    Some(estimate) if condition.hit(&row.metric, estimate) => {
                        failed.push(format!("{label}: {condition}, found {:.3}x", estimate.ratio));
                    }
                    Some(_) => {}
                    None => undecided.push(format!(
                        "fail-if {condition} could not be decided for {label}: {} was not measured in every round",
                        row.metric
                    )),
                }
            }
            let mut verdict = verdict(&names[0], label, &rows);
            let short = |server: usize| whole.iter().filter(|round| round[server].fell_short).count();
            for (name, count) in [(&names[0], short(0)), (label, short(at))].into_iter().filter(|(_, count)| *count > 0)
            {
                verdict += &format!(
                    "; {name} fell short of the rate in {count} of {} rounds, which are in the ratios",
                    whole.len()
                );
            }
            let hiccups = |server: usize| -> Vec<f64> {
                whole.iter().map(|round| round[server].hiccups.p999_ns as f64).collect()
            };
            let hiccup_p999_ns = (median(&hiccups(0)), median(&hiccups(at)));
            let missed = |server: usize| {
                let mut all = Found::default();
                whole.iter().for_each(|round| all.add(round[server].found()));
                all.missed()
            };
            let missed = (missed(0), missed(at));
            if missed.0 != missed.1 {
                verdict += &format!(
                    "; of the keys read {} were not there at {}, {} at {label}",
                    share(missed.0),
                    names[0],
                    share(missed.1)
                );
            }
            versus.push(Versus { label: label.clone(), metrics: rows, hiccup_p999_ns, missed, verdict });
        }
        let load = whole.first().and_then(|round| round.first()).map_or(String::new(), |result| result.load.clone());
        Comparison { baseline: names[0].clone(), rounds: whole.len(), confidence, load, versus, failed, undecided }
    }
}

/// The geometric mean, as the ratio is one; the median where a value is not above 0.
fn middle(values: &[f64]) -> f64 {
    if values.is_empty() || values.iter().any(|value| *value <= 0.0) {
        return median(values);
    }
    (values.iter().map(|value| value.ln()).sum::<f64>() / values.len() as f64).exp()
}

fn compare(rounds: &[&Vec<ResultView>], at: usize, metric: &str, confidence: f64) -> MetricRow {
    let of = |server: usize| -> Vec<f64> { rounds.iter().map(|round| value_of(&round[server], metric)).collect() };
    let (baseline, value) = (of(0), of(at));
    let ratios: Vec<f64> = value.iter().zip(&baseline).map(|(value, baseline)| value / baseline).collect();
    let estimate = estimate(&ratios, confidence, 1);
    let more_is_better = metric == THROUGHPUT;
    let verdict = match estimate {
        None => "not measured",
        Some(estimate) if !estimate.decides() => TOO_FEW,
        Some(estimate) if !estimate.differs() || (estimate.ratio - 1.0).abs() < RATIO_MIN => "no difference seen",
        Some(estimate) if (estimate.ratio > 1.0) == more_is_better => "better",
        Some(_) => "worse",
    };
    MetricRow {
        metric: metric.to_owned(),
        baseline: middle(&baseline),
        value: middle(&value),
        estimate,
        verdict: verdict.to_owned(),
    }
}

fn verdict(baseline: &str, label: &str, rows: &[MetricRow]) -> String {
    let named = |verdict: &str| {
        let names = rows.iter().filter(|row| row.verdict == verdict);
        names
            .filter_map(|row| Some(format!("{} {:.2}x", row.metric, row.estimate?.ratio)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    if let Some(few) = rows.iter().filter_map(|row| row.estimate).find(|estimate| !estimate.decides()) {
        return format!("{TOO_FEW} whether {label} is better than {baseline}: {}, at least {ROUNDS_MIN}", few.rounds);
    }
    let (better, worse) = (named("better"), named("worse"));
    match (better.is_empty(), worse.is_empty()) {
        (true, true) => format!("no difference seen between {baseline} and {label}"),
        (false, true) => format!("{label} is better than {baseline} in {better}; no difference seen in the rest"),
        (true, false) => format!("{label} is worse than {baseline} in {worse}; no difference seen in the rest"),
        (false, false) => format!("{label} is better than {baseline} in {better}, and worse in {worse}"),
    }
}

/// What a comparison is to do.
pub struct Plan<'a> {
    /// The servers; the first is the baseline.
    pub contenders: &'a [Contender],
    /// The workload.
    pub workload: &'a WorkloadSpec,
    /// The load.
    pub load: Load,
    /// How often each is measured.
    pub rounds: usize,
    /// Confidence of the intervals.
    pub confidence: f64,
    /// Conditions for the exit status.
    pub fail_if: &'a [FailIf],
    /// Where started servers run.
    pub placement: Placement,
}

impl Plan<'_> {
    /// Whether it makes sense.
    ///
    /// # Errors
    /// Figures out of range; conditions that so few rounds cannot decide.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!((1..=1000).contains(&self.rounds), "--rounds must be from 1 to 1000");
        ensure!((0.5..1.0).contains(&self.confidence), "--confidence must be from 0.5 to below 1");
        ensure!(
            self.fail_if.is_empty() || self.rounds >= ROUNDS_MIN,
            "--fail-if needs --rounds of at least {ROUNDS_MIN}: with {} there is no telling a difference from an accident",
            self.rounds
        );
        Ok(())
    }
}

/// Runs the rounds. What was measured before a failure or an interrupt is compared.
///
/// # Errors
/// The very first measurement could not begin.
pub fn run(session: &Session, plan: &Plan<'_>) -> anyhow::Result<Report> {
    ensure!(plan.contenders.len() >= 2, "a comparison needs at least two targets");
    let mut names: Vec<String> = plan.contenders.iter().map(|contender| contender.name.clone()).collect();
    for at in 1..names.len() {
        let same = names[..at].iter().filter(|name| **name == names[at]).count();
        if same > 0 {
            names[at] = format!("{} ({})", names[at], same + 1);
        }
    }
    let workload = Arc::new(Workload::compile(plan.workload)?);
    all_answer(plan.contenders, &plan.placement, session)?;
    let mut report = Report::new("compare", session.fingerprint.clone(), plan.workload.describe());
    let mut loaded = vec![false; names.len()];
    let mut rounds: Vec<Vec<ResultView>> = Vec::new();
    'rounds: for round in 0..plan.rounds {
        let mut order: Vec<usize> = (0..names.len()).collect();
        // Whoever comes second in one round comes first in the next, so that drift hits all alike.
        if round % 2 == 1 {
            order.reverse();
        }
        let mut found: Vec<Option<ResultView>> = vec![None; names.len()];
        for at in order {
            if session.stopped() {
                report.failure = Some(format!("interrupted in round {}", round + 1));
                break 'rounds;
            }
            let contender = &plan.contenders[at];
            let label = format!("{} #{}", names[at], round + 1);
            // Each round has arrivals of its own, the same for every server.
            let mut load = plan.load.clone();
            load.plan.seed = load.plan.seed.wrapping_add(1000 * round as u64);
            let measured = one(session, contender, &label, &workload, plan.placement, &load, &mut loaded[at]);
            match measured {
                Ok((measured, _server)) => {
                    report.add(&label, &measured);
                    found[at] = report.results.last().cloned();
                    if let Some(failure) = &measured.outcome.failure {
                        report.failure = Some(format!("{label}: {failure}"));
                        break 'rounds;
                    }
                }
                Err(error) if report.results.is_empty() => return Err(error),
                Err(error) => {
                    report.failure = Some(format!("{label}: {error:#}"));
                    break 'rounds;
                }
            }
        }
        rounds.push(found.into_iter().flatten().collect());
    }
    if rounds.iter().any(|round| round.len() == names.len()) {
        report.comparison = Some(Comparison::of(&names, &rounds, plan.confidence, plan.fail_if));
    }
    Ok(report)
}

fn one(
    session: &Session,
    contender: &Contender,
    label: &str,
    workload: &Arc<Workload>,
    placement: Placement,
    load: &Load,
    loaded: &mut bool,
) -> anyhow::Result<(crate::run::Measured, Server)> {
    let server = contender.up(&placement, session)?;
    // A server that was started is empty; one that runs on keeps its keys.
    if server.pid().is_some() || !*loaded || workload.verify {
        preload(session, &server.target, workload, load.connect_timeout)?;
        *loaded = true;
    }
    let measured = measure(session, label, &server.target, workload, load, None)?;
    Ok((measured, server))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_have_the_ratio_that_is_shown() {
        let (a, b) = ([1.0, 10.0, 100.0, 3.0], [2.0, 2.0, 900.0, 5.0]);
        let ratios: Vec<f64> = b.iter().zip(&a).map(|(b, a)| b / a).collect();
        let ratio = estimate(&ratios, 0.95, 1).unwrap().ratio;
        assert!((middle(&b) / middle(&a) - ratio).abs() < 1e-9);
        assert_eq!(middle(&[0.0, 4.0, 5.0]), 4.0);
    }

    #[test]
    fn conditions_parse_and_hit_only_what_is_real() {
        let condition: FailIf = "p999 > 1.2x".parse().unwrap();
        let estimate = |ratio, low, high| Estimate { ratio, low, high, rounds: ROUNDS_MIN };
        assert!(condition.hit("p999", &estimate(1.3, 1.1, 1.5)));
        assert!(!condition.hit("p999", &estimate(1.1, 1.05, 1.15)), "within the factor");
        assert!(!condition.hit("p999", &estimate(1.3, 0.9, 1.9)), "may be an accident");
        let few = Estimate { rounds: ROUNDS_MIN - 1, ..estimate(1.3, 1.1, 1.5) };
        assert!(!condition.hit("p999", &few), "a range of few rounds decides");
        assert!(!condition.hit("p50", &estimate(1.3, 1.1, 1.5)), "another metric");
        assert!("throughput<0.9x".parse::<FailIf>().unwrap().hit("throughput", &estimate(0.8, 0.7, 0.9)));
        assert_eq!(condition.to_string(), "p999 > 1.2x");
        for bad in ["", "p999", "p999 > 1.2", "p998 > 1x", "p99 > -1x", "p99 > x", "> 1x"] {
            assert!(bad.parse::<FailIf>().is_err(), "{bad}");
        }
    }
}
