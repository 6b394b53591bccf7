//! The whole program over real sockets: what it finds, and what it says when something is wrong.
//! Bounds are so wide that a busy machine does not decide.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::fs::File;
use std::time::Duration;

use std::sync::atomic::Ordering;

use common::{Behaviour, bench, counting_server, eventually, fake_server, finish, json, ran, real_server};

/// A client that leaves the machine to others.
const GENTLE: [&str; 5] = ["--wait", "block", "--client-core", "none", "--no-preload"];

fn load<'a>(target: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    ["load", target].iter().chain(&GENTLE).chain(more).copied().collect()
}

fn tcp(behaviour: Behaviour) -> String {
    format!("tcp://{}", fake_server(behaviour))
}

#[test]
fn open_loop_shows_the_stall_that_closed_loop_hides() {
    let target = tcp(Behaviour::Stall);
    let p99_ms = |more: &[&str]| {
        let (code, report) = json(&load(&target, more));
        assert_eq!(code, 0, "{report}");
        let latency = &report["results"][0]["latency"];
        (latency["p99_ns"].as_f64().unwrap() / 1e6, latency["max_ns"].as_f64().unwrap() / 1e6)
    };
    let (open, _) = p99_ms(&["--rate", "500", "-c", "4", "--warmup", "0.2", "-d", "4"]);
    let (closed, closed_max) = p99_ms(&["-c", "1", "--warmup", "0.2", "-d", "4"]);
    // One request in ten meets a stall of 100 ms: the true p99 is 90 ms.
    assert!(open > 60.0, "open loop p99 {open} ms");
    // The closed loop sees four stalls among some ten thousand requests.
    assert!(closed < 45.0, "closed loop p99 {closed} ms");
    assert!(closed_max > 60.0, "closed loop max {closed_max} ms");
}

#[test]
fn an_unreachable_target_is_named() {
    let ran = ran(&load("tcp://127.0.0.1:1", &["-d", "1"]));
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("cannot connect to tcp://127.0.0.1:1") && ran.err.contains("refused"), "{}", ran.err);
    let ran = common::ran(&load("unix:///nonexistent/socket", &["-d", "1"]));
    assert!(ran.code == 1 && ran.err.contains("unix:///nonexistent/socket"), "{}", ran.err);
}

#[test]
fn a_server_that_closes_or_babbles_fails_the_run_and_keeps_what_was_measured() {
    let closes = (Behaviour::CloseAfter(2000), "the server closed connection");
    let babbles = (Behaviour::GarbageAfter(2000), "wrong reply on connection");
    for (behaviour, text) in [closes, babbles] {
        let target = tcp(behaviour);
        let (code, report) = json(&load(&target, &["-c", "2", "--warmup", "0", "-d", "30"]));
        assert_eq!(code, 1);
        let result = &report["results"][0];
        assert!(result["problems"][0].as_str().unwrap().contains(text), "{result}");
        assert!(result["latency"]["count"].as_u64().unwrap() > 1000, "{result}");
        // On the terminal each problem has one line.
        let ran = ran(&load(&tcp(behaviour), &["-c", "2", "--warmup", "0", "-d", "30"]));
        assert_eq!(ran.out.matches(text).count(), 1, "{}", ran.out);
    }
}

#[test]
fn wrong_values_and_errors_are_found() {
    let (code, report) = json(&load(
        &tcp(Behaviour::WrongValue),
        &["--verify", "--mix", "get:1,set:1", "--keys", "10", "--warmup", "0", "-n", "1000"],
    ));
    let result = &report["results"][0];
    assert_eq!(code, 1);
    assert!(result["mismatches"].as_u64().unwrap() > 300, "{result}");
    assert!(result["problems"].to_string().contains("not what had been written"), "{result}");

    let (code, report) = json(&load(&tcp(Behaviour::Mistypes), &["--warmup", "0", "-n", "100"]));
    let result = &report["results"][0];
    assert_eq!((code, result["errors"].as_u64(), result["latency"]["count"].as_u64()), (1, Some(100), Some(0)));
    assert!(result["problems"].to_string().contains("100 replies were of a wrong type, the first: "), "{result}");

    let (code, report) = json(&load(&tcp(Behaviour::Refuse), &["--warmup", "0", "-n", "100"]));
    assert_eq!(code, 1);
    assert!(report["results"][0]["problems"].to_string().contains("ERR not today"));
}

#[test]
fn nonsense_on_the_command_line_is_refused_before_anything_is_sent() {
    let target = tcp(Behaviour::Answer);
    for (more, word) in [
        (&["--command", "SET __key__ \"x"][..], "quote"),
        (&["--command", "SET __frob__ x"], "__frob__"),
        (&["--mix", "frob:1"], "frob"),
        (&["--rate", "fast"], "--rate"),
        (&["--rate", "10", "-P", "4"], "--pipeline"),
        (&["--duration", "-1"], "unexpected argument"),
        (&["--value-size", "9..1"], "--value-size"),
        (&["--replay", "/nonexistent"], "/nonexistent"),
        (&["--key-distribution", "zipfian:x"], "zipfian"),
    ] {
        let ran = ran(&load(&target, more));
        assert_eq!(ran.code, 2, "{more:?}: {}", ran.err);
        assert!(ran.err.contains(word), "{more:?}: {}", ran.err);
    }
    let ran = ran(&["compare", "a=tcp://127.0.0.1:1", "b=tcp://127.0.0.1:1", "--fail-if", "p999 bigger"]);
    assert!(ran.code == 2 && ran.err.contains("no condition"), "{}", ran.err);
}

#[test]
fn a_rate_beyond_reach_is_said_and_everything_due_is_accounted_for() {
    let target = tcp(Behaviour::Slow(Duration::from_millis(2)));
    let (code, report) = json(&load(
        &target,
        &["--rate", "20k", "-c", "2", "--window", "16", "--warmup", "0", "-d", "1", "--drain", "0.2"],
    ));
    let result = &report["results"][0];
    assert_eq!(code, 1);
    assert!(result["problems"].to_string().contains("could not keep up"), "{result}");
    assert_eq!(result["latency"]["count"], result["due"], "a request that was due is not in the histogram");
    assert!(result["rate_achieved"].as_f64().unwrap() < 2000.0);
    // Far beyond any client: it is the client that says so.
    let target = tcp(Behaviour::Answer);
    let more = ["--rate", "100m", "--window", "1048576", "--warmup", "0", "-d", "0.3", "--drain", "0"];
    let (code, report) = json(&load(&target, &more));
    assert_eq!(code, 1);
    assert!(report["results"][0]["problems"].to_string().contains("could not keep up"), "{report}");
}

#[test]
fn a_report_that_cannot_be_written_fails_the_run_and_the_results_are_kept() {
    let target = tcp(Behaviour::Answer);
    for option in ["--json", "--html", "--csv", "--hlog", "--svg"] {
        let ran = ran(&load(&target, &["--warmup", "0", "-n", "100", option, "/dev/full"]));
        assert_eq!(ran.code, 1, "{option}: {}", ran.err);
        let told = if option == "--svg" { "cannot make the directory /dev/full" } else { "cannot write /dev/full" };
        assert!(ran.err.contains(told), "{}", ran.err);
        assert!(ran.out.contains("p999"), "{}", ran.out);
        let kept = ran.err.split("kept in ").nth(1).unwrap().trim();
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(kept).unwrap()).unwrap();
        assert_eq!(report["results"][0]["latency"]["count"], 100);
        std::fs::remove_file(kept).unwrap();
    }
    let mut command = bench(&load(&target, &["--warmup", "0", "-n", "100"]));
    let ran = finish(command.stdout(File::options().write(true).open("/dev/full").unwrap()).output().unwrap());
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("cannot write to standard output") && ran.err.contains("kept in"), "{}", ran.err);
    std::fs::remove_file(ran.err.split("kept in ").nth(1).unwrap().trim()).unwrap();
}

#[test]
fn an_interrupt_ends_the_run_with_its_results() {
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let (addr, seen) = counting_server(Behaviour::Answer);
        let target = format!("tcp://{addr}");
        let mut command = bench(&load(&target, &["--warmup", "0", "-d", "600", "--json", "-"]));
        let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        // Some intervals must have passed, so that the load is well under way.
        eventually("a load", || (seen.load(Ordering::Relaxed) > 1000).then_some(()));
        let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        let ran = finish(child.wait_with_output().unwrap());
        let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(ran.code, 1);
        assert!(report["failure"].as_str().unwrap().contains("interrupted"));
        assert!(report["results"][0]["latency"]["count"].as_u64().unwrap() > 0);
        assert_eq!(report["results"][0]["problems"], serde_json::json!([]), "an interrupt is no fault of the server");
    }
}

#[test]
fn the_seed_decides_the_arrivals_too() {
    let target = tcp(Behaviour::Answer);
    let due = |seed: &str| {
        let (_, report) = json(&load(&target, &["--rate", "2k", "--seed", seed, "--warmup", "0", "-d", "0.5"]));
        report["results"][0]["due"].as_u64().unwrap()
    };
    let first = due("1");
    assert_eq!(first, due("1"));
    assert!(["2", "3", "18446744073709551615"].iter().any(|seed| due(seed) != first), "the seed changes nothing");
}

#[test]
fn a_server_that_falls_silent_is_not_blamed_on_the_client() {
    let target = tcp(Behaviour::HangAfter(200));
    let (code, report) =
        json(&load(&target, &["--rate", "400", "-c", "2", "--warmup", "0", "-d", "2", "--drain", "0.2"]));
    let result = &report["results"][0];
    assert_eq!(code, 1);
    let problems = result["problems"].to_string();
    assert!(problems.contains("server could not keep up with 400 requests/s"), "{problems}");
    assert!(!problems.contains("client"), "{problems}");
    assert!(result["rate_achieved"].as_f64().unwrap() < 400.0, "{result}");
    assert_eq!(result["latency"]["count"], result["due"]);
}

#[test]
fn a_comparison_sees_a_server_that_is_slower_and_fails_if_asked_to() {
    let quick = format!("quick={}", tcp(Behaviour::Answer));
    let slow = format!("slow={}", tcp(Behaviour::Slow(Duration::from_millis(10))));
    let mut args = vec!["compare", quick.as_str(), slow.as_str(), "--rounds", "5", "--warmup", "0", "-d", "0.3"];
    args.extend(GENTLE);
    let (code, report) = json(&args);
    assert_eq!(code, 0, "{report}");
    let row = &report["comparison"]["versus"][0]["metrics"][0];
    assert_eq!((row["metric"].as_str(), row["verdict"].as_str()), (Some("p50"), Some("worse")), "{row}");
    assert!(row["estimate"]["low"].as_f64().unwrap() > 2.0, "{row}");
    args.extend(["--fail-if", "p50 > 2x"]);
    let (code, report) = json(&args);
    assert_eq!(code, 3);
    assert!(report["comparison"]["failed"][0].as_str().unwrap().contains("p50 > 2x"));
}

#[test]
fn every_form_of_report_is_whole() {
    let target = tcp(Behaviour::Answer);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (json, csv, hlog, html, svg) = (path("r.json"), path("r.csv"), path("r.hlog"), path("r.html"), path("svg"));
    let files = ["--json", &json, "--csv", &csv, "--hlog", &hlog, "--html", &html, "--svg", &svg];
    let more: Vec<&str> = ["--rate", "2k", "-c", "2", "--warmup", "0", "-d", "1"].into_iter().chain(files).collect();
    let ran = ran(&load(&target, &more));
    assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let count = report["results"][0]["latency"]["count"].as_u64().unwrap();
    assert!((1700..2300).contains(&count), "{count}");
    assert!(report["fingerprint"]["command_line"].as_str().unwrap().contains("--rate 2k"));
    assert_eq!(csv::Reader::from_path(&csv).unwrap().records().count(), 1);
    // The log holds every latency the report counts.
    let text = std::fs::read(&hlog).unwrap();
    let intervals = hdrhistogram::serialization::interval_log::IntervalLogIterator::new(&text).filter(|entry| {
        matches!(entry.as_ref().unwrap(), hdrhistogram::serialization::interval_log::LogEntry::Interval(_))
    });
    assert!(intervals.count() >= 4);
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.matches("<svg").count() >= 2 && page.contains("The machine"));
    assert!(
        !page.contains("src=") && !page.contains("href=") && !page.contains("url("),
        "the page needs something else"
    );
    assert!(std::fs::read_dir(&svg).unwrap().count() >= 2);
}

#[test]
fn a_real_server_is_verified_swept_and_disturbed() {
    let server = real_server();
    let directory = tempfile::tempdir().unwrap();
    let html = directory.path().join("r.html").display().to_string();
    let gentle = ["--wait", "block", "--client-core", "none"];
    let with = |args: &[&str]| json(&args.iter().copied().chain(gentle).collect::<Vec<_>>());

    for over in ["tcp", "unix"] {
        let mix = "get:5,set:3,del:1";
        let (code, report) = with(&[
            "load", &server, "--over", over, "--verify", "--mix", mix, "--keys", "5k", "-c", "4", "-P", "8", "-d", "1",
            "--html", &html,
        ]);
        let result = &report["results"][0];
        assert_eq!(code, 0, "{result}");
        assert!(result["verified"].as_u64().unwrap() > 1000, "{result}");
        assert_eq!(result["mismatches"], 0);
        assert!(
            !result["phases"].as_array().unwrap().is_empty() && result["server_cpu_ns_per_request"].as_f64().is_some()
        );
    }
    let (_, report) = with(&["sweep", &server, "--rates", "500,1k", "--keys", "5k", "--warmup", "0.2", "-d", "0.5"]);
    assert_eq!(report["sweeps"][0]["steps"].as_array().unwrap().len(), 2);

    let scenarios = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
    for name in
        ["flushall", "expire-storm", "growth", "client-storm", "slow-reader", "config-set", "eviction", "big-value"]
    {
        let file = format!("{scenarios}/{name}.toml");
        let (code, report) =
            with(&["scenario", "--target", &server, &file, "--duration", "3", "--scale-down", "50", "--html", &html]);
        let view = &report["scenarios"][0];
        assert_eq!(code, 0, "{name}: {report}");
        assert!(view["error"].is_null(), "{view}");
        assert!(
            view["before"]["count"].as_u64().unwrap() > 0 && view["during"]["count"].as_u64().unwrap() > 0,
            "{view}"
        );
    }
    let ran = ran(&["memory", &server, "--keys", "50k", "--value-size", "64"]);
    assert!(ran.code == 0 && ran.out.contains("50000"), "{} {}", ran.out, ran.err);
}

#[test]
fn the_floor_is_measured_over_both_transports() {
    for over in ["tcp", "unix"] {
        let (code, report) = json(&[
            "floor",
            "--over",
            over,
            "-d",
            "0.3",
            "--warmup",
            "0.1",
            "--echo-wait",
            "block",
            "--wait",
            "block",
            "--client-core",
            "none",
        ]);
        assert_eq!(code, 0, "{report}");
        assert_eq!(report["floors"][0]["transport"], over);
        assert!(report["floors"][0]["latency"]["count"].as_u64().unwrap() > 10);
    }
}
