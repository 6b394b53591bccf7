//! Clients as CLIENT LIST shows them.

use tercel_core::clients::subscriptions::Kind;
use tercel_core::clients::{Caller, Closing, Session};
use tercel_core::command::reply::Reply;
use tercel_core::dispatch::Context;
use tercel_core::server::Server;

/// A client that is looked at.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) caller: &'a Caller,
    pub(super) session: &'a Session,
    pub(super) out: &'a Reply,
}

/// The letters of CLIENT LIST's `flags`.
pub(super) fn flag_letters(client: Shown<'_>) -> String {
    let Shown { caller, session, .. } = client;
    let output = &session.output;
    let letters = [
        (session.is_monitor(), 'O'),
        (session.is_subscriber(), 'P'),
        (caller.keys_wait().is_some(), 'b'),
        (session.transaction.is_open(), 'x'),
        (session.transaction.is_broken(), 'd'),
        (output.closing() == Some(Closing::AfterReply), 'c'),
        (output.closing() == Some(Closing::Now), 'A'),
        (matches!(session.peer(), tercel_transport::Peer::Unix { .. }), 'U'),
        (session.modes.no_evict, 'e'),
        (caller.no_touch, 'T'),
        (session.modes.import_source, 'I'),
    ];
    let text: String = letters.iter().filter(|(on, _)| *on).map(|(_, letter)| letter).collect();
    if text.is_empty() { "N".to_owned() } else { text }
}

/// One line of CLIENT LIST.
pub(super) fn describe(server: &Server, client: Shown<'_>) -> String {
    let Shown { caller, session, out } = client;
    let seconds = |since_ns: u64| server.now().mono_ns.saturating_sub(since_ns) / 1_000_000_000;
    let (names, transaction, subscriptions) = (&session.names, &session.transaction, session.subscriptions());
    let held = session.output.held;
    // What will not run anyway counts as dropped.
    let is_broken = transaction.is_broken();
    let queued = transaction.queued().map_or(-1, |len| if is_broken { 0 } else { len as i64 });
    format!(
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} capa={} db={} sub={} psub={} ssub={} multi={} watch={} \
         qbuf={} qbuf-free=0 argv-mem={} multi-mem={} rbs={} rbp={} obl={} oll={} omem={} tot-mem={} events={} cmd={} user=default \
         redir=-1 resp={} lib-name={} lib-ver={} tot-net-in={} tot-net-out={} tot-cmds={} transport={}",
        session.id(),
        session.address(),
        session.local_address(),
        held.fd,
        names.name,
        seconds(session.created_ns()),
        seconds(session.input.active_ns()),
        flag_letters(client),
        if session.modes.capa_redirect { "r" } else { "" },
        caller.db,
        subscriptions.len(Kind::Channel),
        subscriptions.len(Kind::Pattern),
        subscriptions.len(Kind::Shard),
        queued,
        if is_broken { 0 } else { transaction.watched().len() },
        held.received_len,
        session.input.arguments_memory(),
        transaction.queue_memory(),
        out.capacity(),
        out.len(),
        out.len(),
        usize::from(held.unsent_len > 0),
        held.unsent_memory,
        session.own_memory() + held.memory + out.memory(),
        if held.unsent_len > 0 { "rw" } else { "r" },
        session.last_command().map_or("NULL", |id| server.table().spec(id).name),
        if out.is_resp3() { 3 } else { 2 },
        names.lib_name,
        names.lib_ver,
        session.input.received_total(),
        session.output.replied_total(),
        session.commands_total(),
        session.transport(),
    )
}

/// Calls `visit` for each client in order of number, `own`, whose command runs, included.
pub(super) fn for_each(cx: &Context<'_>, own: &Session, mut visit: impl FnMut(Shown<'_>)) {
    let clients = cx.server.clients();
    for key in clients.keys() {
        if key == own.key() {
            visit(Shown { caller: cx.caller, session: own, out: cx.out });
        } else if let Some(client) = clients.get(key) {
            visit(Shown { caller: &client.caller, session: &client.session, out: &client.out });
        }
    }
}
