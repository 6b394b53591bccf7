//! Reports as files. One that cannot be written does not take the others with it, and what was
//! measured then goes to a file that can.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::{Report, html, table};
use crate::histogram::PERCENTILES;

/// Where results go beside the terminal.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Reports")]
pub struct Outputs {
    /// Everything as JSON (`-`: to the terminal instead of the table)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// One line a measurement as CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Interval histograms as HdrHistogram log; with several measurements one file each
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// A page with pictures that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Each picture as an SVG file in this directory
    #[arg(long, value_name = "DIRECTORY")]
    pub svg: Option<PathBuf>,
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let mut file = std::fs::File::create(path).with_context(context)?;
    file.write_all(bytes).with_context(context)?;
    // A full disk may only show here.
    match file.sync_all() {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
        other => other.with_context(context),
    }
}

/// Writes to the terminal.
///
/// # Errors
/// It does not take it: a full disk or a closed pipe behind it.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Writes a line to standard error. Nobody is left to tell if that takes none, and the exit status
/// says it all the same.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "tercel-bench: {text}");
}

/// The results as CSV: latencies in microseconds, memory in bytes.
///
/// # Errors
/// Never in practice: it is written to memory.
pub fn csv(report: &Report) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    if report.kind == super::views::BYTES_PER_KEY {
        // A row's fields are the columns. Without rows nothing would name them.
        report.memory.iter().try_for_each(|row| writer.serialize(row))?;
        return Ok(writer.into_inner()?);
    }
    let mut head: Vec<String> = [
        "label",
        "server",
        "target",
        "load",
        "workload",
        "rate_asked",
        "rate_achieved",
        "requests",
        "errors",
        "unanswered",
        "hits",
        "misses",
        "wrong_len",
    ]
    .map(str::to_owned)
    .to_vec();
    let names = || PERCENTILES.iter().map(|(name, _)| *name).chain(["max"]);
    head.extend(names().map(|name| format!("{name}_us")));
    head.extend(names().map(|name| format!("hiccup_{name}_us")));
    head.extend(["client_cpu_ns_per_request", "server_cpu_ns_per_request"].map(str::to_owned));
    writer.write_record(&head)?;
    for result in &report.results {
        let us = |summary: &crate::histogram::Summary, name: &str| {
            format!("{:.3}", summary.by_name(name).unwrap_or(0) as f64 / 1e3)
        };
        let found = result.found();
        let mut cells = vec![
            result.label.clone(),
            result.server.clone(),
            result.target.clone(),
            result.load.clone(),
            report.workload.clone(),
            result.rate_asked.map_or(String::new(), |rate| rate.to_string()),
            format!("{:.1}", result.rate_achieved),
            result.latency.count.to_string(),
            result.errors.to_string(),
            result.unanswered.to_string(),
            found.hits.to_string(),
            found.misses.to_string(),
            found.wrong_len.to_string(),
        ];
        cells.extend(names().map(|name| us(&result.latency, name)));
        cells.extend(names().map(|name| us(&result.hiccups, name)));
        cells.push(format!("{:.1}", result.client_cpu_ns_per_request));
        cells.push(result.server_cpu_ns_per_request.map_or(String::new(), |cpu| format!("{cpu:.1}")));
        writer.write_record(&cells)?;
    }
    Ok(writer.into_inner()?)
}

/// A label as part of a file's name.
#[must_use]
pub fn file_name(label: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    label.chars().map(safe).collect()
}

impl Outputs {
    /// Whether everything asked for can come out of a run that records latencies, or of one that does
    /// not.
    ///
    /// # Errors
    /// A form of report that would hold nothing.
    pub fn check(&self, latencies: bool) -> anyhow::Result<()> {
        for (name, path) in [("--hlog", &self.hlog), ("--svg", &self.svg)] {
            ensure!(latencies || path.is_none(), "{name} has nothing to show here: no latencies are recorded");
        }
        let files = [("--json", &self.json), ("--csv", &self.csv), ("--hlog", &self.hlog), ("--html", &self.html)];
        let files: Vec<(&str, &PathBuf)> =
            files.into_iter().filter_map(|(name, path)| Some((name, path.as_ref()?))).collect();
        for (at, (name, path)) in files.iter().enumerate() {
            if path.as_os_str() == "-" {
                ensure!(*name == "--json", "{name} - is not known; only --json goes to the terminal");
                continue;
            }
            // Rather now than after the measurement. A disk may still be full then.
            ensure!(!path.is_dir(), "{name} {} is a directory", path.display());
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            ensure!(directory.is_dir(), "{name} {}: there is no directory {}", path.display(), directory.display());
            if let Some((other, _)) = files[..at].iter().find(|(_, other)| other == path) {
                anyhow::bail!("{other} and {name} are both to go to {}", path.display());
            }
        }
        Ok(())
    }

    /// Prints the table and writes every file asked for. Returns whether all could be written; what
    /// could not is told, and the results go to a file in the temporary directory.
    #[must_use]
    pub fn deliver(&self, report: &Report) -> bool {
        let mut failures = Vec::new();
        let mut attempt = |result: anyhow::Result<()>| {
            if let Err(error) = result {
                failures.push(format!("{error:#}"));
            }
        };
        let json = serde_json::to_vec_pretty(report).context("cannot put the results into JSON");
        if self.json.as_deref() == Some(Path::new("-")) {
            attempt(
                json.as_ref()
                    .map_err(|error| anyhow::anyhow!("{error:#}"))
                    .and_then(|json| print(&format!("{}\n", String::from_utf8_lossy(json)))),
            );
        } else {
            attempt(print(&format!("\n{}", table::render(report))));
            if let Some(path) = &self.json {
                attempt(json.as_ref().map_err(|error| anyhow::anyhow!("{error:#}")).and_then(|json| write(path, json)));
            }
        }
        if let Some(path) = &self.csv {
            attempt(csv(report).and_then(|text| write(path, &text)));
        }
        if let Some(path) = &self.html {
            attempt(html::render(report).and_then(|page| write(path, page.as_bytes())));
        }
        if let Some(path) = &self.hlog {
            for (label, text) in &report.logs {
                let path = if report.logs.len() == 1 {
                    path.clone()
                } else {
                    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                    path.with_file_name(format!("{stem}-{}.hlog", file_name(label)))
                };
                attempt(write(&path, text));
            }
        }
        if let Some(directory) = &self.svg {
            let made = std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make the directory {}", directory.display()));
            match made.and_then(|()| html::pictures(report)) {
                Ok(pictures) => {
                    for picture in pictures {
                        attempt(write(
                            &directory.join(format!("{}.svg", file_name(&picture.name))),
                            picture.svg.as_bytes(),
                        ));
                    }
                }
                Err(error) => attempt(Err(error)),
            }
        }
        if failures.is_empty() {
            return true;
        }
        for failure in &failures {
            complain(failure);
        }
        let kept = std::env::temp_dir().join(format!("tercel-bench-{}.json", std::process::id()));
        match json.and_then(|json| write(&kept, &json)) {
            Ok(()) => complain(&format!("what was measured is kept in {}", kept.display())),
            Err(error) => complain(&format!("{error:#}; what was measured is lost")),
        }
        false
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_full_disk_is_an_error_and_a_label_a_file_name() {
        let error = format!("{:#}", write(Path::new("/dev/full"), b"x").unwrap_err());
        assert!(error.contains("/dev/full") && error.contains("space"), "{error}");
        assert!(write(Path::new("/nonexistent/x"), b"x").is_err());
        assert_eq!(file_name("a b/c:1"), "a-b-c-1");
    }

    #[test]
    fn memory_has_its_table_as_csv_and_no_pictures() {
        let row = crate::report::views::BytesPerKeyRow {
            label: "a".into(),
            keys: 5,
            keys_held: 5,
            key_bytes: 16,
            value_bytes: "8;9".into(),
            rss_bytes_per_key: 70.5,
            used_bytes_per_key: 60.0,
            rss_bytes: 1000,
            used_bytes: 900,
        };
        let session = crate::run::Session::new(false);
        let mut report = Report::new(crate::report::views::BYTES_PER_KEY, session.fingerprint, String::new());
        report.memory.extend([row.clone(), row]);
        let text = csv(&report).unwrap();
        let mut reader = csv::Reader::from_reader(text.as_slice());
        assert_eq!(reader.headers().unwrap().iter().take(3).collect::<Vec<_>>(), ["label", "keys", "keys_held"]);
        let records: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert_eq!((records.len(), &records[1][4], &records[1][5]), (2, "8;9", "70.5"));
        for outputs in [
            Outputs { hlog: Some("x".into()), ..Outputs::default() },
            Outputs { svg: Some("x".into()), ..Outputs::default() },
        ] {
            assert!(outputs.check(false).is_err() && outputs.check(true).is_ok());
        }
    }
}
