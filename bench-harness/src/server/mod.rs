//! Servers as a user names them: an address, or a command line to start one with, pinned, for as
//! long as it is measured ([`start`]). Nothing is started before [`Contender::up`].

pub mod placement;
pub mod start;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::admin::Admin;
use crate::cores::usable;
use crate::run::Session;
use crate::target::{Over, Target};
use crate::workload::template::split;
pub use placement::Placement;
pub use start::Server;

impl Placement {
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
