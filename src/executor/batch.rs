//! Commands on their way to execution: parsed in place, with the hashes of their keys, grouped in
//! runs of one client each. Offsets count from the start of a client's unconsumed bytes, which
//! stay as they are until its run is done, over every transport: a key must not change between its hash and
//! its use.

use tercel_engine::{Hash, Keyspace};
use tercel_resp::request::{ArgStep, Limits, ProtocolError, RequestParser, Span, Step};
use tercel_transport::Transport;

use tercel_core::clients::input::{Assembly, Filling};
use tercel_core::clients::limits::UNAUTHENTICATED_QUERY_BYTES_MAX;
use tercel_core::clients::{ClientKey, Session};
use tercel_core::command::spec::flags;
use tercel_core::command::{Args, CommandId, CommandTable, LastFound, OwnedCommand};

/// Keys of one command that are hashed ahead and prefetched.
const KEYS_AHEAD_MAX: usize = 64;

/// Arguments of a batch, beyond which it takes no further command; one command may have more.
const SPANS_MAX: usize = 64 * 1024;
/// Spans whose storage a batch keeps for the next one.
const SPANS_KEPT_MAX: usize = 2 * SPANS_MAX;

/// One command.
pub(super) struct Parsed {
    /// What it is, if it is known.
    pub id: Option<CommandId>,
    spans: (u32, u32),
    hashes: (u32, u32),
    key_first: u32,
    key_step: u32,
    /// Offset behind it.
    pub end: usize,
    /// Bytes it took.
    pub len: usize,
    /// Arguments that do not lie in the received bytes.
    pub owned: Option<Box<OwnedCommand>>,
}

/// The commands of one client in this batch.
pub(super) struct Run {
    /// The client's slot.
    pub client: ClientKey,
    /// Its number, in case the slot is somebody else's by now.
    pub client_id: u64,
    /// Its commands: first and behind the last.
    pub commands: (usize, usize),
    /// Bytes to drop when all are done.
    pub tail_end: usize,
    /// Unconsumed bytes when it was parsed.
    pub seen_len: usize,
    /// There is more to parse at once.
    pub more: bool,
    /// What came behind them cannot be parsed.
    pub error: Option<ProtocolError>,
    /// It sent more of one command than it may.
    pub too_large: bool,
}

/// A batch, and how far it has been executed.
#[derive(Default)]
pub(super) struct Batch {
    pub runs: Vec<Run>,
    pub commands: Vec<Parsed>,
    spans: Vec<Span>,
    hashes: Vec<Hash>,
    /// Database of each hash's client, for prefetching.
    dbs: Vec<u32>,
    /// Next run.
    pub next_run: usize,
    /// Next command within it.
    pub next_command: usize,
    /// Hashes prefetched so far.
    prefetched: usize,
    last_found: LastFound,
}

/// Bounds of parsing.
#[derive(Clone, Copy)]
pub(super) struct ParseBounds {
    pub limits: Limits,
    pub client_commands_max: usize,
    pub query_len_max: usize,
}

impl Batch {
    /// Whether everything in it was executed.
    pub(super) fn is_done(&self) -> bool {
        self.next_run >= self.runs.len()
    }

    /// Whether it takes no further command.
    pub(super) fn is_full(&self, commands_max: usize) -> bool {
        self.commands.len() >= commands_max || self.spans.len() >= SPANS_MAX
    }

    /// Empties it, keeping its storage, but not all of what one command of very many arguments took.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.commands.clear();
        self.spans.clear();
        self.spans.shrink_to(SPANS_KEPT_MAX);
        self.hashes.clear();
        self.dbs.clear();
        self.next_run = 0;
        self.next_command = 0;
        self.prefetched = 0;
    }

    /// The arguments of a command whose received bytes are `input`.
    #[inline]
    pub(super) fn args<'a>(&'a self, at: usize, input: &'a [u8]) -> Args<'a> {
        let command = &self.commands[at];
        if let Some(owned) = &command.owned {
            return owned.args();
        }
        let spans = &self.spans[command.spans.0 as usize..command.spans.1 as usize];
        let hashes = &self.hashes[command.hashes.0 as usize..command.hashes.1 as usize];
        Args::new(input, spans, hashes, command.key_first as usize, command.key_step as usize)
    }

    /// Keys hashed in this batch.
    pub(super) fn keys_len(&self) -> usize {
        self.hashes.len()
    }

    /// Touches the memory of the next `width` keys, stage by stage, if command `at` reaches them.
    #[inline]
    pub(super) fn prefetch(&mut self, at: usize, keyspace: &Keyspace, width: usize) -> usize {
        let reached = self.commands[at].hashes.1 as usize;
        if reached <= self.prefetched || width < 2 {
            return 0;
        }
        let from = self.prefetched.max(self.commands[at].hashes.0 as usize);
        let to = (from + width).max(reached).min(self.hashes.len());
        let keys = || self.hashes[from..to].iter().zip(&self.dbs[from..to]);
        for (hash, db) in keys() {
            keyspace.db(*db as usize).prefetch_bucket(*hash);
        }
        for (hash, db) in keys() {
            keyspace.db(*db as usize).prefetch_entry(*hash);
        }
        for (hash, db) in keys() {
            keyspace.db(*db as usize).prefetch_value(*hash);
        }
        self.prefetched = to;
        to - from
    }

    /// Parses what a client that uses database `db` has sent. Adds a run unless there is nothing to do.
    pub(super) fn parse_client(
        &mut self,
        db: usize,
        session: &mut Session,
        transport: &mut impl Transport,
        keyspace: &Keyspace,
        table: &CommandTable,
        bounds: &ParseBounds,
    ) {
        let first = self.commands.len();
        let mut run = Run {
            client: session.key(),
            client_id: session.id(),
            commands: (first, first),
            tail_end: 0,
            seen_len: 0,
            more: false,
            error: None,
            too_large: false,
        };
        let conn = session.conn();
        let limits = Limits { auth_required: !session.is_authenticated(), ..bounds.limits };
        let query_len_max = if session.is_stranger() {
            bounds.query_len_max.min(UNAUTHENTICATED_QUERY_BYTES_MAX)
        } else {
            bounds.query_len_max
        };
        if session.input.is_assembling() {
            match assemble(session, transport, &limits, query_len_max) {
                Assembled::Command(owned, len) => self.push_owned(table, owned, 0, len),
                Assembled::Waiting => return,
                Assembled::Error(error) => run.error = Some(error),
                Assembled::TooLarge => run.too_large = true,
            }
        }
        let input = transport.received(conn);
        run.seen_len = input.len();
        let mut offset = 0;
        while run.error.is_none() && !run.too_large {
            if self.commands.len() - first >= bounds.client_commands_max
                || (self.commands.len() > first && self.spans.len() >= SPANS_MAX)
                || self.decides_parsing(table, first)
            {
                run.more = offset < input.len();
                break;
            }
            let rest = &input[offset..];
            if rest.is_empty() {
                break;
            }
            let spans_from = self.spans.len();
            match session.input.parser().parse(rest, &limits, &mut self.spans) {
                Ok(Step::Command { len }) => {
                    if offset > 0 {
                        for span in &mut self.spans[spans_from..] {
                            span.start += offset as u32;
                        }
                    }
                    offset += len;
                    self.push_spans(table, spans_from, input, offset, len, db, keyspace);
                }
                Ok(Step::Unquoted { len }) => {
                    let mut owned = OwnedCommand::default();
                    for word in session.input.parser().take_unquoted() {
                        owned.push(&word);
                    }
                    offset += len;
                    self.push_owned(table, owned, offset, len);
                }
                Ok(Step::Nothing { len }) => offset += len,
                Ok(Step::Incomplete) => {
                    if rest.len() > query_len_max {
                        run.too_large = true;
                    }
                    break;
                }
                Ok(Step::Big { at, bulk_len }) => {
                    let mut command = OwnedCommand::default();
                    for span in self.spans.drain(spans_from..) {
                        command.push(span.of(rest));
                    }
                    offset += at;
                    let filling = Some(Filling::new(bulk_len));
                    session.input.put_assembly(Box::new(Assembly { command, filling, wire_len: at }));
                    run.more = true;
                    break;
                }
                // What is before it may change what is allowed: then it is looked at again.
                Err(_) if self.commands.len() > first => {
                    self.spans.truncate(spans_from);
                    *session.input.parser() = RequestParser::new();
                    run.more = true;
                    break;
                }
                Err(error) => run.error = Some(error),
            }
        }
        run.tail_end = offset;
        run.commands.1 = self.commands.len();
        if run.commands.0 == run.commands.1 && run.tail_end == 0 && run.error.is_none() && !run.too_large {
            raise_receive_limit(session, transport, query_len_max, run.seen_len);
            return;
        }
        session.input.set_queued(true);
        self.runs.push(run);
    }

    /// Whether the last command of a run that began at `first` may change what the bytes behind it mean.
    #[inline]
    fn decides_parsing(&self, table: &CommandTable, first: usize) -> bool {
        self.commands[first..]
            .last()
            .and_then(|parsed| parsed.id)
            .is_some_and(|id| table.spec(id).is(flags::DECIDES_PARSING))
    }

    fn push_owned(&mut self, table: &CommandTable, owned: OwnedCommand, end: usize, len: usize) {
        let id = table.resolve(&owned.args());
        let hashes = self.hashes.len() as u32;
        self.commands.push(Parsed {
            id,
            spans: (0, 0),
            hashes: (hashes, hashes),
            key_first: 0,
            key_step: 1,
            end,
            len,
            owned: Some(Box::new(owned)),
        });
    }

    #[inline]
    #[allow(clippy::too_many_arguments, reason = "one call, on the way of every command")]
    fn push_spans(
        &mut self,
        table: &CommandTable,
        spans_from: usize,
        input: &[u8],
        end: usize,
        len: usize,
        db: usize,
        keyspace: &Keyspace,
    ) {
        let spans = &self.spans[spans_from..];
        let args = Args::new(input, spans, &[], 0, 1);
        let id = self.last_found.resolve(table, &args);
        let hashes_from = self.hashes.len();
        let (mut key_first, mut key_step) = (0, 1);
        if let Some(spec) = id.and_then(|id| table.spec(id).keys.first())
            && let Some(indexes) = spec.indexes(&args)
        {
            key_first = indexes.first() as u32;
            key_step = indexes.step() as u32;
            for index in indexes.take(KEYS_AHEAD_MAX) {
                self.hashes.push(keyspace.hash(args.get(index)));
                self.dbs.push(db as u32);
            }
        }
        self.commands.push(Parsed {
            id,
            spans: (spans_from as u32, self.spans.len() as u32),
            hashes: (hashes_from as u32, self.hashes.len() as u32),
            key_first,
            key_step,
            end,
            len,
            owned: None,
        });
    }
}

/// A command that fills the buffer without being whole needs a larger one, up to its limit.
fn raise_receive_limit(session: &mut Session, transport: &mut impl Transport, query_len_max: usize, seen_len: usize) {
    let mut limit = session.input.receive_limit();
    // One poll may bring several times the limit; a step that stayed below it would wait for ever.
    while seen_len >= limit / 2 && limit <= query_len_max {
        limit = limit.saturating_mul(2).min(query_len_max.saturating_add(1));
    }
    if limit != session.input.receive_limit() {
        session.input.set_receive_limit(limit);
        transport.set_receive_limit(session.conn(), limit);
    }
}

enum Assembled {
    Command(OwnedCommand, usize),
    Waiting,
    Error(ProtocolError),
    TooLarge,
}

/// Moves received bytes into the large argument they belong to, and reads what follows it.
fn assemble(session: &mut Session, transport: &mut impl Transport, limits: &Limits, query_len_max: usize) -> Assembled {
    let conn = session.conn();
    let Some(mut assembly) = session.input.take_assembly() else { return Assembled::Waiting };
    loop {
        if assembly.memory() > query_len_max.saturating_add(limits.big_bulk_len_min) {
            return Assembled::TooLarge;
        }
        let input = transport.received(conn);
        if let Some(filling) = assembly.filling.as_mut() {
            let Ok(taken) = filling.take(input) else { return Assembled::TooLarge };
            let missing = filling.missing();
            transport.consume(conn, taken);
            assembly.wire_len += taken;
            if missing > 0 {
                break;
            }
            match transport.received(conn) {
                [b'\r', b'\n', ..] => {}
                [] | [b'\r'] => break,
                _ => return Assembled::Error(ProtocolError::InvalidCrlf),
            }
            transport.consume(conn, 2);
            assembly.wire_len += 2;
            assembly.finish_argument();
            session.input.parser().big_done();
            continue;
        }
        match session.input.parser().parse_arg(input, limits) {
            Err(error) => return Assembled::Error(error),
            Ok(ArgStep::Done) => {
                let Assembly { command, wire_len, .. } = *assembly;
                return Assembled::Command(command, wire_len);
            }
            Ok(ArgStep::Incomplete) => break,
            Ok(ArgStep::Arg { span, len }) => {
                assembly.command.push(span.of(input));
                transport.consume(conn, len);
                assembly.wire_len += len;
            }
            Ok(ArgStep::Big { at, bulk_len }) => {
                transport.consume(conn, at);
                assembly.wire_len += at;
                assembly.filling = Some(Filling::new(bulk_len));
            }
        }
    }
    session.input.put_assembly(assembly);
    Assembled::Waiting
}
