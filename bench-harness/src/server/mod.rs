//! Servers as a user names them: an address, or a command line to start one with, pinned, for as
//! long as it is measured ([`start`]). Nothing is started before [`Contender::up`].

pub mod start;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::admin::Admin;
use crate::run::Session;
use crate::target::Target;
use crate::workload::template::split;
pub use start::Server;

/// Over what a started server is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Over {
    /// Loopback TCP.
    #[default]
    Tcp,
    /// A unix socket.
    Unix,
    /// RDMA, on the adapter of --rdma-addr
    Rdma,
}

impl Over {
    /// `tcp`, `unix`, `rdma`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Over::Tcp => "tcp",
            Over::Unix => "unix",
            Over::Rdma => "rdma",
        }
    }

    /// What a command line must name, so that its server can be found over this.
    #[must_use]
    pub fn placeholder(self) -> &'static str {
        match self {
            Over::Tcp | Over::Rdma => "{port}",
            Over::Unix => "{socket}",
        }
    }

    /// Where a server is that was told this port and this path, with RDMA on the adapter of an address.
    #[must_use]
    pub fn target(self, port: SocketAddr, socket: &Path, rdma_addr: Option<IpAddr>) -> Target {
        match self {
            Over::Tcp => Target::Tcp(port),
            Over::Unix => Target::Unix(socket.to_owned()),
            Over::Rdma => Target::Rdma(SocketAddr::new(rdma_addr.unwrap_or(port.ip()), port.port())),
        }
    }
}

/// Where and how servers are started.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Servers")]
pub struct Placement {
    /// Over what a server given as exec:COMMAND is spoken to
    #[arg(long, value_enum, default_value = "tcp")]
    pub over: Over,
    /// Core a server given as exec:COMMAND is pinned to [default: the first core if there are two]
    #[arg(long, value_name = "CORE")]
    pub server_core: Option<usize>,
    /// Address of an RDMA adapter of this host, for --over rdma
    #[arg(long, value_name = "ADDRESS")]
    pub rdma_addr: Option<IpAddr>,
    /// Seconds a server given as exec:COMMAND may take to answer PING after its start
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    pub start_timeout: f64,
}

impl Placement {
    /// The core servers are pinned to.
    #[must_use]
    pub fn core(&self) -> Option<usize> {
        let cores = cores();
        self.server_core.or(if cores.len() > 1 { cores.first().copied() } else { None })
    }

    /// How long a server may take to come up.
    #[must_use]
    pub fn start_patience(&self) -> Duration {
        Duration::from_secs_f64(self.start_timeout.clamp(0.0, 1e6))
    }

    /// Whether these figures, and the servers with them, make sense.
    ///
    /// # Errors
    /// A core that is not there, no time to start in, a command line that says nothing of where its
    /// server will be.
    pub fn check(&self, contenders: &[Contender]) -> anyhow::Result<()> {
        ensure!(self.start_timeout > 0.0 && self.start_timeout <= 1e6, "--start-timeout must be above 0 seconds");
        if let Some(core) = self.server_core {
            usable(core).context("--server-core")?;
        }
        ensure!(
            self.over != Over::Rdma || self.rdma_addr.is_some(),
            "--over rdma needs --rdma-addr, an address of an RDMA adapter of this host"
        );
        for contender in contenders {
            let Endpoint::Start(words) = &contender.endpoint else { continue };
            let wanted = self.over.placeholder();
            ensure!(
                words.iter().any(|word| word.contains(wanted)),
                "the command line of {} does not name {wanted}, which --over {} needs",
                contender.name,
                self.over.name()
            );
        }
        Ok(())
    }
}

/// The cores this process may use, upwards.
#[must_use]
pub fn cores() -> Vec<usize> {
    let mut cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cores.sort_unstable();
    cores
}

/// Whether something can be pinned to a core.
///
/// # Errors
/// It is not there, or not for this process.
pub fn usable(core: usize) -> anyhow::Result<()> {
    let cores = cores();
    // A system that does not tell its cores shows when something is pinned.
    ensure!(
        cores.is_empty() || cores.contains(&core),
        "there is no core {core} for this process; it may use {}",
        cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    );
    Ok(())
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
            // An equals sign may also stand in a command line or a path.
            Some((name, rest))
                if (rest.starts_with("exec:") || rest.contains("://"))
                    && !name.starts_with("exec:")
                    && !name.contains("://") =>
            {
                bail!("{name:?} is no name for a server: want ASCII letters, digits, spaces and any of -_.+")
            }
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

impl Contender {
    /// Makes sure that it answers, starting it if it is to be started.
    ///
    /// # Errors
    /// It cannot be reached or started, or does not answer in time (with the end of its log), or the
    /// user wants to stop.
    pub fn up(&self, placement: &Placement, session: &Session) -> anyhow::Result<Server> {
        match &self.endpoint {
            Endpoint::Running(target) => {
                let mut admin = Admin::connect(target, Duration::from_secs(5))?;
                admin.set_patience(Duration::from_secs(10));
                admin.call(&["PING"])?;
                Ok(Server::running(target))
            }
            Endpoint::Start(words) => start::start(&self.name, words, placement, session),
        }
    }
}

/// Makes sure that all of several servers answer, so that a wrong name does not show only after the
/// first was measured for long.
///
/// # Errors
/// As [`Contender::up`], for the first that does not.
pub fn all_answer(contenders: &[Contender], placement: &Placement, session: &Session) -> anyhow::Result<()> {
    if contenders.len() > 1 {
        for contender in contenders {
            drop(contender.up(placement, session).with_context(|| format!("{} cannot be measured", contender.name))?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn placement(over: Over) -> Placement {
        Placement { over, server_core: None, rdma_addr: None, start_timeout: 20.0 }
    }

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
            ("gr\u{f6}\u{df}er=tcp://127.0.0.1:1", "no name for a server"),
            ("a/b=exec:x {port}", "no name for a server"),
            ("=tcp://127.0.0.1:1", "no name for a server"),
        ] {
            let error = format!("{:#}", parse(bad).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn an_equals_sign_is_no_name_everywhere() {
        let started: Contender = "exec:/a/srv --port={port}".parse().unwrap();
        assert_eq!(started.name, "srv");
        assert!("unix:///run/a=b".parse::<Contender>().is_ok());
    }

    #[test]
    fn what_cannot_be_placed_is_refused() {
        let contenders = |text: &str| [text.parse::<Contender>().unwrap()];
        let refused =
            |placement: Placement, text: &str| format!("{:#}", placement.check(&contenders(text)).unwrap_err());
        assert!(placement(Over::Tcp).check(&contenders("a=exec:x {port}")).is_ok());
        assert!(refused(placement(Over::Unix), "a=exec:x {port}").contains("{socket}"));
        assert!(refused(placement(Over::Tcp), "a=exec:x {socket}").contains("{port}"));
        let far = Placement { server_core: Some(9999), ..placement(Over::Tcp) };
        assert!(refused(far, "a=exec:x {port}").contains("no core 9999"));
        let hasty = Placement { start_timeout: 0.0, ..placement(Over::Tcp) };
        assert!(refused(hasty, "a=exec:x {port}").contains("--start-timeout"));
    }

    #[test]
    fn a_server_that_does_not_start_shows_its_log() {
        let session = Session::new(false);
        let up = |text: &str, timeout: f64| {
            let placement = Placement { start_timeout: timeout, ..placement(Over::Tcp) };
            format!("{:#}", text.parse::<Contender>().unwrap().up(&placement, &session).err().unwrap())
        };
        let error = up("x=exec:sh -c 'echo went wrong with {port}; exit 3'", 20.0);
        assert!(error.contains("went wrong with") && error.contains('3'), "{error}");
        assert!(up("x=exec:/nonexistent/server {port}", 20.0).contains("cannot find"));
        assert!(up("x=exec:no-such-server-anywhere {port}", 20.0).contains("cannot start"));
        assert!(up("tcp://127.0.0.1:1", 20.0).contains("cannot connect"));
        let error = up("x=exec:sleep 60{port}", 0.2);
        assert!(error.contains("did not answer") && error.contains("--start-timeout"), "{error}");
        session.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let error = up("x=exec:sleep 60{port}", 20.0);
        assert!(error.contains("interrupted while x was starting"), "{error}");
    }
}
