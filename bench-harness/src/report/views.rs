//! What the subcommands find, as reports hold it, and its tables. How it is found is theirs.

use serde::Serialize;

use super::layout::{markdown, rate, share, summaries};
use crate::compare::stats::{Estimate, ROUNDS_MIN};
use crate::histogram::{CurvePoint, Summary, human_ns};
use crate::load::Blame;

/// The metric that is better the more there is.
pub(crate) const THROUGHPUT: &str = "throughput";
/// The verdict where a bootstrap knows nothing.
pub(crate) const TOO_FEW: &str = "too few rounds to say";

/// One metric of one server against the first.
#[derive(Clone, Debug, Serialize)]
pub struct MetricRow {
    /// `p50` … `max` in nanoseconds, `throughput` a second, `server-cpu` in nanoseconds a request.
    pub metric: String,
    /// Geometric mean over the rounds of the first server, so that the ratio is that of these two; median
    /// where a round has no value.
    pub baseline: f64,
    /// The same of this one.
    pub value: f64,
    /// This one's over the first one's.
    pub estimate: Option<Estimate>,
    /// What can be said.
    pub verdict: String,
}

/// One server against the first.
#[derive(Clone, Debug, Serialize)]
pub struct Versus {
    /// The server.
    pub label: String,
    /// Each metric.
    pub metrics: Vec<MetricRow>,
    /// Median over the rounds of the p999 of the machine's hiccups beside the first and beside this
    /// one, in nanoseconds.
    pub hiccup_p999_ns: (f64, f64),
    /// Share of the keys read that were not there, over all rounds, of the first and of this one.
    pub missed: (Option<f64>, Option<f64>),
    /// One sentence.
    pub verdict: String,
}

/// What a comparison says.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What the others are compared with.
    pub baseline: String,
    /// Rounds that could be paired.
    pub rounds: usize,
    /// Confidence of the intervals.
    pub confidence: f64,
    /// The load in words.
    pub load: String,
    /// The others.
    pub versus: Vec<Versus>,
    /// Conditions that were met.
    pub failed: Vec<String>,
    /// Conditions of which nothing can be said, and why.
    pub undecided: Vec<String>,
}

fn shown(metric: &str, value: f64) -> String {
    if metric == THROUGHPUT { rate(value) } else { human_ns(value) }
}

impl Comparison {
    /// The tables.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = format!("{}\n{} interleaved rounds, each a ratio to {}", self.load, self.rounds, self.baseline);
        out.push_str(&if self.rounds < ROUNDS_MIN {
            format!(
                "; {TOO_FEW} who is better: with fewer than {ROUNDS_MIN} the interval is the range of what was seen\n"
            )
        } else {
            format!("; {:.0} % interval by bootstrap over the rounds\n", self.confidence * 100.0)
        });
        out.push_str("Values are geometric means over the rounds, as the ratios are.\n");
        for versus in &self.versus {
            let head = ["", &self.baseline, &versus.label, "ratio", "interval", "verdict"].map(str::to_owned).to_vec();
            let mut rows = vec![head];
            for row in &versus.metrics {
                let (ratio, interval) = row.estimate.map_or(("-".to_owned(), "-".to_owned()), |estimate| {
                    (format!("{:.3}x", estimate.ratio), format!("{:.3} .. {:.3}", estimate.low, estimate.high))
                });
                let cells = vec![
                    row.metric.clone(),
                    shown(&row.metric, row.baseline),
                    shown(&row.metric, row.value),
                    ratio,
                    interval,
                ];
                rows.push(cells.into_iter().chain([row.verdict.clone()]).collect());
            }
            let (first, second) = (human_ns(versus.hiccup_p999_ns.0), human_ns(versus.hiccup_p999_ns.1));
            let mut noise = format!(
                "p999 of the machine's hiccups: {first} beside {}, {second} beside {}",
                self.baseline, versus.label
            );
            if versus.missed != (None, None) {
                let (first, second) = (share(versus.missed.0), share(versus.missed.1));
                noise += &format!(
                    "\nkeys read that were not there: {first} at {}, {second} at {}",
                    self.baseline, versus.label
                );
            }
            out.push_str(&format!("\n{}\n{noise}\nverdict: {}\n", markdown(&rows), versus.verdict));
        }
        for failed in &self.failed {
            out.push_str(&format!("\nverdict: fail-if met by {failed}\n"));
        }
        out
    }
}

/// Beyond the knee p99 is so many times what it is at the lowest rate.
pub const KNEE_FACTOR: f64 = 5.0;

/// One rate.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Requests a second asked for.
    pub rate_asked: f64,
    /// Replies a second.
    pub rate_achieved: f64,
    /// Latencies from the intended time.
    pub latency: Summary,
    /// What a sleeping thread saw meanwhile.
    pub hiccups: Summary,
    /// Requests a second that were due, which at random is not quite what was asked for.
    pub rate_due: f64,
    /// Whether the rate was reached.
    pub reached: bool,
    /// Who was too slow where it was not.
    pub blame: Option<Blame>,
}

/// All rates of one server.
#[derive(Clone, Debug, Serialize)]
pub struct SweepView {
    /// The server.
    pub label: String,
    /// Its rates, upwards.
    pub steps: Vec<Step>,
    /// The highest rate before the knee.
    pub knee: Option<f64>,
}

/// The last rate before one is not reached, or has a p99 of more than [`KNEE_FACTOR`] times that of
/// the lowest rate.
#[must_use]
pub fn knee(steps: &[Step]) -> Option<f64> {
    let lowest = steps.first()?.latency.p99_ns;
    let before = steps.iter().take_while(|step| !bent(step, lowest)).last()?;
    Some(before.rate_asked)
}

fn bent(step: &Step, lowest_p99_ns: u64) -> bool {
    !step.reached || step.latency.p99_ns as f64 > lowest_p99_ns as f64 * KNEE_FACTOR
}

impl SweepView {
    fn lowest_p99_ns(&self) -> u64 {
        self.steps.first().map_or(0, |step| step.latency.p99_ns)
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> String {
        let rows: Vec<(String, Summary, Vec<String>)> = self
            .steps
            .iter()
            .map(|step| {
                let reached = match step.blame {
                    None => "yes",
                    Some(Blame::Server) => "NO",
                    Some(Blame::Client) => "NO: client",
                };
                let cells = vec![
                    rate(step.rate_due),
                    rate(step.rate_achieved),
                    reached.to_owned(),
                    human_ns(step.hiccups.p999_ns as f64),
                ];
                (rate(step.rate_asked), step.latency, cells)
            })
            .collect();
        let table = summaries("rate asked", &["due", "achieved", "reached", "hiccup p999"], &rows);
        let (label, knee) = (&self.label, self.knee.map_or("below the lowest rate tried".to_owned(), rate));
        // What comes after the first rate that the client did not send is not the server's.
        let verdict = match self.steps.iter().find(|step| bent(step, self.lowest_p99_ns())) {
            None => format!("{label} does not bend at any rate tried, up to {knee}"),
            Some(step) if step.blame == Some(Blame::Client) => {
                format!("{label} does not bend up to {knee}; beyond it was the client that was too slow")
            }
            Some(_) if self.knee.is_none() => format!("{label} bends at or below the lowest rate tried"),
            Some(_) => format!("{label} bends after {knee}"),
        };
        format!(
            "{label}\n{table}\nverdict: {verdict} (to bend: a rate not reached, or p99 above {KNEE_FACTOR} times that at \
             the lowest rate)\n"
        )
    }
}

/// What an event did to the latency.
#[derive(Clone, Debug, Serialize)]
pub struct ScenarioView {
    /// The result it belongs to.
    pub label: String,
    /// The scenario's name.
    pub name: String,
    /// What it shows.
    pub about: String,
    /// When the event began, in seconds since the load began.
    pub event_start_s: f64,
    /// When it was over.
    pub event_end_s: f64,
    /// Whether it was over before the load was.
    pub over: bool,
    /// Latencies of intervals before it.
    pub before: Summary,
    /// From the interval in which it began to the one after it was over.
    pub during: Summary,
    /// Later.
    pub after: Summary,
    /// What went wrong with the event.
    pub error: Option<String>,
}

impl ScenarioView {
    /// The table.
    #[must_use]
    pub fn table(&self) -> String {
        let rows = [("before", self.before), ("during", self.during), ("after", self.after)];
        let rows: Vec<_> =
            rows.map(|(name, summary)| (name.to_owned(), summary, vec![summary.count.to_string()])).to_vec();
        let took = if self.over {
            format!("{:.2} s", self.event_end_s - self.event_start_s)
        } else {
            "longer than the load".to_owned()
        };
        let empty: Vec<&str> = [("before", &self.before), ("after", &self.after)]
            .into_iter()
            .filter_map(|(name, part)| (part.count == 0).then_some(name))
            .collect();
        let note = if empty.is_empty() {
            String::new()
        } else {
            format!("note: nothing was measured {} the event; a longer --duration may\n", empty.join(" and "))
        };
        format!("{}: {} The event took {took}.\n{}{note}", self.label, self.about, summaries("", &["requests"], &rows))
    }

    /// The event as a span of the time line.
    #[must_use]
    pub fn marks(&self) -> Vec<(f64, f64, String)> {
        vec![(self.event_start_s, self.event_end_s.max(self.event_start_s + 0.02), self.name.clone())]
    }
}

/// What reports of bytes a key are called, as the subcommand is.
pub const BYTES_PER_KEY: &str = "memory";

/// One server at one size and count.
#[derive(Clone, Debug, Serialize)]
pub struct BytesPerKeyRow {
    /// The server.
    pub label: String,
    /// Keys written.
    pub keys: u64,
    /// Keys the server held when its memory was read.
    pub keys_held: u64,
    /// Length of a key in bytes.
    pub key_bytes: usize,
    /// Lengths of the values.
    pub value_bytes: String,
    /// Growth of the resident memory a key, in bytes.
    pub rss_bytes_per_key: f64,
    /// Growth of `used_memory` of INFO a key, in bytes.
    pub used_bytes_per_key: f64,
    /// Resident memory in the end.
    pub rss_bytes: u64,
    /// `used_memory` in the end.
    pub used_bytes: u64,
}

impl BytesPerKeyRow {
    /// Why the figures are not those of the keys written.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        (self.keys != self.keys_held).then(|| {
            format!(
                "{}: of {} keys written ({} bytes a value) the server held {} in the end; bytes a key are not those of \
                 keys that were evicted or have expired",
                self.label, self.keys, self.value_bytes, self.keys_held
            )
        })
    }
}

/// The table of bytes a key.
#[must_use]
pub fn bytes_per_key(rows: &[BytesPerKeyRow]) -> String {
    let head = ["server", "keys", "key bytes", "value bytes", "RSS a key", "used_memory a key", "RSS / used"];
    let mut all = vec![head.map(str::to_owned).to_vec()];
    for row in rows {
        all.push(vec![
            row.label.clone(),
            row.keys.to_string(),
            row.key_bytes.to_string(),
            row.value_bytes.clone(),
            format!("{:.1}", row.rss_bytes_per_key),
            format!("{:.1}", row.used_bytes_per_key),
            format!("{:.3}", row.rss_bytes_per_key / row.used_bytes_per_key),
        ]);
    }
    markdown(&all)
}

/// What the client and the transport cost by themselves.
#[derive(Clone, Debug, Serialize)]
pub struct Floor {
    /// `tcp`, `unix`.
    pub transport: String,
    /// How the echo waits.
    pub echo: String,
    /// The load in words.
    pub load: String,
    /// Latencies of the echo.
    pub latency: Summary,
    /// What a sleeping thread saw meanwhile.
    pub hiccups: Summary,
    /// The percentile curve.
    pub curve: Vec<CurvePoint>,
}

impl Floor {
    /// The table.
    #[must_use]
    pub fn table(&self) -> String {
        let title = format!("floor of {}", self.transport);
        let rows = [(title, self.latency, Vec::new()), ("machine: hiccups".to_owned(), self.hiccups, Vec::new())];
        format!("{}, echo {}\n{}", self.load, self.echo, summaries("", &[], &rows))
    }
}
