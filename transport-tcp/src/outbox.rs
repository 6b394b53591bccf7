//! The send queue of one connection: buffers in order, how much of the first has left, and what an
//! operation in flight still points into. Knows no socket.

use std::collections::VecDeque;
use std::io::IoSlice;

use tercel_transport::{Part, SharedBytes, TxBuf};

use crate::pool::{self, Pool};

/// Pieces gathered for one send at most.
pub(crate) const PIECES_MAX: usize = 32;

/// Queued buffers. The first `pinned` of them belong to an operation the kernel is working on:
/// they are neither changed nor released until it is done.
#[derive(Default)]
pub(crate) struct Outbox {
    queue: VecDeque<TxBuf>,
    /// Bytes of the first buffer that have left.
    offset: usize,
    len: usize,
    /// Memory of the buffers.
    held: usize,
    pinned: usize,
}

/// What goes out next.
pub(crate) enum Next {
    Nothing,
    /// Bytes to copy to the socket: the pieces written to the caller's array.
    Pieces(usize),
    /// A large shared piece, worth sending without a copy.
    Large {
        piece: SharedBytes,
        from: usize,
    },
}

impl Outbox {
    /// Bytes that have not left.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push(&mut self, mut buf: TxBuf, pool: &mut Pool) {
        self.len += buf.len();
        if self.queue.len() > self.pinned
            && let Some(last) = self.queue.back_mut()
            && last.absorb(&mut buf)
        {
            pool.return_tx(buf);
            return;
        }
        if !self.queue.is_empty() && buf.capacity() < pool::TX_CAPACITY_BYTES && !buf.has_shared() {
            // A reader that lags: small pieces go into whole buffers, or each would hold more than its length.
            let mut whole = pool.lease_tx();
            if whole.absorb(&mut buf) {
                std::mem::swap(&mut whole, &mut buf);
                pool.return_tx(whole);
            }
        }
        self.held += buf.memory();
        self.queue.push_back(buf);
    }

    /// The bytes to send, when they are all in one plain buffer: the common case.
    pub(crate) fn single(&self) -> Option<&[u8]> {
        match self.queue.front() {
            Some(buf) if self.queue.len() == 1 && !buf.has_shared() => buf.plain().get(self.offset..),
            _ => None,
        }
    }

    /// Gathers what to send next. A shared piece of `large` bytes or more is not gathered: it
    /// comes alone, once everything before it has left. 0 gathers every piece.
    pub(crate) fn next<'a>(&'a self, pieces: &mut [IoSlice<'a>; PIECES_MAX], large: usize) -> Next {
        let mut count = 0;
        let mut skip = self.offset;
        for buf in &self.queue {
            for part in buf.parts() {
                let bytes = match &part {
                    Part::Plain(bytes) => bytes,
                    Part::Shared(shared) => (***shared).as_ref(),
                };
                if skip >= bytes.len() {
                    skip -= bytes.len();
                    continue;
                }
                if let Part::Shared(shared) = &part
                    && large > 0
                    && bytes.len() - skip >= large
                {
                    if count > 0 {
                        return Next::Pieces(count);
                    }
                    return Next::Large { piece: SharedBytes::clone(shared), from: skip };
                }
                pieces[count] = IoSlice::new(&bytes[skip..]);
                skip = 0;
                count += 1;
                if count == PIECES_MAX {
                    return Next::Pieces(count);
                }
            }
        }
        if count > 0 { Next::Pieces(count) } else { Next::Nothing }
    }

    /// Pins everything queued: an operation points into it.
    pub(crate) fn pin(&mut self) {
        self.pinned = self.queue.len();
    }

    /// The operation is done.
    pub(crate) fn unpin(&mut self) {
        self.pinned = 0;
    }

    /// Drops `sent` bytes from the front; finished buffers go back to the pool. Only when nothing is in flight.
    pub(crate) fn advance(&mut self, sent: usize, pool: &mut Pool) {
        assert_eq!(self.pinned, 0, "an operation still points into these buffers");
        self.len = self.len.saturating_sub(sent);
        self.offset += sent;
        while let Some(front) = self.queue.front() {
            if self.offset < front.len() {
                break;
            }
            self.offset -= front.len();
            let Some(buf) = self.queue.pop_front() else { break };
            self.held -= buf.memory();
            pool.return_tx(buf);
        }
        if self.queue.is_empty() {
            self.offset = 0;
        }
    }

    /// Gives up everything that is queued. Only when nothing is in flight.
    pub(crate) fn release(&mut self, pool: &mut Pool) {
        assert_eq!(self.pinned, 0, "an operation still points into these buffers");
        for buf in std::mem::take(&mut self.queue) {
            pool.return_tx(buf);
        }
        self.offset = 0;
        self.len = 0;
        self.held = 0;
    }

    /// Bytes held: plain storage, shared pieces and the queue of them.
    pub(crate) fn memory(&self) -> usize {
        self.held + self.queue.capacity() * size_of::<TxBuf>()
    }
}
