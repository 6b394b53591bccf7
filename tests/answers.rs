//! Answers that once differed from Valkey's: found by scripts/differential, and held here.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;
use common::{Server, until};

#[test]
fn errors_and_their_order() {
    let server = Server::start(&["--enable-debug-command", "yes"]);
    let mut client = server.connect();
    let long_name = "x".repeat(45);
    for (words, expected) in [
        (
            &["EXEC", "x"][..],
            "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n",
        ),
        (&["CONFIG", "SET", "hz", "10", "timeout"], "-ERR syntax error\r\n"),
        (&["CONFIG", "SET", "client-output-buffer-limit", ""], "+OK\r\n"),
        (
            &["CONFIG", "SET", "hz", "-0"],
            "-ERR CONFIG SET failed (possibly related to argument 'hz') - argument couldn't be parsed into an integer\r\n",
        ),
        (
            &["CONFIG", "SET", "hz", "+10"],
            "-ERR CONFIG SET failed (possibly related to argument 'hz') - argument couldn't be parsed into an integer\r\n",
        ),
        (&["CLIENT", "IMPORT-SOURCE", "maybe"], "-ERR Server is not in import mode\r\n"),
        (&["CLIENT", "IMPORT-SOURCE", "OFF"], "+OK\r\n"),
        (&["CLIENT", "LIST", "DB", "x"], "-ERR DB is not an integer or out of range\r\n"),
        (&["CLIENT", "LIST", "NOT-DB", "x"], "-ERR NOT-DB is not an integer or out of range\r\n"),
        (&["CLIENT", "LIST", "NOT-ID"], "-ERR syntax error\r\n"),
        (&["CLIENT", "LIST", "NAME", ""], "$0\r\n\r\n"),
        (
            &["PUBSUB", "CHANNELS", "a", "b"],
            "-ERR unknown subcommand or wrong number of arguments for 'CHANNELS'. Try PUBSUB HELP.\r\n",
        ),
        (
            &["SLOWLOG", "GET", "1", "2"],
            "-ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.\r\n",
        ),
        (&["SLOWLOG", "GET", "x"], "-ERR count should be greater than or equal to -1\r\n"),
        (&["COMMANDLOG", "GET", "x", "slow"], "-ERR count should be greater than or equal to -1\r\n"),
        (&["MOVE", "k", "2147483648"], "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n"),
        (&["SELECT", "-2147483649"], "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n"),
        (&["SWAPDB", "2147483648", "0"], "-ERR invalid first DB index\r\n"),
        (&["BITCOUNT", "k", "0", "x", "weeks"], "-ERR syntax error\r\n"),
        (&["BITPOS", "k", "1", "0", "x", "weeks"], "-ERR syntax error\r\n"),
        (&["BITFIELD_RO", "k", "SET", "u8", "0", "x"], "-ERR value is not an integer or out of range\r\n"),
        (&["BITFIELD_RO", "k", "SET", "u8", "0", "1"], "-ERR BITFIELD_RO only supports the GET subcommand\r\n"),
        (&["HELLO", "3", "AUTH", "default", "x", "nonsense"], "-ERR Syntax error in HELLO option 'nonsense'\r\n"),
        (&["RPUSH", "a-list", "x"], ":1\r\n"),
        (&["DEBUG", "LISTPACK", "a-list"], "+Listpack structure printed on stdout\r\n"),
        (&["SET", "plain", "v"], "+OK\r\n"),
        (&["DEBUG", "LISTPACK", "plain"], "-ERR Not a listpack encoded object.\r\n"),
        (&["DEBUG", "LISTPACK", "nothing"], "-ERR no such key\r\n"),
        (
            &["DEBUG", "HTSTATS-KEY", "a-list"],
            "-ERR The value stored at the specified key is not represented using an hash table\r\n",
        ),
        (&["CONFIG", "SET", "shutdown-on-sigterm", "force nosave safe"], "+OK\r\n"),
        (&["CONFIG", "GET", "shutdown-on-sigterm"], "*2\r\n$19\r\nshutdown-on-sigterm\r\n$17\r\nnosave force safe\r\n"),
        (
            &["CONFIG", "SET", "shutdown-on-sigterm", "save nosave"],
            "-ERR CONFIG SET failed (possibly related to argument 'shutdown-on-sigterm') - shutdown options SAVE and NOSAVE can't be used simultaneously\r\n",
        ),
        (&["SET", "number", "123456"], "+OK\r\n"),
        (&["SETBIT", "number", "0", "0"], ":0\r\n"),
        (&["OBJECT", "ENCODING", "number"], "$3\r\nraw\r\n"),
        (&["LCS", "a-list", "k", "nonsense"], "-ERR The specified keys must contain string values\r\n"),
        (&["SHUTDOWN", "ABORT", "ABORT"], "-ERR No shutdown in progress.\r\n"),
        (&["SHUTDOWN", "ABORT", "NOW"], "-ERR syntax error\r\n"),
        (&["SHUTDOWN", "FAILOVER"], "-ERR SHUTDOWN FAILOVER is only supported in cluster mode.\r\n"),
        (&["MEMORY", "USAGE", "k", "SAMPLES", "x", "y"], "-ERR value is not an integer or out of range\r\n"),
        // A word may come twice, two that contradict each other may not.
        (&["SET", "k", "v", "NX", "NX", "EX", "100", "EX", "200"], "+OK\r\n"),
        (&["TTL", "k"], ":200\r\n"),
        (&["GETEX", "k", "PERSIST", "PERSIST"], "$1\r\nv\r\n"),
        (&["SET", "k", "v", "EX", "100", "PX", "100"], "-ERR syntax error\r\n"),
        (&["SET", "k", "v", "NX", "XX"], "-ERR syntax error\r\n"),
        (&["SET", "k", "v", "KEEPTTL", "EX", "100"], "-ERR syntax error\r\n"),
        (&["GETEX", "k", "EX", "100", "PERSIST"], "-ERR syntax error\r\n"),
        // A short string is one with its key.
        (&["SET", "k", &long_name], "+OK\r\n"),
        (&["OBJECT", "ENCODING", "k"], "$6\r\nembstr\r\n"),
        // Digits as a long double has them.
        (&["SET", "f", "0.1"], "+OK\r\n"),
        (&["INCRBYFLOAT", "f", "0.2"], "$3\r\n0.3\r\n"),
        (&["SET", "f", "0"], "+OK\r\n"),
        (&["INCRBYFLOAT", "f", "1234567890.123456789"], "$28\r\n1234567890.12345678894780576\r\n"),
    ] {
        assert_eq!(client.call(words), expected, "{words:?}");
    }
}

#[test]
fn subscribers_are_told_the_commands_full_name() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.call(&["SUBSCRIBE", "c"]);
    let only = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n";
    assert_eq!(client.call(&["CLIENT", "ID"]), format!("-ERR Can't execute 'client|id': {only}"));
    assert_eq!(
        client.call(&["EXEC"]),
        format!("-EXECABORT Transaction discarded because of: Can't execute 'exec': {only}")
    );
    // Nothing but the empty pattern matches the empty channel.
    assert_eq!(client.call(&["PSUBSCRIBE", "*"]).lines().next_back(), Some(":2"));
    let mut publisher = server.connect();
    assert_eq!(publisher.call(&["PUBLISH", "", "m"]), ":0\r\n");
    assert_eq!(publisher.call(&["SET", "", "v"]), "+OK\r\n");
    assert_eq!(publisher.call(&["KEYS", "*"]), "*1\r\n$0\r\n\r\n");
    assert_eq!(publisher.call(&["KEYS", "**"]), "*0\r\n");
}

#[test]
fn compiled_patterns_are_their_subscribers_memory() {
    let server = Server::start(&[]);
    let (mut client, mut publisher) = (server.connect(), server.connect());
    client.call(&["CLIENT", "SETNAME", "subscriber"]);
    let mut memory = || -> usize {
        let list = publisher.call(&["CLIENT", "LIST"]);
        let line = list.lines().find(|line| line.contains("name=subscriber")).unwrap();
        line.split(' ').find_map(|field| field.strip_prefix("tot-mem=")).unwrap().parse().unwrap()
    };
    let before = memory();
    // Sets of which no two are equal: nine bytes for each of the pattern's.
    let letters = || (b'!'..b'Z').map(char::from);
    let pattern: String = letters().flat_map(|low| letters().map(move |high| format!("[{low}{high}]"))).collect();
    client.call(&["PSUBSCRIBE", &pattern]);
    let during = memory();
    assert!(during - before > 4 * pattern.len(), "{} for {}", during - before, pattern.len());
    client.call(&["PUNSUBSCRIBE", &pattern]);
    let after = memory();
    assert!(during - after > 4 * pattern.len(), "{during} {after}");
}

#[test]
fn a_stranger_is_told_nothing() {
    let server = Server::start(&["--requirepass", "secret"]);
    let mut client = server.connect();
    for words in [&["GET"][..], &["GET", "a", "b"], &["nosuch"], &["SLOWLOG", "nosuch"], &["CLIENT"]] {
        assert_eq!(client.call(words), "-NOAUTH Authentication required.\r\n", "{words:?}");
    }
    assert!(client.call(&["AUTH"]).starts_with("-ERR wrong number of arguments for 'auth'"));
    assert!(client.call(&["HELLO", "3", "AUTH", "default", "wrong"]).starts_with("-WRONGPASS"));
    assert!(client.call(&["HELLO", "3", "AUTH", "default", "secret"]).starts_with('%'));
}

#[test]
fn what_changes_nothing_disturbs_nobody() {
    let server = Server::start(&["--notify-keyspace-events", "KEA"]);
    let (mut client, mut other, mut listener) = (server.connect(), server.connect(), server.connect());
    client.call(&["SET", "b", "abc"]);
    listener.call(&["PSUBSCRIBE", "__keyevent@*"]);
    client.call(&["WATCH", "b"]);
    assert_eq!(other.call(&["BITFIELD", "b", "INCRBY", "u8", "0", "0"]), "*1\r\n:97\r\n");
    assert_eq!(other.call(&["BITFIELD", "b", "OVERFLOW", "FAIL", "INCRBY", "u8", "0", "200"]), "*1\r\n$-1\r\n");
    client.call(&["MULTI"]);
    assert_eq!(client.call(&["EXEC"]), "*0\r\n");
    client.call(&["WATCH", "b"]);
    assert_eq!(other.call(&["BITFIELD", "b", "INCRBY", "u8", "0", "1"]), "*1\r\n:98\r\n");
    client.call(&["MULTI"]);
    assert_eq!(client.call(&["EXEC"]), "*-1\r\n");
    assert!(listener.text().ends_with("__keyevent@0__:setbit\r\n$1\r\nb\r\n"), "only the change is published");
    // A time in the past is an expiry, not a deletion.
    assert_eq!(other.call(&["EXPIREAT", "b", "1"]), ":1\r\n");
    assert!(listener.text().ends_with("__keyevent@0__:expired\r\n$1\r\nb\r\n"));
}

#[test]
fn the_last_command_is_the_one_asked_for() {
    let server = Server::start(&[]);
    let (mut client, mut admin) = (server.connect(), server.connect());
    let id = client.call(&["CLIENT", "ID"]).trim_start_matches(':').trim_end().to_owned();
    for (words, shown) in [
        (&["GET", "k"][..], "cmd=get "),
        (&["GET"], "cmd=get "),
        (&["nosuch"], "cmd=NULL "),
        (&["CONFIG", "nosuch"], "cmd=NULL "),
        (&["CONFIG", "GET", "hz"], "cmd=config|get "),
        (&["MULTI"], "cmd=multi "),
        (&["SET", "k", "v"], "cmd=set "),
        (&["SET"], "cmd=set "),
    ] {
        client.call(words);
        let list = admin.call(&["CLIENT", "LIST", "ID", &id]);
        assert!(list.contains(shown), "{words:?}: {list}");
    }
    // A transaction that failed keeps nothing.
    assert!(admin.call(&["CLIENT", "LIST", "ID", &id]).contains("multi=0 "));
}

#[test]
fn subscribing_inside_a_transaction() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.call(&["MULTI"]);
    client.call(&["SUBSCRIBE", "c"]);
    client.call(&["SSUBSCRIBE", "s"]);
    let expected =
        "*2\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n-ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client\r\n";
    assert_eq!(client.call(&["EXEC"]), expected);
}

#[test]
fn swapping_databases_breaks_a_watch_only_for_keys_in_time() {
    let server = Server::start(&["--enable-debug-command", "yes"]);
    let mut client = server.connect();
    assert_eq!(client.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]), "+OK\r\n");
    // What is in database 0 and 1 when 1 is watched, and whether the transaction runs after a swap.
    for (in_0, in_1, runs) in [
        ("none", "none", true),
        ("stale", "none", true),
        ("stale", "stale", true),
        ("none", "stale", true),
        ("there", "none", false),
        ("none", "there", false),
        ("stale", "there", false),
        ("there", "stale", false),
    ] {
        client.call(&["FLUSHALL"]);
        for (db, what) in [("0", in_0), ("1", in_1)] {
            client.call(&["SELECT", db]);
            match what {
                "stale" => client.call(&["SET", "x", "v", "PX", "1"]),
                "there" => client.call(&["SET", "x", "v"]),
                _ => String::new(),
            };
        }
        std::thread::sleep(std::time::Duration::from_millis(3));
        client.call(&["WATCH", "x"]);
        client.call(&["SWAPDB", "0", "1"]);
        client.call(&["MULTI"]);
        client.call(&["PING"]);
        let expected = if runs { "*1\r\n+PONG\r\n" } else { "*-1\r\n" };
        assert_eq!(client.call(&["EXEC"]), expected, "{in_0} in 0, {in_1} in 1");
    }
}

#[test]
fn a_request_of_a_browser_ends_its_connection() {
    let server = Server::start(&[]);
    for request in
        ["POST / HTTP/1.1\r\nHost: x\r\n\r\nSET pwned 1\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\nSET pwned 1\r\n"]
    {
        let mut client = server.connect();
        client.send(request.as_bytes());
        client.rest();
    }
    assert_eq!(server.connect().call(&["EXISTS", "pwned"]), ":0\r\n");
}

#[test]
fn settings_are_text_and_times_are_far() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.send(b"*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$11\r\nrequirepass\r\n$2\r\nx\xff\r\n");
    assert_eq!(
        client.text(),
        "-ERR CONFIG SET failed (possibly related to argument 'requirepass') - a setting must be UTF-8 text\r\n"
    );
    assert_eq!(client.call(&["CONFIG", "GET", "requirepass"]), "*2\r\n$11\r\nrequirepass\r\n$0\r\n\r\n");
    client.call(&["SET", "k", "v"]);
    client.call(&["PEXPIREAT", "k", "9223372036854775807"]);
    assert_eq!(client.call(&["EXPIRETIME", "k"]), ":9223372036854776\r\n");
}

#[test]
fn the_ends_of_a_range_of_bits_are_moved_into_the_string() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\n\xff\xf0\x00\r\n");
    assert_eq!(client.text(), "+OK\r\n");
    for (words, expected) in [
        (&["BITPOS", "k", "1", "-100", "-200"][..], ":0\r\n"),
        (&["BITPOS", "k", "0", "-100", "-200"], ":-1\r\n"),
        (&["BITPOS", "k", "0", "-1", "-2"], ":-1\r\n"),
        (&["BITPOS", "k", "1", "-100", "-200", "BIT"], ":0\r\n"),
        (&["BITPOS", "k", "0", "2", "-200"], ":-1\r\n"),
        (&["BITCOUNT", "k", "-100", "-200"], ":0\r\n"),
        (&["BITCOUNT", "k", "-100", "-3"], ":8\r\n"),
    ] {
        assert_eq!(client.call(words), expected, "{words:?}");
    }
}

#[test]
fn subscriptions_are_confirmed_to_a_client_that_wants_no_replies() {
    let server = Server::start(&[]);
    let mut publisher = server.connect();
    for (mode, resp3) in [("OFF", false), ("SKIP", false), ("OFF", true), ("SKIP", true)] {
        let mut client = server.connect();
        let kind = if resp3 {
            client.call(&["HELLO", "3"]);
            '>'
        } else {
            '*'
        };
        client.send(format!("CLIENT REPLY {mode}\r\nSUBSCRIBE a b\r\n").as_bytes());
        assert_eq!(client.text(), format!("{kind}3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"));
        assert_eq!(client.text(), format!("{kind}3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n"));
        assert_eq!(publisher.call(&["PUBLISH", "a", "m"]), ":1\r\n");
        assert_eq!(client.text(), format!("{kind}3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nm\r\n"));
        if mode == "OFF" {
            // An error is a reply.
            client.send(b"SUBSCRIBE\r\nUNSUBSCRIBE b\r\n");
            assert_eq!(client.text(), format!("{kind}3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:1\r\n"));
        }
    }
}

#[test]
fn a_new_key_is_told_of_whichever_way_it_came() {
    let server = Server::start(&["--notify-keyspace-events", "KEAn", "--databases", "2"]);
    let (mut client, mut listener) = (server.connect(), server.connect());
    listener.call(&["PSUBSCRIBE", "__keyevent@*"]);
    let mut events = |client: &mut common::Raw, words: &[&str]| -> String {
        client.call(words);
        // Everything up to a message of our own.
        client.call(&["PUBLISH", "__keyevent@-: end", ""]);
        let mut seen = Vec::new();
        loop {
            let message = listener.text();
            let event = message.split("\r\n").nth(6).unwrap().to_owned();
            if event.ends_with("end") {
                return seen.join(" ");
            }
            let key = message.split("\r\n").nth(8).unwrap();
            seen.push(format!("{}={key}", event.trim_start_matches("__keyevent")));
        }
    };
    assert_eq!(events(&mut client, &["SET", "a", "1"]), "@0__:new=a @0__:set=a");
    assert_eq!(events(&mut client, &["RENAME", "a", "b"]), "@0__:new=b @0__:rename_from=a @0__:rename_to=b");
    events(&mut client, &["SET", "a", "1"]);
    assert_eq!(events(&mut client, &["RENAME", "a", "b"]), "@0__:new=b @0__:rename_from=a @0__:rename_to=b");
    assert_eq!(events(&mut client, &["RENAMENX", "b", "c"]), "@0__:new=c @0__:rename_from=b @0__:rename_to=c");
    assert_eq!(events(&mut client, &["COPY", "c", "d"]), "@0__:new=d @0__:copy_to=d");
    assert_eq!(events(&mut client, &["COPY", "c", "d"]), "");
    assert_eq!(events(&mut client, &["COPY", "c", "d", "REPLACE"]), "@0__:new=d @0__:copy_to=d");
    assert_eq!(events(&mut client, &["COPY", "c", "c", "DB", "1"]), "@1__:new=c @1__:copy_to=c");
    assert_eq!(events(&mut client, &["MOVE", "d", "1"]), "@1__:new=d @0__:move_from=d @1__:move_to=d");
    client.send(b"*2\r\n$4\r\nDUMP\r\n$1\r\nc\r\n");
    let payload = client.reply();
    let payload = &payload[payload.iter().position(|&byte| byte == b'\n').unwrap() + 1..payload.len() - 2];
    for _ in 0..2 {
        let mut restore = Vec::new();
        tercel_resp::encode::request(&mut restore, &[b"RESTORE", &b"e"[..], b"0", payload, b"REPLACE"]);
        client.send(&restore);
        assert_eq!(client.text(), "+OK\r\n");
        assert_eq!(events(&mut client, &["PING"]), "@0__:new=e @0__:restore=e");
    }
}

#[test]
fn secrets_stay_out_of_the_logs() {
    let server = Server::start(&["--slowlog-log-slower-than", "0", "--enable-protected-configs", "yes"]);
    let (mut client, mut monitor) = (server.connect(), server.connect());
    assert_eq!(monitor.call(&["MONITOR"]), "+OK\r\n");
    for name in ["masterauth", "primaryauth", "MasterUser", "tls-key-file-pass", "tls-client-key-file-pass"] {
        client.call(&["CONFIG", "SET", "hz", "11", name, "hush"]);
        client.call(&["CONFIG", "SET", name, "hush", "hz", "12"]);
    }
    client.call(&["CONFIG", "SET", "requirepass", "hush"]);
    client.call(&["HELLO", "3", "AUTH", "default", "hush", "SETNAME", "seen"]);
    client.call(&["AUTH", "default", "hush"]);
    client.call(&["CONFIG", "SET", "requirepass", ""]);
    let log = client.call(&["SLOWLOG", "GET", "-1"]);
    assert!(log.matches("(redacted)").count() >= 14 && !log.contains("hush"), "{log}");
    assert!(log.contains("$2\r\n12") && log.contains("seen"), "only what is secret is hidden: {log}");
    client.call(&["ECHO", "the end"]);
    let mut seen = String::new();
    while !seen.contains("the end") {
        seen += &monitor.text();
    }
    assert!(!seen.contains("hush"), "{seen}");
}

#[test]
fn many_keys_are_watched_by_many() {
    let server = Server::start(&[]);
    let names: Vec<String> = (0..400_000).map(|number| format!("key:{number}")).collect();
    let words: Vec<&str> = ["WATCH"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let (mut client, mut other) = (server.connect(), server.connect());
    // Some of them twice; one search in a list for each would take minutes.
    assert_eq!(client.call(&words), "+OK\r\n");
    assert_eq!(client.call(&words[..1000]), "+OK\r\n");
    assert!(client.call(&["CLIENT", "INFO"]).contains(" watch=400000 "));
    assert_eq!(other.call(&words), "+OK\r\n");
    assert_eq!(other.call(&["UNWATCH"]), "+OK\r\n");
    assert_eq!(other.call(&["SET", "key:399999", "v"]), "+OK\r\n");
    client.call(&["MULTI"]);
    assert_eq!(client.call(&["EXEC"]), "*-1\r\n");
    assert!(client.call(&["CLIENT", "INFO"]).contains(" watch=0 "));
    assert_eq!(client.info_number("total_watched_keys"), 0);
    // The same in the other per-client lists.
    let words: Vec<&str> = ["SUBSCRIBE"].into_iter().chain(names.iter().map(String::as_str)).collect();
    other.call(&words);
    drop(other);
    common::until("the end of its subscriptions", || client.call(&["PUBSUB", "CHANNELS"]) == "*0\r\n");
    let ids = names[1..].iter().map(|name| &name["key:".len()..]);
    let words: Vec<&str> = ["CLIENT", "KILL", "ID"].into_iter().chain(ids).collect();
    assert_eq!(server.connect().call(&words), ":1\r\n");
}

#[test]
fn lcs_of_long_strings_takes_little_memory() {
    let server = Server::start(&["--maxmemory", "100mb"]);
    let mut client = server.connect();
    let text =
        |step: usize| -> String { (0..30_000).map(|at| char::from(b'a' + (at * at / step % 26) as u8)).collect() };
    client.call(&["SET", "a", &text(7)]);
    client.call(&["SET", "b", &text(11)]);
    let before = server.resident_max();
    let len: usize = client.call(&["LCS", "a", "b", "LEN"]).trim_start_matches(':').trim().parse().unwrap();
    let common = client.call(&["LCS", "a", "b"]);
    assert!(common.starts_with(&format!("${len}\r\n")) && len > 10_000, "{len}");
    let ranges = client.call(&["LCS", "a", "b", "IDX", "MINMATCHLEN", "4"]);
    assert!(ranges.ends_with(&format!(":{len}\r\n")), "{ranges}");
    let grown = server.resident_max() - before;
    assert!(grown < 24 << 20, "{grown} bytes for a table of 30,000 by 30,000");
    client.call(&["SETRANGE", "a", "100000", "x"]);
    assert_eq!(
        client.call(&["LCS", "a", "b"]),
        "-ERR the strings are too long for LCS: their lengths multiplied exceed 2147483648\r\n"
    );
}

#[test]
fn statistics_that_are_set_back_begin_anew() {
    let server = Server::start(&["--requirepass", ""]);
    let mut client = server.connect();
    client.call(&["SET", "k", &"v".repeat(1 << 20)]);
    client.call(&["NOSUCHCOMMAND"]);
    client.call(&["GET", "missing"]);
    client.call(&["AUTH", "default", "x"]);
    let counted = ["total_net_input_bytes", "total_error_replies", "keyspace_misses", "total_connections_received"];
    until("the sample that has it", || client.info_number(counted[0]) > 1 << 20);
    assert!(counted.iter().all(|field| client.info_number(field) > 0));
    assert_eq!(client.call(&["CONFIG", "RESETSTAT"]), "+OK\r\n");
    assert!(client.info_number(counted[0]) < 1 << 20);
    for field in &counted[1..] {
        assert_eq!(client.info_number(field), 0, "{field}");
    }
}

/// Of two filters of a kind the later one holds, and numbers add up; who is unblocked with an error was refused, not
/// failed; a command that is done is no query any more.
#[test]
fn clients_are_shown_and_ended_as_valkey_does() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let (mut first, mut second, mut third) = (server.connect(), server.connect(), server.connect());
    assert_eq!(first.call(&["CLIENT", "SETNAME", "first"]), "+OK\r\n");
    let id_of = |peer: &mut common::Raw| peer.call(&["CLIENT", "ID"]).trim().trim_start_matches(':').to_owned();
    let (second_id, third_id) = (id_of(&mut second), id_of(&mut third));
    assert!(client.call(&["CLIENT", "LIST"]).contains("qbuf=0 "));
    assert_eq!(client.call(&["CLIENT", "KILL", "NAME", "other", "NAME", "first"]), ":1\r\n");
    third.send(&common::request(&["BLPOP", "nothing", "0"]));
    until("it waits", || client.call(&["CLIENT", "UNBLOCK", &third_id, "ERROR"]) == ":1\r\n");
    let stats = client.call(&["INFO", "commandstats"]);
    let blpop = stats.lines().find(|line| line.starts_with("cmdstat_blpop")).unwrap();
    assert!(blpop.contains("rejected_calls=1,failed_calls=0"), "{blpop}");
    assert_eq!(client.call(&["CLIENT", "KILL", "ID", &second_id, "ID", &third_id]), ":2\r\n");
}
