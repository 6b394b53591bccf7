//! Malformed input over a real socket: the error has Valkey's words, the connection ends where it
//! must, and the next client is served.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;
use common::Server;

#[test]
fn malformed_frames_are_answered_and_closed() {
    let server = Server::start(&[]);
    for (input, error) in [
        (&b"*a\r\n"[..], "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*9223372036854775808\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*3000000000\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n$-5\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$99999999999\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n:1\r\n", "-ERR Protocol error: expected '$', got ':'\r\n"),
        (b"*1\r\n$4\r\nPINGPONG", "-ERR Protocol error: invalid CRLF in request\r\n"),
        (b"set \"x\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
    ] {
        let mut client = server.connect();
        client.send(input);
        assert_eq!(String::from_utf8_lossy(&client.rest()), error, "{:?}", String::from_utf8_lossy(input));
    }
    assert_eq!(server.connect().call(&["PING"]), "+PONG\r\n");
}

#[test]
fn what_came_before_a_broken_frame_is_done() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n*x\r\n");
    assert_eq!(String::from_utf8_lossy(&client.rest()), "+OK\r\n-ERR Protocol error: invalid multibulk length\r\n");
    assert_eq!(server.connect().call(&["GET", "k"]), "$1\r\nv\r\n");
}

#[test]
fn a_frame_split_anywhere_is_the_same_frame() {
    let server = Server::start(&[]);
    let mut frame = Vec::new();
    tercel_resp::encode::request(&mut frame, &["SET", "key", "a value with \r\n in it"]);
    for at in 1..frame.len() {
        let mut client = server.connect();
        client.send(&frame[..at]);
        std::thread::sleep(std::time::Duration::from_micros(300));
        client.send(&frame[at..]);
        assert_eq!(client.text(), "+OK\r\n", "split at {at}");
    }
}

#[test]
fn limits_before_authentication() {
    let server = Server::start(&["--requirepass", "secret"]);
    let mut client = server.connect();
    client.send(b"*11\r\n");
    assert_eq!(String::from_utf8_lossy(&client.rest()), "-ERR Protocol error: unauthenticated multibulk length\r\n");
    let mut client = server.connect();
    client.send(b"*2\r\n$4\r\nAUTH\r\n$16385\r\n");
    assert_eq!(String::from_utf8_lossy(&client.rest()), "-ERR Protocol error: unauthenticated bulk length\r\n");
    let mut client = server.connect();
    assert_eq!(client.call(&["GET", "x"]), "-NOAUTH Authentication required.\r\n");
    assert_eq!(client.call(&["nosuch"]), "-NOAUTH Authentication required.\r\n");
    assert!(client.call(&["AUTH", "wrong"]).starts_with("-WRONGPASS"));
    assert_eq!(client.call(&["AUTH", "default", "secret"]), "+OK\r\n");
    assert_eq!(client.call(&["GET", "x"]), "$-1\r\n");
}

#[test]
fn inline_commands() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.send(b"PING\r\n\r\nSET k \"a b\"\nGET k\r\n");
    assert_eq!(client.text(), "+PONG\r\n");
    assert_eq!(client.text(), "+OK\r\n");
    assert_eq!(client.text(), "$3\r\na b\r\n");
    client.send(&[b'x'; 70_000]);
    assert_eq!(String::from_utf8_lossy(&client.rest()), "-ERR Protocol error: too big inline request\r\n");
}

#[test]
fn errors_of_commands_have_valkeys_words() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for (words, error) in [
        (&["nosuch", "a", "b"][..], "-ERR unknown command 'nosuch', with args beginning with: 'a' 'b' \r\n"),
        (&["get"], "-ERR wrong number of arguments for 'get' command\r\n"),
        (&["config", "nosuch"], "-ERR unknown subcommand 'nosuch'. Try CONFIG HELP.\r\n"),
        (&["config"], "-ERR wrong number of arguments for 'config' command\r\n"),
        (&["config", "get"], "-ERR wrong number of arguments for 'config|get' command\r\n"),
        (&["set", "k", "v", "ex", "0"], "-ERR invalid expire time in 'set' command\r\n"),
        (&["set", "k", "v", "ex", "9223372036854775807"], "-ERR invalid expire time in 'set' command\r\n"),
        (&["set", "k", "v", "nx", "xx"], "-ERR syntax error\r\n"),
        (&["incrby", "n", "x"], "-ERR value is not an integer or out of range\r\n"),
        (&["setrange", "k", "-1", "x"], "-ERR offset is out of range\r\n"),
        (&["setbit", "k", "4294967296", "1"], "-ERR bit offset is not an integer or out of range\r\n"),
        (&["select", "16"], "-ERR DB index is out of range\r\n"),
        (&["exec"], "-ERR EXEC without MULTI\r\n"),
        (&["expire", "k", "1", "nx", "xx"], "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n"),
        (&["scan", "x"], "-ERR invalid cursor\r\n"),
    ] {
        assert_eq!(client.call(words), error);
    }
    client.call(&["set", "big", "9223372036854775807"]);
    assert_eq!(client.call(&["incr", "big"]), "-ERR increment or decrement would overflow\r\n");
}
