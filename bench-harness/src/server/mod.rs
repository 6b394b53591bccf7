//! Servers as a user names them: an address, or a command line to start one with, pinned, for as
//! long as it is measured.

use std::fmt;
use std::fs::File;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use tercel_resp::reply::Value;

use crate::admin::Admin;
use crate::clock::{Clock, TscClock, sleep};
use crate::target::Target;
use crate::workload::template::split;

/// How long a server may take to answer after its start.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to end when asked.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Over what a started server is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Over {
    /// Loopback TCP.
    #[default]
    Tcp,
    /// A unix socket.
    Unix,
}

/// `[NAME=]URL` or `[NAME=]exec:COMMAND`, with `{port}` and `{socket}` to be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contender {
    /// What reports call it.
    pub name: String,
    /// Where it is or how it is started.
    pub endpoint: Endpoint,
}

/// Where a server is or how it is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// It runs already.
    Running(Target),
    /// Words of a command line.
    Start(Vec<String>),
}

impl FromStr for Contender {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let is_name =
            |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+ ".contains(c));
        let (name, rest) = match text.split_once('=') {
            Some((name, rest)) if is_name(name) => (Some(name.to_owned()), rest),
            _ => (None, text),
        };
        if let Some(command) = rest.strip_prefix("exec:") {
            let words = split(command.as_bytes()).with_context(|| format!("the command line {command:?}"))?;
            let words: Vec<String> = words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            ensure!(!words.is_empty(), "exec: wants a command line: exec:redis-server --port {{port}}");
            ensure!(
                words.iter().any(|word| word.contains("{port}") || word.contains("{socket}")),
                "the command line {command:?} names neither {{port}} nor {{socket}}, so there is no telling where it will listen"
            );
            let own = words[0].rsplit('/').next().unwrap_or_default().to_owned();
            return Ok(Contender { name: name.unwrap_or(own), endpoint: Endpoint::Start(words) });
        }
        Ok(Contender { name: name.unwrap_or_else(|| rest.to_owned()), endpoint: Endpoint::Running(rest.parse()?) })
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Running(target) => write!(f, "{}={target}", self.name),
            Endpoint::Start(words) => write!(f, "{}=exec:{}", self.name, words.join(" ")),
        }
    }
}

/// A server that answers. One that was started ends with this value.
pub struct Server {
    /// Where it is.
    pub target: Target,
    child: Option<Child>,
    /// Its working directory and log; goes with it.
    directory: Option<TempDir>,
}

impl Contender {
    /// Makes sure that it answers, starting it on `core` if it is to be started.
    ///
    /// # Errors
    /// It cannot be reached or started, or does not answer in time; with the end of its log.
    pub fn up(&self, over: Over, core: Option<usize>) -> anyhow::Result<Server> {
        match &self.endpoint {
            Endpoint::Running(target) => {
                let mut admin = Admin::connect(target, Duration::from_secs(5))?;
                admin.set_patience(Duration::from_secs(10));
                admin.call(&["PING"])?;
                Ok(Server { target: target.clone(), child: None, directory: None })
            }
            Endpoint::Start(words) => start(&self.name, words, over, core),
        }
    }
}

fn start(name: &str, words: &[String], over: Over, core: Option<usize>) -> anyhow::Result<Server> {
    let wanted = if over == Over::Tcp { "{port}" } else { "{socket}" };
    ensure!(words.iter().any(|word| word.contains(wanted)), "the command line of {name} does not name {wanted}");
    let directory =
        tempfile::Builder::new().prefix("tercel-bench-").tempdir().context("cannot make a directory for a server")?;
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).context("no free port")?;
    let socket = directory.path().join("socket");
    let target = if over == Over::Tcp { Target::tcp(free) } else { Target::unix(&socket) };
    let fill = |word: &String| {
        word.replace("{port}", &free.port().to_string()).replace("{socket}", &socket.display().to_string())
    };
    let log = directory.path().join("log");
    let out = File::create(&log).context("cannot write a server's log")?;
    // A path with a slash is meant from here; the server gets a directory of its own, where a
    // snapshot it writes does no harm.
    let program = if words[0].contains('/') {
        std::fs::canonicalize(&words[0]).with_context(|| format!("cannot find {}", words[0]))?
    } else {
        words[0].clone().into()
    };
    let mut command = Command::new(program);
    command.args(words[1..].iter().map(fill)).current_dir(directory.path()).stdin(Stdio::null());
    command.stdout(out.try_clone().context("cannot write a server's log")?).stderr(out);
    // A child keeps the processors of the thread that makes it.
    let spawned = std::thread::scope(|scope| {
        let spawn = scope.spawn(|| {
            if let Some(id) = core {
                ensure!(core_affinity::set_for_current(core_affinity::CoreId { id }), "cannot pin {name} to core {id}");
            }
            command.spawn().with_context(|| format!("cannot start {:?}", words[0]))
        });
        spawn.join().unwrap_or_else(|_| bail!("cannot start {:?}", words[0]))
    })?;
    let mut server = Server { target, child: Some(spawned), directory: Some(directory) };
    let clock = TscClock::new();
    let begin = clock.now_ns();
    loop {
        if let Some(status) = server.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
            bail!("{name} ended at its start with {status}:\n{}", tail(&log));
        }
        let pong = Admin::connect(&server.target, Duration::from_secs(1)).and_then(|mut admin| {
            admin.set_patience(Duration::from_secs(2));
            admin.call(&["PING"])
        });
        if matches!(pong, Ok(Value::Simple(_))) {
            return Ok(server);
        }
        if clock.now_ns() - begin > START_PATIENCE.as_nanos() as u64 {
            bail!("{name} did not answer on {} within {START_PATIENCE:?}:\n{}", server.target, tail(&log));
        }
        sleep(Duration::from_millis(20));
    }
}

fn tail(log: &std::path::Path) -> String {
    const LINES: usize = 15;
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

impl Server {
    /// The process, if it was started here.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if let Some(pid) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
            // Fails only for a process that is gone, which `try_wait` finds.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let clock = TscClock::new();
        let begin = clock.now_ns();
        while clock.now_ns() - begin < STOP_PATIENCE.as_nanos() as u64 {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
        self.directory.take();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn contenders_parse_or_say_why_not() {
        let parse = |text: &str| text.parse::<Contender>();
        let started = parse("new=exec:redis-server --port {port} --save ''").unwrap();
        assert_eq!(started.name, "new");
        let Endpoint::Start(words) = started.endpoint else { panic!() };
        assert_eq!(words, ["redis-server", "--port", "{port}", "--save", ""]);
        assert_eq!(parse("exec:/a/b/srv --port={port}").unwrap().name, "srv");
        assert_eq!(parse("x=tcp://127.0.0.1:1").unwrap().name, "x");
        assert_eq!(parse("tcp://127.0.0.1:1").unwrap().name, "tcp://127.0.0.1:1");
        for (bad, word) in [
            ("a=exec:", "wants a command"),
            ("exec:redis-server", "{port}"),
            ("a=b", "no target"),
            ("exec:a '{port}", "quote"),
        ] {
            let error = format!("{:#}", parse(bad).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_server_that_does_not_start_shows_its_log() {
        let up = |text: &str| format!("{:#}", text.parse::<Contender>().unwrap().up(Over::Tcp, None).err().unwrap());
        let error = up("x=exec:sh -c 'echo went wrong with {port}; exit 3'");
        assert!(error.contains("went wrong with") && error.contains('3'), "{error}");
        assert!(up("x=exec:/nonexistent/server {port}").contains("cannot find"));
        assert!(up("x=exec:no-such-server-anywhere {port}").contains("cannot start"));
        assert!(up("x=exec:sh {socket}").contains("{port}"));
        assert!(up("tcp://127.0.0.1:1").contains("cannot connect"));
    }
}
