//! Changing a tree.

use triomphe::Arc;

use super::{CHILDREN_MAX, CHILDREN_MIN, Inner, Node, Shape, Tree, by_row};
use crate::rows::Rows;

/// Where a tree grows, which says how a full node is split: one that is appended to stays full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Growth {
    /// Before the first row.
    Front,
    /// Behind the last.
    Back,
    /// In between; or it does not grow at all.
    Anywhere,
}

/// A node split off, to stand behind the one it came from.
type Sibling<S> = Option<(Node<S>, <S as Shape>::Sum)>;

impl<S: Shape> Inner<S> {
    fn sum(&self) -> S::Sum {
        S::of_all(&self.sums)
    }

    fn insert(&mut self, at: usize, (node, sum): (Node<S>, S::Sum)) {
        self.children.insert(at, node);
        self.sums.insert(at, sum);
    }

    fn remove(&mut self, at: usize) -> Node<S> {
        self.sums.remove(at);
        self.children.remove(at)
    }

    /// Splits it if it has too many children.
    fn split(&mut self, growth: Growth) -> Option<Self> {
        let len = self.children.len();
        if len <= CHILDREN_MAX {
            return None;
        }
        let at = match growth {
            Growth::Front => 1,
            Growth::Back => len - 1,
            Growth::Anywhere => len / 2,
        };
        let upper = Inner { children: self.children.split_off(at), sums: self.sums.split_off(at) };
        // One that stays full has no use for the room that the last child took.
        self.children.shrink_to(CHILDREN_MAX);
        self.sums.shrink_to(CHILDREN_MAX);
        Some(upper)
    }

    /// A child has become smaller: takes it out if it is empty, or joins it with one beside it.
    fn mend(&mut self, at: usize) {
        let (is_empty, is_under) = match &self.children[at] {
            Node::Leaf(leaf) => (leaf.view().rows() == 0, leaf.is_under()),
            Node::Inner(inner) => (inner.children.is_empty(), inner.children.len() < CHILDREN_MIN),
        };
        if is_empty {
            self.remove(at);
            return;
        }
        if !is_under {
            return;
        }
        for left in [Some(at), at.checked_sub(1)].into_iter().flatten() {
            if left + 1 < self.children.len() && self.join(left) {
                return;
            }
        }
    }

    /// Joins a child with the one behind it, if both are small enough.
    fn join(&mut self, at: usize) -> bool {
        let (before, behind) = self.children.split_at_mut(at + 1);
        let (Some(left), Some(right)) = (before.last_mut(), behind.first()) else { return false };
        match (left, right) {
            (Node::Leaf(left), Node::Leaf(right)) if left.fits_with(right) => {
                Arc::make_mut(left).append(right);
            }
            (Node::Inner(left), Node::Inner(right))
                if left.children.len() + right.children.len() <= CHILDREN_MAX * 3 / 4 =>
            {
                let left = Arc::make_mut(left);
                left.children.extend_from_slice(&right.children);
                left.sums.extend_from_slice(&right.sums);
            }
            _ => return false,
        }
        self.sums[at] = S::of_all(&self.sums[at..at + 2]);
        // One child more of the left one; what is dropped is one node.
        self.remove(at + 1);
        true
    }
}

impl<S: Shape> Tree<S> {
    /// Lets `change` change the leaf that `pick` leads to.
    pub(crate) fn edit<R>(
        &mut self,
        mut pick: impl FnMut(&[S::Sum]) -> usize,
        growth: Growth,
        change: impl FnOnce(&mut Rows) -> R,
    ) -> Option<R> {
        let root = self.root.as_mut()?;
        let (result, sibling) = edit(root, &mut self.sum, &self.shape, &mut pick, growth, change);
        self.add_to_root(sibling);
        self.lower_root();
        Some(result)
    }

    /// The same for the leaf with a row, whose place in the leaf it is given.
    pub(crate) fn edit_row<R>(
        &mut self,
        row: u64,
        growth: Growth,
        change: impl FnOnce(&mut Rows, usize) -> R,
    ) -> Option<R> {
        let left = std::cell::Cell::new(row);
        let mut rows = Some(self.rows());
        let pick = |sums: &[S::Sum]| {
            let mut inside = left.get();
            let at = by_row::<S>(sums, rows, &mut inside);
            rows = sums.get(at).map(S::rows);
            left.set(inside);
            at
        };
        self.edit(pick, growth, |rows| change(rows, usize::try_from(left.get()).unwrap_or(usize::MAX)))
    }

    fn add_to_root(&mut self, sibling: Sibling<S>) {
        if let Some((node, sum)) = sibling
            && let Some(root) = self.root.take()
        {
            let sums = vec![self.sum, sum];
            self.sum = S::of_all(&sums);
            self.root = Some(Node::inner(vec![root, node], sums));
        }
    }

    /// Splits a root that is a leaf as often as it takes.
    pub(super) fn split_root(&mut self, growth: Growth) {
        let Some(Node::Leaf(leaf)) = &self.root else { return };
        if !leaf.is_over() {
            return;
        }
        let sibling = match &mut self.root {
            Some(Node::Leaf(leaf)) => self.shape.split(Arc::make_mut(leaf), &mut self.sum, growth),
            _ => None,
        };
        self.add_to_root(sibling.map(|(rows, sum)| (Node::leaf(rows), sum)));
    }

    /// A root with one child gives way to it.
    fn lower_root(&mut self) {
        while let Some(Node::Inner(inner)) = &self.root {
            match inner.children.as_slice() {
                [] => self.root = None,
                [only] => self.root = Some(only.clone()),
                _ => return,
            }
        }
    }

    /// Removes the first rows: so many. What falls out is freed later.
    pub(crate) fn cut_front(&mut self, rows: u64) {
        self.cut(rows, cut_front);
    }

    /// Removes the last rows: so many.
    pub(crate) fn cut_back(&mut self, rows: u64) {
        self.cut(rows, cut_back);
    }

    fn cut(&mut self, rows: u64, cut: impl Fn(&mut Node<S>, &mut S::Sum, u64, &mut Vec<Node<S>>)) {
        if rows >= self.rows() {
            self.grave.bury(self.root.take().into_iter().collect());
            self.sum = S::Sum::default();
            return;
        }
        let mut cut_off = Vec::new();
        if let Some(root) = &mut self.root {
            cut(root, &mut self.sum, rows, &mut cut_off);
        }
        self.grave.bury(cut_off);
        self.lower_root();
    }
}

fn edit<S: Shape, R>(
    node: &mut Node<S>,
    sum: &mut S::Sum,
    shape: &S,
    pick: &mut impl FnMut(&[S::Sum]) -> usize,
    growth: Growth,
    change: impl FnOnce(&mut Rows) -> R,
) -> (R, Sibling<S>) {
    match node {
        Node::Leaf(leaf) => {
            let rows = Arc::make_mut(leaf);
            let result = change(rows);
            *sum = S::of_leaf(rows, sum);
            rows.trim();
            let sibling = if rows.is_over() { shape.split(rows, sum, growth) } else { None };
            if sibling.is_some() {
                rows.fit();
            }
            (result, sibling.map(|(rows, sum)| (Node::leaf(rows), sum)))
        }
        Node::Inner(inner) => {
            let inner = Arc::make_mut(inner);
            let at = pick(&inner.sums).min(inner.children.len() - 1);
            let before = inner.sums[at];
            let rows_before = S::rows(&before);
            let children_before = inner.children.len();
            let (result, sibling) = edit(&mut inner.children[at], &mut inner.sums[at], shape, pick, growth, change);
            match sibling {
                Some(sibling) => inner.insert(at + 1, sibling),
                None if S::rows(&inner.sums[at]) < rows_before => inner.mend(at),
                None => {}
            }
            let upper = inner.split(growth);
            // Mostly one child has changed, and nothing else.
            let is_same = inner.children.len() == children_before && upper.is_none();
            if !is_same || !S::exchange(sum, &before, &inner.sums[at]) {
                *sum = if inner.sums.is_empty() { S::Sum::default() } else { inner.sum() };
            }
            let sibling = upper.map(|upper| {
                let sum = upper.sum();
                (Node::Inner(Arc::new(upper)), sum)
            });
            (result, sibling)
        }
    }
}

/// Removes the first rows of a node, which are fewer than it has.
fn cut_front<S: Shape>(node: &mut Node<S>, sum: &mut S::Sum, rows: u64, cut_off: &mut Vec<Node<S>>) {
    match node {
        Node::Leaf(leaf) => {
            let leaf = Arc::make_mut(leaf);
            leaf.remove(0..rows as usize);
            leaf.trim();
            *sum = S::of_leaf(leaf, sum);
        }
        Node::Inner(inner) => {
            let inner = Arc::make_mut(inner);
            let mut left = rows;
            let at = by_row::<S>(&inner.sums, Some(S::rows(sum)), &mut left);
            cut_off.extend(inner.children.drain(..at));
            inner.sums.drain(..at);
            if left > 0 {
                cut_front(&mut inner.children[0], &mut inner.sums[0], left, cut_off);
                inner.mend(0);
            }
            *sum = inner.sum();
        }
    }
}

/// Removes the last rows of a node, which are fewer than it has.
fn cut_back<S: Shape>(node: &mut Node<S>, sum: &mut S::Sum, rows: u64, cut_off: &mut Vec<Node<S>>) {
    let keep = S::rows(sum) - rows;
    match node {
        Node::Leaf(leaf) => {
            let leaf = Arc::make_mut(leaf);
            leaf.remove(keep as usize..usize::MAX);
            leaf.trim();
            *sum = S::of_leaf(leaf, sum);
        }
        Node::Inner(inner) => {
            let inner = Arc::make_mut(inner);
            // The child with the last row that stays.
            let mut place = keep - 1;
            let at = by_row::<S>(&inner.sums, Some(S::rows(sum)), &mut place);
            cut_off.extend(inner.children.drain(at + 1..));
            inner.sums.truncate(at + 1);
            let more = S::rows(&inner.sums[at]) - (place + 1);
            if more > 0 {
                cut_back(&mut inner.children[at], &mut inner.sums[at], more, cut_off);
                inner.mend(at);
            }
            *sum = inner.sum();
        }
    }
}
