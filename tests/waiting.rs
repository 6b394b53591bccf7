//! Commands that wait for keys: who is served, with what, when, and in which order; and how a wait ends. The clock
//! is made by hand.
#![allow(clippy::unwrap_used)]

mod house;

use house::House;
use tercel_transport::memory::MemoryPeer;

/// Sends lines to a client's server side, and what it is answered to all of them.
fn send(house: &mut House, client: &MemoryPeer, lines: &str) -> String {
    client.write(format!("{}\r\n", lines.replace('\n', "\r\n")).as_bytes());
    read(house, client)
}

fn read(house: &mut House, client: &MemoryPeer) -> String {
    house.whole(client).replace("\r\n", " ")
}

#[test]
fn who_came_first_is_served_first_and_each_once() {
    let mut house = House::still();
    let waiters: Vec<MemoryPeer> = (0..4).map(|_| house.net.connect()).collect();
    let pusher = house.net.connect();
    for waiter in &waiters {
        assert_eq!(send(&mut house, waiter, "BLPOP a b 0"), "");
    }
    assert_eq!(send(&mut house, &pusher, "RPUSH b 1 2"), ":2 ");
    assert_eq!(read(&mut house, &waiters[0]), "*2 $1 b $1 1 ");
    assert_eq!(read(&mut house, &waiters[1]), "*2 $1 b $1 2 ");
    assert_eq!(read(&mut house, &waiters[2]), "");
    // A pipeline: the waiter has it before the pusher's next command.
    assert_eq!(send(&mut house, &pusher, "RPUSH a 3\nLLEN a"), ":1 :0 ");
    assert_eq!(read(&mut house, &waiters[2]), "*2 $1 a $1 3 ");
    // Inside a transaction it is the whole of it that counts.
    assert_eq!(
        send(&mut house, &pusher, "MULTI\nRPUSH a 4\nDEL a\nRPUSH a 5\nEXEC"),
        "+OK +QUEUED +QUEUED +QUEUED *3 :1 :1 :1 "
    );
    assert_eq!(read(&mut house, &waiters[3]), "*2 $1 a $1 5 ");
    assert_eq!(send(&mut house, &pusher, "EXISTS a b"), ":0 ");
}

#[test]
fn what_one_is_given_serves_the_next() {
    let mut house = House::still();
    let (first, second, third, pusher) =
        (house.net.connect(), house.net.connect(), house.net.connect(), house.net.connect());
    assert_eq!(send(&mut house, &third, "BLPOP c 0"), "");
    assert_eq!(send(&mut house, &second, "BLMOVE b c RIGHT LEFT 0"), "");
    assert_eq!(send(&mut house, &first, "BRPOPLPUSH a b 0"), "");
    assert_eq!(send(&mut house, &pusher, "LPUSH a x"), ":1 ");
    assert_eq!(read(&mut house, &first), "$1 x ");
    assert_eq!(read(&mut house, &second), "$1 x ");
    assert_eq!(read(&mut house, &third), "*2 $1 c $1 x ");
}

#[test]
fn a_wait_ends_by_time_by_others_and_by_leaving() {
    let mut house = House::still();
    let (timed, unblocked, failed, gone, pusher) =
        (house.net.connect(), house.net.connect(), house.net.connect(), house.net.connect(), house.net.connect());
    let id = |house: &mut House, client: &MemoryPeer| {
        let id = send(house, client, "CLIENT ID");
        id.trim().trim_start_matches(':').to_owned()
    };
    let (unblocked_id, failed_id) = (id(&mut house, &unblocked), id(&mut house, &failed));
    assert_eq!(send(&mut house, &timed, "BLPOP k 0.05\nPING"), "");
    assert_eq!(send(&mut house, &unblocked, "BLMPOP 0 2 j k LEFT COUNT 3"), "");
    assert_eq!(send(&mut house, &failed, "BLMOVE k j LEFT LEFT 0"), "");
    assert_eq!(send(&mut house, &gone, "BRPOP k 0"), "");
    assert!(send(&mut house, &pusher, "INFO clients").contains("blocked_clients:4 "));
    gone.close();
    house.settle();
    assert!(send(&mut house, &pusher, "INFO clients").contains("blocked_clients:3 "));
    house.time.advance(49 * 1_000_000);
    assert_eq!(read(&mut house, &timed), "");
    house.time.advance(1_000_000);
    assert_eq!(read(&mut house, &timed), "*-1 +PONG ");
    assert_eq!(
        send(&mut house, &pusher, &format!("CLIENT UNBLOCK {unblocked_id}\nCLIENT UNBLOCK {unblocked_id}")),
        ":1 :0 "
    );
    assert_eq!(read(&mut house, &unblocked), "*-1 ");
    assert_eq!(send(&mut house, &pusher, &format!("CLIENT UNBLOCK {failed_id} ERROR")), ":1 ");
    assert_eq!(read(&mut house, &failed), "-UNBLOCKED client unblocked via CLIENT UNBLOCK ");
    assert!(send(&mut house, &pusher, "INFO clients").contains("blocked_clients:0 "));
    assert_eq!(send(&mut house, &pusher, "RPUSH k 1\nLLEN k"), ":1 :1 ");
}

#[test]
fn only_what_is_waited_for_wakes() {
    let mut house = House::still();
    let (waiter, pusher) = (house.net.connect(), house.net.connect());
    assert_eq!(send(&mut house, &waiter, "SELECT 1\nBLPOP k 0"), "+OK ");
    // Another database, another type, a list that is gone again.
    assert_eq!(send(&mut house, &pusher, "RPUSH k 1\nSELECT 1\nSET k text\nDEL k"), ":1 +OK +OK :1 ");
    assert_eq!(read(&mut house, &waiter), "");
    for (made, served) in [
        ("SWAPDB 0 1", "*2 $1 k $1 1 "),
        ("SELECT 0\nRPUSH l 2\nMOVE l 1\nSELECT 1\nRENAME l k", "*2 $1 k $1 2 "),
        ("RPUSH l 3\nCOPY l k", "*2 $1 k $1 3 "),
    ] {
        send(&mut house, &pusher, made);
        assert_eq!(read(&mut house, &waiter), served, "{made}");
        assert_eq!(send(&mut house, &waiter, "BLPOP k 0"), "");
    }
}

#[test]
fn during_a_pause_nobody_is_served_and_after_it_all_are() {
    let mut house = House::still();
    let (waiter, pusher, other) = (house.net.connect(), house.net.connect(), house.net.connect());
    assert_eq!(send(&mut house, &waiter, "BLPOP k 0"), "");
    assert_eq!(
        send(&mut house, &pusher, "MULTI\nRPUSH k 1\nCLIENT PAUSE 100 WRITE\nEXEC"),
        "+OK +QUEUED +QUEUED *2 :1 +OK "
    );
    assert_eq!(read(&mut house, &waiter), "");
    assert_eq!(send(&mut house, &other, "LLEN k"), ":1 ");
    house.time.advance(101 * 1_000_000);
    assert_eq!(read(&mut house, &waiter), "*2 $1 k $1 1 ");
}

#[test]
fn in_a_transaction_and_without_replies_there_is_no_waiting() {
    let mut house = House::still();
    let (client, pusher) = (house.net.connect(), house.net.connect());
    let answer = send(&mut house, &client, "MULTI\nBLPOP k 0\nBLMOVE k j LEFT LEFT 0\nBLMPOP 0 1 k LEFT\nEXEC");
    assert_eq!(answer, "+OK +QUEUED +QUEUED +QUEUED *3 *-1 $-1 *-1 ");
    assert_eq!(send(&mut house, &client, "CLIENT REPLY SKIP\nBLPOP k 0\nPING"), "");
    assert_eq!(send(&mut house, &pusher, "RPUSH k 1\nEXISTS k"), ":1 :0 ");
    assert_eq!(read(&mut house, &client), "+PONG ");
}

/// Ten thousand wait, and a push wakes one: it looks at no other.
#[test]
fn many_may_wait() {
    const WAITERS: usize = 10_000;
    let mut house = House::still();
    let waiters: Vec<MemoryPeer> = (0..WAITERS).map(|_| house.net.connect()).collect();
    for waiter in &waiters {
        waiter.write(b"BLPOP k 0\r\n");
    }
    house.settle();
    let pusher = house.net.connect();
    for waiter in waiters.iter().take(50) {
        assert_eq!(send(&mut house, &pusher, "RPUSH k x"), ":1 ");
        assert_eq!(read(&mut house, waiter), "*2 $1 k $1 x ");
    }
    assert!(send(&mut house, &pusher, "INFO clients").contains("blocked_clients:9950 "));
}

/// A thousand whose time is up together are answered in several turns, and all of them.
#[test]
fn many_may_have_waited_long_enough() {
    let mut house = House::still();
    let waiters: Vec<MemoryPeer> = (0..1000).map(|_| house.net.connect()).collect();
    waiters.iter().for_each(|waiter| assert_eq!(send(&mut house, waiter, "BLPOP k 1"), ""));
    house.time.advance(1_000_000_000);
    house.executor.turn();
    let at_once = waiters.iter().filter(|waiter| !waiter.read_available().is_empty()).count();
    assert!(at_once < 200, "{at_once} in one turn");
    house.settle();
    let later = waiters.iter().filter(|waiter| waiter.read_available() == b"*-1\r\n").count();
    assert_eq!(at_once + later, 1000);
}

fn pushes(house: &mut House, client: &MemoryPeer, key: &str, count: usize) {
    for from in (0..count).step_by(1000) {
        let elements: Vec<String> = (from..from + 1000).map(|number| format!("{number:06}")).collect();
        send(house, client, &format!("RPUSH {key} {}", elements.join(" ")));
    }
}

fn elements(range: impl Iterator<Item = usize>) -> String {
    range.map(|number| format!("$6 {number:06} ")).collect()
}

/// Who is woken may be given more than one slice answers.
#[test]
fn a_waiter_may_be_given_very_much() {
    for reply in ["ON", "SKIP"] {
        let mut house = House::ticking();
        let (waiter, pusher) = (house.net.connect(), house.net.connect());
        send(&mut house, &waiter, if reply == "SKIP" { "CLIENT REPLY SKIP" } else { "PING" });
        assert_eq!(send(&mut house, &waiter, "BLMPOP 0 1 k RIGHT COUNT 50000\nPING"), "");
        pushes(&mut house, &pusher, "other", 50_000);
        assert_eq!(send(&mut house, &pusher, "RENAME other k\nEXISTS k\nPING"), "+OK :0 +PONG ");
        let answer = read(&mut house, &waiter);
        let expected = match reply {
            "ON" => format!("*2 $1 k *50000 {}+PONG ", elements((0..50_000).rev())),
            _ => "+PONG ".to_owned(),
        };
        assert!(answer == expected, "{reply}: {} bytes of {}", answer.len(), expected.len());
        assert!(send(&mut house, &pusher, "INFO clients").contains("blocked_clients:0 "));
    }
}

/// One push that serves very many is done in slices: others are served meanwhile, and who uses the key sees it when all
/// who waited have been.
#[test]
fn very_many_are_served_in_slices() {
    const MANY: usize = 2000;
    let mut house = House::ticking();
    let waiters: Vec<MemoryPeer> = (0..MANY).map(|_| house.net.connect()).collect();
    let (pusher, taker, other) = (house.net.connect(), house.net.connect(), house.net.connect());
    for waiter in &waiters {
        waiter.write(&house::request(&["BLPOP", "k", "0"]));
    }
    house.settle();
    let mut words = vec!["RPUSH".to_owned(), "k".to_owned()];
    words.extend((0..MANY + 1).map(|number| number.to_string()));
    // In several commands, each of which is done at once; what they give is more than one turn hands out.
    let mut push = house::request(&["MULTI"]);
    for part in words[2..].chunks(200) {
        let mut command = vec!["RPUSH", "k"];
        command.extend(part.iter().map(String::as_str));
        push.extend(house::request(&command));
    }
    push.extend(house::request(&["EXEC"]));
    for piece in push.chunks(16 << 10) {
        pusher.write(piece);
        house.executor.turn();
    }
    let begins = |house: &mut House| {
        house.executor.turn();
        house.executor.server().data().holds_any()
    };
    assert!((0..100).any(|_| begins(&mut house)), "all are served at once");
    taker.write(&house::request(&["LRANGE", "k", "0", "-1"]));
    for _ in 0..5 {
        other.write(&house::request(&["PING"]));
        let (answer, turns) = house.answer(&other);
        assert_eq!((answer.as_str(), turns <= 2), ("+PONG\r\n", true));
        assert_eq!(taker.read_available(), b"", "it would see what others wait for");
    }
    house.settle();
    for (number, waiter) in waiters.iter().enumerate() {
        let answer = String::from_utf8(waiter.read_available()).unwrap();
        assert!(answer.ends_with(&format!("\r\n{number}\r\n")), "{number}: {answer}");
    }
    let left = String::from_utf8(taker.read_available()).unwrap();
    assert_eq!(left, format!("*1\r\n$4\r\n{MANY}\r\n"));
    assert!(!house.executor.server().data().holds_any());
    assert_eq!(house.call(&other, &["LPOP", "k"]), format!("$4\r\n{MANY}\r\n"));
}
