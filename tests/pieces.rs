//! Long replies are sent in pieces, as their clients take them. The clock moves on with every look at it.
#![allow(clippy::unwrap_used)]

mod house;

use house::{House, request};
use tercel_transport::memory::MemoryPeer;

const ELEMENTS: usize = 50_000;

/// Numbers of six digits in a list, or in a hash as fields and values.
fn fill(house: &mut House, client: &MemoryPeer, key: &str, command: &str) {
    for from in (0..ELEMENTS).step_by(1000) {
        let words: Vec<String> = (from..from + 1000).map(|number| format!("{number:06}")).collect();
        let mut all = vec![command, key];
        for word in &words {
            all.extend(std::iter::repeat_n(word.as_str(), if command == "HSET" { 2 } else { 1 }));
        }
        house.call(client, &all);
    }
}

fn elements(range: impl Iterator<Item = usize>) -> String {
    range.map(|number| format!("$6\r\n{number:06}\r\n")).collect()
}

/// What it answers is of the moment it began, others are served meanwhile, and messages wait for its end.
#[test]
fn a_reply_in_pieces_is_whole_and_messages_follow_it() {
    for (key, command, words) in [("l", "RPUSH", vec!["LRANGE", "l", "0", "-1"]), ("h", "HSET", vec!["HGETALL", "h"])] {
        let mut house = House::ticking();
        let (reader, other) = (house.net.connect(), house.net.connect());
        fill(&mut house, &other, key, command);
        house.call(&reader, &["HELLO", "3"]);
        house.call(&reader, &["SUBSCRIBE", "news"]);
        reader.write(&[request(&words), request(&["PING"])].concat());
        for round in 0..5 {
            other.write(&request(&["PUBLISH", "news", &format!("{round}")]));
            let (answer, turns) = house.answer(&other);
            assert_eq!((answer.as_str(), turns <= 3), (":1\r\n", true), "{words:?}, round {round}");
        }
        house.call(&other, &["DEL", key]);
        let answer = house.whole(&reader);
        let news: String = (0..5).map(|n| format!(">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\n{n}\r\n")).collect();
        let behind = format!("{news}+PONG\r\n");
        let body =
            answer.strip_suffix(&behind).unwrap_or_else(|| panic!("{words:?}: {:?}", &answer[answer.len() - 300..]));
        if key == "l" {
            assert!(body == format!("*{ELEMENTS}\r\n{}", elements(0..ELEMENTS)));
        } else {
            assert!(body.starts_with(&format!("%{ELEMENTS}\r\n$6\r\n")));
            assert_eq!(body.len(), elements(0..ELEMENTS).len() * 2 + format!("%{ELEMENTS}\r\n").len());
        }
    }
}

/// Who takes little is never owed much.
#[test]
fn a_reply_is_not_written_ahead_of_a_client_that_does_not_take_it() {
    let mut house = House::ticking();
    let (reader, other) = (house.net.connect(), house.net.connect());
    fill(&mut house, &other, "l", "RPUSH");
    reader.set_window(1000);
    reader.write(&request(&["LRANGE", "l", "0", "-1"]));
    house.settle();
    let clients = house.call(&other, &["CLIENT", "LIST"]);
    let owed = |line: &str| line.split(' ').find_map(|word| word.strip_prefix("omem=")?.parse::<usize>().ok());
    let most = clients.lines().filter_map(owed).max().unwrap();
    assert!((1000..400_000).contains(&most), "{most} bytes of 600,000 are owed");
    let answer = house.whole(&reader);
    assert!(answer == format!("*{ELEMENTS}\r\n{}", elements(0..ELEMENTS)));
}

/// Elements are taken out of a list once, however many long commands are under way.
#[test]
fn what_is_taken_is_answered_though_others_take_long() {
    let mut house = House::ticking();
    let (taker, other) = (house.net.connect(), house.net.connect());
    fill(&mut house, &other, "l", "RPUSH");
    house.call(&other, &["SETBIT", "long", "335544310", "1"]);
    let slow: Vec<MemoryPeer> = (0..6).map(|_| house.net.connect()).collect();
    slow.iter().for_each(|client| _ = client.write(&request(&["BITCOUNT", "long"])));
    for _ in 0..3 {
        house.executor.turn();
    }
    taker.write(&request(&["LPOP", "l", "40000"]));
    let answer = house.whole(&taker);
    assert!(answer == format!("*40000\r\n{}", elements(0..40_000)), "{} bytes", answer.len());
    assert_eq!(house.call(&other, &["LLEN", "l"]), ":10000\r\n");
    slow.iter().for_each(|client| assert_eq!(client.read_available(), b":1\r\n"));
}
