//! Values of many parts: what types there are, and how they are read bit by bit.
//!
//! A server writes the same collection in one form or another, depending on its age and on how large
//! the collection is; here they all become [`Parts`]. No more is held at a time than one of these and
//! one packed blob.

mod hash;
mod list;
mod packed;
mod parts;
mod writer;

use std::io::Read;

pub use parts::Parts;
pub(crate) use writer::{ValueWriter, misuse};

use crate::error::RdbError;
use crate::source::Source;
use hash::{HashForm, HashReader};
use list::{ListForm, ListReader};
use packed::{Packed, Packing};

/// What a collection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectionKind {
    /// Its parts are its elements, from the head to the tail.
    List,
    /// Its parts are its fields, each with its value behind it, in no order. A field that is there
    /// twice is for the caller to find.
    Hash,
}

impl CollectionKind {
    /// The name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Hash => "hash",
        }
    }
}

/// Whose types those are that Redis and Valkey number differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Valkey,
    Redis,
}

/// How a collection is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    List(ListForm),
    Hash(HashForm),
}

impl Form {
    /// The form that a type has, if it is one of a collection known here.
    pub(crate) fn of(kind: u8, dialect: Dialect) -> Option<Self> {
        ListForm::of(kind).map(Self::List).or_else(|| HashForm::of(kind, dialect).map(Self::Hash))
    }
}

/// A collection that is being read.
#[derive(Debug)]
pub(crate) struct Collection {
    kind: CollectionKind,
    len_hint: u64,
    /// Parts that were read at the beginning, to see that there are any.
    first: Option<Parts>,
    /// Parts that are being read: the source may not have all of them yet.
    filling: Parts,
    reader: Reader,
}

#[derive(Debug)]
enum Reader {
    List(ListReader),
    Hash(HashReader),
}

/// A collection that is being begun.
#[derive(Debug)]
pub(crate) struct Opening {
    form: Form,
    collection: Option<Collection>,
}

impl Opening {
    pub(crate) fn new(form: Form) -> Self {
        Self { form, collection: None }
    }

    /// Begins to read. `None` if the collection has no parts: then it is read to its end. If the source has
    /// nothing yet, it is to be called again.
    pub(crate) fn open<R: Read>(&mut self, source: &mut Source<R>) -> Result<Option<Collection>, RdbError> {
        source.commit();
        let collection = match &mut self.collection {
            Some(collection) => collection,
            place => place.insert(Collection::begin(self.form, source)?),
        };
        if !collection.read_first(source)? {
            return Ok(None);
        }
        Ok(self.collection.take())
    }
}

impl Collection {
    fn begin<R: Read>(form: Form, source: &mut Source<R>) -> Result<Self, RdbError> {
        let (kind, reader, len_hint) = match form {
            Form::List(form) => {
                let (reader, len_hint) = ListReader::open(form, source)?;
                (CollectionKind::List, Reader::List(reader), len_hint)
            }
            Form::Hash(form) => {
                let (reader, len_hint) = HashReader::open(form, source)?;
                (CollectionKind::Hash, Reader::Hash(reader), len_hint)
            }
        };
        Ok(Self { kind, len_hint, first: None, filling: Parts::default(), reader })
    }

    /// Whether it has any parts.
    fn read_first<R: Read>(&mut self, source: &mut Source<R>) -> Result<bool, RdbError> {
        let Some(first) = self.parts(source)? else { return Ok(false) };
        let len_first = match self.kind {
            CollectionKind::List => first.len(),
            CollectionKind::Hash => first.len() / 2,
        };
        self.len_hint = self.len_hint.max(len_first as u64);
        self.first = Some(first);
        Ok(true)
    }

    pub(crate) fn kind(&self) -> CollectionKind {
        self.kind
    }

    /// How many elements or fields there are by its own account: nothing to rely on.
    pub(crate) fn len_hint(&self) -> u64 {
        self.len_hint
    }

    /// The next parts, never without any; `None` at the end. If the source has nothing yet, what is there of them
    /// is kept for the next call.
    pub(crate) fn parts<R: Read>(&mut self, source: &mut Source<R>) -> Result<Option<Parts>, RdbError> {
        if let Some(parts) = self.first.take() {
            return Ok(Some(parts));
        }
        match &mut self.reader {
            Reader::List(reader) => reader.fill(&mut self.filling, source)?,
            Reader::Hash(reader) => reader.fill(&mut self.filling, source)?,
        }
        let parts = std::mem::take(&mut self.filling);
        Ok((!parts.is_empty()).then_some(parts))
    }
}

/// A packed blob of the source, and where it begins there.
#[derive(Debug)]
struct Blob {
    packed: Packed,
    at: u64,
}

impl Blob {
    fn read<R: Read>(source: &mut Source<R>, packing: Packing) -> Result<Self, RdbError> {
        let at = source.offset();
        let blob = source.bytes()?;
        let packed = Packed::open(blob, packing).map_err(|why| RdbError::Corrupt { at, why })?;
        Ok(Self { packed, at })
    }

    fn next(&mut self) -> Result<Option<packed::Piece<'_>>, RdbError> {
        let at = self.at;
        self.packed.next().map_err(|why| RdbError::Corrupt { at, why })
    }

    /// Adds the next string; false at the end.
    fn push_to(&mut self, parts: &mut Parts) -> Result<bool, RdbError> {
        Ok(self.next()?.map(|piece| parts.push(piece)).is_some())
    }

    /// Makes room for what there is in it.
    fn announce_to(&self, parts: &mut Parts) {
        parts.expect(self.packed.claimed(), self.packed.bytes());
    }

    fn corrupt(&self, why: &'static str) -> RdbError {
        RdbError::Corrupt { at: self.at, why }
    }
}
