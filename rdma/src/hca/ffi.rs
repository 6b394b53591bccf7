//! What of libibverbs and librdmacm is used: structures, constants and functions, declared here from
//! rdma-core's public headers and loaded when the first device is opened, so that a program that never
//! asks for RDMA starts where neither library is installed. `rdma/layout-check` holds sizes, offsets
//! and constants against the `rdma-sys` crate. Nothing here is safe to use but [`load`]; `owned` is the
//! one user.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

/// A send's opcode, flags and the like; see rdma-core's `verbs.h`.
pub mod consts {
    #![allow(missing_docs)]
    pub const IBV_WC_SUCCESS: u32 = 0;
    pub const IBV_WC_LOC_LEN_ERR: u32 = 1;
    pub const IBV_WC_LOC_PROT_ERR: u32 = 4;
    pub const IBV_WC_WR_FLUSH_ERR: u32 = 5;
    pub const IBV_WC_REM_INV_REQ_ERR: u32 = 9;
    pub const IBV_WC_REM_ACCESS_ERR: u32 = 10;
    pub const IBV_WC_RETRY_EXC_ERR: u32 = 12;
    pub const IBV_WC_RNR_RETRY_EXC_ERR: u32 = 13;

    pub const IBV_WC_RECV: u32 = 1 << 7;
    pub const IBV_WC_RECV_RDMA_WITH_IMM: u32 = (1 << 7) + 1;

    pub const IBV_WR_RDMA_WRITE: u32 = 0;
    pub const IBV_WR_RDMA_WRITE_WITH_IMM: u32 = 1;
    pub const IBV_WR_SEND: u32 = 2;

    pub const IBV_SEND_SIGNALED: u32 = 1 << 1;
    pub const IBV_SEND_INLINE: u32 = 1 << 3;

    pub const IBV_ACCESS_LOCAL_WRITE: u32 = 1;
    pub const IBV_ACCESS_REMOTE_WRITE: u32 = 1 << 1;

    pub const IBV_QPT_RC: u32 = 2;
    pub const IBV_QPS_ERR: u32 = 6;
    pub const IBV_QP_STATE: u32 = 1 << 0;
    pub const IBV_QP_MIN_RNR_TIMER: u32 = 1 << 15;

    pub const IBV_EVENT_CQ_ERR: u32 = 0;
    pub const IBV_EVENT_DEVICE_FATAL: u32 = 8;

    pub const RDMA_PS_TCP: u32 = 0x0106;
    pub const RDMA_CM_EVENT_ADDR_RESOLVED: u32 = 0;
    pub const RDMA_CM_EVENT_ADDR_ERROR: u32 = 1;
    pub const RDMA_CM_EVENT_ROUTE_RESOLVED: u32 = 2;
    pub const RDMA_CM_EVENT_ROUTE_ERROR: u32 = 3;
    pub const RDMA_CM_EVENT_CONNECT_REQUEST: u32 = 4;
    pub const RDMA_CM_EVENT_CONNECT_ERROR: u32 = 6;
    pub const RDMA_CM_EVENT_UNREACHABLE: u32 = 7;
    pub const RDMA_CM_EVENT_REJECTED: u32 = 8;
    pub const RDMA_CM_EVENT_ESTABLISHED: u32 = 9;
    pub const RDMA_CM_EVENT_DISCONNECTED: u32 = 10;
    pub const RDMA_CM_EVENT_DEVICE_REMOVAL: u32 = 11;
    pub const RDMA_CM_EVENT_ADDR_CHANGE: u32 = 14;
}

macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[repr(C)]
        pub struct $name {
            _private: [u8; 0],
        }
    )*};
}

opaque! {
    /// A device of the list of devices.
    ibv_device,
    /// A shared receive queue; never used.
    ibv_srq,
}

/// `struct ibv_context_ops`: of its members only the data path's are called, as the headers' inline
/// functions do.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct ibv_context_ops {
    pub _before_poll_cq: [Option<unsafe extern "C" fn()>; 11],
    pub poll_cq: Option<unsafe extern "C" fn(*mut ibv_cq, c_int, *mut ibv_wc) -> c_int>,
    pub req_notify_cq: Option<unsafe extern "C" fn(*mut ibv_cq, c_int) -> c_int>,
    pub _before_post_send: [Option<unsafe extern "C" fn()>; 12],
    pub post_send: Option<unsafe extern "C" fn(*mut ibv_qp, *mut ibv_send_wr, *mut *mut ibv_send_wr) -> c_int>,
    pub post_recv: Option<unsafe extern "C" fn(*mut ibv_qp, *mut ibv_recv_wr, *mut *mut ibv_recv_wr) -> c_int>,
    pub _rest: [Option<unsafe extern "C" fn()>; 5],
}

/// An open device.
#[repr(C)]
#[allow(missing_docs)]
pub struct ibv_context {
    pub device: *mut ibv_device,
    pub ops: ibv_context_ops,
    pub cmd_fd: c_int,
    pub async_fd: c_int,
    pub num_comp_vectors: c_int,
    pub mutex: libc::pthread_mutex_t,
    pub abi_compat: *mut c_void,
}

/// A protection domain.
#[repr(C)]
#[allow(missing_docs)]
pub struct ibv_pd {
    pub context: *mut ibv_context,
    pub handle: u32,
}

/// A memory region.
#[repr(C)]
#[allow(missing_docs)]
pub struct ibv_mr {
    pub context: *mut ibv_context,
    pub pd: *mut ibv_pd,
    pub addr: *mut c_void,
    pub length: usize,
    pub handle: u32,
    pub lkey: u32,
    pub rkey: u32,
}

/// A completion channel.
#[repr(C)]
#[allow(missing_docs)]
pub struct ibv_comp_channel {
    pub context: *mut ibv_context,
    pub fd: c_int,
    pub refcnt: c_int,
}

/// A completion queue, as far as it is looked into.
#[repr(C)]
#[allow(missing_docs)]
pub struct ibv_cq {
    pub context: *mut ibv_context,
    pub channel: *mut ibv_comp_channel,
    pub cq_context: *mut c_void,
    pub handle: u32,
    pub cqe: c_int,
}

/// A queue pair, as far as it is looked into.
#[repr(C)]
#[allow(missing_docs)]
pub struct ibv_qp {
    pub context: *mut ibv_context,
    pub qp_context: *mut c_void,
    pub pd: *mut ibv_pd,
    pub send_cq: *mut ibv_cq,
    pub recv_cq: *mut ibv_cq,
    pub srq: *mut ibv_srq,
    pub handle: u32,
    pub qp_num: u32,
}

/// A scatter/gather element.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct ibv_sge {
    pub addr: u64,
    pub length: u32,
    pub lkey: u32,
}

/// A send work request. Of its unions only the RDMA members are declared; what the others are longer is
/// padding at the end.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct ibv_send_wr {
    pub wr_id: u64,
    pub next: *mut ibv_send_wr,
    pub sg_list: *mut ibv_sge,
    pub num_sge: c_int,
    pub opcode: c_uint,
    pub send_flags: c_uint,
    pub imm_data: u32,
    pub remote_addr: u64,
    pub rkey: u32,
    pub _other_unions: [u64; 9],
}

/// A receive work request.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct ibv_recv_wr {
    pub wr_id: u64,
    pub next: *mut ibv_recv_wr,
    pub sg_list: *mut ibv_sge,
    pub num_sge: c_int,
}

/// A completion.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct ibv_wc {
    pub wr_id: u64,
    pub status: c_uint,
    pub opcode: c_uint,
    pub vendor_err: u32,
    pub byte_len: u32,
    pub imm_data: u32,
    pub qp_num: u32,
    pub src_qp: u32,
    pub wc_flags: c_uint,
    pub pkey_index: u16,
    pub slid: u16,
    pub sl: u8,
    pub dlid_path_bits: u8,
}

/// Sizes of a queue pair.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct ibv_qp_cap {
    pub max_send_wr: u32,
    pub max_recv_wr: u32,
    pub max_send_sge: u32,
    pub max_recv_sge: u32,
    pub max_inline_data: u32,
}

/// How a queue pair is made.
#[repr(C)]
#[allow(missing_docs)]
pub struct ibv_qp_init_attr {
    pub qp_context: *mut c_void,
    pub send_cq: *mut ibv_cq,
    pub recv_cq: *mut ibv_cq,
    pub srq: *mut ibv_srq,
    pub cap: ibv_qp_cap,
    pub qp_type: c_uint,
    pub sq_sig_all: c_int,
}

/// What a queue pair can be changed to. Only `qp_state` and `min_rnr_timer` are ever set.
#[repr(C, align(8))]
#[allow(missing_docs)]
pub struct ibv_qp_attr {
    pub qp_state: c_uint,
    pub _between: [u32; 29],
    pub _pkeys: [u16; 2],
    pub _flags: [u8; 4],
    pub min_rnr_timer: u8,
    pub _rest: [u8; 6],
    pub _rate_limit: u32,
}

/// What a device can do, as far as it is looked into; the rest is padding.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct ibv_device_attr {
    pub fw_ver: [c_char; 64],
    pub node_guid: u64,
    pub sys_image_guid: u64,
    pub max_mr_size: u64,
    pub page_size_cap: u64,
    pub vendor_id: u32,
    pub vendor_part_id: u32,
    pub hw_ver: u32,
    pub max_qp: c_int,
    pub max_qp_wr: c_int,
    pub device_cap_flags: c_uint,
    pub max_sge: c_int,
    pub max_sge_rd: c_int,
    pub max_cq: c_int,
    pub max_cqe: c_int,
    pub max_mr: c_int,
    pub max_pd: c_int,
    pub _rest: [u32; 22],
}

/// An event of a device.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct ibv_async_event {
    pub element: *mut c_void,
    pub event_type: c_uint,
}

/// The connection manager's channel.
#[repr(C)]
#[allow(missing_docs)]
pub struct rdma_event_channel {
    pub fd: c_int,
}

/// Addresses of a connection, as far as they are looked into.
#[repr(C)]
#[allow(missing_docs)]
pub struct rdma_addr {
    pub src: libc::sockaddr_storage,
    pub dst: libc::sockaddr_storage,
}

/// A connection of the connection manager, as far as it is looked into.
#[repr(C)]
#[allow(missing_docs)]
pub struct rdma_cm_id {
    pub verbs: *mut ibv_context,
    pub channel: *mut rdma_event_channel,
    pub context: *mut c_void,
    pub qp: *mut ibv_qp,
    pub addr: rdma_addr,
}

/// What both sides tell each other.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct rdma_conn_param {
    pub private_data: *const c_void,
    pub private_data_len: u8,
    pub responder_resources: u8,
    pub initiator_depth: u8,
    pub flow_control: u8,
    pub retry_count: u8,
    pub rnr_retry_count: u8,
    pub srq: u8,
    pub qp_num: u32,
}

/// News of the connection manager, as far as it is looked into.
#[repr(C)]
#[allow(missing_docs)]
pub struct rdma_cm_event {
    pub id: *mut rdma_cm_id,
    pub listen_id: *mut rdma_cm_id,
    pub event: c_uint,
    pub status: c_int,
    pub conn: rdma_conn_param,
    pub _other_params: [u64; 4],
}

macro_rules! api {
    ($($library:ident: $name:ident($($arg:ty),*) $(-> $ret:ty)?;)*) => {
        /// The functions of both libraries.
        #[allow(missing_docs)]
        pub struct Api {
            $(pub $name: unsafe extern "C" fn($($arg),*) $(-> $ret)?,)*
            // The functions live as long as their libraries are loaded.
            _libraries: [libloading::Library; 2],
        }

        fn bind(verbs: libloading::Library, cm: libloading::Library) -> Result<Api, String> {
            $(
                // SAFETY: the symbol is the function of this name, whose signature rdma-core's headers
                // give and whose ABI the library's version (".so.1") promises to keep.
                let $name = unsafe { $library!(verbs, cm).get::<unsafe extern "C" fn($($arg),*) $(-> $ret)?>(concat!(stringify!($name), "\0").as_bytes()) }
                    .map(|symbol| *symbol)
                    .map_err(|error| error.to_string())?;
            )*
            Ok(Api { $($name,)* _libraries: [verbs, cm] })
        }
    };
}

macro_rules! verbs {
    ($verbs:ident, $cm:ident) => {
        $verbs
    };
}
macro_rules! cm {
    ($verbs:ident, $cm:ident) => {
        $cm
    };
}

api! {
    verbs: ibv_get_device_name(*mut ibv_device) -> *const c_char;
    verbs: ibv_query_device(*mut ibv_context, *mut ibv_device_attr) -> c_int;
    verbs: ibv_alloc_pd(*mut ibv_context) -> *mut ibv_pd;
    verbs: ibv_dealloc_pd(*mut ibv_pd) -> c_int;
    verbs: ibv_reg_mr(*mut ibv_pd, *mut c_void, usize, c_int) -> *mut ibv_mr;
    verbs: ibv_dereg_mr(*mut ibv_mr) -> c_int;
    verbs: ibv_create_comp_channel(*mut ibv_context) -> *mut ibv_comp_channel;
    verbs: ibv_destroy_comp_channel(*mut ibv_comp_channel) -> c_int;
    verbs: ibv_create_cq(*mut ibv_context, c_int, *mut c_void, *mut ibv_comp_channel, c_int) -> *mut ibv_cq;
    verbs: ibv_destroy_cq(*mut ibv_cq) -> c_int;
    verbs: ibv_get_cq_event(*mut ibv_comp_channel, *mut *mut ibv_cq, *mut *mut c_void) -> c_int;
    verbs: ibv_ack_cq_events(*mut ibv_cq, c_uint);
    verbs: ibv_modify_qp(*mut ibv_qp, *mut ibv_qp_attr, c_int) -> c_int;
    verbs: ibv_get_async_event(*mut ibv_context, *mut ibv_async_event) -> c_int;
    verbs: ibv_ack_async_event(*mut ibv_async_event);
    cm: rdma_get_devices(*mut c_int) -> *mut *mut ibv_context;
    cm: rdma_free_devices(*mut *mut ibv_context);
    cm: rdma_create_event_channel() -> *mut rdma_event_channel;
    cm: rdma_destroy_event_channel(*mut rdma_event_channel);
    cm: rdma_create_id(*mut rdma_event_channel, *mut *mut rdma_cm_id, *mut c_void, c_uint) -> c_int;
    cm: rdma_destroy_id(*mut rdma_cm_id) -> c_int;
    cm: rdma_bind_addr(*mut rdma_cm_id, *const libc::sockaddr) -> c_int;
    cm: rdma_listen(*mut rdma_cm_id, c_int) -> c_int;
    cm: rdma_resolve_addr(*mut rdma_cm_id, *const libc::sockaddr, *const libc::sockaddr, c_int) -> c_int;
    cm: rdma_resolve_route(*mut rdma_cm_id, c_int) -> c_int;
    cm: rdma_create_qp(*mut rdma_cm_id, *mut ibv_pd, *mut ibv_qp_init_attr) -> c_int;
    cm: rdma_destroy_qp(*mut rdma_cm_id);
    cm: rdma_connect(*mut rdma_cm_id, *mut rdma_conn_param) -> c_int;
    cm: rdma_accept(*mut rdma_cm_id, *mut rdma_conn_param) -> c_int;
    cm: rdma_reject(*mut rdma_cm_id, *const c_void, u8) -> c_int;
    cm: rdma_disconnect(*mut rdma_cm_id) -> c_int;
    cm: rdma_get_cm_event(*mut rdma_event_channel, *mut *mut rdma_cm_event) -> c_int;
    cm: rdma_ack_cm_event(*mut rdma_cm_event) -> c_int;
}

/// Loads both libraries, once for the process.
///
/// # Errors
/// The loader's words: a library is not installed, or lacks a function.
pub fn load() -> Result<&'static Api, String> {
    static API: OnceLock<Result<Api, String>> = OnceLock::new();
    let open = |name| {
        // SAFETY: rdma-core's libraries run no code at loading that has demands on their users.
        unsafe { libloading::Library::new(name) }.map_err(|error| error.to_string())
    };
    API.get_or_init(|| bind(open("libibverbs.so.1")?, open("librdmacm.so.1")?)).as_ref().map_err(Clone::clone)
}
