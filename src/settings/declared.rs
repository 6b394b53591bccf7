//! The declarations. A setting is added here and nowhere else.

use super::value::*;
use super::{Mutability, Setting};

/// Turns the declarations into the struct, its empty value and the table.
macro_rules! settings {
    ($($field:ident: $type:ty, $name:literal $(($alias:literal))?, $rule:expr, $default:literal, $mutability:ident, $doc:literal;)+) => {
        /// The values of all settings.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub struct Settings { $(pub $field: $type),+ }

        impl Eq for Settings {}

        /// All declarations, in the order of documentation.
        pub static SETTINGS: &[Setting] = &[$(Setting {
            name: $name,
            alias: concat!("" $(, $alias)?),
            default: $default,
            mutability: Mutability::$mutability,
            doc: $doc,
            accepts: || <$type as Value>::accepts(&$rule),
            show: |settings| settings.$field.show(),
            set: |settings, words| {
                settings.$field = settings.$field.update(words, &$rule)?;
                Ok(())
            },
        }),+];

        impl Settings {
            /// Values before the defaults are read; not for use.
            pub(super) fn empty() -> Self {
                Settings { $($field: Start::start()),+ }
            }
        }
    };
}

/// The value of a field before its default is read.
trait Start {
    fn start() -> Self;
}

impl<T: Default> Start for T {
    fn start() -> Self {
        T::default()
    }
}

impl Default for EvictionPolicy {
    fn default() -> Self {
        EvictionPolicy(tercel_engine::Policy::NoEviction)
    }
}

impl Default for Choice<LocalAccess> {
    fn default() -> Self {
        Choice(LocalAccess::No)
    }
}

impl Default for Choice<LogLevel> {
    fn default() -> Self {
        Choice(LogLevel::Notice)
    }
}

impl Default for Choice<TransportBackend> {
    fn default() -> Self {
        Choice(TransportBackend::Auto)
    }
}

impl Default for Choice<Supervised> {
    fn default() -> Self {
        Choice(Supervised::No)
    }
}

/// Reading a value on top of the one in force; only lists of classes keep part of it.
trait Update: Value {
    fn update(&self, words: &[&str], rule: &Self::Rule) -> Result<Self, String>;
}

macro_rules! replaces {
    ($($type:ty),+) => {$(
        impl Update for $type {
            fn update(&self, words: &[&str], rule: &Self::Rule) -> Result<Self, String> {
                Self::read(words, rule)
            }
        }
    )+};
}

replaces!(
    i64, bool, String, Memory, MemoryOrPercent, Mode, Words, EvictionPolicy, Notifications, Percentiles, NotYet, Choice<LocalAccess>,
    Choice<LogLevel>, Choice<TransportBackend>, Choice<Supervised>
);

impl Update for OutputLimits {
    fn update(&self, words: &[&str], (): &()) -> Result<Self, String> {
        (*self).with_words(words)
    }
}

const ANY: std::ops::RangeInclusive<i64> = 0..=i64::MAX;
const INT: std::ops::RangeInclusive<i64> = 0..=i32::MAX as i64;

settings! {
    bind: Words, "bind", 16, "* -::*", Mutable, "Addresses to listen on; `*` is all of IPv4, `::*` all of IPv6, and a leading `-` makes an address optional.";
    port: i64, "port", 0..=65535, "6379", Mutable, "TCP port; 0 does not listen on TCP.";
    unixsocket: String, "unixsocket", (), "", Immutable, "Path of a unix socket to listen on; empty for none.";
    unixsocketperm: Mode, "unixsocketperm", (), "0", Immutable, "Permissions of the unix socket; 0 leaves them to the umask.";
    unixsocketgroup: String, "unixsocketgroup", (), "", Immutable, "Group of the unix socket, by name or number; empty leaves the server's own.";
    protected_mode: bool, "protected-mode", (), "yes", Mutable, "Without a password, clients of other hosts are refused.";
    tcp_backlog: i64, "tcp-backlog", INT, "511", Immutable, "Connections the kernel keeps waiting to be accepted.";
    tcp_keepalive: i64, "tcp-keepalive", INT, "300", Mutable, "Seconds of silence after which the kernel probes a peer; 0 for never.";
    timeout: i64, "timeout", INT, "0", Mutable, "Seconds after which an idle client is closed; 0 for never.";
    maxclients: i64, "maxclients", 1..=u32::MAX as i64, "10000", Mutable, "Most clients at once; further ones are refused.";
    transport_backend: Choice<TransportBackend>, "transport-backend", (), "auto", Immutable, "How TCP is done; `auto` takes io_uring where the kernel allows it and says in the log why not.";
    busy_poll_us: i64, "busy-poll-us", -1..=60_000_000, "0", Mutable, "Microseconds the executor spins without work before it sleeps: 0 sleeps at once, -1 never sleeps.";
    cpu_affinity: String, "cpu-affinity"("server-cpulist"), (), "", Immutable, "Core the executor is pinned to (the first of a list such as `2` or `2,4-5`); empty for none.";
    batch_commands_max: i64, "batch-commands-max", 1..=65536, "512", Mutable, "Most commands parsed into one batch.";
    batch_client_commands_max: i64, "batch-client-commands-max", 1..=65536, "128", Mutable, "Most commands of one client in one batch.";
    batch_us_max: i64, "batch-us-max", 1..=1_000_000, "500", Mutable, "Microseconds a batch may run before replies are flushed and the network is polled again.";
    prefetch_batch_max_size: i64, "prefetch-batch-max-size", 0..=128, "16", Mutable, "Keys whose memory is prefetched together; 0 or 1 switches prefetching off.";
    housekeeping_us_max: i64, "housekeeping-us-max", 10..=100_000, "100", Mutable, "Microseconds a turn may spend on expiry, eviction and freeing.";
    databases: i64, "databases", 1..=1_000_000, "16", Immutable, "Number of databases.";
    requirepass: String, "requirepass", (), "", Mutable, "Password of the default user; empty for none.";
    client_output_buffer_limit: OutputLimits, "client-output-buffer-limit", (), "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60", Mutable, "Limits on replies a client does not read: at once above the hard one, after some seconds above the soft one.";
    client_query_buffer_limit: Memory, "client-query-buffer-limit", 1024 * 1024..=i64::MAX, "1gb", Mutable, "Most bytes of one unfinished command.";
    proto_max_bulk_len: Memory, "proto-max-bulk-len", 1024 * 1024..=i64::MAX, "512mb", Mutable, "Longest argument, and longest string.";
    maxmemory: Memory, "maxmemory", ANY, "0", Mutable, "Memory above which keys are evicted or writes refused; 0 for no limit.";
    maxmemory_policy: EvictionPolicy, "maxmemory-policy", (), "noeviction", Mutable, "Which keys are evicted.";
    maxmemory_samples: i64, "maxmemory-samples", 1..=64, "5", Mutable, "Keys looked at for each eviction.";
    maxmemory_eviction_tenacity: i64, "maxmemory-eviction-tenacity", 0..=100, "10", Mutable, "How long a write may evict before it runs all the same: 10 is 500 microseconds, 100 has no limit.";
    maxmemory_clients: MemoryOrPercent, "maxmemory-clients", (), "0", Mutable, "Memory of all clients together above which the largest are closed; 0 for no limit.";
    lfu_log_factor: i64, "lfu-log-factor", INT, "10", Mutable, "How slowly the use counter grows.";
    lfu_decay_time: i64, "lfu-decay-time", INT, "1", Mutable, "Minutes after which the use counter falls by one.";
    notify_keyspace_events: Notifications, "notify-keyspace-events", (), "", Mutable, "Classes of events published for keys.";
    hash_seed: String, "hash-seed", (), "", Immutable, "Text that fixes the hash key; empty takes a random one at each start.";
    loglevel: Choice<LogLevel>, "loglevel", (), "notice", Mutable, "How much is logged.";
    logfile: String, "logfile", (), "", Immutable, "File the log is appended to; empty for standard output.";
    hide_user_data_from_log: bool, "hide-user-data-from-log", (), "yes", Mutable, "Keeps what clients send out of the log.";
    metrics_port: i64, "metrics-port", 0..=65535, "0", Immutable, "Port that serves metrics as Prometheus text; 0 for none.";
    metrics_bind: String, "metrics-bind", (), "127.0.0.1", Immutable, "Address the metrics port listens on.";
    latency_tracking: bool, "latency-tracking", (), "yes", Mutable, "Keeps a latency histogram for each command and phase.";
    latency_tracking_info_percentiles: Percentiles, "latency-tracking-info-percentiles", (), "50 99 99.9", Mutable, "Percentiles INFO latencystats shows.";
    latency_monitor_threshold: i64, "latency-monitor-threshold", ANY, "0", Mutable, "Milliseconds from which on a latency event is kept; 0 for none.";
    commandlog_execution_slower_than: i64, "commandlog-execution-slower-than"("slowlog-log-slower-than"), -1..=i64::MAX, "10000", Mutable, "Microseconds from which on a command is logged as slow; -1 for never.";
    commandlog_slow_execution_max_len: i64, "commandlog-slow-execution-max-len"("slowlog-max-len"), ANY, "128", Mutable, "Entries kept of slow commands.";
    commandlog_request_larger_than: i64, "commandlog-request-larger-than", -1..=i64::MAX, "1048576", Mutable, "Bytes from which on a request is logged as large; -1 for never.";
    commandlog_large_request_max_len: i64, "commandlog-large-request-max-len", ANY, "128", Mutable, "Entries kept of large requests.";
    commandlog_reply_larger_than: i64, "commandlog-reply-larger-than", -1..=i64::MAX, "1048576", Mutable, "Bytes from which on a reply is logged as large; -1 for never.";
    commandlog_large_reply_max_len: i64, "commandlog-large-reply-max-len", ANY, "128", Mutable, "Entries kept of large replies.";
    enable_debug_command: Choice<LocalAccess>, "enable-debug-command", (), "no", Immutable, "Who may use DEBUG.";
    enable_protected_configs: Choice<LocalAccess>, "enable-protected-configs", (), "no", Immutable, "Whether protected settings may change at run time.";
    dir: String, "dir", (), ".", Protected, "Working directory.";
    pidfile: String, "pidfile", (), "", Immutable, "File the process number is written to; empty for none.";
    supervised: Choice<Supervised>, "supervised", (), "no", Immutable, "Whether a supervisor is told when the server is ready.";
    disable_thp: bool, "disable-thp", (), "no", Immutable, "Keeps transparent huge pages away from the process. There is no fork to make them costly here, and they halve the time of a lookup in a large keyspace.";
    page_stock: Memory, "page-stock", 0..=134217728, "4mb", Immutable, "Memory a helper thread keeps filled with pages ahead of need, in whole 2 MiB, so that growing data costs the executor no page fault; 0 for none.";
    jemalloc_bg_thread: bool, "jemalloc-bg-thread", (), "yes", Mutable, "Lets the allocator give memory back from a thread of its own.";
    hz: i64, "hz", 0..=2_147_483_647, "10", Mutable, "Between 1 and 500 times a second idle clients, limits and statistics are looked after. Expiry does not depend on it.";
    availability_zone: String, "availability-zone", (), "", Mutable, "Text that HELLO and INFO show.";
    active_expire_effort: i64, "active-expire-effort", 1..=10, "1", Mutable, "Taken for compatibility: deadlines drive expiry, so there is no effort to choose.";
    lazyfree_lazy_eviction: bool, "lazyfree-lazy-eviction", (), "yes", Mutable, "Taken for compatibility: freeing is always done in slices.";
    lazyfree_lazy_expire: bool, "lazyfree-lazy-expire", (), "yes", Mutable, "Taken for compatibility: freeing is always done in slices.";
    lazyfree_lazy_server_del: bool, "lazyfree-lazy-server-del", (), "yes", Mutable, "Taken for compatibility: freeing is always done in slices.";
    lazyfree_lazy_user_del: bool, "lazyfree-lazy-user-del", (), "yes", Mutable, "Taken for compatibility: freeing is always done in slices.";
    lazyfree_lazy_user_flush: bool, "lazyfree-lazy-user-flush", (), "yes", Mutable, "Taken for compatibility: freeing is always done in slices.";
    activerehashing: bool, "activerehashing", (), "yes", Mutable, "Taken for compatibility: the table grows and shrinks in small pieces at all times.";
    always_show_logo: bool, "always-show-logo", (), "no", Immutable, "Taken for compatibility: there is no logo.";
    daemonize: NotYet, "daemonize", (&["no"] as &'static [&'static str]), "no", Immutable, "The server stays in the foreground; a supervisor puts it elsewhere.";
    io_threads: NotYet, "io-threads", (&["1"] as &'static [&'static str]), "1", Immutable, "One thread owns the data and the network.";
    save: NotYet, "save", (&[""] as &'static [&'static str]), "", Mutable, "Snapshots are not there yet: only the empty value is taken.";
    appendonly: NotYet, "appendonly", (&["no"] as &'static [&'static str]), "no", Mutable, "The append-only file is not there yet.";
    cluster_enabled: NotYet, "cluster-enabled", (&["no"] as &'static [&'static str]), "no", Immutable, "Cluster mode is not there yet.";
    tls_port: NotYet, "tls-port", (&["0"] as &'static [&'static str]), "0", Immutable, "TLS is not there yet.";
    syslog_enabled: NotYet, "syslog-enabled", (&["no"] as &'static [&'static str]), "no", Immutable, "The log goes to a file or standard output.";
    replicaof: NotYet, "replicaof"("slaveof"), (&[""] as &'static [&'static str]), "", Immutable, "Replication is not there yet.";
}
