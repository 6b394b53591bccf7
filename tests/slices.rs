//! Long commands are done in slices, and others are served in between. The clock is made by hand and moves on
//! with every look at it, so that a slice is always as long.
#![allow(clippy::unwrap_used)]

mod house;

use house::{House, TURNS_MAX, request};
use tercel_transport::memory::MemoryPeer;

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
        let mut house = House::ticking();
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

/// Keys `key:0` and so on.
fn many_keys(house: &mut House, client: &MemoryPeer, count: usize) {
    for from in (0..count).step_by(1000) {
        let words: Vec<String> = (from..from + 1000).flat_map(|key| [format!("key:{key}"), "v".into()]).collect();
        let mut command = vec!["MSET"];
        command.extend(words.iter().map(String::as_str));
        assert_eq!(house.call(client, &command), "+OK\r\n");
    }
}

/// Keys come and go while KEYS and DEBUG DIGEST look: they tell of the moment they began.
#[test]
fn a_look_at_all_keys_is_of_one_moment() {
    let mut house = House::ticking();
    let peers: Vec<MemoryPeer> = (0..4).map(|_| house.net.connect()).collect();
    let [listing, digesting, later, quick] = &peers[..] else { unreachable!() };
    many_keys(&mut house, quick, 20_000);
    digesting.write(&request(&["DEBUG", "DIGEST"]));
    let before = house.whole(digesting);
    listing.write(&request(&["KEYS", "key:*"]));
    digesting.write(&request(&["DEBUG", "DIGEST"]));
    house.executor.turn();
    for round in 0..40usize {
        let (gone, new) = (format!("key:{}", round * 499), format!("key:new{round}"));
        quick.write(&[request(&["DEL", &gone]), request(&["SET", &new, "v"])].concat());
        assert_eq!(house.answer(quick).0, ":1\r\n+OK\r\n", "served meanwhile");
    }
    assert!(listing.read_available().is_empty() && digesting.read_available().is_empty(), "still looking");
    // One that begins later is of its own moment.
    later.write(&request(&["KEYS", "*"]));
    house.executor.turn();
    quick.write(&request(&["FLUSHALL"]));
    assert_eq!(house.answer(quick).0, "+OK\r\n");
    let (listed, listed_later) = (house.whole(listing), house.whole(later));
    let names = |answer: &str| -> std::collections::BTreeSet<String> {
        answer.lines().filter(|line| line.starts_with("key:")).map(str::to_owned).collect()
    };
    assert!(listed.starts_with("*20000\r\n") && names(&listed).len() == 20_000);
    assert!(names(&listed).contains("key:499") && !names(&listed).contains("key:new0"));
    assert!(listed_later.starts_with("*20000\r\n") && names(&listed_later).contains("key:new39"));
    assert!(!names(&listed_later).contains("key:499"));
    assert_eq!(house.whole(digesting), before);
    assert_eq!(house.call(quick, &["DBSIZE"]), ":0\r\n");
}

/// What a look held back is given back when its client is gone.
#[test]
fn a_look_that_nobody_waits_for_ends() {
    let mut house = House::ticking();
    let (slow, quick) = (house.net.connect(), house.net.connect());
    many_keys(&mut house, &quick, 20_000);
    let id = house.call(&slow, &["CLIENT", "ID"]);
    slow.write(&request(&["KEYS", "*"]));
    house.executor.turn();
    quick.write(&request(&["CLIENT", "KILL", "ID", id.trim_matches([':', '\r', '\n'])]));
    assert_eq!(house.answer(&quick).0, ":1\r\n");
    assert!(slow.read_available().is_empty());
    assert_eq!(house.call(&quick, &["FLUSHALL"]), "+OK\r\n");
    house.settle();
    // Nothing walks the flushed table any more, so it is freed.
    let info = house.call(&quick, &["INFO", "memory"]);
    assert!(info.contains("lazyfree_pending_objects:0\r\n") && info.contains("lazyfreed_objects:20000\r\n"), "{info}");
}

#[test]
fn lcs_lets_others_in_and_answers_of_the_strings_as_they_were() {
    let mut house = House::ticking();
    let (slow, quick) = (house.net.connect(), house.net.connect());
    // All of the shorter one lies in the longer one.
    let (long, short) = ("abcdefghij".repeat(1_500), "acegi".repeat(1_500));
    house.call(&quick, &["MSET", "long", &long, "short", &short]);
    for (options, expected) in [
        (&["LEN"][..], ":7500\r\n".to_owned()),
        (&[], format!("$7500\r\n{short}\r\n")),
        (&["IDX", "MINMATCHLEN", "2"], "*4\r\n$7\r\nmatches\r\n*0\r\n$3\r\nlen\r\n:7500\r\n".to_owned()),
    ] {
        slow.write(&request(&[&["LCS", "long", "short"], options].concat()));
        house.executor.turn();
        for value in ["x", &long] {
            quick.write(&request(&["SET", "long", value]));
            assert_eq!(house.answer(&quick), ("+OK\r\n".to_owned(), 1));
            assert!(slow.read_available().is_empty(), "{options:?} was done at once");
        }
        assert_eq!(house.whole(&slow), expected, "{options:?}");
    }
    let runs = house.call(&quick, &["LCS", "long", "short", "IDX"]);
    assert!(runs.starts_with("*4\r\n$7\r\nmatches\r\n*7500\r\n"), "{}", &runs[..40]);
}

/// A BITOP that is under way: its target is `into`, its sources `long` and `short`.
fn begin_bitop(house: &mut House) -> (MemoryPeer, MemoryPeer) {
    let (slow, quick) = (house.net.connect(), house.net.connect());
    long_string(house, &quick);
    house.call(&quick, &["MSET", "short", "abc", "into", "before", "other", "1"]);
    slow.write(&request(&["BITOP", "OR", "into", "long", "short"]));
    house.executor.turn();
    (slow, quick)
}

#[test]
fn who_uses_a_key_that_is_being_made_waits_and_nobody_else() {
    let uses: [&[&str]; 8] = [
        &["STRLEN", "into"],
        &["APPEND", "into", "x"],
        &["EXISTS", "other", "into"],
        &["RENAME", "other", "into"],
        &["DEL", "into"],
        &["FLUSHALL"],
        &["DBSIZE"],
        &["KEYS", "int*"],
    ];
    let answers = [":4194304", ":4194305", ":2", "+OK", ":1", "+OK", ":4", "*1"];
    for (words, answer) in uses.iter().zip(answers) {
        let mut house = House::ticking();
        let (slow, quick) = begin_bitop(&mut house);
        let waiting = house.net.connect();
        waiting.write(&[request(words), request(&["ECHO", "behind"])].concat());
        // Its sources may change; it has them as they were.
        for (other, reply) in
            [(&["APPEND", "short", "d"][..], ":4"), (&["DEL", "long"], ":1"), (&["GET", "other"], "$1")]
        {
            quick.write(&request(other));
            let (answer, turns) = house.answer(&quick);
            assert!(answer.starts_with(reply) && turns == 1, "{other:?}: {answer}");
        }
        assert!(slow.read_available().is_empty() && waiting.read_available().is_empty(), "{words:?} did not wait");
        // It may be seen to wait, be told, and go.
        let gone = house.net.connect();
        gone.write(&request(words));
        house.executor.turn();
        gone.close();
        quick.write(&request(&["SETRANGE", "long", "5", "x"]));
        house.settle();
        assert_eq!(slow.read_available(), b":4194304\r\n");
        let answered = house.whole(&waiting);
        assert!(answered.starts_with(answer) && answered.ends_with("$6\r\nbehind\r\n"), "{words:?}: {answered}");
    }
    let mut house = House::ticking();
    let (slow, quick) = begin_bitop(&mut house);
    house.settle();
    assert_eq!(slow.read_available(), b":4194304\r\n");
    assert_eq!(house.call(&quick, &["GETRANGE", "into", "0", "3"]), "$4\r\nabc\0\r\n");
    assert_eq!(house.call(&quick, &["GETBIT", "into", "33554431"]), ":1\r\n");
    assert_eq!(house.call(&quick, &["OBJECT", "ENCODING", "into"]), "$3\r\nraw\r\n");
}

#[test]
fn a_transaction_waits_for_its_keys_as_a_whole() {
    let mut house = House::ticking();
    let (slow, quick) = begin_bitop(&mut house);
    let waiting = house.net.connect();
    for words in [&["MULTI"][..], &["SET", "other", "2"], &["STRLEN", "into"]] {
        waiting.write(&request(words));
        assert_eq!(house.answer(&waiting).1, 1, "it is only queued");
    }
    waiting.write(&request(&["EXEC"]));
    quick.write(&request(&["GET", "other"]));
    assert_eq!(house.answer(&quick).0, "$1\r\n1\r\n", "nothing of it has run");
    assert!(slow.read_available().is_empty());
    house.settle();
    assert_eq!(house.call(&waiting, &[]), "*2\r\n+OK\r\n:4194304\r\n");
}

/// Whoever is killed while his BITOP is under way has changed nothing, and holds nobody up.
#[test]
fn what_is_given_up_lets_its_keys_go() {
    let mut house = House::ticking();
    let (slow, quick) = begin_bitop(&mut house);
    let waiting = house.net.connect();
    waiting.write(&request(&["GET", "into"]));
    house.executor.turn();
    assert!(waiting.read_available().is_empty());
    quick.write(&request(&["CLIENT", "LIST"]));
    let list = house.answer(&quick).0;
    let line = list.lines().find(|line| line.contains("cmd=bitop")).unwrap();
    let id = line.split("id=").nth(1).unwrap().split(' ').next().unwrap();
    quick.write(&request(&["CLIENT", "KILL", "ID", id]));
    assert_eq!(house.answer(&quick).0, ":1\r\n");
    house.settle();
    assert!(slow.read_available().is_empty());
    assert_eq!(waiting.read_available(), b"$6\r\nbefore\r\n");
    assert_eq!(house.call(&quick, &["GET", "into"]), "$6\r\nbefore\r\n");
}

#[test]
fn long_commands_take_turns() {
    let mut house = House::ticking();
    let clients: Vec<MemoryPeer> = (0..4).map(|_| house.net.connect()).collect();
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
    assert!(ends[0] > 50 && ends[3] - ends[0] < 10, "{ends:?}");
}

#[test]
fn inside_a_transaction_a_long_command_runs_whole() {
    let mut house = House::ticking();
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
    let mut house = House::ticking();
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
    let mut house = House::ticking();
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
    let mut house = House::ticking();
    let (slow, quick) = (house.net.connect(), house.net.connect());
    many_keys(&mut house, &quick, 20_000);
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
    answer.extend(house.whole(&slow).into_bytes());
    let answer = String::from_utf8(answer).unwrap();
    assert!(written > 100, "{written} were served meanwhile");
    assert!(answer.starts_with("*2\r\n$1\r\n0\r\n*"), "{}", &answer[..30]);
    let mut found: Vec<&str> = answer.lines().filter(|line| line.starts_with("key:")).collect();
    found.sort_unstable();
    let count = found.len();
    found.dedup();
    assert_eq!((count, found.len()), (20_000, 20_000), "every key that was there all the time, once");
}

/// What a client sent before it went is done all the same, and what it can still be told it is told.
#[test]
fn what_was_sent_before_a_hang_up_is_done() {
    let mut house = House::ticking();
    let (slow, quick) = (house.net.connect(), house.net.connect());
    many_keys(&mut house, &quick, 20_000);
    slow.write(&[request(&["KEYS", "nothing*"]), request(&["SET", "behind", "1"])].concat());
    slow.close();
    house.settle();
    assert_eq!(slow.read_available(), b"*0\r\n+OK\r\n");
    assert_eq!(house.call(&quick, &["GET", "behind"]), "$1\r\n1\r\n");
    assert_eq!(house.executor.server().clients().len(), 1);
}

/// A slot may be somebody else's by the time that those who wait are let go.
#[test]
fn who_comes_into_the_slot_of_one_that_waited_is_left_alone() {
    let mut house = House::ticking();
    let quick = house.net.connect();
    many_keys(&mut house, &quick, 20_000);
    house.call(&quick, &["CLIENT", "PAUSE", "100000", "WRITE"]);
    let gone = house.net.connect();
    gone.write(&request(&["SET", "a", "1"]));
    house.executor.turn();
    gone.close();
    house.settle();
    let newcomer = house.net.connect();
    newcomer.write(&[request(&["KEYS", "*"]), request(&["KEYS", "nothing"]), request(&["ECHO", "last"])].concat());
    house.executor.turn();
    quick.write(&request(&["CLIENT", "UNPAUSE"]));
    assert_eq!(house.answer(&quick).0, "+OK\r\n");
    let answer = house.whole(&newcomer);
    assert!(answer.starts_with("*20000\r\n") && answer.ends_with("*0\r\n$4\r\nlast\r\n"), "{}", answer.len());
    house.call(&quick, &["FLUSHALL"]);
    assert!(
        house.call(&quick, &["INFO", "memory"]).contains("lazyfreed_objects:20000\r\n"),
        "nothing walks it any more"
    );
}

/// A few are under way at once, the others begin later; all are answered, in whatever order they came.
#[test]
fn only_some_long_commands_are_under_way_at_once() {
    let mut house = House::ticking();
    let quick = house.net.connect();
    many_keys(&mut house, &quick, 10_000);
    let peers: Vec<MemoryPeer> = (0..12).map(|_| house.net.connect()).collect();
    for peer in &peers {
        peer.write(&[request(&["KEYS", "key:*"]), request(&["ECHO", "behind"])].concat());
    }
    house.executor.turn();
    // Those that have not begun see what has been written until then.
    quick.write(&request(&["SET", "key:new", "v"]));
    assert_eq!(house.answer(&quick).0, "+OK\r\n");
    let answers: Vec<String> = peers.iter().map(|peer| house.whole(peer)).collect();
    assert!(answers.iter().all(|answer| answer.ends_with("$6\r\nbehind\r\n")));
    let old = answers.iter().filter(|answer| answer.starts_with("*10000\r\n")).count();
    let new = answers.iter().filter(|answer| answer.starts_with("*10001\r\n")).count();
    assert_eq!((old, new), (4, 8));
    let stats = house.call(&quick, &["INFO", "commandstats"]);
    assert!(stats.contains("cmdstat_keys:calls=12,"), "{stats}");
}

/// Nobody gathers more than he may be told.
#[test]
fn an_answer_that_will_be_too_long_is_not_gathered() {
    let mut house = House::ticking();
    let (slow, quick) = (house.net.connect(), house.net.connect());
    many_keys(&mut house, &quick, 20_000);
    house.call(&quick, &["CONFIG", "SET", "client-output-buffer-limit", "normal 100000 0 0"]);
    slow.write(&request(&["KEYS", "*"]));
    house.settle();
    assert!(slow.read_available().is_empty());
    assert_eq!(house.executor.server().clients().len(), 1);
    assert_eq!(house.executor.server().clients().counters().output_over, 1);
    // In a transaction neither.
    let exec = house.net.connect();
    house.call(&exec, &["MULTI"]);
    house.call(&exec, &["KEYS", "*"]);
    assert_eq!(house.call(&exec, &["EXEC"]), "");
    assert_eq!(house.executor.server().clients().counters().output_over, 2);
    // What a command makes of keys is no answer.
    long_string(&mut house, &quick);
    assert_eq!(house.call(&quick, &["BITOP", "NOT", "into", "long"]), ":4194304\r\n");
}

/// A cursor is of one table: a walk ends where another comes into its place.
#[test]
fn a_scan_does_not_mix_databases() {
    let mut house = House::ticking();
    let (slow, quick) = (house.net.connect(), house.net.connect());
    many_keys(&mut house, &quick, 20_000);
    house.call(&quick, &["SELECT", "1"]);
    many_keys(&mut house, &quick, 20_000);
    house.call(&quick, &["SET", "only:here", "v"]);
    slow.write(&request(&["SCAN", "0", "COUNT", "1000000", "MATCH", "*:here"]));
    house.executor.turn();
    quick.write(&request(&["SWAPDB", "0", "1"]));
    assert_eq!(house.answer(&quick).0, "+OK\r\n");
    let answer = house.whole(&slow);
    assert!(!answer.contains("only:here") && !answer.contains("$1\r\n0\r\n"), "{answer}");
}

/// A pause holds what would change something, also where it began before; looking goes on.
#[test]
fn a_pause_holds_what_has_begun_to_write() {
    let mut house = House::ticking();
    let (slow, quick) = begin_bitop(&mut house);
    let looking = house.net.connect();
    looking.write(&request(&["BITCOUNT", "long"]));
    quick.write(&request(&["CLIENT", "PAUSE", "100000", "WRITE"]));
    assert_eq!(house.answer(&quick).0, "+OK\r\n");
    assert_eq!(house.whole(&looking), ":1\r\n");
    assert!(slow.read_available().is_empty(), "it is not done");
    quick.write(&request(&["CLIENT", "UNPAUSE"]));
    assert_eq!(house.answer(&quick).0, "+OK\r\n");
    assert_eq!(house.whole(&slow), ":4194304\r\n");
}

/// To close a connection takes the kernel a while: very many that go together are closed a few a turn.
#[test]
fn who_is_ended_together_is_closed_a_few_at_a_time() {
    let mut house = House::still();
    let quick = house.net.connect();
    assert_eq!(house.call(&quick, &["PING"]), "+PONG\r\n");
    let others: Vec<MemoryPeer> = (0..300).map(|_| house.net.connect()).collect();
    house.settle();
    quick.write(&request(&["CLIENT", "KILL", "TYPE", "normal"]));
    assert_eq!(house.answer(&quick).0, ":300\r\n");
    quick.write(&request(&["PING"]));
    assert_eq!(house.answer(&quick), ("+PONG\r\n".to_owned(), 1));
    let ended = others.iter().filter(|peer| peer.is_ended()).count();
    assert!(ended > 0 && ended < 200, "{ended} are closed already");
    house.settle();
    assert!(others.iter().all(MemoryPeer::is_ended));
    assert!(house.call(&quick, &["INFO", "clients"]).contains("connected_clients:1\r\n"));
}
