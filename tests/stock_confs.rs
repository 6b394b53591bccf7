//! The configuration files that Redis and Valkey ship start this server, as their packages start theirs.
//! `stock-confs/` holds their directives, one file a release line.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;
use common::{Server, TempDir, refused, until};

fn files() -> Vec<(String, String)> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stock-confs");
    let mut files: Vec<(String, String)> = std::fs::read_dir(directory)
        .unwrap()
        .map(|file| {
            let path = file.unwrap().path();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), path.to_str().unwrap().to_owned())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_stock_file_starts_the_server() {
    let files = files();
    assert!(files.len() >= 20, "{files:?}");
    for (name, path) in files {
        let dir = TempDir::new();
        let (socket, config) = (dir.file("sock"), dir.file("server.conf"));
        std::fs::copy(&path, &config).unwrap();
        // What Debian's units say, and what a place of one's own needs. Its pidfile stays: there is no such
        // directory, and that is no reason not to start.
        let server = Server::start_config(
            &config,
            &[
                "--supervised",
                "systemd",
                "--daemonize",
                "no",
                "--dir",
                dir.0.to_str().unwrap(),
                "--logfile",
                "",
                "--unixsocket",
                &socket,
            ],
        );
        let mut client = server.connect();
        assert_eq!(client.call(&["SET", "k", "v"]), "+OK\r\n", "{name}");
        // The file can be rewritten and read again.
        assert_eq!(client.call(&["CONFIG", "REWRITE"]), "+OK\r\n", "{name}");
        assert!(client.call(&["CONFIG", "GET", "dynamic-hz"]).starts_with("*0"), "{name}");
        let _ = server.terminate();
        let server = Server::start_config(&config, &["--daemonize", "no"]);
        assert_eq!(server.connect().call(&["GET", "k"]), "$1\r\nv\r\n", "{name}: rewritten");
    }
}

#[test]
fn what_is_asked_for_and_not_there_is_said_once() {
    let path = files().into_iter().find(|(name, _)| name == "debian-redis-7.0.conf").unwrap().1;
    let dir = TempDir::new();
    let (status, said) = refused(&[&path, "--dir", dir.0.to_str().unwrap(), "--logfile", ""]);
    assert_eq!(status, Some(1));
    assert_eq!(said.matches("not supported by this version").count(), 1, "{said}");
    assert!(said.contains("daemonize yes"), "{said}");
    // A reason that shows later, once the log is there.
    let server = Server::start(&[]);
    let port = server.port.to_string();
    let (status, said) = refused(&["--port", &port, "--bind", "127.0.0.1"]);
    assert_eq!(status, Some(1));
    assert_eq!(said.matches("in use").count(), 1, "{said}");
    // And where the log is a file, whoever started it is told all the same.
    let log = dir.file("log");
    let (status, said) = refused(&["--port", &port, "--bind", "127.0.0.1", "--logfile", &log]);
    assert_eq!((status, said.matches("in use").count()), (Some(1), 1), "{said}");
    assert_eq!(std::fs::read_to_string(&log).unwrap().matches("in use").count(), 1);
}

#[test]
fn a_pidfile_that_cannot_be_written_is_a_warning() {
    let dir = TempDir::new();
    let log = dir.file("log");
    let server = Server::start(&["--pidfile", "/nonexistent/dir/pid", "--logfile", &log]);
    assert_eq!(server.connect().call(&["PING"]), "+PONG\r\n");
    // The log is written by a thread of its own.
    until("the warning", || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.contains("Failed to write PID file: No such file or directory")
    });
}
