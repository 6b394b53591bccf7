use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::hash::KeyHasher;

fn around() -> Surroundings {
    Surroundings::new(Grave::default(), KeyHasher::new(&[1; 16], u64::MAX))
}

fn all(list: ListRef<'_>) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while (all.len() as u64) < list.len() {
        let before = all.len();
        all.extend(list.piece(before as u64).map(<[u8]>::to_vec));
        assert!(all.len() > before, "a piece is never empty");
    }
    all
}

fn agrees(list: &List, model: &VecDeque<Vec<u8>>) {
    let view = list.view();
    assert_eq!(view.len(), model.len() as u64);
    assert_eq!(all(view), model.iter().cloned().collect::<Vec<_>>());
    assert_eq!(view.bytes(), model.iter().map(|element| element.len() as u64).sum::<u64>());
    assert_eq!(view.get(view.len()), None);
    for index in [0, view.len() / 2, view.len().saturating_sub(1)] {
        assert_eq!(view.get(index), model.get(index as usize).map(Vec::as_slice));
        let before: Vec<&[u8]> = view.piece_before(index).collect();
        assert_eq!(before.is_empty(), index == 0);
        let start = index as usize - before.len();
        assert!(before.iter().zip(model.iter().skip(start)).all(|(one, other)| *one == other.as_slice()));
    }
}

/// As an entry would keep it and lend it again.
fn kept(list: List, around: &Surroundings) -> List {
    match list.into_kept() {
        None => List::empty(around),
        Some((Kept::Packed(block), is_wide)) => List::from_packed(block, is_wide, around),
        Some((Kept::Large(large), is_wide)) => List::from_large(large, is_wide, around).expect("a list"),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(bool, usize, usize),
    Insert(usize, usize),
    Set(usize, usize),
    Remove(usize, usize),
    Cut(bool, usize),
    Keep(usize, usize),
    Hold,
}

fn step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![6 => 0usize..40, 1 => 200usize..400, 1 => 1000usize..1100, 1 => 5000usize..5001];
    prop_oneof![
        6 => (any::<bool>(), 1usize..200, len()).prop_map(|(head, count, len)| Step::Push(head, count, len)),
        4 => (any::<usize>(), len()).prop_map(|(at, len)| Step::Insert(at, len)),
        2 => (any::<usize>(), len()).prop_map(|(at, len)| Step::Set(at, len)),
        3 => (any::<usize>(), 1usize..100).prop_map(|(at, count)| Step::Remove(at, count)),
        2 => (any::<bool>(), 0usize..300).prop_map(|(head, count)| Step::Cut(head, count)),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(start, end)| Step::Keep(start, end)),
        1 => Just(Step::Hold),
    ]
}

proptest! {
    #[test]
    fn a_list_is_what_a_sequence_is(steps in prop::collection::vec(step(), 0..40)) {
        let around = around();
        let mut list = List::empty(&around);
        let mut model: VecDeque<Vec<u8>> = VecDeque::new();
        let mut held: Vec<(List, VecDeque<Vec<u8>>)> = Vec::new();
        let mut number = 0usize;
        let mut element = |len: usize| {
            number += 1;
            let mut element = format!("{number}:").into_bytes();
            element.resize(len.max(element.len()), b'x');
            element
        };
        for step in steps {
            let len = model.len();
            match step {
                Step::Push(head, count, bytes) => {
                    let count = if bytes > 1000 { count / 8 + 1 } else { count };
                    for _ in 0..count {
                        let element = element(bytes);
                        list.push(if head { End::Head } else { End::Tail }, Text::Bytes(&element));
                        if head { model.push_front(element) } else { model.push_back(element) }
                    }
                }
                Step::Insert(at, bytes) => {
                    let (at, element) = (at % (len + 1), element(bytes));
                    list.insert(at as u64, Text::Bytes(&element));
                    model.insert(at, element);
                }
                Step::Set(at, bytes) if len > 0 => {
                    let element = element(bytes);
                    list.set((at % len) as u64, Text::Bytes(&element));
                    model[at % len] = element;
                }
                Step::Remove(at, count) => {
                    for _ in 0..count.min(len) {
                        let at = at % model.len();
                        list.remove(at as u64);
                        model.remove(at);
                    }
                }
                Step::Cut(head, count) => {
                    list.cut(if head { End::Head } else { End::Tail }, count as u64);
                    let count = count.min(len);
                    if head { model.drain(..count) } else { model.drain(len - count..) };
                }
                Step::Keep(start, end) => {
                    let (start, end) = (start % (len + 1), end % (len + 1));
                    list.keep(start as u64..end as u64);
                    model = if start < end { model.range(start..end).cloned().collect() } else { VecDeque::new() };
                }
                Step::Hold => held.push((list.clone(), model.clone())),
                Step::Set(..) => {}
            }
            list = kept(list, &around);
            agrees(&list, &model);
        }
        for (list, model) in held {
            agrees(&list, &model);
        }
        drop(list);
        while around.grave.free(3) == 3 {}
        prop_assert!(around.grave.is_empty());
    }
}

/// What is appended leaves its leaves full, at either end.
#[test]
fn appended_elements_take_little_more_than_their_bytes() {
    for end in [End::Head, End::Tail] {
        let around = around();
        let mut list = List::empty(&around);
        for _ in 0..200_000 {
            list.push(end, Text::Bytes(b"0123456789abcdef"));
        }
        let Form::Tree(tree) = &list.form else { panic!("it is large") };
        let each = tree.memory_bytes() as f64 / 200_000.0;
        assert!(each < 17.5, "{each} bytes an element");
    }
}

#[test]
fn a_list_that_is_held_is_not_changed_and_another_thread_reads_it() {
    let around = around();
    let mut list = List::empty(&around);
    for number in 0..100_000 {
        list.push(End::Tail, Text::Bytes(format!("{number}").as_bytes()));
    }
    let frozen = list.view().frozen();
    let reader = std::thread::spawn(move || {
        let mut at = 0;
        while at < frozen.len() {
            for element in frozen.piece(at) {
                assert_eq!(element, format!("{at}").as_bytes());
                at += 1;
            }
        }
        at
    });
    for index in (0..100_000).step_by(7) {
        list.set(index, Text::Bytes(b"changed"));
    }
    list.cut(End::Head, 50_000);
    assert_eq!(reader.join().expect("it reads what was"), 100_000);
}

#[test]
fn a_large_list_is_freed_in_pieces() {
    let around = around();
    let mut list = List::empty(&around);
    for _ in 0..300_000 {
        list.push(End::Tail, Text::Bytes(b"0123456789abcdef"));
    }
    let copy = list.clone();
    drop(list);
    assert_eq!(around.grave.free(10), 1, "the copy holds all of it but the one reference");
    drop(copy);
    let mut pieces = 0;
    while around.grave.free(10) == 10 {
        pieces += 1;
    }
    assert!(pieces > 100, "{pieces}");
    assert!(around.grave.is_empty());
}
