//! The executor: one thread, one loop. A turn polls the transport, parses what arrived into a
//! batch, prefetches, executes, flushes every connection once, and does a bounded slice of
//! housekeeping. With nothing to do it spins for a while, then parks in the transport.

mod batch;
mod clients;
mod flush;
mod housekeeping;
mod links;
mod receive;
mod run;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tercel_transport::{Close, ConnId, Event, Transport};

use batch::Batch;
use receive::ParseTimes;
use tercel_core::clients::ClientKey;
use tercel_core::dispatch::Commands;
use tercel_core::links::LinkKey;
use tercel_core::persistence::LoadError;
use tercel_core::server::{Request, Server};
use tercel_core::settings::Settings;

const NO_CLIENT: ClientKey = ClientKey::MAX;
/// While a snapshot is loaded, clients are answered that often.
const LOAD_SLICE_NS: u64 = 1_000_000;
/// Polls of a spinning loop between two turns, which look at the clock and everything else.
const SPIN_POLLS: u32 = 8;

/// What is to be done when another thread has woken the executor.
pub type WakeHook = Box<dyn FnMut(&Server)>;

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

/// The executor: a transport, and everything it serves from.
pub struct Executor<T: Transport> {
    transport: T,
    commands: &'static Commands,
    server: Server,
    events: Vec<Event>,
    /// Client of each connection slot of the transport.
    by_conn: Vec<ClientKey>,
    /// The links that were dialled: few, and none of them a client.
    by_link: HashMap<ConnId, LinkKey>,
    /// Clients with bytes to parse.
    ready: Vec<ClientKey>,
    /// Clients whose peer is gone.
    hung_up: Vec<ClientKey>,
    /// Clients held back by a pause; here and below by slot and number, as a slot may be another's by now.
    paused: Vec<(ClientKey, u64)>,
    /// Clients held back until a long command has changed the keys they use.
    behind_held_keys: Vec<(ClientKey, u64)>,
    /// Clients whose long command begins when fewer are under way.
    waiting_to_begin: VecDeque<(ClientKey, u64)>,
    /// How often held keys had been let go when the former were last looked at.
    holds_let_go: u64,
    /// More clients went together than are closed in one turn.
    has_more_to_close: bool,
    /// Clients whose last command is done when a snapshot is.
    waiting_for_save: Vec<(ClientKey, u64)>,
    /// Clients whose command is done in slices: the next to go on first.
    sliced: VecDeque<(ClientKey, u64)>,
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
    stop: Arc<AtomicUsize>,
    on_wake: Option<WakeHook>,
    on_settings: Option<SettingsHook<T>>,
}

impl<T: Transport> Executor<T> {
    /// An executor over a transport that listens already. `stop` ends it from outside: the number of the
    /// signal that it stands for, 0 while there is none.
    #[must_use]
    pub fn new(transport: T, commands: &'static Commands, server: Server, stop: Arc<AtomicUsize>) -> Self {
        let mut executor = Executor {
            transport,
            commands,
            server,
            events: Vec::with_capacity(1024),
            by_conn: Vec::new(),
            by_link: HashMap::new(),
            ready: Vec::new(),
            hung_up: Vec::new(),
            paused: Vec::new(),
            behind_held_keys: Vec::new(),
            waiting_to_begin: VecDeque::new(),
            holds_let_go: 0,
            has_more_to_close: false,
            waiting_for_save: Vec::new(),
            sliced: VecDeque::new(),
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
        executor.transport.set_spinning(executor.server.settings().busy_poll_us != 0);
        executor.follow_client_limits();
        executor.server.data_mut().mark_startup();
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

    /// The server it runs.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The same, to change it between two turns.
    pub fn server_mut(&mut self) -> &mut Server {
        &mut self.server
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
        self.server.persistence_mut().load_begin()?;
        loop {
            let until_ns = self.server.clock().mono_ns() + LOAD_SLICE_NS;
            if !self.server.persistence_mut().load_step(until_ns)? {
                break;
            }
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
        self.server.tick();
        let begin_ns = self.server.now().mono_ns;
        self.arrived_ns = if self.polled_ns > 0 { self.polled_ns } else { begin_ns };
        self.polled_ns = begin_ns;
        // What spinning found comes first.
        if self.events.is_empty() {
            self.transport.poll(&mut self.events);
            if !self.events.is_empty() {
                // Taking it may have been work; parsing begins here.
                let _ = self.server.clock().mono_ns();
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
        if self.server.has_requests() {
            self.act();
        }
        if self.server.links().has_work() {
            worked = true;
            self.serve_links();
        }
        self.flush(executed);
        self.record_latencies();
        let more = self.housekeeping();
        match self.stop.load(Ordering::Relaxed) {
            0 => {}
            signal => self.end_by(signal as i32),
        }
        let busy_ns = (worked || more).then(|| {
            self.last_busy_ns = self.server.clock().mono_ns();
            self.last_busy_ns - begin_ns
        });
        self.server.stats_mut().turns_mut().count_turn(busy_ns);
        worked || more || !self.ready.is_empty() || !self.batch.is_done()
    }

    /// Spins or sleeps until there may be something to do.
    fn idle(&mut self) {
        let spin_us = self.server.settings().busy_poll_us;
        let now_ns = self.server.now().mono_ns;
        if spin_us < 0 || now_ns.saturating_sub(self.last_busy_ns) < spin_us as u64 * 1000 {
            self.spin();
            return;
        }
        let mut sleep_ns = self.cron_at_ns.saturating_sub(now_ns).max(1000);
        let deadlines = [
            self.server.data_mut().next_deadline_ms(),
            self.server.clients().next_wait_deadline_ms(),
            self.server.links().next_deadline_ms(),
        ];
        if let Some(deadline_ms) = deadlines.into_iter().flatten().min() {
            let left_us = deadline_ms.saturating_mul(1000).saturating_sub(self.server.now().unix_us).max(0) as u64;
            sleep_ns = sleep_ns.min(left_us.saturating_mul(1000));
        }
        if let Some(pause) = self.server.clients().pause() {
            let left_ms = pause.until_ms.saturating_sub(self.server.now().unix_ms).max(0) as u64;
            sleep_ns = sleep_ns.min(left_ms.saturating_mul(1_000_000));
        }
        self.server.stats_mut().turns_mut().parks += 1;
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

    /// A signal ends the server, in the way that the settings say.
    #[cold]
    fn end_by(&mut self, signal: i32) {
        let settings = self.server.settings();
        let (name, way) = match signal {
            libc::SIGINT => ("SIGINT", settings.shutdown_on_sigint),
            _ => ("SIGTERM", settings.shutdown_on_sigterm),
        };
        tracing::info!("Received {name} scheduling shutdown...");
        let is_saved = self.server.persistence_mut().before_shutdown(way.save).is_ok();
        if is_saved || way.force {
            if !is_saved {
                tracing::warn!("Error trying to save the DB. Exit anyway.");
            }
            self.ending.get_or_insert(Ending::Shutdown);
        } else {
            tracing::warn!("Error trying to save the DB, can't exit.");
            self.stop.store(0, Ordering::Relaxed);
        }
    }

    fn act(&mut self) {
        for request in self.server.take_requests() {
            match request {
                Request::FollowSettings(old) => {
                    let new = self.server.settings();
                    self.transport.set_spinning(new.busy_poll_us != 0);
                    if let Some(hook) = &mut self.on_settings {
                        hook(&mut self.transport, &old, new);
                    }
                    self.follow_client_limits();
                }
                Request::Connect(key) => self.dial(key),
                Request::Shutdown => self.ending = Some(Ending::Shutdown),
                Request::Exit(status) => self.ending = Some(Ending::Exit(status)),
            }
        }
    }

    /// Sends what is still to be sent and lets all clients go.
    fn finish(&mut self) {
        self.server.persistence_mut().end();
        for key in self.server.clients().keys() {
            self.remove_client(key, Close::Drain);
        }
        self.close_links();
        self.transport.flush();
        for _ in 0..100 {
            self.transport.poll(&mut self.events);
            self.events.clear();
        }
    }
}
