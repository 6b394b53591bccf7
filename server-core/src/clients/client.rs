//! One client's state: who it is, what protocol and database it uses, its transaction, its
//! subscriptions, its place in the protocol. Knows no socket: the executor keeps the connection's
//! identity here only to hand it back to the transport.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tercel_engine::Blob;
use tercel_resp::request::RequestParser;
use tercel_transport::{ConnId, Peer, PeerKind};

use crate::clients::limits::Accounted;
use crate::command::reply::Reply;
use crate::command::{CommandId, OwnedCommand};

/// A client's slot in the executor's client table.
pub type ClientKey = usize;

/// A session and the replies on their way to it.
pub struct Connection {
    /// The client's state.
    pub session: Session,
    /// What it will be sent.
    pub out: Reply,
}

/// Which replies a client wants (CLIENT REPLY).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReplyMode {
    /// All.
    #[default]
    On,
    /// None.
    Off,
    /// None for the next command.
    SkipNext,
    /// None for the command being run.
    Skip,
}

/// A command queued by MULTI.
pub struct Queued {
    /// Which.
    pub command: CommandId,
    /// Its arguments.
    pub owned: OwnedCommand,
}

/// A transaction being collected.
#[derive(Default)]
pub struct Transaction {
    /// Commands in order.
    pub commands: Vec<Queued>,
    /// A command could not be queued: EXEC will refuse.
    pub failed: bool,
    /// The flags of all queued commands together.
    pub flags_union: u32,
    /// Memory of the queue in bytes.
    pub memory: usize,
}

/// The keys a client watches: by database and key, whether the key was already expired when WATCH saw it,
/// so that its removal is no change.
#[derive(Default)]
pub struct Watched {
    by_db: BTreeMap<usize, HashMap<Box<[u8]>, bool>>,
    len: usize,
    memory: usize,
}

impl Watched {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Adds a key; false if it was watched already.
    pub fn insert(&mut self, db: usize, key: &[u8], expired: bool) -> bool {
        let keys = self.by_db.entry(db).or_default();
        let is_new = !keys.contains_key(key);
        if is_new {
            keys.insert(key.into(), expired);
            self.len += 1;
            self.memory += key.len() + WATCHED_KEY_BYTES;
        }
        is_new
    }

    /// Whether a key watched was expired when WATCH saw it; `None` if it is not watched.
    pub fn expired_mut(&mut self, db: usize, key: &[u8]) -> Option<&mut bool> {
        self.by_db.get_mut(&db)?.get_mut(key)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[u8], bool)> {
        self.by_db.iter().flat_map(|(db, keys)| keys.iter().map(|(key, expired)| (*db, &**key, *expired)))
    }
}

/// What a watched key takes beside its bytes, here and where watchers are found by key.
const WATCHED_KEY_BYTES: usize = 64;
/// What a subscription takes beside its name.
const SUBSCRIPTION_BYTES: usize = 64;

/// A command whose large arguments are collected on their way in.
pub struct Assembly {
    /// Arguments that are whole.
    pub command: OwnedCommand,
    /// The large argument being filled.
    pub filling: Option<Filling>,
    /// Bytes of input consumed for it so far.
    pub wire_len: usize,
}

impl Assembly {
    /// Memory of what has arrived, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.command.memory() + self.filling.as_ref().map_or(0, |filling| filling.bytes.len())
    }

    /// Memory set aside beyond that, in bytes.
    #[must_use]
    pub fn promised(&self) -> usize {
        self.filling.as_ref().map_or(0, |filling| filling.bytes.capacity() - filling.bytes.len())
    }

    /// Turns a filled argument into a shared value.
    pub fn finish_argument(&mut self) {
        if let Some(filling) = self.filling.take() {
            self.command.push_blob(Blob::from_vec(filling.bytes));
        }
    }
}

/// Room that an argument announced as large begins with, in bytes.
const FILLING_BYTES_MIN: usize = 64 * 1024;
/// Once as much has arrived, room is made for all of it: what is copied for that stays a short piece of work,
/// and somebody who only announces gets nothing.
const FILLING_BYTES_WHOLE: usize = 1024 * 1024;

/// A large argument on its way in.
pub struct Filling {
    bytes: Vec<u8>,
    len: usize,
}

/// There is no memory for an argument of the length that was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

impl Filling {
    /// An argument of `len` bytes, of which none is here yet.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Filling { bytes: Vec::with_capacity(len.saturating_add(2).min(FILLING_BYTES_MIN)), len }
    }

    /// Bytes still to come.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.len - self.bytes.len()
    }

    /// Takes what belongs to it from the front of `input`; returns how much that was. The room grows with
    /// what arrives, not with what was announced.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn take(&mut self, input: &[u8]) -> Result<usize, NoRoom> {
        let take = self.missing().min(input.len());
        let needed = self.bytes.len() + take;
        if needed > self.bytes.capacity() {
            let room = if needed >= FILLING_BYTES_WHOLE { self.len } else { (needed * 2).min(self.len) };
            self.bytes.try_reserve_exact(room - self.bytes.len()).map_err(|_| NoRoom)?;
        }
        self.bytes.extend_from_slice(&input[..take]);
        Ok(take)
    }
}

/// What the transport holds for a client, as of its last turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetInfo {
    /// Received bytes not consumed yet.
    pub received_len: usize,
    /// Bytes handed over and not sent yet.
    pub unsent_len: usize,
    /// Memory those hold, in bytes.
    pub unsent_memory: usize,
    /// Memory of the connection in the transport, in bytes.
    pub memory: usize,
    /// File descriptor, -1 where there is none.
    pub fd: i32,
}

/// How urgently a connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// After what is written has been sent.
    AfterReply,
    /// At once.
    Now,
}

/// The subscriptions of a client.
#[derive(Default)]
pub struct Subscriptions {
    /// Channels.
    pub channels: BTreeSet<Box<[u8]>>,
    /// Patterns.
    pub patterns: BTreeSet<Box<[u8]>>,
    /// What they take compiled, in bytes. Who shares one with others is charged for all of it: he may be
    /// the last who keeps it.
    pub patterns_memory: usize,
    /// Shard channels.
    pub shard_channels: BTreeSet<Box<[u8]>>,
    /// Bytes of all their names.
    pub names_len: usize,
}

impl Subscriptions {
    /// Memory in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.names_len + self.patterns_memory + (self.count() + self.shard_channels.len()) * SUBSCRIPTION_BYTES
    }

    /// Channels and patterns together, as replies count them.
    #[must_use]
    pub fn count(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    /// Whether there is none of any kind.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0 && self.shard_channels.is_empty()
    }
}

/// One client.
pub struct Session {
    /// Number, never given twice.
    pub id: u64,
    /// Slot in the client table.
    pub key: ClientKey,
    /// How it comes.
    pub kind: PeerKind,
    /// The connection there.
    pub conn: ConnId,
    /// Who is at the other end.
    pub peer: Peer,
    /// Database in use.
    pub db: usize,
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: String,
    /// CLIENT SETINFO LIB-VER.
    pub lib_ver: String,
    /// Whether the client may run commands.
    pub authenticated: bool,
    /// Whether it ever might: then it is no stranger any more, whatever it does.
    pub is_known: bool,
    /// When it connected, in the clock's nanoseconds.
    pub created_ns: u64,
    /// When it last sent something, in the clock's nanoseconds.
    pub active_ns: u64,
    /// The earliest that what waits to be parsed can have arrived, in the clock's nanoseconds.
    pub arrived_ns: u64,
    /// Transaction between MULTI and EXEC.
    pub transaction: Option<Box<Transaction>>,
    /// Keys watched.
    pub watched: Watched,
    /// A watched key changed: EXEC will answer nothing.
    pub watch_broken: bool,
    /// Subscriptions.
    pub subscriptions: Subscriptions,
    /// MONITOR.
    pub monitor: bool,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// CLIENT IMPORT-SOURCE.
    pub import_source: bool,
    /// CLIENT CAPA redirect.
    pub capa_redirect: bool,
    /// CLIENT REPLY.
    pub reply_mode: ReplyMode,
    /// The connection is to end.
    pub closing: Option<Closing>,
    /// The peer is gone; close once what it sent is done.
    pub hung_up: bool,
    /// Request parser.
    pub parser: RequestParser,
    /// A command with large arguments on its way in.
    pub assembly: Option<Box<Assembly>>,
    /// Listed for parsing next turn.
    pub parse_queued: bool,
    /// Listed for flushing this turn.
    pub flush_queued: bool,
    /// Held back by CLIENT PAUSE.
    pub paused: bool,
    /// How many unconsumed bytes the transport may gather now.
    pub receive_limit: usize,
    /// Last command, for CLIENT LIST.
    pub last_command: Option<CommandId>,
    /// Commands run.
    pub commands_total: u64,
    /// Bytes received.
    pub received_total: u64,
    /// Bytes of replies.
    pub replied_total: u64,
    /// What the transport holds.
    pub net: NetInfo,
    /// Since when the soft output limit is exceeded, in the clock's nanoseconds.
    pub soft_limit_since_ns: Option<u64>,
    /// What it takes, as the account of all clients has it.
    pub accounted: Accounted,
    /// A command whose bytes are gone already, held back by CLIENT PAUSE.
    pub held_command: Option<OwnedCommand>,
    /// Running inside EXEC.
    pub in_exec: bool,
    /// Its last command is done when the snapshot being written is on the disk.
    pub waits_for_save: bool,
    /// What it will be told then.
    pub withheld: Reply,
}

impl Session {
    /// A session that has just connected.
    #[must_use]
    pub fn new(id: u64, conn: ConnId, peer: Peer, now_ns: u64) -> Self {
        Session {
            id,
            key: 0,
            kind: peer.kind(),
            conn,
            peer,
            db: 0,
            name: String::new(),
            lib_name: String::new(),
            lib_ver: String::new(),
            authenticated: true,
            is_known: true,
            created_ns: now_ns,
            active_ns: now_ns,
            arrived_ns: now_ns,
            transaction: None,
            watched: Watched::default(),
            watch_broken: false,
            subscriptions: Subscriptions::default(),
            monitor: false,
            no_evict: false,
            no_touch: false,
            import_source: false,
            capa_redirect: false,
            reply_mode: ReplyMode::On,
            closing: None,
            hung_up: false,
            parser: RequestParser::new(),
            assembly: None,
            parse_queued: false,
            flush_queued: false,
            paused: false,
            receive_limit: tercel_transport::RECEIVE_LIMIT_DEFAULT,
            last_command: None,
            commands_total: 0,
            received_total: 0,
            replied_total: 0,
            net: NetInfo { fd: -1, ..NetInfo::default() },
            soft_limit_since_ns: None,
            accounted: Accounted::default(),
            held_command: None,
            in_exec: false,
            waits_for_save: false,
            withheld: Reply::default(),
        }
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

    /// Whether it is subscribed to anything, so that in RESP2 only a few commands are allowed.
    #[must_use]
    #[inline]
    pub fn is_subscriber(&self) -> bool {
        !self.subscriptions.is_empty()
    }

    /// Whether it has never shown a password where one is asked for: it may hold little.
    #[must_use]
    #[inline]
    pub fn is_stranger(&self) -> bool {
        !self.authenticated && !self.is_known
    }

    /// How many unconsumed bytes the transport may gather while no command is half there.
    #[must_use]
    pub fn receive_limit_at_rest(&self) -> usize {
        if self.is_stranger() {
            crate::clients::limits::UNAUTHENTICATED_RECEIVE_LIMIT
        } else {
            tercel_transport::RECEIVE_LIMIT_DEFAULT
        }
    }

    /// Memory set aside for a command on its way in beyond what has arrived of it, in bytes: announced by
    /// the client, and not touched.
    #[must_use]
    pub fn promised(&self) -> usize {
        self.assembly.as_ref().map_or(0, |assembly| assembly.promised())
    }

    /// The class whose output-buffer limit applies.
    #[must_use]
    pub fn class(&self) -> ClientClass {
        if self.is_subscriber() { ClientClass::Pubsub } else { ClientClass::Normal }
    }

    /// Memory of the session itself, its queues and its parser, in bytes, without buffers. Costs the same
    /// whatever is in them.
    #[must_use]
    pub fn own_memory(&self) -> usize {
        size_of::<Connection>()
            + self.name.capacity()
            + self.lib_name.capacity()
            + self.lib_ver.capacity()
            + self.parser.memory()
            + self.watched.memory()
            + self.subscriptions.memory()
            + self.held_command.as_ref().map_or(0, OwnedCommand::memory)
            + self.assembly.as_ref().map_or(0, |assembly| assembly.memory())
            + self.transaction.as_ref().map_or(0, |transaction| transaction.memory)
    }
}

/// Classes of clients with output-buffer limits of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientClass {
    /// Ordinary clients.
    Normal,
    /// Replicas.
    Replica,
    /// Subscribers.
    Pubsub,
}

impl Connection {
    /// All memory of this client in bytes: session, replies being written, transport.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.session.own_memory() + self.session.net.memory + self.out.memory() + self.session.withheld.memory()
    }
}
