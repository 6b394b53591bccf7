//! What a command's declaration says, apart from its handler: name, arity, flags, keys, grammar,
//! documentation. Everything the server knows of a command derives from here.

use super::args::Args;
use super::key_positions::{Begin, Find, KeySpec};

/// Command flags, as COMMAND INFO names them.
pub mod flags {
    #![allow(missing_docs)]
    pub const NONE: u32 = 0;
    pub const WRITE: u32 = 1;
    pub const READONLY: u32 = 1 << 1;
    pub const DENYOOM: u32 = 1 << 2;
    pub const ADMIN: u32 = 1 << 3;
    pub const PUBSUB: u32 = 1 << 4;
    pub const NOSCRIPT: u32 = 1 << 5;
    pub const BLOCKING: u32 = 1 << 6;
    pub const LOADING: u32 = 1 << 7;
    pub const STALE: u32 = 1 << 8;
    pub const SKIP_MONITOR: u32 = 1 << 9;
    pub const SKIP_COMMANDLOG: u32 = 1 << 10;
    pub const ASKING: u32 = 1 << 11;
    pub const FAST: u32 = 1 << 12;
    pub const NO_AUTH: u32 = 1 << 13;
    pub const MAY_REPLICATE: u32 = 1 << 14;
    pub const SENTINEL: u32 = 1 << 15;
    pub const NO_MANDATORY_KEYS: u32 = 1 << 16;
    pub const PROTECTED: u32 = 1 << 17;
    pub const NO_ASYNC_LOADING: u32 = 1 << 18;
    pub const NO_MULTI: u32 = 1 << 19;
    pub const ALLOW_BUSY: u32 = 1 << 20;
    pub const ALL_DBS: u32 = 1 << 21;
    pub const TOUCHES_ARBITRARY_KEYS: u32 = 1 << 22;
    /// Shows what clients hold: the transport is asked first.
    pub const SHOWS_CLIENTS: u32 = 1 << 23;
    /// May change what the bytes behind it mean: they are parsed after it ran.
    pub const DECIDES_PARSING: u32 = 1 << 24;
    /// Runs the commands that MULTI queued.
    pub const RUNS_QUEUE: u32 = 1 << 25;
    /// Gets through a pause of everything.
    pub const PASSES_PAUSE: u32 = 1 << 26;
    /// Refused like a write while nothing can be saved.
    pub const DENIED_WHEN_UNSAVED: u32 = 1 << 27;
    /// Allowed to subscribers in RESP2.
    pub const WHILE_SUBSCRIBED: u32 = 1 << 28;
    /// Runs at once inside a transaction.
    pub const NOT_QUEUED: u32 = 1 << 29;
    /// Counts as use of a key whatever CLIENT NO-TOUCH says.
    pub const ALWAYS_TOUCHES: u32 = 1 << 30;

    /// Flags in the order COMMAND INFO lists them. The others are internal.
    pub const NAMES: &[(u32, &str)] = &[
        (WRITE, "write"),
        (READONLY, "readonly"),
        (DENYOOM, "denyoom"),
        (ADMIN, "admin"),
        (PUBSUB, "pubsub"),
        (NOSCRIPT, "noscript"),
        (BLOCKING, "blocking"),
        (LOADING, "loading"),
        (STALE, "stale"),
        (SKIP_MONITOR, "skip_monitor"),
        (SKIP_COMMANDLOG, "skip_commandlog"),
        (ASKING, "asking"),
        (FAST, "fast"),
        (NO_AUTH, "no_auth"),
        (MAY_REPLICATE, "may_replicate"),
        (NO_MANDATORY_KEYS, "no_mandatory_keys"),
        (NO_ASYNC_LOADING, "no_async_loading"),
        (NO_MULTI, "no_multi"),
        (ALLOW_BUSY, "allow_busy"),
        (ALL_DBS, "all_dbs"),
    ];
}

/// ACL categories.
pub mod acl {
    #![allow(missing_docs)]
    pub const KEYSPACE: u32 = 1;
    pub const READ: u32 = 1 << 1;
    pub const WRITE: u32 = 1 << 2;
    pub const STRING: u32 = 1 << 3;
    pub const BITMAP: u32 = 1 << 4;
    pub const PUBSUB: u32 = 1 << 5;
    pub const ADMIN: u32 = 1 << 6;
    pub const FAST: u32 = 1 << 7;
    pub const SLOW: u32 = 1 << 8;
    pub const DANGEROUS: u32 = 1 << 9;
    pub const CONNECTION: u32 = 1 << 10;
    pub const TRANSACTION: u32 = 1 << 11;
    pub const BLOCKING: u32 = 1 << 12;
    pub const LIST: u32 = 1 << 13;
    pub const HASH: u32 = 1 << 14;

    /// Categories by name, in the order they are listed.
    pub const NAMES: &[(u32, &str)] = &[
        (KEYSPACE, "keyspace"),
        (READ, "read"),
        (WRITE, "write"),
        (LIST, "list"),
        (HASH, "hash"),
        (STRING, "string"),
        (BITMAP, "bitmap"),
        (PUBSUB, "pubsub"),
        (ADMIN, "admin"),
        (FAST, "fast"),
        (SLOW, "slow"),
        (BLOCKING, "blocking"),
        (DANGEROUS, "dangerous"),
        (CONNECTION, "connection"),
        (TRANSACTION, "transaction"),
    ];
}

/// What a command does with a key.
pub mod key {
    #![allow(missing_docs)]
    pub const RO: u32 = 1;
    pub const RW: u32 = 1 << 1;
    pub const OW: u32 = 1 << 2;
    pub const RM: u32 = 1 << 3;
    pub const ACCESS: u32 = 1 << 4;
    pub const UPDATE: u32 = 1 << 5;
    pub const INSERT: u32 = 1 << 6;
    pub const DELETE: u32 = 1 << 7;
    pub const NOT_KEY: u32 = 1 << 8;
    pub const INCOMPLETE: u32 = 1 << 9;
    pub const VARIABLE_FLAGS: u32 = 1 << 10;

    /// Key flags in the order COMMAND INFO lists them.
    pub const NAMES: &[(u32, &str)] = &[
        (RO, "RO"),
        (RW, "RW"),
        (OW, "OW"),
        (RM, "RM"),
        (ACCESS, "access"),
        (UPDATE, "update"),
        (INSERT, "insert"),
        (DELETE, "delete"),
        (NOT_KEY, "not_key"),
        (INCOMPLETE, "incomplete"),
        (VARIABLE_FLAGS, "variable_flags"),
    ];
}

/// Families of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Group {
    Connection,
    Generic,
    String,
    Bitmap,
    List,
    Hash,
    Pubsub,
    Transactions,
    Server,
}

impl Group {
    /// The family's name in COMMAND DOCS.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Group::Connection => "connection",
            Group::Generic => "generic",
            Group::String => "string",
            Group::Bitmap => "bitmap",
            Group::List => "list",
            Group::Hash => "hash",
            Group::Pubsub => "pubsub",
            Group::Transactions => "transactions",
            Group::Server => "server",
        }
    }
}

/// One command's declaration.
pub struct Spec {
    /// Full name in lower case; a subcommand's is `container|name`.
    pub name: &'static str,
    /// Family.
    pub group: Group,
    /// First Valkey or Redis version that has it.
    pub since: &'static str,
    /// Arguments with the name; negative: at least so many.
    pub arity: i32,
    /// A set of [`flags`].
    pub flags: u32,
    /// ACL categories beyond those the flags imply.
    pub categories_extra: u32,
    /// One sentence.
    pub summary: &'static str,
    /// Cost.
    pub complexity: &'static str,
    /// Key positions.
    pub keys: &'static [KeySpec],
    /// Grammar of the arguments, see [`super::grammar`].
    pub args: &'static str,
    /// Hints for clients and proxies.
    pub tips: &'static [&'static str],
    /// Version and text if the command is there only for old clients.
    pub deprecated: Option<(&'static str, &'static str)>,
    /// Whether it has subcommands.
    pub is_container: bool,
    /// Whether the argument at an index is not to be seen in logs and by MONITOR.
    pub secret: Option<fn(&Args<'_>, usize) -> bool>,
    /// What it does to its keys, where its options decide that: [`key`] flags.
    pub key_flags: Option<fn(&Args<'_>) -> u32>,
}

impl Spec {
    /// A declaration that says as little as can be.
    #[must_use]
    pub const fn new(name: &'static str, group: Group, since: &'static str, arity: i32, flags: u32) -> Self {
        Spec {
            name,
            group,
            since,
            arity,
            flags,
            categories_extra: 0,
            summary: "",
            complexity: "O(1)",
            keys: &[],
            args: "",
            tips: &[],
            deprecated: None,
            is_container: false,
            secret: None,
            key_flags: None,
        }
    }

    /// An argument as logs and monitors may show it.
    #[must_use]
    pub fn shown<'a>(&self, args: &Args<'a>, index: usize) -> &'a [u8] {
        if self.secret.is_some_and(|secret| secret(args, index)) { b"(redacted)" } else { args.get(index) }
    }

    /// Whether `argc` arguments (with the name) fit.
    #[must_use]
    #[inline]
    pub const fn arity_fits(&self, argc: usize) -> bool {
        if self.arity >= 0 { argc == self.arity as usize } else { argc >= self.arity.unsigned_abs() as usize }
    }

    /// The set of flags.
    #[must_use]
    #[inline]
    pub const fn is(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// ACL categories: what flags imply, and what was added.
    #[must_use]
    pub const fn categories(&self) -> u32 {
        let mut set = self.categories_extra;
        if self.is(flags::WRITE) {
            set |= acl::WRITE;
        }
        if self.is(flags::READONLY) {
            set |= acl::READ;
        }
        if self.is(flags::ADMIN) {
            set |= acl::ADMIN | acl::DANGEROUS;
        }
        if self.is(flags::PUBSUB) {
            set |= acl::PUBSUB;
        }
        if self.is(flags::BLOCKING) {
            set |= acl::BLOCKING;
        }
        set |= if self.is(flags::FAST) { acl::FAST } else { acl::SLOW };
        set
    }

    /// The subcommand's own name, or the command's.
    #[must_use]
    pub fn own_name(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, own)| own)
    }

    /// First key, last key and step as COMMAND INFO has shown them since its first version.
    #[must_use]
    pub fn legacy_key_range(&self) -> (i64, i64, i64) {
        let mut ranges = self.keys.iter().filter_map(|spec| match (spec.begin, spec.find) {
            (Begin::Index(first), Find::Range { last, step, .. })
                if spec.flags & key::NOT_KEY == 0 || self.group == Group::Pubsub =>
            {
                let last = if last >= 0 { first + last } else { last };
                Some((i64::from(first), i64::from(last), i64::from(step)))
            }
            _ => None,
        });
        let Some((first, mut last, step)) = ranges.next() else { return (0, 0, 0) };
        for (_, next_last, next_step) in ranges {
            if next_step != step {
                break;
            }
            last = if next_last < 0 { next_last } else { next_last.max(last) };
        }
        (first, last, step)
    }
}
