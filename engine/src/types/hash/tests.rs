use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{Kept, Lent, Surroundings};
use super::*;
use crate::rows::Text;
use crate::tree::Grave;

type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

fn around(keep: u64) -> Surroundings {
    Surroundings::new(Grave::default(), KeyHasher::new(&[1; 16], keep))
}

fn agrees(fields: &FieldMap, model: &Model) {
    let view = fields.view();
    assert_eq!(view.len(), model.len() as u64);
    let mut seen = Model::new();
    let mut rank = 0;
    while rank < view.len() {
        for field in view.piece(rank) {
            let ranked = view.at(rank).expect("a rank");
            assert_eq!((ranked.field, ranked.value), (field.field, field.value));
            assert!(seen.insert(field.field.to_vec(), (field.value.to_vec(), field.expire_at)).is_none());
            rank += 1;
        }
    }
    assert_eq!(&seen, model);
    for (name, (value, expire_at)) in model {
        let field = view.get(name).expect("it is there");
        assert_eq!((field.value, field.expire_at), (value.as_slice(), *expire_at));
    }
    assert!(view.get(b"not there").is_none());
    assert_eq!(view.soonest(), model.values().filter_map(|(_, at)| *at).min());
}

fn kept(fields: FieldMap, around: &Surroundings) -> FieldMap {
    match fields.into_kept() {
        None => FieldMap::empty(around),
        Some((Kept::Packed(block), is_wide)) => FieldMap::from_packed(block, is_wide, around),
        Some((Kept::Large(large), is_wide)) => FieldMap::from_large(large, is_wide, around).expect("a hash"),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set(u16, u16, usize, Option<i64>),
    Remove(u16, u16),
    Expire(u16, Option<i64>),
    Due(i64, usize),
    Hold,
}

fn step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![6 => 0usize..40, 1 => 200usize..400, 1 => 1000usize..1100];
    let time = || prop::option::weighted(0.2, 0i64..1000);
    prop_oneof![
        6 => (0u16..600, 1u16..150, len(), time()).prop_map(|(at, count, len, time)| Step::Set(at, count, len, time)),
        3 => (0u16..600, 1u16..150).prop_map(|(at, count)| Step::Remove(at, count)),
        2 => (0u16..600, time()).prop_map(|(at, time)| Step::Expire(at, time)),
        1 => (0i64..1000, 1usize..200).prop_map(|(now, max)| Step::Due(now, max)),
        1 => Just(Step::Hold),
    ]
}

fn run(keep: u64, steps: Vec<Step>) {
    let around = around(keep);
    let mut fields = FieldMap::empty(&around);
    let mut model = Model::new();
    let mut held = Vec::new();
    let name = |number: u16| match number % 97 {
        0 => vec![b'f'; 1030 + usize::from(number)],
        _ => format!("field:{number}").into_bytes(),
    };
    for step in steps {
        match step {
            Step::Set(from, count, len, time) => {
                let count = if len > 200 { count / 8 + 1 } else { count };
                for number in from..from + count {
                    let (field, value) = (name(number), vec![number as u8; len]);
                    let was_there = fields.set(Text::Bytes(&field), Text::Bytes(&value), time);
                    assert_eq!(was_there, model.insert(field, (value, time)).is_some());
                }
            }
            Step::Remove(from, count) => {
                for number in from..from + count {
                    assert_eq!(fields.remove(&name(number)), model.remove(&name(number)).is_some());
                }
            }
            Step::Expire(number, time) => {
                let there = fields.set_expire(&name(number), time);
                assert_eq!(there, model.get_mut(&name(number)).map(|(_, at)| *at = time).is_some());
            }
            Step::Due(now, max) => {
                let due = model.values().filter(|(_, at)| at.is_some_and(|at| at <= now)).count();
                let mut gone = Vec::new();
                let removed = fields.expire_due(now, max, &mut |field| gone.push(field.to_vec()));
                assert_eq!((removed, gone.len()), (due.min(max), due.min(max)));
                for field in gone {
                    assert!(model.remove(&field).and_then(|(_, at)| at).is_some_and(|at| at <= now));
                }
            }
            Step::Hold => held.push((fields.clone(), model.clone())),
        }
        fields = kept(fields, &around);
        agrees(&fields, &model);
    }
    for (fields, model) in held {
        agrees(&fields, &model);
    }
}

proptest! {
    #[test]
    fn a_hash_is_what_a_map_is(steps in prop::collection::vec(step(), 0..30)) {
        run(u64::MAX, steps);
    }

    /// With few different hashes, leaves can hardly be split.
    #[test]
    fn so_it_is_where_hashes_collide(steps in prop::collection::vec(step(), 0..20)) {
        run(0x8000_0000_0000_0001, steps);
    }
}

fn filled(around: &Surroundings, count: u32) -> FieldMap {
    let mut fields = FieldMap::empty(around);
    for number in 0..count {
        fields.set(Text::Bytes(format!("field:{number:010}").as_bytes()), Text::Bytes(b"0123456789abcdef"), None);
    }
    fields
}

#[test]
fn a_field_takes_little_more_than_its_bytes() {
    let around = around(u64::MAX);
    let mut worst = 0.0f64;
    let mut fields = FieldMap::empty(&around);
    for number in 0..400_000u32 {
        fields.set(Text::Bytes(format!("field:{number:010}").as_bytes()), Text::Bytes(b"0123456789abcdef"), None);
        if number > 100_000 && number % 20_000 == 0 {
            let FormRef::Tree(tree) = fields.view().form else { panic!("it is large") };
            worst = worst.max(tree.memory_bytes() as f64 / f64::from(number + 1));
        }
    }
    assert!(worst < 44.0, "{worst} bytes a field");
}

/// Whoever is there throughout is visited, while leaves split and join.
#[test]
fn a_scan_misses_no_field() {
    let around = around(u64::MAX);
    let mut fields = filled(&around, 20_000);
    let mut seen = std::collections::BTreeSet::new();
    let (mut cursor, mut round, mut largest) = (0, 0u32, 0);
    loop {
        let before = seen.len();
        cursor = fields.view().scan(cursor, 10, &mut |field| {
            seen.insert(field.field.to_vec());
        });
        largest = largest.max(seen.len() - before);
        if cursor == 0 {
            break;
        }
        for number in 0..20 {
            let number = round * 20 + number;
            if number % 2 == 0 && number < 10_000 {
                fields.remove(format!("field:{number:010}").as_bytes());
            } else {
                let field = format!("new:{number}");
                fields.set(Text::Bytes(field.as_bytes()), Text::Bytes(b"x"), None);
            }
        }
        round += 1;
    }
    assert!(round > 1000 && largest <= 10, "{round} rounds, {largest} at once");
    let stayed = (0..20_000).filter(|number| number % 2 == 1 || *number >= 10_000);
    assert!(stayed.map(|number| format!("field:{number:010}")).all(|field| seen.contains(field.as_bytes())));
}
