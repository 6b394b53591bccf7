//! Commands that wait for keys: who is served, with what, when, and in which order; and how a wait ends. The clock
//! is made by hand.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tercel::executor::Executor;
use tercel_commands::commands;
use tercel_core::base::clock::ManualTime;
use tercel_core::host::FakeHost;
use tercel_core::server::Server;
use tercel_core::settings::Settings;
use tercel_transport::memory::{MemoryNet, MemoryPeer, MemoryTransport};

const TURNS_MAX: usize = 100_000;

struct House {
    executor: Executor<MemoryTransport>,
    net: MemoryNet,
    time: ManualTime,
}

impl House {
    fn new() -> House {
        let settings = Settings::default().with_changes(&[("save", ""), ("maxclients", "20000")]).unwrap();
        let transport = MemoryTransport::new();
        let net = transport.net();
        let time = ManualTime::default();
        let host = FakeHost::with_time(time.clone());
        let server = Server::new(&commands().table, settings, host, "/".into());
        let executor = Executor::new(transport, commands(), server, Arc::new(AtomicBool::new(false)));
        House { executor, net, time }
    }

    fn settle(&mut self) {
        assert!((0..TURNS_MAX).any(|_| !self.executor.turn()), "the executor never comes to rest");
    }

    /// Sends lines to a client's server side, and what it is answered to all of them.
    fn send(&mut self, client: &MemoryPeer, lines: &str) -> String {
        client.write(format!("{}\r\n", lines.replace('\n', "\r\n")).as_bytes());
        self.read(client)
    }

    fn read(&mut self, client: &MemoryPeer) -> String {
        self.settle();
        String::from_utf8_lossy(&client.read_available()).replace("\r\n", " ")
    }

    fn advance_ms(&mut self, ms: u64) {
        self.time.advance(ms * 1_000_000);
    }
}

#[test]
fn who_came_first_is_served_first_and_each_once() {
    let mut house = House::new();
    let waiters: Vec<MemoryPeer> = (0..4).map(|_| house.net.connect()).collect();
    let pusher = house.net.connect();
    for waiter in &waiters {
        assert_eq!(house.send(waiter, "BLPOP a b 0"), "");
    }
    assert_eq!(house.send(&pusher, "RPUSH b 1 2"), ":2 ");
    assert_eq!(house.read(&waiters[0]), "*2 $1 b $1 1 ");
    assert_eq!(house.read(&waiters[1]), "*2 $1 b $1 2 ");
    assert_eq!(house.read(&waiters[2]), "");
    // A pipeline: the waiter has it before the pusher's next command.
    assert_eq!(house.send(&pusher, "RPUSH a 3\nLLEN a"), ":1 :0 ");
    assert_eq!(house.read(&waiters[2]), "*2 $1 a $1 3 ");
    // Inside a transaction it is the whole of it that counts.
    assert_eq!(
        house.send(&pusher, "MULTI\nRPUSH a 4\nDEL a\nRPUSH a 5\nEXEC"),
        "+OK +QUEUED +QUEUED +QUEUED *3 :1 :1 :1 "
    );
    assert_eq!(house.read(&waiters[3]), "*2 $1 a $1 5 ");
    assert_eq!(house.send(&pusher, "EXISTS a b"), ":0 ");
}

#[test]
fn what_one_is_given_serves_the_next() {
    let mut house = House::new();
    let (first, second, third, pusher) =
        (house.net.connect(), house.net.connect(), house.net.connect(), house.net.connect());
    assert_eq!(house.send(&third, "BLPOP c 0"), "");
    assert_eq!(house.send(&second, "BLMOVE b c RIGHT LEFT 0"), "");
    assert_eq!(house.send(&first, "BRPOPLPUSH a b 0"), "");
    assert_eq!(house.send(&pusher, "LPUSH a x"), ":1 ");
    assert_eq!(house.read(&first), "$1 x ");
    assert_eq!(house.read(&second), "$1 x ");
    assert_eq!(house.read(&third), "*2 $1 c $1 x ");
}

#[test]
fn a_wait_ends_by_time_by_others_and_by_leaving() {
    let mut house = House::new();
    let (timed, unblocked, failed, gone, pusher) =
        (house.net.connect(), house.net.connect(), house.net.connect(), house.net.connect(), house.net.connect());
    let id = |house: &mut House, client: &MemoryPeer| {
        let id = house.send(client, "CLIENT ID");
        id.trim().trim_start_matches(':').to_owned()
    };
    let (unblocked_id, failed_id) = (id(&mut house, &unblocked), id(&mut house, &failed));
    assert_eq!(house.send(&timed, "BLPOP k 0.05\nPING"), "");
    assert_eq!(house.send(&unblocked, "BLMPOP 0 2 j k LEFT COUNT 3"), "");
    assert_eq!(house.send(&failed, "BLMOVE k j LEFT LEFT 0"), "");
    assert_eq!(house.send(&gone, "BRPOP k 0"), "");
    assert!(house.send(&pusher, "INFO clients").contains("blocked_clients:4 "));
    gone.close();
    house.settle();
    assert!(house.send(&pusher, "INFO clients").contains("blocked_clients:3 "));
    house.advance_ms(49);
    assert_eq!(house.read(&timed), "");
    house.advance_ms(1);
    assert_eq!(house.read(&timed), "*-1 +PONG ");
    assert_eq!(house.send(&pusher, &format!("CLIENT UNBLOCK {unblocked_id}\nCLIENT UNBLOCK {unblocked_id}")), ":1 :0 ");
    assert_eq!(house.read(&unblocked), "*-1 ");
    assert_eq!(house.send(&pusher, &format!("CLIENT UNBLOCK {failed_id} ERROR")), ":1 ");
    assert_eq!(house.read(&failed), "-UNBLOCKED client unblocked via CLIENT UNBLOCK ");
    assert!(house.send(&pusher, "INFO clients").contains("blocked_clients:0 "));
    assert_eq!(house.send(&pusher, "RPUSH k 1\nLLEN k"), ":1 :1 ");
}

#[test]
fn only_what_is_waited_for_wakes() {
    let mut house = House::new();
    let (waiter, pusher) = (house.net.connect(), house.net.connect());
    assert_eq!(house.send(&waiter, "SELECT 1\nBLPOP k 0"), "+OK ");
    // Another database, another type, a list that is gone again.
    assert_eq!(house.send(&pusher, "RPUSH k 1\nSELECT 1\nSET k text\nDEL k"), ":1 +OK +OK :1 ");
    assert_eq!(house.read(&waiter), "");
    for (made, served) in [
        ("SWAPDB 0 1", "*2 $1 k $1 1 "),
        ("SELECT 0\nRPUSH l 2\nMOVE l 1\nSELECT 1\nRENAME l k", "*2 $1 k $1 2 "),
        ("RPUSH l 3\nCOPY l k", "*2 $1 k $1 3 "),
    ] {
        house.send(&pusher, made);
        assert_eq!(house.read(&waiter), served, "{made}");
        assert_eq!(house.send(&waiter, "BLPOP k 0"), "");
    }
}

#[test]
fn during_a_pause_nobody_is_served_and_after_it_all_are() {
    let mut house = House::new();
    let (waiter, pusher, other) = (house.net.connect(), house.net.connect(), house.net.connect());
    assert_eq!(house.send(&waiter, "BLPOP k 0"), "");
    assert_eq!(house.send(&pusher, "MULTI\nRPUSH k 1\nCLIENT PAUSE 100 WRITE\nEXEC"), "+OK +QUEUED +QUEUED *2 :1 +OK ");
    assert_eq!(house.read(&waiter), "");
    assert_eq!(house.send(&other, "LLEN k"), ":1 ");
    house.advance_ms(101);
    assert_eq!(house.read(&waiter), "*2 $1 k $1 1 ");
}

#[test]
fn in_a_transaction_and_without_replies_there_is_no_waiting() {
    let mut house = House::new();
    let (client, pusher) = (house.net.connect(), house.net.connect());
    let answer = house.send(&client, "MULTI\nBLPOP k 0\nBLMOVE k j LEFT LEFT 0\nBLMPOP 0 1 k LEFT\nEXEC");
    assert_eq!(answer, "+OK +QUEUED +QUEUED +QUEUED *3 *-1 $-1 *-1 ");
    assert_eq!(house.send(&client, "CLIENT REPLY SKIP\nBLPOP k 0\nPING"), "");
    assert_eq!(house.send(&pusher, "RPUSH k 1\nEXISTS k"), ":1 :0 ");
    assert_eq!(house.read(&client), "+PONG ");
}

/// Ten thousand wait, and a push wakes one: it looks at no other.
#[test]
fn many_may_wait() {
    const WAITERS: usize = 10_000;
    let mut house = House::new();
    let waiters: Vec<MemoryPeer> = (0..WAITERS).map(|_| house.net.connect()).collect();
    for waiter in &waiters {
        waiter.write(b"BLPOP k 0\r\n");
    }
    house.settle();
    let pusher = house.net.connect();
    for waiter in waiters.iter().take(50) {
        assert_eq!(house.send(&pusher, "RPUSH k x"), ":1 ");
        assert_eq!(house.read(waiter), "*2 $1 k $1 x ");
    }
    assert!(house.send(&pusher, "INFO clients").contains("blocked_clients:9950 "));
}
