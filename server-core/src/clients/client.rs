//! One client: for whom its commands run ([`Caller`]), what it will be sent ([`Reply`]) and everything else
//! that lasts as long as its connection ([`Session`]). A command gets the three apart. Knows no socket: the
//! connection's identity is kept only to hand it back to the transport.

use tercel_transport::{ConnId, Peer};

use super::caller::Caller;
use super::input::Input;
use super::key::{ClientClass, ClientKey};
use super::output::Output;
use super::subscriptions::Subscriptions;
use super::transaction::Transaction;
use crate::command::CommandId;
use crate::command::reply::Reply;

/// How many unconsumed bytes the transport gathers from a client without a password, unless one command is longer.
pub const UNAUTHENTICATED_RECEIVE_LIMIT: usize = 32 * 1024;

/// What a client takes, as the account of all has it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Accounted {
    pub(super) bytes: usize,
    pub(super) size: Option<usize>,
}

/// A client, in the three parts that a command gets.
pub struct Client {
    /// For whom its commands run.
    pub caller: Caller,
    /// What it will be sent.
    pub out: Reply,
    /// Everything else.
    pub session: Session,
}

impl Client {
    /// Of this session, which has sent nothing yet.
    pub(super) fn new(session: Session) -> Self {
        let caller = Caller { may_wait: true, ..Caller::new(session.peer.kind()) };
        Client { caller, out: Reply::default(), session }
    }

    /// All memory of this client in bytes: session, replies being written, transport.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.session.own_memory() + self.session.output.memory() + self.out.memory() + self.caller.memory()
    }
}

/// What a client has told of itself.
#[derive(Default)]
pub struct Names {
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: String,
    /// CLIENT SETINFO LIB-VER.
    pub lib_ver: String,
}

/// How a client wants to be treated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Modes {
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// CLIENT IMPORT-SOURCE.
    pub import_source: bool,
    /// CLIENT CAPA redirect.
    pub capa_redirect: bool,
}

/// What lasts as long as a client's connection.
pub struct Session {
    id: u64,
    pub(super) key: ClientKey,
    conn: ConnId,
    peer: Peer,
    created_ns: u64,
    is_authenticated: bool,
    /// Whether it ever was: then it is no stranger any more, whatever it does.
    is_known: bool,
    pub(super) is_monitor: bool,
    last_command: Option<CommandId>,
    commands_total: u64,
    /// What it takes, as the account of all clients has it.
    pub(super) accounted: Accounted,
    /// What it has told of itself.
    pub names: Names,
    /// How it wants to be treated.
    pub modes: Modes,
    /// What it sends.
    pub input: Input,
    /// What it is owed.
    pub output: Output,
    /// What it has queued, and the keys it watches.
    pub transaction: Transaction,
    pub(super) subscriptions: Subscriptions,
}

impl Session {
    /// A session that has just connected.
    #[must_use]
    pub fn new(id: u64, conn: ConnId, peer: Peer, now_ns: u64) -> Self {
        Session {
            id,
            key: 0,
            conn,
            peer,
            created_ns: now_ns,
            is_authenticated: true,
            is_known: true,
            is_monitor: false,
            last_command: None,
            commands_total: 0,
            accounted: Accounted::default(),
            names: Names::default(),
            modes: Modes::default(),
            input: Input::new(now_ns),
            output: Output::default(),
            transaction: Transaction::default(),
            subscriptions: Subscriptions::default(),
        }
    }

    /// Its number, never given twice.
    #[must_use]
    #[inline]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its slot in the table.
    #[must_use]
    #[inline]
    pub fn key(&self) -> ClientKey {
        self.key
    }

    /// Its connection, to the transport.
    #[must_use]
    #[inline]
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// When it connected, in the clock's nanoseconds.
    #[must_use]
    pub fn created_ns(&self) -> u64 {
        self.created_ns
    }

    /// The peer's address as CLIENT LIST shows it.
    #[must_use]
    pub fn address(&self) -> String {
        match &self.peer {
            Peer::Tcp { remote, .. } | Peer::Rdma { remote, .. } => remote.to_string(),
            Peer::Unix { path } => format!("{path}:0"),
            Peer::Memory(number) => format!("memory:{number}"),
        }
    }

    /// How it comes, as CLIENT LIST shows it.
    #[must_use]
    pub fn transport(&self) -> &'static str {
        match &self.peer {
            Peer::Tcp { .. } => "tcp",
            Peer::Rdma { .. } => "rdma",
            Peer::Unix { .. } => "unix",
            Peer::Memory(_) => "memory",
        }
    }

    /// Our address as CLIENT LIST shows it.
    #[must_use]
    pub fn local_address(&self) -> String {
        match &self.peer {
            Peer::Tcp { local, .. } | Peer::Rdma { local, .. } => local.to_string(),
            Peer::Unix { path } => format!("{path}:0"),
            Peer::Memory(_) => "memory:0".to_owned(),
        }
    }

    /// The peer's IP address alone; empty where there is none.
    #[must_use]
    pub fn ip(&self) -> String {
        match &self.peer {
            Peer::Tcp { remote, .. } | Peer::Rdma { remote, .. } => remote.ip().to_string(),
            Peer::Unix { .. } | Peer::Memory(_) => String::new(),
        }
    }

    /// Whether it may run commands.
    #[must_use]
    #[inline]
    pub fn is_authenticated(&self) -> bool {
        self.is_authenticated
    }

    /// It has shown its password, or none is asked for any more.
    pub fn authenticate(&mut self) {
        self.is_authenticated = true;
        self.is_known = true;
    }

    /// It has to show its password again, as one that connects has, unless none is asked for.
    pub fn forget_password(&mut self, is_asked: bool) {
        self.is_authenticated = !is_asked;
    }

    /// It comes where a password is asked for: nobody knows it.
    pub fn begin_as_stranger(&mut self) {
        self.is_authenticated = false;
        self.is_known = false;
    }

    /// Whether it has never shown a password where one is asked for: it may hold little.
    #[must_use]
    #[inline]
    pub fn is_stranger(&self) -> bool {
        !self.is_authenticated && !self.is_known
    }

    /// How many unconsumed bytes the transport may gather while no command is half there.
    #[must_use]
    pub fn receive_limit_at_rest(&self) -> usize {
        if self.is_stranger() { UNAUTHENTICATED_RECEIVE_LIMIT } else { tercel_transport::RECEIVE_LIMIT_DEFAULT }
    }

    /// Its subscriptions.
    #[must_use]
    pub fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    /// Whether it is subscribed to anything, so that in RESP2 only a few commands are allowed.
    #[must_use]
    #[inline]
    pub fn is_subscriber(&self) -> bool {
        !self.subscriptions.is_empty()
    }

    /// Whether it runs MONITOR.
    #[must_use]
    pub fn is_monitor(&self) -> bool {
        self.is_monitor
    }

    /// The class whose output-buffer limit applies.
    #[must_use]
    pub fn class(&self) -> ClientClass {
        if self.is_subscriber() { ClientClass::Pubsub } else { ClientClass::Normal }
    }

    /// It sent this command; `None` for one that is not known.
    #[inline]
    pub fn set_last_command(&mut self, id: Option<CommandId>) {
        self.last_command = id;
    }

    /// The last command, for CLIENT LIST.
    #[must_use]
    pub fn last_command(&self) -> Option<CommandId> {
        self.last_command
    }

    /// Counts a command.
    #[inline]
    pub fn count_command(&mut self) {
        self.commands_total += 1;
    }

    /// Commands run, refused or queued.
    #[must_use]
    pub fn commands_total(&self) -> u64 {
        self.commands_total
    }

    /// Memory of the session itself, its queues and its parser, in bytes, without buffers. Costs the same
    /// whatever is in them.
    #[must_use]
    pub fn own_memory(&self) -> usize {
        size_of::<Client>()
            + self.names.name.capacity()
            + self.names.lib_name.capacity()
            + self.names.lib_ver.capacity()
            + self.input.memory()
            + self.transaction.memory()
            + self.subscriptions.memory()
    }
}
