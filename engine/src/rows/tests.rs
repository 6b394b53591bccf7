use proptest::prelude::*;

use super::*;

/// What rows are to hold.
type Model = Vec<(Vec<u8>, Vec<u8>, i64)>;

fn agrees(rows: &Rows, model: &Model, flags: u8) {
    let view = rows.view();
    assert_eq!(view.rows(), model.len());
    let strings = if flags & PAIRS != 0 { 2 } else { 1 };
    let expected: Vec<&[u8]> =
        model.iter().flat_map(|(one, two, _)| [one.as_slice(), two.as_slice()].into_iter().take(strings)).collect();
    assert_eq!(view.strings(0).collect::<Vec<_>>(), expected);
    for (at, string) in expected.iter().enumerate() {
        assert_eq!(view.string(at), *string);
        assert_eq!(view.far_string(at).is_some(), string.len() >= FAR_LEN_MIN);
        assert_eq!(view.strings(at).next(), Some(*string));
    }
    for (row, (one, _, at_ms)) in model.iter().enumerate() {
        assert_eq!(view.deadline(row), *at_ms);
        if flags & TAGGED != 0 {
            let found = view.find(one).expect("it is there");
            assert_eq!(&model[found].0, one);
        }
    }
    assert_eq!(view.soonest(), model.iter().map(|row| row.2).min().unwrap_or(NEVER));
    assert_eq!(view.strings_len(), expected.iter().map(|string| string.len()).sum::<usize>());
}

fn string() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![8 => 0usize..20, 2 => 200usize..300, 1 => 1020usize..1030];
    (len, any::<u8>()).prop_map(|(len, fill)| (0..len).map(|at| fill.wrapping_add(at as u8)).collect())
}

#[derive(Clone, Debug)]
enum Step {
    Insert(usize, Vec<u8>, Vec<u8>, Option<i64>),
    Remove(usize, usize),
    Replace(usize, Vec<u8>),
    Deadline(usize, Option<i64>),
    SplitAndJoin(usize),
    Filter(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let time = || prop::option::weighted(0.3, 0i64..1000);
    prop_oneof![
        6 => (any::<usize>(), string(), string(), time()).prop_map(|(at, one, two, time)| Step::Insert(at, one, two, time)),
        2 => (any::<usize>(), 0usize..4).prop_map(|(at, count)| Step::Remove(at, count)),
        2 => (any::<usize>(), string()).prop_map(|(at, string)| Step::Replace(at, string)),
        1 => (any::<usize>(), time()).prop_map(|(at, time)| Step::Deadline(at, time)),
        1 => any::<usize>().prop_map(Step::SplitAndJoin),
        1 => (2usize..5).prop_map(Step::Filter),
    ]
}

proptest! {
    #[test]
    fn rows_are_what_a_list_of_rows_is(
        flags in prop_oneof![Just(0), Just(TAGGED), Just(PAIRS), Just(TAGGED | PAIRS)],
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut rows = Rows::new(flags);
        let mut model: Model = Vec::new();
        for step in steps {
            match step {
                Step::Insert(at, one, two, time) => {
                    let at = at % (model.len() + 1);
                    let time = time.unwrap_or(NEVER);
                    rows.insert(at, Row::pair(Text::Bytes(&one), Text::Bytes(&two), time));
                    model.insert(at, (one, two, time));
                }
                Step::Remove(at, count) => {
                    let at = at % (model.len() + 1);
                    rows.remove(at..at + count);
                    model.drain(at..(at + count).min(model.len()));
                }
                Step::Replace(at, string) if !model.is_empty() => {
                    let row = at % model.len();
                    if flags & PAIRS != 0 {
                        rows.replace(2 * row + 1, Text::Bytes(&string));
                        model[row].1 = string;
                    } else if flags & TAGGED == 0 {
                        rows.replace(row, Text::Bytes(&string));
                        model[row].0 = string;
                    }
                }
                Step::Deadline(at, time) if !model.is_empty() => {
                    let row = at % model.len();
                    rows.set_deadline(row, time.unwrap_or(NEVER));
                    model[row].2 = time.unwrap_or(NEVER);
                }
                Step::SplitAndJoin(at) => {
                    let at = at % (model.len() + 1);
                    let right = rows.split_off(at);
                    agrees(&rows, &model[..at].to_vec(), flags);
                    agrees(&right, &model[at..].to_vec(), flags);
                    rows.append(&right);
                }
                Step::Filter(every) => {
                    let some: Model = model.iter().step_by(every).cloned().collect();
                    agrees(&rows.filtered(|row| row % every == 0), &some, flags);
                }
                _ => {}
            }
            agrees(&rows, &model, flags);
        }
        let whole = rows.is_whole();
        prop_assert_eq!(whole, rows.view().strings(0).all(|string| string.len() < FAR_LEN_MIN));
        if whole {
            let block = rows.clone().into_block();
            agrees(&Rows::from_block(block), &model, flags);
        }
    }

    #[test]
    fn bytes_that_are_no_block_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..80), at in 0usize..100) {
        let view = RowsRef::of_block(&bytes);
        let _ = (view.string(at), view.far_string(at), view.deadline(at), view.soonest(), view.find(&bytes));
        let _ = view.strings(at).take(1000).count();
    }
}
