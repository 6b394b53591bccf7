//! Long commands are done in slices, and others are served in between. The clock is made by hand and moves on
//! with every look at it, so that a slice is always as long.
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

/// With this a slice is two or three pieces.
const LOOK_NS: u64 = 40_000;
const TURNS_MAX: usize = 100_000;

struct House {
    executor: Executor<MemoryTransport>,
    net: MemoryNet,
}

impl House {
    fn new() -> House {
        let settings = Settings::default().with_changes(&[("save", "")]).unwrap();
        let transport = MemoryTransport::new();
        let net = transport.net();
        let host = FakeHost::with_time(ManualTime::ticking(LOOK_NS));
        let server = Server::new(&commands().table, settings, host, "/".into());
        House { executor: Executor::new(transport, commands(), server, Arc::new(AtomicBool::new(false))), net }
    }

    /// Turns until a client is answered; how many turns that took.
    fn answer(&mut self, client: &MemoryPeer) -> (String, usize) {
        for turns in 1..TURNS_MAX {
            self.executor.turn();
            let answer = client.read_available();
            if !answer.is_empty() {
                return (String::from_utf8_lossy(&answer).into_owned(), turns);
            }
        }
        panic!("no answer");
    }

    fn settle(&mut self) {
        assert!((0..TURNS_MAX).any(|_| !self.executor.turn()), "the executor never comes to rest");
    }

    fn call(&mut self, client: &MemoryPeer, words: &[&str]) -> String {
        client.write(&request(words));
        self.settle();
        String::from_utf8_lossy(&client.read_available()).into_owned()
    }
}

fn request(words: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    tercel_resp::encode::request(&mut bytes, words);
    bytes
}

/// A string of 4 MiB, in which the last bit is set.
fn long_string(house: &mut House, client: &MemoryPeer) {
    assert_eq!(house.call(client, &["SETBIT", "long", "33554431", "1"]), ":0\r\n");
}

#[test]
fn others_are_served_between_the_slices_of_a_long_command() {
    for (command, expected) in [
        (&["BITCOUNT", "long"][..], ":1\r\n"),
        (&["BITCOUNT", "long", "3", "33554431", "BIT"], ":1\r\n"),
        (&["BITPOS", "long", "1"], ":33554431\r\n"),
        (&["BITPOS", "long", "1", "5"], ":33554431\r\n"),
        (&["BITPOS", "long", "1", "5", "33554430", "BIT"], ":-1\r\n"),
    ] {
        let mut house = House::new();
        let (slow, quick) = (house.net.connect(), house.net.connect());
        long_string(&mut house, &quick);
        slow.write(&[request(command), request(&["ECHO", "behind"])].concat());
        house.executor.turn();
        for round in 0..5 {
            quick.write(&request(&["PING"]));
            let (answer, turns) = house.answer(&quick);
            assert_eq!((answer.as_str(), turns <= 2), ("+PONG\r\n", true), "{command:?}, round {round}");
            assert!(slow.read_available().is_empty(), "{command:?} was done at once");
        }
        // It is of the moment it began, whatever happens to its key.
        quick.write(&request(&["SETBIT", "long", "33554400", "1"]));
        assert_eq!(house.answer(&quick).0, ":0\r\n");
        quick.write(&request(&["DEL", "long"]));
        assert_eq!(house.answer(&quick).0, ":1\r\n");
        house.settle();
        let answer = String::from_utf8(slow.read_available()).unwrap();
        assert_eq!(answer, format!("{expected}$6\r\nbehind\r\n"), "{command:?}");
    }
}

#[test]
fn long_commands_take_turns() {
    let mut house = House::new();
    let clients: Vec<MemoryPeer> = (0..5).map(|_| house.net.connect()).collect();
    long_string(&mut house, &clients[0]);
    for client in &clients {
        client.write(&request(&["BITCOUNT", "long"]));
    }
    // All end within a few slices of one another, rather than one after the other.
    let mut ends = Vec::new();
    for turn in 0..TURNS_MAX {
        house.executor.turn();
        ends.extend(clients.iter().filter(|client| !client.read_available().is_empty()).map(|_| turn));
        if ends.len() == clients.len() {
            break;
        }
    }
    assert!(ends[0] > 50 && ends[4] - ends[0] < 10, "{ends:?}");
}

#[test]
fn inside_a_transaction_a_long_command_runs_whole() {
    let mut house = House::new();
    let (slow, quick) = (house.net.connect(), house.net.connect());
    long_string(&mut house, &quick);
    for words in [&["MULTI"][..], &["BITCOUNT", "long"], &["SETBIT", "long", "0", "1"], &["BITCOUNT", "long"]] {
        house.call(&slow, words);
    }
    slow.write(&request(&["EXEC"]));
    let (answer, turns) = house.answer(&slow);
    assert_eq!((answer.as_str(), turns), ("*3\r\n:1\r\n:0\r\n:2\r\n", 1));
}

#[test]
fn a_client_may_go_or_want_no_answer() {
    let mut house = House::new();
    let (slow, quick) = (house.net.connect(), house.net.connect());
    long_string(&mut house, &quick);
    slow.write(&[request(&["CLIENT", "REPLY", "SKIP"]), request(&["BITCOUNT", "long"]), request(&["PING"])].concat());
    house.settle();
    assert_eq!(slow.read_available(), b"+PONG\r\n");
    slow.write(&request(&["BITCOUNT", "long"]));
    house.executor.turn();
    slow.close();
    house.settle();
    assert_eq!(house.executor.server().clients().len(), 1);
    // So may one that is closed by another.
    let slow = house.net.connect();
    let id = house.call(&slow, &["CLIENT", "ID"]);
    slow.write(&request(&["BITCOUNT", "long"]));
    house.executor.turn();
    let killed = house.call(&quick, &["CLIENT", "KILL", "ID", id.trim_matches([':', '\r', '\n'])]);
    assert_eq!((killed.as_str(), house.executor.server().clients().len()), (":1\r\n", 1));
    // The string is nobody's any more but the key's.
    assert_eq!(house.call(&quick, &["SETBIT", "long", "1", "1"]), ":0\r\n");
}

#[test]
fn what_a_long_command_took_is_counted_once() {
    let mut house = House::new();
    let client = house.net.connect();
    long_string(&mut house, &client);
    assert_eq!(house.call(&client, &["CONFIG", "SET", "slowlog-log-slower-than", "1000"]), "+OK\r\n");
    assert_eq!(house.call(&client, &["BITCOUNT", "long"]), ":1\r\n");
    let stats = house.call(&client, &["INFO", "commandstats"]);
    let line = stats.lines().find(|line| line.starts_with("cmdstat_bitcount:")).unwrap();
    let usec: u64 = line.split("usec=").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    // 64 pieces, and a look at the clock after each.
    assert!(line.contains("calls=1,") && (2_500..6_000).contains(&usec), "{line}");
    assert!(house.call(&client, &["SLOWLOG", "GET"]).contains("BITCOUNT"), "in the slow log");
}

#[test]
fn a_walk_of_many_keys_lets_others_in() {
    let mut house = House::new();
    let (slow, quick) = (house.net.connect(), house.net.connect());
    for batch in 0..20 {
        let words: Vec<String> =
            (0..1000).flat_map(|key| [format!("key:{}", batch * 1000 + key), "v".into()]).collect();
        let mut command = vec!["MSET"];
        command.extend(words.iter().map(String::as_str));
        assert_eq!(house.call(&quick, &command), "+OK\r\n");
    }
    slow.write(&request(&["SCAN", "0", "COUNT", "1000000"]));
    let mut written = 0;
    let mut answer = loop {
        house.executor.turn();
        quick.write(&request(&["SET", &format!("new:{written}"), "v"]));
        written += usize::from(!quick.read_available().is_empty());
        let answer = slow.read_available();
        if !answer.is_empty() {
            break answer;
        }
    };
    loop {
        house.settle();
        let more = slow.read_available();
        if more.is_empty() {
            break;
        }
        answer.extend(more);
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(written > 100, "{written} were served meanwhile");
    assert!(answer.starts_with("*2\r\n$1\r\n0\r\n*"), "{}", &answer[..30]);
    let mut found: Vec<&str> = answer.lines().filter(|line| line.starts_with("key:")).collect();
    found.sort_unstable();
    let count = found.len();
    found.dedup();
    assert_eq!((count, found.len()), (20_000, 20_000), "every key that was there all the time, once");
}
