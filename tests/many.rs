//! Commands with very many elements or fields: done in slices, with the same answers and the same data as at once, and
//! repeated from their effects.
#![allow(clippy::unwrap_used)]

mod house;

use std::cell::RefCell;
use std::rc::Rc;

use house::{House, request};
use tercel_core::command::OwnedCommand;
use tercel_core::data::effects::Effect;
use tercel_core::server::EffectReader;
use tercel_transport::memory::MemoryPeer;

/// Fields and elements of a command.
const MANY: usize = 5000;

#[derive(Clone, Default)]
struct Recorder(Rc<RefCell<Vec<Vec<String>>>>);

impl EffectReader for Recorder {
    fn unit(&mut self, effects: &[Effect]) {
        for effect in effects {
            let command = OwnedCommand::from_args(&effect.command.args());
            let words = command.args().rest(0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            self.0.borrow_mut().push(words);
        }
    }
}

fn words(begin: &[&str], each: impl Fn(usize) -> Vec<String>) -> Vec<String> {
    let begin = begin.iter().map(|word| (*word).to_owned());
    begin.chain((0..MANY).flat_map(each)).collect()
}

fn story() -> Vec<Vec<String>> {
    let name = |number: usize| vec![format!("f{}", number * 7 % MANY)];
    let half = |number: usize| vec![format!("f{}", number / 2)];
    let pair = |number: usize| vec![format!("f{number}"), format!("value {number}")];
    let count = &MANY.to_string();
    let whole: &[&str] = &["HGETALL", "h"];
    let plain = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    vec![
        words(&["RPUSH", "l"], |number| vec![format!("e{number}")]),
        words(&["LPUSH", "l"], |number| vec![format!("d{number}")]),
        words(&["RPUSHX", "missing"], name),
        words(&["LPUSHX", "l"], name),
        words(&["HSET", "h"], pair),
        words(&["HSET", "h"], |number| vec![format!("f{}", number + MANY / 2), "again".into()]),
        words(&["HMSET", "m"], pair),
        words(&["HEXPIRE", "h", "1000", "FIELDS", count], name),
        words(&["HTTL", "h", "FIELDS", count], half),
        words(&["HPERSIST", "h", "FIELDS", count], half),
        words(&["HGETEX", "h", "EX", "500", "FIELDS", count], half),
        words(&["HGETEX", "h", "FIELDS", count], name),
        words(&["HGETEX", "none", "FIELDS", count], name),
        words(&["HSETEX", "h", "EX", "700", "FIELDS", count], pair),
        words(&["HSETEX", "m", "FXX", "EX", "0", "FIELDS", count], pair),
        plain(whole),
        words(&["HGETDEL", "h", "FIELDS", count], half),
        words(&["HEXPIRE", "none", "5", "FIELDS", count], name),
        words(&["HDEL", "h"], |number| vec![format!("f{}", number + 10)]),
        words(&["HDEL", "h"], |number| vec![format!("f{number}")]),
        words(&["HDEL", "h"], |number| vec![format!("f{}", number + MANY)]),
        words(&["HDEL", "none"], name),
        words(&["HSET", "l"], pair),
        words(&["RPUSH", "h"], name),
        plain(&["LLEN", "l"]),
    ]
}

/// Sends one command in pieces that its connection takes, and turns until it is answered; the number of turns.
fn call(house: &mut House, client: &MemoryPeer, words: &[String]) -> (String, usize) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let request = request(&words);
    for piece in request.chunks(32 << 10) {
        client.write(piece);
        house.executor.turn();
    }
    let (mut answer, turns) = house.answer(client);
    answer.push_str(&house.whole(client));
    (answer, turns)
}

#[test]
fn many_are_done_in_slices_as_they_are_at_once() {
    let (mut sliced, mut whole, mut repeated) = (House::ticking(), House::still(), House::still());
    let recorder = Recorder::default();
    sliced.executor.server_mut().add_effect_reader(Box::new(recorder.clone()));
    let (client, other) = (sliced.net.connect(), sliced.net.connect());
    let (at_once, repeating) = (whole.net.connect(), repeated.net.connect());
    for command in story() {
        let shown = command[..2].join(" ");
        let (expected, _) = call(&mut whole, &at_once, &command);
        let (answer, turns) = call(&mut sliced, &client, &command);
        if command[0] == "HGETALL" {
            assert_eq!(answer.len(), expected.len());
        } else {
            assert!(
                answer == expected,
                "{shown}: {} and {}",
                &answer[..40.min(answer.len())],
                &expected[..40.min(expected.len())]
            );
        }
        // What is read is answered as it is found; and there is nothing to do for a key that is missing.
        let is_short = command.len() < 10 || answer.starts_with("-WRONGTYPE") || answer.starts_with('*');
        let does_nothing = is_short || ["none", "missing"].contains(&&*command[1]);
        assert!(turns > 10 || does_nothing, "{shown} took {turns} turns");
        for effect in recorder.0.borrow_mut().drain(..) {
            // Relative times are absolute in effects, so they mean the same here.
            call(&mut repeated, &repeating, &effect);
        }
        for key in ["l", "h", "m"] {
            let digest = |house: &mut House, client: &MemoryPeer| {
                call(house, client, &["DEBUG".into(), "DIGEST-VALUE".into(), key.into()]).0
            };
            let ours = digest(&mut sliced, &other);
            assert_eq!(ours, digest(&mut repeated, &repeating), "{shown}: effects tell less of {key}");
        }
        for key in ["l", "m"] {
            let length =
                |house: &mut House, client: &MemoryPeer, name: &str| call(house, client, &[name.into(), key.into()]).0;
            for name in ["LLEN", "HLEN"] {
                assert_eq!(length(&mut sliced, &other, name), length(&mut whole, &at_once, name), "{shown}");
            }
        }
    }
}

/// Sends a command in pieces until its work is under way.
fn begin(house: &mut House, client: &MemoryPeer, change: &[String]) {
    let borrowed: Vec<&str> = change.iter().map(String::as_str).collect();
    let request = request(&borrowed);
    let mut rest = &request[..];
    for _ in 0..1000 {
        let taken = client.write(&rest[..rest.len().min(32 << 10)]);
        rest = &rest[taken..];
        house.executor.turn();
        if house.executor.server().data().holds_any() {
            return;
        }
    }
    panic!("{:?} is done at once", &change[..2]);
}

/// A key may reach its time while it is changed: then it is gone, and so it is where the effects are repeated. If only
/// what it had before is gone, it has what is new.
#[test]
fn what_goes_meanwhile_is_gone_and_nothing_else() {
    let piece = "x".repeat(3 << 20);
    let fields = words(&["HSET", "k"], |number| vec![format!("f{number}"), "v".into()]);
    let names = words(&["HDEL", "k", "old"], |number| vec![format!("f{number}")]);
    let elements = words(&["RPUSH", "k"], |number| vec![format!("e{number}")]);
    let set_range = vec!["SETRANGE".into(), "k".into(), "7".into(), piece];
    let field_of_a_minute = &["HSETEX", "k", "EX", "60", "FIELDS", "1", "old", "v"][..];
    for (make, change, has_deadline, left) in [
        (&["HSET", "k", "old", "v"][..], &fields, true, 0),
        (&["HSET", "k", "old", "v"], &names, true, 0),
        (&["RPUSH", "k", "old"], &elements, true, 0),
        (&["SET", "k", "old"], &set_range, true, 0),
        (field_of_a_minute, &fields, false, MANY),
        (field_of_a_minute, &names, false, 0),
    ] {
        let (mut sliced, mut repeated) = (House::ticking(), House::still());
        let recorder = Recorder::default();
        sliced.executor.server_mut().add_effect_reader(Box::new(recorder.clone()));
        let (client, repeating) = (sliced.net.connect(), repeated.net.connect());
        sliced.call(&client, make);
        if has_deadline {
            sliced.call(&client, &["EXPIRE", "k", "60"]);
        }
        begin(&mut sliced, &client, change);
        sliced.time.advance(61_000_000_000);
        let answer = sliced.whole(&client);
        assert!(answer.starts_with(':'), "{make:?}: {answer}");
        for effect in recorder.0.borrow_mut().drain(..) {
            call(&mut repeated, &repeating, &effect);
        }
        for (house, client) in [(&mut sliced, &client), (&mut repeated, &repeating)] {
            if left > 0 {
                assert_eq!(house.call(client, &["HLEN", "k"]), format!(":{left}\r\n"), "{make:?}");
            } else {
                assert_eq!(house.call(client, &["EXISTS", "k"]), ":0\r\n", "{make:?}");
            }
        }
    }
}

/// The bytes of a bulk string.
fn bulk(house: &mut House, client: &MemoryPeer, words: &[&str]) -> Vec<u8> {
    client.write(&request(words));
    let mut answer = Vec::new();
    loop {
        house.settle();
        let more = client.read_available();
        if more.is_empty() {
            break;
        }
        answer.extend(more);
    }
    let begin = answer.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    answer[begin..answer.len() - 2].to_vec()
}

/// Sends RESTORE and turns until it is answered; the number of turns.
fn restore(house: &mut House, client: &MemoryPeer, key: &str, payload: &[u8], rest: &[&str]) -> (String, usize) {
    let mut words: Vec<&[u8]> = vec![b"RESTORE", key.as_bytes(), b"0", payload];
    words.extend(rest.iter().map(|word| word.as_bytes()));
    let mut request = Vec::new();
    tercel_resp::encode::request(&mut request, &words);
    let mut rest = &request[..];
    while !rest.is_empty() {
        let taken = client.write(&rest[..rest.len().min(32 << 10)]);
        rest = &rest[taken..];
        house.executor.turn();
    }
    house.answer(client)
}

/// A long payload is looked at in slices; one that is damaged changes nothing, and is an error like any other.
#[test]
fn a_long_payload_is_restored_in_slices() {
    let mut house = House::ticking();
    let client = house.net.connect();
    for command in [
        words(&["RPUSH", "l"], |number| vec![format!("element {number}")]),
        words(&["HSET", "h"], |number| vec![format!("f{number}"), format!("value {number}")]),
        vec!["SETRANGE".into(), "s".into(), "1000000".into(), "end".into()],
    ] {
        call(&mut house, &client, &command);
    }
    for key in ["l", "h", "s"] {
        let payload = bulk(&mut house, &client, &["DUMP", key]);
        assert!(payload.len() > 50_000, "{}", payload.len());
        let (answer, turns) = restore(&mut house, &client, "copy", &payload, &["REPLACE"]);
        assert_eq!(answer, "+OK\r\n", "{key}");
        assert!(turns > 2 || key == "s", "{key}: {turns}");
        let digest = |house: &mut House, key: &str| house.call(&client, &["DEBUG", "DIGEST-VALUE", key]);
        assert_eq!(digest(&mut house, "copy"), digest(&mut house, key));
        assert!(restore(&mut house, &client, "copy", &payload, &[]).0.starts_with("-BUSYKEY"));
        house.call(&client, &["CONFIG", "RESETSTAT"]);
        let mut damaged = payload.clone();
        damaged[30_000] ^= 1;
        let (answer, _) = restore(&mut house, &client, "copy", &damaged, &["REPLACE"]);
        assert_eq!(answer, "-ERR DUMP payload version or checksum are wrong\r\n");
        // The checksum holds, but the value is no value.
        house.call(&client, &["DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", "1"]);
        let mut cut = payload[..payload.len() - 4010].to_vec();
        cut.extend(&payload[payload.len() - 10..]);
        let (answer, _) = restore(&mut house, &client, "copy", &cut, &["REPLACE"]);
        assert_eq!(answer, "-ERR Bad data format\r\n");
        house.call(&client, &["DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", "0"]);
        assert_eq!(digest(&mut house, "copy"), digest(&mut house, key), "it is as it was");
        let stats = house.call(&client, &["INFO", "commandstats", "errorstats"]);
        let failed = stats.lines().find(|line| line.starts_with("cmdstat_restore")).unwrap().to_owned();
        assert!(failed.contains("calls=2,") && failed.contains("failed_calls=2"), "{failed}");
        assert!(stats.contains("errorstat_ERR:count=2"), "{stats}");
    }
}

/// Others are served meanwhile, but who uses the key, who waits and sees all of it; given up, it has done nothing.
#[test]
fn who_uses_the_key_waits_and_nobody_else() {
    let mut house = House::ticking();
    let (slow, quick, waiting) = (house.net.connect(), house.net.connect(), house.net.connect());
    let command = words(&["HSET", "h"], |number| vec![format!("f{number}"), "v".into()]);
    let borrowed: Vec<&str> = command.iter().map(String::as_str).collect();
    for piece in request(&borrowed).chunks(32 << 10) {
        slow.write(piece);
        house.executor.turn();
    }
    let begins = |house: &mut House| {
        house.executor.turn();
        house.executor.server().data().holds_any()
    };
    assert!((0..100).any(|_| begins(&mut house)), "it never begins");
    waiting.write(&request(&["HLEN", "h"]));
    for _ in 0..5 {
        quick.write(&request(&["HLEN", "other"]));
        let (answer, turns) = house.answer(&quick);
        assert_eq!((answer.as_str(), turns <= 2), (":0\r\n", true));
        let seen = String::from_utf8(waiting.read_available()).unwrap();
        assert!(seen.is_empty(), "it would see a part: {seen}");
    }
    assert_eq!(house.whole(&waiting), format!(":{MANY}\r\n"));
    assert_eq!(house.whole(&slow), format!(":{MANY}\r\n"));
    let command = words(&["HDEL", "h"], |number| vec![format!("f{number}")]);
    let borrowed: Vec<&str> = command.iter().map(String::as_str).collect();
    for piece in request(&borrowed).chunks(32 << 10) {
        slow.write(piece);
        house.executor.turn();
    }
    assert!((0..100).any(|_| begins(&mut house)), "it never begins");
    quick.write(&request(&["CLIENT", "KILL", "TYPE", "normal"]));
    assert_eq!(house.answer(&quick).0, ":2\r\n");
    assert_eq!(house.call(&quick, &["HLEN", "h"]), format!(":{MANY}\r\n"), "given up, it has done nothing");
}
