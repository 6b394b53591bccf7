//! The server over RDMA, on the software provider, in the test's own thread, sockets beside it: what a
//! client can do over TCP it can do here, and limits hold.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use tercel::executor::Executor;
use tercel::network::listeners::{self, Listeners};
use tercel::network::{Network, rdma_options};
use tercel_core::links::{Link, LinkEnd};
use tercel_core::server::{LinkHandler, Server};
use tercel_core::settings::Settings;
use tercel_rdma::endpoint::Options;
use tercel_rdma::proto::{Control, Window};
use tercel_rdma::software::{Fabric, Faults, SoftDevice, SoftLimits};
use tercel_rdma::verbs::{
    Access, Arrived, CmEvent, Completion, ConnParams, Device as _, Qp, QpCaps, RecvWr, Region, SendOp, SendWr, Sge,
};
use tercel_rdma::{RdmaClient, RdmaTransport};
use tercel_transport::client::{Client, Received};
use tercel_transport::{Address, Close, ConnectOptions, Event, Transport};
use tercel_transport_tcp::{Backend, TcpOptions, TcpTransport};

const PATIENCE: Duration = Duration::from_secs(20);

struct House {
    fabric: Fabric,
    executor: Executor<Network<SoftDevice>>,
    client: RdmaClient<SoftDevice>,
    port: u16,
}

/// Settings as a file would give them, on RDMA address 10.0.0.1 and a free TCP port.
fn settings(lines: &[(&str, &str)]) -> Settings {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut all = vec![
        ("port", port.as_str()),
        ("bind", "127.0.0.1"),
        ("rdma-port", "6379"),
        ("rdma-bind", "10.0.0.1"),
        ("rdma-rx-size", "65536"),
        ("protected-mode", "no"),
        ("hz", "500"),
        ("save", ""),
    ];
    all.extend_from_slice(lines);
    let options: Vec<(String, Vec<String>)> =
        all.iter().map(|(name, value)| ((*name).to_owned(), value.split(' ').map(str::to_owned).collect())).collect();
    tercel_core::settings::file::load(&tercel::start::disk::MachineDisk, &[], &options).unwrap()
}

impl House {
    fn new(lines: &[(&str, &str)]) -> House {
        House::with(lines, 7)
    }

    fn with(lines: &[(&str, &str)], seed: u64) -> House {
        House::on(Fabric::new(seed, Faults::default()), lines)
    }

    fn on(fabric: Fabric, lines: &[(&str, &str)]) -> House {
        let settings = settings(lines);
        let of = fabric.clone();
        let open =
            move |settings: &Settings| RdmaTransport::new(of.device(SoftLimits::default())?, rdma_options(settings));
        let sockets = TcpTransport::new(TcpOptions { backend: Backend::Epoll, ..TcpOptions::default() }).unwrap();
        let mut network = Network::new(sockets, Box::new(open));
        let mut listeners: Listeners = listeners::listen(network.sockets(), &settings).unwrap();
        network.listen_rdma(&mut listeners, &settings).unwrap();
        let port = settings.port as u16;
        let server =
            Server::new(&tercel_commands::commands().table, settings, tercel::start::host::machine(), ".".into());
        let mut executor = Executor::new(network, tercel_commands::commands(), server, Arc::new(AtomicUsize::new(0)));
        executor.on_settings(Box::new(move |network, old, new| network.follow(&mut listeners, old, new)));
        let addr: SocketAddr = "10.0.0.1:6379".parse().unwrap();
        let options = Options { unheard_max: u32::MAX, ..Options::default() };
        let client = RdmaClient::new(fabric.device(SoftLimits::default()).unwrap(), options, addr).unwrap();
        House { fabric, executor, client, port }
    }

    fn turn(&mut self) {
        self.executor.turn();
        self.client.poll(&mut Vec::new());
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut House) -> bool) {
        let start = Instant::now();
        while !done(self) {
            self.turn();
            assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        }
    }

    fn dial(&mut self) -> usize {
        let conn = self.client.dial().unwrap();
        let id = self.client.id(conn).unwrap();
        self.until("a connection", |house| house.client.endpoint().is_live(id));
        conn
    }

    fn send(&mut self, conn: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.client.send(conn, bytes).unwrap();
            self.client.flush();
            bytes = &bytes[taken..];
            self.turn();
        }
    }

    /// What arrives within some turns of silence; the end of the connection shows as `<end>`.
    fn hear(&mut self, conn: usize) -> Vec<u8> {
        let (mut heard, mut silent) = (Vec::new(), 0);
        let mut room = vec![0; 64 * 1024];
        while silent < 200 {
            self.turn();
            match self.client.receive(conn, &mut room) {
                Ok(Received::Bytes(len)) => {
                    heard.extend_from_slice(&room[..len]);
                    silent = 0;
                }
                Ok(Received::Nothing) => silent += 1,
                Ok(Received::Eof) | Err(_) => {
                    heard.extend_from_slice(b"<end>");
                    break;
                }
            }
        }
        heard
    }

    fn call(&mut self, conn: usize, words: &[&str]) -> String {
        let mut request = Vec::new();
        tercel_resp::encode::request(&mut request, words);
        self.send(conn, &request);
        String::from_utf8(self.hear(conn)).unwrap()
    }

    /// A field of INFO.
    fn info(&mut self, conn: usize, section: &str, field: &str) -> String {
        let text = self.call(conn, &["INFO", section]);
        let found = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':').map(str::to_owned));
        found.unwrap_or_else(|| panic!("no {field} in {text}"))
    }
}

#[test]
fn commands_pipelines_transactions_and_long_values() {
    let mut house = House::new(&[]);
    let conn = house.dial();
    assert_eq!(house.call(conn, &["SET", "k", "v"]), "+OK\r\n");
    assert_eq!(house.call(conn, &["GET", "k"]), "$1\r\nv\r\n");
    let mut pipeline = Vec::new();
    for number in 0..5000 {
        tercel_resp::encode::request(&mut pipeline, &["SET", &format!("key:{number}"), &"x".repeat(number % 300)]);
        tercel_resp::encode::request(&mut pipeline, &["STRLEN", &format!("key:{number}")]);
    }
    house.send(conn, &pipeline);
    let want: String = (0..5000).map(|number| format!("+OK\r\n:{}\r\n", number % 300)).collect();
    assert_eq!(String::from_utf8(house.hear(conn)).unwrap(), want);
    house.send(conn, b"MULTI\r\nINCR n\r\nINCR n\r\nEXEC\r\n");
    assert_eq!(house.hear(conn), b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n:2\r\n");
    // Longer than all windows and rings together, there and back.
    let long: String = (0..9_000_000u32).map(|at| char::from(b'a' + (at * 7 % 26) as u8)).collect();
    assert_eq!(house.call(conn, &["SET", "long", &long]), "+OK\r\n");
    assert_eq!(house.call(conn, &["GET", "long"]), format!("${}\r\n{long}\r\n", long.len()));
    assert_ne!(house.info(conn, "rdma", "rdma_window_stalls"), "0");
    house.send(conn, b"*1\r\n$-5\r\n");
    let answer = String::from_utf8(house.hear(conn)).unwrap();
    assert!(answer.starts_with("-ERR Protocol error: invalid bulk length") && answer.ends_with("<end>"), "{answer}");
}

#[test]
fn sockets_and_rdma_are_one_server() {
    let mut house = House::new(&[]);
    let [first, second] = [house.dial(), house.dial()];
    let mut socket = TcpStream::connect(("127.0.0.1", house.port)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut ask = |house: &mut House, text: &str| -> String {
        socket.write_all(text.as_bytes()).unwrap();
        let (mut got, mut room) = (Vec::new(), [0; 8192]);
        house.until("a reply over TCP", |_| match socket.read(&mut room) {
            Ok(len) => {
                got.extend_from_slice(&room[..len]);
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        });
        String::from_utf8(got).unwrap()
    };
    assert_eq!(house.call(first, &["SET", "shared", "1"]), "+OK\r\n");
    assert_eq!(ask(&mut house, "GET shared\r\n"), "$1\r\n1\r\n");
    assert!(house.call(first, &["SUBSCRIBE", "news"]).ends_with("news\r\n:1\r\n"));
    assert_eq!(ask(&mut house, "PUBLISH news over\r\n"), ":1\r\n");
    assert_eq!(house.hear(first), b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$4\r\nover\r\n");
    let list = house.call(second, &["CLIENT", "LIST"]);
    let of = |transport: &str| list.lines().filter(|line| line.ends_with(&format!("transport={transport}"))).count();
    assert_eq!((of("rdma"), of("tcp")), (2, 1), "{list}");
    assert!(list.contains("laddr=10.0.0.1:6379"), "{list}");
    let id = list
        .lines()
        .find(|line| line.contains(" sub=1"))
        .and_then(|line| line.split("id=").nth(1)?.split(' ').next())
        .unwrap()
        .to_owned();
    assert_eq!(house.call(second, &["CLIENT", "KILL", "ID", &id]), ":1\r\n");
    assert_eq!(house.hear(first), b"<end>");
    assert_eq!(ask(&mut house, "PING\r\n"), "+PONG\r\n");
    // Phases are told apart by how a command came.
    let phases =
        house.call(second, &["LATENCY", "HISTOGRAM", "phase-execute", "phase-execute-rdma", "phase-execute-socket"]);
    assert_eq!(phases.matches("phase-execute").count(), 3, "{phases}");
    house.until("the counts", |house| house.info(second, "rdma", "rdma_connections") == "1");
    assert_eq!(house.info(second, "rdma", "rdma_connections_accepted"), "2");
    assert_eq!(house.info(second, "server", "listener1"), "name=rdma,bind=10.0.0.1,port=6379");
}

#[test]
fn strangers_are_kept_out() {
    let mut house = House::new(&[("protected-mode", "yes")]);
    let conn = house.dial();
    let answer = String::from_utf8(house.hear(conn)).unwrap();
    assert!(answer.starts_with("-DENIED Server is running in protected mode") && answer.ends_with("<end>"), "{answer}");

    let mut house = House::new(&[("requirepass", "secret"), ("protected-mode", "yes")]);
    let conn = house.dial();
    assert_eq!(house.call(conn, &["GET", "k"]), "-NOAUTH Authentication required.\r\n");
    assert_eq!(house.call(conn, &["AUTH", "secret"]), "+OK\r\n");
    assert_eq!(house.call(conn, &["GET", "k"]), "$-1\r\n");
}

#[test]
fn limits_hold() {
    let mut house = House::new(&[("rdma-connections-max", "2")]);
    let first = house.dial();
    house.dial();
    let third = house.client.dial().unwrap();
    assert_eq!(house.hear(third), b"<end>");
    house.until("the count", |house| house.info(first, "rdma", "rdma_connections_rejected") == "1");

    let mut house = House::new(&[("maxclients", "1")]);
    house.dial();
    let second = house.dial();
    assert_eq!(house.hear(second), b"-ERR max number of clients reached\r\n<end>");

    // Two windows of 64 KiB, a send ring and receives: room for one connection only.
    let mut house = House::new(&[("rdma-pinned-bytes-max", "500kb")]);
    let first = house.dial();
    let second = house.client.dial().unwrap();
    assert_eq!(house.hear(second), b"<end>");
    assert_eq!(house.call(first, &["PING"]), "+PONG\r\n");
}

#[test]
fn a_client_that_reads_nothing_is_let_go() {
    let mut house = House::new(&[("client-output-buffer-limit", "normal 1mb 0 0")]);
    let [busy, silent] = [house.dial(), house.dial()];
    assert_eq!(house.call(busy, &["SET", "large", &"x".repeat(100_000)]), "+OK\r\n");
    let mut asks = Vec::new();
    (0..100).for_each(|_| tercel_resp::encode::request(&mut asks, &["GET", "large"]));
    house.send(silent, &asks);
    // The client's endpoint takes in what its windows hold and no more, for nobody reads it.
    house.until("the limit", |house| house.info(busy, "stats", "client_output_buffer_limit_disconnections") == "1");
    assert_eq!(house.call(busy, &["PING"]), "+PONG\r\n");
}

#[test]
fn rdma_can_be_turned_off_and_on() {
    let mut house = House::new(&[]);
    let conn = house.dial();
    // Whether an address can be had is asked of the host's adapters, of which the test host may have none.
    let answer = house.call(conn, &["CONFIG", "SET", "rdma-port", "0"]);
    assert_eq!(answer, "+OK\r\n");
    let late = house.client.dial().unwrap();
    assert_eq!(house.hear(late), b"<end>");
    assert_eq!(house.call(conn, &["PING"]), "+PONG\r\n");
    assert_eq!(house.call(conn, &["CONFIG", "GET", "rdma-p*"]).matches("rdma-p").count(), 2);
}

/// A client that writes by hand: what it wrote it can write over.
struct Rewriter {
    device: SoftDevice,
    qp: Qp,
    memory: Region,
    window: Window,
    written: u32,
}

impl Rewriter {
    fn connect(house: &mut House, fabric: &Fabric) -> Rewriter {
        let mut device = fabric.device(SoftLimits::default()).unwrap();
        let qp = device.resolve("10.0.0.1:6379".parse().unwrap()).unwrap();
        assert_eq!(device.poll_cm(), Some(CmEvent::Resolved(qp)));
        let pd = device.alloc_pd(qp).unwrap();
        let memory = device.register(pd, 1 << 20, Access::Local).unwrap();
        let answers = device.register(pd, 256 * 1024, Access::RemoteWrite).unwrap();
        device.create_qp(qp, pd, QpCaps { send_depth: 64, recv_depth: 64, inline_bytes: 0 }).unwrap();
        for _ in 0..32 {
            let local = Sge { region: memory, offset: 0, length: 64 };
            device.post_recv(qp, &[RecvWr { wr_id: 0, local }]).unwrap();
        }
        device.connect(qp, ConnParams { retry_count: 7, rnr_retry_count: 7 }).unwrap();
        let mut window = None;
        house.until("the server's window", |_| {
            while device.poll_cm().is_some() {}
            let mut got = [Completion::EMPTY; 8];
            let count = device.poll_cq(&mut got).unwrap();
            for _ in got[..count].iter().filter(|completion| completion.arrived == Arrived::Message) {
                if let Ok(Control::RegisterXferMemory(announced)) =
                    Control::decode(device.bytes(memory, 0, 32).unwrap())
                {
                    window = Some(announced);
                }
            }
            window.is_some()
        });
        let mut peer = Rewriter { device, qp, memory, window: window.unwrap(), written: 0 };
        let ours = Window { address: answers.address, length: answers.length, rkey: answers.rkey };
        peer.post(&Control::RegisterXferMemory(ours).encode(), SendOp::Send);
        peer
    }

    fn post(&mut self, bytes: &[u8], op: SendOp) {
        self.device.bytes_mut(self.memory, 512 * 1024, bytes.len() as u32).unwrap().copy_from_slice(bytes);
        let local = Sge { region: self.memory, offset: 512 * 1024, length: bytes.len() as u32 };
        self.device.post_send(self.qp, &[SendWr { wr_id: 1, op, local, signaled: false, inline: false }]).unwrap();
        let _ = self.device.poll_cq(&mut [Completion::EMPTY; 64]);
    }

    fn write(&mut self, bytes: &[u8]) {
        let (address, rkey) = (self.window.address + u64::from(self.written), self.window.rkey);
        self.written += bytes.len() as u32;
        self.post(bytes, SendOp::WriteImm { address, rkey, immediate: bytes.len() as u32 });
    }

    fn write_over(&mut self, bytes: &[u8]) {
        self.post(bytes, SendOp::Write { address: self.window.address, rkey: self.window.rkey });
    }
}

#[test]
fn what_was_parsed_cannot_be_changed_afterwards() {
    // The least that a batch may run before it is interrupted, so that commands wait between two turns.
    let mut house = House::with(&[("batch-us-max", "1")], 3);
    let good = house.dial();
    let fabric = house.fabric.clone();
    let mut peer = Rewriter::connect(&mut house, &fabric);
    let of = |letter: char| -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in 0..800 {
            tercel_resp::encode::request(&mut bytes, &["SET", &format!("{letter}{number:04}"), "value"]);
        }
        bytes
    };
    for round in 0..50 {
        house.turn();
        assert!(round < 49 || house.executor.server().clients().len() == 2);
    }
    peer.write(&of('a'));
    let mut interrupted = 0;
    for _ in 0..2000 {
        house.turn();
        let done = house.executor.server().data().db(0).len();
        if done > 0 && done < 800 {
            interrupted += 1;
        }
        peer.write_over(&of('b'));
    }
    assert!(interrupted > 0, "the batch ran in one turn: nothing was shown");
    assert_eq!(house.executor.server().data().db(0).len(), 800);
    // What was not parsed yet may become another key, but each is where its bytes say.
    for number in 0..800 {
        let found = house.call(good, &["EXISTS", &format!("a{number:04}"), &format!("b{number:04}")]);
        assert_eq!(found, ":1\r\n", "key {number}");
    }
}

/// Keeps what a link brings.
#[derive(Clone, Default)]
struct Keeper {
    heard: Rc<RefCell<Vec<u8>>>,
    ended: Rc<RefCell<Option<LinkEnd>>>,
}

impl LinkHandler for Keeper {
    fn up(&mut self, _: &mut Server, link: &mut Link) {
        link.send(b"PING\r\n");
    }

    fn received(&mut self, _: &mut Server, _: &mut Link, bytes: &[u8]) -> usize {
        self.heard.borrow_mut().extend_from_slice(bytes);
        bytes.len()
    }

    fn ended(&mut self, _: &mut Server, why: LinkEnd) {
        assert!(self.ended.borrow_mut().replace(why).is_none());
    }
}

#[test]
fn a_server_that_listens_nowhere_over_rdma_has_a_link_over_it() {
    let mut far = House::new(&[]);
    let mut near = House::on(far.fabric.clone(), &[("rdma-port", "0")]);
    let keeper = Keeper::default();
    let to = Address::Rdma("10.0.0.1:6379".parse().unwrap());
    let server = near.executor.server_mut();
    let key = server.open_link(to, ConnectOptions::default(), Box::new(keeper.clone()));
    far.until("the answer", |_| {
        near.turn();
        keeper.heard.borrow().ends_with(b"+PONG\r\n")
    });
    assert_eq!((near.executor.server().clients().len(), far.executor.server().clients().len()), (0, 1));
    let large = "v".repeat(300_000);
    let mut request = Vec::new();
    tercel_resp::encode::request(&mut request, &["SET", "key", &large]);
    request.extend_from_slice(b"GET key\r\n");
    near.executor.server_mut().links_mut().change(key, |link| link.send(&request)).unwrap();
    let expected = format!("+PONG\r\n+OK\r\n$300000\r\n{large}\r\n");
    far.until("the value", |_| {
        near.turn();
        keeper.heard.borrow().len() >= expected.len()
    });
    assert!(*keeper.heard.borrow() == expected.as_bytes());
    // Nobody is there, and the other side goes.
    let nobody = Keeper::default();
    let to = Address::Rdma("10.0.0.7:6379".parse().unwrap());
    near.executor.server_mut().open_link(to, ConnectOptions::default(), Box::new(nobody.clone()));
    far.until("the refusal", |_| {
        near.turn();
        nobody.ended.borrow().is_some()
    });
    assert!(matches!(*nobody.ended.borrow(), Some(LinkEnd::Unreachable(_))));
    drop(far);
    let start = Instant::now();
    while keeper.ended.borrow().is_none() {
        near.turn();
        assert!(start.elapsed() < PATIENCE);
    }
    assert!(near.executor.server().links().is_empty());
}

#[test]
fn whoever_comes_names_the_listener_of_his_network() {
    let mut house = House::new(&[]);
    let port = house.port;
    let network = house.executor.transport();
    let mut events = Vec::new();
    let mut ids = Vec::new();
    for to in [Address::Rdma("10.0.0.1:6379".parse().unwrap()), Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))]
    {
        events.clear();
        let dialled = network.connect(&to, &ConnectOptions::default()).unwrap();
        let start = Instant::now();
        let accepted = loop {
            network.poll(&mut events);
            network.flush();
            let accepted =
                events.iter().find_map(|event| if let Event::Accepted(conn) = event { Some(*conn) } else { None });
            if let Some(accepted) = accepted.filter(|_| events.contains(&Event::Connected(dialled))) {
                break accepted;
            }
            assert!(start.elapsed() < PATIENCE, "{events:?}");
        };
        assert_eq!(network.peer(dialled).map(|peer| peer.kind()), network.peer(accepted).map(|peer| peer.kind()));
        assert_eq!(network.listener(dialled), None);
        ids.push(network.listener(accepted).unwrap());
        network.close(dialled, Close::Abort);
    }
    assert_ne!(ids[0], ids[1]);
}
