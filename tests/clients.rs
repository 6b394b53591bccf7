//! Real clients: the `redis` crate in both protocols, redis-py, redis-cli and redis-benchmark.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;
use std::process::Command;

use common::Server;
use redis::{Commands, ConnectionLike, RedisResult};
use tercel_transport::conformance::left_out;

fn tour(url: &str) {
    let client = redis::Client::open(url).unwrap();
    let mut con = client.get_connection().unwrap();
    let _: () = con.set("name", "tercel").unwrap();
    assert_eq!(con.get::<_, String>("name").unwrap(), "tercel");
    assert_eq!(con.incr::<_, _, i64>("n", 5).unwrap(), 5);
    assert_eq!(con.get::<_, Option<String>>("missing").unwrap(), None);
    let _: () = con.mset(&[("a", 1), ("b", 2)]).unwrap();
    assert_eq!(con.mget::<_, Vec<Option<i64>>>(&["a", "b", "c"]).unwrap(), vec![Some(1), Some(2), None]);
    let _: () = con.pset_ex("soon", "v", 100_000).unwrap();
    let ttl: i64 = redis::cmd("PTTL").arg("soon").query(&mut con).unwrap();
    assert!((90_000..=100_000).contains(&ttl));
    let (x, y): (i64, i64) = redis::pipe().atomic().incr("t", 1).incr("t", 1).query(&mut con).unwrap();
    assert_eq!((x, y), (1, 2));
    let keys: Vec<String> = con.scan().unwrap().map(Result::unwrap).collect();
    assert_eq!(keys.len(), 6);
    let error: RedisResult<i64> = con.incr("name", 1);
    assert!(error.unwrap_err().to_string().contains("not an integer"));
    let info: redis::InfoDict = redis::cmd("INFO").query(&mut con).unwrap();
    assert_eq!(info.get::<String>("server_name").unwrap(), "tercel");
    assert!(con.check_connection());
}

#[test]
fn the_redis_crate_in_resp2() {
    tour(&Server::start(&[]).url(false));
}

#[test]
fn the_redis_crate_in_resp3() {
    tour(&Server::start(&["--transport-backend", "epoll"]).url(true));
}

#[test]
fn publish_and_subscribe() {
    let server = Server::start(&[]);
    let client = redis::Client::open(server.url(false)).unwrap();
    let mut listener = client.get_connection().unwrap();
    let mut pubsub = listener.as_pubsub();
    pubsub.subscribe("news").unwrap();
    pubsub.psubscribe("ne*").unwrap();
    let mut publisher = client.get_connection().unwrap();
    assert_eq!(publisher.publish::<_, _, i64>("news", "hello").unwrap(), 2);
    assert_eq!(pubsub.get_message().unwrap().get_payload::<String>().unwrap(), "hello");
    assert_eq!(pubsub.get_message().unwrap().get_channel_name(), "news");
}

#[test]
fn redis_py() {
    let Ok(python) = std::env::var("TERCEL_PYTHON") else {
        left_out("clients", "TERCEL_PYTHON is not set");
        return;
    };
    let server = Server::start(&[]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients.py");
    let output = Command::new(python).arg(script).arg(server.port.to_string()).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn tool(name: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(name).args(arguments).output() {
        Ok(output) => {
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(_) => {
            left_out("clients", format!("{name} is not installed"));
            None
        }
    }
}

#[test]
fn redis_cli() {
    let server = Server::start(&[]);
    let port = server.port.to_string();
    let cli = |words: &[&str]| tool("redis-cli", &[&["-p", &port], words].concat());
    let Some(pong) = cli(&["PING"]) else { return };
    assert_eq!(pong, "PONG\n");
    assert_eq!(cli(&["SET", "k", "v"]).unwrap(), "OK\n");
    assert_eq!(cli(&["-3", "GET", "k"]).unwrap(), "v\n");
    assert!(cli(&["--scan"]).unwrap().contains('k'));
    assert!(cli(&["COMMAND", "DOCS", "GET"]).unwrap().contains("summary"));
    assert!(cli(&["INFO"]).unwrap().contains("tercel_version"));
    assert!(cli(&["CLIENT", "LIST"]).unwrap().contains("cmd=client|list"));
}

#[test]
fn redis_benchmark() {
    for backend in ["epoll", "auto"] {
        let server = Server::start(&["--transport-backend", backend]);
        let port = server.port.to_string();
        let arguments = ["-p", &port, "-t", "ping,set,get,incr,mset", "-n", "20000", "-P", "8", "-c", "20", "--csv"];
        let Some(table) = tool("redis-benchmark", &arguments) else { return };
        assert_eq!(
            table.lines().filter(|line| line.starts_with("\"GET\"") || line.starts_with("\"SET\"")).count(),
            2,
            "{table}"
        );
    }
}
