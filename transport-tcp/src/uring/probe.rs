//! Finding out what this kernel does, by asking and by trying: a version number proves nothing on
//! a kernel with backports or under a filter.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use io_uring::{IoUring, Probe, opcode};

use super::{Completion, Ring, kind, number};

/// Checks the operations needed; tells whether sending without a copy is among those offered.
pub(super) fn operations(ring: &IoUring) -> Result<bool, String> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| format!("io_uring probe: {error}"))?;
    let needed = [
        ("ACCEPT", opcode::AcceptMulti::CODE),
        ("RECV", opcode::RecvMulti::CODE),
        ("SEND", opcode::Send::CODE),
        ("SENDMSG", opcode::SendMsg::CODE),
        ("POLL_ADD", opcode::PollAdd::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel2::CODE),
    ];
    for (name, code) in needed {
        if !probe.is_supported(code) {
            return Err(format!("the kernel lacks {name}"));
        }
    }
    Ok(probe.is_supported(opcode::SendZc::CODE))
}

/// Receives one byte the way connections will: multishot, into a provided buffer, and ends it by
/// a cancellation. Leaves the ring as it was.
pub(super) fn try_receive(ring: &mut Ring) -> Result<(), String> {
    let (mut ours, theirs) = UnixStream::pair().map_err(|error| format!("socket pair: {error}"))?;
    ring.receive(theirs.as_raw_fd(), 0);
    ours.write_all(b"x").map_err(|error| format!("socket pair: {error}"))?;
    let first = next(ring).ok_or("multishot receive: nothing came")?;
    let buffer = first.buffer();
    let content = buffer.map(|id| ring.buffer(id, 1).first().copied());
    if first.result != 1 || content != Some(Some(b'x')) {
        return Err(format!("multishot receive: answered {} (needs Linux 6.0)", first.result));
    }
    if let Some(id) = buffer {
        ring.give_buffer(id);
    }
    if !first.more() {
        return Err("multishot receive: ended after one (needs Linux 6.0)".to_owned());
    }
    ring.cancel(number(kind::RECEIVE, 0));
    // The cancellation and the receive it ended, in either order.
    for _ in 0..2 {
        let done = next(ring).ok_or("cancellation: nothing came")?;
        if done.result != -libc::ECANCELED && done.result != 0 {
            return Err(format!("cancellation: answered {}", done.result));
        }
    }
    Ok(())
}

/// Waits a second at most for one completion.
fn next(ring: &mut Ring) -> Option<Completion> {
    for _ in 0..20 {
        if let Some(completion) = ring.arrived.pop_front() {
            return Some(completion);
        }
        ring.wait(Some(Duration::from_millis(50)));
        ring.reap();
    }
    None
}

/// The list of what is used.
pub(super) fn describe(has_send_zc: bool) -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = release.trim().split(['.', '-']);
    let version = match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) if !major.is_empty() => format!("{major}.{minor}"),
        _ => "unknown".to_owned(),
    };
    let mut text =
        format!("kernel {version}: multishot accept, multishot receive, provided-buffer ring, DEFER_TASKRUN");
    if has_send_zc {
        text.push_str(", send-zc");
    }
    text
}
