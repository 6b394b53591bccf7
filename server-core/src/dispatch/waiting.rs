//! Commands that wait for keys: put to waiting by their handlers, run again when a key holds what they want, and
//! answered that there was nothing when their time is up. Who came first is served first; what one is given may
//! be what the next waits for.

use tercel_engine::Kind;

use super::after::count_and_log;
use super::call::call;
use super::context::{Commands, Context};
use crate::clients::table::Pause;
use crate::clients::{Client, ClientKey, KeysWait, SLICE_NS, Wait};
use crate::command::error::fail;
use crate::command::spec::flags;
use crate::command::{Args, Outcome, OwnedCommand};
use crate::server::Server;

impl Context<'_> {
    /// Lets the command wait until one of the keys among these arguments holds a value of this type, or the
    /// deadline in Unix milliseconds; then its handler is called again. Where nobody may wait, as in a
    /// transaction, there is nothing.
    ///
    /// # Errors
    /// None; a handler's last word.
    pub fn wait_for_keys(
        &mut self,
        args: &Args<'_>,
        keys: impl Iterator<Item = usize>,
        kind: Kind,
        deadline_ms: Option<i64>,
    ) -> Outcome {
        let may_wait = self.caller.may_wait && !self.caller.in_transaction;
        if !may_wait && !self.caller.is_woken {
            self.out.null_array();
            return Ok(());
        }
        let keys = if self.caller.is_woken { Vec::new() } else { keys.map(|index| args.get(index).into()).collect() };
        let mut wait = KeysWait::new(self.caller.db, keys, kind, deadline_ms, self.id);
        if !self.caller.is_woken {
            wait.args = OwnedCommand::from_args(args);
        }
        self.caller.wait = Some(Wait::Keys(Box::new(wait)));
        Ok(())
    }
}

/// Why a client is not to wait any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GiveUp {
    /// Its time is up.
    TimedOut,
    /// Somebody wants it answered with an error.
    Unblocked,
}

/// Clients served between two looks at the clock.
const LOOK_EVERY: usize = 8;

/// Serves those who wait for keys that have changed, and whoever waits for what these are given. If they are very
/// many, the rest is served later, by [`go_on_serving`]; until then nobody else uses these keys.
pub(super) fn serve_waiting(commands: &'static Commands, server: &mut Server) {
    if server.data().holds_changed_awaited() {
        server.data_mut().hold_changed_awaited();
        return;
    }
    go_on_serving(commands, server);
}

/// Serves some of those who are left; true if there are more.
pub fn go_on_serving(commands: &'static Commands, server: &mut Server) -> bool {
    // What a transaction gave may have passed its time before it is over.
    server.see_time();
    if server.data_mut().take_all_awaited_changed() {
        let all: Vec<(usize, Box<[u8]>)> = server.clients().waited_keys().map(|(db, key)| (db, key.into())).collect();
        all.into_iter().for_each(|(db, key)| server.data_mut().add_changed_awaited(db, key));
    }
    let begin_ns = server.clock().mono_ns();
    let mut served = 0;
    while serve_one(commands, server) {
        served += 1;
        if served % LOOK_EVERY == 0 && server.clock().mono_ns() - begin_ns > SLICE_NS {
            server.data_mut().hold_changed_awaited();
            return server.data().has_changed_awaited();
        }
    }
    false
}

/// Serves the next who waits for a key that has changed, or looks at the next key. False if there is none.
fn serve_one(commands: &'static Commands, server: &mut Server) -> bool {
    let Some((db, bytes, turn)) = server.data().first_changed_awaited() else { return false };
    let key = server.data().key(bytes);
    let kind = server.data().peek(db, key).map(|entry| entry.kind());
    // If a long command is about to change it, that is looked at when it has.
    let is_held = server.data().holds_any() && server.data().is_first_changed_held();
    let next = server.clients().next_waiter(db, bytes, turn);
    match (kind, next) {
        (Some(kind), Some((turn, client))) if !is_held => {
            server.data_mut().set_first_changed_turn(turn);
            serve_client(commands, server, client, kind);
        }
        _ => server.data_mut().drop_first_changed_awaited(),
    }
    true
}

fn is_paused(pause: Option<Pause>, writes: bool) -> bool {
    pause.is_some_and(|pause| !pause.writes_only || writes)
}

/// Runs a waiting client's command again, if it waits for a value of this type.
fn serve_client(commands: &'static Commands, server: &mut Server, key: ClientKey, kind: Kind) {
    let pause = server.pause();
    let waits = server.clients().get(key).and_then(|client| client.caller.keys_wait());
    let Some(wait) = waits.filter(|wait| wait.kind == kind) else { return };
    if is_paused(pause, commands.table.spec(wait.id).is(flags::WRITE)) {
        return;
    }
    let Some(mut client) = server.clients_mut().take(key) else { return };
    let room = server.clients().room(&client.session, 0);
    client.out.set_room(room);
    server.clients_mut().enter_inner(key, client.out.version, room);
    run_again(commands, server, key, &mut client);
    server.clients_mut().leave_inner();
    let (id, is_served) = (client.session.id(), client.caller.keys_wait().is_none());
    server.clients_mut().put(key, client);
    if is_served {
        server.clients_mut().wake(key, id);
    }
}

fn run_again(commands: &'static Commands, server: &mut Server, key: ClientKey, client: &mut Client) {
    let Client { caller, out, session } = client;
    let Some(Wait::Keys(wait)) = caller.wait.take() else { return };
    let (mark, reply_from) = (out.mark(), out.len());
    let db = std::mem::replace(&mut caller.db, wait.db);
    caller.is_woken = true;
    // Nobody waits for an answer that nobody wants.
    caller.may_wait = !wait.is_muted;
    let spec = commands.table.spec(wait.id);
    let mut cx = Context {
        server: &mut *server,
        caller: &mut *caller,
        out: &mut *out,
        client: Some(&mut *session),
        id: wait.id,
        spec,
        commands,
    };
    // What it answers is written already.
    let _ = call(&mut cx, &wait.args.args(), wait.request_len);
    (caller.is_woken, caller.may_wait) = (false, true);
    caller.db = db;
    server.close_unit();
    if matches!(caller.wait, Some(Wait::Keys(_))) {
        // Somebody else was quicker: it keeps its place.
        caller.wait = Some(Wait::Keys(wait));
        return;
    }
    server.end_waiting(key, &wait);
    if wait.is_muted {
        out.truncate(mark);
    }
    session.output.count_replied(out.len() - reply_from.min(out.len()));
    server.clients_mut().settle_current(session, out);
}

/// Answers a client that waits for keys that there was nothing for it; false if it does not wait.
pub fn give_up(commands: &'static Commands, server: &mut Server, key: ClientKey, why: GiveUp) -> bool {
    let Some(mut client) = server.clients_mut().take(key) else { return false };
    let Client { caller, out, session } = &mut *client;
    let wait = match caller.wait.take() {
        Some(Wait::Keys(wait)) => wait,
        other => {
            caller.wait = other;
            server.clients_mut().put(key, client);
            return false;
        }
    };
    server.end_waiting(key, &wait);
    let (mark, reply_from) = (out.mark(), out.len());
    match why {
        GiveUp::TimedOut => out.null_array(),
        GiveUp::Unblocked => {
            let error = fail("UNBLOCKED client unblocked via CLIENT UNBLOCK");
            server.stats_mut().record_error(&error.0);
            // It did not fail: it was not let go on, as Valkey counts.
            server.stats_mut().count_rejected(wait.id);
            out.error(&error.0);
        }
    }
    if wait.is_muted {
        out.truncate(mark);
    }
    let reply_len = out.len() - reply_from.min(out.len());
    session.output.count_replied(reply_len);
    let spec = commands.table.spec(wait.id);
    let id = session.id();
    let mut cx = Context { server: &mut *server, caller, out, client: Some(session), id: wait.id, spec, commands };
    count_and_log(&mut cx, &wait.args.args(), 0, false, wait.request_len, reply_len);
    server.clients_mut().put(key, client);
    server.clients_mut().wake(key, id);
    true
}

/// Answers some of those whose time is up; true if there may be more.
pub fn give_up_overdue(commands: &'static Commands, server: &mut Server) -> bool {
    /// As many have one deadline, perhaps, as there are clients.
    const AT_ONCE_MAX: usize = 64;
    let now_ms = server.now().unix_ms;
    for _ in 0..AT_ONCE_MAX {
        let Some(key) = server.clients_mut().take_overdue(now_ms) else { return false };
        give_up(commands, server, key, GiveUp::TimedOut);
    }
    true
}
