//! A server's life from outside: what it is started with, what it refuses to start with, how it
//! sleeps, what it tells a supervisor and a scraper, how it ends.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Raw, Server, TempDir, answers, backends, free_port, program, refused, until};

fn ping(path: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"PING\r\n")?;
    let mut reply = [0; 7];
    stream.read_exact(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

#[test]
fn a_port_in_use() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    for backend in backends() {
        let (status, said) = refused(&["--port", &port, "--bind", "127.0.0.1", "--transport-backend", backend]);
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains(&format!("127.0.0.1:{port}")) && said.contains("in use"), "{said}");
    }
    let (status, said) = refused(&["--port", &free_port().to_string(), "--bind", "127.0.0.1", "--metrics-port", &port]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("metrics") && said.contains(&port), "{said}");
}

#[test]
fn a_unix_socket_and_who_may_use_it() {
    let dir = TempDir::new();
    let path = dir.file("sock");
    let group = std::fs::metadata(&dir.0).unwrap().gid().to_string();
    for backend in backends() {
        let options = [
            "--unixsocket",
            &path,
            "--unixsocketperm",
            "700",
            "--unixsocketgroup",
            &group,
            "--transport-backend",
            backend,
        ];
        let server = Server::start(&options);
        let meta = std::fs::metadata(&path).unwrap();
        assert!(meta.file_type().is_socket());
        assert_eq!(meta.permissions().mode() & 0o777, 0o700);
        assert_eq!(meta.gid().to_string(), group);
        assert_eq!(ping(&path).unwrap(), "+PONG\r\n");
        assert!(server.terminate().success());
        assert!(!std::path::Path::new(&path).exists(), "{backend}: the socket is left behind");
    }
    let port = free_port().to_string();
    let (status, said) =
        refused(&["--port", &port, "--bind", "127.0.0.1", "--unixsocket", &path, "--unixsocketgroup", "no-such-group"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("no-such-group"), "{said}");
}

#[test]
fn a_path_that_is_not_ours() {
    let dir = TempDir::new();
    let start =
        |path: &str| refused(&["--port", &free_port().to_string(), "--bind", "127.0.0.1", "--unixsocket", path]);
    // Somebody's file is neither used nor removed.
    let file = dir.file("precious");
    std::fs::write(&file, "data").unwrap();
    let (status, said) = start(&file);
    assert!(status == Some(1) && said.contains("Failed opening Unix socket") && said.contains(&file), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "data");
    // A living server keeps its socket.
    let path = dir.file("sock");
    let server = Server::start(&["--unixsocket", &path]);
    let (status, said) = start(&path);
    assert!(status == Some(1) && said.contains(&path), "{said}");
    assert_eq!(ping(&path).unwrap(), "+PONG\r\n");
    // A dead one's is replaced.
    server.signal("-KILL");
    assert!(std::fs::metadata(&path).unwrap().file_type().is_socket());
    let server = Server::start(&["--unixsocket", &path]);
    assert_eq!(ping(&path).unwrap(), "+PONG\r\n");
    assert!(server.terminate().success());
    // The same at once, with the port: the kernel may still be taking the dead server apart.
    let (file, port) = (dir.file("server.conf"), free_port());
    std::fs::write(&file, format!("port {port}\nbind 127.0.0.1\nunixsocket {path}\nloglevel warning\n")).unwrap();
    for _ in 0..5 {
        let mut server = Server::start_file(&file, port);
        // The first connections may still reach what is left of the dead one.
        until("an answer", || ping(&path).is_ok() && answers(port));
        assert!(server.is_alive());
        server.signal("-KILL");
    }
    // A directory that is not there.
    let (status, said) = start(&dir.file("missing/sock"));
    assert!(status == Some(1) && said.contains("missing/sock"), "{said}");
}

#[test]
fn a_full_disk_under_the_log() {
    let mut server = Server::start_with(&["--logfile", "/dev/full", "--loglevel", "debug"], |command| {
        command.stderr(Stdio::null());
    });
    for _ in 0..200 {
        // Each of these is worth some lines of the log.
        let mut client = server.connect();
        assert_eq!(client.call(&["SET", "k", "v"]), "+OK\r\n");
        client.send(b"*x\r\n");
        client.rest();
    }
    assert_eq!(server.connect().call(&["GET", "k"]), "$1\r\nv\r\n");
    assert!(server.is_alive());
    assert!(server.terminate().success());
    let (status, said) = refused(&["--port", "0", "--logfile", "/nonexistent/dir/log"]);
    assert!(status == Some(1) && said.contains("/nonexistent/dir/log"), "{said}");
}

fn scrape(port: u16, path: &str) -> String {
    ask(port, "GET", path)
}

fn ask(port: u16, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

#[test]
fn a_scraper_reads_valid_prometheus_text() {
    let metrics = free_port();
    let server = Server::start(&["--metrics-port", &metrics.to_string()]);
    let mut client = server.connect();
    (0..50).for_each(|_| drop(client.call(&["SET", "k", "v"])));
    client.call(&["GET", "k"]);
    let reply = scrape(metrics, "/metrics");
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    let name_ok = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let mut kinds: HashMap<&str, &str> = HashMap::new();
    let mut samples: HashMap<&str, f64> = HashMap::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram", "summary"].contains(&kind), "{line}");
            assert!(kinds.insert(name, kind).is_none(), "declared twice: {line}");
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            assert!(name_ok(name) && labels.ends_with('}'), "{line}");
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .filter(|family| kinds.contains_key(family));
            assert!(kinds.contains_key(family.unwrap_or(name)), "no TYPE before {line}");
            assert!(samples.insert(series, value.parse().unwrap()).is_none(), "twice: {line}");
        }
    }
    assert_eq!(samples["tercel_connected_clients"], 1.0);
    assert!(samples["tercel_commands_total"] >= 51.0);
    assert!(samples.iter().any(|(series, value)| series.contains("\"set\"") && *value == 50.0), "{body}");
    assert!(scrape(metrics, "/nothing").starts_with("HTTP/1.1 404"));
    // Nonsense and silence hold nobody up.
    TcpStream::connect(("127.0.0.1", metrics)).unwrap().write_all(b"\0\0\0\r\n\r\n").unwrap();
    let _idle: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(("127.0.0.1", metrics)).unwrap()).collect();
    TcpStream::connect(("127.0.0.1", metrics)).unwrap().write_all(b"GET /metr").unwrap();
    assert!(scrape(metrics, "/metrics?x=1").starts_with("HTTP/1.1 200"));
    let head = ask(metrics, "HEAD", "/metrics");
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(ask(metrics, "PUT", "/metrics").starts_with("HTTP/1.1 405"));
    assert!(scrape(metrics, "/metrics").starts_with("HTTP/1.1 200"));
    assert_eq!(client.call(&["PING"]), "+PONG\r\n");
}

#[test]
fn a_supervisor_is_told() {
    let dir = TempDir::new();
    let path = dir.file("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let server = Server::start_with(&["--supervised", "systemd"], |command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    let mut message = [0; 1000];
    let len = socket.recv(&mut message).unwrap();
    assert!(String::from_utf8_lossy(&message[..len]).lines().any(|line| line == "READY=1"));
    assert!(server.terminate().success());
    let len = socket.recv(&mut message).unwrap();
    assert!(String::from_utf8_lossy(&message[..len]).lines().any(|line| line == "STOPPING=1"));
}

#[test]
fn every_way_to_end_in_order() {
    let dir = TempDir::new();
    let (path, pidfile) = (dir.file("sock"), dir.file("pid"));
    type End = fn(Server) -> std::process::ExitStatus;
    let by_command: End = |server| {
        let mut client = server.connect();
        client.send(b"*1\r\n$8\r\nSHUTDOWN\r\n");
        assert!(client.rest().is_empty(), "SHUTDOWN answers nothing when it works");
        server.ended()
    };
    let ends: [End; 4] = [
        by_command,
        |server| server.signal("-TERM"),
        |server| server.signal("-INT"),
        |server| {
            server.connect().send(b"SHUTDOWN NOSAVE NOW FORCE\r\n");
            server.ended()
        },
    ];
    for (end, backend) in ends.into_iter().zip(backends().into_iter().cycle()) {
        let server = Server::start(&["--unixsocket", &path, "--pidfile", &pidfile, "--transport-backend", backend]);
        // Work in hand does not keep it from ending, and what was answered has arrived.
        let mut busy = server.connect();
        busy.send(&b"INCR n\r\n".repeat(1000));
        (1..=1000).for_each(|number| assert_eq!(busy.text(), format!(":{number}\r\n")));
        assert_eq!(std::fs::read_to_string(&pidfile).unwrap().trim(), server.pid().to_string());
        let mut half = server.connect();
        half.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000\r\nhalf");
        let status = end(server);
        assert!(status.success(), "{backend}: {status}");
        assert!(!std::path::Path::new(&path).exists() && !std::path::Path::new(&pidfile).exists());
        assert!(busy.rest().is_empty());
    }
}

fn every_setting(client: &mut Raw) -> BTreeMap<String, String> {
    let reply = client.call(&["CONFIG", "GET", "*"]);
    let words: Vec<&str> = reply.split("\r\n").filter(|word| !word.starts_with(['$', '*'])).collect();
    words.chunks_exact(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect()
}

#[test]
fn a_rewritten_file_starts_the_same_server() {
    let dir = TempDir::new();
    let (file, extra, port) = (dir.file("server.conf"), dir.file("extra.conf"), free_port());
    std::fs::write(&extra, "timeout 77\nlfu-log-factor 5\n").unwrap();
    let text = format!(
        "# The first comment.\nport {port}\nbind 127.0.0.1\n\n  # An indented one.\ninclude extra.conf\nmaxmemory 100mb\nMAXMEMORY-policy allkeys-lru\nloglevel warning\nlatency-tracking-info-percentiles 50 99\n# The last comment.\n"
    );
    std::fs::write(&file, &text).unwrap();
    let server = Server::start_file(&file, port);
    let mut client = server.connect();
    let given = every_setting(&mut client);
    assert_eq!(
        (given["timeout"].as_str(), given["maxmemory"].as_str(), given["maxmemory-policy"].as_str()),
        ("77", "104857600", "allkeys-lru")
    );
    let changes = [
        ("maxmemory", "200mb"),
        ("requirepass", "a \"quoted\" pass # word"),
        ("notify-keyspace-events", "KEA"),
        ("client-output-buffer-limit", "normal 10mb 5mb 60"),
        ("busy-poll-us", "10"),
        ("maxmemory-clients", "10%"),
        ("latency-tracking-info-percentiles", "50 99.9"),
        ("availability-zone", "zone 1"),
        ("slowlog-log-slower-than", "12345"),
    ];
    for (name, value) in changes {
        assert_eq!(client.call(&["CONFIG", "SET", name, value]), "+OK\r\n", "{name}");
    }
    assert_eq!(client.call(&["CONFIG", "REWRITE"]), "+OK\r\n");
    let before = every_setting(&mut client);
    let rewritten = std::fs::read_to_string(&file).unwrap();
    for kept in ["# The first comment.", "# An indented one.", "# The last comment.", "include extra.conf"] {
        assert_eq!(rewritten.lines().filter(|line| line.trim() == kept).count(), 1, "{rewritten}");
    }
    assert_eq!(std::fs::read_to_string(&extra).unwrap(), "timeout 77\nlfu-log-factor 5\n");
    assert!(server.terminate().success());
    let server = Server::start_file(&file, port);
    let mut client = server.connect();
    assert!(client.call(&["PING"]).starts_with("-NOAUTH"));
    assert_eq!(client.call(&["AUTH", "a \"quoted\" pass # word"]), "+OK\r\n");
    assert_eq!(every_setting(&mut client), before);
    // Rewriting what did not change changes nothing.
    assert_eq!(client.call(&["CONFIG", "REWRITE"]), "+OK\r\n");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), rewritten);
    assert!(
        Server::start(&[])
            .connect()
            .call(&["CONFIG", "REWRITE"])
            .starts_with("-ERR The server is running without a config file")
    );
}

#[test]
fn a_wrong_configuration_is_named() {
    let dir = TempDir::new();
    let file = dir.file("server.conf");
    std::fs::write(dir.file("broken.conf"), "# one\nhz many\n").unwrap();
    let port = free_port();
    for (line, place, reason) in [
        ("nosuch-setting 1", "server.conf line 3", "Bad directive or wrong number of arguments"),
        ("port 99999", "server.conf line 3", "argument must be between 0 and 65535 inclusive"),
        ("port", "server.conf line 3", "Bad directive or wrong number of arguments"),
        ("maxmemory lots", "server.conf line 3", "argument must be a memory value"),
        ("maxmemory-policy some", "server.conf line 3", "allkeys-lru"),
        ("requirepass \"open", "server.conf line 3", "Unbalanced quotes in configuration line"),
        ("appendonly yes", "server.conf line 3", "not supported"),
        ("unixsocketperm 999", "server.conf line 3", "octal"),
        ("include broken.conf", "broken.conf line 2", "argument couldn't be parsed into an integer"),
        ("include missing.conf", "missing.conf", "No such file"),
        ("include server.conf", "server.conf", "included too deeply"),
    ] {
        std::fs::write(&file, format!("# comment\nport {port}\n{line}\n")).unwrap();
        let (status, said) = refused(&[&file]);
        assert_eq!(status, Some(1), "{line}: {said}");
        assert!(said.contains(place) && said.contains(reason), "{line}: {said}");
    }
    let (status, said) = refused(&["--port", "x"]);
    assert!(status == Some(1) && said.contains("--port x"), "{said}");
    let (status, said) = refused(&[&dir.file("none.conf")]);
    assert!(status == Some(1) && said.contains("none.conf"), "{said}");
}

#[test]
fn a_configuration_from_standard_input() {
    let port = free_port();
    let mut child = Command::new(program())
        .args(["-", "--timeout", "5"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(format!("port {port}\nbind 127.0.0.1\nloglevel warning\nhz 33\n").as_bytes())
        .unwrap();
    until("the server", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let mut client = Raw::connect(port);
    assert_eq!(client.call(&["CONFIG", "GET", "hz"]), "*2\r\n$2\r\nhz\r\n$2\r\n33\r\n");
    assert!(client.call(&["CONFIG", "REWRITE"]).starts_with("-ERR The server is running without a config file"));
    client.send(b"SHUTDOWN\r\n");
    assert!(child.wait().unwrap().success());
    assert!(!std::path::Path::new("-").exists());
}

fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn an_idle_server_sleeps() {
    for backend in backends() {
        let server = Server::start(&["--transport-backend", backend]);
        let mut clients: Vec<Raw> = (0..100).map(|_| server.connect()).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.call(&["PING"]), "+PONG\r\n"));
        clients[0].call(&["SET", "later", "v", "EX", "1000"]);
        let before = cpu_ticks(server.pid());
        std::thread::sleep(Duration::from_secs(2));
        let used = cpu_ticks(server.pid()) - before;
        // A tick is 10 ms: 5 % of two seconds.
        assert!(used <= 10, "{backend}: {used} ticks in two idle seconds");
        clients.iter_mut().for_each(|client| assert_eq!(client.call(&["PING"]), "+PONG\r\n"));
    }
}

#[test]
fn no_event_is_lost_on_the_way_to_sleep() {
    for (backend, spin_us) in [("auto", "0"), ("auto", "50"), ("epoll", "0"), ("epoll", "50")] {
        // The timer wakes the server once a second only: an event that was missed waits that long.
        let server = Server::start(&["--transport-backend", backend, "--busy-poll-us", spin_us, "--hz", "1"]);
        let mut client = server.connect();
        let (mut seed, mut late) = (0x2545_f491_4f6c_dd1d_u64, 0);
        for _ in 0..2500 {
            let begin = Instant::now();
            assert_eq!(client.call(&["PING"]), "+PONG\r\n");
            late += usize::from(begin.elapsed() > Duration::from_millis(400));
            // Up to 120 us: before, at and after the moment the server goes to sleep.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let pause = Instant::now();
            while pause.elapsed() < Duration::from_nanos(seed % 120_000) {
                std::hint::spin_loop();
            }
        }
        // A machine may stall once; a race would be met again and again.
        assert!(late <= 2, "{backend}, spinning {spin_us} us: {late} answers came with the timer");
    }
}

#[test]
fn a_log_that_was_moved_away_goes_on_under_its_name() {
    let dir = TempDir::new();
    let (log, moved) = (dir.file("t.log"), dir.file("t.log.1"));
    let server = Server::start(&["--logfile", &log, "--loglevel", "debug"]);
    common::until("the log", || std::fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0));
    std::fs::rename(&log, &moved).unwrap();
    common::until("the log under its own name", || {
        server.connect().call(&["PING"]);
        std::fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0)
    });
}

#[test]
fn patterns_of_files_are_included() {
    let dir = TempDir::new();
    std::fs::write(dir.file("a1.conf"), "timeout 11\n").unwrap();
    std::fs::write(dir.file("a2.conf"), "maxclients 77\n").unwrap();
    let main = dir.file("main.conf");
    let port = common::free_port();
    std::fs::write(&main, format!("port {port}\ninclude a*.conf\ninclude none*.conf\n")).unwrap();
    let server = Server::start_file(&main, port);
    let mut client = server.connect();
    assert_eq!(client.call(&["CONFIG", "GET", "timeout"]), "*2\r\n$7\r\ntimeout\r\n$2\r\n11\r\n");
    assert_eq!(client.call(&["CONFIG", "GET", "maxclients"]), "*2\r\n$10\r\nmaxclients\r\n$2\r\n77\r\n");
    std::fs::write(&main, "port 1\ninclude missing.conf\n").unwrap();
    let (status, said) = refused(&[&main]);
    assert!(status == Some(1) && said.contains("line 2") && said.contains("missing.conf"), "{said}");
}

#[test]
fn what_cannot_be_is_refused_at_start() {
    for (arguments, expected) in [
        (&["--port", "0"][..], "Configured to not listen anywhere, exiting."),
        (&["--cpu-affinity", "abc"], "must be a list of processors"),
        (&["--rename-command", "FLUSHALL", ""], "'rename-command' is not supported by this version"),
    ] {
        let (status, said) = refused(arguments);
        assert!(status == Some(1) && said.contains(expected), "{arguments:?}: {said}");
    }
}
