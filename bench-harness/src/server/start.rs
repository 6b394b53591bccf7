//! Starting a server, waiting until it answers, and seeing to it that it ends: when its value is
//! dropped, and, by the kernel's hand, when this program dies without a chance to do anything.
//!
//! The kernel's hand is a setting a process must make itself before it becomes the server. So the
//! program starts itself once more ([`become_server`]), which costs no unsafe code between fork and
//! exec.

use std::ffi::OsString;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tercel_resp::reply::Value;

use super::placement::Placement;
use crate::admin::Admin;
use crate::clock::{Clock, TscClock, sleep};
use crate::run::Session;
use crate::target::Target;

/// How long a server may take to end when asked.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// Stands before the words a started program becomes a server with.
pub const BECOME: &str = "become-server";

/// A server that answers. One that was started ends with this value.
pub struct Server {
    /// Where it is.
    pub target: Target,
    child: Option<Child>,
    /// Its working directory and log; goes with it.
    directory: Option<TempDir>,
}

/// The other half of a start, in the new process: pins itself, asks the kernel to be killed with
/// its parent, and becomes the server. `words` are the parent's process id, a core or `-`, the
/// program and its arguments.
///
/// # Errors
/// The server's program cannot be run; on success it does not return.
pub fn become_server(words: &[OsString]) -> anyhow::Result<()> {
    let [parent, core, program, arguments @ ..] = words else { bail!("a server wants a command line") };
    let parent: i32 = parent.to_string_lossy().parse().context("no process id")?;
    if let Ok(id) = core.to_string_lossy().parse() {
        ensure!(core_affinity::set_for_current(core_affinity::CoreId { id }), "cannot pin to core {id}");
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("cannot be bound to its parent")?;
    // A parent that died before the line above sends nothing any more.
    let alive = rustix::process::getppid().is_some_and(|pid| pid.as_raw_nonzero().get() == parent);
    ensure!(alive, "the program that started this is gone");
    let error = Command::new(program).args(arguments).exec();
    Err(anyhow::Error::new(error).context(format!("cannot start {}", program.display())))
}

pub(super) fn start(name: &str, words: &[String], placement: &Placement, session: &Session) -> anyhow::Result<Server> {
    let directory =
        tempfile::Builder::new().prefix("tercel-bench-").tempdir().context("cannot make a directory for a server")?;
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).context("no free port")?;
    let socket = directory.path().join("socket");
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
    let mut command = if session.starts_itself {
        // The program this process runs, even if its file was replaced meanwhile. The kernel watches
        // the thread that starts a server, which must therefore be one that lives as long.
        let mut command = Command::new("/proc/self/exe");
        let core = placement.core().map_or("-".to_owned(), |core| core.to_string());
        command.arg(BECOME).arg(std::process::id().to_string()).arg(core).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.args(words[1..].iter().map(fill)).current_dir(directory.path()).stdin(Stdio::null());
    command.stdout(out.try_clone().context("cannot write a server's log")?).stderr(out);
    // An interrupt from the terminal is meant for this program, which then ends its servers in order.
    command.process_group(0);
    let spawned = command.spawn().with_context(|| format!("cannot start {:?}", words[0]))?;
    let target = placement.over.target(free, &socket, placement.rdma_addr);
    let mut server = Server { target, child: Some(spawned), directory: Some(directory) };
    let patience = placement.start_patience();
    let clock = TscClock::new();
    let begin = clock.now_ns();
    loop {
        ensure!(!session.stopped(), "interrupted while {name} was starting");
        if let Some(status) = server.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
            // An interrupt that came meanwhile explains its end better than its status.
            ensure!(!session.stopped(), "interrupted while {name} was starting");
            bail!("{name} ended at its start with {status}:\n{}", tail(&log));
        }
        let pong = Admin::connect(&server.target, Duration::from_secs(1)).and_then(|mut admin| {
            admin.set_patience(Duration::from_secs(2));
            admin.call(&["PING"])
        });
        if matches!(pong, Ok(Value::Simple(_))) {
            return Ok(server);
        }
        if clock.now_ns() - begin > patience.as_nanos() as u64 {
            let log = tail(&log);
            let said = if log.is_empty() { "; it printed nothing".to_owned() } else { format!(":\n{log}") };
            bail!("{name} did not answer on {} within {patience:?} (--start-timeout){said}", server.target);
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
    /// One that runs already.
    pub(super) fn running(target: &Target) -> Self {
        Server { target: target.clone(), child: None, directory: None }
    }

    /// The process, if it was started here.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let group = Pid::from_raw(child.id().cast_signed());
        // A command line may be a shell with the server below it; both are in the group. Signals fail
        // only for processes that are gone, which `try_wait` finds.
        let tell = |signal| group.map(|group| rustix::process::kill_process_group(group, signal));
        tell(Signal::TERM);
        let clock = TscClock::new();
        let begin = clock.now_ns();
        while clock.now_ns() - begin < STOP_PATIENCE.as_nanos() as u64 {
            if !matches!(child.try_wait(), Ok(None)) {
                self.directory.take();
                return;
            }
            sleep(Duration::from_millis(10));
        }
        tell(Signal::KILL);
        let _ = child.wait();
        self.directory.take();
    }
}
