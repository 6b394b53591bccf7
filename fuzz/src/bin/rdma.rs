//! The RDMA endpoint as a state machine: a peer that posts anything (control bytes, writes with any
//! immediate, goodbyes) and a device that completes anything. Nothing panics, and when all is over
//! nothing is held.
#![no_main]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use libfuzzer_sys::fuzz_target;
use tercel_rdma::endpoint::{Endpoint, Options};
use tercel_rdma::proto::{Control, Window};
use tercel_rdma::software::{Fabric, Faults, Holdings, SoftLimits};
use tercel_rdma::verbs::{
    Access, Arrived, CmEvent, Completion, ConnParams, Device, QpCaps, RecvWr, SendOp, SendWr, Sge, Status,
};
use tercel_transport::{Close, Event};

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn number(&mut self) -> u32 {
        let mut bytes = [0; 4];
        bytes.fill_with(|| self.next().unwrap_or(0));
        match bytes[0] {
            0..=99 => u32::from(bytes[1]) << 4,
            100..=119 => u32::MAX - u32::from(bytes[1]),
            _ => u32::from_be_bytes(bytes),
        }
    }
}

const STATUSES: [Status; 9] = [
    Status::Success,
    Status::Flushed,
    Status::LocalLength,
    Status::LocalProtection,
    Status::RemoteAccess,
    Status::RemoteInvalid,
    Status::RetryExceeded,
    Status::RnrRetryExceeded,
    Status::Other,
];

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data);
    let rough = bytes.next().unwrap_or(0);
    let faults = Faults {
        delay_steps_max: u32::from(rough & 3),
        burst_steps_max: u32::from(rough >> 2 & 3),
        late_per_million: u32::from(rough >> 4 & 3) * 200_000,
        not_ready_per_million: u32::from(rough >> 6) * 200_000,
        ..Faults::default()
    };
    let fabric = Fabric::new(u64::from(rough), faults);
    let time = Arc::new(AtomicU64::new(0));
    let clock = {
        let time = time.clone();
        Box::new(move || time.fetch_add(10_000_000, Ordering::Relaxed) + 10_000_000)
    };
    let options = Options {
        rx_window_bytes: 512,
        tx_bytes: 512,
        recv_depth: 8,
        send_depth: 8,
        inline_bytes: 32,
        peer_window_bytes: (64, 1 << 20),
        ..Options::default()
    };
    let mut server = Endpoint::with_clock(fabric.device(SoftLimits::default()).expect("a descriptor"), options, clock)
        .expect("an endpoint");
    let addr = "127.0.0.1:6379".parse().expect("an address");
    server.listen(addr, 8).expect("a free port");

    let mut device = fabric.device(SoftLimits::default()).expect("a descriptor");
    let qp = device.resolve(addr).expect("a route");
    let pd = device.alloc_pd(qp).expect("a domain");
    let memory = device.register(pd, 4096, Access::Local).expect("memory");
    let answers = device.register(pd, 2048, Access::RemoteWrite).expect("memory");
    device.create_qp(qp, pd, QpCaps { send_depth: 512, recv_depth: 512, inline_bytes: 0 }).expect("a queue pair");
    for _ in 0..64 {
        let _ = device.post_recv(qp, &[RecvWr { wr_id: 0, local: Sge { region: memory, offset: 2048, length: 64 } }]);
    }
    let _ = device.connect(qp, ConnParams { retry_count: 7, rnr_retry_count: bytes.next().unwrap_or(7) & 7 });
    let mut window = Window { address: 0, length: 0, rkey: 0 };
    let mut conns = Vec::new();
    while let Some(what) = bytes.next() {
        let mut events = Vec::new();
        server.poll(&mut events);
        for event in events {
            match event {
                Event::Accepted(conn) => conns.push(conn),
                Event::Hangup(conn, _) => server.close(conn, Close::Drain),
                Event::Readable(conn) if what & 1 == 0 => {
                    let mut buf = server.lease();
                    buf.extend_from_slice(server.received(conn));
                    server.consume(conn, buf.len());
                    server.send(conn, buf);
                }
                _ => {}
            }
        }
        server.flush();
        let mut got = [Completion::EMPTY; 16];
        let _ = device.poll_cq(&mut got);
        while let Some(event) = device.poll_cm() {
            if matches!(event, CmEvent::Disconnected(_)) && what & 2 == 0 {
                device.disconnect(qp);
            }
        }
        if let Ok(control) = device.bytes(memory, 2048, 32).map(Control::decode)
            && let Ok(Control::RegisterXferMemory(announced)) = control
        {
            window = announced;
        }
        let (op, length) = match what % 12 {
            0 => {
                let announcement = Window { address: answers.address, length: answers.length, rkey: answers.rkey };
                let _ = device
                    .bytes_mut(memory, 0, 32)
                    .map(|into| into.copy_from_slice(&Control::RegisterXferMemory(announcement).encode()));
                (SendOp::Send, 32)
            }
            1 => {
                let announcement =
                    Window { address: u64::from(bytes.number()), length: bytes.number(), rkey: bytes.number() };
                let _ = device
                    .bytes_mut(memory, 0, 32)
                    .map(|into| into.copy_from_slice(&Control::RegisterXferMemory(announcement).encode()));
                (SendOp::Send, 32)
            }
            2 => {
                let length = bytes.number() % 80;
                if let Ok(into) = device.bytes_mut(memory, 0, 80) {
                    into.fill_with(|| bytes.next().unwrap_or(0));
                }
                (SendOp::Send, length)
            }
            3..=5 => {
                let length = bytes.number() % 300;
                (
                    SendOp::WriteImm {
                        address: window.address + u64::from(bytes.number() % 256),
                        rkey: window.rkey,
                        immediate: length,
                    },
                    length,
                )
            }
            6 => (
                SendOp::WriteImm { address: window.address, rkey: window.rkey, immediate: bytes.number() },
                bytes.number() % 600,
            ),
            7 => (
                SendOp::WriteImm {
                    address: u64::from(bytes.number()),
                    rkey: bytes.number(),
                    immediate: bytes.number(),
                },
                bytes.number() % 600,
            ),
            8 => {
                // A completion out of nowhere, for the slots and epochs there are.
                let wr_id = u64::from(bytes.number() % 3) << 32
                    | u64::from(bytes.number() % 3) << 16
                    | u64::from(bytes.number() as u16);
                let arrived = match bytes.next().unwrap_or(0) % 3 {
                    0 => Arrived::Nothing,
                    1 => Arrived::Message,
                    _ => Arrived::Immediate(bytes.number()),
                };
                let status = STATUSES[bytes.next().unwrap_or(0) as usize % STATUSES.len()];
                server.device().forge(Completion { wr_id, status, arrived, length: bytes.number() });
                continue;
            }
            9 => {
                if let Some(conn) = conns.last().copied() {
                    server.set_receive_limit(conn, bytes.number() as usize % 2000);
                    let mut buf = server.lease();
                    buf.plain_mut().resize(bytes.number() as usize % 5000, 1);
                    server.send(conn, buf);
                }
                continue;
            }
            10 => {
                if let Some(conn) = conns.pop() {
                    server.close(conn, if what & 16 == 0 { Close::Drain } else { Close::Abort });
                }
                continue;
            }
            _ => {
                match what >> 4 & 3 {
                    0 => device.disconnect(qp),
                    1 => device.vanish(qp),
                    2 => device.sever(qp),
                    _ => {}
                }
                continue;
            }
        };
        let local = Sge { region: memory, offset: 0, length };
        let _ = device.post_send(qp, &[SendWr { wr_id: 0, op, local, signaled: what & 64 == 0, inline: false }]);
    }
    for conn in conns {
        server.close(conn, Close::Drain);
    }
    drop(device);
    for _ in 0..100_000 {
        let mut events = Vec::new();
        server.poll(&mut events);
        for event in events {
            if let Event::Accepted(conn) | Event::Hangup(conn, _) = event {
                server.close(conn, Close::Abort);
            }
        }
        // A request that is still on its way comes to nothing too.
        if server.connections() == 0 && server.device().holdings().events == 0 {
            break;
        }
    }
    server.trim();
    assert_eq!(server.connections(), 0);
    let holdings = server.device().holdings();
    assert_eq!(Holdings { completions: 0, ..holdings }, Holdings::default());
});
