//! A server without a store, to find the ceiling of a load generator: every GET gets the same value,
//! everything else `+OK`.

use std::collections::HashMap;

use anyhow::Context;
use tercel_resp::reply::Scanner;
use tercel_transport::{Close, ConnId, Event, Transport};
use tercel_transport_tcp::{Backend, ListenAddr, TcpOptions, TcpTransport};

use crate::target::Target;

/// Serves until the process ends.
///
/// # Errors
/// It cannot listen, or cannot be pinned.
pub fn run(listen: &Target, core: Option<usize>, value_len: usize, spin: bool) -> anyhow::Result<()> {
    if let Some(id) = core {
        anyhow::ensure!(core_affinity::set_for_current(core_affinity::CoreId { id }), "cannot pin to core {id}");
    }
    let mut transport = TcpTransport::new(TcpOptions { backend: Backend::Epoll, ..TcpOptions::default() })?;
    let addr = match listen {
        Target::Tcp(addr) => ListenAddr::Tcp(*addr),
        Target::Unix(path) => ListenAddr::Unix { path: path.clone(), mode: None },
        Target::Rdma(_) | Target::RawRdma(_) => anyhow::bail!("the null server speaks tcp and unix"),
    };
    transport.listen(&addr, 511).context("the null server cannot listen")?;
    transport.set_spinning(spin);
    let mut value = Vec::new();
    tercel_resp::encode::bulk(&mut value, &vec![b'x'; value_len]);
    let mut events = Vec::new();
    let mut scanners: HashMap<ConnId, Scanner> = HashMap::new();
    loop {
        events.clear();
        transport.poll(&mut events);
        if events.is_empty() && !spin {
            transport.park(None);
        }
        for event in events.drain(..) {
            match event {
                Event::Readable(conn) => {
                    let scanner = scanners.entry(conn).or_default();
                    let mut buf = transport.lease();
                    let received = transport.received(conn);
                    let mut used = 0;
                    // A request is an array of bulk strings, which a scanner of replies passes over.
                    let whole = loop {
                        match scanner.next(&received[used..]) {
                            Ok(Some(scanned)) => {
                                buf.extend_from_slice(answer(&received[used..used + scanned.len], &value));
                                used += scanned.len;
                            }
                            Ok(None) => break true,
                            Err(_) => break false,
                        }
                    };
                    transport.consume(conn, used);
                    transport.send(conn, buf);
                    if !whole {
                        scanners.remove(&conn);
                        transport.close(conn, Close::Drain);
                    }
                }
                Event::Hangup(conn, _) => {
                    scanners.remove(&conn);
                    transport.close(conn, Close::Drain);
                }
                _ => {}
            }
        }
        transport.flush();
    }
}

/// Commands that get a number.
const INTEGERS: [&[u8]; 6] = [b"append", b"del", b"exists", b"incr", b"setnx", b"unlink"];

fn answer<'a>(request: &[u8], value: &'a [u8]) -> &'a [u8] {
    if request.starts_with(b"*2\r\n$3\r\n") && request.get(8..11).is_some_and(|name| name.eq_ignore_ascii_case(b"get"))
    {
        value
    } else if request.get(8..14).is_some_and(|name| name.eq_ignore_ascii_case(b"config")) {
        b"*0\r\n"
    } else if INTEGERS.iter().any(|name| {
        request.get(8..8 + name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name))
            && request.get(8 + name.len()) == Some(&b'\r')
    }) {
        b":1\r\n"
    } else {
        b"+OK\r\n"
    }
}
