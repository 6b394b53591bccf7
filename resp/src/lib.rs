//! RESP2 and RESP3 as bytes, in both directions and without I/O.
//!
//! The server parses requests ([`request`]) and writes replies ([`encode`]); the harness and the
//! tests write requests and parse replies ([`reply`]). Nothing here knows a socket, a command or
//! stored data, and nothing here may panic whatever the bytes are.

#![forbid(unsafe_code)]

pub mod encode;
pub mod number;
pub mod reply;
pub mod request;

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Version {
    /// RESP2, what every connection starts with.
    #[default]
    Resp2,
    /// RESP3, after `HELLO 3`.
    Resp3,
}
