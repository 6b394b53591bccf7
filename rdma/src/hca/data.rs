//! The queues' side of a device: posting lists, and taking completions.

use super::ffi::{self, consts::*};
use super::owned::{Send, Slice};
use super::{HcaDevice, Registered, os};
use crate::verbs::{Arrived, Completion, Qp, RecvWr, Region, SendOp, SendWr, Sge, Status, VerbsError};

fn status_of(status: u32) -> Status {
    match status {
        IBV_WC_SUCCESS => Status::Success,
        IBV_WC_LOC_LEN_ERR => Status::LocalLength,
        IBV_WC_LOC_PROT_ERR => Status::LocalProtection,
        IBV_WC_WR_FLUSH_ERR => Status::Flushed,
        IBV_WC_REM_INV_REQ_ERR => Status::RemoteInvalid,
        IBV_WC_REM_ACCESS_ERR => Status::RemoteAccess,
        IBV_WC_RETRY_EXC_ERR => Status::RetryExceeded,
        IBV_WC_RNR_RETRY_EXC_ERR => Status::RnrRetryExceeded,
        _ => Status::Other,
    }
}

fn completion_of(wc: &ffi::ibv_wc) -> Completion {
    let status = status_of(wc.status);
    let arrived = match wc.opcode {
        _ if status != Status::Success => Arrived::Nothing,
        IBV_WC_RECV => Arrived::Message,
        IBV_WC_RECV_RDMA_WITH_IMM => Arrived::Immediate(u32::from_be(wc.imm_data)),
        _ => Arrived::Nothing,
    };
    Completion { wr_id: wc.wr_id, status, arrived, length: wc.byte_len }
}

fn slice<'a>(regions: &'a slab::Slab<Registered>, sge: &Sge) -> Option<Slice<'a>> {
    regions.get(sge.region.id as usize).filter(|found| found.region == sge.region)?.mr.slice(sge.offset, sge.length)
}

fn send_of<'a>(wr: &SendWr, bytes: Slice<'a>) -> Send<'a> {
    let (opcode, remote_address, rkey, immediate) = match wr.op {
        SendOp::Send => (IBV_WR_SEND, 0, 0, 0),
        SendOp::Write { address, rkey } => (IBV_WR_RDMA_WRITE, address, rkey, 0),
        SendOp::WriteImm { address, rkey, immediate } => (IBV_WR_RDMA_WRITE_WITH_IMM, address, rkey, immediate.to_be()),
    };
    let flags = if wr.signaled { IBV_SEND_SIGNALED } else { 0 } | if wr.inline { IBV_SEND_INLINE } else { 0 };
    Send { wr_id: wr.wr_id, opcode, flags, immediate, remote_address, rkey, bytes }
}

/// A device posts a list from its front until one does not fit. The endpoint never posts more than fits,
/// so one that is posted in part is broken, and so is the connection.
fn refused((posted, error): (usize, std::io::Error)) -> VerbsError {
    match error.raw_os_error() {
        Some(libc::ENOMEM) if posted == 0 => VerbsError::QueueFull,
        _ => os(error),
    }
}

impl HcaDevice {
    pub(super) fn region(&self, region: Region) -> Result<&Registered, VerbsError> {
        self.regions.get(region.id as usize).filter(|found| found.region == region).ok_or(VerbsError::Unknown("region"))
    }

    #[inline]
    pub(super) fn send(&mut self, qp: Qp, list: &[SendWr]) -> Result<(), VerbsError> {
        let HcaDevice { conns, regions, .. } = self;
        let conn = conns.get_mut(qp.0).ok_or(VerbsError::Unknown("connection"))?;
        if let [wr] = list {
            let bytes = slice(regions, &wr.local).ok_or(VerbsError::Unknown("region"))?;
            return conn.id.post_send(std::iter::once(send_of(wr, bytes))).map_err(refused);
        }
        if list.iter().any(|wr| slice(regions, &wr.local).is_none()) {
            return Err(VerbsError::Unknown("region"));
        }
        conn.id.post_send(list.iter().filter_map(|wr| Some(send_of(wr, slice(regions, &wr.local)?)))).map_err(refused)
    }

    #[inline]
    pub(super) fn receive(&mut self, qp: Qp, list: &[RecvWr]) -> Result<(), VerbsError> {
        let HcaDevice { conns, regions, .. } = self;
        let conn = conns.get_mut(qp.0).ok_or(VerbsError::Unknown("connection"))?;
        if list.iter().any(|wr| slice(regions, &wr.local).is_none()) {
            return Err(VerbsError::Unknown("region"));
        }
        conn.id.post_recv(list.iter().filter_map(|wr| Some((wr.wr_id, slice(regions, &wr.local)?)))).map_err(refused)
    }

    #[inline]
    pub(super) fn completions(&mut self, into: &mut [Completion]) -> Result<usize, VerbsError> {
        if self.overrun {
            return Err(VerbsError::CqOverrun);
        }
        if self.scratch.len() < into.len() {
            self.scratch.resize(into.len(), ffi::ibv_wc::default());
        }
        let mut count = 0;
        for adapter in self.adapters.iter().flatten() {
            let room = &mut self.scratch[..into.len() - count];
            let taken = adapter.cq.poll(room).map_err(|_| VerbsError::CqOverrun)?.min(room.len());
            for (place, wc) in into[count..].iter_mut().zip(&room[..taken]) {
                *place = completion_of(wc);
            }
            count += taken;
        }
        Ok(count)
    }
}
