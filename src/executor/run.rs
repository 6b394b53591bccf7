//! The batch executed: one client's run after the other, until it is done or its time is up; and clients put
//! aside before a command that has to wait.

use tercel_transport::Transport;

use super::Executor;
use tercel_core::clients::SLICE_NS;
use tercel_core::clients::{Client, ClientKey, Closing, Wait, limits};
use tercel_core::command::spec::flags;
use tercel_core::dispatch::{self, Flow, SLICED_MAX};
use tercel_core::server::Parts;

/// Commands between two looks at the clock within a batch.
const CLOCK_EVERY: usize = 8;
/// A reply in pieces is so many bytes ahead of what its client has taken, and one piece more.
const STREAM_BYTES_AHEAD: usize = 256 << 10;
/// A batch ends, to go on in the next turn, once its commands have evicted for this long.
const EVICT_NS_MAX: u64 = 100_000;

/// How long a batch may take, and how many commands it has executed.
struct Budget {
    begin_ns: u64,
    max_ns: u64,
    executed: usize,
}

impl<T: Transport> Executor<T> {
    /// Executes the batch until it is done or its time is up. Returns commands executed, by kind of peer.
    pub(super) fn execute(&mut self) -> [u64; 2] {
        let begin_ns = self.server.clock().latest_ns();
        let settings = self.server.settings();
        let mut budget = Budget { begin_ns, max_ns: settings.batch_us_max as u64 * 1000, executed: 0 };
        let width = settings.prefetch_batch_max_size as usize;
        let mut by_kind = [0; 2];
        while self.batch.next_run < self.batch.runs.len() {
            let run = &self.batch.runs[self.batch.next_run];
            let (key, client_id) = (run.client, run.client_id);
            let taken = self.server.clients_mut().take(key);
            let Some(mut client) = taken else {
                self.next_run();
                continue;
            };
            if client.session.id() != client_id {
                self.server.clients_mut().put(key, client);
                self.next_run();
                continue;
            }
            client.out.lend(|| self.transport.lease());
            self.enter(key, &mut client);
            let before = budget.executed;
            let finished = self.execute_run(&mut client, &mut budget, width);
            by_kind[client.caller.kind as usize] += (budget.executed - before) as u64;
            let has_output = !client.out.is_empty() || client.session.output.closing().is_some();
            if !has_output {
                client.out.hand_over(|buf| Self::give_back(&mut self.transport, buf));
            }
            let clients = self.server.clients_mut();
            clients.leave();
            clients.put(key, client);
            if has_output {
                clients.queue_flush(key);
            } else {
                self.account(key);
            }
            if !finished {
                break;
            }
        }
        if self.server.clients().any_woken() {
            self.release_woken();
        }
        by_kind
    }

    /// Makes a client the one whose commands run, with what it may be owed beyond what it is owed already.
    fn enter(&mut self, key: ClientKey, client: &mut Client) {
        let session = &client.session;
        // It may have taken some of it since the last flush.
        let counted = if session.output.held.unsent_len == 0 {
            0
        } else {
            limits::counted(self.transport.unsent(session.conn()), self.transport.unsent_memory(session.conn()))
        };
        let clients = self.server.clients_mut();
        let room = clients.room(session, counted);
        client.out.set_room(room);
        clients.enter(key, client.out.version, room);
    }

    fn next_run(&mut self) {
        self.batch.next_run += 1;
        if let Some(run) = self.batch.runs.get(self.batch.next_run) {
            self.batch.next_command = run.commands.0;
        }
    }

    /// Whether the batch is to end for the time it has taken.
    fn is_over(&self, budget: &Budget) -> bool {
        self.has_evicted_long() || self.server.clock().mono_ns() - budget.begin_ns > budget.max_ns
    }

    fn has_evicted_long(&self) -> bool {
        self.server.data().turn_evict_ns() > EVICT_NS_MAX
    }

    /// Executes one client's run from where it stands. False if the batch's time is up.
    fn execute_run(&mut self, client: &mut Client, budget: &mut Budget, width: usize) -> bool {
        let at_run = self.batch.next_run;
        let (first, last) = self.batch.runs[at_run].commands;
        let mut at = self.batch.next_command.max(first);
        let conn = client.session.conn();
        let several_keys = self.batch.keys_len() > 1;
        let mut flow = Flow::Done;
        while at < last && client.session.output.closing().is_none() {
            if several_keys {
                let Parts { data, stats, .. } = self.server.parts();
                stats.turns_mut().prefetch_keys += self.batch.prefetch(at, data.keyspace(), width) as u64;
            }
            let mut does = self.batch.commands[at].id.map_or(0, |id| self.commands.table.spec(id).flags);
            if does & flags::RUNS_QUEUE != 0 {
                does |= client.session.transaction.flags();
            }
            if does & flags::SHOWS_CLIENTS != 0 {
                self.refresh_all_held();
                Self::refresh_held(&self.transport, &mut client.session);
                // This command, and what was done before it, is not held any more.
                let held = &mut client.session.output.held;
                held.received_len = held.received_len.saturating_sub(self.batch.commands[at].end);
            }
            let input = self.transport.received(conn);
            let command = &self.batch.commands[at];
            let args = self.batch.args(at, input);
            flow = dispatch::process(self.commands, &mut self.server, client, command.id, &args, command.len);
            if flow != Flow::Done {
                break;
            }
            client.session.input.count_received(command.len);
            at += 1;
            budget.executed += 1;
            self.close_if_over(client);
            if client.caller.wait.is_some() {
                break;
            }
            let over = if at.is_multiple_of(CLOCK_EVERY) { self.is_over(budget) } else { self.has_evicted_long() };
            if over && at < last {
                self.batch.next_command = at;
                return false;
            }
        }
        if flow != Flow::Done {
            self.set_aside(client, at);
            self.hold_back(client, flow);
        } else if client.caller.wait.is_some() && client.session.output.closing().is_none() {
            self.set_aside(client, at);
            self.put_off(client);
        } else {
            self.end_run(client, at_run);
        }
        self.next_run();
        self.batch.is_done() || budget.executed == 0 || !self.is_over(budget)
    }

    /// A run is done: what came behind it is answered, parsed next, or waited for.
    fn end_run(&mut self, client: &mut Client, at_run: usize) {
        let conn = client.session.conn();
        let run = &mut self.batch.runs[at_run];
        if client.session.output.closing().is_none() {
            if let Some(error) = run.error.take() {
                dispatch::protocol_error(&mut self.server, client, error);
            } else if run.too_large {
                self.server.clients_mut().count_query_over();
                client.session.output.close(Closing::Now);
                tracing::warn!("Closing client {} that reached max query buffer length", client.session.address());
            }
        }
        let run = &self.batch.runs[at_run];
        let end = run.tail_end;
        let received_len = self.transport.received(conn).len();
        let session = &mut client.session;
        // What is left may fill its buffer without being a whole command: it is to be looked at again, or
        // nothing more would ever be received.
        let fills = received_len.saturating_sub(end) >= session.input.receive_limit();
        let more = run.more || received_len > run.seen_len || fills;
        self.transport.consume(conn, end);
        session.output.held.received_len = received_len.saturating_sub(end);
        let goes_on = more && session.output.closing().is_none();
        session.input.set_queued(goes_on);
        if goes_on {
            self.ready.push(session.key());
        }
        let receive_limit = session.receive_limit_at_rest();
        if session.input.receive_limit() != receive_limit && !session.input.is_amid_command() {
            session.input.set_receive_limit(receive_limit);
            self.transport.set_receive_limit(conn, receive_limit);
        }
    }

    /// Puts a client aside before command `at`: what was parsed from there on is parsed again when it goes on.
    fn set_aside(&mut self, client: &mut Client, at: usize) {
        let run = &self.batch.runs[self.batch.next_run];
        let (first, last) = run.commands;
        let done_end = if at > first { self.batch.commands[at - 1].end } else { 0 };
        let owned = if at < last { self.batch.commands[at].owned.take() } else { None };
        // Its bytes may be gone already.
        let kept = owned.filter(|_| self.batch.commands[at].end == 0);
        let session = &mut client.session;
        self.transport.consume(session.conn(), done_end);
        let promised = session.input.hold(kept.map(|owned| *owned));
        self.server.data_mut().set_untouched(promised, 0);
    }

    /// Lists a client, which is held back already, with those that wait for the same.
    fn put_off(&mut self, client: &mut Client) {
        let session = &mut client.session;
        match client.caller.wait {
            Some(Wait::Saved) => {
                session.output.withhold(&mut client.out);
                self.waiting_for_save.push((session.key(), session.id()));
            }
            Some(Wait::Slices(_)) => self.sliced.push_back((session.key(), session.id())),
            // It is woken by whoever gives it what it waits for.
            Some(Wait::Keys(_) | Wait::Turn) | None => {}
        }
    }

    /// A slice of the long command whose turn it is; false if none may go on.
    pub(super) fn run_slice(&mut self) -> bool {
        // One that will change something does not do so during a pause.
        let pauses = self.server.pause().is_some();
        for _ in 0..self.sliced.len() {
            let Some((key, id)) = self.sliced.pop_front() else { break };
            if self.is_slow(key) {
                self.sliced.push_back((key, id));
                continue;
            }
            let writes = |client: &mut Client| {
                client.caller.sliced().is_some_and(|sliced| self.commands.table.spec(sliced.id).is(flags::WRITE))
            };
            if pauses && self.server.clients_mut().get_mut(key).is_some_and(writes) {
                self.sliced.push_back((key, id));
                continue;
            }
            self.run_slice_of(key, id);
            return true;
        }
        false
    }

    /// Whether a client has so much of a reply in pieces still to take that it gets no more for now. It is told of
    /// when it has taken all.
    fn is_slow(&self, key: ClientKey) -> bool {
        let Some(client) = self.server.clients().get(key) else { return false };
        client.caller.is_streaming()
            // One that is gone takes no more: what it has sent is done all the same.
            && !client.session.input.has_hung_up()
            && self.transport.unsent(client.session.conn()) > STREAM_BYTES_AHEAD
    }

    fn run_slice_of(&mut self, key: ClientKey, id: u64) {
        let Some(mut client) = self.server.clients_mut().take(key) else { return };
        let is_there = client.session.id() == id;
        if is_there {
            client.out.lend(|| self.transport.lease());
            self.enter(key, &mut client);
            let until_ns = self.server.clock().mono_ns() + SLICE_NS;
            if dispatch::resume(self.commands, &mut self.server, &mut client, until_ns) {
                client.session.input.release();
            } else {
                self.sliced.push_back((key, id));
            }
            self.close_if_over(&mut client);
            self.server.clients_mut().leave();
        }
        let goes_on = is_there && !client.session.input.is_held();
        if !goes_on && client.out.is_empty() {
            client.out.hand_over(|buf| Self::give_back(&mut self.transport, buf));
        }
        let has_output = !client.out.is_empty();
        self.server.clients_mut().put(key, client);
        if goes_on || has_output {
            self.server.clients_mut().queue_flush(key);
        }
        if goes_on {
            self.make_ready(key);
        } else {
            self.account(key);
        }
    }

    /// A client that was answered more than it may be owed is closed.
    fn close_if_over(&mut self, client: &mut Client) {
        if client.out.is_over() && !client.session.output.closes_now() {
            self.server.clients_mut().count_output_over(&client.session);
            client.session.output.close(Closing::Now);
        }
    }

    /// Lets clients go on that waited for keys and were answered.
    pub(super) fn release_woken(&mut self) {
        let now_ns = self.server.now().mono_ns;
        for (key, id) in self.server.clients_mut().take_woken() {
            let clients = self.server.clients_mut();
            let Some(client) = clients.get_mut(key).filter(|client| client.session.id() == id) else { continue };
            client.session.input.answered(now_ns);
            // What it was given may be more than one slice answers.
            let goes_on = !matches!(client.caller.wait, Some(Wait::Slices(_)));
            if goes_on {
                client.session.input.release();
            } else {
                self.sliced.push_back((key, id));
            }
            if client.out.is_over() && !client.session.output.closes_now() {
                clients.output_over(key);
            }
            clients.queue_flush(key);
            if goes_on {
                self.make_ready(key);
            }
        }
    }

    /// Lets clients go on that waited until the data was saved, whatever came of it.
    pub(super) fn release_saved(&mut self) {
        for (key, id) in std::mem::take(&mut self.waiting_for_save) {
            let clients = self.server.clients_mut();
            let Some(client) = clients.get_mut(key).filter(|client| client.session.id() == id) else { continue };
            client.caller.wait = None;
            client.session.input.release();
            // Messages came meanwhile; they may be on their way already.
            client.session.output.give_withheld(&mut client.out);
            clients.queue_flush(key);
            self.make_ready(key);
        }
    }

    /// Lists a client with those that are held back for the same reason.
    fn hold_back(&mut self, client: &Client, why: Flow) {
        let listed = (client.session.key(), client.session.id());
        match why {
            Flow::Paused => self.paused.push(listed),
            Flow::KeysHeld => self.behind_held_keys.push(listed),
            Flow::TooMany => self.waiting_to_begin.push_back(listed),
            Flow::Done => {}
        }
    }

    /// Lets clients go on that a pause held back.
    pub(super) fn release_paused(&mut self) {
        for (key, id) in std::mem::take(&mut self.paused) {
            self.release(key, id);
        }
    }

    /// Lets clients go on that waited for a long command to end; true if any did.
    pub(super) fn release_waiting(&mut self) -> bool {
        let let_go = self.server.data().holds_let_go();
        let mut listed = Vec::new();
        if let_go != std::mem::replace(&mut self.holds_let_go, let_go) {
            listed.append(&mut self.behind_held_keys);
        }
        // One a turn: it shows only then whether there is a place for it, and for the next.
        if self.server.clients().sliced() < SLICED_MAX {
            listed.extend(self.waiting_to_begin.pop_front());
        }
        for (key, id) in &listed {
            self.release(*key, *id);
        }
        !listed.is_empty()
    }

    fn release(&mut self, key: ClientKey, id: u64) {
        let Some(mut client) = self.server.clients_mut().take(key) else { return };
        if client.session.id() == id {
            client.caller.wait = None;
            if let Some(owned) = client.session.input.release() {
                self.enter(key, &mut client);
                let args = owned.args();
                let id = self.commands.table.resolve(&args);
                let flow = dispatch::process(self.commands, &mut self.server, &mut client, id, &args, args.bytes_len());
                if flow != Flow::Done {
                    let promised = client.session.input.hold(Some(owned));
                    self.server.data_mut().set_untouched(promised, 0);
                    self.hold_back(&client, flow);
                } else {
                    client.session.input.count_received(args.bytes_len());
                    if client.caller.wait.is_some() {
                        client.session.input.hold(None);
                        self.put_off(&mut client);
                    }
                }
                self.close_if_over(&mut client);
                self.server.clients_mut().leave();
            }
        }
        let goes_on = client.session.id() == id && !client.session.input.is_held();
        let clients = self.server.clients_mut();
        clients.put(key, client);
        clients.queue_flush(key);
        if goes_on {
            self.make_ready(key);
        }
    }
}
