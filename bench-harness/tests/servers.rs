//! Servers the program starts: that they end with it, whatever it ends by, and what is said of those
//! that do not come up.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::process::Stdio;

use common::{bench, children, eventually, finish, ran};
use rustix::process::{Pid, Signal, kill_process};

/// The program's own server without a store, started as any other.
fn started() -> String {
    format!("null=exec:{} null-server tcp://127.0.0.1:{{port}}", env!("CARGO_BIN_EXE_tercel-bench"))
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

/// Whether a process runs; one that nobody has waited for yet does not.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).is_some_and(|state| !"ZX".contains(state))
}

/// What a test that fails leaves behind is ended.
struct Remains(u32);

impl Drop for Remains {
    fn drop(&mut self) {
        if runs(self.0) {
            signal(self.0, Signal::KILL);
        }
    }
}

#[test]
fn a_server_dies_with_a_program_that_is_killed() {
    let server = started();
    let args = ["load", &server, "-d", "600", "--warmup", "0", "--wait", "block", "--no-preload"];
    let mut child = bench(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // It is the server's once it has become that: before, a kill would prove nothing of it.
    let server = eventually("a server", || {
        let is_server = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0);
            words.nth(1) == Some(b"null-server")
        };
        children(child.id()).into_iter().find(is_server)
    });
    assert!(runs(server));
    signal(child.id(), Signal::KILL);
    child.wait().unwrap();
    let _none_left = Remains(server);
    eventually("the end of the server", || (!runs(server)).then_some(()));
}

#[test]
fn a_server_is_measured_and_ends_in_order() {
    let server = started();
    let ran = ran(&["load", &server, "-n", "100", "--warmup", "0", "--wait", "block", "--no-preload"]);
    assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
}

#[test]
fn waiting_for_a_server_ends_with_an_interrupt_and_says_so() {
    let args = ["load", "sleepy=exec:sleep 600{port}", "-d", "1"];
    for by in [Signal::INT, Signal::TERM] {
        let child = bench(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let server = eventually("a server that starts", || children(child.id()).first().copied());
        signal(child.id(), by);
        let ran = finish(child.wait_with_output().unwrap());
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains("interrupted while sleepy was starting"), "{}", ran.err);
        assert!(!ran.err.contains("did not answer"), "{}", ran.err);
        eventually("the end of the server", || (!runs(server)).then_some(()));
    }
}

#[test]
fn a_server_that_does_not_come_up_is_told_with_its_log() {
    let run = |text: &str| ran(&["load", text, "-d", "1", "--start-timeout", "0.3"]);
    let silent = run("x=exec:sleep 600{port}");
    assert_eq!(silent.code, 1);
    assert!(silent.err.contains("did not answer") && silent.err.contains("--start-timeout"), "{}", silent.err);
    let ended = run("x=exec:sh -c 'echo no room for {port}; exit 3'");
    assert!(ended.code == 1 && ended.err.contains("no room for") && ended.err.contains("3"), "{}", ended.err);
    let absent = run("x=exec:no-such-server-anywhere {port}");
    assert!(absent.code == 1 && absent.err.contains("cannot start no-such-server-anywhere"), "{}", absent.err);
}
