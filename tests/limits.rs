//! Clients that take too much: too many, too large, too slow, silent. Each meets its limit, memory
//! stays bounded and comes back, and another client is served meanwhile.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;
use std::io::Read;
use std::time::Duration;

use common::{Raw, Server, backends, request, until};
use tercel_transport::conformance::left_out;

const MIB: i64 = 1 << 20;

#[test]
fn ten_thousand_idle_connections() {
    const COUNT: usize = 10_000;
    let open_files = tercel::process::sys::raise_open_files(COUNT as u64 + 500);
    if open_files < COUNT as u64 + 200 {
        left_out("open_files", format!("only {open_files} may be open"));
        return;
    }
    for backend in backends() {
        let server = Server::start(&["--transport-backend", backend, "--maxclients", "10100", "--tcp-backlog", "4096"]);
        let mut other = server.connect();
        other.call(&["PING"]);
        let (used, resident) = (other.info_number("used_memory"), server.resident());
        let mut idle: Vec<Raw> = Vec::with_capacity(COUNT);
        for _ in 0..COUNT {
            let mut client = server.connect();
            // One that has worked once holds no more than one that never did.
            if idle.len().is_multiple_of(2) {
                assert_eq!(client.call(&["SET", "k", "v"]), "+OK\r\n");
            }
            idle.push(client);
        }
        until("all connections", || other.info_number("connected_clients") == COUNT as i64 + 1);
        let per_client = (other.info_number("used_memory") - used) / COUNT as i64;
        assert!(per_client <= 4096, "{backend}: {per_client} bytes of used_memory an idle connection");
        let per_client = server.resident().saturating_sub(resident) / COUNT;
        assert!(per_client <= 4096, "{backend}: {per_client} bytes resident an idle connection");
        assert_eq!(other.call(&["GET", "k"]), "$1\r\nv\r\n");
        assert_eq!(idle[COUNT - 1].call(&["PING"]), "+PONG\r\n");
        drop(idle);
        until("all connections to go", || other.info_number("connected_clients") == 1);
        let left = other.info_number("used_memory") - used;
        assert!(left < 256 * COUNT as i64, "{backend}: {left} bytes left when the connections are gone");
    }
}

#[test]
fn a_value_of_512_mib_stalls_nobody() {
    const LEN: usize = 512 << 20;
    for backend in backends() {
        let server = Server::start(&["--transport-backend", backend]);
        let (mut client, mut other) = (server.connect(), server.connect());
        other.call(&["PING"]);
        let used = other.info_number("used_memory");
        client.send(format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${LEN}\r\n").as_bytes());
        let chunk: Vec<u8> = (0..1 << 20).map(|at| (at % 251) as u8).collect();
        for at in 0..LEN / chunk.len() {
            client.send(&chunk);
            if at % 64 == 0 {
                assert_eq!(other.call(&["PING"]), "+PONG\r\n", "while it is set");
            }
        }
        client.send(b"\r\n");
        assert_eq!(client.text(), "+OK\r\n");
        assert_eq!(other.call(&["STRLEN", "big"]), format!(":{LEN}\r\n"));
        let held = other.info_number("used_memory") - used;
        assert!(held < LEN as i64 + 16 * MIB, "{backend}: {held} bytes for one value of {LEN}");

        client.send(&request(&["GET", "big"]));
        let mut head = vec![0; format!("${LEN}\r\n").len()];
        client.stream.read_exact(&mut head).unwrap();
        assert_eq!(head, format!("${LEN}\r\n").as_bytes());
        let mut seen = vec![0; 1 << 20];
        for at in 0..LEN / chunk.len() {
            client.stream.read_exact(&mut seen).unwrap();
            assert!(seen == chunk, "{backend}: the value differs in MiB {at}");
            if at % 64 == 0 {
                assert_eq!(other.call(&["PING"]), "+PONG\r\n", "while it is sent");
            }
        }
        client.stream.read_exact(&mut head[..2]).unwrap();
        assert_eq!(&head[..2], b"\r\n");

        // One byte more does not fit, by no way.
        assert_eq!(
            other.call(&["APPEND", "big", "x"]),
            "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n"
        );
        assert_eq!(
            other.call(&["SETRANGE", "big", "536870911", "xy"]),
            "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n"
        );
        let mut third = server.connect();
        third.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", LEN + 1).as_bytes());
        assert_eq!(String::from_utf8_lossy(&third.rest()), "-ERR Protocol error: invalid bulk length\r\n");

        assert_eq!(other.call(&[if backend == "epoll" { "DEL" } else { "UNLINK" }, "big"]), ":1\r\n");
        until("the memory", || other.info_number("used_memory") < used + 8 * MIB);
    }
}

#[test]
fn half_a_large_value_is_given_back_with_its_connection() {
    let server = Server::start(&[]);
    let mut other = server.connect();
    let used = other.info_number("used_memory");
    let mut client = server.connect();
    client.send(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$100000000\r\n");
    client.send(&vec![b'x'; 50_000_000]);
    until("the half", || other.info_number("used_memory") > used + 40 * MIB);
    drop(client);
    until("the memory", || other.info_number("used_memory") < used + 2 * MIB);
    assert_eq!(other.call(&["EXISTS", "big"]), ":0\r\n");
}

#[test]
fn a_client_that_never_reads_is_closed_at_the_hard_limit() {
    for backend in backends() {
        let server =
            Server::start(&["--transport-backend", backend, "--client-output-buffer-limit", "normal", "8mb", "0", "0"]);
        let mut other = server.connect();
        other.call(&["SET", "k", &"v".repeat(10_000)]);
        let used = other.info_number("used_memory");
        let mut silent = server.connect();
        let many = request(&["GET", "k"]).repeat(1000);
        until("the limit", || {
            silent.send_some(&many);
            assert_eq!(other.call(&["PING"]), "+PONG\r\n");
            other.info_number("client_output_buffer_limit_disconnections") == 1
        });
        until("its end", || other.info_number("connected_clients") == 1);
        let peak = other.info_number("used_memory_peak") - used;
        assert!(peak < 32 * MIB, "{backend}: memory rose by {peak} bytes");
        until("the memory", || other.info_number("used_memory") < used + 2 * MIB);
    }
}

#[test]
fn without_a_limit_a_slow_reader_gets_everything() {
    for backend in backends() {
        let server = Server::start(&["--transport-backend", backend]);
        let mut other = server.connect();
        let value: String = (0..10_000).map(|at| char::from(b'a' + (at % 23) as u8)).collect();
        other.call(&["SET", "k", &value]);
        let mut slow = server.connect();
        slow.send(&request(&["GET", "k"]).repeat(3000));
        let expected = format!("$10000\r\n{value}\r\n");
        for at in 0..3000 {
            assert!(slow.text() == expected, "{backend}: reply {at} differs");
            if at % 300 == 0 {
                std::thread::sleep(Duration::from_millis(20));
                assert_eq!(other.call(&["PING"]), "+PONG\r\n");
            }
        }
    }
}

#[test]
fn a_silent_subscriber_meets_its_own_limits() {
    for (backend, limits) in [("auto", ["pubsub", "8mb", "0", "0"]), ("epoll", ["pubsub", "1gb", "1mb", "1"])] {
        let mut options = vec!["--transport-backend", backend, "--client-output-buffer-limit"];
        options.extend(limits);
        let server = Server::start(&options);
        let mut publisher = server.connect();
        let (mut silent, mut reader) = (server.connect(), server.connect());
        silent.call(&["SUBSCRIBE", "news"]);
        reader.call(&["SUBSCRIBE", "news"]);
        let message = "m".repeat(100_000);
        // Past what the kernel's buffers take; the one who reads is not bothered.
        let (mut sent, mut receivers) = (0, 2);
        while receivers == 2 && sent < 1000 {
            let reply = publisher.call(&["PUBLISH", "news", &message]);
            receivers = reply.trim_start_matches(':').trim_end().parse().unwrap();
            assert!(reader.text().ends_with(&format!("{message}\r\n")));
            sent += 1;
            if sent == 300 {
                // The soft limit allows some time, not for ever.
                until("the soft limit", || publisher.info_number("connected_clients") == 2);
            }
        }
        assert_eq!(receivers, 1, "{backend}: the silent subscriber outlived {sent} messages");
        assert_eq!(publisher.info_number("client_output_buffer_limit_disconnections"), 1);
        assert_eq!(publisher.call(&["PUBSUB", "NUMSUB", "news"]), "*2\r\n$4\r\nnews\r\n:1\r\n");
    }
}

#[test]
fn one_command_may_not_outgrow_the_query_buffer() {
    for backend in backends() {
        let server = Server::start(&["--transport-backend", backend, "--client-query-buffer-limit", "1mb"]);
        let mut other = server.connect();
        let used = other.info_number("used_memory");
        let mut large = server.connect();
        large.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4000000\r\n");
        large.send_some(&vec![b'x'; 3_000_000]);
        until("the large argument's end", || large.is_closed());
        let mut many = server.connect();
        many.send(b"*100000\r\n");
        let argument = [&b"$1000\r\n"[..], &[b'y'; 1000], b"\r\n"].concat();
        until("the many arguments' end", || {
            many.send_some(&argument.repeat(100));
            many.is_closed()
        });
        assert_eq!(other.info_number("client_query_buffer_limit_disconnections"), 2);
        let peak = other.info_number("used_memory_peak") - used;
        assert!(peak < 16 * MIB, "{backend}: memory rose by {peak} bytes");
        // A pipeline of whole commands is not one command: it may be as long as it likes.
        let mut pipeline = server.connect();
        let chunk = request(&["SET", "k", &"z".repeat(1000)]).repeat(100);
        for _ in 0..40 {
            pipeline.send(&chunk);
            (0..100).for_each(|_| assert_eq!(pipeline.text(), "+OK\r\n"));
        }
    }
}

#[test]
fn idle_clients_time_out_even_with_half_a_command() {
    for backend in backends() {
        let server = Server::start(&["--transport-backend", backend, "--timeout", "1"]);
        let (mut idle, mut half, mut subscriber) = (server.connect(), server.connect(), server.connect());
        idle.call(&["PING"]);
        half.send(b"*2\r\n$4\r\nECHO\r\n$100\r\nhal");
        subscriber.call(&["SUBSCRIBE", "c"]);
        until("the idle client's end", || idle.is_closed());
        until("the half command's end", || half.is_closed());
        let mut other = server.connect();
        assert_eq!(other.call(&["PUBLISH", "c", "still"]), ":1\r\n", "subscribers may wait");
        assert!(subscriber.text().contains("still"));
        assert_eq!(other.call(&["CONFIG", "SET", "timeout", "0"]), "+OK\r\n");
    }
}

#[test]
fn too_many_clients_are_told() {
    for backend in backends() {
        let server = Server::start(&["--transport-backend", backend, "--maxclients", "3"]);
        // The probe that waited for the start may still be counted.
        let mut first = server.connect();
        until("the probe to go", || first.info_number("connected_clients") == 1);
        let mut others = [server.connect(), server.connect()];
        others.iter_mut().for_each(|client| assert_eq!(client.call(&["PING"]), "+PONG\r\n"));
        let mut refused = server.connect();
        assert_eq!(String::from_utf8_lossy(&refused.rest()), "-ERR max number of clients reached\r\n");
        assert_eq!(first.info_number("rejected_connections"), 1);
        assert_eq!(first.call(&["CONFIG", "SET", "maxclients", "4"]), "+OK\r\n");
        assert_eq!(server.connect().call(&["PING"]), "+PONG\r\n");
    }
}

#[test]
fn the_largest_clients_are_evicted_first() {
    for backend in backends() {
        let server = Server::start(&["--transport-backend", backend, "--maxmemory-clients", "10mb"]);
        let mut other = server.connect();
        let begin = |client: &mut Raw, len: usize| {
            client.send(format!("*2\r\n$4\r\nECHO\r\n${len}\r\n").as_bytes());
            client.send(&vec![b'x'; len / 2]);
        };
        let (mut spared, mut small, mut large) = (server.connect(), server.connect(), server.connect());
        assert_eq!(spared.call(&["CLIENT", "NO-EVICT", "ON"]), "+OK\r\n");
        begin(&mut spared, 12_000_000);
        begin(&mut small, 2_000_000);
        large.send(b"*2\r\n$4\r\nECHO\r\n$10000000\r\n");
        let piece = vec![b'x'; 100_000];
        until("the large one's end", || {
            large.send_some(&piece);
            large.is_closed()
        });
        assert_eq!(other.info_number("evicted_clients"), 1);
        assert!(!small.is_closed() && !spared.is_closed());
        small.send(&[vec![b'x'; 1_000_000], b"\r\n".to_vec()].concat());
        assert_eq!(small.reply().len(), 2_000_000 + "$2000000\r\n\r\n".len());
    }
}

#[test]
fn clients_are_listed_and_killed() {
    for backend in backends() {
        let server = Server::start(&["--transport-backend", backend]);
        let mut admin = server.connect();
        let (mut named, mut subscriber, mut doomed) = (server.connect(), server.connect(), server.connect());
        named.call(&["CLIENT", "SETNAME", "worker"]);
        subscriber.call(&["SUBSCRIBE", "c"]);
        let id = doomed.call(&["CLIENT", "ID"]).trim_start_matches(':').trim_end().to_owned();
        let list = admin.call(&["CLIENT", "LIST"]);
        assert!(
            list.contains("name=worker") && list.contains(&format!("id={id} ")) && list.contains("sub=1"),
            "{list}"
        );
        assert_eq!(admin.call(&["CLIENT", "KILL", "ID", &id]), ":1\r\n");
        until("the kill", || doomed.is_closed());
        assert!(!admin.call(&["CLIENT", "LIST"]).contains(&format!("id={id} ")));
        assert_eq!(admin.call(&["CLIENT", "KILL", "TYPE", "pubsub"]), ":1\r\n");
        until("the subscriber's end", || subscriber.is_closed());
        assert_eq!(admin.call(&["PUBLISH", "c", "x"]), ":0\r\n");
        let addr = named.stream.local_addr().unwrap().to_string();
        assert_eq!(admin.call(&["CLIENT", "KILL", &addr]), "+OK\r\n");
        until("the worker's end", || named.is_closed());
        assert_eq!(admin.call(&["CLIENT", "KILL", "1.2.3.4:5"]), "-ERR No such client\r\n");
        assert_eq!(admin.call(&["CLIENT", "KILL", "SKIPME", "no"]), ":1\r\n", "itself, after the reply");
        assert!(admin.rest().is_empty());
    }
}

#[test]
fn a_pause_leaves_the_data_as_it_is() {
    for mode in ["WRITE", "ALL"] {
        let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
        let mut client = server.connect();
        for number in 0..1000 {
            client.call(&["SET", &format!("key:{number}"), &"v".repeat(1000)]);
        }
        // All in one command, so that no time passes between the deadline and the pause.
        client.send(
            format!("MULTI\r\nSET a 1 PX 1\r\nSET b 1 PX 1\r\nCLIENT PAUSE 100000 {mode}\r\nEXEC\r\n").as_bytes(),
        );
        for _ in 0..5 {
            client.reply();
        }
        if mode == "WRITE" {
            until("it to be past its time", || client.call(&["GET", "a"]) == "$-1\r\n");
            // Neither the deadline nor somebody who comes across it removes it.
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(client.call(&["EXISTS", "a", "b"]), ":0\r\n");
            assert_eq!(client.call(&["DBSIZE"]), ":1002\r\n");
            assert_eq!(client.call(&["CONFIG", "SET", "maxmemory", "100kb"]), "+OK\r\n");
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(client.call(&["DBSIZE"]), ":1002\r\n");
            assert_eq!((client.info_number("expired_keys"), client.info_number("evicted_keys")), (0, 0));
        }
        assert_eq!(client.call(&["CLIENT", "UNPAUSE"]), "+OK\r\n");
        until("what was held off", || client.info_number("expired_keys") == 2);
        assert!(mode == "ALL" || client.info_number("evicted_keys") > 0);
    }
}

#[test]
fn a_client_that_a_pause_holds_is_not_idle() {
    let server = Server::start(&["--timeout", "1"]);
    // The pause comes first, so that no wait in between makes the held one idle.
    assert_eq!(server.connect().call(&["CLIENT", "PAUSE", "100000", "WRITE"]), "+OK\r\n");
    let (mut held, mut idle) = (server.connect(), server.connect());
    held.send(b"SET k v\r\n");
    until("the idle one's end", || idle.is_closed());
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(server.connect().call(&["CLIENT", "UNPAUSE"]), "+OK\r\n");
    assert_eq!(held.text(), "+OK\r\n");
}
