//! Commands: any sequence of them, against a map for those a map can predict. Nothing panics, every command
//! answers exactly one reply, and a second server that is told their effects has the same data.
#![no_main]

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use tercel_commands::commands;
use tercel_core::base::clock::ManualTime;
use tercel_core::clients::{Client, Session};
use tercel_core::command::OwnedCommand;
use tercel_core::command::spec::flags;
use tercel_core::data::Expired;
use tercel_core::data::effects::Effect;
use tercel_core::dispatch;
use tercel_core::host::FakeHost;
use tercel_core::server::{EffectReader, Server};
use tercel_core::settings::Settings;
use tercel_resp::reply::{self, Value};
use tercel_transport::{ConnId, Peer};

/// Commands that end or stop the process, write files, or do not answer once.
const LEFT_OUT: &[&str] = &[
    "debug",
    "shutdown",
    "monitor",
    "client",
    "subscribe",
    "psubscribe",
    "ssubscribe",
    "unsubscribe",
    "punsubscribe",
    "sunsubscribe",
    "quit",
    "config",
    "memory",
    "save",
    "bgsave",
];

/// Reads words out of the fuzzer's bytes: a command by number, then arguments from a small set.
fn words(data: &mut &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut next = || {
        let (&byte, rest) = data.split_first()?;
        *data = rest;
        Some(byte)
    };
    let names: Vec<&str> =
        commands().table.top_level().map(|(_, command)| command.name).filter(|name| !LEFT_OUT.contains(name)).collect();
    let mut words = vec![names[next()? as usize % names.len()].as_bytes().to_vec()];
    const VOCABULARY: &[&str] = &[
        "a",
        "b",
        "c",
        "0",
        "1",
        "-1",
        "10",
        "9223372036854775807",
        "-9223372036854775808",
        "1.5",
        "",
        "nx",
        "xx",
        "get",
        "ex",
        "px",
        "keepttl",
        "set",
        "incrby",
        "u8",
        "i64",
        "#2",
        "and",
        "not",
        "match",
        "*",
        "count",
        "len",
        "idx",
        "bit",
        "byte",
        "replace",
        "db",
        "hello",
        "help",
        "encoding",
        "docs",
        "getkeys",
        "info",
        "gt",
        "lt",
        "persist",
        "ifeq",
        "exat",
        "overflow",
        "sat",
        "fail",
        "left",
        "right",
        "before",
        "after",
        "fields",
        "2",
        "fnx",
        "fxx",
    ];
    for _ in 0..next()? % 7 {
        let byte = next()?;
        words.push(match byte {
            0..=200 => VOCABULARY[byte as usize % VOCABULARY.len()].as_bytes().to_vec(),
            _ => vec![byte; byte as usize % 9],
        });
    }
    Some(words)
}

fn run(server: &mut Server, client: &mut Client, words: &[Vec<u8>]) -> Value {
    let mut owned = OwnedCommand::default();
    words.iter().for_each(|word| owned.push(word));
    let args = owned.args();
    server.tick();
    server.clients_mut().enter(client.session.key(), client.out.version, usize::MAX);
    let id = commands().table.resolve(&args);
    dispatch::process(commands(), server, client, id, &args, args.bytes_len());
    let mut bytes: Vec<u8> = Vec::new();
    client.out.hand_over(|buf| bytes.extend(buf.parts().flat_map(|part| part.as_slice().to_vec())));
    let (value, len) = reply::parse(&bytes).expect("a reply").expect("a whole reply");
    assert_eq!(len, bytes.len(), "{words:?} answers once: {}", String::from_utf8_lossy(&bytes));
    value
}

/// Collects effects.
#[derive(Clone, Default)]
struct Recorder(Rc<RefCell<Vec<Effect>>>);

impl EffectReader for Recorder {
    fn unit(&mut self, effects: &[Effect]) {
        let copied =
            |effect: &Effect| Effect { db: effect.db, command: OwnedCommand::from_args(&effect.command.args()) };
        self.0.borrow_mut().extend(effects.iter().map(copied));
    }
}

/// All that a value holds, in one string.
fn whole(value: tercel_engine::Value<'_>, expired: &Expired) -> Vec<u8> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    match value {
        tercel_engine::Value::String(value) => return value.to_vec(),
        tercel_engine::Value::List(list) => {
            while (parts.len() as u64) < list.len() {
                let at = parts.len() as u64;
                parts.extend(list.piece(at).map(|element| format!("{element:?}").into_bytes()));
            }
        }
        tercel_engine::Value::Hash(fields) => {
            let mut rank = 0;
            while rank < fields.len() {
                for field in fields.piece(rank) {
                    rank += 1;
                    if !field.expire_at.is_some_and(|at_ms| expired.is_past(at_ms)) {
                        let shown = format!("{:?} {:?} {:?}", field.field, field.value, field.expire_at);
                        parts.push(shown.into_bytes());
                    }
                }
            }
            parts.sort();
        }
    }
    parts.concat()
}

fn contents(server: &mut Server) -> BTreeMap<(usize, Vec<u8>), (Vec<u8>, Option<i64>)> {
    server.tick();
    let expired = server.data().expired();
    let mut all = BTreeMap::new();
    for (db, keys) in server.data().filled() {
        keys.for_each(&mut |entry| {
            if !expired.is(entry) {
                all.insert((db, entry.key().to_vec()), (whole(entry.value(), &expired), entry.expire_at()));
            }
        });
    }
    all
}

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    // Without save points, so that FLUSHALL saves nothing.
    let settings = Settings::default().with_changes(&[("save", ""), ("proto-max-bulk-len", "1mb")]).expect("settings");
    let time = ManualTime::default();
    let make = || Server::new(&commands().table, settings.clone(), FakeHost::with_time(time.clone()), "/".into());
    let (mut server, mut follower) = (make(), make());
    let recorder = Recorder::default();
    server.add_effect_reader(Box::new(recorder.clone()));
    let key = server.clients_mut().insert(Session::new(1, ConnId { index: 0, generation: 0 }, Peer::Memory(0), 0));
    let mut client = server.clients_mut().take(key).expect("just made");
    // Nobody else is there to give it what it waits for.
    client.caller.may_wait = false;
    let mut model: Option<HashMap<Vec<u8>, Vec<u8>>> = Some(HashMap::new());
    while let Some(words) = words(&mut data) {
        let value = run(&mut server, &mut client, &words);
        time.advance(u64::from(words[0][0]) * 1_000_000);
        let failed = matches!(value, Value::Error(_));
        // The map follows plain SET, GET, DEL, APPEND and STRLEN outside of a transaction; after
        // anything else that may write it knows nothing, until a FLUSHALL.
        let name = String::from_utf8_lossy(&words[0]).to_lowercase();
        if value == Value::Simple(b"QUEUED".to_vec()) || failed {
            continue;
        }
        let table = &commands().table;
        let command = table.spec(table.find(&words[0]).expect("known"));
        match (name.as_str(), model.as_mut()) {
            ("flushall", _) => model = Some(HashMap::new()),
            ("set", Some(map)) if words.len() == 3 => {
                map.insert(words[1].clone(), words[2].clone());
            }
            ("get", Some(map)) => {
                assert_eq!(value, map.get(&words[1]).map_or(Value::Null, |bytes| Value::Bulk(bytes.clone())))
            }
            ("strlen", Some(map)) => {
                assert_eq!(value, Value::Integer(map.get(&words[1]).map_or(0, |bytes| bytes.len() as i64)))
            }
            ("append", Some(map)) => {
                let bytes = map.entry(words[1].clone()).or_default();
                bytes.extend_from_slice(&words[2]);
                assert_eq!(value, Value::Integer(bytes.len() as i64));
            }
            ("del", Some(map)) => {
                let deleted = words[1..].iter().filter(|key| map.remove(*key).is_some()).count();
                assert_eq!(value, Value::Integer(deleted as i64));
            }
            ("dbsize", Some(map)) => assert_eq!(value, Value::Integer(map.len() as i64)),
            ("select" | "swapdb" | "exec" | "move" | "hello" | "reset", _) => model = None,
            _ if command.is(flags::WRITE) => model = None,
            _ => {}
        }
    }
    for effect in recorder.0.take() {
        follower.tick();
        dispatch::apply(commands(), &mut follower, &effect).expect("what went well there goes well here");
    }
    assert_eq!(contents(&mut server), contents(&mut follower));
});
