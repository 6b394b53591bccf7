//! What a script that runs the program goes by: exit statuses and the lines that explain them.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{Behaviour, counting_server, fake_server, json, ran};

const GENTLE: [&str; 4] = ["--wait", "block", "--client-core", "none"];

fn target(name: &str, behaviour: Behaviour) -> String {
    format!("{name}=tcp://{}", fake_server(behaviour))
}

fn with<'a>(args: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    args.iter().chain(more).copied().collect()
}

#[test]
fn nonsense_has_its_own_status_and_sends_nothing() {
    let (addr, seen) = counting_server(Behaviour::Answer);
    let server = format!("a=tcp://{addr}");
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/flushall.toml");
    let directory = tempfile::tempdir().unwrap();
    let recorded = directory.path().join("recorded");
    std::fs::write(&recorded, "*1\r\n$4\r\nPING\r\n").unwrap();
    let recorded = recorded.display().to_string();
    for (args, word) in [
        (&["memory", &server, "--keys", "0"][..], "--keys"),
        (&["memory", &server, "--key-size", "5"], "--key-size"),
        (&["memory", &server, "--value-size", ";"], "--value-size"),
        (&["memory", &server, "--ttl", "0"], "--ttl"),
        (&["memory", &server, "--hlog", "x"], "--hlog"),
        (&["memory", &server, "--svg", "x"], "--svg"),
        (&["scenario", scenario, "--target", &server, "--duration", "0"], "--duration"),
        (&["scenario", scenario, "--target", &server, "--scale-down", "0"], "--scale-down"),
        (&["scenario", "/nonexistent.toml", "--target", &server], "/nonexistent.toml"),
        (&["scenario", scenario, "--target", &server, "--client-core", "9999"], "9999"),
        (&["load", &server, "--verify", "-c", "200", "--keys", "100"], "--connections"),
        (&["load", "x=exec:redis-server --port {port}", "--over", "unix"], "{socket}"),
        (&["load", &server, "--client-core", "9999"], "no core 9999"),
        (&["load", &server, "--server-core", "9999"], "no core 9999"),
        (&["load", &server, "--start-timeout", "0"], "--start-timeout"),
        (&["load", &server, "--connect-timeout", "0"], "--connect-timeout"),
        (&["load", &server, "--mix", "get", "--command", "PING"], "--mix"),
        (&["load", &server, "--mix", "get", "--replay", "x"], "--mix"),
        (&["load", &server, "--command", "PING", "--replay", "x"], "--command"),
        (&["load", &server, "--replay", "/dev/zero"], "more than"),
        (&["load", &server, "--replay", &recorded], "RESP"),
        (&["load", &server, "--verify", "--command", "SET __key__ a-__value__"], "--verify"),
        (&["load", "gr\u{f6}\u{df}e=tcp://127.0.0.1:1"], "no name for a server"),
        (&["load", &server, "-d", "1", "-d", "2"], "multiple times"),
        (&["floor", "-r", "5"], "-r"),
        (&["floor", "--mix", "get"], "--mix"),
        (&["floor", "--keys", "5"], "--keys"),
        (&["sweep", &server, "--rate", "5"], "--rates"),
        (&["sweep", &server, "--rates", "5,x"], "--rates"),
        (&["compare", &server, &server, "--rounds", "4", "--fail-if", "p99 > 2x"], "at least 5"),
        (&["compare", &server, &server, "--rounds", "0"], "--rounds"),
        (&["compare", &server, &server, "--confidence", "1"], "--confidence"),
    ] {
        let ran = ran(args);
        assert_eq!(ran.code, 2, "{args:?}: {} {}", ran.out, ran.err);
        assert!(ran.err.contains(word), "{args:?}: {}", ran.err);
    }
    assert_eq!(seen.load(Ordering::Relaxed), 0, "something was sent all the same");
}

#[test]
fn few_rounds_decide_nothing() {
    let (quick, slow) = (target("quick", Behaviour::Answer), target("slow", Behaviour::Slow(Duration::from_millis(5))));
    let directory = tempfile::tempdir().unwrap();
    let html = directory.path().join("r.html").display().to_string();
    let args = ["compare", &quick, &slow, "--rounds", "2", "--warmup", "0", "-d", "0.2", "--no-preload"];
    let (code, report) = json(&with(&args, &GENTLE));
    assert_eq!(code, 0, "{report}");
    let versus = &report["comparison"]["versus"][0];
    for row in versus["metrics"].as_array().unwrap() {
        let said = row["verdict"].as_str().unwrap();
        assert!(said == "too few rounds to say" || said == "not measured", "{row}");
    }
    assert!(versus["verdict"].as_str().unwrap().starts_with("too few rounds to say"), "{versus}");
    let ran = ran(&with(&with(&args, &GENTLE), &["--html", &html]));
    for text in [ran.out, std::fs::read_to_string(html).unwrap()] {
        assert!(text.contains("too few rounds to say"), "{text}");
        assert!(!text.contains("worse than"), "{text}");
    }
}

#[test]
fn keys_that_are_not_there_are_told() {
    let (here, gone) = (target("here", Behaviour::Answer), target("gone", Behaviour::Misses));
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (html, table) = (file("r.html"), file("r.csv"));
    let load = ["--mix", "get:1,ping:1", "--warmup", "0", "-n", "200", "--no-preload"];
    let args = with(&with(&["load", &gone], &load), &GENTLE);
    let told = "100.0 % of the keys read were not there (get ";
    let run = ran(&with(&args, &["--html", &html, "--csv", &table]));
    assert_eq!(run.code, 1, "{} {}", run.out, run.err);
    assert!(run.out.contains(&format!("\n! gone: {told}")), "{}", run.out);
    assert!(std::fs::read_to_string(html).unwrap().contains(told));
    let mut rows = csv::Reader::from_path(table).unwrap();
    let at = |name: &str, head: &csv::StringRecord| head.iter().position(|column| column == name).unwrap();
    let head = rows.headers().unwrap().clone();
    let row = rows.records().next().unwrap().unwrap();
    let csv_misses: u64 = row[at("misses", &head)].parse().unwrap();
    assert!(csv_misses > 0 && &row[at("hits", &head)] == "0", "{row:?}");
    let (_, report) = json(&args);
    let reads = &report["results"][0]["reads"];
    assert_eq!(reads.as_array().unwrap().len(), 1, "{reads}");
    assert!(reads[0][0] == "get" && reads[0][1]["misses"].as_u64().unwrap() > 0 && reads[0][1]["hits"] == 0, "{reads}");

    // Whoever deletes must not be astonished, and no more is known of a recording.
    let recorded = file("recorded");
    std::fs::write(&recorded, "GET a\n").unwrap();
    for more in [&["--mix", "get:1,del:1", "--no-preload"][..], &["--replay", &recorded]] {
        let args = with(&["load", &gone, "--warmup", "0", "-n", "200"], more);
        let run = ran(&with(&args, &GENTLE));
        assert_eq!(run.code, 0, "{} {}", run.out, run.err);
        assert!(run.out.contains(&format!("\nnote: gone: {told}")), "{}", run.out);
    }

    let args = with(&with(&["compare", &here, &gone, "--rounds", "2"], &load), &GENTLE);
    let run = ran(&args);
    assert!(run.code == 1 && run.out.contains(&format!("\n! gone #1: {told}")), "{} {}", run.code, run.out);
    assert!(run.out.contains("\nkeys read that were not there: 0.0 % at here, 100.0 % at gone\n"), "{}", run.out);
    assert!(run.out.contains("; of the keys read 0.0 % were not there at here, 100.0 % at gone"), "{}", run.out);
    let (_, report) = json(&args);
    assert_eq!(report["comparison"]["versus"][0]["missed"], serde_json::json!([0.0, 1.0]));
}

#[test]
fn values_of_a_length_nobody_wrote_are_told() {
    // It takes every key and answers with two bytes.
    let server = target("a", Behaviour::Answer);
    let args = ["load", &server, "--mix", "get", "--keys", "100", "--warmup", "0", "-n", "200"];
    let fine = ran(&with(&with(&args, &["--value-size", "2"]), &GENTLE));
    assert_eq!(fine.code, 0, "{} {}", fine.out, fine.err);
    let run = ran(&with(&with(&args, &["--value-size", "3"]), &GENTLE));
    assert_eq!(run.code, 1, "{} {}", run.out, run.err);
    let told =
        "! a: 200 values were not as long as any that had been written, the first: get answered \"$2\\r\\nOK\\r\\n\"";
    assert!(run.out.contains(told), "{}", run.out);
    // Preloading looks at its replies too.
    let server = target("a", Behaviour::Mistypes);
    let run = ran(&with(&["load", &server, "--keys", "100", "-n", "1"], &GENTLE));
    assert!(run.code == 1 && run.err.contains("cannot preload the keys") && run.err.contains("*0"), "{}", run.err);
}

#[test]
fn what_was_verified_adds_up() {
    let server = target("a", Behaviour::WrongValue);
    let args = ["load", &server, "--verify", "--mix", "get", "--keys", "10", "--warmup", "0", "-n", "100"];
    let run = ran(&with(&args, &GENTLE));
    assert!(run.out.contains("100 replies were compared with what had been written, 100 differed"), "{}", run.out);
    // Nothing is known of keys that are there already.
    let run = ran(&with(&with(&args, &["--no-preload"]), &GENTLE));
    assert!(run.code == 1 && run.out.contains("! a: no reply could be compared"), "{} {}", run.code, run.out);
    let server = target("a", Behaviour::Refuse);
    let run = ran(&with(&["load", &server, "--no-preload", "--warmup", "0", "-n", "100"], &GENTLE));
    assert!(run.out.contains("! a: no request that counts was answered as it should be"), "{}", run.out);
}

#[test]
fn a_condition_that_is_met_counts_more_than_other_problems() {
    let (quick, slow) =
        (target("quick", Behaviour::Answer), target("slow", Behaviour::Slow(Duration::from_millis(20))));
    // One request at a time on one connection: the slow server cannot keep up, which is a problem.
    let load = ["--rate", "200", "--window", "1", "--drain", "0", "--warmup", "0", "-d", "0.3", "--no-preload"];
    let args = with(&with(&["compare", &quick, &slow, "--rounds", "5"], &load), &GENTLE);
    let (code, report) = json(&with(&args, &["--fail-if", "p50 > 2x"]));
    assert_eq!(code, 3, "{report}");
    assert!(report["results"].to_string().contains("could not keep up"), "{report}");
    assert_eq!(report["comparison"]["failed"].as_array().unwrap().len(), 1);
    // Without a condition the problem is what remains.
    let ran = ran(&args);
    assert!(ran.code == 1 && ran.out.contains("\n! slow #1: server could not keep up"), "{} {}", ran.code, ran.out);
}

#[test]
fn a_condition_nothing_is_known_of_has_a_status_of_its_own() {
    let (one, two) = (target("one", Behaviour::Answer), target("two", Behaviour::Answer));
    let args = ["compare", &one, &two, "--rounds", "5", "--warmup", "0", "-d", "0.1", "--no-preload"];
    // These servers do not tell their CPU.
    let ran = ran(&with(&with(&args, &GENTLE), &["--fail-if", "server-cpu > 100x"]));
    assert_eq!(ran.code, 4, "{} {}", ran.out, ran.err);
    assert!(ran.out.contains("! fail-if server-cpu > 100x could not be decided for two"), "{}", ran.out);
}

#[test]
fn targets_are_looked_at_before_the_first_is_measured() {
    let (addr, seen) = counting_server(Behaviour::Answer);
    let there = format!("there=tcp://{addr}");
    for (command, more) in [("compare", &["--rounds", "5"][..]), ("load", &[]), ("sweep", &["--rates", "100"])] {
        let ran = ran(&with(&[command, &there, "gone=tcp://127.0.0.1:1", "-d", "0.2", "--no-preload"], more));
        assert_eq!(ran.code, 1, "{command}");
        assert!(ran.err.contains("gone cannot be measured: cannot connect to tcp://127.0.0.1:1"), "{}", ran.err);
    }
    assert!(seen.load(Ordering::Relaxed) <= 3, "more than PING was sent");
}

#[test]
fn a_rate_beyond_reach_is_what_a_sweep_looks_for() {
    let server = target("slow", Behaviour::Slow(Duration::from_millis(5)));
    let args = ["sweep", &server, "--rates", "20,2k", "--warmup", "0", "-d", "0.5", "--drain", "0.1", "--no-preload"];
    let run = ran(&with(&args, &GENTLE));
    assert_eq!(run.code, 0, "{} {}", run.out, run.err);
    assert!(
        run.out.contains("NO") && run.out.contains("note: slow at 2000/s: server could not keep up"),
        "{}",
        run.out
    );
    assert!(!run.out.contains("\n! "), "a status of 0 with a problem: {}", run.out);
    let (_, report) = json(&with(&args, &GENTLE));
    let steps = report["sweeps"][0]["steps"].as_array().unwrap();
    assert_eq!((steps[0]["reached"].as_bool(), steps[1]["reached"].as_bool()), (Some(true), Some(false)));
    assert_eq!(steps[1]["blame"], "server");
    let (achieved, due) = (steps[1]["rate_achieved"].as_f64().unwrap(), steps[1]["rate_due"].as_f64().unwrap());
    assert!(achieved < due && achieved < 2000.0, "{report}");
    // Error replies are not what it looks for.
    let server = target("bad", Behaviour::Refuse);
    let run = ran(&with(&["sweep", &server, "--rates", "50", "--warmup", "0", "-d", "0.2", "--no-preload"], &GENTLE));
    assert!(run.code == 1 && run.out.contains("! bad at 50/s: "), "{} {}", run.code, run.out);
}

#[test]
fn an_event_that_did_not_take_place_is_a_problem() {
    let directory = tempfile::tempdir().unwrap();
    let run = |expect: &str| {
        let file = directory.path().join("x.toml");
        let text = format!(
            "name='x'\nabout='Nothing.'\n[load]\nrate='200'\nwarmup=0.1\nduration=1\nevent_at=0.5\n\
             [workload]\nno_preload=true\n[event]\nkind='commands'\ncommands=['PING']\n{expect}"
        );
        std::fs::write(&file, text).unwrap();
        let server = target("a", Behaviour::Answer);
        ran(&with(&["scenario", &file.display().to_string(), "--target", &server], &GENTLE))
    };
    let fine = run("");
    assert_eq!(fine.code, 0, "{} {}", fine.out, fine.err);
    let missing = run("[expect]\nrises={evicted_keys=1}\n");
    assert_eq!(missing.code, 1, "{} {}", missing.out, missing.err);
    let told = "! a x: the event did not take place as it should: evicted_keys rose by 0";
    assert_eq!(missing.out.matches(told).count(), 1, "{}", missing.out);
    let unknown = run("[expect]\nrises={frobs=1}\n");
    assert!(unknown.code == 1 && unknown.err.contains("INFO has no frobs"), "{} {}", unknown.code, unknown.err);
}

#[test]
fn a_server_that_holds_keys_is_disturbed_only_if_it_may_be() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.toml").display().to_string();
    let text = "name='x'\nabout='Nothing.'\n[load]\nrate='200'\nwarmup=0.1\nduration=1\nevent_at=0.5\n\
                [workload]\nno_preload=true\n[event]\nkind='commands'\ncommands=['PING']\n";
    std::fs::write(&file, text).unwrap();
    let (addr, seen) = counting_server(Behaviour::Holds);
    let server = format!("full=tcp://{addr}");
    let args = with(&["scenario", &file, "--target", &server], &GENTLE);
    let refused = ran(&args);
    assert!(refused.code == 1 && refused.err.contains("full holds keys already"), "{} {}", refused.code, refused.err);
    assert!(seen.load(Ordering::Relaxed) <= 1, "more than PING was sent");
    let asked_for = ran(&with(&args, &["--yes-on-data"]));
    assert_eq!(asked_for.code, 0, "{} {}", asked_for.out, asked_for.err);
}

#[test]
fn memory_of_keys_that_are_not_held_is_a_problem() {
    // It says that it holds none also after they were written.
    let server = target("evicts", Behaviour::Evicts);
    let run = ran(&["memory", &server, "--keys", "1000", "--value-size", "8"]);
    assert_eq!(run.code, 1, "{} {}", run.out, run.err);
    assert!(run.out.contains("! evicts: of 1000 keys written (8 bytes a value) the server held 0"), "{}", run.out);
}

#[test]
fn reports_that_would_not_be_written_are_refused_before_anything_is_sent() {
    let (addr, seen) = counting_server(Behaviour::Answer);
    let server = format!("a=tcp://{addr}");
    for (more, word) in [
        (&["--json", "f", "--csv", "f"][..], "both"),
        (&["--csv", "-"], "--csv -"),
        (&["--html", "/nonexistent/x.html"], "no directory"),
        (&["--html", "/"], "directory"),
    ] {
        let ran = ran(&with(&["load", &server, "-d", "0.1"], more));
        assert!(ran.code == 2 && ran.err.contains(word), "{more:?}: {} {}", ran.code, ran.err);
    }
    assert_eq!(seen.load(Ordering::Relaxed), 0);
}

#[test]
fn a_terminal_that_takes_nothing_is_no_panic() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let server = target("a", Behaviour::Answer);
    let args = with(&["load", &server, "--warmup", "0", "-n", "10", "--no-preload"], &GENTLE);
    let status = common::bench(&args).env("TMPDIR", "/nonexistent").stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(1));
    let status = common::bench(&["load", "tcp://127.0.0.1:1", "-d", "1"]).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(1));
}
