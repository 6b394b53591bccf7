//! Holds this project's declarations of libibverbs and librdmacm against those that `rdma-sys` makes
//! from rdma-core's own headers: sizes, offsets and constants. Ends with the number of comparisons, or
//! with what differs.

use std::mem::{offset_of, size_of};
use std::process::ExitCode;

use tercel_rdma::hca::ffi;
use tercel_rdma::hca::ffi::consts;

struct Check {
    done: usize,
    different: usize,
}

impl Check {
    fn same(&mut self, what: &str, ours: u64, theirs: u64) {
        self.done += 1;
        if ours != theirs {
            self.different += 1;
            println!("{what}: {ours} here, {theirs} in rdma-core");
        }
    }
}

macro_rules! sizes {
    ($check:ident, $($name:ident),+ $(,)?) => {
        $($check.same(concat!("size of ", stringify!($name)), size_of::<ffi::$name>() as u64, size_of::<rdma_sys::$name>() as u64);)+
    };
}

macro_rules! offsets {
    ($check:ident, $name:ident: $($field:ident),+ $(,)?) => {
        $($check.same(
            concat!("offset of ", stringify!($name), ".", stringify!($field)),
            offset_of!(ffi::$name, $field) as u64,
            offset_of!(rdma_sys::$name, $field) as u64,
        );)+
    };
}

macro_rules! constants {
    ($check:ident, $kind:ident: $($name:ident),+ $(,)?) => {
        $($check.same(stringify!($name), u64::from(consts::$name), rdma_sys::$kind::$name as u64);)+
    };
}

fn main() -> ExitCode {
    let mut check = Check { done: 0, different: 0 };
    sizes!(
        check, ibv_context_ops, ibv_context, ibv_pd, ibv_mr, ibv_comp_channel, ibv_sge, ibv_send_wr, ibv_recv_wr, ibv_wc, ibv_qp_cap, ibv_qp_init_attr,
        ibv_qp_attr, ibv_device_attr, ibv_async_event, rdma_event_channel, rdma_conn_param, rdma_cm_event,
    );
    offsets!(check, ibv_context_ops: poll_cq, req_notify_cq, post_send, post_recv);
    offsets!(check, ibv_context: device, ops, cmd_fd, async_fd, num_comp_vectors);
    offsets!(check, ibv_pd: context, handle);
    offsets!(check, ibv_mr: context, pd, addr, length, handle, lkey, rkey);
    offsets!(check, ibv_comp_channel: context, fd, refcnt);
    offsets!(check, ibv_cq: context, channel, cq_context, handle, cqe);
    offsets!(check, ibv_qp: context, qp_context, pd, send_cq, recv_cq, srq, handle, qp_num);
    offsets!(check, ibv_sge: addr, length, lkey);
    offsets!(check, ibv_send_wr: wr_id, next, sg_list, num_sge, opcode, send_flags);
    offsets!(check, ibv_recv_wr: wr_id, next, sg_list, num_sge);
    offsets!(check, ibv_wc: wr_id, status, opcode, vendor_err, byte_len, qp_num, src_qp, wc_flags, pkey_index, slid, sl, dlid_path_bits);
    offsets!(check, ibv_qp_cap: max_send_wr, max_recv_wr, max_send_sge, max_recv_sge, max_inline_data);
    offsets!(check, ibv_qp_init_attr: qp_context, send_cq, recv_cq, srq, cap, qp_type, sq_sig_all);
    offsets!(check, ibv_qp_attr: qp_state, min_rnr_timer);
    offsets!(check, ibv_device_attr: max_mr_size, max_qp, max_qp_wr, max_cq, max_cqe, max_mr, max_pd);
    offsets!(check, ibv_async_event: event_type);
    offsets!(check, rdma_event_channel: fd);
    offsets!(check, rdma_conn_param: private_data, private_data_len, responder_resources, initiator_depth, flow_control, retry_count, rnr_retry_count, srq, qp_num);
    offsets!(check, rdma_cm_event: id, listen_id, event, status);
    offsets!(check, rdma_cm_id: verbs, channel, context, qp);
    // Members of unions have other names there.
    check.same("offset of rdma_cm_event.param", offset_of!(ffi::rdma_cm_event, conn) as u64, offset_of!(rdma_sys::rdma_cm_event, param) as u64);
    check.same("offset of rdma_cm_id.route", offset_of!(ffi::rdma_cm_id, addr) as u64, offset_of!(rdma_sys::rdma_cm_id, route) as u64);
    check.same("size of a socket address", size_of::<libc::sockaddr_storage>() as u64, offset_of!(ffi::rdma_addr, dst) as u64);
    check.same("offset of ibv_send_wr.wr", offset_of!(ffi::ibv_send_wr, remote_addr) as u64, offset_of!(rdma_sys::ibv_send_wr, wr) as u64);
    constants!(
        check, ibv_wc_status: IBV_WC_SUCCESS, IBV_WC_LOC_LEN_ERR, IBV_WC_LOC_PROT_ERR, IBV_WC_WR_FLUSH_ERR, IBV_WC_REM_INV_REQ_ERR,
        IBV_WC_REM_ACCESS_ERR, IBV_WC_RETRY_EXC_ERR, IBV_WC_RNR_RETRY_EXC_ERR,
    );
    constants!(check, ibv_wc_opcode: IBV_WC_RECV, IBV_WC_RECV_RDMA_WITH_IMM);
    constants!(check, ibv_wr_opcode: IBV_WR_RDMA_WRITE, IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WR_SEND);
    check.same("IBV_SEND_SIGNALED", consts::IBV_SEND_SIGNALED.into(), rdma_sys::ibv_send_flags::IBV_SEND_SIGNALED.0.into());
    check.same("IBV_SEND_INLINE", consts::IBV_SEND_INLINE.into(), rdma_sys::ibv_send_flags::IBV_SEND_INLINE.0.into());
    check.same("IBV_ACCESS_LOCAL_WRITE", consts::IBV_ACCESS_LOCAL_WRITE.into(), rdma_sys::ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0.into());
    check.same("IBV_ACCESS_REMOTE_WRITE", consts::IBV_ACCESS_REMOTE_WRITE.into(), rdma_sys::ibv_access_flags::IBV_ACCESS_REMOTE_WRITE.0.into());
    constants!(check, ibv_qp_type: IBV_QPT_RC);
    constants!(check, ibv_qp_state: IBV_QPS_ERR);
    check.same("IBV_QP_STATE", consts::IBV_QP_STATE.into(), rdma_sys::ibv_qp_attr_mask::IBV_QP_STATE.0.into());
    check.same("IBV_QP_MIN_RNR_TIMER", consts::IBV_QP_MIN_RNR_TIMER.into(), rdma_sys::ibv_qp_attr_mask::IBV_QP_MIN_RNR_TIMER.0.into());
    constants!(check, ibv_event_type: IBV_EVENT_CQ_ERR, IBV_EVENT_DEVICE_FATAL);
    constants!(check, rdma_port_space: RDMA_PS_TCP);
    constants!(
        check, rdma_cm_event_type: RDMA_CM_EVENT_ADDR_RESOLVED, RDMA_CM_EVENT_ADDR_ERROR, RDMA_CM_EVENT_ROUTE_RESOLVED, RDMA_CM_EVENT_ROUTE_ERROR,
        RDMA_CM_EVENT_CONNECT_REQUEST, RDMA_CM_EVENT_CONNECT_ERROR, RDMA_CM_EVENT_UNREACHABLE, RDMA_CM_EVENT_REJECTED, RDMA_CM_EVENT_ESTABLISHED,
        RDMA_CM_EVENT_DISCONNECTED, RDMA_CM_EVENT_DEVICE_REMOVAL, RDMA_CM_EVENT_ADDR_CHANGE,
    );
    println!("{} declarations compared, {} different", check.done, check.different);
    if check.different == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
