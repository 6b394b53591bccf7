//! A server of its own for each test, on a free port, ended when the test is over.
#![allow(dead_code, clippy::unwrap_used, clippy::disallowed_methods)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Server {
    child: Child,
    pub port: u16,
}

/// The server under test: the one `TERCEL_SERVER` names (scripts/test sets the release build), else
/// the one built along with the test.
pub fn program() -> String {
    std::env::var("TERCEL_SERVER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_tercel-server").to_owned())
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    pub fn start(options: &[&str]) -> Server {
        let port = free_port();
        let child = Command::new(program())
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--enable-debug-command", "yes", "--loglevel", "warning"])
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Server { child, port };
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
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

    pub fn terminate(mut self) -> std::process::ExitStatus {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < Duration::from_secs(10), "SIGTERM does not end the server");
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
            assert!(len > 0, "closed with {:?} left", String::from_utf8_lossy(&self.buffer));
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
