//! Commands: any sequence of them, against a map for those a map can predict. Nothing panics, and
//! every command answers exactly one reply.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use tercel_core::clients::client::{Connection, Session};
use tercel_core::command::spec::flags;
use tercel_core::command::{OwnedCommand, Reply};
use tercel_commands::commands;
use tercel_core::dispatch;
use tercel_core::server::Core;
use tercel_core::settings::Settings;
use tercel_resp::reply::{self, Value};
use tercel_transport::{ConnId, Peer};

/// Commands that end or stop the process, write files, or do not answer once.
const LEFT_OUT: &[&str] = &["debug", "shutdown", "monitor", "client", "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe", "quit", "config", "memory", "save", "bgsave"];

/// Reads words out of the fuzzer's bytes: a command by number, then arguments from a small set.
fn words(data: &mut &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut next = || {
        let (&byte, rest) = data.split_first()?;
        *data = rest;
        Some(byte)
    };
    let names: Vec<&str> = commands()
        .table
        .top_level()
        .map(|(_, command)| command.name)
        .filter(|name| !LEFT_OUT.contains(name))
        .collect();
    let mut words = vec![names[next()? as usize % names.len()].as_bytes().to_vec()];
    const VOCABULARY: &[&str] = &[
        "a", "b", "c", "0", "1", "-1", "10", "9223372036854775807", "-9223372036854775808", "1.5", "", "nx", "xx", "get", "ex", "px", "keepttl",
        "set", "incrby", "u8", "i64", "#2", "and", "not", "match", "*", "count", "len", "idx", "bit", "byte", "replace", "db", "hello", "help",
        "encoding", "docs", "getkeys", "info", "gt", "lt", "persist", "ifeq", "exat", "overflow", "sat", "fail",
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

fn run(core: &mut Core, connection: &mut Connection, words: &[Vec<u8>]) -> Value {
    let mut owned = OwnedCommand::default();
    words.iter().for_each(|word| owned.push(word));
    let args = owned.args();
    core.tick();
    core.enter(0, connection.out.version, usize::MAX);
    let id = commands().table.resolve(&args);
    dispatch::process(commands(), core, connection, id, &args, args.bytes_len());
    let mut bytes: Vec<u8> = Vec::new();
    connection.out.hand_over(|buf| bytes.extend(buf.parts().flat_map(|part| part.as_slice().to_vec())));
    let (value, len) = reply::parse(&bytes).expect("a reply").expect("a whole reply");
    assert_eq!(len, bytes.len(), "{words:?} answers once: {}", String::from_utf8_lossy(&bytes));
    value
}

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    // Without save points, so that FLUSHALL saves nothing.
    let settings = Settings::default().with_changes(&[("save", ""), ("proto-max-bulk-len", "1mb")]).expect("settings");
    let mut core = Core::new(&commands().table, settings, tercel::start::host::machine());
    let conn = ConnId { index: 0, generation: 0 };
    let mut connection = Connection { session: Session::new(1, conn, Peer::Memory(0), 0), out: Reply::default() };
    let mut model: Option<HashMap<Vec<u8>, Vec<u8>>> = Some(HashMap::new());
    while let Some(words) = words(&mut data) {
        let value = run(&mut core, &mut connection, &words);
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
            ("get", Some(map)) => assert_eq!(value, map.get(&words[1]).map_or(Value::Null, |bytes| Value::Bulk(bytes.clone()))),
            ("strlen", Some(map)) => assert_eq!(value, Value::Integer(map.get(&words[1]).map_or(0, |bytes| bytes.len() as i64))),
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
});
