//! Freeing trees that nobody wants, a few leaves at a time. A keyspace has one grave, and every tree made in it
//! knows it: wherever the last holder of a large tree lets go of it, what is left is freed by the keyspace's
//! [`reclaim`](crate::Keyspace::reclaim), not at once.

use std::cell::RefCell;
use std::rc::Rc;

use triomphe::Arc;

use super::{Node, Shape};

/// Part of a tree that nobody wants.
trait Buried {
    /// Frees until about `steps` nodes are, and returns how many. Fewer than `steps` if it is at its end.
    fn free(&mut self, steps: usize) -> usize;
}

/// Nodes that are to be freed.
struct Nodes<S: Shape>(Vec<Node<S>>);

impl<S: Shape> Buried for Nodes<S> {
    fn free(&mut self, steps: usize) -> usize {
        let mut freed = 0;
        while freed < steps
            && let Some(node) = self.0.pop()
        {
            freed += 1;
            if let Node::Inner(inner) = node
                // Somebody else holds the others.
                && let Ok(inner) = Arc::try_unwrap(inner)
            {
                self.0.extend(inner.children);
            }
        }
        freed
    }
}

#[derive(Default)]
struct Inside {
    buried: Vec<Box<dyn Buried>>,
    /// Trees freed, ever.
    freed: u64,
}

/// Where what is left of trees goes.
#[derive(Clone, Default)]
pub(crate) struct Grave(Rc<RefCell<Inside>>);

impl Grave {
    /// Takes nodes in.
    pub(super) fn bury<S: Shape + 'static>(&self, nodes: Vec<Node<S>>) {
        if !nodes.is_empty() {
            self.0.borrow_mut().buried.push(Box::new(Nodes(nodes)));
        }
    }

    /// Whether there is nothing to free.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().buried.is_empty()
    }

    /// How many trees, or parts of one, are to be freed.
    pub(crate) fn pending(&self) -> usize {
        self.0.borrow().buried.len()
    }

    /// How many were freed, ever.
    pub(crate) fn freed_total(&self) -> u64 {
        self.0.borrow().freed
    }

    /// Frees about so many nodes, and returns how many. Fewer than `steps` if nothing is left.
    pub(crate) fn free(&self, steps: usize) -> usize {
        let mut inside = self.0.borrow_mut();
        let mut freed = 0;
        while freed < steps
            && let Some(last) = inside.buried.last_mut()
        {
            let here = last.free(steps - freed);
            freed += here;
            if freed < steps {
                inside.buried.pop();
                inside.freed += 1;
            }
        }
        freed
    }
}
