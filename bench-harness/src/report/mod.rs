//! How results look: one model, and the table, JSON, CSV, `.hlog` and HTML made from it. Measures
//! nothing.

pub mod files;
pub mod html;
pub mod layout;
pub mod svg;
pub mod table;
pub mod views;

use serde::Serialize;

use crate::fingerprint::Fingerprint;
use crate::histogram::{CurvePoint, Summary, curve};
use crate::recorder::IntervalStat;
use crate::run::phases::Phase;
use crate::run::{Finding, Measured};
use crate::workload::Found;
use views::{BytesPerKeyRow, Comparison, Floor, ScenarioView, SweepView};

/// Everything one run of the program found.
#[derive(Serialize)]
pub struct Report {
    /// What was done: `load`, `compare`, …
    pub kind: &'static str,
    /// The machine and the command.
    pub fingerprint: Fingerprint,
    /// The workload in words.
    pub workload: String,
    /// Each measurement.
    pub results: Vec<ResultView>,
    /// What the comparison says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    /// Latency against load, one a server.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sweeps: Vec<SweepView>,
    /// Events and what they did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scenarios: Vec<ScenarioView>,
    /// Bytes a key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<BytesPerKeyRow>,
    /// The client's own floor.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub floors: Vec<Floor>,
    /// Why the run ended before its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Interval logs: what a file's name gets added, and its text.
    #[serde(skip)]
    pub logs: Vec<(String, Vec<u8>)>,
}

impl Report {
    /// A report without results.
    #[must_use]
    pub fn new(kind: &'static str, fingerprint: Fingerprint, workload: String) -> Self {
        Report {
            kind,
            fingerprint,
            workload,
            results: Vec::new(),
            comparison: None,
            sweeps: Vec::new(),
            scenarios: Vec::new(),
            memory: Vec::new(),
            floors: Vec::new(),
            failure: None,
            logs: Vec::new(),
        }
    }

    /// Adds a measurement, called `label`.
    pub fn add(&mut self, label: &str, measured: &Measured) {
        self.add_expecting(label, measured, &[]);
    }

    /// Adds a measurement in which `expected` is a result and no problem.
    pub fn add_expecting(&mut self, label: &str, measured: &Measured, expected: &[Finding]) {
        self.logs.push((label.to_owned(), measured.recording.log.text().to_vec()));
        self.results.push(ResultView::of(label, measured, expected));
    }

    /// Everything that makes the exit status non-zero, each once.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let results = self
            .results
            .iter()
            .flat_map(|result| result.problems.iter().map(move |problem| format!("{}: {problem}", result.label)));
        let events = self
            .scenarios
            .iter()
            .filter_map(|scenario| scenario.error.as_ref().map(|error| format!("{}: {error}", scenario.label)));
        let memory = self.memory.iter().filter_map(BytesPerKeyRow::problem);
        let undecided = self.comparison.iter().flat_map(|comparison| comparison.undecided.iter().cloned());
        let mut all: Vec<String> = Vec::new();
        for problem in results.chain(events).chain(memory).chain(undecided).chain(self.failure.clone()) {
            if !all.contains(&problem) {
                all.push(problem);
            }
        }
        all
    }

    /// What is worth a line and no problem.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let note = |result: &ResultView, note: &String| format!("{}: {note}", result.label);
        self.results.iter().flat_map(|result| result.notes.iter().map(move |text| note(result, text))).collect()
    }
}

/// One measurement as a report shows it. Latencies are nanoseconds.
#[derive(Clone, Debug, Serialize)]
pub struct ResultView {
    /// What it is called.
    pub label: String,
    /// The address.
    pub target: String,
    /// The server's name and version.
    pub server: String,
    /// The load in words.
    pub load: String,
    /// Requests a second asked for, in the open loop.
    pub rate_asked: Option<f64>,
    /// Replies a second in the measured time.
    pub rate_achieved: f64,
    /// Length of the measured time.
    pub measured_s: f64,
    /// All commands.
    pub latency: Summary,
    /// Each command.
    pub commands: Vec<(String, Summary)>,
    /// How late a sleeping thread woke.
    pub hiccups: Summary,
    /// Gaps in the client's loop.
    pub client_gaps: Summary,
    /// How late the client sent by its own doing.
    pub send_lag: Summary,
    /// How late it sent because no connection had room.
    pub held_back: Summary,
    /// Requests due in the measured time.
    pub due: u64,
    /// Error replies, and those of a wrong type.
    pub errors: u64,
    /// Of each command that reads, how many keys it found and how many it did not.
    pub reads: Vec<(String, Found)>,
    /// Replies compared with what was written.
    pub verified: u64,
    /// Those that differed.
    pub mismatches: u64,
    /// Requests without a reply.
    pub unanswered: u64,
    /// Those of them that were never sent.
    pub unsent: u64,
    /// CPU of the client a request, in nanoseconds.
    pub client_cpu_ns_per_request: f64,
    /// CPU of the server a request, in nanoseconds, if it tells.
    pub server_cpu_ns_per_request: Option<f64>,
    /// Whether the rate asked for was not reached.
    pub fell_short: bool,
    /// The floor of the same transport, if it was measured.
    pub floor: Option<Summary>,
    /// What is wrong with the result; any of it makes the exit status non-zero.
    pub problems: Vec<String>,
    /// What else is to be known of it.
    pub notes: Vec<String>,
    /// The percentile curve.
    pub curve: Vec<CurvePoint>,
    /// That of the hiccup meter.
    pub hiccup_curve: Vec<CurvePoint>,
    /// The time line.
    pub intervals: Vec<IntervalStat>,
    /// The server's own distributions.
    pub phases: Vec<Phase>,
}

impl ResultView {
    /// Reads a measurement.
    #[must_use]
    pub fn of(label: &str, measured: &Measured, expected: &[Finding]) -> Self {
        let (notes, problems): (Vec<_>, Vec<_>) = measured
            .findings()
            .into_iter()
            .partition(|(finding, _)| expected.contains(finding) || (*finding == Finding::Misses && measured.may_miss));
        let texts = |found: Vec<(Finding, String)>| found.into_iter().map(|(_, text)| text).collect();
        let outcome = &measured.outcome;
        let total = measured.recording.total();
        let sent = outcome.sent.max(1) as f64;
        ResultView {
            label: label.to_owned(),
            target: measured.target.to_string(),
            server: measured.server.clone(),
            load: measured.load.clone(),
            rate_asked: measured.rate_asked,
            rate_achieved: outcome.rate_achieved(),
            measured_s: outcome.measured_s(),
            latency: Summary::of(&total),
            commands: measured.commands.iter().cloned().zip(measured.recording.ops.iter().map(Summary::of)).collect(),
            hiccups: Summary::of(&measured.hiccups),
            client_gaps: Summary::of(&outcome.gaps),
            send_lag: Summary::of(&outcome.lag),
            held_back: Summary::of(&outcome.held),
            due: outcome.due,
            errors: outcome.errors + outcome.mistyped,
            reads: measured
                .commands
                .iter()
                .cloned()
                .zip(outcome.found.iter().copied())
                .filter(|(_, found)| found.reads() > 0)
                .collect(),
            verified: outcome.verified,
            mismatches: outcome.mismatches,
            unanswered: outcome.unanswered,
            unsent: outcome.unsent,
            client_cpu_ns_per_request: measured.client_cpu_s * 1e9 / sent,
            server_cpu_ns_per_request: measured.server_cpu_s.map(|cpu| cpu * 1e9 / sent),
            fell_short: measured.rate_asked.is_some_and(|rate| outcome.shortfall(rate).is_some()),
            floor: None,
            problems: texts(problems),
            notes: texts(notes),
            curve: curve(&total),
            hiccup_curve: curve(&measured.hiccups),
            intervals: measured.recording.intervals.clone(),
            phases: measured.phases.clone(),
        }
    }

    /// What all commands that read found together.
    #[must_use]
    pub fn found(&self) -> Found {
        let mut all = Found::default();
        self.reads.iter().for_each(|(_, found)| all.add(*found));
        all
    }

    /// Server time above the floor at a percentile, in nanoseconds.
    #[must_use]
    pub fn above_floor_ns(&self, name: &str) -> Option<u64> {
        Some(self.latency.by_name(name)?.saturating_sub(self.floor?.by_name(name)?))
    }
}
