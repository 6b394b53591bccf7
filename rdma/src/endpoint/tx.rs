//! The sending half of one connection: buffers in order, the ring of registered memory they are put
//! into, how much of the peer's window is used, and what is outstanding. It makes lists of work
//! requests and posts nothing itself.

use std::collections::VecDeque;

use tercel_transport::TxBuf;

use crate::proto::{CONTROL_BYTES, Control, Window};
use crate::verbs::{Device, Region, SendOp, SendWr, Sge};

/// Room of the buffers that small pieces are gathered in for a reader that lags, in bytes.
const LAGGING_BYTES: usize = 16 * 1024;

/// The sending half.
#[derive(Default)]
pub(super) struct Tx {
    queue: VecDeque<TxBuf>,
    /// Bytes of the first buffer that have been put into the ring.
    offset: usize,
    pub(super) unsent: usize,
    /// Memory of the queued buffers in bytes.
    held: usize,
    window: Option<Window>,
    used: u32,
    /// Bytes ever put into the ring, and bytes whose requests are known to be done.
    head: u64,
    tail: u64,
    /// Signaled requests under way: where the ring stood behind each, and how many requests it ends.
    signaled: VecDeque<(u64, u32)>,
    /// Requests since the last signaled one, and where the ring stood at it.
    since: u32,
    since_head: u64,
    outstanding: u32,
    /// Requests that took one of the peer's receives since it was last heard.
    unheard: u32,
}

/// What the requests of one connection have in common.
pub(super) struct Shape {
    pub(super) wr_id: u64,
    pub(super) region: Region,
    pub(super) depth: u32,
    pub(super) inline_bytes: u32,
}

impl Tx {
    #[inline]
    pub(super) fn push(&mut self, mut buf: TxBuf, pool: &mut Vec<TxBuf>) {
        self.unsent += buf.len();
        if let Some(last) = self.queue.back_mut()
            && last.absorb(&mut buf)
        {
            super::give_back(pool, buf);
            return;
        }
        if !self.queue.is_empty() && buf.capacity() < LAGGING_BYTES && !buf.has_shared() {
            // A reader that lags: small pieces go into whole buffers, or each would hold more than its length.
            let mut whole = TxBuf::with_capacity(LAGGING_BYTES);
            if whole.absorb(&mut buf) {
                std::mem::swap(&mut whole, &mut buf);
                super::give_back(pool, whole);
            }
        }
        self.held += buf.memory();
        self.queue.push_back(buf);
    }

    /// Gives the first buffer back.
    #[inline]
    fn drop_front(&mut self, pool: &mut Vec<TxBuf>) {
        if let Some(done) = self.queue.pop_front() {
            self.held -= done.memory();
            super::give_back(pool, done);
        }
    }

    /// Drops what has not left.
    pub(super) fn clear(&mut self, pool: &mut Vec<TxBuf>) {
        self.unsent = 0;
        self.offset = 0;
        while !self.queue.is_empty() {
            self.drop_front(pool);
        }
    }

    /// The peer announced a window; writing starts at its front.
    pub(super) fn set_window(&mut self, window: Window) {
        self.window = Some(window);
        self.used = 0;
    }

    pub(super) fn has_window(&self) -> bool {
        self.window.is_some()
    }

    fn room(&self) -> u32 {
        self.window.map_or(0, |window| window.length - self.used)
    }

    /// Whether bytes wait for the peer to announce a window.
    pub(super) fn is_stalled(&self) -> bool {
        self.unsent > 0 && self.room() == 0
    }

    /// Whether everything posted is known to be done.
    pub(super) fn is_settled(&self) -> bool {
        self.outstanding == 0
    }

    /// A signaled request was carried out, and all before it.
    pub(super) fn completed(&mut self) {
        if let Some((head, count)) = self.signaled.pop_front() {
            self.tail = head;
            self.outstanding -= count;
        }
    }

    /// The peer has been heard: it looks at what arrives.
    pub(super) fn heard(&mut self) {
        self.unheard = 0;
    }

    /// How many of the peer's receives were taken since it was last heard.
    pub(super) fn unheard(&self) -> u32 {
        self.unheard
    }

    fn depth_left(&self, depth: u32) -> bool {
        self.outstanding < depth
    }

    /// Registered bytes at the ring's head: where they start and how many lie together.
    fn free(&self, ring: u32) -> (u32, u32) {
        let at = (self.head % u64::from(ring)) as u32;
        let free = ring - (self.head - self.tail) as u32;
        (at, free.min(ring - at))
    }

    fn staged(&mut self, shape: &Shape, op: SendOp, at: u32, length: u32, list: &mut Vec<SendWr>) {
        let local = Sge { region: shape.region, offset: at, length };
        list.push(SendWr { wr_id: shape.wr_id, op, local, signaled: false, inline: length <= shape.inline_bytes });
        self.head += u64::from(length);
        self.outstanding += 1;
        self.since += 1;
    }

    /// Puts a control message on the list; false if there is no room now.
    pub(super) fn stage_control<D: Device>(
        &mut self,
        control: Control,
        shape: &Shape,
        device: &mut D,
        list: &mut Vec<SendWr>,
    ) -> bool {
        if !self.depth_left(shape.depth) {
            return false;
        }
        let ring = shape.region.length;
        let (mut at, mut room) = self.free(ring);
        if room < CONTROL_BYTES as u32 && at + room == ring {
            // Too little before the ring's end: go on at its start.
            let free = ring - (self.head - self.tail) as u32 - room;
            if free >= CONTROL_BYTES as u32 {
                self.head += u64::from(room);
                (at, room) = (0, free);
            }
        }
        if room < CONTROL_BYTES as u32 {
            return false;
        }
        let Ok(into) = device.bytes_mut(shape.region, at, CONTROL_BYTES as u32) else { return false };
        into.copy_from_slice(&control.encode());
        self.staged(shape, SendOp::Send, at, CONTROL_BYTES as u32, list);
        true
    }

    /// Puts as much of the queue on the list as window, ring and work queue take: writes, of which the
    /// last carries one immediate for all.
    #[inline]
    pub(super) fn stage_data<D: Device>(
        &mut self,
        shape: &Shape,
        device: &mut D,
        pool: &mut Vec<TxBuf>,
        list: &mut Vec<SendWr>,
    ) -> usize {
        let Some(window) = self.window else { return 0 };
        let mut total = 0;
        while self.unsent > 0 && self.depth_left(shape.depth) {
            let (at, room) = self.free(shape.region.length);
            let length = room.min(self.room()).min(u32::try_from(self.unsent).unwrap_or(u32::MAX));
            if length == 0 {
                break;
            }
            let Ok(into) = device.bytes_mut(shape.region, at, length) else { break };
            self.gather(into, pool);
            let address = window.address + u64::from(self.used);
            self.staged(shape, SendOp::Write { address, rkey: window.rkey }, at, length, list);
            self.used += length;
            total += length;
        }
        if total > 0
            && let Some(SendWr { op, .. }) = list.last_mut()
            && let SendOp::Write { address, rkey } = *op
        {
            *op = SendOp::WriteImm { address, rkey, immediate: total };
            self.unheard += 1;
        }
        total as usize
    }

    /// Fills `into` from the queue, which holds at least that much.
    fn gather(&mut self, into: &mut [u8], pool: &mut Vec<TxBuf>) {
        if self.offset == 0
            && let Some(front) = self.queue.front()
            && !front.has_shared()
            && front.len() == into.len()
        {
            // One short reply or request: nearly always.
            into.copy_from_slice(front.plain());
            self.unsent -= into.len();
            self.drop_front(pool);
            return;
        }
        let mut filled = 0;
        while filled < into.len() {
            let Some(front) = self.queue.front() else { break };
            let mut skip = self.offset;
            for part in front.parts() {
                let bytes = part.as_slice();
                if skip >= bytes.len() {
                    skip -= bytes.len();
                    continue;
                }
                let take = (bytes.len() - skip).min(into.len() - filled);
                into[filled..filled + take].copy_from_slice(&bytes[skip..skip + take]);
                filled += take;
                self.offset += take;
                skip = 0;
                if filled == into.len() {
                    break;
                }
            }
            if self.offset >= front.len() {
                self.offset = 0;
                self.drop_front(pool);
            }
        }
        self.unsent -= filled;
    }

    /// Asks for a completion of the list's last request where one is needed to go on later. With
    /// `finish` every request is to be known done: an empty write is added if need be.
    #[inline]
    pub(super) fn sign(&mut self, shape: &Shape, finish: bool, list: &mut Vec<SendWr>) {
        if finish
            && list.is_empty()
            && self.since > 0
            && self.depth_left(shape.depth)
            && let Some(window) = self.window
        {
            self.staged(shape, SendOp::Write { address: window.address, rkey: window.rkey }, 0, 0, list);
        }
        let enough =
            self.since >= (shape.depth / 4).max(1) || self.head - self.since_head >= u64::from(shape.region.length / 4);
        if (enough || finish)
            && let Some(last) = list.last_mut()
        {
            last.signaled = true;
            self.signaled.push_back((self.head, self.since));
            self.since = 0;
            self.since_head = self.head;
        }
    }

    /// Memory of its own beside the ring, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.held + self.queue.capacity() * size_of::<TxBuf>()
    }
}
