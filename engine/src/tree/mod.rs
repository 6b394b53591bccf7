//! Large collections: a counted B+ tree whose leaves are blocks of [`Rows`](crate::rows::Rows), about a page
//! each, and whose nodes are shared by counting references and copied when they are written while shared.
//!
//! So a copy of ten million rows is one more reference to the root, and the first write to either of the two
//! copies the few nodes on its way down. Nothing in it is ever the size of the collection but the sum of its
//! nodes: to put a row in or to take one out touches one path, a leaf splits when it is full, and a tree that
//! nobody wants is freed leaf by leaf ([`Grave`]).
//!
//! What the rows are in the order of is up to a [`Shape`]: a list's by their places, a hash's by their fields'
//! hashes. An inner node keeps a sum for each child, of which the number of rows is always one part, so that
//! every tree finds its n-th row.
//!
//! Counts are atomic, so that a helper thread may read a tree while it is changed here ([`Frozen`]).
//! `edit` changes, `grave` frees. Knows rows, and no type.

mod edit;
mod grave;
#[cfg(test)]
mod tests;

use triomphe::Arc;

pub(crate) use edit::Growth;
pub(crate) use grave::Grave;

use crate::rows::Rows;
use crate::size_class::class_of;

/// Children of an inner node at most.
const CHILDREN_MAX: usize = 64;
/// With fewer than so many, one is better part of another.
const CHILDREN_MIN: usize = 12;
/// Leaves that are looked at to estimate the memory of a tree.
const SAMPLED_LEAVES: u64 = 32;

/// In what order rows are, and what is known of many of them together.
pub(crate) trait Shape: Clone {
    /// What is known of rows together.
    type Sum: Copy + Default;
    /// How many rows.
    fn rows(sum: &Self::Sum) -> u64;
    /// Of a leaf; `old` is what it was before it was changed.
    fn of_leaf(rows: &Rows, old: &Self::Sum) -> Self::Sum;
    /// Of all these together, of which there is at least one.
    fn of_all(sums: &[Self::Sum]) -> Self::Sum;
    /// One part of a whole is another now: true if the whole's sum follows from that.
    fn exchange(whole: &mut Self::Sum, old: &Self::Sum, new: &Self::Sum) -> bool;
    /// Splits a leaf that is too large and returns the upper part with its sum; `old` is what the whole was, and
    /// its lower part's afterwards. None if it cannot be split.
    fn split(&self, rows: &mut Rows, old: &mut Self::Sum, growth: Growth) -> Option<(Rows, Self::Sum)>;
}

/// A node.
pub(crate) enum Node<S: Shape> {
    Leaf(Arc<Rows>),
    Inner(Arc<Inner<S>>),
}

impl<S: Shape> Clone for Node<S> {
    fn clone(&self) -> Self {
        match self {
            Node::Leaf(leaf) => Node::Leaf(leaf.clone()),
            Node::Inner(inner) => Node::Inner(inner.clone()),
        }
    }
}

/// Children, at least one, and the sum of each.
#[derive(Clone)]
pub(crate) struct Inner<S: Shape> {
    children: Vec<Node<S>>,
    sums: Vec<S::Sum>,
}

impl<S: Shape> Node<S> {
    fn leaf(rows: Rows) -> Self {
        Node::Leaf(Arc::new(rows))
    }

    fn inner(children: Vec<Node<S>>, sums: Vec<S::Sum>) -> Self {
        Node::Inner(Arc::new(Inner { children, sums }))
    }

    /// The leaf that `pick` leads to.
    #[inline]
    fn find(&self, mut pick: impl FnMut(&[S::Sum]) -> usize) -> &Rows {
        let mut node = self;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf,
                Node::Inner(inner) => node = &inner.children[pick(&inner.sums).min(inner.children.len() - 1)],
            }
        }
    }

    /// The leaf with a row, and the place of the row in it.
    fn leaf_of(&self, row: u64, rows: Option<u64>) -> (&Rows, usize) {
        let (mut left, mut rows) = (row, rows);
        let leaf = self.find(|sums| {
            let at = by_row::<S>(sums, rows, &mut left);
            rows = sums.get(at).map(S::rows);
            at
        });
        (leaf, usize::try_from(left).unwrap_or(usize::MAX))
    }
}

/// The child that has a row, of which `left` becomes the place in that child. The last beyond the end. Looked for
/// from the end that is nearer, if it is known how many rows there are.
#[inline]
fn by_row<S: Shape>(sums: &[S::Sum], rows: Option<u64>, left: &mut u64) -> usize {
    if let Some(rows) = rows
        && *left >= rows / 2
        && *left < rows
    {
        let mut begin = rows;
        for (at, sum) in sums.iter().enumerate().rev() {
            begin -= S::rows(sum).min(begin);
            if *left >= begin {
                *left -= begin;
                return at;
            }
        }
    }
    for (at, sum) in sums.iter().enumerate() {
        let rows = S::rows(sum);
        if *left < rows || at + 1 == sums.len() {
            return at;
        }
        *left -= rows;
    }
    0
}

/// A tree. Its memory is given back in pieces after it is dropped.
pub(crate) struct Tree<S: Shape + 'static> {
    root: Option<Node<S>>,
    sum: S::Sum,
    shape: S,
    grave: Grave,
}

impl<S: Shape> Clone for Tree<S> {
    fn clone(&self) -> Self {
        Tree { root: self.root.clone(), sum: self.sum, shape: self.shape.clone(), grave: self.grave.clone() }
    }
}

impl<S: Shape> Drop for Tree<S> {
    fn drop(&mut self) {
        if let Some(root @ Node::Inner(_)) = self.root.take() {
            self.grave.bury(vec![root]);
        }
    }
}

impl<S: Shape> Tree<S> {
    /// A tree of these rows, which become its first leaf.
    pub(crate) fn new(shape: S, grave: Grave, rows: Rows) -> Self {
        let sum = S::of_leaf(&rows, &S::Sum::default());
        let mut tree = Tree { root: Some(Node::leaf(rows)), sum, shape, grave };
        tree.split_root(Growth::Anywhere);
        tree
    }

    /// A tree without rows, which cannot be given any.
    pub(crate) fn hollow(shape: S, grave: Grave) -> Self {
        Tree { root: None, sum: S::Sum::default(), shape, grave }
    }

    /// How many rows.
    #[inline]
    pub(crate) fn rows(&self) -> u64 {
        S::rows(&self.sum)
    }

    /// What is known of all rows together.
    #[inline]
    pub(crate) fn sum(&self) -> &S::Sum {
        &self.sum
    }

    /// How it is ordered.
    pub(crate) fn shape(&self) -> &S {
        &self.shape
    }

    /// The leaf that `pick` leads to: it is given the sums of a node's children and names one of them.
    #[inline]
    pub(crate) fn find(&self, pick: impl FnMut(&[S::Sum]) -> usize) -> Option<&Rows> {
        Some(self.root.as_ref()?.find(pick))
    }

    /// The leaf with a row, and the place of the row in it. Beyond the last row it is the last leaf.
    #[inline]
    pub(crate) fn leaf_of(&self, row: u64) -> Option<(&Rows, usize)> {
        Some(self.root.as_ref()?.leaf_of(row, Some(self.rows())))
    }

    /// The rows, if they are few: one leaf.
    pub(crate) fn only_leaf(&self) -> Option<&Rows> {
        match self.root.as_ref()? {
            Node::Leaf(leaf) => Some(leaf),
            Node::Inner(_) => None,
        }
    }

    /// A view of all rows as they are now, that another thread may read.
    pub(crate) fn frozen(&self) -> Frozen<S> {
        Frozen { root: self.root.clone(), rows: self.rows() }
    }

    /// Memory in bytes, estimated from some of the leaves if there are many.
    pub(crate) fn memory_bytes(&self) -> usize {
        let Some(root) = &self.root else { return 0 };
        let rows = self.rows();
        let each = 16 + size_of::<Node<S>>() + size_of::<S::Sum>() + class_of(8 + size_of::<Rows>());
        let (mut seen, mut bytes, mut row, mut leaves) = (0u64, 0usize, 0u64, 0u64);
        let step = rows / SAMPLED_LEAVES;
        while row < rows && leaves < 2 * SAMPLED_LEAVES {
            let (leaf, at) = root.leaf_of(row, Some(rows));
            let here = leaf.view().rows() as u64;
            seen += here;
            bytes += leaf.memory_bytes() + each;
            leaves += 1;
            row = (row - at as u64 + here).max(leaves * step);
        }
        (bytes as u128 * u128::from(rows) / u128::from(seen.max(1))) as usize
    }
}

/// All rows of a tree as they were at one moment, for another thread, which frees what only it still holds.
pub(crate) struct Frozen<S: Shape> {
    root: Option<Node<S>>,
    rows: u64,
}

impl<S: Shape> Frozen<S> {
    /// How many rows.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The leaf with a row, and the place of the row in it.
    pub(crate) fn leaf_of(&self, row: u64) -> Option<(&Rows, usize)> {
        Some(self.root.as_ref()?.leaf_of(row, Some(self.rows)))
    }
}
