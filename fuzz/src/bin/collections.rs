//! Lists and hashes against a sequence and a map: any edits, through a database that takes them out of an entry and
//! back. What was held before an edit stays what it was.
#![no_main]

use std::collections::{BTreeMap, VecDeque};

use libfuzzer_sys::fuzz_target;
use tercel_engine::{Access, End, Hash, HeldFieldMap, HeldList, Keyspace, KeyspaceConfig, Text};

const NOW: Access = Access { now_ms: 0, lfu: false, lfu_log_factor: 10, lfu_decay_minutes: 1 };
type Fields = BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

struct House {
    keyspace: Keyspace,
    list_hash: Hash,
    fields_hash: Hash,
}

impl House {
    fn list(&mut self, change: impl FnOnce(&mut tercel_engine::List)) {
        let hash = self.list_hash;
        self.keyspace.db_mut(0).edit_list(b"l", hash, &NOW, true, change).expect("a list");
    }

    fn fields<R>(&mut self, change: impl FnOnce(&mut tercel_engine::FieldMap) -> R) -> R {
        let hash = self.fields_hash;
        self.keyspace.db_mut(0).edit_fields(b"h", hash, &NOW, true, change).expect("a hash").expect("made").result
    }

    fn held_list(&self) -> HeldList {
        let entry = self.keyspace.db(0).find(b"l", self.list_hash);
        entry.map_or_else(HeldList::none, |entry| entry.list().expect("a list").held())
    }

    fn held_fields(&self) -> Option<HeldFieldMap> {
        let entry = self.keyspace.db(0).find(b"h", self.fields_hash)?;
        Some(entry.fields().expect("a hash").held())
    }
}

fn list_agrees(list: &HeldList, model: &VecDeque<Vec<u8>>) {
    let view = list.view();
    assert_eq!(view.len(), model.len() as u64);
    let mut at = 0;
    while at < view.len() {
        for element in view.piece(at) {
            assert_eq!(element, model[at as usize]);
            at += 1;
        }
    }
}

fn fields_agree(fields: Option<&HeldFieldMap>, model: &Fields) {
    let Some(fields) = fields else {
        assert!(model.is_empty());
        return;
    };
    let view = fields.view();
    assert_eq!((view.len(), view.soonest()), (model.len() as u64, model.values().filter_map(|(_, at)| *at).min()));
    for (name, (value, at)) in model {
        let field = view.get(name).expect("it is there");
        assert_eq!((field.value, field.expire_at), (&value[..], *at));
    }
    let (mut cursor, mut seen) = (0, 0);
    loop {
        cursor = view.scan(cursor, 7, &mut |_| seen += 1);
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen, model.len());
}

fuzz_target!(|data: &[u8]| {
    let keyspace = Keyspace::new(KeyspaceConfig { databases: 1, hash_key: [1; 16], seed: 1 });
    let (list_hash, fields_hash) = (keyspace.hash(b"l"), keyspace.hash(b"h"));
    let mut house = House { keyspace, list_hash, fields_hash };
    let (mut list, mut fields) = (VecDeque::<Vec<u8>>::new(), Fields::new());
    let mut held = None;
    for (number, step) in data.chunks_exact(4).enumerate() {
        let (what, at, count, len) = (step[0], usize::from(step[1]), usize::from(step[2]), usize::from(step[3]));
        // Some long, some very long.
        let bytes = vec![number as u8; if len == 255 { 3000 } else { len * (1 + usize::from(what >> 6)) }];
        let place = (at * 17) % (list.len() + 1);
        match what % 10 {
            0 | 1 => {
                let end = if what % 10 == 0 { End::Head } else { End::Tail };
                house.list(|list| (0..count % 40).for_each(|_| list.push(end, Text::Bytes(&bytes))));
                for _ in 0..count % 40 {
                    if end == End::Head { list.push_front(bytes.clone()) } else { list.push_back(bytes.clone()) }
                }
            }
            2 => {
                house.list(|list| list.insert(place as u64, Text::Bytes(&bytes)));
                list.insert(place, bytes);
            }
            3 if place < list.len() => {
                house.list(|list| list.set(place as u64, Text::Bytes(&bytes)));
                list[place] = bytes;
            }
            4 if place < list.len() => {
                house.list(|list| list.remove(place as u64));
                list.remove(place);
            }
            5 => {
                let end = (place + count).min(list.len());
                house.list(|list| list.keep(place as u64..end as u64));
                list = list.range(place..end).cloned().collect();
            }
            6 => {
                for number in at..at + count % 40 {
                    let name = vec![b'f'; 1 + number % 90].into_iter().chain(number.to_le_bytes()).collect::<Vec<u8>>();
                    let deadline = (len % 5 == 0).then_some(len as i64);
                    let existed = house.fields(|map| map.set(Text::Bytes(&name), Text::Bytes(&bytes), deadline));
                    assert_eq!(existed, fields.insert(name, (bytes.clone(), deadline)).is_some());
                }
            }
            7 => {
                for number in at..at + count % 40 {
                    let name = vec![b'f'; 1 + number % 90].into_iter().chain(number.to_le_bytes()).collect::<Vec<u8>>();
                    assert_eq!(house.fields(|map| map.remove(&name)), fields.remove(&name).is_some());
                }
            }
            8 => {
                let now = count as i64;
                house.keyspace.expire_fields_due(now, usize::MAX, &mut |expired| assert_eq!(expired.key, b"h"));
                fields.retain(|_, (_, deadline)| deadline.is_none_or(|deadline| deadline > now));
            }
            _ => held = Some((house.held_list(), list.clone(), house.held_fields(), fields.clone())),
        }
        house.keyspace.reclaim(3);
    }
    list_agrees(&house.held_list(), &list);
    fields_agree(house.held_fields().as_ref(), &fields);
    if let Some((list, list_model, fields, fields_model)) = held {
        list_agrees(&list, &list_model);
        fields_agree(fields.as_ref(), &fields_model);
    }
    house.keyspace.db_mut(0).remove(b"l", list_hash);
    house.keyspace.db_mut(0).remove(b"h", fields_hash);
    while house.keyspace.reclaim(50) {}
});
