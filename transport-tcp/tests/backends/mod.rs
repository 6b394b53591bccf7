//! The backends there are to test on this host.
#![allow(unreachable_pub, clippy::unwrap_used)]

use tercel_transport::conformance::left_out;
use tercel_transport_tcp::{Backend, TcpOptions, TcpTransport};

/// What there is to test: without io_uring nothing beside epoll.
pub fn both() -> Vec<Backend> {
    // In a thread of its own: the end of a ring interrupts calls of the thread that made it.
    let looked = std::thread::spawn(|| {
        let options = TcpOptions { backend: Backend::IoUring, ..TcpOptions::default() };
        TcpTransport::new(options).map(drop).map_err(|error| error.to_string())
    });
    match looked.join().unwrap() {
        Ok(()) => vec![Backend::Epoll, Backend::IoUring],
        Err(error) => {
            left_out("io_uring", error);
            vec![Backend::Epoll]
        }
    }
}

pub fn make(backend: Backend) -> TcpTransport {
    TcpTransport::new(TcpOptions { backend, ..TcpOptions::default() }).unwrap()
}
