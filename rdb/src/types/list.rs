//! Lists: one element after the other, or nodes of several elements packed together.

use std::io::Read;

use super::packed::{Listpack, Packing, is_entry_read_by_all};
use super::{Blob, Parts};
use crate::error::RdbError;
use crate::format;
use crate::source::Source;

/// What a node of a quicklist may be: one element, or a listpack.
const NODE_PLAIN: u64 = 1;
const NODE_PACKED: u64 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListForm {
    /// The count, the elements.
    Elements,
    /// One ziplist.
    Ziplist,
    /// The count of the nodes, the nodes, which are ziplists.
    Ziplists,
    /// The count of the nodes, the nodes, each with what it is before it.
    Nodes,
}

impl ListForm {
    pub(super) fn of(kind: u8) -> Option<Self> {
        Some(match kind {
            format::TYPE_LIST => Self::Elements,
            format::TYPE_LIST_ZIPLIST => Self::Ziplist,
            format::TYPE_LIST_QUICKLIST => Self::Ziplists,
            format::TYPE_LIST_QUICKLIST_2 => Self::Nodes,
            _ => return None,
        })
    }
}

#[derive(Debug)]
pub(super) struct ListReader {
    form: ListForm,
    /// Elements or nodes that are still to come.
    left: u64,
    /// The node that is being gone through.
    node: Option<Blob>,
}

impl ListReader {
    /// With how many elements there are by its own account; only of a few forms can that be told.
    pub(super) fn open<R: Read>(form: ListForm, source: &mut Source<R>) -> Result<(Self, u64), RdbError> {
        if form == ListForm::Ziplist {
            let node = Blob::read(source, Packing::Ziplist)?;
            let claimed = node.packed.claimed();
            return Ok((Self { form, left: 0, node: Some(node) }, claimed));
        }
        let left = source.length()?;
        Ok((Self { form, left, node: None }, left))
    }

    /// Adds elements until there is enough or no more.
    pub(super) fn fill<R: Read>(&mut self, parts: &mut Parts, source: &mut Source<R>) -> Result<(), RdbError> {
        match &self.node {
            Some(node) => node.announce_to(parts),
            None if self.form == ListForm::Elements => parts.expect(self.left, 0),
            None => {}
        }
        while !parts.is_full() {
            source.commit();
            if let Some(node) = &mut self.node {
                if !node.push_to(parts)? {
                    self.node = None;
                }
                continue;
            }
            if self.left == 0 {
                break;
            }
            match self.form {
                ListForm::Elements => {
                    parts.read(source)?;
                }
                ListForm::Ziplist | ListForm::Ziplists => self.begin_packed(Packing::Ziplist, parts, source)?,
                ListForm::Nodes => self.begin_node(parts, source)?,
            }
            self.left -= 1;
        }
        Ok(())
    }

    fn begin_packed<R: Read>(
        &mut self,
        packing: Packing,
        parts: &mut Parts,
        source: &mut Source<R>,
    ) -> Result<(), RdbError> {
        let node = Blob::read(source, packing)?;
        node.announce_to(parts);
        self.node = Some(node);
        Ok(())
    }

    fn begin_node<R: Read>(&mut self, parts: &mut Parts, source: &mut Source<R>) -> Result<(), RdbError> {
        let at = source.offset();
        match source.length()? {
            NODE_PLAIN => {
                // An element is only on its own for being large.
                if parts.read(source)? == 0 {
                    return Err(RdbError::Corrupt { at, why: "a node of a list with nothing in it" });
                }
            }
            NODE_PACKED => self.begin_packed(Packing::Listpack, parts, source)?,
            _ => return Err(RdbError::Corrupt { at, why: "a node of a list of an unknown kind" }),
        }
        Ok(())
    }
}

/// The nodes of a list that is to be written whole: one listpack, if there is nothing in it that has to
/// be a node of its own.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    nodes: Vec<(u64, Vec<u8>)>,
    last: Listpack,
}

impl Nodes {
    pub(super) fn push(&mut self, element: &[u8]) {
        if !is_entry_read_by_all(element) {
            self.end_last();
            self.nodes.push((NODE_PLAIN, element.to_vec()));
            return;
        }
        if !self.last.has_room(element) {
            self.end_last();
        }
        self.last.push(element);
    }

    fn end_last(&mut self) {
        let last = std::mem::take(&mut self.last);
        if last.count() > 0 {
            self.nodes.push((NODE_PACKED, last.finish()));
        }
    }

    /// The nodes with what they are.
    pub(super) fn finish(mut self) -> Vec<(u64, Vec<u8>)> {
        self.end_last();
        self.nodes
    }
}
