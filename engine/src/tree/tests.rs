//! Trees are tested as the collections that are made of them, in `types`; here is what these do not show.

use super::*;
use crate::rows::{Row, Text};
use crate::types::list::ByPlace;

fn depth<S: Shape>(node: &Node<S>) -> usize {
    match node {
        Node::Leaf(_) => 1,
        Node::Inner(inner) => {
            assert!(inner.children.len() == inner.sums.len() && inner.children.len() <= CHILDREN_MAX);
            let depths: Vec<usize> = inner.children.iter().map(depth).collect();
            assert!(depths.windows(2).all(|pair| pair[0] == pair[1]), "all leaves are as deep");
            1 + depths[0]
        }
    }
}

#[test]
fn all_leaves_are_as_deep_and_a_tree_that_empties_becomes_shallow() {
    let grave = Grave::default();
    let mut tree = Tree::new(ByPlace, grave, Rows::new(0));
    for number in 0..200_000u64 {
        let (row, growth) = match number % 3 {
            0 => (0, Growth::Front),
            1 => (number.saturating_sub(1), Growth::Back),
            _ => (number / 2, Growth::Anywhere),
        };
        tree.edit_row(row, growth, |rows, at| {
            let at = if growth == Growth::Back { rows.view().rows() } else { at };
            rows.insert(at, Row::one(Text::Bytes(&number.to_le_bytes())));
        });
    }
    let full = tree.root.as_ref().map_or(0, depth);
    assert!((3..=4).contains(&full), "{full}");
    let mut row = 7u64;
    while tree.rows() > 100 {
        row = row.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        tree.edit_row(row % tree.rows(), Growth::Anywhere, |rows, at| rows.remove(at..at + 1));
    }
    assert_eq!(tree.root.as_ref().map_or(0, depth), 1);
}
