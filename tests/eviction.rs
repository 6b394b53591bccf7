//! Keys that go by themselves: eviction under every policy, expiry and its notifications, and what
//! watches or waits meanwhile (WATCH, MONITOR, CLIENT PAUSE).
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;
use std::time::Duration;

use common::{Raw, Server, backends, until};

const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";

/// A server whose memory is nearly full: 1,000 lasting keys and 1,000 that expire in a day, 4 KiB each.
fn nearly_full(policy: &str) -> (Server, Raw) {
    let server = Server::start(&["--maxmemory-policy", policy]);
    let mut client = server.connect();
    let value = "v".repeat(4000);
    for at in 0..1000 {
        assert_eq!(client.call(&["SET", &format!("lasting:{at}"), &value]), "+OK\r\n");
        assert_eq!(
            client.call(&["SET", &format!("volatile:{at}"), &value, "EX", &(86_400 + at).to_string()]),
            "+OK\r\n"
        );
    }
    let limit = client.info_number("used_memory") + 200_000;
    assert_eq!(client.call(&["CONFIG", "SET", "maxmemory", &limit.to_string()]), "+OK\r\n");
    (server, client)
}

fn count(client: &mut Raw, pattern: &str) -> usize {
    let reply = client.call(&["KEYS", pattern]);
    reply.lines().next().unwrap().trim_start_matches('*').trim().parse().unwrap()
}

#[test]
fn every_policy_evicts_what_it_may() {
    for policy in [
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
    ] {
        let (_server, mut client) = nearly_full(policy);
        let value = "n".repeat(4000);
        for at in 0..500 {
            assert_eq!(client.call(&["SET", &format!("new:{at}"), &value]), "+OK\r\n", "{policy}");
        }
        let limit: i64 = client.info_number("maxmemory");
        until("the memory to fit", || client.info_number("used_memory") <= limit);
        let evicted = client.info_number("evicted_keys") as usize;
        assert!(evicted >= 300, "{policy}: {evicted} keys evicted");
        let (lasting, volatile, new) =
            (count(&mut client, "lasting:*"), count(&mut client, "volatile:*"), count(&mut client, "new:*"));
        // The replies themselves take memory, for which a few more may have gone meanwhile.
        let gone = 2500 - (lasting + volatile + new);
        let evicted_since = client.info_number("evicted_keys") as usize;
        assert!(
            (evicted..=evicted_since).contains(&gone),
            "{policy}: {gone} gone, {evicted} to {evicted_since} evicted"
        );
        if policy.starts_with("volatile") {
            assert_eq!((lasting, new), (1000, 500), "{policy}: a key without a deadline is gone");
        } else {
            assert!(lasting < 1000, "{policy}: no lasting key is gone");
        }
        assert_eq!(
            client.call(&["GET", "new:499"]).len(),
            4000 + "$4000\r\n\r\n".len(),
            "{policy}: the newest key is gone"
        );
    }
}

#[test]
fn without_eviction_writes_are_refused() {
    let (_server, mut client) = nearly_full("noeviction");
    let value = "n".repeat(4000);
    let refused =
        (0..500).position(|at| client.call(&["SET", &format!("new:{at}"), &value]) == OOM).expect("a refusal");
    assert!((10..100).contains(&refused), "refused at {refused}");
    assert_eq!(client.call(&["APPEND", "lasting:1", "x"]), OOM);
    assert_eq!(client.call(&["SETBIT", "b", "1", "1"]), OOM);
    // Reading and deleting go on, a transaction with a write does not.
    assert_eq!(client.call(&["STRLEN", "lasting:1"]), ":4000\r\n");
    assert_eq!(client.call(&["MULTI"]), "+OK\r\n");
    assert_eq!(client.call(&["GET", "missing"]), "+QUEUED\r\n");
    assert_eq!(client.call(&["SET", "x", "y"]), OOM);
    assert!(client.call(&["EXEC"]).starts_with("-EXECABORT"));
    for at in 0..100 {
        assert_eq!(client.call(&["DEL", &format!("lasting:{at}")]), ":1\r\n");
    }
    until("memory", || client.call(&["SET", "new", "v"]) == "+OK\r\n");
    assert_eq!(client.info_number("evicted_keys"), 0);
}

#[test]
fn volatile_policies_refuse_once_nothing_may_go() {
    let server = Server::start(&["--maxmemory-policy", "volatile-ttl"]);
    let mut client = server.connect();
    let limit = client.info_number("used_memory") + 2_000_000;
    client.call(&["CONFIG", "SET", "maxmemory", &limit.to_string()]);
    let value = "v".repeat(4000);
    let refused = (0..2000).any(|at| client.call(&["SET", &format!("lasting:{at}"), &value]) == OOM);
    assert!(refused, "two megabytes hold eight");
    assert_eq!(client.info_number("evicted_keys"), 0);
}

#[test]
fn the_least_used_and_the_soonest_go_first() {
    // TTL: the deadlines rise with the number, so the first numbers go.
    let (_server, mut client) = nearly_full("volatile-ttl");
    client.call(&["CONFIG", "SET", "maxmemory-samples", "64"]);
    let value = "n".repeat(4000);
    (0..400).for_each(|at| drop(client.call(&["SET", &format!("new:{at}"), &value])));
    let alive = |client: &mut Raw, prefix: &str, range: std::ops::Range<usize>| {
        range.filter(|at| client.call(&["EXISTS", &format!("{prefix}:{at}")]) == ":1\r\n").count()
    };
    let (soon, late) = (alive(&mut client, "volatile", 0..300), alive(&mut client, "volatile", 700..1000));
    assert!(soon + 150 < late, "of 300 with the next deadlines {soon} live, of 300 with the last {late}");
    // LFU: what was read often stays.
    let (_server, mut client) = nearly_full("allkeys-lfu");
    client.call(&["CONFIG", "SET", "maxmemory-samples", "64"]);
    for _ in 0..30 {
        (0..300).for_each(|at| drop(client.call(&["GET", &format!("lasting:{at}")])));
    }
    (0..400).for_each(|at| drop(client.call(&["SET", &format!("new:{at}"), &value])));
    let (often, seldom) = (alive(&mut client, "lasting", 0..300), alive(&mut client, "lasting", 300..600));
    assert!(often > 290 && seldom < often, "of 300 read often {often} live, of 300 others {seldom}");
}

#[test]
fn evictions_are_published() {
    let (server, mut client) = nearly_full("allkeys-random");
    client.call(&["CONFIG", "SET", "notify-keyspace-events", "Ee"]);
    let mut listener = server.connect();
    listener.call(&["SUBSCRIBE", "__keyevent@0__:evicted"]);
    let value = "n".repeat(4000);
    (0..200).for_each(|at| drop(client.call(&["SET", &format!("new:{at}"), &value])));
    let limit = client.info_number("maxmemory");
    until("the memory to fit", || client.info_number("used_memory") <= limit);
    let evicted = client.info_number("evicted_keys");
    assert!(evicted > 100);
    for _ in 0..evicted {
        assert!(listener.text().contains("__keyevent@0__:evicted"));
    }
}

#[test]
fn a_hundred_thousand_keys_expire_in_the_same_millisecond() {
    const COUNT: usize = 100_000;
    for backend in backends() {
        let server = Server::start(&["--transport-backend", backend, "--notify-keyspace-events", "Ex"]);
        let (mut client, mut other, mut listener) = (server.connect(), server.connect(), server.connect());
        listener.call(&["SUBSCRIBE", "__keyevent@0__:expired"]);
        let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let at_ms = (now_ms + 5000).to_string();
        for chunk in 0..COUNT / 1000 {
            let mut requests = Vec::new();
            for at in 0..1000 {
                tercel_resp::encode::request(
                    &mut requests,
                    &["SET", &format!("k:{}", chunk * 1000 + at), "v", "PXAT", &at_ms],
                );
            }
            client.send(&requests);
            (0..1000).for_each(|_| assert_eq!(client.text(), "+OK\r\n"));
        }
        client.call(&["SET", "lasting", "v"]);
        assert_eq!(client.call(&["PEXPIREAT", "k:0", &at_ms]), ":1\r\n", "they were set before their time");
        // Every key is announced, once; others are served meanwhile.
        let mut seen = vec![false; COUNT];
        for announced in 0..COUNT {
            let message = listener.text();
            let number: usize = message.trim_end().rsplit_once("k:").unwrap().1.parse().unwrap();
            assert!(!std::mem::replace(&mut seen[number], true), "k:{number} expired twice");
            if announced % 10_000 == 0 {
                assert_eq!(other.call(&["GET", "lasting"]), "$1\r\nv\r\n");
            }
        }
        assert_eq!(client.call(&["DBSIZE"]), ":1\r\n");
        assert_eq!(client.info_number("expired_keys"), COUNT as i64);
    }
}

#[test]
fn an_expired_key_is_gone_for_every_command() {
    let server = Server::start(&["--notify-keyspace-events", "KEA"]);
    let mut client = server.connect();
    // No key leaves by its deadline alone: each command has to notice.
    assert_eq!(client.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]), "+OK\r\n");
    let mut listener = server.connect();
    listener.call(&["PSUBSCRIBE", "__keyevent@0__:expired"]);
    for (words, expected) in [
        (&["GET", "k"][..], "$-1\r\n"),
        (&["EXISTS", "k"], ":0\r\n"),
        (&["STRLEN", "k"], ":0\r\n"),
        (&["TTL", "k"], ":-2\r\n"),
        (&["TYPE", "k"], "+none\r\n"),
        (&["INCR", "k"], ":1\r\n"),
        (&["APPEND", "k", "x"], ":1\r\n"),
        (&["SETNX", "k", "x"], ":1\r\n"),
        (&["GETBIT", "k", "1"], ":0\r\n"),
        (&["DEL", "k"], ":0\r\n"),
        (&["RENAME", "k", "l"], "-ERR no such key\r\n"),
        (&["COPY", "k", "l"], ":0\r\n"),
        (&["PERSIST", "k"], ":0\r\n"),
        (&["EXPIRE", "k", "10"], ":0\r\n"),
        (&["OBJECT", "ENCODING", "k"], "$-1\r\n"),
        (&["TOUCH", "k"], ":0\r\n"),
        (&["KEYS", "*"], "*0\r\n"),
        (&["RANDOMKEY"], "$-1\r\n"),
        (&["SCAN", "0", "COUNT", "100"], "*2\r\n$1\r\n0\r\n*0\r\n"),
    ] {
        client.call(&["FLUSHALL"]);
        assert_eq!(client.call(&["SET", "k", "v", "PX", "5"]), "+OK\r\n");
        std::thread::sleep(Duration::from_millis(15));
        assert_eq!(client.call(words), expected, "{words:?}");
        client.call(&["GET", "k"]);
        if words[0] != "KEYS" && words[0] != "RANDOMKEY" {
            assert!(listener.text().ends_with("expired\r\n$1\r\nk\r\n"), "{words:?}");
        } else {
            listener.text();
        }
    }
    // A time in the past expires at once.
    client.call(&["SET", "k", "v"]);
    assert_eq!(client.call(&["EXPIRE", "k", "-1"]), ":1\r\n");
    assert!(listener.text().ends_with("expired\r\n$1\r\nk\r\n"));
}

#[test]
fn watch_and_expiry() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    // A watched key that expires before EXEC breaks the transaction, looked at or not.
    for active in ["1", "0"] {
        client.call(&["DEBUG", "SET-ACTIVE-EXPIRE", active]);
        // In one burst and with time to spare: on a busy host, too, it is there when it is watched.
        client.send(b"SET k v PX 500\r\nWATCH k\r\n");
        assert_eq!((client.reply(), client.reply()), ("+OK\r\n".into(), "+OK\r\n".into()));
        client.call(&["MULTI"]);
        client.call(&["PING"]);
        std::thread::sleep(Duration::from_millis(560));
        assert_eq!(client.call(&["EXEC"]), "*-1\r\n", "active expiry {active}");
    }
    // One that was expired already when it was watched does not, when it is then removed.
    client.call(&["SET", "k", "v", "PX", "5"]);
    std::thread::sleep(Duration::from_millis(20));
    client.call(&["WATCH", "k"]);
    client.call(&["MULTI"]);
    client.call(&["GET", "k"]);
    assert_eq!(client.call(&["EXEC"]), "*1\r\n$-1\r\n");
    // A deadline that is set is a change; one that stays far away is none.
    client.call(&["SET", "k", "v"]);
    client.call(&["WATCH", "k"]);
    client.call(&["EXPIRE", "k", "1000"]);
    client.call(&["MULTI"]);
    assert_eq!(client.call(&["EXEC"]), "*-1\r\n");
    client.call(&["WATCH", "k"]);
    client.call(&["MULTI"]);
    assert_eq!(client.call(&["EXEC"]), "*0\r\n");
}

#[test]
fn monitor_shows_what_ran_and_hides_passwords() {
    let server = Server::start(&[]);
    let (mut watcher, mut client) = (server.connect(), server.connect());
    assert_eq!(watcher.call(&["MONITOR"]), "+OK\r\n");
    let port = client.stream.local_addr().unwrap().port();
    client.call(&["SELECT", "3"]);
    client.call(&["SET", "k", "a \"b\"\r\n\u{1}"]);
    client.call(&["AUTH", "secret"]);
    client.call(&["HELLO", "3", "AUTH", "default", "secret"]);
    client.call(&["CONFIG", "SET", "requirepass", "secret"]);
    client.call(&["CONFIG", "SET", "requirepass", ""]);
    client.call(&["MULTI"]);
    client.call(&["INCR", "n"]);
    client.call(&["EXEC"]);
    client.call(&["nosuch"]);
    client.call(&["GET"]);
    client.call(&["PING"]);
    let expected = [
        r#""SELECT" "3""#,
        r#""SET" "k" "a \"b\"\r\n\x01""#,
        r#""AUTH" "(redacted)""#,
        r#""HELLO" "3" "AUTH" "(redacted)" "(redacted)""#,
        r#""MULTI""#,
        r#""INCR" "n""#,
        r#""EXEC""#,
        r#""PING""#,
    ];
    for words in expected {
        let line = watcher.text();
        let (time, rest) = line.trim_start_matches('+').split_once(' ').unwrap();
        assert!(time.parse::<f64>().unwrap() > 1.6e9, "{line}");
        assert_eq!(rest, format!("[3 127.0.0.1:{port}] {words}\r\n"));
    }
    // RESET ends it, and it is an ordinary client again.
    assert_eq!(watcher.call(&["RESET"]), "+RESET\r\n");
    client.call(&["PING"]);
    assert_eq!(watcher.call(&["ECHO", "x"]), "$1\r\nx\r\n");
}

#[test]
fn a_pause_holds_back_what_it_says() {
    for backend in backends() {
        let server = Server::start(&["--transport-backend", backend]);
        let (mut admin, mut reader, mut writer) = (server.connect(), server.connect(), server.connect());
        admin.call(&["SET", "k", "1"]);
        // Writes only.
        assert_eq!(admin.call(&["CLIENT", "PAUSE", "60000", "WRITE"]), "+OK\r\n");
        writer.send(b"SET k 2\r\n");
        assert_eq!(reader.call(&["GET", "k"]), "$1\r\n1\r\n");
        assert_eq!(reader.call(&["MULTI"]), "+OK\r\n");
        assert_eq!(reader.call(&["GET", "k"]), "+QUEUED\r\n");
        assert_eq!(reader.call(&["EXEC"]), "*1\r\n$1\r\n1\r\n");
        assert!(!writer.is_closed() && writer.buffer.is_empty());
        assert_eq!(admin.call(&["CLIENT", "UNPAUSE"]), "+OK\r\n");
        assert_eq!(writer.text(), "+OK\r\n");
        assert_eq!(reader.call(&["GET", "k"]), "$1\r\n2\r\n");
        // Everything, until its time is over.
        assert_eq!(admin.call(&["CLIENT", "PAUSE", "300", "ALL"]), "+OK\r\n");
        reader.send(b"GET k\r\n");
        writer.send(b"SET k 3\r\nGET k\r\n");
        let begin = std::time::Instant::now();
        assert_eq!(reader.text(), "$1\r\n2\r\n");
        assert!(begin.elapsed() > Duration::from_millis(150), "the pause did not hold");
        assert_eq!(writer.text(), "+OK\r\n");
        assert_eq!(writer.text(), "$1\r\n3\r\n");
        // A key does not expire while writes are paused, to the eye it is gone all the same.
        admin.call(&["SET", "soon", "v", "PX", "30"]);
        assert_eq!(admin.call(&["CLIENT", "PAUSE", "60000", "WRITE"]), "+OK\r\n");
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(reader.call(&["GET", "soon"]), "$-1\r\n");
        // A paused client that goes is not waited for.
        let mut gone = server.connect();
        gone.send(b"SET gone 1\r\n");
        std::thread::sleep(Duration::from_millis(20));
        drop(gone);
        admin.call(&["CLIENT", "UNPAUSE"]);
        until("the gone client", || admin.info_number("connected_clients") == 3);
    }
}
