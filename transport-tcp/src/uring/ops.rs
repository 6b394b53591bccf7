//! What a send in flight points into: the message header with its pieces, and the shared bytes of
//! a send without copy. An operation is boxed, so its address holds while the table grows.

use std::io::IoSlice;

use tercel_transport::{ConnId, SharedBytes};

use crate::outbox::PIECES_MAX;

/// One send beyond the simple kind.
pub(crate) struct Op {
    /// Whose it is.
    pub(crate) conn: ConnId,
    /// Keeps the bytes alive until the kernel says that it has let go of them.
    pub(crate) hold: Option<SharedBytes>,
    header: libc::msghdr,
    pieces: [libc::iovec; PIECES_MAX],
}

impl Op {
    fn new() -> Box<Self> {
        // SAFETY: both are plain C structures for which all zeroes (null pointers, no lengths) is
        // a valid value.
        let (header, pieces) = unsafe { (std::mem::zeroed(), [std::mem::zeroed(); PIECES_MAX]) };
        Box::new(Op { conn: ConnId { index: u32::MAX, generation: 0 }, hold: None, header, pieces })
    }

    /// Fills in the header, which stays where it is until the operation is taken again.
    pub(crate) fn set_pieces(&mut self, pieces: &[IoSlice<'_>]) -> *const libc::msghdr {
        let count = pieces.len().min(PIECES_MAX);
        for (slot, piece) in self.pieces.iter_mut().zip(pieces) {
            *slot = libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() };
        }
        self.header.msg_iov = self.pieces.as_mut_ptr();
        self.header.msg_iovlen = count;
        &raw const self.header
    }
}

/// The table of operations; a released one is used again.
#[derive(Default)]
pub(crate) struct Ops {
    // Boxed because the kernel holds addresses inside.
    #[allow(clippy::vec_box)]
    all: Vec<Box<Op>>,
    free: Vec<u32>,
}

impl Ops {
    /// Takes an operation for a connection.
    pub(crate) fn take(&mut self, conn: ConnId) -> (u32, &mut Op) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.all.push(Op::new());
            (self.all.len() - 1) as u32
        });
        let op = &mut self.all[index as usize];
        op.conn = conn;
        (index, op)
    }

    /// The operation with this number.
    pub(crate) fn find(&self, index: u32) -> Option<&Op> {
        self.all.get(index as usize).map(|op| &**op)
    }

    /// Lets go of what an operation holds, and lets it be taken again.
    ///
    /// # Safety
    /// It was taken and not yet released, and the kernel has completed it: no completion of it will follow.
    pub(crate) unsafe fn release(&mut self, index: u32) {
        if let Some(op) = self.all.get_mut(index as usize) {
            op.hold = None;
            self.free.push(index);
        }
    }
}
