//! What the transport reports: who came, who sent something, who is gone; and what was sent, parsed into the
//! batch.

use tercel_resp::request::Limits;
use tercel_transport::{Close, ConnId, Event, Hangup, Transport};

use super::Executor;
use super::batch::ParseBounds;
use tercel_core::clients::ClientKey;
use tercel_core::server::Parts;
use tercel_core::stats::Phase;

/// What parsing a batch took, and how many commands of each kind of peer arrived for it and were parsed.
#[derive(Default)]
pub(super) struct ParseTimes {
    arrive_ns: u64,
    parse_ns: u64,
    fresh: [u64; 2],
    all: [u64; 2],
}

impl<T: Transport> Executor<T> {
    fn client_of(&self, conn: ConnId) -> Option<ClientKey> {
        let key = *self.by_conn.get(conn.index as usize)?;
        let client = self.server.clients().get(key)?;
        (client.session.conn() == conn).then_some(key)
    }

    pub(super) fn handle_events(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            match event {
                Event::Accepted(conn) => self.accept(conn),
                Event::Connected(conn) => {
                    if !self.link_event(&event) {
                        self.transport.close(conn, Close::Abort);
                    }
                }
                Event::Readable(conn) => {
                    if let Some(key) = self.client_of(conn) {
                        let now_ns = self.server.now().mono_ns;
                        if let Some(client) = self.server.clients_mut().get_mut(key) {
                            client.session.input.heard(now_ns, self.arrived_ns);
                        }
                        self.make_ready(key);
                    } else {
                        self.link_event(&event);
                    }
                }
                Event::Drained(conn) => {
                    if let Some(key) = self.client_of(conn)
                        && let Some(client) = self.server.clients_mut().get_mut(key)
                    {
                        client.session.output.drained();
                        self.account(key);
                    } else {
                        self.link_event(&event);
                    }
                }
                Event::Hangup(conn, why) => {
                    if let Some(key) = self.client_of(conn) {
                        if let Hangup::Error(errno) = why {
                            tracing::debug!("Reading from client: error {errno}");
                        }
                        if let Some(client) = self.server.clients_mut().get_mut(key) {
                            client.session.input.hang_up();
                        }
                        self.hung_up.push(key);
                    } else if !self.link_event(&event) {
                        self.transport.close(conn, Close::Abort);
                    }
                }
                Event::AcceptError(errno) => {
                    tracing::warn!("Error accepting a client connection: {}", std::io::Error::from_raw_os_error(errno));
                }
                Event::Wake => {
                    if let Some(hook) = &mut self.on_wake {
                        hook(&self.server);
                    }
                }
            }
        }
        self.events = events;
    }

    pub(super) fn make_ready(&mut self, key: ClientKey) {
        if let Some(client) = self.server.clients_mut().get_mut(key)
            && client.session.input.queue()
        {
            self.ready.push(key);
        }
    }

    pub(super) fn parse_ready(&mut self) {
        let settings = self.server.settings();
        let bounds = ParseBounds {
            limits: Limits { bulk_len_max: settings.proto_max_bulk_len.0, ..Limits::default() },
            client_commands_max: settings.batch_client_commands_max as usize,
            query_len_max: settings.client_query_buffer_limit.0 as usize,
        };
        let commands_max = settings.batch_commands_max as usize;
        let timed = settings.latency_tracking;
        let table = &self.commands.table;
        let Parts { data, clients, stats, clock, .. } = self.server.parts();
        let begin_ns = clock.latest_ns();
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
            let Some(client) = clients.get_mut(key) else { continue };
            let (caller, session) = (&client.caller, &mut client.session);
            session.input.set_queued(false);
            if session.output.closing().is_some() {
                continue;
            }
            let promised = session.input.promised();
            self.batch.parse_client(caller.db, session, &mut self.transport, data.keyspace(), table, &bounds);
            let parsed = (self.batch.commands.len() - parsed_before) as u64;
            all[caller.kind as usize] += parsed;
            let arrived_ns = session.input.arrived_ns();
            if arrived_ns == self.arrived_ns {
                fresh[caller.kind as usize] += parsed;
            } else if timed && parsed > 0 {
                stats.record_phase(Phase::Arrive, caller.kind, begin_ns.saturating_sub(arrived_ns), parsed);
            }
            data.set_untouched(promised, session.input.promised());
            if self.clients_memory_max > 0 {
                to_account.push(key);
            }
        }
        self.ready.drain(..taken);
        // Also where executing begins.
        let parse_ns = clock.mono_ns() - begin_ns;
        if timed && !self.batch.commands.is_empty() {
            let arrive_ns = begin_ns.saturating_sub(self.arrived_ns);
            self.parsing = ParseTimes { arrive_ns, parse_ns, fresh, all };
        }
        if self.batch.keys_len() > 1 {
            stats.turns_mut().prefetch_batches += 1;
        }
        for key in to_account {
            self.account(key);
        }
    }

    /// Puts what commands and parsing took into the histograms, once the replies are on their way.
    pub(super) fn record_latencies(&mut self) {
        let stats = self.server.stats_mut();
        stats.settle();
        if self.parsing.all == [0; 2] {
            return;
        }
        let ParseTimes { arrive_ns, parse_ns, fresh, all } = std::mem::take(&mut self.parsing);
        stats.record_phases(Phase::Arrive, arrive_ns, fresh);
        stats.record_phases(Phase::Parse, parse_ns, all);
    }
}
