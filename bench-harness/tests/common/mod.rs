//! A tiny RESP server in this process with a behaviour to order, and the program under test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::disallowed_methods)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tercel_resp::reply::Scanner;

/// What the server does with requests that are not questions to it (INFO, LATENCY).
#[derive(Clone, Copy, Debug)]
pub enum Behaviour {
    /// `+OK`, or what else the command gets.
    Answer,
    /// `+OK` after so long.
    Slow(Duration),
    /// `+OK`, but nothing for 100 ms in each second.
    Stall,
    /// Closes after so many requests.
    CloseAfter(u64),
    /// What is no reply after so many requests.
    GarbageAfter(u64),
    /// `$5 wrong` for every GET.
    WrongValue,
    /// As the first, but it has none of the keys.
    Misses,
    /// As the first, and INFO tells its memory; it keeps nothing.
    Evicts,
    /// An empty array for everything.
    Mistypes,
    /// As the first, and says that it holds keys.
    Holds,
    /// An error for everything.
    Refuse,
    /// Nothing at all after so many requests, with the connections open.
    HangAfter(u64),
}

/// Starts the server; it lives as long as the test's process.
pub fn fake_server(behaviour: Behaviour) -> SocketAddr {
    counting_server(behaviour).0
}

/// The same, and how many requests it has seen.
pub fn counting_server(behaviour: Behaviour) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (begin, seen) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let counter = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = seen.clone();
            std::thread::spawn(move || serve(stream, behaviour, begin, &seen));
        }
    });
    (addr, counter)
}

/// What it answers to INFO.
const INFO: &str = "evicted_keys:7\r\nused_memory:1000\r\nused_memory_rss:2000\r\n";

fn serve(mut stream: TcpStream, behaviour: Behaviour, begin: Instant, seen: &AtomicU64) {
    stream.set_nodelay(true).unwrap();
    let (mut held, mut chunk, mut scanner) = (Vec::new(), vec![0; 65536], Scanner::default());
    while let Ok(len @ 1..) = stream.read(&mut chunk) {
        held.extend_from_slice(&chunk[..len]);
        let (mut used, mut out) = (0, Vec::new());
        while let Ok(Some(scanned)) = scanner.next(&held[used..]) {
            let request = &held[used..used + scanned.len];
            used += scanned.len;
            let name = request.split(|byte| *byte == b'\n').nth(2).unwrap_or_default().trim_ascii();
            if name == b"INFO" || name == b"LATENCY" {
                let info = format!("${}\r\n{INFO}\r\n", INFO.len());
                out.extend_from_slice(if name == b"INFO" { info.as_bytes() } else { b"*0\r\n" });
                continue;
            }
            if name == b"DBSIZE" {
                out.extend_from_slice(
                    format!(":{}\r\n", if matches!(behaviour, Behaviour::Holds) { 9 } else { 0 }).as_bytes(),
                );
                continue;
            }
            let number = seen.fetch_add(1, Ordering::Relaxed);
            match behaviour {
                Behaviour::Answer | Behaviour::Holds | Behaviour::Evicts => {}
                Behaviour::Slow(time) => std::thread::sleep(time),
                Behaviour::Stall => {
                    let within = Duration::from_nanos((begin.elapsed().as_nanos() % 1_000_000_000) as u64);
                    std::thread::sleep(Duration::from_millis(100).saturating_sub(within));
                }
                Behaviour::CloseAfter(count) if number >= count => return,
                Behaviour::GarbageAfter(count) if number >= count => {
                    out.extend_from_slice(b"this is no reply\r\n");
                    continue;
                }
                Behaviour::HangAfter(count) if number >= count => continue,
                Behaviour::WrongValue if name == b"GET" => {
                    out.extend_from_slice(b"$5\r\nwrong\r\n");
                    continue;
                }
                Behaviour::Refuse => {
                    out.extend_from_slice(b"-ERR not today\r\n");
                    continue;
                }
                _ => {}
            }
            out.extend_from_slice(match (name, behaviour) {
                (_, Behaviour::Mistypes) => b"*0\r\n",
                (b"GET", Behaviour::Misses) => b"$-1\r\n",
                (b"GET", _) => b"$2\r\nOK\r\n",
                (b"DEL" | b"UNLINK" | b"INCR", _) => b":1\r\n",
                _ => b"+OK\r\n".as_slice(),
            });
        }
        held.drain(..used);
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}

/// The program with these arguments.
pub fn bench(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tercel-bench"));
    command.args(args).stdin(Stdio::null());
    command
}

/// What a run printed, and its status.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// The processes a process has started.
pub fn children(pid: u32) -> Vec<u32> {
    let read = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    read.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Waits for what must come about; how long does not matter as long as it does.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} did not come about");
}

/// Runs the program.
pub fn ran(args: &[&str]) -> Ran {
    finish(bench(args).output().unwrap())
}

pub fn finish(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs it for JSON; panics with everything printed if there is none.
pub fn json(args: &[&str]) -> (i32, serde_json::Value) {
    let mut all = args.to_vec();
    all.extend(["--json", "-"]);
    let ran = ran(&all);
    let value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {} {}", ran.out, ran.err));
    (ran.code, value)
}

/// A real server to measure, as a target: `TERCEL_SERVER`, or the workspace's own beside this test.
/// Panics if there is none: a test that measured nothing has not passed.
pub fn real_server() -> String {
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_tercel-bench")).with_file_name("tercel-server");
    let path = std::env::var_os("TERCEL_SERVER").map_or(beside, PathBuf::from);
    assert!(path.exists(), "there is no {}: build tercel-server, or set TERCEL_SERVER", path.display());
    format!("tercel=exec:{} --port {{port}} --bind 127.0.0.1 --unixsocket {{socket}}", path.display())
}
