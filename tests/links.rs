//! Links: connections that a server dials itself. Whole servers in the test's own thread, turn by turn; over the
//! in-memory transport nothing depends on time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use tercel::executor::Executor;
use tercel_core::links::{Link, LinkEnd, LinkKey};
use tercel_core::server::{LinkHandler, Server};
use tercel_core::settings::Settings;
use tercel_resp::reply::{Value, parse};
use tercel_transport::conformance::left_out;
use tercel_transport::memory::{MemoryNet, MemoryPeer, MemoryTransport};
use tercel_transport::{Address, Close, ConnectError, ConnectOptions, Transport};
use tercel_transport_tcp::{Backend, ListenAddr, TcpOptions, TcpTransport};

fn executor<T: Transport>(transport: T) -> Executor<T> {
    let host = tercel::start::host::machine();
    let server = Server::new(&tercel_commands::commands().table, Settings::default(), host, ".".into());
    Executor::new(transport, tercel_commands::commands(), server, Arc::new(AtomicUsize::new(0)))
}

fn request(words: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    tercel_resp::encode::request(&mut bytes, words);
    bytes
}

/// What a handler was told, in order.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Up,
    Reply(Value),
    Drained,
    Overdue,
    Ended(LinkEnd),
}

/// Sends requests and reads replies, and does as it is told by the test meanwhile.
#[derive(Default)]
struct Notes {
    told: Vec<Told>,
    /// How many bytes it was shown at most, and how often.
    shown_max: usize,
    shown: usize,
    /// Replies after which it holds the link.
    hold_after: Option<usize>,
    /// It takes one reply at a time, and asks for the next turn.
    one_at_a_time: bool,
    /// It closes the link when it has so many replies.
    close_after: Option<usize>,
}

#[derive(Clone, Default)]
struct Asker {
    first: Vec<u8>,
    notes: Rc<RefCell<Notes>>,
}

impl Asker {
    fn new(first: &[&str]) -> Asker {
        Asker { first: request(first), notes: Rc::default() }
    }

    fn told(&self) -> Vec<Told> {
        self.notes.borrow().told.clone()
    }

    fn replies(&self) -> Vec<Value> {
        let value = |told: &Told| if let Told::Reply(value) = told { Some(value.clone()) } else { None };
        self.notes.borrow().told.iter().filter_map(value).collect()
    }
}

impl LinkHandler for Asker {
    fn up(&mut self, _: &mut Server, link: &mut Link) {
        assert!(link.is_up());
        link.send(&self.first);
        self.notes.borrow_mut().told.push(Told::Up);
    }

    fn received(&mut self, _: &mut Server, link: &mut Link, bytes: &[u8]) -> usize {
        let mut notes = self.notes.borrow_mut();
        notes.shown += 1;
        notes.shown_max = notes.shown_max.max(bytes.len());
        let mut taken = 0;
        while let Some((value, len)) = parse(&bytes[taken..]).unwrap() {
            taken += len;
            notes.told.push(Told::Reply(value));
            let replies = notes.told.iter().filter(|told| matches!(told, Told::Reply(_))).count();
            if notes.hold_after == Some(replies) {
                link.hold();
                break;
            }
            if notes.close_after == Some(replies) {
                link.close(Close::Drain);
                break;
            }
            if notes.one_at_a_time {
                link.go_on();
                break;
            }
        }
        taken
    }

    fn drained(&mut self, _: &mut Server, _: &mut Link) {
        self.notes.borrow_mut().told.push(Told::Drained);
    }

    fn overdue(&mut self, _: &mut Server, _: &mut Link) {
        self.notes.borrow_mut().told.push(Told::Overdue);
    }

    fn ended(&mut self, _: &mut Server, why: LinkEnd) {
        self.notes.borrow_mut().told.push(Told::Ended(why));
    }
}

fn open<T: Transport>(executor: &mut Executor<T>, to: &Address, asker: &Asker) -> LinkKey {
    executor.server_mut().open_link(to.clone(), ConnectOptions::default(), Box::new(asker.clone()))
}

fn pong() -> Value {
    Value::Simple(b"PONG".to_vec())
}

/// A server that dials, and the far end as the test plays it.
struct Lone {
    executor: Executor<MemoryTransport>,
    far: MemoryNet,
}

impl Lone {
    fn new() -> Lone {
        let mut transport = MemoryTransport::new();
        let far = MemoryNet::default();
        transport.set_route(1, &far);
        Lone { executor: executor(transport), far }
    }

    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.executor.turn();
        }
    }

    /// A link that stands.
    fn up(&mut self, asker: &Asker) -> (LinkKey, MemoryPeer) {
        let key = open(&mut self.executor, &Address::Memory(1), asker);
        self.turns(1);
        let peer = self.far.accept().unwrap();
        self.turns(3);
        assert_eq!(asker.told(), [Told::Up]);
        (key, peer)
    }

    fn call(&mut self, client: &MemoryPeer, words: &[&str]) -> String {
        client.write(&request(words));
        self.turns(4);
        String::from_utf8(client.read_available()).unwrap()
    }
}

#[test]
fn two_servers_in_one_process_talk_over_a_link() {
    let near = MemoryTransport::new();
    let mut near = executor(near);
    let mut far = executor(MemoryTransport::new());
    let net = far.transport().net();
    near.transport().set_route(1, &net);
    let asker = Asker::new(&["PING"]);
    let key = open(&mut near, &Address::Memory(1), &asker);
    for _ in 0..10 {
        near.turn();
        far.turn();
    }
    assert_eq!(asker.told(), [Told::Up, Told::Reply(pong())]);
    // There it is a client, here it is none.
    assert_eq!((near.server().clients().len(), far.server().clients().len()), (0, 1));
    assert_eq!((near.server().links().len(), far.server().links().len()), (1, 0));

    let words = ["RPUSH", "list", "a", "b", "c"];
    near.server_mut().links_mut().change(key, |link| {
        link.send(&request(&words));
        link.send(&request(&["LRANGE", "list", "0", "-1"]));
    });
    for _ in 0..10 {
        near.turn();
        far.turn();
    }
    let list = ["a", "b", "c"].map(|element| Value::Bulk(element.into())).to_vec();
    assert_eq!(asker.replies(), [pong(), Value::Integer(3), Value::Array(list)]);

    near.server_mut().links_mut().change(key, |link| link.close(Close::Drain));
    for _ in 0..10 {
        near.turn();
        far.turn();
    }
    assert_eq!((near.server().links().len(), far.server().clients().len()), (0, 0));
    assert_eq!(asker.told().len(), 4, "it was its own wish: {:?}", asker.told());
}

#[test]
fn a_link_is_no_client() {
    let mut lone = Lone::new();
    let client = lone.executor.transport().net().connect();
    let asker = Asker::new(&["PING"]);
    let (_, peer) = lone.up(&asker);
    assert_eq!(peer.read_available(), request(&["PING"]));
    let list = lone.call(&client, &["CLIENT", "LIST"]);
    assert_eq!(list.matches("id=").count(), 1, "{list}");
    let info = lone.call(&client, &["INFO", "clients"]);
    assert!(info.contains("connected_clients:1\r\n"), "{info}");
    // Nor is one of the same slot afterwards taken for it.
    let info = lone.call(&client, &["INFO", "stats"]);
    assert!(info.contains("total_connections_received:1\r\n"), "{info}");
}

#[test]
fn replies_cut_at_every_byte_are_the_same_replies() {
    let stream = b"+PONG\r\n$5\r\nhe\r\no\r\n*2\r\n:1\r\n$-1\r\n-ERR no\r\n";
    let expected = [
        pong(),
        Value::Bulk(b"he\r\no".to_vec()),
        Value::Array(vec![Value::Integer(1), Value::Null]),
        Value::Error(b"ERR no".to_vec()),
    ];
    for cut in 0..=stream.len() {
        let mut lone = Lone::new();
        let asker = Asker::new(&["PING"]);
        let (_, peer) = lone.up(&asker);
        peer.write(&stream[..cut]);
        lone.turns(3);
        peer.write(&stream[cut..]);
        lone.turns(3);
        assert_eq!(asker.replies(), expected, "cut at {cut}");
    }
    // Byte by byte, one reply a turn, and a pause behind the second.
    let mut lone = Lone::new();
    let asker = Asker::new(&["PING"]);
    asker.notes.borrow_mut().one_at_a_time = true;
    asker.notes.borrow_mut().hold_after = Some(2);
    let (key, peer) = lone.up(&asker);
    for byte in stream {
        peer.write(&[*byte]);
        lone.turns(1);
    }
    lone.turns(5);
    assert_eq!(asker.replies(), expected[..2]);
    asker.notes.borrow_mut().hold_after = None;
    lone.executor.server_mut().links_mut().change(key, Link::go_on);
    lone.turns(5);
    assert_eq!(asker.replies(), expected);
}

#[test]
fn what_is_held_back_is_bounded_and_lost_in_no_way() {
    let mut lone = Lone::new();
    let asker = Asker::new(&["PING"]);
    asker.notes.borrow_mut().hold_after = Some(1);
    let (key, peer) = lone.up(&asker);
    lone.executor.server_mut().links_mut().change(key, |link| link.set_receive_limit(1000));
    lone.turns(1);
    let mut sent = b"+PONG\r\n".to_vec();
    (0..50_000).for_each(|number: u32| sent.extend(format!(":{number}\r\n").into_bytes()));
    let mut written = 0;
    for _ in 0..200 {
        written += peer.write(&sent[written..]);
        lone.turns(1);
        let held = lone.executor.server().links().get(key).unwrap().memory();
        assert!(held < 20_000, "{held} bytes held");
    }
    assert!(written < sent.len());
    assert_eq!(asker.replies().len(), 1);
    asker.notes.borrow_mut().hold_after = None;
    lone.executor.server_mut().links_mut().change(key, Link::go_on);
    for _ in 0..10_000 {
        written += peer.write(&sent[written..]);
        lone.turns(1);
    }
    assert_eq!(written, sent.len());
    let replies = asker.replies();
    assert_eq!(replies.len(), 50_001);
    assert!(replies[1..].iter().enumerate().all(|(at, value)| *value == Value::Integer(at as i64)));
    assert!(asker.notes.borrow().shown_max <= 1000);
}

#[test]
fn a_piece_that_never_fits_ends_the_link() {
    let mut lone = Lone::new();
    let asker = Asker::new(&["PING"]);
    let (key, peer) = lone.up(&asker);
    lone.executor.server_mut().links_mut().change(key, |link| link.set_receive_limit(100));
    lone.turns(1);
    peer.write(b"$1000\r\n");
    peer.write(&[b'x'; 500]);
    lone.turns(5);
    assert_eq!(asker.told(), [Told::Up, Told::Ended(LinkEnd::Overlong)]);
    assert!(peer.is_ended());
    assert!(lone.executor.server().links().is_empty());
}

#[test]
fn each_end_is_told_once() {
    let mut lone = Lone::new();
    // Refused, impossible, by nobody's will.
    let (refused, foreign) = (Asker::new(&["PING"]), Asker::new(&["PING"]));
    open(&mut lone.executor, &Address::Memory(404), &refused);
    open(&mut lone.executor, &Address::Unix("/nowhere".into()), &foreign);
    lone.turns(3);
    assert_eq!(refused.told(), [Told::Ended(LinkEnd::Unreachable(111))]);
    assert_eq!(foreign.told(), [Told::Ended(LinkEnd::Impossible(ConnectError::Unsupported))]);
    let late = Asker::new(&["PING"]);
    open(&mut lone.executor, &Address::Memory(1), &late);
    lone.turns(3);
    assert_eq!(late.told(), []);
    assert!(lone.far.refuse());
    lone.turns(3);
    assert_eq!(late.told(), [Told::Ended(LinkEnd::Unreachable(111))]);

    // In good order, with a last word; and broken.
    let (left, broken) = (Asker::new(&["PING"]), Asker::new(&["PING"]));
    let (_, peer) = lone.up(&left);
    peer.write(b"+PONG\r\n+cu");
    peer.close();
    lone.turns(3);
    assert_eq!(left.told(), [Told::Up, Told::Reply(pong()), Told::Ended(LinkEnd::Eof)]);
    let (_, peer) = lone.up(&broken);
    peer.fail(104);
    lone.turns(3);
    assert_eq!(broken.told(), [Told::Up, Told::Ended(LinkEnd::Broken(104))]);

    // Held back, the end waits for what was sent before it.
    let slow = Asker::new(&["PING"]);
    slow.notes.borrow_mut().hold_after = Some(1);
    let (key, peer) = lone.up(&slow);
    peer.write(b"+PONG\r\n:2\r\n");
    peer.close();
    lone.turns(5);
    assert_eq!(slow.told().len(), 2);
    slow.notes.borrow_mut().hold_after = None;
    lone.executor.server_mut().links_mut().change(key, Link::go_on);
    lone.turns(3);
    assert_eq!(slow.told()[2..], [Told::Reply(Value::Integer(2)), Told::Ended(LinkEnd::Eof)]);
    assert!(lone.executor.server().links().is_empty());
    lone.turns(5);
    assert_eq!((refused.told().len(), left.told().len(), slow.told().len()), (1, 3, 4));
}

#[test]
fn a_link_that_is_closed_hears_nothing_more() {
    let mut lone = Lone::new();
    // Before it was dialled, while it is, and from its own handler.
    for turns in 0..4 {
        let asker = Asker::new(&["PING"]);
        let key = open(&mut lone.executor, &Address::Memory(1), &asker);
        lone.turns(turns);
        lone.executor.server_mut().links_mut().change(key, |link| link.close(Close::Abort)).unwrap();
        lone.turns(2);
        while let Some(peer) = lone.far.accept() {
            assert!(peer.is_ended());
        }
        lone.turns(2);
        assert_eq!(asker.told(), []);
        assert!(lone.executor.server().links().is_empty());
    }
    let asker = Asker::new(&["PING"]);
    asker.notes.borrow_mut().close_after = Some(2);
    let (_, peer) = lone.up(&asker);
    peer.write(b"+PONG\r\n+PONG\r\n+PONG\r\n");
    peer.close();
    lone.turns(3);
    assert_eq!(asker.told(), [Told::Up, Told::Reply(pong()), Told::Reply(pong())]);
    assert!(peer.is_ended());
}

#[test]
fn what_is_owed_is_counted_and_its_leaving_told() {
    let mut lone = Lone::new();
    let asker = Asker::new(&["PING"]);
    let (key, peer) = lone.up(&asker);
    peer.set_window(100);
    assert_eq!(peer.read_available(), request(&["PING"]));
    let bytes = vec![b'x'; 10_000];
    lone.executor.server_mut().links_mut().change(key, |link| {
        link.send(&bytes);
        assert_eq!(link.owed_len(), 10_000);
    });
    lone.turns(1);
    let link = lone.executor.server().links().get(key).unwrap();
    assert_eq!(link.owed_len(), 9900);
    assert!(link.memory() >= 9900 && lone.executor.server().links().memory() == link.memory());
    let mut read = peer.read_available();
    for _ in 0..200 {
        lone.turns(1);
        read.extend(peer.read_available());
    }
    assert_eq!(read, bytes);
    assert_eq!(asker.told(), [Told::Up, Told::Drained]);
    assert_eq!(lone.executor.server().links().get(key).unwrap().owed_len(), 0);
}

#[test]
fn a_handler_is_told_its_time() {
    let mut lone = Lone::new();
    let asker = Asker::new(&["PING"]);
    let (key, _peer) = lone.up(&asker);
    let now_ms = lone.executor.server().now().unix_ms;
    lone.executor.server_mut().links_mut().change(key, |link| link.set_deadline_ms(Some(now_ms + 3_600_000)));
    lone.turns(3);
    assert_eq!(asker.told().len(), 1);
    lone.executor.server_mut().links_mut().change(key, |link| link.set_deadline_ms(Some(now_ms)));
    lone.turns(3);
    assert_eq!(asker.told(), [Told::Up, Told::Overdue]);
}

/// Takes what chance says of what it is shown, holds, goes on, answers.
struct Moody {
    random: u64,
    heard: Rc<RefCell<Vec<u8>>>,
    ended: Rc<RefCell<Option<LinkEnd>>>,
}

impl Moody {
    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) as usize % bound.max(1)
    }
}

impl LinkHandler for Moody {
    fn up(&mut self, _: &mut Server, _: &mut Link) {}

    fn received(&mut self, _: &mut Server, link: &mut Link, bytes: &[u8]) -> usize {
        assert!(!bytes.is_empty() && bytes.len() <= link.receive_limit());
        assert_eq!(*self.ended.borrow(), None);
        match self.below(8) {
            0 => link.hold(),
            1..4 => link.go_on(),
            _ => {}
        }
        // Whoever takes nothing of all there may be has said so.
        let least = usize::from(bytes.len() == link.receive_limit());
        let taken = (least + self.below(bytes.len() + 1)).min(bytes.len());
        self.heard.borrow_mut().extend_from_slice(&bytes[..taken]);
        link.send(&bytes[..taken]);
        taken
    }

    fn ended(&mut self, _: &mut Server, why: LinkEnd) {
        assert!(self.ended.borrow_mut().replace(why).is_none(), "ended twice");
    }
}

#[test]
fn a_handler_that_takes_what_it_likes_misses_nothing() {
    for seed in 1..40u64 {
        let mut lone = Lone::new();
        let (heard, ended) = (Rc::default(), Rc::default());
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut moody = Moody { random, heard: Rc::clone(&heard), ended: Rc::clone(&ended) };
        let mut below = Moody { random: random ^ 0xFFFF, heard: Rc::default(), ended: Rc::default() };
        let limit = 1 + moody.below(3000);
        let server = lone.executor.server_mut();
        let key = server.open_link(Address::Memory(1), ConnectOptions::default(), Box::new(moody));
        server.links_mut().change(key, |link| link.set_receive_limit(limit)).unwrap();
        lone.turns(1);
        let peer = lone.far.accept().unwrap();
        let sent: Vec<u8> = (0..60_000u32).map(|at| (at.wrapping_mul(0x9E37_79B1) >> 13) as u8).collect();
        let (mut written, mut back) = (0, Vec::new());
        let mut closed = false;
        for _ in 0..20_000 {
            match below.below(6) {
                0 if written < sent.len() => {
                    written += peer.write(&sent[written..(written + below.below(5000)).min(sent.len())]);
                }
                1 => back.extend(peer.read_available()),
                2 => drop(lone.executor.server_mut().links_mut().change(key, Link::go_on)),
                _ => lone.turns(1),
            }
            if written == sent.len() && !std::mem::replace(&mut closed, true) {
                peer.close();
            }
            assert!(sent.starts_with(&heard.borrow()), "seed {seed}");
            if ended.borrow().is_some() {
                break;
            }
        }
        // What it had not taken when nothing more came and it did not ask again is lost by its own doing, and no
        // more than it may be shown at a time.
        assert_eq!(*ended.borrow(), Some(LinkEnd::Eof), "seed {seed}");
        let lost = sent.len() - heard.borrow().len();
        assert!(lost <= limit, "seed {seed}: {lost} bytes of a limit of {limit}");
        back.extend(peer.read_available());
        assert!(heard.borrow().starts_with(&back), "seed {seed}");
        assert!(lone.executor.server().links().is_empty());
    }
}

#[test]
fn over_tcp_and_unix_sockets() {
    for backend in [Backend::Epoll, Backend::IoUring] {
        for unix in [false, true] {
            let make = || TcpTransport::new(TcpOptions { backend, ..TcpOptions::default() });
            let (near, mut far) = match (make(), make()) {
                (Ok(near), Ok(far)) => (near, far),
                (Err(error), _) | (_, Err(error)) => {
                    left_out("io_uring", error);
                    continue;
                }
            };
            let path = std::env::temp_dir().join(format!("tercel-links-{}-{backend:?}.sock", std::process::id()));
            let listen = if unix {
                ListenAddr::Unix { path: path.clone(), mode: None }
            } else {
                ListenAddr::Tcp(([127, 0, 0, 1], 0).into())
            };
            let id = far.listen(&listen, 10).unwrap();
            let to = far.local_addr(id).map_or(Address::Unix(path), Address::Tcp);
            let (mut near, mut far) = (executor(near), executor(far));
            let (asker, large) = (Asker::new(&["PING"]), "v".repeat(200_000));
            let key = open(&mut near, &to, &asker);
            let nobody = Asker::new(&["PING"]);
            open(&mut near, &Address::Unix("/nowhere/at/all".into()), &nobody);
            near.server_mut().links_mut().change(key, |link| link.send(&request(&["SET", "key", &large])));
            let start = Instant::now();
            let mut asked = false;
            while asker.replies().len() < 3 || nobody.told().is_empty() {
                near.turn();
                far.turn();
                if asker.replies().len() == 2 && !asked {
                    asked = true;
                    near.server_mut().links_mut().change(key, |link| link.send(&request(&["GET", "key"])));
                }
                assert!(start.elapsed() < Duration::from_secs(20), "{:?}", asker.told().len());
            }
            let value = Value::Bulk(large.into_bytes());
            assert_eq!(asker.replies(), [Value::Simple(b"OK".to_vec()), pong(), value]);
            assert_eq!(nobody.told(), [Told::Ended(LinkEnd::Unreachable(2))]);
            assert_eq!((near.server().clients().len(), far.server().clients().len()), (0, 1));
            // The far server ends.
            drop(far);
            while !matches!(asker.told().last(), Some(Told::Ended(_))) {
                near.turn();
                assert!(start.elapsed() < Duration::from_secs(20));
            }
            assert!(near.server().links().is_empty());
        }
    }
}
