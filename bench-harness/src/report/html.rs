//! A page that needs nothing but itself: tables, pictures, the machine.

use std::fmt::Write as _;

use super::svg::{Axis, Line, Picture, nines};
use super::{Report, ResultView, table};
use crate::compare::stats::median;
use crate::histogram::CurvePoint;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:980px;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:1em 0;font-variant-numeric:tabular-nums}\
td,th{border:1px solid #ddd;padding:.25em .6em;text-align:right}td:first-child,th:first-child{text-align:left}\
th{background:#f5f5f5}.problem{background:#fff1d6;padding:.5em .8em;border-left:4px solid #d55e00;margin:.4em 0}\
.machine td{text-align:left}svg{max-width:100%;height:auto}.verdict{font-size:1.1em;margin:.3em 0}code{word-break:break-all}";

/// A drawn picture.
pub struct Drawn {
    /// Its name as a file.
    pub name: String,
    /// The picture.
    pub svg: String,
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A Markdown table of this crate as an HTML table.
fn table_html(markdown: &str) -> String {
    let mut out = String::new();
    let mut in_table = false;
    for line in markdown.lines() {
        let Some(inner) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else {
            if line.starts_with("|-") {
                continue;
            }
            if std::mem::take(&mut in_table) {
                out.push_str("</table>\n");
            }
            if !line.trim().is_empty() {
                let class = if line.starts_with("verdict") { " class=\"verdict\"" } else { "" };
                let _ = writeln!(out, "<p{class}>{}</p>", escape(line));
            }
            continue;
        };
        let cell = if in_table { "td" } else { "th" };
        if !in_table {
            out.push_str("<table>\n");
            in_table = true;
        }
        out.push_str("<tr>");
        for text in inner.split(" | ") {
            let _ = write!(out, "<{cell}>{}</{cell}>", escape(text.trim()));
        }
        out.push_str("</tr>\n");
    }
    if in_table {
        out.push_str("</table>\n");
    }
    out
}

/// One result a label: comparisons have a label in every round, whose first stands for it in
/// pictures of single runs.
fn labels(results: &[ResultView]) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    for result in results {
        let label = group(&result.label).to_owned();
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    labels
}

/// The label without the number of its round.
fn group(label: &str) -> &str {
    label.split(" #").next().unwrap_or(label)
}

fn percentile_picture(report: &Report) -> Option<Picture> {
    if report.results.is_empty() || !report.sweeps.is_empty() || !report.scenarios.is_empty() {
        return None;
    }
    let mut lines = Vec::new();
    let points = |curve: &[CurvePoint]| curve.iter().map(|point| (nines(point.quantile), point.ns as f64)).collect();
    for (colour, label) in labels(&report.results).into_iter().enumerate() {
        let rounds: Vec<&ResultView> = report.results.iter().filter(|result| group(&result.label) == label).collect();
        if rounds.len() > 1 {
            for round in &rounds {
                lines.push(Line {
                    name: String::new(),
                    points: points(&round.curve),
                    colour,
                    faint: true,
                    dots: false,
                });
            }
        }
        lines.push(Line { name: label, points: points(&median_curve(&rounds)), colour, faint: false, dots: false });
    }
    if let Some(result) = report.results.iter().max_by_key(|result| result.hiccups.p99_ns) {
        let points = result.hiccup_curve.iter().map(|point| (nines(point.quantile), point.ns as f64)).collect();
        lines.push(Line { name: "hiccups of the machine".to_owned(), points, colour: 4, faint: true, dots: false });
    }
    if let Some(floor) = report.floors.first() {
        let points = floor.curve.iter().map(|point| (nines(point.quantile), point.ns as f64)).collect();
        lines.push(Line { name: "floor of the transport".to_owned(), points, colour: 5, faint: true, dots: false });
    }
    let load = report.results.first().map_or("", |result| result.load.as_str());
    Some(Picture {
        name: "percentiles".to_owned(),
        title: format!("Latency by percentile: {load}"),
        axis: Axis::Nines,
        lines,
        marks: Vec::new(),
    })
}

/// At each quantile the median of the rounds, as far as all of them reach.
fn median_curve(rounds: &[&ResultView]) -> Vec<CurvePoint> {
    // Quantiles are the same in every curve but for the last point, which is the maximum.
    let Some(shortest) = rounds.iter().map(|round| &round.curve).min_by_key(|curve| curve.len()) else {
        return Vec::new();
    };
    let at = |index: usize| {
        rounds.iter().filter_map(|round| round.curve.get(index)).map(|point| point.ns as f64).collect::<Vec<_>>()
    };
    shortest
        .iter()
        .enumerate()
        .map(|(index, point)| CurvePoint { quantile: point.quantile, ns: median(&at(index)) as u64 })
        .collect()
}

/// The time line of a result; those of the same moment in a comparison are not laid over each other.
fn time_picture(result: &ResultView, marks: &[(f64, f64, String)]) -> Picture {
    let line = |name: &str, colour, of: fn(&crate::histogram::Summary) -> u64| Line {
        name: name.to_owned(),
        points: result
            .intervals
            .iter()
            .map(|interval| ((interval.start_s + interval.end_s) / 2.0, of(&interval.latency) as f64))
            .collect(),
        colour,
        faint: false,
        dots: false,
    };
    // With fewer values an interval's p999 is its maximum.
    let counts: Vec<f64> =
        result.intervals.iter().map(|interval| interval.latency.count as f64).filter(|count| *count > 0.0).collect();
    let mut lines = vec![line("p50", 0, |s| s.p50_ns), line("p99", 2, |s| s.p99_ns)];
    if median(&counts) >= 2000.0 {
        lines.push(line("p999", 1, |s| s.p999_ns));
    }
    lines.push(line("max", 4, |s| s.max_ns));
    Picture {
        name: format!("time-{}", result.label),
        title: format!("{}: latency over time", result.label),
        axis: Axis::Time,
        lines,
        marks: marks.to_vec(),
    }
}

fn phase_picture(result: &ResultView) -> Option<Picture> {
    let lines: Vec<Line> = result
        .phases
        .iter()
        .enumerate()
        .map(|(colour, phase)| {
            let points = phase.buckets.iter().map(|(bound, count)| {
                let quantile = (*count as f64 / phase.calls as f64).min(1.0 - 0.5 / phase.calls as f64);
                (nines(quantile), *bound as f64 * 1000.0)
            });
            Line { name: phase.name.clone(), points: points.collect(), colour, faint: false, dots: true }
        })
        .collect();
    let name = format!("server-{}", result.label);
    let title = format!("{}: time inside the server, as it says itself (upper bounds)", result.label);
    (!lines.is_empty()).then_some(Picture { name, title, axis: Axis::Nines, lines, marks: Vec::new() })
}

fn load_picture(report: &Report) -> Option<Picture> {
    let mut lines = Vec::new();
    for (at, sweep) in report.sweeps.iter().enumerate() {
        for (name, faint) in [("p50", true), ("p99", false), ("p999", false)] {
            let points = sweep
                .steps
                .iter()
                .map(|step| (step.rate_achieved, step.latency.by_name(name).unwrap_or(0) as f64))
                .collect();
            let colour = if report.sweeps.len() > 1 {
                at
            } else {
                ["p50", "p99", "p999"].iter().position(|other| *other == name).unwrap_or(0)
            };
            lines.push(Line { name: format!("{} {name}", sweep.label), points, colour, faint, dots: true });
        }
    }
    let title = "Latency against load".to_owned();
    (!lines.is_empty()).then_some(Picture {
        name: "latency-against-load".to_owned(),
        title,
        axis: Axis::Rate,
        lines,
        marks: Vec::new(),
    })
}

/// One picture a scenario that several servers went through: on one scale they can be compared.
fn disturbances(report: &Report) -> Vec<Picture> {
    let mut names: Vec<&str> = report.scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
    names.dedup();
    let mut pictures = Vec::new();
    for name in names {
        let views: Vec<_> = report.scenarios.iter().filter(|scenario| scenario.name == name).collect();
        if views.len() < 2 {
            continue;
        }
        let mut lines = Vec::new();
        let mut mark: Option<(f64, f64, String)> = None;
        for (colour, view) in views.iter().enumerate() {
            let Some(result) = report.results.iter().find(|result| result.label == view.label) else { continue };
            let mut line = |text: String, faint, of: fn(&crate::histogram::Summary) -> u64| {
                let at = |interval: &crate::recorder::IntervalStat| (interval.start_s + interval.end_s) / 2.0;
                let points =
                    result.intervals.iter().map(|interval| (at(interval), of(&interval.latency) as f64)).collect();
                lines.push(Line { name: text, points, colour, faint, dots: false });
            };
            let server = view.label.strip_suffix(name).unwrap_or(&view.label).trim();
            line(format!("{server} p99"), false, |summary| summary.p99_ns);
            line(format!("{server} p50"), true, |summary| summary.p50_ns);
            for (from, to, text) in view.marks() {
                let (first, last) = mark.as_ref().map_or((from, to), |mark| (mark.0.min(from), mark.1.max(to)));
                mark = Some((first, last, text));
            }
        }
        pictures.push(Picture {
            name: format!("disturbance-{name}"),
            title: views[0].about.clone(),
            axis: Axis::Time,
            lines,
            marks: mark.into_iter().collect(),
        });
    }
    pictures
}

fn planned(report: &Report) -> Vec<Picture> {
    let mut pictures: Vec<Picture> = percentile_picture(report).into_iter().chain(load_picture(report)).collect();
    pictures.extend(disturbances(report));
    for scenario in &report.scenarios {
        if let Some(result) = report.results.iter().find(|result| result.label == scenario.label) {
            pictures.push(time_picture(result, &scenario.marks()));
        }
    }
    if report.scenarios.is_empty() && report.sweeps.is_empty() {
        let labels = labels(&report.results);
        let first_of = |label: &String| report.results.iter().find(|result| group(&result.label) == label);
        for result in labels.iter().filter_map(first_of) {
            pictures.push(time_picture(result, &[]));
            pictures.extend(phase_picture(result));
        }
    }
    pictures
}

/// Every picture of a report. One without points (a run that measured nothing) is left out.
///
/// # Errors
/// One with points cannot be drawn.
pub fn pictures(report: &Report) -> anyhow::Result<Vec<Drawn>> {
    let drawable =
        |picture: &Picture| picture.lines.iter().any(|line| line.points.iter().any(|(x, y)| x.is_finite() && *y > 0.0));
    planned(report)
        .into_iter()
        .filter(drawable)
        .map(|picture| Ok(Drawn { name: picture.name.clone(), svg: picture.draw()? }))
        .collect()
}

/// The page.
///
/// # Errors
/// A picture cannot be drawn.
pub fn render(report: &Report) -> anyhow::Result<String> {
    let title = match report.kind {
        "compare" => "Comparison",
        "sweep" => "Latency against load",
        "scenario" => "Latency under disturbance",
        "memory" => "Memory a key",
        "floor" => "Floor of the client",
        _ => "Latency",
    };
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style>\n<h1>{title}</h1>\n"
    );
    let text = table::render(report);
    let (problems, tables): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("! "));
    for problem in problems {
        let _ = writeln!(out, "<div class=\"problem\">{}</div>", escape(&problem[2..]));
    }
    out.push_str(&table_html(&tables.join("\n")));
    for picture in pictures(report)? {
        let _ = writeln!(out, "<figure>{}</figure>", picture.svg);
    }
    let summed_up = report.comparison.is_some() || !report.sweeps.is_empty() || !report.scenarios.is_empty();
    if summed_up && !report.results.is_empty() {
        let every = table_html(&table::results(&report.results));
        let _ = writeln!(out, "<details><summary>Every measurement</summary>{every}</details>");
    }
    out.push_str("<h2>The machine</h2>\n<table class=\"machine\">");
    for (name, value) in report.fingerprint.rows() {
        let _ = writeln!(out, "<tr><td>{name}</td><td><code>{}</code></td></tr>", escape(&value));
    }
    let _ = write!(
        out,
        "</table>\n<p>Open loop: latency from the intended time. Closed loop: from the sending, which hides stalls. \
         Hiccups are what a sleeping thread on the same machine saw meanwhile. Measured at Unix time {}.</p></html>\n",
        report.fingerprint.unix_ms / 1000
    );
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_turn_into_html() {
        let html = table_html("a < b\n| x   |   y |\n|-----|----:|\n| 1   | <2> |\n\nend\n");
        assert_eq!(
            html,
            "<p>a &lt; b</p>\n<table>\n<tr><th>x</th><th>y</th></tr>\n<tr><td>1</td><td>&lt;2&gt;</td></tr>\n</table>\n<p>end</p>\n"
        );
    }
}
