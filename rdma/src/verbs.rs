//! The seam between the endpoint and verbs: what Valkey over RDMA needs of a device and no more.
//!
//! A [`Device`] is one core's view of a fabric: a completion queue shared by all its queue pairs,
//! protection domains with registered memory, and the connection manager. Registered memory belongs
//! to the device; the endpoint borrows it through [`Device::bytes`]. Since everything that lets the
//! device work takes `&mut self`, no slice of registered memory is held while a message into it can be
//! reported. Memory that the peer may write to is not borrowed at all, for the peer asks nobody when it
//! does: [`Device::copy_out`] copies what has arrived there. Names that are not (or no longer) there are errors, never a panic.
//!
//! ```compile_fail,E0502
//! # use tercel_rdma::verbs::{Device, Completion, Region};
//! fn held_across_a_poll<D: Device>(device: &mut D, region: Region, into: &mut [Completion]) -> u8 {
//!     let bytes = device.bytes(region, 0, 1).unwrap();
//!     device.poll_cq(into).unwrap();
//!     bytes[0]
//! }
//! ```

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

/// A connection of the connection manager and its queue pair. Never used twice by one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Qp(pub u64);

/// A protection domain: queue pairs reach only the memory registered in theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pd(pub u32);

/// A listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listener(pub u32);

/// What may be done to registered memory. The device itself may always read and write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only by this side's own work requests.
    Local,
    /// By the peer's writes too.
    RemoteWrite,
}

/// Registered memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The device's name for it; stands for the local key.
    pub id: u32,
    /// Address the peer writes to.
    pub address: u64,
    /// Length in bytes.
    pub length: u32,
    /// Key for the peer; useless without [`Access::RemoteWrite`].
    pub rkey: u32,
}

/// A piece of registered memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sge {
    /// Which region.
    pub region: Region,
    /// Where in it, in bytes.
    pub offset: u32,
    /// How many bytes.
    pub length: u32,
}

/// What a send work request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOp {
    /// A message into the peer's next posted receive.
    Send,
    /// A write into the peer's memory that the peer is not told of.
    Write {
        /// Remote address.
        address: u64,
        /// The key that opens it.
        rkey: u32,
    },
    /// A write that consumes one of the peer's receives and hands it `immediate`.
    WriteImm {
        /// Remote address.
        address: u64,
        /// The key that opens it.
        rkey: u32,
        /// The immediate, in this host's order; the device turns it into network order.
        immediate: u32,
    },
}

/// A send work request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendWr {
    /// Comes back with the completion.
    pub wr_id: u64,
    /// What to do.
    pub op: SendOp,
    /// The bytes.
    pub local: Sge,
    /// Whether success makes a completion; failure always does.
    pub signaled: bool,
    /// Whether the bytes are taken while posting, so that they may be overwritten at once. At most
    /// [`QpCaps::inline_bytes`].
    pub inline: bool,
}

/// A receive work request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvWr {
    /// Comes back with the completion.
    pub wr_id: u64,
    /// Where a message goes. A write with an immediate leaves it alone.
    pub local: Sge,
}

/// How a work request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Well.
    Success,
    /// The queue pair failed or was disconnected before it ran.
    Flushed,
    /// A message longer than the receive posted for it.
    LocalLength,
    /// Our own bytes are not registered as the request says.
    LocalProtection,
    /// The peer's memory is not open to us as the request says.
    RemoteAccess,
    /// The peer could not take the request as it is.
    RemoteInvalid,
    /// The peer acknowledged nothing, however often it was tried.
    RetryExceeded,
    /// The peer had no receive posted, however often it was tried.
    RnrRetryExceeded,
    /// Anything else.
    Other,
}

/// What a completed receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// Not a receive.
    Nothing,
    /// A message of [`Completion::length`] bytes.
    Message,
    /// A write of [`Completion::length`] bytes with this immediate, in this host's order.
    Immediate(u32),
}

/// A completion. As in verbs, only `wr_id` and `status` mean anything unless it is a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// What the work request was posted with.
    pub wr_id: u64,
    /// How it ended.
    pub status: Status,
    /// What a receive brought.
    pub arrived: Arrived,
    /// Its length in bytes.
    pub length: u32,
}

impl Completion {
    /// What an array of completions starts out with.
    pub const EMPTY: Completion = Completion { wr_id: 0, status: Status::Other, arrived: Arrived::Nothing, length: 0 };
}

/// News of the connection manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CmEvent {
    /// Somebody dialled. Answer with `create_qp`, receives and `accept`, or with `reject`.
    Request {
        /// Which listener.
        listener: Listener,
        /// The connection to be.
        qp: Qp,
        /// Who dialled.
        remote: SocketAddr,
        /// Which address of ours.
        local: SocketAddr,
    },
    /// A route to the server is there. Go on with `create_qp`, receives and `connect`.
    Resolved(Qp),
    /// Both sides are ready.
    Established(Qp),
    /// It did not come about.
    Refused(Qp, Refusal),
    /// The peer disconnected.
    Disconnected(Qp),
    /// The device under it is gone.
    DeviceRemoved(Qp),
}

/// Why a connection did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody listens, or the server said no.
    Rejected,
    /// No way there, or no answer.
    Unreachable,
}

/// The sizes of a queue pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QpCaps {
    /// Send work requests outstanding at most.
    pub send_depth: u32,
    /// Receive work requests outstanding at most.
    pub recv_depth: u32,
    /// Inline bytes a request may have.
    pub inline_bytes: u32,
}

/// What both sides tell each other while connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnParams {
    /// How often a request without an acknowledgement is tried again, 0 to 7.
    pub retry_count: u8,
    /// How often the *peer* tries again when we have no receive posted; 7 means for ever.
    pub rnr_retry_count: u8,
}

/// What a device can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceLimits {
    /// Completions its completion queue holds.
    pub cq_depth: u32,
}

/// Why a device refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerbsError {
    /// The name means nothing, or nothing any more.
    #[error("no such {0}")]
    Unknown(&'static str),
    /// Bytes outside the region.
    #[error("{length} bytes at {offset} are outside the region")]
    Range {
        /// Where they start.
        offset: u32,
        /// How many.
        length: u32,
    },
    /// Memory that the peer may write to at any time is copied out, not borrowed.
    #[error("the peer may write to the region")]
    PeerMayWrite,
    /// The work queue is full.
    #[error("the work queue is full")]
    QueueFull,
    /// The queue pair is not in a state for that.
    #[error("the queue pair cannot do that in its state")]
    State,
    /// More inline bytes than the queue pair takes.
    #[error("{0} bytes are too many to send inline")]
    Inline(u32),
    /// More completions than the completion queue holds; nothing of this device can be trusted now.
    #[error("the completion queue overran")]
    CqOverrun,
    /// Memory could not be had or not be pinned.
    #[error("{0} bytes of memory cannot be registered")]
    Memory(u32),
    /// The address is taken.
    #[error("address in use")]
    AddressInUse,
    /// The operating system's reason.
    #[error("{0}")]
    Os(String),
}

/// One core's view of a fabric.
pub trait Device {
    /// Its adapters' names, for display.
    fn describe(&self) -> String;

    /// What it can do.
    fn limits(&self) -> DeviceLimits;

    /// Makes a protection domain on the adapter that a connection has come to: any time after its
    /// [`CmEvent::Request`] or [`CmEvent::Resolved`].
    ///
    /// # Errors
    /// The adapter has no more, or the connection is not there.
    fn alloc_pd(&mut self, qp: Qp) -> Result<Pd, VerbsError>;

    /// Whether a protection domain is on the adapter of a connection, and so may be used for it.
    fn is_reachable(&self, pd: Pd, qp: Qp) -> bool;

    /// Gives one up; only when nothing is registered in it and no queue pair uses it.
    ///
    /// # Errors
    /// It is still in use.
    fn dealloc_pd(&mut self, pd: Pd) -> Result<(), VerbsError>;

    /// Makes `length` bytes of zeroed memory and registers it.
    ///
    /// # Errors
    /// It cannot be had or pinned.
    fn register(&mut self, pd: Pd, length: u32, access: Access) -> Result<Region, VerbsError>;

    /// Unregisters and frees.
    ///
    /// # Errors
    /// It is not there.
    fn deregister(&mut self, region: Region) -> Result<(), VerbsError>;

    /// Borrows registered memory of [`Access::Local`]. What a receive fills is settled once its completion
    /// has told.
    ///
    /// # Errors
    /// Outside the region; or the peer may write there.
    fn bytes(&self, region: Region, offset: u32, length: u32) -> Result<&[u8], VerbsError>;

    /// As [`Device::bytes`], to write into.
    ///
    /// # Errors
    /// As [`Device::bytes`].
    fn bytes_mut(&mut self, region: Region, offset: u32, length: u32) -> Result<&mut [u8], VerbsError>;

    /// Appends registered bytes of any access to `into`. Those a peer's write has been told of are what it
    /// wrote, unless it has broken its word and written there again: then they are some bytes.
    ///
    /// # Errors
    /// Outside the region; nothing was appended.
    fn copy_out(&self, region: Region, offset: u32, length: u32, into: &mut Vec<u8>) -> Result<(), VerbsError>;

    /// Makes registered bytes of any access zero.
    ///
    /// # Errors
    /// Outside the region; nothing was changed.
    fn wipe(&mut self, region: Region, offset: u32, length: u32) -> Result<(), VerbsError>;

    /// Listens.
    ///
    /// # Errors
    /// The address cannot be had.
    fn listen(&mut self, addr: SocketAddr, backlog: u32) -> Result<Listener, VerbsError>;

    /// The bound address.
    fn local_addr(&self, listener: Listener) -> Option<SocketAddr>;

    /// Stops listening; connections stay.
    fn unlisten(&mut self, listener: Listener);

    /// Starts dialling; [`CmEvent::Resolved`] or [`CmEvent::Refused`] follows.
    ///
    /// # Errors
    /// The device has no more connections.
    fn resolve(&mut self, to: SocketAddr) -> Result<Qp, VerbsError>;

    /// Gives a connection its queue pair; receives can be posted from then on. Returns what it can do,
    /// which may be fewer inline bytes than were asked for.
    ///
    /// # Errors
    /// The device has no more, or cannot have that many work requests.
    fn create_qp(&mut self, qp: Qp, pd: Pd, caps: QpCaps) -> Result<QpCaps, VerbsError>;

    /// Takes a request; [`CmEvent::Established`] or [`CmEvent::Disconnected`] follows.
    ///
    /// # Errors
    /// The other side gave up.
    fn accept(&mut self, qp: Qp, params: ConnParams) -> Result<(), VerbsError>;

    /// Refuses a request. Still to be destroyed.
    fn reject(&mut self, qp: Qp);

    /// Goes on dialling; [`CmEvent::Established`] or [`CmEvent::Refused`] follows.
    ///
    /// # Errors
    /// The queue pair is not there.
    fn connect(&mut self, qp: Qp, params: ConnParams) -> Result<(), VerbsError>;

    /// Tells the peer, and puts the queue pair into its error state: what is outstanding completes as
    /// [`Status::Flushed`], behind what had completed before.
    fn disconnect(&mut self, qp: Qp);

    /// Ends connection and queue pair. No completion and no event names it afterwards, and nothing
    /// touches its memory any more.
    fn destroy(&mut self, qp: Qp);

    /// Posts a list with one doorbell. All of it or nothing.
    ///
    /// # Errors
    /// Nothing was posted.
    fn post_send(&mut self, qp: Qp, list: &[SendWr]) -> Result<(), VerbsError>;

    /// Posts receives. All or none.
    ///
    /// # Errors
    /// Nothing was posted.
    fn post_recv(&mut self, qp: Qp, list: &[RecvWr]) -> Result<(), VerbsError>;

    /// Takes completions off the queue and returns how many were put into `into`.
    ///
    /// # Errors
    /// The queue overran.
    fn poll_cq(&mut self, into: &mut [Completion]) -> Result<usize, VerbsError>;

    /// The next event of the connection manager.
    fn poll_cm(&mut self) -> Option<CmEvent>;

    /// Makes the next completion readable on [`Device::wait_fd`]. What completed
    /// before may not: poll once more after arming, before going to sleep.
    ///
    /// # Errors
    /// The operating system's reason.
    fn arm(&mut self) -> Result<(), VerbsError>;

    /// Takes what made the descriptor readable.
    fn acknowledge(&mut self);

    /// What to sleep on: readable when something completed after [`Device::arm`], or when the connection
    /// manager has news. The same descriptor as long as the device is there.
    fn wait_fd(&self) -> BorrowedFd<'_>;
}
