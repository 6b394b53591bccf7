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
            not_yet: <$type as Value>::NOT_YET,
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

impl Default for Choice<RdbVersionCheck> {
    fn default() -> Self {
        Choice(RdbVersionCheck::Strict)
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
    i64,
    bool,
    String,
    Memory,
    MemoryOrPercent,
    Mode,
    Words,
    EvictionPolicy,
    Notifications,
    Percentiles,
    NotYet,
    Inert,
    CpuList,
    Choice<LocalAccess>,
    Choice<LogLevel>,
    FileName,
    SavePoints,
    Choice<RdbVersionCheck>,
    Choice<TransportBackend>,
    Choice<Supervised>,
    ShutdownWay
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
    cpu_affinity: CpuList, "cpu-affinity"("server-cpulist"), (), "", Immutable, "Core the executor is pinned to (the first of a list such as `2` or `2,4-5`); empty for none.";
    batch_commands_max: i64, "batch-commands-max", 1..=65536, "512", Mutable, "Most commands parsed into one batch.";
    batch_client_commands_max: i64, "batch-client-commands-max", 1..=65536, "128", Mutable, "Most commands of one client in one batch.";
    batch_us_max: i64, "batch-us-max", 1..=1_000_000, "500", Mutable, "Microseconds a batch may run before replies are flushed and the network is polled again.";
    prefetch_batch_max_size: i64, "prefetch-batch-max-size", 0..=128, "16", Mutable, "Keys whose memory is prefetched together; 0 or 1 switches prefetching off.";
    housekeeping_us_max: i64, "housekeeping-us-max", 10..=100_000, "100", Mutable, "Microseconds a turn may spend on expiry, eviction and freeing.";
    databases: i64, "databases", 1..=1_000_000, "16", Immutable, "Number of databases.";
    requirepass: String, "requirepass", (), "", Mutable, "Password of the default user; empty for none.";
    client_output_buffer_limit: OutputLimits, "client-output-buffer-limit", (), "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60", Mutable, "Limits on replies a client does not read: at once above the hard one, after some seconds above the soft one.";
    client_query_buffer_limit: Memory, "client-query-buffer-limit", 1024 * 1024..=4 * 1024 * 1024 * 1024 - 1024 * 1024, "1gb", Mutable, "Most bytes of one unfinished command.";
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
    rdma_port: i64, "rdma-port", 0..=65535, "0", Mutable, "Port for Valkey over RDMA; 0 does not listen for RDMA. May be the TCP port.";
    rdma_bind: Words, "rdma-bind", 16, "", Mutable, "Addresses of RDMA adapters to listen on; empty for all of IPv4.";
    rdma_rx_size: i64, "rdma-rx-size", 65_536..=16_777_216, "1048576", Immutable, "Bytes of a receive window; an RDMA connection has two.";
    rdma_completion_vector: i64, "rdma-completion-vector", -1..=1024, "-1", Immutable, "Completion vector, and so the interrupt, of the adapter; -1 spreads processes over them.";
    rdma_connections_max: i64, "rdma-connections-max", 0..=1_000_000, "1000", Immutable, "RDMA connections at most; 0 for as many as `maxclients`. Room for their completions is made at the start.";
    rdma_connections_per_address_max: i64, "rdma-connections-per-address-max", 0..=1_000_000, "0", Immutable, "RDMA connections from one address at most; 0 for as many as `maxclients`.";
    rdma_pinned_bytes_max: Memory, "rdma-pinned-bytes-max", ANY, "4gb", Immutable, "Memory pinned for RDMA connections at most, all together; further connections are refused.";
    rdma_handshake_timeout_ms: i64, "rdma-handshake-timeout-ms", 1..=3_600_000, "5000", Immutable, "Milliseconds an RDMA client may take from its request to its window.";
    rdma_huge_pages: bool, "rdma-huge-pages", (), "no", Immutable, "Pinned memory on huge pages of 2 MiB, as far as the host has set some aside.";
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
    dir: String, "dir", (), ".", Protected, "Working directory; snapshots are there.";
    dbfilename: FileName, "dbfilename", ("dbfilename"), "dump.rdb", Protected, "Name of the snapshot's file in `dir`; loaded at the start.";
    save: SavePoints, "save", (), "3600 1 300 100 60 10000", Mutable, "When to save in the background: pairs of seconds and changes, each enough by itself; empty for never. With any, SHUTDOWN and a signal save, too.";
    stop_writes_on_bgsave_error: bool, "stop-writes-on-bgsave-error", (), "yes", Mutable, "Refuses writes after a background save failed, until one succeeds, if there are save points.";
    rdbcompression: bool, "rdbcompression", (), "yes", Mutable, "Compresses strings in snapshots, on the thread that writes them.";
    rdbchecksum: bool, "rdbchecksum", (), "yes", Immutable, "Ends snapshots with a checksum, and checks it when one is loaded.";
    rdb_version_check: Choice<RdbVersionCheck>, "rdb-version-check", (), "strict", Mutable, "Whether a snapshot of a later version is refused at once or loaded as far as it holds nothing unknown.";
    rdb_save_incremental_fsync: bool, "rdb-save-incremental-fsync", (), "yes", Mutable, "Syncs a snapshot every 4 MiB while it is written, so that the end of a save is no burst.";
    pidfile: String, "pidfile", (), "", Immutable, "File the process number is written to; empty for none.";
    shutdown_on_sigint: ShutdownWay, "shutdown-on-sigint", (), "default", Mutable, "How SIGINT ends the server.";
    shutdown_on_sigterm: ShutdownWay, "shutdown-on-sigterm", (), "default", Mutable, "How SIGTERM ends the server.";
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
    appendonly: NotYet, "appendonly", (&["no"] as &'static [&'static str]), "no", Mutable, "The append-only file is not there yet.";
    cluster_enabled: NotYet, "cluster-enabled", (&["no"] as &'static [&'static str]), "no", Immutable, "Cluster mode is not there yet.";
    tls_port: NotYet, "tls-port", (&["0"] as &'static [&'static str]), "0", Immutable, "TLS is not there yet.";
    syslog_enabled: NotYet, "syslog-enabled", (&["no"] as &'static [&'static str]), "no", Immutable, "The log goes to a file or standard output.";
    replicaof: NotYet, "replicaof"("slaveof"), (&[""] as &'static [&'static str]), "", Immutable, "Replication is not there yet.";
    acl_pubsub_default: Inert, "acl-pubsub-default", (), "resetchannels", Mutable, "Taken, and without effect: ACLs are not there yet.";
    aclfile: NotYet, "aclfile", (&[""] as &'static [&'static str]), "", Immutable, "ACLs are not there yet.";
    acllog_max_len: Inert, "acllog-max-len", (), "128", Mutable, "Taken, and without effect: ACLs are not there yet.";
    active_defrag_cycle_max: Inert, "active-defrag-cycle-max", (), "25", Mutable, "Taken, and without effect: defragmentation is not there yet.";
    active_defrag_cycle_min: Inert, "active-defrag-cycle-min", (), "1", Mutable, "Taken, and without effect: defragmentation is not there yet.";
    active_defrag_cycle_us: Inert, "active-defrag-cycle-us", (), "500", Mutable, "Taken, and without effect: defragmentation is not there yet.";
    active_defrag_ignore_bytes: Inert, "active-defrag-ignore-bytes", (), "104857600", Mutable, "Taken, and without effect: defragmentation is not there yet.";
    active_defrag_max_scan_fields: Inert, "active-defrag-max-scan-fields", (), "1000", Mutable, "Taken, and without effect: defragmentation is not there yet.";
    active_defrag_threshold_lower: Inert, "active-defrag-threshold-lower", (), "10", Mutable, "Taken, and without effect: defragmentation is not there yet.";
    active_defrag_threshold_upper: Inert, "active-defrag-threshold-upper", (), "100", Mutable, "Taken, and without effect: defragmentation is not there yet.";
    activedefrag: NotYet, "activedefrag", (&["no"] as &'static [&'static str]), "no", Mutable, "Defragmentation is not there yet.";
    aof_load_truncated: Inert, "aof-load-truncated", (), "yes", Mutable, "Taken, and without effect: the append-only file is not there yet.";
    aof_rewrite_cpulist: Inert, "aof-rewrite-cpulist"("aof_rewrite_cpulist"), (), "", Immutable, "Taken, and without effect: the append-only file is not there yet.";
    aof_rewrite_incremental_fsync: Inert, "aof-rewrite-incremental-fsync", (), "yes", Mutable, "Taken, and without effect: the append-only file is not there yet.";
    aof_timestamp_enabled: Inert, "aof-timestamp-enabled", (), "no", Mutable, "Taken, and without effect: the append-only file is not there yet.";
    aof_use_rdb_preamble: Inert, "aof-use-rdb-preamble", (), "yes", Mutable, "Taken, and without effect: the append-only file is not there yet.";
    appenddirname: Inert, "appenddirname", (), "appendonlydir", Immutable, "Taken, and without effect: the append-only file is not there yet.";
    appendfilename: Inert, "appendfilename", (), "appendonly.aof", Immutable, "Taken, and without effect: the append-only file is not there yet.";
    appendfsync: Inert, "appendfsync", (), "everysec", Mutable, "Taken, and without effect: the append-only file is not there yet.";
    auto_aof_rewrite_min_size: Inert, "auto-aof-rewrite-min-size", (), "67108864", Mutable, "Taken, and without effect: the append-only file is not there yet.";
    auto_aof_rewrite_percentage: Inert, "auto-aof-rewrite-percentage", (), "100", Mutable, "Taken, and without effect: the append-only file is not there yet.";
    bgsave_cpulist: Inert, "bgsave-cpulist"("bgsave_cpulist"), (), "", Immutable, "Taken, and without effect: a snapshot is written near the executor's memory, on any core but its own.";
    bind_source_addr: NotYet, "bind-source-addr", (&[""] as &'static [&'static str]), "", Immutable, "There are no outgoing connections yet.";
    bio_cpulist: Inert, "bio-cpulist"("bio_cpulist"), (), "", Immutable, "Taken, and without effect: helpers run on any core but the executor's.";
    busy_reply_threshold: Inert, "busy-reply-threshold"("lua-time-limit"), (), "5000", Mutable, "Taken, and without effect: scripts are not there yet.";
    cluster_allow_pubsubshard_when_down: Inert, "cluster-allow-pubsubshard-when-down", (), "yes", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_allow_reads_when_down: Inert, "cluster-allow-reads-when-down", (), "no", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_allow_replica_migration: Inert, "cluster-allow-replica-migration", (), "yes", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_announce_bus_port: Inert, "cluster-announce-bus-port", (), "0", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_announce_client_ipv4: Inert, "cluster-announce-client-ipv4", (), "", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_announce_client_ipv6: Inert, "cluster-announce-client-ipv6", (), "", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_announce_client_port: Inert, "cluster-announce-client-port", (), "0", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_announce_client_tls_port: Inert, "cluster-announce-client-tls-port", (), "0", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_announce_hostname: Inert, "cluster-announce-hostname", (), "", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_announce_human_nodename: Inert, "cluster-announce-human-nodename", (), "", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_announce_ip: Inert, "cluster-announce-ip", (), "", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_announce_port: Inert, "cluster-announce-port", (), "0", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_announce_tls_port: Inert, "cluster-announce-tls-port", (), "0", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_blacklist_ttl: Inert, "cluster-blacklist-ttl", (), "60", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_config_file: Inert, "cluster-config-file", (), "nodes.conf", Immutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_config_save_behavior: Inert, "cluster-config-save-behavior", (), "sync", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_databases: Inert, "cluster-databases", (), "1", Immutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_link_sendbuf_limit: Inert, "cluster-link-sendbuf-limit", (), "0", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_manual_failover_timeout: Inert, "cluster-manual-failover-timeout", (), "5000", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_migration_barrier: Inert, "cluster-migration-barrier", (), "1", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_node_timeout: Inert, "cluster-node-timeout", (), "15000", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_port: Inert, "cluster-port", (), "0", Immutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_preferred_endpoint_type: Inert, "cluster-preferred-endpoint-type", (), "ip", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_replica_no_failover: Inert, "cluster-replica-no-failover"("cluster-slave-no-failover"), (), "no", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_replica_validity_factor: Inert, "cluster-replica-validity-factor"("cluster-slave-validity-factor"), (), "10", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_require_full_coverage: Inert, "cluster-require-full-coverage", (), "yes", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_slot_migration_log_max_len: Inert, "cluster-slot-migration-log-max-len", (), "1000", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_slot_stats_enabled: Inert, "cluster-slot-stats-enabled", (), "no", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    crash_log_enabled: Inert, "crash-log-enabled", (), "yes", Mutable, "Taken, and without effect: a panic is always logged.";
    crash_memcheck_enabled: Inert, "crash-memcheck-enabled", (), "yes", Mutable, "Taken, and without effect: a panic is always logged.";
    dual_channel_replication_enabled: Inert, "dual-channel-replication-enabled", (), "no", Mutable, "Taken, and without effect: replication is not there yet.";
    enable_debug_assert: Inert, "enable-debug-assert", (), "no", Immutable, "Taken, and without effect: assertions are compiled in or are not.";
    enable_module_command: Inert, "enable-module-command", (), "no", Immutable, "Taken, and without effect: modules are not there yet.";
    extended_redis_compatibility: NotYet, "extended-redis-compatibility", (&["no"] as &'static [&'static str]), "no", Mutable, "Replies are Valkey's.";
    hash_max_listpack_entries: i64, "hash-max-listpack-entries"("hash-max-ziplist-entries"), INT, "512", Mutable, "Hashes of so many fields are reported as listpacks; larger ones as hashtables.";
    hash_max_listpack_value: i64, "hash-max-listpack-value"("hash-max-ziplist-value"), INT, "64", Mutable, "Longest field or value in bytes of a hash that is reported as a listpack.";
    hll_sparse_max_bytes: Inert, "hll-sparse-max-bytes", (), "3000", Mutable, "Taken, and without effect: HyperLogLogs are not there yet.";
    ignore_warnings: Inert, "ignore-warnings", (), "", Immutable, "Taken, and without effect: no warning stops the start.";
    import_mode: NotYet, "import-mode", (&["no"] as &'static [&'static str]), "no", Mutable, "Import mode is not there yet.";
    list_compress_depth: Inert, "list-compress-depth", (), "0", Mutable, "Taken, and without effect: lists are not compressed.";
    list_max_listpack_size: i64, "list-max-listpack-size"("list-max-ziplist-size"), i32::MIN as i64..=i32::MAX as i64, "-2", Mutable, "Lists of so many elements, or of so many bytes (-1 to -5: 4 to 64 KiB), are reported as listpacks; larger ones as quicklists.";
    locale_collate: NotYet, "locale-collate", (&[""] as &'static [&'static str]), "", Mutable, "Nothing is sorted yet.";
    log_format: NotYet, "log-format", (&["legacy"] as &'static [&'static str]), "legacy", Mutable, "The log has one format.";
    log_timestamp_format: NotYet, "log-timestamp-format", (&["legacy"] as &'static [&'static str]), "legacy", Mutable, "The log has one format.";
    max_new_connections_per_cycle: Inert, "max-new-connections-per-cycle", (), "10", Mutable, "Taken, and without effect: all connections that wait are accepted.";
    max_new_tls_connections_per_cycle: Inert, "max-new-tls-connections-per-cycle", (), "1", Mutable, "Taken, and without effect: TLS is not there yet.";
    min_replicas_max_lag: Inert, "min-replicas-max-lag"("min-slaves-max-lag"), (), "10", Mutable, "Taken, and without effect: replication is not there yet.";
    min_replicas_to_write: NotYet, "min-replicas-to-write"("min-slaves-to-write"), (&["0"] as &'static [&'static str]), "0", Mutable, "Replication is not there yet.";
    mptcp: NotYet, "mptcp", (&["no"] as &'static [&'static str]), "no", Immutable, "Multipath TCP is not there yet.";
    no_appendfsync_on_rewrite: Inert, "no-appendfsync-on-rewrite", (), "no", Mutable, "Taken, and without effect: the append-only file is not there yet.";
    oom_score_adj: NotYet, "oom-score-adj", (&["no"] as &'static [&'static str]), "no", Mutable, "The score is left alone.";
    oom_score_adj_values: Inert, "oom-score-adj-values", (), "0 200 800", Mutable, "Taken, and without effect: the score is left alone.";
    primaryauth: Inert, "primaryauth"("masterauth"), (), "", Mutable, "Taken, and without effect: replication is not there yet.";
    primaryuser: Inert, "primaryuser"("masteruser"), (), "", Mutable, "Taken, and without effect: replication is not there yet.";
    proc_title_template: Inert, "proc-title-template", (), "{title} {listen-addr} {server-mode}", Mutable, "Taken, and without effect: the process keeps its title.";
    propagation_error_behavior: Inert, "propagation-error-behavior", (), "ignore", Mutable, "Taken, and without effect: replication is not there yet.";
    rdb_del_sync_files: Inert, "rdb-del-sync-files", (), "no", Mutable, "Taken, and without effect: replication is not there yet.";
    repl_backlog_size: Inert, "repl-backlog-size", (), "10485760", Mutable, "Taken, and without effect: replication is not there yet.";
    repl_backlog_ttl: Inert, "repl-backlog-ttl", (), "3600", Mutable, "Taken, and without effect: replication is not there yet.";
    repl_disable_tcp_nodelay: Inert, "repl-disable-tcp-nodelay", (), "no", Mutable, "Taken, and without effect: replication is not there yet.";
    repl_diskless_load: Inert, "repl-diskless-load", (), "disabled", Mutable, "Taken, and without effect: replication is not there yet.";
    repl_diskless_sync: Inert, "repl-diskless-sync", (), "yes", Mutable, "Taken, and without effect: replication is not there yet.";
    repl_diskless_sync_delay: Inert, "repl-diskless-sync-delay", (), "5", Mutable, "Taken, and without effect: replication is not there yet.";
    repl_diskless_sync_max_replicas: Inert, "repl-diskless-sync-max-replicas", (), "0", Mutable, "Taken, and without effect: replication is not there yet.";
    repl_mptcp: NotYet, "repl-mptcp", (&["no"] as &'static [&'static str]), "no", Mutable, "Replication is not there yet.";
    repl_ping_replica_period: Inert, "repl-ping-replica-period"("repl-ping-slave-period"), (), "10", Mutable, "Taken, and without effect: replication is not there yet.";
    repl_timeout: Inert, "repl-timeout", (), "60", Mutable, "Taken, and without effect: replication is not there yet.";
    replica_announce_ip: Inert, "replica-announce-ip"("slave-announce-ip"), (), "", Mutable, "Taken, and without effect: replication is not there yet.";
    replica_announce_port: Inert, "replica-announce-port"("slave-announce-port"), (), "0", Mutable, "Taken, and without effect: replication is not there yet.";
    replica_announced: Inert, "replica-announced", (), "yes", Mutable, "Taken, and without effect: replication is not there yet.";
    replica_ignore_disk_write_errors: Inert, "replica-ignore-disk-write-errors", (), "no", Mutable, "Taken, and without effect: replication is not there yet.";
    replica_ignore_maxmemory: Inert, "replica-ignore-maxmemory"("slave-ignore-maxmemory"), (), "yes", Mutable, "Taken, and without effect: replication is not there yet.";
    replica_lazy_flush: Inert, "replica-lazy-flush"("slave-lazy-flush"), (), "yes", Mutable, "Taken, and without effect: replication is not there yet.";
    replica_priority: Inert, "replica-priority"("slave-priority"), (), "100", Mutable, "Taken, and without effect: replication is not there yet.";
    replica_read_only: Inert, "replica-read-only"("slave-read-only"), (), "yes", Mutable, "Taken, and without effect: replication is not there yet.";
    replica_serve_stale_data: Inert, "replica-serve-stale-data"("slave-serve-stale-data"), (), "yes", Mutable, "Taken, and without effect: replication is not there yet.";
    set_max_intset_entries: Inert, "set-max-intset-entries", (), "512", Mutable, "Taken, and without effect: sets are not there yet.";
    set_max_listpack_entries: Inert, "set-max-listpack-entries", (), "128", Mutable, "Taken, and without effect: sets are not there yet.";
    set_max_listpack_value: Inert, "set-max-listpack-value", (), "64", Mutable, "Taken, and without effect: sets are not there yet.";
    set_proc_title: Inert, "set-proc-title", (), "yes", Immutable, "Taken, and without effect: the process keeps its title.";
    shutdown_timeout: Inert, "shutdown-timeout", (), "10", Mutable, "Taken, and without effect: there are no replicas to wait for.";
    slot_migration_max_failover_repl_bytes: Inert, "slot-migration-max-failover-repl-bytes", (), "0", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    socket_mark_id: NotYet, "socket-mark-id", (&["0"] as &'static [&'static str]), "0", Immutable, "Sockets are not marked.";
    stream_node_max_bytes: Inert, "stream-node-max-bytes", (), "4096", Mutable, "Taken, and without effect: streams are not there yet.";
    stream_node_max_entries: Inert, "stream-node-max-entries", (), "100", Mutable, "Taken, and without effect: streams are not there yet.";
    syslog_facility: Inert, "syslog-facility", (), "local0", Immutable, "Taken, and without effect: logging to syslog is not there yet.";
    syslog_ident: Inert, "syslog-ident", (), "valkey", Immutable, "Taken, and without effect: logging to syslog is not there yet.";
    tls_auth_clients: Inert, "tls-auth-clients", (), "yes", Mutable, "Taken, and without effect: TLS is not there yet.";
    tls_auth_clients_user: NotYet, "tls-auth-clients-user", (&["off"] as &'static [&'static str]), "off", Mutable, "TLS is not there yet.";
    tls_auto_reload_interval: Inert, "tls-auto-reload-interval", (), "0", Mutable, "Taken, and without effect: TLS is not there yet.";
    tls_ca_cert_dir: Inert, "tls-ca-cert-dir", (), "", Mutable, "Taken, and without effect: TLS is not there yet.";
    tls_ca_cert_file: Inert, "tls-ca-cert-file", (), "", Mutable, "Taken, and without effect: TLS is not there yet.";
    tls_cert_file: Inert, "tls-cert-file", (), "", Mutable, "Taken, and without effect: TLS is not there yet.";
    tls_ciphers: Inert, "tls-ciphers", (), "", Mutable, "Taken, and without effect: TLS is not there yet.";
    tls_ciphersuites: Inert, "tls-ciphersuites", (), "", Mutable, "Taken, and without effect: TLS is not there yet.";
    tls_client_cert_file: Inert, "tls-client-cert-file", (), "", Mutable, "Taken, and without effect: TLS is not there yet.";
    tls_client_key_file: Inert, "tls-client-key-file", (), "", Mutable, "Taken, and without effect: TLS is not there yet.";
    tls_client_key_file_pass: Inert, "tls-client-key-file-pass", (), "", Mutable, "Taken, and without effect: TLS is not there yet.";
    tls_cluster: Inert, "tls-cluster", (), "no", Mutable, "Taken, and without effect: TLS is not there yet.";
    tls_dh_params_file: Inert, "tls-dh-params-file", (), "", Mutable, "Taken, and without effect: TLS is not there yet.";
    tls_key_file: Inert, "tls-key-file", (), "", Mutable, "Taken, and without effect: TLS is not there yet.";
    tls_key_file_pass: Inert, "tls-key-file-pass", (), "", Mutable, "Taken, and without effect: TLS is not there yet.";
    tls_prefer_server_ciphers: Inert, "tls-prefer-server-ciphers", (), "no", Mutable, "Taken, and without effect: TLS is not there yet.";
    tls_protocols: Inert, "tls-protocols", (), "", Mutable, "Taken, and without effect: TLS is not there yet.";
    tls_replication: Inert, "tls-replication", (), "no", Mutable, "Taken, and without effect: TLS is not there yet.";
    tls_session_cache_size: Inert, "tls-session-cache-size", (), "20480", Mutable, "Taken, and without effect: TLS is not there yet.";
    tls_session_cache_timeout: Inert, "tls-session-cache-timeout", (), "300", Mutable, "Taken, and without effect: TLS is not there yet.";
    tls_session_caching: Inert, "tls-session-caching", (), "yes", Mutable, "Taken, and without effect: TLS is not there yet.";
    tracking_table_max_keys: Inert, "tracking-table-max-keys", (), "1000000", Mutable, "Taken, and without effect: client tracking is not there yet.";
    aof_disable_auto_gc: Inert, "aof-disable-auto-gc", (), "no", Mutable, "Taken, and without effect: the append-only file is not there yet.";
    client_default_resp: NotYet, "client-default-resp", (&["2"] as &'static [&'static str]), "2", Mutable, "A client speaks version 2 until it says HELLO.";
    cluster_message_gossip_perc: Inert, "cluster-message-gossip-perc", (), "10", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    cluster_ping_interval: Inert, "cluster-ping-interval", (), "1000", Mutable, "Taken, and without effect: cluster mode is not there yet.";
    debug_context: Inert, "debug-context", (), "", Mutable, "Taken, and without effect.";
    io_threads_always_active: Inert, "io-threads-always-active", (), "no", Mutable, "Taken, and without effect: one thread owns the data and the network.";
    key_load_delay: NotYet, "key-load-delay", (&["0"] as &'static [&'static str]), "0", Mutable, "Loading does not wait.";
    loading_process_events_interval_bytes: Inert, "loading-process-events-interval-bytes", (), "2097152", Mutable, "Taken, and without effect: loading is sliced by time.";
    lua_enable_insecure_api: Inert, "lua-enable-insecure-api"("lua-enable-deprecated-api"), (), "no", Mutable, "Taken, and without effect: scripts are not there yet.";
    min_io_threads_avoid_copy_reply: Inert, "min-io-threads-avoid-copy-reply", (), "7", Mutable, "Taken, and without effect: long values are always sent without a copy.";
    min_string_size_avoid_copy_reply: Inert, "min-string-size-avoid-copy-reply", (), "16384", Mutable, "Taken, and without effect: values from 16 KiB on are sent without a copy.";
    min_string_size_avoid_copy_reply_threaded: Inert, "min-string-size-avoid-copy-reply-threaded", (), "65536", Mutable, "Taken, and without effect: values from 16 KiB on are sent without a copy.";
    rdb_key_save_delay: NotYet, "rdb-key-save-delay", (&["0"] as &'static [&'static str]), "0", Mutable, "Saving does not wait.";
    req_res_logfile: NotYet, "req-res-logfile", (&[""] as &'static [&'static str]), "", Immutable, "Requests are not logged for tests.";
    use_exit_on_panic: Inert, "use-exit-on-panic", (), "no", Mutable, "Taken, and without effect.";
    watchdog_period: NotYet, "watchdog-period", (&["0"] as &'static [&'static str]), "0", Mutable, "There is no watchdog: turns that take long are counted.";
    zset_max_listpack_entries: Inert, "zset-max-listpack-entries"("zset-max-ziplist-entries"), (), "128", Mutable, "Taken, and without effect: sorted sets are not there yet.";
    zset_max_listpack_value: Inert, "zset-max-listpack-value"("zset-max-ziplist-value"), (), "64", Mutable, "Taken, and without effect: sorted sets are not there yet.";
}
