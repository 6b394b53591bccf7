//! What clients hold of the server's memory by sending much, reading nothing or announcing what never
//! comes: it is counted as it is held, and bounded while it grows.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;
use common::{Raw, Server, backends, request, until};

const MIB: i64 = 1 << 20;

#[test]
fn a_stranger_who_does_not_read_holds_little() {
    for backend in backends() {
        let server = Server::start(&["--transport-backend", backend, "--requirepass", "secret"]);
        let mut other = server.connect();
        assert_eq!(other.call(&["AUTH", "secret"]), "+OK\r\n");
        let before = other.info_number("used_memory");
        // Too short to be a command, unknown, known, and long: none may run.
        let long = request(&["SET", "k", &"v".repeat(16_000)]);
        for line in [b"X\r\n".to_vec(), request(&["GET", "k"]), request(&["X"]), long] {
            let block = line.repeat(1 + 60_000 / line.len());
            let mut client = server.connect();
            let mut used_max = 0;
            for _ in 0..400 {
                client.send_some(&block);
                used_max = used_max.max(other.info_number("used_memory"));
                if other.info_number("connected_clients") == 1 {
                    break;
                }
            }
            assert!(used_max - before < 2 * MIB, "{backend}: {} bytes held for a stranger", used_max - before);
        }
        assert!(other.info_number("client_output_buffer_limit_disconnections") > 0);
    }
}

#[test]
fn many_strangers_hold_little_each() {
    let server = Server::start(&["--requirepass", "secret"]);
    let mut other = server.connect();
    assert_eq!(other.call(&["AUTH", "secret"]), "+OK\r\n");
    let before = other.info_number("used_memory");
    // Half a command each, as long as it may be before somebody has logged in.
    let mut half = b"*10\r\n".to_vec();
    for _ in 0..9 {
        half.extend_from_slice(format!("$16384\r\n{}\r\n", "a".repeat(16_384)).as_bytes());
    }
    let mut strangers: Vec<Raw> = (0..100).map(|_| server.connect()).collect();
    for stranger in &mut strangers {
        stranger.send(&half);
    }
    until("all of it", || other.call(&["CLIENT", "LIST"]).matches("qbuf=147").count() == strangers.len());
    let each = (other.info_number("used_memory") - before) / strangers.len() as i64;
    assert!(each < 400 * 1024, "{each} bytes held for each of them");
    // One more byte than a command can have is not kept.
    strangers[0].send(&vec![b'x'; 100_000]);
    until("the end of it", || strangers[0].is_closed());
}

#[test]
fn a_password_opens_the_way_for_what_is_behind_it() {
    for backend in backends() {
        let server = Server::start(&["--transport-backend", backend, "--requirepass", "secret"]);
        let many = request(&["MSET", "a", "1", "b", "2", "c", "3", "d", "4", "e", "5", "f", "6", "g", "7", "h", "8"]);
        let long = request(&["SET", "long", &"v".repeat(20_000)]);
        let longer = request(&["SET", "longer", &"v".repeat(2_000_000)]);
        for (login, answers) in [
            (request(&["AUTH", "secret"]), 1),
            (request(&["HELLO", "3", "AUTH", "default", "secret"]), 1),
            ([request(&["PING"]), request(&["AUTH", "wrong"]), request(&["AUTH", "secret"])].concat(), 3),
        ] {
            let mut client = server.connect();
            client.send(&[login.clone(), many.clone(), long.clone(), longer.clone(), request(&["PING"])].concat());
            for _ in 0..answers {
                client.reply();
            }
            for expected in ["+OK\r\n", "+OK\r\n", "+OK\r\n", "+PONG\r\n"] {
                assert_eq!(client.text(), expected, "{backend}: behind {}", String::from_utf8_lossy(&login));
            }
        }
        // RESET closes it again. What it is owed reaches it, since who was once let in is no stranger; what it
        // sends is bounded as at the beginning.
        let mut client = server.connect();
        let mut pipeline = request(&["AUTH", "secret"]);
        for _ in 0..40 {
            pipeline.extend_from_slice(&request(&["GET", "longer"]));
        }
        pipeline.extend_from_slice(&[request(&["RESET"]), request(&["PING"]), many].concat());
        client.send(&pipeline);
        assert_eq!(client.text(), "+OK\r\n");
        for _ in 0..40 {
            assert_eq!(client.reply().len(), "$2000000\r\n\r\n".len() + 2_000_000);
        }
        assert_eq!(client.text(), "+RESET\r\n");
        assert_eq!(client.text(), "-NOAUTH Authentication required.\r\n");
        assert_eq!(client.text(), "-ERR Protocol error: unauthenticated multibulk length\r\n");
    }
}

#[test]
fn a_setting_holds_for_what_is_behind_it() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let long = request(&["SET", "k", &"v".repeat(2 << 20)]);
    client.send(&[request(&["CONFIG", "SET", "proto-max-bulk-len", "1mb"]), long.clone()].concat());
    assert_eq!(client.text(), "+OK\r\n");
    assert_eq!(client.text(), "-ERR Protocol error: invalid bulk length\r\n");
    let mut client = server.connect();
    let mut raise = request(&["CONFIG", "SET", "proto-max-bulk-len", "4mb"]);
    raise.extend_from_slice(&long);
    client.send(&raise);
    assert_eq!(client.text(), "+OK\r\n");
    assert_eq!(client.text(), "+OK\r\n");
}

#[test]
fn a_long_answer_ends_at_the_hard_limit() {
    for backend in backends() {
        // Copied into the reply, and spliced into it.
        for len in [16_000, 20_000] {
            let server =
                Server::start(&["--transport-backend", backend, "--client-output-buffer-limit", "normal 1mb 0 0"]);
            let (mut client, mut other) = (server.connect(), server.connect());
            other.call(&["SET", "k", &"v".repeat(len)]);
            let mut words = vec!["MGET"];
            words.extend(std::iter::repeat_n("k", 40_000));
            let peak = other.info_number("used_memory_peak");
            client.send(&request(&words));
            until("its end", || client.is_closed());
            // The command itself takes memory, too; the peak is taken ten times a second, so it is the
            // process that has to be asked.
            let grown = other.info_number("used_memory_peak") - peak;
            assert!(grown < 8 * MIB, "{backend}: {grown} bytes for an answer that may take 1 MiB");
            let resident = server.resident_max();
            assert!(resident < 120 << 20, "{backend}: {resident} bytes resident at the most");
            assert_eq!(other.info_number("client_output_buffer_limit_disconnections"), 1);
            // What fits is answered.
            let mut words = vec!["MGET"];
            words.extend(std::iter::repeat_n("k", 40));
            let mut client = server.connect();
            assert!(client.call(&words).len() > 40 * len);
        }
    }
}

#[test]
fn what_one_client_makes_others_owed_is_bounded_too() {
    let server = Server::start(&["--client-output-buffer-limit", "pubsub 1mb 0 0"]);
    let (mut subscriber, mut other) = (server.connect(), server.connect());
    subscriber.call(&["SUBSCRIBE", "c"]);
    let message = "m".repeat(100_000);
    let mut block = request(&["MULTI"]);
    for _ in 0..2_000 {
        block.extend_from_slice(&request(&["PUBLISH", "c", &message]));
    }
    block.extend_from_slice(&request(&["EXEC"]));
    other.send(&block);
    for _ in 0..2_002 {
        other.reply();
    }
    until("its end", || subscriber.is_closed());
    // The queue of the transaction is 200 MB; what it caused is not another 200.
    assert!(server.resident_max() < 330 << 20, "{} bytes resident at the most", server.resident_max());
}

#[test]
fn all_clients_together_are_bounded_while_they_grow() {
    for backend in backends() {
        let server = Server::start(&["--transport-backend", backend, "--maxmemory-clients", "10mb"]);
        let (mut client, mut other) = (server.connect(), server.connect());
        other.call(&["SETRANGE", "k", "300000", "x"]);
        let before = other.info_number("used_memory");
        let block = request(&["GETRANGE", "k", "0", "199999"]).repeat(500);
        let mut used_max = 0;
        for _ in 0..200 {
            client.send_some(&block);
            used_max = used_max.max(other.info_number("used_memory"));
            if other.info_number("evicted_clients") > 0 {
                break;
            }
        }
        until("its end", || client.is_closed());
        assert!(used_max - before < 40 * MIB, "{backend}: {} bytes held", used_max - before);
        assert!(server.resident_max() < 150 << 20, "{backend}: {} bytes resident", server.resident_max());
        // One that takes what it is owed may be owed as much as it likes in all.
        let mut client = server.connect();
        for _ in 0..100 {
            assert!(client.call(&["GETRANGE", "k", "0", "199999"]).len() > 199_999);
        }
    }
}

#[test]
fn a_small_client_stays_when_a_large_one_goes() {
    let server = Server::start(&["--maxmemory-clients", "10mb"]);
    let (mut large, mut small) = (server.connect(), server.connect());
    small.call(&["CLIENT", "SETNAME", "small"]);
    large.call(&["CLIENT", "SETNAME", "large"]);
    small.send(&request(&["MULTI"]));
    small.text();
    small.call(&["SET", "k", &"v".repeat(1 << 20)]);
    large.send(b"*2\r\n$4\r\nECHO\r\n$30000000\r\n");
    let chunk = vec![b'x'; 100_000];
    until("the large one's end", || {
        large.send_some(&chunk);
        large.is_closed()
    });
    assert_eq!(small.call(&["EXEC"]), "*1\r\n+OK\r\n");
    assert_eq!(small.info_number("evicted_clients"), 1);
    // Switched off, nobody is.
    assert_eq!(small.call(&["CONFIG", "SET", "maxmemory-clients", "0"]), "+OK\r\n");
    let mut large = server.connect();
    assert!(large.call(&["ECHO", &"x".repeat(20 << 20)]).len() > 20 << 20);
    // And on again it holds for those who are there.
    large.send(b"*2\r\n$4\r\nECHO\r\n$30000000\r\n");
    large.send(&vec![b'x'; 15 << 20]);
    until("the half", || small.info_number("used_memory") > 14 * MIB);
    assert_eq!(small.call(&["CONFIG", "SET", "maxmemory-clients", "10mb"]), "+OK\r\n");
    until("its end", || large.is_closed());
    assert_eq!(small.call(&["PING"]), "+PONG\r\n");
}

#[test]
fn omem_is_what_is_held_now() {
    for backend in backends() {
        let server = Server::start(&["--transport-backend", backend]);
        let (mut client, mut other) = (server.connect(), server.connect());
        client.call(&["CLIENT", "SETNAME", "owed"]);
        other.call(&["SET", "k", &"v".repeat(1_000)]);
        let field = |other: &mut Raw, field: &str| -> i64 {
            let list = other.call(&["CLIENT", "LIST"]);
            let line = list.lines().find(|line| line.contains("name=owed")).unwrap().to_owned();
            line.split(' ').find_map(|part| part.strip_prefix(field)?.strip_prefix('=')).unwrap().parse().unwrap()
        };
        let before = other.info_number("used_memory");
        let block = [request(&["NOSUCH"]), request(&["GET", "k"])].concat();
        for _ in 0..30_000 {
            client.send(&block);
        }
        until("the commands to run", || field(&mut other, "qbuf") == 0);
        let (omem, total) = (field(&mut other, "omem"), field(&mut other, "tot-mem"));
        let grown = other.info_number("used_memory") - before;
        assert!(omem > 4 * MIB, "{backend}: {omem}");
        // Beside it, buffers that wait to be used again.
        assert!(
            total >= omem && (grown - total).abs() < 16 * MIB,
            "{backend}: {grown} grown, {total} told, omem {omem}"
        );
        // Some of it is taken, and nothing else happens to that client.
        let mut seen = vec![0; 8 << 20];
        std::io::Read::read_exact(&mut client.stream, &mut seen).unwrap();
        until("it to show", || field(&mut other, "omem") < omem - 4 * MIB);
    }
}

#[test]
fn a_soft_limit_arms_again() {
    let server = Server::start(&["--client-output-buffer-limit", "pubsub 0 4mb 1"]);
    let (mut subscriber, mut other) = (server.connect(), server.connect());
    subscriber.call(&["CLIENT", "SETNAME", "slow"]);
    subscriber.call(&["SUBSCRIBE", "c"]);
    let omem = |other: &mut Raw| -> i64 {
        let list = other.call(&["CLIENT", "LIST"]);
        let Some(line) = list.lines().find(|line| line.contains("name=slow")) else { return -1 };
        line.split(' ').find_map(|part| part.strip_prefix("omem=")).unwrap().parse().unwrap()
    };
    let message = "m".repeat(100_000);
    while omem(&mut other) < 8 * MIB {
        assert_eq!(other.call(&["PUBLISH", "c", &message]), ":1\r\n");
    }
    // Below the limit, and not down to nothing.
    let mut seen = vec![0; 64 * 1024];
    while omem(&mut other) > 3 * MIB {
        std::io::Read::read_exact(&mut subscriber.stream, &mut seen).unwrap();
    }
    assert!(omem(&mut other) > 0);
    while omem(&mut other) < 8 * MIB {
        if other.call(&["PUBLISH", "c", &message]) == ":0\r\n" {
            break;
        }
    }
    until("its end", || omem(&mut other) < 0);
}

#[test]
fn what_is_announced_is_not_in_use() {
    for backend in backends() {
        let server = Server::start(&[
            "--transport-backend",
            backend,
            "--maxmemory",
            "40mb",
            "--maxmemory-policy",
            "allkeys-lru",
        ]);
        let mut other = server.connect();
        for number in 0..2_000 {
            other.call(&["SET", &format!("key:{number}"), &"v".repeat(1_000)]);
        }
        let before = other.info_number("used_memory");
        let mut announcing: Vec<Raw> = (0..20).map(|_| server.connect()).collect();
        for (number, client) in announcing.iter_mut().enumerate() {
            client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870911\r\n");
            if number == 0 {
                // Enough that room is made for all of it.
                client.send(&vec![b'x'; 2 << 20]);
            }
        }
        until("it to arrive", || other.call(&["CLIENT", "LIST"]).matches("argv-mem=0").count() == 1);
        until("the two mebibytes", || other.info_number("used_memory") > before + 2 * MIB);
        let grown = other.info_number("used_memory") - before;
        assert!(grown < 6 * MIB, "{backend}: {grown} bytes in use for what was announced");
        for _ in 0..30 {
            other.call(&["SET", "another", "write"]);
        }
        assert_eq!(other.call(&["DBSIZE"]), ":2001\r\n", "{backend}");
        assert_eq!(other.info_number("evicted_keys"), 0);
        // It comes after all.
        drop(announcing.split_off(1));
        let left = vec![b'x'; 536_870_911 - (2 << 20)];
        assert_eq!(other.call(&["CONFIG", "SET", "maxmemory", "0"]), "+OK\r\n");
        announcing[0].send(&left);
        announcing[0].send(b"\r\n");
        assert_eq!(announcing[0].text(), "+OK\r\n");
        assert_eq!(other.call(&["STRLEN", "k"]), ":536870911\r\n");
    }
}

#[test]
fn nobody_is_locked_out_when_no_password_is_asked_for_any_more() {
    let server = Server::start(&["--requirepass", "secret"]);
    let (mut stranger, mut other) = (server.connect(), server.connect());
    assert_eq!(stranger.call(&["PING"]), "-NOAUTH Authentication required.\r\n");
    other.call(&["AUTH", "secret"]);
    assert_eq!(other.call(&["CONFIG", "SET", "requirepass", ""]), "+OK\r\n");
    assert_eq!(stranger.call(&["PING"]), "+PONG\r\n");
}

#[test]
fn below_its_limit_nobody_is_closed() {
    for backend in backends() {
        let server = Server::start(&[
            "--transport-backend",
            backend,
            "--client-output-buffer-limit",
            "normal 1mb 0 0",
            "--client-output-buffer-limit",
            "pubsub 8mb 0 0",
        ]);
        let (mut client, mut other) = (server.connect(), server.connect());
        other.call(&["SET", "small", &"v".repeat(50)]);
        other.call(&["SET", "empty", ""]);
        other.call(&["SET", "long", &"v".repeat(15_000)]);
        // All of it lies in the server before any is taken.
        for (key, count, len) in
            [("small", 15_000, 56), ("empty", 150_000, 6), ("long", 60, 15_010), ("none", 180_000, 5)]
        {
            let mut words = vec!["MGET"];
            words.extend(std::iter::repeat_n(key, count));
            assert!(client.call(&words).len() >= count * len, "{backend}: {count} times {key}");
        }
        let mut queued = request(&["MULTI"]);
        queued.extend(request(&["GET", "small"]).repeat(15_000));
        queued.extend(request(&["EXEC"]));
        client.send(&queued);
        for _ in 0..15_001 {
            client.reply();
        }
        assert!(client.reply().len() > 15_000 * 56);
        // Messages of few bytes, one a turn and many a turn, to one who takes none of them yet.
        let mut slow = server.connect();
        slow.call(&["SUBSCRIBE", "c"]);
        let message = "m".repeat(100);
        let mut sent = 0;
        while sent < 30_000 {
            let many = if sent < 2_000 { 1 } else { 500 };
            other.send(&request(&["PUBLISH", "c", &message]).repeat(many));
            for _ in 0..many {
                assert_eq!(other.text(), ":1\r\n", "{backend}: after {sent}");
            }
            sent += many;
        }
        for _ in 0..sent {
            assert!(slow.text().ends_with("m\r\n"));
        }
    }
}

#[test]
fn what_floods_left_behind_is_given_back() {
    for backend in backends() {
        let server = Server::start(&["--transport-backend", backend, "--requirepass", "secret"]);
        let mut other = server.connect();
        other.call(&["AUTH", "secret"]);
        let before = other.info_number("used_memory");
        // Very many arguments a command, and one longer than what is received at once.
        let line = format!("{}b\r\n", "a ".repeat(20_000));
        for is_known in [false, true] {
            let mut flooding: Vec<Raw> = (0..40).map(|_| server.connect()).collect();
            if is_known {
                flooding.iter_mut().for_each(|client| assert_eq!(client.call(&["AUTH", "secret"]), "+OK\r\n"));
            }
            for _ in 0..20 {
                for client in &mut flooding {
                    client.send_some(line.as_bytes());
                }
            }
            drop(flooding);
            until("them to be gone", || other.info_number("connected_clients") == 1);
        }
        until("the memory", || other.info_number("used_memory") < before + 24 * MIB);
    }
}
