//! What a command costs in instructions, over the in-memory transport and with nothing of a kernel in it.
//! Run it under callgrind with two counts, and divide the difference (docs/benchmarks.md):
//!
//!   valgrind --tool=callgrind --callgrind-out-file=/dev/null \
//!       target/release/examples/instructions get 20000
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tercel::executor::Executor;
use tercel_core::server::Server;
use tercel_core::settings::Settings;
use tercel_transport::memory::MemoryTransport;

/// Commands a client sends at once.
const PIPELINE: usize = 16;
const KEYS: usize = 1000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [command, count] = &arguments[..] else {
        eprintln!("usage: instructions get|set|lpush|rpush|lpop|rpop|hset|hget COUNT");
        return;
    };
    let count: usize = count.parse().unwrap();
    let mut settings = Settings::default().with_changes(&[("save", "")]).unwrap();
    settings.hash_seed = "the same each time".to_owned();
    let transport = MemoryTransport::new();
    let net = transport.net();
    let server = Server::new(&tercel_commands::commands().table, settings, tercel::start::host::machine(), ".".into());
    let stop = Arc::new(AtomicUsize::new(0));
    let mut executor = Executor::new(transport, tercel_commands::commands(), server, stop);
    let client = net.connect();
    let mut call = |commands: &[u8]| {
        client.write(commands);
        while executor.turn() {}
        client.read_available().len()
    };
    let request = |words: &[&str]| {
        let mut bytes = Vec::new();
        tercel_resp::encode::request(&mut bytes, words);
        bytes
    };
    for key in 0..KEYS {
        call(&request(&["SET", &format!("key:{key}"), &"v".repeat(64)]));
    }
    for field in 0..10 {
        call(&request(&["HSET", "ten", &format!("field:{field}"), "0123456789abcdef"]));
    }
    if command.ends_with("pop") {
        // As many as will be taken, whatever the count, so that what two counts differ by is taking alone.
        for _ in 0..500 {
            call(&request(&[&["RPUSH", "list"][..], &["xxx"; 300]].concat()));
        }
    }
    let batches: Vec<Vec<u8>> = (0..KEYS / PIPELINE)
        .map(|batch| {
            (batch * PIPELINE..(batch + 1) * PIPELINE)
                .flat_map(|key| match command.as_str() {
                    "get" => request(&["GET", &format!("key:{key}")]),
                    "lpush" => request(&["LPUSH", "list", "xxx"]),
                    "rpush" => request(&["RPUSH", "list", "xxx"]),
                    "lpop" => request(&["LPOP", "list"]),
                    "rpop" => request(&["RPOP", "list"]),
                    "hset" => request(&["HSET", "ten", &format!("field:{}", key % 10), "xxx"]),
                    "hget" => request(&["HGET", "ten", &format!("field:{}", key % 10)]),
                    _ => request(&["SET", &format!("key:{key}"), &"w".repeat(64)]),
                })
                .collect()
        })
        .collect();
    let mut bytes = 0;
    for batch in 0..count / PIPELINE {
        bytes += call(&batches[batch % batches.len()]);
    }
    println!("{count} commands, {bytes} bytes of replies");
}
