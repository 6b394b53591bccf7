//! What tables are made of, in a form that can be pasted into a Markdown page: rows, rates, shares. Knows of no
//! result.

use std::fmt::Write as _;

use crate::histogram::{PERCENTILES, Summary, human_ns};

const HEAD: [&str; 7] = ["p50", "p90", "p99", "p999", "p9999", "max", ""];

/// Rows of text as a Markdown table with aligned columns.
#[must_use]
pub fn markdown(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, width) in widths.iter().enumerate() {
            let cell = row.get(column).map_or("", String::as_str);
            let pad = width - cell.chars().count();
            let _ = if column == 0 { write!(out, "| {cell}{:pad$} ", "") } else { write!(out, "| {:pad$}{cell} ", "") };
        }
        out.push_str("|\n");
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let _ = if column == 0 {
                    write!(out, "|{:-<1$}", "", width + 2)
                } else {
                    write!(out, "|{:->1$}:", "", width + 1)
                };
            }
            out.push_str("|\n");
        }
    }
    out
}

fn summary_cells(summary: &Summary) -> Vec<String> {
    let names = PERCENTILES.iter().map(|(name, _)| *name).chain(["max"]);
    names
        .map(
            |name| {
                if summary.count == 0 { "-".to_owned() } else { human_ns(summary.by_name(name).unwrap_or(0) as f64) }
            },
        )
        .collect()
}

/// The first row of a table of percentiles.
pub(super) fn head(first: &str, more: &[&str]) -> Vec<String> {
    let fixed = HEAD[..6].iter().copied();
    std::iter::once(first).chain(fixed).chain(more.iter().copied()).map(str::to_owned).collect()
}

/// A row of percentiles.
pub(super) fn row(first: &str, summary: &Summary, more: Vec<String>) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(summary_cells(summary)).chain(more).collect()
}

/// A count of requests a second, readable.
#[must_use]
pub fn rate(rate: f64) -> String {
    if rate >= 1e6 {
        format!("{:.3} M/s", rate / 1e6)
    } else if rate >= 1e4 {
        format!("{:.1} k/s", rate / 1e3)
    } else {
        format!("{rate:.0}/s")
    }
}

/// A time of the processor in nanoseconds; a dash where there is none.
pub(super) fn cpu(ns: Option<f64>) -> String {
    ns.map_or("-".to_owned(), |ns| human_ns(ns.max(0.0)))
}

/// A share in per cent; a dash where there is none.
#[must_use]
pub fn share(share: Option<f64>) -> String {
    match share {
        None => "-".to_owned(),
        Some(share) if share > 0.0 && share < 0.0005 => "< 0.1 %".to_owned(),
        Some(share) => format!("{:.1} %", share * 100.0),
    }
}

/// Percentile rows with other columns, for the tables of other modules.
#[must_use]
pub fn summaries(first: &str, more: &[&str], rows: &[(String, Summary, Vec<String>)]) -> String {
    let mut all = vec![head(first, more)];
    all.extend(rows.iter().map(|(name, summary, cells)| row(name, summary, cells.clone())));
    markdown(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let text = markdown(&[vec!["a".into(), "bbbb".into()], vec!["ccccc".into(), "d".into()]]);
        assert_eq!(text, "| a     | bbbb |\n|-------|-----:|\n| ccccc |    d |\n");
    }
}
