//! A server of its own for each test, on a free port, ended when the test is over.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::disallowed_methods)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tercel_transport::conformance::left_out;
use tercel_transport_tcp::{Backend, TcpOptions, TcpTransport};

pub struct Server {
    child: Child,
    pub port: u16,
}

/// The server under test: the one `TERCEL_SERVER` names (scripts/test sets the release build), else
/// the one built along with the test.
pub fn program() -> String {
    std::env::var("TERCEL_SERVER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_tercel-server").to_owned())
}

/// Whether a server answers, and not that it still loads: then it is past everything it does at start.
pub fn answers(port: u16) -> bool {
    let answer = || -> std::io::Result<usize> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"PING\r\n")?;
        let mut reply = [0; 8];
        let len = stream.read(&mut reply)?;
        Ok(usize::from(len > 0 && reply != *b"-LOADING"))
    };
    answer().is_ok_and(|answered| answered > 0)
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    pub fn start(options: &[&str]) -> Server {
        Server::start_with(options, |_| {})
    }

    /// Starts a server whose process is prepared by `prepare`: its environment, its standard output.
    pub fn start_with(options: &[&str], prepare: impl FnOnce(&mut Command)) -> Server {
        let port = free_port();
        let mut command = Command::new(program());
        command
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--enable-debug-command",
                "yes",
                "--loglevel",
                "warning",
                "--save",
                "",
            ])
            .args(options)
            .stdout(Stdio::null());
        prepare(&mut command);
        Server::wait_for(command.spawn().unwrap(), port)
    }

    /// Starts a server with a configuration file, which has to say what port.
    pub fn start_file(file: &str, port: u16) -> Server {
        let child = Command::new(program()).arg(file).stdout(Stdio::null()).spawn().unwrap();
        Server::wait_for(child, port)
    }

    /// Starts a server with a configuration file and options over it, on a port of its own.
    pub fn start_config(file: &str, options: &[&str]) -> Server {
        let port = free_port();
        let mut command = Command::new(program());
        command.args([file, "--port", &port.to_string(), "--bind", "127.0.0.1"]).args(options).stdout(Stdio::null());
        Server::wait_for(command.spawn().unwrap(), port)
    }

    fn wait_for(child: Child, port: u16) -> Server {
        let mut server = Server { child, port };
        let begin = Instant::now();
        while !answers(port) {
            assert!(server.child.try_wait().unwrap().is_none(), "the server ended at start");
            assert!(begin.elapsed() < Duration::from_secs(20), "the server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    pub fn connect(&self) -> Raw {
        Raw::connect(self.port)
    }

    pub fn url(&self, resp3: bool) -> String {
        format!("redis://127.0.0.1:{}/{}", self.port, if resp3 { "?protocol=resp3" } else { "" })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> usize {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    /// The most that was ever resident, in bytes.
    pub fn resident_max(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    pub fn terminate(self) -> std::process::ExitStatus {
        self.signal("-TERM")
    }

    pub fn signal(self, signal: &str) -> std::process::ExitStatus {
        let _ = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        self.ended()
    }

    /// Waits for the server to end by itself.
    pub fn ended(mut self) -> std::process::ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < Duration::from_secs(10), "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection that speaks bytes.
pub struct Raw {
    pub stream: TcpStream,
    pub buffer: Vec<u8>,
}

impl Raw {
    pub fn connect(port: u16) -> Raw {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Raw { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Reads until the buffer holds a whole reply and returns its bytes.
    pub fn reply(&mut self) -> Vec<u8> {
        loop {
            if let Some(len) = tercel_resp::reply::skip(&self.buffer).unwrap() {
                return self.buffer.drain(..len).collect();
            }
            let mut chunk = [0; 65536];
            let len = self.stream.read(&mut chunk).unwrap();
            let shown = &self.buffer[..self.buffer.len().min(200)];
            assert!(len > 0, "closed with {} bytes left: {:?}", self.buffer.len(), String::from_utf8_lossy(shown));
            self.buffer.extend_from_slice(&chunk[..len]);
        }
    }

    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.reply()).into_owned()
    }

    pub fn call(&mut self, words: &[&str]) -> String {
        let mut request = Vec::new();
        tercel_resp::encode::request(&mut request, words);
        self.send(&request);
        self.text()
    }

    /// Everything until the server closes.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.buffer);
        let _ = self.stream.read_to_end(&mut rest);
        rest
    }
}

/// Waits for something that happens in its own time; fails when it does not happen at all.
pub fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !happened() {
        assert!(begin.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A command as its bytes on the wire.
pub fn request(words: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    tercel_resp::encode::request(&mut bytes, words);
    bytes
}

impl Raw {
    /// A field of INFO.
    pub fn info(&mut self, field: &str) -> String {
        let text = self.call(&["INFO", "everything"]);
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("INFO has no {field}")).trim().to_owned()
    }

    pub fn info_number(&mut self, field: &str) -> i64 {
        self.info(field).parse().unwrap()
    }

    /// Whether the server has closed; what it sent before is dropped.
    pub fn is_closed(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let mut chunk = [0; 65536];
        let closed = loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break false,
                Err(_) => break true,
            }
        };
        self.stream.set_nonblocking(false).unwrap();
        closed
    }

    /// Sends as much as the connection takes without waiting; true if that was all.
    pub fn send_some(&mut self, bytes: &[u8]) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let mut left = bytes;
        while !left.is_empty() {
            match self.stream.write(left) {
                Ok(len) => left = &left[len..],
                Err(_) => break,
            }
        }
        self.stream.set_nonblocking(false).unwrap();
        left.is_empty()
    }
}

/// A directory of its own, removed at the end.
pub struct TempDir(pub std::path::PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tercel-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Starts a server that is expected not to start: its exit status and what it said.
pub fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let mut child =
        Command::new(program()).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > Duration::from_secs(20) {
            let _ = child.kill();
            panic!("the server started with {arguments:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// What a server can be told to use here; without io_uring nothing beside epoll. Not `auto`, with which
/// a server that gets no ring would be tested over epoll without a word.
pub fn backends() -> Vec<&'static str> {
    // In a thread of its own: the end of a ring interrupts calls of the thread that made it.
    let looked = std::thread::spawn(|| {
        let options = TcpOptions { backend: Backend::IoUring, ..TcpOptions::default() };
        TcpTransport::new(options).map(drop).map_err(|error| error.to_string())
    });
    match looked.join().unwrap() {
        Ok(()) => vec!["io_uring", "epoll"],
        Err(error) => {
            left_out("io_uring", error);
            vec!["epoll"]
        }
    }
}
