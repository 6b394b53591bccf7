//! Effects are enough: random commands run on one server, what they did is told to another, later and in
//! portions, and both have the same data. Time is made by hand, so that a seed is always the same story.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tercel_commands::commands;
use tercel_core::base::clock::ManualTime;
use tercel_core::clients::{ClientKey, Session};
use tercel_core::command::spec::flags;
use tercel_core::command::{Args, OwnedCommand};
use tercel_core::data::Expired;
use tercel_core::data::effects::Effect;
use tercel_core::dispatch::{GiveUp, apply, give_up, process};
use tercel_core::host::FakeHost;
use tercel_core::server::{EffectReader, Server};
use tercel_core::settings::Settings;
use tercel_engine::Value;
use tercel_transport::{ConnId, Peer};

/// What is sent. `{k}` is a key, `{v}` a value, `{i}` an integer, `{f}` a float, `{ms}` and `{s}` times from now,
/// `{at}` and `{ats}` points in time, `{o}` an offset, `{b}` a bit, `{db}` a database, `{x}` a dumped value.
const TEMPLATES: &[&str] = &[
    "SET {k} {v}",
    "SET {k} {v} PX {ms}",
    "SET {k} {v} EX {s} GET",
    "SET {k} {v} EXAT {ats}",
    "SET {k} {v} PXAT {at} NX",
    "SET {k} {v} KEEPTTL",
    "SET {k} {v} KEEPTTL GET",
    "SET {k} {v} XX",
    "SET {k} {v} GET",
    "SET {k} {v} IFEQ {v}",
    "SETNX {k} {v}",
    "SETEX {k} {s} {v}",
    "PSETEX {k} {ms} {v}",
    "GETSET {k} {v}",
    "GETDEL {k}",
    "GETEX {k} PX {ms}",
    "GETEX {k} PXAT {at}",
    "GETEX {k} PERSIST",
    "GETEX {k}",
    "GET {k}",
    "MGET {k} {k} {k}",
    "EXISTS {k} {k}",
    "MSET {k} {v} {k} {v}",
    "MSETNX {k} {v} {k} {v}",
    "MSETEX 2 {k} {v} {k} {v} PX {ms}",
    "MSETEX 1 {k} {v} NX EXAT {ats}",
    "MSETEX 2 {k} {v} {k} {v} XX KEEPTTL",
    "APPEND {k} {v}",
    "SETRANGE {k} {o} {v}",
    "INCR {k}",
    "DECR {k}",
    "INCRBY {k} {i}",
    "DECRBY {k} {i}",
    "INCRBYFLOAT {k} {f}",
    "DELIFEQ {k} {v}",
    "SETBIT {k} {o} {b}",
    "BITOP AND {k} {k} {k}",
    "BITOP NOT {k} {k}",
    "BITFIELD {k} SET u8 {o} 77 GET u4 0",
    "BITFIELD {k} OVERFLOW FAIL INCRBY i5 {o} 9",
    "DEL {k} {k}",
    "UNLINK {k}",
    "RENAME {k} {k}",
    "RENAMENX {k} {k}",
    "COPY {k} {k}",
    "COPY {k} {k} DB {db} REPLACE",
    "MOVE {k} {db}",
    "EXPIRE {k} {s}",
    "EXPIRE {k} -1",
    "PEXPIRE {k} {ms} NX",
    "PEXPIRE {k} {ms} GT",
    "EXPIREAT {k} {ats}",
    "PEXPIREAT {k} {at} LT",
    "PERSIST {k}",
    "TTL {k}",
    "RESTORE {k} 0 {x}",
    "RESTORE {k} {ms} {x} REPLACE",
    "RESTORE {k} {at} {x} REPLACE ABSTTL",
    "LPUSH {k} {v} {v}",
    "RPUSH {k} {v} {v}",
    "LPUSHX {k} {v}",
    "RPUSHX {k} {v} {i}",
    "LINSERT {k} BEFORE {v} {i}",
    "LINSERT {k} AFTER {v} {v}",
    "LSET {k} {b} {v}",
    "LTRIM {k} {b} -2",
    "LREM {k} {b} {v}",
    "LPOP {k}",
    "RPOP {k} {b}",
    "LMPOP 2 {k} {k} LEFT COUNT 2",
    "LMOVE {k} {k} LEFT RIGHT",
    "RPOPLPUSH {k} {k}",
    "BLPOP {k} {k} 0.01",
    "BRPOP {k} 0.01",
    "BLMPOP 0.01 2 {k} {k} RIGHT",
    "BLMOVE {k} {k} RIGHT LEFT 0.01",
    "BRPOPLPUSH {k} {k} 0.01",
    "HSET {k} f1 {v} f2 {v}",
    "HSET {k} f3 {i}",
    "HMSET {k} f1 {v} f4 {i}",
    "HSETNX {k} f1 {v}",
    "HSETNX {k} f4 {v}",
    "HDEL {k} f1 f3",
    "HDEL {k} f2",
    "HINCRBY {k} f3 {i}",
    "HINCRBY {k} f4 {i}",
    "HINCRBYFLOAT {k} f4 {f}",
    "HINCRBYFLOAT {k} f1 {f}",
    "HEXPIRE {k} {s} FIELDS 2 f1 f2",
    "HPEXPIRE {k} {ms} NX FIELDS 2 f3 f4",
    "HPEXPIRE {k} {ms} GT FIELDS 4 f1 f2 f3 f4",
    "HEXPIREAT {k} {ats} LT FIELDS 1 f1",
    "HPEXPIREAT {k} {at} FIELDS 2 f1 f4",
    "HPERSIST {k} FIELDS 2 f1 f3",
    "HGETEX {k} PX {ms} FIELDS 2 f2 f3",
    "HGETEX {k} PXAT {at} FIELDS 2 f1 f1",
    "HGETEX {k} PERSIST FIELDS 3 f1 f2 f3",
    "HGETEX {k} FIELDS 1 f1",
    "HSETEX {k} PX {ms} FIELDS 2 f1 {v} f4 {i}",
    "HSETEX {k} FNX EX {s} FIELDS 1 f2 {v}",
    "HSETEX {k} FXX EXAT {ats} FIELDS 2 f1 {v} f3 {i}",
    "HSETEX {k} NX PXAT {at} FIELDS 1 f3 {v}",
    "HSETEX {k} XX KEEPTTL FIELDS 3 f1 {v} f2 {v} f4 {i}",
    "HSETEX {k} FIELDS 1 f4 {i}",
    "HGETDEL {k} FIELDS 2 f4 f1",
    "HGETALL {k}",
    "RANDOMKEY",
    "SELECT {db}",
    "SWAPDB {db} {db}",
    "FLUSHDB",
    "FLUSHALL ASYNC",
    "MULTI",
    "MULTI",
    "EXEC",
    "EXEC",
    "EXEC",
    "DISCARD",
    "WATCH {k}",
    "UNWATCH",
    "DEBUG POPULATE {b} {k} 20",
];

const KEYS: [&str; 6] = ["a", "b", "counter", "bits", "e", "{slot}f"];
const DATABASES: u64 = 3;

/// Numbers from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Collects units.
#[derive(Clone, Default)]
struct Recorder(Rc<RefCell<Vec<Vec<Effect>>>>);

impl EffectReader for Recorder {
    fn unit(&mut self, effects: &[Effect]) {
        let copied = effects
            .iter()
            .map(|effect| Effect { db: effect.db, command: OwnedCommand::from_args(&effect.command.args()) })
            .collect();
        self.0.borrow_mut().push(copied);
    }
}

fn server(time: &ManualTime) -> Server {
    let settings = Settings::default().with_changes(&[("save", ""), ("notify-keyspace-events", "KEA")]).unwrap();
    let settings = Settings { databases: DATABASES as i64, ..settings };
    let mut server = Server::new(&commands().table, settings, FakeHost::with_time(time.clone()), "/".into());
    server.tick();
    server
}

fn words(args: &Args<'_>) -> Vec<String> {
    args.rest(0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn owned<T: AsRef<[u8]>>(words: &[T]) -> OwnedCommand {
    let mut command = OwnedCommand::default();
    words.iter().for_each(|word| command.push(word.as_ref()));
    command
}

/// Sends a command for a client; returns its reply.
fn send(server: &mut Server, key: ClientKey, command: &OwnedCommand) -> Vec<u8> {
    server.tick();
    let args = command.args();
    let mut client = server.clients_mut().take(key).unwrap();
    server.clients_mut().enter(key, client.out.version, usize::MAX);
    process(commands(), server, &mut client, commands().table.resolve(&args), &args, args.bytes_len());
    server.clients_mut().leave();
    let mut reply = Vec::new();
    client.out.hand_over(|buf| reply.extend_from_slice(buf.plain()));
    server.clients_mut().put(key, client);
    // Who would wait for a key is told that there was nothing, and goes on at once.
    give_up(commands(), server, key, GiveUp::TimedOut);
    let mut client = server.clients_mut().take(key).unwrap();
    client.out.hand_over(|buf| reply.extend_from_slice(buf.plain()));
    client.caller.wait = None;
    server.clients_mut().put(key, client);
    reply
}

fn connect(server: &mut Server) -> ClientKey {
    let id = server.clients_mut().reserve_id();
    let session = Session::new(id, ConnId { index: id as u32, generation: 0 }, Peer::Memory(id), 0);
    server.clients_mut().insert(session)
}

/// All there is to a value; of a hash no field that is past its time.
#[derive(Debug, PartialEq)]
enum Content {
    String(Vec<u8>),
    List(Vec<Vec<u8>>),
    Hash(BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>),
}

impl Content {
    /// Without fields it may be there on one server and gone on the other: it goes when they are removed.
    fn of(value: Value<'_>, expired: Expired) -> Option<Self> {
        Some(match value {
            Value::String(string) => Content::String(string.to_vec()),
            Value::List(list) => Content::List((0..list.len()).map(|at| list.get(at).unwrap().to_vec()).collect()),
            Value::Hash(fields) => {
                let there = (0..fields.len())
                    .map(|rank| fields.at(rank).unwrap())
                    .filter(|field| !field.expire_at.is_some_and(|at_ms| expired.is_past(at_ms)))
                    .map(|field| (field.field.to_vec(), (field.value.to_vec(), field.expire_at)))
                    .collect::<BTreeMap<_, _>>();
                return (!there.is_empty()).then_some(Content::Hash(there));
            }
        })
    }
}

/// By database and key the value and the deadline.
type Contents = BTreeMap<(usize, Vec<u8>), (Content, Option<i64>)>;

/// Everything that is there and not past its time.
fn contents(server: &mut Server) -> Contents {
    server.tick();
    let data = server.data();
    let expired = data.expired();
    let mut all = BTreeMap::new();
    for (db, keys) in data.filled() {
        keys.for_each(&mut |entry| {
            if !expired.is(entry)
                && let Some(content) = Content::of(entry.value(), expired)
            {
                all.insert((db, entry.key().to_vec()), (content, entry.expire_at()));
            }
        });
    }
    all
}

fn fill_in(template: &str, random: &mut Random, now_ms: i64) -> OwnedCommand {
    let values = ["", "7", "-3", "10.5", "text", "a longer text that lies apart from its key, since it does not fit"];
    let mut command = OwnedCommand::default();
    for word in template.split(' ') {
        let near_ms = random.below(4000) as i64 - 1000;
        match word {
            "{k}" => command.push(KEYS[random.below(KEYS.len() as u64) as usize].as_bytes()),
            "{v}" => command.push(values[random.below(values.len() as u64) as usize].as_bytes()),
            "{i}" => command.push_number(random.below(2000) as i64 - 1000),
            "{f}" => command.push(format!("{}", random.below(1000) as f64 / 8.0 - 60.0).as_bytes()),
            "{ms}" => command.push_number(random.below(3000) as i64 + 1),
            "{s}" => command.push_number(random.below(4) as i64 + 1),
            "{at}" => command.push_number(now_ms + near_ms),
            "{ats}" => command.push_number((now_ms + near_ms) / 1000),
            "{o}" => command.push_number(random.below(90) as i64),
            "{b}" => command.push_number(random.below(2) as i64),
            "{db}" => command.push_number(random.below(DATABASES) as i64),
            "{x}" => command.push(&tercel_rdb::dump_string(tercel_rdb::StringValue::Bytes(b"restored"), false)),
            _ => command.push(word.as_bytes()),
        }
    }
    command
}

#[test]
fn what_effects_tell_is_enough_to_have_the_same_data() {
    for seed in 1..=150u64 {
        let time = ManualTime::default();
        let (mut first, mut second) = (server(&time), server(&time));
        let recorder = Recorder::default();
        first.add_effect_reader(Box::new(recorder.clone()));
        let clients = [connect(&mut first), connect(&mut first), connect(&mut first)];
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut story = Vec::new();
        for step in 0..400 {
            let template = TEMPLATES[random.below(TEMPLATES.len() as u64) as usize];
            let command = fill_in(template, &mut random, first.now().unix_ms);
            let client = clients[random.below(clients.len() as u64) as usize];
            story.push(format!("{client}: {:?}", words(&command.args())));
            send(&mut first, client, &command);
            time.advance(random.below(300) * 1_000_000);
            if random.below(10) == 0 {
                first.tick();
                first.expire_step(u64::MAX);
            }
            if step % 40 == 39 {
                for effect in recorder.0.borrow_mut().drain(..).flatten() {
                    story.push(format!("   told: {} {:?}", effect.db, words(&effect.command.args())));
                    second.tick();
                    apply(commands(), &mut second, &effect)
                        .unwrap_or_else(|error| panic!("{error:?}\n{}", story.join("\n")));
                }
                let (ours, theirs) = (contents(&mut first), contents(&mut second));
                assert_eq!(ours, theirs, "seed {seed}\n{}", story.join("\n"));
                story.clear();
            }
        }
    }
}

/// Each family adds its commands here, or its effects are not tried.
#[test]
fn every_command_that_writes_is_tried() {
    let tried: Vec<String> = TEMPLATES.iter().map(|line| line.split(' ').next().unwrap().to_lowercase()).collect();
    for (_, spec) in commands().table.all() {
        assert!(!spec.is(flags::WRITE) || tried.iter().any(|name| name == spec.name), "{} is not tried", spec.name);
    }
}

fn told(steps: &[&str]) -> Vec<Vec<String>> {
    let time = ManualTime::default();
    let mut first = server(&time);
    let recorder = Recorder::default();
    first.add_effect_reader(Box::new(recorder.clone()));
    let client = connect(&mut first);
    for step in steps {
        if let Some(ms) = step.strip_prefix("wait ") {
            time.advance(ms.parse::<u64>().unwrap() * 1_000_000);
            continue;
        }
        let command = owned(&step.split(' ').collect::<Vec<_>>());
        let reply = send(&mut first, client, &command);
        assert!(!reply.starts_with(b"-"), "{step}: {}", String::from_utf8_lossy(&reply));
    }
    let units = recorder.0.take();
    let shown = |effect: &Effect| format!("{} {}", effect.db, words(&effect.command.args()).join(" "));
    units.iter().map(|unit| unit.iter().map(shown).collect()).collect()
}

/// In these words Valkey tells its replicas (a manual clock begins at 1,700,000,000 s).
#[test]
fn effects_are_in_the_fields_words() {
    let cases: &[(&[&str], &[&[&str]])] = &[
        (&["SET k v EX 10"], &[&["0 SET k v PXAT 1700000010000"]]),
        (&["SETEX k 10 v"], &[&["0 SET k v PXAT 1700000010000"]]),
        (&["SET k v GET"], &[&["0 SET k v"]]),
        (&["SET k v KEEPTTL"], &[&["0 SET k v KEEPTTL"]]),
        (&["SET k v XX"], &[]),
        (&["SETNX k v", "SETNX k w"], &[&["0 SETNX k v"]]),
        (&["SET k v", "GETDEL k"], &[&["0 SET k v"], &["0 DEL k"]]),
        (&["SET k v", "DELIFEQ k v"], &[&["0 SET k v"], &["0 DEL k"]]),
        (&["SET k v", "GETEX k PX 5"], &[&["0 SET k v"], &["0 PEXPIREAT k 1700000000005"]]),
        (&["SET k v", "GETEX k"], &[&["0 SET k v"]]),
        (
            &["SET k v", "EXPIRE k 5", "PERSIST k"],
            &[&["0 SET k v"], &["0 PEXPIREAT k 1700000005000"], &["0 PERSIST k"]],
        ),
        (&["SET k v", "EXPIRE k 5 XX"], &[&["0 SET k v"]]),
        (&["SET k v", "EXPIRE k -5"], &[&["0 SET k v"], &["0 UNLINK k"]]),
        (&["MSETEX 1 k v EX 5"], &[&["0 MSETEX 1 k v PXAT 1700000005000"]]),
        (&["SET k 1", "INCRBYFLOAT k 0.5"], &[&["0 SET k 1"], &["0 SET k 1.5 KEEPTTL"]]),
        (&["SET k v", "SETBIT k 1 1"], &[&["0 SET k v"]]),
        (&["SET k v PX 5", "wait 6", "GET k"], &[&["0 SET k v PXAT 1700000000005"], &["0 UNLINK k"]]),
        (
            &["MSETEX 2 a 1 b 2 PX 5", "wait 6", "EXISTS a b"],
            &[&["0 MSETEX 2 a 1 b 2 PXAT 1700000000005"], &["0 UNLINK a", "0 UNLINK b"]],
        ),
        (&["DEL a", "GET a", "PERSIST a", "APPEND a 1"], &[&["0 APPEND a 1"]]),
        (&["RPUSH l 1 2 3", "BLPOP l 0"], &[&["0 RPUSH l 1 2 3"], &["0 LPOP l"]]),
        (&["HSET h f 1", "HINCRBY h f 2"], &[&["0 HSET h f 1"], &["0 HINCRBY h f 2"]]),
        (&["HSET h f 1", "HINCRBYFLOAT h f 0.5"], &[&["0 HSET h f 1"], &["0 HSET h f 1.5"]]),
        (
            &["HSET h f 1 g 1", "HEXPIRE h 5 FIELDS 2 f x", "HINCRBY h f 1", "HINCRBY h g 1"],
            &[
                &["0 HSET h f 1 g 1"],
                &["0 HPEXPIREAT h 1700000005000 FIELDS 1 f"],
                &["0 HSETEX h PXAT 1700000005000 FIELDS 1 f 2"],
                &["0 HSET h g 2"],
            ],
        ),
        (
            &["HSETEX h FNX PX 5 FIELDS 1 f 1", "wait 6", "HSETNX h f 2", "HSETEX h FNX FIELDS 1 f 2"],
            &[&["0 HSETEX h PXAT 1700000000005 FIELDS 1 f 1"], &["0 HSET h f 2"]],
        ),
        (
            &["HSETEX h PX 5 FIELDS 1 f 1", "wait 6", "HSETEX h KEEPTTL FIELDS 1 f 2"],
            &[
                &["0 HSETEX h PXAT 1700000000005 FIELDS 1 f 1"],
                &["0 HPERSIST h FIELDS 1 f", "0 HSETEX h KEEPTTL FIELDS 1 f 2"],
            ],
        ),
        (
            &["HSET h f 1 g 2", "HGETEX h PERSIST FIELDS 1 f", "HEXPIRE h 0 FIELDS 2 f x", "HGETDEL h FIELDS 2 x g"],
            &[&["0 HSET h f 1 g 2"], &["0 HDEL h f"], &["0 HDEL h g"]],
        ),
        (&["HSETEX h EX 0 FIELDS 1 f 1"], &[]),
        (&["FLUSHDB", "FLUSHALL"], &[&["0 FLUSHDB"], &["0 FLUSHALL"]]),
        (&["MULTI", "GET a", "EXEC"], &[]),
        (&["MULTI", "GET a", "SET a 1", "EXEC"], &[&["0 SET a 1"]]),
        (
            &["MULTI", "SET a 1", "SELECT 2", "SET b 2 PX 7", "EXEC", "INCR c"],
            &[&["0 SET a 1", "2 SET b 2 PXAT 1700000000007"], &["2 INCR c"]],
        ),
    ];
    for (steps, wanted) in cases {
        assert_eq!(told(steps), *wanted, "{steps:?}");
    }
}

/// A field that is written over when its deadline has passed may be the only one.
#[test]
fn a_key_keeps_its_deadline_where_effects_of_its_only_field_arrive() {
    let time = ManualTime::default();
    let (mut first, mut second) = (server(&time), server(&time));
    let recorder = Recorder::default();
    first.add_effect_reader(Box::new(recorder.clone()));
    let client = connect(&mut first);
    for step in ["HSETEX h PX 5 FIELDS 1 f 1", "EXPIRE h 100", "HSETEX h KEEPTTL FIELDS 1 f 2"] {
        send(&mut first, client, &owned(&step.split(' ').collect::<Vec<_>>()));
        time.advance(6_000_000);
    }
    for effect in recorder.0.borrow_mut().drain(..).flatten() {
        apply(commands(), &mut second, &effect).unwrap();
    }
    let ours = contents(&mut first);
    assert!(ours.values().all(|(_, expire_at)| expire_at.is_some()));
    assert_eq!(ours, contents(&mut second));
}

/// What was within the limits there is done here, whatever the settings.
#[test]
fn the_limits_are_those_of_the_server_that_effects_come_from() {
    let time = ManualTime::default();
    let mut second = server(&time);
    let strict = second.settings().with_changes(&[("proto-max-bulk-len", "1mb")]).unwrap();
    second.change_settings(strict).unwrap();
    for words in [
        &["SETRANGE", "a", "2000000", "x"][..],
        &["APPEND", "a", "y"],
        &["SETBIT", "b", "20000000", "1"],
        &["BITFIELD", "b", "SET", "u8", "24000000", "7"],
    ] {
        apply(commands(), &mut second, &Effect { db: 0, command: owned(words) }).unwrap();
    }
    let endless = owned(&["SETBIT", "c", "9000000000000000000", "1"]);
    assert!(apply(commands(), &mut second, &Effect { db: 0, command: endless }).is_err());
}
