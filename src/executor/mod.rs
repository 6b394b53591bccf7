//! The executor: one thread, one loop. A turn polls the transport, parses what arrived into a
//! batch, prefetches, executes, flushes every connection once, and does a bounded slice of
//! housekeeping. With nothing to do it spins for a while, then parks in the transport.

mod batch;
mod clients;
mod housekeeping;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tercel_resp::request::{Limits, RequestParser};
use tercel_transport::{Close, ConnId, Event, Hangup, Transport, TxBuf};

use batch::{Batch, ParseBounds};
use tercel_core::clients::client::{ClientKey, Closing, Connection};
use tercel_core::clients::limits;
use tercel_core::command::OwnedCommand;
use tercel_core::command::spec::flags;
use tercel_core::dispatch::{self, Commands, Verdict};
use tercel_core::persistence::{self, LoadError, Loader};
use tercel_core::server::{Action, Core};
use tercel_core::settings::Settings;
use tercel_core::stats::Phase;

const NO_CLIENT: ClientKey = ClientKey::MAX;
/// Commands between two looks at the clock within a batch.
const CLOCK_EVERY: usize = 8;
/// While a snapshot is loaded, clients are answered that often.
const LOAD_SLICE_NS: u64 = 1_000_000;
/// Polls of a spinning loop between two turns, which look at the clock and everything else.
const SPIN_POLLS: u32 = 8;
/// A batch ends, to go on in the next turn, once its commands have evicted for this long.
const EVICT_NS_MAX: u64 = 100_000;

/// What is to be done when another thread has woken the executor.
pub type WakeHook = Box<dyn FnMut(&Core)>;

/// What is to be done with the transport when settings have changed: it gets the old ones and the new ones.
pub type SettingsHook<T> = Box<dyn FnMut(&mut T, &Settings, &Settings)>;

/// How the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In order.
    Shutdown,
    /// As a test asked, with this exit status.
    Exit(i32),
}

/// What parsing a batch took, and how many commands of each carrier arrived for it and were parsed.
#[derive(Default)]
struct ParseTimes {
    arrive_ns: u64,
    parse_ns: u64,
    fresh: [u64; 2],
    all: [u64; 2],
}

/// The executor: a transport, and everything it serves from.
pub struct Executor<T: Transport> {
    transport: T,
    commands: &'static Commands,
    /// What commands work on.
    pub core: Core,
    events: Vec<Event>,
    /// Client of each connection slot of the transport.
    by_conn: Vec<ClientKey>,
    /// Clients with bytes to parse.
    ready: Vec<ClientKey>,
    /// Clients whose peer is gone.
    hung_up: Vec<ClientKey>,
    /// Clients held back by a pause.
    paused: Vec<ClientKey>,
    /// Clients whose last command is done when a snapshot is.
    waiting_for_save: Vec<ClientKey>,
    /// Clients over their soft output limit.
    over_soft_limit: BTreeSet<ClientKey>,
    /// Memory of all clients together that is allowed, in bytes; 0 for any.
    clients_memory_max: usize,
    batch: Batch,
    /// The earliest that what the last poll reported can have arrived, in the clock's nanoseconds:
    /// everything older was reported by the poll before it.
    arrived_ns: u64,
    /// When the last turn polled; 0 after a park, during which nothing is known of arrivals.
    polled_ns: u64,
    parsing: ParseTimes,
    last_busy_ns: u64,
    cron_at_ns: u64,
    /// The slot of the client that was last looked at for having been silent too long.
    idle_check_at: ClientKey,
    meter_at_ns: u64,
    ending: Option<Ending>,
    stop: Arc<AtomicBool>,
    on_wake: Option<WakeHook>,
    on_settings: Option<SettingsHook<T>>,
}

impl<T: Transport> Executor<T> {
    /// An executor over a transport that listens already. `stop` ends it from outside.
    #[must_use]
    pub fn new(transport: T, commands: &'static Commands, core: Core, stop: Arc<AtomicBool>) -> Self {
        let mut executor = Executor {
            transport,
            commands,
            core,
            events: Vec::with_capacity(1024),
            by_conn: Vec::new(),
            ready: Vec::new(),
            hung_up: Vec::new(),
            paused: Vec::new(),
            waiting_for_save: Vec::new(),
            over_soft_limit: BTreeSet::new(),
            clients_memory_max: 0,
            batch: Batch::default(),
            arrived_ns: 0,
            polled_ns: 0,
            parsing: ParseTimes::default(),
            last_busy_ns: 0,
            cron_at_ns: 0,
            idle_check_at: 0,
            meter_at_ns: 0,
            ending: None,
            stop,
            on_wake: None,
            on_settings: None,
        };
        executor.transport.set_spinning(executor.core.settings.busy_poll_us != 0);
        executor.follow_client_limits();
        executor.core.data.mark_startup();
        executor
    }

    /// Calls `hook` whenever another thread has woken the executor.
    pub fn on_wake(&mut self, hook: WakeHook) {
        self.on_wake = Some(hook);
    }

    /// Calls `hook` with transport, old and new settings when settings have changed.
    pub fn on_settings(&mut self, hook: SettingsHook<T>) {
        self.on_settings = Some(hook);
    }

    /// The transport.
    pub fn transport(&mut self) -> &mut T {
        &mut self.transport
    }

    /// Loads the snapshot the settings name, if there is one, answering clients that it does. How the
    /// server ended if somebody ended it meanwhile.
    ///
    /// # Errors
    /// [`LoadError`]; the server is to end.
    pub fn load(&mut self) -> Result<Option<Ending>, LoadError> {
        persistence::remove_leftovers(&*self.core.host.disk(), &self.core.dir);
        self.core.persistence.loading = Loader::open(&self.core)?;
        while let Some(mut loader) = self.core.persistence.loading.take() {
            let until_ns = self.core.clock.mono_ns() + LOAD_SLICE_NS;
            if self.core.load_step(&mut loader, until_ns)? {
                break;
            }
            self.core.persistence.loading = Some(loader);
            self.turn();
            if self.ending.is_some() {
                self.finish();
                return Ok(self.ending);
            }
        }
        Ok(None)
    }

    /// Runs until the server ends.
    pub fn run(&mut self) -> Ending {
        loop {
            let busy = self.turn();
            if let Some(ending) = self.ending {
                self.finish();
                return ending;
            }
            if !busy {
                self.idle();
            }
        }
    }

    /// One turn. True if there was something to do, or there is more.
    pub fn turn(&mut self) -> bool {
        self.core.tick();
        let begin_ns = self.core.now.mono_ns;
        self.arrived_ns = if self.polled_ns > 0 { self.polled_ns } else { begin_ns };
        self.polled_ns = begin_ns;
        // What spinning found comes first.
        if self.events.is_empty() {
            self.transport.poll(&mut self.events);
            if !self.events.is_empty() {
                // Taking it may have been work; parsing begins here.
                let _ = self.core.clock.mono_ns();
            }
        }
        let had_events = !self.events.is_empty();
        if had_events {
            self.handle_events();
        }
        let mut worked = had_events;
        if self.batch.is_done() {
            self.batch.clear();
            if !self.ready.is_empty() {
                self.parse_ready();
            }
        }
        let mut executed = [0; 2];
        if !self.batch.is_done() {
            worked = true;
            executed = self.execute();
        }
        if !self.core.actions.is_empty() {
            self.act();
        }
        self.flush(executed);
        self.record_latencies();
        let more = self.housekeeping();
        if self.stop.load(Ordering::Relaxed) {
            tracing::info!("Received SIGTERM or SIGINT scheduling shutdown...");
            if self.core.save_before_shutdown(None).is_ok() {
                self.ending.get_or_insert(Ending::Shutdown);
            } else {
                tracing::warn!("Error trying to save the DB, can't exit.");
                self.stop.store(false, Ordering::Relaxed);
            }
        }
        let stats = &mut self.core.stats;
        stats.turns += 1;
        if worked || more {
            let end_ns = self.core.clock.mono_ns();
            let took_ns = end_ns - begin_ns;
            stats.busy_turns += 1;
            stats.turns_ns += took_ns;
            stats.turn_ns_max = stats.turn_ns_max.max(took_ns);
            self.last_busy_ns = end_ns;
        }
        worked || more || !self.ready.is_empty() || !self.batch.is_done()
    }

    /// Spins or sleeps until there may be something to do.
    fn idle(&mut self) {
        let spin_us = self.core.settings.busy_poll_us;
        let now_ns = self.core.now.mono_ns;
        if spin_us < 0 || now_ns.saturating_sub(self.last_busy_ns) < spin_us as u64 * 1000 {
            self.spin();
            return;
        }
        let mut sleep_ns = self.cron_at_ns.saturating_sub(now_ns).max(1000);
        if let Some(deadline_ms) = self.core.data.next_deadline_ms() {
            let left_us = deadline_ms.saturating_mul(1000).saturating_sub(self.core.now.unix_us).max(0) as u64;
            sleep_ns = sleep_ns.min(left_us.saturating_mul(1000));
        }
        if let Some(pause) = self.core.pause {
            let left_ms = pause.until_ms.saturating_sub(self.core.now.unix_ms).max(0) as u64;
            sleep_ns = sleep_ns.min(left_ms.saturating_mul(1_000_000));
        }
        self.core.stats.parks += 1;
        self.transport.park(Some(Duration::from_nanos(sleep_ns)));
        self.polled_ns = 0;
    }

    /// Polls some times, until there is something for a turn to do. No instruction tells the processor
    /// of it: between two looks at the same word lies a whole poll, and where the processor is a virtual
    /// one that hint gives the core away.
    fn spin(&mut self) {
        for _ in 0..SPIN_POLLS {
            self.transport.poll(&mut self.events);
            if !self.events.is_empty() {
                break;
            }
        }
    }

    fn client_of(&self, conn: ConnId) -> Option<ClientKey> {
        let key = *self.by_conn.get(conn.index as usize)?;
        let connection = self.core.clients.get(key)?;
        (connection.session.conn == conn).then_some(key)
    }

    fn handle_events(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            match event {
                Event::Accepted(conn) => self.accept(conn),
                Event::Readable(conn) => {
                    if let Some(key) = self.client_of(conn) {
                        let now_ns = self.core.now.mono_ns;
                        if let Some(connection) = self.core.clients.get_mut(key) {
                            let session = &mut connection.session;
                            session.active_ns = now_ns;
                            if !session.parse_queued {
                                session.arrived_ns = self.arrived_ns;
                            }
                        }
                        self.make_ready(key);
                    }
                }
                Event::Drained(conn) => {
                    if let Some(key) = self.client_of(conn)
                        && let Some(connection) = self.core.clients.get_mut(key)
                    {
                        connection.session.soft_limit_since_ns = None;
                        connection.session.net.unsent_len = 0;
                        connection.session.net.unsent_memory = 0;
                        self.account(key);
                    }
                }
                Event::Hangup(conn, why) => {
                    if let Some(key) = self.client_of(conn) {
                        if let Hangup::Error(errno) = why {
                            tracing::debug!("Reading from client: error {errno}");
                        }
                        if let Some(connection) = self.core.clients.get_mut(key) {
                            connection.session.hung_up = true;
                        }
                        self.hung_up.push(key);
                    } else {
                        self.transport.close(conn, Close::Abort);
                    }
                }
                Event::AcceptError(errno) => {
                    tracing::warn!("Error accepting a client connection: {}", std::io::Error::from_raw_os_error(errno));
                }
                Event::Wake => {
                    if let Some(hook) = &mut self.on_wake {
                        hook(&self.core);
                    }
                }
            }
        }
        self.events = events;
    }

    fn make_ready(&mut self, key: ClientKey) {
        if let Some(connection) = self.core.clients.get_mut(key)
            && !connection.session.parse_queued
            && !connection.session.paused
        {
            connection.session.parse_queued = true;
            self.ready.push(key);
        }
    }

    fn parse_ready(&mut self) {
        let settings = &self.core.settings;
        let bounds = ParseBounds {
            limits: Limits { bulk_len_max: settings.proto_max_bulk_len.0, ..Limits::default() },
            client_commands_max: settings.batch_client_commands_max as usize,
            query_len_max: settings.client_query_buffer_limit.0 as usize,
        };
        let commands_max = settings.batch_commands_max as usize;
        let timed = settings.latency_tracking;
        let begin_ns = self.core.clock.latest_ns();
        let mut taken = 0;
        // Half a command holds memory, too.
        let mut to_account = Vec::new();
        let mut fresh = [0; 2];
        let mut all = [0; 2];
        for &key in &self.ready {
            let parsed_before = self.batch.commands.len();
            if self.batch.is_full(commands_max) {
                break;
            }
            taken += 1;
            let Some(connection) = self.core.clients.get_mut(key) else { continue };
            let session = &mut connection.session;
            session.parse_queued = false;
            if session.closing.is_some() {
                continue;
            }
            let promised = session.promised();
            let table = &self.commands.table;
            self.batch.parse_client(session, &mut self.transport, self.core.data.keyspace(), table, &bounds);
            let parsed = (self.batch.commands.len() - parsed_before) as u64;
            all[session.kind as usize] += parsed;
            if session.arrived_ns == self.arrived_ns {
                fresh[session.kind as usize] += parsed;
            } else if timed && parsed > 0 {
                self.core.stats.record_phase(
                    Phase::Arrive,
                    session.kind,
                    begin_ns.saturating_sub(session.arrived_ns),
                    parsed,
                );
            }
            let promised_now = session.promised();
            self.core.data.set_untouched(promised, promised_now);
            if self.clients_memory_max > 0 {
                to_account.push(key);
            }
        }
        self.ready.drain(..taken);
        for key in to_account {
            self.account(key);
        }
        // Also where executing begins.
        let parse_ns = self.core.clock.mono_ns() - begin_ns;
        if timed && !self.batch.commands.is_empty() {
            let arrive_ns = begin_ns.saturating_sub(self.arrived_ns);
            self.parsing = ParseTimes { arrive_ns, parse_ns, fresh, all };
        }
        if self.batch.keys_len() > 1 {
            self.core.stats.prefetch_batches += 1;
        }
    }

    /// Puts what commands and parsing took into the histograms, once the replies are on their way.
    fn record_latencies(&mut self) {
        self.core.stats.settle();
        if self.parsing.all == [0; 2] {
            return;
        }
        let ParseTimes { arrive_ns, parse_ns, fresh, all } = std::mem::take(&mut self.parsing);
        self.core.stats.record_phases(Phase::Arrive, arrive_ns, fresh);
        self.core.stats.record_phases(Phase::Parse, parse_ns, all);
    }

    /// Executes the batch until it is done or its time is up. Returns commands executed, by carrier.
    fn execute(&mut self) -> [u64; 2] {
        let begin_ns = self.core.clock.latest_ns();
        let budget_ns = self.core.settings.batch_us_max as u64 * 1000;
        let width = self.core.settings.prefetch_batch_max_size as usize;
        let mut executed = 0;
        let mut by_carrier = [0; 2];
        while self.batch.next_run < self.batch.runs.len() {
            let run = &self.batch.runs[self.batch.next_run];
            let (key, client_id) = (run.client, run.client_id);
            let taken = self.core.clients.take(key);
            let Some(mut connection) = taken else {
                self.next_run();
                continue;
            };
            if connection.session.id != client_id {
                self.core.clients.put(key, connection);
                self.next_run();
                continue;
            }
            connection.out.lend(|| self.transport.lease());
            self.enter(key, &mut connection);
            let before = executed;
            let finished = self.execute_run(&mut connection, begin_ns, budget_ns, width, &mut executed);
            by_carrier[connection.session.kind as usize] += (executed - before) as u64;
            self.core.leave();
            let has_output = !connection.out.is_empty() || connection.session.closing.is_some();
            if !has_output {
                connection.out.hand_over(|buf| Self::give_back(&mut self.transport, buf));
            }
            self.core.clients.put(key, connection);
            if has_output {
                self.core.clients.queue_flush(key);
            } else {
                self.account(key);
            }
            if !finished {
                break;
            }
        }
        by_carrier
    }

    /// Makes a client the one whose commands run, with what it may be owed beyond what it is owed already.
    fn enter(&mut self, key: ClientKey, connection: &mut Connection) {
        let session = &connection.session;
        // It may have taken some of it since the last flush.
        let counted = if session.net.unsent_len == 0 {
            0
        } else {
            limits::counted(self.transport.unsent(session.conn), self.transport.unsent_memory(session.conn))
        };
        let room = limits::room(session, &self.core.settings, counted);
        connection.out.set_room(room);
        self.core.enter(key, connection.out.version, room);
    }

    /// An unused buffer goes back to the transport's pool.
    fn give_back(transport: &mut T, buf: TxBuf) {
        // Sending nothing to nobody is how a buffer is returned.
        transport.send(ConnId { index: u32::MAX, generation: u32::MAX }, buf);
    }

    fn next_run(&mut self) {
        self.batch.next_run += 1;
        if let Some(run) = self.batch.runs.get(self.batch.next_run) {
            self.batch.next_command = run.commands.0;
        }
    }

    /// Executes one client's run from where it stands. False if the batch's time is up.
    fn execute_run(
        &mut self,
        connection: &mut Connection,
        begin_ns: u64,
        budget_ns: u64,
        width: usize,
        executed: &mut usize,
    ) -> bool {
        let at_run = self.batch.next_run;
        let (first, last) = self.batch.runs[at_run].commands;
        let mut at = self.batch.next_command.max(first);
        let conn = connection.session.conn;
        let several_keys = self.batch.keys_len() > 1;
        let mut held = false;
        while at < last && connection.session.closing.is_none() {
            if several_keys {
                self.core.stats.prefetch_keys += self.batch.prefetch(at, self.core.data.keyspace(), width) as u64;
            }
            let mut does = self.batch.commands[at].id.map_or(0, |id| self.commands.table.spec(id).flags);
            if does & flags::RUNS_QUEUE != 0 {
                does |= connection.session.transaction.as_ref().map_or(0, |transaction| transaction.flags_union);
            }
            if does & flags::SHOWS_CLIENTS != 0 {
                self.refresh_all_nets();
                Self::refresh_net(&self.transport, &mut connection.session);
            }
            let input = match self.batch.copied(at_run) {
                Some(copied) => copied,
                None => self.transport.received(conn),
            };
            let command = &self.batch.commands[at];
            let args = self.batch.args(at, input);
            connection.session.received_total += command.len as u64;
            if dispatch::process(self.commands, &mut self.core, connection, command.id, &args, command.len)
                == Verdict::Hold
            {
                held = true;
                break;
            }
            at += 1;
            *executed += 1;
            if connection.out.is_over() && connection.session.closing != Some(Closing::Now) {
                self.core.count_output_over(&connection.session);
                connection.session.closing = Some(Closing::Now);
            }
            if connection.session.waits_for_save {
                break;
            }
            let over = self.core.data.turn_evict_ns() > EVICT_NS_MAX
                || (at.is_multiple_of(CLOCK_EVERY) && self.core.clock.mono_ns() - begin_ns > budget_ns);
            if over && at < last {
                self.batch.next_command = at;
                return false;
            }
        }
        if held {
            self.set_aside(connection, at);
            self.paused.push(connection.session.key);
        } else if connection.session.waits_for_save && connection.session.closing.is_none() {
            self.set_aside(connection, at);
            connection.session.withheld = std::mem::take(&mut connection.out);
            connection.out.version = connection.session.withheld.version;
            self.waiting_for_save.push(connection.session.key);
        } else {
            let run = &mut self.batch.runs[at_run];
            if connection.session.closing.is_none() {
                if let Some(error) = run.error.take() {
                    dispatch::protocol_error(&mut self.core, connection, error);
                } else if run.too_large {
                    self.core.stats.query_buffer_disconnects += 1;
                    connection.session.closing = Some(Closing::Now);
                    tracing::warn!(
                        "Closing client {} that reached max query buffer length",
                        connection.session.address()
                    );
                }
            }
            let run = &self.batch.runs[at_run];
            let end = run.tail_end;
            let received_len = self.transport.received(conn).len();
            // What is left may fill its buffer without being a whole command: it is to be looked at again, or
            // nothing more would ever be received.
            let fills = received_len.saturating_sub(end) >= connection.session.receive_limit;
            let more = run.more || received_len > run.seen_len || fills;
            self.transport.consume(conn, end);
            let session = &mut connection.session;
            session.net.received_len = received_len.saturating_sub(end);
            session.parse_queued = false;
            if more && session.closing.is_none() {
                session.parse_queued = true;
                self.ready.push(session.key);
            }
            let receive_limit = session.receive_limit_at_rest();
            if session.receive_limit != receive_limit && session.assembly.is_none() && !session.parser.in_progress() {
                session.receive_limit = receive_limit;
                self.transport.set_receive_limit(conn, session.receive_limit);
            }
        }
        self.next_run();
        self.batch.is_done()
            || *executed == 0
            || (self.core.data.turn_evict_ns() <= EVICT_NS_MAX && self.core.clock.mono_ns() - begin_ns <= budget_ns)
    }

    /// Puts a client aside before command `at`: what was parsed from there on is parsed again when it goes on.
    fn set_aside(&mut self, connection: &mut Connection, at: usize) {
        let run = &self.batch.runs[self.batch.next_run];
        let conn = connection.session.conn;
        let (first, last) = run.commands;
        let done_end = if at > first { self.batch.commands[at - 1].end } else { 0 };
        let owned = if at < last { self.batch.commands[at].owned.take() } else { None };
        let consumed_already = owned.as_ref().is_some_and(|_| self.batch.commands[at].end == 0);
        self.transport.consume(conn, done_end);
        let session = &mut connection.session;
        session.parser = RequestParser::new();
        self.core.data.set_untouched(session.promised(), 0);
        session.assembly = None;
        session.parse_queued = false;
        session.paused = true;
        if consumed_already {
            session.held_command = owned.map(|owned: Box<OwnedCommand>| *owned);
        }
    }

    /// Lets clients go on that waited until the data was saved, whatever came of it.
    fn release_saved(&mut self) {
        for key in std::mem::take(&mut self.waiting_for_save) {
            let Some(connection) = self.core.clients.get_mut(key) else { continue };
            let session = &mut connection.session;
            if !std::mem::take(&mut session.waits_for_save) {
                continue;
            }
            session.paused = false;
            let mut reply = std::mem::take(&mut session.withheld);
            // Messages came meanwhile; they may be on their way already.
            reply.append(&mut connection.out);
            connection.out = reply;
            self.core.clients.queue_flush(key);
            self.make_ready(key);
        }
    }

    /// Lets clients go on that a pause held back.
    fn release_paused(&mut self) {
        for key in std::mem::take(&mut self.paused) {
            let Some(mut connection) = self.core.clients.take(key) else { continue };
            connection.session.paused = false;
            if let Some(owned) = connection.session.held_command.take() {
                self.enter(key, &mut connection);
                let args = owned.args();
                let id = self.commands.table.resolve(&args);
                if dispatch::process(self.commands, &mut self.core, &mut connection, id, &args, args.bytes_len())
                    == Verdict::Hold
                {
                    connection.session.held_command = Some(owned);
                    connection.session.paused = true;
                    self.paused.push(key);
                }
                self.core.leave();
            }
            let released = !connection.session.paused;
            self.core.clients.put(key, connection);
            self.core.clients.queue_flush(key);
            if released {
                self.make_ready(key);
            }
        }
    }

    /// Hands everything written in this turn to the transport and rings its bell once.
    fn flush(&mut self, executed: [u64; 2]) {
        let flushing = std::mem::take(&mut self.core.clients.to_flush);
        if !flushing.is_empty() {
            // The last command's end, mostly.
            let begin_ns = self.core.clock.latest_ns();
            for &key in &flushing {
                if let Some(connection) = self.core.clients.get_mut(key) {
                    connection.session.flush_queued = false;
                    let conn = connection.session.conn;
                    connection.out.hand_over(|buf| self.transport.send(conn, buf));
                }
            }
            self.transport.flush();
            if self.core.settings.latency_tracking {
                let now_ns = self.core.clock.mono_ns();
                self.core.stats.record_phases(Phase::Flush, now_ns - begin_ns, executed);
            }
            for &key in &flushing {
                self.after_flush(key);
            }
        }
        if self.clients_memory_max > 0 {
            self.evict_clients();
        }
        let mut flushing = flushing;
        flushing.clear();
        if self.core.clients.to_flush.is_empty() {
            self.core.clients.to_flush = flushing;
        }
        self.close_clients();
    }

    fn act(&mut self) {
        for action in std::mem::take(&mut self.core.actions) {
            match action {
                Action::ApplySettings(old) => {
                    self.transport.set_spinning(self.core.settings.busy_poll_us != 0);
                    if let Some(hook) = &mut self.on_settings {
                        hook(&mut self.transport, &old, &self.core.settings);
                    }
                    if limits::clients_memory_max(&self.core.settings) != self.clients_memory_max {
                        self.follow_client_limits();
                    }
                }
                Action::Shutdown => self.ending = Some(Ending::Shutdown),
                Action::Exit(status) => self.ending = Some(Ending::Exit(status)),
            }
        }
    }

    /// Sends what is still to be sent and lets all clients go.
    fn finish(&mut self) {
        self.core.save_end();
        for key in self.core.clients.keys() {
            self.remove_client(key, Close::Drain);
        }
        self.transport.flush();
        for _ in 0..100 {
            self.transport.poll(&mut self.events);
            self.events.clear();
        }
    }
}
