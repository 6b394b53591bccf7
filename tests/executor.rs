//! The executor in the test's own thread: turns are counted, nothing depends on time. Mostly over the
//! in-memory transport; where it is the kernel's way of delivering that matters, over sockets.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tercel::executor::Executor;
use tercel_core::server::Server;
use tercel_core::settings::Settings;
use tercel_transport::conformance::left_out;
use tercel_transport::memory::{MemoryNet, MemoryPeer, MemoryTransport};
use tercel_transport::{
    Address, Close, ConnId, ConnectError, ConnectOptions, Event, ListenerId, Peer, Stats, Transport, TxBuf, Wake,
};
use tercel_transport_tcp::{Backend, ListenAddr, TcpOptions, TcpTransport};

const TURNS_MAX: usize = 10_000;

fn executor<T: Transport>(transport: T, settings: Settings) -> Executor<T> {
    let server = Server::new(&tercel_commands::commands().table, settings, tercel::start::host::machine(), ".".into());
    Executor::new(transport, tercel_commands::commands(), server, Arc::new(AtomicUsize::new(0)))
}

/// An executor nobody talks to over a network.
struct House {
    executor: Executor<MemoryTransport>,
    net: MemoryNet,
}

impl House {
    fn new() -> House {
        House::with(Settings::default())
    }

    fn with(settings: Settings) -> House {
        let transport = MemoryTransport::new();
        let net = transport.net();
        House { executor: executor(transport, settings), net }
    }

    /// Turns until there is nothing left to do.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            if !self.executor.turn() {
                return;
            }
        }
        panic!("the executor never comes to rest");
    }

    fn call(&mut self, client: &MemoryPeer, words: &[&str]) -> String {
        let bytes = request(words);
        assert_eq!(client.write(&bytes), bytes.len());
        self.settle();
        text(client)
    }
}

/// The settings with one at another value, those that are fixed at start too.
fn setting(settings: &Settings, name: &str, value: &str) -> Settings {
    let mut changed = settings.clone();
    (tercel_core::settings::find(name).unwrap().set)(&mut changed, &[value]).unwrap();
    changed
}

fn request(words: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    tercel_resp::encode::request(&mut bytes, words);
    bytes
}

fn text(client: &MemoryPeer) -> String {
    String::from_utf8_lossy(&client.read_available()).into_owned()
}

/// Histograms are brought up to date after a batch's replies; who asks within the batch sees all before.
#[test]
fn latencies_are_there_for_a_question_in_the_same_batch() {
    let mut house = House::new();
    let client = house.net.connect();
    let mut batch = request(&["SET", "key", "value"]);
    // More than wait for their histograms at a time.
    (0..100).for_each(|_| batch.extend(request(&["GET", "key"])));
    batch.extend(request(&["LATENCY", "HISTOGRAM", "get"]));
    assert_eq!(client.write(&batch), batch.len());
    house.settle();
    let answer = text(&client);
    let shown = answer.rsplit_once("$14\r\nhistogram_usec\r\n").unwrap().1;
    assert!(shown.ends_with(":100\r\n"), "{shown}");

    let mut batch = request(&["GET", "key"]);
    batch.extend(request(&["CONFIG", "RESETSTAT"]));
    assert_eq!(client.write(&batch), batch.len());
    house.settle();
    assert!(text(&client).ends_with("+OK\r\n"));
    assert_eq!(house.call(&client, &["LATENCY", "HISTOGRAM", "get"]), "*0\r\n");
}

#[test]
fn commands_split_at_every_byte() {
    let mut frames = Vec::new();
    for words in [
        &["SET", "k", "a \r\n b"][..],
        &["GET", "k"],
        &["MSET", "x", "1", "y", "2"],
        &["INCR", "x"],
        &["DEL", "k", "x", "y", "z"],
    ] {
        frames.extend(request(words));
    }
    frames.extend_from_slice(b"PING\r\nECHO \"q r\"\r\n");
    let expected = "+OK\r\n$6\r\na \r\n b\r\n+OK\r\n:2\r\n:3\r\n+PONG\r\n$3\r\nq r\r\n";
    for at in 0..=frames.len() {
        let mut house = House::new();
        let client = house.net.connect();
        client.write(&frames[..at]);
        house.settle();
        client.write(&frames[at..]);
        house.settle();
        assert_eq!(text(&client), expected, "split at {at}");
    }
    // And every byte on its own.
    let mut house = House::new();
    let client = house.net.connect();
    for byte in &frames {
        client.write(&[*byte]);
        house.settle();
    }
    assert_eq!(text(&client), expected);
}

#[test]
fn a_large_argument_split_anywhere_around_its_ends() {
    let value = "v".repeat(100_000);
    let frame = [request(&["SET", "big", &value]), request(&["STRLEN", "big"])].concat();
    let interesting = (0..60).chain(frame.len() - 60..frame.len());
    for at in interesting {
        let mut house = House::new();
        let client = house.net.connect();
        client.write(&frame[..at]);
        house.settle();
        client.write(&frame[at..]);
        house.settle();
        assert_eq!(text(&client), "+OK\r\n:100000\r\n", "split at {at}");
    }
}

#[test]
fn pipelines_of_many_clients_become_batches() {
    let mut house = House::new();
    let clients: Vec<MemoryPeer> = (0..50).map(|_| house.net.connect()).collect();
    house.settle();
    for (number, client) in clients.iter().enumerate() {
        let key = format!("k{number}");
        for round in 0..20 {
            client.write(&request(&["SET", &key, &round.to_string()]));
            client.write(&request(&["GET", &key]));
        }
    }
    let before = house.executor.server().stats().turns().prefetch_batches;
    let turns_before = house.executor.server().stats().turns().busy_turns;
    house.settle();
    let batches = house.executor.server().stats().turns().prefetch_batches - before;
    // 2,000 commands, at most 512 a batch and 128 of one client.
    assert!((4..=8).contains(&batches), "{batches} batches");
    assert!(house.executor.server().stats().turns().busy_turns - turns_before <= 10);
    let expected: String =
        (0..20).map(|round: usize| format!("+OK\r\n${}\r\n{round}\r\n", round.to_string().len())).collect();
    for client in &clients {
        assert_eq!(text(client), expected);
    }
}

#[test]
fn a_long_pipeline_does_not_hold_up_the_others() {
    let mut house = House::new();
    let (greedy, modest) = (house.net.connect(), house.net.connect());
    house.settle();
    greedy.write(&request(&["INCR", "n"]).repeat(2000));
    modest.write(&request(&["PING"]));
    let mut turns = 0;
    while text(&modest).is_empty() {
        assert!(house.executor.turn());
        turns += 1;
    }
    let done = tercel_resp_count(&greedy.read_available());
    assert!(turns <= 2 && done <= 256, "served after {turns} turns and {done} commands of the other");
    house.settle();
    assert_eq!(house.call(&modest, &["GET", "n"]), "$4\r\n2000\r\n");
}

fn tercel_resp_count(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some(len) = tercel_resp::reply::skip(bytes).unwrap().filter(|len| *len > 0) {
        bytes = &bytes[len..];
        count += 1;
    }
    count
}

#[test]
fn the_wait_before_parsing_is_counted_for_every_command() {
    use tercel_core::stats::Phase;
    use tercel_transport::PeerKind;
    let limits = [("batch-commands-max", "1"), ("enable-debug-command", "yes")];
    let settings = limits.iter().fold(Settings::default(), |settings, (name, value)| setting(&settings, name, value));
    let mut house = House::with(settings);
    let (slow, waiting) = (house.net.connect(), house.net.connect());
    house.settle();
    // Both arrive before the same poll; a batch holds one command, so the second waits for the first.
    slow.write(&request(&["DEBUG", "SLEEP", "0.03"]));
    waiting.write(&request(&["PING"]));
    house.settle();
    assert_eq!(text(&waiting), "+PONG\r\n");
    let stats = house.executor.server().stats();
    let (arrive, execute) =
        (stats.phase(Phase::Arrive, PeerKind::Socket), stats.phase(Phase::Execute, PeerKind::Socket));
    assert_eq!((arrive.len(), execute.len()), (2, 2));
    assert!(arrive.max() >= 30_000_000, "the second waited {} ns", arrive.max());
    assert!(arrive.min() < arrive.max(), "the first did not wait for anybody");
}

#[test]
fn a_client_that_goes_amid_a_batch_leaves_the_others_alone() {
    for close in [MemoryPeer::close as fn(&MemoryPeer), |peer| peer.fail(104)] {
        let mut house = House::new();
        let clients: Vec<MemoryPeer> = (0..3).map(|_| house.net.connect()).collect();
        house.settle();
        for client in &clients {
            client.write(&request(&["INCR", "n"]).repeat(300));
        }
        house.executor.turn();
        close(&clients[1]);
        house.settle();
        for client in [&clients[0], &clients[2]] {
            assert_eq!(tercel_resp_count(&client.read_available()), 300);
        }
        assert_eq!(house.executor.server().clients().len(), 2);
        let n: i64 = house.call(&clients[0], &["GET", "n"]).lines().nth(1).unwrap().parse().unwrap();
        assert!((600..=900).contains(&n), "{n}");
    }
}

#[test]
fn what_was_sent_before_the_end_is_done() {
    let mut house = House::new();
    let (client, other) = (house.net.connect(), house.net.connect());
    client.write(&request(&["INCR", "n"]).repeat(500));
    client.close();
    house.settle();
    assert_eq!(house.call(&other, &["GET", "n"]), "$3\r\n500\r\n");
    assert_eq!(house.executor.server().clients().len(), 1);
}

#[test]
fn a_client_that_kills_others_amid_the_batch() {
    let mut house = House::new();
    let (killer, victim) = (house.net.connect(), house.net.connect());
    let id = house.call(&victim, &["CLIENT", "ID"]).trim_start_matches(':').trim_end().to_owned();
    // Both are in the same batch: the killer's command comes first.
    killer.write(&request(&["CLIENT", "KILL", "ID", &id]));
    victim.write(&request(&["SET", "never", "1"]));
    house.settle();
    assert_eq!(text(&killer), ":1\r\n");
    assert!(victim.is_ended() && text(&victim).is_empty());
    assert_eq!(house.call(&killer, &["EXISTS", "never"]), ":0\r\n");
}

#[test]
fn transactions_see_what_happens_between() {
    let mut house = House::new();
    let (client, other) = (house.net.connect(), house.net.connect());
    house.call(&client, &["SET", "k", "1"]);
    assert_eq!(house.call(&client, &["WATCH", "k"]), "+OK\r\n");
    assert_eq!(house.call(&client, &["MULTI"]), "+OK\r\n");
    assert_eq!(house.call(&client, &["INCR", "k"]), "+QUEUED\r\n");
    assert_eq!(house.call(&other, &["SET", "k", "10"]), "+OK\r\n");
    assert_eq!(house.call(&client, &["EXEC"]), "*-1\r\n");
    // Undisturbed, in one pipeline with what surrounds it.
    let words: [&[&str]; 6] = [&["WATCH", "k"], &["MULTI"], &["INCR", "k"], &["GET", "k"], &["EXEC"], &["PING"]];
    client.write(&words.iter().flat_map(|words| request(words)).collect::<Vec<u8>>());
    house.settle();
    assert_eq!(text(&client), "+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:11\r\n$2\r\n11\r\n+PONG\r\n");
    // An error while queueing ends it, whatever follows.
    assert_eq!(house.call(&client, &["MULTI"]), "+OK\r\n");
    assert!(house.call(&client, &["INCR"]).starts_with("-ERR wrong number"));
    assert_eq!(house.call(&client, &["EXEC"]), "-EXECABORT Transaction discarded because of previous errors.\r\n");
    // An EXEC that cannot run ends it too.
    house.call(&client, &["MULTI"]);
    let error = "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n";
    assert_eq!(house.call(&client, &["EXEC", "x"]), error);
    assert_eq!(house.call(&client, &["GET", "k"]), "$2\r\n11\r\n");
}

#[test]
fn messages_arrive_in_the_turn_they_are_published() {
    let mut house = House::new();
    let (subscriber, modern, publisher) = (house.net.connect(), house.net.connect(), house.net.connect());
    house.call(&modern, &["HELLO", "3"]);
    house.call(&subscriber, &["SUBSCRIBE", "c"]);
    house.call(&modern, &["SUBSCRIBE", "c"]);
    publisher.write(&[request(&["PUBLISH", "c", "1"]), request(&["PUBLISH", "c", "2"])].concat());
    house.executor.turn();
    assert_eq!(text(&publisher), ":2\r\n:2\r\n");
    assert_eq!(
        text(&subscriber),
        "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\n1\r\n*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\n2\r\n"
    );
    assert_eq!(
        text(&modern),
        ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\n1\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\n2\r\n"
    );
    // A push to oneself follows the reply of the command that caused it.
    assert_eq!(house.call(&modern, &["PUBLISH", "c", "3"]), ":2\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\n3\r\n");
}

#[test]
fn a_pause_holds_commands_in_order() {
    let mut house = House::new();
    let (admin, client) = (house.net.connect(), house.net.connect());
    house.call(&client, &["SET", "k", "1"]);
    house.call(&admin, &["CLIENT", "PAUSE", "100000", "WRITE"]);
    client.write(&[request(&["GET", "k"]), request(&["SET", "k", "2"]), request(&["GET", "k"])].concat());
    house.settle();
    assert_eq!(text(&client), "$1\r\n1\r\n", "reads go on, up to the first write");
    assert_eq!(house.call(&admin, &["GET", "k"]), "$1\r\n1\r\n");
    assert_eq!(house.call(&admin, &["CLIENT", "UNPAUSE"]), "+OK\r\n");
    house.settle();
    assert_eq!(text(&client), "+OK\r\n$1\r\n2\r\n");
}

#[test]
fn a_reader_with_a_closed_window_gets_everything_later() {
    let mut house = House::new();
    let (slow, other) = (house.net.connect(), house.net.connect());
    house.call(&other, &["SET", "k", &"v".repeat(5000)]);
    slow.set_window(100);
    slow.write(&request(&["GET", "k"]).repeat(20));
    house.settle();
    assert_eq!(house.call(&other, &["PING"]), "+PONG\r\n");
    let mut seen = Vec::new();
    for _ in 0..TURNS_MAX {
        seen.extend(slow.read_available());
        house.executor.turn();
    }
    assert_eq!(seen.len(), 20 * (5000 + "$5000\r\n\r\n".len()));
    assert_eq!(tercel_resp_count(&seen), 20);
}

/// The in-memory transport, but every peer claims to be on another host.
struct Elsewhere {
    inner: MemoryTransport,
    peer: Peer,
}

impl Transport for Elsewhere {
    fn name(&self) -> &'static str {
        "elsewhere"
    }
    fn poll(&mut self, events: &mut Vec<Event>) {
        self.inner.poll(events);
    }
    fn park(&mut self, timeout: Option<Duration>) {
        self.inner.park(timeout);
    }
    fn waker(&self) -> Arc<dyn Wake> {
        self.inner.waker()
    }
    fn connect(&mut self, to: &Address, options: &ConnectOptions) -> Result<ConnId, ConnectError> {
        self.inner.connect(to, options)
    }
    fn listener(&self, conn: ConnId) -> Option<ListenerId> {
        self.inner.listener(conn)
    }
    fn peer(&self, conn: ConnId) -> Option<&Peer> {
        self.inner.peer(conn).map(|_| &self.peer)
    }
    fn received(&self, conn: ConnId) -> &[u8] {
        self.inner.received(conn)
    }
    fn consume(&mut self, conn: ConnId, len: usize) {
        self.inner.consume(conn, len);
    }
    fn set_receive_limit(&mut self, conn: ConnId, bytes: usize) {
        self.inner.set_receive_limit(conn, bytes);
    }
    fn lease(&mut self) -> TxBuf {
        self.inner.lease()
    }
    fn send(&mut self, conn: ConnId, buf: TxBuf) {
        self.inner.send(conn, buf);
    }
    fn flush(&mut self) {
        self.inner.flush();
    }
    fn unsent(&self, conn: ConnId) -> usize {
        self.inner.unsent(conn)
    }
    fn unsent_memory(&self, conn: ConnId) -> usize {
        self.inner.unsent_memory(conn)
    }
    fn close(&mut self, conn: ConnId, how: Close) {
        self.inner.close(conn, how);
    }
    fn memory(&self, conn: ConnId) -> usize {
        self.inner.memory(conn)
    }
    fn stats(&self) -> Stats {
        self.inner.stats()
    }
}

#[test]
fn protected_mode_refuses_other_hosts() {
    let addr: SocketAddr = "192.0.2.7:5000".parse().unwrap();
    for (remote, protected, password, admitted) in [
        (addr, true, "", false),
        (addr, true, "secret", true),
        (addr, false, "", true),
        ("127.0.0.9:1".parse().unwrap(), true, "", true),
        ("[::1]:1".parse().unwrap(), true, "", true),
        ("[2001:db8::1]:1".parse().unwrap(), true, "", false),
        ("[::ffff:127.0.0.1]:1".parse().unwrap(), true, "", true),
    ] {
        let inner = MemoryTransport::new();
        let net = inner.net();
        let transport = Elsewhere { inner, peer: Peer::Tcp { remote, local: addr } };
        let settings = Settings { protected_mode: protected, requirepass: password.to_owned(), ..Settings::default() };
        let mut executor = executor(transport, settings);
        let client = net.connect();
        client.write(&request(&["GET", "k"]));
        for _ in 0..100 {
            executor.turn();
        }
        let reply = text(&client);
        if admitted {
            assert_eq!(
                reply,
                if password.is_empty() { "$-1\r\n" } else { "-NOAUTH Authentication required.\r\n" },
                "{remote}"
            );
        } else {
            assert!(reply.starts_with("-DENIED ") && client.is_ended(), "{remote}: {reply}");
            assert_eq!(executor.server().clients().counters().rejected, 1);
        }
    }
}

/// Everything of one command may be there before the executor looks for the first time: more, with
/// io_uring, than back-pressure would have let in. It must not wait for bytes that cannot come.
#[test]
fn a_command_of_many_arguments_that_arrives_at_once() {
    for backend in [Backend::IoUring, Backend::Epoll] {
        let mut transport = match TcpTransport::new(TcpOptions { backend, ..TcpOptions::default() }) {
            Err(error) if backend == Backend::IoUring => {
                left_out("io_uring", error);
                continue;
            }
            made => made.unwrap(),
        };
        let listener = transport.listen(&ListenAddr::Tcp("127.0.0.1:0".parse().unwrap()), 16).unwrap();
        let addr = transport.local_addr(listener).unwrap();
        let mut executor = executor(transport, Settings::default());
        for kib in [300, 600, 900, 2000] {
            let mut client = TcpStream::connect(addr).unwrap();
            for _ in 0..10 {
                executor.turn();
            }
            let mut words = vec!["DEL".to_owned()];
            words.extend((0..kib).map(|at| format!("{at:0>1000}")));
            let frame = request(&words.iter().map(String::as_str).collect::<Vec<_>>());
            client.set_nonblocking(true).unwrap();
            let mut written = 0;
            let mut reply = [0; 16];
            let mut seen = 0;
            for _ in 0..200_000 {
                // As much as the kernel takes before each turn.
                while written < frame.len() {
                    match client.write(&frame[written..]) {
                        Ok(len) => written += len,
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::WouldBlock);
                            break;
                        }
                    }
                }
                executor.turn();
                if let Ok(len) = client.read(&mut reply[seen..]) {
                    seen += len;
                    break;
                }
            }
            assert_eq!(&reply[..seen], b":0\r\n", "{backend:?}, {kib} KiB, {written} of {} bytes written", frame.len());
        }
    }
}

#[test]
fn while_a_snapshot_is_loaded_only_those_are_served_who_do_not_need_it() {
    use tercel_core::settings::{FileName, LocalAccess};
    let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/loading.rdb");
    let settings = || {
        let mut settings = Settings { dbfilename: FileName(path.to_owned()), ..Settings::default() };
        settings.enable_debug_command.0 = LocalAccess::Yes;
        settings
    };
    let mut house = House::with(settings());
    let client = house.net.connect();
    assert_eq!(house.call(&client, &["SET", "a", "1"]), "+OK\r\n");
    assert_eq!(house.call(&client, &["SAVE"]), "+OK\r\n");

    let mut house = House::with(settings());
    let client = house.net.connect();
    house.executor.server_mut().persistence_mut().load_begin().unwrap();
    let loading = "-LOADING Valkey is loading the dataset in memory\r\n";
    for command in [&["GET", "a"][..], &["SET", "a", "2"], &["DBSIZE"], &["SAVE"], &["BGSAVE"], &["PING"]] {
        assert_eq!(house.call(&client, command), loading, "{command:?}");
    }
    let info = house.call(&client, &["INFO", "persistence"]);
    assert!(info.contains("loading:1\r\n") && info.contains("loading_total_bytes:"), "{info}");
    assert_eq!(house.call(&client, &["MULTI"]), "+OK\r\n");
    assert_eq!(house.call(&client, &["DISCARD"]), "+OK\r\n");
    // It would save what is there so far over the whole.
    assert_eq!(house.call(&client, &["DEBUG", "RELOAD"]), loading);
    // What is loaded in part is not saved over the whole.
    assert!(house.executor.server().settings().save.points.len() == 3);
    house.call(&client, &["SHUTDOWN"]);
    assert!(house.executor.load().unwrap().is_none());
    assert_eq!(house.call(&client, &["GET", "a"]), "$1\r\n1\r\n");
    assert_eq!(house.call(&client, &["INFO", "persistence"]).matches("rdb_last_load_keys_loaded:1\r\n").count(), 1);
    std::fs::remove_file(path).unwrap();
}

/// A command that a pause held back is bounded in its answer as any other.
#[test]
fn an_answer_over_the_limit_after_a_pause_ends_its_client() {
    let mut house = House::new();
    let (writer, other) = (house.net.connect(), house.net.connect());
    assert_eq!(house.call(&other, &["SET", "k", &"v".repeat(200_000)]), "+OK\r\n");
    house.call(&other, &["CONFIG", "SET", "client-output-buffer-limit", "normal 100000 0 0"]);
    house.call(&other, &["CLIENT", "PAUSE", "100000", "WRITE"]);
    assert_eq!(house.call(&writer, &["SET", "k", &"w".repeat(150_000), "GET"]), "");
    assert_eq!(house.executor.server().clients().len(), 2);
    house.call(&other, &["CLIENT", "UNPAUSE"]);
    house.settle();
    let clients = house.executor.server().clients();
    assert_eq!((clients.len(), clients.counters().output_over), (1, 1));
}
