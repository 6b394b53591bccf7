//! A server without a store, to measure the transport alone.
//!
//! `echo_server ADDRESS [--backend auto|io_uring|epoll] [--spin] [--null BYTES]`
//!
//! Echoes what it receives. With `--null`, answers every BYTES received bytes with one constant
//! 64-byte bulk string instead, as a GET would be. Prints its CPU time per receive when a peer
//! connection closes and none is left.

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;

use tercel_transport::{Close, ConnId, Event, Transport};
use tercel_transport_tcp::{Backend, ListenAddr, TcpOptions, TcpTransport};

fn cpu_micros() -> u64 {
    // Fields 14 and 15 of this file are user and system time in clock ticks of 10 ms; coarse, but
    // a run lasts seconds.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks * 10_000
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let mut options = TcpOptions::default();
    let mut address = None;
    let mut spin = false;
    let mut null = 0usize;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--backend" => {
                options.backend = match args.next().as_deref() {
                    Some("io_uring") => Backend::IoUring,
                    Some("epoll") => Backend::Epoll,
                    _ => Backend::Auto,
                }
            }
            "--spin" => spin = true,
            "--null" => null = args.next().unwrap_or_default().parse()?,
            other => address = Some(other.to_owned()),
        }
    }
    let address = address.unwrap_or_else(|| "127.0.0.1:7777".to_owned());
    let mut transport = TcpTransport::new(options)?;
    let listen = match address.parse::<SocketAddr>() {
        Ok(addr) => ListenAddr::Tcp(addr),
        Err(_) => ListenAddr::Unix { path: address.into(), mode: None },
    };
    transport.listen(&listen, 511)?;
    println!("{}", transport.describe());
    transport.set_spinning(spin);

    let mut reply = b"$64\r\n".to_vec();
    reply.extend_from_slice(&[b'x'; 64]);
    reply.extend_from_slice(b"\r\n");
    let mut events = Vec::new();
    let mut open = 0usize;
    let mut rest: HashMap<ConnId, usize> = HashMap::new();
    let mut before = (0, transport.stats());
    loop {
        events.clear();
        transport.poll(&mut events);
        if events.is_empty() {
            if !spin {
                transport.park(None);
            }
            continue;
        }
        for event in events.drain(..) {
            match event {
                Event::Accepted(_) => {
                    if open == 0 {
                        before = (cpu_micros(), transport.stats());
                    }
                    open += 1;
                }
                Event::Readable(conn) => {
                    let mut buf = transport.lease();
                    let received = transport.received(conn);
                    let len = received.len();
                    if null == 0 {
                        buf.extend_from_slice(received);
                    } else if received.starts_with(b"*3\r\n$6\r\nCONFIG") {
                        buf.extend_from_slice(b"*0\r\n");
                    } else {
                        let rest = rest.entry(conn).or_default();
                        *rest += len;
                        while *rest >= null {
                            *rest -= null;
                            buf.extend_from_slice(&reply);
                        }
                    }
                    transport.consume(conn, len);
                    transport.send(conn, buf);
                }
                Event::Hangup(conn, _) => {
                    transport.close(conn, Close::Drain);
                    rest.remove(&conn);
                    open -= 1;
                    if open == 0 {
                        let stats = transport.stats();
                        let receives = (stats.receives - before.1.receives).max(1);
                        let cpu = cpu_micros() - before.0;
                        let entries = stats.kernel_entries - before.1.kernel_entries;
                        println!(
                            "receives {receives} cpu_us/receive {:.2} kernel_entries/receive {:.2} starved {}",
                            cpu as f64 / receives as f64,
                            entries as f64 / receives as f64,
                            stats.buffer_starvations - before.1.buffer_starvations
                        );
                        std::io::stdout().flush()?;
                    }
                }
                Event::Connected(_) | Event::Drained(_) | Event::AcceptError(_) | Event::Wake => {}
            }
        }
        transport.flush();
    }
}
