//! Hashes as their clients see them: answers as Valkey gives them, in both protocols, what listeners are told, and
//! hashes that are long or whose fields expire.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;
use common::{Raw, Server, until};

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
const WRONG_COUNT: &str = "-ERR numfields should be greater than 0 and match the provided number of fields";

/// Sends the words of a line, of which `_` is an empty one, and returns the answer on a line.
fn call(client: &mut Raw, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').map(|word| if word == "_" { "" } else { word }).collect();
    client.call(&words).trim_end().replace("\r\n", " ")
}

fn check(client: &mut Raw, cases: &[(&str, &str)]) {
    for (line, expected) in cases {
        assert_eq!(call(client, line), *expected, "{line}");
    }
}

#[test]
fn fields_are_set_counted_drawn_and_removed() {
    let server = Server::start(&[]);
    let cases = [
        ("HSET h a 1 b 2 a 3", ":2"),
        ("HSET h a", "-ERR wrong number of arguments for 'hset' command"),
        ("HMSET h c x", "+OK"),
        ("HMSET h c", "-ERR wrong number of arguments for 'hmset' command"),
        ("HSETNX h a 9", ":0"),
        ("HSETNX h _ empty", ":1"),
        ("HGET h a", "$1 3"),
        ("HGET h _", "$5 empty"),
        ("HGET h no", "$-1"),
        ("HGET no a", "$-1"),
        ("HMGET h a no b", "*3 $1 3 $-1 $1 2"),
        ("HMGET no a b", "*2 $-1 $-1"),
        ("HGETALL h", "*8 $1 a $1 3 $1 b $1 2 $1 c $1 x $0  $5 empty"),
        ("HKEYS h", "*4 $1 a $1 b $1 c $0"),
        ("HVALS h", "*4 $1 3 $1 2 $1 x $5 empty"),
        ("HKEYS no", "*0"),
        ("HGETALL no", "*0"),
        ("HLEN h", ":4"),
        ("HLEN no", ":0"),
        ("HSTRLEN h _", ":5"),
        ("HSTRLEN h no", ":0"),
        ("HEXISTS h a", ":1"),
        ("HEXISTS h no", ":0"),
        ("HDEL h _ no _", ":1"),
        ("HDEL no a", ":0"),
        ("HINCRBY h a 4", ":7"),
        ("HINCRBY h new -5", ":-5"),
        ("HINCRBY h c 1", "-ERR hash value is not an integer"),
        ("HINCRBY h a 9223372036854775807", "-ERR increment or decrement would overflow"),
        ("HINCRBY h a 1.5", "-ERR value is not an integer or out of range"),
        ("HINCRBYFLOAT h b 0.1", "$3 2.1"),
        ("HINCRBYFLOAT h c 1", "-ERR hash value is not a float"),
        ("HINCRBYFLOAT h b x", "-ERR value is not a valid float"),
        ("HINCRBYFLOAT h b inf", "-ERR value is NaN or Infinity"),
        ("OBJECT ENCODING h", "$8 listpack"),
        ("TYPE h", "+hash"),
        ("HRANDFIELD no", "$-1"),
        ("HRANDFIELD no 3", "*0"),
        ("HRANDFIELD h 0", "*0"),
        ("HRANDFIELD h x", "-ERR value is not an integer or out of range"),
        (
            "HRANDFIELD h -9223372036854775808",
            "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ),
        ("HRANDFIELD h 9223372036854775807 WITHVALUES", "-ERR value is out of range"),
        ("HRANDFIELD h 1 VALUES", "-ERR syntax error"),
        ("HSET one f v", ":1"),
        ("HRANDFIELD one", "$1 f"),
        ("HRANDFIELD one 9 WITHVALUES", "*2 $1 f $1 v"),
        ("HRANDFIELD one -2 WITHVALUES", "*4 $1 f $1 v $1 f $1 v"),
        ("HSCAN one 0", "*2 $1 0 *2 $1 f $1 v"),
        ("HSCAN one 0 NOVALUES", "*2 $1 0 *1 $1 f"),
        ("HSCAN one 77 MATCH g*", "*2 $1 0 *0"),
        ("HSCAN one x", "-ERR invalid cursor"),
        ("HSCAN one -1", "-ERR invalid cursor"),
        ("HSCAN no 0 NOSUCH", "*2 $1 0 *0"),
        ("HSCAN one 0 NOSUCH", "-ERR syntax error"),
        ("HSCAN one 0 COUNT 0", "-ERR syntax error"),
        ("HSCAN one 0 NOSCORES", "-ERR NOSCORES option can only be used in ZSCAN"),
        ("SET s v", "+OK"),
        ("HSET s a 1", WRONG_TYPE),
        ("HGET s a", WRONG_TYPE),
        ("HMGET s a", WRONG_TYPE),
        ("HGETALL s", WRONG_TYPE),
        ("HSCAN s 0", WRONG_TYPE),
        ("HRANDFIELD s 0", WRONG_TYPE),
        ("HINCRBY s a x", "-ERR value is not an integer or out of range"),
        ("HINCRBY s a 1", WRONG_TYPE),
        ("HDEL s a", WRONG_TYPE),
        ("HTTL s FIELDS 1 a", WRONG_TYPE),
        ("HGETDEL s FIELDS 1 a", WRONG_TYPE),
        ("HSETEX s FIELDS 1 a 1", WRONG_TYPE),
    ];
    check(&mut server.connect(), &cases);
}

#[test]
fn deadlines_of_fields() {
    let server = Server::start(&[]);
    let cases = [
        ("HSET h a 1 b 2", ":2"),
        ("HEXPIREAT h 4102444800 FIELDS 3 a b no", "*3 :1 :1 :-2"),
        ("OBJECT ENCODING h", "$9 hashtable"),
        ("HEXPIRETIME h FIELDS 2 a no", "*2 :4102444800 :-2"),
        ("HPEXPIRETIME h FIELDS 1 a", "*1 :4102444800000"),
        ("HTTL h FIELDS 2 c no", "*2 :-2 :-2"),
        ("HPTTL no FIELDS 1 a", "*1 :-2"),
        ("HPEXPIREAT h 4102444800001 GT FIELDS 1 a", "*1 :1"),
        ("HPEXPIREAT h 4102444800001 GT FIELDS 1 a", "*1 :0"),
        ("HPEXPIREAT h 4102444800002 LT FIELDS 1 a", "*1 :0"),
        ("HPEXPIREAT h 4102444800002 NX FIELDS 2 a b", "*2 :0 :0"),
        ("HEXPIREAT h 4102444900 XX FIELDS 2 a b", "*2 :1 :1"),
        ("HPERSIST h FIELDS 3 a a no", "*3 :1 :-1 :-2"),
        ("HPERSIST no FIELDS 1 a", "*1 :-2"),
        ("HEXPIRE h 0 FIELDS 2 a no", "*2 :2 :-2"),
        ("HEXPIRE no 5 FIELDS 1 a", "*1 :-2"),
        ("HEXPIRE h -1 FIELDS 1 b", "-ERR invalid expire time in 'hexpire' command"),
        ("HEXPIRE h x FIELDS 1 b", "-ERR value is not an integer or out of range"),
        ("HEXPIRE h 9223372036854775807 FIELDS 1 b", "-ERR invalid expire time in 'hexpire' command"),
        ("HEXPIRE h 5 NX XX FIELDS 1 b", "-ERR NX and XX, GT or LT options at the same time are not compatible"),
        ("HEXPIRE h 5 GT LT FIELDS 1 b", "-ERR GT and LT options at the same time are not compatible"),
        ("HEXPIRE h 5 SOON FIELDS 1 b", "-ERR Unsupported option SOON"),
        ("HEXPIRE h 5 FIELDS 2 b", WRONG_COUNT),
        ("HEXPIRE h 5 FIELDS x b", "-ERR value is not an integer or out of range"),
        ("HEXPIRE h 5 NX b 1", WRONG_COUNT),
        ("HTTL h FIELDS 2 b", "-ERR syntax error"),
        ("HTTL h FIELDS x b", "-ERR value is not an integer or out of range"),
        ("HTTL h NAMES 1 b", "-ERR syntax error"),
        ("HPERSIST h FIELDS 0 b", WRONG_COUNT),
        ("HSETEX h EXAT 4102444800 FIELDS 1 a 1", ":1"),
        ("HSET h a 2", ":0"),
        ("HTTL h FIELDS 1 a", "*1 :-1"),
        ("HSETEX h PXAT 4102444800000 FIELDS 1 a 1", ":1"),
        ("HINCRBY h a 1", ":2"),
        ("HEXPIRETIME h FIELDS 1 a", "*1 :4102444800"),
        ("HINCRBYFLOAT h a 0.5", "$3 2.5"),
        ("HEXPIRETIME h FIELDS 1 a", "*1 :4102444800"),
        ("HSETEX h KEEPTTL FIELDS 1 a 3", ":1"),
        ("HEXPIRETIME h FIELDS 1 a", "*1 :4102444800"),
        ("HSETEX h FIELDS 1 a 4", ":1"),
        ("HTTL h FIELDS 1 a", "*1 :-1"),
        ("HSETEX h NX FIELDS 1 a 5", ":0"),
        ("HSETEX no XX FIELDS 1 a 5", ":0"),
        ("HSETEX h FNX FIELDS 2 x 1 a 5", ":0"),
        ("HSETEX h FXX FIELDS 2 x 1 a 5", ":0"),
        ("HSETEX h XX FXX EX 100 EX 200 FIELDS 1 a 5", ":1"),
        ("HSETEX h NX XX FIELDS 1 a 5", "-ERR syntax error"),
        ("HSETEX h FNX FXX FIELDS 1 a 5", "-ERR syntax error"),
        ("HSETEX h EX 5 PX 5 FIELDS 1 a 5", "-ERR syntax error"),
        ("HSETEX h EX 5 KEEPTTL FIELDS 1 a 5", "-ERR syntax error"),
        ("HSETEX h EX FIELDS 1 a 5", "-ERR syntax error"),
        ("HSETEX h EX -1 FIELDS 1 a 5", "-ERR invalid expire time in 'hsetex' command"),
        ("HSETEX h PERSIST FIELDS 1 a 5", "-ERR syntax error"),
        ("HSETEX h FIELDS 1 a", "-ERR wrong number of arguments for 'hsetex' command"),
        ("HSETEX h NX EX -1 FIELDS 1 a 5", ":0"),
        ("HGETEX h FIELDS 2 a no", "*2 $1 5 $-1"),
        ("HGETEX h EXAT 4102444800 FIELDS 1 a", "*1 $1 5"),
        ("HEXPIRETIME h FIELDS 1 a", "*1 :4102444800"),
        ("HGETEX h PERSIST FIELDS 1 a", "*1 $1 5"),
        ("HTTL h FIELDS 1 a", "*1 :-1"),
        ("HGETEX h EX 5 PERSIST FIELDS 1 a", "-ERR syntax error"),
        ("HGETEX h KEEPTTL FIELDS 1 a", "-ERR syntax error"),
        ("HGETEX h FIELDS 2 a", WRONG_COUNT),
        ("HGETEX no FIELDS 2 a b", "*2 $-1 $-1"),
        ("HGETEX no EX -1 FIELDS 1 a", "-ERR invalid expire time in 'hgetex' command"),
        ("HGETEX h EX 0 FIELDS 2 a a", "*2 $1 5 $-1"),
        ("HGETDEL h FIELDS 3 no b b", "*3 $-1 $1 2 $-1"),
        ("EXISTS h", ":0"),
        ("HGETDEL h FIELDS 1 b", "*1 $-1"),
        ("HGETDEL h FIELDS 2 b", WRONG_COUNT),
        ("HSETEX h EX 0 FIELDS 1 a 1", ":1"),
        ("EXISTS h", ":0"),
    ];
    check(&mut server.connect(), &cases);
}

#[test]
fn answers_in_the_newer_protocol() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.call(&["HELLO", "3"]);
    let cases = [
        ("HSET h f v", ":1"),
        ("HGETALL h", "%1 $1 f $1 v"),
        ("HGETALL no", "%0"),
        ("HKEYS no", "*0"),
        ("HGET h no", "_"),
        ("HMGET h no f", "*2 _ $1 v"),
        ("HRANDFIELD no", "_"),
        ("HRANDFIELD h 5", "*1 $1 f"),
        ("HRANDFIELD h 5 WITHVALUES", "*1 *2 $1 f $1 v"),
        ("HRANDFIELD h -2 WITHVALUES", "*2 *2 $1 f $1 v *2 $1 f $1 v"),
        ("HSCAN h 0", "*2 $1 0 *2 $1 f $1 v"),
        ("HSCAN no 0", "*2 $1 0 *0"),
        ("HINCRBYFLOAT h g 1.5", "$3 1.5"),
        ("HGETEX h FIELDS 1 no", "*1 _"),
        ("HSET g a 1 b 2", ":2"),
        ("HGETALL g", "%2 $1 a $1 1 $1 b $1 2"),
    ];
    check(&mut client, &cases);
}

#[test]
fn listeners_are_told_what_happens_to_fields() {
    let server = Server::start(&["--notify-keyspace-events", "KEAn"]);
    let (mut client, mut listener) = (server.connect(), server.connect());
    listener.call(&["SUBSCRIBE", "__keyspace@0__:h"]);
    for (line, expected) in [
        ("HSET h a 1 b 2", "new hset"),
        ("HMSET h a 1", "hset"),
        ("HSETNX h a 1", ""),
        ("HSETNX h c 1", "hset"),
        ("HINCRBY h a 1", "hincrby"),
        ("HINCRBYFLOAT h a 1", "hincrbyfloat"),
        ("HDEL h no", ""),
        ("HDEL h c", "hdel"),
        ("HEXPIRE h 100 FIELDS 2 a b", "hexpire"),
        ("HEXPIRE h 200 NX FIELDS 2 a b", ""),
        ("HPERSIST h FIELDS 1 a", "hpersist"),
        ("HPERSIST h FIELDS 1 a", ""),
        ("HGETEX h FIELDS 1 a", ""),
        ("HGETEX h EX 100 FIELDS 1 a", "hexpire"),
        ("HGETEX h PERSIST FIELDS 1 a", "hpersist"),
        ("HGETEX h EX 0 FIELDS 1 a", "hexpired"),
        ("HSETEX h FIELDS 1 a 1", "hset"),
        ("HSETEX h FNX FIELDS 1 a 1", ""),
        ("HSETEX h EX 100 FIELDS 1 a 1", "hset hexpire"),
        ("HSETEX h EX 0 FIELDS 1 a 1", "hset hexpire hexpired"),
        ("HGETDEL h FIELDS 1 no", ""),
        ("HGETDEL h FIELDS 1 b", "hdel del"),
        ("HSETEX h EX 0 FIELDS 1 a 1", "new hset hexpire hexpired del"),
        ("HSET h a 1", "new hset"),
        ("HEXPIRE h 0 FIELDS 1 a", "hexpired del"),
        ("HSET h a 1", "new hset"),
        ("HDEL h a", "hdel del"),
    ] {
        call(&mut client, line);
        client.call(&["PUBLISH", "__keyspace@0__:h", "."]);
        let mut told = Vec::new();
        loop {
            let message = listener.text();
            match message.trim_end().rsplit("\r\n").next() {
                Some(".") => break,
                event => told.extend(event.map(str::to_owned)),
            }
        }
        assert_eq!(told.join(" "), expected, "{line}");
    }
}

/// What is long is answered in pieces: all of it, and as it was when it was asked for.
#[test]
fn long_hashes_are_answered_whole() {
    const LEN: usize = 20_000;
    let server = Server::start(&[]);
    let (mut client, mut other) = (server.connect(), server.connect());
    let names: Vec<String> = (0..LEN).map(|index| format!("f{index}")).collect();
    let mut set = vec!["HSET", "h"];
    names.iter().for_each(|name| set.extend([name.as_str(), name.as_str()]));
    assert_eq!(client.call(&set), format!(":{LEN}\r\n"));
    let words = |answer: String| -> Vec<String> {
        let mut words: Vec<String> =
            answer.split("\r\n").filter(|word| word.starts_with('f')).map(str::to_owned).collect();
        words.sort_unstable();
        words
    };
    let sorted = |copies: usize| {
        let mut all: Vec<String> = names.iter().cloned().cycle().take(LEN * copies).collect();
        all.sort_unstable();
        all
    };
    let all_names = [&["HMGET", "h"][..], &names.iter().map(String::as_str).collect::<Vec<_>>()].concat();
    let long = LEN.to_string();
    for (ask, copies) in [
        (&["HGETALL", "h"][..], 2),
        (&["HKEYS", "h"], 1),
        (&["HVALS", "h"], 1),
        (&all_names, 1),
        (&["HRANDFIELD", "h", &long, "WITHVALUES"], 2),
        (&["HSCAN", "h", "0", "COUNT", "1000000"], 2),
    ] {
        client.send(&common::request(ask));
        other.call(&["HSET", "h", "f0", "f0"]);
        assert!(words(client.text()) == sorted(copies), "{}", ask[0]);
    }
    // Each once, however many.
    for wanted in [1, LEN / 10, LEN / 2, LEN - 1] {
        let mut drawn = words(client.call(&["HRANDFIELD", "h", &wanted.to_string()]));
        drawn.dedup();
        assert_eq!(drawn.len(), wanted);
    }
    let again = words(client.call(&["HRANDFIELD", "h", "-50000"]));
    assert_eq!(again.len(), 50_000);
    let known = sorted(1);
    assert!(again.iter().all(|name| known.binary_search(name).is_ok()));
}

/// A field past its deadline is not seen, whether it was removed yet or not.
#[test]
fn fields_past_their_deadline_are_not_there() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    check(&mut client, &[("HSET h stays 1", ":1"), ("HSETEX h PX 1 FIELDS 2 a 1 b 2", ":1")]);
    until("the deadline", || call(&mut client, "HGET h b") == "$-1");
    let cases = [
        ("HGETALL h", "*2 $5 stays $1 1"),
        ("HKEYS h", "*1 $5 stays"),
        ("HVALS h", "*1 $1 1"),
        ("HMGET h a stays", "*2 $-1 $1 1"),
        ("HEXISTS h a", ":0"),
        ("HSTRLEN h a", ":0"),
        ("HTTL h FIELDS 1 a", "*1 :-2"),
        ("HRANDFIELD h 5", "*1 $5 stays"),
        ("HRANDFIELD h -2", "*2 $5 stays $5 stays"),
        ("HSCAN h 0", "*2 $1 0 *2 $5 stays $1 1"),
        ("HDEL h a", ":0"),
        ("HGETDEL h FIELDS 1 a", "*1 $-1"),
        ("HEXPIRE h 100 FIELDS 1 a", "*1 :-2"),
        ("HPERSIST h FIELDS 1 a", "*1 :-2"),
        ("HSETEX h FXX FIELDS 1 a 1", ":0"),
        ("HINCRBY h a 7", ":7"),
        ("HTTL h FIELDS 1 a", "*1 :-1"),
        ("HSETEX h FNX KEEPTTL FIELDS 1 b 1", ":1"),
        ("HTTL h FIELDS 1 b", "*1 :-1"),
        ("HLEN h", ":3"),
        ("HSETEX h PX 1 FIELDS 1 c 1", ":1"),
    ];
    check(&mut client, &cases);
    until("the deadline", || call(&mut client, "HGET h c") == "$-1");
    // A time that is past removes it even then, and the last of them the hash.
    let cases = [("HSETNX h c 2", ":1"), ("HSETEX h EX 0 FIELDS 4 a 1 b 1 c 1 stays 1", ":1"), ("EXISTS h", ":0")];
    check(&mut client, &cases);
}
